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
#[derive(Debug, Default)]
pub struct Limit(Mutex<Option<Window>>);

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    written: u32,
    suppressed: u64,
}

/// Leave to write one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// Lines that were not written since the last one, if any.
    pub suppressed: Option<u64>,
}

impl Limit {
    /// A limit that has seen nothing yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Asks for leave to write a line at `now`.
    pub fn leave(&self, now: Instant) -> Option<Leave> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |suppressed| Window {
            since: now,
            written: if suppressed > 0 { LINES - 1 } else { 0 },
            suppressed,
        };
        let window = slot.get_or_insert_with(|| fresh(0));
        if now.saturating_duration_since(window.since) >= WINDOW {
            *window = fresh(window.suppressed);
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
