//! The node's events: a ring of the last 1000, read by any number of streams.
//!
//! A stream begins with a hello, then comes what its request asks of the past, then what happens. One that falls too far
//! behind ends with OK and without a word, as on a node; so do all of them when machined stops.
//! Source: Talos `internal/app/machined/pkg/runtime/v1alpha1/v1alpha1_events.go` and `…/server/v1alpha1`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message;
use talos_vmtoolsd::pb::machine as pb;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Events that are kept.
const KEPT: usize = 1000;
/// A stream that is this close to the end of the ring is overrun.
const GAP: u64 = 10;

/// The events of a node.
#[derive(Debug, Default)]
pub struct Events {
    ring: Mutex<Ring>,
    wake: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<Kept>,
    written: u64,
    /// Streams that were opened before the last order to end are over.
    ends: u64,
    serial: u32,
}

#[derive(Debug)]
struct Kept {
    at: SystemTime,
    event: pb::Event,
}

/// An id as rs/xid makes it: seconds, a machine, a counter, in base 32 with the order of the bytes.
fn xid(at: SystemTime, serial: u32) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    const MACHINE: u128 = 0x01_02_03_04_05;
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let number = u128::from(seconds & 0xffff_ffff) << 64 | MACHINE << 24 | u128::from(serial & 0xff_ffff);
    // 96 bits are 19 digits and one bit; the last digit is filled up with zeros.
    let bits = number << 4;
    (0..20)
        .rev()
        .map(|digit| {
            let index = usize::try_from(bits >> (5 * digit) & 31).unwrap_or_default();
            DIGITS.get(index).copied().map_or('0', char::from)
        })
        .collect()
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a payload; `actor` is the id of the request that caused it, or empty.
    pub fn publish(&self, actor: &str, name: &str, payload: &impl Message) {
        let at = SystemTime::now();
        let mut ring = self.lock();
        ring.serial += 1;
        let event = pb::Event {
            metadata: None,
            data: Some(pb::EventPayload {
                type_url: format!("talos/runtime/{name}"),
                value: payload.encode_to_vec(),
            }),
            id: xid(at, ring.serial),
            actor_id: actor.to_owned(),
        };
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(Kept { at, event });
        ring.written += 1;
        drop(ring);
        self.wake.send_replace(());
    }

    /// Ends every stream as an overrun does.
    pub fn end(&self) {
        self.lock().ends += 1;
        self.wake.send_replace(());
    }

    /// A stream as `request` asks for it, which ends when `stopping` does.
    pub fn follow(self: &Arc<Self>, request: &pb::EventsRequest, stopping: CancellationToken) -> Feed {
        let mut ring = self.lock();
        ring.serial += 1;
        let hello = pb::Event {
            metadata: None,
            data: Some(pb::EventPayload::default()),
            id: xid(SystemTime::now(), ring.serial),
            actor_id: request.with_actor_id.clone(),
        };
        let since = Duration::from_secs(u64::try_from(request.tail_seconds).unwrap_or(0));
        let asked = [
            request.tail_events != 0,
            !request.tail_id.is_empty(),
            request.tail_seconds != 0,
        ];
        let past = match asked {
            [true, false, false] => {
                usize::try_from(request.tail_events).map_or(KEPT, |tail| tail.min(ring.kept.len()))
            }
            [false, true, false] => count_back(&ring, |kept| kept.event.id > request.tail_id),
            [false, false, true] => count_back(&ring, |kept| is_within(since, kept.at, SystemTime::now())),
            _ => 0,
        };
        let contradictory = asked.into_iter().filter(|asked| *asked).count() > 1;
        Feed {
            wake: self.wake.subscribe(),
            position: ring.written.saturating_sub(past as u64),
            ends: ring.ends,
            actor: request.with_actor_id.clone(),
            hello: Some(hello),
            contradictory,
            stopping,
            events: Arc::clone(self),
        }
    }
}

/// Whether an event is young enough. An id holds the whole second in which it was made, and that is what Talos compares
/// with the time now.
fn is_within(since: Duration, made: SystemTime, now: SystemTime) -> bool {
    let made = made.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    now.duration_since(UNIX_EPOCH + Duration::from_secs(made))
        .unwrap_or_default()
        <= since
}

fn count_back(ring: &Ring, wanted: impl Fn(&Kept) -> bool) -> usize {
    ring.kept.iter().rev().take_while(|kept| wanted(kept)).count()
}

/// One stream.
pub struct Feed {
    events: Arc<Events>,
    wake: watch::Receiver<()>,
    position: u64,
    ends: u64,
    actor: String,
    hello: Option<pb::Event>,
    contradictory: bool,
    stopping: CancellationToken,
}

impl Feed {
    /// The next message; `None` is the end.
    pub async fn next(mut self) -> Option<(Result<pb::Event, Status>, Self)> {
        if let Some(hello) = self.hello.take() {
            return Some((Ok(hello), self));
        }
        if std::mem::take(&mut self.contradictory) {
            // The stream ends behind it.
            self.stopping = CancellationToken::new();
            self.stopping.cancel();
            let status = Status::unknown("only one of tail_events, tail_id or tail_seconds can be specified");
            return Some((Err(status), self));
        }
        loop {
            self.wake.mark_unchanged();
            match self.read() {
                Read::Event(event) => return Some((Ok(event), self)),
                Read::End => return None,
                Read::Nothing => {}
            }
            // What was published before the end is told before the end.
            tokio::select! {
                biased;
                changed = self.wake.changed() => changed.ok()?,
                () = self.stopping.cancelled() => return None,
            }
        }
    }

