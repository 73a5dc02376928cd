//! Power: what the host asks of the machine, and what it tells about it.
//!
//! ```text
//!  OS_Halt, OS_Reboot ──> Feature ──gate──> bounded queue ──> Worker ──> Course ──> Machine (Talos)
//!        │ `OK ` at once                                        │
//!        v                                                      v
//!       host <──────── tools.os.statechange.status 1|0 ──────── Rpci
//! ```
//!
//! The answer to the command says that it arrived; the status says what became of it. Status 1 is sent when Talos has
//! accepted the call, 0 when it refused or has not answered within 2 s. A call that is late goes on: its result is
//! logged. What becomes of an accepted operation is followed by the node's events; a failure, late or not, is told in
//! vmware.log and in `guestinfo.talos.last-error`, which the next operation that begins clears.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `feature` | the backdoor thread's side: requests in, `OK ` out |
//! | `gate` | one operation at a time |
//! | `worker` | jobs, and the status for each request |
//! | `course` | one operation from the request to its end |
//! | `stage` | what may be asked of a node that is booting, upgrading, going down |
//! | `progress` | what events and stages say of an accepted operation |
//! | `host` | what the host is told |
//! | `last_error` | `guestinfo.talos.last-error`, told again when the host may have forgotten it |
//!
//! `OS_PowerOn`, `OS_Suspend` and `OS_Resume` need no action but a status: until the one for `OS_PowerOn` arrives, the
//! host takes the tools for not yet running (powerOps.c).

#![forbid(unsafe_code)]

mod course;
mod feature;
mod gate;
mod host;
mod last_error;
mod progress;
mod stage;
mod worker;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use self::host::Host;
pub use self::{
    feature::Power,
    gate::{Admission, Gate, Number, Operation},
    worker::Worker,
};
use crate::{
    guestinfo::Variable,
    hostlog::HostLog,
    rpci::Rpci,
    talos::{Machine, RebootMode, Snapshot},
    tclo::StateChange,
};

/// How operations are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How Talos reboots.
    pub reboot_mode: RebootMode,
    /// How long a shutdown may drain, counted from Talos's answer; then it is asked for again with `force`, once.
    /// Without it Talos's own limits hold (1 min to cordon, 5 min to drain).
    pub drain: Option<Duration>,
}

/// Jobs that may wait for the worker, which is rarely longer away than one poll of its queue.
const QUEUE: usize = 16;

/// What the backdoor thread hands to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    /// Call Talos, and report.
    Begin(Operation, Number),
    /// Report what becomes of the operation that stands.
    Join(Operation, Number),
    /// Report success.
    Acknowledge(StateChange),
}

/// The gate as both sides hold it. The lock covers a few assignments and no call, so the backdoor thread is never kept
/// waiting by it.
#[derive(Clone, Debug, Default)]
struct SharedGate(Arc<Mutex<Gate>>);

impl SharedGate {
    fn with<T>(&self, action: impl FnOnce(&mut Gate) -> T) -> T {
        // A gate is valid after every assignment, so a panic elsewhere has not spoiled it.
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes the two halves: the feature for the backdoor thread and the worker for tokio. `resumed` is called when the VM
/// came back from suspend; it must not wait.
pub fn pair<R: Rpci, M: Machine>(
    rpci: Arc<R>,
    machine: Arc<M>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    settings: Settings,
    log: HostLog,
    last_error: Variable<R>,
    resumed: impl FnMut() + Send + 'static,
) -> (Power, Worker<R, M>) {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let gate = SharedGate::default();
    (
        Power::new(gate.clone(), jobs, log.clone(), Box::new(resumed)),
        Worker::new(
            gate,
            queue,
            Host::new(rpci, log),
            machine,
            snapshots,
            settings,
            last_error,
        ),
    )
}

#[cfg(test)]
mod tests;
