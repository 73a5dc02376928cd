//! What the guest reported about itself with `SetGuestInfo` and `SetGuestDiskInfo`, decoded.

use std::time::Duration;

use super::{
    guestinfo::{
        self, DecodeError,
        disk::{self, Filesystem},
        nic::{self, NicInfo},
        os::{self, OsDetailed},
        stats::{self, Stats},
    },
    transcript::info_id,
};

/// Size of the packed record of id 2, in bytes: a count and sixteen adapters.
const NIC_V1_SIZE: usize = 2436;

/// A reported value and when it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact<T> {
    /// The value.
    pub value: T,
    /// Time since the start of the run.
    pub at: Duration,
}

/// All reported values; absent is "never reported".
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are called what vSphere calls them")]
pub struct Reports {
    pub host_name: Option<Fact<String>>,
    pub build_number: Option<Fact<String>>,
    pub os_full_name: Option<Fact<String>>,
    pub os_short_name: Option<Fact<String>>,
    pub os_detailed: Option<Fact<OsDetailed>>,
    /// Hundredths of a second.
    pub uptime: Option<Fact<u64>>,
    pub network: Option<Fact<NicInfo>>,
    pub disks: Option<Fact<Vec<Filesystem>>>,
    pub statistics: Option<Fact<Stats>>,
}

/// Why a report was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Not `SetGuestInfo`, two spaces, a number, a space.
    #[error("SetGuestInfo without two spaces, a number and a space")]
    Form,
    /// A number that no host knows.
    #[error("SetGuestInfo {0} does not exist")]
    UnknownId(u32),
    /// The payload does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// What a report says beyond its value.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Value,
    /// The guest's uptime is lower than before: it was rebooted without a reset of the virtual machine.
    SoftReset,
}

impl Reports {
    /// Takes a whole `SetGuestInfo` message.
    pub fn set_guest_info(&mut self, message: &[u8], at: Duration) -> Result<Stored, ReportError> {
        let id = info_id(message).ok_or(ReportError::Form)?;
        let payload = payload(message).ok_or(ReportError::Form)?;
        match id {
            1 => {
                self.host_name = Some(Fact {
                    value: non_empty(payload)?,
                    at,
                })
            }
            2 if payload.len() == NIC_V1_SIZE => {}
            2 => return Err(DecodeError::text("size of the packed NIC record", b"").into()),
            3 => {
                self.disks = Some(Fact {
                    value: disk::decode_v0(payload)?,
                    at,
                })
            }
            4 => {
                self.build_number = Some(Fact {
                    value: guestinfo::text(payload)?.to_owned(),
                    at,
                })
            }
            5 => {
                self.os_full_name = Some(Fact {
                    value: guestinfo::text(payload)?.to_owned(),
                    at,
                })
            }
            6 => {
                self.os_short_name = Some(Fact {
                    value: guestinfo::text(payload)?.to_owned(),
                    at,
                })
            }
            7 => {
                let value = guestinfo::uptime(payload)?;
                let before = self.uptime.replace(Fact { value, at });
                if before.is_some_and(|before| before.value > value) {
                    return Ok(Stored::SoftReset);
                }
            }
            8 => {
                self.statistics = Some(Fact {
                    value: stats::decode(payload)?,
                    at,
                })
            }
            9 => {
                self.network = Some(Fact {
                    value: nic::decode(payload, nic::MAX_ADDRESSES_ID_9)?,
                    at,
                })
            }
            10 => {
                self.network = Some(Fact {
                    value: nic::decode(payload, nic::MAX_ADDRESSES_ID_10)?,
                    at,
                })
            }
            11 => {
                self.os_detailed = Some(Fact {
                    value: os::decode(payload)?,
                    at,
                })
            }
            id => return Err(ReportError::UnknownId(id)),
        }
        Ok(Stored::Value)
    }

    /// Takes the JSON of `SetGuestDiskInfo`.
    pub fn set_disks(&mut self, json: &[u8], at: Duration) -> Result<(), ReportError> {
        self.disks = Some(Fact {
            value: disk::decode_json(json)?,
            at,
        });
        Ok(())
    }
}

/// What follows `SetGuestInfo  <id> `.
pub(super) fn payload(message: &[u8]) -> Option<&[u8]> {
    let rest = message.strip_prefix(b"SetGuestInfo  ")?;
    let space = rest.iter().position(|byte| *byte == b' ')?;
    rest.get(space + 1..)
}

/// A node without a name is found by nobody.
fn non_empty(payload: &[u8]) -> Result<String, DecodeError> {
    match guestinfo::text(payload)? {
        "" => Err(DecodeError::text("empty host name", payload)),
        name => Ok(name.to_owned()),
    }
}
