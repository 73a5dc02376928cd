//! Who asked for an address, and whether it is the node's alone.
//!
//! Talos keeps one AddressSpec for each address that it was asked for, named after who asked. What no spec accounts
//! for was made by the kernel (autoconfiguration) or set by something beside Talos (kube-vip).

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use serde::Serialize;

use super::nic;
use crate::talos::{Snapshot, snapshot};

/// Why an address is taken for one that several nodes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// A virtual address of Talos.
    TalosVip,
    /// A network of one address beside a wider one, and Talos was not asked for it.
    BesideTalos,
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TalosVip => "a virtual address of Talos, shared by the control plane",
            Self::BesideTalos => {
                "a single address beside a wider network, not set by Talos: shared, as kube-vip does"
            }
        })
    }
}

/// What Talos was asked for, by address.
#[derive(Debug, Default)]
pub struct Origins {
    /// None while Talos has not told. By address alone: a spec may name its link by an alias.
    asked: Option<BTreeMap<IpAddr, BTreeSet<snapshot::Origin>>>,
}

impl Origins {
    /// What `snapshot` knows of it.
    pub fn new(snapshot: &Snapshot) -> Self {
        let asked = snapshot.address_specs.value().map(|specs| {
            let mut asked: BTreeMap<IpAddr, BTreeSet<snapshot::Origin>> = BTreeMap::new();
            for spec in specs.values() {
                asked
                    .entry(spec.address.address.to_canonical())
                    .or_default()
                    .insert(spec.origin);
            }
            asked
        });
        Self { asked }
    }

    /// Whether Talos has told.
    pub const fn are_known(&self) -> bool {
        self.asked.is_some()
    }

    /// How `address` came to the node, where Talos was asked for it. The machine configuration wins over a lease, and a
    /// lease over the platform, as they do in Talos.
    pub fn of(&self, address: IpAddr) -> Option<nic::Origin> {
        use crate::talos::snapshot::Origin;

        let asked = self.asked.as_ref()?.get(&address)?;
        let by = |origins: &[Origin]| origins.iter().any(|origin| asked.contains(origin));
        if by(&[Origin::Configuration]) {
            Some(nic::Origin::Manual)
        } else if by(&[Origin::Dhcp4, Origin::Dhcp6]) {
            Some(nic::Origin::Dhcp)
        } else if by(&[Origin::Platform, Origin::Cmdline, Origin::Default]) {
            Some(nic::Origin::Manual)
        } else {
            Some(nic::Origin::Other)
        }
    }

    /// Whether `address` is shared. `beside_wider`: it is a network of its own, on an adapter that has a wider one of
    /// the family.
    ///
    /// While Talos has not told, an IPv6 address may as well be a lease, which is always a /128; an IPv4 lease never
    /// looks so.
    pub fn sharing(&self, address: IpAddr, beside_wider: bool) -> Option<Sharing> {
        match &self.asked {
            None => (beside_wider && address.is_ipv4()).then_some(Sharing::BesideTalos),
            Some(asked) => match asked.get(&address) {
                Some(asked) if asked.contains(&snapshot::Origin::Vip) => Some(Sharing::TalosVip),
                Some(_) => None,
                None => beside_wider.then_some(Sharing::BesideTalos),
            },
        }
    }

    /// Whether a DHCP server gave one of these `addresses`; none where that cannot be said.
    pub fn dhcp(&self, addresses: impl Iterator<Item = IpAddr>) -> Option<bool> {
        let known: Vec<nic::Origin> = addresses.filter_map(|address| self.of(address)).collect();
        if known.contains(&nic::Origin::Dhcp) {
            Some(true)
        } else {
            // A virtual address says nothing about the others.
            known.contains(&nic::Origin::Manual).then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guestinfo::nodes::Node;

    #[test]
    fn each_layer_has_its_origin() {
        let node = Node::default()
            .spec("dhcp4", "eth0", "10.0.0.5/24")
            .spec("dhcp6", "eth0", "2001:db8::5/128")
            .spec("configuration", "eth0", "10.0.0.6/24")
            .spec("platform", "eth0", "10.0.0.7/24")
            .spec("cmdline", "eth0", "10.0.0.8/24")
            .spec("vip", "eth0", "10.0.0.9/32")
            .spec("later", "eth0", "10.0.0.10/24")
            .spec("dhcp4", "eth1", "10.0.0.11/24")
            .spec("configuration", "eth1", "10.0.0.11/24");
        let origins = Origins::new(&node.snapshot());
        for (address, origin) in [
            ("10.0.0.5", Some(nic::Origin::Dhcp)),
            ("2001:db8::5", Some(nic::Origin::Dhcp)),
            ("10.0.0.6", Some(nic::Origin::Manual)),
            ("10.0.0.7", Some(nic::Origin::Manual)),
            ("10.0.0.8", Some(nic::Origin::Manual)),
            ("10.0.0.9", Some(nic::Origin::Other)),
            ("10.0.0.10", Some(nic::Origin::Other)),
            ("10.0.0.11", Some(nic::Origin::Manual)),
            ("10.0.0.12", None),
        ] {
            assert_eq!(origins.of(address.parse().unwrap()), origin, "{address}");
        }
    }

    #[test]
    fn dhcp_is_told_only_where_it_is_known() {
        let node = Node::default()
            .spec("dhcp4", "eth0", "10.0.0.5/24")
            .spec("configuration", "eth0", "10.0.0.6/24")
            .spec("vip", "eth0", "10.0.0.9/32");
        let origins = Origins::new(&node.snapshot());
        let dhcp = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap());
            origins.dhcp(addresses)
        };
        assert_eq!(dhcp(&["10.0.0.6", "10.0.0.5"]), Some(true));
        assert_eq!(dhcp(&["10.0.0.6"]), Some(false));
        assert_eq!(dhcp(&["10.0.0.9", "10.0.0.77"]), None);
        assert_eq!(dhcp(&[]), None);
        assert_eq!(
            Origins::default().dhcp(["10.0.0.5".parse().unwrap()].into_iter()),
            None
        );
    }

    #[test]
    fn while_talos_has_not_told_a_dhcpv6_lease_is_not_suspected() {
        let origins = Origins::default();
        assert_eq!(origins.sharing("2001:db8::5".parse().unwrap(), true), None);
        assert_eq!(
            origins.sharing([10, 0, 0, 5].into(), true),
            Some(Sharing::BesideTalos)
        );
        assert_eq!(origins.sharing([10, 0, 0, 5].into(), false), None);
    }
}
