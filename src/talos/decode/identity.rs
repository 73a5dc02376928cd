//! Specs that say what the node is.

#![forbid(unsafe_code)]

use prost::Message as _;

use super::DecodeError;
use crate::{
    pb::spec,
    talos::snapshot::{Extension, MachineType, NodeStatus, Schematic},
};

/// MachineType. Talos has it from early in the boot, and 0 until a machine configuration is loaded.
pub fn machine_type(bytes: &[u8]) -> Result<MachineType, DecodeError> {
    Ok(MachineType(spec::MachineType::decode(bytes)?.machine_type))
}

/// Nodename. Without a name it says nothing.
pub fn nodename(bytes: &[u8]) -> Result<String, DecodeError> {
    told("nodename", spec::Nodename::decode(bytes)?.nodename)
}

/// NodeStatus. Labels and annotations are skipped.
pub fn node_status(bytes: &[u8]) -> Result<NodeStatus, DecodeError> {
    let spec = spec::NodeStatus::decode(bytes)?;
    Ok(NodeStatus {
        ready: spec.node_ready,
        unschedulable: spec.unschedulable,
    })
}

/// The name in the cluster's Info; a machine configuration can leave it out.
pub fn cluster_name(bytes: &[u8]) -> Result<String, DecodeError> {
    Ok(spec::ClusterInfo::decode(bytes)?.cluster_name)
}

/// ImageFactorySchematic. Without an id it says nothing.
pub fn schematic(bytes: &[u8]) -> Result<Schematic, DecodeError> {
    let spec = spec::ImageFactorySchematic::decode(bytes)?;
    Ok(Schematic {
        id: told("schematic_id", spec.schematic_id)?,
        flavor: spec.flavor,
    })
}

/// ExtensionStatus.
pub fn extension(bytes: &[u8]) -> Result<Extension, DecodeError> {
    let metadata = spec::ExtensionStatus::decode(bytes)?.metadata.unwrap_or_default();
    Ok(Extension {
        name: metadata.name,
        version: metadata.version,
    })
}

/// BootID. Without an id it says nothing.
pub fn boot_id(bytes: &[u8]) -> Result<String, DecodeError> {
    told("boot_id", spec::BootId::decode(bytes)?.boot_id)
}

fn told(field: &'static str, text: String) -> Result<String, DecodeError> {
    if text.is_empty() {
        return Err(DecodeError::Missing { field });
    }
    Ok(text)
}
