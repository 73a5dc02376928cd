//! The daemon from start to end: settings, log, detection, wiring, stop. It has no behaviour of its own.

#![forbid(unsafe_code)]

mod serve;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use caps::{CapSet, CapsHashSet};
use nix::{sys::prctl, unistd::geteuid};
use tracing::{error, info, warn};

use crate::{
    backdoor::{self, Detection, Refusal},
    config,
    jitter::jittered,
    logging::{self, Log},
    supervisor::StopSignals,
};

/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_millis(100);

/// Pause between two looks at a host that is VMware and does not serve us; it varies by a fifth, for the nodes of one host
/// are refused together.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// Who started the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A person or a container runtime, without root: one process.
    Direct,
    /// The supervisor, as root.
    Supervised,
}

/// Is the daemon until it is told to stop.
///
/// # Errors
///
/// What keeps it from starting, or a task that ended on its own.
pub fn run(origin: Origin) -> anyhow::Result<ExitCode> {
    // Before the first thread: all of them inherit it.
    let stop = StopSignals::block().context("cannot receive signals")?;
    if origin == Origin::Supervised {
        let capable = [CapSet::Effective, CapSet::Permitted].map(|set| caps::read(None, set));
        if geteuid().is_root()
            || !capable
                .iter()
                .all(|set| set.as_ref().is_ok_and(CapsHashSet::is_empty))
        {
            bail!("the daemon's role is the supervisor's to give: start the program without it");
        }
        // Talos's dashboard is uid 50 too and must not read this process's memory. A process that was never root stays
        // dumpable, as its user's debugger expects.
        prctl::set_dumpable(false).context("cannot become undumpable")?;
    }
    let (settings, mistakes) = config::load();
    let log = logging::init(settings.log_format, settings.log_level).context("cannot log")?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        ?origin,
        "talos-vmtoolsd starts"
    );
    for mistake in &mistakes {
        warn!(
            setting = mistake.place,
            problem = mistake.problem,
            "a setting is not used"
        );
    }

    let outcome = on_this_machine(&settings, &stop, &log);
    match &outcome {
        Ok(()) => info!("talos-vmtoolsd stops"),
        Err(err) => error!(
            err = format!("{err:#}"),
            "talos-vmtoolsd gives up, so that it is started again"
        ),
    }
    log.flush(LAST_LINES);
    Ok(if outcome.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn on_this_machine(settings: &config::Settings, stop: &StopSignals, log: &Log) -> anyhow::Result<()> {
    let mut last: Option<Refusal> = None;
    loop {
        match backdoor::detect(settings.skip_detection) {
            Detection::VMware(presence) => {
                info!(product = %presence.product(), "this is a VMware guest");
                return serve::serve(settings, presence, stop, log);
            }
            Detection::NotVMware(absence) => {
                info!(reason = %absence, "this is no VMware guest: staying idle");
                stop.wait(None).context("cannot wait for signals")?;
                return Ok(());
            }
            Detection::Refused(refusal) => {
                if last.as_ref() != Some(&refusal) {
                    warn!(err = %refusal, retry = ?REFUSED_PAUSE, "the VMware host does not serve us: staying idle");
                    last = Some(refusal);
                }
                let pause = jittered(&mut fastrand::Rng::new(), REFUSED_PAUSE, 0.2);
                if stop
                    .wait(Some(pause))
                    .context("cannot wait for signals")?
                    .is_some()
                {
                    return Ok(());
                }
            }
        }
    }
}
