//! Stops of traced threads: waiting for one, reading what the kernel says of it, and resuming.
//!
//! What nix offers is used directly elsewhere; here is what it has no wrapper for, and what it cannot express: real-time
//! signals, which glibc uses for setuid and thread cancellation, are no `nix::Signal`.

#![expect(
    unsafe_code,
    reason = "ptrace requests and waitpid flags that nix does not wrap"
)]

use nix::errno::Errno;
use nix::libc::{self, c_int, c_long, c_void};
use nix::sys::ptrace::{self, AddressType};
use nix::unistd::Pid;

/// `PTRACE_GET_SYSCALL_INFO`, `linux/ptrace.h`.
const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
/// `PTRACE_GETSIGMASK` and `PTRACE_SETSIGMASK`, `linux/ptrace.h`.
const GET_SIGNAL_MASK: libc::c_uint = 0x420a;
const SET_SIGNAL_MASK: libc::c_uint = 0x420b;
/// `PTRACE_EVENT_STOP`, `linux/ptrace.h`: group-stop, or a new thread's first stop.
const EVENT_STOP: c_int = 128;
/// Marks a system call stop under `PTRACE_O_TRACESYSGOOD`.
const SYSCALL_MARK: c_int = 0x80;

/// What became of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It is gone; the raw wait status.
    Gone(c_int),
    /// It stopped.
    Stopped(Stop),
}

/// Why a thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Before a signal is delivered.
    Signal(c_int),
    /// The whole process stopped, by SIGSTOP or its kin.
    Group,
    /// A new thread, or one continued after a group stop.
    Trap,
    /// The thread made another thread or process.
    Clone,
    /// A new program is in place.
    Exec,
    /// The thread is about to be gone; its `/proc` entry still tells everything.
    Exit,
    /// At the entry of a system call that the filter picked.
    Seccomp,
    /// At the exit of a system call.
    Syscall,
}

impl Stop {
    fn from_status(status: c_int) -> Self {
        let signal = libc::WSTOPSIG(status);
        match status >> 16 {
            0 if signal == libc::SIGTRAP | SYSCALL_MARK => Self::Syscall,
            0 => Self::Signal(signal),
            libc::PTRACE_EVENT_EXEC => Self::Exec,
            libc::PTRACE_EVENT_EXIT => Self::Exit,
            libc::PTRACE_EVENT_SECCOMP => Self::Seccomp,
            EVENT_STOP if signal == libc::SIGTRAP => Self::Trap,
            EVENT_STOP => Self::Group,
            _ => Self::Clone,
        }
    }
}

/// Waits for the next event of a child or traced thread of the calling thread, and of no other thread of this program.
/// `None` when `block` is false and nothing has happened.
///
/// # Errors
/// `ECHILD` when there is nobody left.
pub(crate) fn wait(block: bool) -> Result<Option<(Pid, Wait)>, Errno> {
    let flags = libc::__WALL | libc::__WNOTHREAD | if block { 0 } else { libc::WNOHANG };
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes one int, which `status` is.
        match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, flags) }) {
            Ok(0) => return Ok(None),
            Ok(tid) if libc::WIFSTOPPED(status) => {
                return Ok(Some((
                    Pid::from_raw(tid),
                    Wait::Stopped(Stop::from_status(status)),
                )));
            }
            Ok(tid) => return Ok(Some((Pid::from_raw(tid), Wait::Gone(status)))),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// How to resume a stopped thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Run; with a signal to be delivered, or 0.
    Run(c_int),
    /// Run to the end of the system call that has begun.
    ToSyscallExit,
    /// Stay stopped, but report when the process is continued.
    Listen,
}

/// Resumes `tid`.
///
/// # Errors
/// `ESRCH` when it was killed meanwhile.
pub(crate) fn resume(tid: Pid, how: Resume) -> Result<(), Errno> {
    let (request, signal) = match how {
        Resume::Run(signal) => (libc::PTRACE_CONT, signal),
        Resume::ToSyscallExit => (libc::PTRACE_SYSCALL, 0),
        Resume::Listen => (libc::PTRACE_LISTEN, 0),
    };
    // SAFETY: these requests take no pointer.
    Errno::result(unsafe { libc::ptrace(request, tid.as_raw(), 0 as c_long, c_long::from(signal)) }).map(drop)
}

