//! A tunnel through a proxy (RFC 9110, section 9.3.6).

use crate::probe::Trouble;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a proxy says before the tunnel is open.
const HEAD_MAX: usize = 8_192;

/// Has the proxy connect to the target. What is sent afterwards reaches it.
pub(super) async fn tunnel(stream: &mut TcpStream, authority: &str) -> Result<(), Trouble> {
    let broken = |why: std::io::Error| Trouble::Ours(format!("The proxy broke off: {why}"));
    let ask = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.map_err(broken)?;
    let mut head = Vec::with_capacity(256);
    // One byte too many would be the target's: the client speaks first in TLS, so nothing should come, but it could.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_MAX {
            return Err(Trouble::Ours("The proxy says more than is accepted".into()));
        }
        let byte = stream.read_u8().await.map_err(broken)?;
        head.push(byte);
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(()),
        Some(status @ (502..=504)) => {
            Err(Trouble::Target(format!("The proxy does not reach {authority}: it answers {status}")))
        }
        Some(status) => Err(Trouble::Ours(format!("The proxy does not connect to {authority}: it answers {status}"))),
        None => Err(Trouble::Ours("The proxy does not speak HTTP".into())),
    }
}
