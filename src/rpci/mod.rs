//! RPCI: the guest asks, the host answers.
//!
//! ```text
//!  feature ──Request──> Client ──queue, eventfd──> backdoor thread: Connection ──message channel──> host
//! ```

#![forbid(unsafe_code)]

mod client;
mod connection;
mod reply;
mod request;
#[cfg(test)]
pub(crate) mod scripted;

use std::{future::Future, time::Duration};

use thiserror::Error;

pub use self::{
    client::{Answer, Call, Calls, Client, Waker, client},
    connection::Connection,
    reply::Reply,
    request::{Request, Resend},
};

/// Largest request, in bytes, with command, arguments and trailing NUL (`GUESTMSG_MAX_IN_SIZE`, guest_msg_def.h).
pub const MAX_REQUEST: usize = 65_536;

/// Largest reply that is accepted, in bytes. Values set from the host's side may exceed what a guest may send.
pub const MAX_REPLY: usize = 1024 * 1024;

/// Why a request has no answer, or not the wanted one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RpciError {
    /// The host understood the transport and refused the command: `0 ` and this text.
    #[error("the host refused {command}: {text:?}")]
    Refused {
        /// The command's name.
        command: String,
        /// What the host said after `0 `.
        text: String,
    },
    /// The reply is neither `1 …` nor `0 …`.
    #[error("the host's reply to {command} is malformed ({length} bytes)")]
    Malformed {
        /// The command's name.
        command: String,
        /// Length of the reply.
        length: usize,
    },
    /// The request is longer than a host accepts; it was not sent.
    #[error("{command} with {length} bytes exceeds the {MAX_REQUEST} bytes of a guest message")]
    TooLarge {
        /// The command's name.
        command: String,
        /// Length of the request.
        length: usize,
    },
    /// There is no channel to the host at the moment, or it broke under the request.
    #[error("no RPCI channel for {command}: {reason}")]
    Channel {
        /// The command's name.
        command: String,
        /// What the message layer said.
        reason: String,
        /// Whether the host has certainly seen nothing of the request. Otherwise that is unknown.
        unsent: bool,
    },
    /// The backdoor thread did not answer in time.
    #[error("no answer to {command} within {deadline:?}")]
    Deadline {
        /// The command's name.
        command: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// The queue to the backdoor thread is full or the thread has ended.
    #[error("{command} was not queued: {reason}")]
    NotQueued {
        /// The command's name.
        command: String,
        /// Full, or closed.
        reason: &'static str,
    },
}

impl RpciError {
    /// Whether the channel failed and not the request: the host has said nothing to it, and another try may succeed.
    pub const fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::Channel { .. } | Self::Deadline { .. } | Self::NotQueued { .. }
        )
    }

    /// Whether the host has certainly seen nothing of the request, which may then be made again, whatever it does.
    pub const fn is_unsent(&self) -> bool {
        matches!(self, Self::Channel { unsent: true, .. } | Self::NotQueued { .. })
    }
}

/// The way to the host for everything that runs on tokio. Implemented by the backdoor thread's client, and by scripts
/// in tests.
pub trait Rpci: Send + Sync + 'static {
    /// Sends one request and gives what the host said after `1 `.
    fn call(&self, request: Request) -> impl Future<Output = Result<Vec<u8>, RpciError>> + Send;
}
