//! The node's events: what becomes of an operation after its call was answered.
//!
//! ```text
//!  Events ──hello──> Heard::Listening
//!    │  └──events──> Heard::Event ──> whoever follows an operation
//!    └─ends (OK, error, lost connection)──> pause ──> Events{tail_id: the last id}
//! ```
//!
//! machined answers Shutdown and Reboot before it begins, so the reply says nothing of what follows; the events do. A
//! stream that was opened, and whose hello has come, misses nothing from there on. It can end at any time, without a
//! word when its reader was too slow; it is then opened again behind the last event, of which machined keeps 1000.
//! Source: internal/app/machined/internal/server/v1alpha1/v1alpha1_server.go, pkg/machinery/api/machine.

#![forbid(unsafe_code)]

use std::{convert::Infallible, future::pending, time::Duration};

use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tonic::{Code, Status, Streaming};
use tracing::debug;

use super::{
    client::{self, Client},
    watch::pause::Pause,
};
use crate::pb::{
    common,
    machine::{self, EventsRequest, PhaseEvent, SequenceEvent, phase_event, sequence_event},
};

/// Characters of a text that is kept from an event; a line in a log takes no more.
const TEXT: usize = 300;

/// Streams that may end behind their hello and bring nothing before what they should have brought is given up: an event
/// that is too long to be taken would end every one of them.
const FRUITLESS: u32 = 2;

/// What comes from the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that happens from now on is missed.
    Listening,
    /// Something happened.
    Event(Event),
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose request caused it; empty where no request did.
    pub actor: String,
    /// What happened.
    pub what: What,
}

/// What happened. Payloads beyond these are not reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A sequence (`shutdown`, `reboot`, `boot`, …).
    Sequence {
        /// Its name.
        name: String,
        /// What it does.
        step: Step,
    },
    /// A phase of a sequence (`drain`, `stopServices`, …).
    Phase {
        /// Its name.
        name: String,
        /// It begins, else it is over.
        begins: bool,
    },
}

/// A step of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has begun.
    Begun,
    /// It is over, well or not.
    Ended,
    /// It failed.
    Failed {
        /// How.
        failure: Failure,
        /// Talos's words, at most 300 characters.
        message: String,
    },
}

/// How a sequence fails (`common.Code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// On the way; machined gives up and the node reboots or powers off.
    Fatal,
    /// It was not begun, because another one holds the lock. Such an event names no actor.
    Locked,
    /// Another sequence took over.
    Cancelled,
    /// A code that this program does not know.
    Other(i32),
}

impl Event {
    /// Reads one message; `None` for a payload that is not reported, or is none of its own type.
    fn read(message: &machine::Event) -> Option<Self> {
        let data = message.data.as_ref()?;
        // Talos's URLs begin with talos/runtime/ and not with type.googleapis.com/.
        let (_, name) = data.type_url.rsplit_once('/')?;
        let bytes = data.value.as_slice();
        let what = match name {
            "machine.SequenceEvent" => sequence(&SequenceEvent::decode(bytes).ok()?)?,
            "machine.PhaseEvent" => {
                let event = PhaseEvent::decode(bytes).ok()?;
                What::Phase {
                    begins: match phase_event::Action::try_from(event.action).ok()? {
                        phase_event::Action::Start => true,
                        phase_event::Action::Stop => false,
                    },
                    name: short(&event.phase),
                }
            }
            _ => return None,
        };
        Some(Self {
            actor: message.actor_id.clone(),
            what,
        })
    }
}

fn sequence(event: &SequenceEvent) -> Option<What> {
    let step = match (&event.error, sequence_event::Action::try_from(event.action)) {
        (Some(error), _) => Step::Failed {
            failure: match common::Code::try_from(error.code) {
                Ok(common::Code::Fatal) => Failure::Fatal,
                Ok(common::Code::Locked) => Failure::Locked,
                Ok(common::Code::Canceled) => Failure::Cancelled,
                Err(_) => Failure::Other(error.code),
            },
            message: short(&error.message),
        },
        (None, Ok(sequence_event::Action::Start)) => Step::Begun,
        (None, Ok(sequence_event::Action::Stop)) => Step::Ended,
        // NOOP without an error, and whatever a newer Talos does.
        (None, _) => return None,
    };
    Some(What::Sequence {
        name: short(&event.sequence),
        step,
    })
}

