//! `cosi.resource.State`: Get, List and Watch over the store.
//!
//! The order of the checks and the texts are those of `cosi-project/runtime pkg/state/protobuf/server/server.go` and of
//! Talos's access filter `internal/app/resources/access.go`.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures::{Stream, stream};
use regex::Regex;
use talos_vmtoolsd::pb::cosi::resource as pb;
use tonic::{Request, Response, Status};

use super::{
    access::{Role, Roles, not_authorized},
    machine::note,
    schema,
    store::{Change, Feed, Kind, Resource, Store, StoreError},
};
use crate::pb::cosi::resource::state_server;

type Reply<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
pub struct State {
    /// What it serves.
    pub store: Arc<Store>,
}

impl State {
    /// Refuses what machined refuses: unknown types, Sensitive types without os:admin, unknown namespaces.
    fn access<T>(&self, request: &Request<T>, namespace: &str, name: &str) -> Result<Kind, Status> {
        note(request, "namespace", namespace);
        note(request, "type", name);
        let release = self.store.release();
        let known = schema::find(name, release)
            .ok_or_else(|| Status::permission_denied(format!("resource type {name:?} is not supported")))?;
        let roles = request.extensions().get::<Roles>();
        if known.is_sensitive(release) && !roles.is_some_and(|roles| roles.allow(Role::Admin)) {
            return Err(not_authorized());
        }
        let (kind, _) = self
            .store
            .kind(Some(namespace), name)
            .map_err(|_| Status::permission_denied(format!("namespace {namespace:?} is not supported")))?;
        Ok(kind)
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::not_found(error.to_string()),
            other => Self::unknown(other.to_string()),
        }
    }
}

/// Which resources of a kind a caller asked for.
struct Selection {
    id: Option<String>,
    ids: Option<Regex>,
}

impl Selection {
    fn new(id: Option<String>, query: Option<&pb::IdQuery>) -> Result<Self, Status> {
        let ids = query
            .map(|query| Regex::new(&query.regexp))
            .transpose()
            .map_err(|error| Status::unknown(format!("error parsing regexp: {error}")))?;
        Ok(Self { id, ids })
    }

    fn matches(&self, resource: &Resource) -> bool {
        self.id.as_deref().is_none_or(|id| id == resource.id())
            && self.ids.as_ref().is_none_or(|ids| ids.is_match(resource.id()))
    }
}

#[tonic::async_trait]
impl state_server::State for State {
    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let wanted = request.get_ref();
        note(&request, "id", &wanted.id);
        let kind = self.access(&request, &wanted.namespace, &wanted.r#type)?;
        let resource = self.store.get(&kind, &wanted.id)?;
        Ok(Response::new(pb::GetResponse {
            resource: Some(resource.message.clone()),
        }))
    }

    type ListStream = Reply<pb::ListResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let wanted = request.get_ref();
        let query = wanted
            .options
            .as_ref()
            .and_then(|options| options.id_query.as_ref());
        let selection = Selection::new(None, query)?;
        let kind = self.access(&request, &wanted.namespace, &wanted.r#type)?;
        let resources = self.store.list(&kind).into_iter();
        let chosen = resources.filter(move |resource| selection.matches(resource));
        let replies = chosen.map(|resource| {
            Ok(pb::ListResponse {
                resource: Some(resource.message.clone()),
            })
        });
        Ok(Response::new(Box::pin(stream::iter(replies))))
    }

    type WatchStream = Reply<pb::WatchResponse>;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let wanted = request.get_ref();
        let options = match &wanted.options {
            Some(options) => options.clone(),
            None if self.store.release().needs_options() => {
                let panic = "runtime error: invalid memory address or nil pointer dereference";
                return Err(Status::internal(panic));
            }
            None => pb::WatchOptions::default(),
        };
        if let Some(query) = &options.id_query {
            note(&request, "id_query", &query.regexp);
        }
        if let Some(id) = &wanted.id {
            note(&request, "id", id);
            if options.bootstrap_contents {
                let text = "bootstrap contents is not implemented for resource watch";
                return Err(Status::unimplemented(text));
            }
        }
        let selection = Selection::new(wanted.id.clone(), options.id_query.as_ref())?;
        let kind = self.access(&request, &wanted.namespace, &wanted.r#type)?;
        if options.bootstrap_contents && options.tail_events > 0 {
            let text = "cannot use BootstrapContents with TailEvents and StartFromBookmark options";
            return Err(Status::unknown(text));
        }
        let watch = Watch::begin(&self.store, &kind, selection, &options, wanted.api_version);
        Ok(Response::new(Box::pin(stream::unfold(watch, Watch::next))))
    }
}

