//! System calls at their entry: recognised, skipped, turned into others.

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::stop::Syscall;
use crate::vmx::device::GuestMemory;
use crate::vmx::memory::Memory;

/// The stack below the stack pointer that a function may use (x86-64 psABI), in bytes.
const RED_ZONE: u64 = 128;

/// Whether this is one of the calls that make memory executable; the filter lets only those of them through that do.
pub(super) fn is_mapping(syscall: &Syscall) -> bool {
    let mapping = [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect];
    c_long::try_from(syscall.number).is_ok_and(|number| mapping.contains(&number))
}

/// Has the kernel skip the system call at whose entry `tid` stands, with this result.
pub(super) fn skip(tid: Pid, result: i64) -> Result<(), Errno> {
    let mut registers = ptrace::getregs(tid)?;
    registers.orig_rax = u64::MAX;
    registers.rax = result.cast_unsigned();
    ptrace::setregs(tid, registers)
}

/// Turns the exec at whose entry `tid` stands into one of `/bin/true`.
pub(super) fn replace(tid: Pid, syscall: &Syscall) -> Result<(), Errno> {
    // The path, whose end is the only argument, and the vector: below the stack, where nothing lives.
    const PATH: &[u8; 16] = b"/bin/true\0\0\0\0\0\0\0";
    const NAME: u64 = 5;
    let block = (syscall.stack_pointer.wrapping_sub(RED_ZONE + 64)) & !15;
    let mut bytes = PATH.to_vec();
    bytes.extend(block.wrapping_add(NAME).to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    Memory::new(tid).write(block, &bytes).map_err(|_| Errno::EFAULT)?;

    let mut registers = ptrace::getregs(tid)?;
    let vector = block.wrapping_add(PATH.len() as u64);
    if syscall.number == libc::SYS_execveat.cast_unsigned() {
        // An absolute path: the directory does not matter, but a flag asking for an empty one would.
        registers.rsi = block;
        registers.rdx = vector;
        registers.r8 = 0;
    } else {
        registers.rdi = block;
        registers.rsi = vector;
    }
    ptrace::setregs(tid, registers)
}
