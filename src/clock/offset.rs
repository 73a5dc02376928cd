//! One measurement: the guest's clock between two looks at the host's (timeSync.c).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::backdoor::HostTime;

/// Looks at the host for one measurement.
const ROUNDS: usize = 4;

/// Two looks at the host this close together are good enough.
const CLOSE: Duration = Duration::from_micros(2000);

/// Two looks further apart than this say nothing: the VM was interrupted between them.
const TOO_FAR: Duration = Duration::from_millis(500);

/// Guest minus host. Shown in seconds with a sign and a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset {
    microseconds: i64,
}

impl Offset {
    /// From microseconds, positive where the guest is ahead.
    pub const fn from_micros(microseconds: i64) -> Self {
        Self { microseconds }
    }

    /// Without its sign.
    pub const fn size(self) -> Duration {
        Duration::from_micros(self.microseconds.unsigned_abs())
    }

    /// How far two offsets are from each other.
    pub const fn distance(self, other: Self) -> Duration {
        Duration::from_micros(self.microseconds.abs_diff(other.microseconds))
    }

    /// Positive where `guest` is later than `host`; as large as can be said where they are further apart.
    fn between(guest: SystemTime, host: SystemTime) -> Self {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(match guest.duration_since(host) {
            Ok(ahead) => micros(ahead),
            Err(behind) => -micros(behind.duration()),
        })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.microseconds < 0 { '-' } else { '+' };
        let tenths = self.microseconds.unsigned_abs().saturating_add(50_000) / 100_000;
        write!(f, "{sign}{}.{}", tenths / 10, tenths % 10)
    }
}

/// What came of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// The offset, with an error of the time between the looks at most.
    Offset(Offset),
    /// The host tells no time, or none that can be right.
    NoHostTime,
    /// Every try was interrupted: nothing is known of this moment.
    Disturbed,
}

/// Compares the clocks. The guest is expected to be behind by the lag of its timer interrupts, which the host catches up,
/// so that much counts as nothing.
pub fn measure(
    mut host: impl FnMut() -> Option<HostTime>,
    mut guest: impl FnMut() -> SystemTime,
) -> Measured {
    let mut best: Option<(Duration, Offset)> = None;
    for _ in 0..ROUNDS {
        let Some(first) = host() else {
            return Measured::NoHostTime;
        };
        let now = guest();
        let Some(second) = host() else {
            return Measured::NoHostTime;
        };
        // A host clock that was set back between the looks says nothing.
        let Ok(apart) = second.time.duration_since(first.time) else {
            continue;
        };
        if apart > TOO_FAR || best.is_some_and(|(closest, _)| closest <= apart) {
            continue;
        }
        let offset = Offset::between(now + first.lag, first.time + apart / 2);
        best = Some((apart, offset));
        if apart <= CLOSE {
            break;
        }
    }
    best.map_or(Measured::Disturbed, |(_, offset)| Measured::Offset(offset))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const BEGIN: Duration = Duration::from_secs(1_800_000_000);

    fn at(micros: u64) -> SystemTime {
        UNIX_EPOCH + BEGIN + Duration::from_micros(micros)
    }

    /// The host's looks in order, and the guest's.
    fn measured(host: &[Option<u64>], lag: u64, guest: &[u64]) -> Measured {
        let (mut host, mut guest) = (host.iter(), guest.iter());
        measure(
            || {
                host.next().unwrap().map(|micros| HostTime {
                    time: at(micros),
                    lag: Duration::from_micros(lag),
                })
            },
            || at(*guest.next().unwrap()),
        )
    }

    #[test]
    fn the_guest_is_compared_with_the_middle() {
        let offset = |micros| Measured::Offset(Offset::from_micros(micros));
        assert_eq!(measured(&[Some(1000), Some(1010)], 0, &[1005]), offset(0));
        assert_eq!(
            measured(&[Some(1000), Some(1010)], 0, &[3_001_005]),
            offset(3_000_000)
        );
        assert_eq!(
            measured(&[Some(5_000_000), Some(5_000_000)], 0, &[0]),
            offset(-5_000_000)
        );
        // Late timer interrupts explain a part of it.
        assert_eq!(measured(&[Some(9000), Some(9000)], 4000, &[5000]), offset(0));
    }

    #[test]
    fn the_closest_of_four_rounds_counts() {
        let host = [0, 9000, 20_000, 24_000, 40_000, 47_000, 60_000, 68_000].map(Some);
        let guest = [0, 22_500, 0, 0];
        assert_eq!(
            measured(&host, 0, &guest),
            Measured::Offset(Offset::from_micros(500))
        );
    }

    #[test]
    fn interruptions_and_hosts_without_time() {
        let torn = [0, 600_000].map(Some).repeat(4);
        assert_eq!(measured(&torn, 0, &[0; 4]), Measured::Disturbed);
        let back = [600_000, 0].map(Some).repeat(4);
        assert_eq!(measured(&back, 0, &[0; 4]), Measured::Disturbed);
        assert_eq!(measured(&[None], 0, &[]), Measured::NoHostTime);
        assert_eq!(measured(&[Some(0), None], 0, &[0]), Measured::NoHostTime);
    }

    #[test]
    fn shown_with_sign_and_tenth() {
        for (micros, text) in [
            (0, "+0.0"),
            (1_049_999, "+1.0"),
            (1_050_000, "+1.1"),
            (-61_960_000, "-62.0"),
            (i64::MIN, "-9223372036854.8"),
        ] {
            assert_eq!(Offset::from_micros(micros).to_string(), text);
        }
    }
}
