//! Several signs of one interruption, made one.

use std::{fmt, time::Duration};

use tokio::time::Instant;

/// How long the signs of one interruption may be apart. A host sends `OS_Resume` right after the registration.
pub const WINDOW: Duration = Duration::from_secs(2);

/// An `OS_Resume` or a jump of the clock this long after a `reset` still belongs to it: on a busy host the options and
/// the registration stand in between.
const AFTERMATH: Duration = Duration::from_secs(30);

/// One sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A channel works that is not the one before.
    Connected,
    /// The host sent `reset`.
    Reset,
    /// The host sent `OS_Resume`.
    Resumed,
    /// The kernel was asleep for this long.
    Slept(Duration),
}

/// What it was, as far as a guest can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first channel of this process.
    Start,
    /// Suspended and resumed.
    Resume {
        /// How long the kernel slept, where it took part in it.
        slept: Option<Duration>,
    },
    /// A new channel: a revert to a snapshot, or a restart of the host's side.
    NewChannel,
    /// A `reset` on a living channel: a migration or a snapshot.
    Reset,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => write!(f, "start"),
            Self::Resume { slept: None } => write!(f, "resume"),
            Self::Resume { slept: Some(slept) } => write!(f, "resume after {:.1} s", slept.as_secs_f64()),
            Self::NewChannel => write!(f, "revert or restart of the host's side"),
            Self::Reset => write!(f, "migration or snapshot"),
        }
    }
}

/// One interruption, over and recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// What it was.
    pub cause: Cause,
    /// No `reset` came with it, so nobody has sent everything again yet.
    pub resend: bool,
}

#[derive(Clone, Copy, Debug)]
struct Signs {
    first: Instant,
    connected: bool,
    reset: bool,
    resumed: bool,
    slept: Option<Duration>,
}

/// Collects signs. Time is a parameter, so that tests need none.
#[derive(Clone, Debug, Default)]
pub struct Recognizer {
    started: bool,
    last_reset: Option<Instant>,
    signs: Option<Signs>,
}

impl Recognizer {
    /// Takes one sign into account.
    pub fn see(&mut self, sign: Sign, now: Instant) {
        let signs = self.signs.get_or_insert(Signs {
            first: now,
            connected: false,
            reset: false,
            resumed: false,
            slept: None,
        });
        match sign {
            Sign::Connected => signs.connected = true,
            Sign::Reset => {
                signs.reset = true;
                self.last_reset = Some(now);
            }
            Sign::Resumed => signs.resumed = true,
            Sign::Slept(slept) => signs.slept = Some(slept),
        }
    }

    /// When [`Self::close`] is due, if there are signs.
    pub fn due(&self) -> Option<Instant> {
        self.signs.map(|signs| signs.first + WINDOW)
    }

    /// The interruption whose window is over at `now`.
    pub fn close(&mut self, now: Instant) -> Option<Interruption> {
        let signs = self.signs.take_if(|signs| now >= signs.first + WINDOW)?;
        let resumed = signs.resumed || signs.slept.is_some();
        let told = self
            .last_reset
            .is_some_and(|reset| now.saturating_duration_since(reset) <= WINDOW + AFTERMATH);
        let cause = if signs.connected && !std::mem::replace(&mut self.started, true) {
            Cause::Start
        } else if resumed {
            Cause::Resume { slept: signs.slept }
        } else if signs.connected {
            Cause::NewChannel
        } else {
            Cause::Reset
        };
        Some(Interruption {
            cause,
            resend: resumed && !signs.reset && !told,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The interruptions of these signs, each at its milliseconds.
    fn recognised(signs: &[(u64, Sign)]) -> Vec<Interruption> {
        let begin = Instant::now();
        let mut recognizer = Recognizer::default();
        let mut found = Vec::new();
        let mut close = |recognizer: &mut Recognizer, until: Instant| {
            while let Some(due) = recognizer.due().filter(|due| *due <= until) {
                found.extend(recognizer.close(due));
            }
        };
        for (millis, sign) in signs {
            let now = begin + Duration::from_millis(*millis);
            close(&mut recognizer, now);
            recognizer.see(*sign, now);
        }
        close(&mut recognizer, begin + Duration::from_secs(1_000_000));
        found
    }

    const START: [(u64, Sign); 2] = [(0, Sign::Connected), (1, Sign::Reset)];

    fn after_start(signs: &[(u64, Sign)]) -> Vec<Interruption> {
        let found = recognised(&[&START, signs].concat());
        assert_eq!(
            found[0],
            Interruption {
                cause: Cause::Start,
                resend: false
            }
        );
        found[1..].to_vec()
    }

    #[test]
    fn a_resume_with_its_reset_is_one_and_sends_nothing_twice() {
        let slept = Duration::from_secs(90);
        let found = after_start(&[
            (60_000, Sign::Slept(slept)),
            (60_100, Sign::Reset),
            (60_300, Sign::Resumed),
        ]);
        let cause = Cause::Resume { slept: Some(slept) };
        assert_eq!(found, [Interruption { cause, resend: false }]);
    }

    #[test]
    fn a_resume_without_reset_is_made_up_for() {
        let cause = Cause::Resume { slept: None };
        let found = after_start(&[(60_000, Sign::Resumed)]);
        assert_eq!(found, [Interruption { cause, resend: true }]);
        // Long after the reset of the same resume.
        let found = after_start(&[(60_000, Sign::Reset), (70_000, Sign::Resumed)]);
        assert_eq!(found[1], Interruption { cause, resend: false });
    }

    #[test]
    fn migrations_and_reverts_are_told_apart() {
        let found = after_start(&[
            (60_000, Sign::Reset),
            (120_000, Sign::Connected),
            (120_010, Sign::Reset),
        ]);
        let causes: Vec<_> = found.iter().map(|found| (found.cause, found.resend)).collect();
        assert_eq!(causes, [(Cause::Reset, false), (Cause::NewChannel, false)]);
    }

    #[test]
    fn a_storm_is_one_interruption_in_two_seconds() {
        let storm: Vec<_> = (0..1000).map(|n| (60_000 + n, Sign::Reset)).collect();
        assert_eq!(after_start(&storm).len(), 1);
    }
}
