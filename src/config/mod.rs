//! Settings: environment variables, and one optional YAML file below them.
//!
//! ```text
//!  config.yaml ──yaml::flatten──> key, value, line ─┐
//!                                                   ├──> setting::TABLE ──> Settings, mistakes
//!  VMTOOLSD_…  ─────────────────> variable, value ──┘
//! ```
//!
//! A variable wins over the file. Nothing in here can keep the service from starting: a setting that cannot be used
//! keeps its default and becomes a [`Mistake`], and all mistakes are reported together.

#![forbid(unsafe_code)]

mod setting;
mod yaml;

use std::{
    ffi::OsString,
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::setting::{LogFormat, LogLevel};
use crate::{
    guestinfo::{HostnameMode, Policy, Selector, VipMode},
    power, talos,
};

/// Where the optional file is looked for.
pub const DEFAULT_FILE: &str = "/etc/talos-vmtoolsd/config.yaml";

/// Largest file that is read, in bytes. A complete one has under two hundred.
const MAX_FILE: u64 = 64 * 1024;

/// Every variable of ours begins so.
const PREFIX: &str = "VMTOOLSD_";

/// Names the file; it has no key of its own.
const FILE_VARIABLE: &str = "VMTOOLSD_CONFIG";

/// Everything that can be set, with its defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Lines below this level are not written.
    pub log_level: LogLevel,
    /// How lines look.
    pub log_format: LogFormat,
    /// Path of the machine API's unix socket.
    pub talos_socket: PathBuf,
    /// Skip the CPUID rule for VMs that hide their hypervisor. The port is probed all the same.
    pub skip_detection: bool,
    /// Longest pause between two polls of the host, 10 to 1000 ms.
    pub poll_max: Duration,
    /// Which form of the node's name is reported.
    pub hostname: HostnameMode,
    /// Addresses that come first.
    pub primary: Vec<Selector>,
    /// Adapters and addresses that are not reported.
    pub hide: Vec<Selector>,
    /// What becomes of addresses that several nodes share.
    pub vip: VipMode,
    /// Whether memory and queue statistics are sent.
    pub statistics: bool,
    /// Whether the state of Talos is told.
    pub talos_state: bool,
    /// Whether the fill of the node's filesystems is told.
    pub disks: bool,
    /// Whether the images of the node's pods are told.
    pub containers: bool,
    /// How power operations are carried out.
    pub power: power::Settings,
}

impl Settings {
    /// What decides about what is reported.
    pub fn policy(&self) -> Policy {
        Policy {
            hostname: self.hostname,
            primary: self.primary.clone(),
            hide: self.hide.clone(),
            vip: self.vip,
            statistics: self.statistics,
            talos_state: self.talos_state,
            disks: self.disks,
            containers: self.containers,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log_level: LogLevel::Info,
            log_format: LogFormat::Auto,
            talos_socket: PathBuf::from(talos::SOCKET),
            skip_detection: false,
            poll_max: Duration::from_millis(500),
            hostname: HostnameMode::Auto,
            primary: Vec::new(),
            hide: Vec::new(),
            vip: VipMode::Last,
            statistics: true,
            talos_state: true,
            disks: true,
            containers: false,
            power: power::Settings::default(),
        }
    }
}

/// One thing in the settings that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The variable, or file, line and key.
    pub place: String,
    /// What is wrong, and what happens instead.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// Reads the settings of this process.
pub fn load() -> (Settings, Vec<Mistake>) {
    load_from(std::env::vars_os())
}

/// Reads the settings from these variables, and from the file that they name.
pub fn load_from(variables: impl IntoIterator<Item = (OsString, OsString)>) -> (Settings, Vec<Mistake>) {
    let mut settings = Settings::default();
    let mut mistakes = Vec::new();

    let mut ours = Vec::new();
    for (name, value) in variables {
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => ours.push((name, value)),
            (name, _) => mistakes.push(Mistake {
                place: name.unwrap_or_else(|raw| raw.to_string_lossy().into_owned()),
                problem: "is not UTF-8 and is ignored".into(),
            }),
        }
    }
    // The order of the environment is nobody's intention.
    ours.sort();

    let named = ours
        .iter()
        .find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
    let (path, wanted) = match named {
        Some((_, path)) => (Path::new(path), true),
        None => (Path::new(DEFAULT_FILE), false),
    };
    apply_file(path, wanted, &mut settings, &mut mistakes);

    for (name, value) in &ours {
        if name == FILE_VARIABLE {
            continue;
        }
        let problem = match setting::by_variable(name) {
            None => Some("is not a setting of this version and is ignored".into()),
            // An empty value is how an inherited variable is taken back.
            Some(_) if value.is_empty() => None,
            Some(setting) => setting.apply(&mut settings, value).err(),
        };
        if let Some(problem) = problem {
            mistakes.push(Mistake {
                place: name.clone(),
                problem,
            });
        }
    }
    (settings, mistakes)
}

