//! What an extension image must be, each demand under a name.
//!
//! Most of what breaks an installation is accepted by the tools on the way: a hard link becomes an empty file, a missing
//! file boots into a service that keeps the node from finishing its start, a layout without platforms is "no image". So
//! the finished bytes are read again and judged before anything is written. One [`Rule`] per way to fail; the tests make
//! one bad image for each.

use std::fmt;

use crate::NAME;

mod archive;
mod binary;
mod layout;

pub use archive::judge as archive;
pub use layout::{LARGEST_LAYER, judge as layout};

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
