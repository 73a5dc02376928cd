//! The commands for people: `query` and `rpc`.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, io::Write, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use serde::Serialize;
use tracing::warn;

use crate::{
    backdoor::{self, Detection, Port},
    config::{self, Settings},
    guestinfo::{self, Answers, Entry, Kernel, Policy, Value, containers},
    logging,
    rpci::{Connection, Request, RpciError},
    talos::{self, Observation, Snapshot},
};

/// How long `query` looks for what Talos may still tell. A first call may take 5 s on Talos 1.13 (auth/unix).
const PATIENCE: Duration = Duration::from_secs(12);

/// What `query --json` prints.
#[derive(Serialize)]
struct Report<'a> {
    /// Of this program.
    version: &'static str,
    /// Everything known of the node.
    snapshot: &'a Snapshot,
    /// What would be published, and why.
    published: &'a [Entry],
    /// Types that Talos did not answer in time.
    missing: Vec<&'static str>,
    /// Types that Talos refuses or fails to serve.
    troubles: BTreeMap<&'static str, &'a str>,
    /// Why Talos could not be asked.
    outage: Option<&'a str>,
}

/// Shows what is known of the node and what would be published. Ends with failure when something is missing.
///
/// # Errors
///
/// When tokio cannot be started or stdout not be written.
pub fn query(json: bool) -> anyhow::Result<ExitCode> {
    let settings = settings()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot start tokio")?;
    let policy = settings.policy();
    let talos = talos::Settings::new(&settings.talos_socket);
    let (seen, answers) = runtime.block_on(async {
        let seen = talos::observe(talos.clone(), Arc::new(guestinfo::reported_links), PATIENCE).await;
        // Whoever did not answer the watches is not asked further.
        let answers = match seen.outage {
            None => ask(&talos::Client::new(talos), &policy).await,
            Some(_) => Answers::default(),
        };
        (seen, answers)
    });
    let published = guestinfo::render(&seen.snapshot, &policy, Kernel::running().as_ref(), &answers);

    let mut out = std::io::stdout().lock();
    if json {
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            snapshot: &seen.snapshot,
            published: &published,
            missing: seen.missing.iter().map(|kind| kind.type_name()).collect(),
            troubles: seen
                .troubles
                .iter()
                .map(|(kind, why)| (kind.type_name(), why.as_str()))
                .collect(),
            outage: seen.outage.as_deref(),
        };
        serde_json::to_writer_pretty(&mut out, &report).context("cannot write to stdout")?;
        writeln!(out).context("cannot write to stdout")?;
    } else {
        print_text(&mut out, &seen, &published).context("cannot write to stdout")?;
    }
    Ok(if seen.missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The calls that the service makes from time to time.
async fn ask(client: &talos::Client, policy: &Policy) -> Answers {
    let mut answers = Answers::default();
    if policy.disks {
        match client.mounts().await {
            Ok(list) => answers.filesystems = Some(Arc::new(list)),
            Err(error) => warn!(err = %error, "Talos does not tell the free space"),
        }
    }
    if policy.containers {
        match client.containers().await {
            Ok(images) => answers.containers = containers::once(&images),
            Err(error) => warn!(err = %error, "Talos does not tell the containers"),
        }
    }
    answers
}

fn print_text(out: &mut impl Write, seen: &Observation, published: &[Entry]) -> std::io::Result<()> {
    if let Some(outage) = &seen.outage {
        writeln!(out, "Talos cannot be asked: {outage}")?;
    }
    for kind in &seen.missing {
        writeln!(out, "Talos did not answer for {}", kind.type_name())?;
    }
    for (kind, trouble) in &seen.troubles {
        writeln!(out, "Talos does not serve {}: {trouble}", kind.type_name())?;
    }
    for entry in published {
        writeln!(out, "{} (from {})", entry.key.name(), entry.source)?;
        match &entry.value {
            None => writeln!(out, "  not sent")?,
            Some(Value::Text(text)) => writeln!(out, "  {text}")?,
            Some(Value::Readings(readings)) => {
                for reading in readings {
                    writeln!(out, "  {reading}")?;
                }
            }
            Some(Value::Disks(disks)) => {
                for disk in disks {
                    writeln!(out, "  {disk}")?;
                }
            }
            Some(Value::Os(os)) => writeln!(out, "  {}: {}\n  {}", os.short, os.full, os.properties)?,
            Some(Value::Network(record)) => {
                for line in record.to_string().lines() {
                    writeln!(out, "  {line}")?;
                }
            }
        }
        for why in &entry.why {
            writeln!(out, "    {why}")?;
        }
    }
    Ok(())
}

/// Sends one RPCI command and prints the host's answer, as vmware-rpctool does.
///
/// # Errors
///
/// When this is no VMware guest, or there is no channel.
pub fn rpc(command: &str) -> anyhow::Result<ExitCode> {
    let settings = settings()?;
    let presence = match backdoor::detect(settings.skip_detection) {
        Detection::VMware(presence) => presence,
        Detection::NotVMware(absence) => bail!("this is no VMware guest: {absence}"),
        Detection::Refused(refusal) => bail!("the VMware host does not serve us: {refusal}"),
    };
    let mut port = Port::new(presence);
    let mut connection = Connection::new();
    // Without NUL, like vmware-rpctool; once, because nobody knows what the command does.
    let request = Request::raw(command).at_most_once();
    let answer = connection.call(&mut port, &request, std::time::Instant::now());
    connection.close(&mut port);
    match answer {
        Ok(text) => {
            let mut out = std::io::stdout().lock();
            out.write_all(&text)
                .and_then(|()| out.write_all(b"\n"))
                .context("cannot write to stdout")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(RpciError::Refused { text, .. }) => {
            eprintln!("{text}");
            Ok(ExitCode::FAILURE)
        }
        Err(err) => Err(err.into()),
    }
}

fn settings() -> anyhow::Result<Settings> {
    let (settings, mistakes) = config::load();
    logging::init_for_command(settings.log_level).context("cannot log")?;
    for mistake in mistakes {
        warn!(
            setting = mistake.place,
            problem = mistake.problem,
            "a setting is not used"
        );
    }
    Ok(settings)
}
