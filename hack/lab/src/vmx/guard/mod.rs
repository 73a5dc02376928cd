//! The first lock: what would change the machine is stopped before it happens, and recorded.
//!
//! ```text
//!  guest --guarded system call--> seccomp filter --stop--> Guard::judge --> Verdict
//!                                                                            |- Pass: the kernel executes it
//!                                                                            |- Answer: skipped, this is its result
//!                                                                            `- Replace: exec of /bin/true instead
//! ```
//!
//! | guarded | answer |
//! | --- | --- |
//! | exec of a program for power, network, freezing, the clock ([`programs`]) | `/bin/true` runs, or the error that [`OnExec`] names |
//! | `reboot`, `kexec_load`, `kexec_file_load` | 0 |
//! | `clock_settime`, `settimeofday`, `adjtimex` and `clock_adjtime` that set something, `RTC_SET_TIME` | 0 |
//! | `sethostname`, `setdomainname` | 0 |
//! | `FIFREEZE`, `FITHAW` | 0, with `EBUSY` and `EINVAL` where a filesystem that is (not) frozen would give them |
//! | a signal to pid 1 of the machine, or to all its processes | 0 |
//! | opening `/proc/sysrq-trigger` or `/sys/power/*` for writing | `EACCES` |
//! | `iopl`, `ioperm`, which would bypass the backdoor | 0 |
//! | 32-bit system calls, which the filter does not know | `ENOSYS` |
//!
//! A guest without the capability for the call gets `EPERM`, as from the kernel, so that it is not told that it could
//! do what it cannot; root whose capabilities [the second lock](super::isolation) took away counts as having them.
//!
//! The guard protects from programs that mean well. It reads paths before the kernel does, and does not see what a
//! guest does through io_uring, D-Bus or netlink: that is what the second lock is for.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc::{self, c_long};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use nix::unistd::Pid;

use super::device::GuestMemory;
use super::memory::Memory;
use super::tracer::stop::Syscall;

pub(super) mod filter;
pub mod programs;

/// What a guest gets that executes a guarded program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExec {
    /// `/bin/true` is executed instead: the guest sees success.
    #[default]
    Succeed,
    /// The exec fails with this error.
    Fail(Errno),
}

/// What the guest tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To execute this program, with these arguments (the first is its own name).
    Execute {
        /// The path as the guest gave it.
        program: String,
        /// The arguments, at most 64.
        arguments: Vec<String>,
    },
    /// To restart, halt or power off, with this `LINUX_REBOOT_CMD_*`.
    Reboot {
        /// The command, from `linux/reboot.h`.
        command: u32,
    },
    /// To load another kernel.
    LoadKernel,
    /// To set or adjust the system's or the hardware's clock.
    SetClock,
    /// To set the host name or the domain name.
    SetName,
    /// To freeze a filesystem.
    Freeze {
        /// Its device number; unknown when the descriptor is not open.
        device: Option<u64>,
    },
    /// To thaw a filesystem.
    Thaw {
        /// Its device number; unknown when the descriptor is not open.
        device: Option<u64>,
    },
    /// To send this signal to pid 1, or to every process.
    Signal {
        /// The signal; 0 only asks whether it could be sent.
        signal: i32,
    },
    /// To open a file of the kernel's for writing.
    Write {
        /// Where it is.
        path: String,
    },
    /// To get access to I/O ports.
    Ports,
    /// A system call of the 32-bit or the x32 interface.
    Foreign {
        /// Its number there.
        number: u64,
    },
}

/// What the guest got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This result of the system call; errors are negative.
    Result(i64),
    /// A program that does nothing.
    Replaced,
}

/// What is to become of a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Intercept(Action, Answer),
}

/// Judges system calls.
#[derive(Debug)]
pub(super) struct Guard {
    on_exec: OnExec,
    /// Whether root is without some capabilities only because of the second lock.
    isolated: bool,
    /// Device numbers of the filesystems that the guest believes frozen.
    frozen: HashSet<u64>,
}

/// Capability numbers, `linux/capability.h`.
const CAP_KILL: u32 = 5;
const CAP_SYS_RAWIO: u32 = 17;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_BOOT: u32 = 22;
const CAP_SYS_TIME: u32 = 25;

/// `modes` of `struct timex` that reads the remaining adjustment and sets nothing, `linux/timex.h`.
const ADJ_OFFSET_SS_READ: u32 = 0xa001;

impl Guard {
    pub(super) fn new(on_exec: OnExec, isolated: bool) -> Self {
        Self {
            on_exec,
            isolated,
            frozen: HashSet::new(),
        }
    }

