//! The state as lines.

use std::{fmt::Write, sync::Arc, time::Instant};

use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::watch;

use crate::{
    clock::Measured,
    config::Settings,
    guestinfo::{self, Calls, Kernel, Policy, Value},
    lifecycle::History,
    options::Shared,
    talos::{Snapshot, snapshot::Fact},
    tclo::Counters,
};

/// Most lines of one report.
pub const MAX_LINES: usize = 60;

/// Longest text of a line in bytes. As JSON, with every byte escaped by another and the fields around it, the line stays
/// below 2 KiB.
pub const MAX_LINE: usize = 900;

/// Where the state is.
#[derive(Clone, Debug)]
pub struct Sources {
    /// When the program started.
    pub started: Instant,
    /// What is set.
    pub settings: Settings,
    /// What the host has set.
    pub options: Shared,
    /// What the backdoor thread has done.
    pub counters: Arc<Counters>,
    /// Outages and interruptions.
    pub history: History,
    /// The last comparison of the clocks.
    pub clock: watch::Receiver<Option<Measured>>,
    /// What is known of the node.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What of it is published.
    pub policy: Policy,
    /// The running kernel.
    pub kernel: Option<Kernel>,
    /// What Talos answers beside the snapshot.
    pub calls: Calls,
}

/// Part of the state, and text.
type Line = (&'static str, String);

/// Everything, in at most [`MAX_LINES`] lines of [`MAX_LINE`] bytes. Texts of the host and of Talos have no control
/// characters in them.
pub fn lines(sources: &Sources) -> Vec<Line> {
    let mut lines = Vec::new();
    program(sources, &mut lines);
    let snapshot = Arc::clone(&sources.snapshots.borrow());
    node(&snapshot, &mut lines);
    published(sources, &snapshot, &mut lines);
    bounded(lines)
}

fn bounded(mut lines: Vec<Line>) -> Vec<Line> {
    if lines.len() > MAX_LINES {
        let left_out = lines.len() - (MAX_LINES - 1);
        lines.truncate(MAX_LINES - 1);
        lines.push(("end", format!("{left_out} more lines are left out")));
    }
    for (_, text) in &mut lines {
        text.retain(|c| !c.is_control());
        if text.len() > MAX_LINE {
            let dots = "…";
            let end = (0..=MAX_LINE - dots.len())
                .rev()
                .find(|&at| text.is_char_boundary(at))
                .unwrap_or(0);
            text.truncate(end);
            text.push_str(dots);
        }
    }
    lines
}

fn program(sources: &Sources, lines: &mut Vec<Line>) {
    let runs = sources.started.elapsed().as_secs();
    lines.push((
        "program",
        format!(
            "{} {}, running for {runs} s",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION")
        ),
    ));
    lines.push(("settings", format!("{:?}", sources.settings)));

    let mut options = String::new();
    for (name, value) in sources.options.snapshot().iter() {
        // Writing to a String cannot fail.
        let _ = write!(options, "{}={} ", name.escape_ascii(), value.escape_ascii());
    }
    for (index, chunk) in chunks(options.trim_end()).into_iter().enumerate() {
        lines.push(("options", chunk));
        if index == 3 {
            break;
        }
    }
    lines.push(("counters", format!("{:?}", sources.counters.figures())));
    for line in sources.history.lines() {
        lines.push(("history", line));
    }
    let clock = match *sources.clock.borrow() {
        None => "not compared yet".to_owned(),
        Some(Measured::Offset(offset)) => format!("guest minus host: {offset} s"),
        Some(Measured::NoHostTime) => "the host tells no time that can be right".to_owned(),
        Some(Measured::Disturbed) => "the last comparison was disturbed".to_owned(),
    };
    lines.push(("clock", clock));
}

fn node(snapshot: &Snapshot, lines: &mut Vec<Line>) {
    let mut facts = Vec::new();
    facts.push(fact("version", &snapshot.version, json));
    facts.push(fact("hostname", &snapshot.hostname, json));
    facts.push(fact("links", &snapshot.links, |all| all.len().to_string()));
    facts.push(fact("addresses", &snapshot.addresses, |all| {
        all.len().to_string()
    }));
    facts.push(fact("routes", &snapshot.routes, |all| all.len().to_string()));
    facts.push(fact("node addresses", &snapshot.node_addresses, json));
    facts.push(fact("node IPs of the kubelet", &snapshot.node_ips, json));
    facts.push(fact("resolvers", &snapshot.resolvers, json));
    facts.push(fact("machine", &snapshot.machine, json));
    facts.push(fact("security", &snapshot.security, json));
    lines.extend(facts.into_iter().map(|text| ("node", text)));
}

fn fact<T>(name: &str, fact: &Fact<T>, show: impl FnOnce(&T) -> String) -> String {
    match fact {
        Fact::Unknown => format!("{name}: not told by Talos yet"),
        Fact::Known { value } => format!("{name}: {}", show(value)),
        Fact::Stale { value, since } => {
            let silent = since.elapsed().unwrap_or_default().as_secs();
            format!("{name}: {} (Talos has been silent for {silent} s)", show(value))
        }
    }
}

/// One line for a plain value, one for each part of a record, and one for each decision behind it.
fn published(sources: &Sources, snapshot: &Snapshot, lines: &mut Vec<Line>) {
    let answers = sources.calls.latest();
    for entry in guestinfo::render(snapshot, &sources.policy, sources.kernel.as_ref(), &answers) {
        let key = entry.key.name();
        let source = entry.source;
        if let Some(Value::Disks(disks)) = &entry.value {
            let lines_of = disks.iter().map(|disk| ("published", format!("{key}: {disk}")));
            lines.extend(lines_of);
            continue;
        }
        match entry
            .value
            .map(|value| serde_json::to_value(value).unwrap_or_default())
        {
            None => lines.push(("published", format!("{key}: nothing, from {source}"))),
            Some(Json::Object(record)) => {
                lines.push(("published", format!("{key}: a record, from {source}")));
                for (field, value) in record {
                    match value {
                        Json::Array(items) => lines.extend(
                            items
                                .into_iter()
                                .map(|item| ("published", format!("{key} {field}: {item}"))),
                        ),
                        value => lines.push(("published", format!("{key} {field}: {value}"))),
                    }
                }
            }
            Some(value) => lines.push(("published", format!("{key}: {value}, from {source}"))),
        }
        lines.extend(
            entry
                .why
                .into_iter()
                .map(|why| ("published", format!("{key} because: {why}"))),
        );
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
}

/// Cuts at spaces, so that a long list takes several lines.
fn chunks(text: &str) -> Vec<String> {
    let mut chunks: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match chunks.last_mut() {
            Some(last) if last.len() + word.len() < MAX_LINE => {
                last.push(' ');
                last.push_str(word);
            }
            _ => chunks.push(word.to_owned()),
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_bounded_in_lines_and_length() {
        let long = (0..1000)
            .map(|n| ("x", format!("{n} \n{}", "\"ä".repeat(2000))))
            .collect();
        let lines = bounded(long);
        assert_eq!(lines.len(), MAX_LINES);
        assert_eq!(lines[59].1, "941 more lines are left out");
        for (part, text) in &lines {
            assert!(text.len() <= MAX_LINE && !text.contains('\n'));
            let line = serde_json::json!({ "time": "2026-01-01T00:00:00.000000Z", "level": "info", "msg": text,
                "feature": "support", "operation": u64::MAX, "part": part });
            assert!(line.to_string().len() < 2048);
        }
    }

    #[test]
    fn nothing_known_is_told_too() {
        let (_sender, snapshots) = watch::channel(Arc::default());
        let (_clock, clock) = watch::channel(None);
        let sources = Sources {
            started: Instant::now(),
            settings: Settings::default(),
            options: Shared::default(),
            counters: Arc::new(Counters::new(Instant::now())),
            history: History::default(),
            clock,
            snapshots,
            policy: Policy::default(),
            kernel: None,
            calls: Calls::default(),
        };
        let lines = lines(&sources);
        for part in [
            "program",
            "settings",
            "counters",
            "history",
            "clock",
            "node",
            "published",
        ] {
            assert!(lines.iter().any(|(known, _)| *known == part), "{part}: {lines:?}");
        }
        assert!(lines.contains(&("node", "hostname: not told by Talos yet".to_owned())));
        assert!(lines.contains(&("clock", "not compared yet".to_owned())));
    }

    #[test]
    fn a_long_list_takes_several_lines() {
        let text = "option=value ".repeat(200);
        let chunks = chunks(&text);
        assert!(chunks.len() > 1 && chunks.iter().all(|chunk| chunk.len() <= MAX_LINE));
        assert_eq!(chunks.join(" "), text.trim_end());
    }
}
