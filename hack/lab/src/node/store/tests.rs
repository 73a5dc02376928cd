use std::time::Duration;

use prost::Message as _;
use serde_json::json;

use super::{super::schema::network, *};

/// 2026-01-01, the time of the golden vectors.
fn new_year() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

fn store() -> Arc<Store> {
    Arc::new(Store::new(Release::V1_14, new_year))
}

fn hostname(name: &str) -> Document {
    Document::new(
        network::HOSTNAME_STATUSES,
        "hostname",
        json!({ "hostname": name, "domainname": "example.org" }),
    )
}

fn kind(store: &Store) -> Kind {
    store.kind(None, network::HOSTNAME_STATUSES).unwrap().0
}

fn metadata(resource: &Resource) -> &pb::Metadata {
    resource.message.metadata.as_ref().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The event of a watch that carries a hostname, as Talos encodes it.
#[test]
fn a_created_event_is_the_golden_vector() {
    let store = store();
    store.put(hostname("talos-cp-1")).unwrap();
    let resource = store.get(&kind(&store), "hostname").unwrap();
    let response = pb::WatchResponse {
        event: vec![pb::Event {
            resource: Some(resource.message.clone()),
            ..Default::default()
        }],
    };
    assert_eq!(
        hex(&response.encode_to_vec()),
        "0ac0010abd010a6f0a076e6574776f726b121e486f73746e616d6553746174757365732e6e65742e74616c6f732e6465\
         761a08686f73746e616d652201312a1e6e6574776f726b2e486f73746e616d6553706563436f6e74726f6c6c65723207\
         72756e6e696e673a060880f2d6ca0642060880f2d6ca06124a0a190a0a74616c6f732d63702d31120b6578616d706c65\
         2e6f7267122d686f73746e616d653a2074616c6f732d63702d310a646f6d61696e6e616d653a206578616d706c652e6f\
         72670a"
    );
}

/// The end of a bootstrap, as Talos encodes it, but for the eight random bytes of its bookmark.
#[test]
fn a_bootstrapped_event_is_the_golden_vector() {
    let store = store();
    let response = pb::WatchResponse {
        event: vec![pb::Event {
            resource: Some(store.tombstone(&kind(&store), "")),
            event_type: pb::EventType::Bootstrapped.into(),
            bookmark: Some(store.bookmark(Some(0))),
            ..Default::default()
        }],
    };
    let cookie = hex(&store.cookie);
    assert_eq!(
        hex(&response.encode_to_vec()),
        format!(
            "0a670a510a4d0a076e6574776f726b121e486f73746e616d6553746174757365732e6e65742e74616c6f732e64657622\
             09756e646566696e6564320772756e6e696e673a060880f2d6ca0642060880f2d6ca06120010032a10{cookie}\
             0000000000000000"
        )
    );
}

#[test]
fn versions_count_from_one_per_id_and_start_again_after_removal() {
    let store = store();
    let kind = kind(&store);
    let version = || metadata(&store.get(&kind, "hostname").unwrap()).version.clone();
    assert!(store.put(hostname("a")).unwrap());
    assert_eq!(version(), "1");
    assert!(
        !store.put(hostname("a")).unwrap(),
        "an equal spec changes nothing"
    );
    assert_eq!(version(), "1");
    assert!(store.put(hostname("b")).unwrap());
    assert_eq!(version(), "2");
    store
        .tear_down(None, network::HOSTNAME_STATUSES, "hostname")
        .unwrap();
    assert_eq!(version(), "3");
    store
        .remove(None, network::HOSTNAME_STATUSES, "hostname")
        .unwrap();
    assert!(store.put(hostname("b")).unwrap());
    assert_eq!(version(), "1");
}

#[tokio::test]
async fn a_feed_sees_what_changed_with_old_and_new() {
    let store = store();
    store.put(hostname("a")).unwrap();
    let (present, mut feed) = store.follow(&kind(&store), 0);
    assert_eq!(present.len(), 1);
    assert_eq!(feed.place(), Some(0));
    store.put(hostname("b")).unwrap();
    store
        .remove(None, network::HOSTNAME_STATUSES, "hostname")
        .unwrap();
    let changes = feed.next().await.unwrap();
    let events: Vec<_> = changes.iter().map(|change| change.event).collect();
    assert_eq!(events, [pb::EventType::Updated, pb::EventType::Destroyed]);
    assert_eq!(changes[0].old.as_ref().unwrap().spec["hostname"], "a");
    assert_eq!(changes[0].resource.spec["hostname"], "b");
    assert_eq!(changes[1].resource.spec["hostname"], "b");
    assert_eq!(changes[1].position, 2);
}

#[tokio::test]
async fn what_tears_down_is_created_anew_when_it_is_put_again() {
    let store = store();
    store.put(hostname("a")).unwrap();
    store
        .tear_down(None, network::HOSTNAME_STATUSES, "hostname")
        .unwrap();
    let (_, mut feed) = store.follow(&kind(&store), 0);
    store.put(hostname("a")).unwrap();
    let events: Vec<_> = feed
        .next()
        .await
        .unwrap()
        .iter()
        .map(|change| change.event)
        .collect();
    assert_eq!(events, [pb::EventType::Destroyed, pb::EventType::Created]);
}

#[tokio::test]
async fn the_history_holds_exactly_its_size() {
    let store = store();
    let (_, mut kept) = store.follow(&kind(&store), 0);
    for number in 0..HISTORY {
        store.put(hostname(&format!("name-{number}"))).unwrap();
    }
    let (_, mut late) = store.follow(&kind(&store), HISTORY);
    assert_eq!(kept.next().await.unwrap().len() as u64, HISTORY);
    store.put(hostname("one-more")).unwrap();
    let error = late.next().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "buffer overrun: namespace \"network\" type \"HostnameStatuses.net.talos.dev\", write pos 1025, pos 0, \
         capacity 1024"
    );
    assert_eq!(kept.next().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_overrun_can_be_asked_for() {
    let store = store();
    let (_, mut feed) = store.follow(&kind(&store), 0);
    store.overrun(&kind(&store));
    assert!(feed.next().await.is_err());
    let (_, mut fresh) = store.follow(&kind(&store), 0);
    store.put(hostname("a")).unwrap();
    assert_eq!(fresh.next().await.unwrap().len(), 1);
}

#[test]
fn unknown_names_are_errors() {
    let store = store();
    let put = |document| store.put(document).unwrap_err().to_string();
    assert_eq!(
        put(Document::new("Hostnames", "x", Value::Null)),
        "resource type \"Hostnames\" is not known to Talos 1.14"
    );
    assert_eq!(put(hostname("a").within("net")), "namespace \"net\" is not known");
    let error = store.remove(None, network::HOSTNAME_STATUSES, "x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "resource HostnameStatuses.net.talos.dev(network/x) doesn't exist"
    );
}
