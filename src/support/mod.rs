//! The whole state in the log, when the host asks for it.
//!
//! ```text
//!  vmsupport.start ──────────────┐
//!  Set_Option guestLogLevel … ───┴─> Support ── Wishes ──> Reporter ── state::lines ──> log, at most 60 lines a minute
//!                                                            └── guestLogLevel ──> logging::Level
//! ```
//!
//! Nobody can run a command inside an extension service of Talos. Both requests can be made from vSphere, and the log is
//! read with `talosctl logs`.

#![forbid(unsafe_code)]

mod feature;
mod reporter;
mod state;

pub use self::{
    feature::{Support, Wishes},
    reporter::Reporter,
    state::{MAX_LINE, MAX_LINES, Sources, lines},
};
