//! What happens to the connection, told to the rest of the program without ever waiting for it.

use std::time::Instant;

use tokio::sync::mpsc;

/// Events that wait for their reader.
const QUEUE: usize = 64;

/// A change of the connection to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first poll of a new channel worked.
    Connected,
    /// There is no channel since this moment. RPCI calls fail until [`Event::Connected`].
    Lost {
        /// When it was lost.
        since: Instant,
    },
    /// The host may have forgotten everything it was told: tell it again.
    Reset,
    /// Capabilities and version were sent.
    Registered,
    /// Another agent seems to take the channel away again and again.
    Contended,
    /// The reader was too slow for some events: what the host knows is not known, tell it again.
    Missed,
}

/// The sending end: bounded, and never blocking.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Sender<Event>,
    overflow: bool,
}

impl Events {
    /// A stream of events and its reader.
    pub fn new() -> (Self, mpsc::Receiver<Event>) {
        let (queue, events) = mpsc::channel(QUEUE);
        let sender = Self {
            queue,
            overflow: false,
        };
        (sender, events)
    }

    /// Tells `event`. A reader that is too slow gets one `Missed` for all it missed, as soon as it reads again: that
    /// makes it send everything, which is never wrong.
    pub fn tell(&mut self, event: Event) {
        self.catch_up();
        if self.overflow || self.queue.try_send(event).is_err() {
            self.overflow = !self.queue.is_closed();
        }
    }

    /// Delivers what an overflow owes, if there is room.
    pub fn catch_up(&mut self) {
        if self.overflow && self.queue.try_send(Event::Missed).is_ok() {
            self.overflow = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_ends_in_one_event_for_all() {
        let (mut events, mut reader) = Events::new();
        for _ in 0..1000 {
            events.tell(Event::Registered);
        }
        for _ in 0..QUEUE {
            assert_eq!(reader.try_recv(), Ok(Event::Registered));
        }
        events.catch_up();
        assert_eq!(reader.try_recv(), Ok(Event::Missed));
        events.tell(Event::Connected);
        assert_eq!(reader.try_recv(), Ok(Event::Connected));
        assert!(reader.try_recv().is_err());
    }

    #[test]
    fn nobody_has_to_read() {
        let (mut events, reader) = Events::new();
        drop(reader);
        for _ in 0..1000 {
            events.tell(Event::Reset);
        }
        assert!(!events.overflow);
    }
}
