//! What the `Mounts` call tells: size and free space of each filesystem, which stand in no resource.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use talos_vmtoolsd::pb::machine::MountStat;

/// The filesystems by mount point.
#[derive(Debug, Default)]
pub struct Filesystems(Mutex<BTreeMap<String, MountStat>>);

impl Filesystems {
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, MountStat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All, by mount point.
    pub fn list(&self) -> Vec<MountStat> {
        self.held().values().cloned().collect()
    }

    /// Adds or changes one.
    pub fn set(&self, stat: MountStat) {
        self.held().insert(stat.mounted_on.clone(), stat);
    }

    /// Removes the one at `target`. Gives whether there was one.
    pub fn remove(&self, target: &str) -> bool {
        self.held().remove(target).is_some()
    }
}
