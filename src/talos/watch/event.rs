//! What an event of a COSI watch means for the facts.

#![forbid(unsafe_code)]

use crate::{
    pb::cosi::resource as cosi,
    talos::{
        decode::{self, DecodeError},
        reducer::{Event, Resource},
        resource::ResourceType,
    },
};

/// Phase of a resource that still exists and is going away (cosi-project/runtime, resource/phase.go).
const TEARING_DOWN: &str = "tearingDown";

/// The meaning of one event.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every meaning is an event, and it is moved once"
)]
#[derive(Debug, PartialEq)]
pub enum Meaning {
    /// For the facts.
    Event(Event),
    /// The server gave this watch up (a buffer overrun, for instance). It sends nothing more and leaves the stream
    /// open.
    Errored(String),
    /// A bookmark, an event type of a later COSI, a resource of another type or another id.
    Nothing,
}

/// Reads one event of a watch of `resource_type`.
pub fn read(resource_type: ResourceType, event: cosi::Event) -> Meaning {
    match cosi::EventType::try_from(event.event_type) {
        Ok(cosi::EventType::Created | cosi::EventType::Updated) => {
            changed(resource_type, event.resource.unwrap_or_default())
        }
        Ok(cosi::EventType::Destroyed) => {
            let metadata = event.resource.unwrap_or_default().metadata.unwrap_or_default();
            identify(resource_type, &metadata).map_or(Meaning::Nothing, |id| {
                Meaning::Event(Event::Removed { resource_type, id })
            })
        }
        // It carries a tombstone without id from Talos 1.7 on, and nothing before.
        Ok(cosi::EventType::Bootstrapped) => Meaning::Event(Event::Bootstrapped(resource_type)),
        Ok(cosi::EventType::Errored) => Meaning::Errored(event.error.unwrap_or_default()),
        Ok(cosi::EventType::Noop) | Err(_) => Meaning::Nothing,
    }
}

fn changed(resource_type: ResourceType, resource: cosi::Resource) -> Meaning {
    let metadata = resource.metadata.unwrap_or_default();
    let Some(id) = identify(resource_type, &metadata) else {
        return Meaning::Nothing;
    };
    Meaning::Event(if metadata.phase == TEARING_DOWN {
        Event::Removed { resource_type, id }
    } else {
        let bytes = resource.spec.unwrap_or_default().proto_spec;
        match decode(resource_type, &id, &bytes) {
            Ok(resource) => Event::Put(resource),
            Err(error) => Event::Undecodable {
                resource_type,
                id,
                reason: error.to_string(),
            },
        }
    })
}

/// The id, if this is a resource that the watch is about.
fn identify(resource_type: ResourceType, metadata: &cosi::Metadata) -> Option<String> {
    let wanted = match resource_type.only_id() {
        Some(only) => metadata.id == only,
        None => !metadata.id.is_empty(),
    };
    (wanted && metadata.r#type == resource_type.type_name()).then(|| metadata.id.clone())
}

fn decode(resource_type: ResourceType, id: &str, bytes: &[u8]) -> Result<Resource, DecodeError> {
    Ok(match resource_type {
        ResourceType::Link => Resource::Link(id.to_owned(), decode::link(bytes)?),
        ResourceType::Address => Resource::Address(id.to_owned(), decode::address(bytes)?),
        ResourceType::Route => Resource::Route(id.to_owned(), decode::route(bytes)?),
        ResourceType::NodeAddress => Resource::NodeAddress(id.to_owned(), decode::node_address(bytes)?),
        ResourceType::NodeIp => Resource::NodeIp(id.to_owned(), decode::node_ip(bytes)?),
        ResourceType::Hostname => Resource::Hostname(decode::hostname(bytes)?),
        ResourceType::Resolver => Resource::Resolver(decode::resolver(bytes)?),
        ResourceType::Machine => Resource::Machine(decode::machine(bytes)?),
        ResourceType::Security => Resource::Security(decode::security(bytes)?),
        ResourceType::AddressSpec => Resource::AddressSpec(id.to_owned(), decode::address_spec(id, bytes)?),
        ResourceType::MachineType => Resource::MachineType(decode::machine_type(bytes)?),
        ResourceType::Nodename => Resource::Nodename(decode::nodename(bytes)?),
        ResourceType::Node => Resource::Node(id.to_owned(), decode::node_status(bytes)?),
        ResourceType::Cluster => Resource::Cluster(decode::cluster_name(bytes)?),
        ResourceType::Schematic => Resource::Schematic(decode::schematic(bytes)?),
        ResourceType::Extension => Resource::Extension(id.to_owned(), decode::extension(bytes)?),
        ResourceType::BootId => Resource::BootId(decode::boot_id(bytes)?),
        ResourceType::Disk => Resource::Disk(id.to_owned(), decode::disk(bytes)?),
        ResourceType::DiscoveredVolume => {
            Resource::DiscoveredVolume(id.to_owned(), decode::discovered_volume(bytes)?)
        }
        ResourceType::Volume => Resource::Volume(id.to_owned(), decode::volume(bytes)?),
        ResourceType::Mount => Resource::Mount(id.to_owned(), decode::mount(bytes)?),
        ResourceType::RuntimeMount => {
            Resource::RuntimeMount(id.to_owned(), decode::runtime_mount(id, bytes)?)
        }
    })
}

#[cfg(test)]
mod tests;
