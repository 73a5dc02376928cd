//! Links, addresses and routes as Talos serves them.

pub mod edit;
pub mod node_addresses;
pub mod node_ips;

use std::net::IpAddr;

use serde_json::json;

use super::{
    schema::network::{ADDRESS_SPECS, ADDRESS_STATUSES, LINK_STATUSES, NAMESPACE, ROUTE_STATUSES},
    spec::Prefix,
    store::{Document, Kind},
};

/// IFA_F_PERMANENT
pub const PERMANENT: u32 = 0x80;
/// RT_TABLE_MAIN
pub const MAIN_TABLE: u32 = 254;
/// RT_TABLE_LOCAL
const LOCAL_TABLE: u32 = 255;
/// RT_TABLE_DEFAULT
const DEFAULT_TABLE: u32 = 253;
/// ARPHRD_ETHER
pub const ETHER: u32 = 1;
/// ARPHRD_LOOPBACK
pub const LOOPBACK: u32 = 772;
/// UP | BROADCAST | RUNNING | MULTICAST | LOWER_UP
pub const FLAGS_UP: u32 = 0x1_1043;
/// BROADCAST | MULTICAST
pub const FLAGS_DOWN: u32 = 0x1002;
/// IF_OPER_UP
pub const OPER_UP: u32 = 6;
/// IF_OPER_DOWN
pub const OPER_DOWN: u32 = 2;

/// A link.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of LinkStatus")]
pub struct Link {
    pub name: String,
    pub index: u32,
    pub link_type: u32,
    pub kind: String,
    pub slave_kind: String,
    pub flags: u32,
    pub operational_state: u32,
    /// ethtool's view of the carrier
    pub carrier: bool,
    pub hardware_addr: String,
    pub permanent_addr: String,
    pub broadcast_addr: String,
    pub mtu: u32,
    pub queue_disc: String,
    pub master_index: u32,
    pub link_index: u32,
    pub driver: String,
    pub bus_path: String,
    pub pci_id: String,
    /// Mb/s, 0 when unknown
    pub speed: i64,
    pub alias: String,
    pub alt_names: Vec<String>,
    /// id and protocol
    pub vlan: Option<(u32, u32)>,
}

impl Link {
    /// Talos's rule of what is physical.
    pub fn is_physical(&self) -> bool {
        self.link_type == ETHER && self.kind.is_empty()
    }

    /// The LinkStatus.
    pub fn document(&self) -> Document {
        let (vendor, product) = self.pci_id.split_once(':').unwrap_or_default();
        let id = |part: &str| match part {
            "" => String::new(),
            part => format!("0x{}", part.to_ascii_lowercase()),
        };
        let vlan = self
            .vlan
            .map(|(id, protocol)| json!({ "vlanID": id, "vlanProtocol": protocol }));
        let spec = json!({
            "alias": self.alias, "altNames": self.alt_names, "index": self.index, "type": self.link_type,
            "linkIndex": self.link_index, "flags": self.flags, "hardwareAddr": self.hardware_addr,
            "permanentAddr": self.permanent_addr, "broadcastAddr": self.broadcast_addr, "mtu": self.mtu,
            "queueDisc": self.queue_disc, "masterIndex": self.master_index,
            "operationalState": self.operational_state, "kind": self.kind, "slaveKind": self.slave_kind,
            "busPath": self.bus_path, "pciID": self.pci_id, "driver": self.driver, "vendorID": id(vendor),
            "productID": id(product), "linkState": self.carrier, "speedMbit": self.speed,
            "duplex": if self.speed > 0 { 1 } else { 255 }, "port": if self.is_physical() { 0 } else { 255 },
            "vlan": vlan,
        });
        Document::new(LINK_STATUSES, &self.name, spec)
    }
}

/// Where an address came from: the layer of configuration that asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Machine configuration.
    #[default]
    Static,
    /// The DHCP operator of the address's family.
    Dhcp,
    /// The VIP operator.
    Vip,
    /// The platform, on VMware guestinfo metadata.
    Platform,
    /// The kernel command line.
    Cmdline,
    /// Talos's default.
    Default,
    /// Nobody: the kernel, or a CNI.
    Kernel,
}

