//! The journal, kept from holding anybody up.
//!
//! tracing-journald sends each event as a datagram on a blocking socket, on the thread that speaks: with a journal that
//! does not read, the backdoor thread would stop polling. So the queue of the journal's socket is looked at first, and
//! what does not fit is left out.

#![forbid(unsafe_code)]

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::Path,
    sync::{Mutex, PoisonError},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// A layer that sends to the journal, behind a look at the journal's queue.
pub(super) struct Unhurried<L> {
    inner: L,
    /// Connected to the journal and never used to send. The lock makes look and sending one step for this process; other
    /// processes can still take the last place in between, which costs the time until the journal reads one line.
    probe: Mutex<UnixDatagram>,
}

impl<L> Unhurried<L> {
    /// `inner` sends to the socket at `path`.
    pub(super) fn new(inner: L, path: &Path) -> io::Result<Self> {
        let probe = UnixDatagram::unbound()?;
        probe.connect(path)?;
        Ok(Self {
            inner,
            probe: Mutex::new(probe),
        })
    }
}

/// Whether a datagram would be taken at once. A journal that is gone refuses at once, which is as good.
fn has_room(probe: &UnixDatagram) -> bool {
    let mut descriptor = [PollFd::new(probe.as_fd(), PollFlags::POLLOUT)];
    poll(&mut descriptor, PollTimeout::ZERO).is_ok_and(|ready| ready == 1)
}

impl<L, S> Layer<S> for Unhurried<L>
where
    L: Layer<S>,
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        self.inner.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        self.inner.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        if has_room(&probe) {
            self.inner.on_event(event, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Sends a datagram for each event as tracing-journald does, waiting where it must.
    struct Sender {
        socket: UnixDatagram,
        path: PathBuf,
        sent: Arc<AtomicUsize>,
    }

    impl<S: Subscriber> Layer<S> for Sender {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.socket.send_to(b"MESSAGE=x\n", &self.path).unwrap();
            self.sent.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_journal_that_never_reads_costs_lines_and_not_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let sender = Sender {
            socket: UnixDatagram::unbound().unwrap(),
            path: path.clone(),
            sent: Arc::clone(&sent),
        };
        let layer = Unhurried::new(sender, &path).unwrap();
        let (done, wait) = mpsc::channel();
        std::thread::spawn(move || {
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                for _ in 0..5000 {
                    tracing::info!("x");
                }
            });
            done.send(()).unwrap();
        });
        wait.recv_timeout(Duration::from_secs(20))
            .expect("the speaker waits for the journal");
        let sent = sent.load(Ordering::SeqCst);
        assert!((1..5000).contains(&sent), "{sent}");
        drop(journal);
    }
}
