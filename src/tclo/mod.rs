//! TCLO: the host asks, the guest answers.
//!
//! ```text
//!  host ──message channel──> pump ──Command──> dispatch ──> Feature ──Reply──> pump ──> host
//!                              |
//!                              └──Event──> whoever publishes facts
//! ```
//!
//! The guest always begins: it sends the reply it owes, or nothing, and asks whether there is a request. That empty poll
//! is the heartbeat. One OS thread ([`thread`]) does all of it, and the RPCI calls of the other tasks in between.

#![forbid(unsafe_code)]

mod command;
mod contention;
mod counters;
mod event;
mod pace;
mod pump;
mod reply;
pub mod thread;

pub use self::{
    command::{Command, ParseError, StateChange},
    contention::{Contention, Loss},
    counters::{Counters, Figures},
    event::{Event, Events},
    pace::Pace,
    pump::{Next, Pump},
    reply::Reply,
};

use crate::rpci;

/// Largest request that is accepted, in bytes. Hosts send a few kilobytes at most; the protocol names no limit.
pub const MAX_REQUEST: usize = 256 * 1024;

/// Something that offers capabilities to the host and answers some of its commands.
///
/// Every method runs on the backdoor thread between two polls: it answers from memory and never waits. Slow work is
/// handed to a task and reports by RPCI.
pub trait Feature: Send {
    /// For the log.
    fn name(&self) -> &'static str;

    /// What is sent in answer to `Capabilities_Register`, in this order, built fresh at every registration.
    fn capabilities(&mut self) -> Vec<rpci::Request> {
        Vec::new()
    }

    /// Whether an operation is under way that the host follows closely: as long as it is, the pause between polls stays
    /// at 20 ms or less.
    fn wants_fast_polling(&self) -> bool {
        false
    }

    /// The host sent `reset`: it may have forgotten everything it was told.
    fn on_reset(&mut self) {}

    /// Answers `command`, or gives `None` when it belongs to somebody else.
    fn handle(&mut self, command: &Command<'_>) -> Option<Reply>;
}
