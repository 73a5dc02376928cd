//! A node that is recorded and played again.

use lab::node::record::record;

use super::*;

/// A node that plays a recorded one.
async fn replay(text: &str) -> Lab {
    let script = Script::read(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let release = script.release().unwrap().unwrap_or_default();
    lab_with(release, Source::Script(Box::new(script))).await
}

/// What the resources say, without what only this life of the node has.
fn state(dump: Vec<lab::node::store::Document>, lab: &Lab) -> Vec<(String, String, String, Vec<u8>)> {
    let store = lab.node.store();
    let mut state: Vec<_> = dump
        .into_iter()
        .map(|document| {
            let (kind, _) = store.kind(document.namespace.as_deref(), &document.kind).unwrap();
            let resource = store.get(&kind, &document.id).unwrap();
            let spec = resource.message.spec.clone().unwrap();
            (kind.namespace, document.kind, document.id, spec.proto_spec)
        })
        .collect();
    state.sort();
    state
}

fn everything(lab: &Lab) -> Vec<(String, String, String, Vec<u8>)> {
    state(lab.node.store().dump(), lab)
}

#[tokio::test]
async fn a_recorded_node_is_the_same_node_on_every_release() {
    for release in Release::ALL {
        for text in [
            include_str!("../../nodes/control-plane.yaml"),
            include_str!("../../nodes/bond-vlan.yaml"),
            include_str!("../../nodes/cni.yaml"),
        ] {
            let script = Script::read(text).unwrap();
            let original = lab_with(release, Source::Script(Box::new(script))).await;
            original.apply("hostname set 007 yes").await;
            let recorded = soon(record(&original.socket)).await.unwrap();
            assert_eq!(recorded.tag, release.tag());
            let again = replay(&recorded.text).await;
            assert_eq!(again.node.store().release(), release);
            let (before, after) = (everything(&original), everything(&again));
            assert!(before.len() > 10, "{before:?}");
            // What os:reader may not read is not in a record.
            let readable = |kind: &str| !recorded.refused.iter().any(|(name, _)| *name == kind);
            let before: Vec<_> = before.into_iter().filter(|it| readable(&it.1)).collect();
            for (left, right) in before.iter().zip(&after) {
                assert_eq!(left, right, "{release}: {}", recorded.text);
            }
            assert_eq!(before.len(), after.len(), "{release}");
            // A record of the record is the same text.
            let twice = soon(record(&again.socket)).await.unwrap();
            assert_eq!(twice.text, recorded.text);
            again.node.shutdown().await;
            original.node.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_record_can_be_edited() {
    let original = lab(Release::V1_14).await;
    let recorded = soon(record(&original.socket)).await.unwrap();
    original.node.shutdown().await;
    let edited = recorded.text.replace("talos-cp-1", "edited");
    assert_ne!(edited, recorded.text);
    let again = replay(&edited).await;
    let told: spec::HostnameStatus = decode(Some(
        &get(&again, network::HOSTNAME_STATUSES, "hostname").await.unwrap(),
    ));
    assert_eq!(told.hostname, "edited");
    again.node.shutdown().await;
}

#[tokio::test]
async fn fields_of_a_later_talos_are_left_out() {
    let text = "
recorded: true
resources:
  - type: HostnameStatuses.net.talos.dev
    id: hostname
    spec:
      hostname: later
      domainname: ''
      somethingNew: {deep: [1]}
";
    let lab = replay(text).await;
    let told: spec::HostnameStatus = decode(Some(
        &get(&lab, network::HOSTNAME_STATUSES, "hostname").await.unwrap(),
    ));
    assert_eq!(told.hostname, "later");
    assert_eq!(
        everything(&lab).len(),
        1 + node_addresses(&lab),
        "nothing is made up"
    );
    lab.node.shutdown().await;
    // In a file that a person writes, an unknown key is a mistake.
    let script = Script::read(&text.replace("recorded: true", "")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        socket: directory.path().join("machine.sock"),
        control: None,
        release: None,
        source: Source::Script(Box::new(script)),
    };
    let refused = Node::start(config).await.err().expect("a mistake").to_string();
    assert!(refused.contains("somethingNew"), "{refused}");
}

fn node_addresses(lab: &Lab) -> usize {
    let dump = lab.node.store().dump();
    dump.iter()
        .filter(|it| it.kind == network::NODE_ADDRESSES)
        .count()
}

#[tokio::test]
async fn nobody_to_record_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let absent = soon(record(&directory.path().join("absent.sock"))).await;
    assert!(absent.unwrap_err().to_string().contains("no connection"));
}
