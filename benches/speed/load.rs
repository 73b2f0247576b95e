//! The load: connections that ask again as soon as they are answered, on one thread.
//!
//! It understands as little of HTTP as will do, so that it is cheaper than any server: it must not be what is measured.

use crate::process::cpu_ns;
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the figures of reference measurements stand on, too.
pub const CONNECTIONS: usize = 16;

/// Read at once: 16 of them fit into a processor's second cache.
const READ_BYTES: usize = 64 * 1024;

/// A request, ready to be written.
#[derive(Clone)]
pub enum Ask {
    /// HTTP/1.1: the bytes, and the status that is right.
    Http { bytes: Vec<u8>, status: u16 },
    /// gRPC: the path, the key and the message.
    Grpc { path: &'static str, key: String, message: Vec<u8> },
}

impl Ask {
    /// POST of JSON.
    pub fn post(path: &str, key: &str, body: &str) -> Self {
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self::Http { bytes: bytes.into_bytes(), status: 200 }
    }

    /// GET, with the entity tag that is known.
    pub fn get(path: &str, key: &str, tag: Option<&str>) -> Self {
        let known = tag.map(|tag| format!("if-none-match: {tag}\r\n")).unwrap_or_default();
        let bytes = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n{known}\r\n");
        Self::Http { bytes: bytes.into_bytes(), status: if tag.is_some() { 304 } else { 200 } }
    }
}

/// What a load came to.
pub struct Load {
    /// Requests in a second.
    pub rate: f64,
    /// Each answer's time in nanoseconds, in order.
    pub times: Vec<u64>,
    /// The share of a core that this process took.
    pub client: f64,
    /// The share of a core that the server took.
    pub server: f64,
}

/// Whoever answers nothing within this is broken.
const LONGEST: Duration = Duration::from_secs(10);

/// Waits until it answers well. A server whose PostgreSQL got no time while another server had the core refuses until it
/// has heard from it again, as it should.
async fn settle(address: SocketAddr, ask: &Ask) -> Result<()> {
    let given_up = Instant::now() + LONGEST;
    while let Err(why) = once(address, ask).await {
        ensure!(Instant::now() < given_up, "not ready: {why:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Asks on all connections; counts what is answered after `warm` and within `time` from then.
pub async fn run(address: SocketAddr, pid: u32, ask: &Ask, warm: Duration, time: Duration) -> Result<Load> {
    settle(address, ask).await?;
    let mut connections = vec![];
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(address, ask).await?);
    }
    let from = Instant::now() + warm;
    let until = from + time;
    let tasks: Vec<_> =
        connections.into_iter().map(|connection| tokio::spawn(repeat(connection, from, until))).collect();
    tokio::time::sleep_until(from.into()).await;
    let (client, server) = (cpu_ns(std::process::id())?, cpu_ns(pid)?);
    tokio::time::sleep_until(until.into()).await;
    let (client, server) = (cpu_ns(std::process::id())? - client, cpu_ns(pid)? - server);
    let took = from.elapsed();
    let mut times = vec![];
    for task in tasks {
        times.extend(task.await??);
    }
    times.sort_unstable();
    if times.is_empty() {
        // Sixteen answers of ten long lists, made anew, take their time.
        ensure!(time < LONGEST, "not one answer within {time:?}");
        return Box::pin(run(address, pid, ask, Duration::ZERO, LONGEST)).await;
    }
    let share = |ns: u64| ns as f64 / took.as_nanos() as f64;
    Ok(Load { rate: times.len() as f64 / time.as_secs_f64(), times, client: share(client), server: share(server) })
}

async fn repeat(mut connection: Connection, from: Instant, until: Instant) -> Result<Vec<u64>> {
    let mut times = vec![];
    let mut asked = Instant::now();
    loop {
        connection.exchange(None).await?;
        let answered = Instant::now();
        if answered > until {
            return Ok(times);
        }
        if asked >= from {
            times.push(u64::try_from((answered - asked).as_nanos())?);
        }
        asked = answered;
    }
}

/// Asks once, and returns the answer: the head as text (HTTP only) and the body.
pub async fn once(address: SocketAddr, ask: &Ask) -> Result<(String, Vec<u8>)> {
    let mut whole = (String::new(), vec![]);
    Connection::open(address, ask).await?.exchange(Some(&mut whole)).await?;
    Ok(whole)
}

/// One connection that asks the same again and again.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    speaks: Speaks,
}

enum Speaks {
    Http { bytes: Vec<u8>, status: [u8; 3] },
    Grpc(Box<Grpc>),
}

struct Grpc {
    /// The header block of every request but the first, which filled the table that this one refers to.
    first: Option<Vec<u8>>,
    headers: Vec<u8>,
    message: Vec<u8>,
    stream_id: u32,
    /// What has been read since the window was last opened.
    consumed: u32,
    request: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr, ask: &Ask) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let speaks = match ask {
            Ask::Http { bytes, status } => {
                let digits: Vec<u8> = status.to_string().into_bytes();
                Speaks::Http { bytes: bytes.clone(), status: digits.try_into().unwrap_or_default() }
            }
            Ask::Grpc { path, key, message } => {
                stream.write_all(&preface()).await?;
                Speaks::Grpc(Box::new(Grpc::new(path, key, message)))
            }
        };
        Ok(Self { stream, buffer: vec![0; READ_BYTES], speaks })
    }

    async fn exchange(&mut self, whole: Option<&mut (String, Vec<u8>)>) -> Result<()> {
        match &mut self.speaks {
            Speaks::Http { bytes, status } => {
                self.stream.write_all(bytes).await?;
                http(&mut self.stream, &mut self.buffer, *status, whole).await
            }
            Speaks::Grpc(grpc) => grpc.exchange(&mut self.stream, &mut self.buffer, whole).await,
        }
    }
}

