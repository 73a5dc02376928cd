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
//! Known differences to a run without tracer: a guest cannot be traced by another tracer, nor trace its own children;
//! a thread that blocks or ignores SIGSEGV finds it unblocked with its default action after a backdoor access, because
//! the kernel does that before the tracer hears of it (for CPUID: SIGSEGV with faulting, SIGILL with patching);
//! 32-bit programs do not run.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::c_int;

use super::cpuid::{Cpuid, Platform, faulting};
use super::device::Device;
use super::guard::{Action, Answer, OnExec, filter};
use super::isolation::Isolation;
use super::measure::{Ledger, Snapshot};

mod follow;
mod port;
pub(super) mod process;
pub(super) mod stop;
#[cfg(test)]
mod tests;

/// How long the guest's first program may take from fork to exec.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Why a guest could not be run.
#[derive(Debug, thiserror::Error)]
pub enum TracerError {
    /// The program is in no directory of PATH, or its name or an argument contains a zero byte.
    #[error("{program}: no such program")]
    NotFound {
        /// As it was asked for.
        program: String,
    },
    /// No process, thread or descriptor could be made.
    #[error("cannot start a guest process: {source}")]
    Fork {
        /// What the kernel said.
        source: Errno,
    },
    /// ptrace is not allowed here, as in some containers.
    #[error("ptrace is not permitted here: {source}")]
    Denied {
        /// What the kernel said.
        source: Errno,
    },
    /// CPUID faulting was asked for, and this processor, or its hypervisor, does not have it.
    #[error("this processor cannot fault CPUID; use patching")]
    FaultingUnavailable,
    /// CPUID faulting could not be switched on in the guest.
    #[error("cannot make CPUID fault in guest process {pid}: {source}")]
    Faulting {
        /// The process.
        pid: i32,
        /// What the kernel said.
        source: Errno,
    },
    /// The child failed before it could execute the program.
    #[error("cannot prepare the guest process ({step}): {source}")]
    Prepare {
        /// What it was doing: mounts, streams, directory, filter or capabilities.
        step: &'static str,
        /// What the kernel said.
        source: Errno,
    },
    /// The program could not be executed.
    #[error("cannot execute {program}: {source}")]
    Exec {
        /// The program.
        program: String,
        /// What the kernel said.
        source: Errno,
    },
    /// The child was killed before it could execute the program.
    #[error("the guest was killed before it could execute its program")]
    Killed,
    /// The program was not executed in time.
    #[error("the guest did not execute its program within {} s", START_DEADLINE.as_secs())]
    Late,
    /// Killed processes did not end in time; the kernel ends them when it can.
    #[error("{count} guest processes did not end after SIGKILL")]
    Survivors {
        /// How many.
        count: usize,
    },
    /// Waiting for the guest failed.
    #[error("cannot wait for the guest: {source}")]
    Wait {
        /// What the kernel said.
        source: Errno,
    },
    /// The tracer's thread, or the device that it called, panicked. The guest was killed.
    #[error("the tracer panicked")]
    Panicked,
}

impl TracerError {
    /// Whether this environment lacks what tracing takes, so that a test cannot run rather than fails.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        let refused = |errno: &Errno| matches!(errno, Errno::EPERM | Errno::EACCES | Errno::ENOSYS);
        match self {
            Self::Denied { .. } | Self::FaultingUnavailable => true,
            Self::Prepare { source, .. } | Self::Fork { source } => refused(source),
            _ => false,
        }
    }
}

/// The program to be run, and what surrounds it.
#[derive(Debug)]
pub struct Guest {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    streams: [Option<OwnedFd>; 3],
}

impl Guest {
    /// `program`, looked up in PATH when it has no slash, with this process's environment, directory and streams.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: std::env::vars_os().collect(),
            directory: None,
            streams: [None, None, None],
        }
    }

    /// Adds arguments after the program's name.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let key = key.into();
        self.environment.retain(|(present, _)| *present != key);
        self.environment.push((key, value.into()));
        self
    }

    /// Removes every environment variable.
    #[must_use]
    pub fn clear_env(mut self) -> Self {
        self.environment.clear();
        self
    }

    /// Runs the program in `directory`.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Standard input.
    #[must_use]
    pub fn stdin(mut self, stream: impl Into<OwnedFd>) -> Self {
        let [stdin, ..] = &mut self.streams;
        *stdin = Some(stream.into());
        self
    }

    /// Standard output.
    #[must_use]
    pub fn stdout(mut self, stream: impl Into<OwnedFd>) -> Self {
        let [_, stdout, _] = &mut self.streams;
        *stdout = Some(stream.into());
        self
    }

    /// Standard error.
    #[must_use]
    pub fn stderr(mut self, stream: impl Into<OwnedFd>) -> Self {
        let [.., stderr] = &mut self.streams;
        *stderr = Some(stream.into());
        self
    }

    /// Where the program is: as given, or in the first directory of PATH that has it.
    fn find(&self) -> Option<PathBuf> {
        let program = PathBuf::from(&self.program);
        if self.program.as_bytes().contains(&b'/') {
            return Some(program);
        }
        let path = self
            .environment
            .iter()
            .find(|(key, _)| key == "PATH")
            .map(|(_, value)| value.clone());
        std::env::split_paths(
            path.as_deref()
                .unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin")),
        )
        .map(|directory| directory.join(&program))
        .find(|file| {
            file.metadata()
                .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
        })
    }

    fn launch(
        self,
        filter: Vec<nix::libc::sock_filter>,
        isolation: Option<Isolation>,
    ) -> Result<process::Launch, TracerError> {
        let not_found = || TracerError::NotFound {
            program: self.program.to_string_lossy().into_owned(),
        };
        let string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| not_found());
        let program = string(self.find().ok_or_else(not_found)?.into_os_string().into_vec())?;
        let arguments = std::iter::once(&self.program)
            .chain(&self.arguments)
            .map(|argument| string(argument.as_bytes().to_vec()))
            .collect::<Result<_, _>>()?;
        let environment = self
            .environment
            .iter()
            .map(|(key, value)| string([key.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<Result<_, _>>()?;
        let directory = match &self.directory {
            Some(directory) => Some(string(directory.as_os_str().as_bytes().to_vec())?),
            None => None,
        };
        Ok(process::Launch {
            program,
            arguments,
            environment,
            directory,
            streams: self.streams,
            filter,
            isolation,
        })
    }
}

/// How CPUID is intercepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interception {
    /// Faulting where the processor can, patching elsewhere.
    #[default]
    Auto,
    /// Only by the processor ([`faulting`]): exact. An error where it cannot.
    Faulting,
    /// Only by replacing the instruction ([`super::cpuid`]).
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
        let isolation = options.isolated.then(Isolation::plan);
        let isolated = isolation.as_ref().is_some_and(Isolation::has_namespaces);
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

/// Made by the tracer's thread only.
fn cpuid(options: &Options) -> Cpuid {
    Cpuid::new(options.platform)
}