    fn read(&mut self) -> Read {
        let ring = self.events.lock();
        loop {
            let behind = ring.written.saturating_sub(self.position);
            if ring.ends != self.ends || behind > KEPT as u64 - GAP && ring.kept.len() == KEPT {
                return Read::End;
            }
            let known = ring.kept.len() as u64;
            let Some(index) = known.checked_sub(behind) else {
                return Read::End;
            };
            let kept = usize::try_from(index).ok().and_then(|index| ring.kept.get(index));
            let Some(kept) = kept else { return Read::Nothing };
            self.position += 1;
            if self.actor.is_empty() || self.actor == kept.event.actor_id {
                return Read::Event(kept.event.clone());
            }
        }
    }
}

enum Read {
    Event(pb::Event),
    Nothing,
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(name: &str) -> pb::PhaseEvent {
        pb::PhaseEvent {
            phase: name.to_owned(),
            action: pb::phase_event::Action::Start.into(),
        }
    }

    async fn read(feed: Feed) -> (Option<pb::Event>, Option<Feed>) {
        match feed.next().await {
            Some((Ok(event), feed)) => (Some(event), Some(feed)),
            Some((Err(_), feed)) => (None, Some(feed)),
            None => (None, None),
        }
    }

    fn request() -> pb::EventsRequest {
        pb::EventsRequest::default()
    }

    #[test]
    fn ids_are_ordered_as_they_are_made() {
        let now = SystemTime::now();
        let ids = [
            xid(now, 1),
            xid(now, 2),
            xid(now, 0xff_ffff),
            xid(now + Duration::from_secs(1), 0),
        ];
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(ids.iter().all(|id| id.len() == 20), "{ids:?}");
    }

    #[test]
    fn an_event_is_as_old_as_the_second_it_was_made_in() {
        let made = UNIX_EPOCH + Duration::from_millis(10_950);
        let second = Duration::from_secs(1);
        assert!(is_within(
            second,
            made,
            UNIX_EPOCH + Duration::from_millis(11_000)
        ));
        assert!(!is_within(
            second,
            made,
            UNIX_EPOCH + Duration::from_millis(11_050)
        ));
        assert!(
            is_within(second, made, made - second),
            "a clock that was set back"
        );
    }

    #[tokio::test]
    async fn a_stream_goes_on_behind_the_id_it_names() {
        let events = Arc::new(Events::default());
        events.publish("a", "machine.PhaseEvent", &phase("one"));
        let (hello, feed) = read(events.follow(&request(), CancellationToken::new())).await;
        assert_eq!(hello.unwrap().data, Some(pb::EventPayload::default()));
        events.publish("a", "machine.PhaseEvent", &phase("two"));
        let (second, feed) = read(feed.unwrap()).await;
        events.end();
        let (nothing, over) = read(feed.unwrap()).await;
        assert!(nothing.is_none() && over.is_none(), "it ends without a word");
        events.publish("b", "machine.PhaseEvent", &phase("three"));
        let again = pb::EventsRequest {
            tail_id: second.unwrap().id,
            ..request()
        };
        let (_, feed) = read(events.follow(&again, CancellationToken::new())).await;
        let (third, _) = read(feed.unwrap()).await;
        assert_eq!(third.unwrap().actor_id, "b");
    }

    #[tokio::test]
    async fn the_past_is_counted_timed_or_filtered() {
        let events = Arc::new(Events::default());
        for actor in ["a", "b", "a"] {
            events.publish(actor, "machine.PhaseEvent", &phase("x"));
        }
        for (wanted, actors) in [
            (
                pb::EventsRequest {
                    tail_events: 2,
                    ..request()
                },
                vec!["b", "a"],
            ),
            (
                pb::EventsRequest {
                    tail_events: -1,
                    ..request()
                },
                vec!["a", "b", "a"],
            ),
            (
                pb::EventsRequest {
                    tail_seconds: 60,
                    ..request()
                },
                vec!["a", "b", "a"],
            ),
            (
                pb::EventsRequest {
                    tail_events: -1,
                    with_actor_id: "a".to_owned(),
                    ..request()
                },
                vec!["a", "a"],
            ),
        ] {
            let (_, mut feed) = read(events.follow(&wanted, CancellationToken::new())).await;
            for actor in actors {
                let (event, rest) = read(feed.unwrap()).await;
                assert_eq!(event.unwrap().actor_id, actor, "{wanted:?}");
                feed = rest;
            }
        }
        let both = pb::EventsRequest {
            tail_events: 1,
            tail_seconds: 1,
            ..request()
        };
        let (_, feed) = read(events.follow(&both, CancellationToken::new())).await;
        let (error, feed) = read(feed.unwrap()).await;
        assert!(error.is_none() && feed.is_some(), "an error behind the hello");
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_and_a_stop_end_a_stream() {
        let events = Arc::new(Events::default());
        let (_, feed) = read(events.follow(&request(), CancellationToken::new())).await;
        for _ in 0..=KEPT {
            events.publish("", "machine.PhaseEvent", &phase("x"));
        }
        assert!(read(feed.unwrap()).await.1.is_none());
        let stopping = CancellationToken::new();
        let (_, feed) = read(events.follow(&request(), stopping.clone())).await;
        stopping.cancel();
        assert!(read(feed.unwrap()).await.1.is_none());
    }
}
