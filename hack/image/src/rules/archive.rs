//! Rules for the one layer: its entries, and the files among them.

use std::collections::{BTreeMap, BTreeSet};

use tar::EntryType;

use super::{Finding, Findings, Rule, binary};
use crate::{
    NAME, VERSION,
    architecture::Architecture,
    extension,
    layer::{self, DIRECTORY_MODE, Entry},
    manifest::{self, Manifest, Range, Release},
    service::{Dependency, Mount, Restart, Spec},
};

/// The releases whose constraint must hold: first and last that are supported.
const RELEASES: [Release; 6] = [
    Release(1, 10, 0),
    Release(1, 11, 0),
    Release(1, 12, 0),
    Release(1, 13, 0),
    Release(1, 14, 0),
    Release(1, 14, 1),
];

/// The one file that machined has made before the service starts, on every supported release.
const SOCKET: &str = "/system/run/machined/machine.sock";
/// Its directory, the one thing that may be mounted.
const SOCKET_DIRECTORY: &str = "/system/run/machined";

/// Judges an uncompressed layer, which is a tarball for the imager as well.
#[must_use]
pub fn judge(archive: &[u8], architecture: Architecture) -> Vec<Finding> {
    let mut findings = Findings::default();
    match layer::entries(archive) {
        Err(err) => findings.add(Rule::PlainArchive, err.to_string()),
        Ok(entries) => {
            judge_entries(&entries, &mut findings);
            let files: BTreeMap<&str, &Entry> =
                entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
            judge_manifest(&files, &mut findings);
            judge_service(&files, &mut findings);
            judge_binary(&files, architecture, &mut findings);
            judge_bill(&files, &mut findings);
        }
    }
    findings.0
}

fn judge_entries(entries: &[Entry], findings: &mut Findings) {
    const ALLOWED: &str = "rootfs/usr/local/";
    let mut directories = BTreeSet::new();
    let mut last: Option<&str> = None;
    let mut top = BTreeSet::new();
    for entry in entries {
        let path = entry.path.as_str();
        let words: Vec<_> = path.split('/').collect();
        // What stands beside `rootfs` is the business of the rule for the top level.
        let odd = words.iter().any(|word| ["", ".", ".."].contains(word));
        findings.demand(!odd, Rule::Path, || {
            format!("{path:?} is not a plain relative path")
        });
        top.extend(words.first().copied());
        findings.demand(last.is_none_or(|last| last < path), Rule::Order, || {
            format!("{path} stands behind {}", last.unwrap_or_default())
        });
        last = Some(path);
        if let Some((parent, _)) = path.rsplit_once('/') {
            findings.demand(directories.contains(parent), Rule::ParentFirst, || {
                format!("{path} stands before its directory")
            });
        }
        match entry.kind {
            EntryType::Directory => {
                directories.insert(path);
                let above = format!("{path}/");
                findings.demand(
                    above.starts_with(ALLOWED) || ALLOWED.starts_with(&above),
                    Rule::Path,
                    || format!("the directory {path} is not below /usr/local"),
                );
                findings.demand(entry.mode == DIRECTORY_MODE, Rule::DirectoryMode, || {
                    format!("{path} has mode {:04o}", entry.mode)
                });
            }
            EntryType::Regular => {
                findings.demand(
                    !path.starts_with("rootfs/") || path.starts_with(ALLOWED),
                    Rule::Path,
                    || format!("{path} is not below /usr/local"),
                );
                let expected = if path == binary_path() { 0o755 } else { 0o644 };
                // An entrypoint that cannot be executed has a rule of its own.
                let judged_as_entrypoint = path == binary_path() && entry.mode & 0o111 == 0;
                findings.demand(
                    entry.mode == expected || judged_as_entrypoint,
                    Rule::FileMode,
                    || format!("{path} has mode {:04o} instead of {expected:04o}", entry.mode),
                );
            }
            other => findings.add(Rule::EntryKind, format!("{path} is {other:?}")),
        }
        let first = entries.first().map(|entry| entry.time);
        findings.demand(
            entry.owner == (0, 0) && Some(entry.time) == first,
            Rule::Reproducible,
            || format!("{path} has owner {:?} and time {}", entry.owner, entry.time),
        );
    }
    findings.demand(
        top == BTreeSet::from([extension::MANIFEST, "rootfs"]),
        Rule::TopLevel,
        || format!("at the top stand {top:?}"),
    );
}

fn judge_manifest(files: &BTreeMap<&str, &Entry>, findings: &mut Findings) {
    let Some(entry) = files.get(extension::MANIFEST) else {
        return;
    };
    let manifest: Manifest = match serde_yaml_ng::from_slice(&entry.content) {
        Ok(manifest) => manifest,
        Err(err) => return findings.add(Rule::Manifest, err.to_string()),
    };
    findings.demand(manifest.version == manifest::FORMAT, Rule::Manifest, || {
        format!("format {:?} instead of {:?}", manifest.version, manifest::FORMAT)
    });
    let metadata = manifest.metadata;
    findings.demand(metadata.name == NAME, Rule::Name, || {
        format!("the extension is called {:?}", metadata.name)
    });
    findings.demand(
        metadata.version == VERSION && is_release(&metadata.version),
        Rule::Version,
        || format!("{:?} is not {VERSION}, or no version", metadata.version),
    );
    match Range::parse(&metadata.compatibility.talos.version) {
        Err(err) => findings.add(Rule::TalosRange, err.to_string()),
        Ok(range) => {
            for release in RELEASES {
                findings.demand(range.contains(release), Rule::TalosRange, || {
                    format!("not for {release}")
                });
            }
        }
    }
}

