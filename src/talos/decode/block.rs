//! Specs of disks, volumes and mounts.

#![forbid(unsafe_code)]

use prost::Message as _;

use super::DecodeError;
use crate::{
    pb::spec,
    talos::snapshot::{DiscoveredVolume, Disk, MountStatus, VolumeStatus, filesystem_name},
};

/// Disk.
pub fn disk(bytes: &[u8]) -> Result<Disk, DecodeError> {
    let spec = spec::Disk::decode(bytes)?;
    Ok(Disk {
        dev_path: spec.dev_path,
        size: spec.size,
        model: spec.model,
        serial: spec.serial,
        wwid: spec.wwid,
        bus_path: spec.bus_path,
        transport: spec.transport,
        readonly: spec.readonly,
        cdrom: spec.cdrom,
        secondary_disks: spec.secondary_disks,
    })
}

/// DiscoveredVolume.
pub fn discovered_volume(bytes: &[u8]) -> Result<DiscoveredVolume, DecodeError> {
    let spec = spec::DiscoveredVolume::decode(bytes)?;
    Ok(DiscoveredVolume {
        dev_path: spec.dev_path,
        volume_type: spec.r#type,
        size: spec.size,
        name: spec.name,
        label: spec.label,
        uuid: spec.uuid,
        partition_label: spec.partition_label,
        partition_index: spec.partition_index,
        parent: spec.parent,
        parent_dev_path: spec.parent_dev_path,
    })
}

/// VolumeStatus.
pub fn volume(bytes: &[u8]) -> Result<VolumeStatus, DecodeError> {
    let spec = spec::VolumeStatus::decode(bytes)?;
    Ok(VolumeStatus {
        phase: spec.phase,
        volume_type: spec.r#type,
        location: spec.location,
        mount_location: spec.mount_location,
        parent_location: spec.parent_location,
        size: spec.size,
        filesystem: spec.filesystem,
        encryption_provider: spec.encryption_provider,
        target_path: spec.mount_spec.unwrap_or_default().target_path,
        parent_id: spec.parent_id,
    })
}

/// MountStatus of the block controllers.
pub fn mount(bytes: &[u8]) -> Result<MountStatus, DecodeError> {
    let spec = spec::MountStatus::decode(bytes)?;
    Ok(MountStatus {
        volume_id: spec.spec.unwrap_or_default().volume_id,
        source: spec.source,
        target: if spec.detached { String::new() } else { spec.target },
        filesystem: filesystem_name(spec.filesystem).unwrap_or_default().to_owned(),
        read_only: spec.read_only,
        encrypted: spec.encryption_provider != 0,
    })
}

/// MountStatus of older releases, whose id is the volume's.
pub fn runtime_mount(id: &str, bytes: &[u8]) -> Result<MountStatus, DecodeError> {
    let spec = spec::RuntimeMountStatus::decode(bytes)?;
    Ok(MountStatus {
        volume_id: id.to_owned(),
        source: spec.source,
        target: spec.target,
        filesystem: spec.filesystem_type,
        read_only: spec.options.iter().any(|option| option == "ro"),
        encrypted: spec.encrypted,
    })
}