fn short(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

/// From where on events are wanted.
struct Place {
    /// When the first request was made.
    begun: Instant,
    /// Of the last event, or of the first hello. A later hello is younger than the history that follows it.
    id: Option<String>,
    /// It is not the first request.
    again: bool,
    /// Streams in a row that ended behind their hello.
    fruitless: u32,
}

impl Place {
    fn begin() -> Self {
        Self {
            begun: Instant::now(),
            id: None,
            again: false,
            fruitless: 0,
        }
    }

    /// A stream begins.
    fn hello(&mut self, id: String) {
        if !self.again || self.fruitless >= FRUITLESS {
            self.fruitless = 0;
            self.pass(id);
        }
        self.fruitless += 1;
    }

    /// An event came.
    fn event(&mut self, id: String) {
        self.fruitless = 0;
        self.pass(id);
    }

    fn pass(&mut self, id: String) {
        if !id.is_empty() {
            self.id = Some(id);
        }
    }

    fn request(&self) -> EventsRequest {
        match &self.id {
            Some(id) => EventsRequest {
                tail_id: id.clone(),
                ..EventsRequest::default()
            },
            // There was no hello yet: what happened since the first request is in the node's history.
            None if self.again => EventsRequest {
                // Talos compares with the whole second in which an event was made, so both ends are rounded up.
                tail_seconds: i32::try_from(self.begun.elapsed().as_secs().saturating_add(2))
                    .unwrap_or(i32::MAX),
                ..EventsRequest::default()
            },
            None => EventsRequest::default(),
        }
    }
}

/// Hands on what happens, for as long as it is polled. The receiver may be slow: then the node waits, and what it drops
/// meanwhile is asked for again.
pub(super) async fn follow(client: &Client, heard: &mpsc::Sender<Heard>) -> Infallible {
    let settings = client.settings();
    let mut pause = Pause::new(settings.first_pause, settings.longest_pause);
    let mut place = Place::begin();
    loop {
        let opened = Instant::now();
        let given_up = client.given_up();
        let deadline = client.deadline(&client::EVENTS);
        let end = match client.events(place.request()).await {
            Ok(stream) => read(stream, given_up, deadline, &mut place, heard).await,
            Err(status) => Err(status),
        };
        place.again = true;
        match end {
            Err(status) if status.code() == Code::Unimplemented => {
                debug!(err = client::describe(&status), "this Talos has no events");
                return pending().await;
            }
            Err(status) => debug!(err = client::describe(&status), "the events ended"),
            Ok(()) => debug!("the events ended without a reason"),
        }
        // A stream that ends again at once is no better than none.
        if opened.elapsed() >= settings.longest_pause {
            pause.reset();
        }
        tokio::time::sleep(pause.draw()).await;
    }
}

/// Reads one stream to its end, which is also that of its connection: a stream on one that has fallen silent never ends.
async fn read(
    mut stream: Streaming<machine::Event>,
    mut given_up: watch::Receiver<u64>,
    deadline: Duration,
    place: &mut Place,
    heard: &mpsc::Sender<Heard>,
) -> Result<(), Status> {
    let hello = timeout(deadline, stream.message()).await;
    let Some(hello) = hello.unwrap_or_else(|_| Err(client::overdue(deadline)))? else {
        return Ok(());
    };
    // Whoever receives is gone: then this future is about to be dropped.
    if heard.send(Heard::Listening).await.is_err() {
        return pending().await;
    }
    place.hello(hello.id);
    loop {
        let message = tokio::select! {
            message = stream.message() => message?,
            _ = given_up.changed() => return Err(Status::unavailable("the connection was left")),
        };
        let Some(message) = message else { return Ok(()) };
        if let Some(event) = Event::read(&message)
            && heard.send(Heard::Event(event)).await.is_err()
        {
            return pending().await;
        }
        place.event(message.id);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The golden vector of a SequenceEvent{shutdown, START}.
    const BEGUN: &[u8] =
        b"\x12\x33\x0a\x23talos/runtime/machine.SequenceEvent\x12\x0c\x0a\x08shutdown\x10\x01\
        \x1a\x14d5b0q2g5ahc0s9ab1c2g\x22\x243f2c1d8e-0000-4000-8000-000000000001";
    /// The golden vector of a hello.
    const HELLO: &[u8] = b"\x12\x00\x1a\x14d5b0q2g5ahc0s9ab1c2g";

    fn read(bytes: &[u8]) -> Option<Event> {
        Event::read(&machine::Event::decode(bytes).unwrap())
    }

    fn of(name: &str, payload: &impl prost::Message) -> Option<Event> {
        Event::read(&machine::Event {
            data: Some(machine::EventPayload {
                type_url: format!("talos/runtime/{name}"),
                value: payload.encode_to_vec(),
            }),
            ..machine::Event::default()
        })
    }

    #[test]
    fn the_golden_vectors_are_read() {
        assert_eq!(
            read(BEGUN),
            Some(Event {
                actor: "3f2c1d8e-0000-4000-8000-000000000001".into(),
                what: What::Sequence {
                    name: "shutdown".into(),
                    step: Step::Begun
                },
            })
        );
        assert_eq!(read(HELLO), None, "a hello is no event");
    }

    #[test]
    fn failures_are_read_with_their_code_and_their_words() {
        let failed = |code, message: &str| {
            of(
                "machine.SequenceEvent",
                &SequenceEvent {
                    sequence: "reboot".into(),
                    error: Some(common::Error {
                        code,
                        message: message.into(),
                    }),
                    ..SequenceEvent::default()
                },
            )
        };
        for (code, expected) in [
            (0, Failure::Fatal),
            (1, Failure::Locked),
            (2, Failure::Cancelled),
            (77, Failure::Other(77)),
        ] {
            let step = match failed(code, &"x".repeat(1000)).unwrap().what {
                What::Sequence { step, .. } => Some(step),
                What::Phase { .. } => None,
            };
            let failure = expected;
            let message = "x".repeat(TEXT);
            assert_eq!(step, Some(Step::Failed { failure, message }));
        }
    }

    #[test]
    fn what_a_newer_talos_invents_is_skipped() {
        let unknown = SequenceEvent {
            sequence: "shutdown".into(),
            action: 9,
            error: None,
        };
        assert_eq!(of("machine.SequenceEvent", &unknown), None);
        assert_eq!(of("machine.MoonPhaseEvent", &unknown), None);
        let phase = PhaseEvent {
            phase: "drain".into(),
            action: 1,
        };
        assert_eq!(
            of("machine.PhaseEvent", &phase).unwrap().what,
            What::Phase {
                name: "drain".into(),
                begins: false
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_without_an_id_asks_for_the_time_since_it_began() {
        let mut place = Place::begin();
        assert_eq!(place.request(), EventsRequest::default());
        tokio::time::advance(std::time::Duration::from_millis(2500)).await;
        place.again = true;
        // An event of the whole second in which the first request was made is up to 3.5 s old by now.
        assert_eq!(place.request().tail_seconds, 4);
        place.id = Some("d5b0q2g5ahc0s9ab1c2g".into());
        let request = place.request();
        assert_eq!(
            (request.tail_id.as_str(), request.tail_seconds),
            ("d5b0q2g5ahc0s9ab1c2g", 0)
        );
    }

    #[test]
    fn a_later_hello_is_not_taken_for_what_came_before_it() {
        let mut place = Place::begin();
        let wanted = |place: &Place| place.request().tail_id;
        place.hello("10".into());
        assert_eq!(wanted(&place), "10");
        place.again = true;
        place.hello("20".into());
        assert_eq!(wanted(&place), "10", "the history behind 10 is still to come");
        place.event("15".into());
        assert_eq!(wanted(&place), "15");
        place.hello("30".into());
        place.hello("40".into());
        assert_eq!(wanted(&place), "15");
        place.hello("50".into());
        assert_eq!(
            wanted(&place),
            "50",
            "two streams brought nothing: what stopped them is passed"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_payload_is_too_strange(
            name in "(machine.SequenceEvent|machine.PhaseEvent|[a-z.]{0,20})",
            value in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let message = machine::Event {
                data: Some(machine::EventPayload { type_url: format!("talos/runtime/{name}"), value }),
                ..machine::Event::default()
            };
            if let Some(Event { what: What::Sequence { name, .. } | What::Phase { name, .. }, .. }) =
                Event::read(&message)
            {
                prop_assert!(name.chars().count() <= TEXT);
            }
        }
    }
}
