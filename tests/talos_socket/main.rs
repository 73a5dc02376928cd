//! The client of the machine API against a real gRPC server on a unix socket.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

mod hostile;
mod node;
mod odd_events;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use talos_vmtoolsd::{
    pb::{cosi::resource as cosi, spec},
    talos::{
        self, CallError, Client, Machine as _, RebootMode, ResourceType, Selection, Settings, Snapshot,
        client,
        events::Heard,
        snapshot::{Fact, LinkStatus},
    },
};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use self::node::{Fault, LIMIT, Node, address, hostname, link};

/// A directory for the socket, and what follows the node that serves it.
struct Bench {
    socket: PathBuf,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    client: Client,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    _directory: TempDir,
}

/// Patience of tests in which something is silent: far longer than any answer takes on a busy machine.
const SHORT: Duration = Duration::from_secs(1);

fn every_adapter() -> Selection {
    Arc::new(|links: &BTreeMap<String, LinkStatus>| -> BTreeSet<String> {
        links
            .iter()
            .filter(|(_, link)| link.is_physical())
            .map(|(name, _)| name.clone())
            .collect()
    })
}

/// Pauses short enough for a test; `patience` longer than anything that should be answered takes.
fn settings(socket: &Path, patience: Duration) -> Settings {
    Settings {
        patience,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        ..Settings::new(socket)
    }
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("machine.sock");
    (directory, socket)
}

impl Bench {
    fn new() -> Self {
        Self::with_patience(LIMIT)
    }

    fn with_patience(patience: Duration) -> Self {
        Self::with(|socket| settings(socket, patience))
    }

    fn with(settings: impl FnOnce(&Path) -> Settings) -> Self {
        let (directory, socket) = directory();
        let (mut tasks, shutdown) = (JoinSet::new(), CancellationToken::new());
        let (snapshots, client) =
            talos::spawn(settings(&socket), every_adapter(), &mut tasks, shutdown.clone());
        Self {
            socket,
            snapshots,
            client,
            tasks,
            shutdown,
            _directory: directory,
        }
    }

    /// Waits for a snapshot of which this holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let found = tokio::time::timeout(LIMIT, self.snapshots.wait_for(|snapshot| holds(snapshot)));
        if let Ok(snapshot) = found.await {
            return Arc::clone(&snapshot.unwrap());
        }
        panic!("never {what}: {:#?}", self.snapshots.borrow());
    }

    /// Waits until everything is known.
    async fn complete(&mut self) -> Arc<Snapshot> {
        self.until("complete", is_complete).await
    }

    async fn end(mut self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(LIMIT, self.tasks.join_next()).await;
        ended.expect("the task did not end").unwrap().unwrap();
    }
}

async fn accept(listener: &UnixListener) -> UnixStream {
    tokio::time::timeout(LIMIT, listener.accept())
        .await
        .expect("a connection")
        .unwrap()
        .0
}

fn is_known<T>(fact: &Fact<T>) -> bool {
    matches!(fact, Fact::Known { .. })
}

fn is_complete(snapshot: &Snapshot) -> bool {
    is_known(&snapshot.version)
        && is_known(&snapshot.hostname)
        && is_known(&snapshot.links)
        && is_known(&snapshot.addresses)
        && is_known(&snapshot.routes)
        && is_known(&snapshot.node_addresses)
        && is_known(&snapshot.resolvers)
        && is_known(&snapshot.machine)
        && is_known(&snapshot.security)
}

