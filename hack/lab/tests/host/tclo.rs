//! TCLO: registration, replies, timers; worked examples 9.4 and 9.5.

use std::time::Duration;

use lab::vmx::{
    host::Config,
    transcript::Kind,
    view::{Heartbeat, ToolsStatus},
};

use crate::guest::{BUFFER, COOKIES, Guest, HB, Opened, RPCI, SUCCESS, TCLO, quiet, register};

#[test]
fn registration_to_running() {
    let mut guest = Guest::new(quiet());
    let tclo = guest.open(TCLO | COOKIES).unwrap();
    let status = |guest: &Guest| guest.host.with(|host, _| host.tools_status());
    assert_eq!(status(&guest), ToolsStatus::NotRunning);
    let asked = register(&mut guest, tclo);
    assert_eq!(asked[0], "Capabilities_Register");
    assert_eq!(asked[1], "Set_Option synctime 0");
    assert!(asked[asked.len() - 2].starts_with("Vix_1_Relayed_Command \"1\"\0\x01\0\r"));
    assert_eq!(asked[asked.len() - 1], "OS_PowerOn");
    assert_eq!(status(&guest), ToolsStatus::ExecutingScripts);

    let rpci = guest.open(RPCI | COOKIES).unwrap();
    guest.rpc(rpci, b"tools.os.statechange.status 1 1\0").unwrap();
    assert_eq!(
        status(&guest),
        ToolsStatus::ExecutingScripts,
        "that was another state"
    );
    guest.rpc(rpci, b"tools.os.statechange.status 1 3\0").unwrap();
    assert_eq!(status(&guest), ToolsStatus::Running);

    assert_eq!(guest.status(tclo, 6, 0), SUCCESS);
    assert_eq!(status(&guest), ToolsStatus::NotRunning);
    // The VM is powered on once, however often the daemon starts.
    let tclo = guest.open(TCLO | COOKIES).unwrap();
    let asked = register(&mut guest, tclo);
    assert!(!asked.contains(&"OS_PowerOn".to_owned()));
    assert_eq!(status(&guest), ToolsStatus::Running);
    guest.assert_no_violation();
}

#[test]
fn power_on_is_asked_for_until_it_is_reported() {
    let mut guest = Guest::new(quiet());
    let tclo = guest.open(TCLO | COOKIES).unwrap();
    register(&mut guest, tclo);
    assert_eq!(guest.status(tclo, 6, 0), SUCCESS);
    let tclo = guest.open(TCLO | COOKIES).unwrap();
    assert!(register(&mut guest, tclo).contains(&"OS_PowerOn".to_owned()));
    assert_eq!(
        guest.host.with(|host, _| host.tools_status()),
        ToolsStatus::ExecutingScripts
    );
}

#[test]
fn start_of_tclo_register_by_register() {
    let mut guest = Guest::new(Config {
        trailing_nul: true,
        ..quiet()
    });
    let channel = guest.open(TCLO | COOKIES).unwrap();
    assert_eq!(guest.status(channel, 1, 0), SUCCESS | HB);
    let out = guest.step(channel, 3, 0);
    assert_eq!((out.rcx, out.rdx, out.rbx), (0x0083_0000, 0x0001_0000, 6));
    assert_eq!(guest.high_in(channel, 6), SUCCESS);
    assert_eq!(guest.memory.get(BUFFER, 6), b"reset\0");
    assert_eq!(guest.status(channel, 5, 1), SUCCESS);
    assert_eq!(guest.status(channel, 1, 14), SUCCESS | HB);
    assert_eq!(guest.high_out(channel, b"OK ATR toolbox"), SUCCESS);
    guest.assert_no_violation();
    assert_eq!(guest.count(Kind::TcloReady), 1);
}

#[test]
fn an_empty_poll_finds_nothing() {
    let mut guest = Guest::new(quiet());
    let channel = guest.open(TCLO).unwrap();
    register(&mut guest, channel);
    for _ in 0..3 {
        assert_eq!(guest.status(channel, 1, 0), SUCCESS | HB);
        assert_eq!(guest.status(channel, 3, 0), SUCCESS | HB);
    }
    assert_eq!(guest.host.with(|host, _| host.counters.polls), 1 + 3);
    guest.assert_no_violation();
}

#[test]
fn latency_counts_from_the_moment_of_fetching() {
    let mut guest = Guest::new(quiet());
    let channel = guest.open(TCLO).unwrap();
    register(&mut guest, channel);
    guest.host.with(|host, now| host.send(now, b"OS_Halt").unwrap());
    guest.clock.advance(Duration::from_millis(70));
    assert_eq!(guest.poll(channel).unwrap().unwrap(), b"OS_Halt");
    guest.clock.advance(Duration::from_millis(3));
    guest.send(channel, b"OK ").unwrap();
    let events = guest.events();
    let send = events.iter().rfind(|event| event.kind == Kind::TcloSend).unwrap();
    let reply = events
        .iter()
        .rfind(|event| event.kind == Kind::TcloReply)
        .unwrap();
    assert_eq!(send.queued, Some(Duration::from_millis(70)));
    assert_eq!(reply.latency, Some(Duration::from_millis(3)));
    assert_eq!(
        (send.id, send.bytes.as_deref()),
        (reply.id, Some(&b"OS_Halt"[..]))
    );
}

/// Does something wrong.
type Case = fn(&mut Guest, Opened);

