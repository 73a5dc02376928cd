//! The host's side of RPCI: the commands that it knows, and what it answers.
//!
//! A reply is `1 ` and a value, or `0 ` and a reason. A scenario can override the answer to a command.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    reports::{ReportError, Reports, Stored},
    transcript::readable,
    variables::Variables,
    violation::Violation,
};

/// Lines of `log` kept in memory.
const MAX_LOG: usize = 1024;

/// How old the host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// A current ESXi.
    #[default]
    Esxi,
    /// ESXi 7.0, which differs in its virtual hardware only.
    Esxi7,
    /// Fusion or Workstation, which call themselves another product.
    Fusion,
    /// A host from before tools types, JSON disk reports and detailed OS reports; it answers `0 Unknown command`.
    Legacy,
}

/// What a scenario wants answered instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Override {
    /// `0 ` and this text; the command is not carried out.
    Refuse(String),
    /// These bytes. The command is carried out if they begin with `1 `.
    Reply(Vec<u8>),
    /// The command is carried out and never answered.
    Silence,
    /// The reply does not exist before this time is over.
    Delay(Duration),
}

/// A state change that the guest reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Whether it succeeded.
    pub ok: bool,
    /// 1 halt, 2 reboot, 3 power on, 4 resume, 5 suspend.
    pub state: u32,
    /// When.
    pub at: Duration,
}

/// What became of a request.
#[derive(Debug, Default)]
pub struct Handled {
    /// The reply; none if there will never be one.
    pub reply: Option<Vec<u8>>,
    /// Time that passes before the reply exists.
    pub delay: Duration,
    /// What was wrong with it.
    pub violation: Option<Violation>,
    /// The guest's uptime went backwards.
    pub soft_reset: bool,
}

/// What guests told and asked by RPCI.
#[derive(Clone, Debug, Default)]
pub struct Rpci {
    /// Guest variables.
    pub variables: Variables,
    /// Reports about the guest.
    pub reports: Reports,
    /// The VM's `machine.id`, if it has one.
    pub machine_id: Option<String>,
    /// Version of the tools.
    pub version: Option<u32>,
    /// Type of the tools: 0 unknown, 1 MSI, 2 tar, 3 OSP, 4 open-vm-tools.
    pub version_type: Option<u32>,
    /// Capabilities by name; empty value for those that have none.
    pub capabilities: BTreeMap<String, String>,
    /// State changes reported, oldest first.
    pub state_changes: Vec<StateChange>,
    /// Last `update.tools.health`.
    pub health: Option<String>,
    /// Last `vmbackup.eventSet`.
    pub backup_event: Option<String>,
    /// Application monitoring: state posted, once it is enabled.
    pub app_monitor: Option<String>,
    /// Lines of vmware.log by the guest.
    pub log: VecDeque<String>,
    overrides: Vec<(Vec<u8>, Override)>,
}

impl Rpci {
    /// Overrides the answer to all commands that begin with `prefix`; `None` restores the host's own.
    pub fn set_override(&mut self, prefix: &[u8], what: Option<Override>) {
        self.overrides.retain(|(known, _)| known != prefix);
        self.overrides.extend(what.map(|what| (prefix.to_vec(), what)));
    }

    /// The host's process starts again: what the guest told it is gone, what the VM's configuration holds is not.
    pub fn forget(&mut self) {
        *self = Self {
            variables: std::mem::take(&mut self.variables),
            machine_id: self.machine_id.take(),
            overrides: std::mem::take(&mut self.overrides),
            ..Self::default()
        };
    }

    /// The VM is reverted: the host's view is again the one of `earlier`. What a scenario overrides stays overridden.
    pub fn revert(&mut self, earlier: &Self) {
        *self = Self {
            overrides: std::mem::take(&mut self.overrides),
            ..earlier.clone()
        };
    }

