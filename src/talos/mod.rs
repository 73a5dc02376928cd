//! Talos: the machine API on the node's unix socket.
//!
//! ```text
//!  machine.sock ──gRPC──> client ──COSI watches──> watch ──> reducer ──> watch::Sender<Arc<Snapshot>>
//!                           ^                        │
//!                           │                      decode: bytes of a resource to the types of the snapshot
//!                           └── Machine: Shutdown, Reboot, and the events that tell what becomes of them
//! ```
//!
//! [`spawn`] follows the node for as long as the daemon lives; [`observe`] looks once. A path in a comment
//! is a source file of Talos (github.com/siderolabs/talos) unless another repository is named.

#![forbid(unsafe_code)]

pub mod client;
pub mod decode;
pub mod events;
pub mod reducer;
pub mod resource;
pub mod snapshot;
mod watch;

use std::{
    collections::BTreeMap, collections::BTreeSet, convert::Infallible, future::Future, sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::{
    sync::{mpsc, watch as channel},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

pub use self::{
    client::{Client, SOCKET, Settings},
    reducer::Selection,
    resource::ResourceType,
    snapshot::Snapshot,
};
use self::{
    events::Heard,
    watch::{Follower, Progress},
};

/// Follows the node in a task of `tasks` until `shutdown`.
///
/// Gives the snapshots, of which the first knows nothing, and the client, whose calls share the connection. `selection`
/// decides which links are reported: only their addresses are asked for, and only theirs of the main table's routes held.
pub fn spawn(
    settings: Settings,
    selection: Selection,
    tasks: &mut JoinSet<()>,
    shutdown: CancellationToken,
) -> (channel::Receiver<Arc<Snapshot>>, Client) {
    let client = Client::new(settings.clone());
    let follower = Follower::new(client.clone(), settings, selection);
    let snapshots = follower.snapshots();
    tasks.spawn(follower.run(shutdown).instrument(info_span!("talos")));
    (snapshots, client)
}

/// What [`observe`] saw.
#[derive(Clone, Debug)]
pub struct Observation {
    /// What is known.
    pub snapshot: Arc<Snapshot>,
    /// The types that were not answered in time.
    pub missing: BTreeSet<ResourceType>,
    /// Why Talos could not be asked at all, when the time was over.
    pub outage: Option<String>,
    /// Types that this Talos refuses or fails to serve, with its words.
    pub troubles: BTreeMap<ResourceType, String>,
}

/// Looks at the node once: until every type was answered or refused, or `deadline` is over.
pub async fn observe(settings: Settings, selection: Selection, deadline: Duration) -> Observation {
    let follower = Follower::new(Client::new(settings.clone()), settings, selection);
    let (snapshots, mut progress) = (follower.snapshots(), follower.progress());
    let shutdown = CancellationToken::new();
    let end = shutdown.clone();
    let look = async move {
        // An error would mean that the follower is gone, and it ends only with this function.
        let _ = tokio::time::timeout(deadline, progress.wait_for(|now| now.unanswered.is_empty())).await;
        let seen = progress.borrow().clone();
        end.cancel();
        seen
    };
    let (
        (),
        Progress {
            unanswered,
            outage,
            troubles,
        },
    ) = tokio::join!(follower.run(shutdown), look);
    Observation {
        snapshot: Arc::clone(&snapshots.borrow()),
        missing: unanswered,
        outage,
        troubles,
    }
}

/// How a reboot is carried out (`machine.RebootRequest.Mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RebootMode {
    /// Talos decides: kexec where it can.
    #[default]
    Default,
    /// Through the firmware.
    PowerCycle,
}

/// Why a call of the machine API failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// Talos answered with a gRPC status.
    #[error("{method}: {code:?}: {message}")]
    Status {
        /// Full method name.
        method: &'static str,
        /// The status code.
        code: tonic::Code,
        /// Talos's text.
        message: String,
    },
    /// The reply lacks what it must hold.
    #[error("{method}: the reply holds no {what}")]
    Incomplete {
        /// Full method name.
        method: &'static str,
        /// What is missing.
        what: &'static str,
    },
}

impl CallError {
    /// No answer came in time: the call may have reached Talos.
    pub const fn is_overdue(&self) -> bool {
        matches!(
            self,
            Self::Status {
                code: tonic::Code::DeadlineExceeded,
                ..
            }
        )
    }
}

/// What can be asked of the machine. Implemented by the client, and by scripts in tests.
pub trait Machine: Send + Sync + 'static {
    /// `Shutdown`, role os:operator. Gives Talos's id of this request.
    fn shutdown(&self, force: bool) -> impl Future<Output = Result<String, CallError>> + Send;
    /// `Reboot`, role os:operator. Gives Talos's id of this request.
    fn reboot(&self, mode: RebootMode) -> impl Future<Output = Result<String, CallError>> + Send;
    /// `Events`, role os:reader: hands on what happens on the node, from the first [`Heard::Listening`] on without a
    /// gap, for as long as it is polled.
    fn events(&self, heard: mpsc::Sender<Heard>) -> impl Future<Output = Infallible> + Send;
}
