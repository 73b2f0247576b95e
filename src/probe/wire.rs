//! A connection with ends of its own: after so many bytes, and, where it is asked for, with the look. Clients of others
//! read what they are sent for as long as it comes, and some leave a task with the connection behind; here both meet an
//! error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// A connection, plain or with TLS.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection to a stranger.
pub(super) struct Wire {
    stream: Box<dyn Duplex>,
    bytes_max: usize,
    bytes_left: usize,
    over: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Wire {
    /// A connection of which at most so much is read.
    pub(super) fn new(stream: impl Duplex + 'static, bytes_max: usize) -> Self {
        Self { stream: Box::new(stream), bytes_max, bytes_left: bytes_max, over: None }
    }

    /// The same, until the guard is dropped.
    pub(super) fn guarded(self) -> (Self, DropGuard) {
        let look = CancellationToken::new();
        let over = Some(Box::pin(look.clone().cancelled_owned()));
        (Self { over, ..self }, look.drop_guard())
    }

    /// Also wakes who waits when the look is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.over.as_mut().is_some_and(|over| over.as_mut().poll(cx).is_ready()) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the look is over"));
        }
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_over(cx)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let Some(left) = self.bytes_left.checked_sub(buffer.filled().len() - before) else {
            return Poll::Ready(Err(io::Error::other(format!("it sent more than {} KiB", self.bytes_max >> 10))));
        };
        self.bytes_left = left;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_over(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_over(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_over(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
