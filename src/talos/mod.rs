//! Talos: the machine API on the node's unix socket.
//!
//! ```text
//!  machine.sock ──gRPC──> client ──COSI watches──> watch ──> reducer ──> watch::Sender<Arc<Snapshot>>
//!                           ^
//!                           └── machine: Shutdown, Reboot
//! ```

pub mod snapshot;

pub use self::snapshot::Snapshot;

use std::future::Future;

use thiserror::Error;

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

/// What can be asked of the machine. Implemented by the client, and by scripts in tests.
pub trait Machine: Send + Sync + 'static {
    /// `Shutdown`, role os:operator. Gives Talos's id of this request.
    fn shutdown(&self, force: bool) -> impl Future<Output = Result<String, CallError>> + Send;
    /// `Reboot`, role os:operator. Gives Talos's id of this request.
    fn reboot(&self, mode: RebootMode) -> impl Future<Output = Result<String, CallError>> + Send;
}
