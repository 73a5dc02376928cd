//! The port of a guest that VMware answers: what is the same on every processor.

#![expect(unsafe_code, reason = "calls the instructions, and touches pages")]

use std::{marker::PhantomData, ptr};

use super::{Hypercall, InRegisters, OutRegisters, Presence, Registers, machine};

/// Step of [`touch`], bytes: the smallest page of the supported architectures.
const PAGE: usize = 4096;

/// The port of a VMware guest.
///
/// Stays on the thread that made it: a channel's messages are sequences of exchanges that must not interleave.
pub struct Port {
    thread: PhantomData<*const ()>,
}

impl Port {
    /// Takes the proof that the instructions are answered here.
    pub fn new(presence: Presence) -> Self {
        let _ = presence;
        Self { thread: PhantomData }
    }
}

impl Hypercall for Port {
    fn exchange(&mut self, registers: Registers) -> Registers {
        // SAFETY: `Port` exists, so detection saw the host answer this very instruction.
        unsafe { machine::exchange(registers) }
    }

    fn write(&mut self, registers: OutRegisters, payload: &[u8]) -> u32 {
        if payload.is_empty() {
            return 0;
        }
        touch(payload);
        // SAFETY: `Port` exists, so the host answers.
        unsafe { machine::write(registers, payload) }
    }

    fn read(&mut self, registers: InRegisters, buffer: &mut [u8]) -> u32 {
        if buffer.is_empty() {
            return 0;
        }
        touch_writable(buffer);
        // SAFETY: `Port` exists, so the host answers.
        unsafe { machine::read(registers, buffer) }
    }
}

/// Makes the kernel map every page of `payload`, so that no page fault interrupts the transfer.
fn touch(payload: &[u8]) {
    for page in payload.chunks(PAGE) {
        if let (Some(first), Some(last)) = (page.first(), page.last()) {
            // SAFETY: both are references into the slice.
            unsafe {
                ptr::read_volatile(first);
                ptr::read_volatile(last);
            }
        }
    }
}

/// The same for pages that are going to be written.
fn touch_writable(buffer: &mut [u8]) {
    for page in buffer.chunks_mut(PAGE) {
        for end in [0, page.len().saturating_sub(1)] {
            if let Some(byte) = page.get_mut(end) {
                // SAFETY: `byte` is a valid, exclusive reference; its value is written back unchanged.
                unsafe { ptr::write_volatile(byte, ptr::read_volatile(byte)) }
            }
        }
    }
}

/// The half of a register that carries data.
pub(super) const fn low_half(register: u64) -> u32 {
    (register & 0xFFFF_FFFF) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_15_outputs_are_cut_to_32_bits() {
        assert_eq!(low_half(0xDEAD_BEEF_0001_0000), 0x0001_0000);
        assert_eq!(low_half(u64::MAX), u32::MAX);
    }

    #[test]
    fn touching_changes_nothing() {
        let mut buffer: Vec<u8> = (0..3 * PAGE + 7)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect();
        let before = buffer.clone();
        touch(&buffer);
        touch_writable(&mut buffer);
        assert_eq!(buffer, before);
    }
}
