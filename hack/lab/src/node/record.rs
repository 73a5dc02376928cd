//! A node's state as a file: `lab node --record FILE`, read again by `--state FILE`.
//!
//! ```text
//!  machine.sock <── Version, Mounts, List of each known type (os:reader) ── yaml_spec as it came ──> FILE
//! ```
//!
//! The specs stand in the file as Talos prints them, so that people recognise and edit them. What os:reader may not
//! read is left out and named.

use std::{fmt::Write as _, path::Path, time::Duration};

use serde_json::Value;
use talos_vmtoolsd::pb::{
    cosi::resource::{ListOptions, ListRequest, ListResponse, Resource, state_client::StateClient},
    machine::{MountStat, machine_service_client::MachineServiceClient},
};
use tokio::time::timeout;
use tonic::{
    Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use super::{
    release::Release,
    schema::{cluster, network, runtime},
};

/// Talos holds the first call for up to 5 s while it learns the process of the caller (from 1.13 on).
const PATIENCE: Duration = Duration::from_secs(10);
/// Most resources of one type that are recorded.
const MOST: usize = 100_000;
/// Largest message that is accepted, in bytes; Talos's own limit (`GRPCMaxMessageSize`).
const MAX_MESSAGE: usize = 32 << 20;

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The socket cannot be reached.
    #[error("no connection: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// A call that every node answers was refused.
    #[error("{method}: {status}")]
    Call {
        /// The method.
        method: &'static str,
        /// The answer.
        status: Box<Status>,
    },
    /// No answer came in time.
    #[error("{method}: no answer within {PATIENCE:?}")]
    Overdue {
        /// The method.
        method: &'static str,
    },
}

/// A recorded node.
#[derive(Debug)]
pub struct Record {
    /// The state file.
    pub text: String,
    /// The release, as the node names it.
    pub tag: String,
    /// How many resources stand in the file.
    pub resources: usize,
    /// Types that could not be listed, with the node's words.
    pub refused: Vec<(&'static str, String)>,
}

/// Asks the node at `socket` for everything that the laboratory knows to serve.
///
/// # Errors
///
/// When the node does not answer Version and Mounts, or falls silent. A type that is refused is no error.
pub async fn record(socket: &Path) -> Result<Record, RecordError> {
    let channel = connect(socket).await?;
    let mut machine = MachineServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    let version = answer("Version", machine.version(read(()))).await?;
    let mounts = answer("Mounts", machine.mounts(read(()))).await?;
    let version = version.messages.into_iter().next().and_then(|it| it.version);
    let tag = version.map(|version| version.tag).unwrap_or_default();

    let mut text = format!("# Talos {tag}, recorded by lab node --record.\n");
    if let Some(release) = nearest(&tag) {
        _ = writeln!(text, "talos: \"{release}\"");
    }
    text.push_str("recorded: true\n");
    let stats = mounts.messages.into_iter().flat_map(|it| it.stats);
    let filesystems: Vec<_> = stats.filter_map(filesystem).collect();
    if !filesystems.is_empty() {
        _ = writeln!(text, "filesystems:\n{}", filesystems.concat().trim_end());
    }
    text.push_str("resources:\n");

    let (mut resources, mut refused) = (0, Vec::new());
    for known in [network::TYPES, runtime::TYPES, cluster::TYPES]
        .into_iter()
        .flatten()
    {
        let namespaces = match known.name {
            // One resource per layer beside the merged one.
            network::ADDRESS_SPECS => &["network", "network-config"][..],
            _ => &[known.namespace],
        };
        for namespace in namespaces {
            match list(channel.clone(), namespace, known.name).await? {
                Ok(listed) => {
                    resources += listed.len();
                    listed.iter().for_each(|resource| write(&mut text, resource));
                }
                Err(status) => refused.push((known.name, status.message().to_owned())),
            }
        }
    }
    Ok(Record {
        text,
        tag,
        resources,
        refused,
    })
}

async fn connect(socket: &Path) -> Result<Channel, RecordError> {
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))?;
    Ok(endpoint.connect_timeout(PATIENCE).connect().await?)
}

/// The release of this tag; of a patch or a later release that the laboratory does not play, the nearest.
fn nearest(tag: &str) -> Option<Release> {
    let mut numbers = tag.trim_start_matches('v').split('.');
    let minor = format!("{}.{}", numbers.next()?, numbers.next()?);
    minor.parse().ok()
}

fn read<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("talos-role", MetadataValue::from_static("os:reader"));
    request
}

async fn answer<T>(
    method: &'static str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, RecordError> {
    let answered = timeout(PATIENCE, call).await;
    let answered = answered.map_err(|_| RecordError::Overdue { method })?;
    Ok(answered
        .map_err(|status| RecordError::Call {
            method,
            status: Box::new(status),
        })?
        .into_inner())
}

/// Every resource of a type, or why there is none to be had.
async fn list(
    channel: Channel,
    namespace: &str,
    name: &str,
) -> Result<Result<Vec<Resource>, Status>, RecordError> {
    const METHOD: &str = "List";

    let request = ListRequest {
        namespace: namespace.to_owned(),
        r#type: name.to_owned(),
        // Old releases crash without.
        options: Some(ListOptions::default()),
    };
    let mut state = StateClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let opened: Result<Streaming<ListResponse>, _> = match answer(METHOD, state.list(read(request))).await {
        Ok(stream) => Ok(stream),
        Err(RecordError::Call { status, .. }) => Err(*status),
        Err(error) => return Err(error),
    };
    let mut stream = match opened {
        Ok(stream) => stream,
        Err(status) => return Ok(Err(status)),
    };
    let mut resources = Vec::new();
    while resources.len() < MOST {
        let next = timeout(PATIENCE, stream.message()).await;
        match next.map_err(|_| RecordError::Overdue { method: METHOD })? {
            Ok(Some(response)) => resources.extend(response.resource),
            Ok(None) => break,
            Err(status) => return Ok(Err(status)),
        }
    }
    Ok(Ok(resources))
}

/// One item of `filesystems`. The words of a line cannot hold spaces, and no mount of Talos does.
fn filesystem(stat: MountStat) -> Option<String> {
    let words = [
        stat.filesystem,
        stat.mounted_on,
        stat.size.to_string(),
        stat.available.to_string(),
    ];
    let whole = words
        .iter()
        .all(|word| !word.is_empty() && !word.contains(char::is_whitespace));
    whole.then(|| format!("  - {}\n", Value::from(words.join(" "))))
}

/// One item of `resources`. Names are quoted as JSON, which is YAML as well.
fn write(text: &mut String, resource: &Resource) {
    let metadata = resource.metadata.clone().unwrap_or_default();
    let spec = resource.spec.clone().unwrap_or_default().yaml_spec;
    _ = writeln!(text, "  - type: {}", metadata.r#type);
    for (key, value) in [
        ("namespace", metadata.namespace),
        ("id", metadata.id),
        ("owner", metadata.owner),
    ] {
        _ = writeln!(text, "    {key}: {}", Value::from(value));
    }
    text.push_str("    spec:\n");
    for line in spec.lines() {
        _ = writeln!(text, "      {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_played_by_their_release() {
        assert_eq!(nearest("v1.13.9"), Some(Release::V1_13));
        assert_eq!(nearest("v1.14.0-rc.1"), Some(Release::V1_14));
        assert_eq!(nearest("v1.99.0"), None);
        assert_eq!(nearest(""), None);
    }
}
