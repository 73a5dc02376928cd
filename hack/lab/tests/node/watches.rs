//! The rules of Get, List and Watch.

use super::*;

#[tokio::test]
async fn a_bootstrap_is_one_sorted_message_with_a_bookmark() {
    let lab = lab(Release::V1_14).await;
    let mut stream = watch(&lab, kind(network::ADDRESS_STATUSES)).await;
    let response = next(&mut stream).await;
    let (last, contents) = response.event.split_last().unwrap();
    assert!(
        contents
            .iter()
            .all(|event| event.event_type() == EventType::Created)
    );
    assert!(contents.iter().all(|event| event.bookmark.is_none()));
    let listed = ids(&response);
    assert!(listed[..contents.len()].is_sorted(), "{listed:?}");
    assert!(listed.contains(&"eth0/10.5.0.2/24"));
    assert_eq!(last.event_type(), EventType::Bootstrapped);
    assert_eq!(last.bookmark.as_ref().unwrap().len(), 16);
    let tombstone = metadata(last.resource.as_ref());
    assert_eq!(
        (tombstone.id.as_str(), tombstone.version.as_str()),
        ("", "undefined")
    );
    quiet(&mut stream).await;
    lab.node.shutdown().await;
}

#[tokio::test]
async fn without_aggregation_every_event_has_its_own_message() {
    let lab = lab(Release::V1_14).await;
    let mut request = kind(network::ADDRESS_STATUSES);
    request.options.as_mut().unwrap().aggregated = false;
    let mut stream = watch(&lab, request).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&EventType::Bootstrapped) {
        let response = next(&mut stream).await;
        assert_eq!(response.event.len(), 1);
        seen.extend(types(&response));
    }
    assert_eq!(seen.len(), 6);
    lab.node.shutdown().await;
}

#[tokio::test]
async fn changes_come_with_old_value_version_and_bookmark() {
    let lab = lab(Release::V1_14).await;
    let mut stream = watch(&lab, kind(network::HOSTNAME_STATUSES)).await;
    next(&mut stream).await;
    lab.apply("hostname set renamed example.net").await;
    let response = next(&mut stream).await;
    let event = &response.event[0];
    assert_eq!(event.event_type(), EventType::Updated);
    let old: spec::HostnameStatus = decode(event.old.as_ref());
    let new: spec::HostnameStatus = decode(event.resource.as_ref());
    assert_eq!(
        (old.hostname.as_str(), new.hostname.as_str()),
        ("talos-cp-1", "renamed")
    );
    assert_eq!(metadata(event.old.as_ref()).version, "1");
    assert_eq!(metadata(event.resource.as_ref()).version, "2");
    assert_eq!(event.bookmark.as_ref().unwrap().len(), 16);
    lab.apply("hostname set renamed example.net").await;
    quiet(&mut stream).await;
    lab.node.shutdown().await;
}

#[tokio::test]
async fn teardown_is_an_update_and_removal_brings_the_last_value() {
    let lab = lab(Release::V1_14).await;
    let mut stream = watch(&lab, kind(network::ADDRESS_STATUSES)).await;
    next(&mut stream).await;
    lab.apply("resource teardown AddressStatuses.net.talos.dev eth0/10.5.1.2/24")
        .await;
    let response = next(&mut stream).await;
    assert_eq!(types(&response), [EventType::Updated]);
    assert_eq!(metadata(response.event[0].resource.as_ref()).phase, "tearingDown");
    lab.apply("address remove eth0 10.5.1.2/24").await;
    let response = next(&mut stream).await;
    assert_eq!(types(&response), [EventType::Destroyed]);
    let last: spec::AddressStatus = decode(response.event[0].resource.as_ref());
    assert_eq!(last.link_name, "eth0");
    lab.node.shutdown().await;
}

#[tokio::test]
async fn a_single_watch_begins_with_the_value_or_a_tombstone() {
    let lab = lab(Release::V1_14).await;
    let mut present = watch(&lab, single(network::HOSTNAME_STATUSES, "hostname")).await;
    assert_eq!(types(&next(&mut present).await), [EventType::Created]);
    quiet(&mut present).await;

    let mut absent = watch(&lab, single(network::ADDRESS_STATUSES, "eth0/10.9.9.9/24")).await;
    let response = next(&mut absent).await;
    assert_eq!(types(&response), [EventType::Destroyed]);
    let resource = response.event[0].resource.as_ref();
    assert_eq!(metadata(resource).version, "undefined");
    assert_eq!(resource.unwrap().spec, Some(cosi::Spec::default()));
    // Another resource of the kind is none of this watch's business.
    lab.apply("address add eth0 10.9.9.8/24").await;
    lab.apply("address add eth0 10.9.9.9/24").await;
    let response = next(&mut absent).await;
    assert_eq!(types(&response), [EventType::Created]);
    assert_eq!(ids(&response), ["eth0/10.9.9.9/24"]);
    lab.node.shutdown().await;
}

