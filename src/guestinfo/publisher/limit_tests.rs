//! What is too much or cannot be sent: the host gets what fits, and the log one line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use tokio::{
    task::yield_now,
    time::{advance, sleep},
};

use super::{
    tests::{Bench, MS, NAME, NICS, Warnings, bench, bench_with, kinds, named},
    *,
};
use crate::{
    guestinfo::nodes::{Node, PERMANENT, dual_stack},
    rpci::{MAX_REQUEST, scripted::Host},
};

/// A node with so many adapters, and so many addresses on the first of them.
fn crowded(adapters: u8, addresses: u16) -> Node {
    let node = (3..=adapters).fold(dual_stack(), |node, index| {
        node.nic(&format!("eth{index}"), index)
    });
    (0..addresses).fold(node, |node, index| {
        let [high, low] = index.to_be_bytes();
        node.flagged("eth0", &format!("10.7.{high}.{low}/16"), PERMANENT)
    })
}

/// An hour with a full resend every ten minutes, and a change of `node` in between each.
async fn an_hour(bench: &Bench, node: impl Fn(u16) -> Node) {
    for round in 0..60 {
        bench.change(&node(round));
        sleep(Duration::from_secs(60)).await;
        for seen in bench.host.take() {
            assert!(seen.bytes.len() <= MAX_REQUEST, "{}", seen.bytes.len());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn seventeen_adapters_are_one_line_and_their_end_is_none() {
    let warnings = Warnings::default();
    let _guard = warnings.capture();
    let bench = bench_with(Host::new(), crowded(17, 0).snapshot());
    an_hour(&bench, |round| crowded(17 + (round % 3) as u8, 0)).await;
    let lines = warnings.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("1 adapters"), "{lines:#?}");
    bench.change(&crowded(16, 0));
    sleep(MS).await;
    bench.change(&crowded(17, 0));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(warnings.lines().len(), 2, "it ended in between");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn thousands_of_addresses_that_come_and_go_are_one_line() {
    let warnings = Warnings::default();
    let _guard = warnings.capture();
    let bench = bench_with(Host::new(), crowded(2, 3000).snapshot());
    an_hour(&bench, |round| crowded(2, 3000 + round)).await;
    let lines = warnings.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_cannot_be_sent_is_one_line_and_the_host_keeps_the_last_one() {
    let warnings = Warnings::default();
    let _guard = warnings.capture();
    let bench = bench().started().await;
    for round in 0..60 {
        bench.change(&named(&"n".repeat(10_000 + round)));
        let seen = bench.within(Duration::from_secs(60)).await;
        assert!(
            !seen
                .iter()
                .any(|seen| seen.text().starts_with("SetGuestInfo  1 "))
        );
    }
    let lines = warnings.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("10000 bytes"), "{lines:#?}");
    bench.change(&named("n"));
    assert!(kinds(&bench.within(MS).await).contains(&NAME.to_owned()));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_flapping_link_is_bounded_in_writes_and_ends_with_the_truth() {
    let bench = bench().started().await;
    let down = dual_stack().link("eth0", |link| {
        link.operational_state = 2;
        link.link_state = false;
    });
    let gone = Node {
        addresses: Vec::new(),
        ..down
    };
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..10_000 {
        let node = if random.bool() { gone.clone() } else { dual_stack() };
        bench.change(&node);
        advance(Duration::from_micros(100)).await;
        yield_now().await;
    }
    bench.change(&dual_stack());
    let seen = bench.within(Duration::from_secs(1)).await;
    let records = kinds(&seen).into_iter().filter(|kind| kind == NICS).count();
    assert!(
        (1..=12).contains(&records),
        "{records} records in a second: {:?}",
        kinds(&seen)
    );
    assert!(seen.len() <= 24, "{}", seen.len());
    bench.change(&dual_stack());
    assert_eq!(
        bench.within(Duration::from_secs(1)).await.len(),
        0,
        "the truth is there"
    );
    bench.end().await;
}
