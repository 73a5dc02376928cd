//! One channel: open, send, receive and close, as message.c of open-vm-tools has them.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use super::{
    ChannelError,
    wire::{self, Name, Protocol, Status, Step, TYPE_PAYLOAD, TYPE_SIZE, upper},
};
use crate::backdoor::Hypercall;

/// How often one operation starts again after a checkpoint. More of them in a row than a busy migration makes, so that
/// a host that answers so for ever is treated as a broken channel.
pub const MAX_CHECKPOINTS: u32 = 16;

/// How long the attempts after the first checkpoint may take together: a slow host that cancels a large message again and
/// again must not make the thread look hung.
pub const MAX_RESTARTS: Duration = Duration::from_secs(5);

/// What a receive buffer keeps between messages, bytes. A host that sends something large now and then does not hold
/// the memory for ever.
const BUFFER_KEEP: usize = 16 * 1024;

/// Argument of RECVPAYLOAD and RECVSTATUS: the previous step worked.
const WORKED: u32 = 1;

/// Argument of RECVPAYLOAD and RECVSTATUS: give the message up.
const ABORT: u32 = 0;

/// An open channel. The host holds its state; this is the name for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Channel {
    name: Name,
    limit: usize,
}

impl Channel {
    /// Opens a channel that accepts messages of at most `limit` bytes.
    ///
    /// Asks for cookies, and once more without them for hosts that predate them.
    pub fn open(port: &mut dyn Hypercall, protocol: Protocol, limit: usize) -> Result<Self, ChannelError> {
        let mut status = Status::of(0);
        for cookies in [true, false] {
            let answer = port.exchange(wire::open(protocol, cookies));
            status = Status::of(answer.ecx);
            if status.has(Status::SUCCESS) {
                let name = Name::of(answer, cookies);
                return Ok(Self { name, limit });
            }
        }
        Err(ChannelError::Refused { protocol, status })
    }

    /// Delivers one message. An empty one is how a TCLO channel is polled.
    pub fn send(&self, port: &mut dyn Hypercall, message: &[u8]) -> Result<(), ChannelError> {
        let length = u32::try_from(message.len()).map_err(|_| ChannelError::TooLong {
            length: message.len(),
        })?;
        let mut cancelled = Step::SendSize;
        let mut restarts = Restarts::default();
        for _ in 0..=MAX_CHECKPOINTS {
            match self.try_send(port, message, length)? {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(step) => cancelled = step,
            }
            if restarts.take_too_long(Instant::now()) {
                break;
            }
        }
        Err(self.checkpoints(cancelled))
    }

    /// Takes one message into `buffer`, replacing what it holds. `false` when the host has none.
    ///
    /// Memory is taken only after the announced length was compared with the channel's limit.
    pub fn receive(&self, port: &mut dyn Hypercall, buffer: &mut Vec<u8>) -> Result<bool, ChannelError> {
        buffer.clear();
        buffer.shrink_to(BUFFER_KEEP);
        let mut cancelled = Step::RecvSize;
        let mut restarts = Restarts::default();
        for _ in 0..=MAX_CHECKPOINTS {
            match self.try_receive(port, buffer)? {
                ControlFlow::Break(received) => return Ok(received),
                ControlFlow::Continue(step) => cancelled = step,
            }
            if restarts.take_too_long(Instant::now()) {
                break;
            }
        }
        buffer.clear();
        Err(self.checkpoints(cancelled))
    }

    /// Whether the host has a message on this channel. Consumes nothing.
    pub fn has_message(&self, port: &mut dyn Hypercall) -> bool {
        let answer = port.exchange(self.name.step(Step::RecvSize, 0));
        let status = Status::of(answer.ecx);
        status.has(Status::SUCCESS) && status.has(Status::DORECV)
    }

    /// Gives the channel back to the host, whatever it answers. A virtual machine has 128 of them.
    pub fn close(self, port: &mut dyn Hypercall) {
        port.exchange(self.name.step(Step::Close, 0));
    }

    /// One attempt to send; continues with the step that a checkpoint cancelled.
    fn try_send(
        &self,
        port: &mut dyn Hypercall,
        message: &[u8],
        length: u32,
    ) -> Result<ControlFlow<(), Step>, ChannelError> {
        let answer = port.exchange(self.name.step(Step::SendSize, length));
        let status = Status::of(answer.ecx);
        if !status.has(Status::SUCCESS) {
            return Err(self.dead(Step::SendSize, status));
        }
        if message.is_empty() {
            return Ok(ControlFlow::Break(()));
        }
        if status.has(Status::HB) {
            let status = Status::of(port.write(self.name.write(), message));
            return self.payload_sent(status);
        }
        for word in message.chunks(4) {
            let mut bytes = [0; 4];
            for (to, from) in bytes.iter_mut().zip(word) {
                *to = *from;
            }
            let answer = port.exchange(self.name.step(Step::SendPayload, u32::from_le_bytes(bytes)));
            let status = Status::of(answer.ecx);
            if !status.has(Status::SUCCESS) {
                return self.payload_sent(status);
            }
        }
        Ok(ControlFlow::Break(()))
    }

    fn payload_sent(&self, status: Status) -> Result<ControlFlow<(), Step>, ChannelError> {
        if status.has(Status::SUCCESS) {
            Ok(ControlFlow::Break(()))
        } else if status.has(Status::CPT) {
            Ok(ControlFlow::Continue(Step::SendPayload))
        } else {
            Err(self.dead(Step::SendPayload, status))
        }
    }

