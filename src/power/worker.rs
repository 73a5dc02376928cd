//! The task that carries jobs out: one course for an operation, one report for each request.

#![forbid(unsafe_code)]

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Job, Settings, SharedGate,
    course::{Course, Outcome, STATUS},
    gate::{Number, Operation},
    host::Host,
    last_error,
};
use crate::{
    guestinfo::Variable,
    limited,
    rpci::Rpci,
    talos::{Machine, Snapshot},
    tclo::StateChange,
};

/// Reports and calls under way at once; a flood beyond that fills the queue and is refused at the gate.
const MAX_TASKS: usize = 32;

/// The state change that belongs to an operation.
const fn change(operation: Operation) -> StateChange {
    match operation {
        Operation::Shutdown => StateChange::Halt,
        Operation::Reboot => StateChange::Reboot,
    }
}

/// Carries jobs out, and publishes the last error, until it is cancelled.
#[derive(Debug)]
pub struct Worker<R, M> {
    jobs: Jobs<R, M>,
    last_error: Variable<R>,
}

/// Carries jobs out.
#[derive(Debug)]
struct Jobs<R, M> {
    gate: SharedGate,
    queue: mpsc::Receiver<Job>,
    host: Host<R>,
    machine: Arc<M>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    settings: Settings,
    tasks: JoinSet<()>,
    /// The operation that stands, or stood last, for requests that join it.
    outcome: Option<(Number, watch::Receiver<Outcome>)>,
}

impl<R: Rpci, M: Machine> Worker<R, M> {
    pub(super) fn new(
        gate: SharedGate,
        queue: mpsc::Receiver<Job>,
        host: Host<R>,
        machine: Arc<M>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        settings: Settings,
        last_error: Variable<R>,
    ) -> Self {
        let jobs = Jobs {
            gate,
            queue,
            host,
            machine,
            snapshots,
            settings,
            tasks: JoinSet::new(),
            outcome: None,
        };
        Self { jobs, last_error }
    }

    /// Runs until `shutdown`, or until the feature is gone and all its jobs are done. A call that Talos has received is
    /// not undone by the end of this task.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { mut jobs, last_error } = self;
        let publish = last_error::publish(last_error, jobs.host.errors());
        let work = async {
            tokio::select! {
                () = jobs.work() => {}
                () = publish => {}
            }
        };
        shutdown.run_until_cancelled(work).await;
    }
}

impl<R: Rpci, M: Machine> Jobs<R, M> {
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
                let course = Course {
                    operation,
                    number,
                    gate: self.gate.clone(),
                    host: self.host.clone(),
                    machine: self.machine.clone(),
                    snapshots: self.snapshots.clone(),
                    settings: self.settings,
                };
                self.tasks.spawn(course.run(sender));
                self.tasks
                    .spawn(report_outcome(self.host.clone(), operation, outcome));
            }
            Job::Join(operation, number) => match &self.outcome {
                Some((standing, outcome)) if *standing == number => {
                    let outcome = outcome.clone();
                    self.tasks
                        .spawn(report_outcome(self.host.clone(), operation, outcome));
                }
                // The gate numbers an operation before its first job is queued, and that job comes first.
                _ => {
                    limited!(warn, feature = "power", operation = number.number(), action = %operation, "nothing to join")
                }
            },
            Job::Acknowledge(change) => {
                let host = self.host.clone();
                self.tasks.spawn(async move { host.status(change, true).await });
            }
        }
    }
}

/// Waits for Talos's answer as long as the host can, and reports it.
async fn report_outcome<R: Rpci>(host: Host<R>, operation: Operation, mut outcome: watch::Receiver<Outcome>) {
    let accepted = {
        let answer = outcome.wait_for(|outcome| *outcome != Outcome::Pending);
        matches!(timeout(STATUS, answer).await, Ok(Ok(outcome)) if *outcome == Outcome::Accepted)
    };
    host.status(change(operation), accepted).await;
}
