//! How far an accepted operation has come: events and stages in, news out. A state machine without clock and I/O.
//!
//! An event is ours when it carries the actor id that Talos gave for our call. A failure to get the lock names no
//! actor; it is taken for ours when it is of our sequence and ours has not begun.

#![forbid(unsafe_code)]

use super::{Operation, stage::Stage};
use crate::talos::events::{Event, Failure, Step, What};

/// Phases up to the end of the drain; `storeShudown` is how it was spelled before Talos 1.10.
const UP_TO_DRAIN: [&str; 3] = ["storeShutdown", "storeShudown", "drain"];

/// What an event or a stage says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The sequence has begun: the operation has succeeded as far as anybody can see who ends with it.
    Begun,
    /// A phase has begun.
    Phase(String),
    /// It will not happen, or not to its end.
    Failed(String),
}

/// One operation after its call was accepted.
#[derive(Clone, Debug)]
pub struct Progress {
    operation: Operation,
    /// Ours; `None` when the operation was begun by somebody else.
    actor: Option<String>,
    begun: bool,
    /// Nothing is left to drain.
    drained: bool,
}

impl Progress {
    /// Of our call; `actor` is Talos's id for it.
    pub const fn of_call(operation: Operation, actor: String) -> Self {
        Self {
            operation,
            actor: Some(actor),
            begun: false,
            drained: false,
        }
    }

    /// Of an operation that was under way before anything was called.
    pub const fn of_another(operation: Operation) -> Self {
        Self {
            operation,
            actor: None,
            begun: true,
            drained: false,
        }
    }

    /// Another call of ours takes over, and what becomes of the one before is no news.
    pub fn taken_over(&mut self, actor: String) {
        self.actor = Some(actor);
    }

    /// Whether the sequence was seen.
    pub const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether it may be waiting for pods to leave. A call with `force` would begin later phases again, and help nobody.
    pub const fn may_be_draining(&self) -> bool {
        self.begun && !self.drained
    }

    /// An event of the node.
    pub fn hear(&mut self, event: &Event) -> Option<News> {
        let ours = match &self.actor {
            Some(actor) => !actor.is_empty() && *actor == event.actor,
            None => false,
        };
        match &event.what {
            What::Sequence { name, step } => {
                let of_kind = name == self.sequence();
                match step {
                    Step::Begun if ours => self.begin(),
                    Step::Failed { failure, message } => {
                        let locked = *failure == Failure::Locked && of_kind && !self.begun;
                        // Whoever began it, this is the end of what is under way.
                        let fatal = *failure == Failure::Fatal && of_kind && self.actor.is_none();
                        (ours || locked || fatal).then(|| News::Failed(describe(*failure, message)))
                    }
                    // The end is told after a failure too, so it says nothing.
                    Step::Begun | Step::Ended => None,
                }
            }
            What::Phase { name, begins } if ours => {
                let before = UP_TO_DRAIN.contains(&name.as_str());
                self.drained |= !before || (name == "drain" && !begins);
                begins.then(|| News::Phase(name.clone()))
            }
            What::Phase { .. } => None,
        }
    }

    /// The stage of the node.
    pub fn see(&mut self, stage: Stage) -> Option<News> {
        if stage.is_of(self.operation) {
            self.begin()
        } else {
            None
        }
    }

    fn begin(&mut self) -> Option<News> {
        (!std::mem::replace(&mut self.begun, true)).then_some(News::Begun)
    }

    /// Talos's name of the sequence.
    const fn sequence(&self) -> &'static str {
        match self.operation {
            Operation::Shutdown => "shutdown",
            Operation::Reboot => "reboot",
        }
    }
}

