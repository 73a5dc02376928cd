//! The state as lines.

use std::{collections::BTreeMap, fmt::Write, sync::Arc, time::Instant};

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
    would_publish(sources, &snapshot, &mut lines);
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

/// Every fact of the snapshot: its value, or how many there are.
fn node(snapshot: &Snapshot, lines: &mut Vec<Line>) {
    let facts = [
        fact("version", &snapshot.version, json),
        fact("hostname", &snapshot.hostname, json),
        fact("links", &snapshot.links, count),
        fact("addresses", &snapshot.addresses, count),
        fact("address specs", &snapshot.address_specs, count),
        fact("routes", &snapshot.routes, count),
        fact("node addresses", &snapshot.node_addresses, json),
        fact("node IPs of the kubelet", &snapshot.node_ips, json),
        fact("resolvers", &snapshot.resolvers, json),
        fact("machine", &snapshot.machine, json),
        fact("security", &snapshot.security, json),
        fact("machine type", &snapshot.machine_type, |value| {
            format!("{value:?}")
        }),
        fact("node name", &snapshot.nodename, |value| format!("{value:?}")),
        fact("nodes", &snapshot.nodes, count),
        fact("cluster name", &snapshot.cluster_name, |value| {
            format!("{value:?}")
        }),
        fact("schematic", &snapshot.schematic, |value| format!("{value:?}")),
        fact("extensions", &snapshot.extensions, count),
        fact("boot id", &snapshot.boot_id, |value| format!("{value:?}")),
        fact("disks", &snapshot.disks, count),
        fact("discovered volumes", &snapshot.discovered_volumes, count),
        fact("volumes", &snapshot.volumes, count),
        fact("mounts", &snapshot.mounts, count),
        fact("runtime mounts", &snapshot.runtime_mounts, count),
    ];
    lines.extend(joined("", facts).into_iter().map(|text| ("node", text)));
}

fn count<K, V>(all: &Arc<BTreeMap<K, V>>) -> String {
    all.len().to_string()
}

/// `parts` in as few lines as hold them, each of which begins with `prefix`.
fn joined(prefix: &str, parts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(last) if last.len() + part.len() + 2 <= MAX_LINE => {
                last.push_str("; ");
                last.push_str(&part);
            }
            _ => lines.push(format!("{prefix}{part}")),
        }
    }
    lines
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

/// What a host that takes everything has: a plain value in one line, the parts of a record and the decisions behind a
/// value in as few as hold them. What it refused stands in the log.
fn would_publish(sources: &Sources, snapshot: &Snapshot, lines: &mut Vec<Line>) {
    let answers = sources.calls.latest();
    let mut texts = Vec::new();
    for entry in guestinfo::render(snapshot, &sources.policy, sources.kernel.as_ref(), &answers) {
        let key = entry.key.name();
        let source = entry.source;
        match entry.value {
            None => texts.push(format!("{key}: nothing, from {source}")),
            Some(Value::Disks(disks)) => {
                texts.push(format!("{key}: {} file systems, from {source}", disks.len()));
                let disks = disks.iter().map(|disk| disk.to_string());
                texts.extend(joined(&format!("{key}: "), disks));
            }
            Some(value) => match serde_json::to_value(value).unwrap_or_default() {
                Json::Object(record) => {
                    texts.push(format!("{key}: a record, from {source}"));
                    for (field, value) in record {
                        let items = match value {
                            Json::Array(items) => items,
                            value => vec![value],
                        };
                        let items = items.iter().map(Json::to_string);
                        texts.extend(joined(&format!("{key} {field}: "), items));
                    }
                }
                value => texts.push(format!("{key}: {value}, from {source}")),
            },
        }
        texts.extend(joined(&format!("{key} because: "), entry.why));
    }
    lines.extend(texts.into_iter().map(|text| ("would publish", text)));
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
            "would publish",
        ] {
            assert!(lines.iter().any(|(known, _)| *known == part), "{part}: {lines:?}");
        }
        let node: Vec<_> = lines.iter().filter(|(part, _)| *part == "node").collect();
        let unknown = node
            .iter()
            .map(|(_, text)| text.matches(": not told by Talos yet").count())
            .sum::<usize>();
        assert_eq!((unknown, node.len()), (23, 1), "{node:?}");
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
