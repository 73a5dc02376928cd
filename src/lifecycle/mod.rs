//! What happens to the VM and to the connection: start, outage, migration, suspend and resume, revert, clone.
//!
//! ```text
//!  pump ──Event: reset, connected, lost, registered──┐
//!  OS_Resume ────────────────────────────────────────┼──> Recognizer ── one interruption ──> one line in both logs
//!  boot clock against monotonic clock: it slept ─────┘                    ├── everything sent again, if no reset did it
//!                                                                         └── the clocks are compared
//! ```
//!
//! One interruption shows in several ways within a moment: a resume brings a `reset`, `OS_Resume` and perhaps a jump of
//! the clock. Only `reset` is certain to come (bdoorChannel.c), and the publisher forgets at it at once. So signs are
//! collected for [`WINDOW`], and what no `reset` announced is made up for at its end: everything is sent again once.

#![forbid(unsafe_code)]

mod history;
mod recognizer;
mod task;

pub use self::{
    history::History,
    recognizer::{Cause, Interruption, Recognizer, Sign, WINDOW},
    task::{Lifecycle, Resumed, time_asleep},
};
