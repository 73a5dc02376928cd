//! Reading scenarios: every form of the documentation, and what a wrong line is told.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    Scenario, ScenarioError,
    command::Command,
    expectation::{Anchor, What, When},
    lexer::{self, LexError},
};
use crate::vmx::fault::{Effect, When as Occurrence};

#[test]
fn every_documented_form_is_understood() {
    let text = r##"
        # a comment
        note "a # in quotes is no comment"   # this one is
        send "OS_Halt"
        send "Vix_1_Relayed_Command \"1\"\0\x01\xff"
        send hex "56 69 78"
        send vix 62
        send vix 185 body 24
        ask "ping"
        flood 1000000
        remember host
        revert
        restart
        change cookies
        power-on
        set profile fusion
        set versiontype off
        set version 6 0x564D5868
        set version sigsegv
        set foreign-channels 126
        set tclo-owner newest
        set slow 5ms
        set slow off
        fault hbin corrupt
        fault recvsize tclo stall 2s
        expect fault "recvsize" within 1s
        expect flood-over within 1s
        reset
        vmotion
        vmotion hard
        resume
        close
        close rpci
        close tclo
        set variable guestinfo.x "a value"
        unset variable guestinfo.x
        set machine-id "id"
        set ping 500ms
        set ping off
        set broadcast 1m
        set request-timeout 1.5s
        set nul on
        set hb off
        set cookies on
        set clock ahead 5s
        set clock behind 1m
        set clock absent
        set clock reads 0 1000000
        set time-command 46
        fault recvstatus status CPT
        fault hbout tclo nth 3 status CPT|CLOSED
        fault any every scramble
        fault payload next 2 status 0
        fault recvsize size 0xFFFFFFFF
        fault recvsize type 7
        fault hbin short 0
        fault sendsize no-hb
        fault hbout no-reply
        fault open id 0xFFFF
        fault open cookies 0 1
        fault sendsize lose
        fault sendsize lose-all
        fault open sigsegv
        faults clear
        rpci "tools.set.versiontype" refuse
        rpci "tools.set.versiontype" refuse "disabled"
        rpci "info-get" reply "1 x"
        rpci "log" silence
        rpci "log" delay 500ms
        rpci "log" normal
        signal TERM
        signal SIGKILL
        node   set hostname "a b" # not a comment
        allow violation any
        allow violation high-halves
        wait 1s
        measure 10s
        remember
        expect registered within 5s
        expect no registered
        expect running for 2s
        expect tools executing-scripts within 1s
        expect heartbeat yellow within 12s
        expect reply "OK " within 1s
        expect reply starting "OK 0 "
        expect rpci "tools.os.statechange.status 1 1" within 20ms of action
        expect no rpci "log" for 2s
        expect open tclo within 1s
        expect close rpci within 1s
        expect timeout within 16s
        expect no violation any
        expect exec "/sbin/shutdown"
        expect guard power-command within 1s
        expect exit 0 within 1s
        expect exit signal KILL
        expect hostname "talos-cp-1" within 100ms of reset
        expect os "Talos"
        expect ip 10.0.0.5
        expect nic 00:50:56:AA:bb:01 within 1s
        expect nic 00:50:56:aa:bb:01 address 2001:db8::5/64 within 100ms of reset
        expect no variable guestinfo.x
        expect variable guestinfo.ip = "10.0.0.5" within 1s
        expect version 2147483647
        expect version 2147483647 type 4
        expect capability statechange
        expect calls-per-second <= 5
        expect resident-kib >= 1
        count rpci "log" = 1
        count rpci "log" >= 0
        state
        summary
        transcript 10
    "##;
    let scenario = Scenario::parse("all", text).unwrap();
    assert_eq!(
        scenario.lines.len(),
        text.lines().filter(|line| !line.trim().is_empty()).count() - 1
    );
}

