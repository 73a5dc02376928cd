//! The state of Talos under `guestinfo.talos.`, for whoever sees only the virtual machine.
//!
//! The names below are all that is ever written or cleared there, each by its exact name, and the only ones that are
//! read. `guestinfo.talos.config` is the node's machine configuration: it belongs to Talos.
//!
//! ```text
//!  snapshot ──values──> what the host lacks ──Budget: four a minute──┬──> info-set guestinfo.talos.<name> <value>
//!  power operations, comparison of the clocks: when it happens ──────┘
//! ```

#![forbid(unsafe_code)]

use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::{rpci::Request, talos::Snapshot};

/// Longest value, in bytes. Only the unmet conditions can come near it.
const MAX_VALUE: usize = 1024;

/// A key below `guestinfo.talos.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKey {
    /// Release of Talos: `v1.14.1`.
    Version,
    /// `controlplane`, `worker` or `init`.
    MachineType,
    /// What the machine is doing: `booting`, `running`, …
    Stage,
    /// Whether no condition is unmet: `true` or `false`.
    Ready,
    /// `name: reason; …`, empty when all are met.
    UnmetConditions,
    /// What the boot image was made from.
    SchematicId,
    /// The node's name in Kubernetes.
    NodeName,
    /// Its condition Ready: `true` or `false`, empty while Kubernetes has no such node.
    NodeReady,
    /// Name of the cluster.
    ClusterName,
    /// The kernel's id of this boot.
    BootId,
    /// Version of this program.
    AgentVersion,
    /// Why the last power operation failed; empty once another has begun. Written by those who follow operations.
    LastError,
    /// The node's clock minus the host's in seconds, empty while they are together. Written by those who compare them.
    ClockOffset,
}

impl StateKey {
    /// Each of them, in the order of publication.
    pub const ALL: [Self; 13] = [
        Self::Stage,
        Self::Ready,
        Self::UnmetConditions,
        Self::NodeName,
        Self::NodeReady,
        Self::Version,
        Self::MachineType,
        Self::ClusterName,
        Self::SchematicId,
        Self::BootId,
        Self::AgentVersion,
        Self::LastError,
        Self::ClockOffset,
    ];

    /// For the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Version => "talos.version",
            Self::MachineType => "talos.machine-type",
            Self::Stage => "talos.stage",
            Self::Ready => "talos.ready",
            Self::UnmetConditions => "talos.unmet-conditions",
            Self::SchematicId => "talos.schematic-id",
            Self::NodeName => "talos.node-name",
            Self::NodeReady => "talos.node-ready",
            Self::ClusterName => "talos.cluster-name",
            Self::BootId => "talos.boot-id",
            Self::AgentVersion => "talos.agent-version",
            Self::LastError => "talos.last-error",
            Self::ClockOffset => "talos.clock-offset",
        }
    }

    /// Sets it; an empty value clears it.
    pub fn set(self, value: &str) -> Request {
        Request::info_set(self.name(), value)
    }

    /// Asks for it.
    pub fn get(self) -> Request {
        Request::text(format!("info-get guestinfo.{}", self.name()))
    }

    /// Which resource it comes from.
    pub const fn source(self) -> &'static str {
        match self {
            Self::Version => "Version",
            Self::MachineType => "MachineTypes",
            Self::Stage | Self::Ready | Self::UnmetConditions => "MachineStatuses",
            Self::SchematicId => "ImageFactorySchematics, ExtensionStatuses",
            Self::NodeName => "Nodenames",
            Self::NodeReady => "NodeStatuses",
            Self::ClusterName => "the machine configuration's cluster information",
            Self::BootId => "the kernel's boot id",
            Self::AgentVersion => "this program",
            Self::LastError => "power operations",
            Self::ClockOffset => "the comparison of the clocks",
        }
    }

    /// Whether it is written when something happens, and not from the snapshot. Whoever writes it also clears what an
    /// earlier life of the machine left.
    pub const fn is_of_events(self) -> bool {
        matches!(self, Self::LastError | Self::ClockOffset)
    }

    /// Its value, where `snapshot` knows one.
    pub fn value(self, snapshot: &Snapshot) -> Option<String> {
        let machine = snapshot.machine.value();
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let value = match self {
            Self::Version => known(&snapshot.version.value()?.tag),
            Self::MachineType => known(snapshot.machine_type.value()?.name()?),
            Self::Stage => known(stage(machine?.stage)?),
            Self::Ready => Some(machine?.ready.to_string()),
            Self::UnmetConditions => Some(
                machine?
                    .unmet_conditions
                    .iter()
                    .map(|(name, reason)| format!("{name}: {reason}"))
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
            Self::SchematicId => known(snapshot.schematic_id()?),
            Self::NodeName => known(match snapshot.nodename.value() {
                Some(name) => name,
                None => snapshot.kubernetes_node()?.0,
            }),
            Self::NodeReady => {
                let nodes = snapshot.nodes.value()?;
                match snapshot.kubernetes_node() {
                    Some((_, node)) => Some(node.ready.to_string()),
                    // Not in Kubernetes, or not any more: an old `true` would be taken for its state.
                    None if nodes.is_empty() || snapshot.nodename.value().is_some() => Some(String::new()),
                    None => None,
                }
            }
            Self::ClusterName => known(snapshot.cluster_name.value()?),
            Self::BootId => known(snapshot.boot_id.value()?),
            Self::AgentVersion => Some(env!("CARGO_PKG_VERSION").to_owned()),
            Self::LastError | Self::ClockOffset => None,
        };
        value.map(|value| sendable(&value))
    }
}

