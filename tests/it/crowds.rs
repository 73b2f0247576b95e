//! More of everything than there may be: connections, streams, requests, open files.

use crate::child::{Process, metric};
use crate::frames::{self, DATA, END_STREAM, HEADERS, MAX_CONCURRENT_STREAMS, REFUSED_STREAM, RST_STREAM, SETTINGS};
use crate::server::Server;
use crate::wire::{self, GET_SYSTEMS, health_request};
use checkmate::transport::Limits;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A test fails rather than waits longer.
const PATIENCE: Duration = Duration::from_secs(20);

fn address(server: &Server) -> SocketAddr {
    server.url.trim_start_matches("http://").parse().unwrap()
}

/// Everything until the end of the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = vec![];
    // An end without manners is an end.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the connection ends");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_house_full_of_strangers_has_room_for_a_client() {
    let server = Server::start_with(|config| config.limits.connections = 8).await;
    let mut strangers = vec![];
    for _ in 0..20 {
        strangers.push(TcpStream::connect(address(&server)).await.unwrap());
    }
    let admin = server.admin();
    assert_eq!(admin.call("catalog.getSystems", json!({})).await, json!([]));
    assert_eq!(admin.grpc("catalog.getSystems", &json!({})).await.unwrap(), json!([]));
    assert!(metric(&admin, "connections_cut_total").await >= 12);
    assert_eq!(metric(&admin, "connections_refused_total").await, 0);
    assert_eq!(rest(&mut strangers[0]).await, "", "who came first and said nothing made room");
}

#[tokio::test]
async fn who_only_listens_makes_room_when_nobody_else_does() {
    let server = Server::start_with(|config| config.limits.connections = 2).await;
    let mut held = vec![];
    for _ in 0..2 {
        let mut client = wire::health(&server).await;
        let mut watch = client.watch(health_request("")).await.unwrap().into_inner();
        assert!(watch.message().await.unwrap().is_some());
        held.push((client, watch));
    }
    // Strangers may listen for as long as they like, but not keep everybody else out.
    let mut third = wire::health(&server).await;
    third.check(health_request("")).await.expect("there is room");
    let (_, second) = &mut held[1];
    assert!(timeout(Duration::from_millis(300), second.message()).await.is_err(), "one made room, not both");
}

#[tokio::test]
async fn streams_are_as_many_as_announced() {
    let server = Server::start_with(|config| config.limits.streams = 4).await;
    let key = server.admin().key.unwrap();
    let mut stream = frames::open(address(&server), &[]).await;
    let ids = [1, 3, 5, 7, 9];
    let heads: Vec<u8> = ids.iter().flat_map(|id| frames::call(*id, GET_SYSTEMS, &key)).collect();
    stream.write_all(&heads).await.unwrap();
    let refused = loop {
        let frame = timeout(PATIENCE, frames::next(&mut stream)).await.unwrap().unwrap();
        match frame.kind {
            SETTINGS if frame.flags == 0 => {
                let limit = frame.payload.chunks(6).find(|pair| pair[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
                assert_eq!(limit.unwrap()[2..], 4_u32.to_be_bytes());
            }
            RST_STREAM => break frame,
            _ => {}
        }
    };
    assert_eq!((refused.stream, refused.number(0)), (9, REFUSED_STREAM));
    let bodies = ids[..4].iter().flat_map(|id| frames::frame(DATA, END_STREAM, *id, &wire::frame(&[])));
    stream.write_all(&bodies.collect::<Vec<u8>>()).await.unwrap();
    let mut answered = 0;
    while answered < 4 {
        let frame = timeout(PATIENCE, frames::next(&mut stream)).await.unwrap().unwrap();
        assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
        answered += usize::from(frame.kind == HEADERS && frame.flags & END_STREAM != 0);
    }
}

#[tokio::test]
async fn more_requests_than_can_be_answered_are_told_to_come_back() {
    let server = Server::start_with(|config| config.limits.requests = 1).await;
    let admin = server.admin();
    let mut slow = TcpStream::connect(address(&server)).await.unwrap();
    let key = admin.key.as_ref().unwrap();
    let head = format!(
        "POST /api/catalog/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: 17\r\nexpect: 100-continue\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.read_exact(&mut [0; 25]).await.unwrap();

    let refused = admin.json("catalog.getSystems", json!({})).await;
    refused.refused(503, "SERVICE_UNAVAILABLE", "Too many requests are being answered");
    assert_eq!(refused.header("retry-after"), "1");
    let status = admin.grpc("catalog.getSystems", &json!({})).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);

    slow.write_all(b"{\"getSystems\":{}}").await.unwrap();
    let mut answer = [0; 15];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_eq!(admin.json("catalog.getSystems", json!({})).await.status, 200);
}

/// A storm takes all files that the process may open, but for those of the database.
#[tokio::test]
async fn a_storm_on_few_files_leaves_the_server_working() {
    let server = Process::start(96, Limits { database_connections: 4, ..Limits::default() }).await;
    let admin = server.admin();
    let mut storm = vec![];
    for round in 0..20 {
        for _ in 0..if round == 0 { 100 } else { 10 } {
            storm.push(TcpStream::connect(server.address()).await.unwrap());
        }
        // At once, so that the pool has to open its files in the storm.
        let reads = (0..8).map(|_| admin.call("catalog.getSystems", json!({})));
        futures_util::future::join_all(reads).await;
        admin.call("catalog.createSystem", json!({"name": format!("system {round}")})).await;
    }
    assert_eq!(admin.grpc("catalog.getSystems", &json!({})).await.unwrap().as_array().unwrap().len(), 20);
    drop(storm);
    assert_eq!(admin.json("catalog.getSystems", json!({})).await.status, 200);
}

/// A front that reads such requests otherwise than this server does could be made to mix up its callers.
#[tokio::test]
async fn requests_that_two_servers_may_read_differently_end_their_connection() {
    let server = Server::start().await;
    let smuggled = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let no_host = format!("GET /healthz HTTP/1.1\r\n\r\n{smuggled}");
    let two_hosts = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n{smuggled}");
    for hostless in [no_host, two_hosts] {
        let mut stream = TcpStream::connect(address(&server)).await.unwrap();
        stream.write_all(hostless.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.ends_with(r#"{"code":"BAD_REQUEST","message":"A request names exactly one host"}"#), "{answer}");
        assert_eq!(answer.matches("x-request-id").count(), 1, "{answer}");
    }
    for lengths in
        ["content-length: 99\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 0"]
    {
        let both = format!("POST /api/catalog/ HTTP/1.1\r\nhost: x\r\n{lengths}\r\n\r\n0\r\n\r\n{smuggled}");
        let mut stream = TcpStream::connect(address(&server)).await.unwrap();
        stream.write_all(both.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert_eq!(answer.matches("x-request-id").count(), 1, "what follows is not a request: {answer}");
    }
}
