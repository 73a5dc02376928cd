//! Expectations: what has to be so, and when.

use std::{net::IpAddr, time::Duration};

use super::command::{CommandError, Reader};
use crate::vmx::{
    backdoor::Protocol,
    host::Exit,
    summary::Summary,
    transcript::Kind,
    view::{Heartbeat, ToolsStatus},
};

/// What is expected.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The tools daemon is registered.
    Registered,
    /// Tools running status.
    Tools(ToolsStatus),
    /// Heartbeat status.
    Heartbeat(Heartbeat),
    /// A reply to the last request sent.
    Reply {
        /// The text.
        text: Vec<u8>,
        /// Only its beginning.
        starting: bool,
    },
    /// A request of the guest that begins so.
    Rpci(Vec<u8>),
    /// A channel opens or closes.
    Channel(Kind, Protocol),
    /// A request was not answered in time.
    Timeout,
    /// A violation of a kind, or any.
    Violation(String),
    /// A fault struck whose description contains the text.
    Fault(String),
    /// The flood is over.
    FloodOver,
    /// A program whose command line contains the text.
    Exec(String),
    /// An interception whose description contains the text.
    Guard(String),
    /// The guest ends.
    Exit(Exit),
    /// Host name.
    HostName(String),
    /// Part of the full name of the operating system.
    Os(String),
    /// The address that vCenter shows.
    Ip(IpAddr),
    /// An adapter, with an address if one is given.
    Nic {
        /// Hardware address.
        mac: String,
        /// Address and prefix length.
        address: Option<(IpAddr, u32)>,
    },
    /// A guest variable, with a value if one is given.
    Variable {
        /// Its name.
        key: String,
        /// Its value.
        value: Option<Vec<u8>>,
    },
    /// Version of the tools, with their type if one is given.
    Version(u32, Option<u32>),
    /// A capability.
    Capability(String),
    /// A figure of the last measurement.
    Figure(&'static str, Comparison),
}

/// A number compared with another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Comparison {
    /// The same.
    Equal(f64),
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
}

impl Comparison {
    /// Whether a number passes.
    pub fn holds(self, number: f64) -> bool {
        match self {
            Self::Equal(other) => (number - other).abs() < 1e-9,
            Self::AtMost(limit) => number <= limit,
            Self::AtLeast(limit) => number >= limit,
        }
    }
}

/// What the time of an expectation is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The guest's last answer to `reset`.
    Reset,
    /// The last thing that the scenario made happen.
    Action,
}

/// When it has to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Now.
    Now,
    /// Before this time is over.
    Within(Duration, Option<Anchor>),
    /// From now on for this time.
    For(Duration),
}

/// An `expect` line.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// It is expected not to be so.
    pub negated: bool,
    /// What.
    pub what: What,
    /// When.
    pub when: When,
}

impl Expectation {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, CommandError> {
        let negated = reader.keyword("no");
        let what = what(reader)?;
        let when = if reader.keyword("for") {
            When::For(reader.duration()?)
        } else if reader.keyword("within") {
            let time = reader.duration()?;
            let anchor = if reader.keyword("of") {
                Some(reader.one("reset or action", |word| match word {
                    "reset" => Some(Anchor::Reset),
                    "action" => Some(Anchor::Action),
                    _ => None,
                })?)
            } else {
                None
            };
            When::Within(time, anchor)
        } else {
            When::Now
        };
        Ok(Self { negated, what, when })
    }
}

fn what(reader: &mut Reader<'_>) -> Result<What, CommandError> {
    let word = reader.text("what is expected")?;
    let protocol = |reader: &mut Reader<'_>| reader.protocol().ok_or(CommandError::Missing("rpci or tclo"));
    Ok(match word.as_str() {
        "registered" => What::Registered,
        "running" => What::Tools(ToolsStatus::Running),
        "tools" => What::Tools(reader.one("not-running, executing-scripts or running", |word| {
            [
                ToolsStatus::NotRunning,
                ToolsStatus::ExecutingScripts,
                ToolsStatus::Running,
            ]
            .into_iter()
            .find(|status| status.name() == word)
        })?),
        "heartbeat" => What::Heartbeat(reader.one("green, yellow, red or gray", |word| {
            [
                Heartbeat::Green,
                Heartbeat::Yellow,
                Heartbeat::Red,
                Heartbeat::Gray,
            ]
            .into_iter()
            .find(|status| status.name() == word)
        })?),
        "reply" => {
            let starting = reader.keyword("starting");
            What::Reply {
                text: reader.bytes("a reply in quotes")?,
                starting,
            }
        }
        "rpci" => What::Rpci(reader.bytes("the beginning of a request in quotes")?),
        "open" => What::Channel(Kind::Open, protocol(reader)?),
        "close" => What::Channel(Kind::Close, protocol(reader)?),
        "timeout" => What::Timeout,
        "violation" => What::Violation(reader.violation()?),
        "fault" => What::Fault(reader.text("a text")?),
        "flood-over" => What::FloodOver,
        "exec" => What::Exec(reader.text("a text")?),
        "guard" => What::Guard(reader.text("a text")?),
        "exit" if reader.keyword("signal") => What::Exit(Exit::Signal(reader.signal()?)),
        "exit" => What::Exit(Exit::Status(
            reader.one("an exit status", |word| word.parse().ok())?,
        )),
        "hostname" => What::HostName(reader.text("a host name")?),
        "os" => What::Os(reader.text("a text")?),
        "ip" => What::Ip(reader.one("an IP address", |word| word.parse().ok())?),
        "nic" => {
            let mac = reader.text("a MAC address")?.to_ascii_lowercase();
            let address = if reader.keyword("address") {
                Some(reader.one("an address such as 10.0.0.5/24", address)?)
            } else {
                None
            };
            What::Nic { mac, address }
        }
        "variable" => {
            let key = reader.text("the name of a variable")?;
            let value = if reader.keyword("=") {
                Some(reader.bytes("a value in quotes")?)
            } else {
                None
            };
            What::Variable { key, value }
        }
        "version" => {
            let number = |word: &str| word.parse().ok();
            let version = reader.one("a version number", number)?;
            let kind = if reader.keyword("type") {
                Some(reader.one("a type number", number)?)
            } else {
                None
            };
            What::Version(version, kind)
        }
        "capability" => What::Capability(reader.text("the name of a capability")?),
        word => match Summary::FIGURES.into_iter().find(|figure| *figure == word) {
            Some(figure) => What::Figure(figure, reader.comparison()?),
            None => {
                return Err(CommandError::Word {
                    word: word.to_owned(),
                    expected: "something that can be expected".to_owned(),
                });
            }
        },
    })
}

fn address(word: &str) -> Option<(IpAddr, u32)> {
    let (ip, prefix) = word.split_once('/')?;
    Some((ip.parse().ok()?, prefix.parse().ok()?))
}
