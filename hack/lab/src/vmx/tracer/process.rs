//! Starting the guest's first process, and reaching its processes from other threads.

#![expect(
    unsafe_code,
    reason = "fork, and system calls between fork and exec where nothing may be allocated"
)]

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{self, c_int, c_long, c_ulong, sock_filter};
use nix::sys::ptrace;
use nix::unistd::{Pid, pipe2};

use super::TracerError;
use crate::vmx::isolation::Isolation;

/// A descriptor of a process: it never means a later process with the same number.
#[derive(Debug)]
pub(in crate::vmx) struct Pidfd(OwnedFd);

impl Pidfd {
    /// None when the process is gone already.
    pub(in crate::vmx) fn open(pid: i32) -> Option<Self> {
        // SAFETY: the call takes integers; a descriptor that it returns is new and nobody else's.
        let descriptor = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).ok()?;
        let descriptor = RawFd::try_from(descriptor).ok()?;
        // SAFETY: as above.
        Some(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// `ESRCH` when the process is gone.
    pub(in crate::vmx) fn signal(&self, signal: c_int) -> Result<(), Errno> {
        let none = ptr::null::<libc::siginfo_t>();
        // SAFETY: without information about the signal the kernel fills it in itself.
        Errno::result(unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, none, 0)
        })
        .map(drop)
    }
}

/// Everything the child needs, prepared before the fork.
pub(super) struct Launch {
    pub(super) program: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) directory: Option<CString>,
    pub(super) streams: [Option<OwnedFd>; 3],
    pub(super) filter: Vec<sock_filter>,
    pub(super) isolation: Option<Isolation>,
}

/// The child, seized, and waiting behind a pipe for its start.
pub(super) struct Launched {
    pub(super) pid: Pid,
    start: File,
    failure: File,
}

/// What the child was doing when it failed; sent through the pipe as its position here.
const STEPS: [&str; 6] = ["mounts", "streams", "directory", "filter", "capabilities", "exec"];
const MOUNTS: u8 = 0;
const STREAMS: u8 = 1;
const DIRECTORY: u8 = 2;
const FILTER: u8 = 3;
const CAPABILITIES: u8 = 4;
const EXEC: u8 = 5;

/// Exit status of a child that could not execute the program; the shell's for "not found".
const NOT_EXECUTED: c_int = 127;

impl Launch {
    /// Makes the child and seizes it. It executes nothing before [`Launched::start`].
    pub(super) fn fork(mut self) -> Result<Launched, TracerError> {
        let fork_error = |source: Errno| TracerError::Fork { source };
        for stream in self.streams.iter_mut().flatten() {
            // Out of the way of the descriptors that they are to become.
            let moved = fcntl(&*stream, FcntlArg::F_DUPFD_CLOEXEC(3)).map_err(fork_error)?;
            // SAFETY: fcntl made this descriptor for us.
            *stream = unsafe { OwnedFd::from_raw_fd(moved) };
        }
        let (wait, start) = pipe2(OFlag::O_CLOEXEC).map_err(fork_error)?;
        let (failure, report) = pipe2(OFlag::O_CLOEXEC).map_err(fork_error)?;
        let child = Child {
            arguments: pointers(&self.arguments),
            environment: pointers(&self.environment),
            wait: wait.as_raw_fd(),
            start: start.as_raw_fd(),
            report: report.as_raw_fd(),
            launch: &self,
        };
        let namespaces = self.isolation.as_ref().is_some_and(Isolation::has_namespaces);
        // SAFETY: the child is a copy with this thread only and does nothing but async-signal-safe system calls on
        // memory prepared above, until it executes a program or exits.
        let pid = Errno::result(unsafe { fork(namespaces) }).map_err(fork_error)?;
        if pid == 0 {
            child.run();
        }
        let pid = Pid::from_raw(pid);
        let options = ptrace::Options::PTRACE_O_EXITKILL
            | ptrace::Options::PTRACE_O_TRACESYSGOOD
            | ptrace::Options::PTRACE_O_TRACEFORK
            | ptrace::Options::PTRACE_O_TRACEVFORK
            | ptrace::Options::PTRACE_O_TRACECLONE
            | ptrace::Options::PTRACE_O_TRACEEXEC
            | ptrace::Options::PTRACE_O_TRACEEXIT
            | ptrace::Options::PTRACE_O_TRACESECCOMP;
        if let Err(source) = ptrace::seize(pid, options) {
            // Nobody writes to the pipe: the child reads its end and exits.
            drop(start);
            let _ = nix::sys::wait::waitpid(pid, None);
            return Err(TracerError::Denied { source });
        }
        Ok(Launched {
            pid,
            start: start.into(),
            failure: failure.into(),
        })
    }
}

impl Launched {
    /// Lets the child go on.
    pub(super) fn start(&mut self) -> Result<(), TracerError> {
        self.start.write_all(&[1]).map_err(|error| TracerError::Fork {
            source: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EPIPE)),
        })
    }

    /// Why the child ended without executing the program, once it has ended.
    pub(super) fn failure(&mut self, program: &str) -> TracerError {
        let mut report = [0; 5];
        let source = match self.failure.read_exact(&mut report) {
            Ok(()) => {
                let [_, a, b, c, d] = report;
                Errno::from_raw(i32::from_ne_bytes([a, b, c, d]))
            }
            // It was killed.
            Err(_) => return TracerError::Killed,
        };
        let [step, ..] = report;
        if step == EXEC {
            return TracerError::Exec {
                program: program.to_owned(),
                source,
            };
        }
        TracerError::Prepare {
            step: STEPS.get(usize::from(step)).copied().unwrap_or("unknown step"),
            source,
        }
    }
}