#[test]
fn words_become_what_they_say() {
    let parse = |line: &str| Command::parse(line).unwrap().unwrap();
    assert!(matches!(
        parse(r#"send "a\0b\x41\n\"""#),
        Command::Send(bytes) if bytes == b"a\0bA\n\""
    ));
    let Command::Expect(expectation) =
        parse("expect no nic 00:50:56:AA:BB:01 address 10.0.0.5/24 within 50ms of action")
    else {
        unreachable!()
    };
    assert!(expectation.negated);
    assert_eq!(
        expectation.when,
        When::Within(Duration::from_millis(50), Some(Anchor::Action))
    );
    assert!(matches!(
        expectation.what,
        What::Nic { mac, address: Some((ip, 24)) } if mac == "00:50:56:aa:bb:01" && ip.to_string() == "10.0.0.5"
    ));
    let Command::Fault(fault) = parse("fault hbout tclo nth 3 status CPT|CLOSED") else {
        unreachable!()
    };
    assert_eq!(
        (fault.when, fault.effect),
        (Occurrence::Nth(3), Effect::Status(0x14))
    );
    assert!(matches!(parse("signal TERM"), Command::Signal(15)));
    assert!(matches!(parse(r#"node name "a" # b"#), Command::Node(line) if line == r#"name "a" # b"#));
}

#[test]
fn wrong_lines_are_named_by_file_and_number() {
    for (line, message) in [
        ("jump", r#""jump" is not a command"#),
        ("send OS_Halt", r#""OS_Halt" is not a request in quotes"#),
        ("send", "a request in quotes expected at the end of the line"),
        ("send \"a\" b", r#""b" is one word too many"#),
        ("send \"a", "a text in quotes does not end"),
        ("send \"a\\q\"", r"unknown escape \q"),
        ("send \"\\xg1\"", r"unknown escape \xg1"),
        ("send \"a\"b", "a space is missing after a text in quotes"),
        ("wait 5", r#""5" is not a time such as 100ms or 5s"#),
        ("wait -5s", r#""-5s" is not a time such as 100ms or 5s"#),
        (
            "wait 100000000s",
            r#""100000000s" is not a time such as 100ms or 5s"#,
        ),
        ("signal BANANA", r#""BANANA" is not a signal such as TERM"#),
        ("expect", "what is expected expected at the end of the line"),
        (
            "expect happiness",
            r#""happiness" is not something that can be expected"#,
        ),
        (
            "expect running within",
            "a time such as 100ms or 5s expected at the end of the line",
        ),
        (
            "expect running within 5s of yesterday",
            r#""yesterday" is not reset or action"#,
        ),
        (
            "expect nic a address 10.0.0.5",
            r#""10.0.0.5" is not an address such as 10.0.0.5/24"#,
        ),
        ("expect calls-per-second < 5", r#""<" is not =, <= or >="#),
        ("expect calls-per-second <= NaN", r#""NaN" is not a number"#),
        ("fault", r#"fault: a step expected after """#),
        ("fault jump status 0", r#"fault: "jump" is not a step"#),
        ("fault open next 0 status 0", r#"fault: "0" is not a count"#),
        ("fault open status MAYBE", r#"fault: "MAYBE" is not status flags"#),
        ("fault open status 65536", r#"fault: "65536" is not status flags"#),
        (
            "fault open sigsegv twice",
            r#"fault: "twice" is not expected here"#,
        ),
        ("set colour on", r#""colour" is not a setting"#),
        ("set hb maybe", r#""maybe" is not on or off"#),
        (
            "rpci \"x\" perhaps",
            r#""perhaps" is not refuse, reply, silence, delay or normal"#,
        ),
    ] {
        let error = Scenario::parse("bad.scenario", &format!("# first\n\n{line}\nwait 1s\n")).unwrap_err();
        assert!(
            matches!(error, ScenarioError::Line { line: 3, .. }),
            "{line}: {error}"
        );
        assert_eq!(error.to_string(), format!("bad.scenario:3: {message}"));
    }
    let error = Scenario::parse("bad", "allow violation everything")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("bad:1: \"everything\" is not one of any, high-halves, "),
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Scenario::read(std::path::Path::new("/nonexistent/x.scenario")).unwrap_err();
    assert!(
        error.to_string().starts_with("/nonexistent/x.scenario: "),
        "{error}"
    );
}

#[test]
fn durations() {
    assert_eq!(lexer::duration("1.5s"), Some(Duration::from_millis(1500)));
    assert_eq!(lexer::duration("2m"), Some(Duration::from_secs(120)));
    for wrong in ["", "s", "1", "1h", "ms", "-1s", "infs", "NaNs", "1e9m"] {
        assert_eq!(lexer::duration(wrong), None, "{wrong}");
    }
    assert_eq!(lexer::words("a \"b"), Err(LexError::OpenQuote));
}

proptest! {
    #[test]
    fn any_line_is_a_command_or_an_error(line in ".{0,200}") {
        let _ = Command::parse(&line);
    }

    #[test]
    fn any_words_are_a_command_or_an_error(
        words in proptest::collection::vec(
            prop_oneof![
                Just("expect"), Just("no"), Just("nic"), Just("within"), Just("5s"), Just("of"), Just("reset"),
                Just("\"x\""), Just("fault"), Just("any"), Just("next"), Just("status"), Just("0"), Just("set"),
                Just("rpci"), Just("="), Just("variable"), Just("exit"), Just("signal"), Just("version"), Just("type"),
            ],
            0..10,
        )
    ) {
        let _ = Command::parse(&words.join(" "));
    }
}