impl Serialize for StateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Talos's words (pkg/machinery/resources/runtime/machine_status.go).
const fn stage(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "booting",
        2 => "installing",
        3 => "maintenance",
        4 => "running",
        5 => "rebooting",
        6 => "shutting down",
        7 => "resetting",
        8 => "upgrading",
        _ => return None,
    })
}

/// One line of bounded length.
fn sendable(value: &str) -> String {
    let mut line: String = value
        .chars()
        .take(MAX_VALUE)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    while line.len() > MAX_VALUE {
        line.pop();
    }
    line
}

/// How many writes may still be made: a few at once, then four a minute. With the clock's offset, at most one a minute
/// and a bit, and the last error it stays below six.
#[derive(Debug)]
pub struct Budget {
    left: u32,
    /// When `left` was true.
    counted: Instant,
}

/// Each key twice: for a start and a `reset` behind it.
const BURST: u32 = 22;
/// The time that earns one write: four a minute.
const PER_WRITE: Duration = Duration::from_secs(15);

impl Budget {
    /// A full one.
    pub const fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            counted: now,
        }
    }

    /// Takes one write, or says when there will be one.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        while self.left < BURST && now >= self.counted + PER_WRITE {
            self.left += 1;
            self.counted += PER_WRITE;
        }
        if self.left == BURST {
            self.counted = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.counted + PER_WRITE),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{
        guestinfo::nodes::{dual_stack, known},
        talos::snapshot::{Fact, MachineStatus, MachineType, NodeStatus, Schematic},
    };

    #[test]
    fn nobody_elses_key_is_among_them() {
        let names: Vec<&str> = StateKey::ALL.iter().map(|key| key.name()).collect();
        assert!(names.iter().all(|name| name.starts_with("talos.")));
        for foreign in ["talos.config", "talos.platform", "talos.userdata", "talos"] {
            assert!(!names.contains(&foreign), "{foreign}");
        }
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
        assert_eq!(
            StateKey::Stage.set("running").bytes(),
            b"info-set guestinfo.talos.stage running\0"
        );
        assert_eq!(StateKey::Stage.get().bytes(), b"info-get guestinfo.talos.stage\0");
    }

    #[test]
    fn each_value_of_a_running_node() {
        let mut snapshot = dual_stack().snapshot();
        snapshot.machine = known(MachineStatus {
            stage: 4,
            ready: false,
            unmet_conditions: vec![
                ("nodeReady".into(), "node is not\nready".into()),
                ("services".into(), "etcd".into()),
            ],
        });
        snapshot.machine_type = known(MachineType(2));
        snapshot.nodename = known("talos-cp-1".into());
        snapshot.nodes = known(Arc::new(BTreeMap::from([(
            "talos-cp-1".into(),
            NodeStatus {
                ready: true,
                unschedulable: false,
            },
        )])));
        snapshot.cluster_name = known("home".into());
        snapshot.schematic = known(Schematic {
            id: "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba".into(),
            flavor: String::new(),
        });
        snapshot.boot_id = known("6a1b".into());
        for (key, expected) in [
            (StateKey::Version, "v1.14.1"),
            (StateKey::MachineType, "controlplane"),
            (StateKey::Stage, "running"),
            (StateKey::Ready, "false"),
            (
                StateKey::UnmetConditions,
                "nodeReady: node is not ready; services: etcd",
            ),
            (
                StateKey::SchematicId,
                "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba",
            ),
            (StateKey::NodeName, "talos-cp-1"),
            (StateKey::NodeReady, "true"),
            (StateKey::ClusterName, "home"),
            (StateKey::BootId, "6a1b"),
            (StateKey::AgentVersion, env!("CARGO_PKG_VERSION")),
        ] {
            assert_eq!(key.value(&snapshot).as_deref(), Some(expected), "{key:?}");
        }
    }

    #[test]
    fn a_node_that_kubernetes_does_not_have_is_neither_ready_nor_unready() {
        let nodes = |names: &[&str]| {
            let nodes = names
                .iter()
                .map(|name| ((*name).to_owned(), NodeStatus::default()));
            known(Arc::new(nodes.collect::<BTreeMap<_, _>>()))
        };
        let ready = |nodename: Option<&str>, nodes: Fact<_>| {
            let snapshot = Snapshot {
                nodename: nodename.map_or(Fact::Unknown, |name| known(name.to_owned())),
                nodes,
                ..Snapshot::default()
            };
            StateKey::NodeReady.value(&snapshot)
        };
        assert_eq!(ready(Some("a"), nodes(&["a"])).as_deref(), Some("false"));
        assert_eq!(ready(Some("a"), nodes(&["b"])).as_deref(), Some(""));
        assert_eq!(ready(Some("a"), nodes(&[])).as_deref(), Some(""));
        assert_eq!(ready(None, nodes(&[])).as_deref(), Some(""));
        assert_eq!(
            ready(None, nodes(&["a", "b"])),
            None,
            "which of them is not known"
        );
        assert_eq!(ready(Some("a"), Fact::Unknown), None);
    }

    #[test]
    fn what_is_unknown_has_no_value() {
        for key in StateKey::ALL {
            let value = key.value(&Snapshot::default());
            assert_eq!(value.is_some(), key == StateKey::AgentVersion, "{key:?}");
        }
        let mut snapshot = Snapshot {
            machine: known(MachineStatus {
                stage: 99,
                ready: true,
                unmet_conditions: vec![],
            }),
            ..Snapshot::default()
        };
        assert_eq!(StateKey::Stage.value(&snapshot), None, "a word of a later Talos");
        assert_eq!(StateKey::UnmetConditions.value(&snapshot).as_deref(), Some(""));
        snapshot.machine = known(MachineStatus {
            stage: 1,
            ready: false,
            unmet_conditions: vec![("ü".repeat(5000), String::new())],
        });
        assert!(StateKey::UnmetConditions.value(&snapshot).unwrap().len() <= MAX_VALUE);
    }

    #[tokio::test(start_paused = true)]
    async fn four_writes_a_minute_after_a_burst() {
        let of_snapshot = StateKey::ALL.iter().filter(|key| !key.is_of_events());
        assert_eq!(BURST as usize, 2 * of_snapshot.count());
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut taken = |seconds| budget.take(start + Duration::from_secs(seconds)).is_ok();
        assert_eq!((0..100).filter(|_| taken(0)).count(), 22);
        let hour = (0..3600).filter(|second| taken(*second)).count();
        assert!((238..=240).contains(&hour), "{hour}");
        assert_eq!((0..100).filter(|_| taken(1_000_000)).count(), 22);
    }
}
