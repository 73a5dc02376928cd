//! Decoders of what a guest reports about itself, written from the host's side and strict: what does not decode is a
//! fault of the guest.
//!
//! ```text
//! SetGuestInfo  <id> <payload>  --id 9, 10--> nic     --id 11--> os     --id 3--> disk (V0)     --id 8--> stats
//!                               --other ids-> text
//! SetGuestDiskInfo {json}       ----------------------------------------------> disk (V1)
//! ```
//!
//! They share nothing with the encoders of talos-vmtoolsd, so that a misreading of the format cannot be in both.

pub mod cursor;
pub mod disk;
pub mod nic;
pub mod os;
pub mod stats;

/// Why a report does not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload ends inside an item.
    #[error("{needed} bytes needed at offset {offset}, {left} left")]
    Short {
        /// Where the item begins.
        offset: usize,
        /// Its length.
        needed: usize,
        /// Bytes left in the payload.
        left: usize,
    },
    /// Bytes follow the last item.
    #[error("{left} bytes after the end")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// Padding that must be zero is not.
    #[error("padding at offset {offset} is not zero")]
    Padding {
        /// Where it begins.
        offset: usize,
    },
    /// A count or length above its limit.
    #[error("{what}: {value} is above the limit of {limit}")]
    Limit {
        /// The field.
        what: &'static str,
        /// Value on the wire.
        value: u32,
        /// Largest value allowed.
        limit: u32,
    },
    /// A field with a value that does not exist.
    #[error("{what}: {value} is not a valid value")]
    Value {
        /// The field.
        what: &'static str,
        /// Value on the wire.
        value: u32,
    },
    /// A text that is not what the field asks for.
    #[error("{what}: {text:?}")]
    Text {
        /// What is wrong.
        what: &'static str,
        /// The text, shortened.
        text: String,
    },
}

impl DecodeError {
    /// A text error with at most 80 characters of the text.
    pub(crate) fn text(what: &'static str, text: &[u8]) -> Self {
        Self::Text {
            what,
            text: String::from_utf8_lossy(text).chars().take(80).collect(),
        }
    }
}

/// A text value: UTF-8, at most one NUL, and that at the end; control characters are refused.
pub fn text(payload: &[u8]) -> Result<&str, DecodeError> {
    let text = payload.strip_suffix(b"\0").unwrap_or(payload);
    match std::str::from_utf8(text) {
        Ok(value) if !value.chars().any(char::is_control) => Ok(value),
        Ok(_) => Err(DecodeError::text("control character in a text", text)),
        Err(_) => Err(DecodeError::text("not UTF-8", text)),
    }
}

/// Guest uptime (id 7): hundredths of a second in decimal. Zero is no uptime.
pub fn uptime(payload: &[u8]) -> Result<u64, DecodeError> {
    let value = text(payload)?;
    match value.parse() {
        Ok(hundredths) if hundredths > 0 && value.bytes().all(|byte| byte.is_ascii_digit()) => Ok(hundredths),
        _ => Err(DecodeError::text(
            "not an uptime in hundredths of a second",
            value.as_bytes(),
        )),
    }
}

#[cfg(test)]
mod tests;
