//! What the demo prints: a screen for people, or one JSON object.

#![expect(
    clippy::indexing_slicing,
    reason = "a key that a JSON value lacks reads as null"
)]

use serde_json::{Value, json};

use super::{Act, View, govc::Info};

pub(super) struct Screen {
    json: bool,
    acts: Vec<Act>,
    views: Vec<Value>,
    notices: Vec<String>,
    figures: Value,
    info: Option<Info>,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            acts: Vec::new(),
            views: Vec::new(),
            notices: Vec::new(),
            figures: Value::Null,
            info: None,
        }
    }

    pub(super) fn say(&mut self, notice: &str) {
        if self.json {
            self.notices.push(notice.to_owned());
        } else {
            println!("{notice}");
        }
    }

    pub(super) fn act(&mut self, act: Act) {
        if !self.json {
            let took = act
                .milliseconds
                .map(|time| format!("{time:8.1} ms"))
                .unwrap_or_default();
            println!("{took:>11}  {}: {}", act.name, act.seen);
        }
        self.acts.push(act);
    }

    pub(super) fn view(&mut self, title: &str, view: &View) {
        if self.json {
            self.views.push(json!({ "title": title, "view": view }));
            return;
        }
        println!("\n{title}:");
        for (name, value) in rows(view) {
            println!("  {name:<19}{value}");
        }
        println!();
    }

    pub(super) fn figures(&mut self, summary: Value) {
        if !self.json {
            println!(
                "{} backdoor calls in {:.1} s; the host was answered after {} ms at the median and {} ms at most; \
                 {} KiB resident\n",
                summary["calls"],
                summary["seconds"].as_f64().unwrap_or_default(),
                summary["reply_median_ms"],
                summary["reply_max_ms"],
                summary["resident_kib"]
            );
        }
        self.figures = summary;
    }

    /// The last word.
    pub(super) fn info(&mut self, info: Info) {
        if !self.json {
            println!("\n{}:", info.title);
            for line in info.text.lines() {
                println!("  {line}");
            }
        }
        self.info = Some(info);
    }

    /// Why it failed, if it did, with what the daemon said.
    pub(super) fn end(self, failure: Option<(String, String)>) {
        if !self.json {
            if let Some((failure, log)) = failure {
                eprintln!("the daemon's log:\n{log}");
                eprintln!("lab demo: {failure}");
            }
            return;
        }
        let (failure, log) = failure.unzip();
        let all = json!({
            "ok": failure.is_none(),
            "failure": failure,
            "notices": self.notices,
            "acts": self.acts,
            "views": self.views,
            "summary": self.figures,
            "govc": self.info,
            "log": log,
        });
        println!("{all}");
    }
}

fn rows(view: &View) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rows = vec![
        (
            "VMware Tools".to_owned(),
            format!(
                "{}, version {} ({})",
                text(&view["tools_running_status"]),
                text(&view["tools_version"]),
                text(&view["tools_version_status"])
            ),
        ),
        ("heartbeat".to_owned(), text(&view["heartbeat"])),
        ("DNS name".to_owned(), text(&view["host_name"])),
        ("guest OS".to_owned(), text(&view["guest_full_name"])),
        ("IP address".to_owned(), text(&view["ip_address"])),
    ];
    for nic in view["net"].as_array().into_iter().flatten() {
        let addresses = nic["addresses"].as_array().into_iter().flatten();
        let addresses: Vec<String> = addresses
            .map(|address| format!("{}/{}", text(&address["ip"]), address["prefix"]))
            .collect();
        rows.push((text(&nic["mac"]), addresses.join(", ")));
    }
    for route in view["routes"].as_array().into_iter().flatten() {
        if route["prefix"] == 0 {
            rows.push(("gateway".to_owned(), text(&route["gateway"])));
        }
    }
    let uptime = view["uptime"]
        .as_u64()
        .map(|hundredths| format!("{} s", hundredths / 100));
    rows.push(("uptime".to_owned(), uptime.unwrap_or_else(|| "-".to_owned())));
    let soft = if view["guest_state_change_supported"] == true {
        "Shut Down Guest, Restart Guest"
    } else {
        "none"
    };
    rows.push(("soft power".to_owned(), soft.to_owned()));
    rows
}
