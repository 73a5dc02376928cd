//! A bounds-checked reader of report payloads.

use super::DecodeError;

/// Reads a payload from its front.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte.
    pub fn new(payload: &'a [u8]) -> Self {
        Self {
            rest: payload,
            offset: 0,
        }
    }

    /// Offset of the next byte.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether everything is read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Short {
            offset: self.offset,
            needed: length,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        self.offset += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// XDR's `unsigned`: 32 bits, big-endian.
    pub fn u32_be(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// 32 bits, little-endian.
    pub fn u32_le(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// 64 bits, little-endian.
    pub fn u64_le(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// 16 bits, little-endian.
    pub fn u16_le(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// XDR's boolean, also the presence of an optional item.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u32_be()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Value { what, value }),
        }
    }

    /// A count or length of at most `limit`.
    pub fn count(&mut self, what: &'static str, limit: u32) -> Result<usize, DecodeError> {
        let value = self.u32_be()?;
        usize::try_from(value)
            .ok()
            .filter(|_| value <= limit)
            .ok_or(DecodeError::Limit { what, value, limit })
    }

    /// XDR's `opaque<limit>`: length, bytes, zero padding to a multiple of four.
    pub fn opaque(&mut self, what: &'static str, limit: u32) -> Result<&'a [u8], DecodeError> {
        let length = self.count(what, limit)?;
        let bytes = self.take(length)?;
        let offset = self.offset;
        let padding = self.take(length.wrapping_neg() % 4)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Padding { offset });
        }
        Ok(bytes)
    }

    /// XDR's `string<limit>`, UTF-8 and without NUL.
    pub fn string(&mut self, what: &'static str, limit: u32) -> Result<String, DecodeError> {
        let bytes = self.opaque(what, limit)?;
        match std::str::from_utf8(bytes) {
            Ok(text) if !bytes.contains(&0) => Ok(text.to_owned()),
            _ => Err(DecodeError::text(what, bytes)),
        }
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { left }),
        }
    }
}
