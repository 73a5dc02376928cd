//! Which routes are reported, in which order, and which address a default route leaves with.

#![forbid(unsafe_code)]

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    address::{self, Candidate, Rank},
    nic::{MAX_ROUTES, MacAddr, Origin, Route},
};
use crate::talos::snapshot::RouteStatus;

/// All routes, as the snapshot shares them.
type Routes = Arc<BTreeMap<String, RouteStatus>>;

/// The best default route of one family, among those that leave by a reported adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Where it leaves.
    pub adapter: MacAddr,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The source address that the route itself names.
    pub source: Option<IpAddr>,
    /// Lower is better.
    pub metric: u32,
    /// The family.
    pub v6: bool,
}

impl DefaultRoute {
    /// Which of `candidates` the kernel leaves with.
    ///
    /// The route's own source says it exactly, and shared addresses are none. Without one, it is an address in the
    /// network of the gateway; where the gateway is link-local or outside of every network, any global address of the
    /// adapter, or else any unique local one.
    pub fn sources<'a>(
        &self,
        candidates: impl Iterator<Item = (MacAddr, &'a Candidate<'a>)>,
    ) -> Vec<(MacAddr, IpAddr)> {
        let usable: Vec<(MacAddr, &Candidate<'_>)> = candidates
            .filter(|(_, candidate)| {
                let class = &candidate.class;
                class.v6 == self.v6 && class.rank != Rank::LinkLocal && class.shared.is_none()
            })
            .collect();
        let pick = |wanted: &dyn Fn(&Candidate<'_>) -> bool| -> Vec<(MacAddr, IpAddr)> {
            usable
                .iter()
                .filter(|(_, candidate)| wanted(candidate))
                .map(|(mac, candidate)| (*mac, candidate.prefix.address))
                .collect()
        };
        if let Some(source) = self.source {
            return pick(&|candidate| candidate.prefix.address == source);
        }
        let near = self
            .gateway
            // A DHCPv6 address has no network of its own: it is used in the one of its link.
            .map(|gateway| {
                let leased = |candidate: &Candidate<'_>| {
                    candidate.class.v6 && candidate.is_single() && candidate.origin == Some(Origin::Dhcp)
                };
                let near = pick(&|candidate| address::contains(candidate.prefix, gateway));
                if near.is_empty() {
                    near
                } else {
                    pick(&|candidate| address::contains(candidate.prefix, gateway) || leased(candidate))
                }
            });
        [
            near.unwrap_or_default(),
            pick(&|candidate| candidate.class.rank == Rank::Global),
            pick(&|candidate| candidate.class.rank == Rank::UniqueLocal),
        ]
        .into_iter()
        .find(|sources| !sources.is_empty())
        .unwrap_or_default()
    }
}

/// The best default route of each family. `carriers` maps links to the adapters they stand on.
pub fn best_defaults(routes: Option<&Routes>, carriers: &BTreeMap<&str, MacAddr>) -> Vec<DefaultRoute> {
    let mut defaults: Vec<DefaultRoute> = main_unicast(routes)
        .filter(|route| address::unmapped(route.destination).is_default())
        .filter_map(|route| {
            Some(DefaultRoute {
                adapter: *carriers.get(route.out_link_name.as_str())?,
                gateway: route.gateway.map(|gateway| gateway.to_canonical()),
                source: route.source.map(|source| source.to_canonical()),
                metric: route.priority,
                v6: route.destination.address.is_ipv6(),
            })
        })
        .collect();
    defaults.sort_by_key(|route| (route.v6, route.metric, route.adapter, route.gateway, route.source));
    defaults.dedup_by_key(|route| route.v6);
    defaults
}

/// The routes of the record. `position` gives the place of a link's adapter in it.
///
/// Default routes come first, among them the best last: Terraform keeps the last one it sees, and cannot use the
/// link-local gateway that an IPv6 default route mostly has. When there are more than fit, the worst are left out.
pub fn select(routes: Option<&Routes>, position: impl Fn(&str) -> Option<usize>) -> Vec<Route> {
    let (mut defaults, mut others): (Vec<Route>, Vec<Route>) = main_unicast(routes)
        .filter_map(|route| {
            Some(Route {
                destination: address::unmapped(route.destination),
                next_hop: route
                    .gateway
                    .map(|gateway| gateway.to_canonical())
                    .filter(|gateway| !gateway.is_unspecified()),
                nic: position(&route.out_link_name)?,
                metric: route.priority,
            })
        })
        .partition(|route| route.destination.is_default());
    defaults.sort_by_key(|route| {
        (
            route.destination.address.is_ipv4(),
            Reverse((route.metric, route.nic)),
            route.next_hop,
        )
    });
    defaults.dedup();
    defaults.drain(..defaults.len().saturating_sub(MAX_ROUTES));
    others.sort_by_key(|route| (route.destination, route.metric, route.nic, route.next_hop));
    others.dedup();
    defaults.append(&mut others);
    defaults
}

fn main_unicast(routes: Option<&Routes>) -> impl Iterator<Item = &RouteStatus> {
    routes
        .into_iter()
        .flat_map(|routes| routes.values())
        .filter(|route| route.is_main_unicast())
}
