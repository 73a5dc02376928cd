//! Shutdown and Reboot as machined runs them: one sequence at a time, in phases, with events.
//!
//! ```text
//!  request ─lock─> START ─> storeShutdown ─> drain ─> cleanup ─> stopServices ─> stopEverything ─> STOP, socket gone
//!             └──> LOCKED (without an actor)   └────────┴─> FATAL, STOP; the node goes down
//! ```
//!
//! Shutdown takes over whatever runs, Reboot most of it; what was taken over is CANCELED. Source: Talos
//! `internal/app/machined/pkg/runtime/v1alpha1/v1alpha1_{sequencer,controller,priority_lock}.go`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use talos_vmtoolsd::pb::{common, machine as pb};
use tokio_util::sync::CancellationToken;

use super::{
    events::Events,
    listener::{Order, Orders},
    power::Sequence,
    release::Release,
    schema::runtime,
    stage,
    store::Store,
};

/// What goes wrong with a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another sequence holds the lock.
    Locked,
    /// It fails after the drain, and the node goes down.
    Fatal,
    /// The request is accepted, and nothing follows.
    Silent,
}

/// How sequences run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// How long pods take to leave.
    pub drain: Duration,
    /// How long services take to stop, and a failed node to go down.
    pub services: Duration,
    /// What goes wrong.
    pub fault: Option<Fault>,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(1),
            services: Duration::from_millis(500),
            fault: None,
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What was asked for.
    pub sequence: Sequence,
    /// Without a drain.
    pub force: bool,
    /// Its id.
    pub actor: String,
}

/// Runs the sequences of a node.
#[derive(Clone)]
pub struct Runner {
    /// Where the stage stands.
    pub store: Arc<Store>,
    /// Where events go.
    pub events: Arc<Events>,
    /// Where the socket is ordered away.
    pub orders: Orders,
    /// The sequence that runs, and how it is taken over.
    running: Arc<Mutex<Option<(Sequence, CancellationToken)>>>,
}

impl Runner {
    /// A runner with nothing to do.
    pub fn new(store: Arc<Store>, events: Arc<Events>, orders: Orders) -> Self {
        Self {
            store,
            events,
            orders,
            running: Arc::default(),
        }
    }

    /// Runs a request to the end of the node, to a failure, or until another request takes over.
    pub async fn run(self, request: Request, course: Course) {
        match course.fault {
            Some(Fault::Silent) => return,
            Some(Fault::Locked) => return self.locked(request.sequence),
            _ => {}
        }
        let Some(taken_over) = self.lock(request.sequence) else {
            return self.locked(request.sequence);
        };
        let name = request.sequence.name();
        self.tell(&request.actor, name, pb::sequence_event::Action::Start, None);
        // The stage is a known name, so this cannot fail.
        _ = stage::set(&self.store, request.sequence.stage(), true, &[]);
        if taken_over
            .run_until_cancelled(self.phases(&request, course))
            .await
            .is_none()
        {
            self.fail(&request.actor, name, common::Code::Canceled, "sequence canceled");
        }
        self.tell(&request.actor, name, pb::sequence_event::Action::Stop, None);
    }

    /// Takes the lock, from the sequence that runs if there is one; `None` where that one keeps it.
    fn lock(&self, sequence: Sequence) -> Option<CancellationToken> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if sequence == Sequence::Reboot {
            let keeps = match self.stage().as_str() {
                "installing" | "upgrading" => true,
                "maintenance" => self.store.release() < Release::V1_13,
                _ => matches!(*running, Some((Sequence::Shutdown, _))),
            };
            if keeps {
                return None;
            }
        }
        let token = CancellationToken::new();
        if let Some((_, before)) = running.replace((sequence, token.clone())) {
            before.cancel();
        }
        Some(token)
    }

    async fn phases(&self, request: &Request, course: Course) {
        let actor = &request.actor;
        let name = request.sequence.name();
        if request.sequence == Sequence::Shutdown {
            self.phase(actor, "storeShutdown", Duration::ZERO).await;
            if !request.force {
                self.phase(actor, "drain", course.drain).await;
            }
        }
        if course.fault == Some(Fault::Fatal) {
            self.enter(actor, "cleanup");
            self.fail(
                actor,
                name,
                common::Code::Fatal,
                "error running phase 3 in sequence: task 1/1: failed",
            );
            tokio::time::sleep(course.services).await;
        } else {
            self.phase(actor, "cleanup", Duration::ZERO).await;
            for service in ["kubelet", "cri"] {
                self.service(service, pb::service_state_event::Action::Stopping);
            }
            self.phase(actor, "stopServices", course.services).await;
            for service in ["kubelet", "cri"] {
                self.service(service, pb::service_state_event::Action::Finished);
            }
            self.enter(actor, "stopEverything");
        }
        _ = self.orders.send(Order::vanish()).await;
    }

    async fn phase(&self, actor: &str, name: &str, lasts: Duration) {
        self.enter(actor, name);
        tokio::time::sleep(lasts).await;
        self.tell_phase(actor, name, pb::phase_event::Action::Stop);
    }

    fn enter(&self, actor: &str, name: &str) {
        self.tell_phase(actor, name, pb::phase_event::Action::Start);
    }

    fn tell_phase(&self, actor: &str, name: &str, action: pb::phase_event::Action) {
        let event = pb::PhaseEvent {
            phase: name.to_owned(),
            action: action.into(),
        };
        self.events.publish(actor, "machine.PhaseEvent", &event);
    }

    fn service(&self, name: &str, action: pb::service_state_event::Action) {
        let event = pb::ServiceStateEvent {
            service: name.to_owned(),
            action: action.into(),
            message: String::new(),
        };
        self.events.publish("", "machine.ServiceStateEvent", &event);
    }

    fn locked(&self, sequence: Sequence) {
        let text = "sequence is already running";
        self.fail("", sequence.name(), common::Code::Locked, text);
    }

    fn fail(&self, actor: &str, name: &str, code: common::Code, message: &str) {
        let error = common::Error {
            code: code.into(),
            message: message.to_owned(),
        };
        self.tell(actor, name, pb::sequence_event::Action::Noop, Some(error));
    }

    fn tell(
        &self,
        actor: &str,
        name: &str,
        action: pb::sequence_event::Action,
        error: Option<common::Error>,
    ) {
        let event = pb::SequenceEvent {
            sequence: name.to_owned(),
            action: action.into(),
            error,
        };
        self.events.publish(actor, "machine.SequenceEvent", &event);
    }

    /// The name of the stage, empty without one.
    pub fn stage(&self) -> String {
        let status = self
            .store
            .kind(None, runtime::MACHINE_STATUSES)
            .and_then(|(kind, _)| self.store.get(&kind, stage::MACHINE));
        let stage = status.ok().and_then(|status| {
            let stage = status.spec.get("stage")?.as_str()?;
            Some(stage.to_owned())
        });
        stage.unwrap_or_default()
    }
}
