//! A scripted Talos: the two services on a unix socket, with resources that the test changes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::StreamBody;
use hyper::{body::Frame, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use prost::Message;
use talos_vmtoolsd::{
    pb::{common, cosi::resource as cosi, machine, spec},
    talos::ResourceType,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, BoxStream, Bytes, tokio_stream},
    server::{Grpc, ServerStreamingService, UnaryService},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// Longest wait of a test for anything; far above what anything takes.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A call as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub path: String,
    pub roles: Vec<String>,
    /// The resource type of a watch.
    pub resource_type: String,
    /// The id query of a watch.
    pub regexp: String,
}

type Events = mpsc::UnboundedSender<Result<cosi::WatchResponse, Status>>;

struct Watcher {
    resource_type: String,
    id: Option<String>,
    regexp: String,
    events: Events,
}

/// What the node does instead of what it should.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this status.
    Status(Code, &'static str),
    /// Never answers.
    Silence,
    /// A watch that is established, and no more.
    Stall,
    /// Closes the connection, having read the request.
    Hangup,
    /// A status whose details are no base64.
    BadDetails,
    /// A message that claims to be 4 GiB long.
    Huge,
    /// A message of 200 MiB that is really sent, as far as the client takes it.
    Long,
    /// An answer of trailers alone: names and values.
    Trailers(Vec<(&'static str, Vec<u8>)>),
}

/// Length of [`Fault::Long`], in bytes.
pub const LONG: u32 = 200 << 20;

#[derive(Default)]
struct State {
    /// Bytes of [`Fault::Long`] that were written.
    long: Arc<AtomicU64>,
    resources: BTreeMap<(String, String), Vec<u8>>,
    watchers: Vec<Watcher>,
    tag: &'static str,
    /// By method path, or by resource type for watches.
    faults: BTreeMap<String, Fault>,
}

/// The node; clones are the same node.
#[derive(Clone)]
pub struct Node {
    state: Arc<Mutex<State>>,
    calls: watch::Sender<Vec<Call>>,
}

/// A socket that is served.
pub struct Served {
    path: PathBuf,
    stop: CancellationToken,
    drain: CancellationToken,
    tasks: JoinSet<()>,
}

impl Served {
    /// Everything ends at once, as after the grace period of a stopping Talos.
    pub async fn kill(mut self) {
        let _ = std::fs::remove_file(&self.path);
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// The socket goes, connections are told GOAWAY, and open streams go on.
    pub fn drain(&self) {
        let _ = std::fs::remove_file(&self.path);
        self.drain.cancel();
    }
}

impl Node {
    /// A node with one adapter, one address and a default route.
    pub fn new() -> Self {
        let node = Self {
            state: Arc::default(),
            calls: watch::Sender::default(),
        };
        node.state().tag = "v1.14.1";
        node.put(ResourceType::Link, "eth0", &link(2, ""));
        node.put(ResourceType::Link, "lxc1", &link(7, "veth"));
        node.put(
            ResourceType::Address,
            "eth0/10.5.0.2/24",
            &address("eth0", [10, 5, 0, 2]),
        );
        node.put(
            ResourceType::Address,
            "lxc1/10.244.0.1/32",
            &address("lxc1", [10, 244, 0, 1]),
        );
        node.put(
            ResourceType::Route,
            "inet4/10.5.0.1//1024",
            &spec::RouteStatus {
                family: 2,
                gateway: Some(common::NetIp {
                    ip: vec![10, 5, 0, 1],
                }),
                out_link_name: "eth0".into(),
                table: 254,
                r#type: 1,
                priority: 1024,
                ..spec::RouteStatus::default()
            },
        );
        let six = |link: &str| spec::RouteStatus {
            family: 10,
            gateway: Some(common::NetIp {
                ip: vec![0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            }),
            out_link_name: link.into(),
            table: 254,
            r#type: 1,
            priority: 1024,
            ..spec::RouteStatus::default()
        };
        node.put(ResourceType::Route, "eth0/inet6/fe80::1//1024", &six("eth0"));
        node.put(ResourceType::Route, "lxc1/inet6/fe80::1//1024", &six("lxc1"));
        node.put(
            ResourceType::Route,
            "local/eth0/inet6//::1/128/0",
            &spec::RouteStatus {
                table: 255,
                ..six("eth0")
            },
        );
        node.put(
            ResourceType::NodeAddress,
            "default",
            &spec::NodeAddress {
                addresses: vec![prefix([10, 5, 0, 2])],
                sort_algorithm: 0,
            },
        );
        node.put(ResourceType::Hostname, "hostname", &hostname("talos-1"));
        node.put(
            ResourceType::Resolver,
            "resolvers",
            &spec::ResolverStatus {
                dns_servers: vec![common::NetIp {
                    ip: vec![10, 5, 0, 53],
                }],
                ..spec::ResolverStatus::default()
            },
        );
        node.put(
            ResourceType::Machine,
            "machine",
            &spec::MachineStatus {
                stage: 4,
                status: Some(spec::MachineStatusStatus {
                    ready: true,
                    unmet_conditions: vec![],
                }),
            },
        );
        node.put(
            ResourceType::Security,
            "securitystate",
            &spec::SecurityState {
                secure_boot: true,
                ..spec::SecurityState::default()
            },
        );
        node
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Creates or updates a resource.
    pub fn put(&self, resource_type: ResourceType, id: &str, spec: &impl Message) {
        self.put_bytes(resource_type, id, spec.encode_to_vec());
    }

    /// Creates or updates a resource whose spec is these bytes.
    pub fn put_bytes(&self, resource_type: ResourceType, id: &str, spec: Vec<u8>) {
        let key = (resource_type.type_name().to_owned(), id.to_owned());
        let mut state = self.state();
        let event_type = match state.resources.insert(key, spec.clone()) {
            None => cosi::EventType::Created,
            Some(_) => cosi::EventType::Updated,
        };
        state.tell(
            resource_type,
            id,
            &event(event_type, resource_type, id, "running", spec),
        );
    }

    /// Marks a resource as going away; it still exists.
    pub fn tear_down(&self, resource_type: ResourceType, id: &str) {
        let mut state = self.state();
        let key = (resource_type.type_name().to_owned(), id.to_owned());
        let spec = state.resources.get(&key).cloned().unwrap();
        state.tell(
            resource_type,
            id,
            &event(cosi::EventType::Updated, resource_type, id, "tearingDown", spec),
        );
    }

    /// Destroys a resource.
    pub fn remove(&self, resource_type: ResourceType, id: &str) {
        let mut state = self.state();
        let key = (resource_type.type_name().to_owned(), id.to_owned());
        let spec = state.resources.remove(&key).unwrap();
        state.tell(
            resource_type,
            id,
            &event(cosi::EventType::Destroyed, resource_type, id, "running", spec),
        );
    }

    /// Changes a resource without telling any watch, as when its buffer overran.
    pub fn put_silently(&self, resource_type: ResourceType, id: &str, spec: &impl Message) {
        let key = (resource_type.type_name().to_owned(), id.to_owned());
        self.state().resources.insert(key, spec.encode_to_vec());
    }

    /// Gives the watches of a type up: ERRORED, and then nothing on a stream that stays open.
    pub fn overrun(&self, resource_type: ResourceType) {
        let errored = cosi::Event {
            event_type: cosi::EventType::Errored.into(),
            error: Some("buffer overrun: namespace network".into()),
            ..cosi::Event::default()
        };
        self.send(resource_type, errored);
    }

    /// The release that it says it is.
    pub fn upgrade(&self, tag: &'static str) {
        self.state().tag = tag;
    }

    /// Ends every watch in good order.
    pub fn finish(&self) {
        self.state().watchers.clear();
    }

    /// Sends any event to the watches of a type.
    pub fn send(&self, resource_type: ResourceType, event: cosi::Event) {
        for watcher in self
            .state()
            .watchers
            .iter()
            .filter(|it| it.resource_type == resource_type.type_name())
        {
            let _ = watcher.events.send(Ok(cosi::WatchResponse {
                event: vec![event.clone()],
            }));
        }
    }

    /// From now on this method, or the watch of this type, does that.
    pub fn fail(&self, what: &str, fault: Fault) {
        self.state().faults.insert(what.to_owned(), fault);
    }

    /// From now on it does what it should.
    pub fn mend(&self, what: &str) {
        self.state().faults.remove(what);
    }

    /// Bytes of [`Fault::Long`] that were taken from it.
    pub fn taken(&self) -> u64 {
        self.state().long.load(Ordering::Relaxed)
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    /// How often a method was called, or a type watched.
    pub fn count(&self, what: &str) -> usize {
        self.calls
            .borrow()
            .iter()
            .filter(|call| call.path == what || call.resource_type == what)
            .count()
    }

    /// Waits until a method was called, or a type watched, so often.
    pub async fn called(&self, what: &str, times: usize) {
        let mut calls = self.calls.subscribe();
        let enough = calls.wait_for(|calls| {
            calls
                .iter()
                .filter(|call| call.path == what || call.resource_type == what)
                .count()
                >= times
        });
        tokio::time::timeout(LIMIT, enough).await.unwrap().unwrap();
    }

    /// Serves the node on this socket.
    pub fn serve(&self, path: &Path) -> Served {
        let listener = UnixListener::bind(path).unwrap();
        let (stop, drain) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let (node, stopped, drained) = (self.clone(), stop.clone(), drain.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    () = stopped.cancelled() => break,
                    accepted = listener.accept(), if !drained.is_cancelled() => {
                        let (stream, _) = accepted.unwrap();
                        connections.spawn(node.clone().connection(stream, drained.clone()));
                    }
                }
            }
            connections.shutdown().await;
            node.state().watchers.clear();
        });
        Served {
            path: path.to_owned(),
            stop,
            drain,
            tasks,
        }
    }

    async fn connection(self, stream: UnixStream, drain: CancellationToken) {
        let hangup = CancellationToken::new();
        let cut = hangup.clone();
        let service = service_fn(move |request| {
            let (node, hangup) = (self.clone(), hangup.clone());
            async move { Ok::<_, std::convert::Infallible>(node.answer(request, &hangup).await) }
        });
        let serving = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::pin!(serving);
        let drained = tokio::select! {
            _ = &mut serving => false,
            () = cut.cancelled() => false,
            () = drain.cancelled() => true,
        };
        if drained {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                _ = serving => {}
                () = cut.cancelled() => {}
            }
        }
    }

    async fn answer(
        &self,
        request: Request<hyper::body::Incoming>,
        hangup: &CancellationToken,
    ) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let roles = request
            .headers()
            .get_all("talos-role")
            .iter()
            .map(|role| role.to_str().unwrap().to_owned())
            .collect();
        let call = Call {
            path: path.clone(),
            roles,
            resource_type: String::new(),
            regexp: String::new(),
        };
        if path != "/cosi.resource.State/Watch" {
            self.calls.send_modify(|calls| calls.push(call.clone()));
        }
        let fault = self.state().faults.get(&path).cloned();
        if let Some(fault) = fault {
            let long = Arc::clone(&self.state().long);
            return misbehave(fault, hangup, long).await;
        }
        let request = request.map(Body::new);
        match path.as_str() {
            "/machine.MachineService/Version" => {
                let tag = self.state().tag;
                Grpc::new(ProstCodec::default())
                    .unary(Reply(version(tag)), request)
                    .await
            }
            "/machine.MachineService/Containers" => {
                let container = |image: &str, status: &str| machine::ContainerInfo {
                    image: image.into(),
                    status: status.into(),
                    ..machine::ContainerInfo::default()
                };
                let list = machine::Container {
                    containers: vec![
                        container("pause:3.10", "SANDBOX_READY"),
                        container("etcd:v3.6", "CONTAINER_RUNNING"),
                        container("job:v1", "CONTAINER_EXITED"),
                        container("", "CONTAINER_RUNNING"),
                    ],
                    ..machine::Container::default()
                };
                let reply = machine::ContainersResponse { messages: vec![list] };
                Grpc::new(ProstCodec::default())
                    .unary(Reply(reply), request)
                    .await
            }
            "/machine.MachineService/Mounts" => {
                let var = machine::MountStat {
                    filesystem: "/dev/sda6".into(),
                    size: 1000,
                    available: 400,
                    mounted_on: "/var".into(),
                };
                let mounts = machine::Mounts {
                    stats: vec![var],
                    ..machine::Mounts::default()
                };
                let reply = machine::MountsResponse {
                    messages: vec![mounts],
                };
                Grpc::new(ProstCodec::default())
                    .unary(Reply(reply), request)
                    .await
            }
            "/machine.MachineService/Shutdown" => {
                let accepted = machine::Shutdown {
                    actor_id: "actor-1".into(),
                    ..machine::Shutdown::default()
                };
                let reply = machine::ShutdownResponse {
                    messages: vec![accepted],
                };
                Grpc::new(ProstCodec::default())
                    .unary(Reply(reply), request)
                    .await
            }
            "/machine.MachineService/Reboot" => {
                let accepted = machine::Reboot {
                    actor_id: "actor-2".into(),
                    ..machine::Reboot::default()
                };
                let reply = machine::RebootResponse {
                    messages: vec![accepted],
                };
                Grpc::new(ProstCodec::default())
                    .unary(Reply(reply), request)
                    .await
            }
            "/machine.MachineService/Events" => {
                Grpc::new(ProstCodec::default())
                    .server_streaming(History, request)
                    .await
            }
            "/cosi.resource.State/Watch" => {
                let watch = Watch {
                    node: self.clone(),
                    call,
                    hangup: hangup.clone(),
                };
                Grpc::new(ProstCodec::default())
                    .server_streaming(watch, request)
                    .await
            }
            _ => Status::unimplemented("unknown method").into_http(),
        }
    }
}

impl State {
    fn tell(&mut self, resource_type: ResourceType, id: &str, event: &cosi::Event) {
        self.watchers.retain(|watcher| {
            if watcher.resource_type != resource_type.type_name()
                || watcher.id.as_deref().is_some_and(|only| only != id)
                || !matches(&watcher.regexp, id)
            {
                return true;
            }
            watcher
                .events
                .send(Ok(cosi::WatchResponse {
                    event: vec![event.clone()],
                }))
                .is_ok()
        });
    }
}

/// Understands `^(?:a|b)/` and `^(?:a|b)$`, with single characters escaped.
fn matches(regexp: &str, id: &str) -> bool {
    if regexp.is_empty() {
        return true;
    }
    let (names, end) = regexp.strip_prefix("^(?:").unwrap().rsplit_once(')').unwrap();
    names.replace('\\', "").split('|').any(|name| match end {
        "/" => id.starts_with(&format!("{name}/")),
        "$" => id == name,
        end => panic!("{end}"),
    })
}

/// What a fault looks like to the caller.
async fn misbehave(fault: Fault, hangup: &CancellationToken, long: Arc<AtomicU64>) -> Response<Body> {
    match fault {
        Fault::Long => Response::builder()
            .header("content-type", "application/grpc")
            .body(Body::new(StreamBody::new(tokio_stream::iter(long_message(long)))))
            .unwrap(),
        Fault::Trailers(values) => {
            let trailers = values
                .into_iter()
                .map(|(name, value)| {
                    (
                        HeaderName::from_static(name),
                        HeaderValue::from_bytes(&value).unwrap(),
                    )
                })
                .collect();
            let frames = [Ok::<_, Status>(Frame::<Bytes>::trailers(trailers))];
            Response::builder()
                .header("content-type", "application/grpc")
                .body(Body::new(StreamBody::new(tokio_stream::iter(frames))))
                .unwrap()
        }
        Fault::Status(code, message) => Status::new(code, message).into_http(),
        Fault::Silence | Fault::Stall => std::future::pending().await,
        Fault::Hangup => {
            hangup.cancel();
            std::future::pending().await
        }
        Fault::BadDetails => {
            let mut response = Status::permission_denied("not authorized").into_http();
            response
                .headers_mut()
                .insert("grpc-status-details-bin", "no base64 %%%".parse().unwrap());
            response
        }
        Fault::Huge => Response::builder()
            .header("content-type", "application/grpc")
            .body(Body::new(http_body_util::Full::new(bytes_of_a_huge_message())))
            .unwrap(),
    }
}

/// A message of [`LONG`] bytes as it is written, piece by piece.
fn long_message(written: Arc<AtomicU64>) -> impl Iterator<Item = Result<Frame<Bytes>, Status>> {
    const PIECE: usize = 64 * 1024;

    let mut prefix = vec![0];
    prefix.extend(LONG.to_be_bytes());
    let pieces = usize::try_from(LONG).unwrap() / PIECE;
    std::iter::once(Bytes::from(prefix))
        .chain(std::iter::repeat_n(Bytes::from(vec![0; PIECE]), pieces))
        .map(move |piece| {
            written.fetch_add(u64::try_from(piece.len()).unwrap(), Ordering::Relaxed);
            Ok(Frame::data(piece))
        })
}

/// The prefix of a message of 4 GiB: no compression, length 0xffffffff.
fn bytes_of_a_huge_message() -> Bytes {
    Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3])
}

