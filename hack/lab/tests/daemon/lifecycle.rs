//! What the daemon's own log tells of its life. The scenarios see the host's side of the same.

use std::fmt::Write;

use libtest_mimic::Failed;
use serde_json::Value;

use super::run::{Guest, Run, ensure};

/// Lines of one feature whose message contains a text.
fn lines<'a>(log: &'a [Value], feature: &str, text: &str) -> Vec<&'a Value> {
    log.iter()
        .filter(|line| line["feature"] == feature && line["msg"].as_str().unwrap().contains(text))
        .collect()
}

/// `vmsupport.start`: the whole state in at most 60 lines with one number, whatever the level; `guestLogLevel` opens the
/// log up to debug and closes it again.
pub fn report() -> Result<(), Failed> {
    let log = Run::new(Guest::Daemon, &[]).log_of(
        "expect running within 10s\n\
         expect rpci \"SetGuestInfo  10 \" within 10s\n\
         wait 1s\n\
         send \"Set_Option guestLogLevel debug\"\n\
         expect reply \"OK \" within 1s\n\
         wait 500ms\n\
         send \"Set_Option synctime 7\"\n\
         expect reply \"OK \" within 1s\n\
         send \"vmsupport.start\"\n\
         expect reply \"OK \" within 1s\n\
         send \"Set_Option guestLogLevel normal\"\n\
         expect reply \"OK \" within 1s\n\
         wait 500ms\n\
         send \"Set_Option synctime 8\"\n\
         expect reply \"OK \" within 1s\n\
         wait 1s\n",
    )?;
    let report: Vec<_> = log.iter().filter(|line| line["part"].is_string()).collect();
    ensure(
        report.len() <= 60 && report.len() > 20,
        format!("{} lines", report.len()),
    )?;
    let number = &report[0]["operation"];
    ensure(
        number.is_u64() && report.iter().all(|line| line["operation"] == *number),
        format!("{number}"),
    )?;
    for (part, text) in [
        ("program", "talos-vmtoolsd 0."),
        ("settings", "machine.sock"),
        ("options", "guestLogLevel=debug"),
        ("counters", "resets: 1"),
        ("history", "0 outages"),
        ("clock", "guest minus host: "),
        ("node", "hostname: {"),
        ("node", "addresses: "),
        ("published", "nic-info nics: {"),
        ("published", "host-name: \""),
        ("published", "uptime: \""),
    ] {
        let told = report
            .iter()
            .any(|line| line["part"] == part && line["msg"].as_str().unwrap().contains(text));
        ensure(told, format!("{part} without {text}: {report:#?}"))?;
    }
    let options = lines(&log, "options", "sets an option");
    let of_synctime = |value: &str| {
        options
            .iter()
            .any(|line| line["name"] == "synctime" && line["value"] == value)
    };
    ensure(of_synctime("7"), "no debug lines at level debug")?;
    ensure(!of_synctime("8"), "debug lines after the level was taken back")
}

/// A second agent on the channel is said once in the node's log, and the ordinary lines of an outage end with it.
pub fn second_agent() -> Result<(), Failed> {
    let mut scenario = String::from("set ping off\nexpect running within 10s\nwait 3s\n");
    for _ in 0..6 {
        scenario
            .push_str("close tclo\nexpect open tclo within 15s\nexpect registered within 10s\nwait 100ms\n");
    }
    let log = Run::new(Guest::Daemon, &[]).log_of(&scenario)?;
    let said = lines(&log, "tclo", "does a second agent run on this node");
    ensure(said.len() == 1, format!("said {} times", said.len()))?;
    let ordinary = lines(&log, "tclo", "no channel to the host").len();
    ensure(ordinary == 2, format!("{ordinary} lines about six losses"))?;
    ensure(
        lines(&log, "tclo", "works again").len() == 2,
        "lines about the ends of outages",
    )
}

/// However an outage is found, by a poll or by a call that was queued first, it is two lines.
pub fn outages() -> Result<(), Failed> {
    let mut scenario = String::from("set ping off\nexpect running within 10s\nwait 5s\n");
    let outages = 2;
    for outage in 0..outages {
        let _ = writeln!(
            scenario,
            "fault open every status 0\nclose\nnode hostname set renamed-{outage}\nwait 3s\nfaults clear\n\
             expect running within 15s\nexpect hostname \"renamed-{outage}\" within 5s\nwait 1s"
        );
    }
    let log = Run::new(Guest::Daemon, &[]).log_of(&scenario)?;
    let told: Vec<_> = log
        .iter()
        .filter(|line| line["feature"] == "tclo" || line["feature"] == "rpci")
        .collect();
    ensure(told.len() == 2 * outages, format!("{told:#?}"))?;
    let pairs = told.chunks(2).all(|pair| {
        pair[0]["msg"] == "no channel to the host"
            && pair[1]["msg"] == "the channel to the host works again"
            && !pair[1]["outage"].is_null()
    });
    ensure(pairs, format!("{told:#?}"))?;
    let unable = log.iter().filter(|line| line["level"] == "warn").count();
    ensure(
        unable == outages,
        format!("{unable} warnings of {outages} outages: {log:#?}"),
    )
}

/// A process that did not run for a while says so: the machine was slow, not the program.
pub fn slow_guest() -> Result<(), Failed> {
    Run::new(Guest::DaemonUnprivileged, &[])
        .log_of(
            "set ping off\nset broadcast off\n\
             expect running within 10s\n\
             expect rpci \"update.tools.health normal\" within 10s\n\
             signal STOP\n\
             wait 13s\n\
             signal CONT\n\
             expect rpci \"update.tools.health guest_slow\" within 10s\n\
             expect rpci \"update.tools.health normal\" within 10s\n",
        )
        .map(drop)
}
