//! The whole channel against a host that behaves, and one that does not: rows 3, 22 to 31 and 38.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use talos_vmtoolsd::{
    rpci::{MAX_REQUEST, Request, Rpci, RpciError},
    tclo::{Command, Event, Feature, Next, Reply, StateChange},
};
use tokio::task::{JoinSet, yield_now};

use super::host::{At, Bench, Host};

const SECOND: Duration = Duration::from_secs(1);

fn replies(bench: &mut Bench) -> Vec<String> {
    let replies = std::mem::take(&mut bench.host().seen().replies);
    replies
        .iter()
        .map(|reply| reply.escape_ascii().to_string())
        .collect()
}

fn commands(bench: &mut Bench) -> Vec<String> {
    let commands = std::mem::take(&mut bench.host().seen().commands);
    commands
        .iter()
        .map(|command| command.escape_ascii().to_string())
        .collect()
}

/// Answers `OS_Halt` and counts as busy from then on.
struct Power(Arc<AtomicBool>);

impl Feature for Power {
    fn name(&self) -> &'static str {
        "power"
    }

    fn capabilities(&mut self) -> Vec<Request> {
        vec![
            Request::raw("tools.capability.statechange "),
            Request::text("tools.capability.hgfs_server toolbox 1"),
        ]
    }

    fn wants_fast_polling(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn handle(&mut self, command: &Command<'_>) -> Option<Reply> {
        if *command != Command::StateChange(StateChange::Halt) {
            return None;
        }
        self.0.store(true, Ordering::Relaxed);
        Some(Reply::ok())
    }
}

#[test]
fn registration_from_start_to_end() {
    let mut bench = Bench::with_features(
        Host::asks(&[
            "reset",
            "Capabilities_Register",
            "Set_Option broadcastIP 1",
            "OS_PowerOn",
            "ping",
        ]),
        vec![Box::new(Power(Arc::default()))],
    );
    bench.settle();
    assert_eq!(
        replies(&mut bench),
        ["OK ATR toolbox", "OK ", "OK ", "ERROR Unknown Command", "OK "]
    );
    assert_eq!(bench.told(), [Event::Connected, Event::Reset, Event::Registered]);
    let sent = commands(&mut bench);
    assert_eq!(sent[0], "vmx.capability.unified_loop toolbox\\x00");
    assert_eq!(sent[1], "tools.capability.statechange ");
    assert_eq!(sent[3], "tools.set.versiontype 2147483647 4\\x00");
    assert_eq!(sent.len(), 7);
    bench.pump.stop(Instant::now() + SECOND);
    assert_eq!(
        commands(&mut bench),
        ["tools.capability.hgfs_server toolbox 0\\x00"]
    );
    let seen = bench.host().seen();
    assert_eq!((seen.channels, seen.opens, seen.closes), (0, 2, 2));
}

#[test]
fn a_farewell_without_time_still_closes() {
    let mut bench = Bench::with_features(
        Host::asks(&["reset", "Capabilities_Register"]),
        vec![Box::new(Power(Arc::default()))],
    );
    bench.settle();
    commands(&mut bench);
    bench.pump.stop(Instant::now());
    assert_eq!(commands(&mut bench), [""; 0]);
    assert_eq!(bench.host().seen().channels, 0);
}

#[test]
fn the_reply_of_the_last_request_is_sent_at_the_end() {
    let mut bench = Bench::new(Host::asks(&["ping"]));
    assert_eq!(bench.step(), Next::Now);
    bench.pump.stop(Instant::now());
    assert_eq!(replies(&mut bench), ["OK "]);
}

#[test]
fn losing_one_channel_gives_up_both() {
    let mut bench = Bench::new(Host::asks(&["reset"]));
    bench.settle();
    assert_eq!(bench.host().seen().channels, 2);
    let mut failed = false;
    bench.host().fault = Box::new(move |at, tclo| {
        (tclo && at == At::RecvSize && !std::mem::replace(&mut failed, true)).then_some(0)
    });
    bench.run(5 * SECOND);
    assert_eq!(bench.host().seen().closes, 2);
    assert_eq!(
        bench.host().seen().channels,
        1,
        "RPCI is opened when it is needed"
    );
}

