//! `tcp`: a port, what it says, and TLS on it, from the beginning or after STARTTLS.

use super::talk::{Stream, Talk, broken, days_remaining, said};
use super::tls::{TlsOptions, millis};
use super::{Fault, Net, Probe, Trouble};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The most lines that a server may say before it answers.
const LINES_MAX: usize = 100;

/// What is sent or expected is a line or two.
const TEXT_BYTES_MAX: usize = 4_096;

/// Connects to a port.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tcp {
    /// The host name or IP address.
    #[schemars(length(min = 1, max = 253))]
    host: String,
    /// The port.
    #[schemars(range(min = 1))]
    port: u16,
    /// Sent when the connection is open, as it stands here.
    #[schemars(length(max = 4096))]
    send: Option<String>,
    /// What has to be in that which comes back.
    #[schemars(length(min = 1, max = 4096))]
    expect: Option<String>,
    /// How much is read to find it, in bytes.
    #[serde(default = "page")]
    #[schemars(range(min = 1, max = 65536))]
    read_bytes_max: usize,
    /// Whether to wait for what the server says, where nothing is expected.
    #[serde(default)]
    read_banner: bool,
    /// How long to wait for what the server says. That it says nothing is no failure.
    #[serde(default = "five_seconds")]
    #[schemars(range(min = 1, max = 60000))]
    banner_timeout_ms: u64,
    /// Whether TLS begins at once.
    #[serde(default)]
    use_tls: bool,
    /// The protocol in which to ask for TLS.
    #[serde(default)]
    start_tls: StartTls,
    /// Whom to trust, and who one is.
    #[serde(default)]
    tls: TlsOptions,
}

/// How TLS is asked for in the middle of a conversation.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum StartTls {
    /// It is not.
    #[default]
    None,
    /// EHLO and STARTTLS.
    Smtp,
    /// STARTTLS.
    Imap,
    /// STLS.
    Pop3,
    /// AUTH TLS.
    Ftp,
}

fn page() -> usize {
    4_096
}

fn five_seconds() -> u64 {
    5_000
}

/// What was found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Whether the port could be connected to.
    connected: bool,
    /// How long connecting took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    connection_time_ms: Option<f64>,
    /// How long the TLS handshake took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    handshake_time_ms: Option<f64>,
    /// Whole days until the certificate expires; negative once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "days"))]
    certificate_days_remaining: Option<i64>,
    /// The beginning of what the server said.
    #[serde(skip_serializing_if = "Option::is_none")]
    banner: Option<String>,
    /// Whether it said anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    has_banner: Option<bool>,
    /// How long it took to say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    read_time_ms: Option<f64>,
}

