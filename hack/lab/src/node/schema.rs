//! The resource types that the node knows, as tables.
//!
//! Talos encodes a spec by walking a Go struct, so the order of its fields on the wire is the order of declaration,
//! not of the numbers. The tables hold that order, the field numbers and the YAML names of Talos's
//! `pkg/machinery/resources`; [`super::spec`] reads, encodes and prints specs by them. A new type is a new row.

pub mod cluster;
pub(in crate::node) mod names;
pub mod network;
pub mod runtime;

use super::release::Release;

/// Symbolic names of numbers, as Talos prints them in YAML.
pub type Names = &'static [(u32, &'static str)];

/// How a field is written.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A boolean.
    Bool,
    /// An unsigned integer of any width.
    Unsigned,
    /// A signed integer of any width, a plain varint on the wire.
    Signed,
    /// A string.
    Text,
    /// A hardware address: raw octets on the wire, `00:50:56:…` in YAML.
    Hardware,
    /// An IP address, possibly absent.
    Address,
    /// An IP address with a prefix length, possibly absent.
    Prefix,
    /// A number with a name.
    Named(Names),
    /// A sum of named bits, joined by commas in YAML.
    Bits(Names),
    /// A nested message.
    Message(&'static [Field]),
    /// A repeated field.
    List(&'static Shape),
    /// A map from string to string.
    TextMap,
}

/// One field of a spec.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The YAML key.
    pub name: &'static str,
    /// The protobuf field number.
    pub number: u32,
    /// How it is written.
    pub shape: Shape,
    /// The first release that has it.
    pub since: Release,
    /// A zero value is left out of the YAML.
    pub omit_empty: bool,
}

impl Field {
    /// A field of every release that is always printed.
    pub const fn new(name: &'static str, number: u32, shape: Shape) -> Self {
        Self {
            name,
            number,
            shape,
            since: Release::V1_10,
            omit_empty: false,
        }
    }

    /// The same, left out of the YAML when zero.
    pub const fn optional(name: &'static str, number: u32, shape: Shape) -> Self {
        Self {
            omit_empty: true,
            ..Self::new(name, number, shape)
        }
    }

    /// Restricts the field to `since` and later.
    pub const fn since(self, since: Release) -> Self {
        Self { since, ..self }
    }
}

/// A resource type.
#[derive(Debug)]
pub struct Type {
    /// The full type name, for example `LinkStatuses.net.talos.dev`.
    pub name: &'static str,
    /// The namespace that its resources live in when none is named.
    pub namespace: &'static str,
    /// The controller that owns its resources.
    pub owner: &'static str,
    /// The first release that has it.
    pub since: Release,
    /// From this release on only os:admin may read it.
    pub sensitive_since: Option<Release>,
    /// Talos encodes it with generated code instead: zero values are omitted on every release, and the YAML is the
    /// bare value of the only field.
    pub generated: bool,
    /// The fields of the spec in Go's order of declaration.
    pub fields: &'static [Field],
}

impl Type {
    /// A type of every release that os:reader may read.
    pub const fn new(
        name: &'static str,
        namespace: &'static str,
        owner: &'static str,
        fields: &'static [Field],
    ) -> Self {
        Self {
            name,
            namespace,
            owner,
            since: Release::V1_10,
            sensitive_since: None,
            generated: false,
            fields,
        }
    }

    /// Restricts the type to `since` and later.
    pub const fn since(self, since: Release) -> Self {
        Self { since, ..self }
    }

    /// Makes the type Sensitive from `since` on.
    pub const fn sensitive(self, since: Release) -> Self {
        Self {
            sensitive_since: Some(since),
            ..self
        }
    }

    /// Marks a type with a generated encoder.
    pub const fn generated(self) -> Self {
        Self {
            generated: true,
            ..self
        }
    }

    /// Whether `release` asks os:admin of a reader of this type.
    pub fn is_sensitive(&self, release: Release) -> bool {
        self.sensitive_since.is_some_and(|since| release >= since)
    }
}

/// Namespaces that exist on a node; any other one is refused.
pub const NAMESPACES: &[&str] = &[
    "cluster",
    "config",
    "etcd",
    "files",
    "hardware",
    "k8s",
    "meta",
    "network",
    "network-config",
    "perf",
    "runtime",
    "secrets",
];

/// The type called `name`, if `release` has it. As on a node, upper and lower case are the same.
pub fn find(name: &str, release: Release) -> Option<&'static Type> {
    [network::TYPES, runtime::TYPES, cluster::TYPES]
        .into_iter()
        .flatten()
        .find(|known| known.name.eq_ignore_ascii_case(name) && known.since <= release)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(fields: &[Field], path: &str) {
        let mut numbers = BTreeSet::new();
        let mut names = BTreeSet::new();
        for field in fields {
            assert!(
                numbers.insert(field.number),
                "{path}: number {} twice",
                field.number
            );
            assert!(names.insert(field.name), "{path}: name {} twice", field.name);
            let inner = match field.shape {
                Shape::Message(inner) | Shape::List(&Shape::Message(inner)) => inner,
                _ => continue,
            };
            check(inner, &format!("{path}.{}", field.name));
        }
    }

    #[test]
    fn no_table_uses_a_number_or_name_twice() {
        let mut types = BTreeSet::new();
        for known in [network::TYPES, runtime::TYPES, cluster::TYPES]
            .into_iter()
            .flatten()
        {
            assert!(types.insert(known.name), "{} twice", known.name);
            assert!(NAMESPACES.contains(&known.namespace), "{}", known.name);
            check(known.fields, known.name);
        }
    }

    #[test]
    fn types_appear_with_their_release() {
        assert!(find("BootIDs.runtime.talos.dev", Release::V1_13).is_none());
        assert!(find("bootids.runtime.talos.dev", Release::V1_14).is_some());
        let kubelet = find("KubeletSpecs.kubernetes.talos.dev", Release::V1_12).unwrap();
        assert!(!kubelet.is_sensitive(Release::V1_12) && kubelet.is_sensitive(Release::V1_13));
    }
}
