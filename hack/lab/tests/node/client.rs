//! A node and a client of its API.

pub use std::{
    fs, future::Future, os::unix::fs::MetadataExt, os::unix::fs::PermissionsExt, path::PathBuf,
    time::Duration,
};

pub use lab::node::{
    Config, Node, Source,
    release::Release,
    schema::{network, runtime},
    script::Script,
};
pub use prost::Message;
pub use serde_json::Value;
pub use talos_vmtoolsd::pb::{
    cosi::resource::{
        self as cosi, EventType, GetRequest, IdQuery, ListRequest, WatchOptions, WatchRequest, WatchResponse,
        state_client::StateClient,
    },
    machine::{RebootRequest, ShutdownRequest, machine_service_client::MachineServiceClient},
    spec,
};
pub use tempfile::TempDir;
pub use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{Instant, timeout},
};
pub use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

/// No step of these tests takes longer unless something is broken.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Long enough to see that nothing comes.
pub const QUIET: Duration = Duration::from_millis(150);

pub const READER: &[&str] = &["os:reader"];

pub struct Lab {
    pub node: Node,
    pub socket: PathBuf,
    pub control: PathBuf,
    pub _directory: TempDir,
}

pub async fn lab_with(release: Release, source: Source) -> Lab {
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

pub async fn lab(release: Release) -> Lab {
    let script = Script::control_plane().unwrap();
    lab_with(release, Source::Script(Box::new(script))).await
}

impl Lab {
    pub fn channel(&self) -> Channel {
        let uri = format!("unix:{}", self.socket.display());
        Endpoint::from_shared(uri).unwrap().connect_lazy()
    }

    pub fn state(&self) -> StateClient<Channel> {
        StateClient::new(self.channel())
    }

    pub fn machine(&self) -> MachineServiceClient<Channel> {
        MachineServiceClient::new(self.channel())
    }

    pub async fn apply(&self, line: &str) -> Value {
        soon(self.node.apply(line))
            .await
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    }
}

pub async fn soon<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("nothing happened in time")
}

pub fn with_roles<T>(roles: &[&str], message: T) -> Request<T> {
    let mut request = Request::new(message);
    for role in roles {
        request.metadata_mut().append("talos-role", role.parse().unwrap());
    }
    request
}

pub fn read<T>(message: T) -> Request<T> {
    with_roles(READER, message)
}

/// A bootstrapped, aggregated watch of a kind, as the daemon makes it.
pub fn kind(name: &str) -> WatchRequest {
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

pub fn single(name: &str, id: &str) -> WatchRequest {
    WatchRequest {
        id: Some(id.to_owned()),
        options: Some(WatchOptions::default()),
        ..kind(name)
    }
}

pub async fn watch(lab: &Lab, request: WatchRequest) -> Streaming<WatchResponse> {
    let mut stream = soon(lab.state().watch(read(request))).await.unwrap().into_inner();
    let first = next(&mut stream).await;
    assert_eq!(first, WatchResponse::default(), "the first response is empty");
    stream
}

pub async fn next(stream: &mut Streaming<WatchResponse>) -> WatchResponse {
    soon(stream.message()).await.unwrap().expect("the watch ended")
}

pub async fn quiet(stream: &mut Streaming<WatchResponse>) {
    assert!(timeout(QUIET, stream.message()).await.is_err(), "something came");
}

pub fn types(response: &WatchResponse) -> Vec<EventType> {
    response.event.iter().map(cosi::Event::event_type).collect()
}

pub fn metadata(resource: Option<&cosi::Resource>) -> &cosi::Metadata {
    resource.unwrap().metadata.as_ref().unwrap()
}

pub fn ids(response: &WatchResponse) -> Vec<&str> {
    response
        .event
        .iter()
        .map(|event| metadata(event.resource.as_ref()).id.as_str())
        .collect()
}

pub fn decode<T: Message + Default>(resource: Option<&cosi::Resource>) -> T {
    T::decode(&*resource.unwrap().spec.as_ref().unwrap().proto_spec).unwrap()
}

pub fn code<T>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.err().expect("the call succeeded");
    (status.code(), status.message().to_owned())
}

pub async fn get(lab: &Lab, name: &str, id: &str) -> Result<cosi::Resource, Status> {
    let request = GetRequest {
        namespace: "network".to_owned(),
        r#type: name.to_owned(),
        id: id.to_owned(),
        options: None,
    };
    let reply = soon(lab.state().get(read(request))).await?;
    Ok(reply.into_inner().resource.unwrap())
}

pub async fn node_address(lab: &Lab, id: &str) -> Vec<String> {
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
