//! The course of one operation, from the host's request to the end of the machine or to a failure.
//!
//! ```text
//!  look at the stage ─┐                                   ┌─ drain budget over: once more, with force
//!  wait for the hello ┴─> call ─accepted─> follow events ─┼─ begun: the last error is cleared
//!            │              │                             └─ failed, not begun in 65 s, not done in 15 min
//!            v refused      v refused                                  │
//!          told: vmware.log, guestinfo.talos.last-error <──────────────┘
//! ```
//!
//! There is no end that is a success: whoever would tell it goes down with the machine.

#![forbid(unsafe_code)]

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    Settings, SharedGate,
    gate::{Number, Operation},
    host::Host,
    progress::{News, Progress},
    stage::{Decision, Stage},
};
use crate::{
    limited,
    rpci::Rpci,
    talos::{CallError, Machine, Snapshot, events::Heard, snapshot::Fact},
};

/// How long the host waits for a status. What the host itself allows is not public; a first call to Talos 1.13 can take
/// longer than this, and goes on then.
pub(super) const STATUS: Duration = Duration::from_secs(2);

/// How long the call waits for the stage of the machine and for the hello of the events. Both are there within
/// milliseconds on a node that answers; the rest of [`STATUS`] is the call's.
const PREPARATION: Duration = Duration::from_millis(500);

/// How long a call may take at all; the client's own deadlines are shorter. Without an end, a Talos that hangs would keep
/// the gate shut for every other operation.
const CALL: Duration = Duration::from_secs(60);

/// How long Talos may take to begin what it has accepted: up to 60 s until the sequence that is running has stopped
/// (v1alpha1_priority_lock.go), and some more.
const BEGIN: Duration = Duration::from_secs(65);

/// How long an operation stands after Talos accepted it. Talos's own limits for a shutdown are 1 min to cordon, 5 min
/// to drain and some more to stop services; the machine is gone before this ends, unless Talos has failed. Then the
/// host may ask anew, and another operation may be asked for.
const STANDING: Duration = Duration::from_secs(15 * 60);

/// Events that wait while a call is made; beyond them the node keeps its own.
const WAITING_EVENTS: usize = 64;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Pending,
    Accepted,
    Failed,
}

/// One operation.
pub(super) struct Course<R, M> {
    pub operation: Operation,
    pub number: Number,
    pub gate: SharedGate,
    pub host: Host<R>,
    pub machine: Arc<M>,
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    pub settings: Settings,
}

impl<R: Rpci, M: Machine> Course<R, M> {
    /// Carries the operation out, and stays until it no longer stands.
    pub async fn run(self, outcome: watch::Sender<Outcome>) {
        let (operation, number) = (self.operation, self.number);
        let (heard, events) = mpsc::channel(WAITING_EVENTS);
        let failure = tokio::select! {
            never = self.machine.events(heard) => match never {},
            failure = self.carry_out(events, &outcome) => failure,
        };
        // The gate first: a request that comes after the status must meet the new state.
        self.gate.with(|gate| gate.ended(number));
        // What fails after Talos has accepted it changes nothing in the status that is owed.
        outcome.send_if_modified(|outcome| {
            let pending = *outcome == Outcome::Pending;
            if pending {
                *outcome = Outcome::Failed;
            }
            pending
        });
        self.host.failed(operation, number, &failure);
    }

    /// Gives why the operation failed.
    async fn carry_out(&self, mut events: mpsc::Receiver<Heard>, outcome: &watch::Sender<Outcome>) -> String {
        let (operation, number) = (self.operation, self.number);
        let begun = Instant::now();
        let (decision, ()) = tokio::join!(self.decision(), listening(&mut events));
        match decision {
            Decision::Refuse(stage) => format!("the node is {stage}, and that is never cut short"),
            Decision::UnderWay(stage) => {
                self.accepted(outcome);
                limited!(info, feature = "power", operation = number.number(), action = %operation, %stage,
                    "the node goes down already: nothing is called");
                self.host
                    .line(number, format!("{operation}: the node is {stage} already"));
                let present = match stage {
                    Stage::Rebooting => Operation::Reboot,
                    _ => Operation::Shutdown,
                };
                self.follow(Progress::of_another(present), None, events).await
            }
            Decision::Call { force } => {
                let actor = match timeout(CALL, self.call(force)).await {
                    Ok(Ok(actor)) => actor,
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return format!("no answer within {CALL:?}"),
                };
                self.accepted(outcome);
                let took = begun.elapsed();
                let late = took > STATUS;
                limited!(info, feature = "power", operation = number.number(), action = %operation, actor, force, ?took, late,
                    "Talos accepted it");
                let how = if late {
                    format!("late, after {took:.1?}, ")
                } else {
                    String::new()
                };
                self.host.line(
                    number,
                    format!("{operation} accepted by Talos {how}as actor {actor}"),
                );
                let drain = self
                    .settings
                    .drain
                    .filter(|_| operation == Operation::Shutdown && !force);
                self.follow(Progress::of_call(operation, actor), drain, events)
                    .await
            }
        }
    }

