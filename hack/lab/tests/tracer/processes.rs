//! Processes, threads and signals go on as without a tracer.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::vmx::tracer::{Event, Guest, Options, Until};

use crate::{
    guest, interceptions,
    needs::{Need, trial},
    role, run, start,
};
use libtest_mimic::Trial;

fn each(name: &str, check: impl Fn(crate::Run)) {
    for interception in interceptions() {
        let options = Options {
            interception,
            ..Options::default()
        };
        check(run(role(name), options));
    }
}

fn families_are_followed() {
    each("families", |run| {
        assert_eq!(run.code(), Some(0));
        // 20 forks, 5 vforks with exec, 1 fork with exec, 4 spawns.
        assert_eq!(run.measures.processes.len(), 1 + 20 + 5 + 1 + 4);
        assert_eq!(run.measures.total().calls.low, 20 + 5 + 5 * 850);
        let execs = run
            .events
            .iter()
            .filter(|event| matches!(event, Event::Exec { .. }))
            .count();
        assert_eq!(execs, 1 + 5 + 1 + 4);
        assert!(run.measures.processes.iter().all(|process| !process.running));
    });
}

fn a_thread_that_is_not_the_first_may_exec() {
    each("thread-exec", |run| {
        assert_eq!(run.output, "6 564d5868 2\n");
        assert_eq!(run.code(), Some(0));
        assert_eq!(run.measures.processes.len(), 1);
    });
}

fn signals_arrive_as_they_were_sent() {
    each("signals", |run| {
        assert_eq!(run.status.signal(), Some(libc::SIGKILL));
        assert_eq!(run.seen.calls.values().sum::<u32>(), 1);
    });
}

fn group_stops_are_seen_by_the_parent() {
    each("group-stop", |run| assert_eq!(run.code(), Some(42)));
}

fn parent_death_signals_arrive() {
    each("deathsig", |run| assert_eq!(run.code(), Some(0)));
}

fn a_guest_may_become_another_user_and_undumpable() {
    each("setuid", |run| assert_eq!(run.code(), Some(0), "{}", run.output));
}

fn programs_of_the_system_behave_as_ever() {
    let programs: [(&str, &[&str]); 7] = [
        ("/bin/sh", &["-c", "echo hi; exit 7"]),
        (
            "/bin/sh",
            &[
                "-c",
                "for i in 1 2 3 4 5; do (echo $i | cat); done; kill -TERM $$",
            ],
        ),
        (
            "/bin/sh",
            &["-c", "trap 'echo usr1' USR1; kill -USR1 $$; echo after"],
        ),
        (
            "sh",
            &[
                "-c",
                "sleep 5 & kill -STOP $!; kill -CONT $!; kill $!; wait $!; echo $?",
            ],
        ),
        (
            "sh",
            &[
                "-c",
                "ls -l /proc/self/exe | sed 's/.*-> //' | sort; printf '%s\\n' \"$MARK\"",
            ],
        ),
        ("cat", &["/etc/passwd"]),
        (
            "python3",
            &[
                "-c",
                "import threading, subprocess, hashlib, os\n\
                 n = []\n\
                 ts = [threading.Thread(target=lambda i=i: n.append(hashlib.sha256(bytes([i])).hexdigest())) \
                 for i in range(20)]\n\
                 [t.start() for t in ts]; [t.join() for t in ts]\n\
                 print(len(set(n)), subprocess.check_output(['echo', 'sub']), os.waitstatus_to_exitcode(os.system('exit 3')))",
            ],
        ),
    ];
    for (program, arguments) in programs {
        let Ok(plain) = Command::new(program).args(arguments).env("MARK", "mark").output() else {
            // Not every machine has it; the shell is everywhere.
            assert_ne!(program, "sh");
            continue;
        };
        for interception in interceptions() {
            let options = Options {
                interception,
                ..Options::default()
            };
            let run = run(
                Guest::new(program)
                    .args(arguments.iter().copied())
                    .env("MARK", "mark"),
                options,
            );
            assert_eq!(
                run.output,
                String::from_utf8_lossy(&plain.stdout),
                "{arguments:?}"
            );
            assert_eq!(run.status, plain.status, "{arguments:?}");
        }
    }
}

fn the_guest_gets_its_surroundings() {
    let input = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &input, b"from stdin\n").unwrap();
    std::io::Seek::rewind(&mut &input).unwrap();
    let script = "cat; pwd; echo $ONE $TWO; env | wc -l; ls /proc/self/fd | wc -l";
    let plain = Command::new("/bin/sh")
        .args(["-c", script])
        .env_clear()
        .envs([("ONE", "1"), ("TWO", "2")])
        .current_dir("/")
        .stdin(input.try_clone().unwrap())
        .output()
        .unwrap();
    std::io::Seek::rewind(&mut &input).unwrap();
    let guest = Guest::new("/bin/sh")
        .args(["-c", script])
        .clear_env()
        .env("ONE", "1")
        .env("TWO", "2")
        .directory("/")
        .stdin(input);
    let run = run(guest, Options::default());
    assert!(run.output.starts_with("from stdin\n/\n1 2\n"), "{}", run.output);
    // Environment and descriptors: no more than without a tracer.
    assert_eq!(run.output, String::from_utf8_lossy(&plain.stdout));
}

