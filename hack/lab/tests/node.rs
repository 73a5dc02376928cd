//! The simulated node, seen by clients of the machine API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    fs, future::Future, os::unix::fs::MetadataExt, os::unix::fs::PermissionsExt, path::PathBuf,
    time::Duration,
};

use lab::node::{
    Config, Node, Source,
    release::Release,
    schema::{network, runtime},
    script::Script,
};
use prost::Message;
use serde_json::Value;
use talos_vmtoolsd::pb::{
    cosi::resource::{
        self as cosi, EventType, GetRequest, IdQuery, ListRequest, WatchOptions, WatchRequest, WatchResponse,
        state_client::StateClient,
    },
    machine::{RebootRequest, ShutdownRequest, machine_service_client::MachineServiceClient},
    spec,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{Instant, timeout},
};
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

/// No step of these tests takes longer unless something is broken.
const DEADLINE: Duration = Duration::from_secs(10);
/// Long enough to see that nothing comes.
const QUIET: Duration = Duration::from_millis(150);

const READER: &[&str] = &["os:reader"];

struct Lab {
    node: Node,
    socket: PathBuf,
    control: PathBuf,
    _directory: TempDir,
}

async fn lab_with(release: Release, source: Source) -> Lab {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("machined/machine.sock");
    let control = directory.path().join("control.sock");
    let node = Node::start(Config {
        socket: socket.clone(),
        control: Some(control.clone()),
        release: Some(release),
        source,
    })
    .await
    .unwrap();
    Lab {
        node,
        socket,
        control,
        _directory: directory,
    }
}

async fn lab(release: Release) -> Lab {
    let script = Script::control_plane().unwrap();
    lab_with(release, Source::Script(Box::new(script))).await
}

impl Lab {
    fn channel(&self) -> Channel {
        let uri = format!("unix:{}", self.socket.display());
        Endpoint::from_shared(uri).unwrap().connect_lazy()
    }

    fn state(&self) -> StateClient<Channel> {
        StateClient::new(self.channel())
    }

    fn machine(&self) -> MachineServiceClient<Channel> {
        MachineServiceClient::new(self.channel())
    }

    async fn apply(&self, line: &str) -> Value {
        soon(self.node.apply(line))
            .await
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("nothing happened in time")
}

fn with_roles<T>(roles: &[&str], message: T) -> Request<T> {
    let mut request = Request::new(message);
    for role in roles {
        request.metadata_mut().append("talos-role", role.parse().unwrap());
    }
    request
}

fn read<T>(message: T) -> Request<T> {
    with_roles(READER, message)
}

/// A bootstrapped, aggregated watch of a kind, as the daemon makes it.
fn kind(name: &str) -> WatchRequest {
    WatchRequest {
        namespace: "network".to_owned(),
        r#type: name.to_owned(),
        id: None,
        options: Some(WatchOptions {
            bootstrap_contents: true,
            aggregated: true,
            ..Default::default()
        }),
        api_version: 1,
    }
}

fn single(name: &str, id: &str) -> WatchRequest {
    WatchRequest {
        id: Some(id.to_owned()),
        options: Some(WatchOptions::default()),
        ..kind(name)
    }
}

async fn watch(lab: &Lab, request: WatchRequest) -> Streaming<WatchResponse> {
    let mut stream = soon(lab.state().watch(read(request))).await.unwrap().into_inner();
    let first = next(&mut stream).await;
    assert_eq!(first, WatchResponse::default(), "the first response is empty");
    stream
}

async fn next(stream: &mut Streaming<WatchResponse>) -> WatchResponse {
    soon(stream.message()).await.unwrap().expect("the watch ended")
}

async fn quiet(stream: &mut Streaming<WatchResponse>) {
    assert!(timeout(QUIET, stream.message()).await.is_err(), "something came");
}

fn types(response: &WatchResponse) -> Vec<EventType> {
    response.event.iter().map(cosi::Event::event_type).collect()
}

fn metadata(resource: Option<&cosi::Resource>) -> &cosi::Metadata {
    resource.unwrap().metadata.as_ref().unwrap()
}

fn ids(response: &WatchResponse) -> Vec<&str> {
    response
        .event
        .iter()
        .map(|event| metadata(event.resource.as_ref()).id.as_str())
        .collect()
}

fn decode<T: Message + Default>(resource: Option<&cosi::Resource>) -> T {
    T::decode(&*resource.unwrap().spec.as_ref().unwrap().proto_spec).unwrap()
}

fn code<T>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.err().expect("the call succeeded");
    (status.code(), status.message().to_owned())
}

