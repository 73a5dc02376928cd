//! The part that stands on the backdoor thread.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    config::LogLevel,
    options::Name,
    tclo::{Command, Feature, Reply},
};

/// What the host wants to be told, as a state: a flood of requests costs nothing and none is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// How often the state was asked for.
    pub asked: u64,
    /// How talkative the log should be; `None` leaves it to the node's setting.
    pub level: Option<LogLevel>,
}

/// Takes the requests.
#[derive(Debug)]
pub struct Support {
    wishes: Arc<watch::Sender<Wishes>>,
    /// The last `guestLogLevel`: hosts repeat their options at every registration.
    last: Option<Option<LogLevel>>,
}

impl Support {
    /// The feature, and what it was asked for.
    pub fn new() -> (Self, watch::Receiver<Wishes>) {
        let (wishes, receiver) = watch::channel(Wishes::default());
        let support = Self {
            wishes: Arc::new(wishes),
            last: None,
        };
        (support, receiver)
    }

    fn ask(&self, level: Option<Option<LogLevel>>) {
        self.wishes.send_modify(|wishes| {
            wishes.asked = wishes.asked.wrapping_add(1);
            wishes.level = level.unwrap_or(wishes.level);
        });
    }
}

impl Feature for Support {
    fn name(&self) -> &'static str {
        "support"
    }

    fn handle(&mut self, command: &Command<'_>) -> Option<Reply> {
        match command {
            Command::Unknown {
                name: b"vmsupport.start",
                ..
            } => {
                self.ask(None);
                Some(Reply::ok())
            }
            Command::SetOption { name, value } if Name::parse(name) == Some(Name::GuestLogLevel) => {
                let level = level(value);
                if self.last.replace(level) != Some(level) {
                    self.ask(Some(level));
                }
                None
            }
            _ => None,
        }
    }
}

/// The level of this name; `None` for any other word, which means the node's setting. The names are those of GLib, which
/// open-vm-tools logs with, and of this program.
fn level(value: &[u8]) -> Option<LogLevel> {
    Some(match value.trim_ascii().to_ascii_lowercase().as_slice() {
        b"critical" | b"error" => LogLevel::Error,
        b"warning" | b"warn" => LogLevel::Warn,
        b"message" | b"info" => LogLevel::Info,
        b"debug" | b"trace" => LogLevel::Debug,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_counts_and_a_repeated_option_does_not() {
        let (mut support, wishes) = Support::new();
        let mut handle = |request: &[u8]| support.handle(&Command::parse(request).unwrap());
        assert_eq!(handle(b"vmsupport.start"), Some(Reply::ok()));
        assert_eq!(handle(b"vmsupport.start\0"), Some(Reply::ok()));
        assert_eq!(handle(b"vmsupport.stop"), None);
        assert_eq!(
            *wishes.borrow(),
            Wishes {
                asked: 2,
                level: None
            }
        );
        for (request, asked, level) in [
            (
                b"Set_Option guestLogLevel debug".as_slice(),
                3,
                Some(LogLevel::Debug),
            ),
            (b"Set_Option guestLogLevel Debug\0", 3, Some(LogLevel::Debug)),
            (b"Set_Option guestLogLevel warning", 4, Some(LogLevel::Warn)),
            (b"Set_Option guestLogLevel \xff", 5, None),
            (b"Set_Option synctime 1", 5, None),
        ] {
            assert_eq!(handle(request), None);
            assert_eq!(*wishes.borrow(), Wishes { asked, level });
        }
    }
}
