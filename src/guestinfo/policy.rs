//! Which adapters, addresses and routes a node reports, and why: a pure function of the snapshot.
//!
//! ```text
//!  links ──physical, or standing on one──> adapters ─┐
//!  addresses ──fit, class, shared or not──> candidates ┼─ranked: settings, node address, default route──> NicInfo
//!  routes ──main, unicast, of an adapter───────────────┤
//!  host name, resolvers ───────────────────────────────┘
//! ```
//!
//! The first address of the first adapter is the node's own, and the same one goes to `guestinfo.ip`: vCenter has two
//! feeds for the address it shows, and they must agree (nicinfo.x). Order never depends on the order in which
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
    carrier::Stack,
    name::{self, HostnameMode, NameError},
    nic::{Address, Dns, MacAddr, Nic, NicInfo},
    origin::{Origins, Sharing},
    route::{self, DefaultRoute},
    selector::Selector,
};
use crate::talos::{
    Snapshot,
    snapshot::{LinkStatus, Prefix},
};

/// Settings that decide what is reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which form of the name the host gets.
    pub hostname: HostnameMode,
    /// Addresses that come first, the earlier ones before the later ones.
    pub primary: Vec<Selector>,
    /// Adapters and addresses that are not reported.
    pub hide: Vec<Selector>,
    /// What becomes of addresses that several nodes share.
    pub vip: VipMode,
    /// Whether memory and queue statistics are sent.
    pub statistics: bool,
    /// Whether the state of Talos is told.
    pub talos_state: bool,
    /// Whether the fill of the node's filesystems is told.
    pub disks: bool,
    /// Whether the images of the node's pods are told.
    pub containers: bool,
}

/// What becomes of addresses that several nodes share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VipMode {
    /// Reported after all others, never as the node's own.
    #[default]
    Last,
    /// Not reported.
    Hide,
}

/// What was decided about a link or one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "decision", content = "detail")]
pub enum Decision {
    /// An adapter of the record.
    Adapter(MacAddr),
    /// Another link has the same MAC, and the adapter is listed for that one.
    SharesMac(MacAddr),
    /// A bond, VLAN or bridge on an adapter, which its addresses are listed under.
    StandsOn(MacAddr),
    /// Not Ethernet, or made by software and on no adapter.
    NotPhysical,
    /// The settings hide it.
    Hidden,
    /// No hardware address of six bytes that an adapter could have.
    NoMac,
    /// Reported; the rank says how good it is.
    Reported(Rank),
    /// Other nodes may have it tomorrow: reported after all others.
    Shared(Sharing),
    /// The same, and the settings hide such ones.
    SharedHidden(Sharing),
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
            Self::StandsOn(mac) => return write!(f, "stands on the adapter {mac}"),
            Self::NotPhysical => "left out: no physical Ethernet link, and on none",
            Self::Hidden => "left out: hidden by the settings",
            Self::NoMac => "left out: no Ethernet address",
            Self::Reported(Rank::Chosen { .. }) => "reported: put first by the settings",
            Self::Reported(Rank::Kubelet) => "reported: node IP of the kubelet",
            Self::Reported(Rank::Node) => "reported: Talos's node address",
            Self::Reported(Rank::DefaultRoute) => "reported: source of the default route",
            Self::Reported(Rank::Global) => "reported: global",
            Self::Reported(Rank::UniqueLocal) => "reported: unique local",
            Self::Reported(Rank::LinkLocal) => "reported: link-local, the adapter has nothing else",
            Self::Shared(sharing) => return write!(f, "reported last: {sharing}"),
            Self::SharedHidden(sharing) => return write!(f, "left out: {sharing}"),
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
    /// use or that other nodes share.
    pub primary: Option<IpAddr>,
    /// Whether everything that the order depends on has been told. Until then a better first address may follow.
    pub settled: bool,
}

