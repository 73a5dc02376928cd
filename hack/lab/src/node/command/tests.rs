#![allow(clippy::panic, reason = "a failed step of a test is a failed test")]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(line: &str) -> Command {
    line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn mistake(line: &str) -> String {
    line.parse::<Command>().unwrap_err().to_string()
}

#[test]
fn an_address_has_an_origin_and_flags() {
    let Command::AddAddress(address) =
        parse("address add eth0 10.0.0.9/24 dhcp tentative deprecated priority 5 scope link")
    else {
        panic!("no address");
    };
    assert_eq!(address.link, "eth0");
    assert_eq!(address.origin, Origin::Dhcp);
    assert_eq!(address.flags, 0x40 | 0x20);
    assert_eq!((address.priority, address.scope), (5, Some(253)));
    let Command::AddAddress(plain) = parse("address add eth0 10.0.0.9/24") else {
        panic!("no address");
    };
    assert_eq!((plain.origin, plain.flags), (Origin::Static, 0x80));
}

#[test]
fn a_link_has_a_kind_and_attributes_in_any_order() {
    let Command::AddLink(link) = parse("link add eth1 e1000 down mtu 9000 mac 00:50:56:00:00:01") else {
        panic!("no link");
    };
    assert_eq!(
        (link.kind.as_str(), link.mtu, link.down),
        ("e1000", Some(9000), true)
    );
    let Command::AddLink(link) = parse("link add eth1 mtu 9000") else {
        panic!("no link");
    };
    assert_eq!(link.kind, "vmxnet3");
}

#[test]
fn power_calls_have_an_effect() {
    use super::super::{
        power::Effect,
        sequence::{Course, Fault},
    };
    let effect = |line: &str| match parse(line) {
        Command::Power(effect) => effect,
        other => panic!("{other:?}"),
    };
    assert_eq!(effect("power record"), Effect::Record);
    assert_eq!(effect("power run"), Effect::Run(Course::default()));
    assert_eq!(
        effect("power run drain 3s services 100ms fatal"),
        Effect::Run(Course {
            drain: Duration::from_secs(3),
            services: Duration::from_millis(100),
            fault: Some(Fault::Fatal),
        })
    );
    assert!("power run slowly".parse::<Command>().is_err());
    assert!("events begin".parse::<Command>().is_err());
    assert!("report".parse::<Command>().is_err());
}

#[test]
fn times_are_understood() {
    for (text, millis) in [("2s", 2000), ("500ms", 500), ("0.25s", 250), ("3", 3000)] {
        let Command::Restart { down_for, .. } = parse(&format!("restart down-for {text}")) else {
            panic!("no restart");
        };
        assert_eq!(down_for, Duration::from_millis(millis), "{text}");
    }
    for text in ["-1s", "NaN", "2 h", "99999999s", "infs"] {
        assert!(
            format!("restart down-for {text}").parse::<Command>().is_err(),
            "{text}"
        );
    }
}

#[test]
fn a_resource_is_the_rest_of_the_line() {
    let line = r#"resource put {"type": "X", "id": "a b", "spec": {"text": "one two"}}"#;
    let Command::PutResource(document) = parse(line) else {
        panic!("no resource");
    };
    assert_eq!(document.id, "a b");
    assert_eq!(document.spec, json!({ "text": "one two" }));
    let Command::Resource(change, namespace, name, id) = parse("resource remove network/X a") else {
        panic!("no resource");
    };
    assert_eq!(change, ResourceChange::Remove);
    assert_eq!(
        (namespace.as_deref(), name.as_str(), id.as_str()),
        (Some("network"), "X", "a")
    );
}

#[test]
fn expectations_have_conditions() {
    let Command::ExpectCall(expected, count, within) =
        parse("expect call Shutdown role os:operator outcome ok force=true count 1 within 2s")
    else {
        panic!("no expectation");
    };
    assert_eq!(expected.role.as_deref(), Some("os:operator"));
    assert_eq!(expected.outcome, Some(Code::Ok));
    assert_eq!(expected.request, [("force".to_owned(), "true".to_owned())]);
    assert_eq!((count, within), (Some(1), Duration::from_secs(2)));
    let Command::ExpectNoCall(expected, time) = parse("expect no call Reboot for 1s") else {
        panic!("no expectation");
    };
    assert_eq!(
        (expected.method.as_str(), time),
        ("Reboot", Duration::from_secs(1))
    );
}

#[test]
fn mistakes_say_what_was_expected() {
    assert_eq!(mistake(""), "a command is missing");
    assert_eq!(mistake("adress add"), "\"adress\" is no command");
    assert_eq!(
        mistake("address add eth0 10.0.0.9"),
        "\"10.0.0.9\" is no address with a prefix length"
    );
    assert_eq!(
        mistake("address add eth0 10.0.0.9/33"),
        "\"10.0.0.9/33\" is no address with a prefix length"
    );
    assert_eq!(
        mistake("address add eth0 10.0.0.9/24 dhpc"),
        "\"dhpc\" is no origin, flag or attribute of an address"
    );
    assert_eq!(
        mistake("stage set running now"),
        "\"now\" is no word of this command: unready"
    );
    assert_eq!(mistake("cut off"), "\"off\" is no word of this command");
    assert_eq!(mistake("refuse nope Version"), "\"nope\" is no gRPC code");
    for pid in ["1", "0", "-5"] {
        assert_eq!(
            mistake(&format!("power stop {pid}")),
            format!("\"{pid}\" is no process id")
        );
    }
}

proptest! {
    #[test]
    fn no_line_breaks_the_parser(line in ".{0,80}") {
        _ = line.parse::<Command>();
    }

    #[test]
    fn no_words_break_the_parser(words in proptest::collection::vec(
        prop::sample::select(vec![
            "link", "address", "route", "add", "remove", "set", "resource", "put", "expect", "no", "call", "count",
            "within", "eth0", "10.0.0.1/24", "via", "default", "-1", "2s", "stall", "power", "stop", "{", "é",
        ]),
        0..8,
    )) {
        _ = words.join(" ").parse::<Command>();
    }
}

#[test]
fn a_torn_frame_has_an_end() {
    use super::super::faults::Torn;
    assert!(matches!(parse("tear close"), Command::Tear(Torn::Close)));
    assert!(matches!(parse("tear silence"), Command::Tear(Torn::Silence)));
    assert_eq!(mistake("tear"), "close or silence is missing");
    assert_eq!(
        mistake("tear down"),
        "\"down\" is no end of a torn frame: close or silence"
    );
}