    /// One attempt to receive; continues with the step that a checkpoint cancelled.
    fn try_receive(
        &self,
        port: &mut dyn Hypercall,
        buffer: &mut Vec<u8>,
    ) -> Result<ControlFlow<bool, Step>, ChannelError> {
        buffer.clear();
        let answer = port.exchange(self.name.step(Step::RecvSize, 0));
        let status = Status::of(answer.ecx);
        if !status.has(Status::SUCCESS) {
            return Err(self.dead(Step::RecvSize, status));
        }
        if !status.has(Status::DORECV) {
            return Ok(ControlFlow::Break(false));
        }
        let announced = answer.ebx;
        let kind = upper(answer.edx);
        if kind != TYPE_SIZE {
            self.abort(port, announced == 0);
            return Err(self.wrong_type(Step::RecvSize, kind));
        }
        let Some(length) = usize::try_from(announced)
            .ok()
            .filter(|length| *length <= self.limit)
        else {
            self.abort(port, false);
            return Err(ChannelError::TooLarge {
                channel: self.name.id,
                announced,
                limit: self.limit,
            });
        };
        if buffer.try_reserve_exact(length).is_err() {
            self.abort(port, length == 0);
            return Err(ChannelError::NoMemory {
                channel: self.name.id,
                announced,
            });
        }
        // Zeros where the host writes less than it announced, and every page is there before the transfer.
        buffer.resize(length, 0);
        let outcome = if status.has(Status::HB) {
            self.fetch_at_once(port, buffer)?
        } else {
            self.fetch_by_words(port, buffer)?
        };
        if let ControlFlow::Continue(step) = outcome {
            return Ok(ControlFlow::Continue(step));
        }
        let answer = port.exchange(self.name.step(Step::RecvStatus, WORKED));
        let status = Status::of(answer.ecx);
        if status.has(Status::SUCCESS) {
            return Ok(ControlFlow::Break(true));
        }
        // Not acknowledged, so not ours: the host may hand the message out again.
        buffer.clear();
        self.not_received(port, Step::RecvStatus, status, true)
            .map(ControlFlow::Continue)
    }

    fn fetch_at_once(
        &self,
        port: &mut dyn Hypercall,
        buffer: &mut [u8],
    ) -> Result<ControlFlow<(), Step>, ChannelError> {
        if buffer.is_empty() {
            return Ok(ControlFlow::Break(()));
        }
        let status = Status::of(port.read(self.name.read(), buffer));
        if status.has(Status::SUCCESS) {
            return Ok(ControlFlow::Break(()));
        }
        self.not_received(port, Step::RecvPayload, status, false)
            .map(ControlFlow::Continue)
    }

    fn fetch_by_words(
        &self,
        port: &mut dyn Hypercall,
        buffer: &mut [u8],
    ) -> Result<ControlFlow<(), Step>, ChannelError> {
        for word in buffer.chunks_mut(4) {
            let answer = port.exchange(self.name.step(Step::RecvPayload, WORKED));
            let status = Status::of(answer.ecx);
            if !status.has(Status::SUCCESS) {
                return self
                    .not_received(port, Step::RecvPayload, status, false)
                    .map(ControlFlow::Continue);
            }
            let kind = upper(answer.edx);
            if kind != TYPE_PAYLOAD {
                self.abort(port, false);
                return Err(self.wrong_type(Step::RecvPayload, kind));
            }
            for (to, from) in word.iter_mut().zip(answer.ebx.to_le_bytes()) {
                *to = from;
            }
        }
        Ok(ControlFlow::Break(()))
    }

    /// A step of a reception failed: start again after a checkpoint, else give the message up.
    fn not_received(
        &self,
        port: &mut dyn Hypercall,
        step: Step,
        status: Status,
        complete: bool,
    ) -> Result<Step, ChannelError> {
        if status.has(Status::CPT) {
            return Ok(step);
        }
        self.abort(port, complete);
        Err(self.dead(step, status))
    }

    /// Tells the host that the message is not wanted: by the status step when its payload is `complete`, else by the
    /// payload step. What the host answers does not matter, the channel is closed next.
    fn abort(&self, port: &mut dyn Hypercall, complete: bool) {
        let step = if complete {
            Step::RecvStatus
        } else {
            Step::RecvPayload
        };
        port.exchange(self.name.step(step, ABORT));
    }

    const fn dead(&self, step: Step, status: Status) -> ChannelError {
        ChannelError::Dead {
            channel: self.name.id,
            step,
            status,
        }
    }

    const fn wrong_type(&self, step: Step, found: u16) -> ChannelError {
        ChannelError::Type {
            channel: self.name.id,
            step,
            found,
        }
    }

    const fn checkpoints(&self, step: Step) -> ChannelError {
        ChannelError::Checkpoints {
            channel: self.name.id,
            step,
        }
    }
}

/// The attempts of one operation after its first checkpoint. The stun of that checkpoint, which may be long, is no part of
/// their time.
#[derive(Debug, Default)]
struct Restarts {
    begin: Option<Instant>,
}

impl Restarts {
    /// An attempt was cancelled at `now`. Whether another one is too much.
    fn take_too_long(&mut self, now: Instant) -> bool {
        let begin = *self.begin.get_or_insert(now);
        now.saturating_duration_since(begin) > MAX_RESTARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_07_restarts_have_five_seconds() {
        let mut restarts = Restarts::default();
        let first = Instant::now();
        assert!(!restarts.take_too_long(first));
        assert!(!restarts.take_too_long(first + MAX_RESTARTS));
        assert!(restarts.take_too_long(first + MAX_RESTARTS + Duration::from_millis(1)));
    }
}
