//! A good image, and one bad one for each rule, each refused for that reason and no other.

use std::{collections::BTreeMap, fs, path::PathBuf};

use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::{archive::binary_path, *};
use crate::{
    VERSION,
    architecture::Architecture,
    layer::{self, Entry, Tree},
    layout::{self, Config, Descriptor, Index, Layout},
};

const MANIFEST: &str = include_str!("../../../../manifest.yaml");
const SERVICE: &str = include_str!("../../../../extension/talos-vmtoolsd.yaml");
const BILL: &str = r#"{"packages": [{"name": "a", "versionInfo": "1", "licenseDeclared": "MIT", "licenseConcluded": "MIT"}]}"#;
const ARCHITECTURE: Architecture = Architecture::Amd64;

/// What an ELF file has that this test varies.
#[derive(Clone, Copy)]
struct Elf {
    machine: u16,
    segment: u32,
    dynamic: [u64; 4],
}

const STATIC: Elf = Elf {
    machine: 62,
    segment: 1,
    dynamic: [0; 4],
};

/// The headers of a 64-bit program with one segment, which holds two dynamic entries.
fn elf(form: Elf) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(2u16.to_le_bytes());
    file.extend(form.machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for word in [0x40_0000u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(form.segment.to_le_bytes());
    file.extend(5u32.to_le_bytes());
    for word in [120u64, 0x40_0078, 0x40_0078, 32, 32, 8] {
        file.extend(word.to_le_bytes());
    }
    for word in form.dynamic {
        file.extend(word.to_le_bytes());
    }
    file
}

fn tree() -> Tree {
    let mut tree = Tree::default();
    tree.file("manifest.yaml", 0o644, MANIFEST);
    tree.file(
        "rootfs/usr/local/etc/containers/talos-vmtoolsd.yaml",
        0o644,
        SERVICE,
    );
    tree.file(binary_path(), 0o755, elf(STATIC));
    tree.file(
        "rootfs/usr/local/share/spdx/talos-vmtoolsd.spdx.json",
        0o644,
        BILL,
    );
    tree
}

fn good() -> Vec<u8> {
    tree().archive(7).unwrap()
}

/// The archive with one file replaced.
fn with(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Vec<u8> {
    let mut tree = tree();
    tree.file(path, mode, content);
    tree.archive(7).unwrap()
}

fn with_manifest(from: &str, to: &str) -> Vec<u8> {
    assert!(MANIFEST.contains(from));
    with("manifest.yaml", 0o644, MANIFEST.replace(from, to))
}

fn with_service(from: &str, to: &str) -> Vec<u8> {
    assert!(SERVICE.contains(from));
    let path = "rootfs/usr/local/etc/containers/talos-vmtoolsd.yaml";
    with(path, 0o644, SERVICE.replace(from, to))
}

fn with_binary(form: Elf) -> Vec<u8> {
    with(&binary_path(), 0o755, elf(form))
}

/// The archive with its entries changed.
fn rewritten(change: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
    let mut entries = layer::entries(&good()).unwrap();
    change(&mut entries);
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_ustar();
        // `set_path` refuses what this is to write.
        header.as_old_mut().name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        header.set_entry_type(entry.kind);
        if entry.kind == EntryType::Link {
            header.set_link_name(binary_path()).unwrap();
        }
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(entry.time);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        builder.append(&header, entry.content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A copy of the last entry, a file, under another name.
fn another(entries: &[Entry], path: &str) -> Entry {
    Entry {
        path: path.to_owned(),
        ..entries.last().unwrap().clone()
    }
}

fn find<'a>(entries: &'a mut [Entry], path: &str) -> &'a mut Entry {
    entries.iter_mut().find(|entry| entry.path == path).unwrap()
}

/// One finding at least, and all of this rule.
#[track_caller]
fn refused(findings: &[Finding], rule: Rule) {
    assert!(!findings.is_empty(), "{} was not seen", rule.name());
    for finding in findings {
        assert_eq!(finding.rule, rule, "{finding}");
    }
}

#[test]
fn the_good_one_is_accepted() {
    assert_eq!(archive(&good(), ARCHITECTURE), []);
}

#[test]
fn an_archive_with_one_fault_is_refused_for_it() {
    let bad: Vec<(Rule, Vec<u8>)> = vec![
        (Rule::PlainArchive, layer::compress(&good()).unwrap()),
        (
            Rule::TopLevel,
            rewritten(|entries| entries.insert(0, another(entries, "LICENSE"))),
        ),
        (Rule::TopLevel, rewritten(|entries| drop(entries.remove(0)))),
        (Rule::Path, with("rootfs/usr/localfoo", 0o644, "")),
        (Rule::Path, with("rootfs/var/lib/x", 0o644, "")),
        (
            Rule::Path,
            rewritten(|entries| {
                let outside = another(entries, "rootfs/usr/local/share/spdx/..");
                entries.insert(entries.len() - 1, outside);
            }),
        ),
        (Rule::EntryKind, hard_link()),
        (
            Rule::EntryKind,
            rewritten(|entries| {
                let fifo = Entry {
                    kind: EntryType::Fifo,
                    content: Vec::new(),
                    ..another(entries, "rootfs/usr/local/share/spdx/z")
                };
                entries.push(fifo);
            }),
        ),
        (
            Rule::ParentFirst,
            rewritten(|entries| entries.retain(|entry| entry.path != "rootfs/usr/local/share")),
        ),
        (
            Rule::Order,
            rewritten(|entries| entries.push(entries.last().unwrap().clone())),
        ),
        (
            Rule::DirectoryMode,
            rewritten(|entries| find(entries, "rootfs/usr").mode = 0o700),
        ),
        (
            Rule::FileMode,
            rewritten(|entries| entries.last_mut().unwrap().mode = 0o666),
        ),
        (
            Rule::FileMode,
            rewritten(|entries| find(entries, &binary_path()).mode = 0o4755),
        ),
        (
            Rule::Reproducible,
            rewritten(|entries| entries.last_mut().unwrap().time = 8),
        ),
        (
            Rule::Reproducible,
            rewritten(|entries| entries.last_mut().unwrap().owner = (0, 50)),
        ),
        (Rule::Manifest, with_manifest("v1alpha1", "v1")),
        (Rule::Manifest, with_manifest("author:", "autor:")),
        (
            Rule::Name,
            with_manifest("name: talos-vmtoolsd", "name: vmtoolsd"),
        ),
        (Rule::Version, with_manifest(VERSION, "0.1.0+build")),
        (Rule::Version, with_manifest(VERSION, "main")),
        (Rule::TalosRange, with_manifest(">= v1.10.0", ">= v1.10")),
        (Rule::TalosRange, with_manifest(">= v1.10.0", "^1.10.0")),
        (Rule::TalosRange, with_manifest(">= v1.10.0", ">= v1.13.0")),
        (
            Rule::Service,
            with_service("restart: always", "restart: always\nreplicas: 1"),
        ),
        (
            Rule::Service,
            with_service("restart: always", "restart: sometimes"),
        ),
        (Rule::Service, with_service("options:", "optiones:")),
        (Rule::Entrypoint, with_service("entrypoint: ./", "entrypoint: ")),
        (
            Rule::Entrypoint,
            with_service("entrypoint: ./talos-vmtoolsd", "entrypoint: ./vmtoolsd"),
        ),
        (Rule::Entrypoint, with(&binary_path(), 0o644, elf(STATIC))),
        (
            Rule::Depends,
            with_service("restart:", "  - path: /dev/vsock\nrestart:"),
        ),
        (
            Rule::Depends,
            with_service("machined/machine.sock", "apid/apid.sock"),
        ),
        (
            Rule::Depends,
            with_service("restart:", "  - service: cri\nrestart:"),
        ),
        (
            Rule::Mount,
            with_service("source: /system/run/machined", "source: /var"),
        ),
        (
            Rule::Mount,
            with_service(
                "source: /system/run/machined",
                "source: /system/run/machined/machine.sock",
            ),
        ),
        (Rule::Mount, with_service("rslave, ro", "rprivate, rw")),
        (
            Rule::Configuration,
            with_service("restart:", "  - configuration: true\nrestart:"),
        ),
        (
            Rule::Configuration,
            with_service("  mounts:", "  environmentFile: /etc/vmtoolsd\n  mounts:"),
        ),
        (
            Rule::Configuration,
            with_service("  mounts:", "  environment: [VMTOOLSD_LOG_LEVEL=info]\n  mounts:"),
        ),
        (Rule::Restart, with_service("restart: always", "restart: never")),
        (
            Rule::Confinement,
            with_service("  mounts:", "  security: {writeableRootfs: true}\n  mounts:"),
        ),
        (
            Rule::Binary,
            with_binary(Elf {
                machine: 183,
                ..STATIC
            }),
        ),
        (Rule::Binary, with_binary(Elf { segment: 3, ..STATIC })),
        (
            Rule::Binary,
            with_binary(Elf {
                segment: 2,
                dynamic: [1, 1, 0, 0],
                ..STATIC
            }),
        ),
        (Rule::Binary, with(&binary_path(), 0o755, "#!/bin/sh\n")),
        (
            Rule::BillOfMaterials,
            with(
                "rootfs/usr/local/share/spdx/talos-vmtoolsd.spdx.json",
                0o644,
                BILL.replace("licenseConcluded", "x"),
            ),
        ),
        (
            Rule::BillOfMaterials,
            rewritten(|entries| entries.truncate(entries.len() - 1)),
        ),
    ];
    for (rule, bad) in bad {
        refused(&archive(&bad, ARCHITECTURE), rule);
    }
}

#[test]
fn a_service_with_another_name_is_refused() {
    let mut tree = tree();
    let renamed = SERVICE.replace("name: talos-vmtoolsd", "name: vmtoolsd");
    tree.file(
        "rootfs/usr/local/etc/containers/talos-vmtoolsd.yaml",
        0o644,
        renamed,
    );
    let findings = archive(&tree.archive(7).unwrap(), ARCHITECTURE);
    // Its root would be another directory, and that is empty.
    assert_eq!(
        findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(),
        [Rule::Name, Rule::Entrypoint]
    );
}

fn hard_link() -> Vec<u8> {
    rewritten(|entries| {
        let at = entries
            .iter()
            .position(|entry| entry.path == binary_path())
            .unwrap()
            + 1;
        let link = Entry {
            kind: EntryType::Link,
            content: Vec::new(),
            ..another(entries, &format!("{}2", binary_path()))
        };
        entries.insert(at, link);
    })
}

/// A layout in a directory of its own, and what the tests change in it.
struct Folder {
    directory: TempDir,
    layout: Layout,
}

impl Folder {
    fn new(images: &[(&[u8], Architecture)]) -> Self {
        let directory = TempDir::new().unwrap();
        let mut layout = Layout::create(directory.path()).unwrap();
        let images = images
            .iter()
            .map(|(archive, architecture)| {
                layout
                    .store_image(archive, *architecture, &BTreeMap::new(), 7)
                    .unwrap()
            })
            .collect();
        layout.tag(images, VERSION).unwrap();
        layout.finish().unwrap();
        Self { directory, layout }
    }

    fn good() -> Self {
        Self::new(&[(&good(), ARCHITECTURE), (&arm64(), Architecture::Arm64)])
    }

    /// The one image of a folder with a manifest that was changed.
    fn with_manifest(change: impl FnOnce(&Layout, &mut layout::Manifest)) -> Self {
        let directory = TempDir::new().unwrap();
        let mut layout = Layout::create(directory.path()).unwrap();
        let image = layout
            .store_image(&good(), ARCHITECTURE, &BTreeMap::new(), 7)
            .unwrap();
        let mut manifest = layout.json(&image).unwrap();
        change(&layout, &mut manifest);
        let changed = Descriptor {
            platform: image.platform,
            ..layout.store_json(layout::MANIFEST, &manifest).unwrap()
        };
        layout.tag(vec![changed], VERSION).unwrap();
        layout.finish().unwrap();
        Self { directory, layout }
    }

    fn changed(mut self, change: impl FnOnce(&mut Index)) -> Self {
        change(&mut self.layout.index);
        self.layout.finish().unwrap();
        self
    }

    fn findings(&self) -> Vec<Finding> {
        super::layout(self.directory.path())
    }

    fn blob(&self, descriptor: &Descriptor) -> PathBuf {
        self.directory
            .path()
            .join("blobs")
            .join(descriptor.digest.replace(':', "/"))
    }
}

fn arm64() -> Vec<u8> {
    with_binary(Elf {
        machine: 183,
        ..STATIC
    })
}

#[test]
fn a_good_layout_is_accepted() {
    assert_eq!(Folder::good().findings(), []);
    assert_eq!(Folder::new(&[(&good(), ARCHITECTURE)]).findings(), []);
}

#[test]
fn equal_input_gives_equal_bytes() {
    let (one, other) = (Folder::good(), Folder::good());
    let index = |folder: &Folder| fs::read(folder.directory.path().join("index.json")).unwrap();
    assert_eq!(index(&one), index(&other));
}

#[test]
fn a_layout_with_one_fault_is_refused_for_it() {
    // What `buildah push`, `umoci` and `skopeo copy` write.
    let without_platform = Folder::good().changed(|index| {
        for descriptor in &mut index.manifests {
            descriptor.platform = None;
        }
    });
    let findings = without_platform.findings();
    assert!(
        findings.iter().any(|finding| finding.rule == Rule::Platform),
        "{findings:?}"
    );

    let wrong_platform = Folder::new(&[(&good(), Architecture::Arm64)]);
    refused(&wrong_platform.findings(), Rule::Binary);

    let mislabelled = Folder::with_manifest(|layout, manifest| {
        let mut config: Config = layout.json(&manifest.config).unwrap();
        config.architecture = "arm64".to_owned();
        manifest.config = layout.store_json(layout::CONFIG, &config).unwrap();
    });
    refused(&mislabelled.findings(), Rule::Platform);

    let lone = Folder::good().changed(|index| {
        let image = index.manifests.get(1).unwrap().clone();
        let first = index.manifests.first_mut().unwrap();
        first.digest = image.digest;
        first.media_type = image.media_type;
        first.size = image.size;
    });
    refused(&lone.findings(), Rule::Index);

    let untagged = Folder::good().changed(|index| drop(index.manifests.remove(0)));
    refused(&untagged.findings(), Rule::Index);

    let two_layers = Folder::with_manifest(|_, manifest| {
        let layer = manifest.layers.first().unwrap().clone();
        manifest.layers.push(layer);
    });
    refused(&two_layers.findings(), Rule::OneLayer);

    let uncompressed = Folder::with_manifest(|layout, manifest| {
        let plain = layout.store(layout::LAYER, &good()).unwrap();
        manifest.layers = vec![plain];
    });
    refused(&uncompressed.findings(), Rule::OneLayer);
}

#[test]
fn a_layer_that_is_too_large_is_refused() {
    // What does not compress, from a generator of which nothing but that is asked.
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    });
    let mut binary = elf(STATIC);
    binary.extend(noise.take(2_000_000));
    let large = Folder::new(&[(&with(&binary_path(), 0o755, binary), ARCHITECTURE)]);
    refused(&large.findings(), Rule::Size);
}

