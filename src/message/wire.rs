//! Numbers of the message layer and where they stand in the registers (guest_msg_def.h).

use std::fmt;

use crate::backdoor::{HIGH_BANDWIDTH_PORT, InRegisters, LOW_BANDWIDTH_PORT, MAGIC, OutRegisters, Registers};

/// ECX.lo of every step (backdoor_def.h, `BDOOR_CMD_MESSAGE`).
const MESSAGE: u32 = 0x1E;

/// EBX of every high-bandwidth transfer: status SUCCESS over command "message" (`BDOORHB_CMD_MESSAGE`).
const HIGH_BANDWIDTH_MESSAGE: u32 = 0x0001_0000;

/// In EBX of OPEN: the guest wants cookies (`GUESTMSG_FLAG_COOKIE`).
const COOKIE_FLAG: u32 = 0x8000_0000;

/// EDX.hi of an answer to RECVSIZE that announces a message: the host's step is SENDSIZE.
pub(super) const TYPE_SIZE: u16 = 1;

/// EDX.hi of an answer to RECVPAYLOAD: the host's step is SENDPAYLOAD.
pub(super) const TYPE_PAYLOAD: u16 = 2;

/// Who speaks first on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The guest asks.
    Rpci,
    /// The host asks.
    Tclo,
}

impl Protocol {
    /// The name's letters as a little-endian number (rpcvmx.h, rpcin.h).
    const fn magic(self) -> u32 {
        match self {
            Self::Rpci => u32::from_le_bytes(*b"RPCI"),
            Self::Tclo => u32::from_le_bytes(*b"TCLO"),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rpci => "RPCI",
            Self::Tclo => "TCLO",
        })
    }
}

/// A step of the message protocol, by its sub-command in ECX.hi (guest_msg_def.h, `MessageType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub enum Step {
    Open = 0,
    SendSize = 1,
    SendPayload = 2,
    RecvSize = 3,
    RecvPayload = 4,
    RecvStatus = 5,
    Close = 6,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "OPEN",
            Self::SendSize => "SENDSIZE",
            Self::SendPayload => "SENDPAYLOAD",
            Self::RecvSize => "RECVSIZE",
            Self::RecvPayload => "RECVPAYLOAD",
            Self::RecvStatus => "RECVSTATUS",
            Self::Close => "CLOSE",
        })
    }
}

/// Status flags, in ECX.hi after an exchange and in EBX.hi after a high-bandwidth transfer (`MESSAGE_STATUS_*`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(u16);

impl Status {
    /// The step worked.
    pub const SUCCESS: Self = Self(0x0001);
    /// The host has a message for this channel.
    pub const DORECV: Self = Self(0x0002);
    /// The host closed the channel.
    pub const CLOSED: Self = Self(0x0004);
    /// The host withdrew the message before it was fetched.
    pub const UNSENT: Self = Self(0x0008);
    /// A checkpoint cancelled the operation.
    pub const CPT: Self = Self(0x0010);
    /// An underlying device is powering off.
    pub const POWEROFF: Self = Self(0x0020);
    /// The host timed the channel out.
    pub const TIMEOUT: Self = Self(0x0040);
    /// The payload may go by the high-bandwidth port.
    pub const HB: Self = Self(0x0080);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::SUCCESS, "SUCCESS"),
        (Self::DORECV, "DORECV"),
        (Self::CLOSED, "CLOSED"),
        (Self::UNSENT, "UNSENT"),
        (Self::CPT, "CPT"),
        (Self::POWEROFF, "POWEROFF"),
        (Self::TIMEOUT, "TIMEOUT"),
        (Self::HB, "HB"),
    ];

    /// The status in the upper half of a register.
    pub(super) const fn of(register: u32) -> Self {
        Self(upper(register))
    }

    /// Whether every flag of `flags` is set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)?;
        let names = Self::NAMES.iter().filter(|(flag, _)| self.has(*flag));
        for (i, (_, name)) in names.enumerate() {
            write!(f, "{}{name}", if i == 0 { " " } else { "|" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({self})")
    }
}

/// What the host calls a channel. All of it is opaque; zeros are as good as any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub id: u16,
    pub cookie_high: u32,
    pub cookie_low: u32,
}

impl Name {
    /// The channel that OPEN's answer describes.
    pub(super) const fn of(answer: Registers, cookies: bool) -> Self {
        Self {
            id: upper(answer.edx),
            cookie_high: if cookies { answer.esi } else { 0 },
            cookie_low: if cookies { answer.edi } else { 0 },
        }
    }

    /// The registers of one step; all of them are loaded anew every time, for the host may change any.
    pub(super) const fn step(self, step: Step, argument: u32) -> Registers {
        Registers {
            eax: MAGIC,
            ebx: argument,
            ecx: command(step),
            edx: self.port(LOW_BANDWIDTH_PORT),
            esi: self.cookie_high,
            edi: self.cookie_low,
        }
    }

    /// The registers of a transfer to the host: RSI holds the address, so RBP takes the upper cookie.
    pub(super) const fn write(self) -> OutRegisters {
        OutRegisters {
            eax: MAGIC,
            ebx: HIGH_BANDWIDTH_MESSAGE,
            edx: self.port(HIGH_BANDWIDTH_PORT),
            edi: self.cookie_low,
            ebp: self.cookie_high,
        }
    }

    /// The registers of a transfer from the host: RDI holds the address, so RBP takes the lower cookie.
    pub(super) const fn read(self) -> InRegisters {
        InRegisters {
            eax: MAGIC,
            ebx: HIGH_BANDWIDTH_MESSAGE,
            edx: self.port(HIGH_BANDWIDTH_PORT),
            esi: self.cookie_high,
            ebp: self.cookie_low,
        }
    }

    const fn port(self, port: u16) -> u32 {
        (self.id as u32) << 16 | port as u32
    }
}

/// The registers of OPEN.
pub(super) const fn open(protocol: Protocol, cookies: bool) -> Registers {
    Registers {
        eax: MAGIC,
        ebx: protocol.magic() | if cookies { COOKIE_FLAG } else { 0 },
        ecx: command(Step::Open),
        edx: LOW_BANDWIDTH_PORT as u32,
        esi: 0,
        edi: 0,
    }
}

const fn command(step: Step) -> u32 {
    (step as u32) << 16 | MESSAGE
}

/// The upper half of a 32-bit register.
pub(super) const fn upper(register: u32) -> u16 {
    (register >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_their_magic_numbers() {
        assert_eq!(open(Protocol::Rpci, true).ebx, 0xC943_5052);
        assert_eq!(open(Protocol::Tclo, true).ebx, 0xCF4C_4354);
        assert_eq!(open(Protocol::Rpci, false).ebx, 0x4943_5052);
        assert_eq!(open(Protocol::Tclo, false).ebx, 0x4F4C_4354);
    }

    #[test]
    fn a_status_names_its_flags() {
        assert_eq!(Status::of(0x0083_1234).to_string(), "0x0083 SUCCESS|DORECV|HB");
        assert_eq!(Status::of(0).to_string(), "0x0000");
    }
}
