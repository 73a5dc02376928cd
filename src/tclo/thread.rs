//! The one OS thread that owns the backdoor.
//!
//! ```text
//!  prepare() ──> Client (for the features)
//!          └──> Prepared::access() ──> PortAccess (for what is no message: the host's clock)
//!                       ::start(port, features) ──> Running: counters, stop; and events
//! ```

use std::{
    fmt, io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Counters, Event, Events, Feature, Next, Pace, Pump};
use crate::{
    backdoor::Hypercall,
    dispatch::Dispatch,
    rpci::{self, Calls, Client, Waker},
};

/// The thread's name, at most 15 bytes for the kernel.
const NAME: &str = "backdoor";

/// How long the farewell to the host may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// How long [`Running::stop`] waits: the farewell, and an RPCI call that was under way.
const STOP_DEADLINE: Duration = Duration::from_millis(500);

/// Jobs that wait for the port. Each is a few exchanges.
const JOBS: usize = 8;

/// How long a job may take, queueing included. In front of it is at most one step of the pump.
const JOB_DEADLINE: Duration = Duration::from_secs(5);

/// Something that is done with the port between two steps of the pump.
type Job = Box<dyn FnOnce(&mut dyn Hypercall) + Send>;

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AccessError {
    /// As many jobs wait as may, or the thread has ended.
    #[error("the backdoor thread takes no job: {JOBS} are waiting, or it has ended")]
    NotQueued,
    /// The thread was busy all the time.
    #[error("the backdoor thread did not get to the job within {JOB_DEADLINE:?}")]
    Deadline,
}

/// The way to the port for exchanges that belong to no channel. Cheap to clone.
#[derive(Clone)]
pub struct PortAccess {
    jobs: mpsc::Sender<Job>,
    waker: Waker,
}

impl PortAccess {
    /// Runs `job` on the backdoor thread, between two messages. It must return at once: no poll is made meanwhile.
    ///
    /// # Errors
    ///
    /// When the thread does not get to it.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Hypercall) -> T + Send + 'static,
    ) -> Result<T, AccessError> {
        let (done, outcome) = oneshot::channel();
        let job = move |port: &mut dyn Hypercall| {
            // Whoever gave up does not want it done late.
            if !done.is_closed() {
                let _ = done.send(job(port));
            }
        };
        self.jobs
            .try_send(Box::new(job))
            .map_err(|_| AccessError::NotQueued)?;
        self.waker.wake();
        match timeout(JOB_DEADLINE, outcome).await {
            Ok(outcome) => outcome.map_err(|_| AccessError::NotQueued),
            Err(_) => Err(AccessError::Deadline),
        }
    }
}

impl fmt::Debug for PortAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortAccess").finish_non_exhaustive()
    }
}

/// What the thread needs, before there are features to give it.
pub struct Prepared {
    waker: Waker,
    calls: Calls,
    access: PortAccess,
    jobs: mpsc::Receiver<Job>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

/// The RPCI client for the features, and the thread that will serve it.
pub fn prepare() -> io::Result<(Client, Prepared)> {
    let waker = Waker::new()?;
    let (client, calls) = rpci::client(waker.clone());
    let (sender, jobs) = mpsc::channel(JOBS);
    let access = PortAccess {
        jobs: sender,
        waker: waker.clone(),
    };
    let prepared = Prepared {
        waker,
        calls,
        access,
        jobs,
    };
    Ok((client, prepared))
}

impl Prepared {
    /// The way to the port.
    pub fn access(&self) -> PortAccess {
        self.access.clone()
    }

    /// Starts the thread, and gives with it what happens to the connection. `port` is called on it, for a port never leaves its thread; `poll_max` is the longest pause
    /// between two polls, brought into 10 ms to 1 s.
    pub fn start<H: Hypercall>(
        self,
        port: impl FnOnce() -> H + Send + 'static,
        poll_max: Duration,
        features: Vec<Box<dyn Feature>>,
    ) -> io::Result<(Running, mpsc::Receiver<Event>)> {
        let now = Instant::now();
        self.spawn(port, Pace::new(poll_max, now), features, now)
    }

    fn spawn<H: Hypercall>(
        self,
        port: impl FnOnce() -> H + Send + 'static,
        pace: Pace,
        features: Vec<Box<dyn Feature>>,
        now: Instant,
    ) -> io::Result<(Running, mpsc::Receiver<Event>)> {
        let Self {
            waker,
            calls,
            mut jobs,
            ..
        } = self;
        let (sender, events) = Events::new();
        let counters = Arc::new(Counters::new(now));
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = oneshot::channel();
        let running = Running {
            counters: counters.clone(),
            stop: stop.clone(),
            waker: waker.clone(),
            ended,
        };
        thread::Builder::new().name(NAME.into()).spawn(move || {
            let dispatch = Dispatch::new(features);
            let mut pump = Pump::new(port(), dispatch, calls, sender, counters, pace);
            while !stop.load(Ordering::Acquire) {
                let next = pump.step(Instant::now());
                if let Ok(job) = jobs.try_recv() {
                    job(pump.port());
                } else if let Next::Pause(pause) = next {
                    wait(&waker, pause);
                }
            }
            pump.stop(Instant::now() + FAREWELL);
            // Nobody need be waiting.
            let _ = end.send(());
        })?;
        Ok((running, events))
    }
}

/// The running thread. Dropping it leaves the thread running; the process's end ends it.
#[derive(Debug)]
pub struct Running {
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    waker: Waker,
    ended: oneshot::Receiver<()>,
}

impl Running {
    /// What the thread has done, and when it last did something.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Lets the thread take leave of the host. `false` when it did not end within 500 ms.
    pub async fn stop(self) -> bool {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        timeout(STOP_DEADLINE, self.ended).await.is_ok()
    }
}

/// Pauses until `pause` is over or somebody has work.
fn wait(waker: &Waker, pause: Duration) {
    // Whole milliseconds, rounded up: ending a little early would mean spinning until the time has come.
    let pause = pause.saturating_add(Duration::from_micros(999));
    let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(waker.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) | Err(Errno::EINTR) => {}
        Ok(_) => waker.clear(),
        // Cannot happen with a valid descriptor; but a loop that no longer pauses would be worse than a late answer.
        Err(_) => thread::sleep(pause),
    }
}
