//! The kernel's view of the network, by rtnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::{StreamExt, TryStreamExt, channel::mpsc::UnboundedReceiver};
use rtnetlink::{
    Handle, RouteMessageBuilder,
    constants::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE, RTMGRP_LINK},
    new_connection,
    packet_core::NetlinkMessage,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{InfoData, InfoVlan, LinkAttribute, LinkInfo, LinkMessage, Prop, VlanProtocol},
        route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteVia},
    },
    sys::{AsyncSocket, SocketAddr},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{
        network::{Address, Link, Origin, Route},
        spec::Prefix,
    },
    MirrorError,
};

/// What the kernel knows at one moment.
#[derive(Debug, Default)]
pub struct Machine {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
}

impl Machine {
    fn link_name(&self, index: u32) -> String {
        let link = self.links.iter().find(|link| link.index == index);
        link.map_or(String::new(), |link| link.name.clone())
    }
}

/// A connection to rtnetlink that hears of changes.
pub struct Kernel {
    handle: Handle,
    notifications: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

impl Kernel {
    /// Connects and subscribes. The connection runs as one of `tasks` until `stop`.
    pub fn connect(tasks: &TaskTracker, stop: &CancellationToken) -> Result<Self, MirrorError> {
        let (mut connection, handle, notifications) = new_connection()?;
        let groups =
            RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
        connection
            .socket_mut()
            .socket_mut()
            .bind(&SocketAddr::new(0, groups))?;
        let stop = stop.clone();
        tasks.spawn(async move {
            _ = stop.run_until_cancelled(connection).await;
        });
        Ok(Self {
            handle,
            notifications,
        })
    }

    /// Waits for a change and takes all notifications that are queued. False when the connection is gone.
    pub async fn changed(&mut self) -> bool {
        if self.notifications.next().await.is_none() {
            return false;
        }
        while self.notifications.try_recv().is_ok() {}
        true
    }

    /// Reads links, addresses and routes.
    pub async fn dump(&self) -> Result<Machine, MirrorError> {
        let mut machine = Machine::default();
        let links: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await?;
        machine.links = links.into_iter().map(link).collect();
        let addresses: Vec<AddressMessage> = self.handle.address().get().execute().try_collect().await?;
        machine.addresses = addresses
            .into_iter()
            .filter_map(|message| address(&machine, message))
            .collect();
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        for query in [v4, v6] {
            let routes: Vec<RouteMessage> = self.handle.route().get(query).execute().try_collect().await?;
            let known = routes.into_iter().filter_map(|message| route(&machine, message));
            let known: Vec<_> = known.collect();
            machine.routes.extend(known);
        }
        Ok(machine)
    }
}

fn hardware(octets: &[u8]) -> String {
    let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

fn link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        link_type: u16::from(message.header.link_layer_type).into(),
        flags: message.header.flags.bits(),
        ..Default::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            LinkAttribute::PropList(list) => {
                link.alt_names = list
                    .into_iter()
                    .filter_map(|property| match property {
                        Prop::AltIfName(name) => Some(name),
                        _ => None,
                    })
                    .collect();
            }
            LinkAttribute::Address(octets) => link.hardware_addr = hardware(&octets),
            LinkAttribute::PermAddress(octets) => link.permanent_addr = hardware(&octets),
            LinkAttribute::Broadcast(octets) => link.broadcast_addr = hardware(&octets),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Qdisc(name) => link.queue_disc = name,
            LinkAttribute::Controller(index) => link.master_index = index,
            LinkAttribute::Link(index) => link.link_index = index,
            LinkAttribute::OperState(state) => link.operational_state = u8::from(state).into(),
            LinkAttribute::Carrier(carrier) => link.carrier = carrier != 0,
            LinkAttribute::LinkInfo(infos) => infos.into_iter().for_each(|info| link_info(&mut link, info)),
            _ => {}
        }
    }
    link
}

fn link_info(link: &mut Link, info: LinkInfo) {
    match info {
        LinkInfo::Kind(kind) => link.kind = kind.to_string(),
        LinkInfo::PortKind(kind) => link.slave_kind = kind.to_string(),
        LinkInfo::Data(InfoData::Vlan(data)) => {
            let (mut id, mut protocol) = (0, u16::from(VlanProtocol::Ieee8021Q));
            for attribute in data {
                match attribute {
                    InfoVlan::Id(value) => id = value,
                    InfoVlan::Protocol(value) => protocol = value.into(),
                    _ => {}
                }
            }
            link.vlan = Some((id.into(), protocol.into()));
        }
        _ => {}
    }
}

fn address(machine: &Machine, message: AddressMessage) -> Option<Address> {
    let (mut remote, mut local, mut broadcast) = (None, None, None);
    let mut flags = u32::from(message.header.flags.bits());
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Address(address) => remote = Some(address),
            AddressAttribute::Local(address) => local = Some(address),
            AddressAttribute::Broadcast(address) => broadcast = Some(IpAddr::V4(address)),
            AddressAttribute::Flags(value) => flags = value.bits(),
            _ => {}
        }
    }
    Some(Address {
        link: machine.link_name(message.header.index),
        index: message.header.index,
        prefix: Prefix::new(remote.or(local)?, message.header.prefix_len)?,
        local,
        broadcast,
        flags,
        scope: u8::from(message.header.scope).into(),
        priority: 0,
        origin: Origin::Kernel,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Gateway of a route or of one of its next hops.
fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

fn route(machine: &Machine, message: RouteMessage) -> Option<Route> {
    let header = message.header;
    let ipv6 = match header.address_family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    // A cached route is no route of the table.
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut route = Route {
        destination: None,
        ipv6,
        source: None,
        gateway: gateway(&message.attributes),
        link: String::new(),
        index: 0,
        table: header.table.into(),
        priority: 0,
        scope: u8::from(header.scope).into(),
        route_type: u8::from(header.kind).into(),
        flags: header.flags.bits(),
        protocol: u8::from(header.protocol).into(),
        mtu: 0,
        next_hops: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                route.destination =
                    ip(address).and_then(|address| Prefix::new(address, header.destination_prefix_length));
            }
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Oif(index) => route.index = *index,
            RouteAttribute::Priority(priority) => route.priority = *priority,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::MultiPath(hops) => {
                let hop = |hop: &rtnetlink::packet_route::route::RouteNextHop| {
                    let link = machine.link_name(hop.interface_index);
                    (gateway(&hop.attributes), link, u32::from(hop.hops) + 1)
                };
                route.next_hops = hops.iter().map(hop).collect();
            }
            _ => {}
        }
    }
    route.link = machine.link_name(route.index);
    Some(route)
}
