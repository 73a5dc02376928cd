//! Commands carried out.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tonic::Code;

use super::{
    Inner,
    calls::{Call, code_name},
    command::{Command, Expected, ParseError, ResourceChange, Switch},
    crowd,
    faults::Welcome,
    listener::Order,
    network::{edit, node_addresses},
    script, stage,
    store::{Document, Store, StoreError},
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The line is no command.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The state could not be changed so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An expectation was not met.
    #[error("{0}")]
    Unmet(String),
    /// The node is about to end.
    #[error("the node is stopping")]
    Stopping,
}

/// Time that the socket has to go away once that was ordered.
const UNLINK: Duration = Duration::from_secs(5);

impl Inner {
    pub(super) async fn apply(&self, command: Command) -> Result<Value, CommandError> {
        match command {
            Command::SetHostname(name, domain) => self.put(script::hostname(&name, &domain)),
            Command::SetResolvers(servers, search) => {
                let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
                self.put(script::resolvers(&servers, &search))
            }
            Command::SetStage(name, unmet) => {
                let changed = stage::set(&self.store, &name, unmet.is_none(), unmet.as_slice())?;
                Ok(json!({ "changed": changed }))
            }
            Command::AddLink(_)
            | Command::RemoveLink(_)
            | Command::SetLink(..)
            | Command::AddAddress(_)
            | Command::RemoveAddress(..)
            | Command::AddRoute(_)
            | Command::RemoveRoute(_)
            | Command::PutResource(_)
            | Command::Resource(..) => {
                change(&self.store, command)?;
                node_addresses::update(&self.store)?;
                Ok(json!({}))
            }
            Command::Crowd { links, addresses } => {
                crowd::add(&self.store, links, addresses)?;
                node_addresses::update(&self.store)?;
                Ok(json!({}))
            }
            Command::Churn(change) => {
                self.churn.set(change);
                Ok(json!({}))
            }
            Command::PeerCheck(on) => {
                self.peers.set(on);
                Ok(json!({}))
            }
            Command::ServicePid(service, pid) => {
                Ok(json!({ "changed": self.peers.register(&service, pid)? }))
            }
            Command::SetFilesystem(stat) => {
                self.filesystems.set(stat);
                Ok(json!({}))
            }
            Command::SetContainer(container) => {
                self.containers.set(container);
                Ok(json!({}))
            }
            Command::RemoveContainer(id) => Ok(json!({ "changed": self.containers.remove(&id) })),
            Command::RemoveFilesystem(target) => Ok(json!({ "changed": self.filesystems.remove(&target) })),
            Command::Stall(switch) => {
                match switch {
                    Switch::On => self.faults.stall(None),
                    Switch::Off => self.faults.release(),
                    Switch::For(time) => self.faults.stall(Some(Instant::now() + time)),
                }
                Ok(json!({}))
            }
            Command::HangNew(on) => {
                self.faults
                    .set_welcome(if on { Welcome::Hang } else { Welcome::Serve });
                Ok(json!({}))
            }
            Command::Garbage(on) => {
                self.faults
                    .set_welcome(if on { Welcome::Garbage } else { Welcome::Serve });
                // Who is connected would not notice otherwise.
                if on { self.cut().await } else { Ok(json!({})) }
            }
            Command::Tear(torn) => {
                self.faults.tear().arm(torn);
                Ok(json!({}))
            }
            Command::Refuse(code, method, text) => {
                let text = match (text.as_str(), code) {
                    ("", Code::PermissionDenied) => "not authorized",
                    ("", code) => code.description(),
                    (text, _) => text,
                };
                self.faults.refuse(&method, code, text);
                Ok(json!({}))
            }
            Command::Accept(method) => {
                self.faults.accept(method.as_deref());
                Ok(json!({}))
            }
            Command::Restart { drain, down_for } => self.restart(drain, down_for).await,
            Command::Cut => self.cut().await,
            Command::Power(effect) => {
                self.power.set(effect);
                Ok(json!({}))
            }
            Command::EndEvents => {
                self.events.end();
                Ok(json!({}))
            }
            Command::Maintenance => {
                stage::enter_maintenance(&self.store)?;
                node_addresses::update(&self.store)?;
                Ok(json!({}))
            }
            Command::Report(version) => {
                self.reported.set(Some(version));
                Ok(json!({}))
            }
            Command::Calls(method) => {
                let calls = self.calls.list();
                let wanted = |call: &Call| method.as_ref().is_none_or(|method| call.method == *method);
                let calls: Vec<_> = calls.into_iter().filter(wanted).collect();
                Ok(json!({ "calls": calls }))
            }
            Command::ExpectCall(expected, count, within) => self.expect(&expected, count, within).await,
            Command::ExpectNoCall(expected, time) => self.expect_none(&expected, time).await,
            Command::ExpectListening(within) => {
                let mut listening = self.listening.subscribe();
                let up = timeout_at(Instant::now() + within, listening.wait_for(|up| *up)).await;
                match up {
                    Ok(Ok(_)) => Ok(json!({})),
                    _ => Err(CommandError::Unmet(format!("not listening after {within:?}"))),
                }
            }
            Command::ResetCalls => {
                self.calls.clear();
                Ok(json!({}))
            }
            Command::State => Ok(json!({
                "talos": self.store.release().to_string(),
                "listening": *self.listening.borrow(),
                "resources": self.store.dump(),
            })),
        }
    }

