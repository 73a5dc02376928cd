//! The tracer with the real ptrace, around guests that are this test program itself in another role, and around
//! programs of the system.
//!
//! Where this machine lacks what a test needs, the test counts as ignored and its name says why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod access;
mod cpuid;
mod guarded;
mod guest;
mod isolated;
mod measures;
#[path = "../needs/mod.rs"]
mod needs;
mod processes;
mod third_party;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};

use lab::vmx::device::{Access, Device, GuestMemory, Outcome, Registers};
use lab::vmx::guard::{Action, Answer};
use lab::vmx::measure::Snapshot;
use lab::vmx::tracer::{Event, Guest, Interception, Options, Tracer, TracerError};

/// What a scripted device was asked, and by whom.
#[derive(Debug, Default)]
struct Seen {
    calls: HashMap<i32, u32>,
    sent: Vec<Vec<u8>>,
}

/// Knows GETVERSION, takes what is sent and answers reads with the letters of the alphabet.
struct Scripted {
    seen: Arc<Mutex<Seen>>,
    faults: bool,
}

impl Device for Scripted {
    fn access(
        &mut self,
        pid: i32,
        access: Access,
        registers: &mut Registers,
        memory: &dyn GuestMemory,
    ) -> Outcome {
        if self.faults {
            return Outcome::Fault;
        }
        let mut seen = self.seen.lock().unwrap();
        *seen.calls.entry(pid).or_default() += 1;
        match access {
            Access::Low if registers.rcx & 0xffff == 10 => {
                (registers.rax, registers.rbx, registers.rcx) = (6, 0x564d_5868, 2);
                (registers.rsi, registers.rdi, registers.rbp) = (0x1111, 0x2222, registers.rbp);
            }
            Access::Low => registers.rax = 0xffff_ffff,
            Access::HighOut => {
                let mut bytes = vec![0; usize::try_from(registers.rcx).unwrap()];
                if memory.read(registers.rsi, &mut bytes).is_err() {
                    return Outcome::Fault;
                }
                seen.sent.push(bytes);
                registers.rbx = 0x0001_0000;
            }
            Access::HighIn => {
                let bytes: Vec<u8> = (b'a'..=b'z')
                    .cycle()
                    .take(usize::try_from(registers.rcx).unwrap())
                    .collect();
                if memory.write(registers.rdi, &bytes).is_err() {
                    return Outcome::Fault;
                }
                registers.rbx = 0x0001_0000;
            }
        }
        Outcome::Done
    }
}

/// A finished run.
struct Run {
    status: ExitStatus,
    output: String,
    events: Vec<Event>,
    seen: Seen,
    measures: Snapshot,
}

impl Run {
    fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// What the first lock stopped, with the answers.
    fn intercepted(&self) -> Vec<(Action, Answer)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Intercepted { action, answer, .. } => Some((action.clone(), *answer)),
                _ => None,
            })
            .collect()
    }
}

/// This test program as a guest in the role `role`.
fn role(role: &str) -> Guest {
    Guest::new(std::env::current_exe().unwrap()).env(guest::ROLE, role)
}

/// A started guest whose output and events are collected.
struct Started {
    tracer: Tracer,
    output: File,
    events: Arc<Mutex<Vec<Event>>>,
    seen: Arc<Mutex<Seen>>,
}

impl Started {
    fn finish(mut self) -> Run {
        let report = self.tracer.wait().expect("the run");
        let mut output = String::new();
        self.output.rewind().unwrap();
        self.output.read_to_string(&mut output).unwrap();
        Run {
            status: report.status,
            output,
            events: std::mem::take(&mut *self.events.lock().unwrap()),
            seen: std::mem::take(&mut *self.seen.lock().unwrap()),
            measures: report.measures,
        }
    }
}

fn try_start(guest: Guest, options: Options, faults: bool) -> Result<Started, TracerError> {
    let output = tempfile::tempfile().unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::<Mutex<Seen>>::default();
    let device = Scripted {
        seen: Arc::clone(&seen),
        faults,
    };
    let heard = Arc::clone(&events);
    let tracer = Tracer::start(
        guest.stdout(output.try_clone().unwrap()),
        options,
        Box::new(device),
        Some(Box::new(move |event| heard.lock().unwrap().push(event))),
    )?;
    Ok(Started {
        tracer,
        output,
        events,
        seen,
    })
}

fn start(guest: Guest, options: Options) -> Started {
    try_start(guest, options, false).unwrap_or_else(|error| panic!("{error}"))
}

fn run(guest: Guest, options: Options) -> Run {
    start(guest, options).finish()
}

/// Every interception that this processor can do.
fn interceptions() -> Vec<Interception> {
    let faulting = Options {
        interception: Interception::Faulting,
        ..Options::default()
    };
    match try_start(Guest::new("true"), faulting, false) {
        Err(TracerError::FaultingUnavailable) => vec![Interception::Patching],
        _ => vec![Interception::Patching, Interception::Faulting],
    }
}

fn main() -> std::process::ExitCode {
    let trials = [
        access::trials(),
        cpuid::trials(),
        guarded::trials(),
        isolated::trials(),
        measures::trials(),
        processes::trials(),
        third_party::trials(),
    ];
    needs::conclude(
        &libtest_mimic::Arguments::from_args(),
        trials.into_iter().flatten().collect(),
    )
}
