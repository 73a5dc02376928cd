//! RPCI commands and reports.

use std::time::Duration;

use lab::vmx::{
    host::Config,
    rpci::{Override, Profile},
    transcript::{Event, Kind},
};

use crate::guest::{COOKIES, Guest, RPCI};

#[test]
fn commands_answer_as_hosts_do() {
    let cases: [(&[u8], &[u8]); 34] = [
        (b"info-get guestinfo.nothing", b"0 No value found"),
        (b"info-set guestinfo.x a b\nc\0", b"1 "),
        (b"info-get guestinfo.x\0", b"1 a b\nc"),
        (b"info-set guestinfo.x ", b"1 "),
        (b"info-get guestinfo.x", b"1 "),
        (b"info-set guestinfo.x", b"0 Invalid argument"),
        (b"info-set machine.id x", b"0 Permission denied"),
        (b"info-set guestinfo. x", b"0 Permission denied"),
        (b"log toolbox: hello\0", b"1 "),
        (b"guest.log.state", b"1 info"),
        (b"machine.id.get", b"0 No machine id"),
        (b"tools.set.version 2147483647\0", b"1 "),
        (b"tools.set.versiontype 2147483647 4\0", b"1 "),
        (b"tools.set.versiontype 2147483647 5\0", b"0 Invalid argument"),
        (b"tools.set.version new", b"0 Invalid argument"),
        (b"tools.capability.statechange ", b"1 "),
        (b"tools.capability.statechange", b"1 "),
        (b"tools.capability.statechange \0", b"0 Invalid argument"),
        (b"tools.capability.hgfs_server toolbox 1\0", b"1 "),
        (b"tools.capability.features 37=1 36=0\0", b"1 "),
        (b"vmx.capability.unified_loop toolbox\0", b"1 "),
        (b"vmx.set_option synctime 0 1", b"1 "),
        (b"vmx.set_option synctime 0", b"0 Invalid argument"),
        (b"tools.os.statechange.status 1 1\0", b"1 "),
        (b"tools.os.statechange.status 1 6\0", b"0 Invalid argument"),
        (b"tools.os.statechange.status yes 1\0", b"0 Invalid argument"),
        (b"update.tools.health normal", b"1 "),
        (b"update.tools.health ill", b"0 Invalid argument"),
        (b"vmbackup.eventSet req.aborted 0 text\0", b"1 "),
        (b"GuestAppMonitor.Cmd.IsEnabled", b"1 false"),
        (b"GuestAppMonitor.Cmd.MarkActive", b"1 2"),
        (b"SetGuestInfo  7 123456\0", b"1 "),
        (b"SetGuestInfo  99 x", b"0 SetGuestInfo 99 does not exist"),
        (b"no.such.command", b"0 Unknown command"),
    ];
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    for (request, reply) in cases {
        let got = guest.rpc(channel, request).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&got),
            String::from_utf8_lossy(reply),
            "{:?}",
            String::from_utf8_lossy(request)
        );
    }
    guest.assert_no_violation();
}

#[test]
fn an_old_host_does_not_know_what_came_later() {
    let mut guest = Guest::new(Config {
        profile: Profile::Legacy,
        ..Config::default()
    });
    let channel = guest.open(RPCI).unwrap();
    for request in [
        &b"tools.set.versiontype 2147483647 4\0"[..],
        b"vmx.capability.unified_loop toolbox\0",
        b"SetGuestInfo  10 x",
        b"SetGuestInfo  11 x",
        b"SetGuestDiskInfo {}\0",
        b"guest.log.state",
    ] {
        assert_eq!(guest.rpc(channel, request).unwrap(), b"0 Unknown command");
    }
    assert_eq!(
        guest.rpc(channel, b"tools.set.version 2147483647\0").unwrap(),
        b"1 "
    );
    guest.assert_no_violation();
}

