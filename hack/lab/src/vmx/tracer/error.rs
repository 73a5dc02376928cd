//! Why a guest cannot be run.

use nix::errno::Errno;

use super::START_DEADLINE;

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
