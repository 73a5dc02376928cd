//! The writer against a host that answers from a script, on tokio's paused clock.

use tokio::task::JoinSet;

use super::*;
use crate::{
    logging::limit::WINDOW,
    rpci::{
        Resend, RpciError,
        scripted::{Host, no_channel},
    },
};

struct Bench {
    host: Arc<Host>,
    log: HostLog,
    _writer: JoinSet<()>,
}

fn bench() -> Bench {
    let host = Arc::new(Host::new());
    let (log, writer) = pair(host.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(writer.run(CancellationToken::new()));
    Bench {
        host,
        log,
        _writer: tasks,
    }
}

impl Bench {
    fn say(&self, text: &str) {
        self.log.say(self.log.operation(), text);
    }

    /// What arrived since the last look, without what is the same in every line.
    fn lines(&self) -> Vec<String> {
        let seen = self.host.take();
        seen.iter()
            .inspect(|seen| assert_eq!(seen.resend, Resend::Never))
            .map(|seen| {
                let text = seen.text();
                let line = text.strip_prefix("log talos-vmtoolsd: ").unwrap();
                line.strip_suffix(r"\x00").unwrap().to_owned()
            })
            .collect()
    }
}

/// Whether the host has it is unknown.
fn broken() -> Result<Vec<u8>, RpciError> {
    Err(RpciError::Channel {
        command: "log".into(),
        reason: "broke".into(),
        unsent: false,
    })
}

#[tokio::test(start_paused = true)]
async fn ten_lines_a_minute_and_the_rest_is_counted() {
    let bench = bench();
    for _ in 0..100 {
        for _ in 0..10 {
            bench.say("asked\nfor it");
        }
        tokio::task::yield_now().await;
    }
    sleep(WINDOW / 2).await;
    let lines = bench.lines();
    assert_eq!(lines.len(), 10);
    assert_eq!(lines[0], "askedfor it (#1)");
    assert_eq!(lines[9], "askedfor it (#10)");

    // The next one that is written says how many were not; an old flood is not caught up.
    sleep(WINDOW).await;
    assert!(bench.lines().is_empty());
    bench.say("later");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        bench.lines(),
        ["later (#1001, 990 lines before it were left out)"]
    );
}

#[tokio::test(start_paused = true)]
async fn lines_wait_for_a_channel_and_are_sent_in_order_afterwards() {
    let bench = bench();
    bench.host.answer(|_| no_channel());
    for text in ["first", "second", "third"] {
        bench.say(text);
    }
    sleep(Duration::from_secs(41)).await;
    let tries = bench.lines().len();
    assert!((20..=22).contains(&tries), "{tries} tries in 41 s");
    bench.host.answer(|_| Ok(Vec::new()));
    sleep(RETRY).await;
    assert_eq!(
        bench.lines(),
        [
            "first (#1, 42 s ago)",
            "second (#2, 42 s ago)",
            "third (#3, 42 s ago)"
        ]
    );
    bench.say("fourth");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.lines(), ["fourth (#4)"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_and_the_loss_is_said_once() {
    let bench = bench();
    bench.host.answer(|_| no_channel());
    bench.say("first");
    sleep(Duration::from_millis(1)).await;
    for _ in 0..QUEUE + 5 {
        bench.say("more");
    }
    sleep(WINDOW * 10).await;
    bench.lines();
    bench.host.answer(|_| Ok(Vec::new()));
    sleep(RETRY).await;
    let lines = bench.lines();
    assert!(
        lines[0].starts_with("first (#1, ") && lines[0].ends_with(", 5 lines before it were left out)"),
        "{lines:?}"
    );
    // Ten of the 33 that waited; an outage does not buy more.
    assert_eq!(lines.len(), 10);
    assert!(lines[9].starts_with("more (#10, "), "{lines:?}");
    sleep(WINDOW).await;
    bench.say("after it");
    bench.say("and on");
    sleep(Duration::from_millis(1)).await;
    let lines = bench.lines();
    assert!(
        lines[0].ends_with("(#39, 23 lines before it were left out)"),
        "{lines:?}"
    );
    assert_eq!(lines[1], "and on (#40)");
}

#[tokio::test(start_paused = true)]
async fn a_line_whose_fate_is_unknown_is_not_written_twice() {
    let bench = bench();
    bench.host.answer(|_| broken());
    bench.say("perhaps");
    sleep(WINDOW).await;
    assert_eq!(bench.lines(), ["perhaps (#1)"]);
    bench.host.answer(|_| Ok(Vec::new()));
    bench.say("next");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.lines(), ["next (#2, 1 line before it was left out)"]);
}

#[tokio::test(start_paused = true)]
async fn the_farewell_counts_like_every_line() {
    let bench = bench();
    let farewell = bench.log.farewell(bench.log.operation(), "stopping").unwrap();
    assert_eq!(farewell.bytes(), b"log talos-vmtoolsd: stopping (#1)\0");
    for _ in 0..9 {
        bench.say("asked");
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(bench.lines().len(), 9);
    assert_eq!(bench.log.farewell(bench.log.operation(), "stopping"), None);
}

#[tokio::test(start_paused = true)]
async fn a_line_is_bounded() {
    let bench = bench();
    bench.say(&"ä".repeat(5000));
    sleep(Duration::from_millis(1)).await;
    assert!(bench.host.seen()[0].bytes.len() < 2048);
}
