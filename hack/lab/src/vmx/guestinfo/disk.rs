//! Filesystems: JSON after `SetGuestDiskInfo ` (V1) and the packed array of id 3 (V0).

use serde::{Deserialize, Serialize};

use super::{DecodeError, cursor::Cursor};

/// Length of the name's field in a V0 entry, in bytes.
const V0_NAME: usize = 100;
/// Longest `fstype` in bytes.
const MAX_FSTYPE: usize = 259;

/// One filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// Mount point.
    pub mount_point: String,
    /// Bytes free for unprivileged users.
    pub free: u64,
    /// Size in bytes.
    pub size: u64,
    /// Type, for example `xfs`.
    pub kind: Option<String>,
    /// Virtual disks below it, for example `scsi0:0`.
    pub devices: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    version: String,
    disks: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    free: String,
    size: String,
    #[serde(default)]
    fstype: Option<String>,
    #[serde(default)]
    devices: Vec<String>,
}

/// Decodes the JSON of `SetGuestDiskInfo`, with or without a NUL at its end.
pub fn decode_json(payload: &[u8]) -> Result<Vec<Filesystem>, DecodeError> {
    let json = payload.strip_suffix(b"\0").unwrap_or(payload);
    let report: Report =
        serde_json::from_slice(json).map_err(|_| DecodeError::text("not the JSON of a disk report", json))?;
    if report.version != "1" {
        return Err(DecodeError::text(
            "version of the disk report",
            report.version.as_bytes(),
        ));
    }
    report.disks.into_iter().map(filesystem).collect()
}

fn filesystem(entry: Entry) -> Result<Filesystem, DecodeError> {
    let bytes = |text: &str| {
        text.parse()
            .map_err(|_| DecodeError::text("not a number of bytes in decimal", text.as_bytes()))
    };
    let name = base64(entry.name.as_bytes())
        .and_then(|name| String::from_utf8(name).ok())
        .ok_or_else(|| DecodeError::text("not the base64 of a mount point", entry.name.as_bytes()))?;
    let filesystem = Filesystem {
        mount_point: name,
        free: bytes(&entry.free)?,
        size: bytes(&entry.size)?,
        kind: entry.fstype,
        devices: entry.devices,
    };
    if filesystem.free > filesystem.size {
        return Err(DecodeError::text(
            "more bytes free than there are",
            entry.free.as_bytes(),
        ));
    }
    match &filesystem.kind {
        Some(kind) if kind.len() > MAX_FSTYPE => {
            Err(DecodeError::text("filesystem type too long", kind.as_bytes()))
        }
        _ => Ok(filesystem),
    }
}

/// Standard base64 with padding; `None` if it is anything else.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let unpadded = text
        .strip_suffix(b"==")
        .or(text.strip_suffix(b"="))
        .unwrap_or(text);
    let mut bytes = Vec::new();
    let (mut bits, mut width) = (0_u32, 0_u32);
    for digit in unpadded {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        width += 6;
        if width >= 8 {
            width -= 8;
            bytes.push(u8::try_from(bits >> width).ok()?);
            bits &= (1 << width) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

/// Decodes id 3: a count, then entries of 116 bytes; up to two zero bytes may follow, as open-vm-tools sends them.
pub fn decode_v0(payload: &[u8]) -> Result<Vec<Filesystem>, DecodeError> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.take(1)?.first().copied().unwrap_or_default();
    let mut filesystems = Vec::new();
    for _ in 0..count {
        let (free, size) = (cursor.u64_le()?, cursor.u64_le()?);
        let field = cursor.take(V0_NAME)?;
        let name = field.split(|byte| *byte == 0).next().unwrap_or_default();
        filesystems.push(Filesystem {
            mount_point: super::text(name)?.to_owned(),
            free,
            size,
            kind: None,
            devices: Vec::new(),
        });
    }
    match payload.get(cursor.offset()..) {
        Some([] | [0] | [0, 0]) => Ok(filesystems),
        rest => Err(DecodeError::Trailing {
            left: rest.map_or(0, <[u8]>::len),
        }),
    }
}
