//! The numbers of the VMware backdoor: ports, commands, sub-commands, status flags.
//!
//! They are the ones of VMware's published headers `backdoor_def.h` and `guest_msg_def.h`.

/// EAX of every access: "VMXh" read big-endian.
pub const MAGIC: u32 = 0x564D_5868;
/// Port of the low-bandwidth instruction `IN EAX, DX`.
pub const LOW_PORT: u16 = 0x5658;
/// Port of the high-bandwidth instructions `REP OUTSB` and `REP INSB`.
pub const HIGH_PORT: u16 = 0x5659;
/// EBX of a high-bandwidth access: sub-command 0 (message) under the guest's only status, SUCCESS.
pub const HIGH_MESSAGE: u32 = 0x0001_0000;

/// Longest message that a host takes from its guest, in bytes (`GUESTMSG_MAX_IN_SIZE`).
pub const MAX_GUEST_MESSAGE: u32 = 65536;
/// Channels that all processes of a guest share.
pub const MAX_CHANNELS: usize = 128;
/// Set in EBX of OPEN by a guest that wants cookies.
pub const COOKIE_FLAG: u32 = 0x8000_0000;

/// Low-bandwidth commands (ECX bits 15:0).
pub mod command {
    /// Protocol version and product type.
    pub const GETVERSION: u16 = 10;
    /// Virtual hardware version.
    pub const GETHWVERSION: u16 = 17;
    /// Host time, 32 bits of seconds.
    pub const GETTIME: u16 = 23;
    /// The message layer.
    pub const MESSAGE: u16 = 30;
    /// TSC and APIC bus frequency.
    pub const GETHZ: u16 = 45;
    /// Host time, 64 bits of seconds.
    pub const GETTIMEFULL: u16 = 46;
    /// As GETTIMEFULL, with the interrupt lag apart.
    pub const GETTIMEFULL_WITH_LAG: u16 = 55;
    /// Commands that a host takes from the guest's kernel only.
    pub const KERNEL_ONLY: [u16; 25] = [
        2, 18, 28, 37, 48, 49, 50, 54, 64, 65, 69, 71, 73, 74, 75, 76, 77, 78, 79, 80, 85, 91, 92, 93, 103,
    ];
}

/// Status flags of the message layer (ECX bits 31:16 low-bandwidth, EBX bits 31:16 high-bandwidth).
pub mod status {
    /// The step worked.
    pub const SUCCESS: u16 = 0x01;
    /// The host has a message for this channel.
    pub const DORECV: u16 = 0x02;
    /// The host closed the channel.
    pub const CLOSED: u16 = 0x04;
    /// The host withdrew the message before it was fetched.
    pub const UNSENT: u16 = 0x08;
    /// A checkpoint fell into a message of several steps: start it again.
    pub const CPT: u16 = 0x10;
    /// An underlying device is powering off.
    pub const POWEROFF: u16 = 0x20;
    /// The host timed the channel out.
    pub const TIMEOUT: u16 = 0x40;
    /// The payload may use the high-bandwidth port.
    pub const HB: u16 = 0x80;

    /// Names of the flags as scenarios write them.
    pub const NAMES: [(&str, u16); 8] = [
        ("SUCCESS", SUCCESS),
        ("DORECV", DORECV),
        ("CLOSED", CLOSED),
        ("UNSENT", UNSENT),
        ("CPT", CPT),
        ("POWEROFF", POWEROFF),
        ("TIMEOUT", TIMEOUT),
        ("HB", HB),
    ];
}

/// The two protocols that run over channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The guest asks, the host answers.
    Rpci,
    /// The host asks, the guest answers and polls.
    Tclo,
}

impl Protocol {
    /// The protocol that a guest names in EBX of OPEN, without the cookie flag.
    pub fn from_magic(magic: u32) -> Option<Self> {
        match magic {
            0x4943_5052 => Some(Self::Rpci),
            0x4F4C_4354 => Some(Self::Tclo),
            _ => None,
        }
    }

    /// The name in transcripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rpci => "RPCI",
            Self::Tclo => "TCLO",
        }
    }
}

/// A step of the message layer: a sub-command of the low-bandwidth port or a payload on the high-bandwidth one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the steps are called what the protocol calls them")]
pub enum Step {
    Open,
    SendSize,
    SendPayload,
    RecvSize,
    RecvPayload,
    RecvStatus,
    Close,
    HighOut,
    HighIn,
}

impl Step {
    /// All steps, sub-commands first in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::SendSize,
        Self::SendPayload,
        Self::RecvSize,
        Self::RecvPayload,
        Self::RecvStatus,
        Self::Close,
        Self::HighOut,
        Self::HighIn,
    ];

    /// The step of a sub-command (ECX bits 31:16).
    pub fn from_subcommand(subcommand: u16) -> Option<Self> {
        Self::ALL.into_iter().take(7).nth(usize::from(subcommand))
    }

    /// The name in scenarios and summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::SendSize => "sendsize",
            Self::SendPayload => "sendpayload",
            Self::RecvSize => "recvsize",
            Self::RecvPayload => "recvpayload",
            Self::RecvStatus => "recvstatus",
            Self::Close => "close",
            Self::HighOut => "hbout",
            Self::HighIn => "hbin",
        }
    }
}

/// Bits 15:0.
pub fn low_half(value: u32) -> u16 {
    let [a, b, ..] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// Bits 31:16.
pub fn high_half(value: u32) -> u16 {
    let [.., c, d] = value.to_le_bytes();
    u16::from_le_bytes([c, d])
}

/// The 32 bits of a register that carry data.
pub fn low_word(register: u64) -> u32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
