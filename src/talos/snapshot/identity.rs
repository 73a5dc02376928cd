//! What the node is: its role in the cluster, its image, its boot.

#![forbid(unsafe_code)]

use serde::Serialize;

use super::{Fact, Snapshot};

/// MachineTypes.config.talos.dev.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MachineType(pub i32);

impl MachineType {
    /// Talos's word; none before a machine configuration is loaded, or for a type of a later Talos
    /// (pkg/machinery/config/machine/type.go).
    pub const fn name(self) -> Option<&'static str> {
        match self.0 {
            1 => Some("init"),
            2 => Some("controlplane"),
            3 => Some("worker"),
            _ => None,
        }
    }
}

/// NodeStatuses.kubernetes.talos.dev: the node as Kubernetes knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its condition Ready is true.
    pub ready: bool,
    /// It is cordoned.
    pub unschedulable: bool,
}

/// ImageFactorySchematics.runtime.talos.dev, Talos 1.14 and later: what the boot image was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Schematic {
    /// 64 hex digits.
    pub id: String,
    /// Empty for the common one.
    pub flavor: String,
}

/// ExtensionStatuses.runtime.talos.dev: a system extension of the boot image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extension {
    /// `qemu-guest-agent`; `schematic` is none, and its version is the id of the schematic.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Extension {
    /// The name of the layer that Image Factory adds to tell the schematic.
    pub const SCHEMATIC: &str = "schematic";
}

impl Snapshot {
    /// The id of the schematic: from its own resource where Talos has it, else from the extension that tells it. One
    /// that Talos tells now counts before one that is stale: the release may have changed between.
    pub fn schematic_id(&self) -> Option<&str> {
        let own = self.schematic.value().map(|schematic| schematic.id.as_str());
        let extension = self.extensions.value().and_then(|extensions| {
            extensions
                .values()
                .find(|extension| extension.name == Extension::SCHEMATIC)
                .map(|extension| extension.version.as_str())
        });
        let is_stale = matches!(self.schematic, Fact::Stale { .. });
        if is_stale && matches!(self.extensions, Fact::Known { .. }) {
            extension.or(own)
        } else {
            own.or(extension)
        }
    }

    /// The Kubernetes node with its name: the one by the node's name, or the only one.
    pub fn kubernetes_node(&self) -> Option<(&str, &NodeStatus)> {
        let nodes = self.nodes.value()?;
        let named = match &self.nodename {
            Fact::Known { value } | Fact::Stale { value, .. } => nodes.get_key_value(value),
            Fact::Unknown if nodes.len() == 1 => nodes.first_key_value(),
            Fact::Unknown => None,
        };
        named.map(|(name, status)| (name.as_str(), status))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;

    fn extensions(schematic: &str) -> Fact<Arc<BTreeMap<String, Extension>>> {
        let extension = |name: &str, version: &str| Extension {
            name: name.into(),
            version: version.into(),
        };
        Fact::Known {
            value: Arc::new(BTreeMap::from([
                ("000.ghcr.io-x".into(), extension("x", "1")),
                ("001.schematic".into(), extension("schematic", schematic)),
            ])),
        }
    }

    #[test]
    fn the_schematic_has_an_older_form() {
        let mut snapshot = Snapshot::default();
        assert_eq!(snapshot.schematic_id(), None);
        snapshot.extensions = extensions("old");
        assert_eq!(snapshot.schematic_id(), Some("old"));
        snapshot.schematic = Fact::Known {
            value: Schematic {
                id: "new".into(),
                flavor: String::new(),
            },
        };
        assert_eq!(snapshot.schematic_id(), Some("new"));
        snapshot.schematic.silence(std::time::SystemTime::UNIX_EPOCH);
        assert_eq!(snapshot.schematic_id(), Some("old"), "what is told now");
        snapshot.extensions.silence(std::time::SystemTime::UNIX_EPOCH);
        assert_eq!(snapshot.schematic_id(), Some("new"));
        snapshot.extensions = Fact::Unknown;
        assert_eq!(
            snapshot.schematic_id(),
            Some("new"),
            "an old word is better than none"
        );
    }

    #[test]
    fn the_kubernetes_node_is_the_one_of_the_nodes_name() {
        let ready = NodeStatus {
            ready: true,
            unschedulable: false,
        };
        let mut snapshot = Snapshot {
            nodes: Fact::Known {
                value: Arc::new(BTreeMap::from([("b".into(), ready.clone())])),
            },
            ..Snapshot::default()
        };
        assert_eq!(snapshot.kubernetes_node(), Some(("b", &ready)));
        snapshot.nodename = Fact::Known { value: "a".into() };
        assert_eq!(snapshot.kubernetes_node(), None);
        snapshot.nodename = Fact::Known { value: "b".into() };
        assert_eq!(snapshot.kubernetes_node(), Some(("b", &ready)));
    }

    #[test]
    fn a_machine_type_without_a_name_is_no_type() {
        assert_eq!(MachineType(2).name(), Some("controlplane"));
        assert_eq!(MachineType(0).name(), None);
        assert_eq!(MachineType(9).name(), None);
    }
}