#[derive(Clone)]
struct Reply<T>(T);

/// The request's bytes do not matter here.
impl<T: Message + Clone + Default + Send + Sync + 'static> UnaryService<()> for Reply<T> {
    type Response = T;
    type Future = BoxFuture<tonic::Response<T>, Status>;

    fn call(&mut self, _: tonic::Request<()>) -> Self::Future {
        let reply = self.0.clone();
        Box::pin(async move { Ok(tonic::Response::new(reply)) })
    }
}

/// Streams that end after their hello, or after one event where they are asked to go on behind an id; its actor is that
/// id.
struct History;

impl ServerStreamingService<machine::EventsRequest> for History {
    type Response = machine::Event;
    type ResponseStream = BoxStream<machine::Event>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<machine::EventsRequest>) -> Self::Future {
        let behind = request.into_inner().tail_id;
        let mut messages = vec![Ok(machine::Event {
            data: Some(machine::EventPayload::default()),
            id: "hello".into(),
            ..machine::Event::default()
        })];
        if !behind.is_empty() {
            let begun = machine::SequenceEvent {
                sequence: "shutdown".into(),
                action: machine::sequence_event::Action::Start.into(),
                error: None,
            };
            messages.push(Ok(machine::Event {
                data: Some(machine::EventPayload {
                    type_url: "talos/runtime/machine.SequenceEvent".into(),
                    value: begun.encode_to_vec(),
                }),
                id: "event".into(),
                actor_id: behind,
                ..machine::Event::default()
            }));
        }
        let stream: Self::ResponseStream = Box::pin(tokio_stream::iter(messages));
        Box::pin(async move { Ok(tonic::Response::new(stream)) })
    }
}

