//! The message layer: channels on which byte strings move in steps.
//!
//! ```text
//! guest to host   SENDSIZE -> (SENDPAYLOAD)* | HB out      -> delivered
//! host to guest   RECVSIZE -> (RECVPAYLOAD)* | HB in -> RECVSTATUS(1) -> consumed
//!                 any time before: RECVPAYLOAD(0) or RECVSTATUS(0)    -> aborted
//! ```
//!
//! Nothing in here knows what a message means. A step that breaks the order is a [`Violation`] and changes nothing.

use std::time::Duration;

use super::{
    backdoor::{MAX_GUEST_MESSAGE, Protocol, Step, status},
    violation::Violation,
};

/// EDX bits 31:16 of the answer to RECVSIZE: the number of SENDSIZE.
pub const KIND_SIZE: u16 = 1;
/// EDX bits 31:16 of the answer to RECVPAYLOAD: the number of SENDPAYLOAD.
pub const KIND_PAYLOAD: u16 = 2;

/// The two secrets that accompany every step of a channel opened with the cookie flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// ESI.
    pub high: u32,
    /// EDI.
    pub low: u32,
}

/// The answer to a step, before faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status flags.
    pub status: u16,
    /// EBX, where the step returns data.
    pub data: u32,
    /// EDX bits 31:16.
    pub kind: u16,
}

impl Answer {
    fn success() -> Self {
        Self {
            status: status::SUCCESS,
            ..Self::default()
        }
    }
}

/// What a step achieved.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// The message goes on.
    Going,
    /// A whole message from the guest arrived; empty for a TCLO poll.
    Delivered(Vec<u8>),
    /// The guest acknowledged the message that it read.
    Consumed,
    /// The guest refused the message that was offered to it.
    Aborted,
}

/// A message of the guest on its way.
#[derive(Debug)]
enum Sending {
    Idle,
    Announced { size: usize, bytes: Vec<u8>, high: bool },
}

/// How far the guest is with the message offered to it.
#[derive(Debug, PartialEq, Eq)]
enum Receiving {
    Idle,
    /// RECVSIZE told `size`; `offset` bytes are read.
    Announced {
        size: usize,
        offset: usize,
        high: bool,
    },
    /// All bytes are read, RECVSTATUS is due.
    Complete,
    /// A fault of the host cut it off: the guest may start again, abort or close.
    Cut,
}

/// A message for the guest.
#[derive(Debug)]
pub struct Outgoing {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// When it was made.
    pub made_at: Duration,
    /// The guest cannot see it before this time.
    pub not_before: Duration,
}

/// One open channel.
#[derive(Debug)]
pub struct Channel {
    /// Number of the channel.
    pub id: u16,
    /// What runs over it.
    pub protocol: Protocol,
    /// Secrets, unless the guest opened without the cookie flag.
    pub cookies: Option<Cookies>,
    /// Process that opened it.
    pub pid: i32,
    /// The message that the guest can fetch. It stays until it is consumed.
    pub outgoing: Option<Outgoing>,
    sending: Sending,
    receiving: Receiving,
    /// The next step of a message in flight is answered CPT.
    checkpoint: bool,
}

impl Channel {
    /// A channel that was opened just now.
    pub fn new(id: u16, protocol: Protocol, cookies: Option<Cookies>, pid: i32) -> Self {
        Self {
            id,
            protocol,
            cookies,
            pid,
            outgoing: None,
            sending: Sending::Idle,
            receiving: Receiving::Idle,
            checkpoint: false,
        }
    }

    /// Whether no message is between its first and last step.
    pub fn is_idle(&self) -> bool {
        matches!(self.sending, Sending::Idle) && matches!(self.receiving, Receiving::Idle | Receiving::Cut)
    }

    /// A checkpoint now: the message in flight, if there is one, has to start again. Tells whether there was one.
    pub fn checkpoint(&mut self) -> bool {
        self.checkpoint = !self.is_idle();
        self.checkpoint
    }

    /// Whether a checkpoint fell into the message in flight. Cuts it off.
    pub fn take_checkpoint(&mut self) -> bool {
        let checkpoint = std::mem::take(&mut self.checkpoint);
        if checkpoint {
            self.cut();
        }
        checkpoint
    }

