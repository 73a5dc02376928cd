//! Which adapters, addresses and routes a node reports, and why: a pure function of the snapshot.
//!
//! ```text
//!  links ──physical, 6-byte MAC──> adapters ─┐
//!  addresses ──fit, class──> candidates ─────┼─ranked by node address and default route──> NicInfo
//!  routes ──main, unicast, of an adapter─────┤
//!  host name, resolvers ─────────────────────┘
//! ```
//!
//! The first address of the first adapter is the node's own, and the same one goes to `guestinfo.ip`: vCenter has two
//! feeds for the address it shows, and they must agree (guestinfo.md 2.9). Order never depends on the order in which
//! Talos lists things.

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use serde::Serialize;

use super::{
    address::{Candidate, Rank, Unfit},
    name::{self, HostnameMode},
    nic::{Address, Dns, MacAddr, Nic, NicInfo},
    route::{self, DefaultRoute},
};
use crate::talos::{
    Snapshot,
    snapshot::{LinkStatus, Prefix},
};

/// Settings that decide what is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which form of the name the host gets.
    pub hostname: HostnameMode,
}

/// What was decided about a link or one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "decision", content = "detail")]
pub enum Decision {
    /// An adapter of the record.
    Adapter(MacAddr),
    /// Another link has the same MAC, and the adapter is listed for that one.
    SharesMac(MacAddr),
    /// Not Ethernet, or made by software.
    NotPhysical,
    /// No hardware address of six bytes that an adapter could have.
    NoMac,
    /// Reported; the rank says how good it is.
    Reported(Rank),
    /// Stands on a link that is not reported.
    OtherLink,
    /// Cannot be used by anybody outside.
    Unfit(Unfit),
    /// Link-local, and the adapter has something better.
    Outranked,
    /// Listed twice.
    Repeated,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adapter(mac) => return write!(f, "adapter {mac}"),
            Self::SharesMac(mac) => return write!(f, "listed with the other link of {mac}"),
            Self::NotPhysical => "left out: no physical Ethernet link",
            Self::NoMac => "left out: no Ethernet address",
            Self::Reported(Rank::Node) => "reported: Talos's node address",
            Self::Reported(Rank::DefaultRoute) => "reported: source of the default route",
            Self::Reported(Rank::Global) => "reported: global",
            Self::Reported(Rank::UniqueLocal) => "reported: unique local",
            Self::Reported(Rank::LinkLocal) => "reported: link-local, the adapter has nothing else",
            Self::OtherLink => "left out: stands on a link that is not reported",
            Self::Unfit(Unfit::NoUnicast) => "left out: not an address others can reach",
            Self::Unfit(Unfit::Tentative) => "left out: duplicate detection has not ended",
            Self::Unfit(Unfit::Duplicate) => "left out: duplicate detection failed",
            Self::Outranked => "left out: link-local, the adapter has better ones",
            Self::Repeated => "left out: listed twice",
        }
        .fmt(f)
    }
}

/// A decision and what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Note<'a> {
    /// Name of the link.
    pub link: &'a str,
    /// None where the link itself is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Prefix>,
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
}

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => write!(f, "{}: {}", self.link, self.decision),
            Some(address) => write!(f, "{} {address}: {}", self.link, self.decision),
        }
    }
}

/// What the node tells about its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Before any cut to the limits of the message.
    pub record: NicInfo,
    /// The first address of the first adapter. None when there is none, or only one that nobody outside the link could
    /// use.
    pub primary: Option<IpAddr>,
    /// Whether everything that the order depends on has been told. Until then a better first address may follow.
    pub settled: bool,
}

/// One physical link, or several with one MAC.
#[derive(Debug)]
struct Adapter<'a> {
    mac: MacAddr,
    index: u32,
    up: bool,
    candidates: Vec<Candidate<'a>>,
}

