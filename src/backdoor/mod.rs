//! The VMware backdoor: register exchanges with the hypervisor on two magic I/O ports (backdoor_def.h).
//!
//! ```text
//!  detect ── VMware by its own word? ──> probe (a child process that may die) ──> Presence
//!                                                                                    |
//!                message::Channel ──Hypercall──> Port ──> x86_64 or aarch64 <────────┘
//! ```
//!
//! This folder holds `unsafe`. The port needs no privilege: on VMware the monitor takes the
//! fault that an unprivileged `IN` raises and emulates the access; everywhere else the same instruction raises SIGSEGV.
//! 64-bit Arm has no ports: there an instruction that a program may not execute stands for them, with the same registers
//! under other names. So a [`Port`] can only be made from a [`Presence`], and a [`Presence`] only comes from [`detect()`].

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "there is no machine to ask")
)]
mod detect;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod port;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod probe;
mod time;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod unsupported;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub use self::port::Port;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub use self::unsupported::Port;
pub use self::{
    detect::{Absence, Detection, Presence, Product, Refusal, detect, firmware},
    time::{HostTime, host_time},
};

#[cfg(target_arch = "aarch64")]
use self::aarch64 as machine;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use self::unsupported as machine;
#[cfg(target_arch = "x86_64")]
use self::x86_64 as machine;

/// In EAX of every exchange: "VMXh" (backdoor_def.h, `BDOOR_MAGIC`).
pub const MAGIC: u32 = 0x564D_5868;

/// The port of register exchanges (`BDOOR_PORT`).
pub const LOW_BANDWIDTH_PORT: u16 = 0x5658;

/// The port of byte-string transfers (`BDOORHB_PORT`).
pub const HIGH_BANDWIDTH_PORT: u16 = 0x5659;

/// The registers of one low-bandwidth exchange. Only the low 32 bits carry data, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the registers are called what they are")]
pub struct Registers {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
}

/// The registers of a high-bandwidth transfer to the host, beside count (RCX) and source address (RSI).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the registers are called what they are")]
pub struct OutRegisters {
    pub eax: u32,
    pub ebx: u32,
    pub edx: u32,
    pub edi: u32,
    pub ebp: u32,
}

/// The registers of a high-bandwidth transfer from the host, beside count (RCX) and destination address (RDI).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the registers are called what they are")]
pub struct InRegisters {
    pub eax: u32,
    pub ebx: u32,
    pub edx: u32,
    pub esi: u32,
    pub ebp: u32,
}

/// One exchange with the hypervisor. Implemented by [`Port`], and by scripted hosts in tests.
///
/// Every call returns at once; what comes back is the host's and may be anything.
pub trait Hypercall {
    /// `IN EAX, DX`: gives the registers as the host left them.
    fn exchange(&mut self, registers: Registers) -> Registers;

    /// `REP OUTSB`: the host reads `payload`, which must not be empty. Gives EBX.
    fn write(&mut self, registers: OutRegisters, payload: &[u8]) -> u32;

    /// `REP INSB`: the host fills `buffer`, which must not be empty, or part of it. Gives EBX.
    fn read(&mut self, registers: InRegisters, buffer: &mut [u8]) -> u32;
}
