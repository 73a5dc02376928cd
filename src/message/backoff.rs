//! When a lost channel is opened again: at once, then after 1 s, doubling to 10 s. vSphere HA resets a machine after 30 s
//! without heartbeat, so the last pause stays well below.

use std::time::{Duration, Instant};

use crate::jitter::jittered;

/// Pause before the second reopening.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Two failures within this time are one trouble: no attempt at once for the second. Longer than the first pause with its
/// jitter, or a channel that never lasts would get one every time.
const FLAPPING: Duration = Duration::from_secs(2);

/// The longest pause, before jitter.
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// Part of a pause by which it varies up and down: the machines of a cluster must not come back together.
const JITTER: f64 = 0.2;

/// Keeps one outage: when it began and when the next attempt is due. Time is a parameter, so that tests need none.
#[derive(Debug)]
pub struct Backoff {
    outage: Option<Outage>,
    last_failure: Option<Instant>,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    due: Instant,
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            outage: None,
            last_failure: None,
            random: fastrand::Rng::new(),
        }
    }
}

impl Backoff {
    /// Something failed at `now`. `true` when an outage begins with it.
    pub fn failed(&mut self, now: Instant) -> bool {
        let flapping = self
            .last_failure
            .is_some_and(|last| now.saturating_duration_since(last) < FLAPPING);
        self.last_failure = Some(now);
        if let Some(outage) = &mut self.outage {
            outage.due = now + jittered(&mut self.random, outage.pause, JITTER);
            outage.pause = (outage.pause * 2).min(LAST_PAUSE);
            return false;
        }
        // A channel that is lost again as soon as it was found does not buy an immediate attempt each time.
        let first = if flapping {
            jittered(&mut self.random, FIRST_PAUSE, JITTER)
        } else {
            Duration::ZERO
        };
        self.outage = Some(Outage {
            since: now,
            due: now + first,
            pause: FIRST_PAUSE,
        });
        true
    }

    /// Everything works at `now`. Gives the length of the outage that ends with it.
    pub fn succeeded(&mut self, now: Instant) -> Option<Duration> {
        self.outage
            .take()
            .map(|outage| now.saturating_duration_since(outage.since))
    }

    /// The outage is part of another one, which has pauses of its own.
    pub fn forget(&mut self) {
        self.outage = None;
    }

    /// Makes the next attempt due, without ending the outage: there is news that makes it promising.
    pub fn retry_at_once(&mut self) {
        if let Some(outage) = &mut self.outage {
            outage.due = outage.since;
            outage.pause = FIRST_PAUSE;
        }
    }

    /// How long the outage has lasted at `now`, if there is one.
    pub fn outage(&self, now: Instant) -> Option<Duration> {
        self.outage
            .as_ref()
            .map(|outage| now.saturating_duration_since(outage.since))
    }

    /// How long to wait at `now` before the next attempt. Zero: try it.
    pub fn wait(&self, now: Instant) -> Duration {
        self.outage
            .as_ref()
            .map_or(Duration::ZERO, |outage| outage.due.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_at_once_and_the_pauses_double_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let begin = Instant::now();
        let mut now = begin;
        assert!(backoff.failed(now));
        assert_eq!(backoff.wait(now), Duration::ZERO);
        for expected in [1.0, 2.0, 4.0, 8.0, 10.0, 10.0] {
            assert!(!backoff.failed(now), "one outage has one beginning");
            let wait = backoff.wait(now).as_secs_f64();
            assert!((expected * 0.8..=expected * 1.2).contains(&wait), "{wait}");
            now += backoff.wait(now);
            assert_eq!(backoff.wait(now), Duration::ZERO);
        }
        assert_eq!(backoff.succeeded(now), Some(now - begin));
        assert_eq!(backoff.succeeded(now), None);
    }

    #[test]
    fn success_clears_the_pauses() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for _ in 0..5 {
            backoff.failed(now);
        }
        backoff.succeeded(now);
        let later = now + Duration::from_secs(60);
        assert!(backoff.failed(later));
        assert_eq!(backoff.wait(later), Duration::ZERO);
    }

    #[test]
    fn a_flapping_channel_waits() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        backoff.failed(now);
        backoff.succeeded(now);
        let soon = now + Duration::from_millis(10);
        assert!(backoff.failed(soon));
        assert!(backoff.wait(soon) >= Duration::from_millis(800));
    }

    #[test]
    fn jitter_spreads() {
        let mut pauses: Vec<Duration> = (0..20)
            .map(|_| {
                let mut backoff = Backoff::default();
                let now = Instant::now();
                backoff.failed(now);
                backoff.failed(now);
                backoff.wait(now)
            })
            .collect();
        pauses.sort();
        pauses.dedup();
        assert!(pauses.len() > 1, "{pauses:?}");
    }
}
