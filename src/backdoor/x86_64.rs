//! The backdoor of x86-64: `IN EAX, DX`, `REP OUTSB`, `REP INSB` and CPUID.
//!
//! RBX belongs to the compiler and RBP to the frame, so both are swapped in around the instruction and restored by it.
//! The blocks claim nothing (`nomem`, `nostack`, `preserves_flags` are all absent): the host may write memory, and the
//! flags and the stack are used.

#![expect(
    unsafe_code,
    reason = "the backdoor is reached by instructions the language does not have"
)]

use std::arch::asm;

pub(super) use super::probe::probe;
use super::{Absence, InRegisters, OutRegisters, Registers, port::low_half};

/// CPUID leaf 0x40000000 on VMware.
const SIGNATURE: &[u8; 12] = b"VMwareVMware";

/// CPUID leaf 1, ECX: set by every hypervisor that does not hide itself.
const HYPERVISOR_BIT: u32 = 1 << 31;

/// CPUID leaf that holds the hypervisor's signature in EBX, ECX, EDX.
const HYPERVISOR_LEAF: u32 = 0x4000_0000;

/// One `IN EAX, DX`.
///
/// # Safety
///
/// Off VMware the instruction raises SIGSEGV: the caller knows that the host answers, or runs in a process that may die.
pub(super) unsafe fn exchange(registers: Registers) -> Registers {
    let mut rax = u64::from(registers.eax);
    let mut rbx = u64::from(registers.ebx);
    let mut rcx = u64::from(registers.ecx);
    let mut rdx = u64::from(registers.edx);
    let mut rsi = u64::from(registers.esi);
    let mut rdi = u64::from(registers.edi);
    // SAFETY: a low-bandwidth exchange carries no address, so the host has no reason to touch our memory; it may change
    // exactly the registers that are declared as outputs, and RBX is swapped back.
    unsafe {
        asm!(
            "xchg rbx, r8",
            "in eax, dx",
            "xchg rbx, r8",
            inout("r8") rbx,
            inout("rax") rax,
            inout("rcx") rcx,
            inout("rdx") rdx,
            inout("rsi") rsi,
            inout("rdi") rdi,
        );
    }
    Registers {
        eax: low_half(rax),
        ebx: low_half(rbx),
        ecx: low_half(rcx),
        edx: low_half(rdx),
        esi: low_half(rsi),
        edi: low_half(rdi),
    }
}

/// One `REP OUTSB` of `payload`. Gives EBX.
///
/// # Safety
///
/// As for [`exchange`].
pub(super) unsafe fn write(registers: OutRegisters, payload: &[u8]) -> u32 {
    let mut ebx = u64::from(registers.ebx);
    // SAFETY: the caller knows that the host answers this port. It reads RCX = payload.len() bytes at RSI, all of them
    // inside `payload`, which is borrowed for the whole instruction. RBX and RBP are restored from the stack; the
    // operands avoid both, and the stack pointer.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov rbx, r8",
            "mov rbp, r9",
            "cld",
            "rep outsb",
            "mov r8, rbx",
            "pop rbp",
            "pop rbx",
            inout("r8") ebx,
            in("r9") u64::from(registers.ebp),
            inout("rax") u64::from(registers.eax) => _,
            inout("rcx") payload.len() => _,
            inout("rdx") u64::from(registers.edx) => _,
            inout("rsi") payload.as_ptr() => _,
            inout("rdi") u64::from(registers.edi) => _,
        );
    }
    low_half(ebx)
}

/// One `REP INSB` into `buffer`. Gives EBX.
///
/// # Safety
///
/// As for [`exchange`].
pub(super) unsafe fn read(registers: InRegisters, buffer: &mut [u8]) -> u32 {
    let mut ebx = u64::from(registers.ebx);
    // SAFETY: the caller knows that the host answers this port. It writes at most RCX = buffer.len() bytes at RDI, all
    // of them inside `buffer`, which is borrowed mutably for the whole instruction and initialised before, so that a
    // host that writes less exposes nothing. RBX and RBP are restored from the stack; the operands avoid both.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov rbx, r8",
            "mov rbp, r9",
            "cld",
            "rep insb",
            "mov r8, rbx",
            "pop rbp",
            "pop rbx",
            inout("r8") ebx,
            in("r9") u64::from(registers.ebp),
            inout("rax") u64::from(registers.eax) => _,
            inout("rcx") buffer.len() => _,
            inout("rdx") u64::from(registers.edx) => _,
            inout("rsi") u64::from(registers.esi) => _,
            inout("rdi") buffer.as_mut_ptr() => _,
        );
    }
    low_half(ebx)
}

/// Whether CPUID says that this is a VMware guest.
#[allow(
    unused_unsafe,
    reason = "CPUID became a safe function after the oldest supported compiler"
)]
pub(super) fn identity() -> Result<(), Absence> {
    // SAFETY: every x86-64 processor has CPUID, and leaf 1 of it.
    let features = unsafe { std::arch::x86_64::__cpuid(1) };
    if features.ecx & HYPERVISOR_BIT == 0 {
        return Err(Absence::NoHypervisor);
    }
    // SAFETY: as above; the leaf exists because a hypervisor announced itself.
    let leaf = unsafe { std::arch::x86_64::__cpuid(HYPERVISOR_LEAF) };
    let mut signature = [0; 12];
    for (bytes, register) in signature.chunks_exact_mut(4).zip([leaf.ebx, leaf.ecx, leaf.edx]) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    named(&signature)
}

/// Reads the signature of leaf 0x40000000.
fn named(signature: &[u8; 12]) -> Result<(), Absence> {
    if signature == SIGNATURE {
        return Ok(());
    }
    let text = String::from_utf8_lossy(signature);
    Err(Absence::Hypervisor(text.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_vmware_is_vmware() {
        assert_eq!(named(b"VMwareVMware"), Ok(()));
        assert_eq!(
            named(b"KVMKVMKVM\0\0\0"),
            Err(Absence::Hypervisor("KVMKVMKVM".into()))
        );
        assert_eq!(
            named(b"VMwareVMwar\0"),
            Err(Absence::Hypervisor("VMwareVMwar".into()))
        );
        assert!(named(&[0xFF; 12]).is_err());
    }
}
