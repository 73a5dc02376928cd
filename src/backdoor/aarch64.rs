//! The backdoor of 64-bit Arm: a read of MDCCSR_EL0 into nowhere, which the hypervisor traps (backdoorGcc64_arm64.c).
//!
//! ```text
//!  x0 … x5 (and x6)  as EAX, EBX, ECX, EDX, ESI, EDI (and EBP) on x86-64
//!  x7                which of the port instructions is meant: 0x86 << 32 | width | direction | form
//! ```
//!
//! There is no CPUID; the firmware's vendor says whether the instruction may be tried. Elsewhere Linux denies programs
//! this register, so it raises SIGILL; an emulator may let it pass without effect, which the probe's judge recognises.
//!
//! The operands are registers that every function may change, so nothing has to be saved. The blocks claim nothing
//! (`nomem`, `nostack`, `preserves_flags` are all absent): the host may write memory. The functions stay whole so that
//! `hack/arm64` finds them in the finished binary and can check what they became.

#![expect(
    unsafe_code,
    reason = "the backdoor is reached by an instruction the language does not have"
)]

use std::arch::asm;

pub(super) use super::probe::probe;
use super::{Absence, InRegisters, OutRegisters, Registers, detect, port::low_half};

/// X7: `IN EAX, DX`. Four bytes, read, port in X3 (backdoorGcc64_arm64.c).
const IN: u64 = 0x86 << 32 | WIDTH_4 | READ | PORT_IN_REGISTER;

/// X7: `REP OUTSB`. One byte, write, repeated string.
const OUT_STRING: u64 = 0x86 << 32 | REPEATED_STRING;

/// X7: `REP INSB`. One byte, read, repeated string.
const IN_STRING: u64 = 0x86 << 32 | READ | REPEATED_STRING;

/// W7, bits 1:0: four bytes; a string of single bytes has 0.
const WIDTH_4: u64 = 0b10;

/// W7, bit 2: the guest reads.
const READ: u64 = 1 << 2;

/// W7, bits 4:3: the port stands in X3.
const PORT_IN_REGISTER: u64 = 0b01 << 3;

/// W7, bits 4:3: X2 times, to or from consecutive addresses.
const REPEATED_STRING: u64 = 0b11 << 3;

/// How VMware's firmware names its vendor: `VMware, Inc.`. What follows the name is not relied on.
const VENDOR: &str = "VMware";

/// One exchange in the manner of `IN EAX, DX`.
///
/// # Safety
///
/// Off VMware the instruction raises SIGILL: the caller knows that the host answers, or runs in a process that may die.
#[inline(never)]
pub(super) unsafe fn exchange(registers: Registers) -> Registers {
    let mut x0 = u64::from(registers.eax);
    let mut x1 = u64::from(registers.ebx);
    let mut x2 = u64::from(registers.ecx);
    let mut x3 = u64::from(registers.edx);
    let mut x4 = u64::from(registers.esi);
    let mut x5 = u64::from(registers.edi);
    // SAFETY: a low-bandwidth exchange carries no address, so the host has no reason to touch our memory; it may change
    // exactly the registers that are declared as outputs.
    unsafe {
        asm!(
            "mrs xzr, mdccsr_el0",
            inout("x0") x0,
            inout("x1") x1,
            inout("x2") x2,
            inout("x3") x3,
            inout("x4") x4,
            inout("x5") x5,
            in("x7") IN,
        );
    }
    Registers {
        eax: low_half(x0),
        ebx: low_half(x1),
        ecx: low_half(x2),
        edx: low_half(x3),
        esi: low_half(x4),
        edi: low_half(x5),
    }
}

/// One transfer of `payload` in the manner of `REP OUTSB`. Gives EBX.
///
/// # Safety
///
/// As for [`exchange`].
#[inline(never)]
pub(super) unsafe fn write(registers: OutRegisters, payload: &[u8]) -> u32 {
    let mut x1 = u64::from(registers.ebx);
    // SAFETY: the caller knows that the host answers. It reads X2 = payload.len() bytes at X4, all of them inside
    // `payload`, which is borrowed for the whole instruction; it may change X0 to X6, all declared as outputs.
    unsafe {
        asm!(
            "mrs xzr, mdccsr_el0",
            inout("x0") u64::from(registers.eax) => _,
            inout("x1") x1,
            inout("x2") payload.len() => _,
            inout("x3") u64::from(registers.edx) => _,
            inout("x4") payload.as_ptr() => _,
            inout("x5") u64::from(registers.edi) => _,
            inout("x6") u64::from(registers.ebp) => _,
            in("x7") OUT_STRING,
        );
    }
    low_half(x1)
}

