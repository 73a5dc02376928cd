//! Roles, refusals and the record of calls.

use super::*;

#[tokio::test]
async fn the_least_role_is_needed_and_never_split() {
    let lab = lab(Release::V1_14).await;
    let refused = (Code::PermissionDenied, "not authorized".to_owned());
    for roles in [
        &[][..],
        &["os:reader,os:operator"],
        &["os:etcd:backup"],
        &["reader"],
    ] {
        let outcome = soon(lab.machine().version(with_roles(roles, ()))).await;
        assert_eq!(code(outcome), refused, "{roles:?}");
        let outcome = soon(lab.state().watch(with_roles(roles, kind(network::LINK_STATUSES)))).await;
        assert_eq!(code(outcome), refused, "{roles:?}");
    }
    let shutdown = ShutdownRequest { force: false };
    assert_eq!(code(soon(lab.machine().shutdown(read(shutdown))).await), refused);
    let roles = &["os:reader", "os:operator"];
    assert!(
        soon(lab.machine().shutdown(with_roles(roles, shutdown)))
            .await
            .is_ok()
    );
    lab.node.shutdown().await;
}

#[tokio::test]
async fn the_access_filter_says_what_it_refuses() {
    let lab = lab(Release::V1_14).await;
    let ask = async |namespace: &str, name: &str, roles: &[&str]| {
        let request = GetRequest {
            namespace: namespace.to_owned(),
            r#type: name.to_owned(),
            id: "x".to_owned(),
            options: None,
        };
        code(soon(lab.state().get(with_roles(roles, request))).await)
    };
    let denied = |text: &str| (Code::PermissionDenied, text.to_owned());
    assert_eq!(
        ask("network", "hostname", READER).await,
        denied("resource type \"hostname\" is not supported")
    );
    assert_eq!(
        ask("", network::HOSTNAME_STATUSES, READER).await,
        denied("namespace \"\" is not supported")
    );
    let sensitive = "OperatorSpecs.net.talos.dev";
    assert_eq!(ask("network", sensitive, READER).await, denied("not authorized"));
    assert_eq!(ask("network", sensitive, &["os:admin"]).await.0, Code::NotFound);
    lab.node.shutdown().await;

    let lab = super::lab(Release::V1_13).await;
    let request = GetRequest {
        namespace: "runtime".to_owned(),
        r#type: "BootIDs.runtime.talos.dev".to_owned(),
        id: "boot-id".to_owned(),
        options: None,
    };
    let outcome = soon(lab.state().get(read(request))).await;
    assert_eq!(
        code(outcome),
        denied("resource type \"BootIDs.runtime.talos.dev\" is not supported")
    );
    lab.node.shutdown().await;
}

#[tokio::test]
async fn every_call_is_recorded_with_its_caller() {
    let lab = lab(Release::V1_14).await;
    let mut request = with_roles(&["os:operator", "os:reader"], RebootRequest { mode: 1 });
    request.metadata_mut().insert("node", "10.5.0.3".parse().unwrap());
    soon(lab.machine().reboot(request)).await.unwrap();
    _ = soon(lab.machine().version(())).await;
    let calls = lab.node.calls();
    let [reboot, version] = calls.as_slice() else {
        panic!("{} calls", calls.len());
    };
    assert_eq!(
        (reboot.service.as_str(), reboot.method.as_str()),
        ("machine.MachineService", "Reboot")
    );
    assert_eq!(reboot.roles, ["os:operator", "os:reader"]);
    assert_eq!(reboot.nodes, ["10.5.0.3"]);
    assert_eq!(reboot.request["mode"], "POWERCYCLE");
    assert_eq!(reboot.outcome, Some("OK"));
    assert_eq!(reboot.pid, Some(i32::try_from(std::process::id()).unwrap()));
    assert_eq!(reboot.uid, Some(nix::unistd::geteuid().as_raw()));
    assert_eq!(version.outcome, Some("PERMISSION_DENIED"));
    assert!(version.roles.is_empty() && version.nodes.is_empty());
    lab.node.shutdown().await;
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented_without_any_role() {
    let lab = lab(Release::V1_14).await;
    let mut grpc = tonic::client::Grpc::new(lab.channel());
    soon(grpc.ready()).await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = "/machine.MachineService/Kubeconfig".parse().unwrap();
    let outcome = soon(grpc.unary(Request::new(()), path, codec)).await;
    assert_eq!(code(outcome).0, Code::Unimplemented);
    lab.node.shutdown().await;
}
