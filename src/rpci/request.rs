//! What can be asked of the host. The strings are VMware's; who appends a NUL follows open-vm-tools (rpcout.c).

use std::fmt;

/// Whether a request may be sent a second time when its reply was lost with the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// Sending it twice leaves the host as sending it once.
    Once,
    /// The host may have acted on it: never send it again.
    Never,
}

/// One RPCI request, ready for the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    bytes: Vec<u8>,
    resend: Resend,
}

impl Request {
    /// A text command; a trailing NUL is sent with it.
    pub fn text(command: impl Into<Vec<u8>>) -> Self {
        let mut bytes = command.into();
        bytes.push(0);
        Self {
            bytes,
            resend: Resend::Once,
        }
    }

    /// A command sent exactly as given: binary payloads, and the capabilities without value.
    pub fn raw(command: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: command.into(),
            resend: Resend::Once,
        }
    }

    /// The same request, which may be executed once only.
    #[must_use]
    pub fn at_most_once(mut self) -> Self {
        self.resend = Resend::Never;
        self
    }

    /// `SetGuestInfo` with a text value; `id` is one of guestInfo.h.
    pub fn guest_info_text(id: u8, value: &str) -> Self {
        Self::text(format!("SetGuestInfo  {id} {value}"))
    }

    /// `SetGuestInfo` with a binary value.
    pub fn guest_info_binary(id: u8, value: &[u8]) -> Self {
        let mut bytes = format!("SetGuestInfo  {id} ").into_bytes();
        bytes.extend_from_slice(value);
        Self::raw(bytes)
    }

    /// `info-set guestinfo.<key> <value>`.
    pub fn info_set(key: &str, value: &str) -> Self {
        Self::text(format!("info-set guestinfo.{key} {value}"))
    }

    /// The bytes that go over the channel.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether a second try is allowed.
    pub fn resend(&self) -> Resend {
        self.resend
    }

    /// The command's name, for logs and errors: the bytes up to the first space or NUL, at most 64.
    pub fn name(&self) -> String {
        let name: Vec<u8> = self
            .bytes
            .iter()
            .copied()
            .take_while(|byte| !matches!(byte, b' ' | 0))
            .take(64)
            .collect();
        name.escape_ascii().to_string()
    }
}

/// Shows the name and the length: payloads belong to the trace level only.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("name", &self.name())
            .field("len", &self.bytes.len())
            .field("resend", &self.resend)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_carries_its_nul_and_binary_does_not() {
        assert_eq!(
            Request::guest_info_text(7, "123456").bytes(),
            b"SetGuestInfo  7 123456\0"
        );
        assert_eq!(
            Request::guest_info_binary(10, &[0, 3]).bytes(),
            b"SetGuestInfo  10 \x00\x03"
        );
        assert_eq!(
            Request::info_set("ip", "10.0.0.5").bytes(),
            b"info-set guestinfo.ip 10.0.0.5\0"
        );
    }

    #[test]
    fn debug_never_shows_the_payload() {
        let shown = format!("{:?}", Request::info_set("secret", "hunter2"));
        assert!(shown.contains("info-set"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
