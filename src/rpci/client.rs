//! RPCI as tokio tasks see it: a bounded queue to the backdoor thread, which an eventfd wakes from its poll pause.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Request, Rpci, RpciError};

/// Requests that wait for the backdoor thread. Each takes it well under a millisecond; a longer queue would only hide
/// that the host is slow.
const QUEUE: usize = 64;

/// How long a call may take, queueing included. The slowest thing in front of it is a registration on a slow host.
const DEADLINE: Duration = Duration::from_secs(5);

/// Wakes the backdoor thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// A waker that was not used yet.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_value_and_flags(0, flags)?)))
    }

    /// Ends the thread's pause, or the next one.
    pub fn wake(&self) {
        // Fails only when the counter is full, and then the thread is awake.
        let _ = self.0.write(1);
    }

    /// Takes note of being woken.
    pub fn clear(&self) {
        // Fails only when nobody woke us.
        let _ = self.0.read();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One queued request and the place for its answer.
#[derive(Debug)]
pub struct Call {
    request: Request,
    answer: oneshot::Sender<Result<Vec<u8>, RpciError>>,
}

impl Call {
    /// What to ask the host.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Whether the caller gave up; then the host is not asked any more.
    pub fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    /// Gives the caller its answer.
    pub fn finish(self, answer: Result<Vec<u8>, RpciError>) {
        // The caller may have left in this moment; nobody else wants the answer.
        let _ = self.answer.send(answer);
    }
}

/// What comes back for a request that was submitted.
pub type Answer = oneshot::Receiver<Result<Vec<u8>, RpciError>>;

/// The backdoor thread's end of the queue.
pub type Calls = mpsc::Receiver<Call>;

/// The way to the host for tasks. Cheap to clone; requests of one caller keep their order.
#[derive(Clone, Debug)]
pub struct Client {
    queue: mpsc::Sender<Call>,
    waker: Waker,
}

/// A client, and the queue that the backdoor thread serves whenever `waker` wakes it.
pub fn client(waker: Waker) -> (Client, Calls) {
    let (queue, calls) = mpsc::channel(QUEUE);
    (Client { queue, waker }, calls)
}

impl Client {
    /// Queues one request without waiting for anything, for threads that have no runtime. `None` when the queue is full
    /// or the backdoor thread has ended. A receiver that is dropped takes the request back, if it was not sent yet.
    pub fn submit(&self, request: Request) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Call { request, answer }).ok()?;
        self.waker.wake();
        Some(answered)
    }

    async fn queue_and_wait(&self, request: Request, queued: &mut bool) -> Result<Vec<u8>, RpciError> {
        let command = request.name();
        let (answer, answered) = oneshot::channel();
        let closed = |reason| RpciError::NotQueued {
            command: command.clone(),
            reason,
        };
        let call = Call { request, answer };
        self.queue
            .send(call)
            .await
            .map_err(|_| closed("the backdoor thread has ended"))?;
        *queued = true;
        self.waker.wake();
        answered
            .await
            .map_err(|_| closed("the backdoor thread ended before it answered"))?
    }
}

impl Rpci for Client {
    async fn call(&self, request: Request) -> Result<Vec<u8>, RpciError> {
        let command = request.name();
        let mut queued = false;
        match timeout(DEADLINE, self.queue_and_wait(request, &mut queued)).await {
            Ok(answer) => answer,
            Err(_) if queued => Err(RpciError::Deadline {
                command,
                deadline: DEADLINE,
            }),
            Err(_) => Err(RpciError::NotQueued {
                command,
                reason: "the queue to the backdoor thread is full",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn order_is_kept_and_the_thread_is_woken() -> io::Result<()> {
        let waker = Waker::new()?;
        let (client, mut calls) = client(waker.clone());
        let served = std::thread::spawn(move || {
            let mut names = Vec::new();
            while let Some(call) = calls.blocking_recv() {
                names.push(call.request().name());
                call.finish(Ok(b"x".to_vec()));
            }
            names
        });
        for name in ["a", "b", "c"] {
            assert_eq!(client.call(Request::text(name)).await, Ok(b"x".to_vec()));
        }
        drop(client);
        assert_eq!(served.join().ok(), Some(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(waker.0.read(), Ok(3));
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_thread_costs_the_deadline_and_the_request_is_abandoned() -> io::Result<()> {
        let (client, mut calls) = client(Waker::new()?);
        let outcome = client.call(Request::text("log x")).await;
        assert_eq!(
            outcome,
            Err(RpciError::Deadline {
                command: "log".into(),
                deadline: DEADLINE
            })
        );
        assert!(calls.try_recv().is_ok_and(|call| call.is_abandoned()));
        Ok(())
    }

    #[test]
    fn a_request_is_submitted_without_a_runtime() -> io::Result<()> {
        let (client, mut calls) = client(Waker::new()?);
        let mut answer = client.submit(Request::text("x")).unwrap();
        assert!(answer.try_recv().is_err());
        calls.try_recv().unwrap().finish(Ok(b"y".to_vec()));
        assert_eq!(answer.try_recv(), Ok(Ok(b"y".to_vec())));
        for _ in 0..QUEUE {
            assert!(client.submit(Request::text("x")).is_some());
        }
        assert!(client.submit(Request::text("x")).is_none());
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_and_an_ended_thread_are_told_apart() -> io::Result<()> {
        let (client, calls) = client(Waker::new()?);
        for _ in 0..QUEUE {
            let (answer, _) = oneshot::channel();
            let call = Call {
                request: Request::text("x"),
                answer,
            };
            assert!(client.queue.try_send(call).is_ok());
        }
        let full = client.call(Request::text("y")).await;
        assert!(
            matches!(full, Err(RpciError::NotQueued { reason, .. }) if reason.contains("full")),
            "{full:?}"
        );
        drop(calls);
        let ended = client.call(Request::text("y")).await;
        assert!(
            matches!(ended, Err(RpciError::NotQueued { reason, .. }) if reason.contains("ended")),
            "{ended:?}"
        );
        Ok(())
    }
}