fn is_alive(pid: i32) -> bool {
    // A zombie that nobody has waited for yet has no program any more.
    Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok()
}

/// Waits until the sleepers are all there.
pub fn sleepers(started: &crate::Started) -> Vec<i32> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let pids: Vec<i32> = started
            .tracer
            .handle()
            .snapshot()
            .processes
            .iter()
            .map(|process| process.pid)
            .collect();
        if pids.len() == 7 {
            return pids;
        }
        assert!(Instant::now() < deadline, "{pids:?}");
        std::thread::yield_now();
    }
}

fn a_stop_leaves_nobody_behind() {
    let started = start(role("family-of-sleepers"), Options::default());
    let pids = sleepers(&started);
    let handle = started.tracer.handle();
    assert_eq!(handle.pid(), pids[0]);
    handle.stop();
    let run = started.finish();
    assert_eq!(run.status.signal(), Some(libc::SIGKILL));
    assert_eq!(pids.iter().filter(|pid| is_alive(**pid)).count(), 0);
    assert!(!handle.signal(libc::SIGTERM), "there is nobody any more");
}

fn the_end_of_the_first_process_ends_the_others() {
    let started = start(role("family-of-sleepers"), Options::default());
    let pids = sleepers(&started);
    assert!(started.tracer.handle().signal(libc::SIGTERM));
    let run = started.finish();
    assert_eq!(run.status.signal(), Some(libc::SIGTERM));
    assert_eq!(pids.iter().filter(|pid| is_alive(**pid)).count(), 0);
}

fn dropping_the_tracer_ends_the_guest() {
    let started = start(role("family-of-sleepers"), Options::default());
    let pids = sleepers(&started);
    drop(started);
    assert_eq!(pids.iter().filter(|pid| is_alive(**pid)).count(), 0);
}

fn nobody_outlives_a_tracer_that_is_killed() {
    let mut tracer = Command::new(std::env::current_exe().unwrap())
        .env(guest::ROLE, "tracer")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(tracer.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    let pids: Vec<i32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 7);
    // The kernel has sent the signals; the processes may still be on their way out.
    let deadline = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|pid| is_alive(*pid)) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let survivors: Vec<i32> = pids.into_iter().filter(|pid| is_alive(*pid)).collect();
    for pid in &survivors {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(*pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    assert_eq!(survivors, [0; 0]);
}

fn a_run_may_last_until_the_last_process_ends() {
    let options = Options {
        until: Until::AllEnd,
        ..Options::default()
    };
    let run = run(role("background"), options);
    assert_eq!(run.code(), Some(5), "the first one's");
    assert_eq!(run.output, "6 after the parent\n");
}

/// The tests of this file.
pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "processes::families_are_followed",
            &[Need::Ptrace],
            families_are_followed,
        ),
        trial(
            "processes::a_thread_that_is_not_the_first_may_exec",
            &[Need::Ptrace],
            a_thread_that_is_not_the_first_may_exec,
        ),
        trial(
            "processes::signals_arrive_as_they_were_sent",
            &[Need::Ptrace],
            signals_arrive_as_they_were_sent,
        ),
        trial(
            "processes::group_stops_are_seen_by_the_parent",
            &[Need::Ptrace],
            group_stops_are_seen_by_the_parent,
        ),
        trial(
            "processes::parent_death_signals_arrive",
            &[Need::Ptrace],
            parent_death_signals_arrive,
        ),
        trial(
            "processes::a_guest_may_become_another_user_and_undumpable",
            &[Need::Ptrace, Need::Root],
            a_guest_may_become_another_user_and_undumpable,
        ),
        trial(
            "processes::programs_of_the_system_behave_as_ever",
            &[Need::Ptrace],
            programs_of_the_system_behave_as_ever,
        ),
        trial(
            "processes::the_guest_gets_its_surroundings",
            &[Need::Ptrace],
            the_guest_gets_its_surroundings,
        ),
        trial(
            "processes::a_stop_leaves_nobody_behind",
            &[Need::Ptrace],
            a_stop_leaves_nobody_behind,
        ),
        trial(
            "processes::the_end_of_the_first_process_ends_the_others",
            &[Need::Ptrace],
            the_end_of_the_first_process_ends_the_others,
        ),
        trial(
            "processes::dropping_the_tracer_ends_the_guest",
            &[Need::Ptrace],
            dropping_the_tracer_ends_the_guest,
        ),
        trial(
            "processes::nobody_outlives_a_tracer_that_is_killed",
            &[Need::Ptrace],
            nobody_outlives_a_tracer_that_is_killed,
        ),
        trial(
            "processes::a_run_may_last_until_the_last_process_ends",
            &[Need::Ptrace],
            a_run_may_last_until_the_last_process_ends,
        ),
    ]
}
