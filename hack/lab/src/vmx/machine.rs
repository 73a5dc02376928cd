//! The virtual machine as a scenario sees it: the guest's processes, whoever runs them.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    host::{Exit, SharedHost},
    measurement::Measurement,
    transcript::{Event, Kind},
};

/// What can be done to the running guest.
pub trait Machine: Send + Sync {
    /// Sends a signal to the guest's first process.
    fn signal(&self, signal: i32) -> io::Result<()>;
    /// Counters of all its processes until now.
    fn measure(&self) -> Measurement;
    /// Ends all its processes at once.
    fn stop(&self);
}

/// What runs in the machine, and how.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// User and group, if not the caller's.
    pub user: Option<(u32, u32)>,
    /// Without the capabilities and the power commands that could reach the machine below.
    pub third_party: bool,
    /// As the first process of a PID namespace of its own.
    pub pid_namespace: bool,
    /// The processor says KVM and port accesses fault.
    pub not_vmware: bool,
}

/// Why the guest does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This machine does not allow what the simulation needs.
    #[error("cannot run the guest: {0}")]
    Unavailable(String),
    /// The program cannot be started.
    #[error("cannot run {program}: {error}")]
    Program {
        /// The program.
        program: String,
        /// The operating system's reason.
        error: io::Error,
    },
}

/// Starts the guest. Its end arrives at the host as an event.
pub fn start(host: &SharedHost, guest: &Guest) -> Result<Arc<dyn Machine>, StartError> {
    if !guest.not_vmware || guest.third_party || guest.pid_namespace {
        return Err(StartError::Unavailable(
            "presenting VMware and isolating need the tracer".to_owned(),
        ));
    }
    let (program, arguments) = guest
        .command
        .split_first()
        .ok_or_else(|| StartError::Unavailable("no program given".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some((user, group)) = guest.user {
        command.uid(user).gid(group);
    }
    let error = |error| StartError::Program {
        program: program.to_string_lossy().into_owned(),
        error,
    };
    let child = command.spawn().map_err(error)?;
    let pid = i32::try_from(child.id()).map_err(|_| error(io::Error::other("process id out of range")))?;
    let text = guest
        .command
        .iter()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    host.with(|host, now| {
        host.record(
            now,
            Event {
                pid: Some(pid),
                text: Some(text),
                ..Event::new(Kind::Exec)
            },
        )
    });
    let waiting = host.clone();
    thread::Builder::new()
        .name("guest".to_owned())
        .spawn(move || wait(&waiting, child, pid))
        .map_err(error)?;
    Ok(Arc::new(Process {
        host: host.clone(),
        pid: Pid::from_raw(pid),
    }))
}

fn wait(host: &SharedHost, mut child: Child, pid: i32) {
    let exit = match child.wait() {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Status(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        },
        // Nobody else waits for this child, so this does not happen; the run must end all the same.
        Err(_) => Exit::Status(i32::MAX),
    };
    host.with(|host, now| host.exited(now, pid, exit));
}

/// A guest off VMware: one ordinary process.
struct Process {
    host: SharedHost,
    pid: Pid,
}

impl Machine for Process {
    fn signal(&self, signal: i32) -> io::Result<()> {
        // After its end the number may belong to somebody else.
        if self.host.with(|host, _| host.exit.is_some()) {
            return Err(io::Error::other("the guest has ended"));
        }
        Ok(kill(self.pid, Signal::try_from(signal)?)?)
    }

    fn measure(&self) -> Measurement {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap_or_default();
        let status = read("status");
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok())
                .unwrap_or_default()
        };
        // The first field is the time on the processor, in nanoseconds.
        let nanoseconds = read("schedstat")
            .split_whitespace()
            .next()
            .and_then(|field| field.parse().ok());
        Measurement {
            cpu: Duration::from_nanos(nanoseconds.unwrap_or_default()),
            resident: field("VmRSS:") * 1024,
            resident_peak: field("VmHWM:") * 1024,
            wakeups: field("voluntary_ctxt_switches:"),
            stops: 0,
        }
    }

    fn stop(&self) {
        // It fails only when there is nothing left to stop.
        drop(self.signal(Signal::SIGKILL as i32));
    }
}
