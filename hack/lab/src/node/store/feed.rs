//! What a watch reads.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Change, Collection, HISTORY, Kind, Store};

/// A watch fell further behind than the history reaches.
#[derive(Debug, thiserror::Error)]
#[error(
    "buffer overrun: namespace {:?} type {:?}, write pos {written}, pos {position}, capacity {HISTORY}",
    kind.namespace,
    kind.name
)]
pub struct Overrun {
    kind: Kind,
    written: u64,
    position: u64,
}

/// The changes of one collection, read at the reader's pace.
pub struct Feed {
    store: Arc<Store>,
    kind: Kind,
    position: u64,
    overruns: u64,
    wake: watch::Receiver<()>,
}

impl Feed {
    /// A feed of `collection` that begins with its last `tail` changes.
    pub(super) fn new(store: Arc<Store>, kind: Kind, collection: &Collection, tail: u64) -> Self {
        Self {
            store,
            kind,
            position: collection.written.saturating_sub(tail.min(HISTORY)),
            overruns: collection.overruns,
            wake: collection.wake.subscribe(),
        }
    }

    /// Place of the last change before this feed's next one.
    pub fn place(&self) -> Option<u64> {
        self.position.checked_sub(1)
    }

    /// Waits for changes and returns all there are, at least one.
    pub async fn next(&mut self) -> Result<Vec<Change>, Overrun> {
        loop {
            self.wake.mark_unchanged();
            let changes = self.read()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            // Fails only when the store is gone, which this feed holds.
            _ = self.wake.changed().await;
        }
    }

    fn read(&mut self) -> Result<Vec<Change>, Overrun> {
        let collections = self.store.lock();
        let Some(collection) = collections.get(&self.kind) else {
            return Ok(Vec::new());
        };
        let behind = collection.written.saturating_sub(self.position);
        if behind > HISTORY || collection.overruns != self.overruns {
            return Err(Overrun {
                kind: self.kind.clone(),
                written: collection.written,
                position: self.position,
            });
        }
        let known = collection.history.len() as u64;
        let skip = usize::try_from(known.saturating_sub(behind)).unwrap_or(usize::MAX);
        self.position = collection.written;
        Ok(collection.history.iter().skip(skip).cloned().collect())
    }
}
