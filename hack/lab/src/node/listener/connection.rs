//! A connection that can be closed from outside, and torn in the middle of a frame.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, UdsConnectInfo};

use crate::node::faults::{Tear, Torn};

/// A stream that fails with ECONNRESET once it is cut.
pub struct Connection {
    stream: UnixStream,
    cut: CancellationToken,
    tear: Tear,
    /// It was torn: what is written now goes nowhere.
    silent: bool,
    wait: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    /// A connection that lives until `cut` and looks at `tear` before it writes.
    pub fn new(stream: UnixStream, cut: CancellationToken, tear: Tear) -> Self {
        Self {
            stream,
            tear,
            silent: false,
            wait: Box::pin(cut.clone().cancelled_owned()),
            cut,
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.cut.is_cancelled() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Polled first, so that a cut wakes a reader that waits. A finished wait is never polled again.
        self.check()?;
        if self.wait.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        if self.silent {
            return Poll::Ready(Ok(bytes.len()));
        }
        let Some(torn) = self.tear.take() else {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        };
        let (_, part) = bytes.split_last().unwrap_or((&0, bytes));
        // A peer that is slow to read gets less of the frame, which is as good.
        _ = self.stream.try_write(part);
        match torn {
            Torn::Close => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Torn::Silence => {
                self.silent = true;
                Poll::Ready(Ok(bytes.len()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One slice at a time, so that there is one place that writes.
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(context, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}
