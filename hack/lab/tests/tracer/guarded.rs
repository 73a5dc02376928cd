//! The first lock. What the guest tries would do nothing if the lock failed.

use lab::vmx::guard::{Action, Answer, OnExec};
use lab::vmx::tracer::Options;

use crate::{
    Run,
    needs::{Need, trial},
    role, run,
};
use libtest_mimic::Trial;

fn lines(run: &Run) -> Vec<(&str, &str)> {
    run.output
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .collect()
}

fn error(number: i32) -> String {
    (-number).to_string()
}

fn guarded_calls_are_answered_and_recorded() {
    let run = run(role("guarded"), Options::default());
    assert_eq!(run.code(), Some(0), "{}", run.output);
    let (busy, invalid, bad, access) = (
        error(libc::EBUSY),
        error(libc::EINVAL),
        error(libc::EBADF),
        error(libc::EACCES),
    );
    let has_sysfs = std::path::Path::new("/sys/power/pm_freeze_timeout").exists();
    let sysfs = error(if has_sysfs { libc::EACCES } else { libc::ENOENT });
    assert_eq!(
        lines(&run),
        [
            ("reboot", "0"),
            ("kexec_load", "0"),
            ("kexec_file_load", "0"),
            ("clock_settime", "0"),
            ("settimeofday", "0"),
            ("adjtimex-read", "1"),
            ("clock_adjtime", "0"),
            ("freeze", "0"),
            ("freeze-again", &busy),
            ("thaw", "0"),
            ("thaw-again", &invalid),
            ("freeze-closed", &bad),
            ("rtc", "0"),
            ("sethostname", "0"),
            ("setdomainname", "0"),
            ("iopl", "0"),
            ("/proc/sysrq-trigger", &access),
            ("/proc/self/../sysrq-trigger", &access),
            ("sysfs", &sysfs),
            ("/dev/null", "0"),
            ("/nonexistent/shutdown", "Ok(Some(0))"),
            ("/nonexistent/pm-suspend", "Ok(Some(0))"),
            ("/nonexistent/ip", "Ok(Some(0))"),
            ("link", "Ok(Some(0))"),
            ("sh", "Ok(Some(3))"),
        ]
    );
    let actions: Vec<Action> = run.intercepted().into_iter().map(|(action, _)| action).collect();
    assert!(actions.contains(&Action::Reboot { command: 3 }));
    assert!(actions.contains(&Action::LoadKernel));
    assert_eq!(
        actions
            .iter()
            .filter(|action| **action == Action::SetClock)
            .count(),
        4
    );
    assert_eq!(
        actions
            .iter()
            .filter(|action| **action == Action::SetName)
            .count(),
        2
    );
    assert_eq!(
        actions
            .iter()
            .filter(|action| matches!(action, Action::Freeze { .. }))
            .count(),
        3
    );
    assert_eq!(
        actions
            .iter()
            .filter(|action| matches!(action, Action::Thaw { .. }))
            .count(),
        2
    );
    assert!(actions.contains(&Action::Write {
        path: "/proc/sysrq-trigger".to_owned()
    }));
    assert!(actions.contains(&Action::Execute {
        program: "/nonexistent/shutdown".to_owned(),
        arguments: ["/nonexistent/shutdown", "-h", "now"].map(str::to_owned).to_vec(),
    }));
    assert!(
        run.intercepted()
            .iter()
            .any(|(_, answer)| *answer == Answer::Replaced)
    );
}

fn a_guarded_exec_may_fail_instead() {
    let options = Options {
        on_exec: OnExec::Fail(nix::errno::Errno::EPERM),
        ..Options::default()
    };
    let run = run(role("guarded"), options);
    let shutdown = run
        .output
        .lines()
        .find(|line| line.starts_with("/nonexistent/shutdown"))
        .unwrap();
    assert!(shutdown.contains("code: 1"), "EPERM: {shutdown}");
}

fn pid_1_of_the_machine_is_out_of_reach() {
    let run = run(role("guarded-signals"), Options::default());
    let expected = if nix::unistd::geteuid().is_root() {
        "0".to_owned()
    } else {
        error(libc::EPERM)
    };
    assert_eq!(
        lines(&run),
        [
            ("kill", expected.as_str()),
            ("kill-all", &expected),
            ("tkill", &expected),
            ("tgkill", &expected),
            ("pidfd", &expected),
            ("pidfd-own", "0"),
            ("kill-own", "0"),
        ]
    );
    let signals = run
        .intercepted()
        .iter()
        .filter(|(action, _)| *action == Action::Signal { signal: 0 })
        .count();
    assert_eq!(signals, 5);
}

fn the_32_bit_interface_is_refused() {
    let run = run(role("compat"), Options::default());
    if run.code() == Some(0) {
        assert_eq!(run.output.trim(), error(libc::ENOSYS));
        assert_eq!(
            run.intercepted(),
            [(Action::Foreign { number: 20 }, Answer::Result(-38))]
        );
    } else {
        // A kernel without that interface: the interrupt itself faults.
        assert!(run.output.is_empty());
    }
}

/// What a guest without the privilege gets is what the kernel would have given it.
fn an_unprivileged_guest_is_refused() {
    let run = run(role("guarded-unprivileged"), Options::default());
    assert_eq!(run.code(), Some(0), "{}", run.output);
    for (name, result) in lines(&run) {
        match name {
            "adjtimex-read" => assert_eq!(result, "1"),
            "thaw-again" | "freeze-again" | "reboot" | "kexec_load" | "clock_settime" | "freeze" | "rtc"
            | "sethostname" | "iopl" => assert_eq!(result, error(libc::EPERM), "{name}"),
            "/nonexistent/shutdown" | "link" => assert_eq!(result, "Ok(Some(0))", "{name}"),
            _ => {}
        }
    }
    assert!(run.intercepted().contains(&(Action::SetName, Answer::Result(-1))));
}

/// The tests of this file.
pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "guarded::guarded_calls_are_answered_and_recorded",
            &[Need::Ptrace, Need::Root],
            guarded_calls_are_answered_and_recorded,
        ),
        trial(
            "guarded::a_guarded_exec_may_fail_instead",
            &[Need::Ptrace],
            a_guarded_exec_may_fail_instead,
        ),
        trial(
            "guarded::pid_1_of_the_machine_is_out_of_reach",
            &[Need::Ptrace],
            pid_1_of_the_machine_is_out_of_reach,
        ),
        trial(
            "guarded::the_32_bit_interface_is_refused",
            &[Need::Ptrace],
            the_32_bit_interface_is_refused,
        ),
        trial(
            "guarded::an_unprivileged_guest_is_refused",
            &[Need::Ptrace, Need::Root],
            an_unprivileged_guest_is_refused,
        ),
    ]
}
