//! Which adapter a link stands on.
//!
//! ```text
//!  bond0.100 ──parent──> bond0 <──master── eth0   00:50:56:…:01   carries the bond's MAC
//!                              <──master── eth1   00:50:56:…:02
//! ```
//!
//! The hypervisor knows adapters only, each by its permanent MAC. So an address on a bond, a VLAN or a bridge is told
//! under an adapter below it: the member whose MAC the upper link carries, or else the one with the lowest index.
//! A bridge without an adapter among its ports (that of a container runtime) stands on none.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::nic::MacAddr;
use crate::talos::snapshot::LinkStatus;

/// Deepest stack that is followed. The kernel allows 8 (`MAX_NEST_DEV`, linux/netdevice.h).
const MAX_DEPTH: usize = 8;

/// The links of a node, joined by what they stand on.
#[derive(Debug)]
pub struct Stack<'a> {
    by_index: BTreeMap<u32, &'a LinkStatus>,
    /// By the index of their master, in the order of their own.
    members: BTreeMap<u32, Vec<&'a LinkStatus>>,
    /// What is known already; none while it is being asked, which ends a circle.
    resolved: BTreeMap<u32, Option<MacAddr>>,
}

impl<'a> Stack<'a> {
    /// Joins `links`.
    pub fn new(links: impl Iterator<Item = &'a LinkStatus>) -> Self {
        let mut by_index = BTreeMap::new();
        for link in links {
            by_index.entry(link.index).or_insert(link);
        }
        let mut members: BTreeMap<u32, Vec<&'a LinkStatus>> = BTreeMap::new();
        for link in by_index.values().filter(|link| link.master_index != 0) {
            members.entry(link.master_index).or_default().push(link);
        }
        Self {
            by_index,
            members,
            resolved: BTreeMap::new(),
        }
    }

    /// The adapter that `link` is or stands on.
    pub fn adapter(&mut self, link: &'a LinkStatus) -> Option<MacAddr> {
        self.follow(link, MAX_DEPTH)
    }

    fn follow(&mut self, link: &'a LinkStatus, depth: usize) -> Option<MacAddr> {
        if link.is_physical() {
            return permanent_mac(link);
        }
        let depth = depth.checked_sub(1)?;
        if let Some(known) = self.resolved.get(&link.index) {
            return *known;
        }
        self.resolved.insert(link.index, None);
        let found = match link.kind.as_str() {
            "vlan" => {
                let parent = self.by_index.get(&link.link_index).copied();
                parent.and_then(|parent| self.follow(parent, depth))
            }
            "bond" | "bridge" | "team" => {
                let members = self.members.get(&link.index).cloned().unwrap_or_default();
                let below: Vec<MacAddr> = members
                    .into_iter()
                    .filter_map(|member| self.follow(member, depth))
                    .collect();
                let carried = ethernet(&link.hardware_addr.0);
                below
                    .iter()
                    .find(|mac| Some(**mac) == carried)
                    .or(below.first())
                    .copied()
            }
            _ => None,
        };
        self.resolved.insert(link.index, found);
        found
    }
}

/// The links that are adapters or stand on one: what the watches of addresses and routes ask Talos for.
pub fn reported_links(links: &BTreeMap<String, LinkStatus>) -> BTreeSet<String> {
    let mut stack = Stack::new(links.values());
    let reported = links.iter().filter(|(_, link)| stack.adapter(link).is_some());
    reported.map(|(name, _)| name.clone()).collect()
}

/// The address the hypervisor knows the adapter by. A driver may tell a burnt-in address that is none.
pub fn permanent_mac(link: &LinkStatus) -> Option<MacAddr> {
    [&link.permanent_addr, &link.hardware_addr]
        .into_iter()
        .find_map(|address| ethernet(&address.0))
}

