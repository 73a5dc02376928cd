//! Events that no Talos should send, on watches that stand: the truth stays, and the watch goes on.

use prost::Message as _;

use super::*;

/// A node that is followed, and an event of it; then the watch is asked for a sign of life.
async fn goes_on(
    resource_type: ResourceType,
    events: impl IntoIterator<Item = cosi::Event>,
) -> Arc<Snapshot> {
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    let before = bench.complete().await;
    for event in events {
        node.send(resource_type, event);
    }
    // The same watch is read in order: a name that is told on it was read after the events.
    match resource_type {
        ResourceType::Hostname => {
            node.put(ResourceType::Hostname, "hostname", &hostname("after"));
            bench.until("the next name", |now| name(now) == "after").await;
        }
        ResourceType::Link => {
            node.put(ResourceType::Link, "eth1", &link(3, ""));
            let told = |now: &Snapshot| now.links.value().is_some_and(|all| all.contains_key("eth1"));
            bench.until("the next link", told).await;
        }
        _ => {
            let id = "eth0/10.5.0.9/24";
            node.put(ResourceType::Address, id, &address("eth0", [10, 5, 0, 9]));
            bench
                .until("the next address", |now| addresses(now).contains(&id))
                .await;
        }
    }
    assert_eq!(node.count(VERSION), 1, "the connection stands");
    assert_eq!(
        node.count(resource_type.type_name()),
        1 + usize::from(
            resource_type == ResourceType::Address && before.links != bench.snapshots.borrow().links
        ),
        "the watch stands"
    );
    let after = bench.snapshots.borrow().clone();
    assert!(is_complete(&after), "{after:#?}");
    bench.end().await;
    after
}

fn resource(resource_type: &str, id: &str, proto_spec: Vec<u8>) -> cosi::Resource {
    cosi::Resource {
        metadata: Some(cosi::Metadata {
            r#type: resource_type.into(),
            id: id.into(),
            phase: "running".into(),
            ..cosi::Metadata::default()
        }),
        spec: Some(cosi::Spec {
            proto_spec,
            yaml_spec: String::new(),
        }),
    }
}

fn told(event_type: cosi::EventType, resource: cosi::Resource) -> cosi::Event {
    cosi::Event {
        resource: Some(resource),
        event_type: event_type.into(),
        ..cosi::Event::default()
    }
}

const ETH0: &str = "eth0/10.5.0.2/24";

#[tokio::test]
async fn an_update_of_what_was_never_created_counts() {
    let spec = address("eth0", [10, 5, 0, 3]).encode_to_vec();
    let update = told(
        cosi::EventType::Updated,
        resource(ADDRESSES, "eth0/10.5.0.3/24", spec),
    );
    let after = goes_on(ResourceType::Address, [update]).await;
    assert_eq!(addresses(&after), [ETH0, "eth0/10.5.0.3/24", "eth0/10.5.0.9/24"]);
}

#[tokio::test]
async fn the_end_of_what_never_was_and_of_what_was_twice() {
    let gone = |id: &str| told(cosi::EventType::Destroyed, resource(ADDRESSES, id, vec![]));
    let after = goes_on(
        ResourceType::Address,
        [gone("eth0/10.9.9.9/24"), gone(ETH0), gone(ETH0)],
    )
    .await;
    assert_eq!(addresses(&after), ["eth0/10.5.0.9/24"]);
}

#[tokio::test]
async fn a_creation_of_what_exists_is_an_update() {
    let spec = address("eth0", [10, 5, 0, 2]).encode_to_vec();
    let again = told(cosi::EventType::Created, resource(ADDRESSES, ETH0, spec));
    let after = goes_on(ResourceType::Address, [again.clone(), again]).await;
    assert_eq!(addresses(&after), [ETH0, "eth0/10.5.0.9/24"]);
}

#[tokio::test]
async fn a_second_bootstrap_takes_nothing_away() {
    let bootstrapped = cosi::Event {
        event_type: cosi::EventType::Bootstrapped.into(),
        ..cosi::Event::default()
    };
    let after = goes_on(
        ResourceType::Address,
        vec![bootstrapped.clone(), bootstrapped.clone()],
    )
    .await;
    assert_eq!(addresses(&after), [ETH0, "eth0/10.5.0.9/24"]);
    let after = goes_on(ResourceType::Hostname, [bootstrapped]).await;
    assert_eq!(name(&after), "after");
}

#[tokio::test]
async fn event_types_of_a_later_cosi_mean_nothing() {
    let spec = hostname("nobody").encode_to_vec();
    let events = [5, 6, 99, i32::MAX, -1, i32::MIN].map(|event_type| cosi::Event {
        event_type,
        resource: Some(resource(HOSTNAMES, "hostname", spec.clone())),
        ..cosi::Event::default()
    });
    goes_on(ResourceType::Hostname, events).await;
}