    /// Carries out a request.
    pub fn handle(&mut self, request: &[u8], profile: Profile, now: Duration) -> Handled {
        let found = self
            .overrides
            .iter()
            .rev()
            .find(|(prefix, _)| request.starts_with(prefix));
        match found.map(|(_, what)| what.clone()) {
            None => self.carry_out(request, profile, now),
            Some(Override::Refuse(text)) => Handled {
                reply: Some(format!("0 {text}").into_bytes()),
                ..Handled::default()
            },
            Some(Override::Reply(reply)) if reply.starts_with(b"1 ") => Handled {
                reply: Some(reply),
                ..self.carry_out(request, profile, now)
            },
            Some(Override::Reply(reply)) => Handled {
                reply: Some(reply),
                ..Handled::default()
            },
            Some(Override::Silence) => Handled {
                reply: None,
                ..self.carry_out(request, profile, now)
            },
            Some(Override::Delay(delay)) => Handled {
                delay,
                ..self.carry_out(request, profile, now)
            },
        }
    }

    fn carry_out(&mut self, request: &[u8], profile: Profile, now: Duration) -> Handled {
        let end = request
            .iter()
            .position(|byte| matches!(byte, b' ' | 0))
            .unwrap_or(request.len());
        let (name, rest) = request.split_at(end);
        let arguments = rest.get(1..).unwrap_or_default();
        let text = arguments.strip_suffix(b"\0").unwrap_or(arguments);
        let words: Vec<String> = readable(text)
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        let result = match name {
            b"SetGuestInfo" => return self.set_guest_info(request, profile, now),
            b"SetGuestDiskInfo" if profile != Profile::Legacy => return self.set_disks(arguments, now),
            b"info-set" => self
                .variables
                .guest_set(text)
                .map(|()| String::new())
                .map_err(|error| error.to_string()),
            b"info-get" => return self.info_get(&readable(text)),
            b"log" => self.log(text),
            b"guest.log.state" if profile != Profile::Legacy => Ok("info".to_owned()),
            b"guest.log.text" if profile != Profile::Legacy => self.log(text),
            b"machine.id.get" => self.machine_id.clone().ok_or("No machine id".to_owned()),
            b"tools.set.version" => self.set_version(&words, false),
            b"tools.set.versiontype" if profile != Profile::Legacy => self.set_version(&words, true),
            b"tools.os.statechange.status" => self.state_change(&words, now),
            b"update.tools.health" => self.health(&words),
            b"vmbackup.eventSet" => {
                self.backup_event = Some(readable(text));
                Ok(String::new())
            }
            b"vmx.capability.unified_loop" if profile == Profile::Legacy => Err("Unknown command".to_owned()),
            b"vmx.capability.unified_loop" if words.len() == 1 => Ok(String::new()),
            b"vmx.set_option" if words.len() == 3 => Ok(String::new()),
            b"vmx.set_option" | b"vmx.capability.unified_loop" => Err("Invalid argument".to_owned()),
            _ => {
                let name = readable(name);
                if let Some(capability) = name.strip_prefix("tools.capability.") {
                    self.capability(capability, text, arguments.len() != text.len())
                } else if let Some(command) = name.strip_prefix("GuestAppMonitor.Cmd.") {
                    self.app_monitor(command, &words)
                } else {
                    Err("Unknown command".to_owned())
                }
            }
        };
        let reply = match result {
            Ok(value) => format!("1 {value}"),
            Err(reason) => format!("0 {reason}"),
        };
        Handled {
            reply: Some(reply.into_bytes()),
            ..Handled::default()
        }
    }

    fn set_guest_info(&mut self, request: &[u8], profile: Profile, now: Duration) -> Handled {
        let id = super::transcript::info_id(request);
        if profile == Profile::Legacy && id.is_none_or(|id| id > 9) {
            return Handled {
                reply: Some(b"0 Unknown command".to_vec()),
                ..Handled::default()
            };
        }
        let what = || {
            format!(
                "SetGuestInfo {}",
                id.map_or("without number".to_owned(), |id| id.to_string())
            )
        };
        match self.reports.set_guest_info(request, now) {
            Ok(stored) => Handled {
                reply: Some(b"1 ".to_vec()),
                soft_reset: stored == Stored::SoftReset,
                ..Handled::default()
            },
            Err(error) => refused(what(), error),
        }
    }

    fn set_disks(&mut self, json: &[u8], now: Duration) -> Handled {
        match self.reports.set_disks(json, now) {
            Ok(()) => Handled {
                reply: Some(b"1 ".to_vec()),
                ..Handled::default()
            },
            Err(error) => refused("SetGuestDiskInfo".to_owned(), error),
        }
    }

