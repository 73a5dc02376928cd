//! What the host is told: the status it waits for, lines in vmware.log, and the last error.

#![forbid(unsafe_code)]

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::debug;

use crate::{
    guestinfo::{Key, StateKey},
    limited,
    rpci::{Request, Rpci, RpciError},
    tclo::StateChange,
};

/// Pauses before a request is sent again that found no channel. After the last, the host has given up too.
const RETRIES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
];

/// Characters of one line in vmware.log; open-vm-tools stays below 2 KiB (rpcvmx.c).
const LINE: usize = 400;

/// The host, as this feature speaks to it.
#[derive(Debug)]
pub(super) struct Host<R>(Arc<R>);

impl<R> Clone for Host<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Rpci> Host<R> {
    pub fn new(rpci: Arc<R>) -> Self {
        Self(rpci)
    }

    /// `tools.os.statechange.status`.
    ///
    /// The host may get it twice, when the channel broke behind the first one: the status only moves the host out of a
    /// wait, and one that nobody waits for changes nothing (open-vm-tools repeats it too). Not getting it leaves the VM
    /// "executing scripts", which is worse.
    pub async fn status(&self, change: StateChange, success: bool) {
        let request = Request::text(format!(
            "tools.os.statechange.status {} {}",
            u8::from(success),
            change.id()
        ));
        if let Err(error) = self.deliver(request).await {
            limited!(warn, feature = "power", ?change, success, err = %error, "the host was not told the status");
        }
    }

    /// One line in vmware.log.
    pub async fn line(&self, text: &str) {
        // Twice would be two lines.
        let request = Request::text(format!("log talos-vmtoolsd: {}", printable(text))).at_most_once();
        if let Err(error) = self.0.call(request).await {
            debug!(feature = "power", err = %error, "no line in vmware.log");
        }
    }

    /// `guestinfo.talos.last-error`: what an administrator finds there when an operation has failed. An empty text says
    /// that the last one has not.
    pub async fn last_error(&self, text: &str) {
        let Some(request) = Key::Talos(StateKey::LastError).text(&printable(text)) else {
            return;
        };
        if let Err(error) = self.deliver(request).await {
            debug!(feature = "power", err = %error, "the last error is not published");
        }
    }

    /// Sends it, again where there was no channel.
    async fn deliver(&self, request: Request) -> Result<(), RpciError> {
        let mut pauses = RETRIES.into_iter();
        loop {
            match self.0.call(request.clone()).await {
                Ok(_) => return Ok(()),
                Err(
                    error @ (RpciError::Channel { .. }
                    | RpciError::Deadline { .. }
                    | RpciError::NotQueued { .. }),
                ) => match pauses.next() {
                    Some(pause) => sleep(pause).await,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LINE).collect()
}
