//! The seccomp filter that brings guarded system calls to the tracer, and no others.
//!
//! A cBPF program (`linux/seccomp.h`, `linux/filter.h`). The kernel remembers which calls it always allows, so an
//! ordinary call costs nothing. The result `SECCOMP_RET_TRACE` ranks below every refusal of the guest's own filters.

use nix::libc::{self, c_long, sock_filter};

/// `AUDIT_ARCH_X86_64`, `linux/audit.h`.
pub(super) const X86_64: u32 = 0xc000_003e;
/// Set in the number of a call of the x32 ABI.
pub(super) const X32: u32 = 0x4000_0000;

/// `FIFREEZE` and `FITHAW`, `linux/fs.h`.
pub(super) const FIFREEZE: u32 = 0xc004_5877;
pub(super) const FITHAW: u32 = 0xc004_5878;
/// `RTC_SET_TIME`, `linux/rtc.h`.
pub(super) const RTC_SET_TIME: u32 = 0x4024_700a;

/// cBPF instructions: load a word of `struct seccomp_data`, jump if equal, if not less, if bits are set, return.
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_NOT_LESS: u16 = 0x35;
const JUMP_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// When a system call is brought to the tracer. Arguments count from 0; their low 32 bits are looked at.
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    OneOf(u32, &'static [u32]),
    Bits(u32, u32),
}

/// The process with this number, or all processes (-1).
const INIT_OR_ALL: &[u32] = &[1, u32::MAX];
const WRITING: u32 = (libc::O_WRONLY | libc::O_RDWR).cast_unsigned();
const EXECUTABLE: u32 = libc::PROT_EXEC.cast_unsigned();

const GUARDED: &[(c_long, When)] = &[
    (libc::SYS_execve, When::Always),
    (libc::SYS_execveat, When::Always),
    (libc::SYS_reboot, When::Always),
    (libc::SYS_kexec_load, When::Always),
    (libc::SYS_kexec_file_load, When::Always),
    (libc::SYS_clock_settime, When::Always),
    (libc::SYS_settimeofday, When::Always),
    (libc::SYS_adjtimex, When::Always),
    (libc::SYS_clock_adjtime, When::Always),
    (libc::SYS_sethostname, When::Always),
    (libc::SYS_setdomainname, When::Always),
    (libc::SYS_iopl, When::Always),
    (libc::SYS_ioperm, When::Always),
    (libc::SYS_ioctl, When::OneOf(1, &[FIFREEZE, FITHAW, RTC_SET_TIME])),
    (libc::SYS_kill, When::OneOf(0, INIT_OR_ALL)),
    (libc::SYS_tkill, When::OneOf(0, INIT_OR_ALL)),
    (libc::SYS_tgkill, When::OneOf(0, INIT_OR_ALL)),
    (libc::SYS_rt_sigqueueinfo, When::OneOf(0, INIT_OR_ALL)),
    (libc::SYS_rt_tgsigqueueinfo, When::OneOf(0, INIT_OR_ALL)),
    (libc::SYS_pidfd_send_signal, When::Always),
    (libc::SYS_open, When::Bits(1, WRITING)),
    (libc::SYS_openat, When::Bits(2, WRITING)),
    (libc::SYS_openat2, When::Always),
    (libc::SYS_creat, When::Always),
];

/// What CPUID patching needs to see.
const MAPPING: &[(c_long, When)] = &[
    (libc::SYS_mmap, When::Bits(2, EXECUTABLE)),
    (libc::SYS_mprotect, When::Bits(2, EXECUTABLE)),
    (libc::SYS_pkey_mprotect, When::Bits(2, EXECUTABLE)),
];

/// The filter; with `mappings` it also brings the calls that make memory executable.
pub(crate) fn program(mappings: bool) -> Vec<sock_filter> {
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        jump(JUMP_EQUAL, X86_64, 1, 0),
        statement(RETURN, libc::SECCOMP_RET_TRACE),
        statement(LOAD, NUMBER),
        jump(JUMP_NOT_LESS, X32, 0, 1),
        statement(RETURN, libc::SECCOMP_RET_TRACE),
    ];
    let mapping = if mappings { MAPPING } else { &[] };
    for (number, when) in GUARDED.iter().chain(mapping) {
        let body = body(*when);
        let (Ok(number), Ok(length)) = (u32::try_from(*number), u8::try_from(body.len())) else {
            continue;
        };
        program.push(jump(JUMP_EQUAL, number, 0, length));
        program.extend(body);
    }
    program.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    program
}

