//! How long a change of the node takes to the wire, whatever else is on the node: `lab bench latency`.
//!
//! ```text
//!  node address add … ──> lab node ──watch──> talos-vmtoolsd ──SetGuestInfo 10──> simulated host
//!  └────────────────────────── counted from here to the decoded message ──────────────────────┘
//! ```
//!
//! The time has the node's own work in it. Each change waits until the thread that polls the host has slowed down to its
//! ceiling. A crowd of pods must not cost time.

use anyhow::Context;
use serde_json::Value;

use super::{
    agent::{Agent, Kind},
    table,
};

/// Median and 99th percentile from the change to the wire, in milliseconds.
const BOUND_MEDIAN_MS: f64 = 10.0;
const BOUND_P99_MS: f64 = 150.0;

/// The host asks for nothing in between.
const OPTIONS: &[&str] = &["--broadcast", "off"];

/// What else is on the node: a name, links and addresses of pods, mounts of pods.
const CROWDS: [(&str, u32, u32, u32); 5] = [
    ("nothing", 0, 0, 0),
    ("100 addresses", 60, 100, 0),
    ("1,000 addresses", 600, 1000, 0),
    ("10,000 addresses", 6000, 10_000, 0),
    ("3,000 links, 500 mounts", 3000, 5000, 500),
];

/// The adapter that changes.
const NIC: &str = "00:50:56:ab:cd:ef";

/// Measures each crowd; false if a bound is broken.
pub fn run(rounds: u8) -> anyhow::Result<bool> {
    println!(
        "Time from a change of an address in the node to the message on the wire, {rounds} changes each.\n"
    );
    let mut rows = Vec::new();
    let mut kept = true;
    for (name, links, addresses, mounts) in CROWDS {
        let mut agent = Agent::start(Kind::Daemon, OPTIONS)?;
        for mount in 0..mounts {
            let target = format!("/var/lib/kubelet/pods/{mount}/volumes/data");
            agent.ask(&format!("node filesystem set /dev/sdc {target} 1000000 500000"))?;
        }
        if links > 0 {
            agent.ask(&format!("node crowd {links} links {addresses} addresses"))?;
        }
        let mut times = Vec::new();
        for round in 0..rounds {
            agent.ask("wait 1500ms")?;
            agent.ask(&format!("node address add eth0 10.9.0.{round}/24"))?;
            let seen = format!("expect nic {NIC} address 10.9.0.{round}/24 within 10s");
            times.push(
                agent
                    .ask(&seen)?
                    .get("after_ms")
                    .and_then(Value::as_f64)
                    .context("no time")?,
            );
        }
        times.sort_by(f64::total_cmp);
        let (median, p99, worst) = (at(&times, 50), at(&times, 99), at(&times, 100));
        kept &= median <= BOUND_MEDIAN_MS && p99 <= BOUND_P99_MS;
        rows.push(vec![
            name.to_owned(),
            format!("{median:.2} ms"),
            format!("{p99:.2} ms"),
            format!("{worst:.2} ms"),
        ]);
    }
    table::print(&["on the node", "median", "99 %", "worst"], &rows);
    println!(
        "\nbound: median {BOUND_MEDIAN_MS} ms, 99 % {BOUND_P99_MS} ms: {}",
        if kept { "kept" } else { "BROKEN" }
    );
    Ok(kept)
}

/// The time that so many percent of the sorted `times` do not exceed.
fn at(times: &[f64], percent: usize) -> f64 {
    let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(place).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_few_times() {
        let times: Vec<f64> = (1..=50).map(f64::from).collect();
        assert_eq!(
            (at(&times, 50), at(&times, 99), at(&times, 100)),
            (25.0, 50.0, 50.0)
        );
        assert!(at(&[], 50).is_nan());
    }
}