    /// Cuts off the message in flight, as a step without SUCCESS does.
    pub fn cut(&mut self) {
        self.sending = Sending::Idle;
        if self.receiving != Receiving::Idle {
            self.receiving = Receiving::Cut;
        }
    }

    /// SENDSIZE: the guest announces a message of `size` bytes.
    pub fn send_size(&mut self, size: u32, high: bool) -> Result<(Answer, Progress), Violation> {
        match &self.receiving {
            Receiving::Idle | Receiving::Cut => {}
            Receiving::Announced { .. } | Receiving::Complete => {
                return Err(Violation::StatusSkipped { step: Step::SendSize });
            }
        }
        if let Sending::Announced { size, bytes, .. } = &self.sending {
            return Err(Violation::Unfinished {
                missing: size - bytes.len(),
            });
        }
        if self.protocol == Protocol::Rpci && self.outgoing.is_some() {
            return Err(Violation::ReplyUnread);
        }
        if size > MAX_GUEST_MESSAGE {
            return Err(Violation::MessageTooLong { size });
        }
        let Ok(size) = usize::try_from(size) else {
            return Err(Violation::MessageTooLong { size });
        };
        self.receiving = Receiving::Idle;
        let answer = Answer {
            status: status::SUCCESS | high_flag(high),
            ..Answer::default()
        };
        if size == 0 {
            return Ok((answer, Progress::Delivered(Vec::new())));
        }
        self.sending = Sending::Announced {
            size,
            bytes: Vec::with_capacity(size),
            high,
        };
        Ok((answer, Progress::Going))
    }

    /// SENDPAYLOAD: the next one to four bytes.
    pub fn send_payload(&mut self, word: u32) -> Result<(Answer, Progress), Violation> {
        let Sending::Announced { size, bytes, .. } = &mut self.sending else {
            return Err(Violation::Unannounced {
                step: Step::SendPayload,
            });
        };
        let raw = word.to_le_bytes();
        let (used, unused) = raw.split_at((*size - bytes.len()).min(raw.len()));
        if unused.iter().any(|byte| *byte != 0) {
            return Err(Violation::Padding { word });
        }
        bytes.extend_from_slice(used);
        if bytes.len() < *size {
            return Ok((Answer::success(), Progress::Going));
        }
        let bytes = std::mem::take(bytes);
        self.sending = Sending::Idle;
        Ok((Answer::success(), Progress::Delivered(bytes)))
    }

    /// How many bytes a high-bandwidth write of `count` bytes may move: exactly the announced message.
    pub fn high_out(&self, count: u64) -> Result<usize, Violation> {
        let step = Step::HighOut;
        match self.sending {
            Sending::Idle => Err(Violation::Unannounced { step }),
            Sending::Announced { high: false, .. } => Err(Violation::HighNotOffered { step }),
            Sending::Announced { size, ref bytes, .. } => {
                let left = size - bytes.len();
                if u64::try_from(left) == Ok(count) {
                    Ok(left)
                } else {
                    Err(Violation::Count { step, count, size })
                }
            }
        }
    }

    /// The bytes of a high-bandwidth write that [`Self::high_out`] allowed.
    pub fn sent_high(&mut self, payload: &[u8]) -> (Answer, Progress) {
        let mut message = match std::mem::replace(&mut self.sending, Sending::Idle) {
            Sending::Announced { bytes, .. } => bytes,
            Sending::Idle => Vec::new(),
        };
        message.extend_from_slice(payload);
        (Answer::success(), Progress::Delivered(message))
    }

