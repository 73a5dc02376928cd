//! CPUID, in each way that this processor can be intercepted.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use lab::vmx::cpuid::Platform;
use lab::vmx::tracer::{Event, Interception, Options, Tracer, TracerError};

use crate::{
    Run, guest, interceptions,
    needs::{Need, trial},
    role, run, try_start,
};
use libtest_mimic::Trial;

/// Runs a role with every interception there is.
fn each(name: &str, platform: Platform) -> Vec<Run> {
    interceptions()
        .into_iter()
        .map(|interception| {
            run(
                role(name),
                Options {
                    platform,
                    interception,
                    ..Options::default()
                },
            )
        })
        .collect()
}

fn the_guest_sees_its_platform() {
    for (platform, name, present, highest) in [
        (Platform::Vmware, "VMwareVMware", "1", "40000010 true 0"),
        (Platform::Kvm, "KVMKVMKVM\0\0\0", "1", "40000001 false 0"),
        (Platform::BareMetal, "\0\0\0\0\0\0\0\0\0\0\0\0", "0", "0 false 0"),
    ] {
        let plain = Command::new(std::env::current_exe().unwrap())
            .env(guest::ROLE, "cpuid")
            .output()
            .unwrap();
        let plain = String::from_utf8(plain.stdout).unwrap();
        for run in each("cpuid", platform) {
            let lines: Vec<&str> = run.output.lines().collect();
            assert_eq!(lines[..3], [name, present, highest]);
            // The processor's own leaves, among them its name.
            assert_eq!(lines[3..], plain.lines().skip(3).collect::<Vec<_>>());
            assert!(run.measures.total().stops.cpuid >= 8);
        }
    }
}

fn code_made_executable_later_is_intercepted() {
    for name in ["generated", "mapped-file", "prefixed"] {
        for run in each(name, Platform::Vmware) {
            assert_eq!(run.code(), Some(0), "{name}");
        }
    }
}

fn a_filter_of_the_guests_own_is_not_offended() {
    for run in each("filtered", Platform::Vmware) {
        assert_eq!(run.code(), Some(21));
    }
}

fn a_wrongly_patched_byte_is_put_back() {
    let options = Options {
        interception: Interception::Patching,
        ..Options::default()
    };
    let run = run(role("overlap"), options);
    assert_eq!(run.code(), Some(0));
    let repairs = run
        .events
        .iter()
        .filter(|event| matches!(event, Event::Repaired { .. }))
        .count();
    assert_eq!(repairs, 1);
}

fn the_guests_own_ud2_stays_one() {
    for run in each("ud2", Platform::Vmware) {
        assert_eq!(run.status.signal(), Some(libc::SIGILL));
    }
}

fn faulting_that_is_not_there_is_refused_by_name() {
    let options = Options {
        interception: Interception::Faulting,
        ..Options::default()
    };
    match try_start(role("cpuid"), options, false) {
        Err(error @ TracerError::FaultingUnavailable) => assert!(error.is_unavailable()),
        Err(error) => assert!(error.is_unavailable(), "{error}"),
        Ok(started) => assert_eq!(started.finish().code(), Some(0)),
    }
}

/// Programs of the system find a VMware host, whatever libraries they load.
fn the_dynamic_loader_itself_is_intercepted() {
    let run = run(
        lab::vmx::tracer::Guest::new("/bin/true"),
        Options {
            interception: Interception::Patching,
            ..Options::default()
        },
    );
    // glibc asks the processor for its features before main.
    assert!(run.measures.total().stops.cpuid > 5, "{:?}", run.measures.total());
}

fn a_missing_program_is_an_error() {
    struct Nothing;
    impl lab::vmx::device::Device for Nothing {
        fn access(
            &mut self,
            _: i32,
            _: lab::vmx::device::Access,
            _: &mut lab::vmx::device::Registers,
            _: &dyn lab::vmx::device::GuestMemory,
        ) -> lab::vmx::device::Outcome {
            lab::vmx::device::Outcome::Fault
        }
    }
    let start = |program: &str| {
        let guest = lab::vmx::tracer::Guest::new(program);
        Tracer::start(guest, Options::default(), Box::new(Nothing), None).unwrap_err()
    };
    assert!(matches!(
        start("no-such-program-anywhere"),
        TracerError::NotFound { .. }
    ));
    match start("/nonexistent/program") {
        TracerError::Exec { source, program } => {
            assert_eq!(source as i32, libc::ENOENT);
            assert_eq!(program, "/nonexistent/program");
        }
        error => assert!(error.is_unavailable(), "{error}"),
    }
    match start("/etc/passwd") {
        TracerError::Exec { source, .. } => assert_eq!(source as i32, libc::EACCES),
        error => assert!(error.is_unavailable(), "{error}"),
    }
}

/// The tests of this file.
pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "cpuid::the_guest_sees_its_platform",
            &[Need::Ptrace],
            the_guest_sees_its_platform,
        ),
        trial(
            "cpuid::code_made_executable_later_is_intercepted",
            &[Need::Ptrace],
            code_made_executable_later_is_intercepted,
        ),
        trial(
            "cpuid::a_filter_of_the_guests_own_is_not_offended",
            &[Need::Ptrace],
            a_filter_of_the_guests_own_is_not_offended,
        ),
        trial(
            "cpuid::a_wrongly_patched_byte_is_put_back",
            &[Need::Ptrace],
            a_wrongly_patched_byte_is_put_back,
        ),
        trial(
            "cpuid::the_guests_own_ud2_stays_one",
            &[Need::Ptrace],
            the_guests_own_ud2_stays_one,
        ),
        trial(
            "cpuid::faulting_that_is_not_there_is_refused_by_name",
            &[Need::Ptrace],
            faulting_that_is_not_there_is_refused_by_name,
        ),
        trial(
            "cpuid::the_dynamic_loader_itself_is_intercepted",
            &[Need::Ptrace],
            the_dynamic_loader_itself_is_intercepted,
        ),
        trial(
            "cpuid::a_missing_program_is_an_error",
            &[Need::Ptrace],
            a_missing_program_is_an_error,
        ),
    ]
}
