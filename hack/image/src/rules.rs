//! What an extension image must be, each demand under a name.
//!
//! Most of what breaks an installation is accepted by the tools on the way: a hard link becomes an empty file, a missing
//! file boots into a service that keeps the node from finishing its start, a layout without platforms is "no image". So
//! the finished bytes are read again and judged before anything is written. One [`Rule`] per way to fail; the tests make
//! one bad image for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use tar::EntryType;

use crate::{
    NAME, VERSION,
    architecture::Architecture,
    extension,
    layer::{self, DIRECTORY_MODE, Entry},
    layout::{self, Layout},
    manifest::{self, Manifest, Range, Release},
    service::{Dependency, Mount, Restart, Spec},
};

mod binary;

/// Largest compressed layer, in bytes: 1.6 MiB. Every node that is installed or upgraded fetches it.
pub const LARGEST_LAYER: u64 = 1_677_721;

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

/// A demand on the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A tarball is not compressed: Talos reads `.tar.gz` as an invalid header.
    PlainArchive,
    /// `manifest.yaml` and `rootfs` stand at the top and nothing else: Talos refuses a third name.
    TopLevel,
    /// Every file is below `/usr/local`: neither imager nor factory looks.
    Path,
    /// Directories and regular files only: links, devices and pipes become empty files.
    EntryKind,
    /// A directory stands before what is in it: else the build fails, or `/usr` gets mode 0700.
    ParentFirst,
    /// Each path once, in order: which of two files wins depends on the way the image comes.
    Order,
    /// Directories have mode 0755: it becomes the mode of the node's own.
    DirectoryMode,
    /// Files have mode 0644, the binary 0755: nothing writable by others, no setuid.
    FileMode,
    /// Owner and group are root, the time is one for all: equal input, equal bytes.
    Reproducible,
    /// `manifest.yaml` has the known keys and the known format: unknown ones vanish.
    Manifest,
    /// Extension, service, directory and binary have one name, one that may be a Kubernetes label.
    Name,
    /// The version is this workspace's, and may be a tag, a label and a version of Sidero Labs' validator.
    Version,
    /// The constraint is read by Talos, and holds for every supported release.
    TalosRange,
    /// The service specification has the known keys: unknown ones vanish, and with them what they meant.
    Service,
    /// The entrypoint is there, executable, and written with a slash: there is no PATH.
    Entrypoint,
    /// The service waits for the machine API's socket and nothing else: whatever else never appears blocks the boot.
    Depends,
    /// The socket's directory is mounted and nothing else: a missing source becomes a directory, `/var` stays busy.
    Mount,
    /// No configuration is demanded: without it the node would never finish its boot.
    Configuration,
    /// The service is started again however it ended.
    Restart,
    /// The container's confinement is Talos's default.
    Confinement,
    /// The binary is static and for the processor that the image says: else the node restarts it for ever.
    Binary,
    /// A bill of materials is there, with both licences of each package.
    BillOfMaterials,
    /// The compressed layer is at most 1.6 MiB.
    Size,
    /// The layout has platforms in `index.json` itself: else the imager finds no image.
    Platform,
    /// A tag names an index: a lone manifest is taken for the wrong processor as well.
    Index,
    /// An image has one layer, compressed with gzip: layers are unpacked top first.
    OneLayer,
    /// Every blob has the size and the digest that stand in its descriptor.
    Digest,
    /// The repository is one that Image Factory takes for this extension and no other.
    Repository,
    /// A catalog line names host, repository, tag and digest.
    CatalogLine,
}

impl Rule {
    /// The name that messages and documentation use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlainArchive => "plain-archive",
            Self::TopLevel => "top-level",
            Self::Path => "path",
            Self::EntryKind => "entry-kind",
            Self::ParentFirst => "parent-first",
            Self::Order => "order",
            Self::DirectoryMode => "directory-mode",
            Self::FileMode => "file-mode",
            Self::Reproducible => "reproducible",
            Self::Manifest => "manifest",
            Self::Name => "name",
            Self::Version => "version",
            Self::TalosRange => "talos-range",
            Self::Service => "service",
            Self::Entrypoint => "entrypoint",
            Self::Depends => "depends",
            Self::Mount => "mount",
            Self::Configuration => "configuration",
            Self::Restart => "restart",
            Self::Confinement => "confinement",
            Self::Binary => "binary",
            Self::BillOfMaterials => "bill-of-materials",
            Self::Size => "size",
            Self::Platform => "platform",
            Self::Index => "index",
            Self::OneLayer => "one-layer",
            Self::Digest => "digest",
            Self::Repository => "repository",
            Self::CatalogLine => "catalog-line",
        }
    }
}

/// A demand that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which demand.
    pub rule: Rule,
    /// What stands there instead.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.text)
    }
}

/// Collects findings.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, rule: Rule, text: impl Into<String>) {
        self.0.push(Finding {
            rule,
            text: text.into(),
        });
    }

    /// Adds a finding unless the demand is met.
    fn demand(&mut self, met: bool, rule: Rule, text: impl FnOnce() -> String) {
        if !met {
            self.add(rule, text());
        }
    }
}

