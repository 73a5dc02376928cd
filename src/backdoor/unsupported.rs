//! Architectures whose form of the backdoor this build does not have: detection says so, and nobody gets a [`Port`].

#![forbid(unsafe_code)]

use std::marker::PhantomData;

use super::{Absence, Hypercall, InRegisters, OutRegisters, Presence, Registers, detect::Answer};

/// The port that does not answer: every exchange looks like a refusal.
pub struct Port {
    thread: PhantomData<*const ()>,
}

impl Port {
    /// Takes the proof that detection never gives here.
    pub fn new(presence: Presence) -> Self {
        let _ = presence;
        Self { thread: PhantomData }
    }
}

impl Hypercall for Port {
    fn exchange(&mut self, _: Registers) -> Registers {
        Registers::default()
    }

    fn write(&mut self, _: OutRegisters, _: &[u8]) -> u32 {
        0
    }

    fn read(&mut self, _: InRegisters, _: &mut [u8]) -> u32 {
        0
    }
}

pub(super) fn identity() -> Result<(), Absence> {
    Err(Absence::Architecture)
}

pub(super) fn probe() -> Answer {
    Answer::Impossible("no backdoor instruction is known for this architecture".into())
}
