//! Scenarios that pass, and scenarios that fail with the right words.

use std::time::{Duration, Instant};

use lab::vmx::host::Config;

use crate::daemon::{Daemon, Habits};

#[test]
fn a_good_daemon_passes() {
    let daemon = Daemon::start(Config::default(), Habits::default());
    daemon
        .play(
            r#"
            expect registered within 5s
            expect running within 5s
            expect hostname "talos-cp-1" within 1s
            expect version 2147483647 type 4
            expect capability statechange
            expect nic 00:50:56:aa:bb:01 address 10.20.30.41/24 within 1s of reset
            expect no nic 00:50:56:aa:bb:02
            expect ip 10.20.30.41
            expect variable guestinfo.ip = "10.20.30.41"
            expect no variable guestinfo.nothing
            expect heartbeat green
            count rpci "tools.os.statechange.status 1 3" = 1

            send "ping"
            expect reply "OK " within 1s
            send "No_Such_Command"
            expect reply "ERROR Unknown Command" within 1s
            expect reply starting "ERROR " within 1s

            send "OS_Halt"
            expect reply "OK " within 1s
            expect rpci "tools.os.statechange.status 1 1" within 1s of action
            count rpci "tools.os.statechange.status" = 1
            expect no rpci "tools.os.statechange.status" for 100ms
            expect running for 100ms

            reset
            expect reply "OK ATR toolbox" within 1s
            expect rpci "SetGuestInfo  10 " within 1s
            expect no rpci "tools.os.statechange.status 1 3" for 100ms

            vmotion
            expect rpci "tools.capability.statechange" within 1s
            resume
            expect rpci "tools.os.statechange.status 1 4" within 1s

            vmotion hard
            expect open tclo within 1s
            expect registered within 1s
            close tclo
            expect close tclo within 1s
            expect open tclo within 1s

            fault recvstatus tclo status CPT
            send "ping"
            expect reply "OK " within 1s

            rpci "tools.set.versiontype" refuse
            reset
            expect rpci "tools.set.versiontype" within 1s

            set variable guestinfo.x "1"
            expect variable guestinfo.x = "1"
            unset variable guestinfo.x
            expect no variable guestinfo.x

            measure 300ms
            expect polls-per-second >= 1
            expect polls-per-second <= 2000
            expect resident-kib = 3072
            expect no calls-per-second <= 1

            expect no violation any
            signal TERM
            expect close tclo within 1s
            expect exit 0 within 1s
            "#,
        )
        .unwrap();
    assert_eq!(daemon.host.with(|host, _| host.violations()), 0);
}

/// Plays a scenario that has to fail and returns what it says.
fn fails(habits: Habits, text: &str) -> String {
    let daemon = Daemon::start(Config::default(), habits);
    let started = Instant::now();
    let message = daemon.play(text).unwrap_err();
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "it took {:?}",
        started.elapsed()
    );
    message
}

