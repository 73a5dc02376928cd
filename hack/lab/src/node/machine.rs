//! `machine.MachineService`, as far as the node serves it; the rest is UNIMPLEMENTED.
//!
//! Replies are those of machined without node context: one message, without metadata.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, stream};
use talos_vmtoolsd::pb::{common::ContainerDriver, machine as pb};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    calls::Record,
    containers::Containers,
    events::{Events, Feed},
    filesystems::Filesystems,
    power::{Power, Sequence},
    release::{Release, Reported},
    sequence,
};
use crate::pb::machine::machine_service_server::MachineService;

/// The service.
pub struct Machine {
    /// The release whose habits it has.
    pub release: Release,
    /// The release that it reports.
    pub reported: Arc<Reported>,
    /// What happens.
    pub events: Arc<Events>,
    /// When the server that this service belongs to is about to end.
    pub stopping: CancellationToken,
    /// What becomes of Shutdown and Reboot.
    pub power: Arc<Power>,
    /// What Mounts tells.
    pub filesystems: Arc<Filesystems>,
    /// What Containers tells.
    pub containers: Arc<Containers>,
}

/// Notes `key` in the record of the call that `request` is.
pub(super) fn note<T>(request: &Request<T>, key: &'static str, value: impl Into<String>) {
    if let Some(record) = request.extensions().get::<Record>() {
        record.note(key, value);
    }
}

/// A version 4 UUID, which Talos makes for every power request.
fn actor_id() -> String {
    let random = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let digits = format!("{random:032x}");
    let mut parts = Vec::with_capacity(5);
    let mut rest = digits.as_str();
    for length in [8, 4, 4, 4, 12] {
        let (part, tail) = rest.split_at(length);
        parts.push(part);
        rest = tail;
    }
    parts.join("-")
}

#[tonic::async_trait]
impl MachineService for Machine {
    async fn version(&self, _: Request<()>) -> Result<Response<pb::VersionResponse>, Status> {
        Ok(Response::new(pb::VersionResponse {
            messages: vec![pb::Version {
                metadata: None,
                version: Some(pb::VersionInfo {
                    tag: self.reported.tag(self.release),
                    sha: "00000000".to_owned(),
                    built: String::new(),
                    go_version: "go1.25.0".to_owned(),
                    os: "linux".to_owned(),
                    arch: "amd64".to_owned(),
                }),
                platform: Some(pb::PlatformInfo {
                    name: "vmware".to_owned(),
                    mode: "cloud".to_owned(),
                }),
            }],
        }))
    }

    async fn mounts(&self, _: Request<()>) -> Result<Response<pb::MountsResponse>, Status> {
        Ok(Response::new(pb::MountsResponse {
            messages: vec![pb::Mounts {
                metadata: None,
                stats: self.filesystems.list(),
            }],
        }))
    }

    /// The pods as the container runtime tells them; containerd, the other driver, is not simulated.
    async fn containers(
        &self,
        request: Request<pb::ContainersRequest>,
    ) -> Result<Response<pb::ContainersResponse>, Status> {
        let wanted = request.get_ref();
        let driver = ContainerDriver::try_from(wanted.driver).map(|driver| driver.as_str_name());
        note(&request, "namespace", wanted.namespace.clone());
        note(&request, "driver", driver.unwrap_or("unknown"));
        match (wanted.namespace.as_str(), driver) {
            ("", _) => Err(Status::invalid_argument("namespace can't be empty")),
            ("k8s.io", Ok("CRI")) => Ok(Response::new(pb::ContainersResponse {
                messages: vec![pb::Container {
                    metadata: None,
                    containers: self.containers.list(),
                }],
            })),
            (_, Ok("CRI")) => Err(Status::unknown(
                "CRI inspector is supported only for K8s namespace",
            )),
            _ => Err(Status::invalid_argument("unsupported driver")),
        }
    }

    async fn shutdown(
        &self,
        request: Request<pb::ShutdownRequest>,
    ) -> Result<Response<pb::ShutdownResponse>, Status> {
        let force = request.get_ref().force;
        note(&request, "force", force.to_string());
        let actor_id = actor_id();
        if !force && self.reported.needs_configuration() && self.power.is_in_maintenance() {
            self.power.crash();
        } else {
            self.power.begin(sequence::Request {
                sequence: Sequence::Shutdown,
                force,
                actor: actor_id.clone(),
            });
        }
        Ok(Response::new(pb::ShutdownResponse {
            messages: vec![pb::Shutdown {
                metadata: None,
                actor_id,
            }],
        }))
    }

    async fn reboot(
        &self,
        request: Request<pb::RebootRequest>,
    ) -> Result<Response<pb::RebootResponse>, Status> {
        let mode = request.get_ref().mode;
        let name = match pb::reboot_request::Mode::try_from(mode) {
            // Added in 1.12; before, the unknown value meant the default.
            Ok(pb::reboot_request::Mode::Force) if self.release < Release::V1_12 => "DEFAULT".to_owned(),
            Ok(known) => known.as_str_name().to_owned(),
            Err(_) => mode.to_string(),
        };
        note(&request, "mode", name);
        let actor_id = actor_id();
        self.power.begin(sequence::Request {
            sequence: Sequence::Reboot,
            force: false,
            actor: actor_id.clone(),
        });
        Ok(Response::new(pb::RebootResponse {
            messages: vec![pb::Reboot {
                metadata: None,
                actor_id,
            }],
        }))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<pb::Event, Status>> + Send>>;

    async fn events(
        &self,
        request: Request<pb::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let wanted = request.get_ref();
        let from = match (&*wanted.tail_id, wanted.tail_seconds, wanted.tail_events) {
            ("", 0, 0) => "now",
            ("", 0, _) => "events",
            ("", ..) => "seconds",
            _ => "id",
        };
        note(&request, "from", from);
        let feed = self.events.follow(wanted, self.stopping.clone());
        Ok(Response::new(Box::pin(stream::unfold(feed, Feed::next))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_id_is_a_random_uuid() {
        for _ in 0..100 {
            let id = actor_id();
            let lengths: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
            assert!("89ab".contains(&id[19..20]), "{id}");
        }
    }
}
