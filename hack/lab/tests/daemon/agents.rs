//! Two agents on one host, which serves one. What hosts make of the second OPEN is not published in detail, so both
//! habits are tried: the newest takes the channel over, and the first keeps it.

use std::collections::BTreeMap;

use libtest_mimic::Failed;
use serde_json::Value;

use super::run::{Guest, Run, ensure};

/// What is said once when the channel is taken away again and again.
const FIGHT: &str = "does a second agent run on this node";

/// Attempts per second that are no loop: the shortest pause in a row of losses is 0.8 s.
const RATE: f64 = 1.25;

/// Attempts beyond that rate: the first, and the one at once after a loss.
const AT_ONCE: f64 = 4.0;

/// Lets the two be for so long. A fight is noticed after three losses.
const SCENARIO: &str = "power-on\nexpect running within 20s\nwait 20s\nexpect heartbeat green within 2s\n\
                        expect registered within 5s\n";

/// How often each process opened a TCLO channel, by its number.
fn opened(run: &Run) -> Result<BTreeMap<i64, u32>, Failed> {
    let mut opened = BTreeMap::new();
    for event in run.transcript()? {
        if event["ev"] == "open" && event["proto"] == "TCLO" {
            *opened.entry(event["pid"].as_i64().unwrap()).or_default() += 1;
        }
    }
    Ok(opened)
}

/// The summary of the run.
fn summary(run: &Run) -> Result<Value, Failed> {
    let mut events = run.transcript()?.into_iter();
    Ok(events
        .find(|event| event["ev"] == "summary")
        .ok_or("no summary")?)
}

fn saying(log: &[Value], text: &str) -> usize {
    log.iter()
        .filter(|line| line["msg"].as_str().unwrap().contains(text))
        .count()
}

/// Nobody opens the channel more often than the pauses allow.
fn ensure_patience(run: &Run) -> Result<(), Failed> {
    let seconds = summary(run)?["seconds"].as_f64().unwrap();
    let opened = opened(run)?;
    ensure(opened.len() == 2, format!("not two agents: {opened:?}"))?;
    ensure(
        opened
            .values()
            .all(|times| f64::from(*times) <= RATE * seconds + AT_ONCE),
        format!("in {seconds} s: {opened:?}"),
    )
}

/// Two of ours, and the newest wins: each takes the channel from the other, says so once, and goes on with patience; the
/// host is served all the time.
pub fn newest_wins() -> Result<(), Failed> {
    let run = Run::new(Guest::TwoDaemons, &[]);
    let log = run.log_of(&format!("set tclo-owner newest\n{SCENARIO}"))?;
    ensure_patience(&run)?;
    let said = saying(&log, FIGHT);
    ensure(said == 2, format!("two agents said it {said} times"))?;
    // Two each before the third loss makes it a fight, and one or two more where a pause by chance let a channel live long
    // enough to count as well; without the notice it is one a loss, some twenty.
    let ordinary = saying(&log, "no channel to the host");
    ensure(
        (2..=8).contains(&ordinary),
        format!("{ordinary} lines about losses"),
    )
}

/// Two of ours, and the host refuses the second: the first is not disturbed, and the second waits, with one line.
pub fn first_stays() -> Result<(), Failed> {
    let run = Run::new(Guest::TwoDaemons, &[]);
    let log = run.log_of(&format!(
        "set tclo-owner first\n{SCENARIO}ask \"ping\"\nexpect reply \"OK \"\nexpect no close tclo\n"
    ))?;
    let opened = opened(&run)?;
    ensure(
        opened.len() == 1 && opened.values().all(|times| *times == 1),
        format!("the first one was disturbed: {opened:?}"),
    )?;
    let summary = summary(&run)?;
    // With cookies and without, each time; the pauses double.
    let refused = summary["open_failures"].as_u64().unwrap();
    ensure((2..=16).contains(&refused), format!("{refused} OPENs refused"))?;
    let lost = saying(&log, "no channel to the host");
    ensure(lost == 1, format!("{lost} lines about the refusal"))
}

/// Debian's vmtoolsd beside ours, and the newest wins: ours says it once and neither drives the other into a loop.
pub fn open_vm_tools() -> Result<(), Failed> {
    let run = Run::new(Guest::DaemonAndOpenVmTools, &["--third-party"]);
    let log = run.log_of(&format!("set tclo-owner newest\n{SCENARIO}"))?;
    ensure_patience(&run)?;
    let said = saying(&log, FIGHT);
    ensure(said == 1, format!("it was said {said} times"))
}
