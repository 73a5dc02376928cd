//! Code that is made, mapped, moved and read in two ways.

use std::arch::asm;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_int, c_long, c_void};

use super::instructions::{get_version, is_vmware};

/// A program that lets itself do next to nothing, and dies of anything else. That its memory is patched, and its
/// instructions are answered, takes no system call of its own.
pub fn filtered() -> i32 {
    let code = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let number = |number: c_long| u32::try_from(number).unwrap();
    let mut filter = [
        code(0x20, 0, 0, 0),
        code(0x15, 3, 0, number(libc::SYS_exit_group)),
        code(0x15, 2, 0, number(libc::SYS_mmap)),
        code(0x15, 1, 0, number(libc::SYS_mprotect)),
        code(0x06, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        code(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 6,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: installs the filter above on this process.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const program, 0, 0), 0);
    }
    let good = get_version().0 == 6 && is_vmware() && call(made_executable(&RETURNS_EBX)) == vmware_ebx();
    // SAFETY: ends this process.
    unsafe { libc::syscall(libc::SYS_exit_group, if good { 21 } else { 1 }) };
    1
}

/// `push rbx; mov eax, 0x40000000; xor ecx, ecx; cpuid; mov eax, ebx; pop rbx; ret`
const RETURNS_EBX: [u8; 14] = [
    0x53, 0xb8, 0x00, 0x00, 0x00, 0x40, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0xd8, 0x5b, 0xc3,
];

fn vmware_ebx() -> u32 {
    u32::from_le_bytes(*b"VMwa")
}

fn map(length: usize, protection: c_int, descriptor: c_int) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | if descriptor < 0 { libc::MAP_ANONYMOUS } else { 0 };
    // SAFETY: a new mapping where the kernel wants it.
    let memory = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, descriptor, 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    memory.cast()
}

fn call(code: *const u8) -> u32 {
    // SAFETY: the caller put a function there that takes nothing and returns a word.
    unsafe { std::mem::transmute::<*const u8, extern "C" fn() -> u32>(code)() }
}

/// Code that is written first and made executable then.
pub fn generated() -> i32 {
    let memory = map(8192, libc::PROT_READ | libc::PROT_WRITE, -1);
    // SAFETY: the new pages are large enough.
    unsafe {
        ptr::copy_nonoverlapping(RETURNS_EBX.as_ptr(), memory.add(100), RETURNS_EBX.len());
        assert_eq!(
            libc::mprotect(memory.cast(), 8192, libc::PROT_READ | libc::PROT_EXEC),
            0
        );
        assert_eq!(call(memory.add(100)), vmware_ebx());
        // Again writable, other code, again executable: the old place must be forgotten.
        assert_eq!(
            libc::mprotect(memory.cast(), 8192, libc::PROT_READ | libc::PROT_WRITE),
            0
        );
        ptr::write_bytes(memory, 0x90, 8192);
        ptr::copy_nonoverlapping([0xb8, 7, 0, 0, 0, 0xc3].as_ptr(), memory.add(4000), 6);
        assert_eq!(
            libc::mprotect(memory.cast(), 8192, libc::PROT_READ | libc::PROT_EXEC),
            0
        );
        assert_eq!(call(memory.add(100)), 7);
    }
    0
}

/// Code in a file, as a shared library is mapped; then moved, which the tracer does not see.
pub fn mapped_file() -> i32 {
    let mut file = tempfile::tempfile().unwrap();
    let mut page = vec![0x90_u8; 4096];
    page[200..200 + RETURNS_EBX.len()].copy_from_slice(&RETURNS_EBX);
    file.write_all(&page).unwrap();
    let memory = map(4096, libc::PROT_READ | libc::PROT_EXEC, file.as_raw_fd());
    assert_eq!(call(memory.wrapping_add(200)), vmware_ebx());

    let elsewhere = map(4096, libc::PROT_NONE, -1);
    // SAFETY: moves the mapping to where a reservation of ours is.
    let moved = unsafe {
        libc::mremap(
            memory.cast(),
            4096,
            4096,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            elsewhere.cast::<c_void>(),
        )
    };
    assert_ne!(moved, libc::MAP_FAILED);
    assert_eq!(call(moved.cast::<u8>().wrapping_add(200)), vmware_ebx());
    0
}

fn made_executable(code: &[u8]) -> *mut u8 {
    let memory = map(4096, libc::PROT_READ | libc::PROT_WRITE, -1);
    // SAFETY: the new page is large enough.
    unsafe {
        ptr::copy_nonoverlapping(code.as_ptr(), memory, code.len());
        assert_eq!(
            libc::mprotect(memory.cast(), 4096, libc::PROT_READ | libc::PROT_EXEC),
            0
        );
    }
    memory
}

/// Code that overlaps itself. Read from its start it has a CPUID: `mov al, 4; cpuid`. Entered one byte later it is
/// `add al, 0x0f; mov [TARGET], al`, of which the patch makes an access to address 0.
pub fn overlap() -> i32 {
    // An address whose bytes are decodable as code, as `adc dword ptr [rax + 0x9090], 0`, and of whose first ones the
    // patched instruction makes `or eax, [rbx + 0x909090]`.
    const TARGET: usize = 0x9090_9083;
    let target: *mut u8 = ptr::with_exposed_provenance_mut(TARGET);
    // SAFETY: a new mapping at an address where nothing is, or an error.
    let page = unsafe {
        libc::mmap(
            target.wrapping_sub(0x83).cast(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    let mut code = vec![0x90; 128];
    code.extend([0xb0, 0x04, 0x0f, 0xa2]);
    code.extend((TARGET as u64).to_le_bytes());
    code.push(0xc3);
    let memory = made_executable(&code);
    let entry = memory.wrapping_add(128 + 1);
    // SAFETY: the code above. RBX is 0 for it, so that the patched instruction faults.
    unsafe {
        asm!(
            "push rbx",
            "xor ebx, ebx",
            "call {entry}",
            "pop rbx",
            entry = in(reg) entry,
            inout("rax") 1_u64 => _,
            out("rcx") _,
            out("rdx") _,
        );
        assert_eq!(*target, 0x10, "1 + 15, stored where the original code stores it");
    }
    0
}

/// CPUID with a prefix that means nothing, as some programs have it.
pub fn prefixed() -> i32 {
    let mut code = vec![0x90; 64];
    // push rbx; mov eax, 0x40000000; rex.w cpuid; mov eax, ebx; pop rbx; ret
    code.extend([
        0x53, 0xb8, 0, 0, 0, 0x40, 0x48, 0x0f, 0xa2, 0x89, 0xd8, 0x5b, 0xc3,
    ]);
    assert_eq!(call(made_executable(&code)), vmware_ebx());
    0
}
