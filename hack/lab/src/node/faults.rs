//! What the node does wrong when it is asked to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, time::Instant};
use tonic::{Code, Status};

/// Whether replies leave the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    ClosedUntil(Instant),
    Closed,
}

/// What a new connection meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Welcome {
    /// The API.
    #[default]
    Serve,
    /// It is accepted and never answered.
    Hang,
    /// It is answered with bytes that are no HTTP/2.
    Garbage,
}

/// What follows a frame that was written in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// The connection is closed.
    Close,
    /// Nothing more; the connection stays open.
    Silence,
}

/// The next bytes that leave the node lack their last one, on whichever connection that is.
#[derive(Clone, Debug, Default)]
pub struct Tear(Arc<Mutex<Option<Torn>>>);

impl Tear {
    /// Asks for it once.
    pub fn arm(&self, torn: Torn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(torn);
    }

    /// Who writes next takes it.
    pub fn take(&self) -> Option<Torn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The faults of a node; none at first.
#[derive(Debug)]
pub struct Faults {
    gate: watch::Sender<Gate>,
    welcome: watch::Sender<Welcome>,
    tear: Tear,
    refusals: Mutex<BTreeMap<String, (Code, String)>>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            gate: watch::Sender::new(Gate::Open),
            welcome: watch::Sender::default(),
            tear: Tear::default(),
            refusals: Mutex::default(),
        }
    }
}

/// The name that stands for every method in a refusal.
pub const EVERY_METHOD: &str = "all";

impl Faults {
    fn refusals(&self) -> MutexGuard<'_, BTreeMap<String, (Code, String)>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds every reply and every stream until `until`, or until [`Self::release`].
    pub fn stall(&self, until: Option<Instant>) {
        self.gate
            .send_replace(until.map_or(Gate::Closed, Gate::ClosedUntil));
    }

    /// Lets held replies and streams go on.
    pub fn release(&self) {
        self.gate.send_replace(Gate::Open);
    }

    /// The gate that replies pass.
    pub fn gate(&self) -> Pass {
        Pass(self.gate.subscribe())
    }

    /// Decides what new connections meet.
    pub fn set_welcome(&self, welcome: Welcome) {
        self.welcome.send_replace(welcome);
    }

    /// What new connections meet, and a wake-up when that changes.
    pub fn welcome(&self) -> watch::Receiver<Welcome> {
        self.welcome.subscribe()
    }

    /// Frames written in part.
    pub const fn tear(&self) -> &Tear {
        &self.tear
    }

    /// Refuses `method` (or [`EVERY_METHOD`]) from now on.
    pub fn refuse(&self, method: &str, code: Code, message: &str) {
        self.refusals()
            .insert(method.to_owned(), (code, message.to_owned()));
    }

    /// Ends the refusal of `method`, or all of them.
    pub fn accept(&self, method: Option<&str>) {
        match method {
            Some(method) => _ = self.refusals().remove(method),
            None => self.refusals().clear(),
        }
    }

    /// The refusal that meets a call of `method`.
    pub fn refusal(&self, method: &str) -> Option<Status> {
        let refusals = self.refusals();
        let (code, message) = refusals.get(method).or_else(|| refusals.get(EVERY_METHOD))?;
        Some(Status::new(*code, message.clone()))
    }
}

/// The way through the gate for one reply or stream.
#[derive(Clone, Debug)]
pub struct Pass(watch::Receiver<Gate>);

impl Pass {
    /// Whether replies leave now.
    pub fn is_open(&self) -> bool {
        match *self.0.borrow() {
            Gate::Open => true,
            Gate::ClosedUntil(until) => Instant::now() >= until,
            Gate::Closed => false,
        }
    }

    /// Waits until replies leave. A node that is gone holds nothing.
    pub async fn opened(mut self) {
        loop {
            let gate = *self.0.borrow_and_update();
            let changed = self.0.changed();
            let gone = match gate {
                Gate::Open => return,
                Gate::Closed => changed.await.is_err(),
                Gate::ClosedUntil(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => return,
                    changed = changed => changed.is_err(),
                },
            };
            if gone {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timed_stall_ends_by_itself_and_can_be_ended_before() {
        let faults = Faults::default();
        let begin = Instant::now();
        faults.stall(Some(begin + Duration::from_secs(5)));
        assert!(!faults.gate().is_open());
        faults.gate().opened().await;
        assert_eq!(begin.elapsed(), Duration::from_secs(5));
        faults.stall(None);
        let pass = faults.gate();
        faults.release();
        pass.opened().await;
    }

    #[test]
    fn one_method_or_all_are_refused() {
        let faults = Faults::default();
        assert!(faults.refusal("Version").is_none());
        faults.refuse("Version", Code::Internal, "broken");
        assert_eq!(faults.refusal("Version").unwrap().message(), "broken");
        assert!(faults.refusal("Get").is_none());
        faults.refuse(EVERY_METHOD, Code::Unavailable, "");
        assert_eq!(faults.refusal("Get").unwrap().code(), Code::Unavailable);
        faults.accept(None);
        assert!(faults.refusal("Version").is_none());
    }
}
