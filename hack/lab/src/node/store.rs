//! The resources of the node and their history, by the rules of COSI's in-memory state.
//!
//! ```text
//!  put/remove --> Collection { items, history of 1024 changes } --wake--> Feed (one per watch) --> changes
//! ```
//!
//! A watch reads the history at its own pace; one that falls more than the history behind is told so and gets
//! nothing more (`cosi-project/runtime pkg/state/impl/inmem/collection.go`).

mod feed;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use talos_vmtoolsd::pb::cosi::resource as pb;
use tokio::sync::watch;

pub use feed::{Feed, Overrun};

use super::{
    release::Release,
    schema,
    spec::{Spec, SpecError},
};

/// Changes that a collection remembers; Talos lets the history grow to this size.
pub const HISTORY: u64 = 1024;

/// The version of a resource that does not exist.
const UNDEFINED: &str = "undefined";
const RUNNING: &str = "running";
const TEARING_DOWN: &str = "tearingDown";

/// Why a resource could not be stored, changed or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The release does not have the type.
    #[error("resource type {name:?} is not known to Talos {release}")]
    UnknownType {
        /// The name that was given.
        name: String,
        /// The release that the node plays.
        release: Release,
    },
    /// No such namespace exists.
    #[error("namespace {0:?} is not known")]
    UnknownNamespace(String),
    /// The spec does not fit its type.
    #[error("spec of {kind} {id:?}: {mistake}")]
    Spec {
        /// The type.
        kind: &'static str,
        /// The resource id.
        id: String,
        /// What is wrong with it.
        mistake: SpecError,
    },
    /// There is no such resource.
    #[error("resource {0} doesn't exist")]
    NotFound(String),
}

/// A resource as people write it: in state files, on the control socket and in the state dump.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The namespace; the one that the type usually lives in when absent.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The full type name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The id.
    pub id: String,
    /// The owning controller; the one that owns the type on a node when absent.
    #[serde(default)]
    pub owner: Option<String>,
    /// The spec, with the keys and values of Talos's YAML.
    #[serde(default)]
    pub spec: Value,
}

impl Document {
    /// A resource in the usual namespace of its type.
    pub fn new(kind: &str, id: impl Into<String>, spec: Value) -> Self {
        Self {
            namespace: None,
            kind: kind.to_owned(),
            id: id.into(),
            owner: None,
            spec,
        }
    }

    /// The same in another namespace.
    pub fn within(self, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..self
        }
    }
}

/// A stored resource: the message as a node sends it, and the spec that it was made of.
#[derive(Debug, PartialEq)]
pub struct Resource {
    /// Metadata and both forms of the spec.
    pub message: pb::Resource,
    /// The spec as it was given.
    pub spec: Value,
}

impl Resource {
    /// The id.
    pub fn id(&self) -> &str {
        self.message.metadata.as_ref().map_or("", |metadata| &metadata.id)
    }
}

/// One entry of the history.
#[derive(Clone, Debug)]
pub struct Change {
    /// CREATED, UPDATED or DESTROYED.
    pub event: pb::EventType,
    /// The resource after the change; the last one when destroyed.
    pub resource: Arc<Resource>,
    /// The resource before an update.
    pub old: Option<Arc<Resource>>,
    /// Place in the history of the collection, from 0.
    pub position: u64,
}

/// A namespace and a type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The namespace.
    pub namespace: String,
    /// The type in Talos's spelling.
    pub name: &'static str,
}

struct Collection {
    items: BTreeMap<String, Arc<Resource>>,
    history: VecDeque<Change>,
    written: u64,
    /// Counts the overruns that were asked for; a feed that began before one is overrun.
    overruns: u64,
    /// Carries nothing: every send wakes the feeds.
    wake: watch::Sender<()>,
}

impl Collection {
    fn new() -> Self {
        Self {
            items: BTreeMap::new(),
            history: VecDeque::new(),
            written: 0,
            overruns: 0,
            wake: watch::Sender::new(()),
        }
    }

    fn publish(&mut self, event: pb::EventType, resource: Arc<Resource>, old: Option<Arc<Resource>>) {
        if self.history.len() as u64 == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Change {
            event,
            resource,
            old,
            position: self.written,
        });
        self.written += 1;
        self.wake.send_replace(());
    }
}

