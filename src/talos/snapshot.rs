//! Everything that is known of the node at one moment, immutable once published.

#![forbid(unsafe_code)]

mod block;
mod identity;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::SystemTime,
};

use serde::{Serialize, Serializer};

pub use self::{
    block::{DiscoveredVolume, Disk, Filesystem, MountStatus, VolumeStatus, filesystem_name},
    identity::{Extension, MachineType, NodeStatus, Schematic},
};

/// What is known of one fact.
///
/// A fact starts unknown, becomes known with its first complete answer, and stays what it was, marked stale, while
/// Talos does not serve it. It never goes back to unknown: the host keeps what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Fact<T> {
    /// Never told.
    #[default]
    Unknown,
    /// Told, and watched.
    Known {
        /// The value.
        value: T,
    },
    /// Told once; since then Talos does not answer for it.
    Stale {
        /// The last value.
        value: T,
        /// When Talos fell silent.
        since: SystemTime,
    },
}

impl<T> Fact<T> {
    /// The value, fresh or stale.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Unknown => None,
            Self::Known { value } | Self::Stale { value, .. } => Some(value),
        }
    }

    /// Talos does not answer for this fact any more. Gives whether that is news.
    pub fn silence(&mut self, since: SystemTime) -> bool {
        match std::mem::take(self) {
            Self::Known { value } => {
                *self = Self::Stale { value, since };
                true
            }
            unchanged => {
                *self = unchanged;
                false
            }
        }
    }
}

impl<T: PartialEq> Fact<T> {
    /// Talos told this value. Gives whether that is news.
    pub fn learn(&mut self, told: T) -> bool {
        match self {
            Self::Known { value } if *value == told => false,
            _ => {
                *self = Self::Known { value: told };
                true
            }
        }
    }
}

/// An address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The address; an IPv4-mapped IPv6 address is held as IPv4.
    pub address: IpAddr,
    /// 0 to 32, or 0 to 128.
    pub length: u8,
}

impl Prefix {
    /// Checks the length against the family.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let limit = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        (length <= limit).then_some(Self { address, length })
    }

    /// `0.0.0.0/0` or `::/0`.
    pub fn is_default(&self) -> bool {
        self.length == 0
            && (self.address == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                || self.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A hardware address of any length; Ethernet has 6 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HardwareAddr(pub Vec<u8>);

impl fmt::Display for HardwareAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl Serialize for HardwareAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `VersionInfo` and `PlatformInfo` of the Version call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Version {
    /// `v1.14.1`.
    pub tag: String,
    /// `amd64` or `arm64`.
    pub arch: String,
    /// `vmware`, `metal`, …
    pub platform: String,
}

/// HostnameStatuses.net.talos.dev.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostnameStatus {
    /// The short name.
    pub hostname: String,
    /// The domain, or empty.
    pub domainname: String,
}

/// LinkStatuses.net.talos.dev. Numbers are the kernel's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// ifindex.
    pub index: u32,
    /// ARPHRD_*; 1 is Ethernet.
    #[serde(rename = "type")]
    pub link_type: i32,
    /// IFLA_LINK: the device below, or the veth peer.
    pub link_index: u32,
    /// IFLA_MASTER: the bond or bridge above; 0 is none.
    pub master_index: u32,
    /// IFF_*.
    pub flags: u32,
    /// The present address.
    pub hardware_addr: HardwareAddr,
    /// The burnt-in address, empty where the driver tells none.
    pub permanent_addr: HardwareAddr,
    /// IFLA_INFO_KIND: empty for a physical link.
    pub kind: String,
    /// IFLA_INFO_SLAVE_KIND: `bond`, `bridge`, …
    pub slave_kind: String,
    /// RFC 2863; 6 is up, 0 unknown.
    pub operational_state: i32,
    /// Carrier by ethtool.
    pub link_state: bool,
    /// `vmxnet3`, …
    pub driver: String,
    /// PCI path, e.g. `0000:0b:00.0`.
    pub bus_path: String,
    /// Bytes.
    pub mtu: u32,
}

