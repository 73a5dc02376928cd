//! `lab vmx`.

/// Arguments of `lab vmx`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs the guest to its end.
pub fn run(_arguments: Arguments) -> anyhow::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
