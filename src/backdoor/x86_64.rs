//! The backdoor of x86-64: `IN EAX, DX`, `REP OUTSB`, `REP INSB` and CPUID.
//!
//! RBX belongs to the compiler and RBP to the frame, so both are swapped in around the instruction and restored by it.
//! The blocks claim nothing (`nomem`, `nostack`, `preserves_flags` are all absent): the host may write memory, and the
//! flags and the stack are used.

#![expect(
    unsafe_code,
    reason = "the backdoor is reached by instructions the language does not have"
)]

use std::{arch::asm, marker::PhantomData, ptr};

pub(super) use super::probe::probe;
use super::{Hypercall, InRegisters, OutRegisters, Presence, Registers, detect::Cpu};

/// CPUID leaf 1, ECX: set by every hypervisor that does not hide itself.
const HYPERVISOR_BIT: u32 = 1 << 31;

/// CPUID leaf that holds the hypervisor's signature in EBX, ECX, EDX.
const HYPERVISOR_LEAF: u32 = 0x4000_0000;

/// Step of [`touch`], bytes: the smallest page of the architecture.
const PAGE: usize = 4096;

/// The port of a VMware guest.
///
/// Stays on the thread that made it: a channel's messages are sequences of exchanges that must not interleave.
pub struct Port {
    thread: PhantomData<*const ()>,
}

impl Port {
    /// Takes the proof that the instructions are answered here.
    pub fn new(presence: Presence) -> Self {
        let _ = presence;
        Self { thread: PhantomData }
    }
}

impl Hypercall for Port {
    fn exchange(&mut self, registers: Registers) -> Registers {
        // SAFETY: `Port` exists, so detection saw the host answer this very instruction.
        unsafe { exchange(registers) }
    }

    fn write(&mut self, registers: OutRegisters, payload: &[u8]) -> u32 {
        if payload.is_empty() {
            return 0;
        }
        touch(payload);
        let mut ebx = u64::from(registers.ebx);
        // SAFETY: `Port` exists, so the host answers this port. It reads RCX = payload.len() bytes at RSI, all of them
        // inside `payload`, which is borrowed for the whole instruction. RBX and RBP are restored from the stack; the
        // operands avoid both, and the stack pointer.
        unsafe {
            asm!(
                "push rbx",
                "push rbp",
                "mov rbx, {ebx}",
                "mov rbp, {ebp}",
                "cld",
                "rep outsb",
                "mov {ebx}, rbx",
                "pop rbp",
                "pop rbx",
                ebx = inout(reg) ebx,
                ebp = in(reg) u64::from(registers.ebp),
                inout("rax") u64::from(registers.eax) => _,
                inout("rcx") payload.len() => _,
                inout("rdx") u64::from(registers.edx) => _,
                inout("rsi") payload.as_ptr() => _,
                inout("rdi") u64::from(registers.edi) => _,
            );
        }
        low_half(ebx)
    }

    fn read(&mut self, registers: InRegisters, buffer: &mut [u8]) -> u32 {
        if buffer.is_empty() {
            return 0;
        }
        touch_writable(buffer);
        let mut ebx = u64::from(registers.ebx);
        // SAFETY: `Port` exists, so the host answers this port. It writes at most RCX = buffer.len() bytes at RDI, all
        // of them inside `buffer`, which is borrowed mutably for the whole instruction and initialised before, so that a
        // host that writes less exposes nothing. RBX and RBP are restored from the stack; the operands avoid both.
        unsafe {
            asm!(
                "push rbx",
                "push rbp",
                "mov rbx, {ebx}",
                "mov rbp, {ebp}",
                "cld",
                "rep insb",
                "mov {ebx}, rbx",
                "pop rbp",
                "pop rbx",
                ebx = inout(reg) ebx,
                ebp = in(reg) u64::from(registers.ebp),
                inout("rax") u64::from(registers.eax) => _,
                inout("rcx") buffer.len() => _,
                inout("rdx") u64::from(registers.edx) => _,
                inout("rsi") u64::from(registers.esi) => _,
                inout("rdi") buffer.as_mut_ptr() => _,
            );
        }
        low_half(ebx)
    }
}

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
            "xchg rbx, {rbx}",
            "in eax, dx",
            "xchg rbx, {rbx}",
            rbx = inout(reg) rbx,
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

/// What CPUID says about a hypervisor.
#[allow(
    unused_unsafe,
    reason = "CPUID became a safe function after the oldest supported compiler"
)]
pub(super) fn cpu() -> Cpu {
    // SAFETY: every x86-64 processor has CPUID, and leaf 1 of it.
    let features = unsafe { std::arch::x86_64::__cpuid(1) };
    if features.ecx & HYPERVISOR_BIT == 0 {
        return Cpu::NoHypervisor;
    }
    // SAFETY: as above; the leaf exists because a hypervisor announced itself.
    let leaf = unsafe { std::arch::x86_64::__cpuid(HYPERVISOR_LEAF) };
    let mut signature = [0; 12];
    for (bytes, register) in signature.chunks_exact_mut(4).zip([leaf.ebx, leaf.ecx, leaf.edx]) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    Cpu::Hypervisor(signature)
}

/// Makes the kernel map every page of `payload`, so that no page fault interrupts the transfer.
fn touch(payload: &[u8]) {
    for page in payload.chunks(PAGE) {
        if let (Some(first), Some(last)) = (page.first(), page.last()) {
            // SAFETY: both are references into the slice.
            unsafe {
                ptr::read_volatile(first);
                ptr::read_volatile(last);
            }
        }
    }
}

/// The same for pages that are going to be written.
fn touch_writable(buffer: &mut [u8]) {
    for page in buffer.chunks_mut(PAGE) {
        for end in [0, page.len().saturating_sub(1)] {
            if let Some(byte) = page.get_mut(end) {
                // SAFETY: `byte` is a valid, exclusive reference; its value is written back unchanged.
                unsafe { ptr::write_volatile(byte, ptr::read_volatile(byte)) }
            }
        }
    }
}

/// The half of a register that carries data.
const fn low_half(register: u64) -> u32 {
    (register & 0xFFFF_FFFF) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_15_outputs_are_cut_to_32_bits() {
        assert_eq!(low_half(0xDEAD_BEEF_0001_0000), 0x0001_0000);
        assert_eq!(low_half(u64::MAX), u32::MAX);
    }

    #[test]
    fn touching_changes_nothing() {
        let mut buffer: Vec<u8> = (0..3 * PAGE + 7)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect();
        let before = buffer.clone();
        touch(&buffer);
        touch_writable(&mut buffer);
        assert_eq!(buffer, before);
    }
}
