#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod course;

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Mutex as StdMutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::broadcast,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    guestinfo::{Control, Key, StateKey},
    hostlog,
    rpci::{
        Resend,
        scripted::{Host, no_channel, refused},
    },
    talos::{
        CallError,
        events::{Event, Failure, Heard, Step, What},
        snapshot::{Fact, MachineStatus, Version},
    },
    tclo::{Command, Feature, Reply},
};

/// A node that answers after a while, and tells what it is told to tell.
struct Node {
    calls: StdMutex<Vec<&'static str>>,
    takes: StdMutex<Duration>,
    accepts: StdMutex<bool>,
    /// Whether anybody listened when the last call came.
    listened: StdMutex<bool>,
    /// Whether a stream of events is greeted.
    greets: StdMutex<bool>,
    events: broadcast::Sender<Event>,
}

impl Node {
    fn new(takes: Duration, accepts: bool) -> Self {
        Self {
            calls: StdMutex::default(),
            takes: StdMutex::new(takes),
            accepts: StdMutex::new(accepts),
            listened: StdMutex::new(false),
            greets: StdMutex::new(true),
            events: broadcast::channel(16).0,
        }
    }

    async fn call(&self, name: &'static str) -> Result<String, CallError> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(name);
            calls.len()
        };
        *self.listened.lock().unwrap() = self.events.receiver_count() > 0;
        let takes = *self.takes.lock().unwrap();
        sleep(takes).await;
        if *self.accepts.lock().unwrap() {
            Ok(format!("actor-{number}"))
        } else {
            Err(CallError::Status {
                method: "machine.MachineService/Shutdown",
                code: tonic::Code::FailedPrecondition,
                message: "not supported in container mode".into(),
            })
        }
    }

    /// Tells of a sequence.
    fn tell(&self, actor: &str, name: &str, step: Step) {
        let what = What::Sequence {
            name: name.into(),
            step,
        };
        let actor = actor.into();
        self.events.send(Event { actor, what }).unwrap();
    }

    /// Tells of a phase that begins.
    fn enter(&self, actor: &str, name: &str) {
        let what = What::Phase {
            name: name.into(),
            begins: true,
        };
        let actor = actor.into();
        self.events.send(Event { actor, what }).unwrap();
    }
}

impl Machine for Node {
    async fn shutdown(&self, force: bool) -> Result<String, CallError> {
        self.call(if force { "shutdown force" } else { "shutdown" }).await
    }

    async fn reboot(&self, mode: RebootMode) -> Result<String, CallError> {
        self.call(match mode {
            RebootMode::Default => "reboot",
            RebootMode::PowerCycle => "reboot powercycle",
        })
        .await
    }

    async fn events(&self, heard: mpsc::Sender<Heard>) -> Infallible {
        if !*self.greets.lock().unwrap() {
            return pending().await;
        }
        let mut events = self.events.subscribe();
        heard.send(Heard::Listening).await.unwrap();
        while let Ok(event) = events.recv().await {
            heard.send(Heard::Event(event)).await.unwrap();
        }
        pending().await
    }
}

fn failed(failure: Failure) -> Step {
    Step::Failed {
        failure,
        message: "as Talos puts it".into(),
    }
}

fn at(stage: i32, tag: &str) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        machine: Fact::Known {
            value: MachineStatus {
                stage,
                ..MachineStatus::default()
            },
        },
        version: Fact::Known {
            value: Version {
                tag: tag.into(),
                ..Version::default()
            },
        },
        ..Snapshot::default()
    })
}

/// Both halves between a scripted host and a scripted node.
struct Bench {
    host: Arc<Host>,
    node: Arc<Node>,
    feature: Power,
    snapshots: watch::Sender<Arc<Snapshot>>,
    resumed: Arc<AtomicUsize>,
    control: Control,
    shutdown: CancellationToken,
    worker: JoinHandle<()>,
    _writer: JoinSet<()>,
}

