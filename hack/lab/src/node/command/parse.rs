//! Line to command.

use std::{net::IpAddr, str::FromStr, time::Duration};

use nix::unistd::Pid;
use talos_vmtoolsd::pb::machine::{ContainerInfo, MountStat};

use super::{
    super::{
        calls::code_named,
        crowd,
        faults::Torn,
        listener::DRAIN,
        network::{MAIN_TABLE, Origin, PERMANENT},
        power::{Effect, GoingDown},
        schema::{
            Names,
            names::{ADDRESS_FLAGS, ROUTE_PROTOCOL, SCOPE},
        },
        script,
        sequence::{Course, Fault},
    },
    Command, Expected, NewAddress, NewLink, NewRoute, ResourceChange, Switch,
    words::{Words, time, wrong},
};

/// A line that is no command.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The line ends too early.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A word that has no place there.
    #[error("{word:?} is no {expected}")]
    Word {
        /// The word.
        word: String,
        /// What would have been one.
        expected: &'static str,
    },
    /// A document that cannot be read.
    #[error("the document cannot be read: {0}")]
    Document(#[from] script::ScriptError),
}

/// Time that `expect` waits when the line does not say.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time that `expect no call` watches when the line does not say.
const WATCHFUL: Duration = Duration::from_secs(1);

/// Time that a churn lasts when the line does not say.
const CHURN: Duration = Duration::from_secs(3600);
/// The service whose process `service-pid` registers when the line does not say.
const SERVICE: &str = "ext-talos-vmtoolsd";

fn crowd_size(words: &mut Words<'_>) -> Result<u32, ParseError> {
    let size: u32 = words.value("number")?;
    if size > crowd::MOST {
        return Err(wrong(&size.to_string(), "size of a crowd, at most 100000"));
    }
    Ok(size)
}

fn named(names: Names, word: &str) -> Option<u32> {
    names
        .iter()
        .find(|(_, name)| *name == word)
        .map(|(number, _)| *number)
        .or_else(|| word.parse().ok())
}

fn switch(words: &mut Words<'_>) -> Result<bool, ParseError> {
    match words.next() {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(word) => Err(wrong(word, "switch: on or off")),
    }
}

impl FromStr for Command {
    type Err = ParseError;

    fn from_str(line: &str) -> Result<Self, ParseError> {
        let mut words = Words { rest: line };
        let command = command(&mut words)?;
        words.end(command)
    }
}

