//! Whether another agent fights for the channel.
//!
//! A host serves one agent of our name. A second one on the same node (a DaemonSet left over beside the extension) takes
//! the channel away, loses it to us, and so on: channels that live for seconds only, or a `reset` every few seconds on
//! one that lives. That is said once; while it lasts the ordinary lines of an outage are left out
//! but for one a minute, and for those of an outage that is longer than a fight makes it. The attempts go on as ever, for they are the heartbeat.

use std::time::{Duration, Instant};

/// A channel that was lost before this age lived shortly. vMotions are further apart.
const SHORT_LIFE: Duration = Duration::from_secs(30);

/// Short lives in a row that make a fight.
const SHORT_LIVES: u32 = 3;

/// Resets of a living channel that make a fight, ...
const RESETS: u32 = 5;

/// ... when each comes this soon after the one before ...
const RESETS_WITHIN: Duration = Duration::from_secs(30);

/// ... but not sooner: a storm of them comes from the host.
const RESETS_APART: Duration = Duration::from_secs(2);

/// A channel that lived so long is ours: the fight is over.
const OURS: Duration = Duration::from_secs(60);

/// Pause between two lines while the fight lasts.
const REMINDER: Duration = Duration::from_secs(60);

/// What to say of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It stands for itself.
    Single,
    /// With it a fight is noticed.
    Contended,
    /// The fight goes on, and it is time to say so.
    Again {
        /// Channels lost since the last line.
        losses: u32,
    },
    /// The fight goes on.
    Quiet,
}

/// The memory of the last channels. Time is a parameter, so that tests need none.
#[derive(Clone, Debug, Default)]
pub struct Contention {
    connected: Option<Instant>,
    short_lives: u32,
    resets: u32,
    last_reset: Option<Instant>,
    noticed: Option<Fight>,
}

#[derive(Clone, Copy, Debug)]
struct Fight {
    since: Instant,
    said: Instant,
    losses: u32,
}

impl Contention {
    /// A new channel works.
    pub fn connected(&mut self, now: Instant) {
        self.connected = Some(now);
        // The host resets every new channel; that one is no sign.
        self.last_reset = None;
    }

    /// The channel is lost. An outage without a channel in between is one loss.
    pub fn lost(&mut self, now: Instant) -> Loss {
        if let Some(connected) = self.connected.take() {
            let short = now.saturating_duration_since(connected) < SHORT_LIFE;
            self.short_lives = if short {
                self.short_lives.saturating_add(1)
            } else {
                0
            };
            if !short {
                self.resets = 0;
            }
        }
        match &mut self.noticed {
            Some(fight) => {
                fight.losses = fight.losses.saturating_add(1);
                if now.saturating_duration_since(fight.said) < REMINDER {
                    return Loss::Quiet;
                }
                fight.said = now;
                Loss::Again {
                    losses: std::mem::take(&mut fight.losses),
                }
            }
            None if self.short_lives >= SHORT_LIVES => {
                self.notice(now);
                Loss::Contended
            }
            None => Loss::Single,
        }
    }

    /// The host sent `reset`. `true` when a fight is noticed with it.
    pub fn reset(&mut self, now: Instant) -> bool {
        let Some(last) = self.last_reset.replace(now) else {
            self.resets = 0;
            return false;
        };
        let apart = now.saturating_duration_since(last);
        if apart < RESETS_APART {
            return false;
        }
        self.resets = if apart < RESETS_WITHIN {
            self.resets.saturating_add(1)
        } else {
            0
        };
        let news = self.noticed.is_none() && self.resets >= RESETS;
        if news {
            self.notice(now);
        }
        news
    }

    /// A poll worked. Gives how long the fight lasted that ends with it.
    pub fn held(&mut self, now: Instant) -> Option<Duration> {
        let fight = self.noticed?;
        let quiet_since = self.connected.max(self.last_reset)?;
        if now.saturating_duration_since(quiet_since) < OURS {
            return None;
        }
        self.noticed = None;
        (self.short_lives, self.resets) = (0, 0);
        Some(now.saturating_duration_since(fight.since))
    }

    fn notice(&mut self, now: Instant) {
        self.noticed = Some(Fight {
            since: now,
            said: now,
            losses: 0,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn short_lives_are_a_fight_and_it_is_said_once_a_minute() {
        let mut contention = Contention::default();
        let mut now = Instant::now();
        let mut said = Vec::new();
        for _ in 0..100 {
            contention.connected(now);
            now += 2 * SECOND;
            said.push(contention.lost(now));
            now += SECOND;
        }
        assert_eq!(said[..3], [Loss::Single, Loss::Single, Loss::Contended]);
        let again: Vec<_> = said
            .iter()
            .filter(|loss| matches!(loss, Loss::Again { .. }))
            .collect();
        assert_eq!(again, [&Loss::Again { losses: 20 }; 4]);
        assert_eq!(said.iter().filter(|loss| **loss == Loss::Contended).count(), 1);

        contention.connected(now);
        assert_eq!(contention.held(now + 59 * SECOND), None);
        assert!(contention.held(now + 60 * SECOND).is_some());
        assert_eq!(contention.lost(now + 61 * SECOND), Loss::Single);
    }

    #[test]
    fn migrations_and_outages_are_none() {
        let mut contention = Contention::default();
        let mut now = Instant::now();
        for _ in 0..20 {
            contention.connected(now);
            now += SHORT_LIFE;
            assert_eq!(contention.lost(now), Loss::Single);
            // Attempts that open no channel.
            for _ in 0..10 {
                now += SECOND;
                assert_eq!(contention.lost(now), Loss::Single);
            }
        }
    }

    #[test]
    fn a_reset_every_few_seconds_is_a_fight_and_a_storm_is_none() {
        let mut contention = Contention::default();
        let mut now = Instant::now();
        contention.connected(now);
        for _ in 0..1000 {
            now += Duration::from_millis(10);
            assert!(!contention.reset(now));
        }
        let mut noticed = 0;
        for _ in 0..20 {
            now += 5 * SECOND;
            noticed += u32::from(contention.reset(now));
        }
        assert_eq!(noticed, 1);
        assert!(contention.held(now + 61 * SECOND).is_some());
        // A vMotion every minute is an ordinary life.
        for _ in 0..20 {
            now += 60 * SECOND;
            assert!(!contention.reset(now));
        }
    }
}
