//! The service specification, `/usr/local/etc/containers/<name>.yaml`, as machined reads it.
//!
//! machined ignores unknown keys; here they are errors. What belongs to `runnerMode: host` of Talos 1.14 is not known
//! here: older releases would ignore it and run something else. Source of the fields:
//! `pkg/machinery/extensions/services/services.go` of siderolabs/talos.

use serde::Deserialize;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name; the service is `ext-<name>`, its root `/usr/local/lib/containers/<name>`.
    pub name: String,
    /// What runs.
    pub container: Container,
    /// What must be there before the start.
    #[serde(default)]
    pub depends: Vec<Dependency>,
    /// When it is started again.
    pub restart: Restart,
    /// Whether its output goes to the node's console as well.
    #[serde(default, rename = "logToConsole")]
    pub log_to_console: bool,
}

/// What runs, and with what around it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Container {
    /// Path in the container's root.
    pub entrypoint: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// `KEY=VALUE`.
    #[serde(default)]
    pub environment: Vec<String>,
    /// A file of the node that the service waits for.
    pub environment_file: Option<String>,
    /// Mounts from the node.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Deviations from the default confinement.
    pub security: Option<Security>,
}

/// A mount, as the OCI runtime specification has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Path on the node. Talos makes a directory where there is nothing.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// `bind`.
    pub r#type: String,
    /// As mount(8) has them.
    pub options: Vec<String>,
}

/// Deviations from the default confinement.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Security {
    /// `/sys` writable.
    #[serde(default)]
    pub writeable_sysfs: bool,
    /// The root writable.
    #[serde(default)]
    pub writeable_rootfs: bool,
    /// Instead of the runtime's list.
    pub masked_paths: Option<Vec<String>>,
    /// Instead of the runtime's list.
    pub readonly_paths: Option<Vec<String>>,
    /// How mounts propagate.
    pub rootfs_propagation: Option<String>,
}

/// One condition; machined wants exactly one key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dependency {
    /// Another service is up.
    pub service: Option<String>,
    /// A file exists.
    pub path: Option<String>,
    /// The network has come so far.
    pub network: Option<Vec<String>>,
    /// The clock is set.
    pub time: Option<bool>,
    /// There is an `ExtensionServiceConfig`.
    pub configuration: Option<bool>,
}

/// When the service is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Restart {
    /// However it ended.
    Always,
    /// Not at all.
    Never,
    /// Until it ends with 0.
    UntilSuccess,
}
