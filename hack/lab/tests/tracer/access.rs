//! The backdoor's instructions.

use std::os::unix::process::ExitStatusExt;

use lab::vmx::cpuid::Platform;
use lab::vmx::tracer::{Event, Guest, Options};

use crate::{
    interceptions,
    needs::{Need, trial},
    role, run, try_start,
};
use libtest_mimic::Trial;

fn a_low_access_returns_what_the_device_says() {
    let run = run(role("version"), Options::default());
    assert_eq!(run.output, "6 564d5868 2\n");
    assert_eq!(run.code(), Some(0));
    assert_eq!(run.measures.total().calls.low, 1);
}

fn high_bandwidth_moves_memory_and_registers() {
    let run = run(role("bandwidth"), Options::default());
    assert_eq!(run.code(), Some(0));
    assert_eq!(run.seen.sent[0], b"hello, host");
    assert_eq!(run.seen.sent[1].len(), 100_000);
    assert_eq!(run.seen.sent[1][65_537], 1);
    let calls = run.measures.total().calls;
    assert_eq!((calls.low, calls.high_out, calls.high_in), (0, 2, 1));
}

fn threads_and_processes_call_at_once() {
    for interception in interceptions() {
        let options = Options {
            interception,
            ..Options::default()
        };
        let run = run(role("threads"), options);
        assert_eq!(run.code(), Some(0));
        assert_eq!(run.measures.total().calls.low, 850);
        assert!(
            run.measures.total().stops.cpuid >= 1600,
            "{:?}",
            run.measures.total()
        );
    }
}

fn what_is_no_access_faults() {
    for name in ["wrong-magic", "unmapped"] {
        let run = run(role(name), Options::default());
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

fn without_backdoor_the_guest_handles_its_own_fault() {
    for platform in [Platform::Kvm, Platform::BareMetal] {
        let options = Options {
            platform,
            ..Options::default()
        };
        let run = run(role("fault-handler"), options);
        // SIGSEGV, SI_KERNEL, no address; registers as they were. Then an ordinary fault: SEGV_MAPERR with its address.
        assert_eq!(run.output, "11 128 0 564d5868 a9b2a797\n11 1 1238\n");
        assert!(run.seen.calls.is_empty(), "the device was not asked");
    }
}

fn a_device_may_let_an_access_fault() {
    let Ok(started) = try_start(role("fault-handler"), Options::default(), true) else {
        return;
    };
    assert_eq!(started.finish().output, "11 128 0 564d5868 a9b2a797\n11 1 1238\n");
}

fn on_vmware_the_handler_sees_its_own_faults_only() {
    let run = run(role("fault-handler"), Options::default());
    assert_eq!(run.output, "0 0 0 6 564d5868\n11 1 1238\n");
}

fn a_hidden_vmware_answers_ports_only() {
    let options = Options {
        platform: Platform::HiddenVmware,
        ..Options::default()
    };
    let version = run(role("version"), options);
    assert_eq!(version.output, "6 564d5868 2\n");
    let hidden = run(role("cpuid"), options);
    assert_ne!(hidden.output.lines().next(), Some("VMwareVMware"));
}

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

/// The tests of this file.
pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "access::a_low_access_returns_what_the_device_says",
            &[Need::Ptrace],
            a_low_access_returns_what_the_device_says,
        ),
        trial(
            "access::high_bandwidth_moves_memory_and_registers",
            &[Need::Ptrace],
            high_bandwidth_moves_memory_and_registers,
        ),
        trial(
            "access::threads_and_processes_call_at_once",
            &[Need::Ptrace],
            threads_and_processes_call_at_once,
        ),
        trial(
            "access::what_is_no_access_faults",
            &[Need::Ptrace],
            what_is_no_access_faults,
        ),
        trial(
            "access::without_backdoor_the_guest_handles_its_own_fault",
            &[Need::Ptrace],
            without_backdoor_the_guest_handles_its_own_fault,
        ),
        trial(
            "access::a_device_may_let_an_access_fault",
            &[Need::Ptrace],
            a_device_may_let_an_access_fault,
        ),
        trial(
            "access::on_vmware_the_handler_sees_its_own_faults_only",
            &[Need::Ptrace],
            on_vmware_the_handler_sees_its_own_faults_only,
        ),
        trial(
            "access::a_hidden_vmware_answers_ports_only",
            &[Need::Ptrace],
            a_hidden_vmware_answers_ports_only,
        ),
        trial(
            "access::a_panicking_device_ends_the_guest_with_an_error",
            &[Need::Ptrace],
            a_panicking_device_ends_the_guest_with_an_error,
        ),
    ]
}
