//! The guests: what this program does instead of testing when the variable [`ROLE`] names a role.
//!
//! The role runs before `main`, so that a guest is no test harness with its threads but only what stands here. A role
//! panics, and so ends with another status than 0, when it finds something else than it should.

#![allow(
    unsafe_code,
    reason = "guests execute the instructions and system calls that the tracer is about"
)]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::ffi::CStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use libc::{c_int, c_long, c_void, siginfo_t};

/// The environment variable that makes this program a guest.
pub const ROLE: &str = "LAB_TEST_GUEST";

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    if let Ok(role) = std::env::var(ROLE) {
        let outcome = std::panic::catch_unwind(|| play(&role));
        let _ = std::io::stdout().flush();
        // SAFETY: ends this process, which is a guest.
        unsafe { libc::_exit(outcome.unwrap_or(101)) };
    }
}

fn play(role: &str) -> i32 {
    match role {
        "cpuid" => cpuid(),
        "version" => version(),
        "wrong-magic" => wrong_magic(),
        "bandwidth" => bandwidth(),
        "unmapped" => unmapped(),
        "fault-handler" => fault_handler(),
        "threads" => threads(),
        "thread-exec" => thread_exec(),
        "families" => families(),
        "deathsig" => deathsig(),
        "signals" => signals(),
        "group-stop" => group_stop(),
        "setuid" => setuid(),
        "filtered" => filtered(),
        "generated" => generated(),
        "mapped-file" => mapped_file(),
        "overlap" => overlap(),
        "prefixed" => prefixed(),
        "sleeper" => sleeper(),
        "family-of-sleepers" => family_of_sleepers(),
        "guarded" => guarded(),
        "compat" => {
            println!("{}", compat_getpid());
            0
        }
        "guarded-unprivileged" => {
            // SAFETY: becomes a user who owns nothing.
            unsafe { assert_eq!(libc::setuid(65534), 0) };
            guarded()
        }
        "guarded-signals" => guarded_signals(),
        "isolated" => isolated(),
        "unguarded" => unguarded(),
        "background" => background(),
        "ud2" => {
            // SAFETY: raises SIGILL.
            unsafe { asm!("ud2") }
            1
        }
        _ => 99,
    }
}

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

fn get_version() -> (u64, u64, u64) {
    low(0xffff_000a, 0x564d_5868)
}

fn version() -> i32 {
    let (rax, rbx, rcx) = get_version();
    println!("{rax:x} {rbx:x} {rcx:x}");
    0
}

fn wrong_magic() -> i32 {
    low(10, 0x1234_5678);
    0
}

