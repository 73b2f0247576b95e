//! A socket that tells which protocol it carries, and whether its peer reads what is written.

use super::peer::Peer;
use socket2::SockRef;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the system keeps of answers for a peer that does not read. By itself it would take some MiB for each, of memory
/// that all sockets share. Enough for 5 MB/s around the world.
const UNREAD_BYTES_MAX: usize = 256 * 1024;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection's socket.
pub(super) struct Socket {
    stream: TcpStream,
    peer: Arc<Peer>,
    /// What was read to tell the protocol, and is not handed on yet.
    opening: Vec<u8>,
    protocol: Protocol,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, peer: Arc<Peer>) -> Self {
        // Answers are small and written whole: waiting for more to send only adds latency.
        let _ = stream.set_nodelay(true);
        // Of each socket, not once of the listener's: who connects before that is set would not inherit it.
        let _ = SockRef::from(&stream).set_send_buffer_size(UNREAD_BYTES_MAX);
        Self { stream, peer, opening: Vec::new(), protocol: Protocol::Http2 }
    }

    /// Reads as much as tells the protocol; `None` if the peer has gone. hyper would read for as long as it takes.
    pub(super) async fn protocol(&mut self) -> Option<Protocol> {
        while self.opening.len() < PREFACE.len() {
            let mut next = [0; PREFACE.len()];
            let missing = next.get_mut(self.opening.len()..)?;
            let length = self.stream.read(missing).await.ok().filter(|length| *length > 0)?;
            self.opening.extend_from_slice(missing.get(..length)?);
            if !PREFACE.starts_with(&self.opening) {
                self.protocol = Protocol::Http1;
                self.peer.reads(self.protocol, self.opening.len());
                return Some(Protocol::Http1);
            }
        }
        Some(Protocol::Http2)
    }

    fn wrote(&self, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.peer.writes(self.protocol, done.is_ready());
        done
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.peer.is_blocked() {
            // Nobody reads it: without this the system would hold it, and try for minutes.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.opening.is_empty() {
            let length = self.opening.len().min(buffer.remaining());
            buffer.put_slice(&self.opening.drain(..length).collect::<Vec<_>>());
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.peer.reads(self.protocol, bytes);
        }
        done
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.wrote(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A socket has no buffer of its own, so neither of these waits for its peer.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
