//! Steps of the message layer: from registers to a channel and back, with faults in between.

use std::time::Duration;

use super::{Host, TcloOwner, upper};
use crate::vmx::{
    backdoor::{COOKIE_FLAG, HIGH_MESSAGE, Protocol, Step, low_word, status},
    device::{Access, GuestMemory, Outcome, Registers},
    fault::Effect,
    message::{Answer, Cookies, Outgoing, Progress},
    tclo::{Console, Origin},
    transcript::{Event, Kind},
    violation::Violation,
};

/// What fills registers that a scrambling host does not define.
const GARBAGE: u64 = 0xDEAD_BEEF_0BAD_F00D;
/// The same in the half that carries no data.
const UPPER_GARBAGE: u64 = 0xDEAD_BEEF_0000_0000;

/// A step on an existing channel.
pub(super) struct Call<'a> {
    pub(super) now: Duration,
    pub(super) pid: i32,
    step: Step,
    pub(super) id: u16,
    pub(super) cookies: Cookies,
    /// EBX of a low-bandwidth step.
    argument: u32,
    /// RCX and the buffer's address of a high-bandwidth step.
    count: u64,
    address: u64,
    memory: Option<&'a dyn GuestMemory>,
}

/// What goes back to the guest.
struct Reply {
    answer: Answer,
    scramble: bool,
}

impl Host {
    /// Low-bandwidth command MESSAGE.
    pub(super) fn message(&mut self, now: Duration, pid: i32, registers: &mut Registers) -> Outcome {
        let subcommand = upper(registers.rcx);
        let Some(step) = Step::from_subcommand(subcommand) else {
            self.violate(now, pid, None, &Violation::Subcommand { subcommand });
            registers.rcx = 0;
            return Outcome::Done;
        };
        *self.counters.steps.entry(step.name()).or_default() += 1;
        let argument = low_word(registers.rbx);
        if step == Step::Open {
            return self.open(now, pid, argument, registers);
        }
        let reply = self.step(&Call {
            now,
            pid,
            step,
            id: upper(registers.rdx),
            cookies: Cookies {
                high: low_word(registers.rsi),
                low: low_word(registers.rdi),
            },
            argument,
            count: 0,
            address: 0,
            memory: None,
        });
        let Some(Reply { answer, scramble }) = reply else {
            return Outcome::Fault;
        };
        registers.rcx = u64::from(answer.status) << 16;
        registers.rdx = u64::from(answer.kind) << 16;
        if matches!(step, Step::RecvSize | Step::RecvPayload) {
            registers.rbx = answer.data.into();
        }
        if scramble {
            registers.rax = GARBAGE;
            registers.rbx |= UPPER_GARBAGE;
            registers.rcx |= UPPER_GARBAGE;
            registers.rdx |= UPPER_GARBAGE;
            (registers.rsi, registers.rdi) = (GARBAGE, !GARBAGE);
        }
        Outcome::Done
    }

    /// `REP OUTSB` and `REP INSB`.
    pub(super) fn high_bandwidth(
        &mut self,
        now: Duration,
        pid: i32,
        access: Access,
        registers: &mut Registers,
        memory: &dyn GuestMemory,
    ) -> Outcome {
        let step = if access == Access::HighOut {
            Step::HighOut
        } else {
            Step::HighIn
        };
        *self.counters.steps.entry(step.name()).or_default() += 1;
        let ebx = low_word(registers.rbx);
        if ebx != HIGH_MESSAGE {
            self.violate(now, pid, None, &Violation::HighCommand { ebx });
            registers.rbx = 0;
            return Outcome::Done;
        }
        // The register that is not needed for the buffer keeps its cookie, RBP carries the other one.
        let (cookies, address) = match step {
            Step::HighOut => (
                Cookies {
                    high: low_word(registers.rbp),
                    low: low_word(registers.rdi),
                },
                registers.rsi,
            ),
            _ => (
                Cookies {
                    high: low_word(registers.rsi),
                    low: low_word(registers.rbp),
                },
                registers.rdi,
            ),
        };
        let reply = self.step(&Call {
            now,
            pid,
            step,
            id: upper(registers.rdx),
            cookies,
            argument: 0,
            count: registers.rcx,
            address,
            memory: Some(memory),
        });
        let Some(Reply { answer, scramble }) = reply else {
            return Outcome::Fault;
        };
        registers.rbx = u64::from(answer.status) << 16;
        if scramble {
            registers.rax = GARBAGE;
            registers.rbx |= UPPER_GARBAGE;
            registers.rdx = GARBAGE;
            registers.rbp = GARBAGE;
        }
        Outcome::Done
    }

