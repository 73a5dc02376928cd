//! The program's own watchdog: a loop that is dead for 15 s ends the process, and Talos starts it again.
//!
//! Two loops are watched from a third thread: the one that polls the host and the one that runs tokio. vSphere HA resets
//! a machine after 30 s without heartbeat, so a process that hangs must end well before.
//!
//! ```text
//!  look, every 5 s ── Look ── a loop is dead ──> the process ends
//!                      └───── Condition ──> Health ──RPCI update.tools.health──> host
//! ```

#![forbid(unsafe_code)]

mod health;

use std::{
    io, process,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span};

pub use self::health::{Condition, Health};
use crate::{logging::Log, rpci::Client, tclo::Counters};

/// How often is looked.
const TICK: Duration = Duration::from_secs(5);

/// How long a loop may be silent.
const LIMIT: Duration = Duration::from_secs(15);

/// A look that comes this late was held up with the whole machine (a suspend, a stun), and so were the loops.
const HELD_UP: Duration = Duration::from_secs(3);

/// Silence of a loop that counts as hung: its signs come every [`TICK`], and this is half a tick more.
const HUNG: Duration = Duration::from_millis(7500);

/// A look this late means that the machine is slow: 7.5 s for what takes 5, as in open-vm-tools (toolsHangDetector.c).
const SLOW: Duration = Duration::from_millis(7500);

/// A look later than this: it did not run at all.
const SLEPT: Duration = Duration::from_secs(60);

/// Status of a process that gave itself up.
const FAILURE: i32 = 1;

/// Ends the watch when it is dropped.
pub struct Watchdog {
    _end: SyncSender<()>,
}

/// Watches the loop behind `counters` and the tokio runtime that this is called in; tells the host through `rpci`.
///
/// # Errors
///
/// When the thread cannot be started.
pub fn start(
    counters: Arc<Counters>,
    rpci: Arc<Client>,
    log: &Log,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> io::Result<Watchdog> {
    let pulse = Arc::new(Mutex::new(Instant::now()));
    let beat = beat(Arc::clone(&pulse), shutdown.clone());
    tasks.spawn(beat.instrument(info_span!("watchdog")));

    let (end, ended) = sync_channel(0);
    let log = log.clone();
    thread::Builder::new().name("watchdog".into()).stack_size(64 * 1024).spawn(move || {
        let mut look = Look { last: Instant::now() };
        let mut health = Health::default();
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let tokio = *pulse.lock().unwrap_or_else(PoisonError::into_inner);
            let loops = [("backdoor", counters.last_step()), ("tokio", tokio)];
            let now = Instant::now();
            health.noticed_resets(counters.figures().resets);
            health.tell(look.condition(now, &loops), |request| rpci.submit(request));
            if let Some((name, silent)) = look.dead(now, &loops) {
                error!(name, silent = ?silent, "a loop is dead, so the process ends and is started again");
                log.flush(Duration::from_millis(100));
                process::exit(FAILURE);
            }
        }
    })?;
    Ok(Watchdog { _end: end })
}

async fn beat(pulse: Arc<Mutex<Instant>>, shutdown: CancellationToken) {
    let beat = async {
        loop {
            tokio::time::sleep(TICK).await;
            *pulse.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    };
    shutdown.run_until_cancelled(beat).await;
}

struct Look {
    last: Instant,
}

impl Look {
    /// How the program does at `now`, as the host has words for it. To be asked before [`Self::dead`].
    fn condition(&self, now: Instant, loops: &[(&str, Instant)]) -> Condition {
        let late = now.saturating_duration_since(self.last);
        if late > SLOW && late < SLEPT {
            Condition::GuestSlow
        } else if late < SLOW
            && loops
                .iter()
                .any(|(_, sign)| now.saturating_duration_since(*sign) > HUNG)
        {
            Condition::Hung
        } else {
            Condition::Normal
        }
    }

    /// The first loop that is dead at `now`. The loops are given with the moment of their last sign of life.
    fn dead<'a>(&mut self, now: Instant, loops: &[(&'a str, Instant)]) -> Option<(&'a str, Duration)> {
        let since = now.saturating_duration_since(self.last);
        self.last = now;
        if since > TICK + HELD_UP {
            return None;
        }
        loops
            .iter()
            .map(|(name, sign)| (*name, now.saturating_duration_since(*sign)))
            .find(|(_, silent)| *silent > LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_loop_is_found_and_a_machine_that_slept_is_not_blamed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut look = Look { last: start };
        assert_eq!(look.dead(at(5), &[("a", at(4)), ("b", at(5))]), None);
        assert_eq!(look.dead(at(10), &[("a", start), ("b", at(5))]), None);
        // The machine slept for an hour: the first look afterwards says nothing.
        assert_eq!(look.dead(at(3600), &[("a", at(5)), ("b", at(10))]), None);
        assert_eq!(
            look.dead(at(3605), &[("a", at(3602)), ("b", at(10))]),
            Some(("b", Duration::from_secs(3595)))
        );
    }

    #[test]
    fn a_hung_loop_and_a_slow_machine_are_told_apart() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let look = Look { last: start };
        assert_eq!(look.condition(at(5), &[("a", start)]), Condition::Normal);
        let look = Look { last: at(5) };
        assert_eq!(
            look.condition(at(10), &[("a", at(8)), ("b", start)]),
            Condition::Hung
        );
        // A late look blames the machine and not the loops, and one that is far too late nobody.
        assert_eq!(look.condition(at(13), &[("b", start)]), Condition::GuestSlow);
        assert_eq!(look.condition(at(3600), &[("b", start)]), Condition::Normal);
    }

    #[test]
    fn fifteen_seconds_are_allowed() {
        let start = Instant::now();
        let mut look = Look {
            last: start + Duration::from_secs(10),
        };
        assert_eq!(look.dead(start + LIMIT, &[("a", start)]), None);
        let mut look = Look {
            last: start + Duration::from_secs(11),
        };
        assert!(
            look.dead(start + LIMIT + Duration::from_millis(1), &[("a", start)])
                .is_some()
        );
    }
}
