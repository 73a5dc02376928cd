//! The simulated VMware host.
//!
//! ```text
//! tracer --Device::access--> host --low bandwidth--> version, time
//!                                 --message--------> steps: channels --RPCI--> rpci --> reports, variables
//!                                                                    --TCLO--> tclo consoles
//! scenario, control socket --operations--> host --> faults, requests, view
//! ```
//!
//! The state is behind one mutex. The tracer's thread holds it for one exchange at a time; scenario and control wait
//! on a condition variable that every recorded event signals.

mod dialogue;
mod flood;
mod operations;
mod shared;
mod steps;

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    backdoor::{HIGH_PORT, LOW_PORT, MAGIC, command, high_half, low_half, low_word},
    channels::Channels,
    counters::Counters,
    device::{Access, GuestMemory, Outcome, Registers},
    fault::Faults,
    rpci::{Profile, Rpci},
    tclo::{Console, Timing},
    transcript::{Event, Kind, Transcript},
    violation::Violation,
};

pub use flood::vix_request;
pub use operations::{Checkpoint, HostError};
pub use shared::{HostDevice, SharedHost};

/// EAX of GETVERSION.
const PROTOCOL_VERSION: u32 = 6;
/// ECX of GETVERSION: ESXi.
const PRODUCT_ESX: u32 = 2;
/// ECX of GETVERSION: Workstation, and Fusion with it.
const PRODUCT_WORKSTATION: u32 = 4;
/// Virtual hardware of vSphere 8.0 U2.
const HARDWARE_VERSION: u32 = 21;
/// Virtual hardware of vSphere 7.0.
const HARDWARE_VERSION_7: u32 = 17;
/// EAX after a command that the host does not know.
const UNKNOWN: u32 = u32::MAX;
/// Frequency of the APIC bus that VMware presents, in Hz.
const BUS_HZ: u32 = 66_000_000;
/// How far guest time may lag before a host considers it wrong, in microseconds.
const MAX_TIME_LAG: u32 = 1_000_000;
/// Violations of one kind that are written out; the rest is counted.
const MAX_VIOLATIONS: u64 = 64;

/// What GETVERSION answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// What a VMware host answers.
    VmWare,
    /// EAX and EBX.
    Answer((u32, u32)),
    /// Nothing: the instruction faults, as off VMware.
    Faults,
}

/// What kind of host this is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Offers the high-bandwidth port.
    pub high_bandwidth: bool,
    /// Understands the cookie flag of OPEN.
    pub cookies: bool,
    /// How old it is.
    pub profile: Profile,
    /// Knows `tools.set.versiontype`.
    pub version_type: bool,
    /// What GETVERSION answers.
    pub version: Version,
    /// What each access costs beyond the host's work, in milliseconds.
    pub slow: u32,
    /// Ends its requests with a NUL.
    pub trailing_nul: bool,
    /// When it asks.
    pub timing: Timing,
    /// Frequency of the time stamp counter, in Hz.
    pub tsc_hz: u64,
    /// The host's time of day.
    pub clock: HostClock,
    /// The newest command for it that the host knows: 55, 46 or 23.
    pub time_command: u16,
    /// Which process may hold a TCLO channel.
    pub tclo_owner: TcloOwner,
}

/// What the host makes of a TCLO OPEN while another process of the guest has such a channel. That only one can hold it
/// is known (vmware/vic pull request 6205, NetBSD's vmt(4)); which one is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcloOwner {
    /// Both are served; the one that registered last is the agent.
    #[default]
    Any,
    /// The OPEN is refused.
    First,
    /// The other channel is taken away.
    Newest,
}

/// The host's time of day, against this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostClock {
    /// This far ahead.
    Ahead(Duration),
    /// This far behind.
    Behind(Duration),
    /// The host tells no time.
    Absent,
    /// The host tells these numbers, whatever they mean.
    Reads {
        /// Seconds since 1970.
        seconds: u64,
        /// And microseconds.
        microseconds: u32,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            high_bandwidth: true,
            cookies: true,
            profile: Profile::Esxi,
            version_type: true,
            version: Version::VmWare,
            slow: 0,
            trailing_nul: false,
            timing: Timing::default(),
            tsc_hz: 2_000_000_000,
            clock: HostClock::Ahead(Duration::ZERO),
            time_command: command::GETTIMEFULL_WITH_LAG,
            tclo_owner: TcloOwner::default(),
        }
    }
}

