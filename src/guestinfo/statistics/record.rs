//! The bytes of `SetGuestInfo  8` (guestStats.h of open-vm-tools).
//!
//! ```text
//!  version, flags, memory, …: the old form, 112 bytes
//!  reading…                   flags, then size and bytes of each datum that the flags name
//! ```
//!
//! Little-endian, packed, without an end mark.

use std::fmt;

/// Version of the old form.
const VERSION: u32 = 5;
/// The old form knows the size of memory.
const HAS_MEMORY: u32 = 1 << 0;
/// The old form knows the number of huge pages.
const HAS_HUGE_PAGES: u32 = 1 << 10;

/// What the readings of a message are named after; stands with the first.
const NAMESPACE: &[u8] = b"_tools/v1\0";

const DATUM_NAMESPACE: u32 = 0x02;
const DATUM_ID: u32 = 0x04;
const DATUM_TYPE: u32 = 0x08;
const DATUM_UNIT: u32 = 0x20;
const DATUM_VALUE: u32 = 0x80;

/// The number of the type of integers.
const TYPE_UINT64: u64 = 9;
/// The number of the type of fractions, whatever their size.
const TYPE_DOUBLE: u64 = 11;

/// Base, modifier and scale in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes = 0x0003,
    KiB = 0x0803,
    HugePages = 0x8803,
    PagesPerSecond = 0x8043,
    Number = 0x0002,
    NumberPerSecond = 0x0042,
}

/// None where the source could not be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Integer(Option<u64>),
    Double(Option<f64>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    pub id: u64,
    /// VMware's name for it.
    pub name: &'static str,
    pub unit: Unit,
    pub value: Value,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, unit, value, ..
        } = self;
        match value {
            Value::Integer(Some(value)) => write!(f, "{name} {value} {unit:?}"),
            Value::Double(Some(value)) => write!(f, "{name} {value} {unit:?}"),
            Value::Integer(None) | Value::Double(None) => write!(f, "{name} without value"),
        }
    }
}

/// The message, without the words before it. `memory` is in KiB.
pub(super) fn encode(memory: Option<u64>, huge_pages: Option<u64>, readings: &[Reading]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    let known = |value: Option<u64>, flag| value.map_or(0, |_| flag);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((known(memory, HAS_MEMORY) | known(huge_pages, HAS_HUGE_PAGES)).to_le_bytes());
    bytes.extend(memory.unwrap_or(0).to_le_bytes());
    bytes.extend([0; 72]);
    bytes.extend(huge_pages.unwrap_or(0).to_le_bytes());
    bytes.extend([0; 16]);
    for (index, reading) in readings.iter().enumerate() {
        let (type_number, value) = match reading.value {
            Value::Integer(value) => (TYPE_UINT64, value.map(shortest)),
            Value::Double(value) => (TYPE_DOUBLE, value.map(shortest_double)),
        };
        let mut flags = DATUM_ID | DATUM_TYPE | DATUM_UNIT;
        if index == 0 {
            flags |= DATUM_NAMESPACE;
        }
        if value.is_some() {
            flags |= DATUM_VALUE;
        }
        bytes.extend(flags.to_le_bytes());
        if index == 0 {
            datum(&mut bytes, NAMESPACE);
        }
        datum(&mut bytes, &shortest(reading.id));
        datum(&mut bytes, &shortest(type_number));
        datum(&mut bytes, &shortest(reading.unit as u64));
        if let Some(value) = value {
            datum(&mut bytes, &value);
        }
    }
    bytes
}

/// No datum is longer than the namespace.
fn datum(bytes: &mut Vec<u8>, value: &[u8]) {
    let size = u16::try_from(value.len()).unwrap_or(u16::MAX);
    bytes.extend(size.to_le_bytes());
    bytes.extend_from_slice(value);
}

/// In 0, 1, 2, 4 or 8 bytes.
fn shortest(value: u64) -> Vec<u8> {
    if value == 0 {
        Vec::new()
    } else if let Ok(value) = u8::try_from(value) {
        vec![value]
    } else if let Ok(value) = u16::try_from(value) {
        value.to_le_bytes().to_vec()
    } else if let Ok(value) = u32::try_from(value) {
        value.to_le_bytes().to_vec()
    } else {
        value.to_le_bytes().to_vec()
    }
}

/// In 0 or 4 bytes where that loses nothing, else in 8.
fn shortest_double(value: f64) -> Vec<u8> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "used only where it is the same number"
    )]
    let single = value as f32;
    if value == 0.0 {
        Vec::new()
    } else if f64::from(single) == value {
        single.to_le_bytes().to_vec()
    } else {
        value.to_le_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn integer(id: u64, unit: Unit, value: Option<u64>) -> Reading {
        Reading {
            id,
            name: "",
            unit,
            value: Value::Integer(value),
        }
    }

    fn double(id: u64, unit: Unit, value: Option<f64>) -> Reading {
        Reading {
            id,
            name: "",
            unit,
            value: Value::Double(value),
        }
    }

    /// The worked example, byte for byte (guestStats.h).
    #[test]
    fn the_worked_example() {
        let message = encode(
            Some(4_014_372),
            Some(0),
            &[
                integer(11, Unit::KiB, Some(2048)),
                integer(6, Unit::KiB, Some(4_014_372)),
                integer(12, Unit::HugePages, Some(0)),
                double(7, Unit::PagesPerSecond, None),
                double(7, Unit::PagesPerSecond, Some(12.5)),
            ],
        );
        let expected = [
            "050000000104000024413d0000000000",
            &"00".repeat(72),
            "0000000000000000",
            &"00".repeat(16),
            "ae0000000a005f746f6f6c732f7631000100",
            "0b01000902000308020000",
            "08",
            "ac00000001000601000902000308040024413d00",
            "ac00000001000c0100090200038800",
            "00",
            "2c00000001000701000b02004380",
            "ac00000001000701000b020043800400",
            "00004841",
        ]
        .concat();
        assert_eq!(hex(&message), expected);
    }

    #[test]
    fn what_is_unknown_has_no_flag() {
        let message = encode(None, None, &[]);
        assert_eq!(message.len(), 112);
        assert_eq!(hex(&message[..8]), "0500000000000000");
    }

    #[test]
    fn numbers_take_the_room_they_need() {
        for (value, length) in [
            (0, 0),
            (1, 1),
            (255, 1),
            (256, 2),
            (65_536, 4),
            (1 << 32, 8),
            (u64::MAX, 8),
        ] {
            assert_eq!(shortest(value).len(), length, "{value}");
        }
        for (value, length) in [
            (0.0, 0),
            (-0.0, 0),
            (12.5, 4),
            (0.1, 8),
            (1e300, 8),
            (f64::NAN, 8),
        ] {
            assert_eq!(shortest_double(value).len(), length, "{value}");
        }
    }
}