#[tokio::test]
async fn a_single_watch_takes_no_bootstrap() {
    let lab = lab(Release::V1_14).await;
    let mut request = single(network::HOSTNAME_STATUSES, "hostname");
    request.options.as_mut().unwrap().bootstrap_contents = true;
    let outcome = soon(lab.state().watch(read(request))).await;
    assert_eq!(code(outcome).0, Code::Unimplemented);
    lab.node.shutdown().await;
}

#[tokio::test]
async fn an_id_query_keeps_everything_else_away() {
    let lab = lab(Release::V1_14).await;
    let mut request = kind(network::ADDRESS_STATUSES);
    request.options.as_mut().unwrap().id_query = Some(IdQuery {
        regexp: "^(eth0|eth1)/".to_owned(),
    });
    let mut stream = watch(&lab, request.clone()).await;
    let response = next(&mut stream).await;
    assert!(
        ids(&response)
            .iter()
            .all(|id| id.is_empty() || id.starts_with("eth0/"))
    );
    lab.apply("link add cali1 veth").await;
    lab.apply("address add cali1 10.244.0.1/32 kernel").await;
    quiet(&mut stream).await;
    lab.apply("address add eth0 10.5.0.77/24").await;
    assert_eq!(ids(&next(&mut stream).await), ["eth0/10.5.0.77/24"]);

    request.options.as_mut().unwrap().id_query = Some(IdQuery {
        regexp: "(".to_owned(),
    });
    let outcome = soon(lab.state().watch(read(request))).await;
    assert_eq!(code(outcome).0, Code::Unknown);
    let query = lab
        .node
        .calls()
        .into_iter()
        .find_map(|call| call.request.get("id_query").cloned());
    assert_eq!(query.as_deref(), Some("^(eth0|eth1)/"));
    lab.node.shutdown().await;
}

#[tokio::test]
async fn missing_options_crash_the_handler_until_1_12() {
    for release in Release::ALL {
        let lab = lab(release).await;
        let mut request = kind(network::HOSTNAME_STATUSES);
        request.options = None;
        let outcome = soon(lab.state().watch(read(request))).await;
        if release < Release::V1_13 {
            assert_eq!(code(outcome).0, Code::Internal, "{release}");
        } else {
            assert!(outcome.is_ok(), "{release}");
        }
        lab.node.shutdown().await;
    }
}

#[tokio::test]
async fn an_old_api_version_loses_the_control_events() {
    let lab = lab(Release::V1_14).await;
    for aggregated in [false, true] {
        let mut request = kind(network::HOSTNAME_STATUSES);
        request.api_version = 0;
        request.options.as_mut().unwrap().aggregated = aggregated;
        let mut stream = watch(&lab, request).await;
        assert_eq!(types(&next(&mut stream).await), [EventType::Created]);
        lab.apply("overrun HostnameStatuses.net.talos.dev").await;
        if aggregated {
            assert_eq!(next(&mut stream).await, WatchResponse::default());
        }
        quiet(&mut stream).await;
    }
    lab.node.shutdown().await;
}

#[tokio::test]
async fn an_overrun_is_told_once_and_then_the_watch_is_silent() {
    let lab = lab(Release::V1_14).await;
    let mut stream = watch(&lab, kind(network::HOSTNAME_STATUSES)).await;
    next(&mut stream).await;
    lab.apply("overrun HostnameStatuses.net.talos.dev").await;
    let response = next(&mut stream).await;
    assert_eq!(types(&response), [EventType::Errored]);
    assert!(response.event[0].resource.is_none());
    let text = response.event[0].error.as_deref().unwrap();
    assert!(
        text.starts_with("buffer overrun: namespace \"network\""),
        "{text}"
    );
    lab.apply("hostname set unheard").await;
    quiet(&mut stream).await;
    lab.node.shutdown().await;
}

#[tokio::test]
async fn get_and_list_answer_as_cosi_does() {
    let lab = lab(Release::V1_14).await;
    let missing = get(&lab, network::HOSTNAME_STATUSES, "nobody").await;
    assert_eq!(
        code(missing),
        (
            Code::NotFound,
            "resource HostnameStatuses.net.talos.dev(network/nobody) doesn't exist".to_owned()
        )
    );
    let request = ListRequest {
        namespace: "network".to_owned(),
        r#type: network::LINK_STATUSES.to_owned(),
        options: None,
    };
    let mut stream = soon(lab.state().list(read(request))).await.unwrap().into_inner();
    let mut listed = Vec::new();
    while let Some(reply) = soon(stream.message()).await.unwrap() {
        listed.push(metadata(reply.resource.as_ref()).id.clone());
    }
    assert_eq!(listed, ["eth0", "lo"]);
    lab.node.shutdown().await;
}
