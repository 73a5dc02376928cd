//! The resource types that are watched, and the request for each.
//!
//! Namespaces, types and ids are Talos's (pkg/machinery/resources, the same from 1.5 to 1.14).

#![forbid(unsafe_code)]

use std::{collections::BTreeSet, fmt};

use serde::{Serialize, Serializer};

use crate::pb::cosi::resource::{IdQuery, WatchOptions, WatchRequest};

/// The COSI API version that sends BOOTSTRAPPED and ERRORED; with 0 an overrun watch would hang in silence.
const API_VERSION: i32 = 1;

/// A resource type that is watched. Each feeds one fact of the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceType {
    /// LinkStatus: network adapters and what is stacked on them.
    Link,
    /// AddressStatus of the selected links.
    Address,
    /// RouteStatus of the selected links.
    Route,
    /// NodeAddress: Talos's own choice of addresses.
    NodeAddress,
    /// NodeIP: the addresses that Talos gives the kubelet.
    NodeIp,
    /// HostnameStatus.
    Hostname,
    /// ResolverStatus.
    Resolver,
    /// MachineStatus: stage and readiness.
    Machine,
    /// SecurityState: secure boot and SELinux.
    Security,
    /// AddressSpec of every configuration layer: who asked for an address.
    AddressSpec,
    /// MachineType: control plane or worker.
    MachineType,
    /// Nodename: the name of the Kubernetes node.
    Nodename,
    /// NodeStatus: the Kubernetes node.
    Node,
    /// Info of the cluster.
    Cluster,
    /// ImageFactorySchematic, Talos 1.14 and later.
    Schematic,
    /// ExtensionStatus: what the boot image was extended by.
    Extension,
    /// BootID, Talos 1.14 and later.
    BootId,
    /// Disk, Talos 1.8 and later.
    Disk,
    /// DiscoveredVolume, Talos 1.7 and later.
    DiscoveredVolume,
    /// VolumeStatus, Talos 1.8 and later.
    Volume,
    /// MountStatus of the block controllers, Talos 1.10 and later.
    Mount,
    /// MountStatus as older releases have it.
    RuntimeMount,
}

/// Which resources of a type a watch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All.
    Kind,
    /// All, of which one id is read.
    KindOf(&'static str),
    /// One id. Talos answers at once, with a tombstone where there is none.
    Single(&'static str),
    /// Those with one of these ids.
    Among(&'static [&'static str]),
    /// Those whose id begins with the name of a selected link, or one of these, and `/`.
    OfLinks(&'static [&'static str]),
}

impl ResourceType {
    /// Every type, in the order in which they are subscribed to.
    pub const ALL: [Self; 22] = [
        Self::Link,
        Self::Address,
        Self::AddressSpec,
        Self::Route,
        Self::NodeAddress,
        Self::NodeIp,
        Self::Hostname,
        Self::Resolver,
        Self::Nodename,
        Self::Machine,
        Self::Security,
        Self::MachineType,
        Self::Node,
        Self::Cluster,
        Self::Schematic,
        Self::Extension,
        Self::BootId,
        Self::Disk,
        Self::DiscoveredVolume,
        Self::Volume,
        Self::Mount,
        Self::RuntimeMount,
    ];

