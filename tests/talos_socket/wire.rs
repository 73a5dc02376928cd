//! A man in the middle who knows HTTP/2 frames: he breaks what the node writes, at an exact place.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// Frame types and flags of RFC 9113, section 6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Bytes of a frame's header: length, type, flags, stream.
const HEADER: usize = 9;

/// A frame that the node wrote, as it was on the wire.
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub bytes: Vec<u8>,
}

/// What becomes of a frame.
pub enum Fate {
    /// These bytes go instead, and the rest follows.
    Replace(Vec<u8>),
    /// These bytes are the last; the connection stays open.
    Silence(Vec<u8>),
    /// These bytes are the last; the connection is closed.
    Close(Vec<u8>),
}

type Mischief = Box<dyn Fn(&Frame) -> Fate + Send>;

/// Joins a socket to another one. Ends when it is dropped.
pub struct Wire {
    mischief: Arc<Mutex<Option<Mischief>>>,
    _tasks: JoinSet<()>,
}

impl Wire {
    /// Listens at `front`; each connection is joined to one to `back`.
    pub fn new(front: &Path, back: &Path) -> Self {
        let listener = UnixListener::bind(front).unwrap();
        let mischief = Arc::<Mutex<Option<Mischief>>>::default();
        let (armed, back) = (Arc::clone(&mischief), back.to_owned());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let armed = Arc::clone(&armed);
                // Without a node the client is told by the end of its connection.
                if let Ok(server) = UnixStream::connect(&back).await {
                    connections.spawn(join(client, server, armed));
                }
            }
        });
        Self {
            mischief,
            _tasks: tasks,
        }
    }

    /// Breaks the next DATA frame.
    pub fn arm(&self, mischief: impl Fn(&Frame) -> Fate + Send + 'static) {
        *self.mischief.lock().unwrap() = Some(Box::new(mischief));
    }
}

async fn join(client: UnixStream, server: UnixStream, armed: Arc<Mutex<Option<Mischief>>>) {
    let (mut requests, answers) = client.into_split();
    let (replies, mut calls) = server.into_split();
    let ask = async {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = requests.read(&mut piece).await {
            // A node that has hung up is not to be seen through a silence.
            let _ = calls.write_all(&piece[..read]).await;
        }
    };
    tokio::select! {
        () = ask => {}
        () = pass(replies, answers, &armed) => {}
    }
}

/// Hands frames on until either side is gone, or mischief ends the connection.
async fn pass(mut replies: OwnedReadHalf, mut answers: OwnedWriteHalf, armed: &Mutex<Option<Mischief>>) {
    while let Some(frame) = read(&mut replies).await {
        let mischief = if frame.kind == DATA {
            armed.lock().unwrap().take()
        } else {
            None
        };
        let (bytes, end) = match mischief.map(|mischief| mischief(&frame)) {
            None => (frame.bytes, None),
            Some(Fate::Replace(bytes)) => (bytes, None),
            Some(Fate::Silence(bytes)) => (bytes, Some(false)),
            Some(Fate::Close(bytes)) => (bytes, Some(true)),
        };
        let written = answers.write_all(&bytes).await;
        match end {
            None if written.is_ok() => {}
            Some(false) => {
                // Who reads nothing would hold the node up.
                while read(&mut replies).await.is_some() {}
                std::future::pending().await
            }
            _ => return,
        }
    }
}

async fn read(replies: &mut OwnedReadHalf) -> Option<Frame> {
    let mut bytes = vec![0; HEADER];
    replies.read_exact(&mut bytes).await.ok()?;
    let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
    let kind = bytes[3];
    let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
    bytes.resize(HEADER + usize::try_from(length).unwrap(), 0);
    replies.read_exact(&mut bytes[HEADER..]).await.ok()?;
    Some(Frame { kind, stream, bytes })
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The beginning of a frame that announces more than 16 MiB.
pub fn announce_most(kind: u8, stream: u32) -> Vec<u8> {
    let mut bytes = frame(kind, 0, stream, &[]);
    bytes[..3].fill(0xff);
    bytes
}