impl Policy {
    /// Decides what is reported of `snapshot`, or gives `None` while links or addresses are unknown. Every decision is
    /// shown to `note`.
    pub fn select<'a>(&self, snapshot: &'a Snapshot, note: &mut dyn FnMut(Note<'a>)) -> Option<Selection> {
        let links = snapshot.links.value()?;
        let addresses = snapshot.addresses.value()?;

        let mut adapters: Vec<Adapter<'a>> = Vec::new();
        let carriers = adapters_of(links, &mut adapters, note);
        for status in addresses.values() {
            let mut decide = |decision| {
                note(Note {
                    link: &status.link_name,
                    address: Some(status.address),
                    decision,
                });
            };
            let Some(adapter) = carriers
                .get(status.link_name.as_str())
                .and_then(|mac| adapters.iter_mut().find(|adapter| adapter.mac == *mac))
            else {
                decide(Decision::OtherLink);
                continue;
            };
            match Candidate::new(status, adapter.mac) {
                Ok(candidate) => adapter.candidates.push(candidate),
                Err(unfit) => decide(Decision::Unfit(unfit)),
            }
        }

        let routes = snapshot.routes.value();
        let defaults = route::best_defaults(routes, &carriers);
        promote(&mut adapters, &defaults, node_address(snapshot));
        for adapter in &mut adapters {
            adapter.settle(note);
        }
        adapters.sort_by_key(|adapter| adapter.standing(&defaults));

        let positions: BTreeMap<MacAddr, usize> = adapters
            .iter()
            .enumerate()
            .map(|(position, adapter)| (adapter.mac, position))
            .collect();
        let record = NicInfo {
            nics: adapters.iter().map(Adapter::nic).collect(),
            routes: route::select(routes, |link| positions.get(carriers.get(link)?).copied()),
            dns: dns(snapshot),
        };
        Some(Selection {
            primary: primary(&adapters),
            record,
            settled: routes.is_some() && snapshot.node_addresses.value().is_some(),
        })
    }
}

/// Collects the adapters and gives, for each link that stands on one, the MAC of that adapter.
fn adapters_of<'a>(
    links: &'a BTreeMap<String, LinkStatus>,
    adapters: &mut Vec<Adapter<'a>>,
    note: &mut dyn FnMut(Note<'a>),
) -> BTreeMap<&'a str, MacAddr> {
    let mut carriers = BTreeMap::new();
    let mut by_index: Vec<(&'a String, &'a LinkStatus)> = links.iter().collect();
    by_index.sort_by_key(|(name, link)| (link.index, *name));
    let mut seen = BTreeSet::new();
    for (name, link) in by_index {
        let decision = match mac(link) {
            _ if !link.is_physical() => Decision::NotPhysical,
            None => Decision::NoMac,
            Some(mac) => {
                carriers.insert(name.as_str(), mac);
                if seen.insert(mac) {
                    adapters.push(Adapter {
                        mac,
                        index: link.index,
                        up: is_up(link),
                        candidates: Vec::new(),
                    });
                    Decision::Adapter(mac)
                } else {
                    Decision::SharesMac(mac)
                }
            }
        };
        note(Note {
            link: name,
            address: None,
            decision,
        });
    }
    carriers
}

/// The links whose addresses are reported: what the watch of addresses asks Talos for.
pub fn reported_links(links: &BTreeMap<String, LinkStatus>) -> BTreeSet<String> {
    let reported = links
        .iter()
        .filter(|(_, link)| link.is_physical() && mac(link).is_some());
    reported.map(|(name, _)| name.clone()).collect()
}

/// The address the hypervisor knows the adapter by. A driver may tell a burnt-in address that is none.
fn mac(link: &LinkStatus) -> Option<MacAddr> {
    [&link.permanent_addr, &link.hardware_addr]
        .into_iter()
        .filter_map(|address| <[u8; 6]>::try_from(address.0.as_slice()).ok())
        .find(|[first, rest @ ..]| {
            let multicast = first & 1 != 0;
            !multicast && (*first != 0 || rest.iter().any(|byte| *byte != 0))
        })
        .map(MacAddr)
}

/// Up as Talos counts it: IF_OPER_UP or IF_OPER_UNKNOWN, and with carrier.
fn is_up(link: &LinkStatus) -> bool {
    matches!(link.operational_state, 0 | 6) && link.link_state
}

/// The address that Talos keeps as the node's as long as it exists. Where Kubernetes' own networks are known, it must
/// not be one of theirs.
fn node_address(snapshot: &Snapshot) -> Option<IpAddr> {
    let lists = snapshot.node_addresses.value()?;
    let address = lists.get("default")?.first()?.address.to_canonical();
    match lists.get("routed-no-k8s") {
        Some(routed)
            if !routed
                .iter()
                .any(|prefix| prefix.address.to_canonical() == address) =>
        {
            None
        }
        _ => Some(address),
    }
}

