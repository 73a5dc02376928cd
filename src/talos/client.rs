//! Calls of the machine API: one HTTP/2 connection over the unix socket, opened by the first call.
//!
//! A role travels with each call, and it comes from one place: [`METHODS`], looked up by the path of the request. A
//! call that is not in the table goes out without a role, and Talos refuses it.
//!
//! Nothing below this module sends a request twice. tonic's channel opens a connection before it hands a request over
//! (its `Reconnect` looks whether the last one is still up) and has no retry of its own; hyper's `client::conn`
//! gives a request whose connection closes under it back as an error, sent or not (retrying belongs to hyper-util's
//! pooled client, which is not used); h2 reports REFUSED_STREAM and never repeats it. So a power call that fails may
//! or may not have reached Talos, and whoever made it decides.

#![forbid(unsafe_code)]

mod answer;
mod method;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    future::Future,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http_body_util::BodyExt as _;
use hyper::{Request, Response, Uri, header::HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    sync::{mpsc, watch},
};
use tonic::{Status, Streaming, body::Body, transport::Channel, transport::Endpoint};
use tower::{
    service_fn,
    util::{MapRequest, MapResponse},
};

pub(super) use self::answer::{describe, overdue};
pub use self::method::{CONTAINERS, EVENTS, METHODS, MOUNTS, Method, REBOOT, SHUTDOWN, VERSION, WATCH};
use self::{
    answer::{only, refuse_failure, refused},
    method::FIRST_ANSWER,
};
use super::{
    CallError, Machine, RebootMode,
    events::{self, Heard},
    snapshot::{Filesystem, Version},
};
use crate::pb::{
    common,
    cosi::resource::{WatchRequest, WatchResponse, state_client::StateClient},
    machine::{
        ContainersRequest, Event, EventsRequest, RebootRequest, ShutdownRequest,
        machine_service_client::MachineServiceClient, reboot_request,
    },
};

/// Where every supported Talos serves its API.
pub const SOCKET: &str = "/system/run/machined/machine.sock";

/// The metadata key of the caller's roles, one role per value (pkg/grpc/middleware/authz).
const ROLE: &str = "talos-role";

/// Largest message that is accepted, in bytes: Talos's own limit for what it receives (GRPCMaxMessageSize). A longer
/// one is refused by its announced length, before anything is allocated.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// Most filesystems of one [`Client::mounts`]: a busy node has some hundreds, of pods.
pub const MAX_FILESYSTEMS: usize = 4096;

/// The containerd namespace of Kubernetes, the only one that the container runtime's interface has
/// (machined's v1alpha1_server.go).
const PODS: &str = "k8s.io";

/// States of a container and of a pod that run (runtime.v1.ContainerState and PodSandboxState of the CRI).
const RUNNING: [&str; 2] = ["CONTAINER_RUNNING", "SANDBOX_READY"];

/// Largest event that is accepted, in bytes. The texts of errors and of services are the longest part.
const MAX_EVENT: usize = 256 * 1024;

/// HTTP/2 flow control windows in bytes, per stream and per connection: the protocol's minimum, and enough for all
/// streams to move. Messages are small, and the peer is on this machine.
const STREAM_WINDOW: u32 = 65_535;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Requests that may wait for the connection: one per watch, a power call and its events, and what is asked beside.
const QUEUE: usize = 32;

/// How Talos is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// No answer is waited for longer, whatever [`METHODS`] says.
    pub patience: Duration,
    /// First pause before another attempt; it doubles with each.
    pub first_pause: Duration,
    /// Longest pause before another attempt.
    pub longest_pause: Duration,
    /// After such a time without a word, give or take a fifth, Talos is asked whether it still lives.
    pub silence: Duration,
}

impl Settings {
    /// The settings for a node, but for the path of the socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            patience: FIRST_ANSWER,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(5),
            silence: Duration::from_secs(30),
        }
    }
}