/// Judges an uncompressed layer, which is a tarball for the imager as well.
#[must_use]
pub fn archive(archive: &[u8], architecture: Architecture) -> Vec<Finding> {
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
fn binary_path() -> String {
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

/// Judges a layout of extension images, with every layer in it.
#[must_use]
pub fn layout(directory: &Path) -> Vec<Finding> {
    let mut findings = Findings::default();
    match Layout::open(directory) {
        Err(err) => findings.add(Rule::Index, err.to_string()),
        Ok(layout) => judge_layout(&layout, &mut findings),
    }
    findings.0
}

fn judge_layout(layout: &Layout, findings: &mut Findings) {
    let direct: Vec<_> = layout
        .index
        .manifests
        .iter()
        .filter(|descriptor| descriptor.platform.is_some())
        .collect();
    findings.demand(!direct.is_empty(), Rule::Platform, || {
        "no entry of index.json has a platform".to_owned()
    });
    for (tag, descriptor) in layout.tags().filter(|(tag, _)| !tag.ends_with(".sig")) {
        if descriptor.media_type != layout::INDEX {
            findings.add(Rule::Index, format!("{tag} is a lone {}", descriptor.media_type));
            continue;
        }
        match layout.json::<layout::Index>(descriptor) {
            Err(err) => findings.add(Rule::Digest, err.to_string()),
            Ok(index) => findings.demand(
                index.manifests.iter().eq(direct.iter().copied()),
                Rule::Index,
                || format!("{tag} and index.json list different images"),
            ),
        }
    }
    let named = layout.tags().any(|(tag, _)| !tag.ends_with(".sig"));
    findings.demand(named, Rule::Index, || {
        "no entry of index.json has a tag".to_owned()
    });
    for descriptor in direct {
        if let Err(err) = judge_image(layout, descriptor, findings) {
            findings.add(Rule::Digest, err.to_string());
        }
    }
}

fn judge_image(
    layout: &Layout,
    descriptor: &layout::Descriptor,
    findings: &mut Findings,
) -> Result<(), layout::LayoutError> {
    let manifest: layout::Manifest = layout.json(descriptor)?;
    let config: layout::Config = layout.json(&manifest.config)?;
    let platform = descriptor.platform.as_ref();
    let architecture = platform
        .filter(|platform| platform.os == "linux" && platform.architecture == config.architecture)
        .and_then(|platform| platform.architecture.parse::<Architecture>().ok());
    let Some(architecture) = architecture else {
        findings.add(
            Rule::Platform,
            format!("{platform:?} over an image for {}", config.architecture),
        );
        return Ok(());
    };
    let ([layer], [diff_id]) = (manifest.layers.as_slice(), config.rootfs.diff_ids.as_slice()) else {
        findings.add(
            Rule::OneLayer,
            format!("{architecture} has {} layers", manifest.layers.len()),
        );
        return Ok(());
    };
    findings.demand(layer.media_type == layout::LAYER, Rule::OneLayer, || {
        format!("{architecture} has a layer of type {}", layer.media_type)
    });
    findings.demand(layer.size <= LARGEST_LAYER, Rule::Size, || {
        format!(
            "the layer of {architecture} has {} bytes, more than {LARGEST_LAYER}",
            layer.size
        )
    });
    match layer::uncompress(&layout.blob(layer)?) {
        Err(err) => findings.add(Rule::OneLayer, format!("{architecture}: {err}")),
        Ok(content) => {
            findings.demand(layout::digest(&content) == *diff_id, Rule::Digest, || {
                format!("the layer of {architecture} is not {diff_id}")
            });
            findings.0.extend(archive(&content, architecture));
        }
    }
    Ok(())
}

/// Judges the repository that an image is to be published under, such as `ghcr.io/talos-vmtoolsd/talos-vmtoolsd`.
///
/// Image Factory knows an extension by the path without the host, and takes `siderolabs/talos-vmtoolsd` for the alias of
/// another one (`ExtensionNameAlias` in its `internal/profile/profile.go`).
#[must_use]
pub fn repository(repository: &str) -> Option<Finding> {
    let refused = |text: String| {
        Some(Finding {
            rule: Rule::Repository,
            text,
        })
    };
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c);
    match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            if !path.chars().all(letter) || path.split('/').any(str::is_empty) {
                refused(format!("{path:?} is no path of a repository"))
            } else if path.rsplit('/').next() != Some(NAME) {
                refused(format!("{path:?} does not end with {NAME}"))
            } else if path == format!("siderolabs/{NAME}") {
                refused(format!(
                    "{path:?} is an alias of another extension in Image Factory"
                ))
            } else {
                None
            }
        }
        _ => refused(format!(
            "{repository:?} does not begin with the host of a registry"
        )),
    }
}

#[cfg(test)]
mod tests;
