//! A limit for log lines that somebody else can trigger: each place may write so many lines a minute, and says with the
//! next one how many it kept to itself. A flood that goes on is one condition: each further minute gets one line.
//!
//! ```
//! talos_vmtoolsd::limited!(warn, feature = "tclo", command = "x", "unknown command");
//! ```

#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lines of one place in one [`WINDOW`].
pub const LINES: u32 = 10;

/// The time for which [`LINES`] counts.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The limit of one place in the code.
#[derive(Debug)]
pub struct Limit(Mutex<Window>);

#[derive(Clone, Copy, Debug)]
struct Window {
    /// When its first line was written.
    since: Option<Instant>,
    written: u32,
    suppressed: u64,
}

/// Leave to write one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// Lines that were not written since the last one, if any.
    pub suppressed: Option<u64>,
}

impl Default for Limit {
    fn default() -> Self {
        Self::new()
    }
}

impl Limit {
    /// A limit that has seen nothing yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Window {
            since: None,
            written: 0,
            suppressed: 0,
        }))
    }

    /// Asks for leave to write a line at `now`.
    pub fn leave(&self, now: Instant) -> Option<Leave> {
        self.update(|window| {
            let over = window
                .since
                .is_none_or(|since| now.saturating_duration_since(since) >= WINDOW);
            if over {
                window.since = Some(now);
                window.written = if window.suppressed > 0 { LINES - 1 } else { 0 };
            }
            if window.written >= LINES {
                window.suppressed = window.suppressed.saturating_add(1);
                return None;
            }
            window.written += 1;
            let suppressed = std::mem::take(&mut window.suppressed);
            Some(Leave {
                suppressed: (suppressed > 0).then_some(suppressed),
            })
        })
    }

    fn update<T>(&self, action: impl FnOnce(&mut Window) -> T) -> T {
        // Numbers: a panic elsewhere has not spoiled them.
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A limit for lines of many kinds, such as those that a host is promised [`LINES`] of at most: any [`WINDOW`] has no
/// more, and a flood of one kind does not silence the others in the minutes that follow.
#[derive(Debug, Default)]
pub struct Sliding(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    /// When the last lines were written, at most [`LINES`] of them.
    written: VecDeque<Instant>,
    suppressed: u64,
}

impl Sliding {
    /// Asks for leave to write a line at `now`.
    pub fn leave(&self, now: Instant) -> Option<Leave> {
        self.update(|recent| {
            recent
                .written
                .retain(|at| now.saturating_duration_since(*at) < WINDOW);
            if recent.written.len() >= LINES as usize {
                recent.suppressed = recent.suppressed.saturating_add(1);
                return None;
            }
            recent.written.push_back(now);
            let suppressed = std::mem::take(&mut recent.suppressed);
            Some(Leave {
                suppressed: (suppressed > 0).then_some(suppressed),
            })
        })
    }

    /// The line that had this leave was not written after all.
    pub fn take_back(&self, leave: Leave) {
        self.update(|recent| {
            recent.written.pop_back();
            recent.suppressed = recent.suppressed.saturating_add(leave.suppressed.unwrap_or(0));
        });
    }

    /// Counts a line that was lost without asking for leave.
    pub fn suppress(&self) {
        self.update(|recent| recent.suppressed = recent.suppressed.saturating_add(1));
    }

    fn update<T>(&self, action: impl FnOnce(&mut Recent) -> T) -> T {
        // Times and a number: a panic elsewhere has not spoiled them.
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A `tracing` event under the limit of this place: the level's name, then what the level's macro takes.
#[macro_export]
macro_rules! limited {
    // What is not written now must not use up what may be written once the level is raised.
    (debug, $($event:tt)+) => {
        if ::tracing::enabled!(::tracing::Level::DEBUG) {
            $crate::limited!(@debug, $($event)+)
        }
    };
    (@$level:ident, $($event:tt)+) => {{
        static LIMIT: $crate::logging::limit::Limit = $crate::logging::limit::Limit::new();
        if let Some(leave) = LIMIT.leave(::std::time::Instant::now()) {
            ::tracing::$level!(suppressed = leave.suppressed, $($event)+);
        }
    }};
    ($level:ident, $($event:tt)+) => {
        $crate::limited!(@$level, $($event)+)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_ten_lines_a_minute_and_counts_the_rest() {
        let limit = Limit::new();
        let begin = Instant::now();
        let written = (0..1000).filter(|_| limit.leave(begin).is_some()).count();
        assert_eq!(written, 10);
        let later = begin + WINDOW;
        assert_eq!(
            limit.leave(later),
            Some(Leave {
                suppressed: Some(990)
            })
        );
        // The flood goes on: one line for this minute too, and the whole number again once it is over.
        assert_eq!(limit.leave(later), None);
        assert!(limit.leave(later + WINDOW).is_some());
        let calm = later + 2 * WINDOW;
        assert_eq!((0..1000).filter(|_| limit.leave(calm).is_some()).count(), 10);
    }

    #[test]
    fn no_minute_of_a_sliding_limit_has_more_than_ten() {
        let limit = Sliding::default();
        let begin = Instant::now();
        let tenth = Duration::from_millis(100);
        // One line, and a burst around the end of the minute that begins with it.
        assert!(limit.leave(begin).is_some());
        let burst = |at| (0..20).filter(|_| limit.leave(at).is_some()).count();
        assert_eq!(burst(begin + WINDOW - tenth), 9);
        assert_eq!(burst(begin + WINDOW), 1);
        assert_eq!(burst(begin + WINDOW + tenth), 0);
        let leave = limit.leave(begin + 2 * WINDOW - tenth).unwrap();
        assert_eq!(leave.suppressed, Some(19 + 20));
        limit.take_back(leave);
        assert_eq!(burst(begin + 2 * WINDOW - tenth), 9);
    }

    #[test]
    fn each_place_has_its_own_limit() {
        for _ in 0..20 {
            limited!(trace, feature = "test", "one place");
        }
        let other = Limit::new();
        assert!(other.leave(Instant::now()).is_some());
    }
}
