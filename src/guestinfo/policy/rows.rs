//! What users of other agents asked for, each test named after the row of the list of needs.

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
        nic::{Message, Origin, Status, tests::Reader},
        nodes::{Node, PERMANENT, dual_stack, known, prefix},
    },
    talos::snapshot::{AddressStatus, HardwareAddr, ResolverStatus},
};

/// What the host reads: the record as it stands on the wire, decoded by what shares nothing with the writer.
fn read_with(policy: &Policy, node: &Node) -> (NicInfo, Option<IpAddr>) {
    let selection = policy.select(&node.snapshot(), &mut |_| ()).unwrap();
    let (bytes, cut) = selection.record.encode(Message::V3);
    assert!(cut.is_nothing(), "{cut}");
    (Reader::record(&bytes, 2048), selection.primary)
}

fn read(node: &Node) -> (NicInfo, Option<IpAddr>) {
    read_with(&Policy::default(), node)
}

/// Last byte of the MAC, and the addresses in their order.
fn shown(record: &NicInfo) -> Vec<(u8, Vec<String>)> {
    let nics = record.nics.iter();
    nics.map(|nic| {
        let addresses = nic.addresses.iter().map(|address| address.prefix.to_string());
        (nic.mac.0[5], addresses.collect())
    })
    .collect()
}

fn adapter(mac: u8, addresses: &[&str]) -> (u8, Vec<String>) {
    (mac, addresses.iter().map(|text| (*text).to_owned()).collect())
}

fn text(address: Option<IpAddr>) -> String {
    address.map_or_else(String::new, |address| address.to_string())
}

/// A worker with one adapter and a lease.
fn worker() -> Node {
    Node::default()
        .nic("eth0", 1)
        .given("dhcp4", "eth0", "10.93.60.245/25")
        .route("0.0.0.0/0", "10.93.60.129", "eth0", 1024)
        .node_address("default", &["10.93.60.245/25"])
        .name("worker-1", "example.org")
}

