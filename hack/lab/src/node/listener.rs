//! The life of the unix socket: bound, serving, draining, gone, bound again.
//!
//! ```text
//!  bind --> serve --order--> close and unlink --> GOAWAY, drain --> hard close --> down for a while --> bind
//! ```
//!
//! A stop of machined is exactly that (grpc-go GracefulStop, then Stop after 10 s).

mod connection;

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use nix::unistd::geteuid;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use connection::Connection;

use super::faults::{Faults, Tear, Welcome};

/// Owner and group of the socket on a node, apid's.
const OWNER: u32 = 50;
/// Permissions of the socket on a node.
const SOCKET_MODE: u32 = 0o755;
/// Permissions of a socket that is nobody else's business.
const PRIVATE_MODE: u32 = 0o600;
/// Permissions of its directory on a node.
const DIRECTORY_MODE: u32 = 0o771;
/// Time that machined gives running calls at a stop.
pub const DRAIN: Duration = Duration::from_secs(10);
/// Time that a connection which was closed hard has to end.
const CUT: Duration = Duration::from_secs(1);
/// Connections that are held unanswered, or answered with garbage, at most.
const MAX_ODD: usize = 64;
/// Time that a peer has to take offence at garbage.
const GARBAGE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, which a lack of descriptors makes fail again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A stop of the API.
#[derive(Debug)]
pub struct Order {
    /// Time that running calls get after GOAWAY; none closes hard at once.
    pub drain: Option<Duration>,
    /// Time without a socket after that; none means until the next order.
    pub down: Option<Duration>,
    /// The connections are closed, the socket stays.
    pub only_connections: bool,
    /// Told when the socket file is gone.
    pub unlinked: Option<oneshot::Sender<()>>,
}

impl Order {
    /// A stop like machined's; nothing comes after it.
    pub fn vanish() -> Self {
        Self {
            drain: Some(DRAIN),
            down: None,
            only_connections: false,
            unlinked: None,
        }
    }
}

/// Where orders go.
pub type Orders = mpsc::Sender<Order>;

/// Binds the socket with the owner and permissions that it has on a node. A file that nobody listens at is replaced,
/// the directory is made when it is missing.
pub async fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = bind_with_mode(path, SOCKET_MODE).await?;
    if geteuid().is_root() {
        chown(path, Some(OWNER), Some(OWNER))?;
    }
    Ok(listener)
}

/// Binds a socket that only its owner can reach.
pub async fn bind_private(path: &Path) -> io::Result<UnixListener> {
    bind_with_mode(path, PRIVATE_MODE).await
}

async fn bind_with_mode(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
    {
        fs::create_dir_all(parent)?;
        fs::set_permissions(parent, fs::Permissions::from_mode(DIRECTORY_MODE))?;
    }
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        match UnixStream::connect(path).await {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there")),
            Err(_) => fs::remove_file(path)?,
        }
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// The socket and what serves it.
pub struct Listener<F> {
    path: PathBuf,
    welcome: watch::Receiver<Welcome>,
    tear: Tear,
    listening: watch::Sender<bool>,
    /// Makes the server of one life: it takes connections, and a token that begins its graceful end.
    serve: F,
}

type Incoming = ReceiverStream<io::Result<Connection>>;

impl<F, S> Listener<F>
where
    F: Fn(Incoming, CancellationToken) -> S,
    S: Future<Output = Result<(), tonic::transport::Error>>,
{
    /// A listener at `path` whose connections meet what `faults` say.
    pub fn new(path: PathBuf, faults: &Faults, listening: watch::Sender<bool>, serve: F) -> Self {
        Self {
            path,
            welcome: faults.welcome(),
            tear: faults.tear().clone(),
            listening,
            serve,
        }
    }

    /// Serves `listener` and obeys orders until `stop`.
    pub async fn run(
        mut self,
        listener: UnixListener,
        mut orders: mpsc::Receiver<Order>,
        stop: CancellationToken,
    ) {
        let mut bound = Some(listener);
        while let Some(listener) = bound.take() {
            self.listening.send_replace(true);
            let mut down = self.live(listener, &mut orders, &stop).await;
            while bound.is_none() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    // Nobody is served, so an order only says how long that lasts.
                    order = orders.recv() => match order {
                        Some(order) => down = order.down,
                        None => return,
                    },
                    () = elapse(down) => match bind(&self.path).await {
                        Ok(listener) => bound = Some(listener),
                        Err(error) => {
                            tracing::warn!(%error, "could not bind again");
                            down = Some(CUT);
                        }
                    },
                }
            }
        }
    }

    /// One life of the socket. Returns how long it is to be gone.
    async fn live(
        &mut self,
        listener: UnixListener,
        orders: &mut mpsc::Receiver<Order>,
        stop: &CancellationToken,
    ) -> Option<Duration> {
        let (accepted, incoming) = mpsc::channel(MAX_ODD);
        let drain = CancellationToken::new();
        let mut cut = CancellationToken::new();
        let mut server = pin!((self.serve)(ReceiverStream::new(incoming), drain.clone()));
        let mut hanging = Vec::new();
        let mut garbage = JoinSet::new();
        let order = loop {
            tokio::select! {
                () = stop.cancelled() => break None,
                order = orders.recv() => match order {
                    Some(order) if order.only_connections => {
                        cut.cancel();
                        cut = CancellationToken::new();
                    }
                    order => break order,
                },
                ended = &mut server => {
                    tracing::warn!(?ended, "the server ended by itself");
                    break None;
                }
                Ok(()) = self.welcome.changed() => hanging.clear(),
                Some(_) = garbage.join_next() => {}
                connection = listener.accept() => {
                    let Ok((stream, _)) = connection else {
                        sleep(ACCEPT_PAUSE).await;
                        continue;
                    };
                    match *self.welcome.borrow() {
                        // When the server does not take them any more, it is about to end.
                        Welcome::Serve => _ = accepted.try_send(Ok(Connection::new(stream, cut.clone(), self.tear.clone()))),
                        Welcome::Hang if hanging.len() < MAX_ODD => hanging.push(stream),
                        Welcome::Garbage if garbage.len() < MAX_ODD => _ = garbage.spawn(answer_garbage(stream)),
                        Welcome::Hang | Welcome::Garbage => {}
                    }
                }
            }
        };
        drop(listener);
        _ = fs::remove_file(&self.path);
        self.listening.send_replace(false);
        hanging.clear();
        let Order {
            drain: grace,
            down,
            unlinked,
            ..
        } = order.unwrap_or(Order {
            drain: None,
            ..Order::vanish()
        });
        if let Some(unlinked) = unlinked {
            // Who asked may be gone.
            _ = unlinked.send(());
        }
        let drained = match grace {
            Some(grace) => {
                drain.cancel();
                tokio::select! {
                    () = stop.cancelled() => false,
                    ended = timeout(grace, &mut server) => ended.is_ok(),
                }
            }
            None => false,
        };
        if !drained {
            drain.cancel();
            cut.cancel();
            if timeout(CUT, &mut server).await.is_err() {
                tracing::warn!("connections outlive their hard end");
            }
        }
        garbage.shutdown().await;
        down
    }
}

async fn elapse(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Says something that no HTTP/2 client can take for a frame, then waits for the peer to leave.
async fn answer_garbage(mut stream: UnixStream) {
    let mut noise = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    noise.extend((0..64).map(|_| fastrand::u8(..)));
    let exchange = async {
        if stream.write_all(&noise).await.is_ok() {
            let mut sink = [0; 256];
            while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        }
    };
    _ = timeout(GARBAGE, exchange).await;
}
