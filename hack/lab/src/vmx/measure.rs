//! What the guest costs, without what it costs to watch it.
//!
//! ```text
//!  tracer --counts each stop, call--> Ledger <--Snapshot-- anybody, at any time
//!                                       ^
//!  /proc of running threads ------------+------ last reading before a thread or process ends
//! ```
//!
//! A wake-up is a voluntary context switch: the thread waited for something and went on. Each ptrace stop is one as
//! well (the thread waits for the tracer), so stops are subtracted. CPU time cannot be corrected that way: the kernel
//! counts the entry into and the return from each stop as the guest's, some microseconds each, so it is an upper bound.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::device::Access;
use super::tracer::process::Pidfd;

/// How often the threads of a process stopped for the tracer, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// Backdoor instructions.
    pub backdoor: u64,
    /// CPUID instructions.
    pub cpuid: u64,
    /// Signals of the guest's own.
    pub signal: u64,
    /// Group stops, first stops of new threads, and what follows SIGCONT.
    pub group: u64,
    /// Guarded system calls.
    pub seccomp: u64,
    /// Ends of system calls that made memory executable.
    pub syscall: u64,
    /// Threads and processes made, programs executed, threads ended.
    pub event: u64,
}

impl Stops {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.backdoor + self.cpuid + self.signal + self.group + self.seccomp + self.syscall + self.event
    }

    fn add(&mut self, other: &Self) {
        self.backdoor += other.backdoor;
        self.cpuid += other.cpuid;
        self.signal += other.signal;
        self.group += other.group;
        self.seccomp += other.seccomp;
        self.syscall += other.syscall;
        self.event += other.event;
    }
}

/// Backdoor calls that the device answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Low bandwidth.
    pub low: u64,
    /// High bandwidth, guest to host.
    pub high_out: u64,
    /// High bandwidth, host to guest.
    pub high_in: u64,
}

impl Calls {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.low + self.high_out + self.high_in
    }

    pub(super) fn count(&mut self, access: Access) {
        match access {
            Access::Low => self.low += 1,
            Access::HighOut => self.high_out += 1,
            Access::HighIn => self.high_in += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.low += other.low;
        self.high_out += other.high_out;
        self.high_in += other.high_in;
    }
}

/// One guest process, running or ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number, as the tracer's side sees it.
    pub pid: i32,
    /// The number of the process that made it; 0 for the first.
    pub parent: i32,
    /// Name of its program, as the kernel cuts it off after 15 bytes.
    pub command: String,
    /// Whether it has not ended yet.
    pub running: bool,
    /// Stops for the tracer.
    pub stops: Stops,
    /// Backdoor calls.
    pub calls: Calls,
    /// Voluntary context switches of all its threads, ended ones included, less the ptrace stops.
    pub wakeups: u64,
    /// User and system time of all its threads, in the resolution of the scheduler; unknown when it ended unobserved.
    pub cpu: Option<Duration>,
    /// Resident memory in bytes (`VmRSS`), of an ended process just before its end.
    pub resident: Option<u64>,
    /// The most memory that its present program has had resident, in bytes (`VmHWM`).
    pub peak: Option<u64>,
}

/// The processes of a guest at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Time since the guest was started.
    pub elapsed: Duration,
    /// Every process there has been, in the order of their appearance.
    pub processes: Vec<Process>,
}

impl Snapshot {
    /// Sums over all processes. `resident` adds up those that run; `peak` is the sum of the peaks of all.
    #[must_use]
    pub fn total(&self) -> Process {
        let mut total = Process {
            running: self.processes.iter().any(|process| process.running),
            ..Process::default()
        };
        let sum = |a: Option<u64>, b: Option<u64>| a.map_or(b, |a| Some(a + b.unwrap_or(0)));
        for process in &self.processes {
            total.stops.add(&process.stops);
            total.calls.add(&process.calls);
            total.wakeups += process.wakeups;
            total.cpu = match (total.cpu, process.cpu) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
            total.peak = sum(total.peak, process.peak);
            if process.running {
                total.resident = sum(total.resident, process.resident);
            }
        }
        total
    }
}

/// One process as the tracer keeps it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) process: Process,
    /// Reaches the process and no later one with its number; none once it is gone.
    pub(super) pidfd: Option<Pidfd>,
    /// Context switches of threads that ended.
    ended_switches: u64,
    /// Threads counted in there that `/proc` may still list.
    ending: HashSet<i32>,
}

/// What the tracer counts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    records: Vec<Record>,
    /// Where the running ones are in `records`.
    running: HashMap<i32, usize>,
}

impl Ledger {
    pub(super) fn begin(&mut self, pid: i32, parent: i32) {
        let process = Process {
            pid,
            parent,
            command: command(pid),
            running: true,
            ..Process::default()
        };
        self.running.insert(pid, self.records.len());
        self.records.push(Record {
            process,
            pidfd: Pidfd::open(pid),
            ended_switches: 0,
            ending: HashSet::new(),
        });
    }

    /// The running process `pid`.
    pub(super) fn get(&mut self, pid: i32) -> Option<&mut Record> {
        self.records.get_mut(*self.running.get(&pid)?)
    }