    /// Judges the system call at whose entry thread `tid` stands.
    pub(super) fn judge(&mut self, tid: Pid, syscall: &Syscall) -> Verdict {
        let foreign = syscall.architecture != filter::X86_64 || syscall.number >= u64::from(filter::X32);
        if foreign {
            let action = Action::Foreign {
                number: syscall.number,
            };
            return Verdict::Intercept(action, error(Errno::ENOSYS));
        }
        let [first, second, third, ..] = syscall.arguments;
        let Ok(number) = c_long::try_from(syscall.number) else {
            return Verdict::Pass;
        };
        match number {
            libc::SYS_execve => self.execute(tid, i64::from(libc::AT_FDCWD), first, second),
            libc::SYS_execveat => self.execute(tid, first.cast_signed(), second, third),
            libc::SYS_reboot => {
                let command = low(third);
                self.privileged(tid, CAP_SYS_BOOT, Action::Reboot { command })
            }
            libc::SYS_kexec_load | libc::SYS_kexec_file_load => {
                self.privileged(tid, CAP_SYS_BOOT, Action::LoadKernel)
            }
            libc::SYS_clock_settime | libc::SYS_settimeofday => {
                self.privileged(tid, CAP_SYS_TIME, Action::SetClock)
            }
            libc::SYS_adjtimex => self.adjust(tid, first),
            libc::SYS_clock_adjtime => self.adjust(tid, second),
            libc::SYS_sethostname | libc::SYS_setdomainname => {
                self.privileged(tid, CAP_SYS_ADMIN, Action::SetName)
            }
            libc::SYS_iopl | libc::SYS_ioperm => self.privileged(tid, CAP_SYS_RAWIO, Action::Ports),
            libc::SYS_ioctl => self.control(tid, first, low(second)),
            libc::SYS_kill | libc::SYS_tkill | libc::SYS_rt_sigqueueinfo => self.signal(tid, low(second)),
            libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo => self.signal(tid, low(third)),
            libc::SYS_pidfd_send_signal if is_init(tid, first) => self.signal(tid, low(second)),
            libc::SYS_open | libc::SYS_creat => open_for_writing(tid, i64::from(libc::AT_FDCWD), first),
            libc::SYS_openat => open_for_writing(tid, first.cast_signed(), second),
            libc::SYS_openat2 if writes(tid, third) => open_for_writing(tid, first.cast_signed(), second),
            _ => Verdict::Pass,
        }
    }

    fn execute(&self, tid: Pid, directory: i64, path: u64, arguments: u64) -> Verdict {
        let memory = Memory::new(tid);
        // What cannot be read here, the kernel cannot execute either.
        let (Ok(path), Ok(arguments)) = (memory.string(path), memory.strings(arguments)) else {
            return Verdict::Pass;
        };
        let resolved = File::resolve(tid, directory, &path)
            .map(|file| file.path)
            .unwrap_or_default();
        let program = text(&path);
        let arguments: Vec<String> = arguments.iter().map(|argument| text(argument)).collect();
        if !programs::is_guarded_execution(&program, &text(resolved.as_os_str().as_bytes()), &arguments) {
            return Verdict::Pass;
        }
        let answer = match self.on_exec {
            OnExec::Succeed => Answer::Replaced,
            OnExec::Fail(errno) => error(errno),
        };
        Verdict::Intercept(Action::Execute { program, arguments }, answer)
    }

    fn adjust(&self, tid: Pid, timex: u64) -> Verdict {
        let mut modes = [0; 4];
        if Memory::new(tid).read(timex, &mut modes).is_err() {
            return Verdict::Pass;
        }
        match u32::from_ne_bytes(modes) {
            0 | ADJ_OFFSET_SS_READ => Verdict::Pass,
            _ => self.privileged(tid, CAP_SYS_TIME, Action::SetClock),
        }
    }

    fn control(&mut self, tid: Pid, descriptor: u64, command: u32) -> Verdict {
        let device = fs::metadata(format!("/proc/{tid}/fd/{}", low(descriptor)))
            .ok()
            .map(|metadata| metadata.st_dev());
        let (action, changed) = match command {
            filter::FIFREEZE => (Action::Freeze { device }, Errno::EBUSY),
            filter::FITHAW => (Action::Thaw { device }, Errno::EINVAL),
            filter::RTC_SET_TIME => return self.privileged(tid, CAP_SYS_TIME, Action::SetClock),
            _ => return Verdict::Pass,
        };
        let answer = match device {
            None => error(Errno::EBADF),
            Some(_) if !self.has(tid, CAP_SYS_ADMIN) => error(Errno::EPERM),
            Some(device) => {
                let did_change = match action {
                    Action::Freeze { .. } => self.frozen.insert(device),
                    _ => self.frozen.remove(&device),
                };
                if did_change {
                    Answer::Result(0)
                } else {
                    error(changed)
                }
            }
        };
        Verdict::Intercept(action, answer)
    }

