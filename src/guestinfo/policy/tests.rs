#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::{collection::vec, option, prelude::*, sample};

use super::*;
use crate::{
    guestinfo::{
        address,
        nic::{Message, Origin, Status},
        nodes::{Node, PERMANENT, dual_stack},
    },
    talos::snapshot::{AddressStatus, Fact, HardwareAddr, RouteStatus},
};

fn select(node: &Node) -> Selection {
    Policy::default().select(&node.snapshot(), &mut |_| ()).unwrap()
}

fn notes(node: &Node) -> Vec<String> {
    let mut notes = Vec::new();
    let snapshot = node.snapshot();
    Policy::default().select(&snapshot, &mut |note| notes.push(note.to_string()));
    notes
}

/// The record in short: last byte of the MAC and the addresses.
fn shown(selection: &Selection) -> Vec<(u8, Vec<String>)> {
    selection
        .record
        .nics
        .iter()
        .map(|nic| {
            let addresses = nic.addresses.iter().map(|address| address.prefix.to_string());
            (nic.mac.0[5], addresses.collect())
        })
        .collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_dual_stack_node() {
    let selection = select(&dual_stack());
    assert_eq!(
        shown(&selection),
        [
            (1, strings(&["10.20.30.41/24", "2001:db8:0:1::41/64"])),
            (2, strings(&["192.168.50.41/24"])),
        ]
    );
    assert_eq!(selection.primary, Some("10.20.30.41".parse().unwrap()));
    assert!(selection.settled);
    let slaac = selection.record.nics[0].addresses[1];
    assert_eq!(
        (slaac.origin, slaac.status),
        (Some(Origin::LinkLayer), Status::Preferred)
    );
    assert_eq!(selection.record.nics[0].addresses[0].origin, None);
    let dns = selection.record.dns.unwrap();
    assert_eq!(dns.host.as_deref(), Some("talos-cp-1"));
    assert_eq!(dns.domain.as_deref(), Some("example.org"));
    assert_eq!(
        notes(&dual_stack()),
        [
            "eth0: adapter 00:50:56:00:00:01",
            "eth1: adapter 00:50:56:00:00:02",
            "eth0 10.20.30.41/24: reported: Talos's node address",
            "eth0 2001:db8:0:1::41/64: reported: source of the default route",
            "eth0 fe80::250:56ff:fe00:1/64: left out: link-local, the adapter has better ones",
            "eth1 192.168.50.41/24: reported: global",
        ]
    );
}

#[test]
fn nothing_is_told_while_links_or_addresses_are_unknown() {
    let whole = dual_stack().snapshot();
    for part in [
        Snapshot {
            links: Fact::Unknown,
            ..whole.clone()
        },
        Snapshot {
            addresses: Fact::Unknown,
            ..whole.clone()
        },
    ] {
        assert_eq!(Policy::default().select(&part, &mut |_| ()), None);
    }
    let unsettled = Snapshot {
        node_addresses: Fact::Unknown,
        ..whole
    };
    let selection = Policy::default().select(&unsettled, &mut |_| ()).unwrap();
    assert!(!selection.settled);
    assert_eq!(
        selection.record,
        select(&dual_stack()).record,
        "the route says the same"
    );
}

#[test]
fn three_adapters_among_three_thousand_links_of_pods() {
    let mut node = Node::default().nic("eth0", 1).nic("eth1", 2).nic("ens224", 3);
    for pod in 0..3000_u32 {
        let name = format!("cali{pod:011x}");
        node = node.link(&name, |link| {
            link.index = 10 + pod;
            link.link_type = 1;
            link.kind = "veth".into();
            link.hardware_addr = HardwareAddr(vec![0xee; 6]);
        });
        node = node.address(&name, "169.254.1.0/32");
    }
    let selection = select(&node.address("eth1", "10.0.0.5/24"));
    assert_eq!(
        shown(&selection),
        [(2, strings(&["10.0.0.5/24"])), (1, vec![]), (3, vec![])]
    );
}

#[test]
fn the_node_address_counts_only_on_a_reported_adapter() {
    let base = Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .link("wg0", |link| {
            link.index = 9;
            link.link_type = 65534;
            link.kind = "wireguard".into();
        })
        .address("wg0", "10.99.0.1/24")
        .address("eth0", "10.0.0.5/24")
        .address("eth1", "10.1.0.5/24")
        .route("0.0.0.0/0", "10.0.0.1", "eth0", 1024);
    let first = |node: &Node| select(node).primary.unwrap().to_string();
    assert_eq!(first(&base), "10.0.0.5");
    let elsewhere = base.clone().node_address("default", &["10.99.0.1/24"]);
    assert_eq!(first(&elsewhere), "10.0.0.5");
    let other = base.clone().node_address("default", &["10.1.0.5/24"]);
    assert_eq!(first(&other), "10.1.0.5");
    assert_eq!(select(&other).record.nics[0].mac.0[5], 2);
    let of_pods = other.node_address("routed-no-k8s", &["10.0.0.5/24"]);
    assert_eq!(first(&of_pods), "10.0.0.5");
}

#[test]
fn order_of_addresses_on_one_adapter() {
    let node = Node::default()
        .nic("eth0", 1)
        .flagged("eth0", "2001:db8::dead/64", 0x20)
        .flagged("eth0", "2001:db8::7/64", 0x01)
        .address("eth0", "fd00::5/64")
        .address("eth0", "2001:db8:1::5/64")
        .flagged("eth0", "2001:db8::5/64", 0x100)
        .flagged("eth0", "10.0.0.50/24", PERMANENT | 0x01)
        .address("eth0", "10.9.0.5/24")
        .address("eth0", "10.0.0.5/24")
        .address("eth0", "fe80::5/64")
        .flagged("eth0", "2001:db8::bad/64", 0x08)
        .flagged("eth0", "2001:db8::new/64".replace("new", "123").as_str(), 0x40)
        .route("0.0.0.0/0", "10.0.0.1", "eth0", 100)
        .route("::/0", "2001:db8::1", "eth0", 100);
    let selection = select(&node);
    assert_eq!(
        shown(&selection)[0].1,
        strings(&[
            // In the network of a gateway.
            "10.0.0.5/24",
            "10.0.0.50/24",
            "2001:db8::5/64",
            "2001:db8::7/64",
            // Other global ones.
            "10.9.0.5/24",
            "2001:db8:1::5/64",
            // Unique local.
            "fd00::5/64",
            // Deprecated.
            "2001:db8::dead/64",
        ])
    );
    let last = selection.record.nics[0].addresses.last().unwrap();
    assert_eq!(last.status, Status::Deprecated);
    let reasons = notes(&node);
    assert!(reasons.contains(&"eth0 2001:db8::bad/64: left out: duplicate detection failed".to_owned()));
    assert!(
        reasons.contains(&"eth0 2001:db8::123/64: left out: duplicate detection has not ended".to_owned())
    );
}

#[test]
fn link_local_addresses_stand_only_where_nothing_else_does() {
    let node = Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .address("eth0", "fe80::1:2/64")
        .address("eth0", "169.254.3.4/16")
        .address("eth1", "fe80::3:4/64")
        .address("eth1", "2001:db8::5/64");
    let selection = select(&node);
    assert_eq!(
        shown(&selection),
        [
            (2, strings(&["2001:db8::5/64"])),
            (1, strings(&["169.254.3.4/16", "fe80::1:2/64"])),
        ]
    );
    let alone = select(&Node::default().nic("eth0", 1).address("eth0", "fe80::1:2/64"));
    assert_eq!(shown(&alone), [(1, strings(&["fe80::1:2/64"]))]);
    assert_eq!(alone.primary, None, "nobody beyond the link can use it");
}

#[test]
fn a_deprecated_address_is_better_than_a_link_local_one() {
    let node = Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .address("eth0", "169.254.3.4/16")
        .flagged("eth1", "2001:db8::5/64", 0x20);
    assert_eq!(select(&node).primary, Some("2001:db8::5".parse().unwrap()));
}

#[test]
fn an_ipv6_only_node_behind_a_link_local_router() {
    let node = Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .address("eth0", "2001:db8:a::5/64")
        .address("eth1", "fd00::5/64")
        .flagged("eth1", "2001:db8:b::5/64", 0x100)
        .address("eth1", "fe80::5/64")
        .route("::/0", "fe80::1", "eth1", 1024);
    assert_eq!(
        shown(&select(&node)),
        [
            (2, strings(&["2001:db8:b::5/64", "fd00::5/64"])),
            (1, strings(&["2001:db8:a::5/64"])),
        ]
    );
}

#[test]
fn of_two_equal_addresses_the_listing_does_not_choose() {
    let node = |first: (&str, u32), second: (&str, u32)| {
        Node::default()
            .nic("eth0", 1)
            .flagged("eth0", first.0, first.1)
            .flagged("eth0", second.0, second.1)
    };
    let (plain, optimistic) = (("10.0.0.3/24", 0x80), ("::ffff:10.0.0.3/120", 0x84));
    let selection = select(&node(plain, optimistic));
    assert_eq!(selection, select(&node(optimistic, plain)));
    assert_eq!(selection.record.nics[0].addresses[0].status, Status::Preferred);
    assert_eq!(selection.record.nics[0].addresses.len(), 1);
}

#[test]
fn a_gateway_outside_of_every_network() {
    let node = Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .address("eth0", "10.0.0.5/24")
        .address("eth1", "203.0.113.7/32")
        .route("0.0.0.0/0", "198.51.100.1", "eth1", 1024);
    let selection = select(&node);
    assert_eq!(selection.primary, Some("203.0.113.7".parse().unwrap()));
}

#[test]
fn order_of_routes() {
    let mut node = Node::default()
        .nic("eth0", 2)
        .nic("eth1", 1)
        .address("eth0", "10.0.0.5/24")
        .route("10.0.0.0/24", "", "eth0", 1024)
        .route("0.0.0.0/0", "10.0.0.1", "eth0", 100)
        .route("0.0.0.0/0", "10.1.0.1", "eth1", 200)
        .route("::/0", "fe80::1", "eth0", 50)
        .route("2001:db8::/64", "", "eth0", 256)
        .route("10.244.1.0/24", "", "cali1", 0)
        .route("192.0.2.0/24", "10.0.0.9", "eth1", 0)
        .route("10.0.0.5/32", "", "eth0", 0)
        .route("10.0.0.255/32", "", "eth0", 0);
    node.routes[7].table = 255;
    node.routes[8].route_type = 3;
    let routes: Vec<(String, Option<IpAddr>, usize, u32)> = select(&node)
        .record
        .routes
        .iter()
        .map(|route| {
            (
                route.destination.to_string(),
                route.next_hop,
                route.nic,
                route.metric,
            )
        })
        .collect();
    let hop = |text: &str| Some(text.parse().unwrap());
    assert_eq!(
        routes,
        [
            ("::/0".to_owned(), hop("fe80::1"), 0, 50),
            ("0.0.0.0/0".to_owned(), hop("10.1.0.1"), 1, 200),
            ("0.0.0.0/0".to_owned(), hop("10.0.0.1"), 0, 100),
            ("10.0.0.0/24".to_owned(), None, 0, 1024),
            ("192.0.2.0/24".to_owned(), hop("10.0.0.9"), 1, 0),
            ("2001:db8::/64".to_owned(), None, 0, 256),
        ]
    );
}

#[test]
fn too_many_default_routes_lose_the_worst() {
    let mut node = Node::default().nic("eth0", 1);
    for metric in 0..150 {
        node = node.route("0.0.0.0/0", "10.0.0.1", "eth0", metric);
    }
    let routes = select(&node).record.routes;
    assert_eq!(routes.len(), 100);
    assert_eq!(routes.first().unwrap().metric, 99);
    assert_eq!(routes.last().unwrap().metric, 0);
}

#[test]
fn odd_hardware_addresses() {
    let node = Node::default()
        .nic("eth0", 1)
        // The burnt-in address counts, whatever the present one is.
        .link("eth0", |link| link.hardware_addr = HardwareAddr(vec![2; 6]))
        .nic("eth1", 2)
        .link("eth1", |link| link.permanent_addr = HardwareAddr(vec![0; 6]))
        .nic("eth2", 3)
        .link("eth2", |link| link.permanent_addr = HardwareAddr(vec![7; 20]))
        .nic("ib0", 4)
        .link("ib0", |link| {
            link.permanent_addr = HardwareAddr(vec![7; 20]);
            link.hardware_addr = HardwareAddr(vec![8; 20]);
        })
        .nic("none", 5)
        .link("none", |link| {
            link.permanent_addr = HardwareAddr::default();
            link.hardware_addr = HardwareAddr(vec![0xff; 6]);
        });
    assert_eq!(shown(&select(&node)), [(1, vec![]), (2, vec![]), (3, vec![])]);
    assert!(notes(&node).contains(&"ib0: left out: no Ethernet address".to_owned()));
}

#[test]
fn two_links_with_one_mac_are_one_adapter() {
    let node = Node::default()
        .nic("eth0", 1)
        .nic("eth1", 2)
        .link("eth1", |link| {
            link.permanent_addr = HardwareAddr(vec![0, 0x50, 0x56, 0, 0, 1])
        })
        .address("eth0", "10.0.0.5/24")
        .address("eth1", "10.1.0.5/24")
        .address("eth1", "10.0.0.5/24")
        .route("0.0.0.0/0", "10.1.0.1", "eth1", 10);
    let selection = select(&node);
    assert_eq!(shown(&selection), [(1, strings(&["10.1.0.5/24", "10.0.0.5/24"]))]);
    assert_eq!(selection.record.routes[0].nic, 0);
    assert!(notes(&node).contains(&"eth1: listed with the other link of 00:50:56:00:00:01".to_owned()));
}

#[test]
fn addresses_of_a_removed_link_are_not_reported() {
    let node = Node::default().nic("eth0", 1).address("eth7", "10.0.0.5/24");
    assert_eq!(shown(&select(&node)), [(1, vec![])]);
}

#[test]
fn names_that_cannot_be_sent_are_left_out_of_the_record() {
    let mut node = dual_stack().name(&"n".repeat(10_000), "bad domain");
    node.resolvers.search_domains = vec!["example.org".into(), String::new(), "a\0b".into()];
    let dns = select(&node).record.dns.unwrap();
    assert_eq!((dns.host, dns.domain), (None, None));
    assert_eq!(dns.search, ["example.org"]);
}

const LINKS: [&str; 6] = ["eth0", "eth1", "ens192", "bond0", "cali1", "gone"];

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::V4),
        any::<Ipv6Addr>().prop_map(IpAddr::V6),
        (0u8..8).prop_map(|last| IpAddr::from([10, 0, 0, last])),
        (0u8..4).prop_map(|last| IpAddr::from([169, 254, 0, last])),
        (0u16..8).prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])),
        (0u16..8).prop_map(|last| IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, last])),
        (0u16..8).prop_map(|last| IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, last])),
    ]
}

