//! Changes of the network that commands ask for.

use serde_json::{Value, json};

use super::{
    super::{
        command::{NewAddress, NewLink, NewRoute},
        schema::network::{ADDRESS_SPECS, ADDRESS_STATUSES, LINK_STATUSES, NAMESPACE, ROUTE_STATUSES},
        spec::Prefix,
        store::{Document, Store, StoreError},
    },
    Address, ETHER, FLAGS_DOWN, FLAGS_UP, LOOPBACK, Link, OPER_DOWN, OPER_UP, Route, broadcast_of, kind,
    scope_of,
};

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

/// The index of the link called `name`.
fn link_index(store: &Store, name: &str) -> Result<u32, StoreError> {
    let link = store.get(&kind(LINK_STATUSES), name)?;
    Ok(link
        .spec
        .get("index")
        .and_then(Value::as_u64)
        .and_then(|index| u32::try_from(index).ok())
        .unwrap_or(0))
}

/// The kind of the link called `name`.
fn link_kind(store: &Store, name: &str) -> Result<String, StoreError> {
    let link = store.get(&kind(LINK_STATUSES), name)?;
    let kind = link.spec.get("kind").and_then(Value::as_str);
    Ok(kind.unwrap_or_default().to_owned())
}

/// An index that no link has.
fn free_index(store: &Store) -> u32 {
    let links = store.list(&kind(LINK_STATUSES));
    let indexes = links.iter().filter_map(|link| link.spec.get("index")?.as_u64());
    let last = indexes.max().unwrap_or(0);
    u32::try_from(last).unwrap_or(0).saturating_add(1)
}

/// Sets a link up, with carrier, or down.
pub fn set_link(store: &Store, name: &str, up: bool) -> Result<bool, StoreError> {
    let mut spec = store.get(&kind(LINK_STATUSES), name)?.spec.clone();
    if let Value::Object(fields) = &mut spec {
        fields.insert("flags".into(), json!(if up { FLAGS_UP } else { FLAGS_DOWN }));
        fields.insert(
            "operationalState".into(),
            json!(if up { OPER_UP } else { OPER_DOWN }),
        );
        fields.insert("linkState".into(), json!(up));
    }
    store.put(Document::new(LINK_STATUSES, name, spec))
}

/// Removes a link with its addresses and routes, as the kernel does. What was configured stays configured.
pub fn remove_link(store: &Store, name: &str) -> Result<(), StoreError> {
    store.remove(None, LINK_STATUSES, name)?;
    for (kind_name, field) in [(ADDRESS_STATUSES, "linkName"), (ROUTE_STATUSES, "outLinkName")] {
        for resource in store.list(&kind(kind_name)) {
            if resource.spec.get(field).and_then(Value::as_str) == Some(name) {
                store.remove(None, kind_name, resource.id())?;
            }
        }
    }
    Ok(())
}

/// Removes an address and everything that asked for it.
pub fn remove_address(store: &Store, link: &str, prefix: Prefix) -> Result<(), StoreError> {
    let id = format!("{link}/{prefix}");
    store.remove(None, ADDRESS_STATUSES, &id)?;
    let suffix = format!("/{id}");
    let (layers, _) = store.kind(None, ADDRESS_SPECS)?;
    for spec in store.list(&layers) {
        if spec.id().ends_with(&suffix) {
            store.remove(None, ADDRESS_SPECS, spec.id())?;
        }
    }
    match store.remove(Some(NAMESPACE), ADDRESS_SPECS, &id) {
        Ok(()) | Err(StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The link that `new` describes; what it names must be there.
pub fn link(store: &Store, new: NewLink) -> Result<Link, StoreError> {
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
    let index = |name: Option<&String>| name.map_or(Ok(0), |name| link_index(store, name));
    let master_index = index(new.master.as_ref())?;
    let slave_kind = match &new.master {
        Some(master) => link_kind(store, master)?,
        None => String::new(),
    };
    Ok(Link {
        index: new.index.unwrap_or_else(|| free_index(store)),
        link_type: if loopback { LOOPBACK } else { ETHER },
        kind: if adapter.is_some() || loopback {
            String::new()
        } else {
            new.kind.clone()
        },
        slave_kind,
        flags: match (new.down, loopback) {
            (true, _) => FLAGS_DOWN,
            // UP | LOOPBACK | RUNNING | LOWER_UP
            (false, true) => 0x1_0049,
            (false, false) => FLAGS_UP,
        },
        operational_state: match (new.down, loopback) {
            (true, _) => OPER_DOWN,
            (false, true) => 0,
            (false, false) => OPER_UP,
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

/// The address that `new` describes.
pub fn address(store: &Store, new: NewAddress) -> Result<Address, StoreError> {
    let address = new.prefix.address;
    Ok(Address {
        index: link_index(store, &new.link)?,
        link: new.link,
        prefix: new.prefix,
        local: new.local.or(address.is_ipv4().then_some(address)),
        broadcast: broadcast_of(new.prefix),
        flags: new.flags,
        scope: new.scope.unwrap_or_else(|| scope_of(address)),
        priority: new.priority,
        origin: new.origin,
    })
}

/// The route that `new` describes.
pub fn route(store: &Store, new: NewRoute) -> Result<Route, StoreError> {
    let example = new
        .gateway
        .or(new.destination.map(|destination| destination.address));
    let link = new.link.unwrap_or_default();
    Ok(Route {
        ipv6: example.is_some_and(|address| address.is_ipv6()),
        index: if link.is_empty() {
            0
        } else {
            link_index(store, &link)?
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