fn addresses(snapshot: &Snapshot) -> Vec<&str> {
    snapshot
        .addresses
        .value()
        .map(|held| held.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

fn name(snapshot: &Snapshot) -> &str {
    snapshot
        .hostname
        .value()
        .map_or("", |status| status.hostname.as_str())
}

const LINKS: &str = "LinkStatuses.net.talos.dev";
const ADDRESSES: &str = "AddressStatuses.net.talos.dev";
const HOSTNAMES: &str = "HostnameStatuses.net.talos.dev";
const SECURITY: &str = "SecurityStates.talos.dev";
const VERSION: &str = client::VERSION.path;
const SHUTDOWN: &str = client::SHUTDOWN.path;

#[tokio::test]
async fn everything_is_known_after_the_bootstrap() {
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    let snapshot = bench.complete().await;
    assert_eq!(snapshot.version.value().unwrap().tag, "v1.14.1");
    assert_eq!(snapshot.version.value().unwrap().platform, "vmware");
    assert_eq!(name(&snapshot), "talos-1");
    assert_eq!(
        snapshot.links.value().unwrap().keys().collect::<Vec<_>>(),
        ["eth0"],
        "pod links are not held"
    );
    assert_eq!(addresses(&snapshot), ["eth0/10.5.0.2/24"]);
    let routes: Vec<_> = snapshot.routes.value().unwrap().keys().collect();
    assert_eq!(routes, ["eth0/inet6/fe80::1//1024", "inet4/10.5.0.1//1024"]);
    let route = &snapshot.routes.value().unwrap()["inet4/10.5.0.1//1024"];
    assert!(route.destination.is_default());
    assert_eq!(route.gateway, Some([10, 5, 0, 1].into()));
    assert_eq!(
        snapshot.resolvers.value().unwrap().dns_servers,
        [std::net::IpAddr::from([10, 5, 0, 53])]
    );
    assert_eq!(
        snapshot.node_addresses.value().unwrap()["default"][0].to_string(),
        "10.5.0.2/24"
    );
    assert!(snapshot.machine.value().unwrap().ready);
    assert!(snapshot.security.value().unwrap().secure_boot);
    bench.end().await;
}

#[tokio::test]
async fn each_call_is_in_the_table_and_has_exactly_its_role() {
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    assert_eq!(bench.client.shutdown(false).await.unwrap(), "actor-1");
    assert_eq!(
        bench.client.reboot(RebootMode::PowerCycle).await.unwrap(),
        "actor-2"
    );
    let mounts = bench.client.mounts().await.unwrap();
    assert_eq!((mounts[0].target.as_str(), mounts[0].available), ("/var", 400));
    let images = bench.client.containers().await.unwrap();
    assert_eq!(
        images.into_iter().collect::<Vec<_>>(),
        ["etcd:v3.6", "pause:3.10"]
    );
    let (heard, mut events) = mpsc::channel(8);
    // The stream ends without a word after its hello, and is opened again behind it.
    let went_on = async {
        for _ in 0..2 {
            assert_eq!(events.recv().await, Some(Heard::Listening));
        }
        match events.recv().await {
            Some(Heard::Event(event)) => assert_eq!(event.actor, "hello"),
            other => panic!("{other:?}"),
        }
    };
    tokio::select! {
        never = bench.client.events(heard) => match never {},
        in_time = tokio::time::timeout(LIMIT, went_on) => in_time.expect("events in time"),
    }
    let calls = node.calls();
    for call in &calls {
        let method = client::METHODS
            .iter()
            .find(|method| method.path == call.path)
            .expect("in the table");
        assert_eq!(call.roles, [method.role], "{}", call.path);
    }
    for method in client::METHODS {
        assert!(
            calls.iter().any(|call| call.path == method.path),
            "{} was called",
            method.path
        );
    }
    assert_eq!(
        node.count(client::WATCH.path),
        ResourceType::ALL.len(),
        "one watch per type"
    );
    bench.end().await;
}

#[tokio::test]
async fn changes_and_removals_arrive() {
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    node.put(
        ResourceType::Address,
        "eth0/10.5.0.3/24",
        &address("eth0", [10, 5, 0, 3]),
    );
    bench
        .until("two addresses", |now| addresses(now).len() == 2)
        .await;
    node.remove(ResourceType::Address, "eth0/10.5.0.2/24");
    bench
        .until("one address", |now| addresses(now) == ["eth0/10.5.0.3/24"])
        .await;
    node.tear_down(ResourceType::Address, "eth0/10.5.0.3/24");
    bench.until("no address", |now| addresses(now).is_empty()).await;
    node.put(ResourceType::Hostname, "hostname", &hostname("talos-2"));
    bench.until("the new name", |now| name(now) == "talos-2").await;
    bench.end().await;
}

#[tokio::test]
async fn what_is_not_reported_publishes_nothing() {
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    bench.snapshots.mark_unchanged();
    node.put(ResourceType::Link, "lxc2", &link(9, "veth"));
    let pods = spec::NodeAddress::default();
    node.put(ResourceType::NodeAddress, "accumulative", &pods);
    node.put(
        ResourceType::Address,
        "lxc2/10.244.0.2/32",
        &address("lxc2", [10, 244, 0, 2]),
    );
    node.put(ResourceType::Link, "eth0", &link(2, ""));
    let unknown = cosi::Event {
        event_type: 99,
        ..cosi::Event::default()
    };
    node.send(ResourceType::Link, unknown);
    // The watch of the links is read in order: when this is known, the rest was read.
    node.put(ResourceType::Link, "eth1", &link(3, ""));
    tokio::time::timeout(LIMIT, bench.snapshots.changed())
        .await
        .unwrap()
        .unwrap();
    let snapshot = bench.snapshots.borrow_and_update().clone();
    assert!(
        snapshot.links.value().unwrap().contains_key("eth1"),
        "the first change is the one that matters"
    );
    bench.end().await;
}

#[tokio::test]
async fn the_pods_of_a_busy_node_cost_nothing() {
    let node = Node::new();
    for number in 0..3000 {
        node.put(ResourceType::Link, &format!("cali{number}"), &link(9, "veth"));
    }
    for number in 0..5000 {
        let id = format!("cali{}/10.244.0.1/32/{number}", number % 3000);
        node.put(ResourceType::Address, &id, &address("cali", [10, 244, 0, 1]));
    }
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    let snapshot = bench.complete().await;
    assert_eq!(snapshot.links.value().unwrap().len(), 1);
    assert_eq!(snapshot.addresses.value().unwrap().len(), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_new_adapter_brings_its_addresses() {
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    node.put(
        ResourceType::Address,
        "eth1.5/10.6.0.2/24",
        &address("eth1.5", [10, 6, 0, 2]),
    );
    bench.complete().await;
    node.put(ResourceType::Link, "eth1.5", &link(3, ""));
    let both = ["eth0/10.5.0.2/24", "eth1.5/10.6.0.2/24"];
    bench
        .until("both addresses, and never none of the first", |now| {
            assert!(addresses(now).contains(&both[0]), "the old address stays");
            addresses(now) == both
        })
        .await;
    let queries: Vec<_> = node
        .calls()
        .into_iter()
        .filter(|it| it.resource_type == ADDRESSES)
        .map(|it| it.regexp)
        .collect();
    assert_eq!(queries, ["^(?:eth0)/", r"^(?:eth0|eth1\.5)/"]);
    node.remove(ResourceType::Link, "eth0");
    bench
        .until("the other address", |now| addresses(now) == [both[1]])
        .await;
    node.remove(ResourceType::Link, "eth1.5");
    bench
        .until("no address", |now| {
            is_known(&now.addresses) && addresses(now).is_empty()
        })
        .await;
    bench.end().await;
}

#[tokio::test]
async fn a_restart_marks_everything_stale_and_brings_the_difference() {
    let node = Node::new();
    let mut bench = Bench::new();
    let served = node.serve(&bench.socket);
    node.put(
        ResourceType::Address,
        "eth0/10.5.0.9/24",
        &address("eth0", [10, 5, 0, 9]),
    );
    bench.complete().await;
    served.kill().await;
    let stale = bench
        .until("stale", |now| matches!(now.addresses, Fact::Stale { .. }))
        .await;
    assert!(matches!(stale.version, Fact::Stale { .. }));
    assert!(matches!(stale.machine, Fact::Stale { .. }));
    assert_eq!(addresses(&stale).len(), 2, "the last truth stays");
    node.remove(ResourceType::Address, "eth0/10.5.0.9/24");
    node.put(ResourceType::Hostname, "hostname", &hostname("talos-2"));
    let _served = node.serve(&bench.socket);
    let snapshot = bench.complete().await;
    assert_eq!(addresses(&snapshot), ["eth0/10.5.0.2/24"]);
    assert_eq!(name(&snapshot), "talos-2");
    bench.end().await;
}

#[tokio::test]
async fn a_stopping_talos_and_its_successor() {
    let node = Node::new();
    let mut bench = Bench::new();
    let served = node.serve(&bench.socket);
    bench.complete().await;
    served.drain();
    // GOAWAY: open streams go on.
    node.put(ResourceType::Hostname, "hostname", &hostname("last-words"));
    bench
        .until("the last change", |now| name(now) == "last-words")
        .await;
    // New calls do not; the socket is gone.
    let refused = bench.client.shutdown(false).await;
    assert!(matches!(refused, Err(CallError::Status { .. })), "{refused:?}");
    assert_eq!(node.count(SHUTDOWN), 0);
    served.kill().await;
    bench
        .until("stale", |now| matches!(now.hostname, Fact::Stale { .. }))
        .await;
    node.put(ResourceType::Hostname, "hostname", &hostname("successor"));
    let _served = node.serve(&bench.socket);
    assert_eq!(name(bench.complete().await.as_ref()), "successor");
    bench.end().await;
}

#[tokio::test]
async fn a_successor_that_is_there_at_once_is_asked_everything() {
    let node = Node::new();
    let mut bench = Bench::new();
    let served = node.serve(&bench.socket);
    bench.complete().await;
    served.drain();
    let successor = Node::new();
    successor.upgrade("v1.14.2");
    let _served = successor.serve(&bench.socket);
    node.finish();
    let upgraded = |now: &Snapshot| {
        now.version
            .value()
            .is_some_and(|version| version.tag == "v1.14.2")
    };
    bench
        .until("upgraded", |now| upgraded(now) && is_complete(now))
        .await;
    served.kill().await;
    bench.end().await;
}

#[tokio::test]
async fn a_watch_that_ends_alone_is_subscribed_again() {
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    node.finish();
    node.called(HOSTNAMES, 2).await;
    bench.complete().await;
    let connected = |now: &Snapshot| is_known(&now.version);
    assert!(connected(&bench.snapshots.borrow()));
    bench.end().await;
}

#[tokio::test]
async fn an_overrun_watch_is_subscribed_again() {
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    node.put_silently(ResourceType::Hostname, "hostname", &hostname("missed"));
    node.overrun(ResourceType::Hostname);
    bench
        .until("what was missed", |now| {
            is_known(&now.hostname) && name(now) == "missed"
        })
        .await;
    assert_eq!(node.count(HOSTNAMES), 2);
    assert_eq!(node.count(VERSION), 1, "the connection is the same");
    bench.end().await;
}

#[tokio::test]
async fn a_role_that_does_not_suffice_costs_one_fact() {
    let node = Node::new();
    node.fail(SECURITY, Fault::Status(Code::PermissionDenied, "not authorized"));
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    let without = |now: &Snapshot| {
        let filled = Snapshot {
            security: Fact::Known {
                value: talos::snapshot::SecurityState::default(),
            },
            ..now.clone()
        };
        is_complete(&filled) && now.security == Fact::Unknown
    };
    bench.until("the rest", without).await;
    node.called(SECURITY, 3).await;
    node.mend(SECURITY);
    bench.complete().await;
    assert_eq!(node.count(VERSION), 1);
    bench.end().await;
}

#[tokio::test]
async fn an_unsupported_type_is_asked_for_once_per_connection() {
    let node = Node::new();
    let refusal = "resource type \"SecurityStates.talos.dev\" is not supported";
    node.fail(SECURITY, Fault::Status(Code::PermissionDenied, refusal));
    let (_directory, socket) = directory();
    let served = node.serve(&socket);
    let seen = talos::observe(settings(&socket, LIMIT), every_adapter(), LIMIT).await;
    assert!(
        seen.missing.is_empty(),
        "a refusal is an answer: {:?}",
        seen.missing
    );
    assert_eq!(seen.snapshot.security, Fact::Unknown);
    assert_eq!(seen.troubles[&ResourceType::Security], refusal);
    assert_eq!(node.count(SECURITY), 1);
    served.kill().await;

    let mut bench = Bench::new();
    let served = node.serve(&bench.socket);
    node.called(SECURITY, 2).await;
    // Time passes in events: a hundred names later it has not been asked for again.
    for number in 0..100 {
        let next = format!("talos-{number}");
        node.put(ResourceType::Hostname, "hostname", &hostname(&next));
        bench.until("the next name", |now| name(now) == next).await;
    }
    assert_eq!(node.count(SECURITY), 2);
    served.kill().await;
    node.mend(SECURITY);
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    bench.end().await;
}

#[tokio::test]
async fn the_first_calls_may_be_refused() {
    let node = Node::new();
    node.fail(VERSION, Fault::Status(Code::PermissionDenied, "not authorized"));
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    node.called(VERSION, 3).await;
    node.mend(VERSION);
    bench.complete().await;
    bench.end().await;
}

#[tokio::test]
async fn a_socket_that_comes_later_is_found_and_said_once() {
    let log = Log::default();
    let _guard = log.capture();
    let node = Node::new();
    let mut bench = Bench::new();
    log.until("Talos still does not answer", 3).await;
    let served = node.serve(&bench.socket);
    bench.complete().await;
    assert_eq!(log.count("Talos does not answer"), 1);
    assert_eq!(log.count("Talos answers"), 1);
    served.kill().await;
    log.until("Talos does not answer", 2).await;
    // A file that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&bench.socket).unwrap());
    log.until("Talos still does not answer", 6).await;
    std::fs::remove_file(&bench.socket).unwrap();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    assert_eq!(log.count("Talos does not answer"), 2);
    assert_eq!(log.count("Talos answers"), 2);
    bench.end().await;
}

#[tokio::test]
async fn a_peer_that_never_answers_is_left() {
    let mut bench = Bench::with_patience(SHORT);
    let hanging = UnixListener::bind(&bench.socket).unwrap();
    let first = accept(&hanging).await;
    let second = accept(&hanging).await;
    std::fs::remove_file(&bench.socket).unwrap();
    let node = Node::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    drop((first, second, hanging));
    bench.end().await;
}

#[tokio::test]
async fn a_watch_that_never_answers_costs_one_fact() {
    let node = Node::new();
    node.fail(HOSTNAMES, Fault::Silence);
    let mut bench = Bench::with_patience(SHORT);
    let _served = node.serve(&bench.socket);
    bench
        .until("the addresses", |now| !addresses(now).is_empty())
        .await;
    node.called(HOSTNAMES, 3).await;
    assert!(!addresses(&bench.snapshots.borrow()).is_empty());
    assert_eq!(node.count(LINKS), 1, "the other watches stand");
    node.mend(HOSTNAMES);
    bench.complete().await;
    bench.end().await;
}

#[tokio::test]
async fn a_watch_that_stops_in_its_first_answer_is_tried_again() {
    let node = Node::new();
    node.fail(HOSTNAMES, Fault::Stall);
    let mut bench = Bench::with_patience(SHORT);
    let _served = node.serve(&bench.socket);
    node.called(HOSTNAMES, 3).await;
    assert_eq!(
        bench.snapshots.borrow().hostname,
        Fact::Unknown,
        "half a set shows nowhere"
    );
    node.mend(HOSTNAMES);
    bench.complete().await;
    assert_eq!(
        node.count(VERSION),
        node.count(HOSTNAMES),
        "each silence was looked into"
    );
    bench.end().await;
}

#[tokio::test]
async fn garbage_is_no_http_2() {
    let mut bench = Bench::new();
    let garbage = UnixListener::bind(&bench.socket).unwrap();
    for _ in 0..3 {
        let mut stream = accept(&garbage).await;
        // The peer may be gone before it has read everything.
        let _ = stream.write_all(&[0xa5; 4096]).await;
    }
    std::fs::remove_file(&bench.socket).unwrap();
    drop(garbage);
    let node = Node::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    bench.end().await;
}

#[tokio::test]
async fn a_message_that_claims_4_gib_is_refused() {
    let node = Node::new();
    node.fail(VERSION, Fault::Huge);
    node.fail(client::WATCH.path, Fault::Huge);
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    node.called(VERSION, 2).await;
    node.mend(VERSION);
    let without_watches = |now: &Snapshot| is_known(&now.version) && now.links == Fact::Unknown;
    bench.until("connected", without_watches).await;
    node.mend(client::WATCH.path);
    bench.complete().await;
    bench.end().await;
}

#[tokio::test]
async fn details_that_are_no_base64_do_no_harm() {
    let node = Node::new();
    node.fail(VERSION, Fault::BadDetails);
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    node.called(VERSION, 2).await;
    node.mend(VERSION);
    bench.complete().await;
    bench.end().await;
}

#[tokio::test]
async fn a_spec_that_cannot_be_read_leaves_the_truth_and_one_line() {
    let log = Log::default();
    let _guard = log.capture();
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    for _ in 0..3 {
        node.put_bytes(ResourceType::Address, "eth0/10.5.0.2/24", vec![0xff; 7]);
    }
    node.put(
        ResourceType::Address,
        "eth0/10.5.0.3/24",
        &address("eth0", [10, 5, 0, 3]),
    );
    let snapshot = bench
        .until("the next address", |now| addresses(now).len() == 2)
        .await;
    assert_eq!(addresses(&snapshot), ["eth0/10.5.0.2/24", "eth0/10.5.0.3/24"]);
    assert_eq!(log.count("a resource cannot be read"), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_power_call_is_sent_exactly_once_whatever_happens_to_it() {
    let node = Node::new();
    let (_directory, socket) = directory();
    let _served = node.serve(&socket);
    let client = Client::new(settings(&socket, SHORT));
    client.version().await.unwrap();
    for (fault, code) in [
        (Fault::Hangup, None),
        (Fault::Silence, Some(Code::DeadlineExceeded)),
        (
            Fault::Status(Code::Unavailable, "try again"),
            Some(Code::Unavailable),
        ),
        (
            Fault::Status(Code::FailedPrecondition, "not in container mode"),
            Some(Code::FailedPrecondition),
        ),
    ] {
        let before = node.count(SHUTDOWN);
        node.fail(SHUTDOWN, fault.clone());
        let failed = client.shutdown(true).await;
        match failed {
            Err(CallError::Status {
                method,
                code: told,
                message,
            }) => {
                assert_eq!(method, SHUTDOWN);
                assert!(
                    code.is_none_or(|code| code == told),
                    "{fault:?}: {told:?}: {message}"
                );
            }
            other => panic!("{fault:?}: {other:?}"),
        }
        // The connection works, so a second one would have arrived by now.
        client.version().await.unwrap();
        assert_eq!(node.count(SHUTDOWN), before + 1, "{fault:?}");
    }
    node.mend(SHUTDOWN);
    assert_eq!(client.shutdown(true).await.unwrap(), "actor-1");
    assert_eq!(node.count(SHUTDOWN), 5);
}

#[tokio::test]
async fn a_power_call_after_a_restart_opens_a_connection() {
    let node = Node::new();
    let (_directory, socket) = directory();
    let served = node.serve(&socket);
    let client = Client::new(settings(&socket, LIMIT));
    client.version().await.unwrap();
    served.kill().await;
    // Where the connection broke a moment ago, the first call finds out.
    client.version().await.unwrap_err();
    let absent = client.shutdown(false).await.unwrap_err();
    assert!(
        absent.to_string().contains("No such file or directory"),
        "{absent}"
    );
    let _served = node.serve(&socket);
    assert_eq!(client.shutdown(false).await.unwrap(), "actor-1");
    assert_eq!(node.count(SHUTDOWN), 1);
}

#[tokio::test]
async fn an_observation_says_what_is_missing() {
    let node = Node::new();
    let (_directory, socket) = directory();
    let nothing = talos::observe(
        settings(&socket, LIMIT),
        every_adapter(),
        Duration::from_millis(50),
    )
    .await;
    assert_eq!(*nothing.snapshot, Snapshot::default());
    assert_eq!(nothing.missing.len(), ResourceType::ALL.len());
    assert!(nothing.outage.unwrap().contains("No such file or directory"));

    node.fail(HOSTNAMES, Fault::Silence);
    let _served = node.serve(&socket);
    let seen = talos::observe(settings(&socket, LIMIT), every_adapter(), SHORT).await;
    assert_eq!(seen.missing, [ResourceType::Hostname].into());
    assert_eq!(addresses(&seen.snapshot), ["eth0/10.5.0.2/24"]);
    assert_eq!(seen.outage, None);

    node.mend(HOSTNAMES);
    let seen = talos::observe(settings(&socket, LIMIT), every_adapter(), LIMIT).await;
    assert!(seen.missing.is_empty() && is_complete(&seen.snapshot));
}

/// The messages that were logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>, watch::Sender<()>);

impl Log {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }

    fn count(&self, message: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|it| *it == message).count()
    }

    async fn until(&self, message: &str, times: usize) {
        let mut news = self.1.subscribe();
        let enough = news.wait_for(|()| self.count(message) >= times);
        tokio::time::timeout(LIMIT, enough)
            .await
            .expect("logged")
            .unwrap();
    }
}

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        if event.metadata().target().starts_with("talos_vmtoolsd") {
            let mut message = Message(String::new());
            event.record(&mut message);
            self.0.lock().unwrap().push(message.0);
            self.1.send_replace(());
        }
    }
}
