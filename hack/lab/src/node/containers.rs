//! What the call `Containers` tells of the pods.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use talos_vmtoolsd::pb::machine::ContainerInfo;

/// The containers by id (`namespace/pod:container`).
#[derive(Debug, Default)]
pub struct Containers(Mutex<BTreeMap<String, ContainerInfo>>);

impl Containers {
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, ContainerInfo>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All, by id.
    pub fn list(&self) -> Vec<ContainerInfo> {
        self.held().values().cloned().collect()
    }

    /// Adds or changes one.
    pub fn set(&self, container: ContainerInfo) {
        self.held().insert(container.id.clone(), container);
    }

    /// Removes the one with this id. Gives whether there was one.
    pub fn remove(&self, id: &str) -> bool {
        self.held().remove(id).is_some()
    }
}
