//! How long the host is without tools, and without facts, after it lost the channel.

use serde_json::Value;

use super::{
    agent::{Agent, Kind},
    table,
};

/// The daemon's own bound, from the loss until facts are told again: one poll pause and some.
const BOUND_MS: f64 = 700.0;

/// The host asks for nothing in between.
const OPTIONS: &[&str] = &["--broadcast", "off"];

/// Ways to lose a channel: a name, and commands of the laboratory that end with the loss.
const SITUATIONS: [(&str, &[&str]); 7] = [
    ("hard checkpoint", &["vmotion hard"]),
    ("soft checkpoint", &["vmotion"]),
    ("host restarts", &["restart"]),
    ("TCLO closed by the host", &["close tclo"]),
    ("RPCI closed by the host, then reset", &["close rpci", "reset"]),
    ("cookies of another time", &["change cookies"]),
    (
        "no channel for 5 s",
        &["fault open every status 0", "close", "wait 5s", "faults clear"],
    ),
];

/// What is waited for, each from the loss on: a name, and an expectation.
const STEPS: [(&str, &str); 3] = [
    ("registered", "rpci \"vmx.capability.unified_loop\""),
    ("version", "rpci \"tools.set.version\""),
    ("facts", "rpci \"SetGuestInfo  "),
];

/// Measures all situations; false if the bound of the first is broken.
pub fn run(rounds: u32) -> anyhow::Result<bool> {
    let mut agents = Agent::start_all(&[Kind::OpenVmTools], OPTIONS)?;
    println!(
        "Time from the loss of the channel until the host was told again; median and worst of {rounds}.\n\
         Polling had slowed down to the agent's ceiling before.\n"
    );
    let mut rows = Vec::new();
    let mut kept = true;
    for (situation, commands) in SITUATIONS {
        for agent in &mut agents {
            let mut row = vec![situation.to_owned(), agent.kind.name().to_owned()];
            let times = match measure(agent, commands, rounds) {
                Ok(times) => times,
                Err(error) if agent.kind == Kind::Daemon => return Err(error),
                // Another agent may give up for good; that is a result.
                Err(_) => {
                    row.push("it ended".to_owned());
                    rows.push(row);
                    *agent = Agent::start(agent.kind, OPTIONS)?;
                    continue;
                }
            };
            for times in &times {
                let worst = times.iter().copied().collect::<Option<Vec<f64>>>();
                let worst = worst.and_then(|times| times.into_iter().reduce(f64::max));
                row.push(table::milliseconds(table::median(times)));
                row.push(table::milliseconds(worst));
                if situation == "hard checkpoint" && agent.kind == Kind::Daemon {
                    kept &= worst.is_some_and(|worst| worst <= BOUND_MS);
                }
            }
            rows.push(row);
        }
    }
    let head = [
        "situation",
        "agent",
        "registered",
        "worst",
        "version",
        "worst",
        "facts",
        "worst",
    ];
    table::print(&head, &rows);
    println!(
        "\nbound: talos-vmtoolsd, hard checkpoint, everything within {BOUND_MS} ms: {}",
        if kept { "kept" } else { "BROKEN" }
    );
    Ok(kept)
}

/// The times of each step, a value for each round.
fn measure(agent: &mut Agent, commands: &[&str], rounds: u32) -> anyhow::Result<Vec<Vec<Option<f64>>>> {
    let mut times = vec![Vec::new(); STEPS.len()];
    for _ in 0..rounds {
        // Facts of the start or of the round before are over, and the poll pause is at its ceiling.
        agent.ask("wait 3s")?;
        for command in commands {
            agent.ask(command)?;
        }
        for ((_, what), times) in STEPS.iter().zip(&mut times) {
            times.push(after(agent, expectation(agent.kind, what))?);
        }
    }
    Ok(times)
}

/// Of ours the report of the network is awaited, of others the first report of anything.
fn expectation(kind: Kind, what: &str) -> String {
    match (what.ends_with("  "), kind) {
        (true, Kind::Daemon) => format!("{what}10 \""),
        (true, _) => format!("{what}\""),
        _ => what.to_owned(),
    }
}

/// Time in milliseconds until something comes about; none if it does not within 40 s, longer than open-vm-tools' reports
/// are apart.
fn after(agent: &mut Agent, what: String) -> anyhow::Result<Option<f64>> {
    let answer = agent.try_ask(&format!("expect {what} within 40s"))?;
    Ok(answer.get("after_ms").and_then(Value::as_f64))
}
