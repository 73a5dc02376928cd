//! The simulated Talos node: the machine API of machined on a unix socket, and a control interface.
//!
//! ```text
//!                 control socket / Node::apply
//!                          | commands
//!   state file --script--> v
//!   this machine --mirror--> store --feeds--> cosi.resource.State  \
//!                              ^                                    gateway <-- listener <-- unix socket
//!                  stage -- power <---------- machine.MachineService /    (calls, roles, faults)
//!                            └--sequence--events--> Events
//! ```
//!
//! What a release does differently stands in [`release`] and, for types and fields, in [`schema`]; what can go wrong in
//! [`faults`].

pub mod access;
mod apply;
pub mod calls;
pub mod cli;
pub mod command;
pub mod containers;
pub mod control;
mod cosi;
mod crowd;
pub mod events;
pub mod faults;
pub mod filesystems;
mod gateway;
mod listener;
mod machine;
mod mirror;
pub mod network;
mod peers;
pub mod power;
pub mod record;
pub mod release;
pub mod schema;
pub mod script;
pub mod sequence;
pub mod spec;
mod stage;
pub mod store;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use apply::CommandError;

use crate::pb::{
    cosi::resource::state_server::StateServer, machine::machine_service_server::MachineServiceServer,
};

/// Largest request that machined takes, in bytes (`GRPCMaxMessageSize`).
const MAX_REQUEST: usize = 32 << 20;
/// Flow control window of a stream, in bytes, as machined sets it.
const STREAM_WINDOW: u32 = 65535 * 32;
/// Flow control window of a connection, in bytes, as machined sets it.
const CONNECTION_WINDOW: u32 = 65535 * 16;
/// Time that the tasks of a node have to end.
const END: Duration = Duration::from_secs(5);

/// Where the state comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A state file.
    Script(Box<script::Script>),
    /// This machine, live.
    Mirror,
}