impl Origin {
    /// The word for the origin `word`.
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "static" => Self::Static,
            "dhcp" => Self::Dhcp,
            "vip" => Self::Vip,
            "platform" => Self::Platform,
            "cmdline" => Self::Cmdline,
            "default" => Self::Default,
            "kernel" => Self::Kernel,
            _ => return None,
        })
    }

    /// The first part of the id of the AddressSpec, and its layer.
    fn layer(self, address: IpAddr) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::Static => ("configuration", "configuration"),
            Self::Dhcp if address.is_ipv4() => ("dhcp4", "operator"),
            Self::Dhcp => ("dhcp6", "operator"),
            Self::Vip => ("vip", "operator"),
            Self::Platform => ("platform", "platform"),
            Self::Cmdline => ("cmdline", "cmdline"),
            Self::Default => ("default", "default"),
            Self::Kernel => return None,
        })
    }
}

/// An address of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// The link's name.
    pub link: String,
    /// The link's index.
    pub index: u32,
    /// IFA_ADDRESS and the prefix length: on a point-to-point link the peer's address.
    pub prefix: Prefix,
    /// IFA_LOCAL, where it differs or the kernel says it.
    pub local: Option<IpAddr>,
    /// IFA_BROADCAST
    pub broadcast: Option<IpAddr>,
    /// IFA_F_*
    pub flags: u32,
    /// RT_SCOPE_*
    pub scope: u32,
    /// IFA_RT_PRIORITY
    pub priority: u32,
    /// Who asked for it.
    pub origin: Origin,
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "inet4" } else { "inet6" }
}

/// The scope that the kernel gives an address: host, link or global.
pub fn scope_of(address: IpAddr) -> u32 {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    match address {
        _ if address.is_loopback() => 254,
        _ if link_local => 253,
        _ => 0,
    }
}

/// The broadcast address of an IPv4 network that has one.
pub fn broadcast_of(prefix: Prefix) -> Option<IpAddr> {
    let IpAddr::V4(address) = prefix.address else {
        return None;
    };
    let host_bits = 32_u32.checked_sub(prefix.length.into())?;
    let mask = u32::MAX.checked_shl(host_bits).map_or(u32::MAX, |net| !net);
    (host_bits > 1 && !address.is_loopback()).then(|| IpAddr::V4((address.to_bits() | mask).into()))
}

impl Address {
    /// The id of the AddressStatus.
    pub fn id(&self) -> String {
        format!("{}/{}", self.link, self.prefix)
    }