/// One watch, from its first empty response on.
struct Watch {
    store: Arc<Store>,
    selection: Selection,
    feed: Feed,
    /// Events that are due, in order.
    due: VecDeque<pb::Event>,
    /// Several events share a response.
    aggregated: bool,
    /// The caller knows BOOTSTRAPPED and ERRORED.
    knows_control_events: bool,
    /// The empty response has been sent.
    established: bool,
    /// An ERRORED event ended it; the stream stays open and silent.
    broken: bool,
}

impl Watch {
    fn begin(
        store: &Arc<Store>,
        kind: &Kind,
        selection: Selection,
        options: &pb::WatchOptions,
        api_version: i32,
    ) -> Self {
        let tail = u64::try_from(options.tail_events).unwrap_or(0);
        let (present, feed) = store.follow(kind, tail);
        let mut due = VecDeque::new();
        let chosen = present.iter().filter(|resource| selection.matches(resource));
        match &selection.id {
            // The history alone answers a watch that asks for its tail.
            Some(_) if tail > 0 => {}
            Some(id) => {
                due.extend(chosen.map(|resource| created(resource)));
                if due.is_empty() {
                    due.push_back(pb::Event {
                        resource: Some(store.tombstone(kind, id)),
                        event_type: pb::EventType::Destroyed.into(),
                        ..Default::default()
                    });
                }
            }
            None if options.bootstrap_contents => {
                due.extend(chosen.map(|resource| created(resource)));
                due.push_back(pb::Event {
                    resource: Some(store.tombstone(kind, "")),
                    event_type: pb::EventType::Bootstrapped.into(),
                    bookmark: Some(store.bookmark(feed.place())),
                    ..Default::default()
                });
            }
            None => {}
        }
        Self {
            store: Arc::clone(store),
            // Only a watch of a kind can be aggregated.
            aggregated: options.aggregated && selection.id.is_none(),
            selection,
            feed,
            due,
            knows_control_events: api_version >= 1,
            established: false,
            broken: false,
        }
    }

    async fn next(mut self) -> Option<(Result<pb::WatchResponse, Status>, Self)> {
        if !self.established {
            self.established = true;
            return Some((Ok(pb::WatchResponse::default()), self));
        }
        loop {
            if let Some(response) = self.respond() {
                return Some((Ok(response), self));
            }
            if self.broken {
                std::future::pending::<()>().await;
            }
            match self.feed.next().await {
                Ok(changes) => {
                    let chosen = changes
                        .iter()
                        .filter(|change| self.selection.matches(&change.resource));
                    self.due.extend(chosen.map(|change| event(&self.store, change)));
                }
                Err(overrun) => {
                    self.broken = true;
                    self.due.push_back(pb::Event {
                        event_type: pb::EventType::Errored.into(),
                        error: Some(overrun.to_string()),
                        ..Default::default()
                    });
                }
            }
        }
    }

    /// The next response, if an event is due. One that lost all its events to the caller's age is sent empty when it is
    /// aggregated, and not at all otherwise.
    fn respond(&mut self) -> Option<pb::WatchResponse> {
        let understood = |event: &pb::Event| {
            self.knows_control_events
                || !matches!(
                    event.event_type(),
                    pb::EventType::Bootstrapped | pb::EventType::Errored
                )
        };
        if self.aggregated {
            if self.due.is_empty() {
                return None;
            }
            let event = self.due.drain(..).filter(understood).collect();
            return Some(pb::WatchResponse { event });
        }
        while let Some(event) = self.due.pop_front() {
            if understood(&event) {
                return Some(pb::WatchResponse { event: vec![event] });
            }
        }
        None
    }
}

fn created(resource: &Resource) -> pb::Event {
    pb::Event {
        resource: Some(resource.message.clone()),
        event_type: pb::EventType::Created.into(),
        ..Default::default()
    }
}

fn event(store: &Store, change: &Change) -> pb::Event {
    pb::Event {
        resource: Some(change.resource.message.clone()),
        event_type: change.event.into(),
        old: change.old.as_ref().map(|old| old.message.clone()),
        error: None,
        bookmark: Some(store.bookmark(Some(change.position))),
    }
}
