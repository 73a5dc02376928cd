//! Disks, volumes and mounts. Free space stands in none of these resources; [`Filesystem`] comes from a call.

#![forbid(unsafe_code)]

use serde::Serialize;

/// Disks.block.talos.dev: a whole disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// `/dev/sda`.
    pub dev_path: String,
    /// Bytes; 0 for a drive without medium.
    pub size: u64,
    /// What the disk calls itself: `Virtual disk`.
    pub model: String,
    /// Serial number, empty where the disk tells none.
    pub serial: String,
    /// World-wide id.
    pub wwid: String,
    /// `/pci0000:00/0000:00:10.0/host2/target2:0:0/2:0:0:0/`.
    pub bus_path: String,
    /// `nvme`, `virtio`, `sas`, …
    pub transport: String,
    /// It cannot be written.
    pub readonly: bool,
    /// An optical drive.
    pub cdrom: bool,
    /// Names of the disks below it (device mapper, multipath).
    pub secondary_disks: Vec<String>,
}

/// DiscoveredVolumes.block.talos.dev: a disk or partition, and what was found on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiscoveredVolume {
    /// `/dev/sda6`.
    pub dev_path: String,
    /// `disk` or `partition`.
    #[serde(rename = "type")]
    pub volume_type: String,
    /// Bytes.
    pub size: u64,
    /// What stands on it: `xfs`, `vfat`, `luks`, `gpt`, or empty.
    pub name: String,
    /// Label of the filesystem.
    pub label: String,
    /// Id of the filesystem.
    pub uuid: String,
    /// Label of the partition: `EPHEMERAL`.
    pub partition_label: String,
    /// Number of the partition, from 1.
    pub partition_index: u64,
    /// Name of the disk that it is a part of: `sda`.
    pub parent: String,
    /// `/dev/sda`.
    pub parent_dev_path: String,
}

/// VolumeStatuses.block.talos.dev: a volume that Talos manages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VolumeStatus {
    /// 0 waiting, 1 failed, 2 missing, 3 located, 4 provisioned, 5 prepared, 6 ready, 7 closed.
    pub phase: i32,
    /// 0 partition, 1 disk, 2 tmpfs, 3 directory, 4 symlink, 5 overlay, 6 external.
    #[serde(rename = "type")]
    pub volume_type: i32,
    /// The device: `/dev/sda6`.
    pub location: String,
    /// The device that is mounted: another one where the volume is encrypted.
    pub mount_location: String,
    /// The device that this one is a part of: `/dev/sda`.
    pub parent_location: String,
    /// Bytes.
    pub size: u64,
    /// 0 none, 1 xfs, 2 vfat, 3 ext4, 4 iso9660, 5 swap, 6 virtiofs, 7 btrfs.
    pub filesystem: i32,
    /// 0 none, 1 luks2.
    pub encryption_provider: i32,
    /// Where it is mounted when it is: `/var`.
    pub target_path: String,
    /// Id of the volume that it lies in, for a directory.
    pub parent_id: String,
}

impl VolumeStatus {
    /// The name of the filesystem, none where it has none or a later Talos knows more.
    pub const fn filesystem_name(&self) -> Option<&'static str> {
        filesystem_name(self.filesystem)
    }
}

/// A mount that Talos made, as MountStatuses.block.talos.dev (Talos 1.10 and later) or the older
/// MountStatuses.runtime.talos.dev tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MountStatus {
    /// Id of the volume: `EPHEMERAL`.
    pub volume_id: String,
    /// The device.
    pub source: String,
    /// Where: `/var`. Empty for a mount that stands nowhere (detached, Talos 1.12 and later).
    pub target: String,
    /// `xfs`, …; empty where Talos names none.
    pub filesystem: String,
    /// It cannot be written.
    pub read_only: bool,
    /// The device is encrypted.
    pub encrypted: bool,
}

/// One filesystem of the `Mounts` call, at the moment of the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// The device or the type: `/dev/sda6`, `tmpfs`.
    pub source: String,
    /// Where.
    pub target: String,
    /// Bytes.
    pub size: u64,
    /// Bytes that an unprivileged process may still write.
    pub available: u64,
}

/// Talos's numbers of filesystems (pkg/machinery/resources/block/enums.go).
pub const fn filesystem_name(number: i32) -> Option<&'static str> {
    match number {
        1 => Some("xfs"),
        2 => Some("vfat"),
        3 => Some("ext4"),
        4 => Some("iso9660"),
        5 => Some("swap"),
        6 => Some("virtiofs"),
        7 => Some("btrfs"),
        _ => None,
    }
}
