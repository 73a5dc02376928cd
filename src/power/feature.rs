//! The part that stands on the backdoor thread.

#![forbid(unsafe_code)]

use std::fmt;

use tokio::sync::mpsc;

use super::{
    Job, SharedGate,
    gate::{Admission, Operation},
};
use crate::{
    hostlog::HostLog,
    limited,
    rpci::Request,
    tclo::{Command, Feature, Reply, StateChange},
};

/// Admits power requests and hands them to the worker.
pub struct Power {
    gate: SharedGate,
    jobs: mpsc::Sender<Job>,
    log: HostLog,
    resumed: Box<dyn FnMut() + Send>,
}

impl fmt::Debug for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Power")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl Power {
    pub(super) fn new(
        gate: SharedGate,
        jobs: mpsc::Sender<Job>,
        log: HostLog,
        resumed: Box<dyn FnMut() + Send>,
    ) -> Self {
        Self {
            gate,
            jobs,
            log,
            resumed,
        }
    }

    fn request(&self, operation: Operation) -> Reply {
        let admission = self
            .gate
            .with(|gate| gate.admit(operation, || self.log.operation()));
        match admission {
            Admission::Begin(number) => {
                limited!(info, feature = "power", operation = number.number(), action = %operation,
                    "the host asks for it");
                let queued = self.queue(Job::Begin(operation, number));
                if !queued {
                    self.gate.with(|gate| gate.ended(number));
                }
                reply(queued)
            }
            Admission::Join(number) => reply(self.queue(Job::Join(operation, number))),
            Admission::Busy(_) => Reply::Error("State change already in progress".to_owned()),
        }
    }

    /// Never waits. A full queue means that the worker is gone or the host floods; the host is told either way.
    fn queue(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}

fn reply(queued: bool) -> Reply {
    if queued {
        Reply::ok()
    } else {
        Reply::Error("State change could not be started".to_owned())
    }
}

impl Feature for Power {
    fn name(&self) -> &'static str {
        "power"
    }

    /// Both end with a space and carry no NUL: hosts insist on it for a capability without value (powerOps.c).
    fn capabilities(&mut self) -> Vec<Request> {
        vec![
            Request::raw("tools.capability.statechange "),
            Request::raw("tools.capability.softpowerop_retry "),
        ]
    }

    /// While an operation stands the host may ask again, and waits for the answer.
    fn wants_fast_polling(&self) -> bool {
        self.gate.with(|gate| gate.stands())
    }

    fn handle(&mut self, command: &Command<'_>) -> Option<Reply> {
        let Command::StateChange(change) = command else {
            return None;
        };
        Some(match change {
            StateChange::Halt => self.request(Operation::Shutdown),
            StateChange::Reboot => self.request(Operation::Reboot),
            StateChange::PowerOn | StateChange::Suspend | StateChange::Resume => {
                if *change == StateChange::Resume {
                    (self.resumed)();
                }
                reply(self.queue(Job::Acknowledge(*change)))
            }
        })
    }
}
