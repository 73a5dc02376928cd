//! The task that follows the connection and the clocks.

use std::{future, sync::Arc, time::Duration};

use nix::time::{ClockId, clock_gettime};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{Cause, History, Recognizer, Sign};
use crate::{clock, hostlog::HostLog, limited, tclo::Event};

/// How often the two clocks are compared.
const TICK: Duration = Duration::from_secs(10);

/// A difference from here on is a sleep, and not the time between the two readings.
const SLEEP: Duration = Duration::from_secs(1);

/// How long new channels are explained by another agent that was noticed. The pump repeats it every minute.
const CONTENDED: Duration = Duration::from_secs(90);

/// How long the kernel has been asleep since it started: the boot clock runs on then, the monotonic one does not. `None`
/// if a clock cannot be read.
pub fn time_asleep() -> Option<Duration> {
    let read = |clock| clock_gettime(clock).ok().map(Duration::from);
    // In this order the difference never falls below the truth by the time between the readings.
    let monotonic = read(ClockId::CLOCK_MONOTONIC)?;
    read(ClockId::CLOCK_BOOTTIME)?.checked_sub(monotonic)
}

/// The host's `OS_Resume`, told without waiting. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Resumed(Arc<Notify>);

impl Resumed {
    /// The VM came back from suspend.
    pub fn tell(&self) {
        self.0.notify_one();
    }
}

/// Recognises interruptions, and makes up for those that no `reset` announced.
pub struct Lifecycle<S, F> {
    events: mpsc::Receiver<Event>,
    resumed: Resumed,
    asleep: S,
    forget: F,
    clock: clock::Trigger,
    host: HostLog,
    history: History,
    registered: bool,
    /// Another agent was noticed, and vmware.log is not told yet: it happens while there is no channel.
    contended: bool,
    /// Until then new channels are that agent's doing and not worth a line each.
    contended_until: Option<Instant>,
}

impl<S: FnMut() -> Option<Duration>, F: FnMut()> Lifecycle<S, F> {
    /// Follows `events` and `resumed`; `asleep` is [`time_asleep`]. Orders a full resend with `forget`, which must not wait,
    /// and a measurement from `clock`.
    pub const fn new(
        events: mpsc::Receiver<Event>,
        resumed: Resumed,
        asleep: S,
        forget: F,
        clock: clock::Trigger,
        host: HostLog,
        history: History,
    ) -> Self {
        Self {
            events,
            resumed,
            asleep,
            forget,
            clock,
            host,
            history,
            registered: false,
            contended: false,
            contended_until: None,
        }
    }

