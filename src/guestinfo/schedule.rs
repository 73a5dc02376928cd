//! When the publisher is to do what: all of its timers, without a clock of their own.
//!
//! ```text
//!  change ── not before quiet ──┐
//!  reset  ── not before calm ───┼── not before blocked ──> pass
//!  uptime, resend ──────────────┘
//! ```

#![forbid(unsafe_code)]

use std::time::Duration;

use tokio::time::Instant;

use crate::jitter::jittered;

/// What follows a change within this time goes into one message.
const QUIET: Duration = Duration::from_millis(100);
/// The same after a change that did not concern the host: bounds the work under a flood of them.
const QUIET_UNSENT: Duration = Duration::from_millis(10);
/// How long the first NIC record waits for routes and node addresses, so that it is not sent with one address first and
/// then with another. They come within milliseconds of the addresses; the record is to be out 100 ms after a `reset`.
pub(super) const SETTLE: Duration = Duration::from_millis(75);
/// Uptime, as often as open-vm-tools sends it (guestInfoServer.c).
const UPTIME: Duration = Duration::from_secs(30);
/// Share by which the uptime's period varies.
const UPTIME_JITTER: f64 = 0.1;
/// Statistics, as often as open-vm-tools sends them (guestStats.h).
const STATISTICS: Duration = Duration::from_secs(20);
/// Share by which that varies.
const STATISTICS_JITTER: f64 = 0.1;
/// How long after the start what an earlier life of this machine left is cleared: by then what is known has been told.
const STALE: Duration = Duration::from_secs(1);
/// Everything again, in case the host has lost it without a `reset`.
const RESEND: Duration = Duration::from_secs(600);
/// Share by which that varies, so that the nodes of a cluster do not do it together.
const RESEND_JITTER: f64 = 0.2;
/// What the host refused is tried again, as often as open-vm-tools gathers (guestInfoServer.c).
const REFUSED: Duration = Duration::from_secs(30);
/// Share by which that varies.
const REFUSED_JITTER: f64 = 0.1;
/// The pause after a message without answer.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// What it grows to, doubling.
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// Share by which it varies.
const RETRY_JITTER: f64 = 0.2;

/// When what is due.
#[derive(Debug)]
pub(super) struct Schedule {
    /// A pass for a change or a request of the host.
    pass: Option<Instant>,
    uptime: Instant,
    /// None where they are not sent.
    statistics: Option<Instant>,
    /// When what an earlier life left is cleared; none once it is.
    stale: Option<Instant>,
    /// When the state of Talos may be told further.
    state: Option<Instant>,
    /// When something that was refused is tried again.
    retry: Option<Instant>,
    resend: Instant,
    /// Changes wait until then.
    quiet: Instant,
    /// Requests of the host wait until then.
    calm: Instant,
    /// Everything waits until then.
    blocked: Instant,
    /// The next pass answers a request of the host.
    urgent: bool,
    /// The last pause of a series.
    backoff: Option<Duration>,
    /// The first NIC record waits until then at most.
    settle: Option<Instant>,
    /// The first NIC record may go out: the node is described, and what follows is a change.
    described: bool,
    random: fastrand::Rng,
}

impl Schedule {
    /// A first pass at once.
    pub fn new(now: Instant, mut random: fastrand::Rng) -> Self {
        Self {
            pass: Some(now),
            uptime: now,
            statistics: None,
            stale: None,
            state: None,
            retry: None,
            resend: now + jittered(&mut random, RESEND, RESEND_JITTER),
            quiet: now,
            calm: now,
            blocked: now,
            urgent: false,
            backoff: None,
            settle: None,
            described: false,
            random,
        }
    }

    /// When the next pass is due.
    pub fn due(&self) -> Instant {
        let timers = [self.statistics, self.stale, self.state, self.retry]
            .into_iter()
            .flatten()
            .fold(self.uptime.min(self.resend), Instant::min);
        self.pass
            .map_or(timers, |pass| pass.min(timers))
            .max(self.blocked)
    }

    /// Statistics are to be sent, from now on.
    pub fn with_statistics(mut self, now: Instant) -> Self {
        self.statistics = Some(now);
        self
    }

    /// What an earlier life left is to be cleared.
    pub fn with_stale(mut self, now: Instant) -> Self {
        self.stale = Some(now + STALE);
        self
    }

    /// Something changed.
    pub fn changed(&mut self, now: Instant) {
        self.pass_at(now.max(self.quiet));
    }

    /// The host asked for something. It has just spoken, so there is a channel.
    pub fn asked(&mut self, now: Instant) {
        self.urgent = true;
        self.blocked = now;
        self.pass_at(now.max(self.calm));
    }

    /// The host has forgotten everything, the uptime too.
    pub fn reset(&mut self, now: Instant) {
        self.asked(now);
        self.uptime = now.max(self.calm);
    }

    /// Publishing may go on.
    pub fn resumed(&mut self, now: Instant) {
        self.pass_at(now);
    }

