//! Input that should not be: each costs no more than itself, and the message stays within its limits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use super::{
    topologies::{adapter, bonded, read, shown, text, worker},
    *,
};
use crate::{
    guestinfo::{
        nic::{Cut, MAX_NICS, Message, tests::Reader},
        nodes::{Node, PERMANENT},
    },
    rpci::MAX_REQUEST,
    talos::snapshot::{AddressStatus, HardwareAddr},
};

/// What stands before the record in a message of either kind, at most.
const PREAMBLE: usize = b"SetGuestInfo  10 ".len();

/// The record as the host reads it from each of the two messages, with what was cut. Never too long for a message.
fn encoded(node: &Node) -> [(NicInfo, Cut); 2] {
    let selection = Policy::default().select(&node.snapshot(), &mut |_| ()).unwrap();
    [(Message::V3, 2048), (Message::V2, 64)].map(|(message, most)| {
        let (bytes, cut) = selection.record.encode(message);
        assert!(bytes.len() + PREAMBLE <= MAX_REQUEST, "{}", bytes.len());
        (Reader::record(&bytes, most), cut)
    })
}

#[test]
fn live_addresses_of_a_removed_link() {
    let node = bonded()
        .address("gone", "10.99.0.1/24")
        .given("dhcp4", "gone", "10.98.0.1/24");
    assert_eq!(read(&node), read(&bonded()));
    let mut notes = Vec::new();
    let snapshot = node.snapshot();
    Policy::default().select(&snapshot, &mut |note| notes.push(note.to_string()));
    let told = "gone 10.99.0.1/24: left out: stands on a link that is not reported".to_owned();
    assert!(notes.contains(&told), "{notes:#?}");
}

#[test]
fn one_address_on_two_links() {
    // On two links of one adapter it is one address; on two adapters each has it, as the kernel does.
    let (record, primary) = read(&bonded().given("configuration", "bond0", "10.20.0.12/24"));
    assert_eq!((record, primary), read(&bonded()));
    let both = worker().nic("eth1", 2).address("eth1", "10.93.60.245/25");
    let (record, primary) = read(&both);
    assert_eq!(text(primary), "10.93.60.245");
    assert_eq!(
        shown(&record),
        [adapter(1, &["10.93.60.245/25"]), adapter(2, &["10.93.60.245/25"])]
    );
    let mut turned = both;
    turned.addresses.reverse();
    assert_eq!(read(&turned), (record, primary));
}

#[test]
fn hardware_addresses_of_twenty_bytes() {
    let node = worker()
        .nic("ib0", 7)
        .address("ib0", "10.1.0.5/24")
        .link("ib0", |link| {
            link.permanent_addr = HardwareAddr(vec![9; 20]);
            link.hardware_addr = HardwareAddr(vec![9; 20]);
        });
    assert_eq!(read(&node), read(&worker()));
}

#[test]
fn two_adapters_with_one_hardware_address() {
    let node = worker()
        .nic("eth1", 1)
        .link("eth1", |link| link.index = 9)
        .address("eth1", "10.1.0.5/24");
    let (record, primary) = read(&node);
    assert_eq!(shown(&record), [adapter(1, &["10.93.60.245/25", "10.1.0.5/24"])]);
    assert_eq!(text(primary), "10.93.60.245");
}

#[test]
fn names_of_ten_thousand_characters() {
    let long = "n".repeat(10_000);
    let mut node = worker()
        .name(&long, &long)
        .nic(&long, 2)
        .address(&long, "10.1.0.5/24")
        .upper(&long.to_uppercase(), &long, 11, 3);
    node.resolvers.search_domains = vec![long.clone(), "example.org".into()];
    for (record, cut) in encoded(&node) {
        assert_eq!(
            shown(&record),
            [adapter(1, &["10.93.60.245/25"]), adapter(2, &["10.1.0.5/24"])]
        );
        let dns = record.dns.unwrap();
        assert_eq!((dns.host, dns.domain), (None, None));
        assert_eq!(dns.search, ["example.org"]);
        let expected = Cut {
            dns: 2,
            ..Cut::default()
        };
        assert_eq!(cut, expected, "the domain and the search domain");
    }
}

#[test]
fn lengths_and_flags_that_no_kernel_has() {
    let mut node = worker();
    for (length, scope, flags) in [(200, 0, PERMANENT), (255, -7, u32::MAX), (33, i32::MAX, 0)] {
        node.addresses.push(AddressStatus {
            address: Prefix {
                address: [10, 93, 60, length].into(),
                length,
            },
            link_name: "eth0".into(),
            scope,
            flags,
        });
    }
    for (record, _) in encoded(&node) {
        assert_eq!(record.nics.len(), 1);
        let first = record.nics[0].addresses[0];
        assert_eq!(first.prefix.to_string(), "10.93.60.245/25");
    }
}

#[test]
fn seventeen_adapters() {
    let node = (2..=17_u8).fold(worker(), |node, index| {
        let (name, address) = (format!("eth{index}"), format!("10.1.{index}.5/24"));
        node.nic(&name, index).address(&name, &address)
    });
    for (record, cut) in encoded(&node) {
        assert_eq!(record.nics.len(), MAX_NICS);
        assert_eq!(
            shown(&record)[0],
            adapter(1, &["10.93.60.245/25"]),
            "not the node's own"
        );
        let expected = Cut {
            nics: 1,
            addresses: 1,
            ..Cut::default()
        };
        assert_eq!(cut, expected);
    }
}

#[test]
fn three_thousand_addresses_on_one_adapter() {
    let node = (0..3000_u32).fold(
        worker().nic("eth1", 2).address("eth1", "10.1.0.5/24"),
        |node, index| {
            let [_, _, high, low] = index.to_be_bytes();
            node.flagged("eth0", &format!("10.7.{high}.{low}/16"), PERMANENT)
        },
    );
    let [(long, cut_long), (short, cut_short)] = encoded(&node);
    for (record, cut, most) in [(long, cut_long, 2048), (short, cut_short, 64)] {
        let crowded = &record.nics[0].addresses;
        assert!(crowded.len() <= most);
        assert_eq!(cut.addresses, 3001 - crowded.len());
        assert_eq!(crowded[0].prefix.to_string(), "10.93.60.245/25");
        assert_eq!(
            shown(&record)[1],
            adapter(2, &["10.1.0.5/24"]),
            "the other one lacks nothing"
        );
    }
}

/// All of them can be the source of the default route.
#[test]
fn four_thousand_addresses_in_the_network_of_the_gateway() {
    let node = (0..4000_u32).fold(
        Node::default()
            .nic("eth0", 1)
            .route("0.0.0.0/0", "10.7.255.1", "eth0", 1024),
        |node, index| {
            let [_, _, high, low] = index.to_be_bytes();
            node.flagged("eth0", &format!("10.7.{high}.{low}/16"), PERMANENT)
        },
    );
    let mut sources = 0;
    let snapshot = node.snapshot();
    let selection = Policy::default().select(&snapshot, &mut |note| {
        sources += usize::from(note.decision == Decision::Reported(Rank::DefaultRoute));
    });
    assert_eq!(sources, 4000);
    assert_eq!(selection.unwrap().record.nics[0].addresses.len(), 4000);
}