    /// The full type, as Talos knows it.
    pub const fn type_name(self) -> &'static str {
        match self {
            Self::Link => "LinkStatuses.net.talos.dev",
            Self::Address => "AddressStatuses.net.talos.dev",
            Self::Route => "RouteStatuses.net.talos.dev",
            Self::NodeAddress => "NodeAddresses.net.talos.dev",
            Self::NodeIp => "NodeIPs.kubernetes.talos.dev",
            Self::Hostname => "HostnameStatuses.net.talos.dev",
            Self::Resolver => "ResolverStatuses.net.talos.dev",
            Self::Machine => "MachineStatuses.runtime.talos.dev",
            Self::Security => "SecurityStates.talos.dev",
            Self::AddressSpec => "AddressSpecs.net.talos.dev",
            Self::MachineType => "MachineTypes.config.talos.dev",
            Self::Nodename => "Nodenames.kubernetes.talos.dev",
            Self::Node => "NodeStatuses.kubernetes.talos.dev",
            Self::Cluster => "Infos.cluster.talos.dev",
            Self::Schematic => "ImageFactorySchematics.runtime.talos.dev",
            Self::Extension => "ExtensionStatuses.runtime.talos.dev",
            Self::BootId => "BootIDs.runtime.talos.dev",
            Self::Disk => "Disks.block.talos.dev",
            Self::DiscoveredVolume => "DiscoveredVolumes.block.talos.dev",
            Self::Volume => "VolumeStatuses.block.talos.dev",
            Self::Mount => "MountStatuses.block.talos.dev",
            Self::RuntimeMount => "MountStatuses.runtime.talos.dev",
        }
    }

    /// The namespace that is asked.
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Link
            | Self::Address
            | Self::Route
            | Self::NodeAddress
            | Self::Hostname
            | Self::Resolver => "network",
            // Here each layer's wish has a resource of its own, and its id tells the layer.
            Self::AddressSpec => "network-config",
            Self::MachineType => "config",
            Self::NodeIp | Self::Nodename | Self::Node => "k8s",
            Self::Cluster => "cluster",
            Self::Machine
            | Self::Security
            | Self::Schematic
            | Self::Extension
            | Self::BootId
            | Self::Disk
            | Self::DiscoveredVolume
            | Self::Volume
            | Self::Mount
            | Self::RuntimeMount => "runtime",
        }
    }

    const fn extent(self) -> Extent {
        match self {
            Self::Link
            | Self::AddressSpec
            | Self::Node
            | Self::Extension
            | Self::Disk
            | Self::DiscoveredVolume
            | Self::Volume
            | Self::Mount
            | Self::RuntimeMount => Extent::Kind,
            // The other lists have every address of pods and services that there ever was, and change with them.
            Self::NodeAddress => Extent::Among(&["default", "routed-no-k8s"]),
            // A set, so that a node without a kubelet is known to have none.
            Self::NodeIp => Extent::Among(&["kubelet"]),
            Self::Address => Extent::OfLinks(&[]),
            // In the main table an id begins with `inet4/`, or with the link and `/inet6/`; with `inet6/` before Talos
            // knew the link, and with `/inet6/` where several next hops leave none to name. In any other table the
            // table's name comes first (RouteID, pkg/machinery/resources/network/network.go), and the local table
            // holds a route per address of the node.
            Self::Route => Extent::OfLinks(&["inet4", "inet6", ""]),
            Self::Hostname => Extent::KindOf("hostname"),
            Self::Resolver => Extent::KindOf("resolvers"),
            Self::Machine => Extent::Single("machine"),
            Self::Security => Extent::Single("securitystate"),
            Self::MachineType => Extent::Single("machine-type"),
            Self::Nodename => Extent::Single("nodename"),
            Self::Cluster => Extent::Single("current"),
            Self::Schematic => Extent::Single("image-factory-schematic"),
            Self::BootId => Extent::Single("boot-id"),
        }
    }

    /// Several events in one message: the first set arrives as a whole.
    ///
    /// Not where a busy node has thousands of resources: links and routes come one by one and are dropped at once
    /// when they are none of ours, instead of standing in memory together.
    const fn aggregated(self) -> bool {
        !matches!(self, Self::Link | Self::Route)
    }

    /// The one id that is read, for types of which the node has one resource.
    pub const fn only_id(self) -> Option<&'static str> {
        match self.extent() {
            Extent::KindOf(id) | Extent::Single(id) => Some(id),
            Extent::Kind | Extent::Among(_) | Extent::OfLinks(_) => None,
        }
    }

    /// The ids that are asked for, where they are some of many.
    pub const fn ids(self) -> &'static [&'static str] {
        match self.extent() {
            Extent::Among(ids) => ids,
            _ => &[],
        }
    }

    /// The watch ends its first answer with BOOTSTRAPPED; a watch of one id has just its first event.
    pub(super) const fn is_bootstrapped(self) -> bool {
        !matches!(self.extent(), Extent::Single(_))
    }

    /// What is kept depends on which links are selected.
    pub const fn follows_selection(self) -> bool {
        matches!(self.extent(), Extent::OfLinks(_))
    }

    /// The request that subscribes to this type; `links` are the selected ones.
    pub fn request(self, links: &BTreeSet<String>) -> WatchRequest {
        let id_query = match self.extent() {
            Extent::OfLinks(others) => Some(any_of(
                others.iter().copied().chain(links.iter().map(String::as_str)),
                "/",
            )),
            Extent::Among(ids) => Some(any_of(ids.iter().copied(), "$")),
            Extent::Kind | Extent::KindOf(_) | Extent::Single(_) => None,
        };
        let single = match self.extent() {
            Extent::Single(id) => Some(id.to_owned()),
            _ => None,
        };
        WatchRequest {
            namespace: self.namespace().to_owned(),
            r#type: self.type_name().to_owned(),
            // Talos up to 1.12 crashes the call when `options` is absent, so it is present even where it is empty.
            options: Some(WatchOptions {
                bootstrap_contents: single.is_none(),
                aggregated: single.is_none() && self.aggregated(),
                id_query,
                tail_events: 0,
            }),
            id: single,
            api_version: API_VERSION,
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

impl Serialize for ResourceType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.type_name())
    }
}

