//! What becomes of Shutdown and Reboot.
//!
//! By default they are recorded and nothing else happens. On request the node goes down as Talos does, seen from an
//! extension service: the stage changes at once, later the service gets SIGTERM, and at last the socket is gone; or it
//! runs Talos's sequences, with their events and failures ([`super::sequence`]).

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
    events::Events,
    listener::{Order, Orders},
    sequence::{Course, Request, Runner},
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
    /// Talos's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Reboot => "reboot",
        }
    }

    /// The stage while it runs.
    pub fn stage(self) -> &'static str {
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

/// What a request does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// It is recorded.
    #[default]
    Record,
    /// The next one makes the node go down.
    GoDown(GoingDown),
    /// Each one runs its sequence.
    Run(Course),
}

/// The power state of the node.
pub struct Power {
    store: Arc<Store>,
    orders: Orders,
    runner: Runner,
    effect: Mutex<Effect>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Power {
    /// Power of a node whose listener takes `orders` and whose tasks end with `stop`.
    pub fn new(
        store: Arc<Store>,
        events: Arc<Events>,
        orders: Orders,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            runner: Runner::new(Arc::clone(&store), events, orders.clone()),
            store,
            orders,
            effect: Mutex::default(),
            tasks,
            stop,
        }
    }

    /// Decides what the next request does.
    pub fn set(&self, effect: Effect) {
        *self.effect.lock().unwrap_or_else(PoisonError::into_inner) = effect;
    }

    /// A request was accepted.
    pub fn begin(&self, request: Request) {
        let effect = {
            let mut effect = self.effect.lock().unwrap_or_else(PoisonError::into_inner);
            let present = *effect;
            if let Effect::GoDown(_) = present {
                *effect = Effect::Record;
            }
            present
        };
        match effect {
            Effect::Record => {}
            Effect::GoDown(going_down) => {
                // The stage is a known name, so this cannot fail.
                _ = stage::set(&self.store, request.sequence.stage(), true, &[]);
                self.spawn(go_down(going_down, self.orders.clone()));
            }
            Effect::Run(course) => self.spawn(self.runner.clone().run(request, course)),
        }
    }

    /// The node has no machine configuration.
    pub fn is_in_maintenance(&self) -> bool {
        self.runner.stage() == "maintenance"
    }

    /// PID 1 panics: the socket is gone, and nothing was said.
    pub fn crash(&self) {
        let orders = self.orders.clone();
        self.spawn(async move {
            let order = Order {
                drain: None,
                ..Order::vanish()
            };
            _ = orders.send(order).await;
        });
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            _ = stop.run_until_cancelled(work).await;
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