/// An address that an Ethernet adapter can have.
fn ethernet(bytes: &[u8]) -> Option<MacAddr> {
    let bytes: [u8; 6] = bytes.try_into().ok()?;
    let [first, ..] = bytes;
    let multicast = first & 1 != 0;
    (!multicast && bytes != [0; 6]).then_some(MacAddr(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{guestinfo::nodes::Node, talos::snapshot::HardwareAddr};

    /// The last byte of the adapter's MAC for each link that has one.
    fn carriers(node: &Node) -> Vec<(String, u8)> {
        let mut stack = Stack::new(node.links.values());
        let found = node
            .links
            .iter()
            .filter_map(|(name, link)| Some((name.clone(), stack.adapter(link)?)));
        found.map(|(name, MacAddr([.., last]))| (name, last)).collect()
    }

    fn expect(node: &Node, expected: &[(&str, u8)]) {
        let expected: Vec<(String, u8)> = expected
            .iter()
            .map(|(name, mac)| ((*name).to_owned(), *mac))
            .collect();
        assert_eq!(carriers(node), expected);
    }

    #[test]
    fn a_vlan_on_a_bond_stands_on_the_member_whose_mac_it_carries() {
        let node = Node::default()
            .nic("eth0", 1)
            .nic("eth1", 2)
            .upper("bond0", "bond", 10, 2)
            .member("eth0", 10)
            .member("eth1", 10)
            .vlan("bond0.100", 11, 10);
        expect(&node, &[("bond0", 2), ("bond0.100", 2), ("eth0", 1), ("eth1", 2)]);
        let foreign = node.link("bond0", |bond| bond.hardware_addr = HardwareAddr(vec![2; 6]));
        expect(
            &foreign,
            &[("bond0", 1), ("bond0.100", 1), ("eth0", 1), ("eth1", 2)],
        );
    }

    #[test]
    fn a_bridge_over_a_bond_looks_through_it() {
        let node = Node::default()
            .nic("eth0", 1)
            .nic("eth1", 2)
            .nic("eth2", 3)
            .upper("bond0", "bond", 10, 2)
            .member("eth1", 10)
            .member("eth2", 10)
            .upper("br0", "bridge", 12, 2)
            .member("bond0", 12)
            .member("eth0", 12);
        expect(
            &node,
            &[("bond0", 2), ("br0", 2), ("eth0", 1), ("eth1", 2), ("eth2", 3)],
        );
    }

    #[test]
    fn links_of_a_container_network_stand_on_nothing() {
        let node = Node::default()
            .nic("eth0", 1)
            .upper("cni0", "bridge", 10, 9)
            .upper("veth1", "veth", 11, 9)
            .member("veth1", 10)
            .upper("flannel.1", "vxlan", 12, 9)
            .link("flannel.1", |link| link.link_index = 1)
            .upper("macvlan0", "macvlan", 13, 9)
            .link("macvlan0", |link| link.link_index = 1)
            .upper("ipvl0", "ipvlan", 14, 1)
            .link("ipvl0", |link| link.link_index = 1)
            .vlan("cni0.5", 15, 10);
        expect(&node, &[("eth0", 1)]);
    }

    #[test]
    fn circles_and_towers_end() {
        let mut node = Node::default()
            .nic("eth0", 1)
            .vlan("a", 10, 11)
            .vlan("b", 11, 10)
            .vlan("self", 12, 12)
            .vlan("orphan", 13, 99);
        expect(&node, &[("eth0", 1)]);
        // Names in the order of the tower, so that nothing is remembered from below.
        for level in 0..100_u8 {
            node = node.vlan(
                &format!("t{:03}", 100 - level),
                u32::from(level) + 101,
                if level == 0 { 1 } else { u32::from(level) + 100 },
            );
        }
        let reached = carriers(&node).len();
        assert!(reached < 20, "{reached}");
        // Bridges whose ports are VLANs on each other: as many paths as one likes, each link asked once.
        let mut mesh = Node::default()
            .upper("br0", "bridge", 1000, 1)
            .upper("br1", "bridge", 1001, 1);
        for port in 0..200_u32 {
            let (name, other) = (format!("p{port}"), 1000 + (port + 1) % 2);
            mesh = mesh
                .vlan(&name, 2000 + port, other)
                .member(&name, 1000 + port % 2);
        }
        assert_eq!(carriers(&mesh), []);
    }
}