/// Whether a version is three numbers, with letters behind a dash or not: what is a tag, a label, and a version in the
/// eyes of `extensions-validator` alike.
fn is_release(version: &str) -> bool {
    let (numbers, rest) = version.split_once('-').unwrap_or((version, "x"));
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    Release::parse(numbers).is_some()
        && !rest.is_empty()
        && rest.chars().all(letter)
        && rest.ends_with(|c: char| c.is_ascii_alphanumeric())
        && version.len() <= 63
}

/// Where the binary stands.
pub(super) fn binary_path() -> String {
    format!("{}/{NAME}/{NAME}", extension::CONTAINERS)
}

fn judge_service(files: &BTreeMap<&str, &Entry>, findings: &mut Findings) {
    let path = format!("{}/{NAME}.yaml", extension::SERVICES);
    let Some(entry) = files.get(path.as_str()) else {
        return findings.add(Rule::Service, format!("there is no {path}"));
    };
    let spec: Spec = match serde_yaml_ng::from_slice(&entry.content) {
        Ok(spec) => spec,
        Err(err) => return findings.add(Rule::Service, err.to_string()),
    };
    findings.demand(spec.name == NAME, Rule::Name, || {
        format!("the service is called {:?}", spec.name)
    });

    let entrypoint = spec.container.entrypoint.as_str();
    findings.demand(
        entrypoint.starts_with("./") || entrypoint.starts_with('/'),
        Rule::Entrypoint,
        || format!("{entrypoint:?} would be looked for in PATH, and there is none"),
    );
    let root = format!("{}/{}", extension::CONTAINERS, spec.name);
    let program = format!(
        "{root}/{}",
        entrypoint.trim_start_matches('.').trim_start_matches('/')
    );
    let runnable = files
        .get(program.as_str())
        .is_some_and(|entry| entry.kind == EntryType::Regular && entry.mode & 0o111 == 0o111);
    findings.demand(runnable, Rule::Entrypoint, || {
        format!("{program} is no file that can be executed")
    });

    let wanted = [Dependency {
        path: Some(SOCKET.to_owned()),
        ..Dependency::default()
    }];
    let on_configuration = |dependency: &Dependency| dependency.configuration.is_some();
    let (configured, others): (Vec<_>, Vec<_>) = spec.depends.into_iter().partition(on_configuration);
    findings.demand(others == wanted, Rule::Depends, || {
        format!("the service waits for {others:?} instead of the file {SOCKET} alone")
    });
    findings.demand(
        configured.is_empty() && spec.container.environment_file.is_none(),
        Rule::Configuration,
        || "the service waits for a configuration that may never come".to_owned(),
    );
    findings.demand(spec.container.environment.is_empty(), Rule::Configuration, || {
        "a variable that is set here may win over the administrator's".to_owned()
    });
    findings.demand(
        matches!(spec.container.mounts.as_slice(), [mount] if is_socket_directory(mount)),
        Rule::Mount,
        || {
            format!(
                "{:?} instead of {SOCKET_DIRECTORY}, bound read-only, with rslave",
                spec.container.mounts
            )
        },
    );
    findings.demand(spec.restart == Restart::Always, Rule::Restart, || {
        format!("{:?}", spec.restart)
    });
    findings.demand(spec.container.security.is_none(), Rule::Confinement, || {
        format!("{:?}", spec.container.security)
    });
}

fn is_socket_directory(mount: &Mount) -> bool {
    let mut options: Vec<&str> = mount.options.iter().map(String::as_str).collect();
    options.sort_unstable();
    mount.source == SOCKET_DIRECTORY
        && mount.destination == SOCKET_DIRECTORY
        && mount.r#type == "bind"
        && options == ["rbind", "ro", "rslave"]
}

fn judge_binary(files: &BTreeMap<&str, &Entry>, architecture: Architecture, findings: &mut Findings) {
    // That it is there at all is the entrypoint's rule.
    if let Some(entry) = files.get(binary_path().as_str())
        && let Err(err) = binary::judge(&entry.content, architecture)
    {
        findings.add(Rule::Binary, err.to_string());
    }
}

fn judge_bill(files: &BTreeMap<&str, &Entry>, findings: &mut Findings) {
    let path = format!("{}/{NAME}.spdx.json", extension::BILLS);
    let Some(entry) = files.get(path.as_str()) else {
        return findings.add(Rule::BillOfMaterials, format!("there is no {path}"));
    };
    let document: serde_json::Value = match serde_json::from_slice(&entry.content) {
        Ok(document) => document,
        Err(err) => return findings.add(Rule::BillOfMaterials, err.to_string()),
    };
    let packages = document.get("packages").and_then(|packages| packages.as_array());
    let complete = |package: &serde_json::Value| {
        ["name", "versionInfo", "licenseDeclared", "licenseConcluded"]
            .iter()
            .all(|key| package.get(key).is_some_and(serde_json::Value::is_string))
    };
    findings.demand(
        packages.is_some_and(|packages| !packages.is_empty() && packages.iter().all(complete)),
        Rule::BillOfMaterials,
        || "a package has no name, version, or one of the two licences".to_owned(),
    );
}