fn command(words: &mut Words<'_>) -> Result<Command, ParseError> {
    Ok(match words.need("a command")? {
        "link" => match words.need("add, remove, up or down")? {
            "add" => Command::AddLink(new_link(words)?),
            "remove" => Command::RemoveLink(words.need("a link")?.to_owned()),
            "up" => Command::SetLink(words.need("a link")?.to_owned(), true),
            "down" => Command::SetLink(words.need("a link")?.to_owned(), false),
            word => return Err(wrong(word, "change of a link: add, remove, up or down")),
        },
        "address" => match words.need("add or remove")? {
            "add" => Command::AddAddress(new_address(words)?),
            "remove" => Command::RemoveAddress(
                words.need("a link")?.to_owned(),
                words.value("address with a prefix length")?,
            ),
            word => return Err(wrong(word, "change of an address: add or remove")),
        },
        "route" => match words.need("add or remove")? {
            "add" => Command::AddRoute(new_route(words)?),
            "remove" => Command::RemoveRoute(new_route(words)?),
            word => return Err(wrong(word, "change of a route: add or remove")),
        },
        "hostname" => {
            keyword(words, "set")?;
            let name = words.need("a name")?.to_owned();
            Command::SetHostname(name, words.next().unwrap_or_default().to_owned())
        }
        "resolver" => {
            keyword(words, "set")?;
            resolvers(words)?
        }
        "stage" => {
            keyword(words, "set")?;
            stage(words)?
        }
        "resource" => match words.need("put, remove or teardown")? {
            "put" => Command::PutResource(script::document(&words.text())?),
            "remove" => resource(words, ResourceChange::Remove)?,
            "teardown" => resource(words, ResourceChange::TearDown)?,
            word => return Err(wrong(word, "change of a resource: put, remove or teardown")),
        },
        "filesystem" => match words.need("set or remove")? {
            // `add` is what the lines of a state file begin with.
            "set" | "add" => Command::SetFilesystem(MountStat {
                filesystem: words.need("a source")?.to_owned(),
                mounted_on: words.need("a mount point")?.to_owned(),
                size: words.value("number of bytes")?,
                available: words.value("number of bytes")?,
            }),
            "remove" => Command::RemoveFilesystem(words.need("a mount point")?.to_owned()),
            word => return Err(wrong(word, "change of a filesystem: set or remove")),
        },
        "container" => match words.need("set or remove")? {
            "set" | "add" => Command::SetContainer(ContainerInfo {
                id: words.need("an id")?.to_owned(),
                image: words.need("an image")?.to_owned(),
                status: words.next().unwrap_or("CONTAINER_RUNNING").to_owned(),
            }),
            "remove" => Command::RemoveContainer(words.need("an id")?.to_owned()),
            word => return Err(wrong(word, "change of a container: set or remove")),
        },
        "crowd" => {
            let links = crowd_size(words)?;
            keyword(words, "links")?;
            let addresses = crowd_size(words)?;
            keyword(words, "addresses")?;
            Command::Crowd { links, addresses }
        }
        "churn" => match words.need("a rate or off")? {
            "off" => Command::Churn(None),
            word => {
                let rate = word
                    .strip_suffix("/s")
                    .unwrap_or(word)
                    .parse()
                    .map_err(|_| wrong(word, "number of changes a second"))?;
                let time = match words.next() {
                    None => CHURN,
                    Some("for") => words.time()?,
                    Some(word) => return Err(wrong(word, "word of this command: for")),
                };
                Command::Churn(Some((rate, time)))
            }
        },
        "peer-check" => Command::PeerCheck(switch(words)?),
        "service-pid" => {
            let pid = words.value("process id")?;
            Command::ServicePid(words.next().unwrap_or(SERVICE).to_owned(), pid)
        }
        "overrun" => {
            let (namespace, name) = type_name(words)?;
            Command::Resource(ResourceChange::Overrun, namespace, name, String::new())
        }
        "stall" => Command::Stall(match words.next() {
            None | Some("on") => Switch::On,
            Some("off") => Switch::Off,
            Some(word) => Switch::For(time(word).ok_or_else(|| wrong(word, "time, on or off"))?),
        }),
        "hang-new" => Command::HangNew(switch(words)?),
        "garbage" => Command::Garbage(switch(words)?),
        "tear" => Command::Tear(match words.need("close or silence")? {
            "close" => Torn::Close,
            "silence" => Torn::Silence,
            word => return Err(wrong(word, "end of a torn frame: close or silence")),
        }),
        "refuse" => match words.need("a gRPC code or off")? {
            "off" => Command::Accept(words.next().map(str::to_owned)),
            word => Command::Refuse(
                code_named(word).ok_or_else(|| wrong(word, "gRPC code"))?,
                words.need("a method")?.to_owned(),
                words.text(),
            ),
        },
        "restart" => restart(words, Some(DRAIN))?,
        "kill" => restart(words, None)?,
        "cut" => Command::Cut,
        "power" => Command::Power(power(words)?),
        "events" => {
            keyword(words, "end")?;
            Command::EndEvents
        }
        "maintenance" => Command::Maintenance,
        "report" => Command::Report(words.need("a version")?.to_owned()),
        "calls" => Command::Calls(words.next().map(str::to_owned)),
        "expect" => expect(words)?,
        "reset-calls" => Command::ResetCalls,
        "state" => Command::State,
        word => return Err(wrong(word, "command")),
    })
}

fn keyword(words: &mut Words<'_>, expected: &'static str) -> Result<(), ParseError> {
    match words.need(expected)? {
        word if word == expected => Ok(()),
        word => Err(wrong(word, expected)),
    }
}