impl RouteStatus {
    /// RT_TABLE_MAIN (linux/rtnetlink.h).
    const MAIN: i32 = 254;
    /// RTN_UNICAST (linux/rtnetlink.h).
    const UNICAST: i32 = 1;

    /// A unicast route of the main table: the node's own routing.
    pub fn is_main_unicast(&self) -> bool {
        self.table == Self::MAIN && self.route_type == Self::UNICAST
    }
}

impl LinkStatus {
    /// ARPHRD_ETHER (if_arp.h).
    const ARPHRD_ETHER: i32 = 1;

    /// Talos's own rule: type Ethernet and no rtnetlink kind
    /// (pkg/machinery/resources/network/link_status.go).
    pub fn is_physical(&self) -> bool {
        self.link_type == Self::ARPHRD_ETHER && self.kind.is_empty()
    }

    /// Kinds of links that can stand on an adapter and carry its addresses (IFLA_INFO_KIND).
    const STACKED: [&str; 4] = ["bond", "bridge", "team", "vlan"];

    /// An adapter, or a link that can stand on one. Only these are held.
    ///
    /// A node with many pods has thousands of others (veth pairs, tunnels, dummies), which come and go with the pods
    /// and can never stand for an adapter of the virtual machine.
    pub fn is_candidate(&self) -> bool {
        self.is_physical() || Self::STACKED.contains(&self.kind.as_str())
    }
}

/// AddressStatuses.net.talos.dev.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressStatus {
    /// The address with its prefix.
    pub address: Prefix,
    /// Id of its LinkStatus.
    pub link_name: String,
    /// RT_SCOPE_*: 0 global, 253 link, 254 host.
    pub scope: i32,
    /// IFA_F_*.
    pub flags: u32,
}

/// Who asked for an address: the first part of the id of its AddressSpec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A DHCP client of Talos.
    Dhcp4,
    /// A DHCPv6 client of Talos.
    Dhcp6,
    /// A virtual address that the nodes of the control plane share.
    Vip,
    /// The machine configuration.
    Configuration,
    /// The platform: cloud-init, OVF environment, …
    Platform,
    /// The kernel's command line.
    Cmdline,
    /// Talos itself, for want of anything else.
    Default,
    /// A source of a later Talos.
    Other,
}

impl Origin {
    /// Reads the id of an AddressSpec of the namespace `network-config`.
    pub fn of(id: &str) -> Self {
        match id.split('/').next().unwrap_or_default() {
            "dhcp4" => Self::Dhcp4,
            "dhcp6" => Self::Dhcp6,
            "vip" => Self::Vip,
            "configuration" => Self::Configuration,
            "platform" => Self::Platform,
            "cmdline" => Self::Cmdline,
            "default" => Self::Default,
            _ => Self::Other,
        }
    }
}

/// AddressSpecs.net.talos.dev of the namespace `network-config`: an address that somebody asked for.
///
/// An address of a link that no spec accounts for is the kernel's own (IPv6 autoconfiguration, link-local) or was set
/// by something beside Talos.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressSpec {
    /// Who asked.
    pub origin: Origin,
    /// The address with its prefix.
    pub address: Prefix,
    /// Id of its LinkStatus.
    pub link_name: String,
}

/// RouteStatuses.net.talos.dev.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteStatus {
    /// Where to; a default route has length 0.
    pub destination: Prefix,
    /// The next hop, none for an on-link route.
    pub gateway: Option<IpAddr>,
    /// The preferred source.
    pub source: Option<IpAddr>,
    /// Id of the LinkStatus it leaves by.
    pub out_link_name: String,
    /// 254 is main.
    pub table: i32,
    /// The metric.
    pub priority: u32,
    /// RTN_*: 1 is unicast.
    #[serde(rename = "type")]
    pub route_type: i32,
}

