//! What the host has: which values it took, which it refused, and in which form it takes them.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{key::Key, nic::Message};

/// What became of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// The host has it.
    Accepted(Vec<u8>),
    /// The host does not want it now; another one may be welcome, and this one later.
    Refused { value: Vec<u8>, again: Instant },
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
            Some(Fate::Accepted(last) | Fate::Refused { value: last, .. }) => last != value,
            Some(Fate::Unsupported) => false,
        }
    }

    /// The host took `value`.
    pub fn accepted(&mut self, key: Key, value: Vec<u8>) {
        self.fates.insert(key, Fate::Accepted(value));
    }

    /// The host refused `value`, which is not wanted before `again` then.
    pub fn refused(&mut self, key: Key, value: Vec<u8>, again: Instant) {
        self.fates.insert(key, Fate::Refused { value, again });
    }

    /// The host takes no value of `key` at all.
    pub fn unsupported(&mut self, key: Key) {
        self.fates.insert(key, Fate::Unsupported);
    }

    /// Makes what was refused long enough ago wanted again.
    pub fn retry(&mut self, now: Instant) {
        self.fates
            .retain(|_, fate| !matches!(fate, Fate::Refused { again, .. } if *again <= now));
    }

    /// When the next refused value is wanted again; none where nothing is refused.
    pub fn next_retry(&self) -> Option<Instant> {
        let again = self.fates.values().filter_map(|fate| match fate {
            Fate::Refused { again, .. } => Some(*again),
            _ => None,
        });
        again.min()
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_value_is_wanted_until_the_host_has_answered_for_it() {
        let mut ledger = Ledger::default();
        assert!(ledger.wants(Key::HostName, b"a"));
        ledger.accepted(Key::HostName, b"a".to_vec());
        assert!(!ledger.wants(Key::HostName, b"a"));
        assert!(ledger.wants(Key::HostName, b"b"));
        let now = Instant::now();
        let again = now + Duration::from_secs(30);
        ledger.refused(Key::HostName, b"b".to_vec(), again);
        assert!(!ledger.wants(Key::HostName, b"b"));
        assert!(ledger.wants(Key::HostName, b"c"));
        assert_eq!(ledger.next_retry(), Some(again));
        ledger.retry(now);
        assert!(!ledger.wants(Key::HostName, b"b"));
        ledger.retry(again);
        assert!(ledger.wants(Key::HostName, b"b"));
        assert_eq!(ledger.next_retry(), None);
        ledger.refused(Key::HostName, b"b".to_vec(), again);
        ledger.resend();
        assert!(ledger.wants(Key::HostName, b"b"));
    }

    #[test]
    fn an_unsupported_key_stays_so() {
        let mut ledger = Ledger::default();
        ledger.unsupported(Key::PrimaryIp);
        ledger.retry(Instant::now());
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