/// How the guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The status as shells tell it: 128 and the signal's number for a signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// The state of the host.
pub struct Host {
    /// What kind of host.
    pub config: Config,
    /// Armed faults.
    pub faults: Faults,
    /// RPCI and all that the guest told.
    pub rpci: Rpci,
    /// Counters.
    pub counters: Counters,
    /// Kinds of violation that do not fail the run.
    pub allowed: BTreeSet<String>,
    /// How the guest ended, once it did.
    pub exit: Option<Exit>,
    /// When the guest last polled or answered.
    pub last_poll: Option<Duration>,
    /// When the guest last answered a `reset`.
    pub reset_answered: Option<Duration>,
    transcript: Transcript,
    channels: Channels,
    consoles: Vec<Console>,
    requests: u64,
    /// State whose `tools.os.statechange.status` the host waits for: tools are "executing scripts" until then.
    executing: Option<u32>,
    /// The guest reported that `OS_PowerOn` is over.
    powered_on: bool,
    /// The VM was resumed and the guest has not reported that `OS_Resume` is over.
    resuming: bool,
    changed: bool,
    /// The view that `revert` goes back to.
    remembered: Option<Rpci>,
    flood: flood::Flood,
    /// What the access under way has to wait beyond the host's work, in milliseconds.
    stall: u32,
}

impl Host {
    fn new(config: Config, transcript: Transcript) -> Self {
        Self {
            config,
            faults: Faults::default(),
            rpci: Rpci::default(),
            counters: Counters::default(),
            allowed: BTreeSet::new(),
            exit: None,
            last_poll: None,
            reset_answered: None,
            transcript,
            channels: Channels::default(),
            consoles: Vec::new(),
            requests: 0,
            executing: None,
            powered_on: false,
            resuming: false,
            changed: false,
            remembered: None,
            flood: flood::Flood::default(),
            stall: 0,
        }
    }

    /// The transcript.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Writes an event into the transcript.
    pub fn record(&mut self, now: Duration, event: Event) -> u64 {
        self.changed = true;
        self.transcript.record(now, event)
    }

    /// Ends the transcript's file and returns the failure to write it, if there was one.
    pub fn finish(&mut self) -> Option<std::io::Error> {
        self.transcript.finish()
    }

    fn violate(&mut self, now: Duration, pid: i32, channel: Option<u16>, violation: &Violation) {
        let kind = violation.kind();
        let count = self.counters.violations.entry(kind).or_default();
        *count += 1;
        if *count <= MAX_VIOLATIONS {
            let event = Event {
                pid: Some(pid),
                channel,
                origin: Some(kind),
                text: Some(violation.to_string()),
                ..Event::new(Kind::Violation)
            };
            self.record(now, event);
        }
    }

    /// One backdoor exchange.
    pub fn access(
        &mut self,
        now: Duration,
        pid: i32,
        access: Access,
        registers: &mut Registers,
        memory: &dyn GuestMemory,
    ) -> Outcome {
        let (instruction, port) = match access {
            Access::Low => ("IN", LOW_PORT),
            Access::HighOut => ("REP OUTSB", HIGH_PORT),
            Access::HighIn => ("REP INSB", HIGH_PORT),
        };
        let eax = low_word(registers.rax);
        if eax != MAGIC {
            self.violate(now, pid, None, &Violation::Magic { eax });
            return Outcome::Fault;
        }
        if low_half(low_word(registers.rdx)) != port {
            let port = low_half(low_word(registers.rdx));
            self.violate(now, pid, None, &Violation::Port { instruction, port });
            return Outcome::Fault;
        }
        self.stall = self.config.slow;
        self.check_high_halves(now, pid, access, instruction, registers);
        match access {
            Access::Low => {
                self.counters.low += 1;
                self.low_bandwidth(now, pid, registers)
            }
            Access::HighOut => {
                self.counters.high_out += 1;
                self.high_bandwidth(now, pid, access, registers, memory)
            }
            Access::HighIn => {
                self.counters.high_in += 1;
                self.high_bandwidth(now, pid, access, registers, memory)
            }
        }
    }

    fn check_high_halves(
        &mut self,
        now: Duration,
        pid: i32,
        access: Access,
        step: &'static str,
        r: &Registers,
    ) {
        // The address and the count of a high-bandwidth access are the only 64-bit arguments; RBP is none in IN.
        let narrow: [(&str, u64, bool); 7] = [
            ("RAX", r.rax, true),
            ("RBX", r.rbx, true),
            ("RCX", r.rcx, access == Access::Low),
            ("RDX", r.rdx, true),
            ("RSI", r.rsi, access != Access::HighOut),
            ("RDI", r.rdi, access != Access::HighIn),
            ("RBP", r.rbp, access != Access::Low),
        ];
        let set: Vec<&str> = narrow
            .into_iter()
            .filter(|(_, value, is_narrow)| *is_narrow && value >> 32 != 0)
            .map(|(name, ..)| name)
            .collect();
        if !set.is_empty() {
            self.violate(
                now,
                pid,
                None,
                &Violation::HighHalves {
                    step,
                    registers: set.join(", "),
                },
            );
        }
    }