    /// The AddressStatus, and the AddressSpecs behind it: one of its layer, one merged.
    pub fn documents(&self) -> Vec<Document> {
        let text = |address: Option<IpAddr>| address.map(|address| address.to_string());
        let id = self.id();
        let family = family(self.prefix.address);
        let mut documents = vec![Document::new(
            ADDRESS_STATUSES,
            &id,
            json!({
                "address": self.prefix.to_string(), "local": text(self.local),
                "broadcast": text(self.broadcast), "linkIndex": self.index, "linkName": self.link,
                "family": family, "scope": self.scope, "flags": self.flags, "priority": self.priority,
            }),
        )];
        if let Some((operator, layer)) = self.origin.layer(self.prefix.address) {
            let spec = json!({
                "address": self.prefix.to_string(), "linkName": self.link, "family": family,
                "scope": self.scope, "flags": self.flags, "layer": layer,
            });
            documents.push(Document::new(
                ADDRESS_SPECS,
                format!("{operator}/{id}"),
                spec.clone(),
            ));
            documents.push(Document::new(ADDRESS_SPECS, id, spec).within(NAMESPACE));
        }
        documents
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of RouteStatus")]
pub struct Route {
    /// none for a default route
    pub destination: Option<Prefix>,
    pub ipv6: bool,
    pub source: Option<IpAddr>,
    pub gateway: Option<IpAddr>,
    pub link: String,
    pub index: u32,
    pub table: u32,
    pub priority: u32,
    pub scope: u32,
    pub route_type: u32,
    pub flags: u32,
    pub protocol: u32,
    pub mtu: u32,
    /// gateway, link and weight of each
    pub next_hops: Vec<(Option<IpAddr>, String, u32)>,
}

impl Route {
    /// The id of the RouteStatus: `[table/][link/]family/gateway/destination/priority`, the link for IPv6 only.
    pub fn id(&self) -> String {
        let table = match self.table {
            MAIN_TABLE => String::new(),
            LOCAL_TABLE => "local/".to_owned(),
            DEFAULT_TABLE => "default/".to_owned(),
            other => format!("{other}/"),
        };
        let (link, family) = if self.ipv6 {
            (format!("{}/", self.link), "inet6")
        } else {
            (String::new(), "inet4")
        };
        let gateway = self.gateway.map_or(String::new(), |gateway| gateway.to_string());
        let destination = self
            .destination
            .map_or(String::new(), |destination| destination.to_string());
        format!("{table}{link}{family}/{gateway}/{destination}/{}", self.priority)
    }

    /// The RouteStatus.
    pub fn document(&self) -> Document {
        let text = |address: Option<IpAddr>| address.map(|address| address.to_string());
        let next_hops: Vec<_> = self
            .next_hops
            .iter()
            .map(|(gateway, link, weight)| {
                json!({ "gateway": text(*gateway), "outLinkName": link, "weight": weight })
            })
            .collect();
        let spec = json!({
            "family": if self.ipv6 { "inet6" } else { "inet4" },
            "dst": self.destination.map(|destination| destination.to_string()), "src": text(self.source),
            "gateway": text(self.gateway), "outLinkIndex": self.index, "outLinkName": self.link,
            "table": self.table, "priority": self.priority, "scope": self.scope, "type": self.route_type,
            "flags": self.flags, "protocol": self.protocol, "mtu": self.mtu, "nextHops": next_hops,
        });
        Document::new(ROUTE_STATUSES, self.id(), spec)
    }
}

fn kind(name: &'static str) -> Kind {
    Kind {
        namespace: NAMESPACE.to_owned(),
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: Option<&str>, gateway: &str, link: &str) -> Route {
        let gateway: IpAddr = gateway.parse().unwrap();
        Route {
            destination: text.map(|text| text.parse().unwrap()),
            ipv6: gateway.is_ipv6(),
            source: None,
            gateway: Some(gateway),
            link: link.to_owned(),
            index: 2,
            table: MAIN_TABLE,
            priority: 1024,
            scope: 0,
            route_type: 1,
            flags: 0,
            protocol: 4,
            mtu: 0,
            next_hops: Vec::new(),
        }
    }

    #[test]
    fn route_ids_are_those_of_talos() {
        assert_eq!(route(None, "10.5.0.1", "eth0").id(), "inet4/10.5.0.1//1024");
        assert_eq!(
            route(Some("fd00::/8"), "fe80::1", "eth0").id(),
            "eth0/inet6/fe80::1/fd00::/8/1024"
        );
        let local = Route {
            table: LOCAL_TABLE,
            ..route(Some("10.0.0.0/8"), "10.5.0.1", "eth0")
        };
        assert_eq!(local.id(), "local/inet4/10.5.0.1/10.0.0.0/8/1024");
    }

    #[test]
    fn scopes_and_broadcasts_are_those_of_the_kernel() {
        let scope = |text: &str| scope_of(text.parse().unwrap());
        assert_eq!(
            [
                "10.0.0.1",
                "127.0.0.1",
                "169.254.1.1",
                "fe80::1",
                "::1",
                "fd00::1"
            ]
            .map(scope),
            [0, 254, 253, 253, 254, 0]
        );
        let broadcast = |text: &str| broadcast_of(text.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(broadcast("10.5.0.2/24").as_deref(), Some("10.5.0.255"));
        assert_eq!(broadcast("10.5.0.2/0").as_deref(), Some("255.255.255.255"));
        assert_eq!(broadcast("10.5.0.2/31"), None);
        assert_eq!(broadcast("10.5.0.2/32"), None);
        assert_eq!(broadcast("fd00::1/64"), None);
    }
}