fn body(when: When) -> Vec<sock_filter> {
    let (trace, allow) = (
        statement(RETURN, libc::SECCOMP_RET_TRACE),
        statement(RETURN, libc::SECCOMP_RET_ALLOW),
    );
    match when {
        When::Always => vec![trace],
        When::Bits(argument, mask) => {
            vec![
                statement(LOAD, ARGUMENTS + 8 * argument),
                jump(JUMP_BITS, mask, 0, 1),
                trace,
                allow,
            ]
        }
        When::OneOf(argument, values) => {
            let mut body = vec![statement(LOAD, ARGUMENTS + 8 * argument)];
            // Each hit jumps over the comparisons that follow it and over `allow`.
            body.extend(
                (1..=u8::MAX)
                    .zip(values.iter().rev())
                    .map(|(distance, value)| jump(JUMP_EQUAL, *value, distance, 0)),
            );
            if let Some(comparisons) = body.get_mut(1..) {
                comparisons.reverse();
            }
            body.extend([allow, trace]);
            body
        }
    }
}

fn statement(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter the way the kernel does, for the four instructions it consists of.
    fn run(program: &[sock_filter], architecture: u32, number: c_long, arguments: [u32; 6]) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            let mut branch = |taken: bool| at += usize::from(if taken { step.jt } else { step.jf });
            match step.code {
                LOAD => {
                    accumulator = match step.k {
                        NUMBER => u32::try_from(number).unwrap(),
                        ARCHITECTURE => architecture,
                        offset => arguments[usize::try_from((offset - ARGUMENTS) / 8).unwrap()],
                    }
                }
                JUMP_EQUAL => branch(accumulator == step.k),
                JUMP_NOT_LESS => branch(accumulator >= step.k),
                JUMP_BITS => branch(accumulator & step.k != 0),
                _ => return step.k,
            }
            at += 1;
        }
    }

    fn traced(number: c_long, arguments: [u32; 6]) -> bool {
        run(&program(true), X86_64, number, arguments) == libc::SECCOMP_RET_TRACE
    }

    #[test]
    fn ordinary_calls_are_allowed() {
        for number in [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_clone,
            libc::SYS_futex,
            libc::SYS_exit_group,
            462,
        ] {
            assert!(!traced(number, [u32::MAX; 6]), "{number}");
        }
        assert!(!traced(libc::SYS_kill, [2, 9, 0, 0, 0, 0]));
        assert!(!traced(
            libc::SYS_openat,
            [0, 0, libc::O_CLOEXEC.cast_unsigned(), 0, 0, 0]
        ));
        assert!(!traced(libc::SYS_ioctl, [1, 0x5401, 0, 0, 0, 0]));
        assert!(!traced(libc::SYS_mmap, [0, 0, 3, 0, 0, 0]));
    }

    #[test]
    fn guarded_calls_are_traced() {
        for (number, when) in GUARDED.iter().filter(|(_, when)| matches!(when, When::Always)) {
            assert!(traced(*number, [0; 6]), "{number} {when:?}");
        }
        for command in [FIFREEZE, FITHAW, RTC_SET_TIME] {
            assert!(traced(libc::SYS_ioctl, [3, command, 0, 0, 0, 0]), "{command:#x}");
        }
        for target in INIT_OR_ALL {
            assert!(traced(libc::SYS_kill, [*target, 0, 0, 0, 0, 0]), "{target}");
            assert!(traced(libc::SYS_tgkill, [*target, 1, 0, 0, 0, 0]), "{target}");
        }
        assert!(traced(libc::SYS_open, [0, 1, 0, 0, 0, 0]));
        assert!(traced(libc::SYS_openat, [0, 0, 0o102, 0, 0, 0]));
        assert!(traced(libc::SYS_mprotect, [0, 0, 5, 0, 0, 0]));
    }

    #[test]
    fn other_architectures_are_traced_whatever_they_call() {
        assert_eq!(
            run(&program(false), 0x4000_0003, libc::SYS_read, [0; 6]),
            libc::SECCOMP_RET_TRACE
        );
        let x32 = libc::SYS_read + c_long::from(X32);
        assert_eq!(run(&program(false), X86_64, x32, [0; 6]), libc::SECCOMP_RET_TRACE);
    }

    #[test]
    fn mappings_matter_for_patching_only() {
        let arguments = [0, 0, 4, 0, 0, 0];
        assert_eq!(
            run(&program(false), X86_64, libc::SYS_mmap, arguments),
            libc::SECCOMP_RET_ALLOW
        );
        assert_eq!(
            run(&program(true), X86_64, libc::SYS_mmap, arguments),
            libc::SECCOMP_RET_TRACE
        );
    }
}
