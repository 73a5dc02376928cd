//! What a snapshot means for the host: the values to publish, where each came from, and why.

#![forbid(unsafe_code)]

use serde::Serialize;

use super::{
    disk,
    key::Key,
    name::{self, NameError},
    nic::NicInfo,
    os::{Kernel, OsNames},
    policy::{Note, Policy, Selection},
    statistics::Statistics,
    talos_state::StateKey,
    uptime,
};
use crate::talos::{Snapshot, snapshot::Fact};

/// A value in readable form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Sent as it stands.
    Text(String),
    /// The whole NIC record.
    Network(NicInfo),
    /// The OS record.
    Os(OsNames),
    /// The statistics, one a line.
    Readings(Vec<String>),
}

/// One key with its explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What is published.
    pub key: Key,
    /// None is not sent: the host keeps what it has.
    pub value: Option<Value>,
    /// Where it comes from.
    pub source: &'static str,
    /// Each decision behind it, or why there is no value.
    pub why: Vec<String>,
}

/// The facts of one snapshot that the host is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub network: Option<Selection>,
    pub name: Option<Result<String, NameError>>,
    pub os: Option<OsNames>,
}

impl Facts {
    pub fn new<'a>(
        snapshot: &'a Snapshot,
        policy: &Policy,
        kernel: Option<&Kernel>,
        note: &mut dyn FnMut(Note<'a>),
    ) -> Self {
        Self {
            network: policy.select(snapshot, note),
            name: host_name(snapshot, policy),
            os: os_names(snapshot, kernel),
        }
    }
}

fn host_name(snapshot: &Snapshot, policy: &Policy) -> Option<Result<String, NameError>> {
    let status = snapshot.hostname.value()?;
    let node = snapshot.nodename.value().map(String::as_str);
    Some(name::reported(status, node, policy.hostname))
}

fn os_names(snapshot: &Snapshot, kernel: Option<&Kernel>) -> Option<OsNames> {
    OsNames::new(snapshot.version.value()?, kernel?)
}

/// Name and operating system of the node, as far as they are known.
pub fn identity(
    snapshot: &Snapshot,
    policy: &Policy,
    kernel: Option<&Kernel>,
) -> (Option<String>, Option<OsNames>) {
    (
        host_name(snapshot, policy).and_then(Result::ok),
        os_names(snapshot, kernel),
    )
}

/// Everything that would be published for `snapshot`, in the order of publication.
pub fn render(snapshot: &Snapshot, policy: &Policy, kernel: Option<&Kernel>) -> Vec<Entry> {
    let mut notes = Vec::new();
    let facts = Facts::new(snapshot, policy, kernel, &mut |note| notes.push(note.to_string()));

    let mut network_why: Vec<String> = [
        age("LinkStatuses", &snapshot.links),
        age("AddressStatuses", &snapshot.addresses),
        age("AddressSpecs", &snapshot.address_specs),
        age("RouteStatuses", &snapshot.routes),
        age("NodeAddresses", &snapshot.node_addresses),
        age("ResolverStatuses", &snapshot.resolvers),
    ]
    .into_iter()
    .flatten()
    .collect();
    network_why.append(&mut notes);

    let primary = facts.network.as_ref().map(|network| match network.primary {
        Some(address) => (address.to_string(), "the first address of the first adapter"),
        None => (
            String::new(),
            "no adapter has an address that others can use: the value is cleared",
        ),
    });
    let name_why = match &facts.name {
        Some(Err(error)) => Some(error.to_string()),
        _ => age("HostnameStatuses", &snapshot.hostname),
    };
    let os_why = match &facts.os {
        None => Some("the release of Talos or of the kernel is not known".to_owned()),
        Some(_) => age("Version", &snapshot.version),
    };
    let mut entries = vec![
        Entry {
            key: Key::NicInfo,
            value: facts.network.map(|network| Value::Network(network.record)),
            source: "LinkStatuses, AddressStatuses, AddressSpecs, RouteStatuses, NodeAddresses, ResolverStatuses",
            why: network_why,
        },
        Entry {
            key: Key::PrimaryIp,
            source: "the NIC record",
            why: primary.iter().map(|(_, why)| (*why).to_owned()).collect(),
            value: primary.map(|(address, _)| Value::Text(address)),
        },
        Entry {
            key: Key::HostName,
            value: facts.name.and_then(Result::ok).map(Value::Text),
            source: "HostnameStatuses, Nodenames",
            why: name_why.into_iter().collect(),
        },
        Entry {
            key: Key::OsDetailed,
            value: facts.os.map(Value::Os),
            source: "Version, uname",
            why: os_why.into_iter().collect(),
        },
        Entry {
            key: Key::Uptime,
            value: uptime::hundredths().map(|uptime| Value::Text(uptime.to_string())),
            source: "CLOCK_BOOTTIME, hundredths of a second",
            why: Vec::new(),
        },
        Entry {
            key: Key::Statistics,
            value: policy.statistics.then(|| Value::Readings(Statistics::describe())),
            source: "/proc",
            why: vec![if policy.statistics {
                "every 20 s; a rate wants two of them".to_owned()
            } else {
                "switched off by the settings".to_owned()
            }],
        },
    ];
    entries.push(Entry {
        key: Key::Disks,
        value: None,
        source: "MountStatuses, VolumeStatuses, the Mounts call",
        why: vec![if policy.disks {
            mounted(snapshot)
        } else {
            "switched off by the settings".to_owned()
        }],
    });
    entries.extend(StateKey::ALL.map(|key| talos_state(key, snapshot, policy)));
    entries
}

