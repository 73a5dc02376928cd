//! The last things that happened, for the diagnosis.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Cause;

/// Entries that are kept.
const KEPT: usize = 8;

/// One entry.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Outage {
        since: Instant,
        length: Option<Duration>,
    },
    Interruption {
        at: Instant,
        cause: Cause,
    },
}

/// The last outages and interruptions, and their numbers. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Past>>);

#[derive(Debug, Default)]
struct Past {
    entries: VecDeque<Entry>,
    outages: u64,
    interruptions: u64,
}

impl History {
    /// The channel is lost.
    pub fn lost(&self, since: Instant) {
        self.with(|past| {
            past.outages = past.outages.saturating_add(1);
            past.push(Entry::Outage { since, length: None });
        });
    }

    /// It works again.
    pub fn connected(&self, now: Instant) {
        self.with(|past| {
            if let Some(Entry::Outage { since, length }) = past
                .entries
                .iter_mut()
                .rev()
                .find(|entry| matches!(entry, Entry::Outage { .. }))
            {
                length.get_or_insert(now.saturating_duration_since(*since));
            }
        });
    }

    /// The VM was interrupted.
    pub fn interrupted(&self, at: Instant, cause: Cause) {
        self.with(|past| {
            past.interruptions = past.interruptions.saturating_add(1);
            past.push(Entry::Interruption { at, cause });
        });
    }

    /// For people: the numbers, and the last entries with the newest last.
    pub fn lines(&self) -> Vec<String> {
        self.with(|past| {
            let sum = format!("{} outages, {} interruptions", past.outages, past.interruptions);
            let ago = |at: Instant| at.elapsed().as_secs();
            let entries = past.entries.iter().map(|entry| match entry {
                Entry::Outage {
                    since,
                    length: Some(length),
                } => format!("outage {} s ago, over after {length:.1?}", ago(*since)),
                Entry::Outage { since, length: None } => format!("outage since {} s", ago(*since)),
                Entry::Interruption { at, cause } => format!("interruption {} s ago: {cause}", ago(*at)),
            });
            std::iter::once(sum).chain(entries).collect()
        })
    }

    fn with<T>(&self, action: impl FnOnce(&mut Past) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Past {
    fn push(&mut self, entry: Entry) {
        if self.entries.len() >= KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_eight_are_kept_and_all_are_counted() {
        let history = History::default();
        let now = Instant::now();
        for _ in 0..20 {
            history.lost(now);
            history.connected(now + Duration::from_secs(2));
        }
        history.interrupted(now, Cause::Reset);
        history.lost(now);
        let lines = history.lines();
        assert_eq!(lines.len(), 1 + KEPT);
        assert_eq!(lines[0], "21 outages, 1 interruptions");
        assert_eq!(lines[1], "outage 0 s ago, over after 2.0s");
        assert_eq!(lines[7], "interruption 0 s ago: migration or snapshot");
        assert_eq!(lines[8], "outage since 0 s");
    }
}
