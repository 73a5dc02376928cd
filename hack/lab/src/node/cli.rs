//! `lab node`.

/// Arguments of `lab node`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs the node until it is told to stop.
pub fn run(_arguments: Arguments) -> anyhow::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