    fn open(&mut self, now: Duration, pid: i32, argument: u32, registers: &mut Registers) -> Outcome {
        let magic = argument & !COOKIE_FLAG;
        let wants_cookies = argument & COOKIE_FLAG != 0;
        let protocol = Protocol::from_magic(magic);
        let effects = self.strike(now, pid, Step::Open, protocol, None);
        registers.rcx = 0;
        if effects.contains(&Effect::Segv) {
            return Outcome::Fault;
        }
        let forced = forced_status(&effects);
        let Some(protocol) = protocol else {
            self.violate(now, pid, None, &Violation::Protocol { magic });
            self.counters.open_failures += 1;
            return Outcome::Done;
        };
        // The checkpoint falls into this OPEN: what was open is gone, and it is refused.
        if effects.contains(&Effect::LoseAll) {
            self.lose(now, |_| true);
            self.counters.open_failures += 1;
            registers.rcx = u64::from(forced.unwrap_or(status::CLOSED)) << 16;
            return Outcome::Done;
        }
        // A host that does not know the flag takes the word for a protocol that it does not know.
        let refused = wants_cookies && !self.config.cookies;
        if let Some(forced) = forced.filter(|status| status & status::SUCCESS == 0) {
            self.counters.open_failures += 1;
            registers.rcx = u64::from(forced) << 16;
            return Outcome::Done;
        }
        let rivals = self.rivals(protocol, pid);
        let refused = refused || (self.config.tclo_owner == TcloOwner::First && !rivals.is_empty());
        if !refused && self.config.tclo_owner == TcloOwner::Newest {
            self.lose(now, |id| rivals.contains(&id));
        }
        let channel = if refused {
            None
        } else {
            self.channels.open(protocol, wants_cookies, pid)
        };
        let Some(channel) = channel else {
            self.counters.open_failures += 1;
            return Outcome::Done;
        };
        for effect in &effects {
            match effect {
                Effect::Id(id) => channel.id = *id,
                Effect::Cookies(high, low) => {
                    channel.cookies = Some(Cookies {
                        high: *high,
                        low: *low,
                    })
                }
                _ => {}
            }
        }
        let (id, cookies) = (channel.id, channel.cookies);
        registers.rcx = u64::from(forced.unwrap_or(status::SUCCESS)) << 16;
        registers.rdx = u64::from(id) << 16;
        if let Some(cookies) = cookies {
            registers.rsi = cookies.high.into();
            registers.rdi = cookies.low.into();
        }
        if effects.contains(&Effect::Scramble) {
            registers.rax = GARBAGE;
            registers.rbx = GARBAGE;
            for register in [
                &mut registers.rcx,
                &mut registers.rdx,
                &mut registers.rsi,
                &mut registers.rdi,
            ] {
                *register = low_word(*register) as u64 | UPPER_GARBAGE;
            }
        }
        let event = Event {
            pid: Some(pid),
            channel: Some(id),
            protocol: Some(protocol.name()),
            detail: Some(serde_json::json!({ "cookie": cookies.is_some() })),
            ..Event::new(Kind::Open)
        };
        self.record(now, event);
        if protocol == Protocol::Tclo {
            self.consoles.push(Console::new(id));
            self.ask(now, id, Origin::Reset, b"reset");
        }
        Outcome::Done
    }

    /// The TCLO channels of other processes than `pid`, when it asks for one.
    fn rivals(&self, protocol: Protocol, pid: i32) -> Vec<u16> {
        let others = self.channels.iter().filter(|channel| {
            protocol == Protocol::Tclo && channel.protocol == protocol && channel.pid != pid
        });
        others.map(|channel| channel.id).collect()
    }

    fn strike(
        &mut self,
        now: Duration,
        pid: i32,
        step: Step,
        protocol: Option<Protocol>,
        channel: Option<u16>,
    ) -> Vec<Effect> {
        let effects = self.faults.strike(step, protocol);
        for effect in &effects {
            if let Effect::Stall(milliseconds) = effect {
                self.stall += milliseconds;
            }
        }
        if !effects.is_empty() {
            let event = Event {
                pid: Some(pid),
                channel,
                protocol: protocol.map(Protocol::name),
                text: Some(format!("{}: {effects:?}", step.name())),
                ..Event::new(Kind::Fault)
            };
            self.record(now, event);
        }
        effects
    }