#[test]
fn a_report_that_does_not_decode_is_refused_and_a_violation() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    for request in [
        &b"SetGuestInfo  1 two\0words\0"[..],
        b"SetGuestInfo  1 \0",
        b"SetGuestInfo 1 one-space\0",
        b"SetGuestInfo  7 0\0",
        b"SetGuestInfo  10 \0\0\0\x03\0\0\0\x01",
        b"SetGuestInfo  11 short",
        b"SetGuestDiskInfo {\"version\":\"2\",\"disks\":[]}\0",
    ] {
        let reply = guest.rpc(channel, request).unwrap();
        assert!(reply.starts_with(b"0 "), "{:?}", String::from_utf8_lossy(request));
    }
    guest.assert_violations(&["report"; 7]);
    assert!(guest.host.with(|host, now| host.view(now).host_name.is_none()));
}

#[test]
fn variables_have_a_limit_of_one_mebibyte() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    let value = vec![b'v'; 65000];
    let mut stored = 0;
    for number in 0..40 {
        let request = [format!("info-set guestinfo.{number:02} ").as_bytes(), &value].concat();
        match guest.rpc(channel, &request).unwrap().as_slice() {
            b"1 " => stored += 1,
            refusal => {
                assert_eq!(refusal, b"0 Size limit of 1048576 bytes exceeded");
                break;
            }
        }
    }
    assert_eq!(stored, 1_048_576 / (65000 + "guestinfo.00".len()));
}

#[test]
fn a_falling_uptime_is_a_soft_reset() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    for uptime in [100, 200, 50] {
        guest
            .rpc(channel, format!("SetGuestInfo  7 {uptime}\0").as_bytes())
            .unwrap();
    }
    assert_eq!(guest.count(Kind::SoftReset), 1);
}

#[test]
fn transcript_lines_read_like_the_reference() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI | COOKIES).unwrap();
    guest.rpc(channel, b"SetGuestInfo  7 420078\0").unwrap();
    let lines: Vec<serde_json::Value> = guest
        .events()
        .iter()
        .map(|event| serde_json::from_str(&Event::to_json(event)).unwrap())
        .collect();
    assert_eq!(lines[0]["ev"], "open");
    assert_eq!(lines[0]["proto"], "RPCI");
    assert_eq!(lines[0]["cookie"], true);
    assert_eq!(lines[1]["ev"], "rpci");
    assert_eq!(lines[1]["via"], "hb");
    assert_eq!(lines[1]["info"], 7);
    assert_eq!(lines[1]["len"], 23);
    assert_eq!(lines[1]["nul"], 1);
    assert_eq!(lines[1]["text"], "SetGuestInfo  7 420078");
    assert_eq!(lines[1].get("hex"), None);
    assert_eq!(lines[2]["ev"], "rpci-reply");
    assert_eq!(lines[2]["text"], "1 ");
    assert!(lines[2]["transfer_ms"].is_number());
    guest.rpc(channel, b"log \x01\xff").unwrap();
    let line: serde_json::Value = guest
        .events()
        .iter()
        .rfind(|event| event.kind == Kind::Rpci)
        .map(|event| serde_json::from_str(&event.to_json()).unwrap())
        .unwrap();
    assert_eq!(line["hex"], "6c6f672001ff");
    assert_eq!(line["text"], "log \u{1}\u{ff}");
}

#[test]
fn answers_can_be_overridden() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    let set = |guest: &Guest, prefix: &[u8], what| {
        guest.host.with(|host, _| host.rpci.set_override(prefix, what));
    };

    set(
        &guest,
        b"info-set guestinfo.a",
        Some(Override::Refuse("disabled".to_owned())),
    );
    assert_eq!(
        guest.rpc(channel, b"info-set guestinfo.a 1").unwrap(),
        b"0 disabled"
    );
    assert_eq!(guest.variable("guestinfo.a"), None);
    assert_eq!(
        guest.rpc(channel, b"info-set guestinfo.b 1").unwrap(),
        b"1 ",
        "the prefix decides"
    );

    set(
        &guest,
        b"info-set guestinfo.a",
        Some(Override::Reply(b"1 with text".to_vec())),
    );
    assert_eq!(
        guest.rpc(channel, b"info-set guestinfo.a 2").unwrap(),
        b"1 with text"
    );
    assert_eq!(
        guest.variable("guestinfo.a").unwrap(),
        b"2",
        "what is accepted is carried out"
    );
    set(
        &guest,
        b"info-set guestinfo.a",
        Some(Override::Reply(b"2".to_vec())),
    );
    assert_eq!(guest.rpc(channel, b"info-set guestinfo.a 3").unwrap(), b"2");
    assert_eq!(guest.variable("guestinfo.a").unwrap(), b"2");

    set(&guest, b"info-set guestinfo.a", Some(Override::Silence));
    guest.send(channel, b"info-set guestinfo.a 4").unwrap();
    assert_eq!(guest.receive(channel).unwrap(), None);
    assert_eq!(guest.variable("guestinfo.a").unwrap(), b"4");

    set(
        &guest,
        b"info-set guestinfo.a",
        Some(Override::Delay(Duration::from_millis(500))),
    );
    guest.send(channel, b"info-set guestinfo.a 5").unwrap();
    guest.clock.advance(Duration::from_millis(499));
    assert_eq!(guest.receive(channel).unwrap(), None);
    guest.clock.advance(Duration::from_millis(1));
    assert_eq!(guest.receive(channel).unwrap().unwrap(), b"1 ");

    set(&guest, b"info-set guestinfo.a", None);
    assert_eq!(guest.rpc(channel, b"info-set guestinfo.a 6").unwrap(), b"1 ");
    guest.assert_no_violation();
}

