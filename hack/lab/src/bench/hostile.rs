//! A host that asks nonsense as fast as it is answered.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    agent::{Agent, Kind},
    table,
};

/// A good request in between is answered in this time after it was fetched, in milliseconds.
const BOUND_MS: f64 = 20.0;
/// Log lines of the whole flood.
const BOUND_LINES: usize = 50;
/// Growth of resident memory that counts as flat, in KiB: a stack or a pool that is used for the first time.
const BOUND_KIB: i64 = 1024;
/// The flood's beginning, which pages in what the start did not need.
const WARM_UP: u64 = 5_000;

/// Floods the daemon; false if a bound is broken.
pub fn run(requests: u64, limit: Duration) -> anyhow::Result<bool> {
    let mut agent = Agent::start(Kind::Daemon, &["--ping", "off", "--broadcast", "off"])?;
    agent.ask("wait 3s")?;
    agent.ask(&format!("flood {}", WARM_UP.min(requests)))?;
    agent.ask("expect flood-over within 2m")?;
    let lines_before = agent.log_lines()?;
    let before = figure(&agent.ask("summary")?, "resident_kib");
    let answered = figure(&agent.ask("summary")?, "tclo");

    let begin = Instant::now();
    agent.ask(&format!("flood {requests}"))?;
    let mut latencies = Vec::new();
    let mut waits = Vec::new();
    let mut resident = Vec::new();
    while agent.try_ask("expect flood-over within 1s")?.get("ok") != Some(&Value::Bool(true)) {
        let reply = agent.ask("ask \"ping\"")?;
        latencies.push(number(&reply, "latency_ms"));
        waits.push(number(&reply, "after_ms"));
        resident.push(figure(&agent.ask("summary")?, "resident_kib"));
        if begin.elapsed() > limit {
            println!("the limit of {limit:?} ended the flood");
            agent.ask("flood 0")?;
        }
    }
    let took = begin.elapsed();
    let summary = agent.ask("summary")?;
    let after = figure(&summary, "resident_kib");
    let answered = figure(&summary, "tclo") - answered;
    let lines = agent.log_lines()?.saturating_sub(lines_before);
    let most = resident.iter().copied().chain([after]).max().unwrap_or(after);
    let worst = |times: &[Option<f64>]| {
        times
            .iter()
            .copied()
            .collect::<Option<Vec<f64>>>()
            .and_then(|times| times.into_iter().reduce(f64::max))
    };
    let slowest = worst(&latencies);
    let bounds = [
        ("memory", most - before <= BOUND_KIB),
        ("log", lines < BOUND_LINES),
        ("good request", slowest.is_some_and(|slowest| slowest <= BOUND_MS)),
    ];
    let rate = if took.is_zero() {
        0.0
    } else {
        answered as f64 / took.as_secs_f64()
    };
    let two = |time: Option<f64>| time.map_or_else(|| "none".to_owned(), |time| format!("{time:.2} ms"));
    table::print(
        &["hostile requests at full speed", ""],
        &[
            vec!["requests answered".into(), answered.to_string()],
            vec!["in".into(), format!("{:.1} s", took.as_secs_f64())],
            vec!["rate, ptrace included".into(), format!("{rate:.0}/s")],
            vec!["resident before".into(), format!("{before} KiB")],
            vec!["resident at most".into(), format!("{most} KiB")],
            vec!["resident after".into(), format!("{after} KiB")],
            vec!["log lines".into(), lines.to_string()],
            vec!["good requests in between".into(), latencies.len().to_string()],
            vec![
                "  fetched to answered, median".into(),
                two(table::median(&latencies)),
            ],
            vec!["  fetched to answered, worst".into(), two(slowest)],
            vec!["  asked to answered, worst".into(), two(worst(&waits))],
        ],
    );
    for (bound, kept) in bounds {
        println!("bound: {bound}: {}", if kept { "kept" } else { "BROKEN" });
    }
    Ok(bounds.iter().all(|(_, kept)| *kept))
}

fn number(answer: &Value, name: &str) -> Option<f64> {
    answer.get(name).and_then(Value::as_f64)
}

fn figure(summary: &Value, name: &str) -> i64 {
    summary.get(name).and_then(Value::as_i64).unwrap_or_default()
}
