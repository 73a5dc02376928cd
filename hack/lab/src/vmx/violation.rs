//! What a guest can do wrong: each kind has a name that scenarios may allow.

use super::{backdoor::Step, guestinfo::DecodeError};

/// A breach of the protocol by the guest. The host answers it without SUCCESS (or, for a report, with `0 `), records
/// it, and the run fails unless the scenario allows its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Bits 63:32 of a register that carries 32 bits of data were set. A real host ignores them, so does this one.
    #[error("{step}: bits 63:32 set in {registers}")]
    HighHalves {
        /// What the guest executed.
        step: &'static str,
        /// The registers concerned.
        registers: String,
    },
    /// The instruction does not belong to the port in DX.
    #[error("{instruction} on port {port:#06x}")]
    Port {
        /// The instruction executed.
        instruction: &'static str,
        /// DX.
        port: u16,
    },
    /// EAX is not the magic number: a real host hands the guest its fault.
    #[error("EAX {eax:#010x} is not the backdoor's magic number")]
    Magic {
        /// EAX as the guest left it.
        eax: u32,
    },
    /// A command for the guest's kernel from user space.
    #[error("command {command} is not for user space")]
    KernelOnly {
        /// ECX bits 15:0.
        command: u16,
    },
    /// A sub-command of the message layer that does not exist.
    #[error("unknown sub-command {subcommand}")]
    Subcommand {
        /// ECX bits 31:16.
        subcommand: u16,
    },
    /// EBX of a high-bandwidth access is not the message command with SUCCESS.
    #[error("EBX {ebx:#010x} of a high-bandwidth access is not 0x00010000")]
    HighCommand {
        /// EBX as the guest left it.
        ebx: u32,
    },
    /// OPEN for a protocol that does not exist.
    #[error("unknown protocol {magic:#010x}")]
    Protocol {
        /// EBX without the cookie flag.
        magic: u32,
    },
    /// A step on a channel that the guest never opened or closed itself.
    #[error("{} on channel {id}, which is not open", .step.name())]
    Channel {
        /// The step.
        step: Step,
        /// Channel id as the guest sent it.
        id: u16,
    },
    /// A step on an open channel with other cookies than OPEN returned.
    #[error("{} on channel {id} with wrong cookies", .step.name())]
    Cookies {
        /// The step.
        step: Step,
        /// Channel id as the guest sent it.
        id: u16,
    },
    /// SENDSIZE above the host's limit.
    #[error("message of {size} bytes, the limit is 65536")]
    MessageTooLong {
        /// EBX of SENDSIZE.
        size: u32,
    },
    /// A payload that no SENDSIZE announced, or more of it than announced.
    #[error("{} without an announced message", .step.name())]
    Unannounced {
        /// The step.
        step: Step,
    },
    /// SENDSIZE in the middle of another message.
    #[error("SENDSIZE with {missing} bytes of the last message still to send")]
    Unfinished {
        /// Bytes announced and not sent.
        missing: usize,
    },
    /// A payload on the high-bandwidth port where the host did not offer it.
    #[error("{} where the host did not offer high bandwidth", .step.name())]
    HighNotOffered {
        /// The step.
        step: Step,
    },
    /// A high-bandwidth payload of another size than announced.
    #[error("{} of {count} bytes for a message of {size}", .step.name())]
    Count {
        /// The step.
        step: Step,
        /// RCX.
        count: u64,
        /// Size of the message.
        size: usize,
    },
    /// The unused bytes of the last SENDPAYLOAD are not zero.
    #[error("unused bytes of the last word are not zero: {word:#010x}")]
    Padding {
        /// EBX of SENDPAYLOAD.
        word: u32,
    },
    /// The buffer of a high-bandwidth payload cannot be read or written.
    #[error("{} at {address:#x}: {reason}", .step.name())]
    Memory {
        /// The step.
        step: Step,
        /// Guest address.
        address: u64,
        /// The operating system's reason.
        reason: String,
    },
    /// An RPCI request while the reply to the last one has not been fetched.
    #[error("RPCI request while a reply is unread")]
    ReplyUnread,
    /// SENDSIZE or RECVSIZE while a message was read but not acknowledged by RECVSTATUS.
    #[error("{} before RECVSTATUS of the last message", .step.name())]
    StatusSkipped {
        /// The step.
        step: Step,
    },
    /// RECVPAYLOAD, RECVSTATUS or a high-bandwidth read without a RECVSIZE that announced a message.
    #[error("{} without RECVSIZE", .step.name())]
    NotReceiving {
        /// The step.
        step: Step,
    },
    /// RECVSTATUS(1) before the whole message was read.
    #[error("RECVSTATUS with {missing} bytes still to read")]
    StatusEarly {
        /// Bytes not read.
        missing: usize,
    },
    /// RECVPAYLOAD or RECVSTATUS with EBX other than 0 and 1.
    #[error("{} with EBX {ebx:#x}", .step.name())]
    Acknowledgement {
        /// The step.
        step: Step,
        /// EBX.
        ebx: u32,
    },
    /// A TCLO channel received without the send that opens each exchange: the host sees no heartbeat.
    #[error("TCLO RECVSIZE without a send before it")]
    NoPoll,
    /// A poll, or the wish for the next request, where the reply to a request is due.
    #[error("{} where the reply to request {id} is due", .step.name())]
    ReplyDue {
        /// The step.
        step: Step,
        /// Number of the request in the transcript.
        id: u64,
    },
    /// A TCLO reply that no request waits for: the first without one, or a second one.
    #[error("TCLO reply without a request: {text:?}")]
    Unasked {
        /// The reply.
        text: String,
    },
    /// A TCLO reply that begins neither with `OK ` nor with `ERROR `.
    #[error("TCLO reply {text:?} begins neither with \"OK \" nor with \"ERROR \"")]
    ReplyForm {
        /// The reply.
        text: String,
    },
    /// `reset` answered by something else than `OK ATR <application>`.
    #[error("reset answered {text:?}")]
    Registration {
        /// The reply.
        text: String,
    },
    /// A report whose payload does not decode.
    #[error("{what}: {error}")]
    Report {
        /// The command, for example `SetGuestInfo 10`.
        what: String,
        /// What is wrong with it.
        error: DecodeError,
    },
}

