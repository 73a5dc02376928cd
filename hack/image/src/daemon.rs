//! The static release binary of the daemon, built through cargo: what the laboratory tests and what the image holds.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;
use thiserror::Error;

use crate::architecture::Architecture;

/// The package and the name of its binary.
const PACKAGE: &str = crate::NAME;

/// Debian's compiler: `libstd-rust-web-dev:arm64` brings it the standard library of 64-bit Arm.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Why there is no binary.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// cargo or rustc could not be started, or failed.
    #[error("{program} {arguments}: {reason}")]
    Tool {
        /// cargo or rustc.
        program: String,
        /// What it was to do.
        arguments: String,
        /// How it ended.
        reason: String,
    },
    /// cargo or rustc said something else than expected.
    #[error("{program} did not tell its {what}")]
    Untold {
        /// cargo or rustc.
        program: &'static str,
        /// What was asked.
        what: &'static str,
    },
    /// No compiler here has the standard library of a target, or no linker is there for it.
    #[error(
        "no compiler here builds for {0}: install a Rust target ({0}-unknown-linux-musl) and {0}-linux-gnu-gcc, \
         or Debian's rustc-web with its libstd-rust-web-dev, see hack/arm64"
    )]
    NoCompiler(&'static str),
    /// cargo succeeded, and yet there is no binary.
    #[error("cargo built {PACKAGE}, but {0} is not there")]
    Missing(PathBuf),
}

/// Builds the daemon for this machine where it is missing or older than its sources, and gives the path of the binary.
///
/// The binary is the release one: static, so that it runs in an empty image. On a glibc toolchain that takes an explicit
/// target, because build scripts and procedural macros cannot be static there.
///
/// # Errors
///
/// When cargo cannot build it; cargo's own messages go to stderr.
pub fn build() -> Result<PathBuf, DaemonError> {
    compile(&Compiler {
        rustc: program("RUSTC", "rustc"),
        target: host_target()?,
        linker: None,
    })
}

/// Builds the daemon for a processor, as [`build`] does: with musl where a compiler has that target, else with glibc.
///
/// # Errors
///
/// When no compiler here can, or cargo fails.
pub fn build_for(architecture: Architecture) -> Result<PathBuf, DaemonError> {
    compile(&Compiler::find(architecture)?)
}

/// How to compile for a target.
struct Compiler {
    rustc: OsString,
    target: String,
    linker: Option<String>,
}

impl Compiler {
    fn find(architecture: Architecture) -> Result<Self, DaemonError> {
        let machine = architecture.machine();
        let host = host_target()?;
        for libc in ["musl", "gnu"] {
            for rustc in [program("RUSTC", "rustc"), DEBIAN_RUSTC.into()] {
                let target = format!("{machine}-unknown-linux-{libc}");
                let linker = (!host.starts_with(machine)).then(|| format!("{machine}-linux-gnu-gcc"));
                if has_library(&rustc, &target) && linker.as_deref().is_none_or(runs) {
                    return Ok(Self {
                        rustc,
                        target,
                        linker,
                    });
                }
            }
        }
        Err(DaemonError::NoCompiler(machine))
    }
}

/// Whether a compiler has the standard library of a target.
fn has_library(rustc: &OsStr, target: &str) -> bool {
    Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| {
            output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
        })
}

/// Whether there is a program of this name.
fn runs(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

fn compile(compiler: &Compiler) -> Result<PathBuf, DaemonError> {
    let workspace = workspace();
    let target = &compiler.target;
    let mut directory = target_directory(&workspace)?;
    if compiler.linker.is_some() {
        // Another compiler in the same directory would have everything built again and again.
        directory.push("cross");
    }
    let mut cargo = Command::new(program("CARGO", "cargo"));
    cargo
        .current_dir(&workspace)
        .args(["build", "--release", "--package", PACKAGE, "--bin", PACKAGE])
        .args(["--target", target])
        .arg("--target-dir")
        .arg(&directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .env("RUSTC", &compiler.rustc)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", static_flags(&workspace));
    if let Some(linker) = &compiler.linker {
        let variable = target.to_uppercase().replace('-', "_");
        cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), linker);
    }
    run(&mut cargo)?;

    let binary = directory.join(target).join("release").join(PACKAGE);
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(DaemonError::Missing(binary))
    }
}

/// The workspace that this program belongs to: cargo tells where it runs from, else where it was built.
#[must_use]
pub fn workspace() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    manifest
        .iter()
        .map(PathBuf::as_path)
        .chain([Path::new(env!("CARGO_MANIFEST_DIR"))])
        .flat_map(Path::ancestors)
        .find(|directory| directory.join("Cargo.lock").is_file() && directory.join("hack/image").is_dir())
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

pub(crate) fn program(variable: &str, default: &str) -> OsString {
    env::var_os(variable).unwrap_or_else(|| default.into())
}

/// The user's flags, the static C runtime, and no path of this machine in the binary, in cargo's own separator.
fn static_flags(workspace: &Path) -> OsString {
    const SEPARATOR: &str = "\u{1f}";
    let mut flags = env::var_os("CARGO_ENCODED_RUSTFLAGS").unwrap_or_else(|| {
        let plain = env::var("RUSTFLAGS").unwrap_or_default();
        plain
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(SEPARATOR)
            .into()
    });
    if !flags.is_empty() {
        flags.push(SEPARATOR);
    }
    flags.push(format!("-C{SEPARATOR}target-feature=+crt-static"));
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    for (path, name) in [(Some(workspace.to_path_buf()), "/src"), (cargo_home, "/cargo")] {
        if let Some(path) = path {
            flags.push(format!("{SEPARATOR}--remap-path-prefix="));
            flags.push(path);
            flags.push(format!("={name}"));
        }
    }
    flags
}

fn host_target() -> Result<String, DaemonError> {
    let text = run(Command::new(program("RUSTC", "rustc")).arg("-vV"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or(DaemonError::Untold {
            program: "rustc",
            what: "host target",
        })
}

fn target_directory(workspace: &Path) -> Result<PathBuf, DaemonError> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let text = run(Command::new(program("CARGO", "cargo"))
        .current_dir(workspace)
        .args(["metadata", "--format-version", "1", "--no-deps"]))?;
    serde_json::from_str::<Metadata>(&text)
        .map(|metadata| metadata.target_directory)
        .map_err(|_| DaemonError::Untold {
            program: "cargo",
            what: "target directory",
        })
}

pub(crate) fn run(command: &mut Command) -> Result<String, DaemonError> {
    let failed = |command: &Command, reason: String| DaemonError::Tool {
        program: command.get_program().to_string_lossy().into_owned(),
        arguments: command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" "),
        reason,
    };
    let output = command
        .stderr(Stdio::inherit())
        .stdin(Stdio::null())
        .output()
        .map_err(|err| failed(command, err.to_string()))?;
    if !output.status.success() {
        return Err(failed(command, output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
