//! TCLO: the host asks, the guest answers.
//!
//! ```text
//!  host ──message channel──> pump ──Command──> dispatch ──> Feature ──Reply──> pump ──> host
//! ```

mod command;
mod reply;

pub use self::{
    command::{Command, StateChange},
    reply::Reply,
};

use crate::rpci;

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

    /// The host sent `reset`: it may have forgotten everything it was told.
    fn on_reset(&mut self) {}

    /// Answers `command`, or gives `None` when it belongs to somebody else.
    fn handle(&mut self, command: &Command<'_>) -> Option<Reply>;
}
