//! RPCI as the backdoor thread speaks it: blocking, over one long-lived channel.
//!
//! The host closes channels that it thinks idle, and a migration invalidates them, so a failure is answered by close,
//! open and one more try. That second try is only made where it cannot do harm: the host has seen nothing of the request,
//! or the request may be executed twice.

use std::time::Instant;

use thiserror::Error;
use tracing::trace;

use super::{MAX_REPLY, MAX_REQUEST, Reply, Request, Resend, RpciError};
use crate::{
    backdoor::Hypercall,
    limited,
    message::{Backoff, Channel, ChannelError, Protocol},
};

/// Most of a refusal's text that is kept, bytes.
const REFUSAL_MAX: usize = 256;

/// One RPCI channel, opened when it is first needed.
#[derive(Debug, Default)]
pub struct Connection {
    channel: Option<Channel>,
    backoff: Backoff,
    told: Told,
    buffer: Vec<u8>,
}

/// What the log says of the outage that is on.
#[derive(Debug, Default)]
enum Told {
    /// Nothing, or there is none.
    #[default]
    Nothing,
    /// Nothing yet: TCLO may have the same, and then one line is enough. With what failed.
    Later(String),
    /// That it began.
    Begin,
}

impl Connection {
    /// A connection that is not open yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends `request` and gives what the host said after `1 `. Takes as long as the host takes; `now` counts for the
    /// pauses between attempts to open a channel that the host refuses.
    pub fn call(
        &mut self,
        port: &mut dyn Hypercall,
        request: &Request,
        now: Instant,
    ) -> Result<Vec<u8>, RpciError> {
        let command = request.name();
        let length = request.bytes().len();
        if length > MAX_REQUEST {
            return Err(RpciError::TooLarge { command, length });
        }
        let wait = self.backoff.wait(now);
        if !wait.is_zero() {
            return Err(RpciError::Channel {
                command,
                reason: format!("the next attempt is due in {wait:.1?}"),
                unsent: true,
            });
        }
        let mut outcome = self.attempt(port, request);
        let mut unsent = true;
        if let Err(failure) = &outcome
            && failure.allows_resend(request)
        {
            unsent = failure.is_unsent();
            outcome = self.attempt(port, request);
        }
        match outcome {
            Ok(answer) => {
                let told = std::mem::take(&mut self.told);
                if let Some(outage) = self.backoff.succeeded(now)
                    && matches!(told, Told::Begin)
                {
                    limited!(info, feature = "rpci", ?outage, "the RPCI channel works again");
                }
                answer.map_err(|text| RpciError::Refused { command, text })
            }
            Err(failure) => {
                if failure.is_outage() && self.backoff.failed(now) {
                    self.told = Told::Later(failure.to_string());
                }
                Err(match failure {
                    Failure::Malformed(length) => RpciError::Malformed { command, length },
                    other => RpciError::Channel {
                        command,
                        unsent: unsent && other.is_unsent(),
                        reason: other.to_string(),
                    },
                })
            }
        }
    }

    /// Gives the channel back, as TCLO is lost or at the end. An outage that was not told belongs to TCLO.
    pub fn close(&mut self, port: &mut dyn Hypercall) {
        if let Some(channel) = self.channel.take() {
            channel.close(port);
        }
        if matches!(self.told, Told::Later(_)) {
            self.told = Told::Nothing;
            self.backoff.forget();
        }
    }

    /// TCLO works: an outage that goes on is of this channel alone, and is told.
    pub fn tclo_works(&mut self) {
        if let Told::Later(err) = &self.told {
            limited!(warn, feature = "rpci", %err, "the RPCI channel does not work");
            self.told = Told::Begin;
        }
    }

    /// Lets the next call try at once: there is news of the host that may have ended an outage.
    pub fn retry_at_once(&mut self) {
        self.backoff.retry_at_once();
    }

    /// One try, which opens the channel where there is none. A failure closes it: whatever the host still has for it
    /// must not become the answer to another request.
    fn attempt(
        &mut self,
        port: &mut dyn Hypercall,
        request: &Request,
    ) -> Result<Result<Vec<u8>, String>, Failure> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => Channel::open(port, Protocol::Rpci, MAX_REPLY)?,
        };
        match converse(&channel, port, request, &mut self.buffer) {
            Ok(answer) => {
                self.channel = Some(channel);
                Ok(answer)
            }
            Err(failure) => {
                channel.close(port);
                Err(failure)
            }
        }
    }
}

/// One request and its one reply.
fn converse(
    channel: &Channel,
    port: &mut dyn Hypercall,
    request: &Request,
    buffer: &mut Vec<u8>,
) -> Result<Result<Vec<u8>, String>, Failure> {
    channel.send(port, request.bytes())?;
    if !channel.receive(port, buffer)? {
        return Err(Failure::Silence);
    }
    // One request has one reply. A second message means that what was read may answer something older.
    if channel.has_message(port) {
        return Err(Failure::Stale);
    }
    trace!(feature = "rpci", request = %request.bytes().escape_ascii(), reply = %buffer.escape_ascii());
    match Reply::parse(buffer) {
        Some(Reply::Accepted(rest)) => Ok(Ok(rest.to_vec())),
        Some(Reply::Refused(rest)) => {
            let kept = rest.get(..REFUSAL_MAX).unwrap_or(rest);
            let text = String::from_utf8_lossy(kept);
            Ok(Err(text.trim_end_matches('\0').to_owned()))
        }
        None => Err(Failure::Malformed(buffer.len())),
    }
}

/// Why one try gave no reply.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("the host took the request and has no reply")]
    Silence,
    #[error("the host had more than one reply")]
    Stale,
    #[error("malformed reply of {0} bytes")]
    Malformed(usize),
}

impl Failure {
    /// Whether `request` may be sent once more, on another channel.
    fn allows_resend(&self, request: &Request) -> bool {
        match self {
            // Another try right now would meet the same.
            Self::Channel(
                ChannelError::Refused { .. }
                | ChannelError::TooLarge { .. }
                | ChannelError::NoMemory { .. }
                | ChannelError::TooLong { .. },
            ) => false,
            _ => self.is_unsent() || request.resend() == Resend::Once,
        }
    }

    /// Whether the host has certainly seen nothing of the request.
    const fn is_unsent(&self) -> bool {
        matches!(self, Self::Channel(error) if error.is_unsent())
    }

    /// Whether the channel is at fault, and not one command.
    fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Silence
                | Self::Channel(
                    ChannelError::Refused { .. }
                        | ChannelError::Dead { .. }
                        | ChannelError::Checkpoints { .. }
                )
        )
    }
}