struct Watch {
    node: Node,
    call: Call,
    hangup: CancellationToken,
}

impl ServerStreamingService<cosi::WatchRequest> for Watch {
    type Response = cosi::WatchResponse;
    type ResponseStream = BoxStream<cosi::WatchResponse>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<cosi::WatchRequest>) -> Self::Future {
        let (node, mut call, hangup) = (self.node.clone(), self.call.clone(), self.hangup.clone());
        Box::pin(async move {
            let request = request.into_inner();
            assert_eq!(request.api_version, 1);
            let options = request.options.expect("old releases crash without options");
            let regexp = options.id_query.map(|query| query.regexp).unwrap_or_default();
            call.resource_type.clone_from(&request.r#type);
            call.regexp.clone_from(&regexp);
            node.calls.send_modify(|calls| calls.push(call));
            let fault = node.state().faults.get(&request.r#type).cloned();
            match fault {
                Some(Fault::Status(code, message)) => return Err(Status::new(code, message)),
                Some(Fault::Stall) => {
                    let (events, receiver) = mpsc::unbounded_channel();
                    let _ = events.send(Ok(cosi::WatchResponse::default()));
                    node.state().watchers.push(Watcher {
                        resource_type: String::new(),
                        id: request.id,
                        regexp,
                        events,
                    });
                    let stream: Self::ResponseStream = Box::pin(Receiver(receiver));
                    return Ok(tonic::Response::new(stream));
                }
                Some(fault) => {
                    let long = Arc::clone(&node.state().long);
                    misbehave(fault, &hangup, long).await;
                }
                None => {}
            }

            let (events, receiver) = mpsc::unbounded_channel();
            let mut state = node.state();
            // The watch stands; then what there is.
            let _ = events.send(Ok(cosi::WatchResponse::default()));
            let resource_type = ResourceType::ALL
                .into_iter()
                .find(|known| known.type_name() == request.r#type)
                .expect("a type of this test");
            let created: Vec<_> = state
                .resources
                .iter()
                .filter(|((kind, id), _)| {
                    *kind == request.r#type
                        && request.id.as_ref().is_none_or(|only| only == id)
                        && matches(&regexp, id)
                })
                .map(|((_, id), spec)| {
                    event(
                        cosi::EventType::Created,
                        resource_type,
                        id,
                        "running",
                        spec.clone(),
                    )
                })
                .collect();
            let tail = match &request.id {
                None => vec![event(
                    cosi::EventType::Bootstrapped,
                    resource_type,
                    "",
                    "running",
                    vec![],
                )],
                Some(id) if created.is_empty() => {
                    vec![event(
                        cosi::EventType::Destroyed,
                        resource_type,
                        id,
                        "running",
                        vec![],
                    )]
                }
                Some(_) => vec![],
            };
            let initial: Vec<_> = created.into_iter().chain(tail).collect();
            if options.aggregated {
                let _ = events.send(Ok(cosi::WatchResponse { event: initial }));
            } else {
                for event in initial {
                    let _ = events.send(Ok(cosi::WatchResponse { event: vec![event] }));
                }
            }
            state.watchers.push(Watcher {
                resource_type: request.r#type,
                id: request.id,
                regexp,
                events,
            });
            drop(state);
            let stream: Self::ResponseStream = Box::pin(Receiver(receiver));
            Ok(tonic::Response::new(stream))
        })
    }
}

struct Receiver(mpsc::UnboundedReceiver<Result<cosi::WatchResponse, Status>>);

impl tokio_stream::Stream for Receiver {
    type Item = Result<cosi::WatchResponse, Status>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

fn event(
    event_type: cosi::EventType,
    resource_type: ResourceType,
    id: &str,
    phase: &str,
    proto_spec: Vec<u8>,
) -> cosi::Event {
    cosi::Event {
        resource: Some(cosi::Resource {
            metadata: Some(cosi::Metadata {
                r#type: resource_type.type_name().into(),
                id: id.into(),
                phase: phase.into(),
                ..cosi::Metadata::default()
            }),
            spec: Some(cosi::Spec {
                proto_spec,
                yaml_spec: String::new(),
            }),
        }),
        event_type: event_type.into(),
        ..cosi::Event::default()
    }
}

fn version(tag: &str) -> machine::VersionResponse {
    machine::VersionResponse {
        messages: vec![machine::Version {
            version: Some(machine::VersionInfo {
                tag: tag.into(),
                arch: "amd64".into(),
                ..machine::VersionInfo::default()
            }),
            platform: Some(machine::PlatformInfo {
                name: "vmware".into(),
                mode: "cloud".into(),
            }),
            ..machine::Version::default()
        }],
    }
}

pub fn link(index: u32, kind: &str) -> spec::LinkStatus {
    spec::LinkStatus {
        index,
        r#type: 1,
        kind: kind.into(),
        hardware_addr: vec![0, 0x50, 0x56, 0, 0, u8::try_from(index).unwrap()],
        mtu: 1500,
        ..spec::LinkStatus::default()
    }
}

fn prefix(ip: [u8; 4]) -> common::NetIpPrefix {
    common::NetIpPrefix {
        ip: ip.to_vec(),
        prefix_length: 24,
    }
}

pub fn address(link: &str, ip: [u8; 4]) -> spec::AddressStatus {
    spec::AddressStatus {
        address: Some(prefix(ip)),
        link_name: link.into(),
        family: 2,
        ..spec::AddressStatus::default()
    }
}

pub fn hostname(name: &str) -> spec::HostnameStatus {
    spec::HostnameStatus {
        hostname: name.into(),
        domainname: String::new(),
    }
}
