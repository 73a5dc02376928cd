//! From the bytes of a resource to the types of the snapshot.
//!
//! Talos encodes specs by reflection over Go structs, and releases differ in what they write for a zero value: up to
//! 1.11 an explicit zero or an empty message, from 1.12 nothing. So nothing here depends on the presence of a field,
//! only on its value. An enumeration value that nobody knows yet is a number like any other.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prost::Message;
use thiserror::Error;

mod block;
mod identity;

pub use self::{
    block::{discovered_volume, disk, mount, runtime_mount, volume},
    identity::{boot_id, cluster_name, extension, machine_type, node_status, nodename, schematic},
};
use super::snapshot::{
    AddressSpec, AddressStatus, HardwareAddr, HostnameStatus, LinkStatus, MachineStatus, Origin, Prefix,
    ResolverStatus, RouteStatus, SecurityState,
};
use crate::pb::{common, spec};

/// AF_INET and AF_INET6 (linux/socket.h): the values of Talos's `family` fields.
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;

/// Longest hardware address that Linux knows, in bytes (MAX_ADDR_LEN, linux/netdevice.h).
const MAX_HARDWARE_ADDR: usize = 32;

/// Why a spec says nothing.
#[derive(Debug, PartialEq, Error)]
pub enum DecodeError {
    /// The bytes are no protobuf, or a field has another wire type.
    #[error("malformed protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Neither 4 nor 16 bytes, nor 16 and a zone.
    #[error("{field}: an address of {length} bytes")]
    AddressLength {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
    },
    /// The prefix is longer than the address, or negative.
    #[error("{field}: {address} with a prefix of {length} bits")]
    PrefixLength {
        /// The field.
        field: &'static str,
        /// The address.
        address: IpAddr,
        /// The length that was told.
        length: i32,
    },
    /// More bytes than a hardware address has on Linux.
    #[error("{field}: a hardware address of {length} bytes")]
    HardwareAddrLength {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
    },
    /// A route to everywhere, of neither IPv4 nor IPv6.
    #[error("no destination, and address family {family}")]
    Family {
        /// The family that was told.
        family: i32,
    },
    /// The spec is nothing without this field.
    #[error("no {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
}

/// LinkStatus.
pub fn link(bytes: &[u8]) -> Result<LinkStatus, DecodeError> {
    let spec = spec::LinkStatus::decode(bytes)?;
    Ok(LinkStatus {
        index: spec.index,
        link_type: spec.r#type,
        link_index: spec.link_index,
        master_index: spec.master_index,
        flags: spec.flags,
        hardware_addr: hardware_addr("hardware_addr", spec.hardware_addr)?,
        permanent_addr: hardware_addr("permanent_addr", spec.permanent_addr)?,
        kind: spec.kind,
        slave_kind: spec.slave_kind,
        operational_state: spec.operational_state,
        link_state: spec.link_state,
        driver: spec.driver,
        bus_path: spec.bus_path,
        mtu: spec.mtu,
    })
}

/// AddressStatus. `address` is IFA_ADDRESS, which on a point-to-point link is the peer's; `local` is ours then.
pub fn address(bytes: &[u8]) -> Result<AddressStatus, DecodeError> {
    let spec = spec::AddressStatus::decode(bytes)?;
    let told = prefix("address", spec.address)?.ok_or(DecodeError::Missing { field: "address" })?;
    let own = match ip("local", spec.local)? {
        Some(local) => Prefix::new(local, told.length).unwrap_or(told),
        None => told,
    };
    Ok(AddressStatus {
        address: own,
        link_name: spec.link_name,
        scope: spec.scope,
        flags: spec.flags,
    })
}

/// AddressSpec of the namespace `network-config`, whose id tells who asked.
pub fn address_spec(id: &str, bytes: &[u8]) -> Result<AddressSpec, DecodeError> {
    let spec = spec::AddressSpec::decode(bytes)?;
    Ok(AddressSpec {
        origin: Origin::of(id),
        address: prefix("address", spec.address)?.ok_or(DecodeError::Missing { field: "address" })?,
        link_name: spec.link_name,
    })
}

/// RouteStatus. Of a route with several next hops (Talos 1.14), which has no gateway of its own, the first is told.
pub fn route(bytes: &[u8]) -> Result<RouteStatus, DecodeError> {
    let spec = spec::RouteStatus::decode(bytes)?;
    let (gateway, out_link_name) = match spec.next_hops.into_iter().next() {
        Some(hop) if spec.out_link_name.is_empty() => {
            (ip("next_hops.gateway", hop.gateway)?, hop.out_link_name)
        }
        _ => (ip("gateway", spec.gateway)?, spec.out_link_name),
    };
    let source = ip("source", spec.source)?;
    let destination = match prefix("destination", spec.destination)? {
        Some(destination) => destination,
        None => everywhere(spec.family, gateway)?,
    };
    Ok(RouteStatus {
        destination,
        gateway,
        source,
        out_link_name,
        table: spec.table,
        priority: spec.priority,
        route_type: spec.r#type,
    })
}

