//! The demo's last word: what `govc vm.info` prints of this run.
//!
//! ```text
//!  transcript of this run ──> govc (hack/conformance/consumers) ──> simulated vCenter of govmomi ──> vm.info
//!  view of the laboratory ──without it──────────────────────────────────────────────────────────────> the same lines
//! ```
//!
//! Nothing is built or downloaded for it: govc is asked where `hack/conformance/consumers/run` has left it.

use std::{io, path::Path, process::Stdio, time::Duration};

use serde::Serialize;
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::View;

/// Where the consumers' run leaves it, from cargo's target directory.
const PROGRAM: &str = "consumers/govc";

/// It starts a vCenter and asks it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is printed, and whose words it is.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Info {
    pub(super) title: String,
    pub(super) text: String,
}

/// Asks the govc that was built for this `daemon`; without one the laboratory prints its own view.
pub(super) async fn vm_info(daemon: &Path, transcript: &Path, view: &View) -> Info {
    // target/TRIPLE/release/talos-vmtoolsd
    let program = daemon.ancestors().nth(3).map(|target| target.join(PROGRAM));
    match program.filter(|program| program.is_file()) {
        None => own(
            view,
            "no govc is built, hack/conformance/consumers/run does that where Go is",
        ),
        Some(program) => match ask(&program, transcript, &name(view)).await {
            Ok(text) => Info {
                title: "govc vm.info, in the words of govmomi's own code for the bytes of this run"
                    .to_owned(),
                text,
            },
            Err(error) => own(view, &format!("{} failed: {error}", program.display())),
        },
    }
}

async fn ask(program: &Path, transcript: &Path, name: &str) -> io::Result<String> {
    let output = Command::new(program)
        .arg("--transcript")
        .arg(transcript)
        .args([name, "vm.info"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, output).await??;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{}: {}", output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn name(view: &View) -> String {
    view["host_name"].as_str().unwrap_or("talos").to_owned()
}

/// Those lines of `vm.info` that a guest's report decides.
fn own(view: &View, why: &str) -> Info {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let memory = view["memory_total"]
        .as_u64()
        .map(|kib| format!("{}MB", kib / 1024))
        .unwrap_or_default();
    let lines = [
        ("Name:", name(view)),
        ("  Guest name:", text(&view["guest_full_name"])),
        ("  Memory:", memory),
        ("  Power state:", "poweredOn".to_owned()),
        ("  IP address:", text(&view["ip_address"])),
    ];
    Info {
        title: format!("govc vm.info, in the words of the laboratory ({why})"),
        text: lines
            .map(|(label, value)| format!("{label:<16}{value}"))
            .join("\n"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use std::{fs, os::unix::fs::PermissionsExt};

    use serde_json::json;

    use super::*;

    fn view() -> View {
        json!({
            "host_name": "talos-cp-1", "guest_full_name": "Talos", "memory_total": 2_097_152, "ip_address": "10.5.0.2",
        })
    }

    /// A target directory with a daemon, and a govc of these words.
    fn target(govc: Option<&str>) -> (tempfile::TempDir, std::path::PathBuf) {
        let target = tempfile::tempdir().unwrap();
        let daemon = target.path().join("triple/release/talos-vmtoolsd");
        if let Some(script) = govc {
            let program = target.path().join(PROGRAM);
            fs::create_dir_all(program.parent().unwrap()).unwrap();
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        (target, daemon)
    }

    #[tokio::test]
    async fn without_govc_the_laboratory_speaks_and_says_so() {
        let (_target, daemon) = target(None);
        let info = vm_info(&daemon, Path::new("t.jsonl"), &view()).await;
        assert!(
            info.title.contains("of the laboratory (no govc is built"),
            "{info:?}"
        );
        let wanted = "Name:           talos-cp-1\n  Guest name:   Talos\n  Memory:       2048MB\n  \
                      Power state:  poweredOn\n  IP address:   10.5.0.2";
        assert_eq!(info.text, wanted);
    }

    #[tokio::test]
    async fn govc_is_given_the_bytes_and_the_name() {
        let (_target, daemon) = target(Some("echo \"$@\""));
        let info = vm_info(&daemon, Path::new("/t.jsonl"), &view()).await;
        assert!(info.title.contains("govmomi"), "{info:?}");
        assert_eq!(info.text, "--transcript /t.jsonl talos-cp-1 vm.info");
    }

    #[tokio::test]
    async fn a_govc_that_fails_is_named() {
        let (_target, daemon) = target(Some("echo broken >&2; exit 3"));
        let info = vm_info(&daemon, Path::new("/t.jsonl"), &view()).await;
        assert!(info.title.contains("exit status: 3: broken"), "{info:?}");
        assert!(info.text.contains("10.5.0.2"), "{info:?}");
    }
}
