//! `lab vmx`: runs a program as the guest of the simulated host.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use nix::sys::signal::Signal;

use super::{
    clock::SystemClock,
    control::Control,
    host::{Config, SharedHost, Version},
    machine::{self, Guest, Machine},
    measurement::Measurement,
    rpci::Profile,
    scenario::{Scenario, lexer, session::Session},
    summary::{Baseline, Summary},
    tclo::Timing,
    transcript::{Event, Kind, Transcript},
    violation::Violation,
};

/// Status when this machine does not allow the simulation: skipped, not failed.
const SKIPPED: u8 = 2;
/// How long a killed guest may take to disappear.
const KILLED: Duration = Duration::from_secs(5);

/// Arguments of `lab vmx`.
///
/// The status is 0 when the scenario passed, 1 when it failed, the guest broke the protocol or the time was up, 2 when
/// this machine does not allow ptrace; without a scenario it is the program's own.
#[derive(clap::Args)]
#[command(after_long_help = concat!("Scenarios:\n\n", include_str!("scenario/language.txt")))]
pub struct Arguments {
    /// Play this scenario; the guest is ended after it
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Listen for commands on this unix socket
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Control socket of the simulated node, for `node` lines
    #[arg(long, value_name = "SOCKET")]
    node_control: Option<PathBuf>,
    /// Write the transcript to this file, one event per line
    #[arg(long, value_name = "FILE")]
    transcript: Option<PathBuf>,
    /// Print the summary as JSON on standard output instead of text on standard error
    #[arg(long)]
    json: bool,
    /// How old the host is
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Do not offer the high-bandwidth port
    #[arg(long)]
    no_hb: bool,
    /// Refuse to open channels with cookies, as ancient hosts do
    #[arg(long)]
    no_cookies: bool,
    /// Do not know tools.set.versiontype
    #[arg(long)]
    no_versiontype: bool,
    /// End the host's requests with a NUL
    #[arg(long)]
    nul: bool,
    /// Pause between pings, or off
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = pause)]
    ping: Pause,
    /// Pause between requests for the primary address, or off
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = pause)]
    broadcast: Pause,
    /// Set a guest variable before the start
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    variable: Vec<(String, String)>,
    /// Do not fail because of this kind of violation
    #[arg(long, value_name = "KIND", value_parser = violation)]
    allow: Vec<String>,
    /// Run a program that is not ours: without the capabilities to harm this machine. Allows the violation
    /// high-halves, since real hosts do and open-vm-tools needs it
    #[arg(long)]
    third_party: bool,
    /// Run the program as the first process of its own PID namespace, as in a container; takes root
    #[arg(long)]
    pid_namespace: bool,
    /// Run the program on a machine that is not VMware
    #[arg(long)]
    not_vmware: bool,
    /// End the run after this time, and fail
    #[arg(long, value_name = "TIME", value_parser = time)]
    limit: Option<Duration>,
    /// How long the guest may take to end after the scenario
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    grace: Duration,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// A pause or none.
#[derive(Clone, Copy)]
struct Pause(Option<Duration>);

fn time(text: &str) -> Result<Duration, String> {
    lexer::duration(text).ok_or_else(|| "not a time such as 100ms or 5s".to_owned())
}

fn pause(text: &str) -> Result<Pause, String> {
    match text {
        "off" => Ok(Pause(None)),
        text => time(text).map(|time| Pause(Some(time).filter(|time| !time.is_zero()))),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn violation(text: &str) -> Result<String, String> {
    if text == "any" || Violation::KINDS.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("not one of any, {}", Violation::KINDS.join(", ")))
}

/// Runs the guest to its end.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let scenario = arguments.scenario.as_deref().map(Scenario::read).transpose()?;
    let host = power_on(&arguments)?;
    if let Some(scenario) = &scenario {
        scenario.prepare(&host).map_err(anyhow::Error::msg)?;
    }
    let guest = Guest {
        command: arguments.command.clone(),
        third_party: arguments.third_party,
        pid_namespace: arguments.pid_namespace,
        not_vmware: arguments.not_vmware,
        ..Guest::default()
    };
    let machine = match machine::start(&host, &guest) {
        Ok(machine) => machine,
        Err(machine::StartError::Unavailable(reason)) => {
            eprintln!("lab vmx: skipped: {reason}");
            return Ok(ExitCode::from(SKIPPED));
        }
        Err(error) => return Err(error.into()),
    };
    let session = {
        let (host, machine, node) = (host.clone(), Arc::clone(&machine), arguments.node_control.clone());
        move || Session::new(host.clone(), Arc::clone(&machine), node.clone())
    };
    let control = arguments
        .control
        .as_deref()
        .map(|path| {
            Control::listen(path, session.clone())
                .with_context(|| format!("cannot listen on {}", path.display()))
        })
        .transpose();
    let control = control.inspect_err(|_| machine.stop())?;
    let over = Arc::new(AtomicBool::new(false));
    if let Some(limit) = arguments.limit {
        watch(&host, &machine, &over, limit).inspect_err(|_| machine.stop())?;
    }

    let mut failures = Vec::new();
    let mut alive = Measurement::default();
    if let Some(scenario) = &scenario {
        failures.extend(scenario.play(&host, &mut session()).err());
        alive = machine.measure();
        end(&host, machine.as_ref(), arguments.grace);
    } else {
        // The guest's own end, or the limit's thread, which makes it end.
        while host
            .wait(host.now() + Duration::from_secs(3600), |host, _| host.exit)
            .is_none()
        {}
    }
    drop(control);

    // Memory is what the guest had while it lived.
    let measurement = Measurement {
        resident: alive.resident,
        ..machine.measure()
    };
    let (summary, violations, exit, written) = host.with(|host, now| {
        let summary = Summary::new(host, now, measurement, &Baseline::default());
        let detail = serde_json::to_value(&summary).ok();
        host.record(
            now,
            Event {
                detail,
                ..Event::new(Kind::Summary)
            },
        );
        (summary, host.violations(), host.exit, host.finish())
    });
    if over.load(Ordering::SeqCst) {
        failures.push("the time was up".to_owned());
    }
    if violations > 0 {
        failures.push(format!(
            "the guest broke the protocol {violations} times: {}",
            first_violations(&host)
        ));
    }
    failures.extend(written.map(|error| format!("the transcript is incomplete: {error}")));
    report(&summary, &failures, arguments.json)?;
    Ok(match (failures.is_empty(), &scenario, exit) {
        (false, ..) => ExitCode::FAILURE,
        (true, None, Some(exit)) => ExitCode::from(u8::try_from(exit.code() & 0xff).unwrap_or(u8::MAX)),
        (true, ..) => ExitCode::SUCCESS,
    })
}

