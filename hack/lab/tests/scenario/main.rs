//! Scenarios and the control socket around a guest that runs: a small tools daemon on a thread of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test may fail loudly"
)]

mod control;
mod daemon;
#[path = "../host/guest.rs"]
#[allow(dead_code, reason = "the tests of the host use all of it")]
mod guest;
mod play;