/// A node to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Path of the machine API's socket.
    pub socket: PathBuf,
    /// Path of the control socket, if there is to be one.
    pub control: Option<PathBuf>,
    /// The release that it plays; the state file's, or the latest, when absent.
    pub release: Option<release::Release>,
    /// Where its state comes from.
    pub source: Source,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be bound.
    #[error("{path}: {reason}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// The reason.
        reason: io::Error,
    },
    /// The state file has a mistake.
    #[error("state file: {0}")]
    Script(#[from] script::ScriptError),
    /// The state does not fit the release.
    #[error("state: {0}")]
    Store(#[from] store::StoreError),
    /// This machine cannot be mirrored.
    #[error("mirror: {0}")]
    Mirror(#[from] mirror::MirrorError),
}

struct Inner {
    store: Arc<store::Store>,
    calls: Arc<calls::CallLog>,
    faults: Arc<faults::Faults>,
    filesystems: Arc<filesystems::Filesystems>,
    containers: Arc<containers::Containers>,
    peers: Arc<peers::Peers>,
    churn: crowd::Churn,
    power: Arc<power::Power>,
    events: Arc<events::Events>,
    reported: Arc<release::Reported>,
    orders: listener::Orders,
    listening: watch::Sender<bool>,
}

impl Inner {
    async fn obey(&self, line: &str) -> Result<Value, CommandError> {
        self.apply(line.parse()?).await
    }
}

/// A running node. Dropping it stops it; [`Node::shutdown`] also waits for the end.
pub struct Node {
    inner: Arc<Inner>,
    tasks: TaskTracker,
    stop: CancellationToken,
    notices: Vec<String>,
}

fn socket_error(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    |reason| StartError::Socket { path, reason }
}

impl Node {
    /// Starts a node. When this returns, the state is complete and the sockets are bound.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let bare = Box::new(script::Script::bare());
        let (script, mirrored) = match config.source {
            Source::Script(script) => (script, false),
            Source::Mirror => (bare, true),
        };
        let release = match config.release {
            Some(release) => release,
            None => script.release()?.unwrap_or_default(),
        };
        let store = Arc::new(store::Store::new(release, SystemTime::now));
        script.seed(&store)?;
        let filesystems = filesystems::Filesystems::default();
        let containers = containers::Containers::default();
        for command in script.commands()? {
            match command {
                command::Command::SetFilesystem(stat) => filesystems.set(stat),
                command::Command::SetContainer(container) => containers.set(container),
                command => apply::change(&store, command)?,
            }
        }
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        // A start that fails half-way stops what it has started.
        let unfinished = stop.clone().drop_guard();
        let mut notices = Vec::new();
        if mirrored {
            let (mirror, said) = mirror::Mirror::start(Arc::clone(&store), &tasks, &stop).await?;
            notices = said;
            tasks.spawn(mirror.run(stop.clone()));
        }
        network::node_addresses::update(&store)?;
        let socket = listener::bind(&config.socket)
            .await
            .map_err(socket_error(&config.socket))?;
        let control = match config.control {
            Some(path) => {
                let listener = control::bind(&path).await.map_err(socket_error(&path))?;
                Some((listener, path))
            }
            None => None,
        };

        let (orders, obeyed) = mpsc::channel(16);
        let peers = Arc::new(peers::Peers::new(Arc::clone(&store)));
        let churn = crowd::Churn::new(Arc::clone(&store), tasks.clone(), stop.clone());
        let events = Arc::<events::Events>::default();
        let power = power::Power::new(
            Arc::clone(&store),
            Arc::clone(&events),
            orders.clone(),
            tasks.clone(),
            stop.clone(),
        );
        let inner = Arc::new(Inner {
            store,
            calls: Arc::default(),
            faults: Arc::default(),
            filesystems: Arc::new(filesystems),
            containers: Arc::new(containers),
            peers,
            churn,
            power: Arc::new(power),
            events,
            reported: Arc::default(),
            orders,
            listening: watch::Sender::new(true),
        });
        let server = Arc::clone(&inner);
        let listener = listener::Listener::new(
            config.socket,
            &inner.faults,
            inner.listening.clone(),
            move |incoming, drain: CancellationToken| {
                let layer = gateway::GatewayLayer {
                    calls: Arc::clone(&server.calls),
                    faults: Arc::clone(&server.faults),
                    peers: Arc::clone(&server.peers),
                };
                let state = cosi::State {
                    store: Arc::clone(&server.store),
                };
                let machine = machine::Machine {
                    release: server.store.release(),
                    reported: Arc::clone(&server.reported),
                    events: Arc::clone(&server.events),
                    stopping: drain.clone(),
                    power: Arc::clone(&server.power),
                    filesystems: Arc::clone(&server.filesystems),
                    containers: Arc::clone(&server.containers),
                };
                tonic::transport::Server::builder()
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .layer(layer)
                    .add_service(StateServer::new(state).max_decoding_message_size(MAX_REQUEST))
                    .add_service(MachineServiceServer::new(machine).max_decoding_message_size(MAX_REQUEST))
                    .serve_with_incoming_shutdown(incoming, drain.cancelled_owned())
            },
        );
        tasks.spawn(listener.run(socket, obeyed, stop.clone()));
        if let Some((listener, path)) = control {
            tasks.spawn(control::run(listener, path, Arc::clone(&inner), stop.clone()));
        }
        unfinished.disarm();
        Ok(Self {
            inner,
            tasks,
            stop,
            notices,
        })
    }

    /// What a person should know about this node, for example that a link is served as another one.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Carries out one command line, as the control socket does.
    pub async fn apply(&self, line: &str) -> Result<Value, CommandError> {
        self.inner.obey(line).await
    }

    /// All calls so far, the oldest first.
    pub fn calls(&self) -> Vec<calls::Call> {
        self.inner.calls.list()
    }

    /// The resources.
    pub fn store(&self) -> &Arc<store::Store> {
        &self.inner.store
    }

    /// Closes all connections, removes the sockets and waits for the end.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(END, self.tasks.wait()).await.is_err() {
            tracing::warn!("tasks of the node outlive it");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