    /// Values may be any bytes, so this reply is made of bytes.
    fn info_get(&self, key: &str) -> Handled {
        let reply = match self.variables.get(key) {
            Some(value) => [b"1 ", value].concat(),
            None => b"0 No value found".to_vec(),
        };
        Handled {
            reply: Some(reply),
            ..Handled::default()
        }
    }

    fn log(&mut self, text: &[u8]) -> Result<String, String> {
        self.log.push_back(readable(text));
        if self.log.len() > MAX_LOG {
            self.log.pop_front();
        }
        Ok(String::new())
    }

    fn set_version(&mut self, words: &[String], with_type: bool) -> Result<String, String> {
        let numbers: Option<Vec<u32>> = words.iter().map(|word| word.parse().ok()).collect();
        match (numbers.as_deref(), with_type) {
            (Some([version]), false) => {
                (self.version, self.version_type) = (Some(*version), None);
                Ok(String::new())
            }
            (Some([version, kind @ 0..=4]), true) => {
                (self.version, self.version_type) = (Some(*version), Some(*kind));
                Ok(String::new())
            }
            _ => Err("Invalid argument".to_owned()),
        }
    }

    fn state_change(&mut self, words: &[String], at: Duration) -> Result<String, String> {
        let numbers: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
        match numbers.as_slice() {
            [ok @ 0..=1, state @ 1..=5] if words.len() == 2 => {
                self.state_changes.push(StateChange {
                    ok: *ok == 1,
                    state: *state,
                    at,
                });
                Ok(String::new())
            }
            _ => Err("Invalid argument".to_owned()),
        }
    }

    fn health(&mut self, words: &[String]) -> Result<String, String> {
        match words {
            [state] if ["normal", "hung", "guest_slow"].contains(&state.as_str()) => {
                self.health = Some(state.clone());
                Ok(String::new())
            }
            _ => Err("Invalid argument".to_owned()),
        }
    }

    /// Capabilities without a value end with a space and without NUL: hosts insist on it.
    fn capability(&mut self, name: &str, value: &[u8], nul: bool) -> Result<String, String> {
        let valueless = matches!(name, "statechange" | "softpowerop_retry");
        if name.is_empty() || (valueless && nul) {
            return Err("Invalid argument".to_owned());
        }
        self.capabilities.insert(name.to_owned(), readable(value));
        Ok(String::new())
    }

    /// The replies are numbers of libappmonitor: 0 done, 2 not enabled, 3 argument expected, 5 bad argument.
    fn app_monitor(&mut self, command: &str, words: &[String]) -> Result<String, String> {
        let enabled = self.app_monitor.is_some();
        let answer = match (command, words) {
            ("Enable", _) => {
                self.app_monitor.get_or_insert_with(|| "green".to_owned());
                "0"
            }
            ("Disable", _) => {
                self.app_monitor = None;
                "0"
            }
            ("IsEnabled", _) if enabled => "true",
            ("IsEnabled", _) => "false",
            ("MarkActive", _) if enabled => "0",
            ("MarkActive", _) => "2",
            ("GetAppStatus", _) => return Ok(self.app_monitor.clone().unwrap_or_else(|| "gray".to_owned())),
            ("PostAppState", []) => "3",
            ("PostAppState", [state]) if state == "appStateOk" || state == "appStateNeedReset" => {
                let colour = if state == "appStateOk" { "green" } else { "red" };
                if let Some(status) = &mut self.app_monitor {
                    *status = colour.to_owned();
                }
                "0"
            }
            ("PostAppState", _) => "5",
            _ => return Err("Unknown command".to_owned()),
        };
        Ok(answer.to_owned())
    }
}

/// A number that no host knows is refused and nothing more; the rest is the guest's fault.
fn refused(what: String, error: ReportError) -> Handled {
    let reply = Some(format!("0 {error}").into_bytes());
    let violation = match error {
        ReportError::UnknownId(_) => None,
        ReportError::Decode(error) => Some(Violation::Report { what, error }),
        ReportError::Form => Some(Violation::Report {
            error: super::guestinfo::DecodeError::text("not two spaces, a number and a space", b""),
            what,
        }),
    };
    Handled {
        reply,
        violation,
        ..Handled::default()
    }
}
