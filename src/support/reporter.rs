//! The task that writes the state down, and sets the level.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Sources, Wishes, lines};
use crate::{config::LogLevel, hostlog::HostLog, limited, logging::Level};

/// Time between two reports. A request that comes sooner is answered when it is over.
const PAUSE: Duration = Duration::from_secs(60);

/// Writes the state when it is asked for.
#[derive(Debug)]
pub struct Reporter {
    wishes: watch::Receiver<Wishes>,
    sources: Sources,
    level: Level,
    host: HostLog,
}

impl Reporter {
    /// Tells of `sources` in the log, and of itself in vmware.log.
    pub const fn new(wishes: watch::Receiver<Wishes>, sources: Sources, level: Level, host: HostLog) -> Self {
        Self {
            wishes,
            sources,
            level,
            host,
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.work()).await;
    }

    async fn work(&mut self) {
        let mut done = Wishes::default();
        let mut next = Instant::now();
        loop {
            let wishes = *self.wishes.borrow_and_update();
            if wishes.level != done.level {
                let level = self.level.host_wants(wishes.level);
                self.say_level(level);
                done.level = wishes.level;
            }
            let asked = wishes.asked != done.asked;
            if asked && Instant::now() >= next {
                self.report();
                next = Instant::now() + PAUSE;
                done.asked = wishes.asked;
                continue;
            }
            tokio::select! {
                changed = self.wishes.changed() => if changed.is_err() {
                    return;
                },
                () = sleep_until(next), if asked => {}
            }
        }
    }

    fn say_level(&self, level: LogLevel) {
        let operation = self.host.operation();
        limited!(
            info,
            feature = "support",
            operation = operation.number(),
            ?level,
            "the host sets the level of the log"
        );
        self.host.say(operation, format!("guestLogLevel: {level:?}"));
    }

    fn report(&self) {
        let operation = self.host.operation();
        let lines = lines(&self.sources);
        for (part, text) in &lines {
            info!(
                feature = "support",
                operation = operation.number(),
                part,
                "{text}"
            );
        }
        let text = format!(
            "support: {} lines about the state are in the guest's log",
            lines.len()
        );
        self.host.say(operation, text);
    }
}
