//! Messages: byte strings of known length over a channel, made of backdoor exchanges (guest_msg_def.h).
//!
//! ```text
//!  rpci, tclo ──bytes──> Channel ── OPEN ──────────────────────────────────────> id and cookies
//!                                   SENDSIZE, payload ──────────────────────────> delivered
//!                                   RECVSIZE, payload, RECVSTATUS ──────────────> bytes, once
//!                                   CLOSE
//! ```
//!
//! A payload goes in one high-bandwidth transfer where the host's answer to the size step allows it, else four bytes at
//! a time. A checkpoint (suspend, snapshot, migration) cancels the operation on both sides; it starts again from its size
//! step. Every other failure ends the channel: the owner closes it and opens another, when [`Backoff`] says so.

#![forbid(unsafe_code)]

mod backoff;
mod channel;
mod wire;

pub use self::{
    backoff::Backoff,
    channel::{Channel, MAX_CHECKPOINTS, MAX_RESTARTS},
    wire::{Protocol, Status, Step},
};

use thiserror::Error;

/// Why an operation on a channel failed. But for [`ChannelError::TooLong`], the channel is of no
/// further use and must be closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChannelError {
    /// No free channel, guest RPC disabled, or a host that is not what it seems.
    #[error("the host refused to open a {protocol} channel: {status}")]
    Refused {
        /// Which protocol.
        protocol: Protocol,
        /// What OPEN answered, without cookies.
        status: Status,
    },
    /// Closed by the host, reset, timed out, or restored from another time.
    #[error("channel {channel} is dead: {step} answered {status}")]
    Dead {
        /// The host's number of the channel.
        channel: u16,
        /// The step that failed.
        step: Step,
        /// What it answered.
        status: Status,
    },
    /// Every attempt was cancelled by a checkpoint.
    #[error("channel {channel}: {step} was cancelled by {} checkpoints in a row, or for {MAX_RESTARTS:?}", MAX_CHECKPOINTS + 1)]
    Checkpoints {
        /// The host's number of the channel.
        channel: u16,
        /// The step that was cancelled last.
        step: Step,
    },
    /// EDX.hi does not say what this step must carry.
    #[error("channel {channel}: {step} carries type {found}")]
    Type {
        /// The host's number of the channel.
        channel: u16,
        /// The step.
        step: Step,
        /// What EDX.hi said.
        found: u16,
    },
    /// The host announced more than is accepted; nothing was allocated.
    #[error("channel {channel}: the host announced {announced} bytes, the limit is {limit}")]
    TooLarge {
        /// The host's number of the channel.
        channel: u16,
        /// The announced length, bytes.
        announced: u32,
        /// The limit, bytes.
        limit: usize,
    },
    /// There is no memory for a message within the limit.
    #[error("channel {channel}: no memory for {announced} bytes")]
    NoMemory {
        /// The host's number of the channel.
        channel: u16,
        /// The announced length, bytes.
        announced: u32,
    },
    /// The message is longer than a length field can say; nothing was sent.
    #[error("a message of {length} bytes cannot be sent")]
    TooLong {
        /// Its length, bytes.
        length: usize,
    },
}

impl ChannelError {
    /// Whether the host has certainly seen nothing of the message that was to be sent.
    pub const fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::TooLong { .. }
                | Self::Dead {
                    step: Step::SendSize,
                    ..
                }
        )
    }
}