#[test]
fn a_reply_is_owed_once_and_only_once() {
    let cases: [(&str, &str, Case); 6] = [
        ("unasked", "unasked-reply", |guest, channel| {
            assert!(guest.send(channel, b"OK ").is_err());
        }),
        ("twice", "unasked-reply", |guest, channel| {
            guest.host.with(|host, now| host.send(now, b"ping").unwrap());
            guest.poll(channel).unwrap().unwrap();
            guest.send(channel, b"OK ").unwrap();
            assert!(guest.send(channel, b"OK ").is_err());
        }),
        ("poll instead of reply", "reply-due", |guest, channel| {
            guest.host.with(|host, now| host.send(now, b"ping").unwrap());
            guest.poll(channel).unwrap().unwrap();
            assert_eq!(guest.status(channel, 1, 0), 0);
            guest.send(channel, b"OK ").unwrap();
        }),
        ("next request before the reply", "reply-due", |guest, channel| {
            guest.host.with(|host, now| host.send(now, b"ping").unwrap());
            guest.poll(channel).unwrap().unwrap();
            assert_eq!(guest.status(channel, 3, 0), 0);
        }),
        ("receive without poll", "no-poll", |guest, channel| {
            assert_eq!(guest.status(channel, 1, 0), SUCCESS | HB);
            assert_eq!(guest.status(channel, 3, 0), SUCCESS | HB);
            assert_eq!(guest.status(channel, 3, 0), 0);
        }),
        ("no prefix", "reply-form", |guest, channel| {
            guest.host.with(|host, now| host.send(now, b"ping").unwrap());
            guest.poll(channel).unwrap().unwrap();
            guest.send(channel, b"Unknown Command").unwrap();
        }),
    ];
    for (name, kind, case) in cases {
        let mut guest = Guest::new(quiet());
        let channel = guest.open(TCLO | COOKIES).unwrap();
        register(&mut guest, channel);
        case(&mut guest, channel);
        assert_eq!(guest.violations(), [kind], "{name}");
    }
}

#[test]
fn a_request_without_answer_times_out_after_15_seconds() {
    let mut guest = Guest::new(quiet());
    let channel = guest.open(TCLO).unwrap();
    register(&mut guest, channel);
    guest.host.with(|host, now| host.send(now, b"OS_Halt").unwrap());
    guest.poll(channel).unwrap().unwrap();
    guest.clock.advance(Duration::from_millis(14_999));
    assert_eq!(guest.count(Kind::TcloTimeout), 0);
    guest.clock.advance(Duration::from_millis(1));
    assert_eq!(guest.count(Kind::TcloTimeout), 1);
    guest.clock.advance(Duration::from_secs(60));
    assert_eq!(guest.count(Kind::TcloTimeout), 1, "reported once");
    guest.send(channel, b"OK ").unwrap();
    guest.assert_no_violation();

    // What the guest never fetched is withdrawn.
    guest.host.with(|host, now| host.send(now, b"OS_Reboot").unwrap());
    guest.clock.advance(Duration::from_secs(15));
    assert_eq!(guest.count(Kind::TcloTimeout), 2);
    assert_eq!(guest.poll(channel).unwrap(), None);
    assert_eq!(guest.host.with(|host, _| host.counters.timeouts), 2);
}

#[test]
fn pings_and_broadcasts_come_by_the_clock() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(TCLO).unwrap();
    register(&mut guest, channel);
    assert_eq!(guest.poll(channel).unwrap(), None);
    guest.clock.advance(Duration::from_millis(4_999));
    assert_eq!(guest.poll(channel).unwrap(), None);
    guest.clock.advance(Duration::from_millis(1));
    assert_eq!(guest.poll(channel).unwrap().unwrap(), b"ping");
    assert!(guest.answer_all(channel, b"OK ").is_empty());
    guest.clock.advance(Duration::from_secs(25));
    let mut asked = vec![String::from_utf8(guest.poll(channel).unwrap().unwrap()).unwrap()];
    asked.extend(guest.answer_all(channel, b"OK "));
    assert_eq!(
        asked,
        ["Set_Option broadcastIP 1", "ping"],
        "pings that nobody fetched do not pile up"
    );
    guest.assert_no_violation();
}

#[test]
fn heartbeat_follows_the_polls() {
    let mut guest = Guest::new(quiet());
    let heartbeat = |guest: &Guest| guest.host.with(|host, now| host.heartbeat(now));
    let channel = guest.open(TCLO).unwrap();
    assert_eq!(heartbeat(&guest), Heartbeat::Gray);
    register(&mut guest, channel);
    assert_eq!(heartbeat(&guest), Heartbeat::Green);
    guest.clock.advance(Duration::from_secs(10));
    assert_eq!(heartbeat(&guest), Heartbeat::Yellow);
    guest.clock.advance(Duration::from_secs(20));
    assert_eq!(heartbeat(&guest), Heartbeat::Red);
    guest.poll(channel).unwrap();
    assert_eq!(heartbeat(&guest), Heartbeat::Green);
}

#[test]
fn a_reset_may_come_at_any_time() {
    let mut guest = Guest::new(quiet());
    let channel = guest.open(TCLO).unwrap();
    register(&mut guest, channel);
    guest.host.with(|host, now| {
        host.send(now, b"ping").unwrap();
        host.send(now, b"OS_Halt").unwrap();
        host.reset(now).unwrap();
    });
    let mut asked = vec![String::from_utf8(guest.poll(channel).unwrap().unwrap()).unwrap()];
    asked.extend(guest.answer_all(channel, b"OK "));
    assert_eq!(
        asked[..3],
        ["ping", "reset", "OS_Halt"],
        "what is under way goes first"
    );
    assert_eq!(asked[3], "Capabilities_Register");
    guest.assert_no_violation();
}
