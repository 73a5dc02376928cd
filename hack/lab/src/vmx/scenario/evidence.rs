//! Evidence: whether what is expected came about, when, and what is so instead.

use std::{net::IpAddr, time::Duration};

use super::expectation::What;
use crate::vmx::{
    guestinfo::{
        self,
        nic::{self, NicInfo},
    },
    host::Host,
    reports,
    transcript::{Event, Kind, info_id, milliseconds, readable},
};

/// From where on an expectation looks.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// Number of the first event that counts.
    pub sequence: u64,
    /// Nothing that happened earlier counts.
    pub time: Duration,
    /// Number of the last request sent.
    pub request: Option<u64>,
}

impl What {
    /// When it came about, if it did.
    pub fn seen(&self, host: &Host, now: Duration, since: &Since) -> Option<Duration> {
        let event = |matches: &dyn Fn(&Event) -> bool| {
            host.transcript()
                .since(since.sequence)
                .find(|event| event.at >= since.time && matches(event))
                .map(|event| event.at)
        };
        let text = |event: &Event, part: &str| event.readable().contains(part);
        let state = |holds: bool| holds.then_some(now);
        let reports = &host.rpci.reports;
        match self {
            Self::Registered => state(host.is_registered()),
            Self::Tools(status) => state(host.tools_status() == *status),
            Self::Heartbeat(heartbeat) => state(host.heartbeat(now) == *heartbeat),
            Self::Reply { text, starting } => event(&|event| {
                let payload = event.bytes.as_deref().unwrap_or_default();
                event.kind == Kind::TcloReply
                    && event.id == since.request
                    && if *starting {
                        payload.starts_with(text)
                    } else {
                        payload == text.as_slice()
                    }
            }),
            Self::Rpci(prefix) => event(&|event| is_request(event, prefix)),
            Self::Channel(kind, protocol) => {
                event(&|event| event.kind == *kind && event.protocol == Some(protocol.name()))
            }
            Self::Timeout => event(&|event| event.kind == Kind::TcloTimeout),
            Self::Violation(kind) => event(&|event| {
                event.kind == Kind::Violation && (kind == "any" || event.origin == Some(kind.as_str()))
            }),
            Self::Fault(part) => event(&|event| event.kind == Kind::Fault && text(event, part)),
            Self::FloodOver => state(host.flood_left() == 0),
            Self::Exec(part) => event(&|event| event.kind == Kind::Exec && text(event, part)),
            Self::Guard(part) => event(&|event| event.kind == Kind::Guard && text(event, part)),
            Self::Exit(exit) => state(host.exit == Some(*exit)),
            // With a bound on the wire's time it is the first report that counts, not the last one.
            Self::HostName(name) if since.time > Duration::ZERO => event(&|event| {
                report(event, &[1]).is_some_and(|payload| guestinfo::text(payload) == Ok(name.as_str()))
            }),
            Self::HostName(name) => reports
                .host_name
                .as_ref()
                .filter(|fact| fact.value == *name)
                .map(|fact| fact.at),
            Self::Os(part) => state(
                reports
                    .os_detailed
                    .as_ref()
                    .is_some_and(|fact| fact.value.full_name.contains(part))
                    || reports
                        .os_full_name
                        .as_ref()
                        .is_some_and(|fact| fact.value.contains(part)),
            ),
            Self::Ip(ip) => state(host.view(now).ip_address == Some(*ip)),
            Self::Nic { mac, address } if since.time > Duration::ZERO => event(&|event| {
                report(event, &[9, 10])
                    .and_then(|payload| nic::decode(payload, nic::MAX_ADDRESSES_ID_10).ok())
                    .is_some_and(|network| has_nic(&network, mac, *address))
            }),
            Self::Nic { mac, address } => {
                let network = reports.network.as_ref()?;
                has_nic(&network.value, mac, *address).then_some(network.at)
            }
            Self::Variable { key, value } => {
                let found = host.rpci.variables.get(key)?;
                state(value.as_deref().is_none_or(|value| value == found))
            }
            Self::Version(version, kind) => state(
                host.rpci.version == Some(*version)
                    && kind.is_none_or(|kind| host.rpci.version_type == Some(kind)),
            ),
            Self::Capability(name) => state(host.rpci.capabilities.contains_key(name)),
            // Figures belong to the session, which looks at them itself.
            Self::Figure(..) => None,
        }
        .filter(|at| *at >= since.time)
    }

