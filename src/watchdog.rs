//! The program's own watchdog: a loop that is dead for 15 s ends the process, and Talos starts it again.
//!
//! Two loops are watched from a third thread: the one that polls the host and the one that runs tokio. vSphere HA resets
//! a machine after 30 s without heartbeat, so a process that hangs must end well before.

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

use crate::{logging::Log, tclo::Counters};

/// How often is looked.
const TICK: Duration = Duration::from_secs(5);

/// How long a loop may be silent.
const LIMIT: Duration = Duration::from_secs(15);

/// A look that comes this late was held up with the whole machine (a suspend, a stun), and so were the loops.
const HELD_UP: Duration = Duration::from_secs(3);

/// Status of a process that gave itself up.
const FAILURE: i32 = 1;

/// Ends the watch when it is dropped.
pub struct Watchdog {
    _end: SyncSender<()>,
}

/// Watches the loop behind `counters` and the tokio runtime that this is called in.
///
/// # Errors
///
/// When the thread cannot be started.
pub fn start(
    counters: Arc<Counters>,
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
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let tokio = *pulse.lock().unwrap_or_else(PoisonError::into_inner);
            let loops = [("backdoor", counters.last_step()), ("tokio", tokio)];
            if let Some((name, silent)) = look.dead(Instant::now(), &loops) {
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
