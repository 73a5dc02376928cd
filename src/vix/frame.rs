//! The envelope of a VIX request: a quoted name, a NUL, a header of 51 bytes, a body, credentials.
//!
//! ```text
//!  SP '"' <request name> '"' NUL | header 51 | body | credentials | 44 bytes if request flag 0x10
//! ```
//!
//! Integers are little-endian and packed (vixCommands.h). The envelope is checked whole
//! and nothing is copied. Body and credentials are not looked at: the one operation that is answered has neither.

use thiserror::Error;

use super::Opcode;

/// First word of every VIX message (vixCommands.h).
const MAGIC: u32 = 0xd00d_0001;

/// The version of the layout (vixCommands.h).
const VERSION: u16 = 5;

/// Bytes of a request's header.
const HEADER_LEN: u32 = 51;

/// Most bytes of one request (VIX_COMMAND_MAX_REQUEST_SIZE).
const MAX_REQUEST: u32 = 65536;

/// Common flag: this is a request.
const FLAG_REQUEST: u8 = 0x01;

/// Common flag: the reply is in the binary form.
const FLAG_RETURNS_BINARY: u8 = 0x80;

/// Request flag: authentication data of an encrypted VM follows the credentials.
const FLAG_AUTH_DATA: u32 = 0x10;

/// Bytes of that data: a nonce of 8, a sequence number of 4, a hash of 32.
const AUTH_DATA_LEN: u32 = 44;

/// What is wrong with an envelope. All of it is answered with 10000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// No NUL, hence no message.
    #[error("no message behind the request name")]
    NoMessage,
    /// The request name does not stand between two quotes.
    #[error("the request name is not quoted")]
    NoName,
    /// Not even a header.
    #[error("{len} bytes are no header of 51")]
    Short {
        /// Bytes behind the NUL.
        len: usize,
    },
    /// Another protocol, or garbage.
    #[error("magic {0:#010x} instead of 0xd00d0001")]
    Magic(u32),
    /// Another layout.
    #[error("version {0} instead of 5")]
    Version(u16),
    /// A header of another size, such as that of a response.
    #[error("header length {0} instead of 51")]
    HeaderLength(u32),
    /// The flag of a request is not set.
    #[error("common flags {0:#04x} are not those of a request")]
    NotARequest(u8),
    /// The total is not the sum of the parts.
    #[error("total {total}, but the parts are {parts}")]
    Total {
        /// As declared.
        total: u32,
        /// Header, body, credentials and authentication data as declared.
        parts: u64,
    },
    /// Over the protocol's own limit.
    #[error("total {total} is over 65536")]
    TooLarge {
        /// As declared.
        total: u32,
    },
    /// Less came than was declared.
    #[error("total {total}, but {received} bytes came")]
    Truncated {
        /// As declared.
        total: u32,
        /// Bytes behind the NUL.
        received: usize,
    },
}

/// What matters of a sound envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which operation is asked for.
    pub opcode: Opcode,
    /// Bytes of the body, all of which came.
    pub body_len: u32,
    /// Whether the reply is in the `#` form.
    pub binary_reply: bool,
}

impl Frame {
    /// Checks the arguments of one `Vix_1_Relayed_Command`, the separating space included.
    ///
    /// The request name is the host's own mark, of any length and any bytes, and may be empty. What stands between its
    /// closing quote and the NUL is skipped, as open-vm-tools does; so is what follows the declared total.
    pub fn parse(arguments: &[u8]) -> Result<Self, FrameError> {
        let mut halves = arguments.splitn(2, |byte| *byte == 0);
        let name = halves.next().unwrap_or_default().trim_ascii_start();
        let message = halves.next().ok_or(FrameError::NoMessage)?;
        if !name.strip_prefix(b"\"").is_some_and(|rest| rest.contains(&b'"')) {
            return Err(FrameError::NoName);
        }
        Self::parse_message(message)
    }

    fn parse_message(message: &[u8]) -> Result<Self, FrameError> {
        let header = Header::read(message).ok_or(FrameError::Short { len: message.len() })?;
        if header.magic != MAGIC {
            return Err(FrameError::Magic(header.magic));
        }
        if header.version != VERSION {
            return Err(FrameError::Version(header.version));
        }
        if header.header_len != HEADER_LEN {
            return Err(FrameError::HeaderLength(header.header_len));
        }
        if header.common_flags & FLAG_REQUEST == 0 {
            return Err(FrameError::NotARequest(header.common_flags));
        }
        let total = header.total_len;
        let parts = header.parts();
        if parts != u64::from(total) {
            return Err(FrameError::Total { total, parts });
        }
        if total > MAX_REQUEST {
            return Err(FrameError::TooLarge { total });
        }
        let received = message.len();
        if usize::try_from(total).map_or(true, |total| total > received) {
            return Err(FrameError::Truncated { total, received });
        }
        Ok(Self {
            opcode: Opcode(header.opcode),
            body_len: header.body_len,
            binary_reply: header.common_flags & FLAG_RETURNS_BINARY != 0,
        })
    }
}

/// The header as it came. Time-out, cookie, client handle and credential type follow and are the host's own business.
struct Header {
    magic: u32,
    version: u16,
    total_len: u32,
    header_len: u32,
    body_len: u32,
    credential_len: u32,
    common_flags: u8,
    opcode: i32,
    request_flags: u32,
}

impl Header {
    /// `None` if `message` is shorter than a header.
    fn read(message: &[u8]) -> Option<Self> {
        let mut bytes = message.first_chunk::<{ HEADER_LEN as usize }>()?.as_slice();
        Some(Self {
            magic: u32::from_le_bytes(take(&mut bytes)?),
            version: u16::from_le_bytes(take(&mut bytes)?),
            total_len: u32::from_le_bytes(take(&mut bytes)?),
            header_len: u32::from_le_bytes(take(&mut bytes)?),
            body_len: u32::from_le_bytes(take(&mut bytes)?),
            credential_len: u32::from_le_bytes(take(&mut bytes)?),
            common_flags: u8::from_le_bytes(take(&mut bytes)?),
            opcode: i32::from_le_bytes(take(&mut bytes)?),
            request_flags: u32::from_le_bytes(take(&mut bytes)?),
        })
    }

    /// What the total has to be; in 64 bits, because the sum of three declared lengths can pass 32.
    fn parts(&self) -> u64 {
        let auth_data = if self.request_flags & FLAG_AUTH_DATA == 0 {
            0
        } else {
            AUTH_DATA_LEN
        };
        [self.header_len, self.body_len, self.credential_len, auth_data]
            .into_iter()
            .map(u64::from)
            .sum()
    }
}

/// The next `N` bytes.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}
