//! Lines for the administrator of the host: what was asked of this program, in the VM's vmware.log.
//!
//! ```text
//!  feature ── operation() ──> number ──> its own log line, `operation=7`
//!     └────── say(7, text) ──bounded queue──> Writer ── ten a minute ──RPCI `log`──> vmware.log: `talos-vmtoolsd: text (#7)`
//! ```
//!
//! Both logs carry the same number, so that a line of the one is found in the other. [`HostLog::say`] never waits and may
//! be called on the backdoor thread.

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
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::rpci::{Request, Rpci};

/// Lines in one [`WINDOW`], of all features together.
pub const LINES: u32 = 10;

/// The time for which [`LINES`] counts.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Longest line, in characters. open-vm-tools stays below 2 KiB (rpcvmx.c).
const LINE: usize = 400;

/// Lines that wait for the writer.
const QUEUE: usize = 32;

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

/// The handle of the features. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HostLog {
    queue: mpsc::Sender<(Operation, String)>,
    last: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
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
        if self.queue.try_send((operation, text.into())).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    fn with_queue() -> (Self, mpsc::Receiver<(Operation, String)>) {
        let (queue, lines) = mpsc::channel(QUEUE);
        let log = Self {
            queue,
            last: Arc::default(),
            dropped: Arc::default(),
        };
        (log, lines)
    }
}

/// One line as a request. The control characters of a text go: the line stays one line.
pub fn request(operation: Operation, text: &str) -> Request {
    let line: String = text.chars().filter(|c| !c.is_control()).take(LINE).collect();
    // Twice would be two lines.
    Request::text(format!("log talos-vmtoolsd: {line} ({operation})")).at_most_once()
}

/// The task that sends the lines.
#[derive(Debug)]
pub struct Writer<R> {
    rpci: Arc<R>,
    lines: mpsc::Receiver<(Operation, String)>,
    dropped: Arc<AtomicU64>,
    window: Instant,
    written: u32,
}

/// A handle, and the task behind it.
pub fn pair<R: Rpci>(rpci: Arc<R>) -> (HostLog, Writer<R>) {
    let (log, lines) = HostLog::with_queue();
    let writer = Writer {
        rpci,
        lines,
        dropped: log.dropped.clone(),
        window: Instant::now(),
        written: 0,
    };
    (log, writer)
}

impl<R: Rpci> Writer<R> {
    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let write = async {
            while let Some((operation, text)) = self.lines.recv().await {
                self.write(operation, text).await;
            }
        };
        shutdown.run_until_cancelled(write).await;
    }

    /// Writes one line when its turn has come. What could not wait meanwhile is counted in the next line.
    async fn write(&mut self, operation: Operation, mut text: String) {
        if self.window.elapsed() < WINDOW && self.written >= LINES {
            sleep_until(self.window + WINDOW).await;
        }
        if self.window.elapsed() >= WINDOW {
            self.window = Instant::now();
            self.written = 0;
        }
        self.written += 1;
        let dropped = self.dropped.swap(0, Relaxed);
        if dropped > 0 {
            text.push_str(&format!(" ({dropped} lines before it were left out)"));
        }
        if let Err(error) = self.rpci.call(request(operation, &text)).await {
            debug!(feature = "hostlog", operation = operation.number(), err = %error, "no line in vmware.log");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::rpci::RpciError;

    #[derive(Default)]
    struct Host(Mutex<Vec<String>>);

    impl Rpci for Host {
        async fn call(&self, request: Request) -> Result<Vec<u8>, RpciError> {
            let text = String::from_utf8_lossy(request.bytes()).into_owned();
            self.0.lock().unwrap().push(text);
            Ok(Vec::new())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_lines_a_minute_and_the_rest_is_counted() {
        let host = Arc::new(Host::default());
        let (log, writer) = pair(host.clone());
        for _ in 0..1000 {
            log.say(log.operation(), "asked\nfor it");
        }
        let shutdown = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(writer.run(shutdown.clone()));
        tokio::time::sleep(WINDOW / 2).await;
        assert_eq!(host.0.lock().unwrap().len(), 10);
        assert!(
            host.0.lock().unwrap()[0]
                .starts_with("log talos-vmtoolsd: askedfor it (968 lines before it were left out) (#1)\0")
        );
        tokio::time::sleep(WINDOW).await;
        assert_eq!(host.0.lock().unwrap().len(), 20);
        assert_eq!(
            host.0.lock().unwrap()[19],
            "log talos-vmtoolsd: askedfor it (#20)\0"
        );
        shutdown.cancel();
        assert!(tasks.join_next().await.unwrap().is_ok());
    }

    #[test]
    fn a_line_is_bounded_and_sent_once() {
        let log = HostLog::silent();
        let request = request(log.operation(), &"ä".repeat(5000));
        assert!(request.bytes().len() < 2048);
        assert_eq!(request.resend(), crate::rpci::Resend::Never);
    }
}
