//! NodeIPs, derived from the kubelet's subnets and the node's addresses as Talos's NodeIPController does.

use std::net::IpAddr;

use serde_json::json;

use super::{
    super::{
        schema::{
            cluster::{NODE_IP_CONFIGS, NODE_IPS},
            network::NODE_ADDRESSES,
        },
        store::{Document, Kind, Store, StoreError},
    },
    kind,
    node_addresses::subnets,
};

/// The only id of both types.
pub const KUBELET: &str = "kubelet";
/// The addresses that the kubelet can be given.
const ROUTED: &str = "routed-no-k8s";
const OWNER: &str = "k8s.NodeIPController";

/// Recomputes the NodeIPs where the node has a NodeIPConfig. As in Talos they stay when no address is left for them, and
/// when the configuration goes; those that have another owner were put by hand and stay as they are.
pub fn update(store: &Store) -> Result<(), StoreError> {
    let kubernetes = |name| Kind {
        namespace: "k8s".to_owned(),
        name,
    };
    let Ok(config) = store.get(&kubernetes(NODE_IP_CONFIGS), KUBELET) else {
        return Ok(());
    };
    let Ok(routed) = store.get(&kind(NODE_ADDRESSES), ROUTED) else {
        return Ok(());
    };
    if let Ok(present) = store.get(&kubernetes(NODE_IPS), KUBELET)
        && present
            .message
            .metadata
            .as_ref()
            .is_some_and(|it| it.owner != OWNER)
    {
        return Ok(());
    }
    let addresses: Vec<IpAddr> = subnets(&routed, "addresses")
        .iter()
        .map(|it| it.address)
        .collect();
    let excluded = subnets(&config, "excludeSubnets");
    let mut chosen: Vec<IpAddr> = Vec::new();
    // In the order of the subnets, and of each family the first.
    for subnet in subnets(&config, "validSubnets") {
        for address in &addresses {
            let valid = subnet.contains(*address) && !excluded.iter().any(|net| net.contains(*address));
            if valid && !chosen.iter().any(|it| it.is_ipv6() == address.is_ipv6()) {
                chosen.push(*address);
            }
        }
    }
    if chosen.is_empty() {
        return Ok(());
    }
    store.put(Document::new(NODE_IPS, KUBELET, json!({ "addresses": chosen })))?;
    Ok(())
}
