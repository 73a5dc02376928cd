//! Nodes that users of other agents told of, and how they are read: as the host reads them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use super::*;
use crate::{
    guestinfo::{
        nic::{Message, tests::Reader},
        nodes::{Node, dual_stack},
    },
    talos::snapshot::HardwareAddr,
};

/// What the host reads: the record as it stands on the wire, decoded by what shares nothing with the writer.
pub fn read_with(policy: &Policy, node: &Node) -> (NicInfo, Option<IpAddr>) {
    let selection = policy.select(&node.snapshot(), &mut |_| ()).unwrap();
    let (bytes, cut) = selection.record.encode(Message::V3);
    assert!(cut.is_nothing(), "{cut}");
    (Reader::record(&bytes, 2048), selection.primary)
}

pub fn read(node: &Node) -> (NicInfo, Option<IpAddr>) {
    read_with(&Policy::default(), node)
}

/// Last byte of the MAC, and the addresses in their order.
pub fn shown(record: &NicInfo) -> Vec<(u8, Vec<String>)> {
    let nics = record.nics.iter();
    nics.map(|nic| {
        let addresses = nic.addresses.iter().map(|address| address.prefix.to_string());
        (nic.mac.0[5], addresses.collect())
    })
    .collect()
}

pub fn adapter(mac: u8, addresses: &[&str]) -> (u8, Vec<String>) {
    (mac, addresses.iter().map(|text| (*text).to_owned()).collect())
}

pub fn text(address: Option<IpAddr>) -> String {
    address.map_or_else(String::new, |address| address.to_string())
}

/// A worker with one adapter and a lease.
pub fn worker() -> Node {
    Node::default()
        .nic("eth0", 1)
        .given("dhcp4", "eth0", "10.93.60.245/25")
        .route("0.0.0.0/0", "10.93.60.129", "eth0", 1024)
        .node_address("default", &["10.93.60.245/25"])
        .name("worker-1", "example.org")
}

/// Two adapters in a bond, two VLANs on it, a virtual address on one of them.
pub fn bonded() -> Node {
    Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .upper("bond0", "bond", 10, 1)
        .link("eth1", |link| {
            link.hardware_addr = HardwareAddr(vec![0, 0x50, 0x56, 0, 0, 1])
        })
        .member("eth0", 10)
        .member("eth1", 10)
        .vlan("bond0.100", 11, 10)
        .vlan("bond0.200", 12, 10)
        .given("configuration", "bond0.100", "10.20.0.12/24")
        .given("vip", "bond0.100", "10.20.0.2/32")
        .given("configuration", "bond0.200", "10.30.0.12/24")
        .address("bond0", "fe80::250:56ff:fe00:1/64")
        .route("0.0.0.0/0", "10.20.0.1", "bond0.100", 1024)
        .route("10.30.0.0/24", "", "bond0.200", 1024)
        .node_address("default", &["10.20.0.12/24"])
}

/// What a container network leaves on a node: thousands of links, of kinds that the snapshot holds and that it does
/// not, each with an address.
pub fn crowd(mut node: Node) -> Node {
    for pod in 0..1000_u32 {
        for (name, kind, address) in [
            (format!("cali{pod:011x}"), "veth", "169.254.1.0/32"),
            (format!("lxc{pod:09x}"), "veth", "10.42.0.0/32"),
            (format!("ipvl{pod}"), "ipvlan", "10.244.0.1/24"),
        ] {
            node = node
                .upper(&name, kind, 10_000 + pod, 0xee)
                .link(&name, |link| link.link_index = 1)
                .address(&name, address);
        }
    }
    node.upper("cni0", "bridge", 20_000, 0xee)
        .address("cni0", "10.42.0.1/24")
        .upper("docker0", "bridge", 20_001, 0xee)
        .address("docker0", "172.17.0.1/16")
        .upper("flannel.1", "vxlan", 20_002, 0xee)
        .link("flannel.1", |link| link.link_index = 1)
        .address("flannel.1", "10.42.0.0/32")
        .upper("kube-ipvs0", "dummy", 20_003, 0xee)
        .address("kube-ipvs0", "10.96.0.1/32")
        .upper("cilium_host", "veth", 20_004, 0xee)
        .address("cilium_host", "10.0.1.7/32")
}

