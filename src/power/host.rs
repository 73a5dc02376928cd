//! What the host is told: the status it waits for, lines in vmware.log, and the last error.

#![forbid(unsafe_code)]

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::warn;

use super::{Number, Operation};
use crate::{
    hostlog::HostLog,
    limited,
    logging::limit::Limit,
    rpci::{Request, Rpci, RpciError},
    tclo::StateChange,
};

/// Pauses before a request is sent again that found no channel. After the last, the host has given up too.
const RETRIES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
];

/// Characters of the last error that are published.
const ERROR: usize = 400;

/// The host, as this feature speaks to it.
#[derive(Debug)]
pub(super) struct Host<R> {
    rpci: Arc<R>,
    log: HostLog,
    /// Of lines about failures: a host can ask again at once, and be refused again.
    failures: Arc<Limit>,
    /// Why the last operation failed, with its number.
    error: Arc<watch::Sender<String>>,
}

impl<R> Clone for Host<R> {
    fn clone(&self) -> Self {
        Self {
            rpci: Arc::clone(&self.rpci),
            log: self.log.clone(),
            failures: Arc::clone(&self.failures),
            error: Arc::clone(&self.error),
        }
    }
}

impl<R: Rpci> Host<R> {
    pub fn new(rpci: Arc<R>, log: HostLog) -> Self {
        Self {
            rpci,
            log,
            failures: Arc::default(),
            error: Arc::default(),
        }
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
    pub fn line(&self, number: Number, text: impl Into<String>) {
        self.log.say(number, text);
    }

    /// Why an operation failed, in both logs and in the last error.
    pub fn failed(&self, operation: Operation, number: Number, failure: &str) {
        let text = format!("{operation} failed: {failure}");
        // A line in both logs or in none.
        if let Some(leave) = self.failures.leave(Instant::now().into_std()) {
            warn!(
                suppressed = leave.suppressed,
                feature = "power",
                operation = number.number(),
                action = %operation,
                err = failure,
                "the operation failed"
            );
            self.line(number, text.as_str());
        }
        self.error
            .send_replace(format!("{} ({number})", printable(&text)));
    }

    /// Takes the last error back: the operation has begun.
    pub fn succeeds(&self) {
        self.error.send_replace(String::new());
    }

    /// The last error, which is empty when there is none.
    pub fn errors(&self) -> watch::Receiver<String> {
        self.error.subscribe()
    }

    /// Sends it, again where there was no channel.
    async fn deliver(&self, request: Request) -> Result<(), RpciError> {
        let mut pauses = RETRIES.into_iter();
        loop {
            match self.rpci.call(request.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_lost() => match pauses.next() {
                    Some(pause) => sleep(pause).await,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(ERROR).collect()
}
