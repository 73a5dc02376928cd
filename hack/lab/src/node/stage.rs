//! The stage of the machine.

use serde_json::json;

use super::{
    schema::{
        cluster::{
            CLUSTER_INFOS, KUBELET_SPECS, MACHINE_TYPES, NODE_IP_CONFIGS, NODE_IPS, NODE_STATUSES, NODENAMES,
        },
        network::{NODE_ADDRESS_FILTERS, NODE_ADDRESSES},
        runtime,
    },
    store::{Document, Store, StoreError},
};

/// The id of the only MachineStatus.
pub const MACHINE: &str = "machine";

/// Sets the stage (`running`, `maintenance`, `shutting down`, …) and the conditions that are not met.
pub fn set(store: &Store, stage: &str, ready: bool, unmet: &[(String, String)]) -> Result<bool, StoreError> {
    let unmet: Vec<_> = unmet
        .iter()
        .map(|(name, reason)| json!({ "name": name, "reason": reason }))
        .collect();
    store.put(Document::new(
        runtime::MACHINE_STATUSES,
        MACHINE,
        json!({ "stage": stage, "status": { "ready": ready, "unmetConditions": unmet } }),
    ))
}

/// Types of which nothing exists without a machine configuration.
const CONFIGURED: [&str; 6] = [
    NODENAMES,
    NODE_STATUSES,
    NODE_IP_CONFIGS,
    NODE_IPS,
    KUBELET_SPECS,
    CLUSTER_INFOS,
];

/// Takes the machine configuration away: the stage is `maintenance`, the machine has no type, and what is derived from
/// the configuration is gone.
pub fn enter_maintenance(store: &Store) -> Result<(), StoreError> {
    set(store, "maintenance", true, &[])?;
    store.put(Document::new(
        MACHINE_TYPES,
        "machine-type",
        json!({ "machineType": "unknown" }),
    ))?;
    for kind in CONFIGURED {
        // A release that does not have the type has nothing of it.
        let Ok((resources, _)) = store.kind(None, kind) else {
            continue;
        };
        for resource in store.list(&resources) {
            store.remove(None, kind, resource.id())?;
        }
    }
    for (kind, wanted) in [(NODE_ADDRESS_FILTERS, ""), (NODE_ADDRESSES, "-")] {
        let (resources, _) = store.kind(None, kind)?;
        for resource in store.list(&resources) {
            let filtered = ["no-k8s", "only-k8s"]
                .iter()
                .any(|filter| resource.id().ends_with(&format!("{wanted}{filter}")));
            if filtered {
                store.remove(None, kind, resource.id())?;
            }
        }
    }
    Ok(())
}
