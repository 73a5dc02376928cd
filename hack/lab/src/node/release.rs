//! What differs between the Talos releases that the node can play.

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

/// A Talos minor release, 1.10 to 1.14.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// Talos 1.10
    V1_10,
    /// Talos 1.11
    V1_11,
    /// Talos 1.12
    V1_12,
    /// Talos 1.13
    V1_13,
    /// Talos 1.14
    #[default]
    V1_14,
}

/// A release that the node cannot play.
#[derive(Debug, thiserror::Error)]
#[error("Talos release {0:?} is not one of 1.10, 1.11, 1.12, 1.13, 1.14")]
pub struct UnknownRelease(String);

impl Release {
    /// All releases, the oldest first.
    pub const ALL: [Self; 5] = [Self::V1_10, Self::V1_11, Self::V1_12, Self::V1_13, Self::V1_14];

    /// The `version.tag` that the machine API reports.
    pub fn tag(self) -> &'static str {
        match self {
            Self::V1_10 => "v1.10.6",
            Self::V1_11 => "v1.11.0",
            Self::V1_12 => "v1.12.0",
            Self::V1_13 => "v1.13.6",
            Self::V1_14 => "v1.14.1",
        }
    }

    /// Zero values stand on the wire: the spec encoder (siderolabs/protoenc) omits them from 0.2.4 on, Talos 1.12.
    pub fn writes_zero_values(self) -> bool {
        self < Self::V1_12
    }

    /// A Watch or List request without options ends in a nil dereference: COSI runtime up to 1.14.0, Talos 1.12.
    /// (Get never looks at its options.)
    pub fn needs_options(self) -> bool {
        self < Self::V1_13
    }
}

/// The version that the node claims to be, where that is not the release it plays.
#[derive(Debug, Default)]
pub struct Reported(Mutex<Option<String>>);

impl Reported {
    /// From now on the Version call gives `tag`; `None` for the release's own.
    pub fn set(&self, tag: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tag;
    }

    /// The `version.tag` of a node that plays `release`.
    pub fn tag(&self, release: Release) -> String {
        let reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reported.clone().unwrap_or_else(|| release.tag().to_owned())
    }

    /// Shutdown without `force` meets a nil machine configuration and ends PID 1: Talos 1.5.0 to 1.7.5 (fixed by
    /// d983e4430).
    pub fn needs_configuration(&self) -> bool {
        let reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reported.as_ref().is_some_and(|tag| {
            let old = ["v1.5.", "v1.6."].iter().any(|minor| tag.starts_with(minor));
            old || matches!(tag.strip_prefix("v1.7."), Some("0" | "1" | "2" | "3" | "4" | "5"))
        })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minor = match self {
            Self::V1_10 => 10,
            Self::V1_11 => 11,
            Self::V1_12 => 12,
            Self::V1_13 => 13,
            Self::V1_14 => 14,
        };
        write!(formatter, "1.{minor}")
    }
}

impl FromStr for Release {
    type Err = UnknownRelease;

    fn from_str(text: &str) -> Result<Self, UnknownRelease> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        Self::ALL
            .into_iter()
            .find(|release| bare == release.to_string() || text == release.tag())
            .ok_or_else(|| UnknownRelease(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_as_it_is_written() {
        for release in Release::ALL {
            assert_eq!(release.to_string().parse::<Release>().unwrap(), release);
            assert_eq!(release.tag().parse::<Release>().unwrap(), release);
        }
        assert!("1.9".parse::<Release>().is_err());
        assert!("1.1".parse::<Release>().is_err());
    }

    #[test]
    fn a_reported_version_hides_the_release() {
        let reported = Reported::default();
        assert_eq!(reported.tag(Release::V1_10), "v1.10.6");
        for (tag, crashes) in [
            ("v1.5.0", true),
            ("v1.7.5", true),
            ("v1.7.6", false),
            ("v1.8.0", false),
        ] {
            reported.set(Some(tag.to_owned()));
            assert_eq!(reported.tag(Release::V1_10), tag);
            assert_eq!(reported.needs_configuration(), crashes, "{tag}");
        }
    }

    #[test]
    fn habits_change_where_the_encoder_and_the_runtime_changed() {
        let zeros = Release::ALL.map(Release::writes_zero_values);
        assert_eq!(zeros, [true, true, false, false, false]);
        let options = Release::ALL.map(Release::needs_options);
        assert_eq!(options, [true, true, true, false, false]);
    }
}
