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
    /// `SetGuestInfo  4`: with the registration, for the log of the VM.
    BuildNumber,
    /// `info-set guestinfo.vmtools.description`: likewise, for people.
    Description,
    /// `info-set guestinfo.vmtools.versionString`: likewise.
    VersionString,
    /// `info-set guestinfo.vmtools.containerinfo`: the images that the node's pods run.
    Containers,
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
            Self::BuildNumber => "build-number",
            Self::Description => "vmtools.description",
            Self::VersionString => "vmtools.versionString",
            Self::Containers => "vmtools.containerinfo",
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
            Self::BuildNumber => Some(Request::guest_info_text(4, value)),
            Self::Description | Self::VersionString | Self::Containers => {
                Some(Request::info_set(self.name(), value))
            }
        }
    }

    /// Asks for what the host has under the name of a variable; none for what is no variable of ours, or never stale.
    pub fn get(self) -> Option<Request> {
        match self {
            Self::PrimaryIp => Some(Request::text("info-get guestinfo.ip")),
            Self::Talos(key) => Some(key.get()),
            Self::Containers => Some(Request::text(format!("info-get guestinfo.{}", self.name()))),
            _ => None,
        }
    }

    /// Whether the host has stored the value only if it says nothing: for text under `SetGuestInfo` and for disks, any
    /// text in the reply means failure, whatever the status (guestInfoServer.c).
    pub const fn silence_means_stored(self) -> bool {
        matches!(
            self,
            Self::HostName
                | Self::BuildNumber
                | Self::OsNameFull
                | Self::OsName
                | Self::Uptime
                | Self::Disks
                | Self::DisksPacked
        )
    }
}

/// What the program tells about itself with each registration, for people and scripts.
/// `guestinfo.vmtools.versionNumber` is left out: it is open-vm-tools' numbering, and scanners judge by it.
pub fn program() -> [(Key, String); 3] {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    [
        (Key::Description, format!("{name} {version}")),
        (Key::VersionString, version.to_owned()),
        // Any text will do; open-vm-tools' begins so (guestInfoServer.c).
        (Key::BuildNumber, format!("build-{version}")),
    ]
}
