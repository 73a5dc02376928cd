//! Runs an unmodified Linux x86-64 program under ptrace and answers what only a VMware host answers.
//!
//! ```text
//!  start() --thread "tracer"--> fork, SEIZE, exec
//!                                  |
//!                waitpid <---------+--------------------------------------------+
//!                  |                                                            |
//!                  |- SIGSEGV at IN, REP OUTSB, REP INSB --> port --> Device ---+
//!                  |- SIGSEGV or SIGILL at CPUID ----------> cpuid -------------+
//!                  |- seccomp stop at a guarded call ------> guard -------------+
//!                  |- exec: CPUID faulting or patching again -------------------+
//!                  `- everything else goes on as without a tracer --------------+
//! ```
//!
//! All ptrace calls are made by that one thread, since the kernel binds them to it; the thread waits for its own children
//! only. When it ends, for whatever reason, the kernel kills every guest process (`PTRACE_O_EXITKILL`). Other threads
//! hold a [`Handle`]. Another thread of the same program that waits for *any* child would steal the tracer's events:
//! wait for children by number.
//!
//! Ordinary system calls run at full speed: a seccomp filter picks the guarded ones. Root installs it as it is; without
//! root (more exactly: without CAP_SYS_ADMIN) the kernel asks for `no_new_privs` first, and set-uid programs then run
//! without their privilege, as they do under any unprivileged tracer.
//!
//! ```no_run
//! use lab::vmx::tracer::{Guest, Options, Tracer};
//!
//! # fn run(device: Box<dyn lab::vmx::device::Device>) -> Result<(), lab::vmx::tracer::TracerError> {
//! let guest = Guest::new("vmware-rpctool").args(["info-get guestinfo.ip"]);
//! let options = Options { isolated: true, ..Options::default() };
//! let tracer = Tracer::start(guest, options, device, None)?;
//! let handle = tracer.handle(); // for other threads: snapshot, signal, stop
//! let report = tracer.wait()?;
//! println!("{}: {} calls", report.status, report.measures.total().calls.total());
//! # Ok(())
//! # }
//! ```
//!
//! Known differences to a run without tracer: a guest cannot be traced by another tracer, nor trace its own children;
//! a thread that blocks or ignores SIGSEGV finds it unblocked with its default action after a backdoor access, because
//! the kernel does that before the tracer hears of it (for CPUID: SIGSEGV with faulting, SIGILL with patching);
//! 32-bit programs do not run.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::c_int;

use super::cpuid::{Platform, faulting};
use super::device::Device;
use super::guard::{Action, Answer, OnExec, filter};
use super::isolation::Isolation;
use super::measure::{Ledger, Snapshot};

mod error;
mod follow;
mod guest;
mod port;
pub(super) mod process;
mod rewrite;
pub(super) mod stop;
#[cfg(test)]
mod tests;

pub use error::TracerError;
pub use guest::Guest;

/// How long the guest's first program may take from fork to exec.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How CPUID is intercepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interception {
    /// Faulting where the processor can, patching elsewhere.
    #[default]
    Auto,
    /// Only by the processor (`arch_prctl(ARCH_SET_CPUID)`): exact. An error where it cannot.
    Faulting,
    /// Only by replacing the instruction, with the limits that [`super::cpuid`] names.
    Patching,
}

impl Interception {
    fn resolve(self) -> Result<Method, TracerError> {
        match self {
            Self::Patching => Ok(Method::Patching),
            Self::Faulting | Self::Auto if faulting::is_available() => {
                Ok(Method::Faulting(faulting::Call::FAULT))
            }
            Self::Auto => Ok(Method::Patching),
            Self::Faulting => Err(TracerError::FaultingUnavailable),
        }
    }
}

/// The interception that is in force.
#[derive(Clone, Copy, Debug)]
enum Method {
    Faulting(faulting::Call),
    Patching,
}

/// When a run is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// When the first process has ended; what it left behind is killed.
    #[default]
    FirstEnds,
    /// When every process has ended, for programs that go into the background.
    AllEnd,
}

/// How a guest is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What the guest believes to run on.
    pub platform: Platform,
    /// How CPUID is intercepted.
    pub interception: Interception,
    /// What the guest gets that executes a guarded program.
    pub on_exec: OnExec,
    /// Whether the second lock is on, as it must be for programs that are not ours.
    pub isolated: bool,
    /// Whether the program is process 1 of a PID namespace of its own, as in a container. Takes root.
    pub pid_namespace: bool,
    /// When the run is over.
    pub until: Until,
}

