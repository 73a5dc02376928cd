//! Memory of a guest process, through `process_vm_readv` and `process_vm_writev`.

use std::io::{self, IoSlice, IoSliceMut};

use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

use super::device::GuestMemory;

/// Longest C string read from a guest: `PATH_MAX`.
const MAX_STRING: usize = 4096;
/// Most strings read of an argument vector; what a guarded program is told does not need more.
const MAX_STRINGS: usize = 64;
/// A string is read in pieces that cross no page, since the next page need not be there.
const PAGE: u64 = 4096;

/// The memory of the process that thread `pid` belongs to. Needs the right to trace it.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pid: Pid,
}

impl Memory {
    /// Memory of the process of thread `pid`.
    #[must_use]
    pub fn new(pid: Pid) -> Self {
        Self { pid }
    }

    /// The bytes at `address` up to a zero byte, which is left out; cut off at 4096 bytes.
    ///
    /// # Errors
    /// When a page of it cannot be read.
    pub fn string(&self, address: u64) -> io::Result<Vec<u8>> {
        let mut string = Vec::new();
        let mut at = address;
        while string.len() < MAX_STRING {
            let piece = usize::try_from(PAGE - at % PAGE).unwrap_or(MAX_STRING).min(256);
            let mut bytes = vec![0; piece];
            self.read(at, &mut bytes)?;
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                string.extend(bytes.iter().take(end));
                return Ok(string);
            }
            string.extend_from_slice(&bytes);
            at = at.wrapping_add(piece as u64);
        }
        string.truncate(MAX_STRING);
        Ok(string)
    }

    /// The strings that the zero-terminated vector of pointers at `address` names; at most 64 of them.
    ///
    /// # Errors
    /// When the vector or a string cannot be read.
    pub fn strings(&self, address: u64) -> io::Result<Vec<Vec<u8>>> {
        let mut strings = Vec::new();
        if address == 0 {
            return Ok(strings);
        }
        for index in 0..MAX_STRINGS as u64 {
            let pointer = self.word(address.wrapping_add(index * 8))?;
            if pointer == 0 {
                break;
            }
            strings.push(self.string(pointer)?);
        }
        Ok(strings)
    }

    /// The 64-bit word at `address`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn word(&self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// As many of the bytes at `address` as can be read, at most `length`.
    #[must_use]
    pub fn readable(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        if self.read(address, &mut bytes).is_ok() {
            return bytes;
        }
        let in_page = usize::try_from(PAGE - address % PAGE).unwrap_or(0);
        bytes.truncate(in_page.min(length));
        if self.read(address, &mut bytes).is_err() {
            bytes.clear();
        }
        bytes
    }
}

/// One transfer moved `moved` of `wanted` bytes: the rest was not mapped.
fn whole(moved: usize, wanted: usize, address: u64) -> io::Result<()> {
    if moved == wanted {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("{moved} of {wanted} bytes at {address:#x}"),
    ))
}

impl GuestMemory for Memory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let (base, len) = (guest_address(address)?, buffer.len());
        let moved = process_vm_readv(
            self.pid,
            &mut [IoSliceMut::new(buffer)],
            &[RemoteIoVec { base, len }],
        )?;
        whole(moved, len, address)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (base, len) = (guest_address(address)?, bytes.len());
        let moved = process_vm_writev(self.pid, &[IoSlice::new(bytes)], &[RemoteIoVec { base, len }])?;
        whole(moved, len, address)
    }
}

fn guest_address(address: u64) -> io::Result<usize> {
    usize::try_from(address).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Memory {
        Memory::new(Pid::this())
    }

    #[test]
    fn strings_end_at_the_zero_byte_and_cross_pages() {
        let mut page = vec![b'x'; 3 * 4096];
        page[3000] = 0;
        let address = page.as_ptr() as u64;
        assert_eq!(own().string(address).unwrap(), vec![b'x'; 3000]);
        assert_eq!(own().string(address + 3000).unwrap(), b"");
        assert_eq!(own().string(address + 3001).unwrap().len(), MAX_STRING, "cut off");
    }

    #[test]
    fn vectors_end_at_the_null_pointer() {
        let words = [c"one".as_ptr() as u64, c"two".as_ptr() as u64, 0, 1];
        assert_eq!(own().strings(words.as_ptr() as u64).unwrap(), [b"one", b"two"]);
        assert_eq!(own().strings(0).unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_is_not_mapped_is_an_error() {
        assert!(own().read(16, &mut [0; 4]).is_err());
        assert!(own().write(16, &[0; 4]).is_err());
        assert!(own().string(16).is_err());
        assert!(own().readable(16, 15).is_empty());
        assert!(own().read(16, &mut []).is_ok());
    }
}
