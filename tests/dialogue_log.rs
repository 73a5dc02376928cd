//! What the channel writes into the log: one line when an outage begins, one when it ends, and never a flood.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "dialogue/host.rs"]
mod host;
#[path = "dialogue/lines.rs"]
mod lines;

use std::time::Duration;

use talos_vmtoolsd::rpci::{self, Request};
use tracing_subscriber::filter::LevelFilter;

use host::{At, Bench, Host};
use lines::Lines;

const SECOND: Duration = Duration::from_secs(1);

/// The lines of level info and above that `action` wrote.
fn logged(action: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(LevelFilter::INFO)
        .with_writer(lines.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, action);
    lines.all()
}

#[test]
fn an_outage_has_two_lines_and_the_second_has_its_length() {
    let lines = logged(|| {
        let mut bench = Bench::new(Host::asks(&["reset"]));
        bench.run(10 * SECOND);
        bench.host().forget();
        bench.host().fault = Box::new(|at, _| (at == At::Open).then_some(0));
        bench.run(3600 * SECOND);
        bench.host().fault = Box::new(|_, _| None);
        bench.run(30 * SECOND);
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("no channel to the host"),
        "{lines:#?}"
    );
    assert!(lines[0].contains("SENDSIZE answered 0x0000"), "{lines:#?}");
    assert!(
        lines[1].contains("INFO") && lines[1].contains("outage=36"),
        "{lines:#?}"
    );
}

#[test]
fn a_long_outage_while_another_agent_fights_is_told_with_its_length() {
    let lines = logged(|| {
        let mut bench = Bench::new(Host::asks(&["reset"]));
        for _ in 0..4 {
            bench.run(3 * SECOND);
            bench.host().forget();
        }
        bench.run(3 * SECOND);
        bench.host().forget();
        bench.host().fault = Box::new(|at, _| (at == At::Open).then_some(0));
        bench.run(600 * SECOND);
        bench.host().fault = Box::new(|_, _| None);
        bench.run(30 * SECOND);
    });
    let fight = lines
        .iter()
        .position(|line| line.contains("second agent"))
        .unwrap();
    let after = &lines[fight + 1..];
    assert_eq!(after.len(), 2, "{lines:#?}");
    assert!(after[0].contains("no channel to the host"), "{lines:#?}");
    assert!(after[1].contains("outage=6"), "{lines:#?}");
}

/// Queues a call whose answer nobody needs; the receiver is what keeps it wanted.
fn ask(bench: &Bench) -> rpci::Answer {
    bench.client.submit(Request::text("log x")).unwrap()
}

#[test]
fn an_outage_that_a_call_finds_first_has_the_same_two_lines() {
    let lines = logged(|| {
        let mut bench = Bench::new(Host::asks(&["reset"]));
        bench.run(10 * SECOND);
        bench.host().forget();
        bench.host().fault = Box::new(|at, _| (at == At::Open).then_some(0));
        let mut answers = vec![ask(&bench)];
        bench.run(600 * SECOND);
        bench.host().fault = Box::new(|_, _| None);
        answers.push(ask(&bench));
        bench.run(30 * SECOND);
        answers.push(ask(&bench));
        bench.run(SECOND);
        assert!(answers.remove(0).try_recv().unwrap().is_err());
        assert!(answers.pop().unwrap().try_recv().unwrap().is_ok());
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("no channel to the host"), "{lines:#?}");
    assert!(
        lines[1].contains("the channel to the host works again") && lines[1].contains("outage=6"),
        "{lines:#?}"
    );
}

#[test]
fn an_outage_of_rpci_alone_has_two_lines_of_its_own() {
    let lines = logged(|| {
        let mut bench = Bench::new(Host::asks(&["reset"]));
        bench.run(10 * SECOND);
        bench.host().fault = Box::new(|_, tclo| (!tclo).then_some(0));
        for _ in 0..60 {
            let _answer = ask(&bench);
            bench.run(SECOND);
        }
        bench.host().fault = Box::new(|_, _| None);
        bench.run(15 * SECOND);
        let _answer = ask(&bench);
        bench.run(SECOND);
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].contains("the RPCI channel does not work") && lines[0].contains("refused to open"),
        "{lines:#?}"
    );
    assert!(
        lines[1].contains("the RPCI channel works again") && lines[1].contains("outage=7"),
        "{lines:#?}"
    );
}

#[test]
fn rpci_that_stays_away_after_an_outage_of_both_is_said() {
    let lines = logged(|| {
        let mut bench = Bench::new(Host::asks(&["reset"]));
        bench.run(10 * SECOND);
        bench.host().forget();
        bench.host().fault = Box::new(|at, _| (at == At::Open).then_some(0));
        let _answer = ask(&bench);
        bench.run(30 * SECOND);
        bench.host().fault = Box::new(|_, tclo| (!tclo).then_some(0));
        bench.run(30 * SECOND);
        let _answer = ask(&bench);
        bench.run(5 * SECOND);
    });
    let said = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!(said("no channel to the host"), 1, "{lines:#?}");
    assert_eq!(said("the channel to the host works again"), 1, "{lines:#?}");
    assert_eq!(said("the RPCI channel does not work"), 1, "{lines:#?}");
}

#[test]
fn row_30_what_the_host_triggers_is_limited() {
    let lines = logged(|| {
        for endless in [
            "no such command",
            " ",
            "Set_Option x",
            "reset",
            "Capabilities_Register",
        ] {
            let mut bench = Bench::new(Host::asks_for_ever(endless));
            for _ in 0..20_000 {
                bench.step();
            }
            assert_eq!(bench.host().seen().reply_count, 19_999, "{endless}");
        }
    });
    assert!(!lines.is_empty());
    assert!(lines.len() < 50, "{} lines: {lines:#?}", lines.len());
    assert!(lines.iter().all(|line| line.len() < 300), "{lines:#?}");
}

#[test]
fn a_refused_capability_is_named_once() {
    let lines = logged(|| {
        let mut host = Host::default();
        host.respond = Box::new(|_| b"0 Unknown command".to_vec());
        let mut bench = Bench::new(host);
        for _ in 0..10 {
            bench.host().ask("reset");
            bench.host().ask("Capabilities_Register");
            bench.run(SECOND);
        }
    });
    let versions: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("tools.set.versiontype"))
        .collect();
    assert_eq!(versions.len(), 1, "{lines:#?}");
    // Announcement, two forms of the version, info-set, and the build number.
    assert_eq!(lines.len(), 5, "{lines:#?}");
}
