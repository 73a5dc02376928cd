//! The operating system's names: the structured record (`INFO_OS_DETAILED`), and the two plain names for hosts that do
//! not know it (guestInfo.h).
//!
//! Release and architecture come from Talos, the kernel from uname(2): the container runs on the node's kernel. The
//! container's /etc/os-release describes the container and is not read.

#![forbid(unsafe_code)]

use serde::Serialize;

use crate::talos::snapshot::Version;

/// `HostinfoDetailedDataHeader`: version, short name, full name, two bytes of padding. The structure is not packed.
const HEADER: usize = 4 + SHORT_NAME + FULL_NAME + 2;
/// Room for the short name with its NUL.
const SHORT_NAME: usize = 129;
/// Room for the full name with its NUL.
const FULL_NAME: usize = 513;
/// Longest `key='value'`, in bytes; open-vm-tools gives up the whole text for a longer one.
const MAX_PROPERTY: usize = 1023;

/// The running kernel, as uname(2) tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// `Linux`.
    pub sysname: String,
    /// `6.18.45-talos`.
    pub release: String,
}

impl Kernel {
    /// Asks the kernel. The answer does not change while it runs.
    pub fn running() -> Option<Self> {
        let names = nix::sys::utsname::uname().ok()?;
        Some(Self {
            sysname: names.sysname().to_string_lossy().into_owned(),
            release: names.release().to_string_lossy().into_owned(),
        })
    }

    /// The name in VMware's vocabulary, which has none for Talos: the generic one for the kernel's major number.
    ///
    /// An older host does not know the newer names (`other6xlinux-64` came with vSphere 8.0, `other7xlinux-64` with
    /// 9.0) and ignores them; it then shows the full name. That is preferred to open-vm-tools' choice, which tells of a
    /// version 5 for every kernel after 6. Every Talos is 64-bit. The `arm-` prefix is for distributions with a name
    /// of their own.
    fn short_name(&self) -> &'static str {
        let major = self
            .release
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        match major {
            Some(7_u32..) => "other7xlinux-64",
            Some(6) => "other6xlinux-64",
            Some(5) => "other5xlinux-64",
            Some(4) => "other4xlinux-64",
            Some(3) => "other3xlinux-64",
            _ => "otherlinux-64",
        }
    }
}

/// What a host is told about the operating system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OsNames {
    /// One of VMware's names.
    pub short: String,
    /// For people.
    pub full: String,
    /// `key='value'`, separated by one space, in alphabetical order of the keys.
    pub properties: String,
}

impl OsNames {
    /// The names for this release, or `None` while Talos has not told it.
    pub fn new(version: &Version, kernel: &Kernel) -> Option<Self> {
        let tag = printable(&version.tag);
        if tag.is_empty() {
            return None;
        }
        let sysname = printable(&kernel.sysname);
        let release = printable(&kernel.release);
        let pretty = format!("Talos ({tag})");
        let (architecture, bitness) = match version.arch.as_str() {
            "amd64" => ("X86", "64"),
            "arm64" => ("Arm", "64"),
            _ => ("", ""),
        };
        let properties = [
            ("architecture", architecture),
            ("bitness", bitness),
            ("distroName", "Talos"),
            ("distroVersion", &tag),
            ("familyName", &sysname),
            ("kernelVersion", &release),
            ("prettyName", &pretty),
        ];
        let properties: Vec<String> = properties
            .into_iter()
            .filter_map(|(key, value)| property(key, value))
            .collect();
        let full = format!("{sysname} {release} Talos {tag} {pretty}");
        Some(Self {
            short: kernel.short_name().to_owned(),
            full: prefix_of(&full, FULL_NAME - 1).to_owned(),
            properties: properties.join(" "),
        })
    }

    /// The payload of `SetGuestInfo  11`: the header, the properties and a NUL.
    pub fn detailed(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.properties.len() + 1);
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        for (name, room) in [(&self.short, SHORT_NAME), (&self.full, FULL_NAME)] {
            let name = prefix_of(name, room - 1);
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend(std::iter::repeat_n(0, room - name.len()));
        }
        bytes.resize(HEADER, 0);
        bytes.extend_from_slice(self.properties.as_bytes());
        bytes.push(0);
        bytes
    }
}