/// Also lengths that no family has.
fn any_prefix() -> impl Strategy<Value = Prefix> {
    let length = prop_oneof![Just(0), Just(24), Just(32), Just(64), Just(128), any::<u8>()];
    (any_ip(), length).prop_map(|(address, length)| Prefix { address, length })
}

/// Few values, so that some are equal.
fn any_hardware_addr() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(0u8..3, 6),
        1 => Just(vec![]),
        1 => vec(any::<u8>(), 20),
    ]
}

prop_compose! {
    fn any_link()(
        index in 0u32..40,
        physical in prop::bool::weighted(0.8),
        hardware in any_hardware_addr(),
        permanent in any_hardware_addr(),
        up in any::<bool>(),
    ) -> LinkStatus {
        LinkStatus {
            index,
            link_type: 1,
            kind: if physical { String::new() } else { "veth".into() },
            hardware_addr: HardwareAddr(hardware),
            permanent_addr: HardwareAddr(permanent),
            operational_state: if up { 6 } else { 2 },
            link_state: up,
            ..LinkStatus::default()
        }
    }
}

prop_compose! {
    fn any_address()(
        address in any_prefix(),
        link in sample::select(&LINKS[..]),
        scope in sample::select(&[0, 0, 0, 200, 253, 254, 255, -1][..]),
        flags in prop_oneof![Just(PERMANENT), Just(0x100), 0u32..0x1000],
    ) -> AddressStatus {
        AddressStatus { address, link_name: link.into(), scope, flags }
    }
}

