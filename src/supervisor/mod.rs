//! The supervisor: PID 1 of the service's container, root, and as little as can be.
//!
//! ```text
//!  machined ──SIGTERM──> supervisor (PID 1, root) ──SIGTERM──> daemon (uid 50, no capability)
//!                              ^                                  |
//!                              └──────────── SIGCHLD ─────────────┘
//! ```
//!
//! When PID 1 of a PID namespace dies, the kernel kills everything in it. So PID 1 is not the daemon, which hears what
//! the hypervisor says, but this: it reaps, passes the stop request on, and owns what must not die with the daemon. One
//! thread, no allocation and no file access once the daemon is started. A daemon that ends, ends the supervisor with
//! a failure status; Talos then starts the service again after 5 s.

// UNSAFETY: fork, see `child`.
mod child;
mod notice;
mod signals;

pub use self::{
    child::{DAEMON_ROLE, DAEMON_UID},
    signals::StopSignals,
};

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use thiserror::Error;

use self::signals::Signals;

/// How long the daemon may take to end. Talos kills the whole container 10 s after its SIGTERM (runner/containerd).
const GRACE: Duration = Duration::from_secs(5);

/// The runtime sends SIGTERM to every process of the container, in no order: how long ours may come after the daemon
/// has ended by its own.
const STRAGGLER: Duration = Duration::from_millis(300);

/// Most children reaped at one wake-up; the rest wait for the next one.
const REAP_LIMIT: usize = 1024;

/// Why the daemon could not be started.
#[derive(Debug, Error)]
pub enum SupervisorError {
    /// Signals could not be blocked or received.
    #[error("cannot receive signals: {0}")]
    Signals(Errno),
    /// The process could not be doubled.
    #[error("cannot start the daemon: fork: {0}")]
    Fork(Errno),
}

/// Starts the daemon and stays until it has ended.
///
/// # Errors
///
/// Only before the daemon runs.
pub fn supervise() -> Result<ExitCode, SupervisorError> {
    let signals = Signals::block(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD])
        .map_err(SupervisorError::Signals)?;
    // The first use of stdout allocates its buffer; later ones do not.
    let _ = std::io::stdout();
    let daemon = child::start().map_err(SupervisorError::Fork)?;
    Ok(Watch {
        daemon,
        signals,
        stop: None,
        ended: None,
    }
    .run())
}

/// What the supervisor knows. Everything in it lives on the stack.
struct Watch {
    daemon: Pid,
    signals: Signals,
    /// When the daemon is killed, once it was told to stop.
    stop: Option<Instant>,
    /// How the daemon ended, and until when a straggling stop request excuses it.
    ended: Option<(WaitStatus, Instant)>,
}

impl Watch {
    fn run(mut self) -> ExitCode {
        loop {
            if let Some(code) = self.verdict(Instant::now()) {
                return code;
            }
            let deadline = match self.ended {
                Some((_, excuse)) => Some(excuse),
                None => self.stop,
            };
            match self
                .signals
                .next(deadline.map(|at| at.saturating_duration_since(Instant::now())))
            {
                Ok(Some(Signal::SIGCHLD)) => self.reap(),
                Ok(Some(_)) => self.pass_stop_on(),
                Ok(None) if self.ended.is_none() && self.stop.is_some_and(|at| Instant::now() >= at) => {
                    // It may have ended in this moment; the reaping tells.
                    let _ = kill(self.daemon, Signal::SIGKILL);
                    notice::daemon_killed(GRACE);
                    self.stop = Some(Instant::now() + GRACE);
                }
                Ok(None) => {}
                Err(errno) => {
                    notice::signals_lost(errno);
                    let _ = kill(self.daemon, Signal::SIGKILL);
                    return ExitCode::FAILURE;
                }
            }
        }
    }

    /// The exit status, once there is nothing more to wait for.
    fn verdict(&self, now: Instant) -> Option<ExitCode> {
        let (status, excuse) = self.ended?;
        let told = self.signals.stop_was_asked();
        match status {
            WaitStatus::Exited(_, 0) | WaitStatus::Signaled(_, Signal::SIGTERM, _) if told => {
                Some(ExitCode::SUCCESS)
            }
            WaitStatus::Exited(_, 0) | WaitStatus::Signaled(_, Signal::SIGTERM, _) if now < excuse => None,
            _ => {
                notice::daemon_ended(status);
                Some(ExitCode::FAILURE)
            }
        }
    }

    fn pass_stop_on(&mut self) {
        if self.ended.is_none() {
            let _ = kill(self.daemon, Signal::SIGTERM);
            self.stop.get_or_insert(Instant::now() + GRACE);
        }
    }

    /// Takes every child that has ended: as PID 1 the supervisor inherits orphans too.
    fn reap(&mut self) {
        for _ in 0..REAP_LIMIT {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)))
                    if pid == self.daemon =>
                {
                    self.ended = Some((status, Instant::now() + STRAGGLER));
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }
}