/// NodeAddress: the addresses in Talos's order.
pub fn node_address(bytes: &[u8]) -> Result<Vec<Prefix>, DecodeError> {
    let spec = spec::NodeAddress::decode(bytes)?;
    spec.addresses
        .into_iter()
        .filter_map(|address| prefix("addresses", Some(address)).transpose())
        .collect()
}

/// NodeIP: addresses without networks, in Talos's order.
pub fn node_ip(bytes: &[u8]) -> Result<Vec<IpAddr>, DecodeError> {
    let spec = spec::NodeIp::decode(bytes)?;
    spec.addresses
        .into_iter()
        .filter_map(|address| ip("addresses", Some(address)).transpose())
        .collect()
}

/// HostnameStatus. Without a name it says nothing.
pub fn hostname(bytes: &[u8]) -> Result<HostnameStatus, DecodeError> {
    let spec = spec::HostnameStatus::decode(bytes)?;
    if spec.hostname.is_empty() {
        return Err(DecodeError::Missing { field: "hostname" });
    }
    Ok(HostnameStatus {
        hostname: spec.hostname,
        domainname: spec.domainname,
    })
}

/// ResolverStatus. Talos 1.14 tells the servers twice; either list will do.
pub fn resolver(bytes: &[u8]) -> Result<ResolverStatus, DecodeError> {
    let spec = spec::ResolverStatus::decode(bytes)?;
    let servers = if spec.dns_servers.is_empty() {
        spec.name_servers
            .into_iter()
            .filter_map(|server| server.addr)
            .collect()
    } else {
        spec.dns_servers
    };
    Ok(ResolverStatus {
        dns_servers: servers
            .into_iter()
            .filter_map(|server| ip("dns_servers", Some(server)).transpose())
            .collect::<Result<_, _>>()?,
        search_domains: spec.search_domains,
    })
}

/// MachineStatus.
pub fn machine(bytes: &[u8]) -> Result<MachineStatus, DecodeError> {
    let spec = spec::MachineStatus::decode(bytes)?;
    let status = spec.status.unwrap_or_default();
    Ok(MachineStatus {
        stage: spec.stage,
        ready: status.ready,
        unmet_conditions: status
            .unmet_conditions
            .into_iter()
            .map(|condition| (condition.name, condition.reason))
            .collect(),
    })
}

/// SecurityState.
pub fn security(bytes: &[u8]) -> Result<SecurityState, DecodeError> {
    let spec = spec::SecurityState::decode(bytes)?;
    Ok(SecurityState {
        secure_boot: spec.secure_boot,
        se_linux_state: spec.se_linux_state,
    })
}

/// No bytes is no address. An IPv6 address may be followed by its zone, which the link's name tells already; an
/// IPv4-mapped one becomes IPv4.
fn ip(field: &'static str, value: Option<common::NetIp>) -> Result<Option<IpAddr>, DecodeError> {
    value.map_or(Ok(None), |value| ip_from_bytes(field, &value.ip))
}

fn ip_from_bytes(field: &'static str, bytes: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(Some(Ipv4Addr::from(octets).into()));
    }
    match bytes.first_chunk::<16>() {
        Some(octets) => Ok(Some(IpAddr::V6(Ipv6Addr::from(*octets)).to_canonical())),
        None => Err(DecodeError::AddressLength {
            field,
            length: bytes.len(),
        }),
    }
}

/// No address is no prefix, whatever its length: Talos up to 1.11 writes −1 there. An address without a length has
/// length 0.
fn prefix(field: &'static str, value: Option<common::NetIpPrefix>) -> Result<Option<Prefix>, DecodeError> {
    /// Bits before the IPv4 address in an IPv4-mapped one.
    const MAPPED: u8 = 96;

    let Some(value) = value else { return Ok(None) };
    let Some(address) = ip_from_bytes(field, &value.ip)? else {
        return Ok(None);
    };
    let mapped = address.is_ipv4() && value.ip.len() > 4;
    u8::try_from(value.prefix_length)
        .ok()
        .and_then(|length| {
            if mapped {
                length.checked_sub(MAPPED)
            } else {
                Some(length)
            }
        })
        .and_then(|length| Prefix::new(address, length))
        .map(Some)
        .ok_or(DecodeError::PrefixLength {
            field,
            address,
            length: value.prefix_length,
        })
}

/// The default destination: of the route's family, or its gateway's where none is told.
fn everywhere(family: i32, gateway: Option<IpAddr>) -> Result<Prefix, DecodeError> {
    let address: IpAddr = match (family, gateway) {
        (AF_INET, _) | (0, Some(IpAddr::V4(_))) => Ipv4Addr::UNSPECIFIED.into(),
        (AF_INET6, _) | (0, Some(IpAddr::V6(_))) => Ipv6Addr::UNSPECIFIED.into(),
        _ => return Err(DecodeError::Family { family }),
    };
    Ok(Prefix { address, length: 0 })
}

fn hardware_addr(field: &'static str, bytes: Vec<u8>) -> Result<HardwareAddr, DecodeError> {
    if bytes.len() > MAX_HARDWARE_ADDR {
        return Err(DecodeError::HardwareAddrLength {
            field,
            length: bytes.len(),
        });
    }
    Ok(HardwareAddr(bytes))
}

#[cfg(test)]
mod tests;
