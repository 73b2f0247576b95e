//! Secret headers for a client that writes every request that it makes into its log: it does not learn of them. They are
//! put behind the first line of what it sends.

use super::Secret;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroizing;

/// A connection on which the first thing that is sent is a request of HTTP/1.1.
pub(super) struct Veil<S> {
    stream: S,
    /// Lines of headers, each with its end; none when they are sent.
    secrets: Zeroizing<Vec<u8>>,
    /// The first line and the secrets, as far as they are sent.
    head: Zeroizing<Vec<u8>>,
    sent: usize,
}

impl<S> Veil<S> {
    pub(super) fn new(stream: S, secrets: &Secret) -> Self {
        let secrets = Zeroizing::new(secrets.reveal().as_bytes().to_vec());
        Self { stream, secrets, head: Zeroizing::default(), sent: 0 }
    }
}

/// Where the first line ends.
fn line(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\r\n").map(|end| end + 2)
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Veil<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.secrets.is_empty() {
            return Pin::new(&mut this.stream).poll_write(context, bytes);
        }
        // A request is written from one buffer, whose first line is far shorter than the buffer of a socket.
        let Some(end) = line(bytes) else { return Poll::Ready(Err(io::ErrorKind::InvalidInput.into())) };
        if this.head.is_empty() {
            *this.head = [bytes.get(..end).unwrap_or_default(), &this.secrets].concat();
        }
        while let Some(rest) = this.head.get(this.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut this.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => this.sent += length,
            }
        }
        this.secrets = Zeroizing::default();
        this.head = Zeroizing::default();
        Poll::Ready(Ok(end))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Veil<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn secrets_stand_behind_the_first_line_however_slowly_it_is_read() {
        for room in [1, 7, 1_000] {
            let (near, mut far) = tokio::io::duplex(room);
            let mut veiled = Veil::new(near, &Secret::from("x-key: s\r\n".to_owned()));
            tokio::spawn(async move {
                veiled.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                veiled.write_all(b"more\r\n").await.unwrap();
            });
            let mut heard = String::new();
            far.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "GET / HTTP/1.1\r\nx-key: s\r\nhost: a\r\n\r\nmore\r\n");
        }
    }
}
