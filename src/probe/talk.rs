//! A conversation in lines, as SMTP, IMAP, POP3 and FTP have it: every line bounded, and TLS in the middle of it.

use super::tls::{Certificate, TlsOptions, plain};
use super::{Net, Secret, Trouble};
use bytes::BytesMut;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

/// The longest line: four times what SMTP allows.
const LINE_BYTES_MAX: usize = 2_048;

/// The most lines of one reply.
const LINES_MAX: usize = 100;

/// What is told of an answer.
const SAID_CHARS_MAX: usize = 200;

/// What TCP and TLS have in common.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is read in lines.
pub(super) struct Talk {
    stream: Box<dyn Stream>,
    unread: BytesMut,
}

/// A reply of SMTP or FTP.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// The texts behind the code.
    pub(super) lines: Vec<String>,
}

impl Reply {
    pub(super) fn is_good(&self) -> bool {
        (200..400).contains(&self.code)
    }

    /// `550 No such user`, without secrets of ours.
    pub(super) fn told(&self, secrets: &[&Secret]) -> String {
        said(&format!("{} {}", self.code, self.lines.join(" ")), secrets)
    }
}

impl Talk {
    pub(super) fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), unread: BytesMut::new() }
    }

    /// The connection, if nothing more was said than was read.
    pub(super) fn into_stream(self) -> Result<Box<dyn Stream>, Trouble> {
        if self.unread.is_empty() {
            Ok(self.stream)
        } else {
            // Who is in between could have put it there, to be taken for what came encrypted.
            Err(Trouble::Target("The server went on talking where TLS had to begin".into()))
        }
    }

    pub(super) async fn send(&mut self, line: &str) -> Result<(), Trouble> {
        let line = format!("{line}\r\n");
        self.stream.write_all(line.as_bytes()).await.map_err(|why| broken(&why))?;
        self.stream.flush().await.map_err(|why| broken(&why))
    }

    pub(super) async fn line(&mut self) -> Result<String, Trouble> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(end + 1);
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.unread.len() >= LINE_BYTES_MAX {
                return Err(Trouble::Target(format!("The server sent a line of more than {LINE_BYTES_MAX} bytes")));
            }
            let mut part = [0; 512];
            let length = self.stream.read(&mut part).await.map_err(|why| broken(&why))?;
            if length == 0 {
                return Err(Trouble::Target("The server closed the connection".into()));
            }
            self.unread.extend_from_slice(part.get(..length).unwrap_or_default());
        }
    }

    /// A reply of SMTP or FTP: `250-first`, `250 last`.
    pub(super) async fn reply(&mut self) -> Result<Reply, Trouble> {
        let mut reply: Option<Reply> = None;
        for _ in 0..LINES_MAX {
            let line = self.line().await?;
            let code = line.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
            let code = code.and_then(|code| code.parse().ok()).filter(|code| (100..600).contains(code));
            let (is_last, text) = match (line.get(3..4), line.get(4..)) {
                (Some("-"), Some(text)) => (false, text),
                (Some(" "), Some(text)) => (true, text),
                _ => (true, ""),
            };
            let (Some(code), true) = (code, line.len() == 3 || matches!(line.get(3..4), Some(" " | "-"))) else {
                return Err(Trouble::Target(format!(
                    "The server answered with what is no reply: {}",
                    said(&line, &[])
                )));
            };
            let reply = reply.get_or_insert(Reply { code, lines: vec![] });
            if reply.code != code {
                return Err(Trouble::Target("The server answered with two codes in one reply".into()));
            }
            reply.lines.push(text.to_owned());
            if is_last {
                return Ok(Reply { code, lines: std::mem::take(&mut reply.lines) });
            }
        }
        Err(Trouble::Target(format!("The server answered with more than {LINES_MAX} lines")))
    }

    /// Sends a command and reads the reply.
    pub(super) async fn ask(&mut self, line: &str) -> Result<Reply, Trouble> {
        self.send(line).await?;
        self.reply().await
    }

    /// Goes on over TLS. The other number: how many days the certificate is still good.
    pub(super) async fn encrypted(
        self,
        net: &Net,
        host: &str,
        options: &TlsOptions,
    ) -> Result<(Self, Option<i64>), Trouble> {
        let stream = net.tls(self.into_stream()?, host, options, &[]).await?;
        let days = days_remaining(&stream);
        Ok((Self::new(stream), days))
    }
}

/// How many days the certificate of the server is still good.
pub(super) fn days_remaining<S>(stream: &TlsStream<S>) -> Option<i64> {
    let own = stream.get_ref().1.peer_certificates()?.first()?;
    Certificate::read(own).map(|read| read.days_remaining())
}

/// An open connection that is not any more, or was never what it has to be.
pub(super) fn broken(why: &io::Error) -> Trouble {
    let off = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::UnexpectedEof];
    Trouble::Target(if off.contains(&why.kind()) {
        "The server broke the connection off".into()
    } else {
        format!("The connection broke: {}", plain(&why.to_string(), SAID_CHARS_MAX))
    })
}

/// What a server said, as far as it may be told: its beginning, without control characters and secrets of ours.
pub(super) fn said(text: &str, secrets: &[&Secret]) -> String {
    let hidden = secrets.iter().map(|secret| secret.reveal()).filter(|secret| !secret.is_empty());
    let text = hidden.fold(text.to_owned(), |text, secret| text.replace(secret, "…"));
    plain(&text, SAID_CHARS_MAX)
}
