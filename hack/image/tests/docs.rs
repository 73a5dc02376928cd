//! What the documentation shows is read here by something that would not take it if it were wrong.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "helpers of tests"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use image::{VERSION, layout};
use serde_yaml_ng::Value;

const PAGES: [&str; 3] = ["docs/install.md", "docs/settings.md", "docs/troubleshooting.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
}

/// The code blocks of a page in one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    page.split(&format!("```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

/// The commands of a page, each on one line.
fn commands(page: &str) -> Vec<String> {
    blocks(page, "console")
        .concat()
        .replace("\\\n", " ")
        .lines()
        .filter_map(|line| line.strip_prefix("$ ").map(str::to_owned))
        .collect()
}

/// All sources of the daemon.
fn sources() -> String {
    let mut text = String::new();
    let mut waiting = vec![root().join("src")];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

/// Every word of the form `VMTOOLSD_...`.
fn variables(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
        .filter(|word| word.starts_with("VMTOOLSD_") && word.len() > "VMTOOLSD_".len())
        .map(str::to_owned)
        .collect()
}

#[test]
fn yaml_is_yaml() {
    let mut count = 0;
    for name in PAGES {
        for block in blocks(&page(name), "yaml") {
            let value: Value =
                serde_yaml_ng::from_str(&block).unwrap_or_else(|err| panic!("{name}: {err}\n{block}"));
            assert!(value.is_mapping(), "{name}: {block}");
            count += 1;
        }
    }
    assert!(count >= 7, "only {count} blocks were found");
}

/// Image Factory names a schematic by the SHA-256 of its canonical YAML (`pkg/schematic` of siderolabs/image-factory); the
/// first pair is a well-known one.
#[test]
fn the_schematic_has_the_documented_id() {
    let official = "customization:\n    systemExtensions:\n        officialExtensions:\n            \
                    - siderolabs/vmtoolsd-guest-agent\n";
    assert_eq!(
        layout::digest(official.as_bytes()),
        "sha256:903b2da78f99adef03cbbd4df6714563823f63218508800751560d3bc3557e40"
    );
    let text = page("docs/install.md");
    let schematic = blocks(&text, "yaml")
        .into_iter()
        .find(|block| block.starts_with("customization:"))
        .expect("a schematic");
    let digest = layout::digest(schematic.as_bytes());
    let id = digest.strip_prefix("sha256:").unwrap();
    assert!(text.contains(&format!("`{id}`")), "the id is {id}");
}

#[test]
fn every_variable_is_one_and_every_setting_is_documented() {
    let setting = fs::read_to_string(root().join("src/config/setting.rs")).unwrap();
    let table: BTreeSet<String> = setting
        .split("variable: \"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
        .collect();
    assert!(table.len() > 10);
    let mut known = table.clone();
    known.insert("VMTOOLSD_CONFIG".to_owned());
    for name in PAGES {
        let unknown: Vec<_> = variables(&page(name)).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{name} names {unknown:?}");
    }
    let readme = variables(&page("README.md"));
    let missing: Vec<_> = table.difference(&readme).collect();
    assert!(missing.is_empty(), "the README does not name {missing:?}");
}

/// The keys of the configuration file that is shown are keys of settings.
#[test]
fn the_file_has_known_keys() {
    let setting = fs::read_to_string(root().join("src/config/setting.rs")).unwrap();
    let text = page("docs/settings.md");
    let file = blocks(&text, "yaml").pop().unwrap();
    let value: Value = serde_yaml_ng::from_str(&file).unwrap();
    let mut count = 0;
    for (section, keys) in value.as_mapping().unwrap() {
        for (key, _) in keys.as_mapping().unwrap() {
            let dotted = format!("{}.{}", section.as_str().unwrap(), key.as_str().unwrap());
            assert!(setting.contains(&format!("key: Some(\"{dotted}\")")), "{dotted}");
            count += 1;
        }
    }
    assert!(count > 5);
}

#[test]
fn every_log_line_is_logged() {
    let sources = sources();
    let text = page("docs/troubleshooting.md");
    let section = text.split("## What the log lines mean").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let lines: Vec<_> = section
        .lines()
        .filter_map(|row| row.strip_prefix("| `")?.split('`').next())
        .collect();
    assert!(lines.len() > 15);
    for line in lines {
        assert!(
            sources.contains(&format!("\"{line}\"")),
            "{line:?} is never logged"
        );
    }
}

/// Each `image` command is taken as far as its help: an unknown command or option ends it with another status.
#[test]
fn commands_of_image_have_known_options() {
    let mut count = 0;
    let workflow = page(".github/workflows/release.yml");
    let workflow = workflow
        .lines()
        .map(|line| line.trim().trim_start_matches("run: ").to_owned());
    for command in PAGES
        .iter()
        .flat_map(|name| commands(&page(name)))
        .chain(workflow)
    {
        let Some(rest) = command.strip_prefix("cargo run --release -p image") else {
            continue;
        };
        let arguments = rest.trim_start().strip_prefix("--").unwrap_or_default();
        let output = Command::new(env!("CARGO_BIN_EXE_image"))
            .args(arguments.split_whitespace())
            .arg("--help")
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}");
        let help = String::from_utf8(output.stdout).unwrap();
        for option in arguments.split_whitespace().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{command}: {option}");
        }
        count += 1;
    }
    assert!(count >= 8, "only {count} commands were found");
}

#[test]
fn the_workflow_is_yaml() {
    let workflow: Value = serde_yaml_ng::from_str(&page(".github/workflows/release.yml")).unwrap();
    let steps = workflow["jobs"]["release"]["steps"].as_sequence().unwrap();
    assert!(
        steps
            .iter()
            .all(|step| step["run"].is_string() || step["uses"].is_string())
    );
}

#[test]
fn the_version_in_commands_is_this_one() {
    let text = page("docs/install.md");
    for prefix in [
        "oci:target/image/oci:",
        "talos-vmtoolsd/talos-vmtoolsd:",
        "tarballPath: /image/talos-vmtoolsd-",
    ] {
        for rest in text.split(prefix).skip(1) {
            assert!(rest.starts_with(VERSION), "{prefix}{rest:.20}");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for name in PAGES {
        let text = page(name);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let directory = root().join(name);
            let path = directory.parent().unwrap().join(file);
            let linked = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{name}: {target}: {err}"));
            let heading = |line: &str| {
                line.trim_start_matches('#')
                    .trim()
                    .to_lowercase()
                    .replace(' ', "-")
                    == anchor
            };
            let found = linked.lines().any(|line| line.starts_with('#') && heading(line));
            assert!(anchor.is_empty() || found, "{name}: {target}");
        }
    }
}
