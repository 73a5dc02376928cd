//! The backdoor's instructions.

use std::os::unix::process::ExitStatusExt;

use lab::vmx::cpuid::Platform;
use lab::vmx::tracer::{Event, Guest, Options};

use crate::{interceptions, role, run, try_start};

#[test]
fn a_low_access_returns_what_the_device_says() {
    let Some(run) = run(role("version"), Options::default()) else {
        return;
    };
    assert_eq!(run.output, "6 564d5868 2\n");
    assert_eq!(run.code(), Some(0));
    assert_eq!(run.measures.total().calls.low, 1);
}

#[test]
fn high_bandwidth_moves_memory_and_registers() {
    let Some(run) = run(role("bandwidth"), Options::default()) else {
        return;
    };
    assert_eq!(run.code(), Some(0));
    assert_eq!(run.seen.sent[0], b"hello, host");
    assert_eq!(run.seen.sent[1].len(), 100_000);
    assert_eq!(run.seen.sent[1][65_537], 1);
    let calls = run.measures.total().calls;
    assert_eq!((calls.low, calls.high_out, calls.high_in), (0, 2, 1));
}

#[test]
fn threads_and_processes_call_at_once() {
    for interception in interceptions() {
        let options = Options {
            interception,
            ..Options::default()
        };
        let Some(run) = run(role("threads"), options) else {
            return;
        };
        assert_eq!(run.code(), Some(0));
        assert_eq!(run.measures.total().calls.low, 850);
        assert!(
            run.measures.total().stops.cpuid >= 1600,
            "{:?}",
            run.measures.total()
        );
    }
}

#[test]
fn what_is_no_access_faults() {
    for name in ["wrong-magic", "unmapped"] {
        let Some(run) = run(role(name), Options::default()) else {
            return;
        };
        assert_eq!(run.status.signal(), Some(libc::SIGSEGV), "{name}");
        assert_eq!(run.measures.total().calls.total(), 0);
        assert!(run.events.iter().any(|event| matches!(
            event,
            Event::Signal {
                signal: libc::SIGSEGV,
                ..
            }
        )));
    }
}

#[test]
fn without_backdoor_the_guest_handles_its_own_fault() {
    for platform in [Platform::Kvm, Platform::BareMetal] {
        let options = Options {
            platform,
            ..Options::default()
        };
        let Some(run) = run(role("fault-handler"), options) else {
            return;
        };
        // SIGSEGV, SI_KERNEL, no address; registers as they were. Then an ordinary fault: SEGV_MAPERR with its address.
        assert_eq!(run.output, "11 128 0 564d5868 a9b2a797\n11 1 1238\n");
        assert!(run.seen.calls.is_empty(), "the device was not asked");
    }
}

#[test]
fn a_device_may_let_an_access_fault() {
    let Ok(started) = try_start(role("fault-handler"), Options::default(), true) else {
        return;
    };
    assert_eq!(started.finish().output, "11 128 0 564d5868 a9b2a797\n11 1 1238\n");
}

#[test]
fn on_vmware_the_handler_sees_its_own_faults_only() {
    let Some(run) = run(role("fault-handler"), Options::default()) else {
        return;
    };
    assert_eq!(run.output, "0 0 0 6 564d5868\n11 1 1238\n");
}

#[test]
fn a_hidden_vmware_answers_ports_only() {
    let options = Options {
        platform: Platform::HiddenVmware,
        ..Options::default()
    };
    let Some(version) = run(role("version"), options) else {
        return;
    };
    assert_eq!(version.output, "6 564d5868 2\n");
    let hidden = run(role("cpuid"), options).unwrap();
    assert_ne!(hidden.output.lines().next(), Some("VMwareVMware"));
}

#[test]
fn a_panicking_device_ends_the_guest_with_an_error() {
    struct Panicking;
    impl lab::vmx::device::Device for Panicking {
        fn access(
            &mut self,
            _: i32,
            _: lab::vmx::device::Access,
            _: &mut lab::vmx::device::Registers,
            _: &dyn lab::vmx::device::GuestMemory,
        ) -> lab::vmx::device::Outcome {
            panic!("on purpose")
        }
    }
    let output = tempfile::tempfile().unwrap();
    let guest: Guest = role("version").stdout(output);
    match lab::vmx::tracer::Tracer::start(guest, Options::default(), Box::new(Panicking), None) {
        Ok(tracer) => assert!(matches!(
            tracer.wait(),
            Err(lab::vmx::tracer::TracerError::Panicked)
        )),
        Err(error) => assert!(error.is_unavailable(), "{error}"),
    }
}
