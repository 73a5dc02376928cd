//! What the publisher sends beside the network: statistics, the state of Talos, and what it clears.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use std::{collections::BTreeMap as Map, sync::Mutex};

use tokio::{task::JoinHandle, time::sleep};

use super::*;
use crate::{
    guestinfo::{
        nic::tests::Reader,
        nodes::{dual_stack, known},
        talos_state::StateKey,
    },
    rpci::scripted::{Host, refused},
    talos::snapshot::{HostnameStatus, MachineStatus},
};

/// A publisher between a snapshot and a host that keeps what it is told.
struct Bench {
    host: Arc<Host>,
    values: Arc<Mutex<Map<String, String>>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    control: Control,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// Keys that others own. Nobody may as much as ask for them.
const FOREIGN: [(&str, &str); 4] = [
    ("guestinfo.talos.config", "bWFjaGluZSBjb25maWd1cmF0aW9u"),
    ("guestinfo.talos.platform", "theirs"),
    ("guestinfo.userdata", "theirs"),
    ("guestinfo.metadata", "theirs"),
];

#[allow(clippy::disallowed_methods, reason = "the bench owns and awaits the task")]
fn bench(policy: Policy, snapshot: Snapshot, left: &[(&str, &str)]) -> Bench {
    let host = Arc::new(Host::new());
    let before = FOREIGN.iter().chain(left);
    let before = before.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let values = Arc::new(Mutex::new(before.collect::<Map<_, _>>()));
    let kept = Arc::clone(&values);
    host.answer(move |request| {
        let text = String::from_utf8_lossy(request);
        let text = text.trim_end_matches('\0');
        for (foreign, _) in FOREIGN {
            assert!(!text.contains(foreign), "{text}");
        }
        let mut kept = kept.lock().unwrap();
        if let Some((key, value)) = text
            .strip_prefix("info-set ")
            .and_then(|rest| rest.split_once(' '))
        {
            kept.insert(key.into(), value.into());
        } else if let Some(key) = text.strip_prefix("info-get ") {
            return match kept.get(key) {
                Some(value) => Ok(value.clone().into_bytes()),
                None => refused("No value found"),
            };
        }
        Ok(Vec::new())
    });
    let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
    let control = Control::default();
    let publisher = Publisher::new(host.clone(), receiver, &control, policy, None);
    let shutdown = CancellationToken::new();
    Bench {
        host,
        values,
        snapshots,
        control,
        task: tokio::spawn(publisher.run(shutdown.clone())),
        shutdown,
    }
}

fn reporting() -> Policy {
    Policy {
        talos_state: true,
        ..Policy::default()
    }
}

fn machine(stage: i32, ready: bool, unmet: &str) -> crate::talos::snapshot::Fact<MachineStatus> {
    known(MachineStatus {
        stage,
        ready,
        unmet_conditions: if unmet.is_empty() {
            vec![]
        } else {
            vec![(unmet.into(), "waiting".into())]
        },
    })
}

impl Bench {
    fn value(&self, key: &str) -> Option<String> {
        self.values
            .lock()
            .unwrap()
            .get(&format!("guestinfo.{key}"))
            .cloned()
    }

