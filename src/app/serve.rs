//! On a VMware guest: the tasks, what joins them, and their end.

#![forbid(unsafe_code)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::sys::signal::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use crate::{
    backdoor::{Port, Presence},
    clock::{self, Clock},
    config::Settings,
    guestinfo::{
        self, Calls, Control, GuestInfo, Kernel, Key, Policy, Publisher, StateKey, Variable, containers, disk,
    },
    hostlog::{self, HostLog},
    lifecycle::{self, History, Lifecycle, Resumed},
    logging::Log,
    options::{self, HostOptions},
    power,
    rpci::Client,
    supervisor::StopSignals,
    support::{Reporter, Sources, Support},
    talos::{self, Snapshot},
    tclo::{
        Feature,
        thread::{self, Running},
    },
    vix::{ToolsState, Vix},
    watchdog,
};

/// How long the tasks may take to end once they were told to. With the farewell to the host (200 ms) and the last log
/// lines (100 ms) it stays below the second after which an administrator looks again.
const GRACE: Duration = Duration::from_millis(300);

/// Serves until a stop is asked for.
pub(super) fn serve(
    settings: &Settings,
    presence: Presence,
    stop: &StopSignals,
    log: &Log,
) -> anyhow::Result<()> {
    // One thread: there is nothing to compute, and each further worker costs memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot start tokio")?;
    let outcome = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let shutdown = CancellationToken::new();
        let Started { backdoor, rpci, host } = start(settings, presence, log, &mut tasks, &shutdown)?;
        let _watchdog = watchdog::start(backdoor.counters(), rpci.clone(), log, &mut tasks, &shutdown)?;

        let cause = tokio::select! {
            signal = stop_asked(stop) => signal.map(|signal| {
                let operation = host.operation();
                info!(operation = operation.number(), signal = signal.as_str(), "told to stop");
                // The task that writes such lines ends now; this one is sent with the farewell.
                host.farewell(operation, format!("stopping: {}", signal.as_str()))
                    .and_then(|line| rpci.submit(line))
            }),
            Some(ended) = tasks.join_next() => match ended {
                Ok(()) => Err(anyhow::anyhow!("a task ended on its own")),
                Err(err) => Err(anyhow::Error::new(err).context("a task failed")),
            },
        };
        end(backdoor, tasks, &shutdown).await;
        cause.map(drop)
    });
    // Nothing is left that could be waited for.
    runtime.shutdown_background();
    outcome
}

/// What runs, beside the tasks.
struct Started {
    backdoor: Running,
    rpci: Arc<Client>,
    host: HostLog,
}

