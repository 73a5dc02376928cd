//! The program under test: its static release binary, built through cargo.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;
use thiserror::Error;

/// The package and the name of its binary.
const PACKAGE: &str = "talos-vmtoolsd";

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
    /// cargo succeeded, and yet there is no binary.
    #[error("cargo built {PACKAGE}, but {0} is not there")]
    Missing(PathBuf),
}

/// Builds the daemon where it is missing or older than its sources, and gives the path of the binary.
///
/// The binary is the release one: static, so that it runs in an empty image. On a glibc toolchain that takes an explicit
/// target, because build scripts and procedural macros cannot be static there.
///
/// # Errors
///
/// When cargo cannot build it; cargo's own messages go to stderr.
pub fn build() -> Result<PathBuf, DaemonError> {
    let workspace = workspace();
    let target = host_target()?;
    let mut cargo = Command::new(program("CARGO", "cargo"));
    cargo
        .current_dir(&workspace)
        .args(["build", "--release", "--package", PACKAGE, "--bin", PACKAGE]);
    cargo
        .args(["--target", &target])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    cargo
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", static_flags());
    run(&mut cargo)?;

    let binary = target_directory(&workspace)?
        .join(&target)
        .join("release")
        .join(PACKAGE);
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(DaemonError::Missing(binary))
    }
}

/// The workspace that this laboratory belongs to: cargo tells where it runs from, else where it was built.
fn workspace() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    manifest
        .iter()
        .map(PathBuf::as_path)
        .chain([Path::new(env!("CARGO_MANIFEST_DIR"))])
        .flat_map(Path::ancestors)
        .find(|directory| directory.join("Cargo.lock").is_file() && directory.join("hack/lab").is_dir())
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn program(variable: &str, default: &str) -> OsString {
    env::var_os(variable).unwrap_or_else(|| default.into())
}

/// The user's flags, and the static C runtime, in cargo's own separator.
fn static_flags() -> OsString {
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

fn run(command: &mut Command) -> Result<String, DaemonError> {
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