#[test]
fn application_monitoring_answers_in_libappmonitors_numbers() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    for (command, reply) in [
        ("GetAppStatus", "1 gray"),
        ("Enable", "1 0"),
        ("IsEnabled", "1 true"),
        ("MarkActive", "1 0"),
        ("GetAppStatus", "1 green"),
        ("PostAppState appStateNeedReset", "1 0"),
        ("GetAppStatus", "1 red"),
        ("PostAppState", "1 3"),
        ("PostAppState fine", "1 5"),
        ("Disable", "1 0"),
        ("IsEnabled", "1 false"),
        ("Dance", "0 Unknown command"),
    ] {
        let request = format!("GuestAppMonitor.Cmd.{command}");
        assert_eq!(
            guest.rpc(channel, request.as_bytes()).unwrap(),
            reply.as_bytes(),
            "{command}"
        );
    }
}

#[test]
fn the_view_is_what_was_reported() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    let view = guest.host.with(|host, now| host.view(now));
    assert_eq!(view.tools_version_status, Some("guestToolsNotInstalled"));
    assert!(view.host_name.is_none() && view.ip_address.is_none() && view.net.is_empty());
    for request in [
        &b"tools.set.versiontype 2147483647 4\0"[..],
        b"SetGuestInfo  1 cp-1\0",
        b"SetGuestInfo  5 Linux 6.18\0",
        b"SetGuestInfo  6 other6xlinux-64\0",
        b"info-set guestinfo.ip 10.0.0.5\0",
        b"tools.capability.statechange ",
        b"tools.os.statechange.status 0 2\0",
        b"update.tools.health normal",
    ] {
        assert_eq!(guest.rpc(channel, request).unwrap(), b"1 ");
    }
    let view = guest.host.with(|host, now| host.view(now));
    assert_eq!(view.tools_version_status, Some("guestToolsUnmanaged"));
    assert_eq!(view.tools_install_type, Some("guestToolsTypeOpenVMTools"));
    assert_eq!(view.guest_id, Some("other6xLinux64Guest"));
    assert_eq!(view.guest_full_name.as_deref(), Some("Linux 6.18"));
    assert_eq!(view.host_name.as_deref(), Some("cp-1"));
    assert_eq!(view.ip_address.unwrap().to_string(), "10.0.0.5");
    assert_eq!(view.state_changes, [(2, false)]);
    assert_eq!(view.tools_health.as_deref(), Some("normal"));
    assert!(view.guest_state_change_supported);
}

#[test]
fn the_transcript_keeps_the_last_events_only() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    for _ in 0..5000 {
        guest.rpc(channel, b"log hey").unwrap();
    }
    let (first, remembers, next) = guest.host.with(|host, _| {
        let transcript = host.transcript();
        let first = transcript.since(0).next().map(|event| event.sequence);
        (first.unwrap(), transcript.remembers(0), transcript.next())
    });
    assert_eq!(next, 1 + 2 * 5000);
    assert_eq!(first, next - 8192);
    assert!(!remembers);
}