/// RBX, RCX and how far the address register moved, after a `REP OUTSB`.
fn high_out(bytes: &[u8]) -> (u64, u64, u64) {
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

fn high_in(buffer: *mut u8, length: u64) -> (u64, u64, u64) {
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

fn bandwidth() -> i32 {
    assert_eq!(high_out(b"hello, host"), (0x0001_0000, 0, 11));
    let large: Vec<u8> = (0..100_000_u32).map(|index| index.to_le_bytes()[0]).collect();
    assert_eq!(high_out(&large), (0x0001_0000, 0, 100_000));
    let mut buffer = vec![0; 30_000];
    assert_eq!(high_in(buffer.as_mut_ptr(), 30_000), (0x0001_0000, 0, 30_000));
    let expected: Vec<u8> = (b'a'..=b'z').cycle().take(30_000).collect();
    assert_eq!(buffer, expected);
    0
}

fn unmapped() -> i32 {
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

fn is_vmware() -> bool {
    signature() == b"VMwareVMware" && __cpuid(1).ecx >> 31 == 1
}

fn cpuid() -> i32 {
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

/// What a handler saw: signal, code, address.
static SEEN: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

extern "C" fn note(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both; the context is changed so that the instruction is not executed again.
    unsafe {
        SEEN[0].store(u64::try_from(signal).unwrap(), Ordering::SeqCst);
        SEEN[1].store(u64::from((*info).si_code.cast_unsigned()), Ordering::SeqCst);
        SEEN[2].store((*info).si_addr() as u64, Ordering::SeqCst);
        if signal == libc::SIGSEGV {
            let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
            registers[usize::try_from(libc::REG_RIP).unwrap()] += SKIP.load(Ordering::SeqCst);
        }
    }
}

/// Length of the instruction that the handler steps over.
static SKIP: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(1);

fn handle(signal: c_int, handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void)) {
    // SAFETY: a zeroed action is one without flags and mask; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(signal, &raw const action, ptr::null_mut()), 0);
    }
}

fn fault_handler() -> i32 {
    handle(libc::SIGSEGV, note);
    let (rax, rbx, _) = get_version();
    let seen: Vec<u64> = SEEN.iter().map(|value| value.load(Ordering::SeqCst)).collect();
    println!("{} {} {} {rax:x} {rbx:x}", seen[0], seen[1], seen[2]);
    // A fault that has nothing to do with us: mov al, [rax], two bytes, with its address.
    SKIP.store(2, Ordering::SeqCst);
    // SAFETY: the handler steps over it.
    unsafe { asm!("mov al, byte ptr [rax]", inout("rax") 0x1238_u64 => _) };
    let seen: Vec<u64> = SEEN.iter().map(|value| value.load(Ordering::SeqCst)).collect();
    println!("{} {} {:x}", seen[0], seen[1], seen[2]);
    0
}

fn threads() -> i32 {
    let workers: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..100 {
                    assert_eq!(get_version(), (6, 0x564d_5868, 2));
                    assert!(is_vmware());
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    // Short-lived ones, many.
    for _ in 0..50 {
        std::thread::spawn(|| assert_eq!(get_version().0, 6))
            .join()
            .unwrap();
    }
    0
}

fn again(role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env(ROLE, role);
    command
}

fn thread_exec() -> i32 {
    let _bystander = std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    let worker = std::thread::spawn(|| {
        let error = again("version").exec();
        panic!("{error}");
    });
    worker.join().unwrap();
    1
}

fn families() -> i32 {
    // fork without exec: the child has its parent's patched memory.
    for _ in 0..20 {
        // SAFETY: this process has one thread.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let good = is_vmware() && get_version().0 == 6;
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!good)) };
        }
        assert_eq!(wait_for(child), 0);
    }
    // vfork and exec, which is what posix_spawn and Command do.
    for _ in 0..5 {
        assert!(
            again("version")
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap()
                .success()
        );
    }
    // fork and exec.
    let mut forked = again("threads");
    // SAFETY: the closure does nothing; having one makes std fork instead of spawning.
    unsafe { forked.pre_exec(|| Ok(())) };
    assert!(forked.status().unwrap().success());
    // Several at once.
    let several: Vec<_> = (0..4).map(|_| again("threads").spawn().unwrap()).collect();
    for mut child in several {
        assert!(child.wait().unwrap().success());
    }
    0
}

fn wait_for(child: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: writes one int.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

fn deathsig() -> i32 {
    let mut pipe = [0; 2];
    // SAFETY: plain system calls in a process with one thread.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let middle = libc::fork();
        if middle == 0 {
            if libc::fork() == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::write(pipe[1], [1_u8].as_ptr().cast(), 1);
                loop {
                    libc::pause();
                }
            }
            // The middle one ends when its child is ready; the child must then be killed.
            let mut byte = 0_u8;
            libc::read(pipe[0], (&raw mut byte).cast(), 1);
            libc::_exit(0);
        }
        libc::close(pipe[1]);
        assert_eq!(wait_for(middle), 0);
        // Ends when the last writer is gone.
        let mut byte = 0_u8;
        c_int::try_from(libc::read(pipe[0], (&raw mut byte).cast(), 1)).unwrap()
    }
}

static VALUE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note_value(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the signal was sent by sigqueue.
    VALUE.store(unsafe { (*info).si_value().sival_ptr as usize }, Ordering::SeqCst);
}

