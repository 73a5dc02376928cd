//! Nodes for tests: snapshots written in a few words.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::talos::{
    Snapshot,
    snapshot::{
        AddressSpec, AddressStatus, Fact, HardwareAddr, HostnameStatus, LinkStatus, Origin, Prefix,
        ResolverStatus, RouteStatus, Version,
    },
};

pub fn known<T>(value: T) -> Fact<T> {
    Fact::Known { value }
}

pub fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

/// IFA_F_PERMANENT.
pub const PERMANENT: u32 = 0x80;

/// What a node is made of, before it is a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub links: BTreeMap<String, LinkStatus>,
    pub addresses: Vec<AddressStatus>,
    pub specs: Vec<AddressSpec>,
    pub routes: Vec<RouteStatus>,
    pub node_addresses: BTreeMap<String, Vec<Prefix>>,
    pub node_ips: BTreeMap<String, Vec<IpAddr>>,
    pub hostname: HostnameStatus,
    pub resolvers: ResolverStatus,
}

impl Node {
    /// A vNIC `00:50:56:00:00:<index>` that is up.
    pub fn nic(mut self, name: &str, index: u8) -> Self {
        let mac = HardwareAddr(vec![0x00, 0x50, 0x56, 0, 0, index]);
        self.links.insert(
            name.into(),
            LinkStatus {
                index: index.into(),
                link_type: 1,
                flags: 69_699,
                hardware_addr: mac.clone(),
                permanent_addr: mac,
                operational_state: 6,
                link_state: true,
                driver: "vmxnet3".into(),
                mtu: 1500,
                ..LinkStatus::default()
            },
        );
        self
    }

    /// A link made by software, up, with the hardware address `00:50:56:00:00:<mac>`.
    pub fn upper(self, name: &str, kind: &str, index: u32, mac: u8) -> Self {
        self.link(name, |link| {
            link.index = index;
            link.link_type = 1;
            link.kind = kind.into();
            link.hardware_addr = HardwareAddr(vec![0x00, 0x50, 0x56, 0, 0, mac]);
            link.operational_state = 6;
            link.link_state = true;
        })
    }

    /// A VLAN on the link of index `parent`.
    pub fn vlan(self, name: &str, index: u32, parent: u32) -> Self {
        self.upper(name, "vlan", index, 0xfe)
            .link(name, |link| link.link_index = parent)
    }

    /// Puts a link under the bond or bridge of index `master`.
    pub fn member(self, name: &str, master: u32) -> Self {
        self.link(name, |link| link.master_index = master)
    }

    /// Changes a link.
    pub fn link(mut self, name: &str, change: impl FnOnce(&mut LinkStatus)) -> Self {
        change(self.links.entry(name.into()).or_default());
        self
    }

    /// A permanent address; link-local ones get their scope.
    pub fn address(self, link: &str, text: &str) -> Self {
        self.flagged(link, text, PERMANENT)
    }

    pub fn flagged(mut self, link: &str, text: &str, flags: u32) -> Self {
        let address = prefix(text);
        let link_local = text.starts_with("fe80") || text.starts_with("169.254");
        self.addresses.push(AddressStatus {
            address,
            link_name: link.into(),
            scope: if link_local { 253 } else { 0 },
            flags,
        });
        self
    }

    /// Somebody asked Talos for an address: the first part of the id says who.
    pub fn spec(mut self, who: &str, link: &str, text: &str) -> Self {
        self.specs.push(AddressSpec {
            origin: Origin::of(&format!("{who}/{link}/{text}")),
            address: prefix(text),
            link_name: link.into(),
        });
        self
    }

    /// An address that `who` asked Talos for.
    pub fn given(self, who: &str, link: &str, text: &str) -> Self {
        self.spec(who, link, text).address(link, text)
    }

    /// `via` may be empty for an on-link route.
    pub fn route(mut self, destination: &str, via: &str, link: &str, metric: u32) -> Self {
        self.routes.push(RouteStatus {
            destination: prefix(destination),
            gateway: (!via.is_empty()).then(|| via.parse().unwrap()),
            source: None,
            out_link_name: link.into(),
            table: 254,
            priority: metric,
            route_type: 1,
        });
        self
    }

    /// Names the source of the last route.
    pub fn from(mut self, source: &str) -> Self {
        self.routes.last_mut().unwrap().source = Some(source.parse().unwrap());
        self
    }

    pub fn node_address(mut self, id: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| prefix(text)).collect();
        self.node_addresses.insert(id.into(), addresses);
        self
    }

    /// What Talos gave the kubelet as the node's addresses.
    pub fn kubelet(mut self, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.node_ips.insert("kubelet".into(), addresses);
        self
    }

    pub fn name(mut self, hostname: &str, domainname: &str) -> Self {
        self.hostname = HostnameStatus {
            hostname: hostname.into(),
            domainname: domainname.into(),
        };
        self
    }

    /// Ids of addresses and routes as they come.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            version: known(Version {
                tag: "v1.14.1".into(),
                arch: "amd64".into(),
                platform: "vmware".into(),
            }),
            hostname: known(self.hostname.clone()),
            links: known(Arc::new(self.links.clone())),
            addresses: known(Arc::new(numbered(&self.addresses))),
            address_specs: known(Arc::new(numbered(&self.specs))),
            routes: known(Arc::new(numbered(&self.routes))),
            node_addresses: known(Arc::new(self.node_addresses.clone())),
            node_ips: known(Arc::new(self.node_ips.clone())),
            resolvers: known(self.resolvers.clone()),
            ..Snapshot::default()
        }
    }
}

fn numbered<T: Clone>(items: &[T]) -> BTreeMap<String, T> {
    items
        .iter()
        .enumerate()
        .map(|(index, item)| (format!("{index:05}"), item.clone()))
        .collect()
}

/// A dual-stack control plane node with two vNICs.
pub fn dual_stack() -> Node {
    Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .address("eth0", "10.20.30.41/24")
        .flagged("eth0", "2001:db8:0:1::41/64", 0x100)
        .address("eth0", "fe80::250:56ff:fe00:1/64")
        .address("eth1", "192.168.50.41/24")
        .route("0.0.0.0/0", "10.20.30.1", "eth0", 1024)
        .from("10.20.30.41")
        .route("::/0", "fe80::1", "eth0", 1024)
        .route("10.20.30.0/24", "", "eth0", 1024)
        .route("192.168.50.0/24", "", "eth1", 0)
        .node_address("default", &["10.20.30.41/24"])
        .name("talos-cp-1", "example.org")
}
