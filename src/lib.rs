//! VMware guest tools for Talos Linux.
//!
//! The daemon stands between two neighbours and translates: below it the hypervisor, spoken to through the VMware
//! backdoor, above it Talos, spoken to through the machine API.
//!
//! ```text
//!  backdoor ── message ── rpci          tclo ── dispatch ── power · guestinfo · …
//!                           ^                                    |
//!                           |                                    v
//!                  guestinfo publisher  <── snapshot <── talos ── machine.sock
//! ```
//!
//! Arrows point one way: features → `rpci`, `tclo`, `talos` → `message` → `backdoor`; `talos` and `backdoor` never see
//! each other. `docs/architecture.md` has the whole map.

pub mod app;
pub mod arguments;
pub mod backdoor;
pub mod clock;
pub mod command;
pub mod config;
pub mod dispatch;
pub mod guestinfo;
pub mod hostlog;
pub mod jitter;
pub mod lifecycle;
pub mod logging;
pub mod message;
pub mod options;
pub mod pb;
pub mod power;
pub mod rpci;
pub mod supervisor;
pub mod support;
pub mod talos;
pub mod tclo;
pub mod vix;
pub mod watchdog;