/// Reads one answer of HTTP/1.1, which says how long it is unless it has no body.
async fn http(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    status: [u8; 3],
    mut whole: Option<&mut (String, Vec<u8>)>,
) -> Result<()> {
    let (mut filled, head) = (0, loop_head(stream, buffer).await?);
    filled += head.filled;
    let text = buffer.get(..head.bytes).context("a head")?;
    if text.get(9..12) != Some(&status) {
        let answer = String::from_utf8_lossy(buffer.get(..filled).unwrap_or_default()).into_owned();
        bail!("expected {}: {answer}", String::from_utf8_lossy(&status));
    }
    let length = content_length(text)?;
    if let Some((kept, _)) = whole.as_deref_mut() {
        *kept = String::from_utf8_lossy(text).into_owned();
    }
    let mut piece = buffer.get(head.bytes..filled).unwrap_or_default();
    let mut left = length;
    loop {
        ensure!(piece.len() <= left, "more than was announced");
        left -= piece.len();
        if let Some((_, kept)) = whole.as_deref_mut() {
            kept.extend_from_slice(piece);
        }
        if left == 0 {
            return Ok(());
        }
        let read = stream.read(buffer).await?;
        ensure!(read > 0, "the server hung up");
        piece = buffer.get(..read).unwrap_or_default();
    }
}

struct Head {
    bytes: usize,
    filled: usize,
}

async fn loop_head(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<Head> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).context("a head too long")?).await?;
        ensure!(read > 0, "the server hung up");
        filled += read;
        let text = buffer.get(..filled).unwrap_or_default();
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(Head { bytes: end + 4, filled });
        }
    }
}

/// 0 where the head says nothing: a 304 has no body.
fn content_length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"content-length: ";
    let mut lines = head.split(|byte| *byte == b'\n');
    let Some(line) = lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
    else {
        let is_open = head.get(9..12) == Some(b"304");
        ensure!(is_open, "an answer without a length");
        return Ok(0);
    };
    if head.get(9..12) == Some(b"304") {
        return Ok(0);
    }
    Ok(std::str::from_utf8(line.get(NAME.len()..).unwrap_or_default())?.trim().parse()?)
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// The largest window of HTTP/2.
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The window that every connection starts with.
const WINDOW_FIRST: u32 = 65_535;
const FRAME_HEAD_BYTES: usize = 9;

fn frame(kind: u8, flags: u8, stream_id: u32, payload: &[u8], into: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    into.extend_from_slice(length.get(1..).unwrap_or_default());
    into.extend_from_slice(&[kind, flags]);
    into.extend_from_slice(&stream_id.to_be_bytes());
    into.extend_from_slice(payload);
}

/// The preface, and windows that never stop the server.
fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let mut settings = vec![0, 4];
    settings.extend_from_slice(&WINDOW_MAX.to_be_bytes());
    frame(SETTINGS, 0, 0, &settings, &mut bytes);
    frame(WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - WINDOW_FIRST).to_be_bytes(), &mut bytes);
    bytes
}