    /// What is so instead: the value concerned, then the last events that have to do with it.
    pub fn instead(&self, host: &Host, now: Duration, since: &Since) -> Vec<String> {
        let reports = &host.rpci.reports;
        let absent = || "nothing was reported".to_owned();
        let value = match self {
            Self::Registered | Self::Tools(_) => Some(format!("tools are {}", host.tools_status().name())),
            Self::Heartbeat(_) => Some(format!("heartbeat is {}", host.heartbeat(now).name())),
            Self::Exit(_) => Some(format!("exit: {:?}", host.exit)),
            Self::FloodOver => Some(format!("{} requests are left", host.flood_left())),
            Self::HostName(_) => Some(
                reports
                    .host_name
                    .as_ref()
                    .map_or_else(absent, |fact| format!("host name {:?}", fact.value)),
            ),
            Self::Os(_) => Some(host.view(now).guest_full_name.unwrap_or_else(absent)),
            Self::Ip(_) => Some(host.view(now).ip_address.map_or_else(absent, |ip| ip.to_string())),
            Self::Nic { .. } => Some(reports.network.as_ref().map_or_else(absent, |fact| {
                let adapters = fact.value.adapters.iter().map(|adapter| {
                    let addresses: Vec<String> = adapter
                        .addresses
                        .iter()
                        .map(|address| format!("{}/{}", address.ip, address.prefix))
                        .collect();
                    format!("{} [{}]", adapter.mac, addresses.join(", "))
                });
                let adapters: Vec<String> = adapters.collect();
                format!("at {:.3} ms: {}", milliseconds(fact.at), adapters.join(", "))
            })),
            Self::Variable { key, .. } => Some(host.rpci.variables.get(key).map_or_else(
                || format!("{key} is not set"),
                |value| format!("{key} = {:?}", readable(value)),
            )),
            Self::Version(..) => Some(format!(
                "version {:?} type {:?}",
                host.rpci.version, host.rpci.version_type
            )),
            Self::Capability(_) => {
                let names: Vec<&str> = host.rpci.capabilities.keys().map(String::as_str).collect();
                Some(format!("capabilities: {}", names.join(", ")))
            }
            _ => None,
        };
        let kinds: &[Kind] = match self {
            Self::Reply { .. } | Self::Timeout => &[
                Kind::TcloSend,
                Kind::TcloReply,
                Kind::TcloTimeout,
                Kind::Violation,
                Kind::Close,
            ],
            Self::Channel(..) | Self::Registered | Self::Tools(_) => &[
                Kind::Open,
                Kind::Close,
                Kind::TcloSend,
                Kind::TcloReply,
                Kind::Violation,
            ],
            Self::Exec(_) => &[Kind::Exec],
            Self::Fault(_) => &[Kind::Fault, Kind::Violation],
            Self::Guard(_) => &[Kind::Guard],
            Self::Violation(_) => &[Kind::Violation],
            _ => &[Kind::Rpci, Kind::Violation],
        };
        let mut seen: Vec<String> = host
            .transcript()
            .since(since.sequence)
            .rev()
            .filter(|event| kinds.contains(&event.kind))
            .take(8)
            .map(|event| event.to_json().chars().take(240).collect())
            .collect();
        seen.extend(value);
        seen.reverse();
        seen
    }
}

/// The payload of an accepted `SetGuestInfo` of one of these ids.
fn report<'a>(event: &'a Event, ids: &[u32]) -> Option<&'a [u8]> {
    let bytes = event
        .bytes
        .as_deref()
        .filter(|_| event.kind == Kind::Rpci && event.ok == Some(true))?;
    ids.contains(&info_id(bytes)?)
        .then(|| reports::payload(bytes))
        .flatten()
}

fn has_nic(network: &NicInfo, mac: &str, address: Option<(IpAddr, u32)>) -> bool {
    network
        .adapters
        .iter()
        .filter(|adapter| adapter.mac == mac)
        .any(|adapter| {
            address.is_none_or(|(ip, prefix)| {
                adapter
                    .addresses
                    .iter()
                    .any(|address| address.ip == ip && address.prefix == prefix)
            })
        })
}

/// Whether an event is a request of the guest that begins so. A NUL at its end is no part of it.
pub fn is_request(event: &Event, prefix: &[u8]) -> bool {
    event.kind == Kind::Rpci
        && event
            .bytes
            .as_deref()
            .is_some_and(|bytes| bytes.starts_with(prefix))
}
