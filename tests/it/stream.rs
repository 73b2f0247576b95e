//! A client of streams: server-sent events, lines of JSON, gRPC and gRPC-Web, all told in the JSON of the contract.

use crate::dynamic;
use crate::server::{Answer, Caller};
use crate::wire;
use checkmate::contract::method_named;
use checkmate::error::Error;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;

/// How a stream comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Events,
    Lines,
    Grpc,
    Web,
}

pub const WAYS: [Way; 4] = [Way::Events, Way::Lines, Way::Grpc, Way::Web];

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What ended a stream or refused it: `code` in JSON, and the message.
pub type Ended = (String, String);

/// Somebody who follows.
pub struct Stream {
    parts: Parts,
    /// What has come and is not read.
    bytes: Vec<u8>,
    /// How many heartbeats there were.
    pub beats: usize,
}

enum Parts {
    Http(Way, &'static str, BoxStream<'static, reqwest::Result<bytes::Bytes>>),
    Grpc(&'static str, Box<tonic::Streaming<DynamicMessage>>),
}

fn ended(status: &Status) -> Ended {
    (Error::from_status(status).row().json.into(), status.message().into())
}

impl Stream {
    /// Begins to follow; the refusal if there is one.
    pub async fn open(way: Way, caller: &Caller, procedure: &str, input: &Value) -> Result<Self, Ended> {
        Self::open_with(way, caller, procedure, input, &[]).await
    }

    pub async fn open_with(
        way: Way,
        caller: &Caller,
        procedure: &str,
        input: &Value,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Ended> {
        let opening: BoxFuture<'_, _> = match way {
            Way::Events | Way::Lines => Box::pin(Self::open_json(way, caller, procedure, input, headers)),
            Way::Grpc => Box::pin(Self::open_grpc(caller, procedure, input, headers)),
            Way::Web => Box::pin(Self::open_web(caller, procedure, input, headers)),
        };
        let parts = timeout(PATIENCE, opening).await.expect("a stream begins")?;
        Ok(Self { parts, bytes: vec![], beats: 0 })
    }

