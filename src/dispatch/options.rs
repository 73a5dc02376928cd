//! What the host has set with `Set_Option`. All options are accepted; features act on those they know.

use std::collections::BTreeMap;

use crate::limited;

/// Options that are remembered. VMware knows some 30.
const OPTIONS_MAX: usize = 128;

/// Longest name with its value that is remembered, bytes.
const OPTION_MAX: usize = 4096;

/// The options of one host, bounded in number and size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<Vec<u8>, Vec<u8>>);

impl Options {
    /// The value of an option, as raw bytes of the host.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// All options, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// Remembers an option, unless it or their number is out of all proportion.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) {
        let fits = name.len().saturating_add(value.len()) <= OPTION_MAX;
        let room = self.0.len() < OPTIONS_MAX || self.0.contains_key(name);
        if fits && room {
            self.0.insert(name.to_vec(), value.to_vec());
        } else {
            limited!(
                info,
                feature = "tclo",
                name_len = name.len(),
                value_len = value.len(),
                options = self.0.len(),
                "an option was accepted and not remembered"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_bounded() {
        let mut options = Options::default();
        options.set(b"x", b"1");
        options.set(b"x", b"2");
        assert_eq!(options.get(b"x"), Some(b"2".as_slice()));
        options.set(b"big", &[b'a'; OPTION_MAX]);
        assert_eq!(options.get(b"big"), None);
        for i in 0..10_000 {
            options.set(format!("o{i}").as_bytes(), b"1");
        }
        assert_eq!(options.iter().count(), OPTIONS_MAX);
        options.set(b"x", b"3");
        assert_eq!(
            options.get(b"x"),
            Some(b"3".as_slice()),
            "a known one can always change"
        );
    }
}