    /// A signal to process 1, or -1, as the guest counts. In a PID namespace of its own these are its own processes.
    fn signal(&self, tid: Pid, signal: u32) -> Verdict {
        if has_own_pid_namespace(tid) {
            return Verdict::Pass;
        }
        let signal = signal.cast_signed();
        self.privileged(tid, CAP_KILL, Action::Signal { signal })
    }

    /// Intercepts an action that takes a capability.
    fn privileged(&self, tid: Pid, capability: u32, action: Action) -> Verdict {
        let answer = if self.has(tid, capability) {
            Answer::Result(0)
        } else {
            error(Errno::EPERM)
        };
        Verdict::Intercept(action, answer)
    }

    /// Whether the thread has the capability, or would have it but for the second lock.
    fn has(&self, tid: Pid, capability: u32) -> bool {
        let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let effective = field("CapEff:").and_then(|value| u64::from_str_radix(value.trim(), 16).ok());
        let root = field("Uid:").and_then(|uids| uids.split_whitespace().nth(1)) == Some("0");
        effective.is_some_and(|bits| bits >> capability & 1 == 1) || self.isolated && root
    }
}

/// A file as the guest's path leads to it.
struct File {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl File {
    /// Follows `path` of thread `tid`, without opening the file for anything.
    fn resolve(tid: Pid, directory: i64, path: &[u8]) -> Option<Self> {
        let path = std::str::from_utf8(path).ok()?;
        let path = match (path.strip_prefix("/proc/self/"), path.strip_prefix('/')) {
            // This program's own "self" would be another.
            (Some(own), _) => format!("/proc/{tid}/{own}"),
            (None, Some(rest)) => format!("/proc/{tid}/root/{rest}"),
            (None, None) if low(directory.cast_unsigned()).cast_signed() == libc::AT_FDCWD => {
                format!("/proc/{tid}/cwd/{path}")
            }
            (None, None) => {
                let directory = low(directory.cast_unsigned());
                format!("/proc/{tid}/fd/{directory}/{path}")
                    .trim_end_matches('/')
                    .to_owned()
            }
        };
        let descriptor = open(path.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let path = fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).ok()?;
        Some(Self { descriptor, path })
    }

    /// Whether writing to it tells the kernel to restart or to sleep.
    fn is_power_switch(&self) -> bool {
        let Ok(filesystem) = fstatfs(&self.descriptor).map(|found| found.filesystem_type()) else {
            return false;
        };
        let name = self.path.file_name();
        let parent = self.path.parent().and_then(Path::file_name);
        filesystem == PROC_SUPER_MAGIC && name.is_some_and(|name| name == "sysrq-trigger")
            || filesystem == SYSFS_MAGIC && parent.is_some_and(|parent| parent == "power")
    }
}

fn open_for_writing(tid: Pid, directory: i64, path: u64) -> Verdict {
    let Ok(path) = Memory::new(tid).string(path) else {
        return Verdict::Pass;
    };
    // By name also where this kernel has no such file: a guest behaves the same everywhere.
    let is_power_switch = path.ends_with(b"/sysrq-trigger")
        || File::resolve(tid, directory, &path).is_some_and(|file| file.is_power_switch());
    if !is_power_switch {
        return Verdict::Pass;
    }
    Verdict::Intercept(Action::Write { path: text(&path) }, error(Errno::EACCES))
}

/// Whether the `struct open_how` at `how` asks for writing.
fn writes(tid: Pid, how: u64) -> bool {
    let flags = (libc::O_WRONLY | libc::O_RDWR).cast_unsigned();
    Memory::new(tid)
        .word(how)
        .is_ok_and(|asked| asked & u64::from(flags) != 0)
}

/// Whether descriptor `pidfd` of the guest stands for pid 1, as this program counts.
fn is_init(tid: Pid, pidfd: u64) -> bool {
    fs::read_to_string(format!("/proc/{tid}/fdinfo/{}", low(pidfd)))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("Pid:"))
        .any(|pid| pid.trim() == "1")
}

/// Whether process 1 of thread `tid` is another than process 1 of this program.
fn has_own_pid_namespace(tid: Pid) -> bool {
    let namespace = |of: &str| {
        fs::metadata(format!("/proc/{of}/ns/pid"))
            .ok()
            .map(|found| found.st_ino())
    };
    match (namespace(&tid.to_string()), namespace("self")) {
        (Some(guest), Some(own)) => guest != own,
        _ => false,
    }
}

fn error(errno: Errno) -> Answer {
    Answer::Result(-i64::from(errno as i32))
}

/// The low 32 bits, which is what an `int` argument is.
fn low(argument: u64) -> u32 {
    (argument & 0xffff_ffff) as u32
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
