//! The catalog image of an Image Factory: which extensions there are for one Talos release.
//!
//! A factory reads it from one image per release, tagged with that release, which holds two files: `image-digests`, one
//! reference with a digest per line, and `descriptions.yaml`, a map from those lines. A factory has one catalog, so the
//! official lines have to be in it beside our own. Source: `internal/artifacts/versions.go` of siderolabs/image-factory.

use std::{collections::BTreeMap, fmt, io, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    layer::Tree,
    rules::{self, Finding, Rule},
};

/// The list of references.
pub const LINES: &str = "image-digests";
/// The map of descriptions.
pub const DESCRIPTIONS: &str = "descriptions.yaml";

/// A line of the catalog, such as `ghcr.io/talos-vmtoolsd/talos-vmtoolsd:0.1.0@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The registry. A factory replaces it by its own.
    host: String,
    /// The extension's identity: what schematics name.
    path: String,
    tag: String,
    digest: String,
}

/// What a factory shows of an extension.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Description {
    /// Free text.
    pub author: String,
    /// Free text.
    pub description: String,
}

/// The extensions of one Talos release, in the order of their identities.
#[derive(Debug, Default)]
pub struct Catalog(BTreeMap<String, (Line, Option<Description>)>);

/// A catalog that cannot be read.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// A line is no reference with a digest.
    #[error("line {number}: {finding}")]
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        finding: Finding,
    },
    /// The descriptions are not a map of descriptions.
    #[error("{DESCRIPTIONS}: {0}")]
    Descriptions(#[from] serde_yaml_ng::Error),
    /// There is a description of a line that is not there.
    #[error("{DESCRIPTIONS} describes {0:?}, which is no line of {LINES}")]
    Stray(String),
    /// It cannot be packed.
    #[error(transparent)]
    Archive(#[from] io::Error),
}

impl Line {
    /// A line of its parts.
    ///
    /// # Errors
    ///
    /// When they are not those of a reference with a digest.
    pub fn new(repository: &str, tag: &str, digest: &str) -> Result<Self, Finding> {
        format!("{repository}:{tag}@{digest}").parse()
    }
}

impl FromStr for Line {
    type Err = Finding;

    fn from_str(text: &str) -> Result<Self, Finding> {
        read_line(text).ok_or_else(|| Finding {
            rule: Rule::CatalogLine,
            text: format!("{text:?} is not HOST/PATH:TAG@sha256:DIGEST"),
        })
    }
}

fn read_line(text: &str) -> Option<Line> {
    let (reference, digest) = text.split_once('@')?;
    let digits = digest.strip_prefix("sha256:")?;
    let is_digest = digits.len() == 64
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let (repository, tag) = reference.rsplit_once(':')?;
    let is_tag = (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let (host, path) = repository.split_once('/')?;
    let is_host = host.contains(['.', ':']) || host == "localhost";
    let is_path = path.split('/').all(|word| !word.is_empty())
        && path
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c));
    (is_digest && is_tag && is_host && is_path).then(|| Line {
        host: host.to_owned(),
        path: path.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
    })
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}@{}", self.host, self.path, self.tag, self.digest)
    }
}

impl Catalog {
    /// Reads the two files of a catalog.
    ///
    /// # Errors
    ///
    /// When a line is no reference with a digest (a factory would leave it out silently), or a description belongs to
    /// none.
    pub fn read(lines: &str, descriptions: &str) -> Result<Self, CatalogError> {
        let mut described: BTreeMap<String, Description> = if descriptions.trim().is_empty() {
            BTreeMap::new()
        } else {
            serde_yaml_ng::from_str(descriptions)?
        };
        let mut catalog = Self::default();
        for (number, text) in (1..).zip(lines.lines()).filter(|(_, text)| !text.is_empty()) {
            let line: Line = text
                .parse()
                .map_err(|finding| CatalogError::Line { number, finding })?;
            catalog.add(line, described.remove(text));
        }
        match described.into_keys().next() {
            None => Ok(catalog),
            Some(stray) => Err(CatalogError::Stray(stray)),
        }
    }

