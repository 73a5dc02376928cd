//! The bill of materials: every crate that is linked into the binary, as an SPDX 2.3 document.
//!
//! Talos 1.11 and later read it from the extension and show it with `talosctl get sbom`. They take name, version, both
//! licences and the package URL of each package; a missing concluded licence would hide the declared one, so both are
//! written. Source: `internal/app/machined/pkg/controllers/runtime/sbom_item.go` of siderolabs/talos and the SPDX
//! specification.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{NAME, daemon};

/// Why there is no bill of materials.
#[derive(Debug, Error)]
pub enum SbomError {
    /// cargo failed.
    #[error(transparent)]
    Cargo(#[from] daemon::DaemonError),
    /// cargo said something unexpected.
    #[error("cargo metadata: {0}")]
    Metadata(#[from] serde_json::Error),
    /// `Cargo.lock` cannot be read.
    #[error("Cargo.lock: {0}")]
    Lock(#[from] std::io::Error),
    /// A package that the product depends on is not described.
    #[error("cargo metadata does not describe {0}")]
    Undescribed(String),
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// Nothing for what is linked, else `build` or `dev`.
    kind: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: &'static str,
    document_namespace: String,
    creation_info: Creation,
    packages: Vec<Item>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct Creation {
    created: String,
    creators: [String; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    version_info: String,
    download_location: &'static str,
    files_analyzed: bool,
    license_concluded: String,
    license_declared: String,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    external_refs: [Reference; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

/// Describes what is linked into the binary for a Rust target. `time` is that of the commit, in seconds since 1970.
///
/// # Errors
///
/// When cargo cannot resolve the workspace.
pub fn describe(workspace: &Path, target: &str, time: u64) -> Result<String, SbomError> {
    let mut cargo = Command::new(daemon::program("CARGO", "cargo"));
    cargo.current_dir(workspace).args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        target,
    ]);
    let metadata: Metadata = serde_json::from_str(&daemon::run(&mut cargo)?)?;
    let checksums = checksums(&fs::read_to_string(workspace.join("Cargo.lock"))?);
    let document = document(&metadata, &checksums, time)?;
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// The packages that are linked, in the order of their names.
fn linked(metadata: &Metadata) -> Result<Vec<&Package>, SbomError> {
    let packages: HashMap<&str, &Package> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package))
        .collect();
    let nodes: HashMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let product = metadata.packages.iter().find(|package| package.name == NAME);
    let mut waiting = vec![
        product
            .ok_or_else(|| SbomError::Undescribed(NAME.to_owned()))?
            .id
            .as_str(),
    ];
    let mut seen = BTreeSet::new();
    let mut linked = Vec::new();
    while let Some(id) = waiting.pop() {
        let package = packages
            .get(id)
            .ok_or_else(|| SbomError::Undescribed(id.to_owned()))?;
        // A macro is part of the compiler's work, and so is what it depends on.
        let is_macro = package
            .targets
            .iter()
            .any(|target| target.kind.iter().any(|kind| kind == "proc-macro"));
        if is_macro || !seen.insert(id) {
            continue;
        }
        linked.push(*package);
        let node = nodes
            .get(id)
            .ok_or_else(|| SbomError::Undescribed(id.to_owned()))?;
        waiting.extend(
            node.deps
                .iter()
                .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()))
                .map(|dependency| dependency.pkg.as_str()),
        );
    }
    linked.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(linked)
}

fn document(
    metadata: &Metadata,
    checksums: &BTreeMap<(String, String), String>,
    time: u64,
) -> Result<Document, SbomError> {
    let packages: Vec<Item> = linked(metadata)?
        .into_iter()
        .map(|package| item(package, checksums))
        .collect();
    let product = identifier(NAME, crate::VERSION);
    let mut relationships = vec![Relationship {
        spdx_element_id: "SPDXRef-DOCUMENT".to_owned(),
        relationship_type: "DESCRIBES",
        related_spdx_element: product.clone(),
    }];
    relationships.extend(
        packages
            .iter()
            .filter(|item| item.id != product)
            .map(|item| Relationship {
                spdx_element_id: product.clone(),
                relationship_type: "CONTAINS",
                related_spdx_element: item.id.clone(),
            }),
    );
    Ok(Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: "SPDXRef-DOCUMENT",
        name: NAME,
        document_namespace: format!("https://github.com/{NAME}/{NAME}/spdx/{}", crate::VERSION),
        creation_info: Creation {
            created: humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time)).to_string(),
            creators: [format!("Tool: {NAME}-image-{}", crate::VERSION)],
        },
        packages,
        relationships,
    })
}

fn item(package: &Package, checksums: &BTreeMap<(String, String), String>) -> Item {
    const UNKNOWN: &str = "NOASSERTION";
    let Package { name, version, .. } = package;
    let locator = if package.source.is_some() {
        format!("pkg:cargo/{name}@{version}")
    } else {
        format!("pkg:github/{NAME}/{NAME}@v{version}")
    };
    // Old crates separate alternatives by a slash.
    let license = package.license.as_deref().unwrap_or(UNKNOWN).replace('/', " OR ");
    Item {
        id: identifier(name, version),
        name: name.clone(),
        version_info: version.clone(),
        download_location: UNKNOWN,
        files_analyzed: false,
        license_concluded: license.clone(),
        license_declared: license,
        copyright_text: UNKNOWN,
        checksums: checksums
            .get(&(name.clone(), version.clone()))
            .map(|value| Checksum {
                algorithm: "SHA256",
                checksum_value: value.clone(),
            })
            .into_iter()
            .collect(),
        external_refs: [Reference {
            reference_category: "PACKAGE-MANAGER",
            reference_type: "purl",
            reference_locator: locator,
        }],
    }
}

/// An identifier of SPDX: letters, digits, dots and dashes.
fn identifier(name: &str, version: &str) -> String {
    let other = |c: char| !(c.is_ascii_alphanumeric() || c == '.');
    format!(
        "SPDXRef-{}-{}",
        name.replace(other, "-"),
        version.replace(other, "-")
    )
}

/// The checksums of `Cargo.lock`, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    lock.split("[[package]]")
        .filter_map(|block| {
            let value = |key: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
                    .map(str::to_owned)
            };
            Some(((value("name")?, value("version")?), value("checksum")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_what_is_linked_and_nothing_else() {
        let workspace = daemon::workspace();
        let text = describe(&workspace, "x86_64-unknown-linux-musl", 0).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let packages = document["packages"].as_array().unwrap();
        let named = |name: &str| packages.iter().find(|package| package["name"] == name);
        for name in [NAME, "tokio", "tonic", "prost", "hyper"] {
            assert!(named(name).is_some(), "{name} is missing");
        }
        // A macro, a tool of the tests, and the laboratory.
        for name in ["serde_derive", "proptest", "lab", "image"] {
            assert!(named(name).is_none(), "{name} is not linked");
        }
        for package in packages {
            let license = package["licenseConcluded"].as_str().unwrap();
            assert_eq!(package["licenseDeclared"], license);
            assert!(license != "NOASSERTION" && !license.contains('/'), "{package}");
            let ours = package["name"] == NAME;
            assert_eq!(package["checksums"].is_null(), ours, "{package}");
        }
        assert_eq!(document["creationInfo"]["created"], "1970-01-01T00:00:00Z");
        assert_eq!(
            text,
            describe(&workspace, "x86_64-unknown-linux-musl", 0).unwrap()
        );
    }
}
