//! The NIC record: NicInfo version 3 (nicinfo.x), with its limits.
//!
//! ```text
//!  GuestNicProto  version = 3, 1, NicInfoV3
//!  NicInfoV3      nics<16> routes<100> *dns *wins *dhcp4 *dhcp6
//!  GuestNicV3     mac<18> ips<2048> *dns *wins *dhcp4 *dhcp6
//! ```
//!
//! A host drops a message that is too long and with it everything the VM told about its network. So encoding cannot
//! give such a message: what does not fit is left out, and the caller is told how much.

#![forbid(unsafe_code)]

use std::{fmt, net::IpAddr};

use serde::{Serialize, Serializer};

use super::xdr::Writer;
use crate::{rpci, talos::snapshot::Prefix};

/// Most adapters in one record (`NICINFO_MAX_NICS`).
pub const MAX_NICS: usize = 16;
/// Most routes in one record (`NICINFO_MAX_ROUTES`).
pub const MAX_ROUTES: usize = 100;
/// Most DNS servers (`DNSINFO_MAX_SERVERS`).
pub const MAX_SERVERS: usize = 16;
/// Most search domains (`DNSINFO_MAX_SUFFIXES`).
pub const MAX_SUFFIXES: usize = 10;
/// Longest DNS name, in bytes (`DNSINFO_MAX_ADDRLEN`).
pub const MAX_NAME: usize = 255;

/// `NIC_INFO_V3`.
const VERSION: u32 = 3;
/// What stands before the record in the longer of the two requests.
const PREAMBLE: usize = b"SetGuestInfo  10 ".len();
/// Room for the record, in bytes.
const MAX_RECORD: usize = rpci::MAX_REQUEST - PREAMBLE;

/// The `SetGuestInfo` id a record is sent under. Not to be confused with the version of the record, which is 3 in both
/// (guestInfo.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Message {
    /// `INFO_IPADDRESS_V3`: up to 2048 addresses per adapter.
    #[default]
    V3,
    /// `INFO_IPADDRESS_V2`, for hosts that refuse the other: up to 64.
    V2,
}

impl Message {
    /// The number behind `SetGuestInfo`.
    pub const fn id(self) -> u8 {
        match self {
            Self::V3 => 10,
            Self::V2 => 9,
        }
    }

    /// `NICINFO_MAX_IPS`, or `INFO_IPADDRESS_V2_MAX_IPS`.
    const fn addresses_per_nic(self) -> usize {
        match self {
            Self::V3 => 2048,
            Self::V2 => 64,
        }
    }
}

/// An Ethernet address, the key by which a host finds the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// Lower case with colons: consumers compare the text (nicInfoPosix.c).
impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `IpAddressOrigin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// None of the others; link-local addresses.
    Other = 1,
    /// From the machine configuration.
    Manual = 2,
    /// From a DHCP server.
    Dhcp = 4,
    /// SLAAC.
    LinkLayer = 5,
    /// Temporary addresses (RFC 8981).
    Random = 6,
}

/// `IpAddressStatus`, as far as a reported address can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In use.
    Preferred = 1,
    /// Valid, not for new connections.
    Deprecated = 2,
    /// In use before its duplicate detection has ended.
    Optimistic = 8,
}

/// One address of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// With its length.
    pub prefix: Prefix,
    /// Where it came from, as far as that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What it can be used for.
    pub status: Status,
}

/// One adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nic {
    /// The address the hypervisor gave it.
    pub mac: MacAddr,
    /// In order of preference; may be empty.
    pub addresses: Vec<Address>,
    /// Whether a DHCP server gave it IPv4 addresses; none where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp4: Option<bool>,
    /// The same for IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp6: Option<bool>,
}

/// One route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Where to.
    pub destination: Prefix,
    /// None for an on-link route.
    pub next_hop: Option<IpAddr>,
    /// Index into the record's own adapters, not the kernel's ifindex.
    pub nic: usize,
    /// The kernel's metric.
    pub metric: u32,
}

/// `DnsConfigInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Without domain.
    pub host: Option<String>,
    /// Without host.
    pub domain: Option<String>,
    /// In order of preference.
    pub servers: Vec<IpAddr>,
    /// In order of preference.
    pub search: Vec<String>,
    /// Names that are none of the record, because they cannot be sent: the domain and search domains of more than
    /// 255 bytes.
    #[serde(skip)]
    pub left_out: usize,
}

