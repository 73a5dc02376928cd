//! What a test needs of this machine.

#![allow(dead_code, reason = "shared by test programs that use different parts of it")]

use std::{path::Path, process::ExitCode, sync::OnceLock};

use lab::vmx::{
    device::{self, Access, Device, GuestMemory, Registers},
    tracer::{Guest, Options, Tracer},
};
use libtest_mimic::{Arguments, Failed, Trial};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To trace a process of one's own.
    Ptrace,
    /// Root, for namespaces and changes of user.
    Root,
    /// Anything but root.
    Unprivileged,
    /// Debian's package.
    OpenVmTools,
    /// The Go toolchain, for govmomi's toolbox.
    Go,
}

impl Need {
    /// Why it cannot be had here.
    fn lacking(self) -> Option<&'static str> {
        static PTRACE: OnceLock<bool> = OnceLock::new();
        let root = nix::unistd::geteuid().is_root();
        match self {
            Self::Ptrace if !*PTRACE.get_or_init(can_trace) => Some("ptrace is not permitted"),
            Self::Root if !root => Some("needs root"),
            // Root becomes another user for it.
            Self::Unprivileged if root && !exists("setpriv") => Some("setpriv is not installed"),
            Self::OpenVmTools if !exists("vmtoolsd") => Some("open-vm-tools is not installed"),
            Self::Go if !exists("go") => Some("Go is not installed"),
            _ => None,
        }
    }
}

/// A test that counts as ignored where something is lacking.
pub fn trial<O: Outcome>(name: &str, needs: &[Need], runner: impl FnOnce() -> O + Send + 'static) -> Trial {
    let runner = move || runner().into_result();
    match needs.iter().find_map(|need| need.lacking()) {
        None => Trial::test(name, runner),
        Some(reason) => Trial::test(format!("{name} (skipped: {reason})"), runner).with_ignored_flag(true),
    }
}

/// What a test may give: nothing, or what went wrong. A panic fails it as well.
pub trait Outcome {
    fn into_result(self) -> Result<(), Failed>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Failed> {
        Ok(())
    }
}

impl Outcome for Result<(), Failed> {
    fn into_result(self) -> Result<(), Failed> {
        self
    }
}

/// Runs the tests. With `LAB_REQUIRE_ALL` set, one that was skipped is a failure.
pub fn conclude(arguments: &Arguments, trials: Vec<Trial>) -> ExitCode {
    let skipped = trials.iter().filter(|trial| trial.has_ignored_flag()).count();
    let conclusion = libtest_mimic::run(arguments, trials);
    if skipped > 0 && std::env::var_os("LAB_REQUIRE_ALL").is_some() {
        eprintln!("{skipped} tests were skipped, and LAB_REQUIRE_ALL is set");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn can_trace() -> bool {
    struct Absent;
    impl Device for Absent {
        fn access(&mut self, _: i32, _: Access, _: &mut Registers, _: &dyn GuestMemory) -> device::Outcome {
            device::Outcome::Fault
        }
    }
    let started = Tracer::start(
        Guest::new("/bin/true"),
        Options::default(),
        Box::new(Absent),
        None,
    );
    match started.and_then(Tracer::wait) {
        Ok(_) => true,
        // Anything else is for the tests to fail on.
        Err(error) => !error.is_unavailable(),
    }
}

fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| Path::new(&directory).join(program).is_file())
}