    /// Every process that runs.
    pub(super) fn running(&self) -> impl Iterator<Item = &Record> {
        self.running.values().filter_map(|index| self.records.get(*index))
    }

    /// A new program took over process `pid`; all threads but one are gone.
    pub(super) fn executed(&mut self, pid: i32) {
        if let Some(record) = self.get(pid) {
            record.process.command = command(pid);
            // If another thread than the first executed it, that one lives on under the number of the first.
            record.ending.clear();
        }
    }

    /// The last reading of a thread that is about to end.
    pub(super) fn thread_ends(&mut self, pid: i32, tid: i32) {
        if let Some(record) = self.get(pid) {
            let status = status(&format!("/proc/{pid}/task/{tid}/status"));
            if record.ending.insert(tid) {
                record.ended_switches += status.switches;
            }
            record.process.read_memory(&status);
            record.process.read_cpu();
        }
    }

    pub(super) fn thread_ended(&mut self, pid: i32, tid: i32) {
        if let Some(record) = self.get(pid) {
            record.ending.remove(&tid);
        }
    }

    pub(super) fn ended(&mut self, pid: i32) {
        if let Some(record) = self
            .running
            .remove(&pid)
            .and_then(|index| self.records.get_mut(index))
        {
            record.process.running = false;
            record.process.wakeups = record.ended_switches.saturating_sub(record.process.stops.total());
            record.pidfd = None;
        }
    }

    /// Everything, with fresh readings of what runs.
    pub(super) fn snapshot(&self, elapsed: Duration) -> Snapshot {
        Snapshot {
            elapsed,
            processes: self.records.iter().map(Record::read).collect(),
        }
    }
}

impl Record {
    fn read(&self) -> Process {
        let mut process = self.process.clone();
        if process.running {
            process.read_memory(&status(&format!("/proc/{}/status", process.pid)));
            process.read_cpu();
            let switches = self.ended_switches + self.running_switches();
            process.wakeups = switches.saturating_sub(process.stops.total());
        }
        process
    }

    fn running_switches(&self) -> u64 {
        let pid = self.process.pid;
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            return 0;
        };
        threads
            .filter_map(|thread| thread.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|tid| !self.ending.contains(tid))
            .map(|tid| status(&format!("/proc/{pid}/task/{tid}/status")).switches)
            .sum()
    }
}

impl Process {
    /// Keeps the former reading where there is no new one: an ending process has no memory any more.
    fn read_memory(&mut self, status: &Status) {
        self.resident = status.resident.or(self.resident);
        self.peak = status.peak.or(self.peak);
    }

    fn read_cpu(&mut self) {
        let time = clock_getcpuclockid(Pid::from_raw(self.pid)).and_then(clock_gettime);
        self.cpu = time.ok().map(Duration::from).or(self.cpu);
    }
}

/// What matters of `/proc/<pid>/status`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    resident: Option<u64>,
    peak: Option<u64>,
    switches: u64,
}

fn status(path: &str) -> Status {
    parse_status(&fs::read_to_string(path).unwrap_or_default())
}

fn parse_status(text: &str) -> Status {
    let mut status = Status::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let number = || {
            value
                .split_whitespace()
                .next()
                .and_then(|number| number.parse::<u64>().ok())
        };
        // The kernel counts memory in units of 1024 bytes here.
        let memory = || number().and_then(|kib| kib.checked_mul(1024));
        match key {
            "VmRSS" => status.resident = memory(),
            "VmHWM" => status.peak = memory(),
            "voluntary_ctxt_switches" => status.switches = number().unwrap_or(0),
            _ => {}
        }
    }
    status
}

fn command(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_parsed() {
        let text = "Name:\tx\nVmHWM:\t    3204 kB\nVmRSS:\t    1000 kB\nvoluntary_ctxt_switches:\t42\n\
                    nonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(
            parse_status(text),
            Status {
                resident: Some(1000 * 1024),
                peak: Some(3204 * 1024),
                switches: 42
            }
        );
        assert_eq!(parse_status("VmRSS: lots\n"), Status::default());
    }

    #[test]
    fn a_snapshot_reads_running_processes() {
        let mut ledger = Ledger::default();
        let own = Pid::this().as_raw();
        ledger.begin(own, 0);
        ledger.get(own).unwrap().process.calls.count(Access::HighIn);
        let total = ledger.snapshot(Duration::ZERO).total();
        assert!(total.running && total.cpu.is_some());
        assert!(total.resident.is_some_and(|bytes| bytes > 100_000));
        assert!(total.peak >= total.resident);
        assert_eq!(total.calls.total(), 1);
    }

    #[test]
    fn stops_are_no_wakeups() {
        let mut ledger = Ledger::default();
        let own = Pid::this().as_raw();
        ledger.begin(own, 0);
        ledger.get(own).unwrap().process.stops.signal = u64::MAX / 2;
        assert_eq!(
            ledger.snapshot(Duration::ZERO).total().wakeups,
            0,
            "never below zero"
        );
        ledger.ended(own);
        assert!(ledger.get(own).is_none());
        let ended = ledger.snapshot(Duration::ZERO);
        assert!(!ended.processes[0].running);
    }
}