type Transport = MapResponse<
    MapRequest<Channel, fn(Request<Body>) -> Request<Body>>,
    fn(Response<Body>) -> Response<Body>,
>;

/// The machine API. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    channel: Mutex<Channel>,
    /// Connections opened so far.
    opened: Arc<AtomicU64>,
    /// A call was answered, so Talos knows this process.
    answered: AtomicBool,
    /// Counts the connections that were left.
    given_up: watch::Sender<u64>,
}

impl Client {
    /// Connects with the first call.
    ///
    /// Must be called within a tokio runtime.
    pub fn new(settings: Settings) -> Self {
        let opened = Arc::default();
        let channel = Mutex::new(connect_lazily(&settings, &opened));
        let answered = AtomicBool::new(false);
        Self {
            shared: Arc::new(Shared {
                settings,
                channel,
                opened,
                answered,
                given_up: watch::Sender::default(),
            }),
        }
    }

    /// Leaves the present connection to the calls that are using it; later ones open another, perhaps to a Talos that
    /// has to learn this process again. A connection whose peer never answers looks healthy from here and would be used
    /// for ever.
    pub(super) fn renew(&self) {
        let fresh = connect_lazily(&self.shared.settings, &self.shared.opened);
        *self.shared.channel.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        self.shared.answered.store(false, Ordering::Relaxed);
        self.shared.given_up.send_modify(|times| *times += 1);
    }

    /// Changes whenever a connection is left, above all because a call was not answered. Streams that stand on it are
    /// quiet on a quiet node, so nobody else would notice.
    pub(super) fn given_up(&self) -> watch::Receiver<u64> {
        self.shared.given_up.subscribe()
    }