/// The mount points that the service looks at once a minute. Their free space is known to it alone.
fn mounted(snapshot: &Snapshot) -> String {
    let targets = disk::mount_points(snapshot).unwrap_or_default();
    if targets.is_empty() {
        "Talos has told of no filesystem of its own".to_owned()
    } else {
        let targets: Vec<&str> = targets.into_keys().collect();
        format!("sent by the service with the free space of {}", targets.join(" "))
    }
}

fn talos_state(key: StateKey, snapshot: &Snapshot, policy: &Policy) -> Entry {
    let value = key.value(snapshot).filter(|_| policy.talos_state);
    let why = match &value {
        Some(_) => None,
        None if policy.talos_state => Some("not told by Talos; what an earlier life left is cleared"),
        None => Some("switched off by the settings; what an earlier life left is cleared"),
    };
    Entry {
        key: Key::Talos(key),
        value: value.map(Value::Text),
        source: key.source(),
        why: why.map(str::to_owned).into_iter().collect(),
    }
}

/// What is remarkable about the age of a fact.
fn age<T>(what: &str, fact: &Fact<T>) -> Option<String> {
    match fact {
        Fact::Unknown => Some(format!("{what}: not told by Talos yet")),
        Fact::Known { .. } => None,
        Fact::Stale { since, .. } => {
            let silent = since.elapsed().unwrap_or_default().as_secs();
            Some(format!(
                "{what}: Talos has been silent for {silent} s, last value kept"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::talos::snapshot::{HostnameStatus, Version};

    #[test]
    fn nothing_known_is_nothing_sent_but_explained() {
        let entries = render(&Snapshot::default(), &Policy::default(), None);
        for entry in entries {
            assert_eq!(entry.value.is_some(), entry.key == Key::Uptime, "{entry:?}");
            let explained = !entry.why.is_empty() || matches!(entry.key, Key::Uptime | Key::PrimaryIp);
            assert!(explained, "{entry:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_age_below_zero() {
        let fact = Fact::Stale {
            value: (),
            since: std::time::SystemTime::now() + std::time::Duration::from_secs(3600),
        };
        assert_eq!(
            age("LinkStatuses", &fact).as_deref(),
            Some("LinkStatuses: Talos has been silent for 0 s, last value kept")
        );
    }

    #[test]
    fn entries_serialize() {
        let snapshot = Snapshot {
            hostname: Fact::Known {
                value: HostnameStatus {
                    hostname: "talos-cp-1".into(),
                    domainname: String::new(),
                },
            },
            version: Fact::Known {
                value: Version {
                    tag: "v1.14.1".into(),
                    arch: "amd64".into(),
                    platform: "vmware".into(),
                },
            },
            ..Snapshot::default()
        };
        let kernel = Kernel::running().unwrap();
        let json = serde_json::to_value(render(&snapshot, &Policy::default(), Some(&kernel))).unwrap();
        assert_eq!(json[2]["key"], "host-name");
        assert_eq!(json[2]["value"], "talos-cp-1");
        assert_eq!(json[3]["key"], "os-detailed");
        assert!(
            json[3]["value"]["properties"]
                .as_str()
                .unwrap()
                .contains("distroVersion='v1.14.1'")
        );
        assert_eq!(json[0]["value"], serde_json::Value::Null);
    }
}