#[test]
fn a_blob_that_is_not_what_it_says_is_refused() {
    let damaged = Folder::good();
    let image = damaged.layout.index.manifests.get(1).unwrap().clone();
    let manifest: layout::Manifest = damaged.layout.json(&image).unwrap();
    let path = damaged.blob(manifest.layers.first().unwrap());
    let mut content = fs::read(&path).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&path, content).unwrap();
    refused(&damaged.findings(), Rule::Digest);

    let missing = Folder::good();
    fs::remove_file(missing.blob(&image)).unwrap();
    refused(&missing.findings(), Rule::Digest);

    // A digest is not a path.
    let outside = Folder::good().changed(|index| {
        index.manifests.last_mut().unwrap().digest = "sha256:../../index.json".to_owned();
    });
    let findings = outside.findings();
    assert!(
        findings.iter().any(|finding| finding.rule == Rule::Digest),
        "{findings:?}"
    );

    let other_layer = Folder::with_manifest(|layout, manifest| {
        let mut config: Config = layout.json(&manifest.config).unwrap();
        config.rootfs.diff_ids = vec![layout::digest(b"x")];
        manifest.config = layout.store_json(layout::CONFIG, &config).unwrap();
    });
    refused(&other_layer.findings(), Rule::Digest);
}

#[test]
fn a_repository_of_another_extension_is_refused() {
    assert_eq!(repository("ghcr.io/talos-vmtoolsd/talos-vmtoolsd"), None);
    assert_eq!(
        repository("registry.example.org:5000/mirror/talos-vmtoolsd"),
        None
    );
    for bad in [
        "ghcr.io/siderolabs/talos-vmtoolsd",
        "talos-vmtoolsd/talos-vmtoolsd",
        "ghcr.io/Acme/talos-vmtoolsd",
        "ghcr.io/acme/vmtoolsd",
        "ghcr.io//talos-vmtoolsd",
    ] {
        refused(repository(bad).as_slice(), Rule::Repository);
    }
}
