//! Specs of resources: read from a document, encoded and printed as Talos does.
//!
//! ```text
//!  document (YAML names and values) --read--> Spec --encode--> proto_spec of one release
//!                                                  --yaml----> yaml_spec
//! ```

mod read;
mod wire;
mod yaml;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

pub use read::SpecError;

use super::{
    release::Release,
    schema::{Field, Type},
};

/// An IP address with a prefix length; the address keeps its host bits, as `netip.Prefix` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// The prefix length, at most 32 or 128.
    pub length: u8,
}

/// Text that is no address with a prefix length.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no address with a prefix length such as 10.0.0.9/24")]
pub struct BadPrefix(String);

impl Prefix {
    /// An address with `length` bits of prefix, if it has that many.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (length <= bits).then_some(Self { address, length })
    }

    /// Whether `address` is of this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn same(left: u128, right: u128, shift: u32) -> bool {
            left.checked_shr(shift) == right.checked_shr(shift)
        }
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(address)) => same(
                net.to_bits().into(),
                address.to_bits().into(),
                32 - u32::from(self.length),
            ),
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                same(net.to_bits(), address.to_bits(), 128 - u32::from(self.length))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        text.split_once('/')
            .and_then(|(address, length)| Self::new(address.parse().ok()?, length.parse().ok()?))
            .ok_or_else(|| BadPrefix(text.to_owned()))
    }
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq)]
enum Datum {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Text(String),
    Bytes(Vec<u8>),
    Address(Option<IpAddr>),
    Prefix(Option<Prefix>),
    Message(Vec<Entry>),
    List(Vec<Datum>),
    TextMap(BTreeMap<String, String>),
}

/// A field with its value; a message holds one for each field that the release has.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    field: &'static Field,
    value: Datum,
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        (self.number, self.name) == (other.number, other.name)
    }
}

/// A spec of a known type, complete for one release.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    entries: Vec<Entry>,
    generated: bool,
    zeros: bool,
}

impl Spec {
    /// Reads `document`, whose keys and values are those of Talos's YAML. Keys that are absent are zero; a key that
    /// `release` does not have yet is left out, a key that no release has is an error.
    pub fn read(kind: &Type, document: &serde_json::Value, release: Release) -> Result<Self, SpecError> {
        Ok(Self {
            entries: read::message(kind.fields, document, release)?,
            generated: kind.generated,
            zeros: release.writes_zero_values() && !kind.generated,
        })
    }

    /// The protobuf form.
    pub fn encode(&self) -> Vec<u8> {
        wire::message(&self.entries, self.zeros)
    }

    /// The YAML form.
    pub fn yaml(&self) -> String {
        match self.entries.as_slice() {
            [only] if self.generated => yaml::scalar(only),
            entries => yaml::document(entries),
        }
    }
}
