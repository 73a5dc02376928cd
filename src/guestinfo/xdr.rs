//! XDR, the writing half (RFC 4506): what the NIC record is made of.
//!
//! Everything is big-endian and padded to four bytes, each item for itself, so it does not matter where in a message
//! the record starts.

#![forbid(unsafe_code)]

/// Appends XDR items to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An unsigned integer, an enum or a bool: four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// `opaque<>` or `string<>`: length, bytes, zero padding to four.
    pub fn opaque(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes.extend_from_slice(bytes);
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.bytes.extend(std::iter::repeat_n(0, padding));
    }

    /// `*T`: 0, or 1 and the item.
    pub fn optional<T>(&mut self, item: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match item {
            None => self.u32(0),
            Some(item) => {
                self.u32(1);
                write(self, item);
            }
        }
    }

    /// `T<>`: count and items.
    pub fn array<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.count(items.len());
        for item in items {
            write(self, item);
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The finished bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Callers bound their items by a few thousand; no count comes near the end of the type.
    fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_is_padded_to_four() {
        for (input, expected) in [
            (b"".as_slice(), b"\0\0\0\0".as_slice()),
            (b"a", b"\0\0\0\x01a\0\0\0"),
            (b"abcd", b"\0\0\0\x04abcd"),
            (b"abcde", b"\0\0\0\x05abcde\0\0\0"),
        ] {
            let mut writer = Writer::default();
            writer.opaque(input);
            assert_eq!(writer.finish(), expected);
        }
    }

    #[test]
    fn an_optional_is_a_bool_and_an_item() {
        let mut writer = Writer::default();
        writer.optional(None::<u32>, Writer::u32);
        writer.optional(Some(7), Writer::u32);
        assert_eq!(writer.len(), 12);
        assert_eq!(writer.finish(), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7]);
    }

    #[test]
    fn an_array_is_a_count_and_items() {
        let mut writer = Writer::default();
        writer.array(&[1, 2], |writer, item| writer.u32(*item));
        assert_eq!(writer.finish(), [0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
    }
}
