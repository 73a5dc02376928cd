//! The tracer's loop: one event after the other, each answered by resuming the thread that stopped.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::process::{Launch, Launched};
use super::stop::{self, Resume, Stop, Syscall, Wait};
use super::{Event, Listener, Method, Options, Report, Shared, TracerError, Until, port, rewrite};
use crate::vmx::cpuid::Cpuid;
use crate::vmx::cpuid::faulting::Injection;
use crate::vmx::cpuid::patching::{Patcher, Places, Trap};
use crate::vmx::cpuid::scan;
use crate::vmx::device::Device;
use crate::vmx::guard::{Action, Answer, Guard, Verdict};
use crate::vmx::measure::{Record, Stops};
use crate::vmx::memory::Memory;

/// How long killed processes may take to end.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between looks at processes that are ending.
const END_PAUSE: Duration = Duration::from_millis(1);
/// `si_code` of a fault that has no address: the backdoor's #GP (`SI_KERNEL`, `asm-generic/siginfo.h`).
const SI_KERNEL: i32 = 0x80;

/// A traced thread.
#[derive(Debug, Default)]
struct Thread {
    /// Its process.
    pid: i32,
    /// The system call in progress whose end matters.
    mapping: Option<Syscall>,
    /// The call in progress that was put into the guest.
    injection: Option<Injection>,
}

/// Follows one guest.
pub(super) struct Follower {
    options: Options,
    method: Method,
    device: Box<dyn Device>,
    listener: Option<Listener>,
    shared: Arc<Shared>,
    ready: Option<mpsc::Sender<()>>,
    guard: Guard,
    cpuid: Cpuid,
    patcher: Patcher,
    threads: HashMap<i32, Thread>,
    /// Patched places, by process. Threads of one process share them.
    spaces: HashMap<i32, Places>,
    /// Process 1 of the guest's namespace, which is ours and not the guest's.
    init: Option<i32>,
    status: Option<ExitStatus>,
    failure: Option<TracerError>,
}

impl Follower {
    pub(super) fn new(
        options: Options,
        method: Method,
        isolated: bool,
        device: Box<dyn Device>,
        listener: Option<Listener>,
        shared: Arc<Shared>,
        ready: mpsc::Sender<()>,
    ) -> Self {
        Self {
            options,
            method,
            device,
            listener,
            shared,
            ready: Some(ready),
            guard: Guard::new(options.on_exec, isolated),
            cpuid: Cpuid::new(options.platform),
            patcher: Patcher::default(),
            threads: HashMap::new(),
            spaces: HashMap::new(),
            init: None,
            status: None,
            failure: None,
        }
    }

    /// Runs the guest to its end.
    pub(super) fn run(mut self, launch: Launch) -> Result<Report, TracerError> {
        let program = launch.program.to_string_lossy().into_owned();
        let has_namespaces = launch
            .isolation
            .as_ref()
            .is_some_and(|isolation| isolation.has_namespaces());
        let mut launched = launch.fork()?;
        let pid = launched.pid.as_raw();
        self.init = has_namespaces.then_some(pid);
        self.threads.insert(
            pid,
            Thread {
                pid,
                ..Thread::default()
            },
        );
        self.begin(pid, 0);
        launched.start()?;

        self.follow()?;
        let ended = self.end();
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        ended?;
        self.report(&mut launched, &program)
    }

    fn report(self, launched: &mut Launched, program: &str) -> Result<Report, TracerError> {
        match self.status {
            // The program was executed: `ready` is used up.
            Some(status) if self.ready.is_none() => Ok(Report {
                status,
                measures: self.shared.ledger().snapshot(self.shared.started.elapsed()),
            }),
            _ => Err(launched.failure(program)),
        }
    }