/// Two adapters in a bond, two VLANs on it, a virtual address on one of them.
fn bonded() -> Node {
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
fn crowd(mut node: Node) -> Node {
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

#[test]
fn row_1_three_adapters_among_three_thousand_links() {
    let plain = Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .nic("ens224", 3)
        .address("eth0", "10.0.0.5/24");
    let (record, primary) = read(&crowd(plain.clone()));
    assert_eq!(
        shown(&record),
        [adapter(1, &["10.0.0.5/24"]), adapter(2, &[]), adapter(3, &[])]
    );
    assert_eq!(text(primary), "10.0.0.5");
    assert_eq!((record, primary), read(&plain), "the same as on an empty node");
}

/// The topologies that users of other agents reported, with the address each should have.
fn topologies() -> Vec<(&'static str, Node, &'static str)> {
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

#[test]
fn row_2_a_shuffled_node_gives_the_same_bytes() {
    let mut random = fastrand::Rng::with_seed(2);
    let topologies = topologies();
    assert!(topologies.len() >= 12);
    for (what, node, expected) in topologies {
        let select = |node: &Node| Policy::default().select(&node.snapshot(), &mut |_| ()).unwrap();
        let selection = select(&node);
        assert_eq!(text(selection.primary), expected, "{what}");
        let first = selection.record.nics[0].addresses.first();
        if let Some(primary) = selection.primary {
            assert_eq!(first.map(|first| first.prefix.address), Some(primary), "{what}");
        }
        let (bytes, _) = selection.record.encode(Message::V3);
        let mut shuffled = node;
        for _ in 0..100 {
            random.shuffle(&mut shuffled.addresses);
            random.shuffle(&mut shuffled.routes);
            random.shuffle(&mut shuffled.specs);
            let again = select(&shuffled);
            assert_eq!(again.record.encode(Message::V3).0, bytes, "{what}");
            assert_eq!(again.primary, selection.primary, "{what}");
        }
    }
}

#[test]
fn row_13_a_virtual_address_moves_and_nobody_is_renamed() {
    let node = |own: &str| {
        Node::default()
            .nic("eth0", 1)
            .given("dhcp4", "eth0", own)
            .route("0.0.0.0/0", "10.11.72.1", "eth0", 1024)
            .node_address("default", &[own])
    };
    // Sorted as text and as numbers it stands before the addresses of both.
    let vip = "10.11.72.2/32";
    for own in ["10.11.72.20/25", "10.11.72.3/25"] {
        let (without, primary) = read(&node(own));
        let holder = node(own).given("vip", "eth0", vip);
        assert_eq!(read(&holder).1, primary, "{own}");
        assert_eq!(shown(&read(&holder).0), [adapter(1, &[own, vip])]);

        // Where Talos itself takes it for the node's address.
        let mistaken = holder.clone().node_address("default", &[vip, own]);
        assert_eq!(read(&mistaken).1, primary, "{own}");

        // kube-vip's, which Talos knows nothing of.
        let foreign = node(own).address("eth0", vip);
        assert_eq!(shown(&read(&foreign).0), [adapter(1, &[own, vip])]);
        assert_eq!(read(&foreign).1, primary);

        let hiding = Policy {
            vip: VipMode::Hide,
            ..Policy::default()
        };
        for node in [&holder, &mistaken, &foreign] {
            assert_eq!(read_with(&hiding, node), (without.clone(), primary), "{own}");
        }
    }
    let alone = Node::default().nic("eth0", 1).given("vip", "eth0", vip);
    assert_eq!(text(read(&alone).1), "", "better no address than that of all");
}

#[test]
fn row_13_a_lease_of_one_address_is_no_virtual_address() {
    let node = Node::default()
        .nic("eth0", 1)
        .flagged("eth0", "2001:db8::250:56ff:fe00:1/64", 0x100)
        .given("dhcp6", "eth0", "2001:db8::77/128")
        .route("::/0", "fe80::1", "eth0", 1024);
    assert_eq!(text(read(&node).1), "2001:db8::77");
    let foreign = node.address("eth0", "2001:db8::99/128");
    let (record, _) = read(&foreign);
    assert_eq!(
        record.nics[0].addresses.last().unwrap().prefix,
        prefix("2001:db8::99/128")
    );
}

/// terraform-provider-vsphere's waiter for a routable address (virtual_machine_helper.go): the gateway of a default
/// route lies in the network of a reported address.
fn terraform_is_content(record: &NicInfo) -> bool {
    let gateways = record.routes.iter().filter_map(|route| {
        let default = ["0.0.0.0", "::"].contains(&route.destination.address.to_string().as_str());
        route.next_hop.filter(|_| default)
    });
    let mut addresses = record.nics.iter().flat_map(|nic| &nic.addresses);
    let gateways: Vec<IpAddr> = gateways.collect();
    addresses.any(|address| {
        gateways
            .iter()
            .any(|gateway| super::super::address::contains(address.prefix, *gateway))
    })
}

#[test]
fn row_14_terraforms_waiter_ends() {
    let fixed = Node::default()
        .nic("eth0", 1)
        .given("configuration", "eth0", "192.0.2.9/24")
        .route("0.0.0.0/0", "192.0.2.1", "eth0", 1024);
    let v6 = Node::default()
        .nic("eth0", 1)
        .given("configuration", "eth0", "2001:db8::9/64")
        .route("::/0", "2001:db8::1", "eth0", 1024);
    for node in [worker(), fixed, v6, bonded(), crowd(dual_stack())] {
        let (record, _) = read(&node);
        assert!(terraform_is_content(&record), "{record}");
    }
    let silent = Node::default().nic("eth0", 1).address("eth0", "192.0.2.9/24");
    assert!(!terraform_is_content(&read(&silent).0), "the rule can fail");
}

#[test]
fn row_19_a_vlan_on_a_bond_of_two_adapters() {
    let (record, primary) = read(&bonded());
    assert_eq!(
        shown(&record),
        [
            adapter(1, &["10.20.0.12/24", "10.30.0.12/24", "10.20.0.2/32"]),
            adapter(2, &[]),
        ]
    );
    assert_eq!(text(primary), "10.20.0.12");
    assert!(record.routes.iter().all(|route| route.nic == 0));
    assert_eq!(record.routes.len(), 2);
}

#[test]
fn row_29_no_address_that_others_cannot_use() {
    for (listed, expected) in [
        (vec!["127.0.0.1/8", "::1/128"], vec![]),
        (
            vec!["169.254.3.4/16", "fe80::1/64"],
            vec!["169.254.3.4/16", "fe80::1/64"],
        ),
        (vec!["169.254.3.4/16", "10.0.0.5/24"], vec!["10.0.0.5/24"]),
        (vec!["fe80::1/64", "fd00::5/64"], vec!["fd00::5/64"]),
        (
            vec!["fe80::1/64", "2001:db8::5/64", "10.0.0.5/24"],
            vec!["10.0.0.5/24", "2001:db8::5/64"],
        ),
        (vec!["224.0.0.5/32", "ff02::1/128", "0.0.0.0/0"], vec![]),
    ] {
        let node = listed.iter().fold(Node::default().nic("eth0", 1), |node, text| {
            node.address("eth0", text)
        });
        let (record, primary) = read(&node);
        assert_eq!(shown(&record), [adapter(1, &expected)], "{listed:?}");
        let usable = expected
            .first()
            .is_some_and(|text| !text.starts_with("169") && !text.starts_with("fe80"));
        assert_eq!(primary.is_some(), usable, "{listed:?}");
    }
}

#[test]
fn row_29_a_lease_after_autoconfiguration_gives_one_primary_address() {
    let waiting = Node::default().nic("eth0", 1).address("eth0", "169.254.3.4/16");
    assert_eq!(text(read(&waiting).1), "");
    let arrived = waiting.given("dhcp4", "eth0", "10.0.0.5/24");
    let (record, primary) = read(&arrived);
    assert_eq!(text(primary), "10.0.0.5");
    assert_eq!(shown(&record), [adapter(1, &["10.0.0.5/24"])]);
}

#[test]
fn row_31_both_names_of_a_node_in_four_combinations() {
    for (domain, mode, expected) in [
        ("", HostnameMode::Short, "master"),
        ("", HostnameMode::Fqdn, "master"),
        ("c.vsphere.local", HostnameMode::Short, "master"),
        ("c.vsphere.local", HostnameMode::Fqdn, "master.c.vsphere.local"),
    ] {
        let node = dual_stack().name("master", domain);
        let policy = Policy {
            hostname: mode,
            ..Policy::default()
        };
        let (name, _) = crate::guestinfo::identity(&node.snapshot(), &policy, None);
        assert_eq!(name.as_deref(), Some(expected), "{domain:?} {mode:?}");
        let dns = read_with(&policy, &node).0.dns.unwrap();
        assert_eq!(dns.host.as_deref(), Some("master"), "whatever the mode");
        assert_eq!(dns.domain.unwrap_or_default(), domain);
    }
}

#[test]
fn row_31_the_kubernetes_name_wins_where_it_is_this_node() {
    for (kubernetes, expected) in [
        ("master.c.vsphere.local", "master.c.vsphere.local"),
        ("master", "master"),
        ("198.19.31.255", "master"),
    ] {
        let mut snapshot = dual_stack().name("master", "c.vsphere.local").snapshot();
        snapshot.nodename = known(kubernetes.into());
        let (name, _) = crate::guestinfo::identity(&snapshot, &Policy::default(), None);
        assert_eq!(name.as_deref(), Some(expected), "{kubernetes}");
    }
}

#[test]
fn row_46_the_order_of_addresses_of_both_families_is_fixed() {
    const TEMPORARY: u32 = 0x01;
    const DEPRECATED: u32 = 0x20;
    const TENTATIVE: u32 = 0x40;
    const AUTOCONFIGURED: u32 = 0x100;
    let v6 = Node::default()
        .nic("eth0", 1)
        .flagged("eth0", "2001:db8::250:56ff:fe00:1/64", AUTOCONFIGURED)
        .given("dhcp6", "eth0", "2001:db8::ffff/128")
        .flagged("eth0", "2001:db8::1234/64", TEMPORARY)
        .flagged("eth0", "2001:db8::beef/64", AUTOCONFIGURED | DEPRECATED)
        .flagged("eth0", "2001:db8::cafe/64", AUTOCONFIGURED | TENTATIVE)
        .address("eth0", "fe80::250:56ff:fe00:1/64");
    for gateway in ["fe80::1", "2001:db8::1"] {
        let routed = v6.clone().route("::/0", gateway, "eth0", 1024);
        let (record, primary) = read(&routed);
        let addresses: Vec<(String, Option<Origin>, Status)> = record.nics[0]
            .addresses
            .iter()
            .map(|address| (address.prefix.to_string(), address.origin, address.status))
            .collect();
        assert_eq!(
            addresses,
            [
                ("2001:db8::ffff/128".into(), Some(Origin::Dhcp), Status::Preferred),
                (
                    "2001:db8::250:56ff:fe00:1/64".into(),
                    Some(Origin::LinkLayer),
                    Status::Preferred
                ),
                (
                    "2001:db8::1234/64".into(),
                    Some(Origin::Random),
                    Status::Preferred
                ),
                (
                    "2001:db8::beef/64".into(),
                    Some(Origin::LinkLayer),
                    Status::Deprecated
                ),
            ]
        );
        assert_eq!(text(primary), "2001:db8::ffff");
        let both = routed
            .given("dhcp4", "eth0", "10.0.0.5/24")
            .route("0.0.0.0/0", "10.0.0.1", "eth0", 1024);
        assert_eq!(text(read(&both).1), "10.0.0.5", "IPv4 first among equals");
    }
}

#[test]
fn row_60_resolvers_and_leases_on_the_wire() {
    let mut node = worker()
        .nic("eth1", 2)
        .given("configuration", "eth1", "10.1.0.5/24");
    node.resolvers = ResolverStatus {
        dns_servers: vec!["10.0.0.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        search_domains: vec!["example.org".into(), "lab.example.org".into()],
    };
    let selection = Policy::default().select(&node.snapshot(), &mut |_| ()).unwrap();
    let (bytes, _) = selection.record.encode(Message::V3);
    let record = Reader::record(&bytes, 2048);
    let dns = record.dns.unwrap();
    assert_eq!(dns.host.as_deref(), Some("worker-1"));
    assert_eq!(dns.domain.as_deref(), Some("example.org"));
    assert_eq!(dns.servers, node.resolvers.dns_servers);
    assert_eq!(dns.search, node.resolvers.search_domains);
    let dhcp: Vec<_> = record.nics.iter().map(|nic| (nic.dhcp4, nic.dhcp6)).collect();
    assert_eq!(dhcp, [(Some(true), None), (Some(false), None)]);
    // From the first adapter's MAC to the second's: one IPv4 address with origin 4 and status 1, no DNS, no WINS, DHCP
    // on without text, no DHCPv6.
    let golden: Vec<u8> = [1, 1, 4, 0x0a5d_3cf5, 25, 1, 4, 1, 1, 0, 0, 1, 1, 0, 0]
        .iter()
        .flat_map(|word: &u32| word.to_be_bytes())
        .collect();
    // Version, pointer, count, then the length and the 20 bytes of the padded MAC.
    assert_eq!(bytes[36..36 + golden.len()], golden);
}

#[test]
fn settings_put_first_and_hide() {
    let node = dual_stack()
        .given("vip", "eth1", "192.168.50.2/32")
        .address("eth1", "192.168.60.41/24");
    let policy = |primary: &str, hide: &str| Policy {
        primary: Selector::parse_list(primary).unwrap(),
        hide: Selector::parse_list(hide).unwrap(),
        ..Policy::default()
    };
    let first = |primary: &str, hide: &str| text(read_with(&policy(primary, hide), &node).1);
    assert_eq!(first("", ""), "10.20.30.41");
    assert_eq!(first("eth1", ""), "192.168.50.41");
    assert_eq!(first("192.168.60.0/24,eth1", ""), "192.168.60.41");
    assert_eq!(
        first("192.168.50.2", ""),
        "10.20.30.41",
        "a shared one is never the node's"
    );
    assert_eq!(first("203.0.113.0/24,nosuch", ""), "10.20.30.41");
    assert_eq!(first("", "10.0.0.0/8"), "2001:db8:0:1::41");
    let (record, _) = read_with(&policy("", "eth0"), &node);
    assert_eq!(
        shown(&record),
        [adapter(
            2,
            &["192.168.50.41/24", "192.168.60.41/24", "192.168.50.2/32"]
        )]
    );
    assert!(record.routes.iter().all(|route| route.nic == 0));
    assert_eq!(record.routes.len(), 1, "those of the hidden adapter are gone");

    let mut reasons = Vec::new();
    let snapshot = node.snapshot();
    policy("192.168.60.0/24", "10.20.0.0/16").select(&snapshot, &mut |note| reasons.push(note.to_string()));
    for reason in [
        "eth0 10.20.30.41/24: left out: hidden by the settings",
        "eth1 192.168.60.41/24: reported: put first by the settings",
        "eth1 192.168.50.2/32: reported last: a virtual address of Talos, shared by the control plane",
    ] {
        assert!(
            reasons.iter().any(|told| told == reason),
            "{reason}: {reasons:#?}"
        );
    }
}

#[test]
fn a_hidden_member_leaves_the_bond_on_the_other() {
    let policy = Policy {
        hide: Selector::parse_list("eth0").unwrap(),
        ..Policy::default()
    };
    let (record, primary) = read_with(&policy, &bonded());
    assert_eq!(record.nics.len(), 1);
    assert_eq!(record.nics[0].mac.0[5], 2);
    assert_eq!(text(primary), "10.20.0.12");
}

#[test]
fn bad_input_costs_no_more_than_itself() {
    // Links of an address that are gone, the same address on two links, an adapter of 20 bytes, a name without end.
    let mut node = bonded()
        .address("gone", "10.99.0.1/24")
        .given("configuration", "bond0", "10.20.0.12/24")
        .nic("ib0", 7)
        .link("ib0", |link| {
            link.permanent_addr = HardwareAddr(vec![9; 20]);
            link.hardware_addr = HardwareAddr(vec![9; 20]);
        })
        .name(&"x".repeat(10_000), "");
    node.addresses.push(AddressStatus {
        address: Prefix {
            address: [10, 20, 0, 77].into(),
            length: 200,
        },
        link_name: "n".repeat(10_000),
        scope: -7,
        flags: u32::MAX,
    });
    let (record, primary) = read(&node);
    assert_eq!(text(primary), "10.20.0.12");
    assert_eq!(record.nics.len(), 2);
    assert_eq!(record.nics[0].addresses.len(), 3);

    let crowded = (0..3000_u32).fold(Node::default().nic("eth0", 1), |node, index| {
        let [_, _, high, low] = index.to_be_bytes();
        node.flagged("eth0", &format!("10.7.{high}.{low}/16"), PERMANENT)
    });
    let selection = Policy::default()
        .select(&crowded.snapshot(), &mut |_| ())
        .unwrap();
    let (bytes, cut) = selection.record.encode(Message::V3);
    assert!(bytes.len() <= crate::rpci::MAX_REQUEST);
    assert!(cut.addresses > 0);
    let first = Reader::record(&bytes, 2048).nics[0].addresses[0];
    assert_eq!(Some(first.prefix.address), selection.primary);
}