#[allow(clippy::disallowed_methods, reason = "the bench owns and awaits the task")]
fn bench_with(takes: Duration, accepts: bool, drain: Option<Duration>) -> Bench {
    let host = Arc::new(Host::new());
    let node = Arc::new(Node::new(takes, accepts));
    let (snapshots, snapshot) = watch::channel(at(RUNNING, "v1.14.1"));
    let resumed = Arc::new(AtomicUsize::new(0));
    let on_resume = {
        let resumed = resumed.clone();
        move || {
            resumed.fetch_add(1, Ordering::SeqCst);
        }
    };
    let settings = Settings {
        reboot_mode: RebootMode::PowerCycle,
        drain,
    };
    let (log, writer) = hostlog::pair(host.clone());
    let control = Control::default();
    let last_error = Variable::new(host.clone(), Key::Talos(StateKey::LastError), true, &control);
    let (feature, worker) = pair(
        host.clone(),
        node.clone(),
        snapshot,
        settings,
        log,
        last_error,
        on_resume,
    );
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(writer.run(CancellationToken::new()));
    Bench {
        host,
        node,
        feature,
        snapshots,
        resumed,
        worker: tokio::spawn(worker.run(shutdown.clone())),
        control,
        shutdown,
        _writer: tasks,
    }
}

fn bench(takes: Duration, accepts: bool) -> Bench {
    bench_with(takes, accepts, None)
}

/// Talos's numbers of stages.
const MAINTENANCE: i32 = 3;
const RUNNING: i32 = 4;
const REBOOTING: i32 = 5;
const SHUTTING_DOWN: i32 = 6;
const RESETTING: i32 = 7;
const UPGRADING: i32 = 8;

impl Bench {
    fn ask(&mut self, change: StateChange) -> Reply {
        self.feature.handle(&Command::StateChange(change)).unwrap()
    }

    fn calls(&self) -> Vec<&'static str> {
        self.node.calls.lock().unwrap().clone()
    }

    /// The statuses the host got, as (success, id) in text.
    fn statuses(&self) -> Vec<String> {
        let prefix = "tools.os.statechange.status ";
        let seen = self.host.seen();
        seen.iter()
            .filter_map(|seen| Some(seen.text().strip_prefix(prefix)?.to_owned()))
            .collect()
    }

    /// The lines in vmware.log.
    fn lines(&self) -> Vec<String> {
        let seen = self.host.seen();
        seen.iter()
            .filter(|seen| seen.bytes.starts_with(b"log "))
            .inspect(|seen| assert_eq!(seen.resend, Resend::Never))
            .map(super::super::rpci::scripted::Seen::text)
            .collect()
    }

    /// When the host got its statuses.
    fn told_at(&self) -> Vec<Duration> {
        let seen = self.host.seen();
        let statuses = seen.iter().filter(|seen| seen.bytes.starts_with(b"tools.os"));
        statuses.map(|seen| seen.at).collect()
    }

    /// What was published as the last error, oldest first, behind the emptiness of the start.
    fn errors(&self) -> Vec<String> {
        let seen = self.host.seen();
        let errors: Vec<_> = seen
            .iter()
            .filter_map(|seen| {
                let text = seen.text();
                let text = text.strip_prefix("info-set guestinfo.talos.last-error ")?;
                Some(text.strip_suffix(r"\x00")?.to_owned())
            })
            .collect();
        assert!(errors.first().is_none_or(String::is_empty), "{errors:?}");
        errors.into_iter().skip(1).collect()
    }

    /// Waits for a request of the host that makes it so.
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..100 {
            let seen = self.host.seen().len();
            if holds(self) {
                return;
            }
            self.host.wait_for(seen + 1).await;
        }
        panic!("{what}: {:?}", self.host.seen());
    }

    /// Waits until the host has this many statuses.
    async fn reported(&self, count: usize) {
        self.until("statuses", |bench| bench.statuses().len() >= count)
            .await;
    }

    /// Waits until vmware.log has a line with these words.
    async fn logged(&self, words: &str) {
        self.until("a line", |bench| {
            bench.lines().iter().any(|line| line.contains(words))
        })
        .await;
    }

    /// Asks, and waits until the host was told how Talos took it.
    async fn accepted(&mut self, change: StateChange) {
        assert_eq!(self.ask(change), Reply::ok());
        self.until("a status and a line", |bench| {
            bench.statuses().len() == 1 && bench.lines().len() == 1
        })
        .await;
        assert!(self.statuses()[0].starts_with("1 "), "{:?}", self.statuses());
        assert!(self.lines()[0].contains("actor-1"), "{:?}", self.lines());
    }

    /// Waits for a failure that is told everywhere.
    async fn failed(&self, words: &str) {
        self.until("a failure", |bench| {
            bench.errors().iter().any(|error| error.contains(words))
        })
        .await;
        let line = self.lines().last().unwrap().clone();
        assert!(line.contains(words), "{line}");
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.worker.await.unwrap();
    }
}

