//! The commands of the control interface: one line of words each.

mod parse;
mod words;

#[cfg(test)]
mod tests;

use std::time::Duration;

use talos_vmtoolsd::pb::machine::{ContainerInfo, MountStat};
use tonic::Code;

pub use parse::ParseError;

use super::{faults::Torn, network::Origin, power::Effect, spec::Prefix, store::Document};

/// The commands as `lab node --help` lists them.
pub const HELP: &str = "\
Commands:
  link add NAME [KIND] [mac M] [permanent-mac M] [bus B] [mtu N] [index N] [master LINK] [parent LINK] [vid N]
      [speed N] [down]                   KIND: vmxnet3, e1000, e1000e, loopback, bond, vlan, bridge, veth, ...
  link remove|up|down NAME
  address add LINK ADDRESS/LENGTH [static|dhcp|vip|platform|cmdline|default|kernel] [FLAG]... [scope S]
      [priority N] [local ADDRESS]       FLAG: permanent, tentative, deprecated, dadfailed, temporary, ...
  address remove LINK ADDRESS/LENGTH
  route add|remove DESTINATION|default [via ADDRESS] [dev LINK] [metric N] [proto P] [src ADDRESS] [table N]
  hostname set NAME [DOMAIN]
  resolver set [ADDRESS]... [search DOMAIN...]
  stage set STAGE [unready CONDITION REASON]
  resource put DOCUMENT                  YAML or JSON: type, id, spec, and if need be namespace and owner;
                                         NodeAddresses with an owner of their own are not recomputed
  resource remove|teardown [NAMESPACE/]TYPE ID
  filesystem set SOURCE TARGET SIZE AVAILABLE
  filesystem remove TARGET               what the call Mounts tells, in bytes
  container set ID IMAGE [STATE]         STATE: CONTAINER_RUNNING (at first), SANDBOX_READY, CONTAINER_EXITED, ...
  container remove ID                    what the call Containers tells of the pods
  crowd N links N addresses              pod links (veth) with link-local addresses
  churn RATE[/s] [for TIME]              so many of their addresses come and go a second (1 hour); churn off ends it
  peer-check [on|off]                    Talos 1.13 and later: only registered extension services may call
  service-pid PID [SERVICE]              registers a process as that service (ext-talos-vmtoolsd)
  overrun [NAMESPACE/]TYPE               every watch of the type gets ERRORED and is silent
  stall [TIME|on|off]                    holds every reply and stream
  hang-new [on|off]                      accepts and never answers
  garbage [on|off]                       answers with bytes that are no HTTP/2
  tear close|silence                     the next frame that leaves is not complete; then an end, or nothing more
  refuse CODE METHOD|all [TEXT]          refuse off [METHOD] ends it
  restart [down-for TIME] [drain TIME]   as machined stops: unlink, GOAWAY, drain (10s), hard close, gone, back
  kill [down-for TIME]                   the same without GOAWAY and drain
  cut                                    closes all connections hard, the socket stays
  power record                           Shutdown and Reboot are only recorded (at first)
  power stop PID [after TIME] [vanish TIME]
                                         the next one changes the stage, stops PID, and the socket goes
  power run [drain TIME] [services TIME] [locked|fatal|silent]
                                         from now on each runs Talos's sequence, with stage, phases and events, to
                                         the end of the socket; or it is not begun, or fails, or nothing follows
  events end                             every stream of events ends with OK, as an overrun one does
  maintenance                            the node has no machine configuration
  report VERSION                         the version that the node claims, for example v1.7.5
  calls [METHOD]                         reset-calls forgets them
  expect call METHOD [role R] [outcome CODE] [KEY=VALUE]... [count N] [within TIME]
  expect no call METHOD [role R] [outcome CODE] [KEY=VALUE]... [for TIME]
  expect listening [within TIME]
  state                                  everything there is
TIME is 2s, 500ms or a number of seconds. Each answer is one JSON object with ok true or false.";