/// The topologies that users of other agents reported, with the address each should have.
pub fn topologies() -> Vec<(&'static str, Node, &'static str)> {
    let bond_bridge = bonded()
        .upper("br0", "bridge", 20, 1)
        .member("bond0", 20)
        .address("br0", "10.20.9.9/24");
    vec![
        ("one lease", worker(), "10.93.60.245"),
        ("dual stack", dual_stack(), "10.20.30.41"),
        ("bond, VLANs and a virtual address", bonded(), "10.20.0.12"),
        ("a bridge on a bond", bond_bridge, "10.20.0.12"),
        (
            "a VLAN on a trunk adapter",
            Node::default()
                .nic("ens192", 1)
                .vlan("ens192.42", 9, 1)
                .address("ens192.42", "192.0.2.9/24")
                .route("0.0.0.0/0", "192.0.2.1", "ens192.42", 100),
            "192.0.2.9",
        ),
        (
            "a virtual address below the node's",
            worker().given("vip", "eth0", "10.93.60.131/32"),
            "10.93.60.245",
        ),
        (
            "kube-vip of both families",
            worker()
                .address("eth0", "10.93.60.131/32")
                .given("dhcp6", "eth0", "fd65:a1a8:60ad:981::200/64")
                .address("eth0", "fd65:a1a8:60ad:981::13f/128"),
            "10.93.60.245",
        ),
        (
            "IPv6 only, behind a link-local router",
            Node::default()
                .nic("eth0", 1)
                .flagged("eth0", "2620:52:0:4292:250:56ff:fe9f:b058/64", 0x100)
                .given("dhcp6", "eth0", "2620:52:0:4292::77/128")
                .address("eth0", "fe80::250:56ff:fe9f:b058/64")
                .route("::/0", "fe80::1", "eth0", 1024),
            "2620:52:0:4292::77",
        ),
        (
            "two adapters, the default route on the second",
            Node::default()
                .nic("eth0", 1)
                .nic("eth1", 2)
                .address("eth0", "10.11.72.4/25")
                .address("eth1", "222.199.255.54/24")
                .address("eth1", "2001:250:207:df:222:199:255:54/64")
                .route("0.0.0.0/0", "222.199.255.1", "eth1", 1024),
            "222.199.255.54",
        ),
        (
            "eight adapters, one of them connected",
            (2..=8_u8).fold(worker(), |node, index| {
                let name = format!("eth{index}");
                node.nic(&name, index).link(&name, |link| {
                    link.link_state = false;
                    link.operational_state = 2;
                })
            }),
            "10.93.60.245",
        ),
        (
            "a public address without network of its own",
            Node::default()
                .nic("eth0", 1)
                .given("dhcp4", "eth0", "203.0.113.7/32")
                .route("0.0.0.0/0", "198.51.100.1", "eth0", 1024),
            "203.0.113.7",
        ),
        (
            "a lease and a static address, the node's own by choice of the kubelet",
            Node::default()
                .nic("eth0", 1)
                .nic("eth1", 2)
                .given("dhcp4", "eth0", "172.16.0.9/16")
                .given("configuration", "eth1", "10.7.0.9/16")
                .route("0.0.0.0/0", "172.16.0.1", "eth0", 1024)
                .node_address("default", &["10.7.0.9/16"])
                .node_address("routed-no-k8s", &["10.7.0.9/16", "172.16.0.9/16"]),
            "10.7.0.9",
        ),
        (
            "two networks, the kubelet's subnet on the second",
            Node::default()
                .nic("eth0", 1)
                .nic("eth1", 2)
                .given("dhcp4", "eth0", "172.16.0.9/16")
                .given("configuration", "eth1", "10.7.0.9/16")
                .route("0.0.0.0/0", "172.16.0.1", "eth0", 1024)
                .node_address("default", &["172.16.0.9/16"])
                .kubelet(&["10.7.0.9"]),
            "10.7.0.9",
        ),
        ("a container network", crowd(dual_stack()), "10.20.30.41"),
        (
            "an adapter that waits for its lease",
            Node::default()
                .nic("eth0", 1)
                .address("eth0", "fe80::1:2/64")
                .address("eth0", "169.254.7.7/16"),
            "",
        ),
    ]
}