fn power_on(arguments: &Arguments) -> anyhow::Result<SharedHost> {
    let file = match &arguments.transcript {
        None => None,
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Some(Box::new(file) as Box<dyn Write + Send>)
        }
    };
    let config = Config {
        high_bandwidth: !arguments.no_hb,
        cookies: !arguments.no_cookies,
        profile: arguments.profile,
        version_type: !arguments.no_versiontype,
        version: Version::VmWare,
        slow: 0,
        trailing_nul: arguments.nul,
        timing: Timing {
            ping: arguments.ping.0,
            broadcast: arguments.broadcast.0,
            ..Timing::default()
        },
        tsc_hz: tsc_hz().unwrap_or(Config::default().tsc_hz),
        clock: Config::default().clock,
        time_command: Config::default().time_command,
        tclo_owner: Config::default().tclo_owner,
    };
    let host = SharedHost::new(config, Transcript::new(file), Arc::new(SystemClock::start()));
    host.with(|host, now| {
        host.allowed.extend(arguments.allow.iter().cloned());
        host.allowed
            .extend(arguments.third_party.then(|| "high-halves".to_owned()));
        for (key, value) in &arguments.variable {
            host.rpci.variables.set(key, Some(value.clone().into_bytes()));
        }
        let argv: Vec<String> = arguments
            .command
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let detail = serde_json::json!({
            "argv": argv,
            "hb": host.config.high_bandwidth,
            "cookies": host.config.cookies,
        });
        host.record(
            now,
            Event {
                detail: Some(detail),
                ..Event::new(Kind::Start)
            },
        );
    });
    Ok(host)
}

/// The processor's frequency as the kernel measured it, in Hz.
fn tsc_hz() -> Option<u64> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("cpu MHz"))?;
    let (whole, fraction) = line.split_once(':')?.1.trim().split_once('.')?;
    let kilohertz = fraction.get(..3)?.parse::<u64>().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(kilohertz * 1000)
}

/// Ends the guest when the time is up.
fn watch(
    host: &SharedHost,
    machine: &Arc<dyn Machine>,
    over: &Arc<AtomicBool>,
    limit: Duration,
) -> std::io::Result<()> {
    let (host, machine, over) = (host.clone(), Arc::clone(machine), Arc::clone(over));
    thread::Builder::new().name("limit".to_owned()).spawn(move || {
        if host.wait(limit, |host, _| host.exit).is_none() {
            over.store(true, Ordering::SeqCst);
            machine.stop();
        }
    })?;
    Ok(())
}

/// Ends a guest that outlived its scenario: SIGTERM first, and what does not listen is killed.
fn end(host: &SharedHost, machine: &dyn Machine, grace: Duration) {
    let ended = |time: Duration| host.wait(host.now() + time, |host, _| host.exit);
    if ended(Duration::ZERO).is_some() {
        return;
    }
    // A guest that ended in between cannot be signalled; that is what is wanted.
    drop(machine.signal(Signal::SIGTERM as i32));
    if ended(grace).is_none() {
        machine.stop();
        ended(KILLED);
    }
}

/// The first three violations in words.
fn first_violations(host: &SharedHost) -> String {
    host.with(|host, _| {
        let violations = host
            .transcript()
            .since(0)
            .filter(|event| event.kind == Kind::Violation);
        let counted = violations.filter(|event| event.origin.is_none_or(|kind| !host.allowed.contains(kind)));
        counted
            .take(3)
            .map(Event::readable)
            .collect::<Vec<_>>()
            .join("; ")
    })
}

fn report(summary: &Summary, failures: &[String], json: bool) -> anyhow::Result<()> {
    if json {
        let mut value = serde_json::to_value(summary)?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("failures".to_owned(), failures.into());
        }
        println!("{value}");
    } else {
        eprintln!("{summary}");
    }
    for failure in failures {
        eprintln!("lab vmx: {failure}");
    }
    Ok(())
}
