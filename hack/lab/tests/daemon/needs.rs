//! What a test needs of this machine.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use libtest_mimic::{Failed, Trial};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To trace a process of one's own.
    Ptrace,
    /// Root, for namespaces and changes of user.
    Root,
    /// Anything but root.
    Unprivileged,
    /// Debian's package.
    OpenVmTools,
    /// The Go toolchain, for govmomi's toolbox.
    Go,
}

impl Need {
    /// Why it cannot be had here.
    fn lacking(self) -> Option<&'static str> {
        static PTRACE: OnceLock<bool> = OnceLock::new();
        let root = nix::unistd::geteuid().is_root();
        match self {
            Self::Ptrace if !*PTRACE.get_or_init(can_trace) => Some("ptrace is not permitted"),
            Self::Root if !root => Some("needs root"),
            // Root becomes another user for it.
            Self::Unprivileged if root && !exists("setpriv") => Some("setpriv is not installed"),
            Self::OpenVmTools if !exists("vmtoolsd") => Some("open-vm-tools is not installed"),
            Self::Go if !exists("go") => Some("Go is not installed"),
            _ => None,
        }
    }
}

/// A test that counts as ignored where something is lacking.
pub fn trial(
    name: &str,
    needs: &[Need],
    runner: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    match needs.iter().find_map(|need| need.lacking()) {
        None => Trial::test(name, runner),
        Some(reason) => Trial::test(format!("{name} (skipped: {reason})"), runner).with_ignored_flag(true),
    }
}

fn can_trace() -> bool {
    let status = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["vmx", "--limit", "20s", "--", "/bin/true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.code() != Some(2))
}

fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| Path::new(&directory).join(program).is_file())
}
