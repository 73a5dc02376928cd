//! The version stands in three files that three programs read; here they are held together.

#![allow(clippy::panic, reason = "a helper of tests")]

use std::{fs, path::Path};

use image::{NAME, VERSION, manifest::Manifest};
use serde::Deserialize;
use serde_yaml_ng::Value;

fn source(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

#[test]
fn one_version_everywhere() {
    #[derive(Deserialize)]
    struct Variables {
        #[serde(rename = "VERSION")]
        version: String,
    }
    let manifest: Manifest = serde_yaml_ng::from_str(&source("manifest.yaml")).unwrap();
    let variables: Variables = serde_yaml_ng::from_str(&source("vars.yaml")).unwrap();
    let lock = source("Cargo.lock");
    assert_eq!(manifest.metadata.version, VERSION);
    assert_eq!(variables.version, VERSION);
    for member in ["image", "lab", NAME] {
        let entry = format!("name = \"{member}\"\nversion = \"{VERSION}\"\n");
        assert!(
            lock.contains(&entry),
            "{member} has another version than {VERSION}"
        );
    }
}

#[test]
fn bldr_takes_its_own_file_names_only() {
    // Any further file of these names would become a package, a set of variables or a template of the build.
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .output()
        .unwrap();
    assert!(output.status.success());
    let files = String::from_utf8(output.stdout).unwrap();
    let read: Vec<_> = files
        .lines()
        .filter(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            ["pkg.yaml", "vars.yaml", "Pkgfile"].contains(&name) || name.ends_with(".tmpl")
        })
        .collect();
    assert_eq!(read, ["Pkgfile", "pkg.yaml", "vars.yaml"]);
}

#[test]
fn the_recipe_installs_what_the_service_names() {
    let recipe: Value = serde_yaml_ng::from_str(&source("pkg.yaml")).unwrap();
    assert_eq!(recipe["name"], NAME);
    let text = source("pkg.yaml");
    for part in [
        "/rootfs/usr/local/lib/containers/talos-vmtoolsd",
        "/rootfs/usr/local/etc/containers/talos-vmtoolsd.yaml",
        "/rootfs/usr/local/share/spdx/talos-vmtoolsd.spdx.json",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

/// bldr ignores unknown keys and renders an unknown variable as text; here both are errors.
#[test]
fn the_recipe_has_known_keys_and_variables() {
    fn keys(value: &Value, allowed: &[&str]) {
        for (key, _) in value.as_mapping().unwrap_or_else(|| panic!("{value:?}")) {
            assert!(key.as_str().is_some_and(|key| allowed.contains(&key)), "{key:?}");
        }
    }
    let text = source("pkg.yaml");
    let recipe: Value = serde_yaml_ng::from_str(&text).unwrap();
    keys(
        &recipe,
        &[
            "name",
            "variant",
            "shell",
            "install",
            "dependencies",
            "steps",
            "finalize",
        ],
    );
    for dependency in recipe["dependencies"].as_sequence().unwrap() {
        keys(
            dependency,
            &["image", "stage", "from", "to", "platform", "runtime"],
        );
    }
    for step in recipe["steps"].as_sequence().unwrap() {
        let allowed = [
            "env",
            "cachePaths",
            "sources",
            "prepare",
            "build",
            "install",
            "test",
            "sbom",
            "network",
        ];
        keys(step, &allowed);
    }
    for copied in recipe["finalize"].as_sequence().unwrap() {
        keys(copied, &["from", "to"]);
    }
    let package: Value = serde_yaml_ng::from_str(&source("Pkgfile")).unwrap();
    keys(&package, &["format", "vars", "labels"]);

    // ARCH is bldr's own; the build argument is given on the command line.
    let mut known = vec!["ARCH".to_owned(), "BUILD_ARG_SOURCE_DATE_EPOCH".to_owned()];
    let variables: Value = serde_yaml_ng::from_str(&source("vars.yaml")).unwrap();
    for map in [&package["vars"], &variables] {
        known.extend(
            map.as_mapping()
                .unwrap()
                .keys()
                .map(|key| key.as_str().unwrap().to_owned()),
        );
    }
    let used: Vec<_> = text
        .split("{{ .")
        .skip(1)
        .map(|rest| rest.split(" }}").next().unwrap_or_default())
        .collect();
    assert!(used.len() >= 4);
    for variable in used {
        assert!(
            known.iter().any(|name| name == variable),
            "{variable} is not defined"
        );
    }
}

#[test]
fn bldr_reads_the_syntax_off_the_first_line() {
    assert!(source("Pkgfile").starts_with("# syntax = ghcr.io/siderolabs/bldr:v"));
}
