//! The program `image` as people use it, on a binary of a few bytes; and other programs that read what it writes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use image::{
    VERSION, catalog, layer,
    layout::{self, Layout, Manifest},
    signature,
};
use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;

/// A static program without code: the headers are all that is judged.
fn program(machine: u16) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(2u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for word in [0x40_0000u64, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 0, 0, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file
}

fn image(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_image"))
        .args(arguments)
        .current_dir(directory)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap()
}

#[track_caller]
fn successful(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A directory with an image for both processors in `out`.
fn built() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("amd64"), program(62)).unwrap();
    fs::write(directory.path().join("arm64"), program(183)).unwrap();
    let arguments = [
        "--output",
        "out",
        "--binary",
        "amd64=amd64",
        "--binary",
        "arm64=arm64",
    ];
    successful(&image(directory.path(), &arguments));
    directory
}

/// Every file below a directory, with its content.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_path_buf();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A test that counts as ignored where a program is lacking.
fn trial(name: &str, needs: Option<&str>, test: fn()) -> Trial {
    let runner = move || {
        test();
        Ok(())
    };
    match needs.filter(|program| !exists(program)) {
        None => Trial::test(name, runner),
        Some(program) => Trial::test(format!("{name} (skipped: {program} is not installed)"), runner)
            .with_ignored_flag(true),
    }
}

fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn main() -> ExitCode {
    let trials = vec![
        trial(
            "two_folders_get_the_same_bytes",
            None,
            two_folders_get_the_same_bytes,
        ),
        trial(
            "what_is_written_passes_the_check",
            None,
            what_is_written_passes_the_check,
        ),
        trial(
            "a_bad_binary_leaves_no_image_behind",
            None,
            a_bad_binary_leaves_no_image_behind,
        ),
        trial(
            "skopeo_takes_the_index_with_both_images",
            Some("skopeo"),
            skopeo_takes_the_index_with_both_images,
        ),
        trial("the_catalog_names_the_index", None, the_catalog_names_the_index),
        trial(
            "the_contribution_names_the_index",
            None,
            the_contribution_names_the_index,
        ),
        trial(
            "openssl_verifies_a_signature",
            Some("openssl"),
            openssl_verifies_a_signature,
        ),
    ];
    let skipped = trials.iter().filter(|trial| trial.has_ignored_flag()).count();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    if skipped > 0 && std::env::var_os("LAB_REQUIRE_ALL").is_some() {
        eprintln!("{skipped} tests were skipped, and LAB_REQUIRE_ALL is set");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn two_folders_get_the_same_bytes() {
    let (one, other) = (built(), built());
    let (one, other) = (
        contents(&one.path().join("out")),
        contents(&other.path().join("out")),
    );
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    assert!(one == other);
    assert!(one.contains_key(&PathBuf::from(format!("talos-vmtoolsd-{VERSION}-arm64.tar"))));
}

fn what_is_written_passes_the_check() {
    let directory = built();
    let tarball = format!("out/talos-vmtoolsd-{VERSION}-arm64.tar");
    successful(&image(directory.path(), &["check", "out/oci"]));
    successful(&image(directory.path(), &["check", "--arch", "arm64", &tarball]));
    let refused = image(directory.path(), &["check", &tarball]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("binary: "));
}

fn a_bad_binary_leaves_no_image_behind() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("arm64"), program(183)).unwrap();
    let refused = image(directory.path(), &["--output", "out", "--binary", "amd64=arm64"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("  binary: the binary is for machine 183 instead of 62"),
        "{said}"
    );
    assert!(!directory.path().join("out").exists());
}

fn skopeo_takes_the_index_with_both_images() {
    let directory = built();
    let copied = Command::new("skopeo")
        .args(["copy", "--all", "--insecure-policy"])
        .args([format!("oci:out/oci:{VERSION}"), "dir:copy".to_owned()])
        .current_dir(directory.path())
        .output()
        .unwrap();
    successful(&copied);
    let layout = Layout::open(&directory.path().join("out/oci")).unwrap();
    let (_, named) = layout.tags().next().unwrap();
    let copy = fs::read(directory.path().join("copy/manifest.json")).unwrap();
    assert_eq!(layout::digest(&copy), named.digest);
    let listed: layout::Index = serde_json::from_slice(&copy).unwrap();
    assert_eq!(listed.manifests.len(), 2);
    for image in &listed.manifests {
        let manifest: Manifest = layout.json(image).unwrap();
        let name = manifest.layers[0].digest.replace("sha256:", "");
        assert!(directory.path().join("copy").join(name).is_file());
    }
}

fn the_catalog_names_the_index() {
    let directory = built();
    let official = "ghcr.io/siderolabs/zfs:2.4.0@sha256:\
                    44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    fs::create_dir(directory.path().join("official")).unwrap();
    fs::write(
        directory.path().join("official/image-digests"),
        format!("{official}\n"),
    )
    .unwrap();
    fs::write(directory.path().join("official/descriptions.yaml"), "{}\n").unwrap();
    let arguments = [
        "catalog",
        "--talos",
        "v1.13.6",
        "--talos",
        "v1.14.1",
        "--image",
        "out/oci",
        "--official",
        "official",
        "--output",
        "catalog",
    ];
    successful(&image(directory.path(), &arguments));

    let extension = Layout::open(&directory.path().join("out/oci")).unwrap();
    let (_, index) = extension.tags().next().unwrap();
    let layout = Layout::open(&directory.path().join("catalog")).unwrap();
    let tags: Vec<_> = layout.tags().map(|(tag, _)| tag).collect();
    assert_eq!(tags, ["v1.13.6", "v1.14.1"]);
    let (_, named) = layout.tags().next().unwrap();
    let manifest: Manifest = layout.json(named).unwrap();
    let archive = layer::uncompress(&layout.blob(&manifest.layers[0]).unwrap()).unwrap();
    let entries = layer::entries(&archive).unwrap();
    let lines = entries.iter().find(|entry| entry.path == catalog::LINES).unwrap();
    let ours = format!("ghcr.io/talos-vmtoolsd/talos-vmtoolsd:{VERSION}@{}", index.digest);
    assert_eq!(
        String::from_utf8_lossy(&lines.content),
        format!("{official}\n{ours}\n")
    );

    let refused = image(
        directory.path(),
        &[
            "catalog", "--talos", "1.14", "--image", "out/oci", "--output", "x",
        ],
    );
    assert!(!refused.status.success());
}

fn the_contribution_names_the_index() {
    let directory = built();
    let arguments = ["contribute", "--image", "out/oci", "--output", "contribution"];
    successful(&image(directory.path(), &arguments));
    let layout = Layout::open(&directory.path().join("out/oci")).unwrap();
    let (_, index) = layout.tags().next().unwrap();
    let place = directory.path().join("contribution/guest-agents/talos-vmtoolsd");
    let variables = fs::read_to_string(place.join("vars.yaml")).unwrap();
    assert!(
        variables.contains(&format!(":{VERSION}@{}\"", index.digest)),
        "{variables}"
    );
    for name in ["pkg.yaml", "manifest.yaml.tmpl", "README.md"] {
        assert!(place.join(name).is_file(), "{name}");
    }
}

/// The key is made and the signature verified by openssl; nothing of the signing code takes part in that.
fn openssl_verifies_a_signature() {
    let directory = built();
    let openssl = |arguments: &[&str]| {
        Command::new("openssl")
            .args(arguments)
            .current_dir(directory.path())
            .output()
            .unwrap()
    };
    let curve = ["ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1.pem"];
    successful(&openssl(&curve));
    successful(&openssl(&[
        "pkcs8",
        "-topk8",
        "-nocrypt",
        "-in",
        "sec1.pem",
        "-out",
        "pkcs8.pem",
    ]));
    successful(&openssl(&[
        "ec",
        "-in",
        "sec1.pem",
        "-pubout",
        "-out",
        "public.pem",
    ]));

    let mut signatures = Vec::new();
    for key in ["sec1.pem", "pkcs8.pem"] {
        successful(&image(directory.path(), &["sign", "out/oci", "--key", key]));
        // Signed images are still images.
        successful(&image(directory.path(), &["check", "out/oci"]));
        let layout = Layout::open(&directory.path().join("out/oci")).unwrap();
        let (_, signed) = layout.tags().next().unwrap();
        let tag = signature::tag(&signed.digest).unwrap();
        let found: Vec<_> = layout.tags().filter(|(name, _)| *name == tag).collect();
        assert_eq!(found.len(), 1);
        let manifest: Manifest = layout.json(found[0].1).unwrap();
        let document = &manifest.layers[0];
        assert_eq!(document.media_type, signature::DOCUMENT);
        let text = layout.blob(document).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            value["critical"]["image"]["docker-manifest-digest"],
            signed.digest
        );
        assert_eq!(
            value["critical"]["identity"]["docker-reference"],
            "ghcr.io/talos-vmtoolsd/talos-vmtoolsd"
        );
        let signature = STANDARD
            .decode(&document.annotations[signature::ANNOTATION])
            .unwrap();
        fs::write(directory.path().join("document"), &text).unwrap();
        fs::write(directory.path().join("signature"), &signature).unwrap();
        let verify = [
            "dgst",
            "-sha256",
            "-verify",
            "public.pem",
            "-signature",
            "signature",
            "document",
        ];
        successful(&openssl(&verify));

        let changed = String::from_utf8(text).unwrap().replace("sha256:", "sha256:0");
        fs::write(directory.path().join("document"), changed).unwrap();
        assert!(!openssl(&verify).status.success());
        signatures.push(signature);
    }
    assert_eq!(
        signatures[0], signatures[1],
        "the two forms of the key are one key"
    );

    fs::write(directory.path().join("bad.pem"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    let refused = image(directory.path(), &["sign", "out/oci", "--key", "bad.pem"]);
    assert!(!refused.status.success());
}