prop_compose! {
    fn any_route()(
        destination in prop_oneof![
            any_prefix(),
            Just(Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 }),
            Just(Prefix { address: Ipv6Addr::UNSPECIFIED.into(), length: 0 }),
        ],
        gateway in option::of(any_ip()),
        source in option::of(any_ip()),
        link in sample::select(&LINKS[..]),
        table in sample::select(&[254, 254, 254, 255, 0][..]),
        route_type in sample::select(&[1, 1, 1, 2, 6][..]),
        priority in 0u32..4,
    ) -> RouteStatus {
        RouteStatus { destination, gateway, source, out_link_name: link.into(), table, priority, route_type }
    }
}

prop_compose! {
    fn any_node()(
        mut links in prop::collection::btree_map(sample::select(&LINKS[..5]).prop_map(str::to_owned), any_link(), 0..5),
        crowd in prop_oneof![4 => Just(vec![]), 1 => vec(any::<[u8; 6]>(), 0..30)],
        addresses in vec(any_address(), 0..24),
        routes in vec(any_route(), 0..16),
        default in vec(any_prefix(), 0..2),
        kubelet in vec(any_ip(), 0..4),
    ) -> Node {
        for (index, mac) in crowd.into_iter().enumerate() {
            links.insert(format!("more{index}"), LinkStatus {
                index: 50,
                link_type: 1,
                permanent_addr: HardwareAddr(mac.to_vec()),
                ..LinkStatus::default()
            });
        }
        Node {
            links,
            addresses,
            routes,
            node_addresses: [("default".to_owned(), default)].into(),
            node_ips: [("kubelet".to_owned(), kubelet)].into(),
            ..Node::default()
        }
    }
}

fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a node is like, and in whatever order Talos lists it: one message, of one form.
    #[test]
    fn any_node_is_reported_one_way(
        (node, shuffled) in any_node().prop_flat_map(|node| {
            let addresses = Just(node.addresses.clone()).prop_shuffle();
            let routes = Just(node.routes.clone()).prop_shuffle();
            (Just(node), addresses, routes).prop_map(|(node, addresses, routes)| {
                let shuffled = Node { addresses, routes, ..node.clone() };
                (node, shuffled)
            })
        })
    ) {
        let selection = select(&node);
        prop_assert_eq!(&selection, &select(&shuffled));
        let (bytes, _) = selection.record.encode(Message::V3);
        prop_assert_eq!(&bytes, &select(&shuffled).record.encode(Message::V3).0);

        let nics = &selection.record.nics;
        let macs: BTreeSet<MacAddr> = nics.iter().map(|nic| nic.mac).collect();
        prop_assert_eq!(macs.len(), nics.len(), "one entry per MAC");
        prop_assert!(selection.record.routes.iter().all(|route| route.nic < nics.len()));

        let first = nics.first().and_then(|nic| nic.addresses.first());
        if let Some(primary) = selection.primary {
            prop_assert_eq!(Some(primary), first.map(|address| address.prefix.address));
        } else if let Some(first) = first {
            // Then there is nothing better anywhere.
            let link_local = |address: &Address| {
                node.addresses
                    .iter()
                    .filter(|status| address::unmapped(status.address) == address.prefix)
                    .any(|status| status.scope == 253 || !is_routable(address.prefix.address))
            };
            prop_assert!(link_local(first), "{:?}", first);
            prop_assert!(nics.iter().flat_map(|nic| &nic.addresses).all(link_local));
        }
        for nic in nics {
            for address in &nic.addresses {
                let address = address.prefix.address;
                prop_assert!(!address.is_loopback() && !address.is_multicast() && !address.is_unspecified());
                prop_assert_eq!(address, address.to_canonical());
            }
        }
    }
}