    /// RECVSIZE: is there a message? `size` replaces the true size where a fault says so.
    pub fn recv_size(&mut self, now: Duration, high: bool, size: Option<u32>) -> Result<Answer, Violation> {
        if let Sending::Announced { size, bytes, .. } = &self.sending {
            return Err(Violation::Unfinished {
                missing: size - bytes.len(),
            });
        }
        if matches!(self.receiving, Receiving::Announced { .. } | Receiving::Complete) {
            return Err(Violation::StatusSkipped { step: Step::RecvSize });
        }
        let status = status::SUCCESS | high_flag(high);
        let Some(message) = self.outgoing.as_ref().filter(|message| message.not_before <= now) else {
            self.receiving = Receiving::Idle;
            return Ok(Answer {
                status,
                ..Answer::default()
            });
        };
        let true_size = u32::try_from(message.bytes.len()).unwrap_or(u32::MAX);
        let size = size.unwrap_or(true_size);
        self.receiving = match usize::try_from(size) {
            Ok(0) => Receiving::Complete,
            Ok(size) => Receiving::Announced {
                size,
                offset: 0,
                high,
            },
            Err(_) => Receiving::Cut,
        };
        Ok(Answer {
            status: status | status::DORECV,
            data: size,
            kind: KIND_SIZE,
        })
    }

    /// RECVPAYLOAD: `acknowledge` 1 asks for the next four bytes, 0 aborts.
    pub fn recv_payload(&mut self, acknowledge: u32) -> Result<(Answer, Progress), Violation> {
        if acknowledge == 0 {
            return self.abort(Step::RecvPayload);
        }
        if acknowledge != 1 {
            return Err(Violation::Acknowledgement {
                step: Step::RecvPayload,
                ebx: acknowledge,
            });
        }
        let Receiving::Announced { size, offset, .. } = &mut self.receiving else {
            return Err(Violation::NotReceiving {
                step: Step::RecvPayload,
            });
        };
        let mut word = [0; 4];
        let bytes = self
            .outgoing
            .as_ref()
            .map_or(&[][..], |message| message.bytes.as_slice());
        for (to, from) in word.iter_mut().zip(bytes.iter().skip(*offset)) {
            *to = *from;
        }
        *offset += 4;
        if *offset >= *size {
            self.receiving = Receiving::Complete;
        }
        let answer = Answer {
            data: u32::from_le_bytes(word),
            kind: KIND_PAYLOAD,
            ..Answer::success()
        };
        Ok((answer, Progress::Going))
    }

    /// The bytes for a high-bandwidth read of `count` bytes: exactly the message offered.
    pub fn high_in(&self, count: u64) -> Result<&[u8], Violation> {
        let step = Step::HighIn;
        match self.receiving {
            Receiving::Announced { high: false, .. } => Err(Violation::HighNotOffered { step }),
            Receiving::Announced { size, offset, .. } => {
                if u64::try_from(size) != Ok(count) || offset > 0 {
                    return Err(Violation::Count { step, count, size });
                }
                let bytes = self
                    .outgoing
                    .as_ref()
                    .map_or(&[][..], |message| message.bytes.as_slice());
                Ok(bytes.get(..size).unwrap_or(bytes))
            }
            _ => Err(Violation::NotReceiving { step }),
        }
    }

    /// The read that [`Self::high_in`] allowed is done.
    pub fn received_high(&mut self) -> (Answer, Progress) {
        self.receiving = Receiving::Complete;
        (Answer::success(), Progress::Going)
    }

    /// RECVSTATUS: 1 acknowledges the message and consumes it, 0 aborts.
    pub fn recv_status(&mut self, acknowledge: u32) -> Result<(Answer, Progress), Violation> {
        let step = Step::RecvStatus;
        match (acknowledge, &self.receiving) {
            (0, _) => self.abort(step),
            (1, Receiving::Complete) => {
                self.receiving = Receiving::Idle;
                Ok((Answer::success(), Progress::Consumed))
            }
            (1, Receiving::Announced { size, offset, .. }) => Err(Violation::StatusEarly {
                missing: size.saturating_sub(*offset),
            }),
            (1, _) => Err(Violation::NotReceiving { step }),
            (ebx, _) => Err(Violation::Acknowledgement { step, ebx }),
        }
    }

    fn abort(&mut self, step: Step) -> Result<(Answer, Progress), Violation> {
        if self.receiving == Receiving::Idle {
            return Err(Violation::NotReceiving { step });
        }
        self.receiving = Receiving::Idle;
        Ok((Answer::success(), Progress::Aborted))
    }
}

fn high_flag(high: bool) -> u16 {
    if high { status::HB } else { 0 }
}
