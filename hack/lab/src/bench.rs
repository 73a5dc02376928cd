//! `lab bench`: figures of the daemon, with open-vm-tools and govmomi's toolbox beside it in the same run.
//!
//! ```text
//!  lab bench --starts--> lab vmx --control SOCKET -- PROGRAM   for each agent, and lab node for ours
//!     |                        ^
//!     +---- vmotion hard, flood, ask, measure ----> answers with times on the wire
//! ```
//!
//! These are commands, not tests: what they print depends on the machine. A figure that the daemon promises is compared
//! with its bound, and a bound that is broken fails the command.

mod agent;
mod hostile;
mod idle;
mod latency;
pub mod node;
mod recovery;
mod table;

use std::{process::ExitCode, time::Duration};

use crate::vmx::scenario::lexer;

/// Arguments of `lab bench`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(clap::Subcommand)]
enum Figure {
    /// Time from the loss of the channel until the host knows everything again
    Recovery {
        /// Losses of each kind; the median counts
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
    },
    /// A host that asks nonsense at full speed: memory, log, and a good request in between
    Hostile {
        /// Hostile requests
        #[arg(long, default_value_t = 1_000_000)]
        requests: u64,
        /// End the flood after this time, however much is left of it
        #[arg(long, value_name = "TIME", default_value = "20m", value_parser = time)]
        limit: Duration,
    },
    /// Time from a change in the node to the wire, beside crowds of pods
    Latency {
        /// Changes of each kind
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=200))]
        rounds: u8,
    },
    /// What the agents cost while nothing happens
    Idle {
        /// How long to measure, after half a minute of settling
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
    },
}

fn time(text: &str) -> Result<Duration, String> {
    lexer::duration(text).ok_or_else(|| "not a time such as 100ms or 5s".to_owned())
}

/// Measures and prints. The status is 1 if a bound is broken.
///
/// # Errors
/// When an agent does not run; one that is not installed is left out with a line.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let kept = match arguments.figure {
        Figure::Recovery { rounds } => recovery::run(rounds)?,
        Figure::Hostile { requests, limit } => hostile::run(requests, limit)?,
        Figure::Latency { rounds } => latency::run(rounds)?,
        Figure::Idle { minutes } => idle::run(minutes)?,
    };
    Ok(if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
