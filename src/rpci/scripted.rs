//! A host for tests of whatever speaks RPCI: records every request, answers from a script.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use std::{sync::Mutex, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{Request, Resend, Rpci, RpciError};

type Answer = Result<Vec<u8>, RpciError>;
type Script = Box<dyn FnMut(&[u8]) -> Answer + Send>;

/// One request as the host saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Since the host was made.
    pub at: Duration,
    pub bytes: Vec<u8>,
    pub resend: Resend,
}

impl Seen {
    pub fn text(&self) -> String {
        self.bytes.escape_ascii().to_string()
    }
}

/// The host.
pub(crate) struct Host {
    born: Instant,
    seen: Mutex<Vec<Seen>>,
    script: Mutex<Script>,
    arrived: Notify,
    /// How long an answer takes.
    latency: Mutex<Duration>,
}

impl Host {
    /// A host that takes everything.
    pub fn new() -> Self {
        Self {
            born: Instant::now(),
            seen: Mutex::new(Vec::new()),
            script: Mutex::new(Box::new(|_| Ok(Vec::new()))),
            arrived: Notify::new(),
            latency: Mutex::new(Duration::ZERO),
        }
    }

    /// From now on `script` answers.
    pub fn answer(&self, script: impl FnMut(&[u8]) -> Answer + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub fn set_latency(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests seen so far as text, oldest first, which are then forgotten.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Waits until `count` requests are there.
    pub async fn wait_for(&self, count: usize) {
        let enough = async {
            loop {
                let arrived = self.arrived.notified();
                if self.seen.lock().unwrap().len() >= count {
                    return;
                }
                arrived.await;
            }
        };
        let found = timeout(Duration::from_secs(3600), enough).await;
        assert!(found.is_ok(), "{count} requests wanted, seen: {:?}", self.seen());
    }
}

impl Rpci for Host {
    async fn call(&self, request: Request) -> Answer {
        self.seen.lock().unwrap().push(Seen {
            at: self.born.elapsed(),
            bytes: request.bytes().to_vec(),
            resend: request.resend(),
        });
        self.arrived.notify_waiters();
        let latency = *self.latency.lock().unwrap();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        (self.script.lock().unwrap())(request.bytes())
    }
}

/// `0 <text>`.
pub(crate) fn refused(text: &str) -> Answer {
    Err(RpciError::Refused {
        command: "test".into(),
        text: text.into(),
    })
}

/// No way to the host.
pub(crate) fn no_channel() -> Answer {
    Err(RpciError::Channel {
        command: "test".into(),
        reason: "closed".into(),
        unsent: true,
    })
}
