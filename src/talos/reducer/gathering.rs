//! One resource type's resources: those that are held, and the set that is being told anew.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::SystemTime};

use crate::talos::{
    resource::ResourceType,
    snapshot::{
        AddressSpec, AddressStatus, DiscoveredVolume, Disk, Extension, Fact, LinkStatus, MountStatus,
        NodeStatus, Prefix, RouteStatus, VolumeStatus,
    },
};

/// Most resources of one type that are held. The addresses and routes of a node's adapters are dozens; with more, a
/// peer that invents them costs no memory.
pub const MAX_HELD: usize = 4096;

/// A collection, as it is being told anew.
#[derive(Debug)]
pub struct Gathering<T> {
    /// None once it is complete.
    set: Option<BTreeMap<String, T>>,
    /// There were more than are held.
    full: bool,
}

pub type Held<T> = Fact<Arc<BTreeMap<String, T>>>;

impl<T> Default for Gathering<T> {
    fn default() -> Self {
        Self {
            set: None,
            full: false,
        }
    }
}

impl<T: Clone + PartialEq> Gathering<T> {
    pub fn begin(&mut self) {
        self.set = Some(BTreeMap::new());
    }

    pub fn put(&mut self, fact: &mut Held<T>, id: String, value: T) -> bool {
        let held = match (&self.set, &*fact) {
            (Some(set), _) => set,
            (None, Fact::Known { value: held }) => held,
            (None, _) => return false,
        };
        if held.len() >= MAX_HELD && !held.contains_key(&id) {
            self.full = true;
            return false;
        }
        match (&mut self.set, fact) {
            (Some(set), _) => {
                set.insert(id, value);
                false
            }
            (None, Fact::Known { value: held }) if held.get(&id) != Some(&value) => {
                Arc::make_mut(held).insert(id, value);
                true
            }
            _ => false,
        }
    }

    pub fn remove(&mut self, fact: &mut Held<T>, id: &str) -> bool {
        if let Some(set) = &mut self.set {
            set.remove(id);
            return false;
        }
        match fact {
            Fact::Known { value: held } if held.contains_key(id) => {
                Arc::make_mut(held).remove(id);
                true
            }
            _ => false,
        }
    }

    /// A resource that exists and cannot be read: what was known of it stays.
    pub fn keep(&mut self, fact: &Held<T>, id: String) {
        if let (Some(set), Some(value)) = (&mut self.set, fact.value().and_then(|held| held.get(&id))) {
            set.entry(id).or_insert_with(|| value.clone());
        }
    }

    pub fn complete(&mut self, fact: &mut Held<T>) -> bool {
        let Some(set) = self.set.take() else { return false };
        match fact {
            // The same again after an outage: snapshots go on sharing it.
            Fact::Stale { value, .. } if **value == set => {
                let value = Arc::clone(value);
                fact.learn(value)
            }
            _ => fact.learn(Arc::new(set)),
        }
    }

    pub fn lose(&mut self, fact: &mut Held<T>, now: SystemTime) -> bool {
        self.set = None;
        fact.silence(now)
    }

    /// Drops what `keep` refuses, from the fact and from what is being gathered.
    pub fn retain(&mut self, fact: &mut Held<T>, keep: impl Fn(&T) -> bool) -> bool {
        if let Some(set) = &mut self.set {
            set.retain(|_, value| keep(value));
        }
        match fact {
            Fact::Known { value: held } | Fact::Stale { value: held, .. } if !held.values().all(&keep) => {
                Arc::make_mut(held).retain(|_, value| keep(value));
                true
            }
            _ => false,
        }
    }
}

/// The sets that are being told.
#[derive(Debug, Default)]
pub struct Gatherings {
    pub links: Gathering<LinkStatus>,
    pub addresses: Gathering<AddressStatus>,
    pub address_specs: Gathering<AddressSpec>,
    pub routes: Gathering<RouteStatus>,
    pub node_addresses: Gathering<Vec<Prefix>>,
    pub node_ips: Gathering<Vec<IpAddr>>,
    pub nodes: Gathering<NodeStatus>,
    pub extensions: Gathering<Extension>,
    pub disks: Gathering<Disk>,
    pub discovered_volumes: Gathering<DiscoveredVolume>,
    pub volumes: Gathering<VolumeStatus>,
    pub mounts: Gathering<MountStatus>,
    pub runtime_mounts: Gathering<MountStatus>,
}

impl Gatherings {
    /// The types of which there were more than [`MAX_HELD`].
    pub fn full(&self) -> impl Iterator<Item = ResourceType> {
        [
            (self.links.full, ResourceType::Link),
            (self.addresses.full, ResourceType::Address),
            (self.address_specs.full, ResourceType::AddressSpec),
            (self.routes.full, ResourceType::Route),
            (self.node_addresses.full, ResourceType::NodeAddress),
            (self.node_ips.full, ResourceType::NodeIp),
            (self.nodes.full, ResourceType::Node),
            (self.extensions.full, ResourceType::Extension),
            (self.disks.full, ResourceType::Disk),
            (self.discovered_volumes.full, ResourceType::DiscoveredVolume),
            (self.volumes.full, ResourceType::Volume),
            (self.mounts.full, ResourceType::Mount),
            (self.runtime_mounts.full, ResourceType::RuntimeMount),
        ]
        .into_iter()
        .filter_map(|(full, resource_type)| full.then_some(resource_type))
    }
}

/// The fact of a type with what is needed to change it, whatever it holds. The methods give whether the fact changed.
pub trait Holder {
    /// A complete set follows.
    fn begin(&mut self) {}
    /// A resource is gone.
    fn remove(&mut self, _id: &str) -> bool {
        false
    }
    /// A resource exists and cannot be read.
    fn keep(&mut self, _id: String) {}
    /// The set is complete.
    fn complete(&mut self) -> bool {
        false
    }
    /// Talos does not answer for this type any more.
    fn lose(&mut self, now: SystemTime) -> bool;
}

impl<T: Clone + PartialEq> Holder for (&mut Gathering<T>, &mut Held<T>) {
    fn begin(&mut self) {
        self.0.begin();
    }

    fn remove(&mut self, id: &str) -> bool {
        self.0.remove(self.1, id)
    }

    fn keep(&mut self, id: String) {
        self.0.keep(self.1, id);
    }

    fn complete(&mut self) -> bool {
        self.0.complete(self.1)
    }

    fn lose(&mut self, now: SystemTime) -> bool {
        self.0.lose(self.1, now)
    }
}

/// A type of which a node has one resource is told by its first event, so there is nothing to gather.
impl<T> Holder for &mut Fact<T> {
    fn lose(&mut self, now: SystemTime) -> bool {
        self.silence(now)
    }
}
