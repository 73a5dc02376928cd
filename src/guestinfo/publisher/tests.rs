#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use proptest::{collection::vec, prelude::*};
use tokio::{
    task::{JoinHandle, yield_now},
    time::{advance, sleep},
};

use super::*;
use crate::{
    guestinfo::{
        nodes::{Node, dual_stack, known},
        schedule::SETTLE,
    },
    rpci::scripted::{Host, Seen, no_channel, refused},
    talos::snapshot::{Fact, HostnameStatus},
};

/// A publisher between a snapshot and a host.
pub(super) struct Bench {
    pub host: Arc<Host>,
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    pub control: Control,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

#[allow(clippy::disallowed_methods, reason = "the bench owns and awaits the task")]
pub(super) fn bench_with(host: Host, snapshot: Snapshot) -> Bench {
    let host = Arc::new(host);
    let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
    let control = Control::default();
    let kernel = Kernel {
        sysname: "Linux".into(),
        release: "6.18.45-talos".into(),
    };
    let mut publisher = Publisher::new(host.clone(), receiver, &control, Policy::default(), Some(kernel));
    publisher.schedule = Schedule::new(Instant::now(), fastrand::Rng::with_seed(7));
    let shutdown = CancellationToken::new();
    Bench {
        host,
        snapshots,
        control,
        task: tokio::spawn(publisher.run(shutdown.clone())),
        shutdown,
    }
}

pub(super) fn bench() -> Bench {
    bench_with(Host::new(), dual_stack().snapshot())
}

/// A request in short: what it sets, without the value.
pub(super) fn what(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split_whitespace();
    let (verb, key) = (words.next().unwrap(), words.next().unwrap_or_default());
    let kind = format!("{verb} {key}");
    let ours = [NICS, NICS_V2, IP, NAME, OS, PLAIN[0], PLAIN[1], UPTIME_KEY];
    assert!(ours.contains(&kind.as_str()), "{kind} is not ours to write");
    kind
}

pub(super) fn kinds(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| what(&seen.bytes)).collect()
}

pub(super) const NICS: &str = "SetGuestInfo 10";
const NICS_V2: &str = "SetGuestInfo 9";
const IP: &str = "info-set guestinfo.ip";
pub(super) const NAME: &str = "SetGuestInfo 1";
const OS: &str = "SetGuestInfo 11";
const PLAIN: [&str; 2] = ["SetGuestInfo 5", "SetGuestInfo 6"];
const UPTIME_KEY: &str = "SetGuestInfo 7";
const ALL: [&str; 5] = [NICS, IP, NAME, OS, UPTIME_KEY];

impl Bench {
    /// Waits for the five requests of a start and forgets them.
    pub async fn started(self) -> Self {
        self.host.wait_for(5).await;
        assert_eq!(kinds(&self.host.take()), ALL);
        self
    }

    pub fn change(&self, node: &Node) {
        self.snapshots.send_replace(Arc::new(node.snapshot()));
    }

    /// Everything the host gets within `time`, without the uptime.
    pub async fn within(&self, time: Duration) -> Vec<Seen> {
        sleep(time).await;
        let mut seen = self.host.take();
        seen.retain(|seen| what(&seen.bytes) != UPTIME_KEY);
        seen
    }

