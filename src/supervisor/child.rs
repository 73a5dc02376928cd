//! From root to uid 50: what the child does between fork and exec.
#![expect(unsafe_code, reason = "fork")]

use std::ffi::CString;

use caps::{CapSet, CapsHashSet};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
    unistd::{ForkResult, Gid, Pid, Uid, execv, fork, getpid, getppid, setgroups, setresgid, setresuid},
};

use super::notice;

/// User and group of the daemon: the owner of machine.sock on every Talos (`ApidUserID`).
pub const DAEMON_UID: u32 = 50;

/// The argument that starts this program in the daemon's role.
pub const DAEMON_ROLE: &str = "daemon";

/// Exit status of a child that could not become the daemon, as a shell gives it for a program that cannot run.
const CANNOT_EXEC: i32 = 126;

/// Starts the daemon: this program again, as uid and gid 50 and without any capability.
pub(super) fn start() -> Result<Pid, Errno> {
    let supervisor = getpid();
    // SAFETY: the supervisor has one thread, so the child is a whole process and may use all of the library.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let Refusal { step, errno } = become_daemon(supervisor);
            notice::not_started(step, errno as i32);
            // Not `exit`: the parent's buffers and destructors are not ours.
            // SAFETY: `_exit` ends the process at once and runs nothing of it.
            unsafe { nix::libc::_exit(CANNOT_EXEC) }
        }
    }
}

struct Refusal {
    step: &'static str,
    errno: Errno,
}

/// Comes back only with the step that failed: a daemon with more rights than it should have does not run.
fn become_daemon(supervisor: Pid) -> Refusal {
    match drop_and_exec(supervisor) {
        Ok(never) => match never {},
        Err(refusal) => refusal,
    }
}

fn drop_and_exec(supervisor: Pid) -> Result<std::convert::Infallible, Refusal> {
    let at = |step| move |errno| Refusal { step, errno };

    // The bounding set cannot be emptied without CAP_SETPCAP. It is what a program could gain, and none can: there are no
    // new privileges. The ambient set is empty wherever the inheritable one is, and old kernels have none.
    let _ = caps::clear(None, CapSet::Bounding);
    let _ = caps::clear(None, CapSet::Ambient);
    setgroups(&[]).map_err(at("setgroups"))?;
    let (uid, gid) = (Uid::from_raw(DAEMON_UID), Gid::from_raw(DAEMON_UID));
    setresgid(gid, gid, gid).map_err(at("setresgid"))?;
    setresuid(uid, uid, uid).map_err(at("setresuid"))?;
    let nothing = CapsHashSet::new();
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &nothing).map_err(|_| Refusal {
            step: "capset",
            errno: Errno::EPERM,
        })?;
    }
    prctl::set_no_new_privs().map_err(at("no_new_privs"))?;

    // After the change of user, which clears it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(at("pdeathsig"))?;
    if getppid() != supervisor {
        return Err(Refusal {
            step: "the supervisor ended",
            errno: Errno::ESRCH,
        });
    }

    SigSet::all().thread_unblock().map_err(at("sigprocmask"))?;
    let arguments = [
        c"talos-vmtoolsd".to_owned(),
        CString::new(DAEMON_ROLE).unwrap_or_default(),
    ];
    execv(c"/proc/self/exe", &arguments).map_err(at("execv /proc/self/exe"))
}