    fn accepted(&self, outcome: &watch::Sender<Outcome>) {
        // The gate first, as at the end.
        self.gate.with(|gate| gate.accepted(self.number));
        outcome.send_replace(Outcome::Accepted);
    }

    /// What is to be done, by the freshest stage that can be had in time.
    async fn decision(&self) -> Decision {
        let mut snapshots = self.snapshots.clone();
        let fresh = snapshots.wait_for(|snapshot| matches!(snapshot.machine, Fact::Known { .. }));
        // Without one, what is known decides.
        let _ = timeout(PREPARATION, fresh).await;
        let snapshot = Arc::clone(&snapshots.borrow());
        Decision::of(&snapshot)
    }

    async fn call(&self, force: bool) -> Result<String, CallError> {
        match self.operation {
            Operation::Shutdown => self.machine.shutdown(force).await,
            Operation::Reboot => self.machine.reboot(self.settings.reboot_mode).await,
        }
    }

    /// Follows what Talos has accepted. Gives why it failed.
    async fn follow(
        &self,
        mut progress: Progress,
        mut drain: Option<Duration>,
        mut events: mpsc::Receiver<Heard>,
    ) -> String {
        let accepted = Instant::now();
        let mut snapshots = self.snapshots.clone();
        // The stage may have changed before this line.
        snapshots.mark_changed();
        loop {
            let budget = drain.filter(|_| progress.may_be_draining());
            let news = tokio::select! {
                Some(heard) = events.recv() => match heard {
                    Heard::Listening => None,
                    Heard::Event(event) => progress.hear(&event),
                },
                Ok(()) = snapshots.changed() => {
                    let stage = Stage::of(&snapshots.borrow_and_update());
                    progress.see(stage)
                }
                () = sleep_until(accepted + BEGIN), if !progress.has_begun() => {
                    return format!("accepted, and not begun within {BEGIN:?}");
                }
                () = sleep_until(accepted + STANDING) => {
                    return format!("accepted {STANDING:?} ago and still not done");
                }
                () = sleep_until(accepted + budget.unwrap_or_default()), if budget.is_some() => {
                    drain = None;
                    self.force(&mut progress).await;
                    None
                }
            };
            match news {
                Some(News::Failed(failure)) => return failure,
                Some(news) => self.log(news),
                None => {}
            }
        }
    }

    /// Asks once more, this time without a drain.
    async fn force(&self, progress: &mut Progress) {
        let (operation, number) = (self.operation, self.number);
        warn!(feature = "power", operation = number.number(), action = %operation, drain = ?self.settings.drain,
            "not drained within the setting power.drain: calling again with force");
        let text = match timeout(CALL, self.call_forced()).await {
            Ok(Ok(actor)) => {
                info!(feature = "power", operation = number.number(), action = %operation, actor, force = true,
                    "Talos accepted it");
                let text =
                    format!("{operation} not drained in time, accepted again with force as actor {actor}");
                progress.taken_over(actor);
                text
            }
            Ok(Err(error)) => format!("{operation} not drained in time, force failed: {error}"),
            Err(_) => format!("{operation} not drained in time, force failed: no answer"),
        };
        self.host.line(number, text);
    }

    async fn call_forced(&self) -> Result<String, CallError> {
        self.machine.shutdown(true).await
    }

    fn log(&self, news: News) {
        let (operation, number) = (self.operation, self.number);
        match news {
            News::Begun => {
                info!(feature = "power", operation = number.number(), action = %operation, "Talos has begun it");
                self.host.succeeds();
            }
            News::Phase(phase) => {
                info!(feature = "power", operation = number.number(), action = %operation, phase,
                "Talos goes on")
            }
            News::Failed(_) => {}
        }
    }
}

/// Waits until nothing is missed from here on, or until it takes too long: then the events that are missed are asked for
/// later, and the call does not wait for them.
async fn listening(events: &mut mpsc::Receiver<Heard>) {
    let _ = timeout(PREPARATION, events.recv()).await;
}
