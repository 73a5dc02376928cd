//! `update.tools.health`: what the host is told about the program's condition (toolsHangDetector.c).

#![forbid(unsafe_code)]

use crate::rpci::{Answer, Request};

/// The words that a host knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All is well.
    Normal,
    /// A loop of the program gives no sign.
    Hung,
    /// The machine is slow.
    GuestSlow,
}

impl Condition {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Hung => "hung",
            Self::GuestSlow => "guest_slow",
        }
    }
}

/// What the host was told. Told is what it took; after its first refusal it is left alone until the next `reset`.
#[derive(Debug, Default)]
pub struct Health {
    told: Option<Condition>,
    refused: bool,
    pending: Option<(Condition, Answer)>,
    resets: u64,
}

impl Health {
    /// The host sent this many resets so far; with a new one it has forgotten everything.
    pub fn noticed_resets(&mut self, resets: u64) {
        if std::mem::replace(&mut self.resets, resets) != resets {
            (self.told, self.refused, self.pending) = (None, false, None);
        }
    }

    /// Submits `condition` if the host does not have it. One request is under way at most.
    pub fn tell(&mut self, condition: Condition, submit: impl FnOnce(Request) -> Option<Answer>) {
        if let Some((sent, mut answer)) = self.pending.take() {
            match answer.try_recv() {
                Ok(Ok(_)) => self.told = Some(sent),
                // No channel: the next look tries again.
                Ok(Err(error)) if error.is_lost() => {}
                Ok(Err(_)) => self.refused = true,
                // The backdoor thread has not got to it; what is dropped here is not sent any more.
                Err(_) => {}
            }
        }
        // Before the first reset nobody is registered.
        if self.resets > 0 && !self.refused && self.told != Some(condition) {
            // Without a NUL, as open-vm-tools sends it: the host compares the word.
            let request = Request::raw(format!("update.tools.health {}", condition.as_str()));
            self.pending = submit(request).map(|answer| (condition, answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::rpci::RpciError;

    /// What was sent, to a host that answers so.
    fn tell(health: &mut Health, condition: Condition, reply: Result<Vec<u8>, RpciError>) -> Option<String> {
        let mut sent = None;
        health.tell(condition, |request| {
            sent = Some(request.bytes().escape_ascii().to_string());
            let (answer, answered) = oneshot::channel();
            answer.send(reply).unwrap();
            Some(answered)
        });
        sent
    }

    fn refused() -> Result<Vec<u8>, RpciError> {
        Err(RpciError::Refused {
            command: "update.tools.health".into(),
            text: "Unknown command".into(),
        })
    }

    fn lost() -> Result<Vec<u8>, RpciError> {
        Err(RpciError::Channel {
            command: "update.tools.health".into(),
            reason: "gone".into(),
            unsent: true,
        })
    }

    const NORMAL: Option<&str> = Some("update.tools.health normal");

    #[test]
    fn told_when_it_changes() {
        let mut health = Health::default();
        assert_eq!(
            tell(&mut health, Condition::Normal, Ok(Vec::new())),
            None,
            "not registered"
        );
        health.noticed_resets(1);
        assert_eq!(
            tell(&mut health, Condition::Normal, Ok(Vec::new())).as_deref(),
            NORMAL
        );
        assert_eq!(tell(&mut health, Condition::Normal, Ok(Vec::new())), None);
        let hung = tell(&mut health, Condition::Hung, Ok(Vec::new()));
        assert_eq!(hung.as_deref(), Some("update.tools.health hung"));
        let slow = tell(&mut health, Condition::GuestSlow, Ok(Vec::new()));
        assert_eq!(slow.as_deref(), Some("update.tools.health guest_slow"));
        assert_eq!(
            tell(&mut health, Condition::Normal, Ok(Vec::new())).as_deref(),
            NORMAL
        );
        health.noticed_resets(2);
        assert_eq!(
            tell(&mut health, Condition::Normal, Ok(Vec::new())).as_deref(),
            NORMAL
        );
    }

    #[test]
    fn a_refusal_ends_it_until_the_next_reset_and_a_lost_channel_does_not() {
        let mut health = Health::default();
        health.noticed_resets(1);
        assert_eq!(tell(&mut health, Condition::Normal, lost()).as_deref(), NORMAL);
        assert_eq!(tell(&mut health, Condition::Normal, refused()).as_deref(), NORMAL);
        assert_eq!(tell(&mut health, Condition::Normal, Ok(Vec::new())), None);
        assert_eq!(tell(&mut health, Condition::Hung, Ok(Vec::new())), None);
        health.noticed_resets(2);
        assert_eq!(
            tell(&mut health, Condition::Normal, Ok(Vec::new())).as_deref(),
            NORMAL
        );
    }

    #[test]
    fn a_request_that_the_thread_did_not_get_to_is_taken_back() {
        let mut health = Health::default();
        health.noticed_resets(1);
        let (answer, answered) = oneshot::channel();
        health.tell(Condition::Normal, |_| Some(answered));
        assert!(!answer.is_closed());
        health.tell(Condition::Normal, |_| None);
        assert!(answer.is_closed());
    }
}
