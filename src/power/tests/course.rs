//! What follows the call: what users ask of it, by row, and the ways in which an accepted operation fails.

use super::*;

/// The limits of `course`, seen from outside.
const BEGIN: Duration = Duration::from_secs(65);

// Row 5: a real Talos shutdown, and a status that is the API's answer.

#[tokio::test(start_paused = true)]
async fn row_5_shutdown_drains_and_its_status_is_the_answer_of_talos() {
    let mut bench = bench(Duration::from_millis(10), true);
    bench.accepted(StateChange::Halt).await;
    assert_eq!(bench.calls(), ["shutdown"], "without force, so that Talos drains");
    assert!(
        *bench.node.listened.lock().unwrap(),
        "the hello came before the call"
    );
    bench.node.tell("actor-1", "shutdown", Step::Begun);
    bench.node.enter("actor-1", "drain");
    sleep(Duration::from_secs(14 * 60)).await;
    assert!(bench.errors().is_empty());
    assert_eq!(
        bench.calls(),
        ["shutdown"],
        "Talos's own limits hold where none is set"
    );
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn row_5_a_refusal_of_talos_is_a_failure_of_the_host() {
    let mut bench = bench(Duration::from_millis(10), false);
    assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    bench.failed("not supported in container mode").await;
    assert_eq!(bench.statuses(), [r"0 1\x00"]);
    bench.end().await;
}

// Row 23: the second and every later restart works.

#[tokio::test(start_paused = true)]
async fn row_23_twenty_restarts_in_a_row() {
    let mut bench = bench(Duration::from_millis(10), true);
    for restart in 1..=20 {
        assert_eq!(bench.ask(StateChange::Reboot), Reply::ok(), "restart {restart}");
        bench.reported(restart).await;
        // A kexec is out of the guest's sight here: the operation is over when Talos says that it was taken over.
        bench
            .node
            .tell(&format!("actor-{restart}"), "reboot", failed(Failure::Cancelled));
        bench
            .until("it is over", |bench| bench.errors().len() == restart)
            .await;
    }
    assert_eq!(bench.statuses(), [r"1 2\x00"; 20]);
    assert_eq!(bench.calls(), ["reboot powercycle"; 20]);
    bench.end().await;
}

// Row 28: a slow drain does not outlast the caller.

#[tokio::test(start_paused = true)]
async fn row_28_a_drain_beyond_its_budget_is_forced_once() {
    let budget = Duration::from_secs(90);
    let mut bench = bench_with(Duration::ZERO, true, Some(budget));
    bench.accepted(StateChange::Halt).await;
    let accepted = Instant::now();
    bench.node.tell("actor-1", "shutdown", Step::Begun);
    bench.node.enter("actor-1", "drain");
    bench.logged("again with force as actor actor-2").await;
    assert_eq!(accepted.elapsed(), budget);
    assert_eq!(bench.calls(), ["shutdown", "shutdown force"]);
    // Talos tells that the first one was taken over: by us, so it is no failure.
    bench.node.tell("actor-1", "shutdown", failed(Failure::Cancelled));
    bench.node.tell("actor-2", "shutdown", Step::Begun);
    for _ in 0..12 {
        assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    }
    bench.reported(13).await;
    assert_eq!(bench.statuses(), [r"1 1\x00"; 13]);
    sleep(Duration::from_secs(12 * 60)).await;
    assert_eq!(bench.calls(), ["shutdown", "shutdown force"], "once");
    assert!(
        bench.errors().iter().all(String::is_empty),
        "{:?}",
        bench.errors()
    );
    // What the second one meets is ours again.
    bench.node.tell("actor-2", "shutdown", failed(Failure::Fatal));
    bench.failed("FATAL").await;
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn row_28_a_drain_within_its_budget_is_left_alone() {
    let mut bench = bench_with(Duration::ZERO, true, Some(Duration::from_secs(90)));
    bench.accepted(StateChange::Halt).await;
    bench.node.tell("actor-1", "shutdown", Step::Begun);
    bench.node.enter("actor-1", "drain");
    bench.node.enter("actor-1", "cleanup");
    sleep(Duration::from_secs(14 * 60)).await;
    assert_eq!(bench.calls(), ["shutdown"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn row_28_a_budget_forces_where_no_event_is_heard() {
    let mut bench = bench_with(Duration::ZERO, true, Some(Duration::from_secs(90)));
    *bench.node.greets.lock().unwrap() = false;
    bench.accepted(StateChange::Halt).await;
    bench.snapshots.send_replace(at(SHUTTING_DOWN, "v1.14.1"));
    bench.logged("again with force").await;
    assert_eq!(bench.calls(), ["shutdown", "shutdown force"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn row_28_a_reboot_has_no_drain_to_force() {
    let mut bench = bench_with(Duration::ZERO, true, Some(Duration::from_secs(90)));
    bench.accepted(StateChange::Reboot).await;
    bench.node.tell("actor-1", "reboot", Step::Begun);
    sleep(Duration::from_secs(14 * 60)).await;
    assert_eq!(bench.calls(), ["reboot powercycle"]);
    bench.end().await;
}

// Row 39: power operations in maintenance mode.

#[tokio::test(start_paused = true)]
async fn row_39_maintenance_is_shut_down_with_force() {
    for tag in ["v1.7.5", "v1.14.1"] {
        let mut bench = bench_with(Duration::ZERO, true, Some(Duration::from_secs(90)));
        bench.snapshots.send_replace(at(MAINTENANCE, tag));
        bench.accepted(StateChange::Halt).await;
        bench.node.tell("actor-1", "shutdown", Step::Begun);
        sleep(Duration::from_secs(300)).await;
        assert_eq!(bench.calls(), ["shutdown force"], "{tag}");
        bench.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_39_an_unknown_stage_does_not_keep_the_host_from_its_shutdown() {
    let mut bench = bench(Duration::ZERO, true);
    bench.snapshots.send_replace(Arc::default());
    bench.accepted(StateChange::Halt).await;
    assert_eq!(bench.calls(), ["shutdown"]);
    assert!(
        bench.told_at()[0] < Duration::from_secs(1),
        "within the host's patience"
    );
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn row_39_a_stage_that_is_told_late_is_waited_for() {
    let mut bench = bench(Duration::ZERO, true);
    bench.snapshots.send_replace(Arc::default());
    assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
    sleep(Duration::from_millis(300)).await;
    bench.snapshots.send_replace(at(UPGRADING, "v1.14.1"));
    bench.failed("upgrading").await;
    assert!(bench.calls().is_empty());
    bench.end().await;
}

// Row 61 is notifications_are_acknowledged_at_once.

// The stage first (v1alpha1_priority_lock.go).

#[tokio::test(start_paused = true)]
async fn an_upgrade_and_a_reset_are_never_cancelled() {
    for (stage, words) in [
        (UPGRADING, "upgrading"),
        (RESETTING, "resetting"),
        (2, "installing"),
    ] {
        for change in [StateChange::Halt, StateChange::Reboot] {
            let mut bench = bench(Duration::ZERO, true);
            bench.snapshots.send_replace(at(stage, "v1.14.1"));
            assert_eq!(bench.ask(change), Reply::ok());
            bench.failed(words).await;
            assert!(bench.calls().is_empty(), "{words}");
            assert_eq!(bench.statuses(), [format!(r"0 {}\x00", change.id())]);
            // It is over: then the same request is carried out.
            bench.snapshots.send_replace(at(RUNNING, "v1.14.1"));
            assert_eq!(bench.ask(change), Reply::ok());
            bench.reported(2).await;
            assert_eq!(bench.calls().len(), 1);
            bench.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_goes_down_already_is_a_success_without_a_call() {
    for (stage, words) in [
        (SHUTTING_DOWN, "shutting down already"),
        (REBOOTING, "rebooting already"),
    ] {
        let mut bench = bench_with(Duration::ZERO, true, Some(Duration::from_secs(1)));
        bench.snapshots.send_replace(at(stage, "v1.14.1"));
        assert_eq!(bench.ask(StateChange::Halt), Reply::ok());
        bench.logged(words).await;
        bench.reported(1).await;
        assert_eq!(bench.statuses(), [r"1 1\x00"]);
        sleep(Duration::from_secs(300)).await;
        assert!(bench.calls().is_empty(), "{words}");
        assert!(bench.errors().is_empty());
        // Not even when it fails is it ours; but it is told, and the host may ask again.
        let sequence = if stage == REBOOTING { "reboot" } else { "shutdown" };
        bench.node.tell("somebody", sequence, failed(Failure::Fatal));
        bench.failed("FATAL").await;
        bench.end().await;
    }
}

// Late failures.

#[tokio::test(start_paused = true)]
async fn late_failures_are_told_and_open_the_gate() {
    for (actor, failure, words) in [
        ("", Failure::Locked, "LOCKED"),
        ("actor-1", Failure::Fatal, "FATAL"),
        ("actor-1", Failure::Cancelled, "CANCELED"),
        ("actor-1", Failure::Other(9), "code 9"),
    ] {
        let mut bench = bench(Duration::ZERO, true);
        bench.accepted(StateChange::Reboot).await;
        bench.node.tell(actor, "reboot", failed(failure));
        bench.failed(words).await;
        assert!(bench.errors()[0].contains("as Talos puts it"));
        assert!(
            bench.errors()[0].starts_with("reboot failed: ") && bench.errors()[0].ends_with(" (#1)"),
            "{:?}",
            bench.errors()
        );
        assert_eq!(bench.statuses(), [r"1 2\x00"], "the host has its status");
        assert!(!bench.feature.wants_fast_polling());

        // The next one that begins clears the error.
        assert_eq!(bench.ask(StateChange::Reboot), Reply::ok());
        bench.reported(2).await;
        bench.node.tell("actor-2", "reboot", Step::Begun);
        bench
            .until("cleared", |bench| {
                bench.errors().last().is_some_and(String::is_empty)
            })
            .await;
        bench.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_on_the_heels_of_the_answer_leaves_the_status_a_success() {
    let mut bench = bench(Duration::from_millis(10), true);
    assert_eq!(bench.ask(StateChange::Reboot), Reply::ok());
    sleep(Duration::from_millis(5)).await;
    bench.node.tell("", "reboot", failed(Failure::Locked));
    bench.failed("LOCKED").await;
    bench.reported(1).await;
    assert_eq!(bench.statuses(), [r"1 2\x00"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_begun_in_time_has_failed() {
    let mut bench = bench(Duration::ZERO, true);
    bench.accepted(StateChange::Reboot).await;
    let accepted = Instant::now();
    // Somebody else's sequences are not ours.
    bench.node.tell("somebody", "reboot", Step::Begun);
    bench.failed("not begun within 65s").await;
    assert_eq!(accepted.elapsed(), BEGIN);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_stage_is_a_beginning_where_no_event_is_heard() {
    let mut bench = bench(Duration::ZERO, true);
    *bench.node.greets.lock().unwrap() = false;
    bench.accepted(StateChange::Reboot).await;
    bench.snapshots.send_replace(at(REBOOTING, "v1.14.1"));
    sleep(BEGIN * 2).await;
    assert!(bench.errors().is_empty());
    assert_eq!(bench.lines().len(), 1, "{:?}", bench.lines());
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_last_error_is_told_again_after_a_reset_and_so_is_its_end() {
    let mut bench = bench(Duration::ZERO, true);
    bench.accepted(StateChange::Reboot).await;
    bench.node.tell("actor-1", "reboot", failed(Failure::Fatal));
    bench.failed("FATAL").await;
    bench.control.forget();
    bench.until("again", |bench| bench.errors().len() == 2).await;
    assert_eq!(bench.errors()[0], bench.errors()[1]);

    assert_eq!(bench.ask(StateChange::Reboot), Reply::ok());
    bench.reported(2).await;
    bench.node.tell("actor-2", "reboot", Step::Begun);
    bench.until("cleared", |bench| bench.errors().len() == 3).await;
    // A host that was set back to an older snapshot may have it again.
    bench.control.forget();
    bench
        .until("cleared again", |bench| bench.errors().len() == 4)
        .await;
    assert_eq!(bench.errors()[2..], ["", ""]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_last_error_survives_a_broken_channel() {
    let mut bench = bench(Duration::ZERO, true);
    bench.accepted(StateChange::Reboot).await;
    let mut left = 2;
    bench.host.answer(move |request| {
        if left == 0 || !request.starts_with(b"info-set") {
            return Ok(Vec::new());
        }
        left -= 1;
        no_channel()
    });
    bench.node.tell("actor-1", "reboot", failed(Failure::Fatal));
    bench
        .until("three attempts", |bench| bench.errors().len() == 3)
        .await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.errors().len(), 3, "taken, and not sent again");
    bench.end().await;
}
