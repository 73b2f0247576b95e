//! One kept connection, written to byte by byte: what a measurement needs and a client library hides.

use checkmate::contract::method_named;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A kept connection of HTTP/1.1.
pub struct Line {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Line {
    pub fn open(url: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream, bytes: vec![] }
    }

    /// Sends a request and reads the whole answer: its status, and all of it.
    pub fn ask(&mut self, request: &[u8]) -> (u16, &[u8]) {
        self.stream.write_all(request).unwrap();
        self.bytes.clear();
        let mut piece = [0; 4_096];
        while !is_whole(&self.bytes) {
            let length = self.stream.read(&mut piece).unwrap();
            assert_ne!(length, 0, "the connection ends within an answer");
            self.bytes.extend_from_slice(&piece[..length]);
        }
        let status = std::str::from_utf8(&self.bytes["HTTP/1.1 ".len()..][..3]).unwrap();
        (status.parse().unwrap(), &self.bytes)
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let (head, body) = (String::from_utf8_lossy(&answer[..head]).to_lowercase(), &answer[head + 4..]);
    match head.split_once("content-length: ") {
        Some((_, rest)) => body.len() >= rest.split("\r\n").next().unwrap().parse().unwrap(),
        None => body.ends_with(b"0\r\n\r\n"),
    }
}

/// A JSON call with this key.
pub fn json_request(key: &str) -> Vec<u8> {
    request(key, "/api/auth/whoAmI", "application/json", b"{}")
}

/// The same over gRPC-Web, which HTTP/1.1 can carry.
pub fn grpc_request(key: &str) -> Vec<u8> {
    request(key, method_named("auth", "whoAmI").unwrap().path, "application/grpc-web+proto", &[0; 5])
}

fn request(key: &str, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: {kind}\r\ncontent-length: \
         {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}
