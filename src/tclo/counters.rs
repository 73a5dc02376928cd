//! What the backdoor thread has done, for other threads to read.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Counters of one backdoor thread, written by it alone.
#[derive(Debug)]
pub struct Counters {
    begin: Instant,
    last_step: AtomicU64,
    polls: AtomicU64,
    requests: AtomicU64,
    calls: AtomicU64,
    openings: AtomicU64,
    losses: AtomicU64,
    resets: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// TCLO iterations that worked, with or without a request.
    pub polls: u64,
    /// Requests of the host.
    pub requests: u64,
    /// RPCI calls, of tasks and of the registration.
    pub calls: u64,
    /// How often the TCLO channel was opened again after the first time.
    pub reopenings: u64,
    /// How often it was lost, or could not be opened.
    pub losses: u64,
    /// How often the host sent `reset`.
    pub resets: u64,
}

impl Counters {
    /// All zero, at `now`.
    pub const fn new(now: Instant) -> Self {
        Self {
            begin: now,
            last_step: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            openings: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            resets: AtomicU64::new(0),
        }
    }

    /// When the thread last began an iteration or an RPCI call. It does so every 5 s at least; far behind, it hangs.
    pub fn last_step(&self) -> Instant {
        self.begin + Duration::from_millis(self.last_step.load(Relaxed))
    }

    /// All counters. Each is right; they need not be of the same moment.
    pub fn figures(&self) -> Figures {
        Figures {
            polls: self.polls.load(Relaxed),
            requests: self.requests.load(Relaxed),
            calls: self.calls.load(Relaxed),
            reopenings: self.openings.load(Relaxed).saturating_sub(1),
            losses: self.losses.load(Relaxed),
            resets: self.resets.load(Relaxed),
        }
    }

    pub(super) fn stepped(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.begin).as_millis();
        self.last_step
            .store(u64::try_from(elapsed).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn polled(&self) {
        self.polls.fetch_add(1, Relaxed);
    }

    pub(super) fn requested(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// A call begins. It is a sign of life too, for one iteration makes many.
    pub(super) fn called(&self) {
        self.stepped(Instant::now());
        self.calls.fetch_add(1, Relaxed);
    }

    pub(super) fn opened(&self) {
        self.openings.fetch_add(1, Relaxed);
    }

    pub(super) fn was_reset(&self) {
        self.resets.fetch_add(1, Relaxed);
    }

    pub(super) fn lost(&self) {
        self.losses.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_sign_of_life() {
        let ago = Duration::from_millis(10);
        let begin = Instant::now().checked_sub(ago).unwrap();
        let counters = Counters::new(begin);
        counters.stepped(begin);
        assert_eq!(counters.last_step(), begin);
        counters.called();
        assert!(counters.last_step() >= begin + ago);
    }
}
