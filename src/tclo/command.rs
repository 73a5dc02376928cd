//! What the host can ask.

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
