//! How the API goes away and comes back.

use super::*;

/// What a client sees while a grpc-go server stops (http2_server.go), case by case.
#[tokio::test]
async fn a_graceful_stop_looks_to_a_client_as_machined_does() {
    let lab = lab(Release::V1_14).await;
    let mut stream = watch(&lab, kind(network::HOSTNAME_STATUSES)).await;
    next(&mut stream).await;
    let mut machine = lab.machine();
    soon(machine.version(read(()))).await.unwrap();
    // A reply that is held makes a call that is in flight when GOAWAY arrives.
    lab.apply("stall on").await;
    let mut other = machine.clone();
    let mut flying = Box::pin(other.version(read(())));
    assert!(timeout(QUIET, &mut flying).await.is_err());

    let begin = Instant::now();
    lab.apply("restart drain 1s down-for 500ms").await;
    assert!(!lab.socket.exists(), "the file is gone at once");
    let refused = UnixStream::connect(&lab.socket).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::NotFound);
    lab.apply("stall off").await;
    assert!(soon(flying).await.is_ok(), "a call in flight completes");

    let outcome = soon(lab.machine().version(read(()))).await;
    assert_eq!(code(outcome).0, Code::Unavailable, "no new connection");
    let outcome = soon(machine.version(read(()))).await;
    // Which one depends on whether the client has seen the GOAWAY before or after it took the call.
    let refused = code(outcome).0;
    assert!(
        matches!(refused, Code::Cancelled | Code::Unavailable),
        "nor a new call: {refused:?}"
    );

    let status = soon(stream.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "{status}");
    assert!(
        begin.elapsed() >= Duration::from_secs(1),
        "streams live until the hard stop"
    );

    lab.apply("expect listening within 5s").await;
    assert!(
        begin.elapsed() >= Duration::from_millis(1500),
        "and then it is gone for a while"
    );
    soon(machine.version(read(()))).await.unwrap();
    lab.node.shutdown().await;
}

#[tokio::test]
async fn a_kill_closes_everything_at_once() {
    let lab = lab(Release::V1_14).await;
    let mut stream = watch(&lab, kind(network::HOSTNAME_STATUSES)).await;
    next(&mut stream).await;
    let begin = Instant::now();
    lab.apply("kill down-for 100ms").await;
    assert_eq!(soon(stream.message()).await.unwrap_err().code(), Code::Unknown);
    lab.apply("expect listening").await;
    assert!(begin.elapsed() < Duration::from_secs(3));
    let mut again = watch(&lab, kind(network::HOSTNAME_STATUSES)).await;
    assert_eq!(
        types(&next(&mut again).await).last(),
        Some(&EventType::Bootstrapped)
    );
    lab.node.shutdown().await;
}

#[tokio::test]
async fn a_power_call_takes_the_node_down_when_it_is_told_to() {
    let lab = lab(Release::V1_14).await;
    let mut service = tokio::process::Command::new("sleep")
        .arg("600")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = service.id().unwrap();
    lab.apply(&format!("power stop {pid} after 50ms vanish 50ms"))
        .await;
    let mut request = single(runtime::MACHINE_STATUSES, "machine");
    request.namespace = "runtime".to_owned();
    let mut stream = watch(&lab, request).await;
    next(&mut stream).await;
    let operator = with_roles(&["os:operator"], ShutdownRequest { force: false });
    let reply = soon(lab.machine().shutdown(operator)).await.unwrap().into_inner();
    assert_eq!(reply.messages[0].actor_id.len(), 36);
    let status: spec::MachineStatus = decode(next(&mut stream).await.event[0].resource.as_ref());
    assert_eq!(status.stage, 6);
    let end = soon(service.wait()).await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&end), Some(15));
    let gone = async {
        while lab.socket.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(gone).await;
    lab.node.shutdown().await;
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let lab = lab(Release::V1_14).await;
    let mut stream = watch(&lab, kind(network::HOSTNAME_STATUSES)).await;
    next(&mut stream).await;
    let begin = Instant::now();
    lab.node.shutdown().await;
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert!(!lab.socket.exists() && !lab.control.exists());
    assert!(soon(stream.message()).await.is_err());
}
