//! NIC information, `GuestNicProto` of open-vm-tools' `nicinfo.x` in XDR: version 3 under the ids 9 and 10.

use std::net::IpAddr;

use serde::Serialize;

use super::{DecodeError, cursor::Cursor};

/// Version of the record; independent of the message id.
const VERSION: u32 = 3;
const MAX_NICS: u32 = 16;
const MAX_ROUTES: u32 = 100;
/// The text has 17 characters; the format allows 18.
const MAX_MAC: u32 = 18;
const MAX_ADDRESS: u32 = 255;
const MAX_NAME: u32 = 255;
const MAX_SERVERS: u32 = 16;
const MAX_SUFFIXES: u32 = 10;
const MAX_DHCP_SETTINGS: u32 = 16384;

/// Addresses that one adapter may carry under id 9 (`INFO_IPADDRESS_V2_MAX_IPS`).
pub const MAX_ADDRESSES_ID_9: u32 = 64;
/// Addresses that one adapter may carry under id 10 (`NICINFO_MAX_IPS`).
pub const MAX_ADDRESSES_ID_10: u32 = 2048;

/// All that a guest reports about its network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NicInfo {
    /// The adapters, in the guest's order: the first address of the first one is what vCenter shows.
    pub adapters: Vec<Adapter>,
    /// The routes, in the guest's order.
    pub routes: Vec<Route>,
    /// Resolver of the whole guest.
    pub dns: Option<Dns>,
    /// Windows name servers of the whole guest.
    pub wins: Option<[Option<IpAddr>; 2]>,
    /// DHCP for IPv4 and IPv6 of the whole guest.
    pub dhcp: [Option<Dhcp>; 2],
}

/// One network adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// Hardware address, lower case with colons.
    pub mac: String,
    /// Its addresses, in the guest's order.
    pub addresses: Vec<Address>,
    /// Resolver of this adapter.
    pub dns: Option<Dns>,
    /// Windows name servers of this adapter.
    pub wins: Option<[Option<IpAddr>; 2]>,
    /// DHCP for IPv4 and IPv6 of this adapter.
    pub dhcp: [Option<Dhcp>; 2],
}

/// One address of an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the network prefix, in bits.
    pub prefix: u32,
    /// `other`, `manual`, `dhcp`, `linklayer` or `random`.
    pub origin: Option<&'static str>,
    /// `preferred`, `deprecated` and so on.
    pub status: Option<&'static str>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Destination network.
    pub destination: IpAddr,
    /// Length of the destination's prefix, in bits.
    pub prefix: u32,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Index into the adapters of the same report.
    pub adapter: u32,
    /// `InetCidrRouteType`; Linux guests leave it 0.
    pub kind: u32,
    /// Metric; 0xFFFFFFFF is "unused".
    pub metric: u32,
}

/// Resolver configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Host name.
    pub host: Option<String>,
    /// Domain name.
    pub domain: Option<String>,
    /// Name servers.
    pub servers: Vec<Option<IpAddr>>,
    /// Search domains.
    pub search: Vec<String>,
}

/// DHCP configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dhcp {
    /// Whether DHCP is in use.
    pub enabled: bool,
    /// Free text.
    pub settings: String,
}

/// Decodes a version 3 record with at most `max_addresses` per adapter.
pub fn decode(payload: &[u8], max_addresses: u32) -> Result<NicInfo, DecodeError> {
    let mut cursor = Cursor::new(payload);
    match cursor.u32_be()? {
        VERSION => {}
        value => {
            return Err(DecodeError::Value {
                what: "NIC record version",
                value,
            });
        }
    }
    // The union's arm is a pointer, so its presence is on the wire; a version 3 without body says nothing.
    if !cursor.bool("NIC record body")? {
        return Err(DecodeError::Value {
            what: "NIC record body",
            value: 0,
        });
    }
    let adapters = list(&mut cursor, "adapters", MAX_NICS, |cursor| {
        adapter(cursor, max_addresses)
    })?;
    let routes = list(&mut cursor, "routes", MAX_ROUTES, route)?;
    let info = NicInfo {
        dns: optional(&mut cursor, "DNS", dns)?,
        wins: optional(&mut cursor, "WINS", wins)?,
        dhcp: [
            optional(&mut cursor, "DHCPv4", dhcp)?,
            optional(&mut cursor, "DHCPv6", dhcp)?,
        ],
        adapters,
        routes,
    };
    cursor.end()?;
    for route in &info.routes {
        if usize::try_from(route.adapter).map_or(true, |index| index >= info.adapters.len()) {
            return Err(DecodeError::Value {
                what: "adapter of a route",
                value: route.adapter,
            });
        }
    }
    Ok(info)
}

