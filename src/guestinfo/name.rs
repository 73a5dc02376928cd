//! The name a node goes by on the host.
//!
//! The cloud provider looks a node up by exactly this text, so it must be the name Kubernetes uses, and it is better
//! absent than wrong: a placeholder would be found by nobody and kept by everybody.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use thiserror::Error;

use super::nic::MAX_NAME;
use crate::talos::snapshot::HostnameStatus;

/// Which form of the name is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostnameMode {
    /// The Kubernetes node name where it is this host's short or full name, else the short name.
    #[default]
    Auto,
    /// With the domain, where there is one.
    Fqdn,
    /// Without the domain.
    Short,
}

/// Why there is no name to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Talos has no name yet.
    #[error("the name is empty")]
    Empty,
    /// No host keeps more.
    #[error("the name has {length} bytes, {MAX_NAME} are allowed")]
    TooLong {
        /// In bytes.
        length: usize,
    },
    /// A name with white space or control characters would break the messages that carry it.
    #[error("the name holds white space or control characters")]
    NotPrintable,
}

/// The name to report for `status`. `node` is the name of the Kubernetes node, where it is known.
pub fn reported(
    status: &HostnameStatus,
    node: Option<&str>,
    mode: HostnameMode,
) -> Result<String, NameError> {
    let short = status.hostname.as_str();
    check(short)?;
    let full = if status.domainname.is_empty() {
        Cow::Borrowed(short)
    } else {
        Cow::Owned(format!("{short}.{}", status.domainname))
    };
    let name = match (mode, node) {
        (HostnameMode::Auto, Some(node)) if is_named(node, short) || is_named(node, &full) => node,
        (HostnameMode::Auto | HostnameMode::Short, _) => short,
        (HostnameMode::Fqdn, _) => &full,
    };
    check(name)?;
    Ok(name.to_owned())
}

/// Whether the Kubernetes node `node` is the host `host`, by the name that Talos gives to the node: in lower case, a
/// dash for an underscore, without what a node may not be called, without dashes and dots at both ends
/// (`nodename.FromHostname` of machined's k8s controllers).
fn is_named(node: &str, host: &str) -> bool {
    let allowed = |c: char| match c {
        'a'..='z' | '0'..='9' | '-' | '.' => Some(c),
        'A'..='Z' => Some(c.to_ascii_lowercase()),
        '_' => Some('-'),
        _ => None,
    };
    let called: String = host.chars().filter_map(allowed).collect();
    !node.is_empty() && (node == host || node == called.trim_matches(['-', '.']))
}

/// Whether `name` can stand in a message.
pub fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong { length: name.len() });
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(NameError::NotPrintable);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(hostname: &str, domainname: &str) -> HostnameStatus {
        HostnameStatus {
            hostname: hostname.into(),
            domainname: domainname.into(),
        }
    }

    #[test]
    fn each_mode_with_and_without_domain() {
        for (mode, domain, expected) in [
            (HostnameMode::Auto, "", "talos-cp-1"),
            (HostnameMode::Auto, "example.org", "talos-cp-1"),
            (HostnameMode::Short, "example.org", "talos-cp-1"),
            (HostnameMode::Fqdn, "", "talos-cp-1"),
            (HostnameMode::Fqdn, "example.org", "talos-cp-1.example.org"),
        ] {
            let got = reported(&status("talos-cp-1", domain), None, mode);
            assert_eq!(got.as_deref(), Ok(expected), "{mode:?} {domain:?}");
        }
    }

    #[test]
    fn the_node_name_counts_when_it_is_this_host() {
        let host = status("master", "c.vsphere.local");
        for (node, expected) in [
            ("master", "master"),
            ("master.c.vsphere.local", "master.c.vsphere.local"),
            ("198.19.31.255", "master"),
            ("", "master"),
        ] {
            let got = reported(&host, Some(node), HostnameMode::Auto);
            assert_eq!(got.as_deref(), Ok(expected), "{node:?}");
        }
        let short = reported(&host, Some("master.c.vsphere.local"), HostnameMode::Short);
        assert_eq!(short.as_deref(), Ok("master"));
    }

    #[test]
    fn the_node_name_may_be_what_talos_made_of_the_host_name() {
        for (host, domain, node, expected) in [
            ("Talos-CP-1", "", "talos-cp-1", "talos-cp-1"),
            ("talos_cp_1", "", "talos-cp-1", "talos-cp-1"),
            (
                "Talos-CP-1",
                "Example.ORG",
                "talos-cp-1.example.org",
                "talos-cp-1.example.org",
            ),
            ("-talos.", "", "talos", "talos"),
            ("t\u{e4}los", "", "tlos", "tlos"),
            ("Talos-CP-1", "", "talos-cp-2", "Talos-CP-1"),
            // No name is left of these: the host keeps its own.
            ("---", "", "", "---"),
        ] {
            let got = reported(&status(host, domain), Some(node), HostnameMode::Auto);
            assert_eq!(got.as_deref(), Ok(expected), "{host:?} {domain:?} {node:?}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_sent_is_an_error() {
        let get =
            |hostname: &str, domain: &str| reported(&status(hostname, domain), None, HostnameMode::Fqdn);
        assert_eq!(get("", "example.org"), Err(NameError::Empty));
        assert_eq!(get("a b", ""), Err(NameError::NotPrintable));
        assert_eq!(get("a\0b", ""), Err(NameError::NotPrintable));
        assert_eq!(get("a", "b\n"), Err(NameError::NotPrintable));
        assert_eq!(get(&"a".repeat(255), ""), Ok("a".repeat(255)));
        assert_eq!(get(&"a".repeat(256), ""), Err(NameError::TooLong { length: 256 }));
        assert_eq!(
            get("a", &"d".repeat(254)),
            Err(NameError::TooLong { length: 256 })
        );
    }
}
