//! The simulated node, seen by clients of the machine API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed step of a test is a failed test"
)]

mod client;
mod derived;
mod encoding;
mod faults;
mod power;
mod record;
mod releases;
mod restarts;
mod roles;
mod sockets;
mod watches;

use client::*;
