//! How long to pause between two polls.

use std::time::{Duration, Instant};

/// The first pause after a request.
const FIRST: Duration = Duration::from_millis(10);

/// The longest pause while an operation is under way that the host follows closely.
const FAST: Duration = Duration::from_millis(20);

/// The longest pause that can be set. A host expects a heartbeat well within 30 s; a longer pause saves nothing.
const CEILING_MAX: Duration = Duration::from_secs(1);

/// Pauses that double from 10 ms to a ceiling, and start over when the host is active.
#[derive(Clone, Debug)]
pub struct Pace {
    ceiling: Duration,
    next: Duration,
    due: Instant,
}

impl Pace {
    /// A first poll at once; `ceiling` is brought into 10 ms to 1 s.
    pub fn new(ceiling: Duration, now: Instant) -> Self {
        Self {
            ceiling: ceiling.clamp(FIRST, CEILING_MAX),
            next: FIRST,
            due: now,
        }
    }

    /// The host is active, or new: poll at once, and often after it.
    pub fn restart(&mut self, now: Instant) {
        self.next = FIRST;
        self.due = now;
    }

    /// A poll found nothing. `fast` keeps this pause short.
    pub fn idle(&mut self, now: Instant, fast: bool) {
        let ceiling = if fast {
            FAST.min(self.ceiling)
        } else {
            self.ceiling
        };
        let pause = self.next.min(ceiling);
        self.due = now + pause;
        self.next = (pause * 2).min(self.ceiling);
    }

    /// Time left at `now` until the next poll; zero when it is due.
    pub fn wait(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(pace: &mut Pace, count: usize, fast: bool) -> Vec<u128> {
        let now = Instant::now();
        (0..count)
            .map(|_| {
                pace.idle(now, fast);
                pace.wait(now).as_millis()
            })
            .collect()
    }

    #[test]
    fn pauses_double_to_the_ceiling() {
        let now = Instant::now();
        let mut pace = Pace::new(Duration::from_millis(500), now);
        assert_eq!(pace.wait(now), Duration::ZERO);
        assert_eq!(pauses(&mut pace, 8, false), [10, 20, 40, 80, 160, 320, 500, 500]);
        pace.restart(now);
        assert_eq!(pace.wait(now), Duration::ZERO);
        assert_eq!(pauses(&mut pace, 2, false), [10, 20]);
    }

    #[test]
    fn a_ceiling_out_of_range_is_brought_in() {
        let now = Instant::now();
        let mut low = Pace::new(Duration::ZERO, now);
        assert_eq!(pauses(&mut low, 3, false), [10, 10, 10]);
        let mut high = Pace::new(Duration::MAX, now);
        assert_eq!(pauses(&mut high, 9, false).last(), Some(&1000));
    }

    #[test]
    fn an_operation_keeps_the_pause_short() {
        let mut pace = Pace::new(Duration::from_millis(500), Instant::now());
        pauses(&mut pace, 8, false);
        assert_eq!(pauses(&mut pace, 4, true), [20, 20, 20, 20]);
        assert_eq!(pauses(&mut pace, 2, false), [40, 80]);
    }
}