/// ResolverStatuses.net.talos.dev.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResolverStatus {
    /// In order of preference.
    pub dns_servers: Vec<IpAddr>,
    /// In order of preference.
    pub search_domains: Vec<String>,
}

/// MachineStatuses.runtime.talos.dev.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MachineStatus {
    /// 1 booting, 2 installing, 3 maintenance, 4 running, 5 rebooting, 6 shutting down, 7 resetting, 8 upgrading.
    pub stage: i32,
    /// Nothing is unmet.
    pub ready: bool,
    /// Names of the unmet conditions with their reasons.
    pub unmet_conditions: Vec<(String, String)>,
}

/// SecurityStates.talos.dev.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SecurityState {
    /// UEFI secure boot: then the kernel is locked down.
    pub secure_boot: bool,
    /// 0 disabled, 1 permissive, 2 enforcing.
    pub se_linux_state: i32,
}

/// All facts of the node.
///
/// The collections are shared: a change of one link copies no other collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Release and platform.
    pub version: Fact<Version>,
    /// Name and domain.
    pub hostname: Fact<HostnameStatus>,
    /// By link name; only adapters and what can stand on them ([`LinkStatus::is_candidate`]).
    pub links: Fact<Arc<BTreeMap<String, LinkStatus>>>,
    /// By resource id `<link>/<address>/<length>`; only of links that are reported.
    pub addresses: Fact<Arc<BTreeMap<String, AddressStatus>>>,
    /// By resource id `<origin>/<link>/…`; of all links.
    pub address_specs: Fact<Arc<BTreeMap<String, AddressSpec>>>,
    /// By resource id; only unicast routes of the main table that leave by a reported link.
    pub routes: Fact<Arc<BTreeMap<String, RouteStatus>>>,
    /// By resource id: `default` and `routed-no-k8s`.
    pub node_addresses: Fact<Arc<BTreeMap<String, Vec<Prefix>>>>,
    /// By resource id: `kubelet`. Empty where Talos has given the kubelet none yet (NodeIPs.kubernetes.talos.dev).
    pub node_ips: Fact<Arc<BTreeMap<String, Vec<IpAddr>>>>,
    /// DNS.
    pub resolvers: Fact<ResolverStatus>,
    /// Stage and readiness.
    pub machine: Fact<MachineStatus>,
    /// Secure boot and SELinux.
    pub security: Fact<SecurityState>,
    /// Control plane or worker.
    pub machine_type: Fact<MachineType>,
    /// The name of the Kubernetes node.
    pub nodename: Fact<String>,
    /// By the name of the Kubernetes node; see [`Snapshot::kubernetes_node`].
    pub nodes: Fact<Arc<BTreeMap<String, NodeStatus>>>,
    /// The name of the cluster; empty where the machine configuration gives none.
    pub cluster_name: Fact<String>,
    /// The schematic of the boot image; see [`Snapshot::schematic_id`].
    pub schematic: Fact<Schematic>,
    /// By resource id, the layer of the boot image.
    pub extensions: Fact<Arc<BTreeMap<String, Extension>>>,
    /// The kernel's id of this boot, a UUID.
    pub boot_id: Fact<String>,
    /// By name: `sda`.
    pub disks: Fact<Arc<BTreeMap<String, Disk>>>,
    /// By name: `sda6`.
    pub discovered_volumes: Fact<Arc<BTreeMap<String, DiscoveredVolume>>>,
    /// By id: `EPHEMERAL`.
    pub volumes: Fact<Arc<BTreeMap<String, VolumeStatus>>>,
    /// By id of the mount request, Talos 1.10 and later.
    pub mounts: Fact<Arc<BTreeMap<String, MountStatus>>>,
    /// By id of the volume, as older releases tell it.
    pub runtime_mounts: Fact<Arc<BTreeMap<String, MountStatus>>>,
}