/// One transfer into `buffer` in the manner of `REP INSB`. Gives EBX.
///
/// # Safety
///
/// As for [`exchange`].
#[inline(never)]
pub(super) unsafe fn read(registers: InRegisters, buffer: &mut [u8]) -> u32 {
    let mut x1 = u64::from(registers.ebx);
    // SAFETY: the caller knows that the host answers. It writes at most X2 = buffer.len() bytes at X5, all of them inside
    // `buffer`, which is borrowed mutably for the whole instruction and initialised before, so that a host that writes
    // less exposes nothing; it may change X0 to X6, all declared as outputs.
    unsafe {
        asm!(
            "mrs xzr, mdccsr_el0",
            inout("x0") u64::from(registers.eax) => _,
            inout("x1") x1,
            inout("x2") buffer.len() => _,
            inout("x3") u64::from(registers.edx) => _,
            inout("x4") u64::from(registers.esi) => _,
            inout("x5") buffer.as_mut_ptr() => _,
            inout("x6") u64::from(registers.ebp) => _,
            in("x7") IN_STRING,
        );
    }
    low_half(x1)
}

/// Whether the firmware says that this is a VMware guest.
pub(super) fn identity() -> Result<(), Absence> {
    named(detect::firmware_string("sys_vendor"))
}

/// Reads the vendor, `None` where there is no such table.
fn named(vendor: Option<String>) -> Result<(), Absence> {
    match vendor {
        Some(vendor) if vendor.starts_with(VENDOR) => Ok(()),
        Some(vendor) => Err(Absence::Vendor(vendor)),
        None => Err(Absence::NoVendor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backdoor::{
        MAGIC,
        detect::{Answer, Detection, Refusal, decide},
        probe::ask,
    };

    #[test]
    fn the_descriptors_are_those_of_the_protocol() {
        assert_eq!(IN, 0x0000_0086_0000_000E);
        assert_eq!(OUT_STRING, 0x0000_0086_0000_0018);
        assert_eq!(IN_STRING, 0x0000_0086_0000_001C);
    }

    #[test]
    fn only_vmware_is_vmware() {
        assert_eq!(named(Some("VMware, Inc.".into())), Ok(()));
        for other in ["QEMU", "Not VMware, Inc.", ""] {
            assert_eq!(named(Some(other.into())), Err(Absence::Vendor(other.into())));
        }
        assert_eq!(named(None), Err(Absence::NoVendor));
    }

    #[test]
    fn an_instruction_without_effect_is_no_host() {
        // As an emulator does it: the registers come back as they went in, whatever the firmware claims.
        let unchanged = || Answer::Registers(detect::version_request());
        assert_eq!(
            decide(Ok(()), false, unchanged),
            Detection::Refused(Refusal::Magic(!MAGIC))
        );
        let probed = decide(Ok(()), false, probe);
        assert!(
            matches!(
                probed,
                Detection::VMware(_)
                    | Detection::Refused(Refusal::Magic(_) | Refusal::Fault("SIGILL") | Refusal::NoDevice)
            ),
            "{probed:?}"
        );
    }

    /// One instruction of each form with operands that can be told apart. `hack/arm64` reads them off the processor at
    /// the moment of the instruction; here it matters that each comes back from the register it went into.
    #[test]
    fn the_operands_of_each_form() {
        let sent = Registers {
            eax: 0xA000_0001,
            ebx: 0xB000_0002,
            ecx: 0xC000_0003,
            edx: 0xD000_0004,
            esi: 0xE000_0005,
            edi: 0xF000_0006,
        };
        // SAFETY: in a child that may die, and the operands are no request of the protocol.
        let exchanged = ask(|| unsafe { exchange(sent) });
        let written = ask(|| {
            let registers = OutRegisters {
                eax: 0xA000_0011,
                ebx: 0xB000_0012,
                edx: 0xD000_0014,
                edi: 0xF000_0016,
                ebp: 0x9000_0017,
            };
            // SAFETY: as above; the payload lives.
            let ebx = unsafe { write(registers, &[0; 0x13]) };
            Registers {
                ebx,
                ..Registers::default()
            }
        });
        let read = ask(|| {
            let registers = InRegisters {
                eax: 0xA000_0021,
                ebx: 0xB000_0022,
                edx: 0xD000_0024,
                esi: 0xE000_0025,
                ebp: 0x9000_0027,
            };
            // SAFETY: as above; the buffer lives.
            let ebx = unsafe { read(registers, &mut [0; 0x23]) };
            Registers {
                ebx,
                ..Registers::default()
            }
        });
        for (answer, ebx) in [
            (exchanged, 0xB000_0002),
            (written, 0xB000_0012),
            (read, 0xB000_0022),
        ] {
            match answer {
                Answer::Fault(signal) => assert_eq!(signal, "SIGILL"),
                // Without the magic number nobody answers.
                Answer::Registers(registers) => assert_eq!(registers.ebx, ebx),
                other => panic!("{other:?}"),
            }
        }
    }
}
