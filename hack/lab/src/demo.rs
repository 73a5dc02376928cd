//! `lab demo`: the release binary between a simulated host and a simulated node, as an administrator would see it.
//!
//! ```text
//!  node (this machine, mirrored) <──gRPC── daemon ──backdoor──> host ──> view, printed
//!        ^                                                        ^
//!        └──────── an address is added        reset, vMotion, Shut Down Guest
//! ```
//!
//! Everything that is printed was observed on the wire of this run. What does not happen in time fails the demo.

mod govc;
mod screen;
mod stage;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::ExitCode};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use self::{
    screen::Screen,
    stage::{Failure, Stage},
};
use crate::{daemon, node::release::Release, vmx::machine::StartError};

/// Status when this machine does not allow the simulation: skipped, not failed.
const SKIPPED: u8 = 2;

/// Arguments of `lab demo`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print one JSON object instead of a screen
    #[arg(long)]
    json: bool,
    /// Talos release that the node plays: 1.10, 1.11, 1.12, 1.13 or 1.14
    #[arg(long, value_name = "RELEASE")]
    talos: Option<Release>,
}

/// One thing that happened.
#[derive(Debug, Serialize)]
struct Act {
    /// What it was.
    name: &'static str,
    /// What was observed.
    seen: String,
    /// Milliseconds from the cause to its effect on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<f64>,
}

impl Act {
    fn new(name: &'static str, seen: impl Into<String>) -> Self {
        Self {
            name,
            seen: seen.into(),
            milliseconds: None,
        }
    }

    fn took(name: &'static str, seen: impl Into<String>, milliseconds: f64) -> Self {
        Self {
            name,
            seen: seen.into(),
            milliseconds: Some(milliseconds),
        }
    }
}

/// Plays the demo.
///
/// # Errors
///
/// When the stage could not be set; what did not happen on it is printed, and the status is 1.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let binary = daemon::build()?;
    // The daemon is not root, and must find the socket and itself.
    let directory = tempfile::Builder::new()
        .prefix("talos-vmtoolsd-demo-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .context("no place for the sockets")?;
    let program = directory.path().join("talos-vmtoolsd");
    fs::copy(&binary, &program).with_context(|| format!("cannot copy {}", binary.display()))?;

    let mut screen = Screen::new(arguments.json);
    let stage = match Stage::set(directory.path(), &program, arguments.talos) {
        Ok(stage) => stage,
        Err(Failure::Start(StartError::Unavailable(reason))) => {
            eprintln!("lab demo: skipped: {reason}");
            return Ok(ExitCode::from(SKIPPED));
        }
        Err(failure) => return Err(failure.into()),
    };
    for notice in stage.notices() {
        screen.say(&notice);
    }
    let outcome = play(&stage, &mut screen, &binary);
    let log = stage.strike();
    screen.end(outcome.as_ref().err().map(|failure| (failure.to_string(), log)));
    Ok(if outcome.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn play(stage: &Stage, screen: &mut Screen, binary: &Path) -> Result<(), Failure> {
    screen.act(stage.finds_the_host()?);
    screen.act(stage.registers()?);
    screen.act(stage.reports()?);
    screen.view("vCenter now shows", &stage.view());
    screen.act(stage.address_changes()?);
    screen.act(stage.moves()?);
    screen.act(stage.is_asked_to_shut_down()?);
    screen.act(stage.node_shuts_down()?);
    screen.view("vCenter at the end", &stage.view());
    screen.figures(stage.figures());
    screen.act(stage.stops()?);
    screen.info(stage.vm_info(binary));
    Ok(())
}

/// The view as JSON, which both ways of printing read.
type View = Value;