    /// Adds an extension; one of the same identity is replaced.
    pub fn add(&mut self, line: Line, description: Option<Description>) {
        self.0.insert(line.path.clone(), (line, description));
    }

    /// Packs the two files, as the only layer of an image. `time` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// None in practice: it writes to memory.
    pub fn archive(&self, time: u64) -> Result<Vec<u8>, CatalogError> {
        let mut lines = String::new();
        let mut descriptions = BTreeMap::new();
        for (line, description) in self.0.values() {
            let text = line.to_string();
            lines.push_str(&text);
            lines.push('\n');
            if let Some(description) = description {
                descriptions.insert(text, description);
            }
        }
        let mut tree = Tree::default();
        tree.file(LINES, 0o644, lines);
        tree.file(DESCRIPTIONS, 0o644, serde_yaml_ng::to_string(&descriptions)?);
        Ok(tree.archive(time)?)
    }
}

/// Judges what is to stand in a catalog for this extension.
///
/// # Errors
///
/// When the repository is none that a factory takes for this extension, or the parts are no reference.
pub fn our_line(repository: &str, tag: &str, digest: &str) -> Result<Line, Finding> {
    rules::repository(repository).map_or_else(|| Line::new(repository, tag, digest), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn joins_the_official_lines_and_ours() {
        let official =
            format!("ghcr.io/siderolabs/zfs:2.4.0@{DIGEST}\nghcr.io/siderolabs/amd-ucode:1@{DIGEST}\n");
        let described = format!("\"ghcr.io/siderolabs/zfs:2.4.0@{DIGEST}\": {{author: A, description: D}}\n");
        let mut catalog = Catalog::read(&official, &described).unwrap();
        let ours = our_line("ghcr.io/talos-vmtoolsd/talos-vmtoolsd", "0.1.0", DIGEST).unwrap();
        let old = our_line("ghcr.io/talos-vmtoolsd/talos-vmtoolsd", "0.0.9", DIGEST).unwrap();
        let description = Description {
            author: "x".to_owned(),
            description: "y\nz\n".to_owned(),
        };
        catalog.add(old, None);
        catalog.add(ours.clone(), Some(description.clone()));

        let entries = layer::entries(&catalog.archive(7).unwrap()).unwrap();
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, [DESCRIPTIONS, LINES]);
        let (descriptions, lines) = (&entries[0], &entries[1]);
        let text = String::from_utf8(lines.content.clone()).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                &format!("ghcr.io/siderolabs/amd-ucode:1@{DIGEST}"),
                &format!("ghcr.io/siderolabs/zfs:2.4.0@{DIGEST}"),
                &ours.to_string(),
            ]
        );
        let map: BTreeMap<String, Description> = serde_yaml_ng::from_slice(&descriptions.content).unwrap();
        assert_eq!(map.get(&ours.to_string()), Some(&description));
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn refuses_what_a_factory_would_leave_out() {
        for line in [
            "ghcr.io/acme/x:1".to_owned(),
            format!("ghcr.io/acme/x@{DIGEST}"),
            format!("acme/x:1@{DIGEST}"),
            format!("ghcr.io/Acme/x:1@{DIGEST}"),
            format!("ghcr.io/acme/x:1+2@{DIGEST}"),
            "ghcr.io/acme/x:1@sha256:12".to_owned(),
        ] {
            let finding = line.parse::<Line>().unwrap_err();
            assert_eq!(finding.rule, Rule::CatalogLine, "{line}");
            assert!(matches!(
                Catalog::read(&line, ""),
                Err(CatalogError::Line { number: 1, .. })
            ));
        }
        let stray = format!("\"ghcr.io/acme/x:1@{DIGEST}\": {{author: A, description: D}}\n");
        assert!(matches!(Catalog::read("", &stray), Err(CatalogError::Stray(_))));
        let alias = our_line("ghcr.io/siderolabs/talos-vmtoolsd", "0.1.0", DIGEST).unwrap_err();
        assert_eq!(alias.rule, Rule::Repository);
    }
}
