//! The task that calls Talos and reports to the host.

#![forbid(unsafe_code)]

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Job, SharedGate,
    gate::{Number, Operation},
};
use crate::{
    rpci::{Request, Rpci, RpciError},
    talos::{CallError, Machine, RebootMode},
    tclo::StateChange,
};

/// How long the host waits for a status. What the host itself allows is not public; a first call to Talos 1.13 can take
/// longer than this, and goes on then.
const STATUS: Duration = Duration::from_secs(2);

/// How long a call may take at all; the client's own deadlines are shorter. Without an end, a Talos that hangs would keep
/// the gate shut for every other operation.
const CALL: Duration = Duration::from_secs(60);

/// How long an operation stands after Talos accepted it. Talos's own limits for a shutdown are 1 min to cordon, 5 min
/// to drain and some more to stop services; the machine is gone before this ends, unless Talos has failed. Then the
/// host may ask anew, and another operation may be asked for.
const STANDING: Duration = Duration::from_secs(15 * 60);

/// Pauses before a status is sent again that found no channel. After the last, the host has given up too.
const STATUS_RETRIES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
];

/// Reports and calls under way at once; a flood beyond that fills the queue and is refused at the gate.
const MAX_TASKS: usize = 32;

/// Characters of one line in vmware.log; open-vm-tools stays below 2 KiB (guest-rpc.md 3.4).
const LOG_LINE: usize = 400;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pending,
    Accepted,
    Failed,
}

/// The state change that belongs to an operation.
const fn change(operation: Operation) -> StateChange {
    match operation {
        Operation::Shutdown => StateChange::Halt,
        Operation::Reboot => StateChange::Reboot,
    }
}

/// Carries jobs out until it is cancelled.
#[derive(Debug)]
pub struct Worker<R, M> {
    gate: SharedGate,
    queue: mpsc::Receiver<Job>,
    rpci: Arc<R>,
    machine: Arc<M>,
    mode: RebootMode,
    tasks: JoinSet<()>,
    /// The operation that stands, or stood last, for requests that join it.
    outcome: Option<(Number, watch::Receiver<Outcome>)>,
}

impl<R: Rpci, M: Machine> Worker<R, M> {
    pub(super) fn new(
        gate: SharedGate,
        queue: mpsc::Receiver<Job>,
        rpci: Arc<R>,
        machine: Arc<M>,
        mode: RebootMode,
    ) -> Self {
        Self {
            gate,
            queue,
            rpci,
            machine,
            mode,
            tasks: JoinSet::new(),
            outcome: None,
        }
    }

    /// Runs until `shutdown`, or until the feature is gone and all its jobs are done. A call that Talos has received is
    /// not undone by the end of this task.
    pub async fn run(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.work()).await;
    }

    async fn work(&mut self) {
        let mut open = true;
        while open || !self.tasks.is_empty() {
            tokio::select! {
                job = self.queue.recv(), if open && self.tasks.len() < MAX_TASKS => match job {
                    Some(job) => self.start(job),
                    None => open = false,
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended {
                        warn!(feature = "power", err = %error, "a job ended on its own");
                    }
                }
            }
        }
    }

    fn start(&mut self, job: Job) {
        match job {
            Job::Begin(operation, number) => {
                let (sender, outcome) = watch::channel(Outcome::Pending);
                self.outcome = Some((number, outcome.clone()));
                let call = Call {
                    operation,
                    number,
                    gate: self.gate.clone(),
                    rpci: self.rpci.clone(),
                    machine: self.machine.clone(),
                    mode: self.mode,
                };
                self.tasks.spawn(call.run(sender));
                self.tasks
                    .spawn(report_outcome(self.rpci.clone(), operation, outcome));
            }
            Job::Join(operation, number) => match &self.outcome {
                Some((standing, outcome)) if *standing == number => {
                    let outcome = outcome.clone();
                    self.tasks
                        .spawn(report_outcome(self.rpci.clone(), operation, outcome));
                }
                // The gate numbers an operation before its first job is queued, and that job comes first.
                _ => warn!(feature = "power", %operation, number, "nothing to join"),
            },
            Job::Acknowledge(change) => {
                self.tasks.spawn(report(self.rpci.clone(), change, true));
            }
        }
    }
}