async fn get(lab: &Lab, name: &str, id: &str) -> Result<cosi::Resource, Status> {
    let request = GetRequest {
        namespace: "network".to_owned(),
        r#type: name.to_owned(),
        id: id.to_owned(),
        options: None,
    };
    let reply = soon(lab.state().get(read(request))).await?;
    Ok(reply.into_inner().resource.unwrap())
}

async fn node_address(lab: &Lab, id: &str) -> Vec<String> {
    let resource = get(lab, network::NODE_ADDRESSES, id).await.unwrap();
    let node: spec::NodeAddress = decode(Some(&resource));
    node.addresses
        .iter()
        .map(|prefix| {
            let ip: Vec<_> = prefix.ip.iter().map(u8::to_string).collect();
            format!("{}/{}", ip.join("."), prefix.prefix_length)
        })
        .collect()
}

mod encoding {
    use super::*;

    /// The golden vectors of talos-api.md 8.1, on the wire of each release.
    #[tokio::test]
    async fn an_address_is_sent_with_the_habit_of_the_release() {
        let old = "0a080a040a050002101812060a040a0500021a060a040a0500ff22002a0030023a046574683040024800508001\
                   5800";
        let new = "0a080a040a050002101812060a040a0500021a060a040a0500ff30023a04657468304002508001";
        for release in Release::ALL {
            let lab = lab(release).await;
            let resource = get(&lab, network::ADDRESS_STATUSES, "eth0/10.5.0.2/24")
                .await
                .unwrap();
            let bytes = resource.spec.as_ref().unwrap().proto_spec.iter();
            let hex: String = bytes.map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, if release < Release::V1_12 { old } else { new }, "{release}");
            let yaml = &resource.spec.as_ref().unwrap().yaml_spec;
            assert!(
                yaml.contains("family: inet4\nscope: global\nflags: permanent\n"),
                "{yaml}"
            );
            lab.node.shutdown().await;
        }
    }

    /// talos-api.md 8.2: the example link is the adapter of the default state.
    #[tokio::test]
    async fn a_link_is_read_alike_from_every_release() {
        for release in Release::ALL {
            let lab = lab(release).await;
            let resource = get(&lab, network::LINK_STATUSES, "eth0").await.unwrap();
            let link: spec::LinkStatus = decode(Some(&resource));
            assert_eq!((link.index, link.r#type, link.flags), (2, 1, 69699));
            assert_eq!(link.permanent_addr, [0x00, 0x50, 0x56, 0xab, 0xcd, 0xef]);
            assert_eq!(
                (link.driver.as_str(), link.bus_path.as_str()),
                ("vmxnet3", "0000:0b:00.0")
            );
            assert_eq!(link.vlan.is_some(), release < Release::V1_12, "{release}");
            lab.node.shutdown().await;
        }
    }

    #[tokio::test]
    async fn the_version_names_the_release_and_has_no_metadata() {
        for release in Release::ALL {
            let lab = lab(release).await;
            let reply = soon(lab.machine().version(read(()))).await.unwrap().into_inner();
            let [message] = reply.messages.as_slice() else {
                panic!("{} messages", reply.messages.len());
            };
            assert!(message.metadata.is_none());
            assert_eq!(message.version.as_ref().unwrap().tag, release.tag());
            assert_eq!(message.platform.as_ref().unwrap().name, "vmware");
            lab.node.shutdown().await;
        }
    }
}

mod watches {
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
}

mod roles {
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
}

mod faults {
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
}

mod restarts {
    use super::*;

    /// The table of talos-api.md 2.1, row by row.
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
        let mut service = tokio::process::Command::new("sleep").arg("600").spawn().unwrap();
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
}

mod sockets {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_as_on_a_node() {
        let lab = lab(Release::V1_14).await;
        let file = fs::metadata(&lab.socket).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o755);
        let directory = fs::metadata(lab.socket.parent().unwrap()).unwrap();
        assert_eq!(directory.permissions().mode() & 0o777, 0o771);
        if nix::unistd::geteuid().is_root() {
            assert_eq!((file.uid(), file.gid()), (50, 50));
        }
        let control = fs::metadata(&lab.control).unwrap();
        assert_eq!(control.permissions().mode() & 0o777, 0o600);
        lab.node.shutdown().await;
    }

    #[tokio::test]
    async fn a_stale_file_is_replaced_and_a_live_one_is_not() {
        let lab = lab(Release::V1_14).await;
        let config = |socket: PathBuf| Config {
            socket,
            control: None,
            release: None,
            source: Source::Script(Box::new(Script::bare())),
        };
        let Err(error) = Node::start(config(lab.socket.clone())).await else {
            panic!("two nodes on one socket");
        };
        assert!(error.to_string().contains("somebody listens there"), "{error}");
        let stale = lab.socket.with_file_name("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        assert!(stale.exists());
        Node::start(config(stale)).await.unwrap().shutdown().await;
        lab.node.shutdown().await;
    }

    #[tokio::test]
    async fn the_control_socket_answers_each_line_with_json() {
        let lab = lab(Release::V1_12).await;
        let stream = soon(UnixStream::connect(&lab.control)).await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let mut ask = async |line: &str| -> Value {
            soon(writer.write_all(format!("{line}\n").as_bytes()))
                .await
                .unwrap();
            serde_json::from_str(&soon(lines.next_line()).await.unwrap().unwrap()).unwrap()
        };
        assert_eq!(ask("link up eth0").await["ok"], true);
        let answer = ask("link up eth9").await;
        assert_eq!(answer["ok"], false);
        assert_eq!(
            answer["error"],
            "resource LinkStatuses.net.talos.dev(network/eth9) doesn't exist"
        );
        assert_eq!(ask("nonsense").await["error"], "\"nonsense\" is no command");
        let answer = ask("expect call Shutdown within 10ms").await;
        assert_eq!(
            answer["error"],
            "0 calls of Shutdown match within 10ms, expected at least 1"
        );
        assert_eq!(ask("expect no call Shutdown for 10ms").await["ok"], true);
        let state = ask("state").await;
        assert_eq!(
            (&state["talos"], &state["listening"]),
            (&"1.12".into(), &true.into())
        );
        let resources = state["resources"].as_array().unwrap();
        assert!(
            resources
                .iter()
                .any(|resource| resource["id"] == "eth0/10.5.0.2/24")
        );
        soon(lab.machine().version(read(()))).await.unwrap();
        assert_eq!(ask("calls Version").await["calls"][0]["roles"][0], "os:reader");
        assert_eq!(ask("expect no call Version for 1s").await["ok"], false);
        assert_eq!(ask("reset-calls").await["ok"], true);
        assert_eq!(ask("calls").await["calls"], Value::Array(Vec::new()));
        let document =
            r#"resource put {"type":"MetaKeys.runtime.talos.dev","id":"0x0c","spec":{"value":"v"}}"#;
        assert_eq!(ask(document).await["ok"], true);
        lab.node.shutdown().await;
    }
}

mod derived {
    use super::*;

    #[tokio::test]
    async fn node_addresses_follow_links_and_addresses() {
        let lab = lab(Release::V1_14).await;
        let list = async |id| node_address(&lab, id).await;
        assert_eq!(
            list("current").await,
            ["10.5.0.2/24", "10.5.0.40/32", "10.5.1.2/24"]
        );
        assert_eq!(list("default").await, ["10.5.0.2/24"]);

        // The default address stays while it is there, the accumulated ones for ever.
        lab.apply("address add eth0 10.4.0.1/24").await;
        assert_eq!(list("default").await, ["10.5.0.2/24"]);
        lab.apply("address remove eth0 10.5.0.2/24").await;
        assert_eq!(list("default").await, ["10.4.0.1/24"]);
        assert!(list("accumulative").await.contains(&"10.5.0.2/24".to_owned()));

        lab.apply("link add cni0 bridge").await;
        lab.apply("address add cni0 10.244.3.1/24 kernel").await;
        assert!(list("routed").await.contains(&"10.244.3.1/24".to_owned()));
        assert!(!list("routed-no-k8s").await.contains(&"10.244.3.1/24".to_owned()));
        assert_eq!(list("current-only-k8s").await, ["10.244.3.1/24"]);

        lab.apply("link down eth0").await;
        assert_eq!(list("current").await, ["10.244.3.1/24"]);
        lab.apply("link up eth0").await;
        lab.apply("link remove cni0").await;
        assert_eq!(
            list("current").await,
            ["10.4.0.1/24", "10.5.0.40/32", "10.5.1.2/24"]
        );
        lab.node.shutdown().await;
    }

    #[tokio::test]
    async fn an_address_spec_says_where_an_address_came_from() {
        let lab = lab(Release::V1_14).await;
        lab.apply("address add eth0 10.5.7.7/24 dhcp").await;
        let request = |id: &str| GetRequest {
            namespace: "network-config".to_owned(),
            r#type: network::ADDRESS_SPECS.to_owned(),
            id: id.to_owned(),
            options: None,
        };
        for id in [
            "configuration/eth0/10.5.0.2/24",
            "dhcp4/eth0/10.5.7.7/24",
            "vip/eth0/10.5.0.40/32",
            "default/lo/127.0.0.1/8",
        ] {
            assert!(soon(lab.state().get(read(request(id)))).await.is_ok(), "{id}");
        }
        assert!(
            get(&lab, network::ADDRESS_SPECS, "eth0/10.5.7.7/24")
                .await
                .is_ok()
        );
        lab.apply("address remove eth0 10.5.7.7/24").await;
        let outcome = soon(lab.state().get(read(request("dhcp4/eth0/10.5.7.7/24")))).await;
        assert_eq!(code(outcome).0, Code::NotFound);
        lab.node.shutdown().await;
    }

    #[tokio::test]
    async fn every_example_is_a_node_of_every_release() {
        let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("nodes");
        let mut count = 0;
        for file in fs::read_dir(examples).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let script = Script::read(&text).unwrap();
            for release in Release::ALL {
                let lab = lab_with(release, Source::Script(Box::new(script.clone()))).await;
                assert!(!node_address(&lab, "routed-no-k8s").await.is_empty());
                lab.node.shutdown().await;
            }
            count += 1;
        }
        assert_eq!(count, 3);
    }

    #[tokio::test]
    async fn bond_members_share_an_address_and_keep_their_permanent_one() {
        let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/nodes/bond-vlan.yaml")).unwrap();
        let script = Script::read(&text).unwrap();
        let lab = lab_with(Release::V1_14, Source::Script(Box::new(script))).await;
        let link = async |name| -> spec::LinkStatus {
            decode(Some(&get(&lab, network::LINK_STATUSES, name).await.unwrap()))
        };
        let (bond, member, vlan) = (link("bond0").await, link("eth1").await, link("bond0.100").await);
        assert_eq!((bond.kind.as_str(), member.slave_kind.as_str()), ("bond", "bond"));
        assert_eq!(member.master_index, bond.index);
        assert_eq!(member.hardware_addr, bond.hardware_addr);
        assert_ne!(member.permanent_addr, member.hardware_addr);
        assert_eq!(vlan.link_index, bond.index);
        assert_eq!(
            vlan.vlan.unwrap(),
            spec::Vlan {
                vid: 100,
                protocol: 0x8100
            }
        );
        lab.node.shutdown().await;
    }
}
