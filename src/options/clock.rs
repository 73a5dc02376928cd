//! `Time_Synchronize`: the host asks for one step of the clock.

use super::flag;

/// `Time_Synchronize <0|1>`: set the clock to the host's now.
///
/// It comes after a resume, a revert, a migration and the like, if the VM's settings say so. It is answered `OK `, whatever
/// stands in it, and nothing is done: the clock belongs to Talos's NTP client, and two masters would make it jump.
/// open-vm-tools with time synchronisation disabled answers the same (timeSync.c); an error would be shown to the
/// administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSynchronize {
    /// Whether the step might go backward too; `None` if the host said neither `0` nor `1`.
    pub backward: Option<bool>,
}

impl TimeSynchronize {
    /// Reads what follows the command's name, the separating space included.
    pub fn parse(arguments: &[u8]) -> Self {
        let text = match arguments.iter().position(|byte| *byte == 0) {
            Some(end) => arguments.get(..end).unwrap_or_default(),
            None => arguments,
        };
        Self {
            backward: flag(text.trim_ascii()),
        }
    }
}
