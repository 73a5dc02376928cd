//! How others steer the publisher without waiting for it.

#![forbid(unsafe_code)]

use std::sync::Arc;

use tokio::sync::watch;

/// What was asked so far. Counters, so that nothing is lost and a flood costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// How often the host may have forgotten everything.
    pub resets: u64,
    /// How often the host asked for the address.
    pub broadcasts: u64,
    /// Nothing may be sent.
    pub suspended: bool,
    /// The host wants no list of containers.
    pub containers_off: bool,
}

/// A handle for the backdoor thread and for other features. No method waits.
#[derive(Clone, Debug, Default)]
pub struct Control {
    wants: Arc<watch::Sender<Wants>>,
}

impl Control {
    /// The host may have forgotten everything: send it all again. What it asked for still counts.
    pub fn forget(&self) {
        self.wants
            .send_modify(|wants| wants.resets = wants.resets.wrapping_add(1));
    }

    /// The host sent `reset`: as [`Self::forget`], and its options are those of the start.
    pub fn reset(&self) {
        self.wants.send_modify(|wants| {
            wants.resets = wants.resets.wrapping_add(1);
            wants.containers_off = false;
        });
    }

    /// Whether the host wants the list of containers. It does after a reset (appInfo.c, which has the same switch).
    pub fn list_containers(&self, wanted: bool) {
        self.wants.send_if_modified(|wants| {
            let modified = wants.containers_off == wanted;
            wants.containers_off = !wanted;
            modified
        });
    }

    /// The host asks for `guestinfo.ip`.
    pub fn broadcast_ip(&self) {
        self.wants
            .send_modify(|wants| wants.broadcasts = wants.broadcasts.wrapping_add(1));
    }

    /// Sends nothing until [`Self::resume`]. A request that is under way is finished; what changes meanwhile is not
    /// lost.
    pub fn suspend(&self) {
        self.wants.send_modify(|wants| wants.suspended = true);
    }

    /// Ends [`Self::suspend`]; what changed meanwhile is sent at once.
    pub fn resume(&self) {
        self.wants.send_modify(|wants| wants.suspended = false);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Wants> {
        self.wants.subscribe()
    }
}
