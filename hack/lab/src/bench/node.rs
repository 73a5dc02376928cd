//! What following a busy node costs: `lab bench-node`.
//!
//! ```text
//!  lab node (a child process) <── query --json, the binary: time to the first complete snapshot, peak memory
//!                             <── the daemon's follower in this process: CPU under churn, latency of a change
//! ```
//!
//! The follower runs here because `run` follows Talos only where it found a VMware host. Latency counts from the moment
//! a change was asked of the node, so it has the node's own work in it, which grows with its addresses; the processor
//! time is this process's alone, so it has the follower's work and the asking.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use talos_vmtoolsd::{
    guestinfo,
    talos::{self, Settings},
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// Links and addresses of the pods.
const CROWDS: [(u32, u32); 4] = [(60, 100), (600, 1000), (3000, 5000), (6000, 10_000)];
/// The crowd that the bounds are for.
const BOUNDED: (u32, u32) = (3000, 5000);
/// Its bounds: start to the first complete snapshot, peak memory, share of a core at [`CHURN`], and a change to its
/// snapshot (median).
const BOUND_SNAPSHOT_MS: f64 = 300.0;
const BOUND_PEAK_KB: u64 = 8192;
const BOUND_LOAD: f64 = 0.002;
const BOUND_CHANGE_MS: f64 = 2.0;
/// Runs of `query`.
const QUERIES: usize = 7;
/// Address changes a second on links that are not reported, and for how long.
const CHURN: u32 = 100;
const CHURN_TIME: Duration = Duration::from_secs(5);
/// Changes whose latency is taken.
const CHANGES: u8 = 50;
/// Changes of pod links and of routes over them: they arrive, because only the resource tells what it is, and are
/// dropped.
const IRRELEVANT: u8 = 200;
/// No step takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// `lab bench-node`
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The daemon; the static release binary is built when absent
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Runs the benchmark, prints one line per crowd, and fails when a bound is broken.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let program = match arguments.program {
        Some(program) => program,
        None => crate::daemon::build()?,
    };
    println!(
        "{:>6} {:>9} {:>12} {:>12} {:>14} {:>16} {:>14} {:>18}",
        "links",
        "addresses",
        "snapshot ms",
        "peak RSS kB",
        "CPU at 100/s %",
        "change ms median",
        "change CPU us",
        "irrelevant CPU us",
    );
    let mut kept = true;
    for (links, addresses) in CROWDS {
        let node = Node::start()?;
        node.tell(&format!("crowd {links} links {addresses} addresses"))?;
        let (mut times, mut peak) = (Vec::new(), 0);
        for _ in 0..QUERIES {
            let (time, memory) = query(&program, &node.socket)?;
            times.push(time);
            peak = peak.max(memory);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let cost = runtime.block_on(follow(&node))?;
        let (snapshot, latency) = (milliseconds(median(times)), milliseconds(cost.latency));
        if (links, addresses) == BOUNDED {
            kept = snapshot <= BOUND_SNAPSHOT_MS
                && peak <= BOUND_PEAK_KB
                && cost.load <= BOUND_LOAD
                && latency <= BOUND_CHANGE_MS;
        }
        println!(
            "{links:>6} {addresses:>9} {snapshot:>12.1} {peak:>12} {:>14.3} {latency:>16.2} {:>14.0} {:>18.0}",
            cost.load * 100.0,
            milliseconds(cost.change) * 1e3,
            milliseconds(cost.irrelevant) * 1e3,
        );
    }
    let (links, addresses) = BOUNDED;
    println!(
        "bounds at {links} links and {addresses} addresses ({BOUND_SNAPSHOT_MS} ms, {BOUND_PEAK_KB} kB, {} %, \
         {BOUND_CHANGE_MS} ms): {}",
        BOUND_LOAD * 100.0,
        if kept { "kept" } else { "BROKEN" }
    );
    Ok(if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A node in a process of its own.
struct Node {
    child: Child,
    socket: PathBuf,
    control: PathBuf,
    _directory: tempfile::TempDir,
}

impl Node {
    fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let (socket, control) = (
            directory.path().join("machine.sock"),
            directory.path().join("control.sock"),
        );
        let state = directory.path().join("state.yaml");
        fs::write(&state, include_str!("../../nodes/control-plane.yaml"))?;
        let child = Command::new(std::env::current_exe()?)
            .arg("node")
            .arg("--socket")
            .arg(&socket)
            .arg("--control")
            .arg(&control)
            .arg("--state")
            .arg(&state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let node = Self {
            child,
            socket,
            control,
            _directory: directory,
        };
        let begun = Instant::now();
        while UnixStream::connect(&node.control).is_err() {
            if begun.elapsed() > PATIENCE {
                bail!("the node did not start within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(node)
    }

    fn connect(&self) -> anyhow::Result<UnixStream> {
        let stream = UnixStream::connect(&self.control)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// One command, and its answer awaited.
    fn tell(&self, line: &str) -> anyhow::Result<()> {
        let mut stream = self.connect()?;
        writeln!(stream, "{line}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        let said: serde_json::Value = serde_json::from_str(&answer).context("the node's answer")?;
        if said.get("ok") != Some(&true.into()) {
            bail!("{line}: {answer}");
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// One `query --json`: its time, and its peak memory in kB as sampled until it ended.
fn query(program: &Path, socket: &Path) -> anyhow::Result<(Duration, u64)> {
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(["query", "--json"])
        .env("VMTOOLSD_TALOS_SOCKET", socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| program.display().to_string())?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let sampled = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let sampled = sampled.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(sampled.unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("query ended with {status}");
            }
            return Ok((begun.elapsed(), peak));
        }
        if begun.elapsed() > PATIENCE {
            _ = child.kill();
            _ = child.wait();
            bail!("query took longer than {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn processor_time() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time = |value: TimeVal| {
        let seconds = u64::try_from(value.tv_sec()).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(value.tv_usec()).unwrap_or(0))
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// What following costs.
struct Cost {
    /// Share of a core while addresses of pods come and go.
    load: f64,
    /// From asking for a change to the snapshot that has it, median.
    latency: Duration,
    /// Processor time of a change that makes a snapshot.
    change: Duration,
    /// Processor time of a change that makes none.
    irrelevant: Duration,
}

/// Follows the node.
async fn follow(node: &Node) -> anyhow::Result<Cost> {
    let mut tasks = JoinSet::new();
    let shutdown = CancellationToken::new();
    let (mut snapshots, _client) = talos::spawn(
        Settings::new(&node.socket),
        Arc::new(guestinfo::reported_links),
        &mut tasks,
        shutdown.clone(),
    );
    let known = snapshots.wait_for(|now| now.addresses.value().is_some_and(|all| !all.is_empty()));
    drop(tokio::time::timeout(PATIENCE, known).await??);
    // What is still on its way is no churn.
    tokio::time::sleep(Duration::from_secs(1)).await;

    node.tell(&format!("churn {CHURN}/s for {}s", CHURN_TIME.as_secs()))?;
    let (before, begun) = (processor_time()?, Instant::now());
    tokio::time::sleep(CHURN_TIME).await;
    let load = (processor_time()? - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    node.tell("churn off")?;

    let mut control = node.connect()?;
    let mut answers = BufReader::new(control.try_clone()?);
    let mut times = Vec::new();
    let before = processor_time()?;
    for number in 0..CHANGES {
        let id = format!("eth0/10.9.0.{number}/24");
        let asked = Instant::now();
        writeln!(control, "address add eth0 10.9.0.{number}/24")?;
        let told = snapshots.wait_for(|now| now.addresses.value().is_some_and(|all| all.contains_key(&id)));
        drop(tokio::time::timeout(PATIENCE, told).await??);
        times.push(asked.elapsed());
        answers.read_line(&mut String::new())?;
    }
    let change = (processor_time()? - before) / u32::from(CHANGES);

    // The node's own choice of addresses follows each of them.
    tokio::time::sleep(Duration::from_secs(1)).await;
    snapshots.mark_unchanged();
    let before = processor_time()?;
    for number in 0..IRRELEVANT / 2 {
        for line in [
            format!("link {} lxc00001", if number % 2 == 0 { "down" } else { "up" }),
            format!("route add 10.244.{number}.0/24 dev lxc00001"),
        ] {
            writeln!(control, "{line}")?;
            answers.read_line(&mut String::new())?;
            tokio::task::yield_now().await;
        }
    }
    // Both watches are read in order, so when these are known, all of that was read, and nothing was published before.
    for (line, name) in [
        ("route add 10.9.9.0/24 dev eth0", "10.9.9.0/24"),
        // Last, because it selects another link, and routes are asked for again.
        ("link add eth8 vmxnet3", "eth8"),
    ] {
        writeln!(control, "{line}")?;
        answers.read_line(&mut String::new())?;
        tokio::time::timeout(PATIENCE, snapshots.changed()).await??;
        let now = snapshots.borrow_and_update().clone();
        let link = now.links.value().is_some_and(|all| all.contains_key(name));
        let routes = now.routes.value();
        let route = routes.is_some_and(|all| all.values().any(|it| it.destination.to_string() == name));
        if !link && !route {
            bail!("a snapshot was published before {name} was known");
        }
    }
    let irrelevant = (processor_time()? - before) / u32::from(IRRELEVANT);
    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(Cost {
        load,
        latency: median(times),
        change,
        irrelevant,
    })
}