/// `key='value'`, or nothing for an empty value or one that is too long.
fn property(key: &str, value: &str) -> Option<String> {
    let value = value.trim_end();
    if value.is_empty() {
        return None;
    }
    let mut text = format!("{key}='");
    for c in value.chars() {
        if matches!(c, '\'' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('\'');
    (text.len() <= MAX_PROPERTY).then_some(text)
}

/// The text without control characters, which would end or split the message.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The longest beginning of `text` with at most `limit` bytes.
fn prefix_of(text: &str, limit: usize) -> &str {
    let end = text
        .char_indices()
        .map(|(start, c)| start + c.len_utf8())
        .take_while(|end| *end <= limit)
        .last()
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(tag: &str, arch: &str) -> Version {
        Version {
            tag: tag.into(),
            arch: arch.into(),
            platform: "vmware".into(),
        }
    }

    fn kernel(release: &str) -> Kernel {
        Kernel {
            sysname: "Linux".into(),
            release: release.into(),
        }
    }

    #[test]
    fn the_record_of_talos_on_each_architecture() {
        for (arch, architecture) in [("amd64", "X86"), ("arm64", "Arm")] {
            let names = OsNames::new(&version("v1.14.0-beta.1", arch), &kernel("6.18.45-talos")).unwrap();
            assert_eq!(names.short, "other6xlinux-64");
            assert_eq!(
                names.full,
                "Linux 6.18.45-talos Talos v1.14.0-beta.1 Talos (v1.14.0-beta.1)"
            );
            assert_eq!(
                names.properties,
                format!(
                    "architecture='{architecture}' bitness='64' distroName='Talos' \
                     distroVersion='v1.14.0-beta.1' familyName='Linux' kernelVersion='6.18.45-talos' \
                     prettyName='Talos (v1.14.0-beta.1)'"
                )
            );
        }
    }

    #[test]
    fn the_text_starts_behind_the_padding() {
        let names = OsNames::new(&version("v1.14.1", "amd64"), &kernel("6.18.45-talos")).unwrap();
        let bytes = names.detailed();
        assert_eq!(bytes[..4], [1, 0, 0, 0]);
        assert_eq!(bytes[4..20], *b"other6xlinux-64\0");
        assert_eq!(bytes[133..138], *b"Linux");
        assert_eq!(bytes[645..648], [0, 0, 0]);
        assert_eq!(bytes[648..661], *b"architecture=");
        assert_eq!(bytes.len(), 648 + names.properties.len() + 1);
        assert_eq!(bytes.last(), Some(&0));
    }

    #[test]
    fn the_short_name_follows_the_kernel() {
        for (release, expected) in [
            ("3.10.0", "other3xlinux-64"),
            ("4.19.1", "other4xlinux-64"),
            ("5.15.2", "other5xlinux-64"),
            ("6.1.0", "other6xlinux-64"),
            ("7.0-rc1", "other7xlinux-64"),
            ("8.1", "other7xlinux-64"),
            ("2.6.32", "otherlinux-64"),
            ("", "otherlinux-64"),
            ("nonsense", "otherlinux-64"),
        ] {
            assert_eq!(kernel(release).short_name(), expected, "{release}");
        }
    }

    #[test]
    fn an_unknown_release_is_not_told() {
        assert_eq!(OsNames::new(&version("", "amd64"), &kernel("6.1")), None);
        assert_eq!(OsNames::new(&version("\0\n", "amd64"), &kernel("6.1")), None);
    }

    #[test]
    fn foreign_text_cannot_break_the_record() {
        let names = OsNames::new(&version("v1'\\\n\0", "riscv64"), &kernel(&"9".repeat(5000))).unwrap();
        assert!(
            names
                .properties
                .starts_with(r"distroName='Talos' distroVersion='v1\'\\' ")
        );
        assert!(!names.properties.contains("kernelVersion"), "too long, left out");
        assert_eq!(names.full.len(), 512);
        let bytes = names.detailed();
        assert_eq!(bytes[648..658], *b"distroName");

        let names = OsNames::new(&version(&"é".repeat(400), "amd64"), &kernel("6.1")).unwrap();
        assert!(names.full.len() <= 512);
        assert_eq!(names.detailed().len(), 648 + names.properties.len() + 1);
    }

    #[test]
    fn the_running_kernel_is_linux() {
        let kernel = Kernel::running().unwrap();
        assert_eq!(kernel.sysname, "Linux");
        assert!(!kernel.release.is_empty());
    }
}
