//! Settings: what comes first, and what is hidden.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use super::{
    topologies::{adapter, bonded, read_with, shown, text},
    *,
};
use crate::guestinfo::nodes::dual_stack;

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
