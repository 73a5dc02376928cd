//! `lab node`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::{Config, Node, Source, command::HELP, control, record, release::Release, script::Script};

/// Arguments of `lab node`.
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub struct Arguments {
    /// Where the machine API is served
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/system/run/machined/machine.sock"
    )]
    socket: PathBuf,
    /// Where commands are taken, one a line
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// State file, see hack/lab/nodes; a control plane with one adapter when absent
    #[arg(long, value_name = "FILE", conflicts_with = "mirror")]
    state: Option<PathBuf>,
    /// Serve this machine's own network and name, live
    #[arg(long)]
    mirror: bool,
    /// Talos release to play: 1.10, 1.11, 1.12, 1.13 or 1.14
    #[arg(long, value_name = "RELEASE")]
    talos: Option<Release>,
    /// Serve nothing: write the state of the node at --socket, real or simulated, into a file that --state reads
    #[arg(long, value_name = "FILE", conflicts_with_all = ["state", "mirror", "talos", "commands", "control"])]
    record: Option<PathBuf>,
    /// Commands that are carried out before the socket is announced
    #[arg(long = "command", value_name = "COMMAND")]
    commands: Vec<String>,
    /// Start nothing: send this command to the node at --control and print its answer
    #[arg(long, value_name = "COMMAND", requires = "control", conflicts_with_all = ["state", "mirror", "talos"])]
    tell: Vec<String>,
}

/// Runs the node until it is told to stop.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async {
            match (&arguments.record, &arguments.control) {
                (Some(file), _) => save(&arguments.socket, file).await,
                (None, Some(control)) if !arguments.tell.is_empty() => tell(control, &arguments.tell).await,
                _ => serve(arguments).await,
            }
        })
}

async fn save(socket: &Path, file: &Path) -> anyhow::Result<ExitCode> {
    let record = record::record(socket)
        .await
        .with_context(|| format!("failed to record the node at {}", socket.display()))?;
    fs::write(file, &record.text).with_context(|| format!("failed to write {}", file.display()))?;
    println!("{} resources of Talos {}", record.resources, record.tag);
    for (name, reason) in &record.refused {
        println!("without {name}: {reason}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the answer to each command; the first that fails is the last, and fails the program.
async fn tell(control: &Path, commands: &[String]) -> anyhow::Result<ExitCode> {
    for command in commands {
        let answer = control::tell(control, command)
            .await
            .with_context(|| format!("no answer from {}", control.display()))?;
        println!("{answer}");
        if answer.get("ok") != Some(&true.into()) {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // Before anything is served: who stops us early must not find a socket left behind.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let source = match (&arguments.state, arguments.mirror) {
        (_, true) => Source::Mirror,
        (Some(path), false) => {
            let text =
                fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
            let script = Script::read(&text).with_context(|| format!("failed to read {}", path.display()))?;
            Source::Script(Box::new(script))
        }
        (None, false) => Source::Script(Box::new(Script::control_plane()?)),
    };
    let config = Config {
        socket: arguments.socket.clone(),
        control: arguments.control.clone(),
        release: arguments.talos,
        source,
    };
    // Its text is complete; printing its sources as well would say everything twice.
    let node = Node::start(config)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    for command in &arguments.commands {
        node.apply(command)
            .await
            .with_context(|| format!("failed to carry out {command:?}"))?;
    }
    for notice in node.notices() {
        println!("{notice}");
    }
    println!(
        "Talos {} on {}",
        node.store().release(),
        arguments.socket.display()
    );
    if let Some(control) = &arguments.control {
        println!("commands on {}", control.display());
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    node.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
