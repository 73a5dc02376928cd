//! The control socket: one command a line in, one JSON object a line out.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use serde_json::{Map, Value};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::{
    codec::{Framed, LinesCodec, LinesCodecError},
    sync::CancellationToken,
};

use super::{Inner, apply::CommandError, listener};

/// Longest line, in bytes; a resource can be long.
const MAX_LINE: usize = 1 << 20;
/// Longest answer, in bytes: the state of a node with thousands of addresses.
const MAX_ANSWER: usize = 64 << 20;
/// Time for an answer: an hour, the longest that a command may ask for, and some.
const PATIENCE: Duration = Duration::from_secs(3660);
/// Controllers at a time.
const MAX_CONTROLLERS: usize = 32;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds the control socket, for its owner only.
pub(super) async fn bind(path: &Path) -> io::Result<UnixListener> {
    listener::bind_private(path).await
}

/// Answers controllers at `path` until `stop`.
pub(super) async fn run(listener: UnixListener, path: PathBuf, inner: Arc<Inner>, stop: CancellationToken) {
    let mut controllers = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = controllers.join_next() => {}
            accepted = listener.accept(), if controllers.len() < MAX_CONTROLLERS => match accepted {
                Ok((stream, _)) => _ = controllers.spawn(converse(stream, Arc::clone(&inner))),
                Err(error) => {
                    tracing::warn!(%error, "could not accept a controller");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    _ = fs::remove_file(path);
    controllers.shutdown().await;
}

/// Sends one command to the node whose control socket is at `path` and returns its answer, a JSON object.
pub async fn tell(path: &Path, line: &str) -> io::Result<Value> {
    let exchange = async {
        let stream = UnixStream::connect(path).await?;
        let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_ANSWER));
        lines.send(line).await.map_err(io::Error::other)?;
        let answer = lines.next().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        serde_json::from_str(&answer.map_err(io::Error::other)?).map_err(io::Error::other)
    };
    timeout(PATIENCE, exchange).await?
}

async fn converse(stream: UnixStream, inner: Arc<Inner>) {
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    while let Some(line) = lines.next().await {
        let answer = match line {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => answer(inner.obey(&line).await),
            Err(LinesCodecError::MaxLineLengthExceeded) => failure(&format!("longer than {MAX_LINE} bytes")),
            Err(LinesCodecError::Io(_)) => return,
        };
        if lines.send(answer.to_string()).await.is_err() {
            return;
        }
    }
}

fn failure(text: &str) -> Value {
    serde_json::json!({ "ok": false, "error": text })
}

fn answer(outcome: Result<Value, CommandError>) -> Value {
    match outcome {
        Ok(found) => {
            let mut object = Map::new();
            object.insert("ok".to_owned(), true.into());
            if let Value::Object(found) = found {
                object.extend(found);
            }
            Value::Object(object)
        }
        Err(error) => failure(&error.to_string()),
    }
}