/// Starts everything. Arrows: snapshot → publisher → host; host → features → workers → Talos.
fn start(
    settings: &Settings,
    presence: Presence,
    log: &Log,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Started> {
    let started = Instant::now();
    let policy = settings.policy();
    let kernel = Kernel::running();
    let (rpci, backdoor) = thread::prepare().context("cannot make an eventfd")?;
    let rpci = Arc::new(rpci);

    let (host, writer) = hostlog::pair(Arc::clone(&rpci));
    tasks.spawn(writer.run(shutdown.clone()).instrument(info_span!("hostlog")));

    let (snapshots, client) = talos::spawn(
        talos::Settings::new(&settings.talos_socket),
        Arc::new(guestinfo::reported_links),
        tasks,
        shutdown.clone(),
    );

    let control = Control::default();
    let client = Arc::new(client);
    let mut publisher = Publisher::new(
        Arc::clone(&rpci),
        snapshots.clone(),
        &control,
        policy.clone(),
        kernel.clone(),
    );
    let mut calls = Calls::default();
    if settings.disks {
        let (sender, filesystems) = watch::channel(None);
        calls.filesystems = Some(filesystems.clone());
        publisher = publisher.with_disks(filesystems);
        let follow = disk::follow(Arc::clone(&client), control.clone(), snapshots.clone(), sender);
        let shutdown = shutdown.clone();
        tasks.spawn(
            async move {
                shutdown.run_until_cancelled(follow).await;
            }
            .instrument(info_span!("disks")),
        );
    }
    if settings.containers {
        let (sender, list) = watch::channel(None);
        calls.containers = Some(list.clone());
        publisher = publisher.with_containers(list);
        let follow = containers::follow(Arc::clone(&client), control.clone(), sender);
        let shutdown = shutdown.clone();
        tasks.spawn(
            async move {
                shutdown.run_until_cancelled(follow).await;
            }
            .instrument(info_span!("containers")),
        );
    }
    tasks.spawn(
        publisher
            .run(shutdown.clone())
            .instrument(info_span!("guestinfo")),
    );

    let resumed = Resumed::default();
    let signal = resumed.clone();
    let (power, worker) = power::pair(
        Arc::clone(&rpci),
        client,
        snapshots.clone(),
        settings.power,
        host.clone(),
        Variable::new(
            Arc::clone(&rpci),
            Key::Talos(StateKey::LastError),
            settings.talos_state,
            &control,
        ),
        move || signal.tell(),
    );
    tasks.spawn(worker.run(shutdown.clone()).instrument(info_span!("power")));

    let (state, tools_state) = watch::channel(ToolsState::default());
    let describe = describe(
        snapshots.clone(),
        policy.clone(),
        kernel.clone(),
        state,
        shutdown.clone(),
    );
    tasks.spawn(describe.instrument(info_span!("vix")));

    let trigger = clock::Trigger::default();
    let (clock, offset) = Clock::new(
        Variable::new(
            Arc::clone(&rpci),
            Key::Talos(StateKey::ClockOffset),
            settings.talos_state,
            &control,
        ),
        backdoor.access(),
        host.clone(),
        trigger.clone(),
    );
    tasks.spawn(clock.run(shutdown.clone()).instrument(info_span!("clock")));

    let options = options::Shared::default();
    let (support, wishes) = Support::new();
    let features: Vec<Box<dyn Feature>> = vec![
        Box::new(HostOptions::new(options.clone(), host.clone())),
        Box::new(support),
        Box::new(GuestInfo::new(control.clone())),
        Box::new(power),
        Box::new(Vix::new(tools_state)),
    ];
    let (running, events) = backdoor
        .start(move || Port::new(presence), settings.poll_max, features)
        .context("cannot start the backdoor thread")?;

    let history = History::default();
    let lifecycle = Lifecycle::new(
        events,
        resumed,
        lifecycle::time_asleep,
        move || control.forget(),
        trigger,
        host.clone(),
        history.clone(),
    );
    tasks.spawn(
        lifecycle
            .run(shutdown.clone())
            .instrument(info_span!("lifecycle")),
    );
    let sources = Sources {
        started,
        settings: settings.clone(),
        options,
        counters: running.counters(),
        history,
        clock: offset,
        snapshots,
        policy,
        kernel,
        calls,
    };
    let reporter = Reporter::new(wishes, sources, log.level().clone(), host.clone());
    tasks.spawn(reporter.run(shutdown.clone()).instrument(info_span!("support")));
    Ok(Started {
        backdoor: running,
        rpci,
        host,
    })
}

/// Keeps what VIX tells about the tools in step with the snapshot.
async fn describe(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    policy: Policy,
    kernel: Option<Kernel>,
    state: watch::Sender<ToolsState>,
    shutdown: CancellationToken,
) {
    let follow = async {
        // The sender lives as long as the task that follows Talos.
        while snapshots.changed().await.is_ok() {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let (name, os) = guestinfo::identity(&snapshot, &policy, kernel.as_ref());
            state.send_if_modified(|state| {
                let fresh = ToolsState {
                    host_name: name,
                    os_short_name: os.as_ref().map(|os| os.short.clone()),
                    os_full_name: os.map(|os| os.full),
                    ..state.clone()
                };
                let changed = *state != fresh;
                *state = fresh;
                changed
            });
        }
    };
    shutdown.run_until_cancelled(follow).await;
}

/// Returns when a stop is asked for.
async fn stop_asked(stop: &StopSignals) -> anyhow::Result<Signal> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    // The handlers are in place: a request that came during the start reaches them now.
    stop.unblock().context("cannot unblock signals")?;
    tokio::select! {
        _ = terminate.recv() => Ok(Signal::SIGTERM),
        _ = interrupt.recv() => Ok(Signal::SIGINT),
    }
}

/// Lets the tasks end, then takes leave of the host.
async fn end(backdoor: Running, mut tasks: JoinSet<()>, shutdown: &CancellationToken) {
    shutdown.cancel();
    let drained = async { while tasks.join_next().await.is_some() {} };
    if timeout(GRACE, drained).await.is_err() {
        warn!(left = tasks.len(), grace = ?GRACE, "tasks are still running and are dropped");
    }
    if !backdoor.stop().await {
        warn!("the farewell to the host did not end in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::talos::snapshot::{Fact, HostnameStatus};

    /// The third way by which the host learns the name, after `SetGuestInfo  1` and the NIC record.
    #[tokio::test(start_paused = true)]
    async fn row_4_vix_tells_the_name_once_there_is_one() {
        let (sender, snapshots) = watch::channel(Arc::<Snapshot>::default());
        let (state, mut tools) = watch::channel(ToolsState::default());
        let shutdown = CancellationToken::new();
        let describe = describe(snapshots, Policy::default(), None, state, shutdown.clone());
        let drive = async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert_eq!(tools.borrow().host_name, None, "no placeholder");
            for name in ["dev-controlplane-1", "renamed"] {
                sender.send_modify(|snapshot| {
                    Arc::make_mut(snapshot).hostname = Fact::Known {
                        value: HostnameStatus {
                            hostname: name.into(),
                            domainname: String::new(),
                        },
                    };
                });
                let told = tools.wait_for(|tools| tools.host_name.as_deref() == Some(name));
                drop(timeout(Duration::from_secs(2), told).await.unwrap().unwrap());
            }
            shutdown.cancel();
        };
        tokio::join!(describe, drive);
    }
}
