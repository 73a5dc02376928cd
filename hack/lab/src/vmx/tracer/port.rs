//! The backdoor's instructions, as the guest executed them.

use nix::libc::user_regs_struct;

use crate::vmx::device::{Access, Device, Outcome, Registers};
use crate::vmx::memory::Memory;

/// EAX of every access: "VMXh" (open-vm-tools `backdoor_def.h`).
const MAGIC: u64 = 0x564d_5868;
/// DX of a low-bandwidth access.
const LOW_PORT: u64 = 0x5658;
/// DX of a high-bandwidth access.
const HIGH_PORT: u64 = 0x5659;
/// RFLAGS: string instructions count addresses down.
const DIRECTION: u64 = 1 << 10;

/// The access that the instruction at the start of `code` is with these registers; none where it is another one, or
/// on another port, or without the magic. A string access that counts down is none either: no host defines it.
pub(super) fn access(code: &[u8], registers: &user_regs_struct) -> Option<Access> {
    let low_half = |register: u64| register & 0xffff_ffff;
    if low_half(registers.rax) != MAGIC {
        return None;
    }
    let port = registers.rdx & 0xffff;
    let string = port == HIGH_PORT && registers.eflags & DIRECTION == 0;
    match code {
        [0xed, ..] if port == LOW_PORT => Some(Access::Low),
        [0xf3, 0x6e, ..] if string => Some(Access::HighOut),
        [0xf3, 0x6c, ..] if string => Some(Access::HighIn),
        _ => None,
    }
}

/// Has `device` answer `access` and updates the registers as the instruction leaves them, RIP after it.
/// False when the device lets it fault: the registers are then as they were.
pub(super) fn emulate(
    device: &mut dyn Device,
    pid: i32,
    access: Access,
    registers: &mut user_regs_struct,
    memory: &Memory,
) -> bool {
    let before = *registers;
    let mut general = Registers {
        rax: before.rax,
        rbx: before.rbx,
        rcx: before.rcx,
        rdx: before.rdx,
        rsi: before.rsi,
        rdi: before.rdi,
        rbp: before.rbp,
    };
    match device.access(pid, access, &mut general, memory) {
        Outcome::Fault => return false,
        Outcome::Done => {}
    }
    registers.rax = general.rax;
    registers.rbx = general.rbx;
    registers.rcx = general.rcx;
    registers.rdx = general.rdx;
    registers.rsi = general.rsi;
    registers.rdi = general.rdi;
    registers.rbp = general.rbp;
    // The repeat prefix counts RCX down to 0 and moves the address register; that is the processor's doing.
    let length = match access {
        Access::Low => 1,
        Access::HighOut => {
            registers.rsi = before.rsi.wrapping_add(before.rcx);
            registers.rcx = 0;
            2
        }
        Access::HighIn => {
            registers.rdi = before.rdi.wrapping_add(before.rcx);
            registers.rcx = 0;
            2
        }
    };
    registers.rip = before.rip.wrapping_add(length);
    true
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::*;
    use crate::vmx::device::GuestMemory;

    fn registers(rax: u64, rdx: u64, eflags: u64) -> user_regs_struct {
        let mut registers = zeroed();
        registers.rax = rax;
        registers.rdx = rdx;
        registers.eflags = eflags;
        registers
    }

    fn zeroed() -> user_regs_struct {
        user_regs_struct {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            orig_rax: 0,
            rip: 0,
            cs: 0,
            eflags: 0,
            rsp: 0,
            ss: 0,
            fs_base: 0,
            gs_base: 0,
            ds: 0,
            es: 0,
            fs: 0,
            gs: 0,
        }
    }

    #[test]
    fn accesses_need_instruction_magic_and_port() {
        let low = registers(MAGIC, 0x0003_5658, 0);
        let high = registers(MAGIC, 0x0003_5659, 0);
        assert_eq!(access(&[0xed], &low), Some(Access::Low));
        assert_eq!(access(&[0xf3, 0x6e], &high), Some(Access::HighOut));
        assert_eq!(access(&[0xf3, 0x6c, 0x90], &high), Some(Access::HighIn));

        assert_eq!(access(&[0xed], &high), None);
        assert_eq!(access(&[0xf3, 0x6e], &low), None);
        assert_eq!(access(&[0xec], &low), None, "IN AL, DX");
        assert_eq!(access(&[0xf3], &high), None);
        assert_eq!(access(&[], &low), None);
        assert_eq!(access(&[0xed], &registers(MAGIC + 1, LOW_PORT, 0)), None);
        assert_eq!(
            access(&[0xf3, 0x6c], &registers(MAGIC, HIGH_PORT, DIRECTION)),
            None
        );
        assert_eq!(
            access(&[0xed], &registers(MAGIC | 0xffff_ffff << 32, LOW_PORT, 0)),
            Some(Access::Low)
        );
    }

    struct Scripted(Outcome);

    impl Device for Scripted {
        fn access(&mut self, _: i32, _: Access, registers: &mut Registers, _: &dyn GuestMemory) -> Outcome {
            *registers = Registers {
                rax: 1,
                rbx: 2,
                rcx: 3,
                rdx: 4,
                rsi: 5,
                rdi: 6,
                rbp: 7,
            };
            self.0
        }
    }

    fn after(kind: Access, outcome: Outcome) -> (bool, user_regs_struct) {
        let mut regs = zeroed();
        (regs.rip, regs.rcx, regs.rsi, regs.rdi) = (1000, 10, 100, 200);
        let done = emulate(
            &mut Scripted(outcome),
            1,
            kind,
            &mut regs,
            &Memory::new(Pid::this()),
        );
        (done, regs)
    }

    #[test]
    fn a_low_access_changes_every_general_register() {
        let (done, regs) = after(Access::Low, Outcome::Done);
        assert!(done);
        let general = [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp,
        ];
        assert_eq!(general, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(regs.rip, 1001);
    }

    #[test]
    fn a_string_access_ends_as_the_processor_ends_it() {
        let (_, out) = after(Access::HighOut, Outcome::Done);
        assert_eq!(
            (out.rip, out.rcx, out.rsi, out.rdi, out.rbx),
            (1002, 0, 110, 6, 2)
        );
        let (_, input) = after(Access::HighIn, Outcome::Done);
        assert_eq!(
            (input.rip, input.rcx, input.rsi, input.rdi, input.rbx),
            (1002, 0, 5, 210, 2)
        );
    }

    #[test]
    fn a_fault_changes_nothing() {
        let (done, regs) = after(Access::Low, Outcome::Fault);
        assert!(!done);
        assert_eq!((regs.rip, regs.rax, regs.rcx), (1000, 0, 10));
    }
}