/// Everything a VM tells about its network in one message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NicInfo {
    /// One per MAC; the node's own address is the first of the first.
    pub nics: Vec<Nic>,
    /// Default routes first, among them the best last.
    pub routes: Vec<Route>,
    /// Absent while neither name nor servers are known.
    pub dns: Option<Dns>,
}

/// For people, one line an item.
impl fmt::Display for NicInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for nic in &self.nics {
            write!(f, "adapter {}:", nic.mac)?;
            for address in &nic.addresses {
                write!(f, " {}", address.prefix)?;
            }
            writeln!(f)?;
        }
        for route in &self.routes {
            write!(f, "route {}", route.destination)?;
            if let Some(hop) = route.next_hop {
                write!(f, " via {hop}")?;
            }
            if let Some(nic) = self.nics.get(route.nic) {
                write!(f, " on {}", nic.mac)?;
            }
            writeln!(f, " metric {}", route.metric)?;
        }
        if let Some(Dns {
            host,
            domain,
            servers,
            search,
            ..
        }) = &self.dns
        {
            let name = [host, domain].map(|part| part.as_deref().unwrap_or("-"));
            let servers: Vec<String> = servers.iter().map(IpAddr::to_string).collect();
            writeln!(
                f,
                "dns host {} domain {} servers {servers:?} search {search:?}",
                name[0], name[1]
            )?;
        }
        Ok(())
    }
}

/// How much of a record did not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Adapters beyond 16.
    pub nics: usize,
    /// Addresses, by count or by size.
    pub addresses: usize,
    /// Routes beyond 100, or of an adapter that was cut.
    pub routes: usize,
    /// Servers, search domains, and names of more than 255 bytes.
    pub dns: usize,
}

impl Cut {
    /// Whether everything fitted.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            nics,
            addresses,
            routes,
            dns,
        } = self;
        write!(
            f,
            "{nics} adapters, {addresses} addresses, {routes} routes, {dns} DNS entries left out"
        )
    }
}

impl NicInfo {
    /// The record's bytes, within every limit of `message`, and what was left out to stay there.
    ///
    /// Adapters, names and routes are a few kilobytes at most and always fit. Addresses share the rest: the first of
    /// every adapter before the second of any, so a crowded adapter costs no other one its place.
    pub fn encode(&self, message: Message) -> (Vec<u8>, Cut) {
        let nics = self.nics.get(..MAX_NICS).unwrap_or(&self.nics);
        let mut routes: Vec<Route> = self.routes.clone();
        routes.retain(|route| route.nic < nics.len());
        routes.truncate(MAX_ROUTES);
        let (dns, dns_cut) = match &self.dns {
            None => (None, 0),
            Some(dns) => {
                let (dns, cut) = dns.limited();
                (Some(dns), cut)
            }
        };

        let bare = encode_parts(nics, &vec![0; nics.len()], &routes, dns.as_ref());
        let quotas = share(
            nics,
            message.addresses_per_nic(),
            MAX_RECORD.saturating_sub(bare.len()),
        );
        let bytes = encode_parts(nics, &quotas, &routes, dns.as_ref());

        let listed: usize = self.nics.iter().map(|nic| nic.addresses.len()).sum();
        let cut = Cut {
            nics: self.nics.len() - nics.len(),
            addresses: listed - quotas.iter().sum::<usize>(),
            routes: self.routes.len() - routes.len(),
            dns: dns_cut,
        };
        (bytes, cut)
    }
}

