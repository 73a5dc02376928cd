//! `manifest.yaml`, which stands at the root of an extension image.
//!
//! Talos ignores unknown keys, so a misspelt one would vanish; here it is an error. Source of the fields:
//! `pkg/machinery/extensions/metadata.go` of siderolabs/talos.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The only version of the format.
pub const FORMAT: &str = "v1alpha1";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of the file, [`FORMAT`].
    pub version: String,
    /// What the extension is.
    pub metadata: Metadata,
}

/// What Talos shows of the extension, and where it may be installed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Name; a label of the Kubernetes node is made of it.
    pub name: String,
    /// Version; the value of that label, and the tag of the image.
    pub version: String,
    /// Free text.
    pub author: String,
    /// Free text.
    pub description: String,
    /// Where it may be installed.
    pub compatibility: Compatibility,
}

/// Where an extension may be installed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Compatibility {
    /// On which Talos.
    pub talos: Constraint,
}

/// A constraint on a version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// As blang/semver reads it, see [`Range`].
    pub version: String,
}

/// A range of versions in the part of blang/semver's grammar that leaves no doubt: comparisons with three numbers, a
/// space for "and", `||` for "or". Talos removes a `v` before a digit first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range(Vec<Vec<Comparison>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Comparison {
    operator: Operator,
    release: Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// Major, minor and patch number of a Talos release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u64, pub u64, pub u64);

/// A text that blang/semver does not read as a range, or reads otherwise than one would think.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no comparison with a version of three numbers, such as \">= v1.10.0\"")]
pub struct RangeError(String);

impl Range {
    /// Reads a range; the empty text is every version.
    ///
    /// # Errors
    ///
    /// When a comparison has another form, such as `>= v1.10`, `^1.10.0`, or `>= 1.10.0, < 1.15.0`.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split("||").map(all_of).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a release is in the range.
    #[must_use]
    pub fn contains(&self, release: Release) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|all| all.iter().all(|comparison| comparison.holds(release)))
    }
}

fn all_of(text: &str) -> Result<Vec<Comparison>, RangeError> {
    let refused = || RangeError(text.trim().to_owned());
    let mut rest = text.trim();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).ok_or_else(refused)?;
        let (operator, version) = rest.split_at(digits);
        let operator = operator.trim().trim_end_matches('v').trim();
        let end = version.find(char::is_whitespace).unwrap_or(version.len());
        let (version, behind) = version.split_at(end);
        all.push(Comparison {
            operator: Operator::parse(operator).ok_or_else(refused)?,
            release: Release::parse(version).ok_or_else(refused)?,
        });
        rest = behind.trim_start();
    }
    if all.is_empty() { Err(refused()) } else { Ok(all) }
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" | "=" | "==" => Self::Equal,
            "!" | "!=" => Self::NotEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            _ => return None,
        })
    }
}

impl Comparison {
    fn holds(self, release: Release) -> bool {
        match self.operator {
            Operator::Equal => release == self.release,
            Operator::NotEqual => release != self.release,
            Operator::Greater => release > self.release,
            Operator::GreaterOrEqual => release >= self.release,
            Operator::Less => release < self.release,
            Operator::LessOrEqual => release <= self.release,
        }
    }
}

impl Release {
    /// Reads `1.10.0`; nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| {
            let plain = part.bytes().all(|byte| byte.is_ascii_digit());
            let leading_zero = part.len() > 1 && part.starts_with('0');
            (plain && !leading_zero).then(|| part.parse().ok()).flatten()
        });
        let release = Self(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(release)
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_talos_reads() {
        let old = Release(1, 9, 9);
        let new = Release(1, 14, 1);
        for (range, holds_old, holds_new) in [
            ("", true, true),
            (">= v1.10.0", false, true),
            (">=1.10.0", false, true),
            (">= 1.10.0 < 1.15.0", false, true),
            (">= 1.10.0 < 1.14.1", false, false),
            ("<1.10.0 || >=1.12.0", true, true),
            ("v1.14.1", false, true),
            ("!=1.14.1", true, false),
        ] {
            let range = Range::parse(range).unwrap();
            assert_eq!(
                (range.contains(old), range.contains(new)),
                (holds_old, holds_new),
                "{range:?}"
            );
        }
    }

    #[test]
    fn refuses_what_breaks_an_image_build() {
        for range in [
            ">= v1.10",
            ">= 1.10.0, < 1.15.0",
            "^1.10.0",
            "~1.10.0",
            "latest",
            ">=",
            "1.10.0 ||",
            ">= 1.010.0",
        ] {
            assert!(Range::parse(range).is_err(), "{range}");
        }
    }
}