    /// How many connections were opened so far. A call reconnects unseen where the last connection is gone; this tells
    /// whether two calls were answered on the same one, hence by the same Talos.
    pub(super) fn opened(&self) -> u64 {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// How long an answer of this method may take.
    pub(super) fn deadline(&self, method: &Method) -> Duration {
        let answered = self.shared.answered.load(Ordering::Relaxed);
        let deadline = if answered {
            method.deadline
        } else {
            method.deadline.max(FIRST_ANSWER)
        };
        deadline.min(self.shared.settings.patience)
    }

    /// `Version`.
    pub async fn version(&self) -> Result<Version, CallError> {
        let mut service = MachineServiceClient::new(self.transport());
        let reply = self
            .call(
                &VERSION,
                (),
                |request| async move { service.version(request).await },
            )
            .await?;
        let version = only(&VERSION, reply.messages)?;
        refuse_failure(&VERSION, version.metadata.as_ref())?;
        let info = version.version.ok_or(CallError::Incomplete {
            method: VERSION.path,
            what: "version",
        })?;
        Ok(Version {
            tag: info.tag,
            arch: info.arch,
            platform: version.platform.unwrap_or_default().name,
        })
    }

    /// `Mounts`: the filesystems as they are now, at most [`MAX_FILESYSTEMS`]. One filesystem that fails makes Talos
    /// fail the whole call, and one that hangs makes it hang; whether it is only that, `Version` tells.
    pub async fn mounts(&self) -> Result<Vec<Filesystem>, CallError> {
        let mut service = MachineServiceClient::new(self.transport()).max_decoding_message_size(MAX_MESSAGE);
        let reply = self
            .call(
                &MOUNTS,
                (),
                |request| async move { service.mounts(request).await },
            )
            .await;
        let reply = self.questioned(reply).await?;
        let mounts = only(&MOUNTS, reply.messages)?;
        refuse_failure(&MOUNTS, mounts.metadata.as_ref())?;
        Ok(mounts
            .stats
            .into_iter()
            .take(MAX_FILESYSTEMS)
            .map(|stat| Filesystem {
                source: stat.filesystem,
                target: stat.mounted_on,
                size: stat.size,
                available: stat.available,
            })
            .collect())
    }

    /// `Containers` of the pods, as the container runtime tells them: the images of those that run, the pods' own (pause)
    /// among them. The runtime is asked and not containerd, because from Talos 1.14 on it may live in namespaces of its
    /// own, where only it knows what runs. A runtime that hangs makes the call hang, as a filesystem does to
    /// [`Self::mounts`].
    pub async fn containers(&self) -> Result<BTreeSet<String>, CallError> {
        let mut service = MachineServiceClient::new(self.transport()).max_decoding_message_size(MAX_MESSAGE);
        let message = ContainersRequest {
            namespace: PODS.to_owned(),
            driver: common::ContainerDriver::Cri.into(),
        };
        let reply = self
            .call(&CONTAINERS, message, |request| async move {
                service.containers(request).await
            })
            .await;
        let reply = self.questioned(reply).await?;
        let list = only(&CONTAINERS, reply.messages)?;
        refuse_failure(&CONTAINERS, list.metadata.as_ref())?;
        Ok(list
            .containers
            .into_iter()
            .filter(|container| RUNNING.contains(&container.status.as_str()) && !container.image.is_empty())
            .map(|container| container.image)
            .collect())
    }

    /// The reply of a call that can hang alone. If it did not come in time, `Version` tells whether it was only that,
    /// and leaves the connection if it is not answered either.
    async fn questioned<R>(&self, reply: Result<R, CallError>) -> Result<R, CallError> {
        if reply.as_ref().is_err_and(CallError::is_overdue) {
            _ = self.version().await;
        }
        reply
    }

    /// `Watch`. The stream's messages have no deadline here; the caller knows which are due.
    pub(super) async fn watch(&self, request: WatchRequest) -> Result<Streaming<WatchResponse>, Status> {
        let mut service = StateClient::new(self.transport()).max_decoding_message_size(MAX_MESSAGE);
        let answer = tokio::time::timeout(self.deadline(&WATCH), service.watch(request)).await;
        answer
            .unwrap_or_else(|_| Err(overdue(self.deadline(&WATCH))))
            .map(tonic::Response::into_inner)
    }

    /// `Events`. The first message is a hello, and due within the method's deadline; the others come when they come.
    pub(super) async fn events(&self, request: EventsRequest) -> Result<Streaming<Event>, Status> {
        let mut service = MachineServiceClient::new(self.transport()).max_decoding_message_size(MAX_EVENT);
        let answer = tokio::time::timeout(self.deadline(&EVENTS), service.events(request)).await;
        answer
            .unwrap_or_else(|_| Err(overdue(self.deadline(&EVENTS))))
            .map(tonic::Response::into_inner)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn transport(&self) -> Transport {
        let channel = self
            .shared
            .channel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        MapResponse::new(
            MapRequest::new(channel, assert_role as fn(_) -> _),
            drop_details as fn(_) -> _,
        )
    }

    /// One unary call with its deadline, which covers opening the connection.
    async fn call<Q, R, F>(
        &self,
        method: &Method,
        message: Q,
        send: impl FnOnce(tonic::Request<Q>) -> F,
    ) -> Result<R, CallError>
    where
        F: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        let deadline = self.deadline(method);
        let mut request = tonic::Request::new(message);
        request.set_timeout(deadline);
        let answer = tokio::time::timeout(deadline, send(request)).await;
        match answer.unwrap_or_else(|_| Err(overdue(deadline))) {
            Ok(reply) => {
                self.shared.answered.store(true, Ordering::Relaxed);
                Ok(reply.into_inner())
            }
            Err(status) => {
                let error = refused(method, &status, deadline);
                // The next call is not to wait on a connection that has fallen silent: it may be another OS_Halt.
                if error.is_overdue() && ![MOUNTS, CONTAINERS].contains(method) {
                    self.renew();
                }
                Err(error)
            }
        }
    }
}

impl Machine for Client {
    async fn shutdown(&self, force: bool) -> Result<String, CallError> {
        let mut service = MachineServiceClient::new(self.transport());
        let message = ShutdownRequest { force };
        let reply = self
            .call(&SHUTDOWN, message, |request| async move {
                service.shutdown(request).await
            })
            .await?;
        let accepted = only(&SHUTDOWN, reply.messages)?;
        refuse_failure(&SHUTDOWN, accepted.metadata.as_ref())?;
        Ok(accepted.actor_id)
    }

