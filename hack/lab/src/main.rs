//! `lab`: see `lab --help`.

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "lab",
    about = "A simulated VMware host and a simulated Talos node",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program as the guest of a simulated VMware host
    Vmx(Box<lab::vmx::cli::Arguments>),
    /// Serve the machine API of a simulated Talos node on a unix socket
    Node(lab::node::cli::Arguments),
    /// Watch the daemon between both: registration, an address change, a vMotion, a shutdown
    Demo(lab::demo::Arguments),
    /// Measure the daemon, with other agents beside it
    Bench(lab::bench::Arguments),
    /// Measure what following a busy Talos node costs
    BenchNode(lab::bench::node::Arguments),
    /// Build the static release binary of the daemon and print its path
    Build,
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    match Arguments::parse().command {
        Command::Vmx(arguments) => lab::vmx::cli::run(*arguments),
        Command::Node(arguments) => lab::node::cli::run(arguments),
        Command::Demo(arguments) => lab::demo::run(&arguments),
        Command::Bench(arguments) => lab::bench::run(&arguments),
        Command::BenchNode(arguments) => lab::bench::node::run(arguments),
        Command::Build => {
            println!("{}", lab::daemon::build()?.display());
            Ok(std::process::ExitCode::SUCCESS)
        }
    }
}
