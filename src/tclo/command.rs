//! What the host can ask, and how its bytes are read (rpcChannel.c).

use thiserror::Error;

/// A power state change that the host announces or asks for (powerops.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateChange {
    /// `OS_Halt`, id 1: shut down.
    Halt,
    /// `OS_Reboot`, id 2: restart.
    Reboot,
    /// `OS_PowerOn`, id 3: the VM was powered on; sent after registration.
    PowerOn,
    /// `OS_Resume`, id 4: the VM came back from suspend.
    Resume,
    /// `OS_Suspend`, id 5: the VM is about to be suspended.
    Suspend,
}

impl StateChange {
    /// The number in `tools.os.statechange.status <ok> <id>`.
    pub const fn id(self) -> u8 {
        match self {
            Self::Halt => 1,
            Self::Reboot => 2,
            Self::PowerOn => 3,
            Self::Resume => 4,
            Self::Suspend => 5,
        }
    }
}

/// One TCLO request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `reset`: first message on a channel, and whenever the host may have forgotten us.
    Reset,
    /// `ping`.
    Ping,
    /// `Capabilities_Register`.
    CapabilitiesRegister,
    /// `Set_Option <name> <value>`: raw bytes of the host, value not empty.
    SetOption {
        /// Up to the first space.
        name: &'a [u8],
        /// The rest, taken literally, trailing NULs removed.
        value: &'a [u8],
    },
    /// `OS_Halt` and its siblings.
    StateChange(StateChange),
    /// Any other name, with its arguments as they came.
    Unknown {
        /// Up to the first space or NUL.
        name: &'a [u8],
        /// Everything behind the name, with the separator.
        arguments: &'a [u8],
    },
}

/// Why a request is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// No name: nothing, spaces or NULs.
    #[error("the request of {length} bytes names no command")]
    Blank {
        /// Length of the request.
        length: usize,
    },
    /// `Set_Option` without a name or without a value.
    #[error("Set_Option of {length} bytes lacks a name or a value")]
    Option {
        /// Length of the request.
        length: usize,
    },
}

impl<'a> Command<'a> {
    /// Reads one request. A name is compared exactly, with case; leading spaces are skipped and arguments of commands
    /// that take none are ignored, as open-vm-tools does.
    pub fn parse(request: &'a [u8]) -> Result<Self, ParseError> {
        let length = request.len();
        let text = skip_spaces(request);
        let end = text
            .iter()
            .position(|byte| matches!(byte, b' ' | 0))
            .unwrap_or(text.len());
        let (name, arguments) = text.split_at(end);
        Ok(match name {
            b"" => return Err(ParseError::Blank { length }),
            b"reset" => Self::Reset,
            b"ping" => Self::Ping,
            b"Capabilities_Register" => Self::CapabilitiesRegister,
            b"Set_Option" => option(arguments).ok_or(ParseError::Option { length })?,
            b"OS_Halt" => Self::StateChange(StateChange::Halt),
            b"OS_Reboot" => Self::StateChange(StateChange::Reboot),
            b"OS_PowerOn" => Self::StateChange(StateChange::PowerOn),
            b"OS_Resume" => Self::StateChange(StateChange::Resume),
            b"OS_Suspend" => Self::StateChange(StateChange::Suspend),
            _ => Self::Unknown { name, arguments },
        })
    }
}

/// Reads ` <name> <value>`: the value is everything behind one space, its trailing NULs aside, and not empty.
fn option(arguments: &[u8]) -> Option<Command<'_>> {
    let text = skip_spaces(arguments.strip_prefix(b" ")?);
    let (name, rest) = text.split_at(text.iter().position(|byte| *byte == b' ')?);
    let value = strip_nuls(rest.strip_prefix(b" ")?);
    if name.is_empty() || value.is_empty() {
        return None;
    }
    Some(Command::SetOption { name, value })
}

fn skip_spaces(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte != b' ').unwrap_or(bytes.len());
    bytes.split_at(start).1
}

