//! The state machine between the watches and the snapshot. It knows no socket, no clock and no task.
//!
//! ```text
//!             Subscribed       Put, Removed, Undecodable        Bootstrapped
//!  (nothing) ───────────> gathering a new complete set ───────────────────────> known, compared with the set before
//!                              │                                                   │  ^
//!                              │ Lost, Refused, Disconnected                       │  │ Put, Removed: one by one
//!                              v                                                   v  │
//!                         what was known is stale  <────────────────────────────  known
//! ```
//!
//! A set that is being gathered shows nowhere before it is complete, so a reconnect replaces the truth in one step and
//! what vanished meanwhile vanishes then.

#![forbid(unsafe_code)]

mod gathering;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use self::gathering::{Gatherings, Holder};
use super::{
    resource::ResourceType,
    snapshot::{
        AddressSpec, AddressStatus, DiscoveredVolume, Disk, Extension, Fact, HostnameStatus, LinkStatus,
        MachineStatus, MachineType, MountStatus, NodeStatus, Prefix, ResolverStatus, RouteStatus, Schematic,
        SecurityState, Snapshot, Version, VolumeStatus,
    },
};

pub use self::gathering::MAX_HELD;

/// Which of the candidate links are reported: their names, given all candidates by name.
pub type Selection = Arc<dyn Fn(&BTreeMap<String, LinkStatus>) -> BTreeSet<String> + Send + Sync>;

/// One resource, decoded. Types of which a node has one resource need no id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Id and value.
    Link(String, LinkStatus),
    /// Id and value.
    Address(String, AddressStatus),
    /// Id and value.
    Route(String, RouteStatus),
    /// Id and value.
    NodeAddress(String, Vec<Prefix>),
    /// Id and value.
    NodeIp(String, Vec<IpAddr>),
    /// The value.
    Hostname(HostnameStatus),
    /// The value.
    Resolver(ResolverStatus),
    /// The value.
    Machine(MachineStatus),
    /// The value.
    Security(SecurityState),
    /// Id and value.
    AddressSpec(String, AddressSpec),
    /// The value.
    MachineType(MachineType),
    /// The value.
    Nodename(String),
    /// Id and value.
    Node(String, NodeStatus),
    /// The name.
    Cluster(String),
    /// The value.
    Schematic(Schematic),
    /// Id and value.
    Extension(String, Extension),
    /// The value.
    BootId(String),
    /// Id and value.
    Disk(String, Disk),
    /// Id and value.
    DiscoveredVolume(String, DiscoveredVolume),
    /// Id and value.
    Volume(String, VolumeStatus),
    /// Id and value.
    Mount(String, MountStatus),
    /// Id and value.
    RuntimeMount(String, MountStatus),
}

impl Resource {
    /// Its type.
    pub const fn resource_type(&self) -> ResourceType {
        match self {
            Self::Link(..) => ResourceType::Link,
            Self::Address(..) => ResourceType::Address,
            Self::Route(..) => ResourceType::Route,
            Self::NodeAddress(..) => ResourceType::NodeAddress,
            Self::NodeIp(..) => ResourceType::NodeIp,
            Self::Hostname(_) => ResourceType::Hostname,
            Self::Resolver(_) => ResourceType::Resolver,
            Self::Machine(_) => ResourceType::Machine,
            Self::Security(_) => ResourceType::Security,
            Self::AddressSpec(..) => ResourceType::AddressSpec,
            Self::MachineType(_) => ResourceType::MachineType,
            Self::Nodename(_) => ResourceType::Nodename,
            Self::Node(..) => ResourceType::Node,
            Self::Cluster(_) => ResourceType::Cluster,
            Self::Schematic(_) => ResourceType::Schematic,
            Self::Extension(..) => ResourceType::Extension,
            Self::BootId(_) => ResourceType::BootId,
            Self::Disk(..) => ResourceType::Disk,
            Self::DiscoveredVolume(..) => ResourceType::DiscoveredVolume,
            Self::Volume(..) => ResourceType::Volume,
            Self::Mount(..) => ResourceType::Mount,
            Self::RuntimeMount(..) => ResourceType::RuntimeMount,
        }
    }
}

