//! gRPC by hand: what a client does that has no library of ours.

use crate::dynamic;
use crate::server::{Caller, Server};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use prost::bytes::{Buf, BufMut};
use serde_json::Value;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

pub const GET_SYSTEMS: &str = "/checkmate.catalog.v1.CatalogService/GetSystems";
pub const CREATE_SYSTEM: &str = "/checkmate.catalog.v1.CatalogService/CreateSystem";

pub const SERVING: i32 = ServingStatus::Serving as i32;
pub const NOT_SERVING: i32 = ServingStatus::NotServing as i32;

/// A client that speaks HTTP/2 from the first byte.
pub fn h2c() -> reqwest::Client {
    reqwest::Client::builder().http2_prior_knowledge().build().unwrap()
}

pub async fn channel(url: &str) -> Channel {
    Endpoint::new(url.to_owned()).unwrap().connect().await.unwrap()
}

pub async fn health(server: &Server) -> HealthClient<Channel> {
    HealthClient::new(channel(&server.url).await)
}

pub fn health_request(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

/// Adds a caller's key.
pub fn with_key<T>(caller: &Caller, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(key) = &caller.key {
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    request
}

/// A gRPC message on the wire.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// The status of an answer that has it in its head: every refusal.
pub fn grpc_status(response: &reqwest::Response) -> Option<i32> {
    response.headers().get("grpc-status").map(|code| code.to_str().unwrap().parse().unwrap())
}

/// Any bytes to any path.
pub async fn raw_unary(caller: &Caller, path: &str, message: Vec<u8>) -> Result<Response<Vec<u8>>, Status> {
    let mut client = tonic::client::Grpc::new(channel(&caller.url).await);
    client.ready().await.unwrap();
    client.unary(with_key(caller, message), path.parse().unwrap(), Bytes).await
}

/// The codec that leaves bytes as they are.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// The two forms of gRPC-Web.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Binary,
    Text,
}

impl Encoding {
    pub fn kind(self) -> &'static str {
        match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text+proto",
        }
    }
}

/// An answer of gRPC-Web, taken apart.
#[derive(Debug)]
pub struct WebAnswer {
    pub http: u16,
    pub kind: String,
    pub request_id: String,
    head: reqwest::header::HeaderMap,
    pub message: Option<Vec<u8>>,
    /// What stands in the frame of trailers.
    pub trailers: Option<String>,
}

impl WebAnswer {
    /// Where browsers look: in the trailers, or in the head if that is all there is.
    fn field(&self, name: &str) -> Option<String> {
        let head = || self.head.get(name).map(|value| value.to_str().unwrap().to_owned());
        let Some(trailers) = &self.trailers else { return head() };
        let field = trailers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        field.map(|value| value.trim().to_owned())
    }

    pub fn status(&self) -> i32 {
        self.field("grpc-status").unwrap_or_else(|| panic!("no status: {self:?}")).parse().unwrap()
    }

    pub fn message(&self) -> String {
        self.field("grpc-message").unwrap_or_default().replace("%20", " ")
    }

    pub fn result(&self, path: &str) -> Value {
        dynamic::result(path, &dynamic::response(path, self.message.as_ref().unwrap()))
    }
}

/// One call through gRPC-Web over HTTP/1.1.
pub async fn web(caller: &Caller, path: &str, input: &Value, encoding: Encoding) -> WebAnswer {
    let message = if input.is_null() { vec![] } else { dynamic::request(path, input).encode_to_vec() };
    let body = match encoding {
        Encoding::Binary => frame(&message),
        Encoding::Text => STANDARD.encode(frame(&message)).into_bytes(),
    };
    let request =
        caller.request("POST", path).header("content-type", encoding.kind()).header("accept", encoding.kind());
    let response = request.body(body).send().await.unwrap();
    let (http, head) = (response.status().as_u16(), response.headers().clone());
    let header = |name: &str| head.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let bytes = response.bytes().await.unwrap().to_vec();
    let bytes = if encoding == Encoding::Text { base64_pieces(&bytes) } else { bytes };
    let (mut message, mut trailers, mut rest) = (None, None, &bytes[..]);
    while !rest.is_empty() {
        let flag = rest.get_u8();
        let length = rest.get_u32() as usize;
        let content = rest.copy_to_bytes(length).to_vec();
        match flag {
            0 => message = Some(content),
            _ => trailers = Some(String::from_utf8(content).unwrap()),
        }
    }
    WebAnswer { http, kind: header("content-type"), request_id: header("x-request-id"), head, message, trailers }
}

/// Pieces of base64 one after another, each with its own padding.
fn base64_pieces(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|four| STANDARD.decode(four).unwrap()).collect()
}
