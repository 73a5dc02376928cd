//! The vectors are WatchResponses as machined writes them.

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::talos::snapshot::HostnameStatus;

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

const CREATED: &str = "0ac0010abd010a6f0a076e6574776f726b121e486f73746e616d6553746174757365732e6e65742e74616c6f732e6465\
     761a08686f73746e616d652201312a1e6e6574776f726b2e486f73746e616d6553706563436f6e74726f6c6c65723207\
     72756e6e696e673a060880f2d6ca0642060880f2d6ca06124a0a190a0a74616c6f732d63702d31120b6578616d706c65\
     2e6f7267122d686f73746e616d653a2074616c6f732d63702d310a646f6d61696e6e616d653a206578616d706c652e6f\
     72670a";
const BOOTSTRAPPED: &str = "0a670a510a4d0a076e6574776f726b121e486f73746e616d6553746174757365732e6e65742e74616c6f732e64657622\
     09756e646566696e6564320772756e6e696e673a060880f2d6ca0642060880f2d6ca06120010032a1000112233445566\
     770000000000000000";

fn events(bytes: &[u8], resource_type: ResourceType) -> Vec<Meaning> {
    let response = cosi::WatchResponse::decode(bytes).unwrap();
    response
        .event
        .into_iter()
        .map(|event| read(resource_type, event))
        .collect()
}

fn event(event_type: i32, id: &str, phase: &str, proto_spec: Vec<u8>) -> cosi::Event {
    cosi::Event {
        resource: Some(cosi::Resource {
            metadata: Some(cosi::Metadata {
                r#type: ResourceType::Hostname.type_name().into(),
                id: id.into(),
                phase: phase.into(),
                ..cosi::Metadata::default()
            }),
            spec: Some(cosi::Spec {
                proto_spec,
                ..cosi::Spec::default()
            }),
        }),
        event_type,
        ..cosi::Event::default()
    }
}

fn removed() -> Meaning {
    Meaning::Event(Event::Removed {
        resource_type: ResourceType::Hostname,
        id: "hostname".into(),
    })
}

#[test]
fn a_created_resource_and_the_end_of_the_bootstrap() {
    let put = Meaning::Event(Event::Put(Resource::Hostname(HostnameStatus {
        hostname: "talos-cp-1".into(),
        domainname: "example.org".into(),
    })));
    let end = Meaning::Event(Event::Bootstrapped(ResourceType::Hostname));
    assert_eq!(
        events(&hex(CREATED), ResourceType::Hostname).as_slice(),
        std::slice::from_ref(&put)
    );
    assert_eq!(
        events(&hex(BOOTSTRAPPED), ResourceType::Hostname).as_slice(),
        std::slice::from_ref(&end)
    );
    let both = [hex(CREATED), hex(BOOTSTRAPPED)].concat();
    assert_eq!(both.len(), 300);
    assert_eq!(events(&both, ResourceType::Hostname), [put, end]);
}

#[test]
fn the_first_message_and_the_bare_bootstrapped_of_old_releases() {
    assert_eq!(events(&[], ResourceType::Link), []);
    assert_eq!(
        events(&hex("0a021003"), ResourceType::Link),
        [Meaning::Event(Event::Bootstrapped(ResourceType::Link))]
    );
}

#[test]
fn an_errored_watch() {
    let response = cosi::WatchResponse {
        event: vec![cosi::Event {
            event_type: 4,
            error: Some("buffer overrun: namespace network".into()),
            ..cosi::Event::default()
        }],
    };
    assert_eq!(
        events(&response.encode_to_vec(), ResourceType::Address),
        [Meaning::Errored("buffer overrun: namespace network".into())]
    );
}

#[test]
fn gone_and_going_away() {
    assert_eq!(
        read(ResourceType::Hostname, event(2, "hostname", "running", vec![])),
        removed()
    );
    let spec = hex("0a0a74616c6f732d63702d31");
    assert_eq!(
        read(ResourceType::Hostname, event(1, "hostname", "tearingDown", spec)),
        removed()
    );
}

#[test]
fn a_spec_that_cannot_be_read() {
    let meaning = read(
        ResourceType::Hostname,
        event(1, "hostname", "running", vec![0xff]),
    );
    assert!(
        matches!(&meaning, Meaning::Event(Event::Undecodable { id, .. }) if id == "hostname"),
        "{meaning:?}"
    );
}

#[test]
fn what_is_none_of_ours_is_nothing() {
    let spec = hex("0a0a74616c6f732d63702d31");
    // Bookmarks, and a type that a later COSI may invent.
    for event_type in [5, 6, 77, -1] {
        assert_eq!(
            read(
                ResourceType::Hostname,
                event(event_type, "hostname", "running", spec.clone())
            ),
            Meaning::Nothing
        );
    }
    assert_eq!(
        read(ResourceType::Hostname, event(1, "other", "running", spec.clone())),
        Meaning::Nothing,
        "another id"
    );
    assert_eq!(
        read(ResourceType::Link, event(1, "hostname", "running", spec)),
        Meaning::Nothing,
        "another type"
    );
    assert_eq!(
        read(ResourceType::Hostname, cosi::Event::default()),
        Meaning::Nothing,
        "no resource"
    );
}

proptest! {
    /// Whatever a WatchResponse holds, it has a meaning, and the meaning is about the type that was watched.
    #[test]
    fn any_response_has_a_meaning(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        resource_type in prop::sample::select(ResourceType::ALL.to_vec()),
    ) {
        let Ok(response) = cosi::WatchResponse::decode(bytes.as_slice()) else { return Ok(()) };
        for event in response.event {
            if let Meaning::Event(Event::Removed { resource_type: told, .. } | Event::Bootstrapped(told)) =
                read(resource_type, event)
            {
                prop_assert_eq!(told, resource_type);
            }
        }
    }

    /// Any spec under a well-formed envelope, of every type.
    #[test]
    fn any_spec_is_put_or_undecodable(spec in prop::collection::vec(any::<u8>(), 0..100)) {
        for resource_type in ResourceType::ALL {
            let mut told = event(0, resource_type.only_id().unwrap_or("x"), "running", spec.clone());
            if let Some(metadata) = told.resource.as_mut().and_then(|resource| resource.metadata.as_mut()) {
                metadata.r#type = resource_type.type_name().to_owned();
            }
            let told = match read(resource_type, told) {
                Meaning::Event(Event::Put(resource)) => Some(resource.resource_type()),
                Meaning::Event(Event::Undecodable { resource_type, .. }) => Some(resource_type),
                _ => None,
            };
            prop_assert_eq!(told, Some(resource_type));
        }
    }
}