fn signals() -> i32 {
    for signal in [
        libc::SIGUSR1,
        libc::SIGTERM,
        libc::SIGRTMIN() + 3,
        libc::SIGTRAP,
        libc::SIGILL,
        libc::SIGCHLD,
    ] {
        handle(signal, note_value);
        let expected = usize::try_from(signal).unwrap() + 1000;
        let value = libc::sigval {
            sival_ptr: ptr::without_provenance_mut(expected),
        };
        // SAFETY: a signal to this process.
        assert_eq!(unsafe { libc::sigqueue(libc::getpid(), signal, value) }, 0);
        assert_eq!(VALUE.load(Ordering::SeqCst), expected);
    }
    // A SIGSEGV that somebody sends is an ordinary signal.
    SKIP.store(0, Ordering::SeqCst);
    handle(libc::SIGSEGV, note);
    // SAFETY: a signal to this thread.
    unsafe { libc::raise(libc::SIGSEGV) };
    assert_eq!(SEEN[0].load(Ordering::SeqCst), 11);
    assert_eq!(
        SEEN[1].load(Ordering::SeqCst),
        u64::from(libc::SI_TKILL.cast_unsigned())
    );
    // Between the two the backdoor still answers.
    assert_eq!(get_version().0, 6);
    // SAFETY: ends this process.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    1
}

fn group_stop() -> i32 {
    // SAFETY: plain system calls in a process with one thread.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::raise(libc::SIGSTOP);
            libc::raise(libc::SIGSTOP);
            libc::_exit(if get_version().0 == 6 { 42 } else { 1 });
        }
        for _ in 0..2 {
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, libc::WUNTRACED), child);
            assert!(libc::WIFSTOPPED(status), "{status:x}");
            // It stays stopped: nothing more is to be waited for.
            assert_eq!(
                libc::waitpid(child, &raw mut status, libc::WUNTRACED | libc::WNOHANG),
                0
            );
            assert_eq!(libc::kill(child, libc::SIGCONT), 0);
        }
        libc::WEXITSTATUS(wait_for(child))
    }
}

