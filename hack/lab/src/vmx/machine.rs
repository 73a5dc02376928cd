//! The virtual machine as a scenario sees it: the guest's processes under the tracer.

use std::{
    ffi::OsString, fs::File, io, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus,
    sync::Arc, thread,
};

use super::{
    cpuid::Platform,
    guard::{Action, Answer},
    host::{Exit, SharedHost},
    measure::Process,
    measurement::Measurement,
    tracer::{self, Handle, Tracer, TracerError},
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
    /// Variables beside the caller's own.
    pub environment: Vec<(OsString, OsString)>,
    /// Where its output goes, if not to the caller's.
    pub output: Option<PathBuf>,
    /// Without the capabilities and the power commands that could reach the machine below.
    pub third_party: bool,
    /// As process 1 of a PID namespace of its own.
    pub pid_namespace: bool,
    /// The processor says KVM and port accesses fault.
    pub not_vmware: bool,
}

/// Why the guest does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This machine does not allow what the simulation needs.
    #[error("{0}")]
    Unavailable(String),
    /// The guest cannot be started.
    #[error("{0}")]
    Program(String),
}

/// Starts the guest. Its end arrives at the host as an event.
pub fn start(host: &SharedHost, guest: &Guest) -> Result<Arc<dyn Machine>, StartError> {
    let (program, arguments) = guest
        .command
        .split_first()
        .ok_or_else(|| StartError::Program("no program given".to_owned()))?;
    let options = tracer::Options {
        platform: if guest.not_vmware {
            Platform::Kvm
        } else {
            Platform::Vmware
        },
        isolated: guest.third_party,
        pid_namespace: guest.pid_namespace,
        ..tracer::Options::default()
    };
    let listener = {
        let host = host.clone();
        Box::new(move |event| listen(&host, event))
    };
    let mut traced = tracer::Guest::new(program).args(arguments);
    for (name, value) in &guest.environment {
        traced = traced.env(name, value);
    }
    if let Some(path) = &guest.output {
        let failed = |error: io::Error| StartError::Program(format!("{}: {error}", path.display()));
        let file = File::create(path).map_err(failed)?;
        traced = traced.stderr(file.try_clone().map_err(failed)?).stdout(file);
    }
    let tracer =
        Tracer::start(traced, options, Box::new(host.device()), Some(listener)).map_err(|error| {
            let text = error.to_string();
            if error.is_unavailable() {
                StartError::Unavailable(text)
            } else {
                StartError::Program(text)
            }
        })?;
    let handle = tracer.handle();
    let waiting = host.clone();
    let wait = move || {
        let pid = tracer.handle().pid();
        let exit = match tracer.wait() {
            Ok(report) => exit(report.status),
            Err(error) => lost(&waiting, &error),
        };
        waiting.with(|host, now| host.exited(now, pid, exit));
    };
    thread::Builder::new()
        .name("guest".to_owned())
        .spawn(wait)
        .map_err(|error| StartError::Program(error.to_string()))?;
    Ok(Arc::new(Traced { handle }))
}

/// The tracer gave up, so how the guest would have ended is unknown: it was killed.
fn lost(host: &SharedHost, error: &TracerError) -> Exit {
    let event = Event {
        ok: Some(false),
        text: Some(error.to_string()),
        ..Event::new(Kind::ProcExit)
    };
    host.with(|host, now| host.record(now, event));
    Exit::Signal(nix::libc::SIGKILL)
}

fn exit(status: ExitStatus) -> Exit {
    match status.code() {
        Some(code) => Exit::Status(code),
        None => Exit::Signal(status.signal().unwrap_or_default()),
    }
}

/// Events of the tracer, as the transcript tells them.
fn listen(host: &SharedHost, event: tracer::Event) {
    let event = match event {
        tracer::Event::Exec { pid, program } => Event {
            pid: Some(pid),
            text: Some(program.display().to_string()),
            ..Event::new(Kind::Exec)
        },
        tracer::Event::Exited { pid, status } => {
            let status = match exit(status) {
                Exit::Status(status) => status,
                Exit::Signal(signal) => -signal,
            };
            Event {
                pid: Some(pid),
                status: Some(status),
                ..Event::new(Kind::ProcExit)
            }
        }
        tracer::Event::Intercepted { pid, action, answer } => Event {
            pid: Some(pid),
            text: Some(interception(&action, answer)),
            ..Event::new(Kind::Guard)
        },
        tracer::Event::Process { .. } | tracer::Event::Signal { .. } | tracer::Event::Repaired { .. } => {
            return;
        }
    };
    host.with(|host, now| host.record(now, event));
}

fn interception(action: &Action, answer: Answer) -> String {
    let action = match action {
        Action::Execute { program, arguments } => {
            let arguments = arguments.get(1..).unwrap_or_default();
            std::iter::once(program)
                .chain(arguments)
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        }
        other => format!("{other:?}"),
    };
    match answer {
        Answer::Replaced => format!("{action} -> replaced"),
        Answer::Result(result) => format!("{action} -> {result}"),
    }
}

/// A guest under the tracer.
struct Traced {
    handle: Handle,
}

impl Machine for Traced {
    fn signal(&self, signal: i32) -> io::Result<()> {
        if self.handle.signal(signal) {
            Ok(())
        } else {
            Err(io::Error::other("the guest has ended"))
        }
    }

    fn measure(&self) -> Measurement {
        let snapshot = self.handle.snapshot();
        let total = snapshot.total();
        // Helpers that came and went say nothing about the memory that the guest needs.
        let lasting = |process: &&Process| process.running || (!total.running && process.parent == 0);
        Measurement {
            cpu: total.cpu.unwrap_or_default(),
            resident: total.resident.unwrap_or_default(),
            resident_peak: snapshot
                .processes
                .iter()
                .filter(lasting)
                .filter_map(|process| process.peak)
                .sum(),
            wakeups: total.wakeups,
            stops: total.stops.total(),
        }
    }

    fn stop(&self) {
        self.handle.stop();
    }
}
