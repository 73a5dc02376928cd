//! What the node is doing, and what may be asked of it then.
//!
//! machined lets Shutdown take over whatever is running, an upgrade half-way included, and begins a shutdown that is
//! under way from its first phase again (v1alpha1_priority_lock.go). So the stage decides before anything is called:
//!
//! | stage | what is done |
//! | --- | --- |
//! | installing, upgrading, resetting | refused: it is never cancelled |
//! | shutting down, rebooting | success without a call: it is happening |
//! | maintenance | called, with `force`: there is no kubelet to drain |
//! | booting, running, unknown | called |
//!
//! An unknown stage is called without `force`: the host's request must not depend on a resource that this Talos does not
//! serve or serves late, an upgrade lasts minutes and the stage is unknown for moments after a connect, and a drain that
//! was skipped cannot be caught up. A stage that was last seen before Talos fell silent still counts: the refusal of a
//! call costs a repetition, an upgrade cut short costs the node.
//!
//! Talos 1.5.0 to 1.7.5 crash, and take the node with them, when Shutdown without `force` meets no machine
//! configuration (fixed in 1.7.6 and 1.8.0). Only a node that runs is known to have one, so there every other stage is
//! called with `force`.

#![forbid(unsafe_code)]

use std::fmt;

use super::Operation;
use crate::talos::Snapshot;

/// `machine.MachineStatusEvent.MachineStage`, as MachineStatus carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not told, or a number that this program does not know.
    Unknown,
    /// The boot sequence runs.
    Booting,
    /// Talos is written to the disk.
    Installing,
    /// There is no machine configuration.
    Maintenance,
    /// Everything is up.
    Running,
    /// The reboot sequence runs.
    Rebooting,
    /// The shutdown sequence runs.
    ShuttingDown,
    /// The disk is wiped.
    Resetting,
    /// Another Talos is written to the disk.
    Upgrading,
}

impl Stage {
    /// The stage in the snapshot, fresh or stale.
    pub fn of(snapshot: &Snapshot) -> Self {
        match snapshot.machine.value().map(|machine| machine.stage) {
            Some(1) => Self::Booting,
            Some(2) => Self::Installing,
            Some(3) => Self::Maintenance,
            Some(4) => Self::Running,
            Some(5) => Self::Rebooting,
            Some(6) => Self::ShuttingDown,
            Some(7) => Self::Resetting,
            Some(8) => Self::Upgrading,
            _ => Self::Unknown,
        }
    }

    /// Whether the sequence of `operation` runs.
    pub fn is_of(self, operation: Operation) -> bool {
        match operation {
            Operation::Shutdown => self == Self::ShuttingDown,
            Operation::Reboot => self == Self::Rebooting,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "in an unknown stage",
            Self::Booting => "booting",
            Self::Installing => "installing",
            Self::Maintenance => "in maintenance",
            Self::Running => "running",
            Self::Rebooting => "rebooting",
            Self::ShuttingDown => "shutting down",
            Self::Resetting => "resetting",
            Self::Upgrading => "upgrading",
        })
    }
}

/// What is done about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Talos is called.
    Call {
        /// Shutdown skips cordon and drain.
        force: bool,
    },
    /// The machine goes down without us.
    UnderWay(Stage),
    /// It would cut this short.
    Refuse(Stage),
}

impl Decision {
    /// Decides by what is known of the node.
    pub fn of(snapshot: &Snapshot) -> Self {
        let stage = Stage::of(snapshot);
        match stage {
            Stage::Installing | Stage::Upgrading | Stage::Resetting => Self::Refuse(stage),
            Stage::ShuttingDown | Stage::Rebooting => Self::UnderWay(stage),
            Stage::Maintenance => Self::Call { force: true },
            Stage::Running => Self::Call { force: false },
            Stage::Booting | Stage::Unknown => Self::Call {
                force: snapshot
                    .version
                    .value()
                    .is_some_and(|version| needs_configuration(&version.tag)),
            },
        }
    }
}

/// Shutdown without `force` crashes this Talos where there is no machine configuration. A tag that is no version is
/// that of a newer one.
fn needs_configuration(tag: &str) -> bool {
    let version = tag.trim_start_matches('v');
    // A pre-release has the fixes of the release it leads to, or nobody runs it any more.
    let version = version.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => (major, minor, patch) < (1, 7, 6),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::talos::snapshot::{Fact, MachineStatus, Version};

    fn snapshot(stage: i32, tag: &str) -> Snapshot {
        Snapshot {
            machine: Fact::Known {
                value: MachineStatus {
                    stage,
                    ..MachineStatus::default()
                },
            },
            version: Fact::Known {
                value: Version {
                    tag: tag.into(),
                    ..Version::default()
                },
            },
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_stage_decides() {
        let decisions: Vec<_> = (0..=9)
            .map(|stage| Decision::of(&snapshot(stage, "v1.14.1")))
            .collect();
        assert_eq!(
            decisions,
            [
                Decision::Call { force: false },
                Decision::Call { force: false },
                Decision::Refuse(Stage::Installing),
                Decision::Call { force: true },
                Decision::Call { force: false },
                Decision::UnderWay(Stage::Rebooting),
                Decision::UnderWay(Stage::ShuttingDown),
                Decision::Refuse(Stage::Resetting),
                Decision::Refuse(Stage::Upgrading),
                Decision::Call { force: false },
            ]
        );
        assert_eq!(
            Decision::of(&Snapshot::default()),
            Decision::Call { force: false }
        );
    }

    #[test]
    fn a_stage_that_went_stale_still_counts() {
        let mut upgrading = snapshot(8, "v1.14.1");
        upgrading.machine.silence(SystemTime::UNIX_EPOCH);
        assert_eq!(Decision::of(&upgrading), Decision::Refuse(Stage::Upgrading));
    }

    #[test]
    fn an_old_talos_is_forced_unless_it_runs() {
        for (stage, forced) in [(0, true), (1, true), (3, true), (4, false)] {
            let decision = Decision::of(&snapshot(stage, "v1.7.5"));
            assert_eq!(decision, Decision::Call { force: forced }, "stage {stage}");
        }
        assert_eq!(
            Decision::of(&snapshot(8, "v1.7.5")),
            Decision::Refuse(Stage::Upgrading)
        );
    }

    #[test]
    fn versions_before_the_fix_are_known() {
        for (tag, crashes) in [
            ("v1.5.0", true),
            ("v1.7.5", true),
            ("v1.7.5-vendor", true),
            ("v1.7.6", false),
            ("v1.8.0-alpha.1", false),
            ("v1.14.1", false),
            ("v2.0.0", false),
            ("", false),
            ("main", false),
            ("v1.7", false),
            ("v99999999999.1.1", false),
        ] {
            assert_eq!(needs_configuration(tag), crashes, "{tag}");
        }
    }
}
