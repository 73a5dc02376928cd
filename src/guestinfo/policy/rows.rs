//! What users of other agents asked for, each test named after the row of the list of needs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use super::{
    topologies::{adapter, bonded, crowd, read, read_with, shown, text, topologies, worker},
    *,
};
use crate::{
    guestinfo::{
        nic::{MAX_ROUTES, Message, Origin, Status, tests::Reader},
        nodes::{Node, dual_stack, known, prefix},
    },
    talos::snapshot::{Fact, ResolverStatus},
};

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

/// Links need no shuffling: they are held by name, whatever the order in which Talos tells them.
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

/// terraform-provider-vsphere's waiter for a routable address (virtual_machine_helper.go): of each family the gateway
/// of the last default route that it sees lies in the network of a reported address.
fn terraform_is_content(record: &NicInfo) -> bool {
    let gateway = |network: &str| {
        let mut defaults = record
            .routes
            .iter()
            .filter(|route| route.destination.address.to_string() == network && route.next_hop.is_some());
        defaults.next_back().and_then(|route| route.next_hop)
    };
    let gateways = [gateway("0.0.0.0"), gateway("::")];
    let mut addresses = record.nics.iter().flat_map(|nic| &nic.addresses);
    addresses.any(|address| {
        let mut gateways = gateways.iter().flatten();
        gateways.any(|gateway| super::super::address::contains(address.prefix, *gateway))
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
    // A second way out, worse and through a gateway in no network of the node.
    let spare = worker()
        .nic("eth1", 2)
        .route("0.0.0.0/0", "198.51.100.1", "eth1", 2048);
    for node in [worker(), fixed, v6, spare, bonded(), crowd(dual_stack())] {
        let (record, _) = read(&node);
        assert!(terraform_is_content(&record), "{record}");
    }
    let silent = Node::default().nic("eth0", 1).address("eth0", "192.0.2.9/24");
    assert!(!terraform_is_content(&read(&silent).0), "the rule can fail");
}

#[test]
fn row_14_default_routes_first_and_none_of_pods_or_other_tables() {
    let mut node = crowd(worker());
    for pod in 0..=255 {
        node = node
            .route(&format!("10.244.{pod}.0/24"), "10.244.0.0", "flannel.1", 0)
            .route(&format!("10.42.0.{pod}/32"), "", "cni0", 0)
            .route(&format!("10.96.{pod}.0/24"), "", "eth0", 0);
        node.routes.last_mut().unwrap().table = 255;
    }
    let (record, _) = read(&node);
    assert_eq!(record.routes.len(), 1, "{record}");
    for network in 0..=255 {
        node = node.route(&format!("172.16.{network}.0/24"), "10.93.60.130", "eth0", 0);
    }
    let selection = Policy::default().select(&node.snapshot(), &mut |_| ()).unwrap();
    let (bytes, cut) = selection.record.encode(Message::V3);
    let record = Reader::record(&bytes, 2048);
    assert_eq!(record.routes.len(), MAX_ROUTES);
    assert_eq!(cut.routes, 257 - MAX_ROUTES);
    assert!(record.routes[0].destination.is_default());
    assert!(terraform_is_content(&record));
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
        for address in &record.nics[0].addresses {
            let v6_local = address.prefix.to_string().starts_with("fe80");
            assert_eq!(address.status, Status::Preferred, "{listed:?}");
            // The automatic link-local address counts as one of none of the other origins.
            assert_eq!(address.origin, v6_local.then_some(Origin::Other), "{listed:?}");
        }
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
        let mut shuffled = routed.clone();
        shuffled.addresses.reverse();
        shuffled.specs.reverse();
        assert_eq!(read(&shuffled), (record.clone(), primary), "however it is listed");
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

/// kubelet's `nodeIP.validSubnets` reach the order, or the cloud provider gives the node an InternalIP that its kubelet
/// does not use.
#[test]
fn row_46_the_node_ips_of_the_kubelet_come_first() {
    let node = Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .given("dhcp4", "eth0", "10.1.0.5/24")
        .flagged("eth0", "2001:db8:1::5/64", 0x100)
        .given("configuration", "eth1", "10.2.0.5/24")
        .given("configuration", "eth1", "2001:db8:2::5/64")
        .route("0.0.0.0/0", "10.1.0.1", "eth0", 1024)
        .route("::/0", "fe80::1", "eth0", 1024)
        .node_address("default", &["10.1.0.5/24"]);
    let first = ["10.1.0.5/24", "2001:db8:1::5/64"];
    let second = ["10.2.0.5/24", "2001:db8:2::5/64"];
    let plain = [adapter(1, &first), adapter(2, &second)];
    let turned = [adapter(2, &second), adapter(1, &first)];
    assert_eq!(shown(&read(&node).0), plain, "no kubelet yet");
    let unknown = Snapshot {
        node_ips: Fact::Unknown,
        ..node.snapshot()
    };
    let selection = Policy::default().select(&unknown, &mut |_| ()).unwrap();
    assert_eq!(shown(&selection.record), plain, "not told");
    assert!(!selection.settled);
    for (told, expected, primary) in [
        (&["10.2.0.5", "2001:db8:2::5"][..], &turned, "10.2.0.5"),
        (&["2001:db8:2::5", "10.2.0.5"], &turned, "10.2.0.5"),
        (&["10.2.0.5"], &turned, "10.2.0.5"),
        (&["::ffff:10.2.0.5"], &turned, "10.2.0.5"),
        // Of each family the first that is here.
        (&["10.9.9.9", "10.2.0.5", "10.1.0.5"], &turned, "10.2.0.5"),
        (&["10.1.0.5", "10.2.0.5"], &plain, "10.1.0.5"),
        (&["10.9.9.9"], &plain, "10.1.0.5"),
        (&[], &plain, "10.1.0.5"),
    ] {
        let (record, found) = read(&node.clone().kubelet(told));
        assert_eq!(shown(&record), *expected, "{told:?}");
        assert_eq!(text(found), primary, "{told:?}");
    }
    let (record, primary) = read(&node.clone().kubelet(&["2001:db8:2::5"]));
    let six = adapter(2, &["2001:db8:2::5/64", "10.2.0.5/24"]);
    assert_eq!(shown(&record), [six, adapter(1, &first)], "a node of IPv6 alone");
    assert_eq!(text(primary), "2001:db8:2::5");
}

#[test]
fn row_46_a_node_ip_that_others_may_have_is_not_the_nodes() {
    let node = Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .given("dhcp4", "eth0", "10.1.0.5/24")
        .given("configuration", "eth1", "10.2.0.5/24")
        .address("eth1", "10.2.0.2/32")
        .given("vip", "eth1", "10.2.0.3/32")
        .route("0.0.0.0/0", "10.1.0.1", "eth0", 1024);
    for shared in ["10.2.0.2", "10.2.0.3"] {
        let told = node.clone().kubelet(&[shared]);
        assert_eq!(text(read(&told).1), "10.1.0.5", "{shared}");
        let told = node.clone().kubelet(&[shared, "10.2.0.5"]);
        assert_eq!(text(read(&told).1), "10.2.0.5", "{shared}");
    }
    let hidden = Policy {
        hide: vec![Selector::parse("eth1").unwrap()],
        ..Policy::default()
    };
    let told = node.kubelet(&["10.2.0.5"]);
    assert_eq!(text(read_with(&hidden, &told).1), "10.1.0.5", "not reported");
    let chosen = Policy {
        primary: vec![Selector::parse("10.1.0.0/24").unwrap()],
        ..Policy::default()
    };
    assert_eq!(
        text(read_with(&chosen, &told).1),
        "10.1.0.5",
        "the settings have the last word"
    );
}

/// Linux calls every address after the first of an IPv4 network secondary; Talos sorts them, and may give the kubelet
/// such a one.
#[test]
fn row_46_a_secondary_node_ip_stands_before_ipv6() {
    let node = Node::default()
        .nic("eth0", 1)
        .address("eth0", "10.1.0.9/24")
        .flagged("eth0", "10.1.0.5/24", 0x80 | 0x01)
        .address("eth0", "2001:db8::5/64")
        .kubelet(&["10.1.0.5", "2001:db8::5"]);
    let (record, primary) = read(&node);
    let order = ["10.1.0.5/24", "2001:db8::5/64", "10.1.0.9/24"];
    assert_eq!(shown(&record), [adapter(1, &order)]);
    assert_eq!(text(primary), "10.1.0.5");
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