    fn low_bandwidth(&mut self, now: Duration, pid: i32, registers: &mut Registers) -> Outcome {
        let number = low_half(low_word(registers.rcx));
        *self.counters.commands.entry(number).or_default() += 1;
        match number {
            command::MESSAGE => return self.message(now, pid, registers),
            command::GETVERSION => {
                let (eax, ebx) = match self.config.version {
                    Version::VmWare => (PROTOCOL_VERSION, MAGIC),
                    Version::Answer((eax, ebx)) => (eax, ebx),
                    Version::Faults => return Outcome::Fault,
                };
                registers.rax = eax.into();
                registers.rbx = ebx.into();
                registers.rcx = match self.config.profile {
                    Profile::Fusion => PRODUCT_WORKSTATION.into(),
                    _ => PRODUCT_ESX.into(),
                };
            }
            command::GETHWVERSION => {
                registers.rax = match self.config.profile {
                    Profile::Esxi7 => HARDWARE_VERSION_7.into(),
                    _ => HARDWARE_VERSION.into(),
                };
                registers.rbx = MAGIC.into();
            }
            command::GETTIME | command::GETTIMEFULL | command::GETTIMEFULL_WITH_LAG
                if self.config.clock == HostClock::Absent || number > self.config.time_command =>
            {
                registers.rax = UNKNOWN.into();
            }
            command::GETTIME => {
                let (seconds, microseconds) = self.wall_clock();
                registers.rax = low_word(seconds).into();
                registers.rbx = microseconds.into();
                registers.rcx = MAX_TIME_LAG.into();
            }
            command::GETTIMEFULL | command::GETTIMEFULL_WITH_LAG => {
                let (seconds, microseconds) = self.wall_clock();
                registers.rsi = seconds >> 32;
                registers.rdx = low_word(seconds).into();
                registers.rbx = microseconds.into();
                registers.rcx = MAX_TIME_LAG.into();
                if number == command::GETTIMEFULL_WITH_LAG {
                    registers.rdi = 0;
                }
            }
            command::GETHZ => {
                registers.rax = low_word(self.config.tsc_hz).into();
                registers.rbx = self.config.tsc_hz >> 32;
                registers.rcx = BUS_HZ.into();
            }
            number => {
                if command::KERNEL_ONLY.contains(&number) {
                    self.violate(now, pid, None, &Violation::KernelOnly { command: number });
                }
                registers.rax = UNKNOWN.into();
            }
        }
        Outcome::Done
    }

    /// Seconds and microseconds since 1970 by the host's clock.
    fn wall_clock(&self) -> (u64, u32) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = match self.config.clock {
            HostClock::Ahead(by) => now.saturating_add(by),
            HostClock::Behind(by) => now.saturating_sub(by),
            HostClock::Absent => Duration::ZERO,
            HostClock::Reads {
                seconds,
                microseconds,
            } => return (seconds, microseconds),
        };
        (now.as_secs(), now.subsec_micros())
    }

    /// What time alone brings: routine requests and time-outs.
    fn tick(&mut self, now: Duration) {
        self.pour(now);
        let mut due = Vec::new();
        let mut late = Vec::new();
        for console in &mut self.consoles {
            let channel = console.channel;
            due.extend(
                console
                    .due(&self.config.timing, now)
                    .into_iter()
                    .map(|(origin, bytes)| (channel, origin, bytes)),
            );
            let idle = self.channels.get(channel).is_none_or(|channel| channel.is_idle());
            late.extend(
                console
                    .timed_out(&self.config.timing, now, idle)
                    .map(|request| (channel, request)),
            );
        }
        for (channel, origin, bytes) in due {
            self.ask(now, channel, origin, bytes);
        }
        for (channel, request) in late {
            self.counters.timeouts += 1;
            let event = Event {
                channel: Some(channel),
                id: Some(request.id),
                origin: Some(request.origin.name()),
                bytes: Some(request.bytes),
                ok: Some(false),
                ..Event::new(Kind::TcloTimeout)
            };
            self.record(now, event);
        }
    }
}

/// Bits 31:16 of the low word of a register.
fn upper(register: u64) -> u16 {
    high_half(low_word(register))
}
