//! The program: understands its arguments and ends with a status. Everything it does is in the library.

use std::process::ExitCode;

use nix::unistd::geteuid;
use talos_vmtoolsd::{
    app::{self, Origin},
    arguments::{self, Command},
    command, supervisor,
};

/// A command line that was not understood (sysexits.h, `EX_USAGE`).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let command = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(err) => {
            eprintln!("talos-vmtoolsd: {err}");
            return ExitCode::from(USAGE);
        }
    };
    let outcome = match command {
        Command::Run if geteuid().is_root() => supervisor::supervise().map_err(Into::into),
        Command::Run => app::run(Origin::Direct),
        Command::Daemon => app::run(Origin::Supervised),
        Command::Query { json } => command::query(json),
        Command::Rpc { command } => command::rpc(&command),
        Command::Help => {
            print!("{}", arguments::HELP);
            Ok(ExitCode::SUCCESS)
        }
        Command::Version => {
            println!("talos-vmtoolsd {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|err| {
        eprintln!("talos-vmtoolsd: {err:#}");
        ExitCode::FAILURE
    })
}