    async fn reboot(&self, mode: RebootMode) -> Result<String, CallError> {
        let mut service = MachineServiceClient::new(self.transport());
        let mode = match mode {
            RebootMode::Default => reboot_request::Mode::Default,
            RebootMode::PowerCycle => reboot_request::Mode::Powercycle,
        };
        let message = RebootRequest { mode: mode.into() };
        let reply = self
            .call(&REBOOT, message, |request| async move {
                service.reboot(request).await
            })
            .await?;
        let accepted = only(&REBOOT, reply.messages)?;
        refuse_failure(&REBOOT, accepted.metadata.as_ref())?;
        Ok(accepted.actor_id)
    }

    async fn events(&self, heard: mpsc::Sender<Heard>) -> Infallible {
        events::follow(self, &heard).await
    }
}

/// No keep-alive: grpc-go takes pings on a quiet connection for abuse and closes it ("too_many_pings"), and on a unix
/// socket a peer that is gone is an end of file.
fn connect_lazily(settings: &Settings, opened: &Arc<AtomicU64>) -> Channel {
    let (path, opened) = (settings.socket.clone(), Arc::clone(opened));
    // The authority is free to choose: machined does not look at it.
    Endpoint::from_static("http://localhost")
        .connect_timeout(settings.patience)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .buffer_size(QUEUE)
        .connect_with_connector_lazy(service_fn(move |_: Uri| {
            let (path, opened) = (path.clone(), Arc::clone(&opened));
            async move {
                let stream = UnixStream::connect(path).await?;
                opened.fetch_add(1, Ordering::Relaxed);
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        }))
}

fn assert_role(mut request: Request<Body>) -> Request<Body> {
    let method = METHODS.iter().find(|method| method.path == request.uri().path());
    if let Some(method) = method {
        request
            .headers_mut()
            .insert(ROLE, HeaderValue::from_static(method.role));
    }
    request
}

/// Takes the details out of a status: they are not read here, and tonic panics on details that are no base64.
fn drop_details(mut response: Response<Body>) -> Response<Body> {
    const DETAILS: &str = "grpc-status-details-bin";

    response.headers_mut().remove(DETAILS);
    response.map(|body| {
        Body::new(body.map_frame(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                trailers.remove(DETAILS);
            }
            frame
        }))
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn requests_are_the_golden_vectors() {
        assert_eq!(ShutdownRequest { force: true }.encode_to_vec(), [0x08, 0x01]);
        assert!(ShutdownRequest { force: false }.encode_to_vec().is_empty());
        let mode = reboot_request::Mode::Powercycle.into();
        assert_eq!(RebootRequest { mode }.encode_to_vec(), [0x08, 0x01]);
    }

    #[test]
    fn the_accepted_shutdown_is_the_golden_vector() {
        let reply = crate::pb::machine::ShutdownResponse::decode(
            b"\x0a\x26\x12\x243f2c1d8e-0000-4000-8000-000000000001".as_slice(),
        )
        .unwrap();
        let accepted = only(&SHUTDOWN, reply.messages).unwrap();
        assert_eq!(accepted.actor_id, "3f2c1d8e-0000-4000-8000-000000000001");
    }

    #[test]
    fn a_call_outside_the_table_has_no_role() {
        let to = |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            assert_role(request).headers().get(ROLE).cloned()
        };
        assert_eq!(to("http://localhost/machine.MachineService/Reset"), None);
        assert_eq!(
            to("http://localhost/machine.MachineService/Reboot").unwrap(),
            "os:operator"
        );
    }
}