impl Violation {
    /// The names of all kinds.
    pub const KINDS: [&str; 24] = [
        "high-halves",
        "port",
        "magic",
        "kernel-only",
        "subcommand",
        "high-command",
        "protocol",
        "channel",
        "cookies",
        "message-too-long",
        "unannounced",
        "unfinished",
        "high-not-offered",
        "count",
        "padding",
        "memory",
        "reply-unread",
        "status-skipped",
        "not-receiving",
        "no-poll",
        "reply-due",
        "unasked-reply",
        "reply-form",
        "report",
    ];

    /// The name by which a scenario allows or expects it, one of [`Self::KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::HighHalves { .. } => "high-halves",
            Self::Port { .. } => "port",
            Self::Magic { .. } => "magic",
            Self::KernelOnly { .. } => "kernel-only",
            Self::Subcommand { .. } => "subcommand",
            Self::HighCommand { .. } => "high-command",
            Self::Protocol { .. } => "protocol",
            Self::Channel { .. } => "channel",
            Self::Cookies { .. } => "cookies",
            Self::MessageTooLong { .. } => "message-too-long",
            Self::Unannounced { .. } => "unannounced",
            Self::Unfinished { .. } => "unfinished",
            Self::HighNotOffered { .. } => "high-not-offered",
            Self::Count { .. } => "count",
            Self::Padding { .. } => "padding",
            Self::Memory { .. } => "memory",
            Self::ReplyUnread => "reply-unread",
            Self::StatusSkipped { .. } => "status-skipped",
            Self::NotReceiving { .. } | Self::StatusEarly { .. } | Self::Acknowledgement { .. } => {
                "not-receiving"
            }
            Self::NoPoll => "no-poll",
            Self::ReplyDue { .. } => "reply-due",
            Self::Unasked { .. } => "unasked-reply",
            Self::ReplyForm { .. } | Self::Registration { .. } => "reply-form",
            Self::Report { .. } => "report",
        }
    }
}