    async fn open_json(
        way: Way,
        caller: &Caller,
        procedure: &str,
        input: &Value,
        headers: &[(&'static str, &str)],
    ) -> Result<Parts, Ended> {
        let (plugin, name) = procedure.split_once('.').unwrap();
        let kind = if way == Way::Lines { "application/x-ndjson" } else { "text/event-stream" };
        let mut request = caller.request("POST", &format!("/api/{plugin}/{name}")).header("accept", kind).json(input);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        if response.status() != 200 {
            let answer = Answer::of(response).await;
            let text = |key: &str| answer.body[key].as_str().unwrap_or_default().to_owned();
            return Err((text("code"), text("message")));
        }
        assert_eq!(response.headers()["content-type"], kind);
        assert_eq!(response.headers()["cache-control"], "no-store");
        Ok(Parts::Http(way, path(procedure), response.bytes_stream().boxed()))
    }

    async fn open_grpc(
        caller: &Caller,
        procedure: &str,
        input: &Value,
        headers: &[(&'static str, &str)],
    ) -> Result<Parts, Ended> {
        let path = path(procedure);
        let mut request = tonic::Request::new(dynamic::request(path, input));
        let key = caller.key.iter().map(|key| ("authorization", format!("Bearer {key}")));
        for (name, value) in key.chain(headers.iter().map(|(name, value)| (*name, (*value).to_owned()))) {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        let channel = tonic::transport::Endpoint::new(caller.url.clone()).unwrap().connect().await.unwrap();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let reply = client.server_streaming(request, path.parse().unwrap(), dynamic::DynamicCodec::of(path)).await;
        Ok(Parts::Grpc(path, Box::new(reply.map_err(|status| ended(&status))?.into_inner())))
    }

    async fn open_web(
        caller: &Caller,
        procedure: &str,
        input: &Value,
        headers: &[(&'static str, &str)],
    ) -> Result<Parts, Ended> {
        let path = path(procedure);
        let body = wire::frame(&dynamic::request(path, input).encode_to_vec());
        let mut request = caller.request("POST", path).header("content-type", "application/grpc-web+proto").body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let headers = response.headers().clone();
        if let Some(code) = headers.get("grpc-status") {
            let message = headers.get("grpc-message").map_or("", |message| message.to_str().unwrap());
            return Err(trailer(&format!("grpc-status:{}\r\ngrpc-message:{message}", code.to_str().unwrap())));
        }
        Ok(Parts::Http(Way::Web, path, response.bytes_stream().boxed()))
    }

    /// The next message, or what ended the stream.
    pub async fn next(&mut self) -> Result<Value, Ended> {
        timeout(PATIENCE, self.read()).await.expect("something comes")
    }

    /// So many messages.
    pub async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut found = vec![];
        for _ in 0..count {
            found.push(self.next().await.unwrap());
        }
        found
    }

    /// The state: what comes up to `synced`, which is the last.
    pub async fn state(&mut self) -> Vec<Value> {
        let mut found = vec![];
        while found.last().is_none_or(|last: &Value| last["type"] != "synced") {
            found.push(self.next().await.unwrap());
        }
        found
    }

    /// What ends it, whatever comes before.
    pub async fn end(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.next().await {
                return ended;
            }
        }
    }

    async fn read(&mut self) -> Result<Value, Ended> {
        loop {
            let (way, path, parts) = match &mut self.parts {
                Parts::Grpc(path, stream) => {
                    let message = stream.message().await.map_err(|status| ended(&status))?;
                    return Ok(dynamic::result(path, &message.expect("a stream ends with a reason")));
                }
                Parts::Http(way, path, parts) => (*way, *path, parts),
            };
            let (taken, found) = match way {
                Way::Events => event(&self.bytes),
                Way::Lines => line(&self.bytes),
                Way::Web => frame(path, &self.bytes),
                Way::Grpc => unreachable!("it has a client of its own"),
            };
            self.bytes.drain(..taken);
            match found {
                Some(found) => return found,
                None if taken > 0 => self.beats += 1,
                None => match parts.next().await {
                    Some(Ok(part)) => self.bytes.extend(part),
                    Some(Err(why)) => return Err(("cut".into(), why.to_string())),
                    None => return Err(("cut".into(), "it ended without a word".into())),
                },
            }
        }
    }
}

fn path(procedure: &str) -> &'static str {
    let (plugin, name) = procedure.split_once('.').unwrap();
    method_named(plugin, name).unwrap().path
}

type Found = (usize, Option<Result<Value, Ended>>);

fn error(body: &Value) -> Ended {
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    (text("code"), text("message"))
}

/// The first event, as a browser reads it.
fn event(bytes: &[u8]) -> Found {
    let Some(end) = bytes.windows(2).position(|two| two == b"\n\n") else { return (0, None) };
    let text = std::str::from_utf8(&bytes[..end]).unwrap();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    let Some(data) = field("data") else {
        assert_eq!(text, ": ", "an event or a comment");
        return (end + 2, None);
    };
    let data: Value = serde_json::from_str(data).unwrap();
    if field("event") == Some("error") {
        return (end + 2, Some(Err(error(&data))));
    }
    assert_eq!(field("event"), data["type"].as_str());
    assert_eq!(field("id"), data["cursor"].as_str());
    (end + 2, Some(Ok(data)))
}

fn line(bytes: &[u8]) -> Found {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return (0, None) };
    if end == 0 {
        return (1, None);
    }
    let data: Value = serde_json::from_slice(&bytes[..end]).unwrap();
    let found = if data.get("error").is_some() { Err(error(&data["error"])) } else { Ok(data) };
    (end + 1, Some(found))
}

fn frame(path: &str, bytes: &[u8]) -> Found {
    let Some((prefix, rest)) = bytes.split_first_chunk::<5>() else { return (0, None) };
    let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
    let Some(body) = rest.get(..length) else { return (0, None) };
    let found = if prefix[0] == 0x80 {
        Err(trailer(std::str::from_utf8(body).unwrap()))
    } else {
        Ok(dynamic::result(path, &dynamic::response(path, body)))
    };
    (length + 5, Some(found))
}

fn trailer(text: &str) -> Ended {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_default().trim().to_owned()
    };
    let message = field("grpc-message").replace("%20", " ").replace("%3A", ":");
    ended(&Status::new(field("grpc-status").parse::<i32>().unwrap().into(), message))
}

/// What comes up to the first event: its data stands for the answer.
pub async fn first_event(mut response: reqwest::Response) -> String {
    let mut bytes = vec![];
    loop {
        let (taken, found) = event(&bytes);
        match found {
            Some(found) => return found.unwrap().to_string(),
            None if taken > 0 => drop(bytes.drain(..taken)),
            None => {
                let part = timeout(PATIENCE, response.chunk()).await.expect("something comes");
                bytes.extend(part.unwrap().expect("a stream does not end"));
            }
        }
    }
}

/// The first message stands for the answer.
pub async fn first_message(
    reply: Result<tonic::Response<tonic::Streaming<DynamicMessage>>, Status>,
) -> Result<tonic::Response<DynamicMessage>, Status> {
    let (metadata, mut stream, extensions) = reply?.into_parts();
    let message = timeout(PATIENCE, stream.message()).await.expect("something comes")?;
    Ok(tonic::Response::from_parts(metadata, message.expect("a stream does not end"), extensions))
}
