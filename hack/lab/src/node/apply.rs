//! Commands carried out.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    Inner,
    calls::{Call, code_name},
    command::{Command, Expected, NewAddress, NewLink, NewRoute, ParseError, ResourceChange, Switch},
    faults::Welcome,
    listener::Order,
    network::{self, Address, Link, Route, node_addresses},
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
/// The drivers whose links are adapters.
const ADAPTERS: [(&str, &str); 4] = [
    ("vmxnet3", "15AD:07B0"),
    ("e1000", "8086:100F"),
    ("e1000e", "8086:10D3"),
    ("virtio_net", "1AF4:1000"),
];
/// PCI address of an adapter that has none given; the first vmxnet3 of a VM usually has this one.
const BUS: &str = "0000:0b:00.0";
/// 802.1Q
const VLAN_PROTOCOL: u32 = 0x8100;

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
            Command::Refuse(code, method, text) => {
                let text = if text.is_empty() { "not authorized" } else { &text };
                self.faults.refuse(&method, code, text);
                Ok(json!({}))
            }
            Command::Accept(method) => {
                self.faults.accept(method.as_deref());
                Ok(json!({}))
            }
            Command::Restart { drain, down_for } => self.restart(drain, down_for).await,
            Command::Cut => self.cut().await,
            Command::Power(going_down) => {
                self.power.set(going_down);
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
        Command::AddLink(new) => _ = store.put(link(store, new)?.document())?,
        Command::RemoveLink(name) => network::remove_link(store, &name)?,
        Command::SetLink(name, up) => _ = network::set_link(store, &name, up)?,
        Command::AddAddress(new) => {
            for document in address(store, new)?.documents() {
                store.put(document)?;
            }
        }
        Command::RemoveAddress(link, prefix) => network::remove_address(store, &link, prefix)?,
        Command::AddRoute(new) => _ = store.put(route(store, new)?.document())?,
        Command::RemoveRoute(new) => {
            let document = route(store, new)?.document();
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

fn link(store: &Store, new: NewLink) -> Result<Link, StoreError> {
    let adapter = ADAPTERS.iter().find(|(driver, _)| *driver == new.kind);
    let loopback = new.kind == "loopback";
    let mac = match new.mac {
        Some(mac) => mac,
        None if loopback => "00:00:00:00:00:00".to_owned(),
        None => {
            let [a, b, c, ..] = fastrand::u32(..).to_be_bytes();
            // VMware's range for addresses that are set by hand.
            format!("00:50:56:{:02x}:{b:02x}:{c:02x}", a & 0x3f)
        }
    };
    let index = |name: Option<&String>| name.map_or(Ok(0), |name| network::link_index(store, name));
    let master_index = index(new.master.as_ref())?;
    let slave_kind = match &new.master {
        Some(master) => network::link_kind(store, master)?,
        None => String::new(),
    };
    Ok(Link {
        index: new.index.unwrap_or_else(|| network::free_index(store)),
        link_type: if loopback {
            network::LOOPBACK
        } else {
            network::ETHER
        },
        kind: if adapter.is_some() || loopback {
            String::new()
        } else {
            new.kind.clone()
        },
        slave_kind,
        flags: match (new.down, loopback) {
            (true, _) => network::FLAGS_DOWN,
            // UP | LOOPBACK | RUNNING | LOWER_UP
            (false, true) => 0x1_0049,
            (false, false) => network::FLAGS_UP,
        },
        operational_state: match (new.down, loopback) {
            (true, _) => network::OPER_DOWN,
            (false, true) => 0,
            (false, false) => network::OPER_UP,
        },
        carrier: !new.down,
        permanent_addr: match (new.permanent_mac, adapter) {
            (Some(mac), _) => mac,
            (None, Some(_)) => mac.clone(),
            (None, None) => String::new(),
        },
        broadcast_addr: if loopback {
            "00:00:00:00:00:00"
        } else {
            "ff:ff:ff:ff:ff:ff"
        }
        .to_owned(),
        hardware_addr: mac,
        mtu: new.mtu.unwrap_or(if loopback { 65536 } else { 1500 }),
        queue_disc: if adapter.is_some() { "mq" } else { "noqueue" }.to_owned(),
        master_index,
        link_index: index(new.parent.as_ref())?,
        driver: adapter.map_or("", |(driver, _)| driver).to_owned(),
        pci_id: adapter.map_or("", |(_, id)| id).to_owned(),
        bus_path: match (new.bus, adapter) {
            (Some(bus), _) => bus,
            (None, Some(_)) => BUS.to_owned(),
            (None, None) => String::new(),
        },
        speed: new.speed.unwrap_or(0),
        alias: String::new(),
        alt_names: Vec::new(),
        vlan: new.vid.map(|id| (id, VLAN_PROTOCOL)),
        name: new.name,
    })
}

fn address(store: &Store, new: NewAddress) -> Result<Address, StoreError> {
    let address = new.prefix.address;
    Ok(Address {
        index: network::link_index(store, &new.link)?,
        link: new.link,
        prefix: new.prefix,
        local: new.local.or(address.is_ipv4().then_some(address)),
        broadcast: network::broadcast_of(new.prefix),
        flags: new.flags,
        scope: new.scope.unwrap_or_else(|| network::scope_of(address)),
        priority: new.priority,
        origin: new.origin,
    })
}

fn route(store: &Store, new: NewRoute) -> Result<Route, StoreError> {
    let example = new
        .gateway
        .or(new.destination.map(|destination| destination.address));
    let link = new.link.unwrap_or_default();
    Ok(Route {
        ipv6: example.is_some_and(|address| address.is_ipv6()),
        index: if link.is_empty() {
            0
        } else {
            network::link_index(store, &link)?
        },
        link,
        destination: new.destination,
        source: new.source,
        gateway: new.gateway,
        table: new.table,
        priority: new.priority,
        // RT_SCOPE_LINK for what is on the link, RT_SCOPE_UNIVERSE for what a gateway leads to.
        scope: if new.gateway.is_some() { 0 } else { 253 },
        route_type: 1,
        flags: 0,
        protocol: new.protocol,
        mtu: 0,
        next_hops: Vec::new(),
    })
}
