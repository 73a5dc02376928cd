//! What vCenter would show of the guest, under the names of the vSphere API.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::Serialize;

use super::{
    guestinfo::{
        disk::Filesystem,
        nic::{Adapter, Dns, Route},
    },
    host::Host,
    transcript::readable,
};

/// Version that stands for "managed by the guest" (`TOOLS_VERSION_UNMANAGED`).
const UNMANAGED: u32 = 2_147_483_647;
/// Silence after which the heartbeat is yellow, and after which it is red. vSphere publishes no thresholds; red is
/// where vSphere HA acts by default.
const YELLOW: Duration = Duration::from_secs(10);
const RED: Duration = Duration::from_secs(30);

/// VMware's short names of Linux guests and the ids of the vSphere API that hosts map them to.
const GUEST_IDS: [(&str, &str); 8] = [
    ("otherlinux-64", "otherLinux64Guest"),
    ("other26xlinux-64", "other26xLinux64Guest"),
    ("other3xlinux-64", "other3xLinux64Guest"),
    ("other4xlinux-64", "other4xLinux64Guest"),
    ("other5xlinux-64", "other5xLinux64Guest"),
    ("other6xlinux-64", "other6xLinux64Guest"),
    ("other7xlinux-64", "other7xLinux64Guest"),
    ("debian12-64", "debian12_64Guest"),
];

/// `guest.toolsRunningStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolsStatus {
    /// Nobody is registered.
    NotRunning,
    /// Registered, and a state change is not over.
    ExecutingScripts,
    /// Registered.
    Running,
}

impl ToolsStatus {
    /// The name in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotRunning => "not-running",
            Self::ExecutingScripts => "executing-scripts",
            Self::Running => "running",
        }
    }
}

/// `guestHeartbeatStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heartbeat {
    /// Tools are not running.
    Gray,
    /// The guest polls.
    Green,
    /// It has not for a while.
    Yellow,
    /// It has not for so long that HA would act.
    Red,
}

impl Heartbeat {
    /// The name in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gray => "gray",
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        }
    }
}

/// The view. Absent is "the guest never told".
#[derive(Debug, Serialize)]
#[expect(
    missing_docs,
    reason = "the fields are called what the vSphere API calls them"
)]
pub struct View {
    pub tools_running_status: ToolsStatus,
    pub tools_version: Option<u32>,
    pub tools_version_status: Option<&'static str>,
    pub tools_install_type: Option<&'static str>,
    pub heartbeat: Heartbeat,
    /// Milliseconds since the guest last polled.
    pub heartbeat_age_ms: Option<u128>,
    pub guest_state_change_supported: bool,
    pub host_name: Option<String>,
    pub guest_id: Option<&'static str>,
    pub guest_full_name: Option<String>,
    pub guest_short_name: Option<String>,
    pub guest_detailed_data: Option<BTreeMap<String, String>>,
    pub ip_address: Option<IpAddr>,
    pub net: Vec<Adapter>,
    pub routes: Vec<Route>,
    pub dns: Option<Dns>,
    pub disk: Vec<Filesystem>,
    /// Hundredths of a second.
    pub uptime: Option<u64>,
    /// Memory of the guest in KiB, by its own statistics.
    pub memory_total: Option<u64>,
    pub variables: BTreeMap<String, String>,
    pub capabilities: BTreeMap<String, String>,
    /// Reported state changes, oldest first: 1 halt, 2 reboot, 3 power on, 4 resume, 5 suspend; and whether it worked.
    pub state_changes: Vec<(u32, bool)>,
    pub tools_health: Option<String>,
    pub app_heartbeat: Option<String>,
    pub backup_event: Option<String>,
}

impl Host {
    /// `guest.toolsRunningStatus` now.
    pub fn tools_status(&self) -> ToolsStatus {
        match (self.is_registered(), self.is_executing()) {
            (false, _) => ToolsStatus::NotRunning,
            (true, true) => ToolsStatus::ExecutingScripts,
            (true, false) => ToolsStatus::Running,
        }
    }

