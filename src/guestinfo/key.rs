//! Every value of the VM that this program writes, one by one. Nothing else is ever read, written or cleared: under
//! `guestinfo.` others keep theirs, Talos its machine configuration (`guestinfo.talos.config`) among them.

#![forbid(unsafe_code)]

use serde::Serialize;

use super::talos_state::StateKey;
use crate::rpci::Request;

/// A value that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// `SetGuestInfo  10`, or 9: adapters, routes, DNS. vSphere: `guest.net`, `guest.ipStack`.
    NicInfo,
    /// `info-set guestinfo.ip`. vSphere: `guest.ipAddress`.
    PrimaryIp,
    /// `SetGuestInfo  1`. vSphere: `guest.hostName`.
    HostName,
    /// `SetGuestInfo  11`. vSphere: `guest.guestDetailedData`, `guest.guestId`, `guest.guestFullName`.
    OsDetailed,
    /// `SetGuestInfo  5`, only where the former is refused.
    OsNameFull,
    /// `SetGuestInfo  6`, likewise.
    OsName,
    /// `SetGuestInfo  7`. vSphere: the counter `sys.osUptime`.
    Uptime,
    /// `SetGuestInfo  8`. vSphere: the guest's memory statistics.
    Statistics,
    /// `SetGuestDiskInfo`. vSphere: `guest.disk`.
    Disks,
    /// `SetGuestInfo  3`, only where the former is refused.
    DisksPacked,
    /// `info-set guestinfo.talos.clock-offset`: guest minus host in seconds, empty while it is under one second.
    ClockOffset,
    /// `info-set guestinfo.talos.last-error`: why the last power operation failed; empty once one has begun.
    LastError,
    /// `info-set guestinfo.talos.…`. vSphere: extra configuration of the same name.
    #[serde(untagged)]
    Talos(StateKey),
}

impl Key {
    /// For the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NicInfo => "nic-info",
            Self::PrimaryIp => "primary-ip",
            Self::HostName => "host-name",
            Self::OsDetailed => "os-detailed",
            Self::OsNameFull => "os-name-full",
            Self::OsName => "os-name",
            Self::Uptime => "uptime",
            Self::Statistics => "statistics",
            Self::Disks => "disks",
            Self::DisksPacked => "disks-packed",
            Self::Talos(key) => key.name(),
            Self::ClockOffset => "clock-offset",
            Self::LastError => "last-error",
        }
    }

    /// The request that sets a value of plain text; none for records.
    pub fn text(self, value: &str) -> Option<Request> {
        match self {
            Self::NicInfo | Self::OsDetailed | Self::Statistics | Self::Disks | Self::DisksPacked => None,
            Self::PrimaryIp => Some(Request::info_set("ip", value)),
            Self::HostName => Some(Request::guest_info_text(1, value)),
            Self::OsNameFull => Some(Request::guest_info_text(5, value)),
            Self::OsName => Some(Request::guest_info_text(6, value)),
            Self::Uptime => Some(Request::guest_info_text(7, value)),
            Self::Talos(key) => Some(key.set(value)),
            Self::ClockOffset => Some(Request::info_set("talos.clock-offset", value)),
            Self::LastError => Some(Request::info_set("talos.last-error", value)),
        }
    }

    /// Whether the host has stored the value only if it says nothing: for text under `SetGuestInfo` and for disks, any text in the
    /// reply means failure, whatever the status (guestInfoServer.c).
    pub const fn silence_means_stored(self) -> bool {
        matches!(
            self,
            Self::HostName | Self::OsNameFull | Self::OsName | Self::Uptime | Self::Disks | Self::DisksPacked
        )
    }
}