    fn put(&self, document: Document) -> Result<Value, CommandError> {
        Ok(json!({ "changed": self.store.put(document)? }))
    }

    /// Returns when the socket file is gone; draining and coming back go on.
    async fn restart(&self, drain: Option<Duration>, down_for: Duration) -> Result<Value, CommandError> {
        let (unlinked, gone) = oneshot::channel();
        let order = Order {
            drain,
            down: Some(down_for),
            only_connections: false,
            unlinked: Some(unlinked),
        };
        self.orders
            .send(order)
            .await
            .map_err(|_| CommandError::Stopping)?;
        // An order to a listener that is already down drops the sender.
        match timeout_at(Instant::now() + UNLINK, gone).await {
            Ok(_) => Ok(json!({})),
            Err(_) => Err(CommandError::Unmet(format!(
                "the socket is still there after {UNLINK:?}"
            ))),
        }
    }

    async fn cut(&self) -> Result<Value, CommandError> {
        let order = Order {
            only_connections: true,
            ..Order::vanish()
        };
        self.orders
            .send(order)
            .await
            .map_err(|_| CommandError::Stopping)?;
        Ok(json!({}))
    }

    fn matching(&self, expected: &Expected) -> Vec<Call> {
        let outcome = expected.outcome.map(code_name);
        let mut calls = self.calls.list();
        calls.retain(|call| {
            call.method == expected.method
                && expected
                    .role
                    .as_ref()
                    .is_none_or(|role| call.roles == [role.as_str()])
                && (outcome.is_none() || call.outcome == outcome)
                && expected
                    .request
                    .iter()
                    .all(|(key, value)| call.request.get(key.as_str()) == Some(value))
        });
        calls
    }

    async fn expect(
        &self,
        expected: &Expected,
        count: Option<usize>,
        within: Duration,
    ) -> Result<Value, CommandError> {
        let deadline = Instant::now() + within;
        let mut changes = self.calls.changes();
        loop {
            changes.mark_unchanged();
            let calls = self.matching(expected);
            let enough = calls.len() >= count.unwrap_or(1);
            if enough && count.is_none_or(|count| calls.len() == count) {
                return Ok(json!({ "calls": calls }));
            }
            let late = timeout_at(deadline, changes.changed()).await.is_err();
            if late || (enough && count.is_some()) {
                let wanted = count.map_or("at least 1".to_owned(), |count| count.to_string());
                return Err(CommandError::Unmet(format!(
                    "{} calls of {} match within {within:?}, expected {wanted}",
                    calls.len(),
                    expected.method
                )));
            }
        }
    }

    async fn expect_none(&self, expected: &Expected, time: Duration) -> Result<Value, CommandError> {
        let deadline = Instant::now() + time;
        let mut changes = self.calls.changes();
        loop {
            changes.mark_unchanged();
            let calls = self.matching(expected).len();
            if calls > 0 {
                let text = format!("{calls} calls of {} match, expected none", expected.method);
                return Err(CommandError::Unmet(text));
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(json!({}));
            }
        }
    }
}

/// A change of resources.
pub(super) fn change(store: &Store, command: Command) -> Result<(), StoreError> {
    match command {
        Command::AddLink(new) => _ = store.put(edit::link(store, new)?.document())?,
        Command::RemoveLink(name) => edit::remove_link(store, &name)?,
        Command::SetLink(name, up) => _ = edit::set_link(store, &name, up)?,
        Command::AddAddress(new) => {
            for document in edit::address(store, new)?.documents() {
                store.put(document)?;
            }
        }
        Command::RemoveAddress(link, prefix) => edit::remove_address(store, &link, prefix)?,
        Command::AddRoute(new) => _ = store.put(edit::route(store, new)?.document())?,
        Command::RemoveRoute(new) => {
            let document = edit::route(store, new)?.document();
            store.remove(None, &document.kind, &document.id)?;
        }
        Command::PutResource(document) => _ = store.put(document)?,
        Command::Resource(change, namespace, name, id) => match change {
            ResourceChange::Remove => store.remove(namespace.as_deref(), &name, &id)?,
            ResourceChange::TearDown => store.tear_down(namespace.as_deref(), &name, &id)?,
            ResourceChange::Overrun => store.overrun(&store.kind(namespace.as_deref(), &name)?.0),
        },
        // The rest changes no resource.
        _ => {}
    }
    Ok(())
}
