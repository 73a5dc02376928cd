//! What the node does wrong on request.

use super::*;

#[tokio::test]
async fn a_stall_holds_replies_and_streams_but_not_the_record() {
    let lab = lab(Release::V1_14).await;
    let mut stream = watch(&lab, kind(network::HOSTNAME_STATUSES)).await;
    next(&mut stream).await;
    lab.apply("stall on").await;
    lab.apply("hostname set later").await;
    quiet(&mut stream).await;
    let mut machine = lab.machine();
    let operator = with_roles(&["os:operator"], ShutdownRequest { force: true });
    let mut call = Box::pin(machine.shutdown(operator));
    assert!(timeout(QUIET, &mut call).await.is_err(), "a reply left");
    lab.apply("expect call Shutdown role os:operator force=true count 1")
        .await;
    lab.apply("stall off").await;
    assert_eq!(types(&next(&mut stream).await), [EventType::Updated]);
    assert_eq!(soon(call).await.unwrap().into_inner().messages.len(), 1);
    lab.node.shutdown().await;
}

#[tokio::test]
async fn methods_are_refused_with_the_code_that_was_asked_for() {
    let lab = lab(Release::V1_14).await;
    lab.apply("refuse failed-precondition Version no today").await;
    let outcome = soon(lab.machine().version(read(()))).await;
    assert_eq!(code(outcome), (Code::FailedPrecondition, "no today".to_owned()));
    assert!(get(&lab, network::HOSTNAME_STATUSES, "hostname").await.is_ok());
    lab.apply("refuse permission_denied all").await;
    let outcome = get(&lab, network::HOSTNAME_STATUSES, "hostname").await;
    assert_eq!(
        code(outcome),
        (Code::PermissionDenied, "not authorized".to_owned())
    );
    lab.apply("refuse off").await;
    assert!(soon(lab.machine().version(read(()))).await.is_ok());
    lab.node.shutdown().await;
}

#[tokio::test]
async fn a_hanging_node_accepts_and_says_nothing() {
    let lab = lab(Release::V1_14).await;
    lab.apply("hang-new on").await;
    let mut peer = soon(UnixStream::connect(&lab.socket)).await.unwrap();
    let mut byte = [0];
    assert!(timeout(QUIET, peer.read(&mut byte)).await.is_err());
    lab.apply("hang-new off").await;
    assert_eq!(
        soon(peer.read(&mut byte)).await.unwrap(),
        0,
        "held connections are let go"
    );
    assert!(soon(lab.machine().version(read(()))).await.is_ok());
    lab.node.shutdown().await;
}

#[tokio::test]
async fn garbage_is_no_http2_and_ends_who_is_connected() {
    let lab = lab(Release::V1_14).await;
    let mut stream = watch(&lab, kind(network::HOSTNAME_STATUSES)).await;
    next(&mut stream).await;
    lab.apply("garbage on").await;
    assert_eq!(soon(stream.message()).await.unwrap_err().code(), Code::Unknown);
    let outcome = soon(lab.machine().version(read(()))).await;
    assert!(outcome.is_err());
    lab.apply("garbage off").await;
    assert!(soon(lab.machine().version(read(()))).await.is_ok());
    lab.node.shutdown().await;
}

/// Reads what is left of the stream and gives how it ends.
async fn end(stream: &mut Streaming<WatchResponse>) -> Code {
    loop {
        match soon(stream.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => return Code::Ok,
            Err(status) => return status.code(),
        }
    }
}

#[tokio::test]
async fn a_torn_frame_ends_the_connection_or_leaves_it_silent() {
    let lab = lab(Release::V1_14).await;
    let mut stream = watch(&lab, kind(network::HOSTNAME_STATUSES)).await;
    next(&mut stream).await;
    lab.apply("tear close").await;
    lab.apply("hostname set torn").await;
    assert_eq!(
        end(&mut stream).await,
        Code::Unknown,
        "the frame was not complete"
    );

    let mut stream = watch(&lab, kind(network::HOSTNAME_STATUSES)).await;
    next(&mut stream).await;
    lab.apply("tear silence").await;
    lab.apply("hostname set unheard").await;
    quiet(&mut stream).await;
    lab.apply("hostname set unheard-too").await;
    quiet(&mut stream).await;
    // Only that connection is silent, and only once.
    let told: spec::HostnameStatus = decode(Some(
        &get(&lab, network::HOSTNAME_STATUSES, "hostname").await.unwrap(),
    ));
    assert_eq!(told.hostname, "unheard-too");
    lab.apply("cut").await;
    assert_eq!(end(&mut stream).await, Code::Unknown);
    lab.node.shutdown().await;
}

#[tokio::test]
async fn a_churn_ends_when_it_is_told_to() {
    let lab = lab(Release::V1_14).await;
    lab.apply("crowd 1 links 1 addresses").await;
    let mut stream = watch(&lab, kind(network::ADDRESS_STATUSES)).await;
    next(&mut stream).await;
    lab.apply("churn 200/s").await;
    for _ in 0..4 {
        next(&mut stream).await;
    }
    lab.apply("churn off").await;
    // What was on its way arrives; then a change of ours is the last one.
    lab.apply("address add eth0 10.5.0.77/24").await;
    let mut last = next(&mut stream).await;
    while !ids(&last).contains(&"eth0/10.5.0.77/24") {
        last = next(&mut stream).await;
    }
    quiet(&mut stream).await;
    lab.node.shutdown().await;
}