/// The id query `^(?:a|b)` and `end`. Talos compiles it with Go's regexp, which is RE2.
fn any_of<'a>(names: impl Iterator<Item = &'a str>, end: &str) -> IdQuery {
    let mut regexp = String::from("^(?:");
    for (index, name) in names.enumerate() {
        if index > 0 {
            regexp.push('|');
        }
        for character in name.chars() {
            // The characters that regexp.QuoteMeta escapes.
            if r"\.+*?()|[]{}^$".contains(character) {
                regexp.push('\\');
            }
            regexp.push(character);
        }
    }
    regexp.push(')');
    regexp.push_str(end);
    IdQuery { regexp }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn links(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn regexp(names: &[&str]) -> String {
        ResourceType::Address
            .request(&links(names))
            .options
            .unwrap()
            .id_query
            .unwrap()
            .regexp
    }

    #[test]
    fn a_kind_watch_is_the_golden_vector() {
        assert_eq!(
            hex(&ResourceType::Hostname.request(&links(&[])).encode_to_vec()),
            "0a076e6574776f726b121e486f73746e616d6553746174757365732e6e65742e74616c6f732e64657622040801\
             28012801"
        );
    }

    #[test]
    fn a_watch_of_one_id_has_empty_options_on_the_wire() {
        let bytes = ResourceType::Machine.request(&links(&[])).encode_to_vec();
        // id "machine", options present and empty, api_version 1.
        assert!(hex(&bytes).ends_with("1a076d616368696e6522002801"));
    }

    #[test]
    fn every_request_has_options_and_the_api_version() {
        for resource_type in ResourceType::ALL {
            let request = resource_type.request(&links(&["eth0"]));
            let options = request.options.unwrap();
            assert_eq!(request.api_version, 1);
            assert_eq!(
                options.bootstrap_contents,
                request.id.is_none(),
                "{resource_type}"
            );
            assert!(request.id.is_none() || !options.aggregated, "{resource_type}");
        }
        assert!(
            !ResourceType::Link
                .request(&links(&[]))
                .options
                .unwrap()
                .aggregated
        );
    }

    #[test]
    fn addresses_are_asked_for_by_link() {
        assert_eq!(regexp(&["eth0", "eth1"]), "^(?:eth0|eth1)/");
    }

    #[test]
    fn link_names_are_literal() {
        assert_eq!(regexp(&["bond0.100"]), r"^(?:bond0\.100)/");
        assert_eq!(
            regexp(&[r"a|b\c(d)[e]{f}^$*+?"]),
            r"^(?:a\|b\\c\(d\)\[e\]\{f\}\^\$\*\+\?)/"
        );
    }

    #[test]
    fn of_the_node_addresses_two_lists_are_asked_for() {
        let query = ResourceType::NodeAddress
            .request(&links(&[]))
            .options
            .unwrap()
            .id_query
            .unwrap();
        assert_eq!(query.regexp, "^(?:default|routed-no-k8s)$");
    }

    #[test]
    fn of_the_node_ips_those_of_the_kubelet_are_asked_for() {
        let request = ResourceType::NodeIp.request(&links(&[]));
        assert_eq!(
            (request.namespace.as_str(), request.id),
            ("k8s", None),
            "a watch of one id would not tell that there is none"
        );
        let query = request.options.unwrap().id_query.unwrap();
        assert_eq!(query.regexp, "^(?:kubelet)$");
    }

    #[test]
    fn routes_are_asked_for_by_table_and_link() {
        let query = ResourceType::Route
            .request(&links(&["eth0"]))
            .options
            .unwrap()
            .id_query
            .unwrap();
        assert_eq!(query.regexp, "^(?:inet4|inet6||eth0)/");
    }
}
