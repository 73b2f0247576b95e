//! A server that is told to stop while it is busy: whatever reached it is answered.

use crate::dynamic;
use crate::process::{Running, send};
use crate::raw::Raw;
use crate::server::{Caller, database_url};
use crate::wire;
use serde_json::json;
use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A server in a process of its own on a fresh database.
struct Home {
    _folder: tempfile::TempDir,
    database: String,
    server: Running,
    address: String,
    key: String,
}

impl Home {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = database_url(folder.path().join("home.db")).await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_checkmate"));
        command.env_clear().env("CHECKMATE_DATABASE", &database).env("CHECKMATE_LISTEN", "127.0.0.1:0");
        command.env("CHECKMATE_INSTANCE_KEY", "ab".repeat(32)).current_dir(&folder);
        let server = Running::start(&mut command);
        let (address, key) = (server.url.strip_prefix("http://").unwrap().to_owned(), server.key());
        Self { _folder: folder, database, server, address, key }
    }

    /// A request that makes a system with this name.
    fn creation(&self, name: &str) -> Vec<u8> {
        let body = json!({"createSystem": {"name": name}}).to_string();
        format!(
            "POST /api/catalog/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.key,
            body.len()
        )
        .into_bytes()
    }

    async fn systems(&self) -> HashSet<String> {
        let mut raw = Raw::open(&self.database).await;
        let names = raw.rows("select cast(0 as bigint), name from catalog_system").await;
        let all = names.len();
        let names: HashSet<_> = names.into_iter().map(|(_, name)| name).collect();
        assert_eq!(names.len(), all, "nothing is there twice");
        names
    }
}

/// The head of an answer with its body read; empty if there was none.
async fn head_of_answer(stream: &mut TcpStream) -> String {
    let mut answer = vec![];
    loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if answer.len() >= end + 4 + length.parse::<usize>().unwrap() {
                return head;
            }
        }
        match stream.read_buf(&mut answer).await {
            Ok(0) | Err(_) => return String::new(),
            Ok(_) => {}
        }
    }
}

/// Whether it was done.
fn is_done(head: &str) -> bool {
    head.starts_with("http/1.1 200")
}

/// Whether there is no status because the connection went away. What a server says has no source here, and a stream that
/// it resets is a request that it fails.
fn is_of_the_connection(status: &tonic::Status) -> bool {
    let mut why = std::error::Error::source(status);
    let mut chain = vec![];
    while let Some(error) = why {
        chain.push(error.to_string());
        why = error.source();
    }
    !chain.is_empty() && !chain.iter().any(|text| text.starts_with("stream error"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_fails_no_request() {
    assert!(!is_of_the_connection(&tonic::Status::unavailable("stopping")), "what a server says counts");
    let mut home = Home::start().await;
    let mut callers: JoinSet<Vec<String>> = JoinSet::new();
    // Some keep their HTTP/1.1 connection: each request on it is answered, until an answer says that it is the last.
    for who in 0..16 {
        let address = home.address.clone();
        let requests: Vec<_> =
            (0..1_000).map(|turn| format!("kept {who}-{turn}")).map(|name| (home.creation(&name), name)).collect();
        callers.spawn(async move {
            let (mut stream, mut done) = (TcpStream::connect(address).await.unwrap(), vec![]);
            for (request, name) in requests {
                stream.write_all(&request).await.unwrap();
                let head = head_of_answer(&mut stream).await;
                assert!(is_done(&head), "{name} was sent on an open connection: {head:?}");
                done.push(name);
                if head.contains("connection: close") {
                    return done;
                }
                // So that many are between two requests when the server stops.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("nobody said goodbye");
        });
    }
    // Some share an HTTP/2 connection: what was done was answered.
    let (caller, channel) = (home.server.with_key(&home.key), wire::channel(&home.server.url).await);
    for who in 0..4 {
        let (caller, channel) = (caller.clone(), channel.clone());
        callers.spawn(async move {
            let mut done = vec![];
            for turn in 0.. {
                let name = format!("shared {who}-{turn}");
                let mut client = tonic::client::Grpc::new(channel.clone());
                if client.ready().await.is_err() {
                    break;
                }
                let request = wire::with_key(&caller, dynamic::request(wire::CREATE_SYSTEM, &json!({"name": name})));
                let codec = dynamic::DynamicCodec::of(wire::CREATE_SYSTEM);
                if let Err(status) = client.unary(request, wire::CREATE_SYSTEM.parse().unwrap(), codec).await {
                    assert!(is_of_the_connection(&status), "{name} was refused: {status:?}");
                    break;
                }
                done.push(name);
            }
            done
        });
    }
    tokio::time::sleep(Duration::from_millis(700)).await;

    send("-TERM", home.server.child.id());

    let mut done = HashSet::new();
    while let Some(caller) = callers.join_next().await {
        done.extend(caller.unwrap());
    }
    assert_eq!(home.server.ended().await, Some(0));
    let stored = home.systems().await;
    let lost: Vec<_> = done.difference(&stored).collect();
    let silent: Vec<_> = stored.difference(&done).collect();
    assert!(lost.is_empty() && silent.is_empty(), "lost: {lost:?}; done without an answer: {silent:?}");
    assert!(done.len() > 40, "there was a load");
}

#[tokio::test]
async fn connections_that_wait_to_be_accepted_are_served_before_the_end() {
    let mut home = Home::start().await;
    // What was accepted and has said nothing yet is waited for as well.
    let mut silent = TcpStream::connect(&home.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    send("-STOP", home.server.child.id());
    let mut waiting = vec![];
    for n in 0..20 {
        let mut stream = TcpStream::connect(&home.address).await.unwrap();
        stream.write_all(&home.creation(&format!("waiting {n}"))).await.unwrap();
        waiting.push(stream);
    }
    silent.write_all(&home.creation("silent")).await.unwrap();
    waiting.push(silent);
    send("-TERM", home.server.child.id());
    send("-CONT", home.server.child.id());
    for mut stream in waiting {
        let head = head_of_answer(&mut stream).await;
        assert!(is_done(&head) && head.contains("connection: close"), "{head:?}");
    }
    assert_eq!(home.server.ended().await, Some(0));
    assert_eq!(home.systems().await.len(), 21);
}

#[tokio::test]
async fn http2_connections_are_told_to_go_away() {
    const GOAWAY: u8 = 7;
    let mut home = Home::start().await;
    let mut stream = TcpStream::connect(&home.address).await.unwrap();
    // The preface, and settings of nothing.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let caller: Caller = home.server.with_key(&home.key);
    caller.call("catalog.getSystems", json!({})).await;
    send("-TERM", home.server.child.id());
    let mut frames = vec![];
    stream.read_to_end(&mut frames).await.unwrap();
    let (mut rest, mut kinds) = (&frames[..], vec![]);
    while let [first, second, third, kind, ..] = *rest {
        kinds.push(kind);
        let length = u32::from_be_bytes([0, first, second, third]) as usize;
        rest = &rest[9 + length..];
    }
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    assert_eq!(home.server.ended().await, Some(0));
}