impl Probe for Tcp {
    const ID: &'static str = "tcp";
    const NAME: &'static str = "TCP port";
    const DESCRIPTION: &'static str = "Connects to a port, and looks at what it says";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.tls.faults("tls");
        let mut fault = |is_one: bool, path: &str, message: String| {
            if is_one {
                faults.push(Fault::new(path, message));
            }
        };
        fault(self.host.is_empty() || self.host.len() > 253, "host", "Must have 1 to 253 characters".into());
        fault(self.port == 0, "port", "Must be from 1 to 65535".into());
        for (path, text, min) in [("send", &self.send, 0), ("expect", &self.expect, 1)] {
            let is_bad = text.as_ref().is_some_and(|text| text.len() < min || text.len() > TEXT_BYTES_MAX);
            fault(is_bad, path, format!("Must have {min} to {TEXT_BYTES_MAX} bytes"));
        }
        fault(!(1..=65_536).contains(&self.read_bytes_max), "readBytesMax", "Must be from 1 to 65536".into());
        let is_longer = self.expect.as_ref().is_some_and(|text| text.len() > self.read_bytes_max);
        fault(is_longer, "expect", "Must not be longer than what is read".into());
        fault(!(1..=60_000).contains(&self.banner_timeout_ms), "bannerTimeoutMs", "Must be from 1 to 60000".into());
        fault(self.use_tls && self.start_tls != StartTls::None, "startTls", "TLS begins at once already".into());
        faults
    }

    fn host(&self) -> Option<String> {
        Some(format!("{}:{}", self.host, self.port))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let dialed = net.dial(&self.host, self.port).await?;
        found.connected = true;
        found.connection_time_ms = Some(millis(dialed.connect));
        let mut stream: Box<dyn Stream> = Box::new(dialed.stream);
        if self.start_tls != StartTls::None {
            net.phase("waiting for the server to begin TLS");
            stream = self.ask_for_tls(stream, found).await?;
        }
        if self.use_tls || self.start_tls != StartTls::None {
            let started = Instant::now();
            let encrypted = net.tls(stream, &self.host, &self.tls, &[]).await?;
            found.handshake_time_ms = Some(millis(started.elapsed()));
            found.certificate_days_remaining = days_remaining(&encrypted);
            stream = Box::new(encrypted);
        }
        if let Some(text) = &self.send {
            net.phase("sending");
            stream.write_all(text.as_bytes()).await.map_err(|why| broken(&why))?;
            stream.flush().await.map_err(|why| broken(&why))?;
        }
        let started = Instant::now();
        match &self.expect {
            Some(expected) => {
                net.phase("waiting for the expected text");
                self.find(expected.as_bytes(), &mut stream, found, started).await
            }
            None if self.read_banner && found.banner.is_none() => {
                let timeout = Duration::from_millis(self.banner_timeout_ms);
                net.phase("waiting for what the server says");
                // Whatever came until then is what it said.
                let _ = tokio::time::timeout(timeout, self.listen(&mut stream, found, started)).await;
                found.has_banner = Some(found.banner.is_some());
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn latency(found: &Found) -> Option<Duration> {
        // Waiting for what a server does not say is no latency.
        let read = found.read_time_ms.filter(|_| found.banner.is_some());
        let parts = [found.connection_time_ms, found.handshake_time_ms, read];
        found.connection_time_ms.map(|_| Duration::from_secs_f64(parts.iter().flatten().sum::<f64>() / 1_000.0))
    }
}

impl Tcp {
    /// Reads until the text is there.
    async fn find(
        &self,
        expected: &[u8],
        stream: &mut Box<dyn Stream>,
        found: &mut Found,
        started: Instant,
    ) -> Result<(), Trouble> {
        let mut read = vec![];
        loop {
            let Some(length) = self.more(stream, &mut read, found, started).await? else {
                return Err(Trouble::Target(if read.len() < self.read_bytes_max {
                    "The server closed the connection without the expected text".into()
                } else {
                    format!("The expected text is not in the first {} bytes", self.read_bytes_max)
                }));
            };
            // What was searched before is not searched again, but for the beginning of a match.
            let from = read.len().saturating_sub(length + expected.len());
            if read.get(from..).unwrap_or_default().windows(expected.len()).any(|part| part == expected) {
                return Ok(());
            }
        }
    }

    /// Reads a line, or what there is.
    async fn listen(&self, stream: &mut Box<dyn Stream>, found: &mut Found, started: Instant) -> Result<(), Trouble> {
        let mut read = vec![];
        while self.more(stream, &mut read, found, started).await?.is_some() {
            if read.contains(&b'\n') {
                break;
            }
        }
        Ok(())
    }

    /// Reads what comes next; `None`: nothing more comes, or is read.
    async fn more(
        &self,
        stream: &mut Box<dyn Stream>,
        read: &mut Vec<u8>,
        found: &mut Found,
        started: Instant,
    ) -> Result<Option<usize>, Trouble> {
        let mut part = [0; 4_096];
        let most = self.read_bytes_max.saturating_sub(read.len()).min(part.len());
        let length = match part.get_mut(..most) {
            Some(part) if !part.is_empty() => stream.read(part).await.map_err(|why| broken(&why))?,
            _ => 0,
        };
        found.read_time_ms = Some(millis(started.elapsed()));
        if length > 0 {
            read.extend_from_slice(part.get(..length).unwrap_or_default());
            found.banner = Some(said(String::from_utf8_lossy(read).trim(), &[]));
            found.has_banner = Some(true);
        }
        Ok((length > 0).then_some(length))
    }

    async fn ask_for_tls(&self, stream: Box<dyn Stream>, found: &mut Found) -> Result<Box<dyn Stream>, Trouble> {
        let refused = |said: String| Trouble::Target(format!("The server does not begin TLS: {said}"));
        let mut talk = Talk::new(stream);
        let started = Instant::now();
        let mut greet = |text: &str| {
            found.read_time_ms = Some(millis(started.elapsed()));
            found.banner = Some(said(text, &[]));
            found.has_banner = Some(true);
        };
        match self.start_tls {
            StartTls::None => {}
            StartTls::Smtp | StartTls::Ftp => {
                let greeting = talk.reply().await?;
                greet(&greeting.lines.join(" "));
                let mut replies = vec![greeting];
                if self.start_tls == StartTls::Smtp {
                    replies.push(talk.ask("EHLO checkmate").await?);
                    replies.push(talk.ask("STARTTLS").await?);
                } else {
                    replies.push(talk.ask("AUTH TLS").await?);
                }
                if let Some(reply) = replies.iter().find(|reply| !reply.is_good()) {
                    return Err(refused(reply.told(&[])));
                }
            }
            StartTls::Imap => {
                greet(&talk.line().await?);
                talk.send("a1 STARTTLS").await?;
                for _ in 0..LINES_MAX {
                    let line = talk.line().await?;
                    match line.strip_prefix("a1 ") {
                        None => {}
                        Some(answer) if answer.to_ascii_uppercase().starts_with("OK") => return talk.into_stream(),
                        Some(answer) => return Err(refused(said(answer, &[]))),
                    }
                }
                return Err(refused(format!("it said more than {LINES_MAX} lines")));
            }
            StartTls::Pop3 => {
                greet(&talk.line().await?);
                talk.send("STLS").await?;
                let answer = talk.line().await?;
                if !answer.to_ascii_uppercase().starts_with("+OK") {
                    return Err(refused(said(&answer, &[])));
                }
            }
        }
        talk.into_stream()
    }
}