/// What the node can be told.
#[derive(Clone, Debug)]
pub enum Command {
    /// `link add NAME [KIND] [WORD VALUE]...`
    AddLink(NewLink),
    /// `link remove NAME`
    RemoveLink(String),
    /// `link up NAME`, `link down NAME`
    SetLink(String, bool),
    /// `address add LINK ADDRESS/LENGTH [ORIGIN] [FLAG]... [WORD VALUE]...`
    AddAddress(NewAddress),
    /// `address remove LINK ADDRESS/LENGTH`
    RemoveAddress(String, Prefix),
    /// `route add DESTINATION|default [via GATEWAY] [dev LINK] [WORD VALUE]...`
    AddRoute(NewRoute),
    /// `route remove …`, the same words
    RemoveRoute(NewRoute),
    /// `hostname set NAME [DOMAIN]`
    SetHostname(String, String),
    /// `resolver set [ADDRESS]... [search DOMAIN...]`
    SetResolvers(Vec<std::net::IpAddr>, Vec<String>),
    /// `stage set STAGE [unready NAME REASON...]`
    SetStage(String, Option<(String, String)>),
    /// `resource put DOCUMENT`, YAML or JSON
    PutResource(Document),
    /// `resource remove|teardown [NAMESPACE/]TYPE ID`, `overrun [NAMESPACE/]TYPE`
    Resource(ResourceChange, Option<String>, String, String),
    /// `crowd N links N addresses`
    Crowd {
        /// Pod links.
        links: u32,
        /// Addresses on them.
        addresses: u32,
    },
    /// `churn RATE[/s] [for TIME]`, `churn off`
    Churn(Option<(u32, Duration)>),
    /// `peer-check [on|off]`
    PeerCheck(bool),
    /// `service-pid PID [SERVICE]`
    ServicePid(String, i32),
    /// `filesystem set SOURCE TARGET SIZE AVAILABLE`
    SetFilesystem(MountStat),
    /// `container set ID IMAGE [STATE]`
    SetContainer(ContainerInfo),
    /// `container remove ID`
    RemoveContainer(String),
    /// `filesystem remove TARGET`
    RemoveFilesystem(String),
    /// `stall [SECONDS|on|off]`
    Stall(Switch),
    /// `hang-new [on|off]`
    HangNew(bool),
    /// `garbage [on|off]`
    Garbage(bool),
    /// `tear close|silence`
    Tear(Torn),
    /// `refuse CODE METHOD|all [TEXT...]`
    Refuse(Code, String, String),
    /// `refuse off [METHOD]`
    Accept(Option<String>),
    /// `restart [down-for TIME] [drain TIME]`, `kill [down-for TIME]`
    Restart {
        /// Time for running calls; none closes hard.
        drain: Option<Duration>,
        /// Time without a socket.
        down_for: Duration,
    },
    /// `cut`: closes all connections hard, the socket stays
    Cut,
    /// `power record`, `power stop PID [after TIME] [vanish TIME]`, `power run [WORD TIME]... [FAULT]`
    Power(Effect),
    /// `events end`
    EndEvents,
    /// `maintenance`
    Maintenance,
    /// `report VERSION`
    Report(String),
    /// `calls [METHOD]`
    Calls(Option<String>),
    /// `expect call METHOD [role ROLE] [outcome CODE] [KEY=VALUE]... [count N] [within TIME]`
    ExpectCall(Expected, Option<usize>, Duration),
    /// `expect no call METHOD … [for TIME]`
    ExpectNoCall(Expected, Duration),
    /// `expect listening [within TIME]`
    ExpectListening(Duration),
    /// `reset-calls`
    ResetCalls,
    /// `state`
    State,
}

/// What happens to a resource that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceChange {
    /// It is destroyed.
    Remove,
    /// It enters phase `tearingDown`.
    TearDown,
    /// Every watch of its type is overrun.
    Overrun,
}

/// On, off, or on for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// From now on.
    On,
    /// No more.
    Off,
    /// From now on, for this time.
    For(Duration),
}

/// The words of `link add`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewLink {
    /// Name, which is the id.
    pub name: String,
    /// The driver of an adapter (`vmxnet3`, `e1000`, `e1000e`), or a kernel kind (`bond`, `vlan`, `veth`, …).
    pub kind: String,
    /// `mac`: the current hardware address.
    pub mac: Option<String>,
    /// `permanent-mac`: the burnt-in one, the current one when absent.
    pub permanent_mac: Option<String>,
    /// `bus`: PCI address of an adapter.
    pub bus: Option<String>,
    /// `mtu`, 1500 when absent.
    pub mtu: Option<u32>,
    /// `index`, the next free one when absent.
    pub index: Option<u32>,
    /// `master`: bond or bridge that it is a member of.
    pub master: Option<String>,
    /// `parent`: the link below a VLAN.
    pub parent: Option<String>,
    /// `vid`: VLAN id.
    pub vid: Option<u32>,
    /// `speed` in Mb/s.
    pub speed: Option<i64>,
    /// `down`: without carrier.
    pub down: bool,
}

/// The words of `address add`.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAddress {
    /// The link.
    pub link: String,
    /// Address and prefix length.
    pub prefix: Prefix,
    /// `static`, `dhcp`, `vip`, `platform`, `cmdline`, `default`, `kernel`.
    pub origin: Origin,
    /// IFA_F_* by Talos's names, `permanent` when none is given.
    pub flags: u32,
    /// `scope`, the kernel's own when absent.
    pub scope: Option<u32>,
    /// `priority`
    pub priority: u32,
    /// `local`: our own address on a point-to-point link.
    pub local: Option<std::net::IpAddr>,
}

/// The words of `route add` and `route remove`.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRoute {
    /// None for a default route.
    pub destination: Option<Prefix>,
    /// `via`
    pub gateway: Option<std::net::IpAddr>,
    /// `dev`
    pub link: Option<String>,
    /// `metric`, 1024 when absent as in Talos.
    pub priority: u32,
    /// `table`, main when absent.
    pub table: u32,
    /// `src`
    pub source: Option<std::net::IpAddr>,
    /// `proto` by name or number, `static` when absent.
    pub protocol: u32,
}

/// Which calls are expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The method.
    pub method: String,
    /// The call has exactly this role.
    pub role: Option<String>,
    /// How it ended.
    pub outcome: Option<Code>,
    /// What the request asked for.
    pub request: Vec<(String, String)>,
}
