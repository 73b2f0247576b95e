//! Requests by hand, byte for byte, as no honest client writes them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Stands for the key of the caller in heads that are written out.
pub const KEY: &str = "<key>";

/// A request over HTTP/1.1.
#[derive(Clone, Debug)]
pub struct Http {
    line: String,
    head: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Http {
    /// JSON, with a good key, a host, and the length of the body.
    pub fn post(path: &str, body: impl AsRef<[u8]>) -> Self {
        Self::new("POST", path)
            .with("authorization", format!("Bearer {KEY}"))
            .with("content-type", "application/json")
            .with("content-length", body.as_ref().len().to_string())
            .body(body)
    }

    /// A host and nothing else.
    pub fn new(method: &str, path: &str) -> Self {
        Self::line(&format!("{method} {path} HTTP/1.1")).with("host", "checkmate.example").with("connection", "close")
    }

    /// A first line and nothing else.
    pub fn line(line: &str) -> Self {
        Self { line: line.to_owned(), head: vec![], body: vec![] }
    }

    /// One more line of the head.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.head.retain(|(known, _)| known != name);
        self
    }

    /// The same line of the head with another value.
    pub fn set(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).with(name, value)
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    fn bytes(&self, key: &str) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.line.replace(KEY, key)).into_bytes();
        for (name, value) in &self.head {
            bytes.extend(name.replace(KEY, key).into_bytes());
            bytes.extend(b": ");
            match std::str::from_utf8(value) {
                Ok(text) => bytes.extend(text.replace(KEY, key).into_bytes()),
                Err(_) => bytes.extend(value),
            }
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }

    /// What comes back until the connection ends.
    pub async fn send(&self, address: &str, key: &str) -> Answer {
        let bytes = exchange(address, &self.bytes(key)).await;
        Answer::of(&bytes)
    }
}

/// Writes, and reads to the end. A server may have answered and gone before it has read everything.
pub async fn exchange(address: &str, request: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
    let mut answer = vec![];
    let write = async {
        let _ = to.write_all(request).await;
        to
    };
    let (_open, _) = tokio::join!(write, from.read_to_end(&mut answer));
    answer
}

/// What came back over HTTP/1.1.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default()
    }
}

/// A request over HTTP/2, as gRPC sends it.
#[derive(Clone, Debug)]
pub struct Grpc {
    method: &'static str,
    path: String,
    head: Vec<(String, Vec<u8>)>,
    /// Each is a DATA frame.
    frames: Vec<Vec<u8>>,
}

impl Grpc {
    /// One message, with a good key.
    pub fn call(path: &str, message: impl AsRef<[u8]>) -> Self {
        Self::raw(path, frame(0, message.as_ref()))
    }

    /// Any bytes, with a good key.
    pub fn raw(path: &str, body: Vec<u8>) -> Self {
        let head = [("content-type", "application/grpc"), ("te", "trailers"), ("authorization", "Bearer <key>")];
        let head = head.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        Self { method: "POST", path: path.to_owned(), head, frames: vec![body] }
    }

    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.retain(|(known, _)| known != name);
        self.with(name, value)
    }

    pub fn without(mut self, name: &str) -> Self {
        self.head.retain(|(known, _)| known != name);
        self
    }

    pub fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// Every byte in a DATA frame of its own.
    pub fn in_single_bytes(mut self) -> Self {
        self.frames = self.frames.concat().into_iter().map(|byte| vec![byte]).collect();
        self
    }

    pub async fn send(&self, address: &str, key: &str) -> GrpcAnswer {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = Request::new(self.body());
        *request.method_mut() = self.method.parse().unwrap();
        *request.uri_mut() = format!("http://{address}{}", self.path).parse::<Uri>().unwrap();
        for (name, value) in &self.head {
            let value = String::from_utf8(value.clone()).map_or(value.clone(), |text| text.replace(KEY, key).into());
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_bytes(&value).unwrap());
        }
        let answer = sender.send_request(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let collected = body.collect().await.expect("the whole answer");
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let body = String::from_utf8_lossy(&collected.to_bytes()).into_owned();
        connection.abort();
        let text = |name: &str| {
            let value = trailers.get(name).or_else(|| head.headers.get(name));
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let status = text("grpc-status").map(|status| status.parse().unwrap());
        let (kind, message) = (text("content-type").unwrap_or_default(), text("grpc-message").unwrap_or_default());
        GrpcAnswer { http: head.status.as_u16(), kind, status, message: decoded(&message), body }
    }

    fn body(&self) -> impl hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send + Unpin + 'static {
        let frames = self.frames.clone().into_iter();
        let frames = frames.map(|bytes| Ok(hyper::body::Frame::data(Bytes::from(bytes))));
        StreamBody::new(futures_util::stream::iter(frames))
    }
}

/// What came back over HTTP/2.
#[derive(Debug)]
pub struct GrpcAnswer {
    pub http: u16,
    pub kind: String,
    pub status: Option<i32>,
    pub message: String,
    pub body: String,
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

/// A message behind its prefix.
pub fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flag], &length.to_be_bytes()[..], message].concat()
}
