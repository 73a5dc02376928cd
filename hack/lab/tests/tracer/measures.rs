//! Measures, and running as an ordinary user.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::vmx::tracer::{Guest, Options};

use crate::{
    guest,
    needs::{Need, trial},
    role, run, start,
};
use libtest_mimic::Trial;

fn calls_and_wake_ups_are_counted_without_the_stops() {
    let run = run(role("sleeper"), Options::default());
    let process = &run.measures.processes[0];
    assert_eq!(
        (process.calls.low, process.calls.high_out, process.calls.high_in),
        (400, 1, 1)
    );
    assert_eq!(process.stops.backdoor, 402);
    // 100 sleeps; a few more for what the kernel has to wait for, never the 402 stops.
    assert!((95..=200).contains(&process.wakeups), "{process:?}");
    assert!(
        process
            .cpu
            .is_some_and(|time| time > Duration::ZERO && time < Duration::from_secs(5)),
        "{process:?}"
    );
    assert!(
        process
            .peak
            .is_some_and(|bytes| (500_000..50_000_000).contains(&bytes)),
        "{process:?}"
    );
    assert!(!process.running && !process.command.is_empty());
}

fn a_snapshot_can_be_taken_of_a_running_guest() {
    let started = start(role("sleeper"), Options::default());
    let handle = started.tracer.handle();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut last = handle.snapshot();
    while last.total().calls.low < 40 {
        assert!(Instant::now() < deadline, "{last:?}");
        std::thread::yield_now();
        let next = handle.snapshot();
        assert!(next.elapsed >= last.elapsed && next.total().stops.total() >= last.total().stops.total());
        last = next;
    }
    assert!(
        last.total().resident.is_some_and(|bytes| bytes > 100_000),
        "{last:?}"
    );
    started.finish();
}

/// Patching reads files, not the guest's memory: what the guest has resident stays what it was.
fn the_guests_memory_is_its_own() {
    let script = "grep VmRSS /proc/self/status";
    let resident = |text: &str| -> u64 { text.split_whitespace().nth(1).unwrap().parse().unwrap() };
    let plain = Command::new("/bin/sh").args(["-c", script]).output().unwrap();
    let plain = resident(&String::from_utf8(plain.stdout).unwrap());
    let run = run(Guest::new("/bin/sh").args(["-c", script]), Options::default());
    let traced = resident(&run.output);
    assert!(traced < plain + 400, "{traced} KiB traced, {plain} KiB plain");
}

/// The whole of it once more, tracer and guest, as a user who owns nothing.
fn an_ordinary_user_can_trace() {
    // Where that user can execute it.
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("tracer");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    for path in [directory.path(), &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["--skip", "third_party::"])
        .env_remove(guest::ROLE)
        // What needs root is skipped there, and that is right.
        .env_remove("LAB_REQUIRE_ALL")
        .current_dir("/")
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("ptrace is not permitted"), "{said}");
    assert!(said.contains(" ok\n"), "{said}");
}

/// The tests of this file.
pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "measures::calls_and_wake_ups_are_counted_without_the_stops",
            &[Need::Ptrace],
            calls_and_wake_ups_are_counted_without_the_stops,
        ),
        trial(
            "measures::a_snapshot_can_be_taken_of_a_running_guest",
            &[Need::Ptrace],
            a_snapshot_can_be_taken_of_a_running_guest,
        ),
        trial(
            "measures::the_guests_memory_is_its_own",
            &[Need::Ptrace],
            the_guests_memory_is_its_own,
        ),
        trial(
            "measures::an_ordinary_user_can_trace",
            &[Need::Ptrace, Need::Root, Need::Unprivileged],
            an_ordinary_user_can_trace,
        ),
    ]
}