fn strip_nuls(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_suffix(b"\0") {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unknown<'a>(name: &'a [u8], arguments: &'a [u8]) -> Result<Command<'a>, ParseError> {
        Ok(Command::Unknown { name, arguments })
    }

    #[test]
    fn known_names() {
        for (request, command) in [
            (b"reset".as_slice(), Command::Reset),
            (b"reset\0", Command::Reset),
            (b"  ping", Command::Ping),
            (b"ping \0\0", Command::Ping),
            (b"Capabilities_Register", Command::CapabilitiesRegister),
            (b"OS_Halt", Command::StateChange(StateChange::Halt)),
            (b"OS_Reboot\0", Command::StateChange(StateChange::Reboot)),
            (b"OS_PowerOn", Command::StateChange(StateChange::PowerOn)),
            (b"OS_Resume", Command::StateChange(StateChange::Resume)),
            (b"OS_Suspend", Command::StateChange(StateChange::Suspend)),
        ] {
            assert_eq!(Command::parse(request), Ok(command), "{}", request.escape_ascii());
        }
    }

    #[test]
    fn row_24_malformed_names() {
        for blank in [
            b"".as_slice(),
            b" ",
            b"     ",
            b"\0",
            b"\0\0\0",
            b"  \0",
            b"\0reset",
        ] {
            let length = blank.len();
            assert_eq!(Command::parse(blank), Err(ParseError::Blank { length }));
        }
        assert_eq!(Command::parse(b"ping\r\n"), unknown(b"ping\r\n", b""));
        assert_eq!(Command::parse(b"Ping"), unknown(b"Ping", b""));
        assert_eq!(Command::parse(b"\xff\xfe x"), unknown(b"\xff\xfe", b" x"));
        let long = vec![b'a'; 65_536];
        assert_eq!(Command::parse(&long), unknown(&long, b""));
    }

    #[test]
    fn arguments_of_the_unknown_keep_every_byte() {
        assert_eq!(
            Command::parse(b"Vix_1_Relayed_Command \"7\"\0\x01\0\0"),
            unknown(b"Vix_1_Relayed_Command", b" \"7\"\0\x01\0\0")
        );
        assert_eq!(Command::parse(b"f\0\0"), unknown(b"f", b"\0\0"));
    }

    #[test]
    fn row_25_set_option() {
        for bad in [
            b"Set_Option".as_slice(),
            b"Set_Option ",
            b"Set_Option  ",
            b"Set_Option x",
            b"Set_Option x ",
            b"Set_Option x \0",
            b"Set_Option\0x 1",
            b"Set_Option\0",
        ] {
            let length = bad.len();
            assert_eq!(Command::parse(bad), Err(ParseError::Option { length }));
        }
        for (request, name, value) in [
            (b"Set_Option x 1".as_slice(), b"x".as_slice(), b"1".as_slice()),
            (b"Set_Option broadcastIP 1\0", b"broadcastIP", b"1"),
            (b"Set_Option  x 1", b"x", b"1"),
            (b"Set_Option x  a b ", b"x", b" a b "),
            (b"Set_Option x a\0b\0\0", b"x", b"a\0b"),
            (b"Set_Option x\0y 1", b"x\0y", b"1"),
        ] {
            assert_eq!(Command::parse(request), Ok(Command::SetOption { name, value }));
        }
    }

    proptest! {
        #[test]
        fn any_bytes(request in proptest::collection::vec(any::<u8>(), 0..128)) {
            if let Ok(Command::Unknown { name, arguments }) = Command::parse(&request) {
                prop_assert!(!name.is_empty() && !name.contains(&b' ') && !name.contains(&0));
                prop_assert!(request.ends_with(&[name, arguments].concat()));
            }
        }

        #[test]
        fn any_option(tail in "[ a\\x00]{0,12}") {
            let request = format!("Set_Option{tail}");
            match Command::parse(request.as_bytes()) {
                Ok(Command::SetOption { name, value }) => {
                    prop_assert!(!name.is_empty() && !name.contains(&b' '));
                    prop_assert!(!value.is_empty() && !value.ends_with(b"\0"));
                }
                Ok(Command::Unknown { name, .. }) => prop_assert!(name != b"Set_Option"),
                other => prop_assert!(matches!(other, Err(ParseError::Option { .. })), "{other:?}"),
            }
        }
    }
}