/// One physical link, or several with one MAC, and what stands on it.
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
        let origins = Origins::new(snapshot);

        let mut adapters: Vec<Adapter<'a>> = Vec::new();
        let carriers = self.adapters_of(links, &mut adapters, note);
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
            match Candidate::new(status, adapter.mac, &origins) {
                Ok(candidate) if self.hides(&candidate) => decide(Decision::Hidden),
                Ok(candidate) => adapter.candidates.push(candidate),
                Err(unfit) => decide(Decision::Unfit(unfit)),
            }
        }

        let routes = snapshot.routes.value();
        let defaults = route::best_defaults(routes, &carriers);
        for adapter in &mut adapters {
            adapter.find_shared(&origins);
        }
        self.promote(&mut adapters, &defaults, snapshot);
        for adapter in &mut adapters {
            adapter.settle(self.vip, note);
        }
        adapters.sort_by_key(|adapter| adapter.standing(&defaults));

        let positions: BTreeMap<MacAddr, usize> = adapters
            .iter()
            .enumerate()
            .map(|(position, adapter)| (adapter.mac, position))
            .collect();
        let record = NicInfo {
            nics: adapters.iter().map(|adapter| adapter.nic(&origins)).collect(),
            routes: route::select(routes, |link| positions.get(carriers.get(link)?).copied()),
            dns: dns(snapshot),
        };
        Some(Selection {
            primary: primary(&adapters),
            record,
            settled: routes.is_some()
                && snapshot.node_addresses.value().is_some()
                && snapshot.node_ips.value().is_some()
                && origins.are_known(),
        })
    }

    /// Collects the adapters and gives, for each link that is or stands on one, the MAC of that adapter.
    fn adapters_of<'a>(
        &self,
        links: &'a BTreeMap<String, LinkStatus>,
        adapters: &mut Vec<Adapter<'a>>,
        note: &mut dyn FnMut(Note<'a>),
    ) -> BTreeMap<&'a str, MacAddr> {
        let hidden = |name: &str| self.hide.iter().any(|selector| selector.names_link(name));
        let visible = links.iter().filter(|(name, _)| !hidden(name));
        let mut stack = Stack::new(visible.map(|(_, link)| link));
        let mut carriers = BTreeMap::new();
        let mut by_index: Vec<(&'a String, &'a LinkStatus)> = links.iter().collect();
        by_index.sort_by_key(|(name, link)| (link.index, *name));
        let mut seen = BTreeSet::new();
        for (name, link) in by_index {
            let decision = match stack.adapter(link) {
                _ if hidden(name) => Decision::Hidden,
                None if link.is_physical() => Decision::NoMac,
                None => Decision::NotPhysical,
                Some(mac) => {
                    carriers.insert(name.as_str(), mac);
                    if !link.is_physical() {
                        Decision::StandsOn(mac)
                    } else if seen.insert(mac) {
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

    fn hides(&self, candidate: &Candidate<'_>) -> bool {
        self.hide
            .iter()
            .any(|selector| selector.names(candidate.link, candidate.prefix.address))
    }

    /// Raises the rank of what the settings name, of the node's addresses, and of those that default routes leave with.
    fn promote(&self, adapters: &mut [Adapter<'_>], defaults: &[DefaultRoute], snapshot: &Snapshot) {
        let sources: BTreeSet<(MacAddr, IpAddr)> = defaults
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
        let kubelet = node_ips(snapshot, adapters);
        let node = node_address(snapshot);
        for adapter in adapters {
            for candidate in &mut adapter.candidates {
                let address = candidate.prefix.address;
                if !candidate.is_own() {
                    continue;
                }
                let chosen = self
                    .primary
                    .iter()
                    .position(|selector| selector.names(candidate.link, address));
                if let Some(place) = chosen {
                    candidate.class.rank = Rank::Chosen { place };
                } else if kubelet.contains(&address) {
                    candidate.class.rank = Rank::Kubelet;
                } else if Some(address) == node {
                    candidate.class.rank = Rank::Node;
                } else if sources.contains(&(adapter.mac, address)) {
                    candidate.class.rank = Rank::DefaultRoute;
                }
            }
        }
    }
}

/// Up as Talos counts it: IF_OPER_UP or IF_OPER_UNKNOWN, and with carrier.
fn is_up(link: &LinkStatus) -> bool {
    matches!(link.operational_state, 0 | 6) && link.link_state
}

/// Of the addresses that Talos gives the kubelet, the first of each family that stands on an adapter and is the node's
/// alone: Talos filters by the kubelet's subnets, but may take an address that kube-vip has put there.
fn node_ips(snapshot: &Snapshot, adapters: &[Adapter<'_>]) -> Vec<IpAddr> {
    let own: BTreeSet<IpAddr> = adapters
        .iter()
        .flat_map(|adapter| &adapter.candidates)
        .filter(|candidate| candidate.is_own())
        .map(|candidate| candidate.prefix.address)
        .collect();
    let told = snapshot
        .node_ips
        .value()
        .and_then(|lists| lists.get("kubelet"))
        .map_or(&[][..], Vec::as_slice);
    let standing = told
        .iter()
        .map(IpAddr::to_canonical)
        .filter(|address| own.contains(address));
    let first = |v6| standing.clone().find(|address| address.is_ipv6() == v6);
    [first(false), first(true)].into_iter().flatten().collect()
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

impl<'a> Adapter<'a> {
    /// Marks the addresses that other nodes may have tomorrow.
    fn find_shared(&mut self, origins: &Origins) {
        let wide: BTreeSet<bool> = self
            .candidates
            .iter()
            .filter(|candidate| candidate.class.rank != Rank::LinkLocal && !candidate.is_single())
            .map(|candidate| candidate.class.v6)
            .collect();
        for candidate in &mut self.candidates {
            let beside_wider = candidate.is_single()
                && candidate.class.rank != Rank::LinkLocal
                && wide.contains(&candidate.class.v6);
            candidate.class.shared = origins.sharing(candidate.prefix.address, beside_wider);
        }
    }

    /// Puts the addresses in order and drops those that others make superfluous.
    fn settle(&mut self, vip: VipMode, note: &mut dyn FnMut(Note<'a>)) {
        let shown = |candidate: &Candidate<'_>| vip == VipMode::Last || candidate.class.shared.is_none();
        let better = self
            .candidates
            .iter()
            .any(|candidate| candidate.class.rank != Rank::LinkLocal && shown(candidate));
        // Whatever is shown counts, or of two equal ones the first that Talos lists would win.
        self.candidates.sort_by_key(|candidate| {
            let Candidate {
                prefix,
                link,
                status,
                origin,
                ..
            } = *candidate;
            (candidate.class.order(), prefix, status, origin, link)
        });
        let mut seen = BTreeSet::new();
        self.candidates.retain(|candidate| {
            let (decision, keep) = match candidate.class.shared {
                Some(sharing) if !shown(candidate) => (Decision::SharedHidden(sharing), false),
                _ if better && candidate.class.rank == Rank::LinkLocal => (Decision::Outranked, false),
                _ if !seen.insert(candidate.prefix) => (Decision::Repeated, false),
                Some(sharing) => (Decision::Shared(sharing), true),
                None => (Decision::Reported(candidate.class.rank), true),
            };
            note(Note {
                link: candidate.link,
                address: Some(candidate.prefix),
                decision,
            });
            keep
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

    fn nic(&self, origins: &Origins) -> Nic {
        let addresses = |v6| {
            let of_family = self
                .candidates
                .iter()
                .filter(move |candidate| candidate.class.v6 == v6);
            of_family.map(|candidate| candidate.prefix.address)
        };
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
            dhcp4: origins.dhcp(addresses(false)),
            dhcp6: origins.dhcp(addresses(true)),
        }
    }
}

/// The first address of the first adapter, unless it is of no use beyond the link or not the node's alone.
fn primary(adapters: &[Adapter<'_>]) -> Option<IpAddr> {
    let first = adapters.first()?.candidates.first()?;
    let own = first.class.rank != Rank::LinkLocal && first.class.shared.is_none();
    own.then_some(first.prefix.address)
}

/// Name and domain stand apart here, whatever form the name has elsewhere. A name is never shortened: half a name is
/// another name. A host name that cannot be sent has a line in the log of its own and is not counted here.
fn dns(snapshot: &Snapshot) -> Option<Dns> {
    let hostname = snapshot.hostname.value();
    let resolvers = snapshot.resolvers.value();
    if hostname.is_none() && resolvers.is_none() {
        return None;
    }
    let valid = |name: &str| name::check(name).is_ok().then(|| name.to_owned());
    let domain = hostname.map(|status| &status.domainname);
    let search = resolvers.map_or(&[][..], |resolvers| &resolvers.search_domains);
    let too_long = |name: &&String| matches!(name::check(name), Err(NameError::TooLong { .. }));
    Some(Dns {
        left_out: domain.into_iter().chain(search).filter(too_long).count(),
        host: hostname.and_then(|status| valid(&status.hostname)),
        domain: domain.and_then(|domain| valid(domain)),
        servers: resolvers.map_or_else(Vec::new, |resolvers| {
            resolvers.dns_servers.iter().map(IpAddr::to_canonical).collect()
        }),
        search: search.iter().filter_map(|domain| valid(domain)).collect(),
    })
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod settings_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod topologies;