    /// `guestHeartbeatStatus` now.
    pub fn heartbeat(&self, now: Duration) -> Heartbeat {
        match self.last_poll {
            Some(at) if self.is_registered() => match now.saturating_sub(at) {
                age if age >= RED => Heartbeat::Red,
                age if age >= YELLOW => Heartbeat::Yellow,
                _ => Heartbeat::Green,
            },
            _ => Heartbeat::Gray,
        }
    }

    /// All that vCenter would show now.
    pub fn view(&self, now: Duration) -> View {
        let rpci = &self.rpci;
        let reports = &rpci.reports;
        let network = reports.network.as_ref().map(|network| &network.value);
        let detailed = reports.os_detailed.as_ref().map(|detailed| &detailed.value);
        let short_name = detailed
            .map(|detailed| detailed.short_name.clone())
            .or_else(|| reports.os_short_name.as_ref().map(|name| name.value.clone()));
        let full_name = detailed
            .map(|detailed| detailed.full_name.clone())
            .or_else(|| reports.os_full_name.as_ref().map(|name| name.value.clone()));
        View {
            tools_running_status: self.tools_status(),
            tools_version: rpci.version,
            tools_version_status: match (rpci.version, rpci.version_type) {
                (None, _) => Some("guestToolsNotInstalled"),
                (Some(UNMANAGED), _) | (_, Some(3 | 4)) => Some("guestToolsUnmanaged"),
                // Only a host with tools of its own to compare with can tell.
                _ => None,
            },
            tools_install_type: rpci.version_type.and_then(|kind| match kind {
                0 => Some("guestToolsTypeUnknown"),
                1 => Some("guestToolsTypeMSI"),
                2 => Some("guestToolsTypeTar"),
                3 => Some("guestToolsTypeOSP"),
                4 => Some("guestToolsTypeOpenVMTools"),
                _ => None,
            }),
            heartbeat: self.heartbeat(now),
            heartbeat_age_ms: self.last_poll.map(|at| now.saturating_sub(at).as_millis()),
            guest_state_change_supported: rpci.capabilities.contains_key("statechange"),
            host_name: reports.host_name.as_ref().map(|name| name.value.clone()),
            guest_id: short_name
                .as_ref()
                .and_then(|name| GUEST_IDS.iter().find(|(short, _)| short == name))
                .map(|(_, id)| *id),
            guest_full_name: full_name,
            guest_short_name: short_name,
            guest_detailed_data: detailed.map(|detailed| detailed.properties.clone()),
            ip_address: network
                .and_then(|network| {
                    network
                        .adapters
                        .iter()
                        .find_map(|adapter| adapter.addresses.first())
                })
                .map(|address| address.ip)
                .or_else(|| readable(rpci.variables.get("guestinfo.ip")?).parse().ok()),
            net: network
                .map(|network| network.adapters.clone())
                .unwrap_or_default(),
            routes: network.map(|network| network.routes.clone()).unwrap_or_default(),
            dns: network.and_then(|network| network.dns.clone()),
            disk: reports
                .disks
                .as_ref()
                .map(|disks| disks.value.clone())
                .unwrap_or_default(),
            uptime: reports.uptime.as_ref().map(|uptime| uptime.value),
            memory_total: reports
                .statistics
                .as_ref()
                .map(|statistics| statistics.value.memory_total),
            variables: rpci
                .variables
                .iter()
                .map(|(key, value)| (key.to_owned(), readable(value)))
                .collect(),
            capabilities: rpci.capabilities.clone(),
            state_changes: rpci
                .state_changes
                .iter()
                .map(|change| (change.state, change.ok))
                .collect(),
            tools_health: rpci.health.clone(),
            app_heartbeat: rpci.app_monitor.clone(),
            backup_event: rpci.backup_event.clone(),
        }
    }
}
