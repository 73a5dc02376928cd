//! Signals as values: blocked, and read from a descriptor, so that none is lost before somebody listens.

#![forbid(unsafe_code)]

use std::{
    cell::Cell,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

/// A set of blocked signals and the descriptor that gives them.
pub(super) struct Signals {
    set: SigSet,
    fd: SignalFd,
    stop_asked: Cell<bool>,
}

impl Signals {
    /// Blocks `signals` in this thread and in those that it will start.
    pub(super) fn block(signals: &[Signal]) -> Result<Self, Errno> {
        let mut set = SigSet::empty();
        for signal in signals {
            set.add(*signal);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self {
            set,
            fd,
            stop_asked: Cell::new(false),
        })
    }

    /// The next signal, or `None` after `timeout` (none: no limit).
    pub(super) fn next(&self, timeout: Option<Duration>) -> Result<Option<Signal>, Errno> {
        if let Some(signal) = self.pending()? {
            return Ok(Some(signal));
        }
        // A wait of zero would spin until the deadline is reached.
        let timeout = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
        let timeout = match timeout {
            None => PollTimeout::NONE,
            Some(timeout) => PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) => self.pending(),
            Err(Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether one of the signals that ask to stop was ever given.
    pub(super) fn stop_was_asked(&self) -> bool {
        self.stop_asked.get()
    }

    fn pending(&self) -> Result<Option<Signal>, Errno> {
        let Some(info) = self.fd.read_signal()? else {
            return Ok(None);
        };
        let number = i32::try_from(info.ssi_signo).map_err(|_| Errno::EINVAL)?;
        let signal = Signal::try_from(number)?;
        if signal != Signal::SIGCHLD {
            self.stop_asked.set(true);
        }
        Ok(Some(signal))
    }
}

/// The daemon's stop requests: SIGTERM and SIGINT.
///
/// Created before anything else, so that a request that comes during the start is not lost; as PID 1 without
/// a supervisor the default action would be to ignore it.
pub struct StopSignals(Signals);

impl StopSignals {
    /// Blocks the stop signals for the whole process; call it before the first thread is started.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn block() -> Result<Self, Errno> {
        Signals::block(&[Signal::SIGTERM, Signal::SIGINT]).map(Self)
    }

    /// Waits for a request to stop, at most `timeout` (none: without limit).
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Option<Signal>, Errno> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match self.0.next(left)? {
                None if left.is_none_or(|left| !left.is_zero()) => {}
                outcome => return Ok(outcome),
            }
        }
    }

    /// Lets the signals through to handlers again, on this thread.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn unblock(&self) -> Result<(), Errno> {
        self.0.set.thread_unblock()
    }
}
