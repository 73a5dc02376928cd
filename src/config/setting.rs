//! The table of settings: variable, key, and what a value means.

#![forbid(unsafe_code)]

use std::{path::PathBuf, time::Duration};

use super::Settings;
use crate::{
    guestinfo::{HostnameMode, Selector, VipMode},
    talos::RebootMode,
};

/// How much is logged, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the levels of tracing")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, journald where its socket exists, else JSON.
    Auto,
    /// One JSON object per line on stdout.
    Json,
    /// For people.
    Text,
    /// The journal's native protocol.
    Journald,
}

/// One setting.
pub(super) struct Setting {
    variable: &'static str,
    /// Dotted path in the file; none for what makes no sense there.
    key: Option<&'static str>,
    parse: fn(&mut Settings, &str) -> Option<()>,
    /// Completes "must be …".
    accepted: &'static str,
}

impl Setting {
    /// Stores the value, or says what is wrong with it and leaves the settings as they are.
    pub(super) fn apply(&self, settings: &mut Settings, value: &str) -> Result<(), String> {
        let shown: String = value.chars().take(60).collect();
        (self.parse)(settings, value.trim())
            .ok_or_else(|| format!("{shown:?} is ignored: it must be {}", self.accepted))
    }
}

pub(super) fn by_variable(name: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.variable == name)
}

pub(super) fn by_key(key: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.key == Some(key))
}

const BOOLEAN: &str = "true or false";

const SELECTORS: &str = "a list of networks (10.0.0.0/8), addresses and names of links";

const TABLE: &[Setting] = &[
    Setting {
        variable: "VMTOOLSD_LOG_LEVEL",
        key: Some("log.level"),
        accepted: "error, warn, info, debug or trace",
        parse: |settings, value| {
            settings.log_level = match value.to_ascii_lowercase().as_str() {
                "error" => LogLevel::Error,
                "warn" | "warning" => LogLevel::Warn,
                "info" => LogLevel::Info,
                "debug" => LogLevel::Debug,
                "trace" => LogLevel::Trace,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        variable: "VMTOOLSD_LOG_FORMAT",
        key: Some("log.format"),
        accepted: "auto, json, text or journald",
        parse: |settings, value| {
            settings.log_format = match value {
                "auto" => LogFormat::Auto,
                "json" => LogFormat::Json,
                "text" => LogFormat::Text,
                "journald" => LogFormat::Journald,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        variable: "VMTOOLSD_TALOS_SOCKET",
        key: Some("talos.socket"),
        accepted: "an absolute path",
        parse: |settings, value| {
            let path = PathBuf::from(value);
            path.is_absolute().then(|| settings.talos_socket = path)
        },
    },
    // The Go program's switch: it means the unix socket, which is the default here.
    Setting {
        variable: "VMTOOLSD_USE_MACHINED",
        key: None,
        accepted: BOOLEAN,
        parse: |_, value| boolean(value).map(drop),
    },
    Setting {
        variable: "VMTOOLSD_SKIP_VMWARE_DETECTION",
        key: Some("host.skip_detection"),
        accepted: BOOLEAN,
        parse: |settings, value| boolean(value).map(|skip| settings.skip_detection = skip),
    },
    Setting {
        variable: "VMTOOLSD_POLL_MAX_MS",
        key: Some("host.poll_max_ms"),
        accepted: "a number of milliseconds from 10 to 1000",
        parse: |settings, value| {
            let pause: u64 = value.parse().ok()?;
            (10..=1000)
                .contains(&pause)
                .then(|| settings.poll_max = Duration::from_millis(pause))
        },
    },
    Setting {
        variable: "VMTOOLSD_HOSTNAME",
        key: Some("report.hostname"),
        accepted: "auto, fqdn or short",
        parse: |settings, value| {
            settings.hostname = match value {
                "auto" => HostnameMode::Auto,
                "fqdn" => HostnameMode::Fqdn,
                "short" => HostnameMode::Short,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        variable: "VMTOOLSD_PRIMARY",
        key: Some("report.primary"),
        accepted: SELECTORS,
        parse: |settings, value| Selector::parse_list(value).map(|list| settings.primary = list),
    },
    Setting {
        variable: "VMTOOLSD_HIDE",
        key: Some("report.hide"),
        accepted: SELECTORS,
        parse: |settings, value| Selector::parse_list(value).map(|list| settings.hide = list),
    },
    Setting {
        variable: "VMTOOLSD_VIP",
        key: Some("report.vip"),
        accepted: "last or hide",
        parse: |settings, value| {
            settings.vip = match value {
                "last" => VipMode::Last,
                "hide" => VipMode::Hide,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        variable: "VMTOOLSD_POWER_DRAIN",
        key: Some("power.drain"),
        accepted: "a time such as 90s or 5m, at most 60m, or 0 for Talos's own limits",
        parse: |settings, value| {
            let drain = seconds(value)?;
            (drain <= LONGEST_DRAIN).then(|| settings.power.drain = (!drain.is_zero()).then_some(drain))
        },
    },
    Setting {
        variable: "VMTOOLSD_REBOOT_MODE",
        key: Some("power.reboot_mode"),
        accepted: "default or powercycle",
        parse: |settings, value| {
            settings.power.reboot_mode = match value {
                "default" => RebootMode::Default,
                "powercycle" => RebootMode::PowerCycle,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        variable: "VMTOOLSD_DISKS",
        key: Some("report.disks"),
        accepted: BOOLEAN,
        parse: |settings, value| boolean(value).map(|on| settings.disks = on),
    },
    Setting {
        variable: "VMTOOLSD_CONTAINERS",
        key: Some("report.containers"),
        accepted: BOOLEAN,
        parse: |settings, value| boolean(value).map(|on| settings.containers = on),
    },
    Setting {
        variable: "VMTOOLSD_STATS",
        key: Some("report.stats"),
        accepted: BOOLEAN,
        parse: |settings, value| boolean(value).map(|on| settings.statistics = on),
    },
    Setting {
        variable: "VMTOOLSD_TALOS_STATE",
        key: Some("report.talos_state"),
        accepted: BOOLEAN,
        parse: |settings, value| boolean(value).map(|on| settings.talos_state = on),
    },
];

/// Longest drain that can be set. Talos itself gives up after some 6 minutes.
const LONGEST_DRAIN: Duration = Duration::from_secs(60 * 60);

/// `90s`, `5m`, or a number of seconds.
fn seconds(value: &str) -> Option<Duration> {
    let (number, unit) = match (value.strip_suffix('s'), value.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 60),
        _ => (value, 1),
    };
    let number: u64 = number.parse().ok()?;
    Some(Duration::from_secs(number.checked_mul(unit)?))
}

/// The spellings of YAML 1.1 and of Go's ParseBool.
fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "on" => Some(true),
        "false" | "f" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}