/// What happens to the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The Version call was answered: a connection stands.
    Connected(Version),
    /// The connection is gone, and every watch with it.
    Disconnected,
    /// A watch begins. What follows until `Bootstrapped` is the complete set of this type.
    Subscribed {
        /// The type.
        resource_type: ResourceType,
        /// The selected links that the watch was made for, where the type follows the selection.
        links: Arc<BTreeSet<String>>,
    },
    /// A resource appeared or changed.
    Put(Resource),
    /// A resource is gone, or going away.
    Removed {
        /// The type.
        resource_type: ResourceType,
        /// Its id.
        id: String,
    },
    /// A resource appeared or changed, and says nothing that can be read.
    Undecodable {
        /// The type.
        resource_type: ResourceType,
        /// Its id.
        id: String,
        /// Why, for the log.
        reason: String,
    },
    /// The set is complete; changes follow.
    Bootstrapped(ResourceType),
    /// The watch ended; another will be tried.
    Lost {
        /// The type.
        resource_type: ResourceType,
        /// Why, for the log.
        reason: String,
    },
    /// This Talos does not serve this type; it is not asked again before the next connect.
    Refused {
        /// The type.
        resource_type: ResourceType,
        /// Talos's words, for the log.
        reason: String,
    },
}

/// Turns events into a snapshot.
pub struct Reducer {
    snapshot: Snapshot,
    selection: Selection,
    /// None until the links are known.
    selected: Option<Arc<BTreeSet<String>>>,
    gatherings: Gatherings,
    /// Types of one resource of which nothing has come since their watch began.
    expected: BTreeSet<ResourceType>,
    /// The links that the present watches of addresses and routes were made for.
    scopes: BTreeMap<ResourceType, Arc<BTreeSet<String>>>,
    unanswered: BTreeSet<ResourceType>,
}

impl Reducer {
    /// Everything unknown.
    pub fn new(selection: Selection) -> Self {
        Self {
            snapshot: Snapshot::default(),
            selection,
            selected: None,
            gatherings: Gatherings::default(),
            expected: BTreeSet::new(),
            scopes: BTreeMap::new(),
            unanswered: ResourceType::ALL.into(),
        }
    }

    /// What is known now.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The links that are reported; none until the links are known.
    pub const fn selected(&self) -> Option<&Arc<BTreeSet<String>>> {
        self.selected.as_ref()
    }

    /// The types whose complete answer is still to come, with the links selected now.
    pub const fn unanswered(&self) -> &BTreeSet<ResourceType> {
        &self.unanswered
    }

    /// The types of which there were more than [`MAX_HELD`].
    pub fn full(&self) -> impl Iterator<Item = ResourceType> {
        self.gatherings.full()
    }

    /// Takes in one event that happened at `now`. Gives whether the snapshot changed.
    pub fn apply(&mut self, event: Event, now: SystemTime) -> bool {
        match event {
            Event::Connected(version) => self.snapshot.version.learn(version),
            Event::Disconnected => self.disconnect(now),
            Event::Subscribed { resource_type, links } => {
                self.subscribe(resource_type, links);
                false
            }
            Event::Put(resource) => self.put(resource),
            Event::Removed { resource_type, id } => self.remove(resource_type, &id, now),
            Event::Undecodable {
                resource_type, id, ..
            } => {
                self.keep(resource_type, id);
                false
            }
            Event::Bootstrapped(resource_type) => self.complete(resource_type, now),
            Event::Lost { resource_type, .. } => {
                self.unanswered.insert(resource_type);
                self.lose(resource_type, now)
            }
            Event::Refused { resource_type, .. } => {
                self.unanswered.remove(&resource_type);
                self.lose(resource_type, now)
            }
        }
    }

    fn disconnect(&mut self, now: SystemTime) -> bool {
        self.unanswered = ResourceType::ALL.into();
        let mut changed = self.snapshot.version.silence(now);
        for resource_type in ResourceType::ALL {
            changed |= self.lose(resource_type, now);
        }
        changed
    }

