//! What the host has: which values it took, which it refused, and in which form it takes them.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{key::Key, nic::Message};

/// What became of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// The host has it.
    Accepted(Vec<u8>),
    /// The host does not want it; another one may be welcome.
    Refused(Vec<u8>),
    /// The host does not know this key, or may not take it.
    Unsupported,
}

/// The memory of one life of the host side; a `reset` begins the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    fates: BTreeMap<Key, Fate>,
    /// The message that carries the NIC record. Goes down on refusal, and up again only with a new ledger.
    pub nic_message: Message,
    /// The host refused the structured OS record and gets the two plain names.
    pub plain_os_names: bool,
    /// The host refused the JSON form of the disks and gets the packed one.
    pub packed_disks: bool,
}

impl Ledger {
    /// Whether `value` should be sent.
    pub fn wants(&self, key: Key, value: &[u8]) -> bool {
        match self.fates.get(&key) {
            None => true,
            Some(Fate::Accepted(last) | Fate::Refused(last)) => last != value,
            Some(Fate::Unsupported) => false,
        }
    }

    /// The host took `value`.
    pub fn accepted(&mut self, key: Key, value: Vec<u8>) {
        self.fates.insert(key, Fate::Accepted(value));
    }

    /// The host refused `value`, and `permanent`ly any other.
    pub fn refused(&mut self, key: Key, value: Vec<u8>, permanent: bool) {
        let fate = if permanent {
            Fate::Unsupported
        } else {
            Fate::Refused(value)
        };
        self.fates.insert(key, fate);
    }

    /// Makes everything that the host may want wanted again.
    pub fn resend(&mut self) {
        self.fates.retain(|_, fate| *fate == Fate::Unsupported);
    }

    /// The same for one key: it is not known any more what the host has there.
    pub fn resend_one(&mut self, key: Key) {
        if self.fates.get(&key) != Some(&Fate::Unsupported) {
            self.fates.remove(&key);
        }
    }
}

/// Whether a refusal holds until the next `reset`: the host does not know the command, or its configuration forbids it
/// (rpcout.c).
pub fn is_permanent(text: &str) -> bool {
    let text = text.trim_matches(['\0', ' ', '\n']).to_ascii_lowercase();
    ["unknown command", "disabled", "permission denied"]
        .iter()
        .any(|known| text.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_wanted_until_the_host_has_answered_for_it() {
        let mut ledger = Ledger::default();
        assert!(ledger.wants(Key::HostName, b"a"));
        ledger.accepted(Key::HostName, b"a".to_vec());
        assert!(!ledger.wants(Key::HostName, b"a"));
        assert!(ledger.wants(Key::HostName, b"b"));
        ledger.refused(Key::HostName, b"b".to_vec(), false);
        assert!(!ledger.wants(Key::HostName, b"b"));
        assert!(ledger.wants(Key::HostName, b"c"));
        ledger.resend();
        assert!(ledger.wants(Key::HostName, b"b"));
    }

    #[test]
    fn an_unsupported_key_stays_so() {
        let mut ledger = Ledger::default();
        ledger.refused(Key::PrimaryIp, b"a".to_vec(), true);
        ledger.resend();
        ledger.resend_one(Key::PrimaryIp);
        assert!(!ledger.wants(Key::PrimaryIp, b"b"));
        assert!(Ledger::default().wants(Key::PrimaryIp, b"b"));
    }

    #[test]
    fn refusals_that_hold() {
        assert!(is_permanent("Unknown command"));
        assert!(is_permanent("disabled\0"));
        assert!(is_permanent("Permission denied"));
        assert!(!is_permanent("Invalid argument"));
        assert!(!is_permanent(""));
    }
}
