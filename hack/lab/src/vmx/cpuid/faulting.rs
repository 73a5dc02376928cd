//! CPUID faulting: the processor itself raises SIGSEGV at each CPUID of a thread that asked for it.
//!
//! Thread flag of `arch_prctl(2)`, inherited by fork and clone, cleared by exec. So each new program asks for it again,
//! through code that the tracer puts at its entry point while it stands in the exec stop, and takes away afterwards.
//! Until exec returns the kernel still writes the system call's result to RAX, so the code loads its registers itself.

#![expect(unsafe_code, reason = "arch_prctl has no wrapper")]

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::unistd::Pid;

use crate::vmx::tracer::stop;

/// `arch_prctl`, `asm/unistd_64.h`.
const ARCH_PRCTL: u32 = 158;
/// `ARCH_SET_CPUID` of `arch_prctl(2)`; argument 0 makes CPUID fault, 1 lets it execute.
const ARCH_SET_CPUID: u32 = 0x1012;

/// Whether the processor can do it. The question leaves CPUID enabled, as it is by default.
pub(crate) fn is_available() -> bool {
    // SAFETY: this call takes two integers and changes one flag of the calling thread, to the value it has.
    unsafe { libc::syscall(ARCH_PRCTL.into(), ARCH_SET_CPUID, 1) == 0 }
}

/// A system call of two arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    number: u32,
    first: u32,
    second: u32,
}

impl Call {
    /// Makes CPUID fault.
    pub(crate) const FAULT: Self = Self {
        number: ARCH_PRCTL,
        first: ARCH_SET_CPUID,
        second: 0,
    };

    #[cfg(test)]
    pub(crate) const fn new(number: u32, first: u32) -> Self {
        Self {
            number,
            first,
            second: 0,
        }
    }

    /// `mov eax, number; mov edi, first; mov esi, second; syscall; int3`, filled up to whole words.
    fn code(self) -> [u64; 3] {
        let [n0, n1, n2, n3] = self.number.to_le_bytes();
        let [a0, a1, a2, a3] = self.first.to_le_bytes();
        let [b0, b1, b2, b3] = self.second.to_le_bytes();
        [
            u64::from_le_bytes([0xb8, n0, n1, n2, n3, 0xbf, a0, a1]),
            u64::from_le_bytes([a2, a3, 0xbe, b0, b1, b2, b3, 0x0f]),
            u64::from_le_bytes([0x05, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc]),
        ]
    }
}

/// Where RIP stands after the `int3`, counted from the first byte.
const LENGTH: u64 = 18;

/// A call in progress, and what it displaced.
#[derive(Debug)]
pub(crate) struct Injection {
    registers: libc::user_regs_struct,
    code: [libc::c_long; 3],
    blocked: u64,
}

impl Injection {
    /// Prepares the call in a process that stands in its exec stop; the caller resumes it. Signals wait meanwhile.
    pub(crate) fn begin(pid: Pid, call: Call) -> Result<Self, Errno> {
        let registers = ptrace::getregs(pid)?;
        let mut code = [0; 3];
        for ((at, saved), word) in words(registers.rip).zip(&mut code).zip(call.code()) {
            *saved = ptrace::read(pid, at)?;
            ptrace::write(pid, at, word.cast_signed())?;
        }
        let blocked = stop::signal_mask(pid)?;
        // All but SIGTRAP, which ends the injection. SIGKILL and SIGSTOP cannot be blocked.
        stop::set_signal_mask(pid, !(1 << (libc::SIGTRAP - 1)))?;
        Ok(Self {
            registers,
            code,
            blocked,
        })
    }

    /// Whether a SIGTRAP with RIP at `rip` is the end of this call.
    pub(crate) fn ends_at(&self, rip: u64) -> bool {
        rip == self.registers.rip.wrapping_add(LENGTH)
    }

    /// Puts everything back and returns the call's result, negative for an error.
    pub(crate) fn finish(self, pid: Pid) -> Result<i64, Errno> {
        let result = ptrace::getregs(pid)?.rax.cast_signed();
        for (at, word) in words(self.registers.rip).zip(self.code) {
            ptrace::write(pid, at, word)?;
        }
        let mut registers = self.registers;
        // No system call is left to be finished: exec returned long ago, with 0.
        registers.orig_rax = u64::MAX;
        registers.rax = 0;
        ptrace::setregs(pid, registers)?;
        stop::set_signal_mask(pid, self.blocked)?;
        Ok(result)
    }
}

fn words(start: u64) -> impl Iterator<Item = ptrace::AddressType> {
    (0..3).map(move |index| stop::guest_pointer(start.wrapping_add(index * 8)))
}
