//! The pause between attempts.

#![forbid(unsafe_code)]

use std::time::Duration;

/// Doubles from `first` to `longest`. Each pause is drawn from the upper half of its step, so that what failed
/// together does not come back together.
#[derive(Clone, Debug)]
pub struct Pause {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pause {
    /// Begins at `first`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first.min(longest),
        }
    }

    /// The next attempt begins at the first pause again.
    pub fn reset(&mut self) {
        self.next = self.first.min(self.longest);
    }

    /// Changes the ceiling; the present step goes on from where it is.
    pub fn set_longest(&mut self, longest: Duration) {
        self.longest = longest;
    }

    /// How long to wait now.
    pub fn draw(&mut self) -> Duration {
        let step = self.next.min(self.longest);
        self.next = step.saturating_mul(2).min(self.longest);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_well_again_is_asked_within_5_s() {
        let settings = crate::talos::Settings::new("machine.sock");
        let mut pause = Pause::new(settings.first_pause, settings.longest_pause);
        assert!((0..100).all(|_| pause.draw() <= Duration::from_secs(5)));
    }

    #[test]
    fn doubles_to_its_ceiling_with_jitter_below() {
        let mut pause = Pause::new(Duration::from_millis(200), Duration::from_secs(5));
        for step in [200, 400, 800, 1600, 3200, 5000, 5000] {
            let drawn = pause.draw();
            let step = Duration::from_millis(step);
            assert!(drawn >= step / 2 && drawn <= step, "{drawn:?} of {step:?}");
        }
        pause.reset();
        assert!(pause.draw() <= Duration::from_millis(200));
    }
}