    pub async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

pub(super) fn named(name: &str) -> Node {
    dual_stack().name(name, "example.org")
}

pub(super) const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn everything_known_goes_out_at_once() {
    let bench = bench();
    bench.host.wait_for(5).await;
    let seen = bench.host.take();
    assert_eq!(kinds(&seen), ALL);
    assert!(seen.iter().all(|seen| seen.at.is_zero()));
    let mut network = b"SetGuestInfo  10 ".to_vec();
    let selection = Policy::default()
        .select(&dual_stack().snapshot(), &mut |_| ())
        .unwrap();
    network.extend(selection.record.encode(Message::V3).0);
    assert_eq!(seen[0].bytes, network);
    assert_eq!(seen[1].bytes, b"info-set guestinfo.ip 10.20.30.41\0");
    assert_eq!(seen[2].bytes, b"SetGuestInfo  1 talos-cp-1\0");
    assert_eq!(seen[3].bytes[..17], *b"SetGuestInfo  11 ");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_not_sent() {
    let bench = bench_with(Host::new(), Snapshot::default());
    assert!(bench.within(Duration::from_secs(20)).await.is_empty());
    let name = HostnameStatus {
        hostname: "late".into(),
        domainname: String::new(),
    };
    bench.snapshots.send_modify(|snapshot| {
        Arc::make_mut(snapshot).hostname = known(name);
    });
    let seen = bench.within(MS).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].bytes, b"SetGuestInfo  1 late\0");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_sends_its_uptime_and_everything_every_ten_minutes() {
    let bench = bench().started().await;
    sleep(Duration::from_secs(3600)).await;
    let seen = bench.host.take();
    let mut last: HashMap<String, Duration> = HashMap::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for Seen { at, bytes, .. } in &seen {
        let kind = what(bytes);
        let pause = *at - last.insert(kind.clone(), *at).unwrap_or_default();
        let allowed = if kind == UPTIME_KEY {
            0..33_100
        } else {
            480_000..720_100
        };
        assert!(allowed.contains(&pause.as_millis()), "{kind} after {pause:?}");
        *counts.entry(kind).or_default() += 1;
    }
    for key in [NICS, IP, NAME, OS] {
        assert!((5..=7).contains(&counts[key]), "{key}: {counts:?}");
    }
    assert!(counts[UPTIME_KEY] >= 109, "{counts:?}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_change_leaves_at_once_and_what_follows_is_coalesced() {
    let bench = bench().started().await;
    sleep(Duration::from_secs(1)).await;
    bench.change(&named("a"));
    let seen = bench.within(MS).await;
    assert_eq!(kinds(&seen), [NICS, NAME], "the name stands in the record too");
    assert_eq!(seen[0].at, Duration::from_secs(1));
    for name in ["b", "c", "d"] {
        bench.change(&named(name));
        sleep(MS).await;
    }
    let seen = bench.within(Duration::from_secs(5)).await;
    assert_eq!(kinds(&seen), [NICS, NAME]);
    assert_eq!(seen[1].bytes, b"SetGuestInfo  1 d\0");
    assert_eq!(seen[0].at, Duration::from_millis(1100));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_none_sends_nothing() {
    let bench = bench().started().await;
    for _ in 0..5 {
        bench.change(&dual_stack());
        assert!(bench.within(Duration::from_secs(1)).await.is_empty());
    }
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_pass_is_not_lost() {
    let bench = bench().started().await;
    sleep(Duration::from_secs(1)).await;
    bench.host.set_latency(Duration::from_millis(400));
    bench.change(&named("a"));
    sleep(MS).await;
    bench.change(&named("b"));
    let seen = bench.within(Duration::from_secs(5)).await;
    assert_eq!(seen.last().unwrap().bytes, b"SetGuestInfo  1 b\0");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_answered_with_everything_at_once() {
    let bench = bench().started().await;
    sleep(Duration::from_millis(30)).await;
    bench.control.forget();
    bench.host.wait_for(5).await;
    let seen = bench.host.take();
    assert_eq!(kinds(&seen), ALL);
    assert_eq!(
        seen[0].at,
        Duration::from_millis(30),
        "the quiet time is for changes"
    );
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_a_reset_counts_for_nothing() {
    let host = Host::new();
    host.set_latency(Duration::from_millis(10));
    let bench = bench_with(host, dual_stack().snapshot());
    bench.host.wait_for(3).await;
    bench.control.forget();
    let seen = bench.within(Duration::from_secs(1)).await;
    assert_eq!(kinds(&seen), [NICS, IP, NAME, NICS, IP, NAME, OS]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_answer_was_lost_may_be_at_the_host() {
    let bench = bench().started().await;
    sleep(Duration::from_secs(1)).await;
    bench.host.answer(|_| no_channel());
    bench.change(&named("other"));
    assert_eq!(kinds(&bench.within(MS).await), [NICS]);
    bench.host.answer(|_| Ok(Vec::new()));
    bench.change(&dual_stack());
    assert_eq!(kinds(&bench.within(Duration::from_secs(1)).await), [NICS]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_resets_is_bounded() {
    let bench = bench().started().await;
    for _ in 0..1000 {
        bench.control.forget();
        bench.control.forget();
        sleep(MS).await;
    }
    let seen = bench.within(Duration::from_secs(1)).await;
    assert!(seen.len() <= 4 * 12, "{}", seen.len());
    assert_eq!(kinds(&seen)[seen.len() - 4..], ALL[..4]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_changes_is_bounded() {
    let bench = bench().started().await;
    for round in 0..10_000 {
        bench.change(&named(&format!("n{round}")));
        advance(Duration::from_micros(100)).await;
        yield_now().await;
    }
    let seen = bench.within(Duration::from_secs(1)).await;
    assert!((2..=24).contains(&seen.len()), "{}", seen.len());
    assert_eq!(seen.last().unwrap().bytes, b"SetGuestInfo  1 n9999\0");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn broadcast_sends_the_address_again() {
    let bench = bench().started().await;
    sleep(Duration::from_secs(1)).await;
    bench.control.broadcast_ip();
    let seen = bench.within(MS).await;
    assert_eq!(kinds(&seen), [IP]);
    assert_eq!(seen[0].bytes, b"info-set guestinfo.ip 10.20.30.41\0");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_text_with_an_answer_was_not_stored() {
    let host = Host::new();
    host.answer(|request| match what(request).as_str() {
        NAME => Ok(b"not now".to_vec()),
        _ => Ok(b"\0".to_vec()),
    });
    let bench = bench_with(host, dual_stack().snapshot()).started().await;
    assert!(bench.within(Duration::from_secs(26)).await.is_empty());
    assert_eq!(kinds(&bench.within(Duration::from_secs(8)).await), [NAME]);
    bench.change(&named("other"));
    assert_eq!(kinds(&bench.within(MS).await), [NICS, NAME]);
    bench.host.answer(|_| Ok(Vec::new()));
    let seen = bench.within(Duration::from_secs(400)).await;
    assert_eq!(kinds(&seen), [NAME], "until it is taken");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn records_are_stored_whatever_the_host_says_to_them() {
    let host = Host::new();
    host.answer(|request| match what(request).as_str() {
        NICS | OS | IP => Ok(b"thank you".to_vec()),
        _ => Ok(Vec::new()),
    });
    let bench = bench_with(host, dual_stack().snapshot()).started().await;
    assert!(bench.within(Duration::from_secs(60)).await.is_empty());
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_refuses_id_10_gets_id_9_until_the_next_reset() {
    let host = Host::new();
    host.answer(|request| match what(request).as_str() {
        NICS => refused("Invalid request"),
        _ => Ok(Vec::new()),
    });
    let bench = bench_with(host, dual_stack().snapshot());
    let seen = bench.within(Duration::from_secs(1)).await;
    assert_eq!(kinds(&seen), [NICS, NICS_V2, IP, NAME, OS]);
    assert!(seen[1].bytes.starts_with(b"SetGuestInfo  9 \0\0\0\x03\0\0\0\x01"));
    bench.change(&named("other"));
    assert_eq!(
        kinds(&bench.within(Duration::from_secs(1)).await),
        [NICS_V2, NAME]
    );
    bench.control.forget();
    let seen = bench.within(Duration::from_secs(1)).await;
    assert_eq!(kinds(&seen), [NICS, NICS_V2, IP, NAME, OS]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_refuses_both_is_asked_again_after_a_while_and_for_another_record() {
    let host = Host::new();
    host.answer(|request| match what(request).as_str() {
        NICS | NICS_V2 => refused("Invalid request"),
        _ => Ok(Vec::new()),
    });
    let bench = bench_with(host, dual_stack().snapshot());
    let seen = bench.within(Duration::from_secs(26)).await;
    assert_eq!(kinds(&seen), [NICS, NICS_V2, IP, NAME, OS]);
    let seen = bench.within(Duration::from_secs(8)).await;
    assert_eq!(kinds(&seen), [NICS, NICS_V2]);
    bench.change(&named("other"));
    let seen = bench.within(Duration::from_secs(1)).await;
    assert_eq!(kinds(&seen), [NICS, NICS_V2, NAME]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_without_the_os_record_gets_the_plain_names_until_the_next_reset() {
    let host = Host::new();
    host.answer(|request| match what(request).as_str() {
        OS => refused("Unknown command"),
        _ => Ok(Vec::new()),
    });
    let bench = bench_with(host, dual_stack().snapshot());
    let seen = bench.within(Duration::from_secs(60)).await;
    assert_eq!(kinds(&seen)[3..], [OS, PLAIN[0], PLAIN[1]]);
    assert_eq!(
        seen[4].bytes,
        b"SetGuestInfo  5 Linux 6.18.45-talos Talos v1.14.1 Talos (v1.14.1)\0"
    );
    assert_eq!(seen[5].bytes, b"SetGuestInfo  6 other6xlinux-64\0");
    let seen = bench.within(Duration::from_secs(700)).await;
    assert_eq!(
        kinds(&seen),
        [NICS, IP, NAME, PLAIN[0], PLAIN[1]],
        "the full resend"
    );
    bench.control.forget();
    let seen = bench.within(Duration::from_secs(1)).await;
    assert_eq!(kinds(&seen)[3..], [OS, PLAIN[0], PLAIN[1]]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_command_is_not_repeated_before_the_next_reset() {
    let host = Host::new();
    host.answer(|request| match what(request).as_str() {
        IP => refused("disabled"),
        UPTIME_KEY => refused("Unknown command"),
        _ => Ok(Vec::new()),
    });
    let bench = bench_with(host, dual_stack().snapshot()).started().await;
    bench.control.broadcast_ip();
    sleep(Duration::from_secs(3600)).await;
    let seen = bench.host.take();
    assert!(!seen.is_empty());
    for seen in &seen {
        assert!(
            ![IP, UPTIME_KEY].contains(&what(&seen.bytes).as_str()),
            "{}",
            seen.text()
        );
    }
    bench.control.forget();
    bench.host.wait_for(5).await;
    assert_eq!(kinds(&bench.host.take()), ALL);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_there_is_no_channel() {
    let up = Arc::new(AtomicBool::new(false));
    let host = Host::new();
    host.answer({
        let up = up.clone();
        move |_| {
            if up.load(Ordering::SeqCst) {
                Ok(Vec::new())
            } else {
                no_channel()
            }
        }
    });
    let bench = bench_with(host, dual_stack().snapshot());
    sleep(Duration::from_secs(60)).await;
    let seen = bench.host.take();
    assert!((8..=14).contains(&seen.len()), "{} tries in a minute", seen.len());
    assert!(seen.iter().all(|seen| what(&seen.bytes) == NICS));
    bench.change(&named("other"));
    sleep(MS).await;
    assert!(
        bench.host.take().is_empty(),
        "a change does not shorten the pause"
    );

    up.store(true, Ordering::SeqCst);
    bench.host.wait_for(5).await;
    let seen = bench.host.take();
    assert_eq!(kinds(&seen), ALL);
    assert_eq!(seen[2].bytes, b"SetGuestInfo  1 other\0");
    assert!(seen[0].at < Duration::from_secs(73), "{:?}", seen[0].at);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_the_pause_of_an_outage() {
    let host = Host::new();
    host.answer(|_| no_channel());
    let bench = bench_with(host, dual_stack().snapshot());
    sleep(Duration::from_secs(60)).await;
    bench.host.take();
    bench.host.answer(|_| Ok(Vec::new()));
    let now = Duration::from_secs(60);
    bench.control.forget();
    bench.host.wait_for(5).await;
    let seen = bench.host.take();
    assert_eq!(kinds(&seen), ALL);
    assert_eq!(seen[0].at, now);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_garbled_answer_holds_up_no_other_value() {
    let host = Host::new();
    let garbled = Arc::new(Mutex::new(3));
    host.answer(move |request| {
        let mut left = garbled.lock().unwrap();
        if what(request) == NICS && *left > 0 {
            *left -= 1;
            return Err(RpciError::Malformed {
                command: "SetGuestInfo".into(),
                length: 1,
            });
        }
        Ok(Vec::new())
    });
    let bench = bench_with(host, dual_stack().snapshot()).started().await;
    let seen = bench.within(Duration::from_secs(60)).await;
    assert_eq!(kinds(&seen), [NICS, NICS, NICS], "until it is taken");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn suspended_it_sends_nothing_and_loses_nothing() {
    let bench = bench().started().await;
    bench.control.suspend();
    sleep(MS).await;
    bench.change(&named("other"));
    bench.control.broadcast_ip();
    sleep(Duration::from_secs(3600)).await;
    assert!(bench.host.take().is_empty());
    bench.control.resume();
    bench.host.wait_for(5).await;
    assert_eq!(kinds(&bench.host.take()), ALL, "the hour has made all of it due");
    bench.control.suspend();
    bench.control.resume();
    assert!(bench.within(MS).await.is_empty());
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspension_stops_a_pass_behind_the_request_under_way() {
    let host = Host::new();
    host.set_latency(Duration::from_millis(10));
    let bench = bench_with(host, dual_stack().snapshot());
    bench.host.wait_for(2).await;
    bench.control.suspend();
    assert_eq!(kinds(&bench.within(Duration::from_secs(60)).await), [NICS, IP]);
    bench.control.resume();
    let seen = bench.within(Duration::from_secs(1)).await;
    assert_eq!(kinds(&seen), [NAME, OS]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_record_waits_a_moment_for_what_orders_it() {
    let whole = dual_stack().snapshot();
    let partial = Snapshot {
        routes: Fact::Unknown,
        node_addresses: Fact::Unknown,
        node_ips: Fact::Unknown,
        ..whole.clone()
    };
    let bench = bench_with(Host::new(), partial.clone());
    assert_eq!(kinds(&bench.within(Duration::from_millis(50)).await), [NAME, OS]);
    bench.snapshots.send_replace(Arc::new(whole));
    let seen = bench.within(Duration::from_millis(60)).await;
    assert_eq!(kinds(&seen), [NICS, IP]);
    bench.end().await;

    // What is not told within that moment is not waited for.
    let bench = bench_with(Host::new(), partial);
    let seen = bench.within(Duration::from_secs(1)).await;
    assert_eq!(kinds(&seen), [NAME, OS, NICS, IP]);
    assert_eq!(seen[2].at, SETTLE);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_address_clears_the_primary_one() {
    let bench = bench().started().await;
    let mut node = dual_stack();
    node.addresses.clear();
    bench.change(&node);
    let seen = bench.within(Duration::from_secs(1)).await;
    assert_eq!(kinds(&seen), [NICS, IP]);
    assert_eq!(seen[1].bytes, b"info-set guestinfo.ip \0");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn uptime_never_falls() {
    let bench = bench();
    sleep(Duration::from_secs(600)).await;
    let mut last = 0;
    let mut count = 0;
    for seen in bench.host.take() {
        if let Some(text) = seen.text().strip_prefix("SetGuestInfo  7 ") {
            let uptime: u64 = text.strip_suffix(r"\x00").unwrap().parse().unwrap();
            assert!(uptime >= last && uptime > 0);
            last = uptime;
            count += 1;
        }
    }
    assert!(count >= 18, "{count}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn cancellation_ends_it_in_any_state() {
    bench().end().await;
    let host = Host::new();
    host.set_latency(Duration::from_secs(3600));
    let bench = bench_with(host, dual_stack().snapshot());
    bench.host.wait_for(1).await;
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn it_lives_on_when_the_snapshots_end() {
    let Bench {
        host,
        snapshots,
        control,
        shutdown,
        task,
    } = bench().started().await;
    drop(snapshots);
    sleep(Duration::from_secs(1)).await;
    control.forget();
    host.wait_for(5).await;
    assert_eq!(kinds(&host.take()), ALL);
    shutdown.cancel();
    task.await.unwrap();
}

/// Takes the warnings of this thread.
#[derive(Clone, Default)]
pub(super) struct Warnings(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Warnings {
    /// From now on, as long as the guard lives.
    pub fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_takes_nothing_is_one_line() {
    let warnings = Warnings::default();
    let _guard = warnings.capture();

    let host = Host::new();
    host.answer(|_| refused("disabled"));
    let bench = bench_with(host, dual_stack().snapshot());
    for round in 0..20 {
        sleep(Duration::from_secs(100)).await;
        bench.change(&named(&format!("n{round}")));
        if round % 5 == 0 {
            bench.control.forget();
        }
    }
    let lines = warnings.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("disabled"), "{lines:?}");
    bench.end().await;
}

/// Each value that is refused for now, once in 30 s; each other one with the full resend only.
#[tokio::test(start_paused = true)]
async fn what_is_refused_for_now_is_tried_every_half_minute_without_a_word() {
    let warnings = Warnings::default();
    let _guard = warnings.capture();
    let host = Host::new();
    host.answer(|request| match what(request).as_str() {
        IP | NAME => refused("Invalid argument"),
        _ => Ok(Vec::new()),
    });
    let bench = bench_with(host, dual_stack().snapshot());
    sleep(Duration::from_secs(3600)).await;
    let mut times: HashMap<String, Vec<Duration>> = HashMap::new();
    for Seen { at, bytes, .. } in bench.host.take() {
        times.entry(what(&bytes)).or_default().push(at);
    }
    for key in [IP, NAME] {
        assert!(
            (105..=140).contains(&times[key].len()),
            "{key}: {}",
            times[key].len()
        );
        // The full resend comes earlier than the next try.
        let early = times[key]
            .windows(2)
            .filter(|pair| (pair[1] - pair[0]).as_secs() < 27);
        assert!(early.count() <= 8, "{key}");
    }
    assert!(times[OS].len() <= 9, "{}", times[OS].len());
    let lines = warnings.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    bench.end().await;
}

/// What can happen to a publisher.
#[derive(Clone, Debug)]
enum Event {
    Name(u8),
    /// The host loses everything and says so.
    Reset,
    Broadcast,
    Down,
    /// The host gets the requests, and the answers are lost.
    Deaf,
    Up,
    Suspend,
    Resume,
    Wait(u16),
}

#[derive(Default)]
struct Model {
    down: bool,
    deaf: bool,
    stored: HashMap<String, Vec<u8>>,
}

async fn converges(events: Vec<Event>, latency: u8) {
    let model = Arc::new(Mutex::new(Model::default()));
    let host = Host::new();
    host.set_latency(MS * latency.into());
    host.answer({
        let model = model.clone();
        move |request| {
            let mut model = model.lock().unwrap();
            if model.down {
                return no_channel();
            }
            model.stored.insert(what(request), request.to_vec());
            if model.deaf { no_channel() } else { Ok(Vec::new()) }
        }
    });
    let bench = bench_with(host, dual_stack().snapshot());
    let mut name = "talos-cp-1".to_owned();
    for event in events {
        match event {
            Event::Name(number) => {
                name = format!("n{number}");
                bench.change(&named(&name));
            }
            Event::Reset => {
                model.lock().unwrap().stored.clear();
                bench.control.forget();
            }
            Event::Broadcast => bench.control.broadcast_ip(),
            Event::Down => model.lock().unwrap().down = true,
            Event::Deaf => model.lock().unwrap().deaf = true,
            Event::Up => {
                let mut model = model.lock().unwrap();
                (model.down, model.deaf) = (false, false);
            }
            Event::Suspend => bench.control.suspend(),
            Event::Resume => bench.control.resume(),
            Event::Wait(milliseconds) => sleep(MS * milliseconds.into()).await,
        }
    }
    {
        let mut model = model.lock().unwrap();
        (model.down, model.deaf) = (false, false);
    }
    bench.control.resume();
    // Longer than the longest pause.
    sleep(Duration::from_secs(15)).await;

    let selection = Policy::default()
        .select(&named(&name).snapshot(), &mut |_| ())
        .unwrap();
    {
        let model = model.lock().unwrap();
        assert_eq!(
            model.stored[NICS],
            Request::guest_info_binary(10, &selection.record.encode(Message::V3).0).bytes()
        );
        assert_eq!(model.stored[NAME], Request::guest_info_text(1, &name).bytes());
        assert_eq!(model.stored[IP], Request::info_set("ip", "10.20.30.41").bytes());
        assert!(model.stored.contains_key(OS) && model.stored.contains_key(UPTIME_KEY));
    }
    bench.end().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, in the end the host has what is true.
    #[test]
    fn the_host_ends_up_with_the_truth(
        events in vec(prop_oneof![
            4 => (0u8..3).prop_map(Event::Name),
            2 => Just(Event::Reset),
            1 => Just(Event::Broadcast),
            1 => Just(Event::Down),
            1 => Just(Event::Deaf),
            2 => Just(Event::Up),
            1 => Just(Event::Suspend),
            2 => Just(Event::Resume),
            4 => prop_oneof![0u16..5, 0u16..200, 0u16..3000].prop_map(Event::Wait),
        ], 0..40),
        latency in prop_oneof![Just(0u8), 1u8..60],
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(converges(events, latency));
    }
}
