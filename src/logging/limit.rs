//! A limit for log lines that somebody else can trigger: each place may write so many lines a minute, and says with the
//! next one how many it kept to itself. A flood that goes on is one condition: each further minute gets one line.
//!
//! ```
//! talos_vmtoolsd::limited!(warn, feature = "tclo", command = "x", "unknown command");
//! ```

#![forbid(unsafe_code)]

use std::{
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
    /// What a window may write when lines before it were suppressed.
    in_a_flood: u32,
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
        Self::with(1)
    }

    /// A limit for lines of many kinds: a flood of one does not silence the others in the minutes that follow.
    pub const fn of_many_kinds() -> Self {
        Self::with(LINES)
    }

    const fn with(in_a_flood: u32) -> Self {
        Self(Mutex::new(Window {
            since: None,
            written: 0,
            suppressed: 0,
            in_a_flood,
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
                window.written = if window.suppressed > 0 {
                    LINES - window.in_a_flood
                } else {
                    0
                };
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

    /// The line that had this leave was not written after all.
    pub fn take_back(&self, leave: Leave) {
        self.update(|window| {
            window.written = window.written.saturating_sub(1);
            window.suppressed = window.suppressed.saturating_add(leave.suppressed.unwrap_or(0));
        });
    }

    /// Counts a line that was lost without asking for leave.
    pub fn suppress(&self) {
        self.update(|window| window.suppressed = window.suppressed.saturating_add(1));
    }

    fn update<T>(&self, action: impl FnOnce(&mut Window) -> T) -> T {
        // Numbers: a panic elsewhere has not spoiled them.
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A `tracing` event under the limit of this place: the level's name, then what the level's macro takes.
#[macro_export]
macro_rules! limited {
    ($level:ident, $($event:tt)+) => {{
        static LIMIT: $crate::logging::limit::Limit = $crate::logging::limit::Limit::new();
        if let Some(leave) = LIMIT.leave(::std::time::Instant::now()) {
            ::tracing::$level!(suppressed = leave.suppressed, $($event)+);
        }
    }};
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
    fn each_place_has_its_own_limit() {
        for _ in 0..20 {
            limited!(trace, feature = "test", "one place");
        }
        let other = Limit::new();
        assert!(other.leave(Instant::now()).is_some());
    }
}
