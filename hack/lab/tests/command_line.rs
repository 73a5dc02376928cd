//! `lab vmx` as a person runs it, around programs that do not need VMware.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test may fail loudly"
)]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

/// Runs `lab vmx --not-vmware` with these arguments; a run that hangs is ended by its own limit.
fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["vmx", "--not-vmware", "--limit", "20s"])
        .args(arguments)
        .output()
        .unwrap()
}

struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn scenario(&self, text: &str) -> String {
        let path = self.path("test.scenario");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_a_scenario_the_status_is_the_programs() {
    let output = lab(&["--", "sh", "-c", "echo hello; exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert_eq!(output.stdout, b"hello\n");
    assert!(stderr(&output).contains("backdoor calls     0 (0.0/s)"));
    let output = lab(&["--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(output.status.code(), Some(128 + 9), "{}", stderr(&output));
}

#[test]
fn a_scenario_decides_the_status() {
    let scratch = Scratch::new();
    let scenario = scratch.scenario("signal TERM\nexpect exit signal TERM within 10s\n");
    let output = lab(&["--scenario", &scenario, "--", "sleep", "30"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let scenario = scratch.scenario("# first line\nexpect registered within 100ms\n");
    let output = lab(&["--scenario", &scenario, "--", "sleep", "30"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains(&format!(
            "lab vmx: {scenario}:2: expect registered within 100ms\n"
        )),
        "{text}"
    );
    assert!(text.contains("seen: tools are not-running"), "{text}");
}

#[test]
fn a_guest_that_does_not_listen_is_killed_after_the_scenario() {
    let scratch = Scratch::new();
    let scenario = scratch.scenario("wait 300ms\n");
    let transcript = scratch.path("transcript.jsonl");
    // An ignored signal stays ignored across exec, for lab and for its guest.
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' TERM; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_lab"),
            "vmx",
            "--not-vmware",
        ])
        .args([
            "--limit",
            "20s",
            "--grace",
            "200ms",
            "--json",
            "--scenario",
            &scenario,
        ])
        .args(["--transcript", transcript.to_str().unwrap(), "--", "sleep", "30"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["failures"], serde_json::json!([]));
    assert!(summary["seconds"].as_f64().unwrap() >= 0.5);
    assert!(summary["resident_kib"].as_u64().unwrap() > 0);
    let lines: Vec<serde_json::Value> = fs::read_to_string(transcript)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["ev"], "start");
    assert_eq!(lines[0]["argv"][0], "sleep");
    assert!(
        lines
            .iter()
            .any(|line| line["ev"] == "script" && line["cmd"] == "wait 300ms")
    );
    let exit = lines.iter().find(|line| line["ev"] == "exit").unwrap();
    assert_eq!(exit["status"], -9);
    assert_eq!(lines.last().unwrap()["ev"], "summary");
}

#[test]
fn the_limit_ends_a_run_that_does_not_end() {
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["vmx", "--not-vmware", "--limit", "300ms", "--", "sleep", "30"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("lab vmx: the time was up"));
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let scratch = Scratch::new();
    let scenario = scratch.scenario("wait 1s\njump\n");
    let marker = scratch.path("ran");
    let touch = format!("touch {}", marker.display());
    let output = lab(&["--scenario", &scenario, "--", "sh", "-c", &touch]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("{scenario}:2: \"jump\" is not a command")));
    let output = lab(&["--allow", "everything", "--", "sh", "-c", &touch]);
    assert!(
        stderr(&output).contains("not one of any, high-halves"),
        "{}",
        stderr(&output)
    );
    let output = lab(&["--ping", "soon", "--", "sh", "-c", &touch]);
    assert!(stderr(&output).contains("not a time such as 100ms or 5s"));
    let output = lab(&["--transcript", "/nonexistent/x", "--", "sh", "-c", &touch]);
    assert!(stderr(&output).contains("cannot write /nonexistent/x"));
    assert!(!marker.exists());
    let output = lab(&["--", "/nonexistent/program"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nonexistent/program"));
}