    /// One step on a channel; `None` if the guest gets a fault instead.
    fn step(&mut self, call: &Call<'_>) -> Option<Reply> {
        let refused = |status| {
            Some(Reply {
                answer: Answer {
                    status,
                    ..Answer::default()
                },
                scramble: false,
            })
        };
        let protocol = match self.channels.find(call.step, call.id, call.cookies) {
            Ok(Some(channel)) => channel.protocol,
            Ok(None) => {
                if call.step == Step::Close {
                    self.channels.close(call.id, call.cookies);
                }
                return refused(status::CLOSED);
            }
            Err(violation) => {
                self.violate(call.now, call.pid, Some(call.id), &violation);
                return refused(0);
            }
        };
        let effects = self.strike(call.now, call.pid, call.step, Some(protocol), Some(call.id));
        if effects.contains(&Effect::Segv) {
            return None;
        }
        let (lose, lose_all) = (
            effects.contains(&Effect::Lose),
            effects.contains(&Effect::LoseAll),
        );
        let forced = forced_status(&effects);
        if lose || lose_all {
            self.lose(call.now, |channel| lose_all || channel == call.id);
            return refused(forced.unwrap_or(status::CLOSED));
        }
        let channel = self.channels.get(call.id)?;
        if let Some(forced) = forced.filter(|status| status & status::SUCCESS == 0) {
            channel.cut();
            if forced & status::CLOSED != 0 {
                self.lose(call.now, |channel| channel == call.id);
            }
            return refused(forced);
        }
        if call.step != Step::Close && channel.take_checkpoint() {
            return refused(status::CPT);
        }
        let scramble = effects.contains(&Effect::Scramble);
        match self.carry_out(call, protocol, &effects) {
            Ok(mut answer) => {
                for effect in &effects {
                    match effect {
                        Effect::Kind(kind) => answer.kind = *kind,
                        Effect::Corrupt => answer.data = !answer.data,
                        Effect::Status(status) => answer.status = *status,
                        _ => {}
                    }
                }
                Some(Reply { answer, scramble })
            }
            Err(violation) => {
                self.violate(call.now, call.pid, Some(call.id), &violation);
                refused(0)
            }
        }
    }

    fn carry_out(
        &mut self,
        call: &Call<'_>,
        protocol: Protocol,
        effects: &[Effect],
    ) -> Result<Answer, Violation> {
        let missing = || Violation::Channel {
            step: call.step,
            id: call.id,
        };
        let high = self.config.high_bandwidth && !effects.contains(&Effect::NoHigh);
        let via = if call.memory.is_some() { "hb" } else { "lb" };
        let console = self
            .consoles
            .iter_mut()
            .find(|console| console.channel == call.id);
        let channel = self.channels.get(call.id).ok_or_else(missing)?;
        let (answer, progress) = match call.step {
            Step::Open | Step::Close => {
                self.close(call);
                return Ok(Answer {
                    status: status::SUCCESS,
                    ..Answer::default()
                });
            }
            Step::SendSize => {
                if let Some(console) = &console {
                    console.check_send(call.argument)?;
                }
                channel.send_size(call.argument, high)?
            }
            Step::SendPayload => channel.send_payload(call.argument)?,
            Step::HighOut => {
                let mut buffer = vec![0; channel.high_out(call.count)?];
                call.copy(|memory| memory.read(call.address, &mut buffer))?;
                channel.sent_high(&buffer)
            }
            Step::RecvSize => {
                let size = effects.iter().find_map(|effect| match effect {
                    Effect::Size(size) => Some(*size),
                    _ => None,
                });
                let offered = match &console {
                    Some(console) => console.offer()?.map(|request| request.bytes.clone()),
                    None => None,
                };
                if protocol == Protocol::Tclo {
                    channel.outgoing = offered.map(|bytes| Outgoing {
                        bytes,
                        made_at: call.now,
                        not_before: call.now,
                    });
                }
                let answer = channel.recv_size(call.now, high, size)?;
                if answer.status & status::DORECV == 0
                    && let Some(console) = console
                {
                    console.nothing_offered();
                }
                (answer, Progress::Going)
            }
            Step::RecvPayload => channel.recv_payload(call.argument)?,
            Step::HighIn => {
                let bytes = channel.high_in(call.count)?;
                let short = effects.iter().find_map(|effect| match effect {
                    Effect::Short(length) => bytes.get(..*length),
                    _ => None,
                });
                let bytes = short.unwrap_or(bytes);
                if effects.contains(&Effect::Corrupt) {
                    let corrupt: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
                    call.copy(|memory| memory.write(call.address, &corrupt))?;
                } else {
                    call.copy(|memory| memory.write(call.address, bytes))?;
                }
                channel.received_high()
            }
            Step::RecvStatus => channel.recv_status(call.argument)?,
        };
        match progress {
            Progress::Going => {}
            Progress::Delivered(bytes) => self.delivered(call, protocol, bytes, via, effects)?,
            Progress::Consumed => self.consumed(call, protocol),
            Progress::Aborted => self.aborted(call, protocol),
        }
        Ok(answer)
    }
}

impl Call<'_> {
    fn copy(&self, copy: impl FnOnce(&dyn GuestMemory) -> std::io::Result<()>) -> Result<(), Violation> {
        let error = |reason: String| Violation::Memory {
            step: self.step,
            address: self.address,
            reason,
        };
        let memory = self.memory.ok_or_else(|| error("no memory".to_owned()))?;
        copy(memory).map_err(|reason| error(reason.to_string()))
    }
}

fn forced_status(effects: &[Effect]) -> Option<u16> {
    effects.iter().find_map(|effect| match effect {
        Effect::Status(status) => Some(*status),
        _ => None,
    })
}
