//! What the host is told about this machine.
//!
//! ```text
//!  talos ──Snapshot──> policy, name, os ──facts──> publisher ──what the host lacks──> Rpci
//!                                                     ^ |
//!              reset, broadcastIP, suspend ──Control──┘ └── ledger: taken, refused
//! ```
//!
//! A fact that is not known is not sent, and the host keeps what it has. A fact that is sent counts as told only when
//! the host took it.

#![forbid(unsafe_code)]

mod address;
mod carrier;
pub mod containers;
mod control;
pub mod disk;
mod feature;
mod key;
mod ledger;
mod name;
mod nic;
#[cfg(test)]
mod nodes;
mod origin;
mod os;
mod policy;
mod publisher;
mod render;
mod route;
mod schedule;
mod selector;
mod statistics;
mod talos_state;
mod uptime;
pub mod variable;
mod xdr;

pub use self::{
    address::{Rank, Unfit},
    carrier::reported_links,
    control::Control,
    feature::GuestInfo,
    key::{Key, program},
    name::{HostnameMode, NameError},
    nic::{Address, Cut, Dns, MacAddr, Message, Nic, NicInfo, Origin, Route, Status},
    origin::Sharing,
    os::{Kernel, OsNames},
    policy::{Decision, Note, Policy, Selection, VipMode},
    publisher::Publisher,
    render::{Answers, Calls, Entry, Value, identity, render},
    selector::Selector,
    talos_state::StateKey,
    variable::Variable,
};
