//! A question and its answer over UDP, TCP or TLS.

use super::server::Asked;
use super::{Dns, Protocol};
use crate::probe::net::blamed;
use crate::probe::{Net, Trouble};
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// A lost packet is no news.
const ATTEMPTS: usize = 2;

/// Messages that are no answers, of which so many are passed over: whoever sends more is not answering.
const STRAYS_MAX: usize = 50;

/// The answer, and whether it did not fit into a packet.
pub(super) async fn exchange(
    dns: &Dns,
    net: &Net,
    server: &Asked,
    query: &Message,
) -> Result<(Message, bool), Trouble> {
    let waiting = format!("waiting for the name server {}", server.address);
    if server.is_of_the_system {
        net.phase_of_ours(waiting);
    } else {
        net.phase(waiting);
    }
    let bytes = query.to_vec().map_err(|why| Trouble::Ours(format!("The question cannot be written: {why}")))?;
    let each = Duration::from_millis(dns.attempt_timeout_ms);
    let silent = || server.fails("does not answer");
    if dns.protocol != Protocol::Udp {
        let answer = timeout(each, over_stream(dns, net, server, query, &bytes)).await;
        return Ok((answer.map_err(|_| silent())??, false));
    }
    for _ in 0..ATTEMPTS {
        let Ok(answer) = timeout(each, over_udp(server, query, &bytes)).await else { continue };
        let answer = answer?;
        if !answer.metadata.truncation {
            return Ok((answer, false));
        }
        let answer = timeout(each, over_stream(dns, net, server, query, &bytes)).await;
        return Ok((answer.map_err(|_| server.fails("does not answer over TCP, and over UDP not wholly"))??, true));
    }
    Err(silent())
}

async fn over_udp(server: &Asked, query: &Message, bytes: &[u8]) -> Result<Message, Trouble> {
    let any: IpAddr =
        if server.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let broken = |why: &io::Error| server.blamed(why);
    // A port of its own for each question, and nobody else heard on it.
    let socket = UdpSocket::bind((any, 0)).await.map_err(|why| broken(&why))?;
    socket.connect(server.address).await.map_err(|why| broken(&why))?;
    socket.send(bytes).await.map_err(|why| broken(&why))?;
    let mut packet = vec![0; usize::from(u16::MAX)];
    for _ in 0..STRAYS_MAX {
        let length = socket.recv(&mut packet).await.map_err(|why| broken(&why))?;
        // What is no answer may be somebody else's, who guesses: the answer may still come.
        if let Some(answer) = packet.get(..length).and_then(|packet| answer(packet, query)) {
            return Ok(answer);
        }
    }
    Err(server.fails("sends what is no answer to the question"))
}

async fn over_stream(dns: &Dns, net: &Net, server: &Asked, query: &Message, bytes: &[u8]) -> Result<Message, Trouble> {
    // It is the address that was judged.
    let stream = TcpStream::connect(server.address).await.map_err(|why| server.blamed(&why))?;
    match dns.protocol {
        Protocol::Udp | Protocol::Tcp => framed(stream, server, query, bytes).await,
        Protocol::Tls => {
            let stream = net.tls(stream, &server.name, &dns.tls, &[b"dot"]).await?;
            framed(stream, server, query, bytes).await
        }
    }
}

async fn framed<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    server: &Asked,
    query: &Message,
    bytes: &[u8],
) -> Result<Message, Trouble> {
    let broken = |why: io::Error| {
        if why.kind() == io::ErrorKind::UnexpectedEof {
            server.fails("closed the connection before it had answered")
        } else {
            server.blamed(&why)
        }
    };
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let message = [&length.to_be_bytes(), bytes].concat();
    stream.write_all(&message).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    for _ in 0..STRAYS_MAX {
        let length = stream.read_u16().await.map_err(broken)?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await.map_err(broken)?;
        if let Some(answer) = answer(&message, query) {
            return Ok(answer);
        }
    }
    Err(server.fails("sends what is no answer to the question"))
}

/// A message as an answer to a question: of its number, and about the same.
fn answer(message: &[u8], query: &Message) -> Option<Message> {
    let answer = Message::from_vec(message).ok()?;
    let is_answer = answer.metadata.message_type == MessageType::Response && answer.metadata.id == query.metadata.id;
    let same = |one: &Message| match (one.queries.as_slice(), query.queries.as_slice()) {
        ([one], [asked]) => {
            one.name().eq_ignore_root(asked.name())
                && one.query_type() == asked.query_type()
                && one.query_class() == asked.query_class()
        }
        // Who could not read the question need not repeat it.
        ([], _) => one.metadata.response_code != ResponseCode::NoError,
        _ => false,
    };
    (is_answer && same(&answer)).then_some(answer)
}

impl Asked {
    fn fails(&self, what: &str) -> Trouble {
        let text = format!("The name server {} {what}", self.address);
        if self.is_of_the_system { Trouble::Ours(text) } else { Trouble::Target(text) }
    }

    fn blamed(&self, why: &io::Error) -> Trouble {
        match blamed(self.address, why) {
            Trouble::Target(text) if self.is_of_the_system => Trouble::Ours(format!("The name server {text}")),
            Trouble::Target(text) => Trouble::Target(format!("The name server {text}")),
            ours @ (Trouble::Ours(_) | Trouble::Degraded(_)) => ours,
        }
    }
}