/// All resources of a node.
pub struct Store {
    release: Release,
    clock: fn() -> SystemTime,
    cookie: [u8; 8],
    collections: Mutex<BTreeMap<Kind, Collection>>,
}

impl Store {
    /// An empty store that speaks as `release` does and takes the time from `clock`.
    pub fn new(release: Release, clock: fn() -> SystemTime) -> Self {
        Self {
            release,
            clock,
            cookie: fastrand::u64(..).to_be_bytes(),
            collections: Mutex::default(),
        }
    }

    /// The release that the resources are encoded for.
    pub fn release(&self) -> Release {
        self.release
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, Collection>> {
        self.collections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time as metadata carries it.
    pub fn now(&self) -> Timestamp {
        (self.clock)().into()
    }

    /// Names a collection, in `namespace` or where the type usually lives.
    pub fn kind(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(Kind, &'static schema::Type), StoreError> {
        let known = schema::find(name, self.release).ok_or_else(|| StoreError::UnknownType {
            name: name.to_owned(),
            release: self.release,
        })?;
        let namespace = namespace.unwrap_or(known.namespace);
        if !schema::NAMESPACES.contains(&namespace) {
            return Err(StoreError::UnknownNamespace(namespace.to_owned()));
        }
        let kind = Kind {
            namespace: namespace.to_owned(),
            name: known.name,
        };
        Ok((kind, known))
    }

    /// Creates the resource, or updates it when its spec or owner differs. Says whether anything changed.
    pub fn put(&self, document: Document) -> Result<bool, StoreError> {
        let (kind, known) = self.kind(document.namespace.as_deref(), &document.kind)?;
        let spec = Spec::read(known, &document.spec, self.release).map_err(|mistake| StoreError::Spec {
            kind: kind.name,
            id: document.id.clone(),
            mistake,
        })?;
        let spec = pb::Spec {
            proto_spec: spec.encode(),
            yaml_spec: spec.yaml(),
        };
        let now = self.now();
        let mut collections = self.lock();
        let collection = collections.entry(kind.clone()).or_insert_with(Collection::new);
        let old = collection.items.get(&document.id).cloned();
        let old_metadata = old.as_ref().and_then(|old| old.message.metadata.as_ref());
        // What was tearing down and is put again is a new resource.
        let continued = old_metadata.filter(|metadata| metadata.phase == RUNNING).cloned();
        let continues = continued.is_some();
        let mut metadata = continued.unwrap_or_else(|| pb::Metadata {
            namespace: kind.namespace,
            r#type: kind.name.to_owned(),
            id: document.id.clone(),
            owner: known.owner.to_owned(),
            phase: RUNNING.to_owned(),
            created: Some(now),
            ..Default::default()
        });
        let taken_over = document.owner.filter(|owner| *owner != metadata.owner);
        let same = old
            .as_ref()
            .is_some_and(|old| old.message.spec.as_ref() == Some(&spec));
        if continues && same && taken_over.is_none() {
            return Ok(false);
        }
        if let Some(owner) = taken_over {
            metadata.owner = owner;
        }
        metadata.version = next_version(&metadata.version);
        metadata.updated = Some(now);
        let resource = Arc::new(Resource {
            message: pb::Resource {
                metadata: Some(metadata),
                spec: Some(spec),
            },
            spec: document.spec,
        });
        collection.items.insert(document.id, Arc::clone(&resource));
        match old {
            Some(old) if continues => collection.publish(pb::EventType::Updated, resource, Some(old)),
            Some(old) => {
                collection.publish(pb::EventType::Destroyed, old, None);
                collection.publish(pb::EventType::Created, resource, None);
            }
            None => collection.publish(pb::EventType::Created, resource, None),
        }
        Ok(true)
    }

    /// Puts the resource into phase `tearingDown`, where it stays until it is removed.
    pub fn tear_down(&self, namespace: Option<&str>, name: &str, id: &str) -> Result<(), StoreError> {
        let (kind, _) = self.kind(namespace, name)?;
        let now = self.now();
        let mut collections = self.lock();
        let collection = collections.entry(kind.clone()).or_insert_with(Collection::new);
        let old = collection
            .items
            .get(id)
            .cloned()
            .ok_or_else(|| not_found(&kind, id))?;
        let mut message = old.message.clone();
        if let Some(metadata) = message.metadata.as_mut() {
            metadata.version = next_version(&metadata.version);
            metadata.phase = TEARING_DOWN.to_owned();
            metadata.updated = Some(now);
        }
        let resource = Arc::new(Resource {
            message,
            spec: old.spec.clone(),
        });
        collection.items.insert(id.to_owned(), Arc::clone(&resource));
        collection.publish(pb::EventType::Updated, resource, Some(old));
        Ok(())
    }

    /// Destroys the resource.
    pub fn remove(&self, namespace: Option<&str>, name: &str, id: &str) -> Result<(), StoreError> {
        let (kind, _) = self.kind(namespace, name)?;
        let mut collections = self.lock();
        let collection = collections.entry(kind.clone()).or_insert_with(Collection::new);
        let gone = collection.items.remove(id).ok_or_else(|| not_found(&kind, id))?;
        collection.publish(pb::EventType::Destroyed, gone, None);
        Ok(())
    }

    /// The resource called `id`.
    pub fn get(&self, kind: &Kind, id: &str) -> Result<Arc<Resource>, StoreError> {
        self.lock()
            .get(kind)
            .and_then(|collection| collection.items.get(id))
            .cloned()
            .ok_or_else(|| not_found(kind, id))
    }

    /// All resources of a collection, by id.
    pub fn list(&self, kind: &Kind) -> Vec<Arc<Resource>> {
        self.lock()
            .get(kind)
            .map(|collection| collection.items.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Everything that is stored, as documents.
    pub fn dump(&self) -> Vec<Document> {
        let collections = self.lock();
        let all = collections.iter().flat_map(|(kind, collection)| {
            collection.items.iter().map(|(id, resource)| Document {
                namespace: Some(kind.namespace.clone()),
                kind: kind.name.to_owned(),
                id: id.clone(),
                owner: resource
                    .message
                    .metadata
                    .as_ref()
                    .map(|metadata| metadata.owner.clone()),
                spec: resource.spec.clone(),
            })
        });
        all.collect()
    }

    /// The present resources, and a feed of what happens from the last `tail` changes on.
    pub fn follow(self: &Arc<Self>, kind: &Kind, tail: u64) -> (Vec<Arc<Resource>>, Feed) {
        let mut collections = self.lock();
        let collection = collections.entry(kind.clone()).or_insert_with(Collection::new);
        let feed = Feed::new(Arc::clone(self), kind.clone(), collection, tail);
        (collection.items.values().cloned().collect(), feed)
    }

    /// Overruns every feed of the collection.
    pub fn overrun(&self, kind: &Kind) {
        if let Some(collection) = self.lock().get_mut(kind) {
            collection.overruns += 1;
            collection.wake.send_replace(());
        }
    }

    /// What stands for a resource that is not there.
    pub fn tombstone(&self, kind: &Kind, id: &str) -> pb::Resource {
        let now = self.now();
        pb::Resource {
            metadata: Some(pb::Metadata {
                namespace: kind.namespace.clone(),
                r#type: kind.name.to_owned(),
                id: id.to_owned(),
                version: UNDEFINED.to_owned(),
                phase: RUNNING.to_owned(),
                created: Some(now),
                updated: Some(now),
                ..Default::default()
            }),
            spec: Some(pb::Spec::default()),
        }
    }

    /// The bookmark of a place in a history: eight bytes of this run, eight of the place. The place before the first
    /// change is -1.
    pub fn bookmark(&self, position: Option<u64>) -> Vec<u8> {
        let mut bookmark = self.cookie.to_vec();
        bookmark.extend_from_slice(&position.unwrap_or(u64::MAX).to_be_bytes());
        bookmark
    }
}

fn not_found(kind: &Kind, id: &str) -> StoreError {
    StoreError::NotFound(format!("{}({}/{id})", kind.name, kind.namespace))
}

fn next_version(version: &str) -> String {
    version
        .parse::<u64>()
        .map_or(1, |version| version.saturating_add(1))
        .to_string()
}
