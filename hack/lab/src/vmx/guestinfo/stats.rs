//! Guest statistics (id 8): a legacy block of 112 bytes, then self-describing data (`guestStats.h`).

use serde::Serialize;

use super::{DecodeError, cursor::Cursor};

const VERSION: u32 = 5;
/// Legacy block after version, flags and total memory: eleven 64-bit words.
const LEGACY_REST: usize = 96;
/// The namespace that the first datum must carry.
const NAMESPACE: &[u8] = b"_tools/v1\0";
const FLAG_NAMESPACE: u32 = 0x02;
const FLAG_ID: u32 = 0x04;
const FLAG_TYPE: u32 = 0x08;
const FLAG_VALUE: u32 = 0x80;
const TYPE_DOUBLE: u64 = 11;
/// Highest id that exists.
const MAX_ID: u64 = 67;

/// One statistic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stat {
    /// Which one.
    pub id: u64,
    /// Its value; `None` where the guest could not read it.
    pub value: Option<f64>,
}

/// A report of statistics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Memory of the guest in KiB, from the legacy block.
    pub memory_total: u64,
    /// The statistics, in the guest's order.
    pub stats: Vec<Stat>,
}

/// Decodes a report.
pub fn decode(payload: &[u8]) -> Result<Stats, DecodeError> {
    let mut cursor = Cursor::new(payload);
    match cursor.u32_le()? {
        VERSION => {}
        value => {
            return Err(DecodeError::Value {
                what: "version of the statistics",
                value,
            });
        }
    }
    cursor.u32_le()?;
    let memory_total = cursor.u64_le()?;
    cursor.take(LEGACY_REST)?;
    let mut stats = Vec::new();
    while !cursor.is_empty() {
        stats.push(stat(&mut cursor, stats.is_empty())?);
    }
    Ok(Stats { memory_total, stats })
}

fn stat(cursor: &mut Cursor<'_>, first: bool) -> Result<Stat, DecodeError> {
    let flags = cursor.u32_le()?;
    if flags & (FLAG_ID | FLAG_TYPE) != FLAG_ID | FLAG_TYPE || flags > 0xff {
        return Err(DecodeError::Value {
            what: "flags of a statistic",
            value: flags,
        });
    }
    if first && flags & FLAG_NAMESPACE == 0 {
        return Err(DecodeError::Value {
            what: "first statistic without namespace, flags",
            value: flags,
        });
    }
    let (mut id, mut kind, mut raw) = (0, 0, None);
    for bit in (0..8).map(|shift| 1_u32 << shift).filter(|bit| flags & bit != 0) {
        let length = usize::from(cursor.u16_le()?);
        let datum = cursor.take(length)?;
        match bit {
            FLAG_NAMESPACE if datum != NAMESPACE => return Err(DecodeError::text("namespace", datum)),
            FLAG_ID => id = integer(datum)?,
            FLAG_TYPE => kind = integer(datum)?,
            FLAG_VALUE => raw = Some(datum),
            _ => {}
        }
    }
    if id == 0 || id > MAX_ID {
        return Err(DecodeError::Value {
            what: "id of a statistic",
            value: u32::try_from(id).unwrap_or(u32::MAX),
        });
    }
    let value = match raw {
        None => None,
        Some(datum) if kind == TYPE_DOUBLE => Some(double(datum)?),
        // A float holds every value that matters to a reader of the view.
        Some(datum) => Some(integer(datum)? as f64),
    };
    Ok(Stat { id, value })
}

/// Little-endian in 0, 1, 2, 4 or 8 bytes, the shortest that holds it.
fn integer(datum: &[u8]) -> Result<u64, DecodeError> {
    if !matches!(datum.len(), 0 | 1 | 2 | 4 | 8) {
        return Err(DecodeError::text("length of an integer", datum));
    }
    Ok(datum
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

fn double(datum: &[u8]) -> Result<f64, DecodeError> {
    if datum.is_empty() {
        return Ok(0.0);
    }
    if let Ok(bytes) = <[u8; 4]>::try_from(datum) {
        return Ok(f64::from(f32::from_le_bytes(bytes)));
    }
    <[u8; 8]>::try_from(datum)
        .map(f64::from_le_bytes)
        .map_err(|_| DecodeError::text("length of a double", datum))
}
