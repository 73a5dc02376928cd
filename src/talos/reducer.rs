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

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use super::{
    resource::ResourceType,
    snapshot::{
        AddressStatus, Fact, HostnameStatus, LinkStatus, MachineStatus, Prefix, ResolverStatus, RouteStatus,
        SecurityState, Snapshot, Version,
    },
};

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
    /// The value.
    Hostname(HostnameStatus),
    /// The value.
    Resolver(ResolverStatus),
    /// The value.
    Machine(MachineStatus),
    /// The value.
    Security(SecurityState),
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

/// Most resources of one type that are held. The addresses and routes of a node's adapters are dozens; with more, a
/// peer that invents them costs no memory.
pub const MAX_HELD: usize = 4096;

/// A collection, as it is being told anew.
#[derive(Debug)]
struct Gathering<T> {
    /// None once it is complete.
    set: Option<BTreeMap<String, T>>,
    /// There were more than are held.
    full: bool,
}

type Held<T> = Fact<Arc<BTreeMap<String, T>>>;

impl<T> Default for Gathering<T> {
    fn default() -> Self {
        Self {
            set: None,
            full: false,
        }
    }
}

impl<T: Clone + PartialEq> Gathering<T> {
    fn begin(&mut self) {
        self.set = Some(BTreeMap::new());
    }