/// A system call at its seccomp stop: `struct ptrace_syscall_info` with its `seccomp` member, `linux/ptrace.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Syscall {
    operation: u8,
    padding: [u8; 3],
    /// `AUDIT_ARCH_*`: tells a 32-bit call from a 64-bit one.
    pub(crate) architecture: u32,
    instruction_pointer: u64,
    pub(crate) stack_pointer: u64,
    pub(crate) number: u64,
    pub(crate) arguments: [u64; 6],
    data: u64,
}

/// The system call at whose seccomp stop `tid` stands.
pub(crate) fn syscall(tid: Pid) -> Result<Syscall, Errno> {
    let mut syscall = Syscall::default();
    // SAFETY: the kernel writes at most the given number of bytes to the structure, all of whose bit patterns are
    // valid.
    Errno::result(unsafe {
        libc::ptrace(
            GET_SYSCALL_INFO,
            tid.as_raw(),
            size_of::<Syscall>(),
            (&raw mut syscall).cast::<c_void>(),
        )
    })?;
    Ok(syscall)
}

/// The signals that `tid` blocks, bit n-1 for signal n.
pub(crate) fn signal_mask(tid: Pid) -> Result<u64, Errno> {
    let mut mask = 0_u64;
    // SAFETY: the kernel writes the eight bytes of its signal set.
    Errno::result(unsafe {
        libc::ptrace(
            GET_SIGNAL_MASK,
            tid.as_raw(),
            size_of::<u64>(),
            (&raw mut mask).cast::<c_void>(),
        )
    })?;
    Ok(mask)
}

/// Sets the signals that `tid` blocks.
pub(crate) fn set_signal_mask(tid: Pid, mask: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads the eight bytes of its signal set.
    Errno::result(unsafe {
        libc::ptrace(
            SET_SIGNAL_MASK,
            tid.as_raw(),
            size_of::<u64>(),
            (&raw const mask).cast::<c_void>(),
        )
    })
    .map(drop)
}

/// `address` in the guest as ptrace wants it.
pub(crate) fn guest_pointer(address: u64) -> AddressType {
    std::ptr::without_provenance_mut(usize::try_from(address).unwrap_or(usize::MAX))
}

/// The byte at `address`, readable or not.
pub(crate) fn peek(tid: Pid, address: u64) -> Result<u8, Errno> {
    let [byte, ..] = aligned(tid, address)?.rotate_right(shift(address)).to_le_bytes();
    Ok(byte)
}

/// Replaces the byte at `address`, writable or not; the page becomes the guest's own.
///
/// # Errors
/// `EIO` for a shared mapping that the guest may not write.
pub(crate) fn poke(tid: Pid, address: u64, byte: u8) -> Result<(), Errno> {
    let mask = 0xff_u64.rotate_left(shift(address));
    let word = aligned(tid, address)? & !mask | u64::from(byte).rotate_left(shift(address));
    ptrace::write(tid, guest_pointer(address & !7), word.cast_signed())
}

/// The aligned word that `address` lies in: it never crosses into the next page.
fn aligned(tid: Pid, address: u64) -> Result<u64, Errno> {
    ptrace::read(tid, guest_pointer(address & !7)).map(c_long::cast_unsigned)
}

/// How many bits the byte at `address` is shifted in its aligned word.
fn shift(address: u64) -> u32 {
    (address & 7) as u32 * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_told_apart() {
        let stopped = |signal: c_int, event: c_int| Stop::from_status(event << 16 | signal << 8 | 0x7f);
        assert_eq!(stopped(libc::SIGSEGV, 0), Stop::Signal(libc::SIGSEGV));
        assert_eq!(stopped(libc::SIGTRAP, 0), Stop::Signal(libc::SIGTRAP));
        assert_eq!(stopped(33, 0), Stop::Signal(33), "glibc's own signal");
        assert_eq!(stopped(libc::SIGTRAP | 0x80, 0), Stop::Syscall);
        assert_eq!(stopped(libc::SIGSTOP, 128), Stop::Group);
        assert_eq!(stopped(libc::SIGTRAP, 128), Stop::Trap);
        assert_eq!(stopped(libc::SIGTRAP, libc::PTRACE_EVENT_VFORK), Stop::Clone);
        assert_eq!(stopped(libc::SIGTRAP, libc::PTRACE_EVENT_EXEC), Stop::Exec);
        assert_eq!(stopped(libc::SIGTRAP, libc::PTRACE_EVENT_EXIT), Stop::Exit);
        assert_eq!(stopped(libc::SIGTRAP, libc::PTRACE_EVENT_SECCOMP), Stop::Seccomp);
    }

    #[test]
    fn without_children_there_is_nobody_to_wait_for() {
        assert_eq!(wait(false), Err(Errno::ECHILD));
    }
}
