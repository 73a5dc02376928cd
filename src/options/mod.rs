//! What the host sets with `Set_Option`, and its request to set the clock.
//!
//! ```text
//!  Command::SetOption { name, value } ──> HostOptions ── set ──> Shared: values, for the diagnosis
//!                                             └── None: whoever follows in the list of features may listen too
//!  Time_Synchronize <0|1> ──────────────> HostOptions ──> `OK `, and nothing is done
//! ```
//!
//! Options come after every registration and whenever somebody changes them on the host. Any option with a value is
//! accepted, known or not, as open-vm-tools does (tclodefs.h): a newer host must not be told that its options are
//! wrong. Hardly one of them means anything on a server without desktop, scripts and a clock of ours; [`Name`] says of each
//! what it means here. So the values are remembered, within bounds, and nothing acts on them by itself.

#![forbid(unsafe_code)]

mod clock;
mod feature;
mod name;
#[cfg(test)]
mod tests;

pub use self::{
    clock::TimeSynchronize,
    feature::{HostOptions, Shared},
    name::Name,
};

use std::collections::BTreeMap;

use thiserror::Error;

/// The text behind `ERROR ` for a `Set_Option` that cannot be accepted (open-vm-tools toolsRpc.c).
pub const INVALID_OPTION: &str = "Unknown or invalid option";

/// What is wrong with an option. Both are answered with [`INVALID_OPTION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OptionError {
    /// Nothing between command and value.
    #[error("an option without name")]
    NoName,
    /// Nothing behind the name.
    #[error("an option without value")]
    NoValue,
}

/// What came of an accepted option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has a new value, perhaps its first.
    Changed,
    /// The host said again what it had said before.
    Unchanged,
    /// It is over the bounds. Nothing is remembered of it, not even an earlier value, which the host no longer means.
    NotKept,
}

/// The options as the host set them last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    known: BTreeMap<Name, Box<[u8]>>,
    others: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

impl Options {
    /// Longest name of an option that is remembered, in bytes. The longest known has 40.
    pub const MAX_NAME: usize = 64;

    /// Longest value that is remembered, in bytes. The known ones are numbers and short words.
    pub const MAX_VALUE: usize = 256;

    /// Most options that are remembered beside the known ones, which always have room.
    pub const MAX_OTHERS: usize = 32;

    /// Remembers one option. The value is taken literally.
    ///
    /// # Errors
    ///
    /// If there is no name or no value.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<Outcome, OptionError> {
        if name.is_empty() {
            return Err(OptionError::NoName);
        }
        if value.is_empty() {
            return Err(OptionError::NoValue);
        }
        Ok(match Name::parse(name) {
            Some(known) => remember(&mut self.known, known, value),
            None if self.has_room_for(name) => remember(&mut self.others, name.into(), value),
            None => Outcome::NotKept,
        })
    }

    /// The value that the host set last; `None` if it set none, or one that was not kept.
    pub fn value(&self, name: Name) -> Option<&[u8]> {
        self.known.get(&name).map(AsRef::as_ref)
    }

    /// The value of a switch; `None` also if it is neither `0` nor `1`.
    pub fn flag(&self, name: Name) -> Option<bool> {
        self.value(name).and_then(flag)
    }

    /// All that is remembered, known options first, each in the order of its kind. Names and values are the host's bytes:
    /// escape them in a log.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let known = self
            .known
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_ref()));
        let others = self
            .others
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()));
        known.chain(others)
    }

    fn has_room_for(&self, name: &[u8]) -> bool {
        name.len() <= Self::MAX_NAME
            && (self.others.len() < Self::MAX_OTHERS || self.others.contains_key(name))
    }
}

fn remember<K: Ord>(values: &mut BTreeMap<K, Box<[u8]>>, name: K, value: &[u8]) -> Outcome {
    if value.len() > Options::MAX_VALUE {
        values.remove(&name);
        return Outcome::NotKept;
    }
    if values.get(&name).is_some_and(|old| old.as_ref() == value) {
        return Outcome::Unchanged;
    }
    values.insert(name, value.into());
    Outcome::Changed
}

/// `0` or `1`.
fn flag(value: &[u8]) -> Option<bool> {
    match value {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}
