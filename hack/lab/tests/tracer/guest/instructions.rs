//! Backdoor accesses and CPUID.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::ptr;

/// RAX, RBX, RCX after one `IN EAX, DX`.
fn low(command: u64, magic: u64) -> (u64, u64, u64) {
    let (mut rax, mut rcx) = (magic, command);
    let mut argument = 0xa9b2_a797_u64;
    // SAFETY: faults, or is answered by the tracer, which changes general registers. RBX is put back.
    unsafe {
        asm!(
            "xchg {argument}, rbx",
            "in eax, dx",
            "xchg {argument}, rbx",
            argument = inout(reg) argument,
            inout("rax") rax,
            inout("rcx") rcx,
            inout("rdx") 0x5658_u64 => _,
            out("rsi") _,
            out("rdi") _,
        );
    }
    (rax, argument, rcx)
}

pub fn get_version() -> (u64, u64, u64) {
    low(0xffff_000a, 0x564d_5868)
}

pub fn version() -> i32 {
    let (rax, rbx, rcx) = get_version();
    println!("{rax:x} {rbx:x} {rcx:x}");
    0
}

pub fn wrong_magic() -> i32 {
    low(10, 0x1234_5678);
    0
}

/// RBX, RCX and how far the address register moved, after a `REP OUTSB`.
pub fn high_out(bytes: &[u8]) -> (u64, u64, u64) {
    let (mut argument, mut rcx, mut rsi) = (0x0001_0000_u64, bytes.len() as u64, bytes.as_ptr() as u64);
    let start = rsi;
    // SAFETY: reads `bytes`; otherwise as above.
    unsafe {
        asm!(
            "cld",
            "xchg {argument}, rbx",
            "rep outsb",
            "xchg {argument}, rbx",
            argument = inout(reg) argument,
            inout("rax") 0x564d_5868_u64 => _,
            inout("rcx") rcx,
            inout("rdx") 0x0003_5659_u64 => _,
            inout("rsi") rsi,
            inout("rdi") 0_u64 => _,
        );
    }
    (argument, rcx, rsi - start)
}

pub fn high_in(buffer: *mut u8, length: u64) -> (u64, u64, u64) {
    let (mut argument, mut rcx, mut rdi) = (0x0001_0000_u64, length, buffer as u64);
    // SAFETY: the caller's buffer is that long, or the access faults.
    unsafe {
        asm!(
            "cld",
            "xchg {argument}, rbx",
            "rep insb",
            "xchg {argument}, rbx",
            argument = inout(reg) argument,
            inout("rax") 0x564d_5868_u64 => _,
            inout("rcx") rcx,
            inout("rdx") 0x0003_5659_u64 => _,
            inout("rdi") rdi,
            inout("rsi") 0_u64 => _,
        );
    }
    (argument, rcx, rdi - buffer as u64)
}

pub fn bandwidth() -> i32 {
    assert_eq!(high_out(b"hello, host"), (0x0001_0000, 0, 11));
    let large: Vec<u8> = (0..100_000_u32).map(|index| index.to_le_bytes()[0]).collect();
    assert_eq!(high_out(&large), (0x0001_0000, 0, 100_000));
    let mut buffer = vec![0; 30_000];
    assert_eq!(high_in(buffer.as_mut_ptr(), 30_000), (0x0001_0000, 0, 30_000));
    let expected: Vec<u8> = (b'a'..=b'z').cycle().take(30_000).collect();
    assert_eq!(buffer, expected);
    0
}

pub fn unmapped() -> i32 {
    high_in(ptr::without_provenance_mut(4096), 10);
    0
}

fn signature() -> Vec<u8> {
    let leaf = __cpuid(0x4000_0000);
    [leaf.ebx, leaf.ecx, leaf.edx]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

pub fn is_vmware() -> bool {
    signature() == b"VMwareVMware" && __cpuid(1).ecx >> 31 == 1
}

pub fn cpuid() -> i32 {
    let timing = __cpuid(0x4000_0010);
    println!("{}", String::from_utf8_lossy(&signature()));
    println!("{}", __cpuid(1).ecx >> 31);
    println!("{:x} {} {}", __cpuid(0x4000_0000).eax, timing.eax > 0, timing.ecx);
    for leaf in [0, 0x8000_0002, 0x8000_0003, 0x8000_0004] {
        let real = __cpuid_count(leaf, 0);
        println!("{:x} {:x} {:x} {:x}", real.eax, real.ebx, real.ecx, real.edx);
    }
    0
}