fn list<T>(
    cursor: &mut Cursor<'_>,
    what: &'static str,
    limit: u32,
    item: impl Fn(&mut Cursor<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = cursor.count(what, limit)?;
    // No capacity from the wire: a short payload fails at its end, not in the allocator.
    (0..count).map(|_| item(cursor)).collect()
}

fn optional<T>(
    cursor: &mut Cursor<'_>,
    what: &'static str,
    item: impl Fn(&mut Cursor<'_>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    cursor.bool(what)?.then(|| item(cursor)).transpose()
}

fn adapter(cursor: &mut Cursor<'_>, max_addresses: u32) -> Result<Adapter, DecodeError> {
    let mac = cursor.string("MAC address", MAX_MAC)?;
    if !is_mac(&mac) {
        return Err(DecodeError::text(
            "not a MAC address in lower case with colons",
            mac.as_bytes(),
        ));
    }
    Ok(Adapter {
        mac,
        addresses: list(cursor, "addresses", max_addresses, address)?,
        dns: optional(cursor, "adapter's DNS", dns)?,
        wins: optional(cursor, "adapter's WINS", wins)?,
        dhcp: [
            optional(cursor, "adapter's DHCPv4", dhcp)?,
            optional(cursor, "adapter's DHCPv6", dhcp)?,
        ],
    })
}

fn is_mac(text: &str) -> bool {
    text.len() == 17
        && text.split(':').count() == 6
        && text
            .split(':')
            .all(|byte| byte.len() == 2 && byte.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')))
}

fn address(cursor: &mut Cursor<'_>) -> Result<Address, DecodeError> {
    let ip = some_ip(cursor, "address of an adapter")?;
    Ok(Address {
        ip,
        prefix: prefix(cursor, ip)?,
        origin: optional(cursor, "origin", |cursor| match cursor.u32_be()? {
            1 => Ok("other"),
            2 => Ok("manual"),
            4 => Ok("dhcp"),
            5 => Ok("linklayer"),
            6 => Ok("random"),
            value => Err(DecodeError::Value {
                what: "origin",
                value,
            }),
        })?,
        status: optional(cursor, "status", |cursor| match cursor.u32_be()? {
            1 => Ok("preferred"),
            2 => Ok("deprecated"),
            3 => Ok("invalid"),
            4 => Ok("inaccessible"),
            5 => Ok("unknown"),
            6 => Ok("tentative"),
            7 => Ok("duplicate"),
            8 => Ok("optimistic"),
            value => Err(DecodeError::Value {
                what: "status",
                value,
            }),
        })?,
    })
}

fn prefix(cursor: &mut Cursor<'_>, ip: IpAddr) -> Result<u32, DecodeError> {
    let value = cursor.u32_be()?;
    let limit = if ip.is_ipv4() { 32 } else { 128 };
    if value > limit {
        return Err(DecodeError::Limit {
            what: "prefix length",
            value,
            limit,
        });
    }
    Ok(value)
}

fn some_ip(cursor: &mut Cursor<'_>, what: &'static str) -> Result<IpAddr, DecodeError> {
    ip(cursor)?.ok_or(DecodeError::Value { what, value: 0 })
}

/// `TypedIpAddress`; `None` is the type "unknown" without bytes.
fn ip(cursor: &mut Cursor<'_>) -> Result<Option<IpAddr>, DecodeError> {
    let kind = cursor.u32_be()?;
    let bytes = cursor.opaque("IP address", MAX_ADDRESS)?;
    let wrong_length = || DecodeError::Value {
        what: "length of an IP address",
        value: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
    };
    match kind {
        0 if bytes.is_empty() => Ok(None),
        1 => <[u8; 4]>::try_from(bytes)
            .map(|bytes| Some(IpAddr::from(bytes)))
            .map_err(|_| wrong_length()),
        2 => <[u8; 16]>::try_from(bytes)
            .map(|bytes| Some(IpAddr::from(bytes)))
            .map_err(|_| wrong_length()),
        value => Err(DecodeError::Value {
            what: "type of an IP address",
            value,
        }),
    }
}

fn route(cursor: &mut Cursor<'_>) -> Result<Route, DecodeError> {
    let destination = some_ip(cursor, "destination of a route")?;
    Ok(Route {
        destination,
        prefix: prefix(cursor, destination)?,
        gateway: optional(cursor, "next hop", ip)?.flatten(),
        adapter: cursor.u32_be()?,
        kind: match cursor.u32_be()? {
            kind @ 0..=4 => kind,
            value => {
                return Err(DecodeError::Value {
                    what: "type of a route",
                    value,
                });
            }
        },
        metric: cursor.u32_be()?,
    })
}

fn dns(cursor: &mut Cursor<'_>) -> Result<Dns, DecodeError> {
    Ok(Dns {
        host: optional(cursor, "host name", |cursor| cursor.string("host name", MAX_NAME))?,
        domain: optional(cursor, "domain name", |cursor| {
            cursor.string("domain name", MAX_NAME)
        })?,
        servers: list(cursor, "name servers", MAX_SERVERS, ip)?,
        search: list(cursor, "search domains", MAX_SUFFIXES, |cursor| {
            cursor.string("search domain", MAX_NAME)
        })?,
    })
}

fn wins(cursor: &mut Cursor<'_>) -> Result<[Option<IpAddr>; 2], DecodeError> {
    Ok([ip(cursor)?, ip(cursor)?])
}

fn dhcp(cursor: &mut Cursor<'_>) -> Result<Dhcp, DecodeError> {
    Ok(Dhcp {
        enabled: cursor.bool("DHCP enabled")?,
        settings: cursor.string("DHCP settings", MAX_DHCP_SETTINGS)?,
    })
}