    /// Runs until `shutdown`, or until the backdoor thread has ended.
    pub async fn run(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&mut self) {
        let mut recognizer = Recognizer::default();
        let mut asleep = (self.asleep)();
        loop {
            let window = async {
                match recognizer.due() {
                    Some(due) => sleep_until(due).await,
                    None => future::pending().await,
                }
            };
            let sign = tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                () = self.resumed.0.notified() => Some(Sign::Resumed),
                () = window => None,
                () = sleep(TICK) => None,
            };
            let now = Instant::now();
            if let Some(sign) = sign {
                recognizer.see(sign, now);
            }
            let before = std::mem::replace(&mut asleep, (self.asleep)());
            if let (Some(before), Some(after)) = (before, asleep)
                && let Some(slept) = after.checked_sub(before).filter(|slept| *slept >= SLEEP)
            {
                recognizer.see(Sign::Slept(slept), now);
            }
            if let Some(over) = recognizer.close(now) {
                self.interrupted(over.cause, over.resend);
            }
        }
    }

    fn event(&mut self, event: Event) -> Option<Sign> {
        match event {
            Event::Registered => {
                self.registered();
                None
            }
            Event::Connected => {
                self.history.connected(std::time::Instant::now());
                Some(Sign::Connected)
            }
            Event::Reset => Some(Sign::Reset),
            Event::Lost { since } => {
                self.history.lost(since);
                None
            }
            // Nothing says that the VM was interrupted, so nobody but a reader of debug lines is told.
            Event::Missed => {
                limited!(
                    debug,
                    feature = "lifecycle",
                    "events were missed: everything is told again"
                );
                (self.forget)();
                None
            }
            Event::Contended => {
                let now = Instant::now();
                let until = self.contended_until.replace(now + CONTENDED);
                self.contended |= until.is_none_or(|until| until <= now);
                None
            }
        }
    }

    /// The first registration is the start; later ones belong to an interruption, which has its own line.
    fn registered(&mut self) {
        if std::mem::take(&mut self.contended) {
            let operation = self.host.operation();
            limited!(
                info,
                feature = "lifecycle",
                operation = operation.number(),
                "the host's log is told of another agent"
            );
            self.host
                .say(operation, "another agent seems to use the channel to the host");
        }
        if std::mem::replace(&mut self.registered, true) {
            debug!("registered with the host again");
            return;
        }
        let operation = self.host.operation();
        info!(operation = operation.number(), "registered with the host");
        self.host
            .say(operation, format!("{} started", env!("CARGO_PKG_VERSION")));
    }

    fn interrupted(&mut self, cause: Cause, resend: bool) {
        if cause == Cause::Start {
            return;
        }
        self.history.interrupted(std::time::Instant::now(), cause);
        if resend {
            (self.forget)();
        }
        self.clock.interrupted();
        if cause == Cause::NewChannel && self.contended_until.is_some_and(|until| Instant::now() < until) {
            debug!(feature = "lifecycle", %cause, "everything is told again");
            return;
        }
        let operation = self.host.operation();
        limited!(
            info,
            feature = "lifecycle",
            operation = operation.number(),
            %cause,
            "the VM was interrupted: everything is told again"
        );
        self.host.say(
            operation,
            format!("interrupted ({cause}): everything is told again"),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    /// The task with its neighbours, on tokio's paused clock.
    async fn with(act: impl AsyncFnOnce(&mpsc::Sender<Event>, &Resumed, &Cell<u64>)) -> (u64, Vec<String>) {
        let (events, receiver) = mpsc::channel(64);
        let (resumed, history) = (Resumed::default(), History::default());
        let forgotten = Rc::new(Cell::new(0));
        let count = forgotten.clone();
        let asleep = Rc::new(Cell::new(0));
        let reading = asleep.clone();
        let mut lifecycle = Lifecycle::new(
            receiver,
            resumed.clone(),
            move || Some(Duration::from_secs(reading.get())),
            move || count.set(count.get() + 1),
            clock::Trigger::default(),
            HostLog::silent(),
            history.clone(),
        );
        let act = async {
            for event in [Event::Connected, Event::Reset, Event::Registered] {
                events.send(event).await.unwrap();
            }
            sleep(Duration::from_secs(60)).await;
            act(&events, &resumed, &asleep).await;
            sleep(Duration::from_secs(60)).await;
        };
        tokio::select! {
            () = lifecycle.follow() => panic!("it ended"),
            () = act => {}
        }
        (forgotten.get(), history.lines())
    }

    #[tokio::test(start_paused = true)]
    async fn a_resume_without_reset_sends_everything_again_once() {
        let (forgotten, history) = with(async |_, resumed, _| resumed.tell()).await;
        assert_eq!(forgotten, 1);
        assert_eq!(history.len(), 2, "{history:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_of_the_kernel_is_noticed_by_its_clocks() {
        let (forgotten, history) = with(async |_, _, asleep| asleep.set(3600)).await;
        assert_eq!(forgotten, 1);
        assert!(history[1].ends_with("resume after 3600.0 s"), "{history:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_reset_announced_is_not_sent_a_second_time() {
        let (forgotten, history) = with(async |events, resumed, asleep| {
            asleep.set(30);
            events.send(Event::Reset).await.unwrap();
            events.send(Event::Registered).await.unwrap();
            sleep(Duration::from_millis(200)).await;
            resumed.tell();
        })
        .await;
        assert_eq!(forgotten, 0, "the publisher does it at the reset");
        assert_eq!(history.len(), 2, "{history:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn missed_events_send_everything_again_and_are_no_interruption() {
        let (forgotten, history) = with(async |events, _, _| {
            events.send(Event::Missed).await.unwrap();
        })
        .await;
        assert_eq!(forgotten, 1);
        assert_eq!(history.len(), 1, "{history:?}");
    }

    #[test]
    fn the_kernel_tells_how_long_it_slept() {
        assert!(time_asleep().is_some());
    }
}