/// The zero-terminated vector of pointers that exec wants; valid as long as `strings`.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Forks the calling thread, into new PID and mount namespaces if wanted.
///
/// # Safety
/// The child may do async-signal-safe things only: other threads' locks stay locked in it.
unsafe fn fork(namespaces: bool) -> c_int {
    let flags = if namespaces {
        libc::CLONE_NEWPID | libc::CLONE_NEWNS
    } else {
        0
    };
    let none: c_long = 0;
    // Not through fork(3), which takes locks that another thread may hold, and cannot make namespaces.
    // SAFETY: without CLONE_VM and with no stack given, clone is a fork; the rest is the caller's promise.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            c_long::from(flags | libc::SIGCHLD),
            none,
            none,
            none,
            none,
        )
    };
    c_int::try_from(pid).unwrap_or(-1)
}

/// The child's side. Only system calls on what was prepared.
struct Child<'a> {
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    wait: RawFd,
    start: RawFd,
    report: RawFd,
    launch: &'a Launch,
}

impl Child<'_> {
    fn run(&self) -> ! {
        let mut byte = 0_u8;
        // Its own copy of the writing end would keep it waiting after the tracer is gone.
        // SAFETY: close and read on our own descriptors; the buffer is one byte.
        let seized = unsafe {
            libc::close(self.start);
            libc::read(self.wait, (&raw mut byte).cast(), 1)
        };
        if seized != 1 {
            exit(NOT_EXECUTED);
        }
        if let Some(isolation) = &self.launch.isolation
            && isolation.has_namespaces()
        {
            self.check(MOUNTS, isolation.arrange_mounts());
        }
        self.check(STREAMS, self.place_streams());
        if let Some(directory) = &self.launch.directory {
            // SAFETY: the string ends with a zero byte.
            self.check(
                DIRECTORY,
                Errno::result(unsafe { libc::chdir(directory.as_ptr()) }).map(drop),
            );
        }
        default_signals();
        self.check(FILTER, install(&self.launch.filter));
        if let Some(isolation) = &self.launch.isolation {
            self.check(CAPABILITIES, isolation.drop_capabilities());
            if isolation.has_namespaces() {
                // SAFETY: this is the child already, and goes on as it began.
                match unsafe { fork(false) } {
                    0 => {}
                    -1 => self.fail(EXEC, Errno::last()),
                    _ => reap(),
                }
            }
        }
        // SAFETY: all strings end with a zero byte and the vectors with a null pointer.
        unsafe {
            libc::execve(
                self.launch.program.as_ptr(),
                self.arguments.as_ptr(),
                self.environment.as_ptr(),
            )
        };
        self.fail(EXEC, Errno::last())
    }

    fn place_streams(&self) -> Result<(), Errno> {
        for (target, stream) in (0..).zip(&self.launch.streams) {
            if let Some(stream) = stream {
                // SAFETY: dup2 on descriptors that are ours; the copy is inherited by the program.
                Errno::result(unsafe { libc::dup2(stream.as_raw_fd(), target) })?;
            }
        }
        Ok(())
    }

    fn check(&self, step: u8, result: Result<(), Errno>) {
        if let Err(errno) = result {
            self.fail(step, errno);
        }
    }

    fn fail(&self, step: u8, errno: Errno) -> ! {
        let [a, b, c, d] = (errno as i32).to_ne_bytes();
        let report = [step, a, b, c, d];
        // SAFETY: the buffer is as long as said. Less than PIPE_BUF: written as a whole.
        unsafe { libc::write(self.report, report.as_ptr().cast(), report.len()) };
        exit(NOT_EXECUTED)
    }
}

/// Nothing blocked, and SIGPIPE, which Rust programs ignore, as a program expects it.
fn default_signals() {
    let none = 0_u64;
    // SAFETY: the kernel's signal set is eight bytes; SIG_DFL is no function.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            ptr::null::<u64>(),
            size_of::<u64>(),
        );
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Installs the filter. A process without CAP_SYS_ADMIN must give up gaining privileges for that.
fn install(filter: &[sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // Without the flag older kernels would slow the guest down by a mitigation that it does not have elsewhere.
    let (operation, flags): (c_ulong, c_ulong) = (
        libc::SECCOMP_SET_MODE_FILTER.into(),
        libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    );
    // SAFETY: the kernel copies the program, which is `len` instructions long.
    let set =
        || Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) });
    match set() {
        Err(Errno::EACCES) => {
            // SAFETY: prctl with integers.
            Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
            set().map(drop)
        }
        result => result.map(drop),
    }
}

/// Process 1 of the guest's own PID namespace: ends when nobody is left. It holds no descriptor open.
fn reap() -> ! {
    // SAFETY: close_range and waitpid with integers and a null pointer.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, c_int::MAX, 0);
        while libc::waitpid(-1, ptr::null_mut(), 0) != -1 || Errno::last() == Errno::EINTR {}
    }
    exit(0)
}

fn exit(status: c_int) -> ! {
    // SAFETY: no destructor and no exit handler of the copied program runs.
    unsafe { libc::_exit(status) }
}