/// A string of HPACK without Huffman's code: its length in 7 bits and more, and its bytes.
fn hpack_text(text: &str, into: &mut Vec<u8>) {
    let length = text.len();
    match u8::try_from(length) {
        Ok(short) if short < 127 => into.push(short),
        _ => {
            into.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                into.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
                rest /= 128;
            }
            into.push(u8::try_from(rest).unwrap_or_default());
        }
    }
    into.extend_from_slice(text.as_bytes());
}

impl Grpc {
    /// As every client's library does it, the first request puts its headers into the table, and later ones name them.
    fn new(path: &str, key: &str, message: &[u8]) -> Self {
        // Static table (RFC 7541, appendix A): 3 is `:method: POST`, 6 is `:scheme: http`.
        let (mut first, mut later) = (vec![0x83, 0x86], vec![0x83, 0x86]);
        // An index of the static table that has the name, or the name.
        let added = [
            (4, "", path),
            (1, "", "localhost"),
            (31, "", "application/grpc"),
            (0, "te", "trailers"),
            (23, "", &*format!("Bearer {key}")),
        ];
        for (index, name, value) in added {
            first.push(0x40 | index);
            if index == 0 {
                hpack_text(name, &mut first);
            }
            hpack_text(value, &mut first);
        }
        // The dynamic table starts at 62 with what came last.
        later.extend((62..62 + 5).rev().map(|place| 0x80 | place));
        let mut prefixed = vec![0];
        prefixed.extend_from_slice(&u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
        prefixed.extend_from_slice(message);
        Self { first: Some(first), headers: later, message: prefixed, stream_id: 1, consumed: 0, request: vec![] }
    }

    async fn exchange(
        &mut self,
        stream: &mut TcpStream,
        buffer: &mut [u8],
        mut whole: Option<&mut (String, Vec<u8>)>,
    ) -> Result<()> {
        let stream_id = self.stream_id;
        self.stream_id += 2;
        let first = self.first.take();
        frame(HEADERS, END_HEADERS, stream_id, first.as_ref().unwrap_or(&self.headers), &mut self.request);
        frame(DATA, END_STREAM, stream_id, &self.message, &mut self.request);
        stream.write_all(&self.request).await?;
        self.request.clear();
        let (mut start, mut end, mut data_bytes) = (0, 0, 0);
        loop {
            let Some((head, kind, flags, of)) = frame_head(buffer.get(start..end).unwrap_or_default()) else {
                buffer.copy_within(start..end, 0);
                (start, end) = (0, end - start);
                let read = stream.read(buffer.get_mut(end..).unwrap_or_default()).await?;
                ensure!(read > 0, "the server hung up");
                end += read;
                continue;
            };
            let payload = buffer.get(start + FRAME_HEAD_BYTES..start + head).unwrap_or_default();
            start += head;
            match kind {
                DATA => {
                    data_bytes += payload.len();
                    self.consumed += u32::try_from(payload.len())?;
                    if let Some((_, kept)) = whole.as_deref_mut() {
                        kept.extend_from_slice(payload);
                    }
                }
                SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[], &mut self.request),
                PING if flags & ACK == 0 => frame(PING, ACK, 0, payload, &mut self.request),
                RESET | GO_AWAY => bail!("the server ended the stream: frame {kind}, {payload:?}"),
                _ => {}
            }
            if of == stream_id && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                break;
            }
        }
        // An error has no message: its status is all of it.
        ensure!(data_bytes > 0, "an error instead of a message");
        if self.consumed > WINDOW_MAX / 2 {
            frame(WINDOW_UPDATE, 0, 0, &self.consumed.to_be_bytes(), &mut self.request);
            self.consumed = 0;
        }
        Ok(())
    }
}

/// The length of a frame with its head, its kind, its flags and its stream, if all of it is there.
fn frame_head(bytes: &[u8]) -> Option<(usize, u8, u8, u32)> {
    let (length, rest) = bytes.split_first_chunk::<3>()?;
    let ([kind, flags], rest) = rest.split_first_chunk::<2>()?;
    let stream_id = u32::from_be_bytes(*rest.first_chunk()?);
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)) + FRAME_HEAD_BYTES;
    (bytes.len() >= length).then_some((length, *kind, *flags, stream_id))
}
