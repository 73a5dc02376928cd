//! The version probe, which must never kill the process.
//!
//! Off VMware, and on some VMware guests (SEV-ES), the instruction raises SIGSEGV, or SIGILL on 64-bit Arm. It runs in a forked child whose death
//! is the answer. The other way, a SIGSEGV handler that steps over the instruction, changes a process-wide disposition
//! while other threads run, has to share it with the stack guard of the standard library, and cannot have a deadline; a
//! child can be killed. The child only makes async-signal-safe calls (signal, setrlimit, write, _exit) and allocates
//! nothing, so it does not matter which locks other threads held at the fork. It needs no privilege, only `clone`,
//! `pipe2`, `poll`, `wait4` and `kill`, and works as any pid and under a tracer that follows forks.
//!
//! The answer comes over a pipe; the exit status only explains its absence, so it does no harm when somebody else reaps
//! the child or SIGCHLD is ignored.

#![expect(unsafe_code, reason = "fork, and the child's few system calls")]

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, pipe2},
};

use super::{
    Registers,
    detect::{Answer, version_request},
    machine::exchange,
};

/// How long the child may take. One exchange takes microseconds; under a tracer on a busy machine, milliseconds.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long a child that was killed may take to be gone.
const REAP_DEADLINE: Duration = Duration::from_millis(500);

/// Time between two looks at a child that is ending.
const REAP_INTERVAL: Duration = Duration::from_millis(1);

/// EAX, EBX and ECX of the answer, little-endian.
const ANSWER_LEN: usize = 12;

/// Asks for the version in a child process.
pub fn probe() -> Answer {
    ask(|| {
        // SAFETY: this is the child, and it may die.
        unsafe { exchange(version_request()) }
    })
}

/// Runs `question` in a child. It must be async-signal-safe.
pub(super) fn ask(question: impl FnOnce() -> Registers) -> Answer {
    let (receiver, sender) = match pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK) {
        Ok(ends) => ends,
        Err(error) => return Answer::Impossible(format!("pipe2: {error}")),
    };
    // SAFETY: the child calls async-signal-safe functions only, allocates nothing and never returns.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => child(&sender, question),
        Ok(ForkResult::Parent { child }) => {
            drop(sender);
            collect(File::from(receiver), child)
        }
        Err(error) => Answer::Impossible(format!("fork: {error}")),
    }
}

/// The child: ask, write the answer down, end.
fn child(sender: &OwnedFd, question: impl FnOnce() -> Registers) -> ! {
    let no_core = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: plain system calls with valid arguments. Default dispositions make the fault end the child at once, and
    // the limit keeps it from leaving a core file.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
        for signal in [libc::SIGSEGV, libc::SIGILL, libc::SIGBUS] {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    let registers = question();
    let mut answer = [0; ANSWER_LEN];
    for (bytes, register) in answer
        .chunks_exact_mut(4)
        .zip([registers.eax, registers.ebx, registers.ecx])
    {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    // SAFETY: the buffer is valid for its length, which is below PIPE_BUF, so the write is whole; `_exit` runs no
    // handler of the parent's copy.
    unsafe {
        libc::write(sender.as_raw_fd(), answer.as_ptr().cast(), answer.len());
        libc::_exit(0)
    }
}

/// Waits for the answer or the child's end, and leaves no child behind.
fn collect(mut receiver: File, child: Pid) -> Answer {
    let deadline = Instant::now() + DEADLINE;
    let answer = receive(&mut receiver, deadline);
    let status = match answer {
        Received::Nothing => None,
        Received::Answer(_) | Received::End => reap(child, deadline),
    };
    let (status, killed) = match status {
        Some(status) => (Some(status), false),
        None => {
            // Not reaped yet, so the number is still this child's.
            let _ = kill(child, Signal::SIGKILL);
            (reap(child, Instant::now() + REAP_DEADLINE), true)
        }
    };
    match (answer, status) {
        (Received::Answer(registers), _) => Answer::Registers(registers),
        (
            _,
            Some(WaitStatus::Signaled(_, signal @ (Signal::SIGSEGV | Signal::SIGILL | Signal::SIGBUS), _)),
        ) => Answer::Fault(signal.as_str()),
        (Received::Nothing, _) if killed => Answer::Timeout(DEADLINE),
        (_, Some(status)) => Answer::Impossible(format!("the probe ended with {status:?}")),
        (_, None) => Answer::Impossible("the probe ended without an answer".into()),
    }
}

/// What came over the pipe.
#[derive(Clone, Copy)]
enum Received {
    Answer(Registers),
    /// The child is gone, or going.
    End,
    /// Neither an answer nor an end in time.
    Nothing,
}

fn receive(receiver: &mut File, deadline: Instant) -> Received {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Received::Nothing,
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(_) => return Received::Nothing,
        }
    }
    let mut answer = [0; ANSWER_LEN];
    match receiver.read_exact(&mut answer) {
        Ok(()) => Received::Answer(registers(answer)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
        Err(_) => Received::End,
    }
}

fn registers(answer: [u8; ANSWER_LEN]) -> Registers {
    let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] = answer;
    Registers {
        eax: u32::from_le_bytes([a0, a1, a2, a3]),
        ebx: u32::from_le_bytes([b0, b1, b2, b3]),
        ecx: u32::from_le_bytes([c0, c1, c2, c3]),
        ..Registers::default()
    }
}

/// The child's status, `None` when it still runs at `deadline`. A child that somebody else reaped counts as ended.
fn reap(child: Pid, deadline: Instant) -> Option<WaitStatus> {
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(status) => return Some(status),
            Err(_) => return Some(WaitStatus::Exited(child, 0)),
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(REAP_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_travels_through_the_child() {
        let answer = ask(|| Registers {
            eax: 6,
            ebx: super::super::MAGIC,
            ecx: 2,
            ..Registers::default()
        });
        assert_eq!(
            answer,
            Answer::Registers(Registers {
                eax: 6,
                ebx: super::super::MAGIC,
                ecx: 2,
                ..Registers::default()
            })
        );
    }

    #[test]
    fn row_02_a_fault_ends_the_child_and_not_the_process() {
        for signal in [libc::SIGSEGV, libc::SIGILL] {
            let answer = ask(|| {
                // SAFETY: raises a signal in the child, where it is fatal.
                unsafe { libc::raise(signal) };
                Registers::default()
            });
            assert!(matches!(answer, Answer::Fault(_)), "{answer:?}");
        }
    }

    #[test]
    fn row_02_the_real_instruction_is_survived() {
        // Whatever machine runs the tests: an answer or a fault, and this line is reached.
        assert!(matches!(probe(), Answer::Registers(_) | Answer::Fault(_)));
    }

    #[test]
    fn a_child_that_hangs_is_killed() {
        let begin = Instant::now();
        let answer = ask(|| {
            loop {
                // SAFETY: waits for a signal, in the child.
                unsafe { libc::pause() };
            }
        });
        assert_eq!(answer, Answer::Timeout(DEADLINE));
        assert!(begin.elapsed() < DEADLINE + REAP_DEADLINE + Duration::from_secs(2));
    }

    #[test]
    fn other_threads_may_hold_any_lock() {
        let busy = thread::spawn(|| (0..20_000).map(|i| format!("{i}").len()).sum::<usize>());
        for _ in 0..10 {
            assert!(matches!(ask(Registers::default), Answer::Registers(_)));
        }
        assert!(busy.join().is_ok());
    }
}