/// Raises the rank of the node's address and of those that default routes leave with.
fn promote(adapters: &mut [Adapter<'_>], defaults: &[DefaultRoute], node: Option<IpAddr>) {
    let sources: Vec<(MacAddr, IpAddr)> = defaults
        .iter()
        .flat_map(|route| {
            let candidates = adapters
                .iter()
                .filter(|adapter| route.source.is_some() || adapter.mac == route.adapter)
                .flat_map(|adapter| {
                    adapter
                        .candidates
                        .iter()
                        .map(|candidate| (adapter.mac, candidate))
                });
            route.sources(candidates)
        })
        .collect();
    for adapter in adapters {
        for candidate in &mut adapter.candidates {
            let address = candidate.prefix.address;
            if candidate.class.rank == Rank::LinkLocal {
                continue;
            }
            if Some(address) == node {
                candidate.class.rank = Rank::Node;
            } else if sources.contains(&(adapter.mac, address)) {
                candidate.class.rank = Rank::DefaultRoute;
            }
        }
    }
}

impl<'a> Adapter<'a> {
    /// Puts the addresses in order and drops those that others make superfluous.
    fn settle(&mut self, note: &mut dyn FnMut(Note<'a>)) {
        let better = self
            .candidates
            .iter()
            .any(|candidate| candidate.class.rank != Rank::LinkLocal);
        self.candidates
            .sort_by_key(|candidate| (candidate.class.order(), candidate.prefix, candidate.link));
        let mut last = None;
        self.candidates.retain(|candidate| {
            let decision = if better && candidate.class.rank == Rank::LinkLocal {
                Decision::Outranked
            } else if last.replace(candidate.prefix) == Some(candidate.prefix) {
                Decision::Repeated
            } else {
                Decision::Reported(candidate.class.rank)
            };
            note(Note {
                link: candidate.link,
                address: Some(candidate.prefix),
                decision,
            });
            matches!(decision, Decision::Reported(_))
        });
    }

    /// What orders adapters: the better first address, the better default route, up before down, with addresses
    /// before without; then the kernel's order.
    fn standing(&self, defaults: &[DefaultRoute]) -> impl Ord + use<> {
        let metric = defaults
            .iter()
            .filter(|route| route.adapter == self.mac)
            .map(|route| u64::from(route.metric))
            .min()
            .unwrap_or(u64::MAX);
        let first = self.candidates.first().map(|candidate| candidate.class.order());
        (first.is_none(), first, metric, !self.up, self.index, self.mac)
    }

    fn nic(&self) -> Nic {
        Nic {
            mac: self.mac,
            addresses: self
                .candidates
                .iter()
                .map(|candidate| Address {
                    prefix: candidate.prefix,
                    origin: candidate.origin,
                    status: candidate.status,
                })
                .collect(),
        }
    }
}

/// The first address of the first adapter, unless it is of no use beyond the link.
fn primary(adapters: &[Adapter<'_>]) -> Option<IpAddr> {
    let first = adapters.first()?.candidates.first()?;
    (first.class.rank != Rank::LinkLocal).then_some(first.prefix.address)
}

/// Name and domain stand apart here, whatever form the name has elsewhere.
fn dns(snapshot: &Snapshot) -> Option<Dns> {
    let hostname = snapshot.hostname.value();
    let resolvers = snapshot.resolvers.value();
    if hostname.is_none() && resolvers.is_none() {
        return None;
    }
    let valid = |name: &str| name::check(name).is_ok().then(|| name.to_owned());
    Some(Dns {
        host: hostname.and_then(|status| valid(&status.hostname)),
        domain: hostname.and_then(|status| valid(&status.domainname)),
        servers: resolvers.map_or_else(Vec::new, |resolvers| {
            resolvers.dns_servers.iter().map(IpAddr::to_canonical).collect()
        }),
        search: resolvers.map_or_else(Vec::new, |resolvers| {
            resolvers
                .search_domains
                .iter()
                .filter_map(|domain| valid(domain))
                .collect()
        }),
    })
}

#[cfg(test)]
mod tests;