    fn subscribe(&mut self, resource_type: ResourceType, links: Arc<BTreeSet<String>>) {
        if resource_type.only_id().is_some() {
            self.expected.insert(resource_type);
        }
        self.holder(resource_type).begin();
        if resource_type.follows_selection() {
            self.scopes.insert(resource_type, links);
        }
    }

    /// Where the resources of a type are held.
    fn holder(&mut self, resource_type: ResourceType) -> Box<dyn Holder + '_> {
        let (facts, gatherings) = (&mut self.snapshot, &mut self.gatherings);
        match resource_type {
            ResourceType::Link => Box::new((&mut gatherings.links, &mut facts.links)),
            ResourceType::Address => Box::new((&mut gatherings.addresses, &mut facts.addresses)),
            ResourceType::AddressSpec => Box::new((&mut gatherings.address_specs, &mut facts.address_specs)),
            ResourceType::Route => Box::new((&mut gatherings.routes, &mut facts.routes)),
            ResourceType::NodeAddress => {
                Box::new((&mut gatherings.node_addresses, &mut facts.node_addresses))
            }
            ResourceType::NodeIp => Box::new((&mut gatherings.node_ips, &mut facts.node_ips)),
            ResourceType::Hostname => Box::new(&mut facts.hostname),
            ResourceType::Resolver => Box::new(&mut facts.resolvers),
            ResourceType::Machine => Box::new(&mut facts.machine),
            ResourceType::Security => Box::new(&mut facts.security),
            ResourceType::MachineType => Box::new(&mut facts.machine_type),
            ResourceType::Nodename => Box::new(&mut facts.nodename),
            ResourceType::Node => Box::new((&mut gatherings.nodes, &mut facts.nodes)),
            ResourceType::Cluster => Box::new(&mut facts.cluster_name),
            ResourceType::Schematic => Box::new(&mut facts.schematic),
            ResourceType::Extension => Box::new((&mut gatherings.extensions, &mut facts.extensions)),
            ResourceType::BootId => Box::new(&mut facts.boot_id),
            ResourceType::Disk => Box::new((&mut gatherings.disks, &mut facts.disks)),
            ResourceType::DiscoveredVolume => {
                Box::new((&mut gatherings.discovered_volumes, &mut facts.discovered_volumes))
            }
            ResourceType::Volume => Box::new((&mut gatherings.volumes, &mut facts.volumes)),
            ResourceType::Mount => Box::new((&mut gatherings.mounts, &mut facts.mounts)),
            ResourceType::RuntimeMount => {
                Box::new((&mut gatherings.runtime_mounts, &mut facts.runtime_mounts))
            }
        }
    }

    fn put(&mut self, resource: Resource) -> bool {
        self.expected.remove(&resource.resource_type());
        let (facts, gatherings) = (&mut self.snapshot, &mut self.gatherings);
        match resource {
            Resource::Link(id, link) => {
                let changed = if link.is_candidate() {
                    gatherings.links.put(&mut facts.links, id, link)
                } else {
                    gatherings.links.remove(&mut facts.links, &id)
                };
                changed && {
                    self.select();
                    true
                }
            }
            Resource::Address(id, address) => {
                if is_selected(self.selected.as_deref(), &address.link_name) {
                    gatherings.addresses.put(&mut facts.addresses, id, address)
                } else {
                    gatherings.addresses.remove(&mut facts.addresses, &id)
                }
            }
            Resource::Route(id, route) => {
                if route.is_main_unicast() && is_selected(self.selected.as_deref(), &route.out_link_name) {
                    gatherings.routes.put(&mut facts.routes, id, route)
                } else {
                    gatherings.routes.remove(&mut facts.routes, &id)
                }
            }
            Resource::AddressSpec(id, spec) => {
                gatherings.address_specs.put(&mut facts.address_specs, id, spec)
            }
            Resource::NodeAddress(id, addresses) => {
                gatherings
                    .node_addresses
                    .put(&mut facts.node_addresses, id, addresses)
            }
            Resource::NodeIp(id, addresses) => gatherings.node_ips.put(&mut facts.node_ips, id, addresses),
            Resource::Hostname(value) => facts.hostname.learn(value),
            Resource::Resolver(value) => facts.resolvers.learn(value),
            Resource::Machine(value) => facts.machine.learn(value),
            Resource::Security(value) => facts.security.learn(value),
            Resource::MachineType(value) => facts.machine_type.learn(value),
            Resource::Nodename(value) => facts.nodename.learn(value),
            Resource::Node(id, node) => gatherings.nodes.put(&mut facts.nodes, id, node),
            Resource::Cluster(name) => facts.cluster_name.learn(name),
            Resource::Schematic(value) => facts.schematic.learn(value),
            Resource::Extension(id, value) => gatherings.extensions.put(&mut facts.extensions, id, value),
            Resource::BootId(value) => facts.boot_id.learn(value),
            Resource::Disk(id, disk) => gatherings.disks.put(&mut facts.disks, id, disk),
            Resource::DiscoveredVolume(id, volume) => {
                gatherings
                    .discovered_volumes
                    .put(&mut facts.discovered_volumes, id, volume)
            }
            Resource::Volume(id, volume) => gatherings.volumes.put(&mut facts.volumes, id, volume),
            Resource::Mount(id, mount) => gatherings.mounts.put(&mut facts.mounts, id, mount),
            Resource::RuntimeMount(id, mount) => {
                gatherings
                    .runtime_mounts
                    .put(&mut facts.runtime_mounts, id, mount)
            }
        }
    }

    fn remove(&mut self, resource_type: ResourceType, id: &str, now: SystemTime) -> bool {
        if resource_type.only_id().is_some() {
            return self.lose(resource_type, now);
        }
        let changed = self.holder(resource_type).remove(id);
        if changed && resource_type == ResourceType::Link {
            self.select();
        }
        changed
    }

    /// It exists, so it is not missing; its last value stays in the state it is in.
    fn keep(&mut self, resource_type: ResourceType, id: String) {
        self.expected.remove(&resource_type);
        self.holder(resource_type).keep(id);
    }

    fn complete(&mut self, resource_type: ResourceType, now: SystemTime) -> bool {
        let answered = !resource_type.follows_selection()
            || (self.selected.is_some() && self.scopes.get(&resource_type) == self.selected.as_ref());
        if answered {
            self.unanswered.remove(&resource_type);
        }
        if self.expected.contains(&resource_type) {
            return self.lose(resource_type, now);
        }
        let changed = self.holder(resource_type).complete();
        if changed && resource_type == ResourceType::Link {
            self.select();
        }
        changed
    }

    /// Marks what is known of this type as stale and forgets what was being gathered.
    fn lose(&mut self, resource_type: ResourceType, now: SystemTime) -> bool {
        self.expected.remove(&resource_type);
        self.scopes.remove(&resource_type);
        self.holder(resource_type).lose(now)
    }

    /// The links changed: asks which are selected, and drops what belongs to others.
    fn select(&mut self) {
        let Fact::Known { value: links } = &self.snapshot.links else {
            return;
        };
        let selected = (self.selection)(links);
        if self.selected.as_deref() == Some(&selected) {
            return;
        }
        let (facts, gatherings) = (&mut self.snapshot, &mut self.gatherings);
        gatherings.addresses.retain(&mut facts.addresses, |address| {
            selected.contains(&address.link_name)
        });
        gatherings
            .routes
            .retain(&mut facts.routes, |route| selected.contains(&route.out_link_name));
        self.selected = Some(Arc::new(selected));
        self.unanswered.extend(
            ResourceType::ALL
                .into_iter()
                .filter(|known| known.follows_selection()),
        );
    }
}

fn is_selected(selected: Option<&BTreeSet<String>>, link: &str) -> bool {
    selected.is_some_and(|selected| selected.contains(link))
}

#[cfg(test)]
mod tests;