/// What happens to a guest. Process numbers are those of the tracer's PID namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process was made.
    Process {
        /// Its number.
        pid: i32,
        /// The process that made it; 0 for the first.
        parent: i32,
    },
    /// A process executed a program.
    Exec {
        /// The process.
        pid: i32,
        /// The program's path, as the kernel resolved it.
        program: PathBuf,
    },
    /// A process ended.
    Exited {
        /// The process.
        pid: i32,
        /// Its exit status, or the signal that ended it.
        status: ExitStatus,
    },
    /// A signal is being delivered to a thread.
    Signal {
        /// The thread's process.
        pid: i32,
        /// The signal.
        signal: i32,
    },
    /// The first lock stopped something.
    Intercepted {
        /// The process that tried it.
        pid: i32,
        /// What it tried.
        action: Action,
        /// What it got.
        answer: Answer,
    },
    /// A byte that had been patched wrongly was put back.
    Repaired {
        /// The process.
        pid: i32,
        /// Address of the instruction that tripped over it.
        address: u64,
    },
}

/// Receives events on the tracer's thread, which must not be held up.
pub type Listener = Box<dyn FnMut(Event) + Send>;

/// What is left of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Exit status of the first process, or the signal that ended it.
    pub status: ExitStatus,
    /// The last measures of every process.
    pub measures: Snapshot,
}

/// What the tracer's thread and the handles share.
#[derive(Debug)]
struct Shared {
    ledger: Mutex<Ledger>,
    stopping: AtomicBool,
    started: Instant,
    first: Mutex<c_int>,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first(&self) -> MutexGuard<'_, c_int> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill_all(&self) {
        for pidfd in self.ledger().running().filter_map(|record| record.pidfd.as_ref()) {
            // ESRCH: it ended by itself.
            let _ = pidfd.signal(nix::libc::SIGKILL);
        }
    }
}

/// Reaches a running guest from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// The measures of this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.ledger().snapshot(self.shared.started.elapsed())
    }

    /// Number of the first process, in the tracer's PID namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        *self.shared.first()
    }

    /// Sends `signal` to the first process. False when it has ended.
    #[must_use]
    pub fn signal(&self, signal: c_int) -> bool {
        let pid = self.pid();
        let mut ledger = self.shared.ledger();
        ledger
            .get(pid)
            .and_then(|record| record.pidfd.as_ref())
            .is_some_and(|pidfd| pidfd.signal(signal).is_ok())
    }

    /// Kills every process of the guest; [`Tracer::wait`] then returns.
    pub fn stop(&self) {
        // In this order: a process that the tracer records after this sees the flag, one recorded before is killed here.
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.kill_all();
    }
}

/// A running guest. Dropping it ends the guest.
#[derive(Debug)]
pub struct Tracer {
    handle: Handle,
    thread: Option<JoinHandle<Result<Report, TracerError>>>,
}

impl Tracer {
    /// Starts `guest`, answered by `device`; returns when its program has been executed.
    ///
    /// # Errors
    /// When it could not be; [`TracerError::is_unavailable`] tells whether this environment is the reason.
    pub fn start(
        guest: Guest,
        options: Options,
        device: Box<dyn Device>,
        listener: Option<Listener>,
    ) -> Result<Self, TracerError> {
        let method = options.interception.resolve()?;
        Self::start_with(guest, options, method, device, listener)
    }

    fn start_with(
        guest: Guest,
        options: Options,
        method: Method,
        device: Box<dyn Device>,
        listener: Option<Listener>,
    ) -> Result<Self, TracerError> {
        let filter = filter::program(matches!(method, Method::Patching));
        let isolation = match (options.isolated, options.pid_namespace) {
            (true, _) => Some(Isolation::plan()),
            (false, true) => Some(Isolation::namespaces()),
            (false, false) => None,
        };
        let isolated = options.isolated && isolation.as_ref().is_some_and(Isolation::has_namespaces);
        let launch = guest.launch(filter, isolation)?;
        let shared = Arc::new(Shared {
            ledger: Mutex::default(),
            stopping: AtomicBool::new(false),
            started: Instant::now(),
            first: Mutex::new(0),
        });
        let handle = Handle {
            shared: Arc::clone(&shared),
        };
        let (ready, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("tracer".to_owned())
            .spawn(move || {
                let follower =
                    follow::Follower::new(options, method, isolated, device, listener, shared, ready);
                follower.run(launch)
            })
            .map_err(|error| TracerError::Fork {
                source: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            })?;
        let mut tracer = Self {
            handle,
            thread: Some(thread),
        };
        match started.recv_timeout(START_DEADLINE) {
            Ok(()) => Ok(tracer),
            // The thread ended first, and knows why.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(tracer.join().err().unwrap_or(TracerError::Killed))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Err(TracerError::Late),
        }
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until the run is over, for as long as that takes; [`Handle::stop`] ends it.
    ///
    /// # Errors
    /// When following the guest failed; it was killed then.
    pub fn wait(mut self) -> Result<Report, TracerError> {
        self.join()
    }

    fn join(&mut self) -> Result<Report, TracerError> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(TracerError::Panicked),
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.stop();
            // A panic has been printed; there is nobody to return it to.
            let _ = thread.join();
        }
    }
}