#[test]
fn failures_say_where_what_and_what_instead() {
    let registered = "expect running within 5s\n";
    for (line, parts) in [
        (
            "expect hostname \"other\" within 50ms",
            &["not so", "seen: host name \"talos-cp-1\""][..],
        ),
        (
            "expect nic 00:50:56:aa:bb:01 address 10.0.0.1/24",
            &["00:50:56:aa:bb:01 [10.20.30.41/24]"],
        ),
        (
            "expect variable guestinfo.ip = \"1.2.3.4\"",
            &["guestinfo.ip = \"10.20.30.41\""],
        ),
        ("expect no variable guestinfo.ip", &["not so"]),
        ("expect version 1", &["version Some(2147483647) type Some(4)"]),
        ("expect capability hgfs_server", &["capabilities: statechange"]),
        ("expect tools not-running within 50ms", &["tools are running"]),
        ("expect heartbeat red within 50ms", &["heartbeat is green"]),
        (
            "expect rpci \"x\" within 50ms",
            &["seen: {\"t\":", "\"ev\":\"rpci\""],
        ),
        ("expect no running for 50ms", &["tools are running"]),
        ("expect exit 0 within 50ms", &["exit: None"]),
        ("expect violation any within 50ms", &["not so"]),
        ("count rpci \"SetGuestInfo  1 \" = 2", &["counted 1"]),
        ("expect calls-per-second <= 5", &["no measure before"]),
        ("node get", &["no control socket of a node was given"]),
    ] {
        let message = fails(Habits::default(), &format!("{registered}{line}\nwait 60s"));
        assert!(
            message.starts_with(&format!("test.scenario:2: {line}\n")),
            "{message}"
        );
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
}

#[test]
fn a_bound_on_the_wire_holds_however_late_the_line_is_read() {
    let halt = "expect running within 5s\nsend \"OS_Halt\"\nexpect reply \"OK \" within 5s\nwait 400ms\n";
    let expectation = "expect rpci \"tools.os.statechange.status 1 1\" within 300ms of action\n";
    let daemon = Daemon::start(Config::default(), Habits::default());
    daemon.play(&format!("{halt}{expectation}")).unwrap();
    let habits = Habits {
        slow: Duration::from_millis(600),
        ..Habits::default()
    };
    let message = fails(habits, &format!("{halt}{expectation}"));
    assert!(message.starts_with("test.scenario:5: "), "{message}");
    assert!(message.contains("it took "), "{message}");
    assert!(message.contains("tools.os.statechange.status 1 1"), "{message}");
}

#[test]
fn a_figure_that_is_too_high_fails() {
    let message = fails(Habits::default(), "measure 100ms\nexpect polls-per-second <= 1");
    assert!(message.contains("polls-per-second is "), "{message}");
}

#[test]
fn a_guest_that_dies_ends_the_wait() {
    let habits = Habits {
        dies_at_halt: true,
        ..Habits::default()
    };
    let text = "expect registered within 5s\nsend \"OS_Halt\"\nexpect reply \"OK \" within 60s";
    let message = fails(habits, text);
    assert!(message.starts_with("test.scenario:3: "), "{message}");
    assert!(message.contains("the guest ended: Status(3)"), "{message}");
    let text = "expect registered within 5s\nsend \"OS_Halt\"\nexpect exit 0 within 1s";
    assert!(fails(habits, text).contains("exit: Some(Status(3))"));
    let daemon = Daemon::start(Config::default(), habits);
    daemon
        .play("expect registered within 5s\nsend \"OS_Halt\"\nexpect exit 3 within 1s\nwait 60s")
        .unwrap();
}

#[test]
fn a_state_that_is_never_reported_keeps_tools_executing() {
    let habits = Habits {
        keeps_states_to_itself: true,
        ..Habits::default()
    };
    let message = fails(habits, "expect registered within 5s\nexpect running within 200ms");
    assert!(message.contains("tools are executing-scripts"), "{message}");
}

#[test]
fn a_slow_reply_times_out_and_is_measured() {
    let habits = Habits {
        slow: Duration::from_millis(200),
        ..Habits::default()
    };
    let daemon = Daemon::start(Config::default(), habits);
    daemon
        .play(
            r#"
            expect running within 5s
            set request-timeout 50ms
            send "OS_Halt"
            expect timeout within 2s
            expect reply "OK " within 2s
            count rpci "tools.os.statechange.status 1 1" = 1
            send "OS_Halt"
            measure 500ms
            expect reply-max-ms >= 100
            expect calls >= 1
            "#,
        )
        .unwrap();
    assert!(daemon.host.with(|host, _| host.counters.timeouts) > 0);
    assert_eq!(
        daemon.host.with(|host, _| host.violations()),
        0,
        "a late reply is no violation"
    );
}

#[test]
fn sends_need_somebody_to_send_to() {
    let daemon = Daemon::start(Config::default(), Habits::default());
    let message = daemon
        .play(
            r#"
            expect registered within 5s
            fault open every status 0
            close
            send "ping"
            "#,
        )
        .unwrap_err();
    assert!(message.contains("no TCLO channel is open"), "{message}");
}

#[test]
fn allowed_violations_do_not_count() {
    let daemon = Daemon::start(Config::default(), Habits::default());
    daemon.play("expect running within 5s").unwrap();
    let violations = || daemon.host.with(|host, _| host.violations());
    daemon
        .host
        .with(|host, _| host.counters.violations.insert("padding", 2));
    assert_eq!(violations(), 2);
    daemon.play("allow violation count").unwrap();
    assert_eq!(violations(), 2);
    daemon.play("allow violation padding").unwrap();
    assert_eq!(violations(), 0);
}

#[test]
fn the_scenarios_of_the_laboratory_can_be_read() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut read = 0;
    let figures = std::fs::read_dir(directory.join("figures")).unwrap();
    for entry in std::fs::read_dir(&directory).unwrap().chain(figures) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        assert_eq!(path.extension().unwrap(), "scenario", "{}", path.display());
        lab::vmx::scenario::Scenario::read(&path).unwrap();
        read += 1;
    }
    assert!(read >= 10, "{read} scenarios");
}