    /// Handles events until the run is over.
    fn follow(&mut self) -> Result<(), TracerError> {
        loop {
            match stop::wait(true) {
                Ok(Some((tid, wait))) => self.handle(tid, wait),
                Ok(None) => {}
                Err(Errno::ECHILD) => return Ok(()),
                Err(source) => return Err(TracerError::Wait { source }),
            }
            let over = self.status.is_some() && self.options.until == Until::FirstEnds;
            if over || self.failure.is_some() || self.shared.stopping.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
    }

    /// Kills what is left and sees it end.
    fn end(&mut self) -> Result<(), TracerError> {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.kill_all();
        if let Some(init) = self.init {
            // With it the kernel ends everything in its namespace.
            let _ = nix::sys::signal::kill(Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL);
        }
        let deadline = Instant::now() + END_DEADLINE;
        loop {
            match stop::wait(false) {
                Ok(Some((tid, wait))) => {
                    self.handle(tid, wait);
                    self.shared.kill_all();
                }
                Err(_) => return Ok(()),
                Ok(None) if Instant::now() > deadline => {
                    let count = self.shared.ledger().running().count();
                    return Err(TracerError::Survivors { count });
                }
                Ok(None) => std::thread::sleep(END_PAUSE),
            }
        }
    }

    fn handle(&mut self, tid: Pid, wait: Wait) {
        match wait {
            Wait::Gone(status) => self.gone(tid, ExitStatus::from_raw(status)),
            Wait::Stopped(stop) => {
                if !self.threads.contains_key(&tid.as_raw()) {
                    self.adopt(tid);
                }
                // An error means that the thread was killed meanwhile: its end is the next event.
                let resume = self.stopped(tid, stop).unwrap_or(Resume::Run(0));
                let _ = stop::resume(tid, resume);
            }
        }
    }

    /// A thread that was made by a guest thread, and that the kernel attached.
    fn adopt(&mut self, tid: Pid) {
        let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
        let field = |name: &str| -> Option<i32> {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse().ok()
        };
        let pid = field("Tgid:").unwrap_or(tid.as_raw());
        self.threads.insert(
            tid.as_raw(),
            Thread {
                pid,
                ..Thread::default()
            },
        );
        if !self.spaces.contains_key(&pid) {
            self.begin(pid, field("PPid:").unwrap_or(0));
        }
    }

    /// A process begins, with a copy of its parent's memory.
    fn begin(&mut self, pid: i32, parent: i32) {
        let places = self.spaces.get(&parent).cloned().unwrap_or_default();
        self.spaces.insert(pid, places);
        if self.init == Some(pid) {
            return;
        }
        let parent = if self.init == Some(parent) { 0 } else { parent };
        self.shared.ledger().begin(pid, parent);
        let mut first = self.shared.first();
        if *first == 0 {
            *first = pid;
        }
        drop(first);
        self.tell(|| Event::Process { pid, parent });
    }

    fn gone(&mut self, tid: Pid, status: ExitStatus) {
        let Some(thread) = self.threads.remove(&tid.as_raw()) else {
            return;
        };
        let pid = thread.pid;
        self.shared.ledger().thread_ended(pid, tid.as_raw());
        if pid != tid.as_raw() {
            return;
        }
        self.spaces.remove(&pid);
        self.shared.ledger().ended(pid);
        let first = *self.shared.first();
        if pid == first {
            self.status = Some(status);
        }
        if self.init != Some(pid) {
            self.tell(|| Event::Exited { pid, status });
        }
    }

    fn stopped(&mut self, tid: Pid, stop: Stop) -> Result<Resume, Errno> {
        let pid = self.threads.get(&tid.as_raw()).map_or(0, |thread| thread.pid);
        match stop {
            Stop::Signal(signal) => self.signal(tid, pid, signal),
            Stop::Group => {
                self.count(pid, |stops| stops.group += 1);
                Ok(Resume::Listen)
            }
            Stop::Trap => {
                self.count(pid, |stops| stops.group += 1);
                Ok(Resume::Run(0))
            }
            Stop::Clone => {
                self.count(pid, |stops| stops.event += 1);
                Ok(Resume::Run(0))
            }
            Stop::Exec => {
                self.count(pid, |stops| stops.event += 1);
                self.executed(tid)
            }
            Stop::Exit => {
                let mut ledger = self.shared.ledger();
                if let Some(record) = ledger.get(pid) {
                    record.process.stops.event += 1;
                }
                ledger.thread_ends(pid, tid.as_raw());
                Ok(Resume::Run(0))
            }
            Stop::Seccomp => {
                self.count(pid, |stops| stops.seccomp += 1);
                self.system_call(tid, pid)
            }
            Stop::Syscall => {
                self.count(pid, |stops| stops.syscall += 1);
                self.mapped(tid, pid)
            }
        }
    }

    fn signal(&mut self, tid: Pid, pid: i32, signal: i32) -> Result<Resume, Errno> {
        let emulated = match signal {
            libc::SIGSEGV | libc::SIGILL | libc::SIGBUS => self.fault(tid, pid, signal)?,
            libc::SIGTRAP => self.injected(tid)?,
            _ => false,
        };
        if emulated {
            return Ok(Resume::Run(0));
        }
        self.count(pid, |stops| stops.signal += 1);
        self.tell(|| Event::Signal { pid, signal });
        Ok(Resume::Run(signal))
    }

    /// Emulates the instruction that faulted, if it is one of ours. True when the guest goes on without the signal.
    fn fault(&mut self, tid: Pid, pid: i32, signal: i32) -> Result<bool, Errno> {
        let code = ptrace::getsiginfo(tid)?.si_code;
        // Sent by a process, not raised by an instruction.
        if code <= 0 {
            return Ok(false);
        }
        let mut registers = ptrace::getregs(tid)?;
        let memory = Memory::new(tid);
        if signal == libc::SIGSEGV && code == SI_KERNEL {
            let instruction = memory.readable(registers.rip, scan::CPUID.len());
            if self.options.platform.has_backdoor()
                && let Some(access) = port::access(&instruction, &registers)
            {
                let done = port::emulate(&mut *self.device, pid, access, &mut registers, &memory);
                if done {
                    ptrace::setregs(tid, registers)?;
                    self.record(pid, |record| {
                        record.process.stops.backdoor += 1;
                        record.process.calls.count(access);
                    });
                }
                return Ok(done);
            }
            if let Method::Faulting(_) = self.method
                && let Some(length) =
                    scan::cpuid_length(&memory.readable(registers.rip, scan::LONGEST_INSTRUCTION))
            {
                self.identify(tid, pid, &mut registers, length as u64)?;
                return Ok(true);
            }
        }
        let (Method::Patching, Some(places)) = (self.method, self.spaces.get_mut(&pid)) else {
            return Ok(false);
        };
        match self.patcher.trap(tid, places, registers.rip) {
            Trap::Cpuid(length) => self.identify(tid, pid, &mut registers, length)?,
            Trap::Restored => {
                self.count(pid, |stops| stops.cpuid += 1);
                let address = registers.rip;
                self.tell(|| Event::Repaired { pid, address });
            }
            Trap::Foreign => return Ok(false),
        }
        Ok(true)
    }

    /// Executes a CPUID of `length` bytes in the guest's stead.
    fn identify(
        &self,
        tid: Pid,
        pid: i32,
        registers: &mut user_regs_struct,
        length: u64,
    ) -> Result<(), Errno> {
        let low = |register: u64| (register & 0xffff_ffff) as u32;
        let answer = self.cpuid.answer(low(registers.rax), low(registers.rcx));
        registers.rax = answer.eax.into();
        registers.rbx = answer.ebx.into();
        registers.rcx = answer.ecx.into();
        registers.rdx = answer.edx.into();
        registers.rip = registers.rip.wrapping_add(length);
        self.count(pid, |stops| stops.cpuid += 1);
        ptrace::setregs(tid, *registers)
    }

    /// The end of a call that was put into the guest, if that is what this SIGTRAP is.
    fn injected(&mut self, tid: Pid) -> Result<bool, Errno> {
        let Some(thread) = self.threads.get_mut(&tid.as_raw()) else {
            return Ok(false);
        };
        let rip = ptrace::getregs(tid)?.rip;
        let Some(injection) = thread.injection.take_if(|injection| injection.ends_at(rip)) else {
            return Ok(false);
        };
        let pid = thread.pid;
        let result = injection.finish(tid)?;
        self.count(pid, |stops| stops.cpuid += 1);
        if result < 0 {
            let source = Errno::from_raw(i32::try_from(-result).unwrap_or(0));
            self.failure = Some(TracerError::Faulting { pid, source });
        }
        Ok(true)
    }

    /// A new program is in place, and no instruction of it has run yet.
    fn executed(&mut self, tid: Pid) -> Result<Resume, Errno> {
        let pid = tid.as_raw();
        // The thread that executed it, under the number it had until now.
        let former = i32::try_from(ptrace::getevent(tid)?).unwrap_or(pid);
        self.threads.remove(&former);
        let thread = Thread {
            pid,
            ..Thread::default()
        };
        self.threads.insert(pid, thread);
        self.shared.ledger().executed(pid);
        self.tell(|| Event::Exec {
            pid,
            program: fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default(),
        });
        if *self.shared.first() == pid
            && let Some(ready) = self.ready.take()
        {
            // Nobody waits any more when the start took too long.
            let _ = ready.send(());
        }
        match self.method {
            Method::Faulting(call) => {
                let injection = Injection::begin(tid, call)?;
                if let Some(thread) = self.threads.get_mut(&pid) {
                    thread.injection = Some(injection);
                }
            }
            Method::Patching => {
                let mut places = Places::new();
                self.patcher.patch(tid, &mut places, 0..u64::MAX);
                self.spaces.insert(pid, places);
            }
        }
        Ok(Resume::Run(0))
    }

    /// A system call that the filter picked, at its entry. What cannot be judged is not executed.
    fn system_call(&mut self, tid: Pid, pid: i32) -> Result<Resume, Errno> {
        self.judge(tid, pid).or_else(|_| {
            rewrite::skip(tid, -i64::from(libc::EPERM))?;
            Ok(Resume::Run(0))
        })
    }

    fn judge(&mut self, tid: Pid, pid: i32) -> Result<Resume, Errno> {
        let syscall = stop::syscall(tid)?;
        if let Method::Patching = self.method
            && rewrite::is_mapping(&syscall)
            && let Some(thread) = self.threads.get_mut(&tid.as_raw())
        {
            thread.mapping = Some(syscall);
            return Ok(Resume::ToSyscallExit);
        }
        let Verdict::Intercept(action, answer) = self.guard.judge(tid, &syscall) else {
            return Ok(Resume::Run(0));
        };
        match answer {
            Answer::Result(result) => rewrite::skip(tid, result)?,
            Answer::Replaced => rewrite::replace(tid, &syscall)?,
        }
        self.intercepted(pid, action, answer);
        Ok(Resume::Run(0))
    }

    fn intercepted(&mut self, pid: i32, action: Action, answer: Answer) {
        self.tell(|| Event::Intercepted { pid, action, answer });
    }

    /// The end of a system call that made memory executable.
    fn mapped(&mut self, tid: Pid, pid: i32) -> Result<Resume, Errno> {
        let Some(syscall) = self
            .threads
            .get_mut(&tid.as_raw())
            .and_then(|thread| thread.mapping.take())
        else {
            return Ok(Resume::Run(0));
        };
        let result = ptrace::getregs(tid)?.rax.cast_signed();
        let [first, length, ..] = syscall.arguments;
        let is_mmap = syscall.number == libc::SYS_mmap.cast_unsigned();
        let start = if is_mmap { result.cast_unsigned() } else { first };
        // The results -4095 to -1 are errors, whatever the call.
        let failed = (-4095..0).contains(&result);
        if let (false, Some(places)) = (failed, self.spaces.get_mut(&pid)) {
            self.patcher
                .patch(tid, places, start..start.saturating_add(length));
        }
        Ok(Resume::Run(0))
    }

    fn count(&self, pid: i32, count: impl FnOnce(&mut Stops)) {
        self.record(pid, |record| count(&mut record.process.stops));
    }

    fn record(&self, pid: i32, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.shared.ledger().get(pid) {
            change(record);
        }
    }

    fn tell(&mut self, event: impl FnOnce() -> Event) {
        if let Some(listener) = &mut self.listener {
            listener(event());
        }
    }
}
