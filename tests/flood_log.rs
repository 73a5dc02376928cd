//! Whatever a host repeats, it does not fill the log: every feature that hears it, and the tasks behind them, on a host
//! that says the same ten thousand times and refuses what it is told, each time with other words.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "dialogue/host.rs"]
mod host;
#[path = "dialogue/lines.rs"]
mod lines;

use std::{collections::BTreeMap, convert::Infallible, future, sync::Arc, time::Duration};

use talos_vmtoolsd::{
    clock,
    guestinfo::{Control, GuestInfo, Key, Policy, Publisher, StateKey, Variable},
    hostlog,
    lifecycle::{History, Lifecycle, Resumed},
    logging::limit,
    options::{self, HostOptions},
    power,
    rpci::{self, Waker},
    support::Support,
    talos::{CallError, Machine, RebootMode, Snapshot, events::Heard},
    tclo::{Event, Feature},
    vix::{ToolsState, Vix},
};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinSet, yield_now},
    time::advance,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;

use host::{Bench, Host};
use lines::Lines;

/// How often each request comes.
const TIMES: usize = 10_000;

/// Time from one request to the next.
const PERIOD: Duration = Duration::from_millis(1);

/// What is repeated; two in turn are one case. A VIX frame stands for those that are cut short.
const REQUESTS: &[&[&str]] = &[
    &["No_Such_Command x"],
    &[" "],
    &["\0\0"],
    &["ping"],
    &["reset"],
    &["reset", "ping"],
    &["Capabilities_Register"],
    &["reset", "Capabilities_Register"],
    &["Set_Option"],
    &["Set_Option x 1"],
    &["Set_Option synctime 0", "Set_Option synctime 1"],
    &["Set_Option broadcastIP 1"],
    &[
        "Set_Option guestLogLevel error",
        "Set_Option guestLogLevel warning",
    ],
    &["Time_Synchronize 1"],
    &["vmsupport.start"],
    &["vmbackup.start"],
    &["Vix_1_Relayed_Command"],
    &["Vix_1_Relayed_Command \"1\"\0\x01\0\0"],
    &["Vix_1_Get_ToolsProperties"],
    &["OS_PowerOn"],
    &["OS_Suspend", "OS_Resume"],
    &["OS_Resume"],
    &["OS_Halt"],
    &["OS_Halt", "OS_Reboot"],
];

/// A node that refuses everything at once, so that each request is an operation of its own.
struct Refusing;

fn refusal(method: &'static str) -> CallError {
    CallError::Incomplete {
        method,
        what: "patience",
    }
}

impl Machine for Refusing {
    async fn shutdown(&self, _: bool) -> Result<String, CallError> {
        Err(refusal("Shutdown"))
    }

    async fn reboot(&self, _: RebootMode) -> Result<String, CallError> {
        Err(refusal("Reboot"))
    }

    async fn events(&self, heard: mpsc::Sender<Heard>) -> Infallible {
        let _ = heard.send(Heard::Listening).await;
        future::pending().await
    }
}

/// How many lines each place in the code has written: the place stands in front of the message.
fn by_place(lines: &Lines) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for line in lines.all() {
        let place = line
            .split(' ')
            .find(|word| word.starts_with("src/"))
            .unwrap_or(&line);
        *places.entry(place.to_owned()).or_insert(0) += 1;
    }
    places
}

/// The features on a host, with the tasks behind them.
struct Daemon {
    bench: Bench,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    events: mpsc::Sender<Event>,
}

impl Daemon {
    fn start() -> Self {
        let mut host = Host::default();
        let mut answered = 0_u64;
        host.respond = Box::new(move |_| {
            answered += 1;
            if answered.is_multiple_of(3) {
                b"1 ".to_vec()
            } else {
                format!("0 not now, {answered}").into_bytes()
            }
        });
        let (support, _) = Support::new();
        let control = Control::default();
        let (_, tools) = watch::channel(ToolsState::default());
        let (snapshots, snapshot) = watch::channel(Arc::new(Snapshot::default()));
        let resumed = Resumed::default();
        let signal = resumed.clone();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();

        let (client, calls) = rpci::client(Waker::new().unwrap());
        let rpci = Arc::new(client.clone());
        let (log, writer) = hostlog::pair(Arc::clone(&rpci));
        tasks.spawn(writer.run(shutdown.clone()));
        let publisher = Publisher::new(
            Arc::clone(&rpci),
            snapshot.clone(),
            &control,
            Policy::default(),
            None,
        );
        tasks.spawn(publisher.run(shutdown.clone()));
        let last_error = Variable::new(Arc::clone(&rpci), Key::Talos(StateKey::LastError), true, &control);
        let (power, worker) = power::pair(
            rpci,
            Arc::new(Refusing),
            snapshot,
            power::Settings::default(),
            log.clone(),
            last_error,
            move || signal.tell(),
        );
        tasks.spawn(worker.run(shutdown.clone()));
        let features: Vec<Box<dyn Feature>> = vec![
            Box::new(HostOptions::new(options::Shared::default(), log.clone())),
            Box::new(support),
            Box::new(GuestInfo::new(control.clone())),
            Box::new(power),
            Box::new(Vix::new(tools)),
        ];
        let bench = Bench::with_client(host, (client, calls), features);
        let (events, heard) = mpsc::channel(64);
        let lifecycle = Lifecycle::new(
            heard,
            resumed,
            || None,
            move || {
                let _kept = &snapshots;
                control.forget();
            },
            clock::Trigger::default(),
            log,
            History::default(),
        );
        tasks.spawn(lifecycle.run(shutdown.clone()));
        Self {
            bench,
            tasks,
            shutdown,
            events,
        }
    }

    /// One request, and what the tasks do meanwhile.
    async fn hear(&mut self, request: &str) {
        self.bench.host().ask(request);
        let answered = self.bench.host().seen().reply_count;
        for _ in 0..8 {
            self.bench.step();
            yield_now().await;
            if self.bench.host().seen().reply_count > answered {
                break;
            }
        }
        for event in self.bench.told() {
            let _ = self.events.try_send(event);
        }
        self.bench.now += PERIOD;
        advance(PERIOD).await;
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_host_repeats_is_a_few_lines() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_file(true)
        .with_line_number(true)
        .with_max_level(LevelFilter::INFO)
        .with_writer(lines.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let began = std::time::Instant::now();
    let mut daemon = Daemon::start();
    for requests in REQUESTS {
        for request in requests.iter().cycle().take(TIMES) {
            daemon.hear(request).await;
        }
    }
    let answered = daemon.bench.host().seen().reply_count;
    assert!(answered >= TIMES * REQUESTS.len() - 1, "{answered} answers");
    daemon.stop().await;
    drop(guard);
    let places = by_place(&lines);
    assert!(places.len() > 5, "{places:#?}");
    // The limits go by the machine's clock, which may be slow: ten lines, and one for each minute after the first.
    let minutes = usize::try_from(began.elapsed().as_secs() / limit::WINDOW.as_secs()).unwrap();
    let most = usize::try_from(limit::LINES).unwrap() + minutes;
    for (place, count) in &places {
        assert!(*count <= most, "{place} wrote {count} lines: {places:#?}");
    }
}