fn new_link(words: &mut Words<'_>) -> Result<NewLink, ParseError> {
    let mut link = NewLink {
        name: words.need("a name")?.to_owned(),
        kind: "vmxnet3".to_owned(),
        ..Default::default()
    };
    let attributes = [
        "mac",
        "permanent-mac",
        "bus",
        "mtu",
        "index",
        "master",
        "parent",
        "vid",
        "speed",
        "down",
    ];
    if let Some(kind) = words.peek().filter(|word| !attributes.contains(word)) {
        link.kind = kind.to_owned();
        words.next();
    }
    while let Some(word) = words.next() {
        match word {
            "mac" => link.mac = Some(words.need("a hardware address")?.to_owned()),
            "permanent-mac" => link.permanent_mac = Some(words.need("a hardware address")?.to_owned()),
            "bus" => link.bus = Some(words.need("a PCI address")?.to_owned()),
            "mtu" => link.mtu = Some(words.value("number of bytes")?),
            "index" => link.index = Some(words.value("index")?),
            "master" => link.master = Some(words.need("a link")?.to_owned()),
            "parent" => link.parent = Some(words.need("a link")?.to_owned()),
            "vid" => link.vid = Some(words.value("VLAN id")?),
            "speed" => link.speed = Some(words.value("number of Mb/s")?),
            "down" => link.down = true,
            word => return Err(wrong(word, "attribute of a link")),
        }
    }
    Ok(link)
}

fn new_address(words: &mut Words<'_>) -> Result<NewAddress, ParseError> {
    let mut address = NewAddress {
        link: words.need("a link")?.to_owned(),
        prefix: words.value("address with a prefix length")?,
        origin: Origin::default(),
        flags: 0,
        scope: None,
        priority: 0,
        local: None,
    };
    while let Some(word) = words.next() {
        match word {
            "priority" => address.priority = words.value("priority")?,
            "local" => address.local = Some(words.value("address")?),
            "scope" => {
                let word = words.need("a scope")?;
                address.scope = Some(named(SCOPE, word).ok_or_else(|| wrong(word, "scope"))?);
            }
            word => match (Origin::named(word), named(ADDRESS_FLAGS, word)) {
                (Some(origin), _) => address.origin = origin,
                (None, Some(flag)) => address.flags |= flag,
                (None, None) => return Err(wrong(word, "origin, flag or attribute of an address")),
            },
        }
    }
    if address.flags == 0 {
        address.flags = PERMANENT;
    }
    Ok(address)
}

fn new_route(words: &mut Words<'_>) -> Result<NewRoute, ParseError> {
    let destination = match words.need("a destination")? {
        "default" => None,
        word => Some(word.parse().map_err(|_| wrong(word, "destination"))?),
    };
    let mut route = NewRoute {
        destination,
        gateway: None,
        link: None,
        priority: 1024,
        table: MAIN_TABLE,
        source: None,
        protocol: 4,
    };
    while let Some(word) = words.next() {
        match word {
            "via" => route.gateway = Some(words.value("address")?),
            "dev" => route.link = Some(words.need("a link")?.to_owned()),
            "metric" => route.priority = words.value("metric")?,
            "table" => route.table = words.value("number of a table")?,
            "src" => route.source = Some(words.value("address")?),
            "proto" => {
                let word = words.need("a protocol")?;
                route.protocol = named(ROUTE_PROTOCOL, word).ok_or_else(|| wrong(word, "protocol"))?;
            }
            word => return Err(wrong(word, "attribute of a route")),
        }
    }
    Ok(route)
}

fn resolvers(words: &mut Words<'_>) -> Result<Command, ParseError> {
    let mut servers = Vec::new();
    while let Some(word) = words.next() {
        if word == "search" {
            let domains = words.text();
            let domains = domains.split_whitespace().map(str::to_owned).collect();
            return Ok(Command::SetResolvers(servers, domains));
        }
        servers.push(word.parse::<IpAddr>().map_err(|_| wrong(word, "IP address"))?);
    }
    Ok(Command::SetResolvers(servers, Vec::new()))
}

/// `STAGE [unready NAME REASON...]`; a stage of two words may be written with a hyphen.
fn stage(words: &mut Words<'_>) -> Result<Command, ParseError> {
    let stage = words.need("a stage")?.replace('-', " ");
    let unmet = match words.next() {
        None => None,
        Some("unready") => Some((words.need("a condition")?.to_owned(), words.text())),
        Some(word) => return Err(wrong(word, "word of this command: unready")),
    };
    Ok(Command::SetStage(stage, unmet))
}

