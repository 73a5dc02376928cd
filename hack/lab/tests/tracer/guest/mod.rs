//! The guests: what this program does instead of testing when the variable [`ROLE`] names a role.
//!
//! The role runs before `main`, so that a guest is no test harness with its threads but only what stands here. A role
//! panics, and so ends with another status than 0, when it finds something else than it should.

#![allow(
    unsafe_code,
    reason = "guests execute the instructions and system calls that the tracer is about"
)]

mod code;
mod instructions;
mod locks;
mod processes;
mod signals;

use std::io::Write;

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
        "cpuid" => instructions::cpuid(),
        "version" => instructions::version(),
        "wrong-magic" => instructions::wrong_magic(),
        "bandwidth" => instructions::bandwidth(),
        "unmapped" => instructions::unmapped(),
        "fault-handler" => signals::fault_handler(),
        "threads" => processes::threads(),
        "thread-exec" => processes::thread_exec(),
        "families" => processes::families(),
        "deathsig" => signals::deathsig(),
        "signals" => signals::signals(),
        "group-stop" => signals::group_stop(),
        "setuid" => processes::setuid(),
        "filtered" => code::filtered(),
        "generated" => code::generated(),
        "mapped-file" => code::mapped_file(),
        "overlap" => code::overlap(),
        "prefixed" => code::prefixed(),
        "sleeper" => processes::sleeper(),
        "family-of-sleepers" => processes::family_of_sleepers(),
        "guarded" => locks::guarded(),
        "compat" => {
            println!("{}", locks::compat_getpid());
            0
        }
        "guarded-unprivileged" => {
            // SAFETY: becomes a user who owns nothing.
            unsafe { assert_eq!(libc::setuid(65534), 0) };
            locks::guarded()
        }
        "guarded-signals" => locks::guarded_signals(),
        "isolated" => locks::isolated(),
        "unguarded" => locks::unguarded(),
        "background" => processes::background(),
        "tracer" => processes::tracer(),
        "ud2" => {
            // SAFETY: raises SIGILL.
            unsafe { std::arch::asm!("ud2") }
            1
        }
        _ => 99,
    }
}
