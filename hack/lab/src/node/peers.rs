//! Which process calls: the check that machined makes from Talos 1.13 on
//! (`pkg/grpc/middleware/auth/unix/authorizer.go`).
//!
//! A caller must be the process of a registered extension service, or share its mount namespace. A service that has
//! just started is registered a moment later, so an unknown caller waits before it is refused. The check is off until
//! `peer-check on`: most clients of this node are no services.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::{
    access,
    release::Release,
    store::{Document, Resource, Store, StoreError},
};

/// The type that services are registered in.
const SERVICE_PIDS: &str = "ServicePIDs.runtime.talos.dev";
/// How long machined waits for the registration of a caller.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the ids of extension services begin with.
const EXTENSION: &str = "ext-";

/// The check of one node.
pub struct Peers {
    store: Arc<Store>,
    on: AtomicBool,
}

impl Peers {
    /// Off.
    pub const fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            on: AtomicBool::new(false),
        }
    }

    /// Switches the check on or off.
    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Registers the process of a service, as machined does once its task has started.
    pub fn register(&self, service: &str, pid: i32) -> Result<bool, StoreError> {
        self.store.put(Document::new(
            SERVICE_PIDS,
            service,
            json!({ "pid": pid, "mountNamespace": mount_namespace(pid).unwrap_or_default() }),
        ))
    }

    /// Waits until the caller is a registered service, at most as long as machined does.
    pub async fn authorize(&self, pid: Option<i32>) -> Result<(), Status> {
        if !self.on.load(Ordering::Relaxed) || self.store.release() < Release::V1_13 {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        let kind = self
            .store
            .kind(None, SERVICE_PIDS)
            .map_err(|error| Status::unknown(error.to_string()))?
            .0;
        let namespace = pid.and_then(mount_namespace);
        let known = |resource: &Resource| is_caller(resource, pid, namespace.as_deref());
        loop {
            let (present, mut feed) = self.store.follow(&kind, 0);
            if present.iter().any(|resource| known(resource)) {
                return Ok(());
            }
            if timeout_at(deadline, feed.next()).await.is_err() {
                return Err(access::not_authorized());
            }
        }
    }
}

/// An extension service is known by its process or its mount namespace.
fn is_caller(resource: &Resource, pid: Option<i32>, namespace: Option<&str>) -> bool {
    let spec = &resource.spec;
    let same_process = pid.is_some() && spec.get("pid").and_then(Value::as_i64) == pid.map(i64::from);
    let registered = spec
        .get("mountNamespace")
        .and_then(Value::as_str)
        .filter(|it| !it.is_empty());
    let same_namespace = registered.is_some() && registered == namespace;
    resource.id().starts_with(EXTENSION) && (same_process || same_namespace)
}

/// `mnt:[4026531841]`, while the process lives and may be looked at.
fn mount_namespace(pid: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    Some(link.to_string_lossy().into_owned())
}