#[test]
fn the_same_over_low_bandwidth() {
    let mut host = Host::asks(&["reset", "Capabilities_Register"]);
    host.high_bandwidth = false;
    let mut bench = Bench::new(host);
    bench.settle();
    assert_eq!(replies(&mut bench), ["OK ATR toolbox", "OK "]);
    assert_eq!(commands(&mut bench).len(), 5);
}

#[test]
fn idle_costs_two_polls_a_second() {
    let mut bench = Bench::new(Host::default());
    bench.run(10 * SECOND);
    let (polls, accesses) = {
        let seen = bench.host().seen();
        (seen.polls, seen.accesses)
    };
    bench.run(60 * SECOND);
    let seen = bench.host().seen();
    assert!(
        (119..=121).contains(&(seen.polls - polls)),
        "{}",
        seen.polls - polls
    );
    assert!(seen.accesses - accesses <= 2 * 121);
}

#[test]
fn an_operation_of_the_host_keeps_polling_fast() {
    let busy = Arc::new(AtomicBool::new(false));
    let mut bench = Bench::with_features(Host::asks(&["OS_Halt"]), vec![Box::new(Power(busy.clone()))]);
    bench.settle();
    assert_eq!(replies(&mut bench), ["OK "]);
    for _ in 0..100 {
        assert!(matches!(bench.step(), Next::Pause(pause) if pause <= Duration::from_millis(20)));
    }
    busy.store(false, Ordering::Relaxed);
    bench.run(5 * SECOND);
    assert_eq!(bench.step(), Next::Pause(Duration::from_millis(500)));
}

#[test]
fn a_ping_does_not_restart_fast_polling_and_an_option_does() {
    let mut bench = Bench::new(Host::default());
    bench.run(5 * SECOND);
    bench.host().ask("ping");
    assert_eq!(bench.step(), Next::Now);
    assert_eq!(bench.step(), Next::Pause(Duration::from_millis(500)));
    bench.host().ask("Set_Option synctime 0");
    assert_eq!(bench.step(), Next::Now);
    assert_eq!(bench.step(), Next::Pause(Duration::from_millis(10)));
}

/// Answers everything with more than fits into a message.
struct Talkative;

impl Feature for Talkative {
    fn name(&self) -> &'static str {
        "talkative"
    }

    fn handle(&mut self, _: &Command<'_>) -> Option<Reply> {
        Some(Reply::Ok(vec![b'x'; MAX_REQUEST]))
    }
}

#[test]
fn a_reply_that_exceeds_a_message_is_an_error() {
    let mut bench = Bench::with_features(Host::asks(&["tell"]), vec![Box::new(Talkative)]);
    bench.settle();
    assert_eq!(replies(&mut bench), ["ERROR Reply too large"]);
}

#[test]
fn a_second_agent_is_told_and_the_attempts_go_on() {
    let mut bench = Bench::new(Host::default());
    for taken in 0..20 {
        bench.run(3 * SECOND);
        assert_eq!(bench.host().seen().channels, 1, "{taken}");
        let told = bench.told().contains(&Event::Contended);
        assert_eq!(told, taken == 3, "{taken}");
        bench.host().forget();
    }
    // One minute, and not in a tight loop.
    assert!(bench.host().seen().opens <= 50);
}

#[test]
fn row_03_open_refused_for_ever() {
    let mut host = Host::default();
    host.fault = Box::new(|at, _| (at == At::Open).then_some(0));
    let mut bench = Bench::new(host);
    let steps = bench.run(3600 * SECOND);
    let accesses = bench.host().seen().accesses;
    // Two OPENs an attempt, with and without cookies; an attempt every 8 to 12 s.
    assert!((2 * 300..2 * 460).contains(&accesses), "{accesses}");
    assert!(steps < 1500, "{steps}");
    let told = bench.told();
    assert!(matches!(told.as_slice(), [Event::Lost { .. }]), "{told:?}");
    assert_eq!(bench.host().seen().closes, 0, "nothing was opened");
    // And it is found when it comes back.
    bench.host().fault = Box::new(|_, _| None);
    bench.host().ask("reset");
    bench.run(15 * SECOND);
    assert_eq!(replies(&mut bench), ["OK ATR toolbox"]);
}

