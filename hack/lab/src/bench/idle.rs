//! What the agents cost while the host only asks for a sign of life.

use std::thread;

use anyhow::Context;
use serde_json::Value;

use super::{
    agent::{Agent, Kind},
    table,
};

/// Backdoor calls a second that the daemon may make at the default ceiling.
const BOUND_CALLS: f64 = 5.0;
/// Memory of daemon and supervisor together, in KiB.
const BOUND_KIB: f64 = 6144.0;

/// Measures all agents at the same time; false if a bound of ours is broken.
pub fn run(minutes: f64) -> anyhow::Result<bool> {
    let seconds = (minutes.clamp(0.05, 600.0) * 60.0).round();
    let agents = Agent::start_all(&[Kind::OpenVmTools, Kind::Govmomi], &[])?;
    println!(
        "Idle for {seconds} s, all at the same time; the host pings every 5 s and asks for the address every 30 s.\n"
    );
    let measuring: Vec<_> = agents
        .into_iter()
        .map(|mut agent| {
            thread::Builder::new().name(agent.kind.name().to_owned()).spawn(
                move || -> anyhow::Result<(Kind, Value)> {
                    agent.ask("wait 30s")?;
                    Ok((agent.kind, agent.ask(&format!("measure {seconds}s"))?))
                },
            )
        })
        .collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    let mut kept = true;
    for thread in measuring {
        let joined = thread.join().ok().context("a measuring thread panicked")?;
        let (kind, summary) = joined?;
        let figure = |name: &str| summary.get(name).and_then(Value::as_f64).unwrap_or_default();
        rows.push(vec![
            kind.name().to_owned(),
            format!("{:.2}", figure("calls_per_second")),
            format!("{:.2}", figure("polls_per_second")),
            format!("{:.2}", figure("wakeups_per_second")),
            format!("{:.3} %", figure("cpu_percent")),
            format!("{} KiB", figure("resident_kib")),
            format!("{:.2} ms", figure("reply_median_ms")),
            format!("{:.2} ms", figure("reply_max_ms")),
        ]);
        if kind == Kind::Daemon {
            kept = figure("calls_per_second") <= BOUND_CALLS && figure("resident_kib") <= BOUND_KIB;
        }
    }
    let head = [
        "agent",
        "calls/s",
        "polls/s",
        "wake-ups/s",
        "CPU",
        "resident",
        "reply",
        "worst",
    ];
    table::print(&head, &rows);
    println!(
        "\nCPU is an upper bound: each backdoor call is a ptrace stop here. Resident is all processes together.\n\
         bound: talos-vmtoolsd, at most {BOUND_CALLS} calls/s and {BOUND_KIB} KiB: {}",
        if kept { "kept" } else { "BROKEN" }
    );
    Ok(kept)
}
