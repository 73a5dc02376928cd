//! What a snapshot means for the host: the values to publish, where each came from, and why.

#![forbid(unsafe_code)]

use serde::Serialize;
use tokio::sync::watch;

use super::{
    containers::Containers,
    disk::{self, Devices, Disk, Filesystems},
    key::{Key, program},
    name::{self, NameError},
    nic::NicInfo,
    os::{Kernel, OsNames},
    policy::{Note, Policy, Selection},
    statistics::Statistics,
    talos_state::StateKey,
    uptime,
};
use crate::talos::{Snapshot, snapshot::Fact};

/// Why there is no value of a kind.
const SWITCHED_OFF: &str = "switched off by the settings";

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
    /// The filesystems.
    Disks(Vec<Disk>),
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

/// What stands in no snapshot: the last answers of calls.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Of `Mounts`.
    pub filesystems: Filesystems,
    /// Of `Containers`.
    pub containers: Containers,
}

/// The answers as they come in; none for what is not asked.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// Of `Mounts`.
    pub filesystems: Option<watch::Receiver<Filesystems>>,
    /// Of `Containers`.
    pub containers: Option<watch::Receiver<Containers>>,
}

impl Calls {
    /// The last ones.
    pub fn latest(&self) -> Answers {
        Answers {
            filesystems: self
                .filesystems
                .as_ref()
                .and_then(|latest| latest.borrow().clone()),
            containers: self
                .containers
                .as_ref()
                .and_then(|latest| latest.borrow().clone()),
        }
    }
}

/// Everything that would be published for `snapshot`, in the order of publication.
pub fn render(
    snapshot: &Snapshot,
    policy: &Policy,
    kernel: Option<&Kernel>,
    answers: &Answers,
) -> Vec<Entry> {
    let mut notes = Vec::new();
    let facts = Facts::new(snapshot, policy, kernel, &mut |note| notes.push(note.to_string()));

    let mut network_why: Vec<String> = [
        age("LinkStatuses", &snapshot.links),
        age("AddressStatuses", &snapshot.addresses),
        age("AddressSpecs", &snapshot.address_specs),
        age("RouteStatuses", &snapshot.routes),
        age("NodeAddresses", &snapshot.node_addresses),
        age("NodeIPs", &snapshot.node_ips),
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
            source: "LinkStatuses, AddressStatuses, AddressSpecs, RouteStatuses, NodeAddresses, NodeIPs, ResolverStatuses",
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
                SWITCHED_OFF.to_owned()
            }],
        },
    ];
    entries.push(disks(snapshot, policy, answers));
    entries.push(containers(policy, answers));
    entries.extend(program().map(|(key, value)| Entry {
        key,
        value: Some(Value::Text(value)),
        source: "this program",
        why: vec!["with each registration".to_owned()],
    }));
    entries.extend(StateKey::ALL.map(|key| talos_state(key, snapshot, policy)));
    entries
}

fn disks(snapshot: &Snapshot, policy: &Policy, answers: &Answers) -> Entry {
    let disks = policy
        .disks
        .then(|| disk::select(snapshot, &answers.filesystems, &mut Devices::default()))
        .flatten();
    let why = if !policy.disks {
        SWITCHED_OFF.to_owned()
    } else if answers.filesystems.is_none() {
        "the Mounts call was not answered".to_owned()
    } else {
        match disk::mount_points(snapshot) {
            None => "Talos has told of no filesystem of its own".to_owned(),
            Some(targets) => {
                let targets: Vec<&str> = targets.into_keys().collect();
                format!(
                    "what Talos itself mounted, each filesystem once: {}",
                    targets.join(" ")
                )
            }
        }
    };
    Entry {
        key: Key::Disks,
        value: disks.map(Value::Disks),
        source: "MountStatuses, VolumeStatuses, the Mounts call, sysfs",
        why: vec![why],
    }
}

fn containers(policy: &Policy, answers: &Answers) -> Entry {
    let list = answers.containers.as_deref().filter(|_| policy.containers);
    let why = match list {
        Some(_) => "the images that run, each once",
        None if policy.containers => "the Containers call was not answered",
        None => SWITCHED_OFF,
    };
    Entry {
        key: Key::Containers,
        value: list.map(|list| Value::Text(list.to_owned())),
        source: "the Containers call",
        why: vec![why.to_owned()],
    }
}

fn talos_state(key: StateKey, snapshot: &Snapshot, policy: &Policy) -> Entry {
    let value = key.value(snapshot).filter(|_| policy.talos_state);
    let why = match &value {
        Some(_) => None,
        None if key.is_of_events() => Some("written by the service when it happens"),
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
        let entries = render(
            &Snapshot::default(),
            &Policy::default(),
            None,
            &Answers::default(),
        );
        for entry in entries {
            let own = program().iter().any(|(key, _)| *key == entry.key);
            assert_eq!(
                entry.value.is_some(),
                own || entry.key == Key::Uptime,
                "{entry:?}"
            );
            let explained = !entry.why.is_empty() || matches!(entry.key, Key::Uptime | Key::PrimaryIp);
            assert!(explained, "{entry:?}");
        }
    }

    #[test]
    fn disks_are_shown_with_their_free_space_and_containers_where_they_are_told() {
        use std::sync::Arc;

        use crate::talos::snapshot::{Filesystem, MountStatus};

        let mount = MountStatus {
            target: "/var".into(),
            filesystem: "xfs".into(),
            ..MountStatus::default()
        };
        let snapshot = Snapshot {
            mounts: Fact::Known {
                value: Arc::new([("EPHEMERAL".to_owned(), mount)].into()),
            },
            ..Snapshot::default()
        };
        let var = Filesystem {
            source: "tmpfs".into(),
            target: "/var".into(),
            size: 1000,
            available: 400,
        };
        let answers = Answers {
            filesystems: Some(Arc::new(vec![var])),
            containers: Some("list".into()),
        };
        let shown = |on: bool, answers: &Answers| -> Vec<Entry> {
            let policy = Policy {
                disks: on,
                containers: on,
                ..Policy::default()
            };
            let mut entries = render(&snapshot, &policy, None, answers);
            entries.retain(|entry| matches!(entry.key, Key::Disks | Key::Containers));
            entries
        };
        let told = shown(true, &answers);
        let lines = match &told[0].value {
            Some(Value::Disks(disks)) => disks.iter().map(Disk::to_string).collect(),
            _ => Vec::new(),
        };
        assert_eq!(lines, ["/var xfs, 400 of 1000 bytes free"]);
        assert_eq!(told[1].value, Some(Value::Text("list".into())));
        for (on, answers, why) in [
            (true, &Answers::default(), "was not answered"),
            (false, &answers, "switched off"),
        ] {
            for entry in shown(on, answers) {
                assert_eq!(entry.value, None);
                assert!(entry.why[0].contains(why), "{entry:?}");
            }
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
        let json = serde_json::to_value(render(
            &snapshot,
            &Policy::default(),
            Some(&kernel),
            &Answers::default(),
        ))
        .unwrap();
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
