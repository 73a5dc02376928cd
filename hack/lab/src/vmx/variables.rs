//! Guest variables: `guestinfo.*`, written and read by guest and administrator.

use std::collections::BTreeMap;

/// Bytes of names and values that guests may write (`tools.setInfo.sizeLimit`, default of vSphere).
const SIZE_LIMIT: usize = 1 << 20;
const PREFIX: &str = "guestinfo.";

/// Why a variable was not set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// Guests may write below `guestinfo.` only.
    #[error("Permission denied")]
    Foreign,
    /// No value, not even an empty one.
    #[error("Invalid argument")]
    NoValue,
    /// All variables together would be too large.
    #[error("Size limit of {SIZE_LIMIT} bytes exceeded")]
    TooLarge,
}

/// The variables.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    values: BTreeMap<String, Vec<u8>>,
}

impl Variables {
    /// The value of a variable.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// All variables by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.values
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// The administrator sets or, with `None`, removes a variable. No limit holds for him.
    pub fn set(&mut self, key: &str, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.values.insert(key.to_owned(), value),
            None => self.values.remove(key),
        };
    }

    /// The guest's `info-set`: `arguments` is a key, a space and the value, which may be empty or contain spaces.
    pub fn guest_set(&mut self, arguments: &[u8]) -> Result<(), VariableError> {
        let at = arguments
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or(VariableError::NoValue)?;
        let (key, value) = arguments.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        let key = std::str::from_utf8(key).map_err(|_| VariableError::Foreign)?;
        if key.strip_prefix(PREFIX).is_none_or(str::is_empty) {
            return Err(VariableError::Foreign);
        }
        let others: usize = self
            .iter()
            .filter(|(other, _)| *other != key)
            .map(|(k, v)| k.len() + v.len())
            .sum();
        if others + key.len() + value.len() > SIZE_LIMIT {
            return Err(VariableError::TooLarge);
        }
        self.values.insert(key.to_owned(), value.to_vec());
        Ok(())
    }
}