#[tokio::test]
async fn events_without_their_parts() {
    let whole = resource(ADDRESSES, ETH0, vec![]);
    let mut events = vec![cosi::Event::default()];
    for event_type in [
        cosi::EventType::Created,
        cosi::EventType::Updated,
        cosi::EventType::Destroyed,
    ] {
        events.push(told(event_type, cosi::Resource::default()));
        events.push(told(
            event_type,
            cosi::Resource {
                metadata: None,
                ..whole.clone()
            },
        ));
    }
    // A spec that is missing or empty says nothing of an address.
    for spec in [None, Some(cosi::Spec::default())] {
        events.push(told(
            cosi::EventType::Updated,
            cosi::Resource {
                spec,
                ..whole.clone()
            },
        ));
    }
    let after = goes_on(ResourceType::Address, events).await;
    assert_eq!(addresses(&after), [ETH0, "eth0/10.5.0.9/24"]);
}

#[tokio::test]
async fn resources_of_another_type_or_id_are_none_of_ours() {
    let spec = hostname("nobody").encode_to_vec();
    let events = [
        resource(ADDRESSES, "hostname", spec.clone()),
        resource("", "hostname", spec.clone()),
        resource(HOSTNAMES, "", spec.clone()),
        resource(HOSTNAMES, "another", spec),
    ];
    for event_type in [cosi::EventType::Updated, cosi::EventType::Destroyed] {
        let events = events.clone().map(|resource| told(event_type, resource));
        goes_on(ResourceType::Hostname, events).await;
    }
}

#[tokio::test]
async fn a_spec_of_another_type_leaves_the_truth() {
    // The bytes of a name are no address, and those of an address no name.
    let spec = hostname("nobody").encode_to_vec();
    let event = told(cosi::EventType::Updated, resource(ADDRESSES, ETH0, spec));
    let after = goes_on(ResourceType::Address, [event]).await;
    assert_eq!(addresses(&after), [ETH0, "eth0/10.5.0.9/24"]);
    let spec = address("eth0", [0xff, 0xfe, 0xfd, 0xfc]).encode_to_vec();
    let event = told(cosi::EventType::Updated, resource(HOSTNAMES, "hostname", spec));
    goes_on(ResourceType::Hostname, [event]).await;
    let spec = address("eth0", [10, 5, 0, 2]).encode_to_vec();
    let event = told(cosi::EventType::Updated, resource(LINKS, "eth0", spec));
    let after = goes_on(ResourceType::Link, [event]).await;
    assert_eq!(after.links.value().unwrap()["eth0"].index, 2);
}

#[tokio::test]
async fn a_spec_that_is_no_utf_8_leaves_the_truth() {
    // HostnameStatusSpec.hostname = ff fe.
    let event = told(
        cosi::EventType::Updated,
        resource(HOSTNAMES, "hostname", vec![0x0a, 2, 0xff, 0xfe]),
    );
    goes_on(ResourceType::Hostname, [event]).await;
}

#[tokio::test]
async fn of_fields_that_are_repeated_the_last_one_counts() {
    let spec = [hostname("first"), hostname("last")]
        .map(|spec| spec.encode_to_vec())
        .concat();
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    node.put_bytes(ResourceType::Hostname, "hostname", spec);
    bench.until("the last name", |now| name(now) == "last").await;
    bench.end().await;
}

#[tokio::test]
async fn enumerations_of_a_later_talos_are_numbers() {
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    let machine = spec::MachineStatus {
        stage: 77,
        ..spec::MachineStatus::default()
    };
    node.put(ResourceType::Machine, "machine", &machine);
    let told = |now: &Snapshot| now.machine.value().is_some_and(|it| it.stage == 77);
    bench.until("the stage", told).await;
    let mut odd = link(4, "");
    (odd.operational_state, odd.flags) = (-7, u32::MAX);
    node.put(ResourceType::Link, "eth2", &odd);
    let told = |now: &Snapshot| now.links.value().is_some_and(|all| all.contains_key("eth2"));
    let after = bench.until("the link", told).await;
    assert_eq!(after.links.value().unwrap()["eth2"].operational_state, -7);
    bench.end().await;
}

#[tokio::test]
async fn what_comes_after_an_errored_watch_is_not_read() {
    let node = Node::new();
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    node.fail(HOSTNAMES, Fault::Status(Code::Internal, "not now"));
    node.overrun(ResourceType::Hostname);
    // The stream stays open, and what it says now has a gap before it.
    node.put(ResourceType::Hostname, "hostname", &hostname("behind-a-gap"));
    let stale = bench
        .until("marked", |now| matches!(now.hostname, Fact::Stale { .. }))
        .await;
    assert_eq!(name(&stale), "talos-1");
    node.mend(HOSTNAMES);
    bench
        .until("the next name", |now| {
            is_known(&now.hostname) && name(now) == "behind-a-gap"
        })
        .await;
    bench.end().await;
}