/// One call of the machine API.
struct Call<R, M> {
    operation: Operation,
    number: Number,
    gate: SharedGate,
    rpci: Arc<R>,
    machine: Arc<M>,
    mode: RebootMode,
}

impl<R: Rpci, M: Machine> Call<R, M> {
    /// Calls once, and stays until the operation no longer stands.
    async fn run(self, outcome: watch::Sender<Outcome>) {
        let (operation, number) = (self.operation, self.number);
        let begun = tokio::time::Instant::now();
        let result = match timeout(CALL, self.call()).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {CALL:?}")),
        };
        let took = begun.elapsed();
        let late = took > STATUS;
        match result {
            Ok(actor) => {
                // The gate first: a request that comes after the status must meet the new state.
                self.gate.with(|gate| gate.accepted(number));
                outcome.send_replace(Outcome::Accepted);
                info!(feature = "power", %operation, number, actor, ?took, late, "Talos accepted it");
                if late {
                    self.tell(&format!("{operation} {number}: accepted late, after {took:.1?}"))
                        .await;
                }
                sleep(STANDING).await;
                self.gate.with(|gate| gate.ended(number));
                warn!(feature = "power", %operation, number, "accepted by Talos and still not done");
                self.tell(&format!(
                    "{operation} {number}: accepted {STANDING:?} ago and still not done"
                ))
                .await;
            }
            Err(error) => {
                self.gate.with(|gate| gate.ended(number));
                outcome.send_replace(Outcome::Failed);
                warn!(feature = "power", %operation, number, err = error, ?took, late, "Talos did not accept it");
                self.tell(&format!("{operation} {number}: failed: {error}")).await;
            }
        }
    }

    async fn call(&self) -> Result<String, CallError> {
        match self.operation {
            Operation::Shutdown => self.machine.shutdown(false).await,
            Operation::Reboot => self.machine.reboot(self.mode).await,
        }
    }

    /// One line in vmware.log.
    async fn tell(&self, text: &str) {
        let line: String = text.chars().filter(|c| !c.is_control()).take(LOG_LINE).collect();
        // Twice would be two lines.
        let request = Request::text(format!("log talos-vmtoolsd: {line}")).at_most_once();
        if let Err(error) = self.rpci.call(request).await {
            debug!(feature = "power", err = %error, "no line in vmware.log");
        }
    }
}

/// Waits for Talos's answer as long as the host can, and reports it.
async fn report_outcome<R: Rpci>(rpci: Arc<R>, operation: Operation, mut outcome: watch::Receiver<Outcome>) {
    let accepted = {
        let answer = outcome.wait_for(|outcome| *outcome != Outcome::Pending);
        matches!(timeout(STATUS, answer).await, Ok(Ok(outcome)) if *outcome == Outcome::Accepted)
    };
    report(rpci, change(operation), accepted).await;
}

/// `tools.os.statechange.status`.
///
/// The host may get it twice, when the channel broke behind the first one: the status only moves the host out of a wait,
/// and one that nobody waits for changes nothing (open-vm-tools repeats it too). Not getting it leaves the VM "executing
/// scripts", which is worse.
async fn report<R: Rpci>(rpci: Arc<R>, change: StateChange, success: bool) {
    let request = Request::text(format!(
        "tools.os.statechange.status {} {}",
        u8::from(success),
        change.id()
    ));
    let mut pauses = STATUS_RETRIES.into_iter();
    loop {
        match rpci.call(request.clone()).await {
            Ok(_) => return,
            Err(
                error
                @ (RpciError::Channel { .. } | RpciError::Deadline { .. } | RpciError::NotQueued { .. }),
            ) => match pauses.next() {
                Some(pause) => sleep(pause).await,
                None => {
                    warn!(feature = "power", ?change, success, err = %error, "the host was not told the status");
                    return;
                }
            },
            Err(error) => {
                warn!(feature = "power", ?change, success, err = %error, "the host does not take the status");
                return;
            }
        }
    }
}