    fn put(&mut self, fact: &mut Held<T>, id: String, value: T) -> bool {
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

    fn remove(&mut self, fact: &mut Held<T>, id: &str) -> bool {
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
    fn keep(&mut self, fact: &Held<T>, id: String) {
        if let (Some(set), Some(value)) = (&mut self.set, fact.value().and_then(|held| held.get(&id))) {
            set.entry(id).or_insert_with(|| value.clone());
        }
    }

    fn complete(&mut self, fact: &mut Held<T>) -> bool {
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

    fn lose(&mut self, fact: &mut Held<T>, now: SystemTime) -> bool {
        self.set = None;
        fact.silence(now)
    }

    /// Drops what `keep` refuses, from the fact and from what is being gathered.
    fn retain(&mut self, fact: &mut Held<T>, keep: impl Fn(&T) -> bool) -> bool {
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

/// Turns events into a snapshot.
pub struct Reducer {
    snapshot: Snapshot,
    selection: Selection,
    /// None until the links are known.
    selected: Option<Arc<BTreeSet<String>>>,
    links: Gathering<LinkStatus>,
    addresses: Gathering<AddressStatus>,
    routes: Gathering<RouteStatus>,
    node_addresses: Gathering<Vec<Prefix>>,
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
            links: Gathering::default(),
            addresses: Gathering::default(),
            routes: Gathering::default(),
            node_addresses: Gathering::default(),
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
        [
            (self.links.full, ResourceType::Link),
            (self.addresses.full, ResourceType::Address),
            (self.routes.full, ResourceType::Route),
            (self.node_addresses.full, ResourceType::NodeAddress),
        ]
        .into_iter()
        .filter_map(|(full, resource_type)| full.then_some(resource_type))
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
        match resource_type {
            ResourceType::Link => self.links.begin(),
            ResourceType::Address => self.addresses.begin(),
            ResourceType::Route => self.routes.begin(),
            ResourceType::NodeAddress => self.node_addresses.begin(),
            ResourceType::Hostname
            | ResourceType::Resolver
            | ResourceType::Machine
            | ResourceType::Security => {
                self.expected.insert(resource_type);
            }
        }
        if resource_type.follows_selection() {
            self.scopes.insert(resource_type, links);
        }
    }

    fn put(&mut self, resource: Resource) -> bool {
        let facts = &mut self.snapshot;
        match resource {
            Resource::Link(id, link) => {
                let changed = if link.is_candidate() {
                    self.links.put(&mut facts.links, id, link)
                } else {
                    self.links.remove(&mut facts.links, &id)
                };
                changed && {
                    self.select();
                    true
                }
            }
            Resource::Address(id, address) => {
                if is_selected(self.selected.as_deref(), &address.link_name) {
                    self.addresses.put(&mut facts.addresses, id, address)
                } else {
                    self.addresses.remove(&mut facts.addresses, &id)
                }
            }
            Resource::Route(id, route) => {
                if route.is_main_unicast() && is_selected(self.selected.as_deref(), &route.out_link_name) {
                    self.routes.put(&mut facts.routes, id, route)
                } else {
                    self.routes.remove(&mut facts.routes, &id)
                }
            }
            Resource::NodeAddress(id, addresses) => {
                self.node_addresses.put(&mut facts.node_addresses, id, addresses)
            }
            Resource::Hostname(value) => {
                self.expected.remove(&ResourceType::Hostname);
                facts.hostname.learn(value)
            }
            Resource::Resolver(value) => {
                self.expected.remove(&ResourceType::Resolver);
                facts.resolvers.learn(value)
            }
            Resource::Machine(value) => {
                self.expected.remove(&ResourceType::Machine);
                facts.machine.learn(value)
            }
            Resource::Security(value) => {
                self.expected.remove(&ResourceType::Security);
                facts.security.learn(value)
            }
        }
    }

    fn remove(&mut self, resource_type: ResourceType, id: &str, now: SystemTime) -> bool {
        let facts = &mut self.snapshot;
        match resource_type {
            ResourceType::Link => {
                self.links.remove(&mut facts.links, id) && {
                    self.select();
                    true
                }
            }
            ResourceType::Address => self.addresses.remove(&mut facts.addresses, id),
            ResourceType::Route => self.routes.remove(&mut facts.routes, id),
            ResourceType::NodeAddress => self.node_addresses.remove(&mut facts.node_addresses, id),
            ResourceType::Hostname
            | ResourceType::Resolver
            | ResourceType::Machine
            | ResourceType::Security => self.lose(resource_type, now),
        }
    }

    fn keep(&mut self, resource_type: ResourceType, id: String) {
        let facts = &self.snapshot;
        match resource_type {
            ResourceType::Link => self.links.keep(&facts.links, id),
            ResourceType::Address => self.addresses.keep(&facts.addresses, id),
            ResourceType::Route => self.routes.keep(&facts.routes, id),
            ResourceType::NodeAddress => self.node_addresses.keep(&facts.node_addresses, id),
            // It exists, so it is not missing; its last value stays in the state it is in.
            ResourceType::Hostname
            | ResourceType::Resolver
            | ResourceType::Machine
            | ResourceType::Security => {
                self.expected.remove(&resource_type);
            }
        }
    }

    fn complete(&mut self, resource_type: ResourceType, now: SystemTime) -> bool {
        let answered = !resource_type.follows_selection()
            || (self.selected.is_some() && self.scopes.get(&resource_type) == self.selected.as_ref());
        if answered {
            self.unanswered.remove(&resource_type);
        }
        let facts = &mut self.snapshot;
        match resource_type {
            ResourceType::Link => {
                self.links.complete(&mut facts.links) && {
                    self.select();
                    true
                }
            }
            ResourceType::Address => self.addresses.complete(&mut facts.addresses),
            ResourceType::Route => self.routes.complete(&mut facts.routes),
            ResourceType::NodeAddress => self.node_addresses.complete(&mut facts.node_addresses),
            ResourceType::Hostname
            | ResourceType::Resolver
            | ResourceType::Machine
            | ResourceType::Security => self.expected.remove(&resource_type) && self.lose(resource_type, now),
        }
    }

    /// Marks what is known of this type as stale and forgets what was being gathered.
    fn lose(&mut self, resource_type: ResourceType, now: SystemTime) -> bool {
        self.expected.remove(&resource_type);
        self.scopes.remove(&resource_type);
        let facts = &mut self.snapshot;
        match resource_type {
            ResourceType::Link => self.links.lose(&mut facts.links, now),
            ResourceType::Address => self.addresses.lose(&mut facts.addresses, now),
            ResourceType::Route => self.routes.lose(&mut facts.routes, now),
            ResourceType::NodeAddress => self.node_addresses.lose(&mut facts.node_addresses, now),
            ResourceType::Hostname => facts.hostname.silence(now),
            ResourceType::Resolver => facts.resolvers.silence(now),
            ResourceType::Machine => facts.machine.silence(now),
            ResourceType::Security => facts.security.silence(now),
        }
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
        self.addresses.retain(&mut self.snapshot.addresses, |address| {
            selected.contains(&address.link_name)
        });
        self.routes.retain(&mut self.snapshot.routes, |route| {
            selected.contains(&route.out_link_name)
        });
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