    /// Requests under `guestinfo.talos.` within `time`.
    async fn writes(&self, time: Duration) -> Vec<String> {
        sleep(time).await;
        let seen = self.host.take().into_iter().map(|seen| seen.text());
        seen.filter(|text| text.starts_with("info-set guestinfo.talos."))
            .collect()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        for (key, value) in FOREIGN {
            assert_eq!(self.values.lock().unwrap()[key], value, "{key}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_53_a_clone_carries_nothing_of_its_original() {
    let mut snapshot = dual_stack().snapshot();
    snapshot.machine = machine(4, true, "");
    let left = StateKey::ALL.map(|key| (format!("guestinfo.{}", key.name()), "of the original"));
    let mut left: Vec<(&str, &str)> = left.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    left.push(("guestinfo.ip", "192.0.2.1"));
    left.push(("guestinfo.vmtools.containerinfo", "{}"));
    let bench = bench(reporting(), snapshot, &left);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.value("ip").as_deref(), Some("10.20.30.41"));
    for (key, expected) in [
        ("talos.stage", "running"),
        ("talos.ready", "true"),
        ("talos.unmet-conditions", ""),
        ("talos.version", "v1.14.1"),
        ("talos.agent-version", env!("CARGO_PKG_VERSION")),
        // Not told by this Talos.
        ("talos.cluster-name", ""),
        ("talos.node-name", ""),
        ("talos.node-ready", ""),
        ("talos.boot-id", ""),
        ("talos.schematic-id", ""),
        ("talos.machine-type", ""),
        ("vmtools.containerinfo", ""),
        // Those who write them tell their first value, whatever it is.
        ("talos.last-error", "of the original"),
        ("talos.clock-offset", "of the original"),
    ] {
        assert_eq!(bench.value(key).as_deref(), Some(expected), "{key}");
    }
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn switched_off_it_clears_what_it_once_filled_and_writes_nothing() {
    let left = [("guestinfo.talos.stage", "running")];
    let bench = bench(Policy::default(), dual_stack().snapshot(), &left);
    let writes = bench.writes(Duration::from_secs(3600)).await;
    assert_eq!(writes, ["info-set guestinfo.talos.stage \\x00"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_of_the_original_goes_before_talos_tells_one() {
    let left = [("guestinfo.ip", "192.0.2.1")];
    let bench = bench(reporting(), Snapshot::default(), &left);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.value("ip").as_deref(), Some(""));
    bench.snapshots.send_replace(Arc::new(dual_stack().snapshot()));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.value("ip").as_deref(), Some("10.20.30.41"));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn suspended_before_the_first_second_is_over_it_does_not_even_ask() {
    let left = [
        ("guestinfo.talos.stage", "running"),
        ("guestinfo.ip", "192.0.2.1"),
    ];
    let bench = bench(reporting(), Snapshot::default(), &left);
    bench.host.wait_for(1).await;
    // Each question takes its time, and the suspension comes during the first of them.
    bench.host.set_latency(Duration::from_millis(10));
    sleep(Duration::from_millis(1005)).await;
    bench.control.suspend();
    sleep(Duration::from_millis(10)).await;
    bench.host.take();
    sleep(Duration::from_secs(60)).await;
    assert!(bench.host.take().is_empty());
    bench.control.resume();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.value("talos.stage").as_deref(), Some(""));
    assert_eq!(bench.value("ip").as_deref(), Some(""));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_never_set_is_not_made_by_clearing_it() {
    let bench = bench(reporting(), Snapshot::default(), &[]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.value("talos.stage"), None);
    assert!(bench.value("talos.agent-version").is_some());
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_state_is_sent_on_change_and_only_then() {
    let mut snapshot = dual_stack().snapshot();
    snapshot.machine = machine(1, false, "services");
    let bench = bench(reporting(), snapshot, &[]);
    assert_eq!(bench.writes(Duration::from_secs(2)).await.len(), 5);
    assert_eq!(
        bench.value("talos.unmet-conditions").as_deref(),
        Some("services: waiting")
    );
    assert!(bench.writes(Duration::from_secs(300)).await.is_empty());
    bench
        .snapshots
        .send_modify(|snapshot| Arc::make_mut(snapshot).machine = machine(4, true, ""));
    assert_eq!(
        bench.writes(Duration::from_millis(1)).await,
        [
            "info-set guestinfo.talos.stage running\\x00",
            "info-set guestinfo.talos.ready true\\x00",
            "info-set guestinfo.talos.unmet-conditions \\x00",
        ]
    );
    bench.control.forget();
    assert_eq!(
        bench.writes(Duration::from_millis(1)).await.len(),
        5,
        "a reset forgets all"
    );
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_flaps_costs_four_writes_a_minute_and_ends_with_the_truth() {
    let mut snapshot = dual_stack().snapshot();
    snapshot.machine = machine(4, true, "");
    let bench = bench(reporting(), snapshot, &[]);
    bench.writes(Duration::from_secs(2)).await;
    let flap = async || {
        for round in 0..3000_u32 {
            bench.snapshots.send_modify(|snapshot| {
                let ready = round % 2 == 1;
                Arc::make_mut(snapshot).machine = machine(4, ready, if ready { "" } else { "nodeReady" });
            });
            sleep(Duration::from_millis(200)).await;
        }
    };
    flap().await;
    // What the burst had left.
    bench.writes(Duration::ZERO).await;
    flap().await;
    let writes = bench.writes(Duration::ZERO).await.len();
    assert!((36..=41).contains(&writes), "{writes} in ten minutes");
    // A full resend may have made all five keys due, and each has its turn.
    sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.value("talos.ready").as_deref(), Some("true"));
    assert_eq!(bench.value("talos.unmet-conditions").as_deref(), Some(""));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_flaps_starves_no_other_key() {
    let bench = bench(reporting(), dual_stack().snapshot(), &[]);
    let flap = async |seconds: u32| {
        for round in 0..seconds {
            bench.snapshots.send_modify(|snapshot| {
                let stage = 1 + i32::try_from(round % 8).unwrap();
                Arc::make_mut(snapshot).machine = machine(stage, round % 2 == 0, &round.to_string());
            });
            sleep(Duration::from_secs(1)).await;
        }
    };
    flap(120).await;
    bench.snapshots.send_modify(|snapshot| {
        let snapshot = Arc::make_mut(snapshot);
        snapshot.boot_id = known("6a1b".into());
        snapshot.cluster_name = known("home".into());
    });
    // Five keys differ; each is written within five of the budget's writes.
    flap(90).await;
    assert_eq!(bench.value("talos.cluster-name").as_deref(), Some("home"));
    assert_eq!(bench.value("talos.boot-id").as_deref(), Some("6a1b"));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_of_it_is_sent_while_suspended() {
    let policy = Policy {
        statistics: true,
        ..reporting()
    };
    let bench = bench(policy, dual_stack().snapshot(), &[]);
    sleep(Duration::from_secs(2)).await;
    bench.control.suspend();
    sleep(Duration::from_millis(1)).await;
    bench.host.take();
    bench
        .snapshots
        .send_modify(|snapshot| Arc::make_mut(snapshot).machine = machine(8, false, ""));
    sleep(Duration::from_secs(300)).await;
    assert!(bench.host.take().is_empty());
    bench.control.resume();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.value("talos.stage").as_deref(), Some("upgrading"));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_without_info_set_is_asked_once() {
    let policy = Policy {
        statistics: true,
        ..reporting()
    };
    let bench = bench(policy, dual_stack().snapshot(), &[]);
    bench.host.answer(|request| {
        if request.starts_with(b"info-") {
            refused("disabled")
        } else {
            Ok(Vec::new())
        }
    });
    sleep(Duration::from_secs(2)).await;
    bench.host.take();
    let mut snapshot = dual_stack().snapshot();
    snapshot.hostname = known(HostnameStatus {
        hostname: "other".into(),
        domainname: String::new(),
    });
    bench.snapshots.send_replace(Arc::new(snapshot));
    sleep(Duration::from_secs(3600)).await;
    let seen = bench.host.take();
    assert!(seen.iter().any(|seen| seen.text().contains("other")));
    assert!(seen.iter().all(|seen| !seen.bytes.starts_with(b"info-")));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn statistics_go_out_every_twenty_seconds() {
    let policy = Policy {
        statistics: true,
        ..Policy::default()
    };
    let bench = bench(policy, Snapshot::default(), &[]);
    sleep(Duration::from_secs(600)).await;
    let times: Vec<Duration> = bench
        .host
        .take()
        .into_iter()
        .filter(|seen| seen.bytes.starts_with(b"SetGuestInfo  8 \x05\0\0\0"))
        .map(|seen| seen.at)
        .collect();
    assert!((27..=34).contains(&times.len()), "{}", times.len());
    for pair in times.windows(2) {
        let pause = (pair[1] - pair[0]).as_millis();
        assert!((18_000..=22_100).contains(&pause), "{pause}");
    }
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn row_4_a_name_that_comes_late_follows_at_once_and_was_never_a_placeholder() {
    let mut snapshot = dual_stack().snapshot();
    snapshot.hostname = crate::talos::snapshot::Fact::Unknown;
    let bench = bench(Policy::default(), snapshot, &[]);
    let named = |seen: Vec<crate::rpci::scripted::Seen>| -> Vec<String> {
        let texts = seen.into_iter().map(|seen| seen.text());
        texts
            .filter(|text| text.starts_with("SetGuestInfo  1 "))
            .collect()
    };
    sleep(Duration::from_secs(30)).await;
    assert_eq!(named(bench.host.take()), Vec::<String>::new());
    for name in ["dev-controlplane-1", "Renamed.at-run-time"] {
        bench.snapshots.send_modify(|snapshot| {
            Arc::make_mut(snapshot).hostname = known(HostnameStatus {
                hostname: name.into(),
                domainname: String::new(),
            });
        });
        sleep(Duration::from_millis(100)).await;
        let seen = bench.host.take();
        let record = seen
            .iter()
            .find(|seen| seen.bytes.starts_with(b"SetGuestInfo  10 "));
        let dns = Reader::record(&record.unwrap().bytes[17..], 2048).dns.unwrap();
        assert_eq!(dns.host.as_deref(), Some(name), "in the NIC record too");
        assert_eq!(named(seen), [format!("SetGuestInfo  1 {name}\\x00")]);
    }
    bench
        .snapshots
        .send_modify(|snapshot| Arc::make_mut(snapshot).hostname = known(HostnameStatus::default()));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        named(bench.host.take()),
        Vec::<String>::new(),
        "the host keeps the last one"
    );
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn disks_are_told_in_the_form_that_the_host_takes() {
    use crate::talos::snapshot::{Filesystem, MountStatus};

    let mount = MountStatus {
        target: "/var".into(),
        filesystem: "xfs".into(),
        ..MountStatus::default()
    };
    let snapshot = Snapshot {
        mounts: known(Arc::new([("EPHEMERAL".to_owned(), mount)].into())),
        ..Snapshot::default()
    };
    let answer = |available| {
        Some(Arc::new(vec![Filesystem {
            source: "/dev/sda6".into(),
            target: "/var".into(),
            size: 40 << 30,
            available,
        }]))
    };
    for (refuses, expected) in [
        (false, ["SetGuestDiskInfo {"; 2].as_slice()),
        (
            true,
            &[
                "SetGuestDiskInfo {",
                "SetGuestInfo  3 \u{1}",
                "SetGuestInfo  3 \u{1}",
            ],
        ),
    ] {
        let host = Arc::new(Host::new());
        host.answer(move |request| {
            if refuses && request.starts_with(b"SetGuestDiskInfo") {
                refused("Unknown command")
            } else {
                Ok(Vec::new())
            }
        });
        let (sender, filesystems) = watch::channel(None);
        let (_snapshots, receiver) = watch::channel(Arc::new(snapshot.clone()));
        let control = Control::default();
        let publisher = Publisher::new(host.clone(), receiver, &control, Policy::default(), None);
        let shutdown = CancellationToken::new();
        let publish = publisher.with_disks(filesystems).run(shutdown.clone());
        let drive = async {
            for available in [20_u64 << 30, (20 << 30) - 1, 19 << 30] {
                sender.send_replace(answer(available));
                sleep(Duration::from_secs(1)).await;
            }
            shutdown.cancel();
        };
        tokio::join!(publish, drive);
        let seen: Vec<String> = host
            .take()
            .iter()
            .map(|seen| String::from_utf8_lossy(&seen.bytes).into_owned())
            .filter(|text| text.contains("Disk") || text.starts_with("SetGuestInfo  3 "))
            .collect();
        assert_eq!(seen.len(), expected.len(), "{seen:?}");
        for (seen, expected) in seen.iter().zip(expected) {
            assert!(seen.starts_with(expected), "{seen}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn containers_are_told_once_and_not_against_the_hosts_will() {
    let host = Arc::new(Host::new());
    let (sender, list) = watch::channel(None);
    let (_snapshots, receiver) = watch::channel(Arc::<Snapshot>::default());
    let control = Control::default();
    let publisher = Publisher::new(host.clone(), receiver, &control, Policy::default(), None);
    let shutdown = CancellationToken::new();
    let publish = publisher.with_containers(list).run(shutdown.clone());
    let told = |host: &Host| -> Vec<String> {
        let texts = host.take().into_iter().map(|seen| seen.text());
        texts
            .filter(|text| text.starts_with("info-set guestinfo.vmtools.containerinfo"))
            .collect()
    };
    let set = |value: &str| format!("info-set guestinfo.vmtools.containerinfo {value}\\x00");
    let drive = async {
        let second = || sleep(Duration::from_secs(1));
        second().await;
        assert_eq!(told(&host), [""; 0], "nothing known, nothing said");
        for _ in 0..3 {
            sender.send_replace(Some("list".into()));
            second().await;
        }
        assert_eq!(told(&host), [set("list")]);
        control.list_containers(false);
        second().await;
        assert_eq!(told(&host), [set("")]);
        sender.send_replace(Some("another".into()));
        second().await;
        assert_eq!(told(&host), [""; 0]);
        control.list_containers(true);
        second().await;
        assert_eq!(told(&host), [set("another")]);
        control.list_containers(false);
        second().await;
        control.reset();
        second().await;
        assert_eq!(
            told(&host),
            [set(""), set("another")],
            "a reset switches it on again"
        );
        shutdown.cancel();
    };
    tokio::join!(publish, drive);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_an_earlier_life_is_cleared_before_there_is_one_of_this_life() {
    for switched_off in [true, false] {
        let host = Arc::new(Host::new());
        host.answer(|request| {
            let left = request.starts_with(b"info-get guestinfo.vmtools.containerinfo");
            Ok(if left { b"left".to_vec() } else { Vec::new() })
        });
        let (_list, list) = watch::channel(None);
        let (_snapshots, receiver) = watch::channel(Arc::<Snapshot>::default());
        let control = Control::default();
        control.list_containers(!switched_off);
        let publisher = Publisher::new(host.clone(), receiver, &control, Policy::default(), None);
        let shutdown = CancellationToken::new();
        let publish = publisher.with_containers(list).run(shutdown.clone());
        let drive = async {
            sleep(Duration::from_millis(if switched_off { 1 } else { 1100 })).await;
            shutdown.cancel();
        };
        tokio::join!(publish, drive);
        let clear = r"info-set guestinfo.vmtools.containerinfo \x00";
        let cleared = host.take().iter().filter(|seen| seen.text() == clear).count();
        assert_eq!(cleared, 1, "switched off: {switched_off}");
    }
}
