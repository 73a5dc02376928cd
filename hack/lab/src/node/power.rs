//! What becomes of Shutdown and Reboot.
//!
//! By default they are recorded and nothing else happens. On request the node goes down as Talos does, seen from an
//! extension service: the stage changes at once, later the service gets SIGTERM, and at last the socket is gone.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    listener::{Order, Orders},
    stage,
    store::Store,
};

/// A sequence of Talos that ends the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Ends powered off.
    Shutdown,
    /// Ends in a new boot.
    Reboot,
}

impl Sequence {
    fn stage(self) -> &'static str {
        match self {
            Self::Shutdown => "shutting down",
            Self::Reboot => "rebooting",
        }
    }
}

/// How the node goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoingDown {
    /// The service that is stopped.
    pub pid: Pid,
    /// From the request to SIGTERM.
    pub term_after: Duration,
    /// From SIGTERM until the socket is gone.
    pub vanish_after: Duration,
}

/// The power state of the node.
pub struct Power {
    store: Arc<Store>,
    orders: Orders,
    going_down: Mutex<Option<GoingDown>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Power {
    /// Power of a node whose listener takes `orders` and whose tasks end with `stop`.
    pub fn new(store: Arc<Store>, orders: Orders, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            store,
            orders,
            going_down: Mutex::default(),
            tasks,
            stop,
        }
    }

    /// Decides what the next request does; `None` only records it.
    pub fn set(&self, going_down: Option<GoingDown>) {
        *self.going_down.lock().unwrap_or_else(PoisonError::into_inner) = going_down;
    }

    /// A request was accepted. The first one takes effect.
    pub fn begin(&self, sequence: Sequence) {
        let taken = self
            .going_down
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(going_down) = taken else {
            return;
        };
        // The stage is a known name, so this cannot fail.
        _ = stage::set(&self.store, sequence.stage(), true, &[]);
        let orders = self.orders.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            _ = stop.run_until_cancelled(go_down(going_down, orders)).await;
        });
    }
}

async fn go_down(going_down: GoingDown, orders: Orders) {
    tokio::time::sleep(going_down.term_after).await;
    if let Err(error) = kill(going_down.pid, Signal::SIGTERM) {
        tracing::warn!(pid = going_down.pid.as_raw(), %error, "could not stop the service");
    }
    tokio::time::sleep(going_down.vanish_after).await;
    _ = orders.send(Order::vanish()).await;
}