fn setuid() -> i32 {
    // A user and group that own nothing here.
    // SAFETY: plain system calls; glibc's setuid signals all threads with its own real-time signal.
    unsafe {
        let _other = std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
        assert_eq!(libc::setgid(65534), 0);
        assert_eq!(libc::setuid(65534), 0);
        assert_eq!(libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    }
    assert_eq!(get_version(), (6, 0x564d_5868, 2));
    assert_eq!(high_out(b"as nobody").1, 0);
    assert!(is_vmware());
    // And a child of it, which it re-executes. It is dumpable again after that.
    let status = again("version")
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    0
}

/// A program that lets itself do next to nothing, and dies of anything else. That its memory is patched, and its
/// instructions are answered, takes no system call of its own.
fn filtered() -> i32 {
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
fn generated() -> i32 {
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
fn mapped_file() -> i32 {
    let mut file = tempfile::tempfile().unwrap();
    let mut page = vec![0x90_u8; 4096];
    page[200..200 + RETURNS_EBX.len()].copy_from_slice(&RETURNS_EBX);
    file.write_all(&page).unwrap();
    let memory = map(
        4096,
        libc::PROT_READ | libc::PROT_EXEC,
        std::os::fd::AsRawFd::as_raw_fd(&file),
    );
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
fn overlap() -> i32 {
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
fn prefixed() -> i32 {
    let mut code = vec![0x90; 64];
    // push rbx; mov eax, 0x40000000; rex.w cpuid; mov eax, ebx; pop rbx; ret
    code.extend([
        0x53, 0xb8, 0, 0, 0, 0x40, 0x48, 0x0f, 0xa2, 0x89, 0xd8, 0x5b, 0xc3,
    ]);
    assert_eq!(call(made_executable(&code)), vmware_ebx());
    0
}

/// Sleeps 100 times and calls 400 times.
fn sleeper() -> i32 {
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(1));
        for _ in 0..4 {
            get_version();
        }
    }
    high_out(b"x");
    high_in([0_u8; 4].as_mut_ptr(), 4);
    0
}

fn family_of_sleepers() -> i32 {
    // SAFETY: plain system calls in a process with one thread.
    unsafe {
        for _ in 0..3 {
            if libc::fork() == 0 {
                // One of them in a session of its own, deaf to everything it can be deaf to.
                libc::setsid();
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                libc::fork();
                loop {
                    libc::pause();
                }
            }
        }
        println!("ready");
        std::io::stdout().flush().unwrap();
        loop {
            libc::pause();
        }
    }
}

/// Leaves a child behind that outlives it and then writes.
fn background() -> i32 {
    let mut pipe = [0; 2];
    // SAFETY: plain system calls in a process with one thread.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        if libc::fork() == 0 {
            libc::setsid();
            libc::close(pipe[1]);
            // Returns when the parent is gone.
            let mut byte = 0_u8;
            libc::read(pipe[0], (&raw mut byte).cast(), 1);
            println!("{:x} after the parent", get_version().0);
            std::io::stdout().flush().unwrap();
            libc::_exit(0);
        }
    }
    5
}

/// Prints the result of a system call: its value, or the error's number, negative.
fn report(name: &str, result: c_long) {
    let result = if result < 0 {
        -c_long::from(errno())
    } else {
        result
    };
    println!("{name} {result}");
}

fn errno() -> c_int {
    // SAFETY: reads this thread's errno.
    unsafe { *libc::__errno_location() }
}

/// Tries what the first lock stops. Each call would do nothing, or fail, if it reached the kernel: wrong magic numbers,
/// an invalid clock, no time given, a freeze of a pipe, an empty name's bad address.
fn guarded() -> i32 {
    let mut pipe = [0; 2];
    let null = ptr::null::<c_void>();
    let bad: *const c_void = ptr::without_provenance(8);
    // SAFETY: system calls with invalid arguments.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        report("reboot", libc::syscall(libc::SYS_reboot, 1, 2, 3, null));
        report(
            "kexec_load",
            libc::syscall(libc::SYS_kexec_load, 0, 0, bad, u64::MAX),
        );
        report(
            "kexec_file_load",
            libc::syscall(libc::SYS_kexec_file_load, -1, -1, 0, null, u64::MAX),
        );
        report("clock_settime", libc::syscall(libc::SYS_clock_settime, 999, bad));
        report("settimeofday", libc::syscall(libc::SYS_settimeofday, null, null));
        let mut timex: libc::timex = std::mem::zeroed();
        report("adjtimex-read", i64::from(libc::adjtimex(&raw mut timex) >= 0));
        timex.modes = 0x8000_0000;
        report(
            "clock_adjtime",
            libc::syscall(libc::SYS_clock_adjtime, 999, &raw mut timex),
        );
        report("freeze", libc::ioctl(pipe[0], 0xc004_5877, 0).into());
        report("freeze-again", libc::ioctl(pipe[0], 0xc004_5877, 0).into());
        report("thaw", libc::ioctl(pipe[0], 0xc004_5878, 0).into());
        report("thaw-again", libc::ioctl(pipe[0], 0xc004_5878, 0).into());
        report("freeze-closed", libc::ioctl(999, 0xc004_5877, 0).into());
        report("rtc", libc::ioctl(pipe[0], 0x4024_700a, null).into());
        report("sethostname", libc::syscall(libc::SYS_sethostname, bad, 1));
        report("setdomainname", libc::syscall(libc::SYS_setdomainname, bad, 1));
        report("iopl", libc::syscall(libc::SYS_iopl, 77));
    }
    let opened = |path: &CStr, flags| {
        // SAFETY: opens a file; nothing is written to it.
        report(
            path.to_str().unwrap(),
            unsafe { libc::open(path.as_ptr(), flags) }.min(0).into(),
        );
    };
    opened(c"/proc/sysrq-trigger", libc::O_WRONLY);
    opened(c"/proc/self/../sysrq-trigger", libc::O_RDWR | libc::O_CLOEXEC);
    // A file whose opening changes nothing, by a link with an innocent name.
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("innocent");
    std::os::unix::fs::symlink("/sys/power/pm_freeze_timeout", &link).unwrap();
    let link = std::ffi::CString::new(link.to_str().unwrap()).unwrap();
    // SAFETY: opens a file; nothing is written to it.
    report(
        "sysfs",
        unsafe { libc::open(link.as_ptr(), libc::O_WRONLY) }.min(0).into(),
    );
    opened(c"/dev/null", libc::O_WRONLY);
    // Programs that are not there, and one that is, by an innocent name.
    for program in [
        "/nonexistent/shutdown",
        "/nonexistent/pm-suspend",
        "/nonexistent/ip",
    ] {
        println!(
            "{program} {:?}",
            Command::new(program)
                .arg("-h")
                .arg("now")
                .status()
                .map(|status| status.code())
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let (real, link) = (directory.path().join("reboot"), directory.path().join("innocent"));
    std::fs::write(&real, "#!/bin/sh\nexit 99\n").unwrap();
    std::fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    println!(
        "link {:?}",
        Command::new(&link).status().map(|status| status.code())
    );
    println!(
        "sh {:?}",
        Command::new("/bin/sh")
            .args(["-c", "exit 3"])
            .status()
            .map(|status| status.code())
    );
    0
}

/// `getpid` of the 32-bit interface.
fn compat_getpid() -> c_long {
    let result: i32;
    // SAFETY: the interrupt changes RAX, and R8 to R11 on some kernels.
    unsafe {
        asm!("int 0x80", inlateout("eax") 20 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    result.into()
}

/// Asks whether pid 1 could be signalled, in every way there is. Signal 0 is never delivered.
fn guarded_signals() -> i32 {
    let none = ptr::null::<c_void>();
    // SAFETY: signal 0 is none.
    unsafe {
        report("kill", libc::syscall(libc::SYS_kill, 1, 0));
        report("kill-all", libc::syscall(libc::SYS_kill, -1, 0));
        report("tkill", libc::syscall(libc::SYS_tkill, 1, 0));
        report("tgkill", libc::syscall(libc::SYS_tgkill, 1, 1, 0));
        let pidfd = libc::syscall(libc::SYS_pidfd_open, 1, 0);
        report(
            "pidfd",
            libc::syscall(libc::SYS_pidfd_send_signal, pidfd, 0, none, 0),
        );
        let own = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        report(
            "pidfd-own",
            libc::syscall(libc::SYS_pidfd_send_signal, own, 0, none, 0),
        );
        report("kill-own", libc::syscall(libc::SYS_kill, libc::getpid(), 0));
    }
    0
}

/// Tells what the second lock left: each attempt would fail otherwise as well, with another error.
fn isolated() -> i32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status
        .lines()
        .filter(|line| line.starts_with("Cap") || line.starts_with("NoNewPrivs"))
    {
        println!("{}", line.replace('\t', ""));
    }
    println!("pid {}", std::process::id());
    println!("parent-is-init {}", std::os::unix::process::parent_id() == 1);
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse::<u32>()
                .is_ok()
        })
        .count();
    println!("processes {processes}");
    // SAFETY: system calls on what does not exist.
    unsafe {
        let (root, kind) = (c"/".as_ptr(), c"no-such-filesystem".as_ptr());
        report("mount", libc::mount(kind, root, kind, 0, ptr::null()).into());
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'?'.cast_signed();
        report(
            "interface",
            libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request).into(),
        );
        // Signals within the namespace are the guest's own business.
        report("kill", libc::syscall(libc::SYS_kill, 1, 0));
    }
    println!("vmware {}", is_vmware() && get_version().0 == 6);
    0
}

/// What needs the dropped capabilities, asked for in a way that does nothing with them either: wrong magic numbers, no
/// time at all, a name's bad address, a filesystem that is none.
fn unguarded() -> i32 {
    let null = ptr::null::<c_void>();
    let bad: *const c_void = ptr::without_provenance(8);
    // SAFETY: system calls with invalid arguments.
    unsafe {
        report("reboot", libc::syscall(libc::SYS_reboot, 1, 2, 3, null));
        report("settimeofday", libc::syscall(libc::SYS_settimeofday, null, null));
        report("sethostname", libc::syscall(libc::SYS_sethostname, bad, 1));
        let (root, kind) = (c"/".as_ptr(), c"no-such-filesystem".as_ptr());
        report("mount", libc::mount(kind, root, kind, 0, ptr::null()).into());
    }
    0
}
