//! Serialised property lists (vixCommands.h).
//!
//! ```text
//!  { id: i32, type: i32, length: i32, data: [u8; length] } …      little-endian, no count, no end mark
//! ```

/// Type of a 32-bit integer.
const TYPE_INTEGER: i32 = 1;

/// Type of a string with its NUL.
const TYPE_STRING: i32 = 2;

/// Type of a byte that is 0 or 1.
const TYPE_BOOL: i32 = 3;

/// A list under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyList {
    bytes: Vec<u8>,
}

impl PropertyList {
    /// Most bytes of one string, NUL not counted; what the host takes for an operating system's full name.
    pub const MAX_STRING: usize = 512;

    /// Adds an integer.
    pub fn integer(&mut self, id: i32, value: i32) {
        self.add(id, TYPE_INTEGER, &value.to_le_bytes());
    }

    /// Adds a string. One that holds a NUL or is over [`Self::MAX_STRING`] is left out: the reader would see another value,
    /// and no value is better than a wrong one.
    pub fn string(&mut self, id: i32, value: &str) {
        if value.len() <= Self::MAX_STRING && !value.contains('\0') {
            self.add(id, TYPE_STRING, &[value.as_bytes(), &[0]].concat());
        }
    }

    /// Adds a truth value.
    pub fn boolean(&mut self, id: i32, value: bool) {
        self.add(id, TYPE_BOOL, &[u8::from(value)]);
    }

    /// The list as it goes into Base64.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn add(&mut self, id: i32, kind: i32, data: &[u8]) {
        let Ok(length) = i32::try_from(data.len()) else {
            return;
        };
        for number in [id, kind, length] {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.bytes.extend_from_slice(data);
    }
}