#[test]
fn row_23_a_revert_or_migration_costs_one_pause() {
    let mut bench = Bench::new(Host::asks(&["reset", "Capabilities_Register"]));
    bench.run(10 * SECOND);
    bench.told();
    replies(&mut bench);
    let before = bench.now;
    bench.host().forget();
    bench.host().ask("reset");
    bench.host().ask("Capabilities_Register");
    let mut recovered = Vec::new();
    while !recovered.contains(&Event::Registered) {
        assert!(bench.now - before < 10 * SECOND, "{recovered:?}");
        bench.step();
        recovered.extend(bench.told());
    }
    // At most the poll pause during which it happened.
    assert!(bench.now - before <= Duration::from_millis(700));
    assert!(matches!(
        recovered.as_slice(),
        [
            Event::Lost { .. },
            Event::Connected,
            Event::Reset,
            Event::Registered
        ]
    ));
    bench.settle();
    assert_eq!(replies(&mut bench), ["OK ATR toolbox", "OK "]);
    assert_eq!(bench.counters.figures().reopenings, 1);
    assert_eq!(bench.host().seen().channels, 2);
}

#[test]
fn a_channel_that_is_lost_at_once_each_time_does_not_spin() {
    // Each channel hands out one request and dies: recovered, and lost again.
    let mut host = Host::asks_for_ever("ping");
    let mut sends = 0;
    host.fault = Box::new(move |at, tclo| {
        sends += usize::from(tclo && at == At::SendSize);
        (tclo && at == At::SendSize && sends.is_multiple_of(2)).then_some(0)
    });
    let mut bench = Bench::new(host);
    bench.run(60 * SECOND);
    let opens = bench.host().seen().opens;
    assert!((45..=80).contains(&opens), "{opens}");
}

#[test]
fn a_reply_does_not_outlive_its_channel() {
    let mut bench = Bench::new(Host::asks(&["reset"]));
    assert_eq!(bench.step(), Next::Now);
    bench.host().forget();
    bench.run(5 * SECOND);
    assert_eq!(
        replies(&mut bench),
        [""; 0],
        "the reset was asked on another channel"
    );
    assert!(bench.host().seen().polls > 0);
}

