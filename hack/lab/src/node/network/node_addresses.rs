//! NodeAddresses, derived from links and addresses as Talos's NodeAddressController does.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use super::{
    super::{
        schema::{
            Names,
            names::{LINK_TYPE, OPERATIONAL_STATE, SCOPE},
            network::{ADDRESS_STATUSES, LINK_STATUSES, NODE_ADDRESS_FILTERS, NODE_ADDRESSES},
        },
        spec::Prefix,
        store::{Document, Resource, Store, StoreError},
    },
    ETHER, OPER_UP, kind, node_ips,
};

const OWNER: &str = "network.NodeAddressController";
/// Addresses of the platform that no link has, such as NAT addresses of a cloud.
const EXTERNAL_LINK: &str = "external";
/// RT_SCOPE_LINK; from here on an address is nobody else's business.
const LINK_SCOPE: u64 = 253;
/// IF_OPER_UNKNOWN, which counts as up.
const OPER_UNKNOWN: u32 = 0;

/// Recomputes all NodeAddresses, and what follows from them. One that has another owner was put by hand and stays as it is.
pub fn update(store: &Store) -> Result<(), StoreError> {
    let usable = usable_links(store);
    let mut first: Option<(String, Prefix)> = None;
    let mut accumulative = BTreeSet::new();
    let mut current = BTreeSet::new();
    let mut routed = BTreeSet::new();
    for resource in store.list(&kind(ADDRESS_STATUSES)) {
        let Some((link, index, prefix)) = candidate(&resource) else {
            continue;
        };
        let external = link == EXTERNAL_LINK;
        let this = (link, prefix);
        if !external && first.as_ref().is_none_or(|first| this < *first) {
            first = Some(this);
        }
        accumulative.insert(prefix);
        if external || usable.contains(&index) {
            current.insert(prefix);
            if !external && !is_siderolink(prefix.address) {
                routed.insert(prefix);
            }
        }
    }
    if let Some((_, first)) = first {
        let kept = addresses(store, "default")
            .first()
            .copied()
            .filter(|kept| current.contains(kept));
        put(store, "default", &[kept.unwrap_or(first)])?;
    }
    accumulative.extend(addresses(store, "accumulative"));
    let lists = [
        ("current", &current),
        ("routed", &routed),
        ("accumulative", &accumulative),
    ];
    for (id, list) in lists {
        put(store, id, &list.iter().copied().collect::<Vec<_>>())?;
    }
    for filter in store.list(&kind(NODE_ADDRESS_FILTERS)) {
        let include = subnets(&filter, "includeSubnets");
        let exclude = subnets(&filter, "excludeSubnets");
        let inside = |nets: &[Prefix], prefix: &Prefix| nets.iter().any(|net| net.contains(prefix.address));
        for (id, list) in lists {
            let chosen: Vec<_> = list
                .iter()
                .filter(|prefix| include.is_empty() || inside(&include, prefix))
                .filter(|prefix| !inside(&exclude, prefix))
                .copied()
                .collect();
            put(store, &format!("{id}-{}", filter.id()), &chosen)?;
        }
    }
    node_ips::update(store)
}

/// A number that a document may also call by its name; 0 is what an absent one means.
fn named(resource: &Resource, field: &str, names: Names) -> u64 {
    match resource.spec.get(field) {
        Some(Value::String(told)) => names
            .iter()
            .find(|(_, name)| name == told)
            .map_or(0, |(number, _)| u64::from(*number)),
        told => told.and_then(Value::as_u64).unwrap_or(0),
    }
}

/// Indexes of the links whose addresses count as present.
fn usable_links(store: &Store) -> BTreeSet<u64> {
    store
        .list(&kind(LINK_STATUSES))
        .iter()
        .filter(|link| {
            let state = named(link, "operationalState", OPERATIONAL_STATE);
            let kind = link.spec.get("kind").and_then(Value::as_str).unwrap_or_default();
            let physical = named(link, "type", LINK_TYPE) == u64::from(ETHER) && kind.is_empty();
            let carrier = link
                .spec
                .get("linkState")
                .and_then(Value::as_bool)
                .unwrap_or(false);
            (state == u64::from(OPER_UP) || state == u64::from(OPER_UNKNOWN)) && (!physical || carrier)
        })
        .filter_map(|link| link.spec.get("index")?.as_u64())
        .collect()
}

/// Link, index and prefix of an AddressStatus that can be an address of the node.
fn candidate(resource: &Resource) -> Option<(String, u64, Prefix)> {
    let spec = &resource.spec;
    let scope = named(resource, "scope", SCOPE);
    let prefix: Prefix = spec.get("address")?.as_str()?.parse().ok()?;
    let link_local = match prefix.address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if scope >= LINK_SCOPE || prefix.address.is_loopback() || prefix.address.is_multicast() || link_local {
        return None;
    }
    let link = spec.get("linkName")?.as_str()?.to_owned();
    let index = spec.get("linkIndex").and_then(Value::as_u64).unwrap_or(0);
    Some((link, index, prefix))
}

/// Whether the address belongs to SideroLink: a unique local one whose eighth octet is 3
/// (`pkg/machinery/resources/network/ula.go`).
fn is_siderolink(address: IpAddr) -> bool {
    match address {
        IpAddr::V6(address) => matches!(address.octets(), [0xfd, _, _, _, _, _, _, 0x03, ..]),
        IpAddr::V4(_) => false,
    }
}

/// The prefixes of a list; what is none is left out.
pub(super) fn subnets(filter: &Resource, field: &str) -> Vec<Prefix> {
    let listed = filter.spec.get(field).and_then(Value::as_array);
    let texts = listed.into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn addresses(store: &Store, id: &str) -> Vec<Prefix> {
    store
        .get(&kind(NODE_ADDRESSES), id)
        .map(|resource| subnets(&resource, "addresses"))
        .unwrap_or_default()
}

fn put(store: &Store, id: &str, addresses: &[Prefix]) -> Result<(), StoreError> {
    if let Ok(present) = store.get(&kind(NODE_ADDRESSES), id) {
        let owner = present
            .message
            .metadata
            .as_ref()
            .map(|metadata| metadata.owner.as_str());
        if owner != Some(OWNER) {
            return Ok(());
        }
    }
    let texts: Vec<_> = addresses.iter().map(Prefix::to_string).collect();
    store.put(Document::new(NODE_ADDRESSES, id, json!({ "addresses": texts })))?;
    Ok(())
}
