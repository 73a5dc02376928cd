//! The stage of the machine.

use serde_json::json;

use super::{
    schema::runtime,
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
