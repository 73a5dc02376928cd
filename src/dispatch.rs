//! From a request of the host to the feature that answers it.
//!
//! ```text
//!  pump ──bytes──> Dispatch ── reset, ping, Capabilities_Register, Set_Option ──> Reply
//!                     └────── everything else, to the features in order ────────> Reply
//! ```
//!
//! Registration is a pure function of the features: it is sent as a whole for every `Capabilities_Register`, and again
//! later when a channel was lost in its middle. So a `reset` at any moment needs no bookkeeping.

#![forbid(unsafe_code)]

mod registration;

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use tracing::info;

use crate::{
    limited,
    options::INVALID_OPTION,
    rpci::{Request, RpciError},
    tclo::{Command, Event, Feature, ParseError, Reply},
};

/// The application name of the one agent that a host registers as "VMware Tools".
const RESET_REPLY: &[u8] = b"ATR toolbox";

/// Tells the host that options and capabilities go to the agent that answered `reset`.
const UNIFIED_LOOP: &str = "vmx.capability.unified_loop toolbox";

/// Pause before a registration that broke off is sent again.
const REGISTRATION_RETRY: Duration = Duration::from_secs(1);

/// Most of a host's name for something that goes into a log line, bytes.
const NAME_MAX: usize = 64;

/// Asks the host on the way of answering it: one RPCI call on the backdoor thread.
pub type Ask<'a> = &'a mut dyn FnMut(&Request) -> Result<Vec<u8>, RpciError>;

/// What became of one request.
#[derive(Debug)]
pub struct Handled {
    /// Exactly one per request.
    pub reply: Reply,
    /// Whether the host is active, so that more is expected soon. A `ping` says nothing of the kind.
    pub restarts_polling: bool,
    /// What the rest of the program should know.
    pub event: Option<Event>,
}

/// The features, and what was told to the host and is owed to it.
pub struct Dispatch {
    features: Vec<Box<dyn Feature>>,
    /// Whether the last thing that the host said was `reset`.
    in_reset: bool,
    /// Whether the host heard [`UNIFIED_LOOP`] on this channel.
    announced: bool,
    /// What was accepted by the host when we last registered.
    registered: Vec<Request>,
    /// When a registration that broke off is due again.
    owed: Option<Instant>,
    /// Commands whose refusal was logged.
    refused: BTreeSet<String>,
}

impl Dispatch {
    /// `features` register and are asked in this order.
    pub fn new(features: Vec<Box<dyn Feature>>) -> Self {
        Self {
            features,
            in_reset: false,
            announced: false,
            registered: Vec::new(),
            owed: None,
            refused: BTreeSet::new(),
        }
    }

    /// Answers one request.
    pub fn handle(&mut self, request: &[u8], now: Instant, ask: Ask<'_>) -> Handled {
        let command = match Command::parse(request) {
            Ok(command) => command,
            Err(error) => {
                self.in_reset = false;
                return malformed(error);
            }
        };
        let repeated_reset = std::mem::replace(&mut self.in_reset, command == Command::Reset);
        let mut restarts_polling = true;
        let mut event = None;
        let reply = match &command {
            Command::Reset => {
                event = Some(Event::Reset);
                self.reset(repeated_reset, ask)
            }
            Command::Ping => {
                restarts_polling = false;
                Reply::ok()
            }
            Command::CapabilitiesRegister => {
                event = self.register(now, ask);
                Reply::ok()
            }
            // Every option is accepted; whoever knows it only listens.
            Command::SetOption { .. } => self.offer(&command).unwrap_or_else(Reply::ok),
            Command::StateChange(_) | Command::Unknown { .. } => {
                self.offer(&command).unwrap_or_else(|| unknown(&command))
            }
        };
        Handled {
            reply,
            restarts_polling,
            event,
        }
    }

    /// The host had nothing to ask.
    pub fn on_silence(&mut self) {
        self.in_reset = false;
    }

    /// The channel is gone, and with it what the host knew.
    pub fn on_loss(&mut self) {
        self.in_reset = false;
        self.announced = false;
        self.owed = None;
    }

    /// Whether a feature follows an operation together with the host.
    pub fn wants_fast_polling(&self) -> bool {
        self.features.iter().any(|feature| feature.wants_fast_polling())
    }

    /// Sends a registration that broke off again, when it is due.
    pub fn finish_registration(&mut self, now: Instant, ask: Ask<'_>) -> Option<Event> {
        if self.owed.is_none_or(|due| now < due) {
            return None;
        }
        self.register(now, ask)
    }

    /// The host may have forgotten everything. In a row of resets the announcement is made once: a host that sends
    /// them without end gets its answers, and no more.
    fn reset(&mut self, repeated: bool, ask: Ask<'_>) -> Reply {
        limited!(debug, feature = "tclo", "the host resets the connection");
        self.owed = None;
        if !(repeated && self.announced) {
            self.announce(ask);
        }
        for feature in &mut self.features {
            feature.on_reset();
        }
        Reply::Ok(RESET_REPLY.to_vec())
    }

    fn announce(&mut self, ask: Ask<'_>) {
        let request = Request::text(UNIFIED_LOOP);
        let outcome = ask(&request);
        self.announced = !outcome.as_ref().is_err_and(RpciError::is_lost);
        self.note(&request, outcome.err());
    }

    fn offer(&mut self, command: &Command<'_>) -> Option<Reply> {
        self.features
            .iter_mut()
            .find_map(|feature| feature.handle(command))
    }

    /// Logs that the host did not take something of ours, once for each command.
    fn note(&mut self, request: &Request, error: Option<RpciError>) {
        let Some(error) = error.filter(|error| !error.is_lost()) else {
            return;
        };
        let command = request.name();
        if !self.refused.contains(&command) {
            info!(feature = "tclo", command, err = %error, "the host does not take this; it does without");
            self.refused.insert(command);
        }
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let features: Vec<_> = self.features.iter().map(|feature| feature.name()).collect();
        f.debug_struct("Dispatch")
            .field("features", &features)
            .field("owed", &self.owed)
            .finish_non_exhaustive()
    }
}

fn malformed(error: ParseError) -> Handled {
    limited!(info, feature = "tclo", err = %error, "malformed request");
    let text = match error {
        ParseError::Blank { .. } => "Bad command",
        ParseError::Option { .. } => INVALID_OPTION,
    };
    Handled {
        reply: Reply::Error(text.into()),
        restarts_polling: true,
        event: None,
    }
}

fn unknown(command: &Command<'_>) -> Reply {
    match command {
        Command::Unknown { name, arguments } => {
            let shown = name.get(..NAME_MAX).unwrap_or(name).escape_ascii();
            limited!(info, feature = "tclo", command = %shown, len = arguments.len(), "unknown command");
        }
        other => limited!(info, feature = "tclo", command = ?other, "nobody answers this command"),
    }
    Reply::Error("Unknown Command".into())
}

#[cfg(test)]
mod tests;