#[test]
fn any_step_may_fail_or_be_cancelled_once() {
    let steps = [
        At::Open,
        At::SendSize,
        At::SendPayload,
        At::RecvSize,
        At::RecvPayload,
        At::RecvStatus,
        At::Close,
    ];
    for high_bandwidth in [true, false] {
        for step in steps {
            for status in [0, 0x0010_0000, 0x0004_0000] {
                for skip in 0..4 {
                    let mut host = Host::asks(&["reset", "Capabilities_Register"]);
                    host.high_bandwidth = high_bandwidth;
                    let mut left = skip;
                    host.fault = Box::new(move |at, _| {
                        if at != step {
                            return None;
                        }
                        left -= 1;
                        (left == -1).then_some(status)
                    });
                    let mut bench = Bench::new(host);
                    bench.run(3 * SECOND);
                    // As after any loss, the host begins again.
                    bench.host().ask("reset");
                    bench.host().ask("Capabilities_Register");
                    bench.run(30 * SECOND);
                    let last = replies(&mut bench);
                    assert_eq!(
                        last[last.len() - 2..],
                        ["OK ATR toolbox", "OK "],
                        "{high_bandwidth} {step:?} {status:#x} {skip}"
                    );
                    assert!(bench.told().contains(&Event::Registered));
                    // A virtual machine has 128 channels: none is left behind, but where the host does not close it.
                    if step != At::Close {
                        let open = bench.host().seen().channels;
                        assert_eq!(open, 2, "{high_bandwidth} {step:?} {status:#x} {skip}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_registration_survives_the_loss_of_its_channel() {
    let mut host = Host::asks(&["reset", "Capabilities_Register"]);
    let mut sent = 0;
    // The third RPCI message, and the try after it, find no host.
    host.fault = Box::new(move |at, tclo| {
        if tclo || at != At::SendSize {
            return None;
        }
        sent += 1;
        matches!(sent, 3 | 4).then_some(0)
    });
    let mut bench = Bench::new(host);
    bench.settle();
    assert_eq!(replies(&mut bench), ["OK ATR toolbox", "OK "]);
    assert!(!bench.told().contains(&Event::Registered));
    bench.run(5 * SECOND);
    assert_eq!(bench.told(), [Event::Registered]);
    let sent = commands(&mut bench);
    assert!(sent.last().unwrap().starts_with("SetGuestInfo  4 "), "{sent:?}");
}

#[test]
fn an_announcement_that_got_lost_is_made_at_the_registration() {
    let mut host = Host::asks(&["reset"]);
    host.fault = Box::new(|_, tclo| (!tclo).then_some(0));
    let mut bench = Bench::new(host);
    bench.settle();
    assert_eq!(commands(&mut bench), [""; 0]);
    bench.host().fault = Box::new(|_, _| None);
    bench.host().ask("Capabilities_Register");
    bench.run(SECOND);
    assert_eq!(
        commands(&mut bench)[0],
        "vmx.capability.unified_loop toolbox\\x00"
    );
}

#[test]
fn a_new_channel_hears_the_announcement_again() {
    let mut bench = Bench::new(Host::asks(&["reset"]));
    bench.run(10 * SECOND);
    commands(&mut bench);
    bench.host().forget();
    bench.host().ask("Capabilities_Register");
    bench.run(3 * SECOND);
    assert_eq!(
        commands(&mut bench)[0],
        "vmx.capability.unified_loop toolbox\\x00"
    );
}

#[test]
fn a_new_channel_is_polled_often() {
    let mut bench = Bench::new(Host::default());
    bench.run(10 * SECOND);
    bench.host().forget();
    assert_eq!(bench.step(), Next::Now);
    assert_eq!(bench.step(), Next::Pause(Duration::from_millis(10)));
}

#[test]
fn rpci_is_tried_at_once_after_tclo_came_back() {
    let mut bench = Bench::new(Host::default());
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    bench.host().fault = Box::new(move |at, tclo| {
        counted.fetch_add(usize::from(!tclo && at == At::Open), Ordering::Relaxed);
        (!tclo).then_some(0)
    });
    let call = |bench: &mut Bench| {
        let answer = bench.client.submit(Request::text("log x"));
        bench.run(SECOND / 10);
        drop(answer);
    };
    for _ in 0..400 {
        call(&mut bench);
    }
    // The next attempt is many seconds away just after one.
    let before = attempts.load(Ordering::Relaxed);
    for _ in 0..200 {
        if attempts.load(Ordering::Relaxed) > before {
            break;
        }
        call(&mut bench);
    }
    bench.host().fault = Box::new(|_, _| None);
    call(&mut bench);
    assert_eq!(commands(&mut bench), [""; 0], "it pauses");
    bench.host().forget();
    bench.run(SECOND);
    call(&mut bench);
    assert_eq!(commands(&mut bench), ["log x\\x00"]);
}

#[test]
fn slow_calls_share_one_second_of_a_step() {
    let mut bench = Bench::new(Host::default());
    // The pump measures the host with the machine's clock, so this host takes real time.
    bench.host().respond = Box::new(|request| {
        if request.starts_with(b"log 0") {
            std::thread::sleep(SECOND + SECOND / 10);
        }
        b"1 ".to_vec()
    });
    let answers = [0, 1, 2].map(|n| bench.client.submit(Request::text(format!("log {n}"))));
    assert_eq!(bench.step(), Next::Now);
    assert_eq!(commands(&mut bench), ["log 0\\x00"]);
    assert_eq!(bench.host().seen().polls, 1, "the host is asked in between");
    bench.settle();
    assert_eq!(commands(&mut bench), ["log 1\\x00", "log 2\\x00"]);
    drop(answers);
}

#[test]
fn a_reset_ends_the_pause_of_an_rpci_outage() {
    let mut bench = Bench::new(Host::default());
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    bench.host().fault = Box::new(move |at, tclo| {
        counted.fetch_add(usize::from(!tclo && at == At::Open), Ordering::Relaxed);
        (!tclo).then_some(0)
    });
    for _ in 0..20 {
        let answer = bench.client.submit(Request::text("log x"));
        bench.run(10 * SECOND);
        drop(answer);
    }
    // The next attempt is many seconds away just after one.
    let before = attempts.load(Ordering::Relaxed);
    for _ in 0..200 {
        if attempts.load(Ordering::Relaxed) > before {
            break;
        }
        let answer = bench.client.submit(Request::text("log x"));
        bench.run(SECOND / 10);
        drop(answer);
    }
    bench.host().fault = Box::new(|_, _| None);
    bench.told();
    bench.host().ask("reset");
    bench.host().ask("Capabilities_Register");
    bench.run(SECOND);
    assert_eq!(bench.told(), [Event::Reset, Event::Registered]);
    let sent = commands(&mut bench);
    assert!(
        sent.first().is_some_and(|first| first.contains("unified_loop")),
        "{sent:?}"
    );
}

#[test]
fn rows_24_25_29_malformed_requests_are_answered() {
    let mut bench = Bench::new(Host::default());
    let cases: [(&[u8], &str); 15] = [
        (b" ", "ERROR Bad command"),
        (b"\0\0\0", "ERROR Bad command"),
        (b"  ping", "OK "),
        (b"ping\0\0\0", "OK "),
        (b"ping\r\n", "ERROR Unknown Command"),
        (b"\xff\xfe\xfd x", "ERROR Unknown Command"),
        (b"PING", "ERROR Unknown Command"),
        (b"Set_Option", "ERROR Unknown or invalid option"),
        (b"Set_Option ", "ERROR Unknown or invalid option"),
        (b"Set_Option x", "ERROR Unknown or invalid option"),
        (b"Set_Option x ", "ERROR Unknown or invalid option"),
        (b"Set_Option x a b\0c\0", "OK "),
        (b"Vix_1_Relayed_Command", "ERROR Unknown Command"),
        (b"Vix_1_Relayed_Command \"7", "ERROR Unknown Command"),
        (b"vmbackup.start", "ERROR Unknown Command"),
    ];
    for (request, reply) in cases {
        bench.host().ask(request);
        bench.run(SECOND);
        assert_eq!(replies(&mut bench), [reply], "{}", request.escape_ascii());
    }
    bench.host().ask(vec![b'a'; 65_536]);
    bench.run(SECOND);
    assert_eq!(replies(&mut bench), ["ERROR Unknown Command"]);
    // A message of no bytes is an empty poll: no reply is owed.
    let counted = bench.host().seen().reply_count;
    let polls = bench.host().seen().polls;
    bench.host().ask("");
    bench.run(SECOND);
    assert_eq!(bench.host().seen().reply_count, counted);
    assert!(bench.host().seen().polls > polls);
}

#[test]
fn row_27_a_storm_of_resets_costs_the_host_only_replies() {
    let mut bench = Bench::new(Host::asks_for_ever("reset"));
    for _ in 0..5000 {
        assert_eq!(bench.step(), Next::Now);
    }
    assert_eq!(bench.host().seen().reply_count, 4999);
    assert_eq!(commands(&mut bench).len(), 1);
    // Nobody read the events meanwhile: bounded, and the reader gets a reset in the end.
    assert!(bench.told().len() <= 64);
    bench.step();
    assert!(bench.told().contains(&Event::Reset));
}

#[tokio::test]
async fn row_31_endless_requests_do_not_starve_calls_nor_calls_the_requests() {
    let mut bench = Bench::new(Host::asks_for_ever("no such thing"));
    let mut tasks = JoinSet::new();
    for _ in 0..200 {
        let client = bench.client.clone();
        tasks.spawn(async move { client.call(Request::text("log x")).await });
    }
    let mut steps = 0;
    while !tasks.is_empty() {
        assert_eq!(bench.step(), Next::Now);
        yield_now().await;
        while let Some(answer) = tasks.try_join_next() {
            assert_eq!(answer.unwrap(), Ok(Vec::new()));
        }
        steps += 1;
        assert!(steps < 100, "calls wait behind the host's requests");
    }
    // Every one of these steps answered a request too.
    assert_eq!(bench.host().seen().reply_count, steps - 1);
}

#[test]
fn a_step_serves_some_calls_and_then_the_host() {
    let mut bench = Bench::new(Host::default());
    bench.settle();
    let queued = 40;
    let answers: Vec<_> = (0..queued)
        .map(|_| bench.client.submit(Request::text("log x")).unwrap())
        .collect();
    assert_eq!(bench.step(), Next::Now);
    let served = commands(&mut bench).len();
    assert!((1..queued).contains(&served), "{served}");
    bench.settle();
    assert_eq!(commands(&mut bench).len(), queued - served);
    drop(answers);
}

#[tokio::test]
async fn a_call_does_not_poll_and_does_not_wait_for_the_poll() {
    let mut bench = Bench::new(Host::default());
    bench.run(10 * SECOND);
    let polls = bench.host().seen().polls;
    // The clock stands where the next poll is due; go back into the pause.
    bench.step();
    bench.now -= Duration::from_millis(400);
    let client = bench.client.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { client.call(Request::text("log x")).await });
    yield_now().await;
    assert_eq!(bench.step(), Next::Pause(Duration::from_millis(400)));
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), Ok(Vec::new()));
    assert_eq!(bench.host().seen().polls, polls + 1);
}

#[tokio::test]
async fn calls_fail_at_once_while_there_is_no_channel() {
    let mut host = Host::default();
    host.fault = Box::new(|at, _| (at == At::Open).then_some(0));
    let mut bench = Bench::new(host);
    bench.settle();
    let client = bench.client.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { client.call(Request::text("log x")).await });
    yield_now().await;
    // Woken in the middle of the pause.
    bench.now -= Duration::from_millis(500);
    bench.step();
    let answer = tasks.join_next().await.unwrap().unwrap();
    assert!(matches!(answer, Err(RpciError::Channel { .. })), "{answer:?}");
}

#[tokio::test]
async fn an_abandoned_call_is_not_made() {
    let mut bench = Bench::new(Host::default());
    let client = bench.client.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { client.call(Request::text("log x")).await });
    yield_now().await;
    tasks.shutdown().await;
    bench.settle();
    assert_eq!(commands(&mut bench), [""; 0]);
}

#[test]
fn a_dead_rpci_channel_does_not_touch_the_heartbeat() {
    let mut host = Host::asks(&["reset", "Capabilities_Register", "ping"]);
    host.fault = Box::new(|_, tclo| (!tclo).then_some(0));
    let mut bench = Bench::new(host);
    bench.run(60 * SECOND);
    assert_eq!(replies(&mut bench), ["OK ATR toolbox", "OK ", "OK "]);
    assert_eq!(bench.told(), [Event::Connected, Event::Reset]);
    assert!(bench.host().seen().polls > 110);
    assert_eq!(bench.counters.figures().losses, 0);
}

#[test]
fn row_38_a_clock_that_jumps_ends_or_keeps_a_pause_and_nothing_else() {
    let mut host = Host::default();
    host.fault = Box::new(|at, _| (at == At::Open).then_some(0));
    let mut bench = Bench::new(host);
    bench.run(30 * SECOND);
    let accesses = bench.host().seen().accesses;
    // Back: the pause that was decided still counts, and is bounded.
    bench.now -= 20 * SECOND;
    assert!(matches!(bench.step(), Next::Pause(pause) if pause <= 5 * SECOND));
    assert_eq!(bench.host().seen().accesses, accesses);
    // Far ahead: one attempt, not one for each pause that was missed.
    bench.now += 100_000 * SECOND;
    bench.step();
    assert_eq!(bench.host().seen().accesses, accesses + 2);
}

#[test]
fn the_last_step_can_be_seen_from_outside() {
    let mut bench = Bench::new(Host::default());
    for _ in 0..50 {
        let at = bench.now;
        bench.step();
        let behind = at - bench.counters.last_step().min(at);
        assert!(behind < Duration::from_millis(2), "{behind:?}");
    }
    let figures = bench.counters.figures();
    assert_eq!((figures.polls, figures.requests, figures.reopenings), (50, 0, 0));
}
