//! The second lock, for programs that are not ours: they lack what it takes to do harm.
//!
//! ```text
//!  root:   clone(NEWPID, NEWNS) -> mounts private -> own /proc -> harmless shutdown -> capabilities dropped -> exec
//!  other:  ambient capabilities cleared, no_new_privs (set with the seccomp filter): nothing left to be dropped
//! ```
//!
//! Independent of the first lock ([`super::guard`]): neither relies on the other.

#![expect(
    unsafe_code,
    reason = "system calls between fork and exec, where nothing may be allocated"
)]

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_ulong};

use super::guard::programs;

/// Capabilities that a guest does not get, `linux/capability.h`: NET_ADMIN, SYS_ADMIN, SYS_BOOT, SYS_TIME.
pub const DROPPED: [u32; 4] = [12, 21, 22, 25];

/// What is put in place of the power programs.
const HARMLESS: &CStr = c"/bin/true";

/// `_LINUX_CAPABILITY_VERSION_3`: two words of each set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// What the child does between fork and exec; prepared before the fork.
#[derive(Clone, Debug)]
pub struct Isolation {
    is_root: bool,
    /// Files that are covered by a harmless one.
    covered: Vec<CString>,
    /// Whether the capabilities are dropped.
    drops: bool,
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl Isolation {
    /// Looks where this machine keeps its power programs.
    #[must_use]
    pub fn plan() -> Self {
        let mut covered = Vec::new();
        for directory in ["/sbin", "/usr/sbin", "/bin", "/usr/bin"] {
            for name in ["shutdown", "reboot", "halt", "poweroff"] {
                let Ok(path) = fs::canonicalize(format!("{directory}/{name}")) else {
                    continue;
                };
                // A link to a program that is everything at once (busybox) is left to the first lock: to cover that
                // program would leave no shell.
                let is_one = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(programs::is_guarded);
                let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
                    continue;
                };
                if is_one && !covered.contains(&path) {
                    covered.push(path);
                }
            }
        }
        Self {
            is_root: nix::unistd::geteuid().is_root(),
            covered,
            drops: true,
        }
    }

    /// Only the namespaces, for a program of ours that is to be process 1. It takes root and is an error without.
    #[must_use]
    pub fn namespaces() -> Self {
        Self {
            is_root: true,
            covered: Vec::new(),
            drops: false,
        }
    }

    /// Whether the guest gets namespaces of its own: PID and mount, for root only.
    #[must_use]
    pub fn has_namespaces(&self) -> bool {
        self.is_root
    }

    /// Arranges the new mount namespace that the calling process, process 1 of a new PID namespace, is in.
    /// Async-signal-safe.
    ///
    /// # Errors
    /// What mount(2) says.
    pub fn arrange_mounts(&self) -> Result<(), Errno> {
        mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE)?;
        mount(
            Some(c"proc"),
            c"/proc",
            Some(c"proc"),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
        )?;
        for path in &self.covered {
            mount(Some(HARMLESS), path, None, libc::MS_BIND)?;
        }
        Ok(())
    }

    /// Drops [`DROPPED`] from every set of the calling thread. Async-signal-safe.
    ///
    /// # Errors
    /// When a capability stays in one of the sets.
    pub fn drop_capabilities(&self) -> Result<(), Errno> {
        if !self.drops {
            return Ok(());
        }
        for capability in DROPPED {
            // SAFETY: prctl with integers.
            let bounded = unsafe { libc::prctl(libc::PR_CAPBSET_READ, c_ulong::from(capability), 0, 0, 0) };
            if self.is_root && bounded == 1 {
                // SAFETY: as above.
                Errno::result(unsafe {
                    libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(capability), 0, 0, 0)
                })?;
            }
        }
        // SAFETY: as above. Kernels without ambient capabilities have none to be cleared.
        let _ = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };

        let header = CapabilityHeader {
            version: CAPABILITY_VERSION,
            pid: 0,
        };
        let mut sets = [CapabilitySet::default(); 2];
        // SAFETY: version 3 has two words of each set, which is what `sets` is.
        Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) })?;
        let [first, _] = &mut sets;
        // All four are in the first word.
        let kept = !DROPPED
            .iter()
            .fold(0_u32, |bits, capability| bits | 1 << capability);
        first.effective &= kept;
        first.permitted &= kept;
        first.inheritable &= kept;
        // SAFETY: as above.
        Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) }).map(drop)
    }
}

fn mount(source: Option<&CStr>, target: &CStr, kind: Option<&CStr>, flags: c_ulong) -> Result<(), Errno> {
    let pointer = |string: Option<&CStr>| string.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: the strings end with a zero byte and outlive the call; no data is passed.
    Errno::result(unsafe {
        libc::mount(
            pointer(source),
            target.as_ptr(),
            pointer(kind),
            flags,
            ptr::null(),
        )
    })
    .map(drop)
}
