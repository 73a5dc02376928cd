//! The simulated host, seen through registers: a guest is played by hand, one backdoor access after the other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test may fail loudly"
)]

mod commands;
mod faults;
mod guest;
mod messages;
mod order;
mod tclo;
mod version;
