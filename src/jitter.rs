//! Times that vary: 300 nodes on one host, started by one power failure, are not to do the same at the same moment.

#![forbid(unsafe_code)]

use std::time::Duration;

/// `period`, more or less by at most `share` of it, which is below 1.
pub fn jittered(random: &mut fastrand::Rng, period: Duration, share: f64) -> Duration {
    period.mul_f64(1.0 - share + 2.0 * share * random.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_share_and_varies() {
        let mut random = fastrand::Rng::with_seed(1);
        let period = Duration::from_secs(100);
        let drawn: Vec<Duration> = (0..1000).map(|_| jittered(&mut random, period, 0.2)).collect();
        let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!((80..85).contains(&least.as_secs()), "{least:?}");
        assert!((115..=120).contains(&most.as_secs()), "{most:?}");
        assert_eq!(jittered(&mut random, period, 0.0), period);
    }
}