impl Dns {
    /// What the record may hold of it, and how many entries that leaves out, with those that were left out before.
    fn limited(&self) -> (Self, usize) {
        let mut limited = self.clone();
        limited.servers.truncate(MAX_SERVERS);
        limited.search.truncate(MAX_SUFFIXES);
        let cut = self.servers.len() - limited.servers.len() + self.search.len() - limited.search.len();
        (limited, cut + self.left_out)
    }
}

/// How many addresses of each adapter fit into `room` bytes, at most `limit` of one.
fn share(nics: &[Nic], limit: usize, mut room: usize) -> Vec<usize> {
    let mut quotas = vec![0; nics.len()];
    let mut writer = Writer::default();
    for position in 0..limit {
        let mut listed = false;
        for (nic, quota) in nics.iter().zip(&mut quotas) {
            let Some(address) = nic.addresses.get(position) else {
                continue;
            };
            listed = true;
            let before = writer.len();
            write_address(&mut writer, address);
            match room.checked_sub(writer.len() - before) {
                Some(rest) => room = rest,
                None => return quotas,
            }
            *quota += 1;
        }
        if !listed {
            break;
        }
    }
    quotas
}

fn encode_parts(nics: &[Nic], quotas: &[usize], routes: &[Route], dns: Option<&Dns>) -> Vec<u8> {
    let nics: Vec<(&Nic, usize)> = nics.iter().zip(quotas.iter().copied()).collect();
    let mut writer = Writer::default();
    writer.u32(VERSION);
    writer.optional(Some(()), |writer, ()| {
        writer.array(&nics, |writer, (nic, quota)| {
            writer.opaque(nic.mac.to_string().as_bytes());
            let addresses = nic.addresses.get(..*quota).unwrap_or(&nic.addresses);
            writer.array(addresses, write_address);
            write_absent(writer, 2);
            writer.optional(nic.dhcp4, write_dhcp);
            writer.optional(nic.dhcp6, write_dhcp);
        });
        writer.array(routes, write_route);
        writer.optional(dns, write_dns);
        write_absent(writer, 3);
    });
    writer.finish()
}

/// `DhcpConfigInfo`: whether it is on, and settings as text, of which there are none here.
fn write_dhcp(writer: &mut Writer, enabled: bool) {
    writer.u32(enabled.into());
    writer.opaque(b"");
}

/// DNS, WINS and DHCP settings that are told for the whole machine or not at all.
fn write_absent(writer: &mut Writer, count: usize) {
    for _ in 0..count {
        writer.optional(None::<()>, |_, ()| ());
    }
}

fn write_address(writer: &mut Writer, address: &Address) {
    write_ip(writer, address.prefix.address);
    writer.u32(address.prefix.length.into());
    writer.optional(address.origin, |writer, origin| writer.u32(origin as u32));
    writer.optional(Some(address.status), |writer, status| writer.u32(status as u32));
}

fn write_route(writer: &mut Writer, route: &Route) {
    write_ip(writer, route.destination.address);
    writer.u32(route.destination.length.into());
    writer.optional(route.next_hop, write_ip);
    writer.u32(u32::try_from(route.nic).unwrap_or(u32::MAX));
    // open-vm-tools leaves the type 0 on Linux, and hosts know it so.
    writer.u32(0);
    writer.u32(route.metric);
}

fn write_dns(writer: &mut Writer, dns: &Dns) {
    let write_name = |writer: &mut Writer, name: &String| writer.opaque(name.as_bytes());
    writer.optional(dns.host.as_ref(), write_name);
    writer.optional(dns.domain.as_ref(), write_name);
    writer.array(&dns.servers, |writer, server| write_ip(writer, *server));
    writer.array(&dns.search, write_name);
}

/// `TypedIpAddress`: 1 and four bytes, or 2 and sixteen.
fn write_ip(writer: &mut Writer, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            writer.u32(1);
            writer.opaque(&address.octets());
        }
        IpAddr::V6(address) => {
            writer.u32(2);
            writer.opaque(&address.octets());
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