fn apply_file(path: &Path, wanted: bool, settings: &mut Settings, mistakes: &mut Vec<Mistake>) {
    let place = path.display();
    let text = match read(path) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound && !wanted => return,
        Err(err) => {
            mistakes.push(Mistake {
                place: place.to_string(),
                problem: format!("cannot be read ({err}); the service runs without it"),
            });
            return;
        }
    };
    let (entries, faults) = yaml::flatten(&text);
    for fault in faults {
        mistakes.push(Mistake {
            place: format!("{place}:{}", fault.line),
            problem: fault.problem,
        });
    }
    for entry in entries {
        let problem = match setting::by_key(&entry.key) {
            None => Some("is not a setting of this version and is ignored".into()),
            Some(setting) => setting.apply(settings, &entry.value).err(),
        };
        if let Some(problem) = problem {
            mistakes.push(Mistake {
                place: format!("{place}:{}: {}", entry.line, entry.key),
                problem,
            });
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    // A pipe would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = String::new();
    let length = fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if length as u64 > MAX_FILE {
        return Err(std::io::Error::other(format!("longer than {MAX_FILE} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::talos::RebootMode;

    fn load_pairs(pairs: &[(&str, &str)]) -> (Settings, Vec<Mistake>) {
        load_from(
            pairs
                .iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value))),
        )
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn load_file(text: &str) -> (Settings, Vec<String>) {
        let file = file(text);
        let path = file.path().to_str().unwrap();
        let (settings, mistakes) = load_pairs(&[(FILE_VARIABLE, path)]);
        (
            settings,
            mistakes
                .iter()
                .map(|mistake| mistake.to_string().replace(path, "F"))
                .collect(),
        )
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(load_pairs(&[("PATH", "/bin")]), (Settings::default(), vec![]));
    }

    #[test]
    fn each_variable_is_heard() {
        let (settings, mistakes) = load_pairs(&[
            ("VMTOOLSD_LOG_LEVEL", "DEBUG"),
            ("VMTOOLSD_LOG_FORMAT", "json"),
            ("VMTOOLSD_TALOS_SOCKET", "/run/apid.sock"),
            ("VMTOOLSD_SKIP_VMWARE_DETECTION", "true"),
            ("VMTOOLSD_POLL_MAX_MS", "100"),
            ("VMTOOLSD_HOSTNAME", "fqdn"),
            ("VMTOOLSD_PRIMARY", "10.0.0.0/8"),
            ("VMTOOLSD_HIDE", "eth1"),
            ("VMTOOLSD_VIP", "hide"),
            ("VMTOOLSD_STATS", "off"),
            ("VMTOOLSD_TALOS_STATE", "off"),
            ("VMTOOLSD_DISKS", "off"),
            ("VMTOOLSD_CONTAINERS", "on"),
            ("VMTOOLSD_USE_MACHINED", "true"),
            ("VMTOOLSD_POWER_DRAIN", "5m"),
            ("VMTOOLSD_REBOOT_MODE", "powercycle"),
        ]);
        assert_eq!(mistakes, vec![]);
        assert_eq!(
            settings,
            Settings {
                log_level: LogLevel::Debug,
                log_format: LogFormat::Json,
                talos_socket: "/run/apid.sock".into(),
                skip_detection: true,
                poll_max: Duration::from_millis(100),
                hostname: HostnameMode::Fqdn,
                primary: Selector::parse_list("10.0.0.0/8").unwrap(),
                hide: Selector::parse_list("eth1").unwrap(),
                vip: VipMode::Hide,
                statistics: false,
                talos_state: false,
                disks: false,
                containers: true,
                power: power::Settings {
                    reboot_mode: RebootMode::PowerCycle,
                    drain: Some(Duration::from_secs(300)),
                },
            }
        );
    }

    #[test]
    fn a_drain_is_a_time_within_bounds() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("120", 120), ("60m", 3600)] {
            let (settings, mistakes) = load_pairs(&[("VMTOOLSD_POWER_DRAIN", text)]);
            assert_eq!(mistakes, vec![], "{text}");
            assert_eq!(settings.power.drain, Some(Duration::from_secs(seconds)), "{text}");
        }
        let (settings, mistakes) = load_pairs(&[("VMTOOLSD_POWER_DRAIN", "0")]);
        assert_eq!((settings.power.drain, mistakes), (None, vec![]));
        for text in ["3601", "61m", "-1", "1h", "5 m", "18446744073709551615m", "s"] {
            let (settings, mistakes) = load_pairs(&[("VMTOOLSD_POWER_DRAIN", text)]);
            assert_eq!((settings.power.drain, mistakes.len()), (None, 1), "{text}");
        }
    }

    #[test]
    fn every_mistake_is_told_and_none_is_fatal() {
        let (settings, mistakes) = load_pairs(&[
            ("VMTOOLSD_POLL_MAX_MS", "5"),
            ("VMTOOLSD_LOG_LEVEL", "chatty"),
            ("VMTOOLSD_COLOUR", "blue"),
            ("VMTOOLSD_HOSTNAME", "short"),
        ]);
        assert_eq!(
            settings,
            Settings {
                hostname: HostnameMode::Short,
                ..Settings::default()
            }
        );
        let told: Vec<_> = mistakes.iter().map(|mistake| mistake.place.as_str()).collect();
        assert_eq!(
            told,
            ["VMTOOLSD_COLOUR", "VMTOOLSD_LOG_LEVEL", "VMTOOLSD_POLL_MAX_MS"]
        );
        assert!(mistakes[2].problem.contains("10 to 1000"), "{}", mistakes[2]);
    }

    #[test]
    fn the_file_is_below_the_environment() {
        let file = file("host:\n  poll_max_ms: 200\nlog:\n  level: warn\n");
        let (settings, mistakes) = load_pairs(&[
            (FILE_VARIABLE, file.path().to_str().unwrap()),
            ("VMTOOLSD_LOG_LEVEL", "trace"),
            ("VMTOOLSD_POLL_MAX_MS", ""),
        ]);
        assert_eq!(mistakes, vec![]);
        assert_eq!(settings.poll_max, Duration::from_millis(200));
        assert_eq!(settings.log_level, LogLevel::Trace);
    }

    #[test]
    fn mistakes_in_the_file_name_line_and_key() {
        let (settings, mistakes) =
            load_file("host:\n  poll_max_ms: fast\n  turbo: yes\nreport:\n  hostname: fqdn\n");
        assert_eq!(settings.hostname, HostnameMode::Fqdn);
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(
            mistakes[0].starts_with("F:2: host.poll_max_ms: "),
            "{}",
            mistakes[0]
        );
        assert!(mistakes[1].starts_with("F:3: host.turbo: "), "{}", mistakes[1]);
    }

    #[test]
    fn a_broken_file_leaves_what_came_before_it() {
        let (settings, mistakes) = load_file("log:\n  level: warn\nhost: [\n");
        assert_eq!(settings.log_level, LogLevel::Warn);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        let (settings, mistakes) = load_file(&"#".repeat(70_000));
        assert_eq!(settings, Settings::default());
        assert!(mistakes[0].contains("longer than"), "{mistakes:?}");
    }

    #[test]
    fn a_named_file_must_exist() {
        let (settings, mistakes) = load_pairs(&[(FILE_VARIABLE, "/nonexistent/config.yaml")]);
        assert_eq!(settings, Settings::default());
        assert!(
            mistakes[0].to_string().contains("/nonexistent/config.yaml"),
            "{mistakes:?}"
        );
        let (_, mistakes) = load_pairs(&[(FILE_VARIABLE, "/")]);
        assert!(mistakes[0].to_string().contains("not a file"), "{mistakes:?}");
    }

    proptest! {
        #[test]
        fn no_text_is_fatal(text in "(?s).{0,400}") {
            let _ = load_file(&text);
        }

        #[test]
        fn no_yaml_like_text_is_fatal(text in "([a-z&*!?|>'\"{}\\[\\]:,#\\- \n\t]{0,12}){0,30}") {
            let _ = load_file(&text);
        }
    }
}