const BUSY: &str = "State change already in progress";

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_answered_called_once_and_reported() {
    let mut bench = bench(Duration::from_millis(30), true);
    assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    bench.reported(1).await;
    assert_eq!(bench.calls(), ["shutdown"]);
    assert_eq!(bench.statuses(), [r"1 1\x00"]);
    assert!(bench.feature.wants_fast_polling());
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_reboot_uses_the_mode_of_the_settings() {
    let mut bench = bench(Duration::ZERO, true);
    assert_eq!(bench.ask(StateChange::Reboot), Reply::ok());
    bench.reported(1).await;
    assert_eq!(bench.calls(), ["reboot powercycle"]);
    assert_eq!(bench.statuses(), [r"1 2\x00"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn twelve_identical_requests_are_one_call_and_twelve_statuses() {
    let mut bench = bench(Duration::from_millis(500), true);
    for _ in 0..6 {
        assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    }
    assert_eq!(bench.ask(StateChange::Reboot), Reply::Error(BUSY.into()));
    bench.reported(6).await;
    for _ in 0..6 {
        assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    }
    bench.reported(12).await;
    assert_eq!(bench.calls(), ["shutdown"]);
    assert_eq!(bench.statuses(), [r"1 1\x00"; 12]);
    assert_eq!(bench.ask(StateChange::Reboot), Reply::Error(BUSY.into()));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_reported_and_opens_the_gate() {
    let mut bench = bench(Duration::from_millis(10), false);
    assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    bench.failed("not supported in container mode").await;
    assert_eq!(bench.statuses(), [r"0 1\x00"]);
    assert!(!bench.feature.wants_fast_polling());

    *bench.node.accepts.lock().unwrap() = true;
    assert_eq!(bench.ask(StateChange::Reboot), Reply::ok());
    bench.reported(2).await;
    assert_eq!(bench.calls(), ["shutdown", "reboot powercycle"]);
    assert_eq!(bench.statuses(), [r"0 1\x00", r"1 2\x00"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_talos_is_status_0_after_two_seconds_and_still_one_call() {
    let mut bench = bench(Duration::from_secs(5), true);
    assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    bench.reported(1).await;
    assert_eq!(bench.statuses(), [r"0 1\x00"]);
    assert_eq!(bench.told_at(), [Duration::from_secs(2)]);
    // The call goes on: the same request joins it, another one has to wait.
    assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    assert_eq!(bench.ask(StateChange::Reboot), Reply::Error(BUSY.into()));
    bench.reported(2).await;
    assert_eq!(bench.statuses(), [r"0 1\x00"; 2]);
    bench.logged("accepted by Talos late, after 5.0s").await;
    // Asked once more, it is known to be accepted.
    assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    bench.reported(3).await;
    assert_eq!(bench.statuses().last().unwrap(), r"1 1\x00");
    assert_eq!(bench.calls(), ["shutdown"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_goes_to_vmware_log_and_the_last_error() {
    let mut bench = bench(Duration::from_secs(5), false);
    assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    bench.failed("not supported in container mode").await;
    assert_eq!(bench.statuses(), [r"0 1\x00"]);
    assert_eq!(bench.host.seen().last().unwrap().at, Duration::from_secs(5));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_talos_that_never_answers_does_not_keep_the_gate_shut() {
    let mut bench = bench(Duration::from_secs(1_000_000), true);
    assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    bench.failed("no answer within 60s").await;
    *bench.node.takes.lock().unwrap() = Duration::ZERO;
    assert_eq!(bench.ask(StateChange::Reboot), Reply::ok());
    bench.reported(2).await;
    assert_eq!(bench.statuses(), [r"0 1\x00", r"1 2\x00"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_accepted_operation_stands_through_a_reset_and_ends_after_a_quarter_of_an_hour() {
    let mut bench = bench(Duration::ZERO, true);
    bench.accepted(StateChange::Halt).await;
    bench.node.tell("actor-1", "shutdown", Step::Begun);
    bench.feature.on_reset();
    assert_eq!(bench.ask(StateChange::Reboot), Reply::Error(BUSY.into()));
    sleep(Duration::from_secs(15 * 60 - 1)).await;
    assert_eq!(bench.ask(StateChange::Reboot), Reply::Error(BUSY.into()));
    bench.failed("still not done").await;
    assert_eq!(bench.ask(StateChange::Reboot), Reply::ok());
    bench.reported(2).await;
    assert_eq!(bench.calls(), ["shutdown", "reboot powercycle"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn notifications_are_acknowledged_at_once() {
    let mut bench = bench(Duration::from_secs(5), true);
    // Even while Talos hangs in another call.
    bench.ask(StateChange::Halt);
    for change in [StateChange::PowerOn, StateChange::Suspend, StateChange::Resume] {
        assert_eq!(bench.ask(change), Reply::ok());
    }
    bench.host.wait_for(3).await;
    assert_eq!(bench.statuses(), [r"1 3\x00", r"1 5\x00", r"1 4\x00"]);
    assert_eq!(bench.host.seen()[2].at, Duration::ZERO);
    assert_eq!(bench.resumed.load(Ordering::SeqCst), 1);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_survives_a_broken_channel() {
    let mut bench = bench(Duration::ZERO, true);
    let mut left = 2;
    bench.host.answer(move |request| {
        if left == 0 || !request.starts_with(b"tools.os") {
            return Ok(Vec::new());
        }
        left -= 1;
        no_channel()
    });
    bench.ask(StateChange::PowerOn);
    bench.reported(3).await;
    assert_eq!(bench.statuses(), [r"1 3\x00"; 3]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.statuses().len(), 3, "taken, and not sent again");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_status_is_not_repeated() {
    let mut bench = bench(Duration::ZERO, true);
    bench.host.answer(|_| refused("Unknown command"));
    bench.ask(StateChange::PowerOn);
    bench.reported(1).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.statuses().len(), 1);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_refused_and_costs_no_memory() {
    let mut bench = bench(Duration::ZERO, true);
    bench.host.set_latency(Duration::from_secs(1));
    let mut refused = 0;
    for round in 0..1000 {
        if bench.ask(StateChange::Suspend) != Reply::ok() {
            refused += 1;
        }
        if round % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(refused > 900, "{refused}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_worker_the_gate_opens_again() {
    let mut bench = bench(Duration::ZERO, true);
    bench.shutdown.cancel();
    (&mut bench.worker).await.unwrap();
    let failed = Reply::Error("State change could not be started".into());
    assert_eq!(bench.ask(StateChange::Halt), failed);
    assert_eq!(bench.ask(StateChange::Reboot), failed);
    assert!(bench.calls().is_empty());
}

#[test]
fn capabilities_end_with_a_space() {
    let host = Arc::new(Host::new());
    let node = Arc::new(Node::new(Duration::ZERO, true));
    let (_keep, snapshot) = watch::channel(at(RUNNING, "v1.14.1"));
    let last_error = Variable::new(
        host.clone(),
        Key::Talos(StateKey::LastError),
        true,
        &Control::default(),
    );
    let (mut feature, _worker) = pair(
        host,
        node,
        snapshot,
        Settings::default(),
        HostLog::silent(),
        last_error,
        || (),
    );
    let requests = feature.capabilities();
    let bytes: Vec<&[u8]> = requests.iter().map(crate::rpci::Request::bytes).collect();
    assert_eq!(
        bytes,
        [
            b"tools.capability.statechange ".as_slice(),
            b"tools.capability.softpowerop_retry "
        ]
    );
    assert_eq!(feature.handle(&Command::Ping), None);
}
