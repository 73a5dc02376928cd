//! Lines for the administrator of the host: what was asked of this program, in the VM's vmware.log.
//!
//! ```text
//!  feature ── operation() ──> number ──> its own log line, `operation=7`
//!     └────── say(7, text) ──bounded queue──> Writer ── ten a minute ──RPCI `log`──> vmware.log: `talos-vmtoolsd: text (#7)`
//!                                               └── no channel: the line waits, and others behind it
//! ```
//!
//! Both logs carry the same number, so that a line of the one is found in the other. [`HostLog::say`] never waits and may
//! be called on the backdoor thread. Nothing is written twice: a line whose fate is unknown counts as lost. What was left
//! out, for whatever reason, is counted in the next line that is written.

#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    logging::limit::{Leave, Sliding},
    rpci::{Request, Rpci},
};

/// Longest text of a line, in characters. open-vm-tools stays below 2 KiB (rpcvmx.c).
const TEXT: usize = 400;

/// Lines that wait while there is no channel. More are left out.
const QUEUE: usize = 32;

/// Pause before a line is tried again that found no channel.
const RETRY: Duration = Duration::from_secs(2);

/// A line that is written this long after it was said tells how long ago that was.
const LATE: Duration = Duration::from_secs(2);

/// What the host asked for, or what happened to the VM, as both logs know it. Numbers start at 1 with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation(u64);

impl Operation {
    /// For the field `operation` of a log line.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// One line, and when it was said.
#[derive(Debug)]
struct Line {
    operation: Operation,
    text: String,
    said: Instant,
}

impl Line {
    /// The line as a request. The control characters of a text go: the line stays one line.
    fn request(&self, leave: Leave) -> Request {
        let text: String = self.text.chars().filter(|c| !c.is_control()).take(TEXT).collect();
        let left_out = match leave.suppressed {
            Some(1) => ", 1 line before it was left out".to_owned(),
            Some(lines) => format!(", {lines} lines before it were left out"),
            None => String::new(),
        };
        let age = self.said.elapsed();
        let late = if age < LATE {
            String::new()
        } else {
            format!(", {} s ago", age.as_secs())
        };
        let operation = self.operation;
        // Twice would be two lines.
        Request::text(format!(
            "log talos-vmtoolsd: {text} ({operation}{late}{left_out})"
        ))
        .at_most_once()
    }
}

/// The handle of the features. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HostLog {
    queue: mpsc::Sender<Line>,
    last: Arc<AtomicU64>,
    limit: Arc<Sliding>,
}

impl HostLog {
    /// A handle whose lines nobody writes.
    pub fn silent() -> Self {
        Self::with_queue().0
    }

    /// The number of a new operation.
    pub fn operation(&self) -> Operation {
        Operation(self.last.fetch_add(1, Relaxed).wrapping_add(1))
    }

    /// Queues one line. When too many wait it is counted and left out.
    pub fn say(&self, operation: Operation, text: impl Into<String>) {
        let line = Line {
            operation,
            text: text.into(),
            said: Instant::now(),
        };
        if self.queue.try_send(line).is_err() {
            self.limit.suppress();
        }
    }

    /// The last line of the process, for whoever sends it when the writer has ended. `None` when this minute has its
    /// lines.
    pub fn farewell(&self, operation: Operation, text: impl Into<String>) -> Option<Request> {
        let line = Line {
            operation,
            text: text.into(),
            said: Instant::now(),
        };
        let leave = self.limit.leave(line.said.into_std())?;
        Some(line.request(leave))
    }

    fn with_queue() -> (Self, mpsc::Receiver<Line>) {
        let (queue, lines) = mpsc::channel(QUEUE);
        let log = Self {
            queue,
            last: Arc::default(),
            limit: Arc::new(Sliding::default()),
        };
        (log, lines)
    }
}

/// The task that sends the lines.
#[derive(Debug)]
pub struct Writer<R> {
    rpci: Arc<R>,
    lines: mpsc::Receiver<Line>,
    limit: Arc<Sliding>,
}

/// A handle, and the task behind it.
pub fn pair<R: Rpci>(rpci: Arc<R>) -> (HostLog, Writer<R>) {
    let (log, lines) = HostLog::with_queue();
    let writer = Writer {
        rpci,
        lines,
        limit: log.limit.clone(),
    };
    (log, writer)
}

impl<R: Rpci> Writer<R> {
    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let write = async {
            while let Some(line) = self.lines.recv().await {
                while !self.write(&line).await {
                    sleep(RETRY).await;
                }
            }
        };
        shutdown.run_until_cancelled(write).await;
    }

    /// Writes one line, or leaves it out. `false` when it is to be tried again: the host has seen nothing of it.
    async fn write(&self, line: &Line) -> bool {
        let Some(leave) = self.limit.leave(Instant::now().into_std()) else {
            return true;
        };
        let Err(error) = self.rpci.call(line.request(leave)).await else {
            return true;
        };
        debug!(feature = "hostlog", operation = line.operation.number(), err = %error, "no line in vmware.log");
        self.limit.take_back(leave);
        let again = error.is_unsent();
        if !again {
            self.limit.suppress();
        }
        !again
    }
}

#[cfg(test)]
mod tests;
