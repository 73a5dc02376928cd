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
    let id = || id.to_owned();
    Ok(match resource_type {
        ResourceType::Link => Resource::Link(id(), decode::link(bytes)?),
        ResourceType::Address => Resource::Address(id(), decode::address(bytes)?),
        ResourceType::Route => Resource::Route(id(), decode::route(bytes)?),
        ResourceType::NodeAddress => Resource::NodeAddress(id(), decode::node_address(bytes)?),
        ResourceType::Hostname => Resource::Hostname(decode::hostname(bytes)?),
        ResourceType::Resolver => Resource::Resolver(decode::resolver(bytes)?),
        ResourceType::Machine => Resource::Machine(decode::machine(bytes)?),
        ResourceType::Security => Resource::Security(decode::security(bytes)?),
    })
}

#[cfg(test)]
mod tests;
