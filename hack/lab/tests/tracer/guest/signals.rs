//! Signals: what handlers see, stops, the death of a parent.

use std::arch::asm;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};

use super::instructions::get_version;
use super::processes::wait_for;

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
static SKIP: AtomicI64 = AtomicI64::new(1);

fn handle(signal: c_int, handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void)) {
    // SAFETY: a zeroed action is one without flags and mask; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(signal, &raw const action, ptr::null_mut()), 0);
    }
}

pub fn fault_handler() -> i32 {
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

pub fn deathsig() -> i32 {
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

pub fn signals() -> i32 {
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

pub fn group_stop() -> i32 {
    let mut pipe = [0; 2];
    // SAFETY: plain system calls in a process with one thread.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let child = libc::fork();
        if child == 0 {
            for _ in 0..2 {
                libc::raise(libc::SIGSTOP);
                libc::write(pipe[1], [1_u8].as_ptr().cast(), 1);
            }
            libc::_exit(if get_version().0 == 6 { 42 } else { 1 });
        }
        for _ in 0..2 {
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, libc::WUNTRACED), child);
            assert!(libc::WIFSTOPPED(status), "{status:x}");
            // It stays stopped: what it does next is not done, for as long as one cares to look.
            let mut readable = libc::pollfd {
                fd: pipe[0],
                events: libc::POLLIN,
                revents: 0,
            };
            assert_eq!(libc::poll(&raw mut readable, 1, 100), 0);
            assert_eq!(libc::kill(child, libc::SIGCONT), 0);
            let mut byte = 0_u8;
            assert_eq!(libc::read(pipe[0], (&raw mut byte).cast(), 1), 1);
        }
        libc::WEXITSTATUS(wait_for(child))
    }
}
