//! The seam between the tracer, which knows processes, and the simulated host, which knows the backdoor protocol.

use std::io;

/// The general registers that a backdoor exchange may read and write, 64 bits wide as the guest left them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the registers are called what they are")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
}

/// Which instruction the guest executed on one of the two VMware ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `IN EAX, DX` on port 0x5658.
    Low,
    /// `REP OUTSB` on port 0x5659: RCX bytes at RSI go to the host.
    HighOut,
    /// `REP INSB` on port 0x5659: the host writes RCX bytes at RDI.
    HighIn,
}

/// Memory of the guest process that executes the access.
pub trait GuestMemory {
    /// Fills `buffer` from guest address `address`, or fails as a whole.
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes `bytes` at guest address `address`, or fails as a whole.
    fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()>;
}

/// What became of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Emulated: the tracer stores the registers and steps over the instruction.
    Done,
    /// Not emulated: the guest gets the SIGSEGV that it would get off VMware.
    Fault,
}

/// The simulated host as the tracer sees it. Called on the tracer's thread, which must not be held up.
pub trait Device: Send {
    /// One backdoor exchange of guest process `pid`.
    fn access(
        &mut self,
        pid: i32,
        access: Access,
        registers: &mut Registers,
        memory: &dyn GuestMemory,
    ) -> Outcome;
}