fn describe(failure: Failure, message: &str) -> String {
    let kind = match failure {
        Failure::Fatal => "it failed on the way (FATAL)".to_owned(),
        Failure::Locked => "it was not begun, another sequence is running (LOCKED)".to_owned(),
        Failure::Cancelled => "another sequence took over (CANCELED)".to_owned(),
        Failure::Other(code) => format!("it failed (code {code})"),
    };
    if message.is_empty() {
        kind
    } else {
        format!("{kind}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(actor: &str, name: &str, step: Step) -> Event {
        Event {
            actor: actor.into(),
            what: What::Sequence {
                name: name.into(),
                step,
            },
        }
    }

    fn failed(failure: Failure) -> Step {
        Step::Failed {
            failure,
            message: "words".into(),
        }
    }

    fn phase(actor: &str, name: &str, begins: bool) -> Event {
        Event {
            actor: actor.into(),
            what: What::Phase {
                name: name.into(),
                begins,
            },
        }
    }

    fn shutdown() -> Progress {
        Progress::of_call(Operation::Shutdown, "me".into())
    }

    #[test]
    fn only_our_own_sequence_counts() {
        let mut progress = shutdown();
        assert_eq!(progress.hear(&sequence("you", "shutdown", Step::Begun)), None);
        assert_eq!(progress.hear(&sequence("", "boot", Step::Begun)), None);
        assert!(!progress.has_begun());
        assert_eq!(
            progress.hear(&sequence("me", "shutdown", Step::Begun)),
            Some(News::Begun)
        );
        assert_eq!(
            progress.see(Stage::ShuttingDown),
            None,
            "the same news is told once"
        );
    }

    #[test]
    fn the_stage_is_a_beginning_too() {
        let mut progress = shutdown();
        assert_eq!(progress.see(Stage::Rebooting), None);
        assert_eq!(progress.see(Stage::ShuttingDown), Some(News::Begun));
        assert_eq!(progress.hear(&sequence("me", "shutdown", Step::Begun)), None);
    }

    #[test]
    fn failures_are_ours_by_actor_or_by_name() {
        for (actor, name, failure, news) in [
            ("me", "shutdown", Failure::Fatal, true),
            ("you", "shutdown", Failure::Fatal, false),
            ("me", "shutdown", Failure::Cancelled, true),
            ("you", "shutdown", Failure::Cancelled, false),
            ("", "shutdown", Failure::Locked, true),
            ("", "reboot", Failure::Locked, false),
            ("me", "shutdown", Failure::Other(9), true),
        ] {
            let heard = shutdown().hear(&sequence(actor, name, failed(failure)));
            assert_eq!(heard.is_some(), news, "{actor} {name} {failure:?}");
        }
        let mut begun = shutdown();
        begun.hear(&sequence("me", "shutdown", Step::Begun));
        let other = sequence("", "shutdown", failed(Failure::Locked));
        assert_eq!(
            begun.hear(&other),
            None,
            "what has begun holds the lock: somebody else was refused"
        );
    }

    #[test]
    fn the_drain_ends_with_its_phase_or_with_the_next() {
        let mut progress = shutdown();
        assert!(!progress.may_be_draining());
        progress.hear(&sequence("me", "shutdown", Step::Begun));
        for name in ["storeShutdown", "drain"] {
            assert_eq!(
                progress.hear(&phase("me", name, true)),
                Some(News::Phase(name.into()))
            );
            assert!(progress.may_be_draining(), "{name}");
        }
        let mut skipped = progress.clone();
        assert_eq!(progress.hear(&phase("me", "drain", false)), None);
        assert!(!progress.may_be_draining());
        skipped.hear(&phase("you", "cleanup", true));
        assert!(skipped.may_be_draining());
        skipped.hear(&phase("me", "cleanup", true));
        assert!(!skipped.may_be_draining());
    }

    #[test]
    fn what_we_took_over_ourselves_is_no_failure() {
        let mut progress = shutdown();
        progress.hear(&sequence("me", "shutdown", Step::Begun));
        progress.taken_over("me again".into());
        assert_eq!(
            progress.hear(&sequence("me", "shutdown", failed(Failure::Cancelled))),
            None
        );
        assert!(matches!(
            progress.hear(&sequence("me again", "shutdown", failed(Failure::Fatal))),
            Some(News::Failed(_))
        ));
    }

    #[test]
    fn the_failure_of_what_another_began_is_told() {
        let mut progress = Progress::of_another(Operation::Reboot);
        assert!(progress.has_begun());
        assert_eq!(
            progress.hear(&sequence("you", "reboot", failed(Failure::Cancelled))),
            None
        );
        assert!(matches!(
            progress.hear(&sequence("you", "reboot", failed(Failure::Fatal))),
            Some(News::Failed(_))
        ));
    }
}