    /// A pass begins. Whether it is the one that sends everything again.
    pub fn begin(&mut self, now: Instant) -> bool {
        self.pass = None;
        if std::mem::take(&mut self.urgent) {
            self.calm = now + QUIET;
        }
        let resend = now >= self.resend;
        if resend {
            self.resend = now + jittered(&mut self.random, RESEND, RESEND_JITTER);
            self.uptime = now;
        }
        resend
    }

    /// Whether the NIC record may go out. After the first one it always may.
    pub fn may_report_network(&mut self, settled: bool, now: Instant) -> bool {
        let until = *self
            .settle
            .get_or_insert(if settled { now } else { now + SETTLE });
        if settled || now >= until {
            self.settle = Some(now);
            self.described = true;
            return true;
        }
        self.pass_at(until);
        false
    }

    /// Whether the uptime is to be sent.
    pub fn is_uptime_due(&self, now: Instant) -> bool {
        now >= self.uptime
    }

    /// It was.
    pub fn uptime_told(&mut self, now: Instant) {
        self.uptime = now + jittered(&mut self.random, UPTIME, UPTIME_JITTER);
    }

    /// Whether statistics are to be sent.
    pub fn are_statistics_due(&self, now: Instant) -> bool {
        self.statistics.is_some_and(|due| now >= due)
    }

    /// They were.
    pub fn statistics_told(&mut self, now: Instant) {
        self.statistics = Some(now + jittered(&mut self.random, STATISTICS, STATISTICS_JITTER));
    }

    /// Whether what an earlier life left is to be cleared.
    pub fn is_stale_due(&self, now: Instant) -> bool {
        self.stale.is_some_and(|due| now >= due)
    }

    /// It was.
    pub fn stale_cleared(&mut self) {
        self.stale = None;
    }

    /// There is more of Talos's state to tell, at `when`; none when all is told.
    pub fn state_waits(&mut self, when: Option<Instant>) {
        self.state = when;
    }

    /// When a value that is refused `now` may be tried again.
    pub fn after_refusal(&mut self, now: Instant) -> Instant {
        now + jittered(&mut self.random, REFUSED, REFUSED_JITTER)
    }

    /// Something that was refused is to be tried again at `when`; none when nothing is.
    pub fn retry_waits(&mut self, when: Option<Instant>) {
        self.retry = when;
    }

    /// A pass that began at `began` has come to its end. While the facts of a node come in one by one, the NIC record
    /// does not wait behind the first of them.
    pub fn completed(&mut self, began: Instant, sent: bool) {
        self.backoff = None;
        self.quiet = began
            + if sent && self.described {
                QUIET
            } else {
                QUIET_UNSENT
            };
    }

    /// A pass was broken off by the host or by a suspension.
    pub fn overtaken(&mut self, now: Instant) {
        self.pass_at(now.max(self.calm));
    }

    /// A pass is to be repeated after a pause that grows each time, and nothing happens before.
    pub fn back_off(&mut self, now: Instant) {
        let pause = match self.backoff {
            None => RETRY_FIRST,
            Some(last) => (last * 2).min(RETRY_LONGEST),
        };
        self.backoff = Some(pause);
        self.blocked = now + jittered(&mut self.random, pause, RETRY_JITTER);
        self.pass_at(self.blocked);
    }

    /// A pass at `when`, or earlier if one was planned already.
    fn pass_at(&mut self, when: Instant) {
        self.pass = Some(self.pass.map_or(when, |planned| planned.min(when)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(schedule: &mut Schedule, described: bool) -> Duration {
        let now = Instant::now();
        if described {
            assert!(schedule.may_report_network(true, now));
        }
        schedule.begin(now);
        schedule.uptime_told(now);
        schedule.completed(now, true);
        schedule.changed(now);
        schedule.due() - now
    }

    /// Ten thousand changes a second, as of a link that flaps, that come to nothing or to a message each time.
    #[test]
    fn a_flood_of_changes_costs_a_bounded_number_of_passes() {
        let start = Instant::now();
        for (sent, most) in [(false, 101), (true, 11)] {
            let mut schedule = Schedule::new(start, fastrand::Rng::with_seed(1));
            assert!(schedule.may_report_network(true, start));
            let mut passes = 0;
            for change in 0..10_000 {
                let now = start + Duration::from_micros(100) * change;
                schedule.changed(now);
                if schedule.due() <= now {
                    schedule.begin(now);
                    schedule.uptime_told(now);
                    schedule.completed(now, sent);
                    passes += 1;
                }
            }
            assert!((most - 2..=most).contains(&passes), "{passes} passes in a second");
        }
    }

    #[test]
    fn the_network_does_not_wait_behind_the_first_facts() {
        let mut schedule = Schedule::new(Instant::now(), fastrand::Rng::with_seed(1));
        assert_eq!(after(&mut schedule, false), QUIET_UNSENT);
        assert_eq!(after(&mut schedule, true), QUIET);
    }
}