fn type_name(words: &mut Words<'_>) -> Result<(Option<String>, String), ParseError> {
    let word = words.need("a resource type")?;
    Ok(match word.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name.to_owned()),
        None => (None, word.to_owned()),
    })
}

fn resource(words: &mut Words<'_>, change: ResourceChange) -> Result<Command, ParseError> {
    let (namespace, name) = type_name(words)?;
    let id = words.need("an id")?.to_owned();
    Ok(Command::Resource(change, namespace, name, id))
}

fn restart(words: &mut Words<'_>, mut drain: Option<Duration>) -> Result<Command, ParseError> {
    let mut down_for = Duration::ZERO;
    while let Some(word) = words.next() {
        match word {
            "down-for" => down_for = words.time()?,
            "drain" if drain.is_some() => drain = Some(words.time()?),
            word => return Err(wrong(word, "word of this command: down-for or drain")),
        }
    }
    Ok(Command::Restart { drain, down_for })
}

fn power(words: &mut Words<'_>) -> Result<Effect, ParseError> {
    match words.need("record, stop or run")? {
        "record" => return Ok(Effect::Record),
        "run" => return Ok(Effect::Run(course(words)?)),
        "stop" => {}
        word => return Err(wrong(word, "effect of power calls: record, stop or run")),
    }
    let pid: i32 = words.value("process id")?;
    // 0 and below are groups, 1 is not ours to stop.
    if pid <= 1 {
        return Err(wrong(&pid.to_string(), "process id"));
    }
    let mut going_down = GoingDown {
        pid: Pid::from_raw(pid),
        term_after: Duration::from_millis(500),
        vanish_after: Duration::from_millis(500),
    };
    while let Some(word) = words.next() {
        match word {
            "after" => going_down.term_after = words.time()?,
            "vanish" => going_down.vanish_after = words.time()?,
            word => return Err(wrong(word, "word of this command: after or vanish")),
        }
    }
    Ok(Effect::GoDown(going_down))
}

fn course(words: &mut Words<'_>) -> Result<Course, ParseError> {
    let mut course = Course::default();
    while let Some(word) = words.next() {
        match word {
            "drain" => course.drain = words.time()?,
            "services" => course.services = words.time()?,
            "locked" => course.fault = Some(Fault::Locked),
            "fatal" => course.fault = Some(Fault::Fatal),
            "silent" => course.fault = Some(Fault::Silent),
            word => {
                let expected = "word of this command: drain, services, locked, fatal or silent";
                return Err(wrong(word, expected));
            }
        }
    }
    Ok(course)
}

fn expect(words: &mut Words<'_>) -> Result<Command, ParseError> {
    let none = match words.need("call, no call or listening")? {
        "listening" => {
            let within = match words.next() {
                None => PATIENCE,
                Some("within") => words.time()?,
                Some(word) => return Err(wrong(word, "word of this command: within")),
            };
            return Ok(Command::ExpectListening(within));
        }
        "no" => {
            keyword(words, "call")?;
            true
        }
        "call" => false,
        word => return Err(wrong(word, "expectation: call, no call or listening")),
    };
    let mut expected = Expected {
        method: words.need("a method")?.to_owned(),
        ..Default::default()
    };
    let mut count = None;
    let mut wait = if none { WATCHFUL } else { PATIENCE };
    while let Some(word) = words.next() {
        match word {
            "role" => expected.role = Some(words.need("a role")?.to_owned()),
            "outcome" => {
                let word = words.need("a gRPC code")?;
                expected.outcome = Some(code_named(word).ok_or_else(|| wrong(word, "gRPC code"))?);
            }
            "count" if !none => count = Some(words.value("count")?),
            "within" if !none => wait = words.time()?,
            "for" if none => wait = words.time()?,
            word => match word.split_once('=') {
                Some((key, value)) => expected.request.push((key.to_owned(), value.to_owned())),
                None => return Err(wrong(word, "condition of a call")),
            },
        }
    }
    Ok(if none {
        Command::ExpectNoCall(expected, wait)
    } else {
        Command::ExpectCall(expected, count, wait)
    })
}
