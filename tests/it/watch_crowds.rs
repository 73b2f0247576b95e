//! Streams of changes under load: many listeners, late ones, and some who do not read.

use crate::cluster::until;
use crate::raw::Raw;
use crate::server::{Caller, Server};
use crate::stream::{Stream, WAYS, Way};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

const WATCH: &str = "incident.watchIncidents";

async fn opened(caller: &Caller) -> Value {
    let system = caller.call("catalog.createSystem", json!({"name": "web"})).await["id"].clone();
    let input = json!({"title": "x", "severity": "minor", "systemIds": [system]});
    caller.call("incident.createIncident", input).await["id"].clone()
}

async fn listeners(server: &Server) -> i64 {
    let text = server.admin().get("/metrics").await.text;
    text.lines().find_map(|line| line.strip_prefix("checkmate_listeners ")).unwrap().parse().unwrap()
}

fn sequence(message: &Value) -> i64 {
    message["cursor"].as_str().unwrap().split('-').next().unwrap().parse().unwrap()
}

/// Adds so many entries about an incident to the feed, behind the server's back.
async fn flood(server: &Server, incident: &Value, count: usize) {
    #[expect(clippy::disallowed_methods, reason = "a number and an id of ours")]
    let statement = sqlx::AssertSqlSafe(format!(
        "insert into change (sequence, plugin, kind, resource, made_by, made_at)
         with recursive n(i) as (select 1 union all select i + 1 from n where i < {count})
         select (select max(sequence) from change) + i, 'incident', 'incident.updated', '{}', 'a test', 1 from n",
        incident.as_str().unwrap()
    ));
    Raw::open(&server.config.database).await.execute(statement).await;
}

#[tokio::test]
async fn who_lags_behind_what_is_kept_in_memory_reads_the_feed() {
    const COUNT: usize = 2_500;
    let server = Server::start().await;
    let admin = server.admin();
    let incident = opened(&admin).await;
    let start = Stream::open(Way::Lines, &admin, WATCH, &json!({})).await.unwrap().state().await;
    let (cursor, first) = (start[1]["cursor"].clone(), sequence(&start[1]) + 1);
    let mut slow = Stream::open(Way::Events, &admin, WATCH, &json!({})).await.unwrap();
    slow.state().await;
    let mut quick = Stream::open(Way::Grpc, &admin, WATCH, &json!({})).await.unwrap();
    quick.state().await;
    flood(&server, &incident, COUNT).await;
    let whole: Vec<_> = (first..).take(COUNT).collect();
    let told = |messages: Vec<Value>| messages.iter().map(sequence).collect::<Vec<_>>();
    assert_eq!(told(quick.take(COUNT).await), whole);
    assert_eq!(told(slow.take(COUNT).await), whole);
    let late = WAYS.map(async |way| {
        let mut stream = Stream::open(way, &admin, WATCH, &json!({"cursor": cursor})).await.unwrap();
        told(stream.take(COUNT).await)
    });
    for heard in join_all(late).await {
        assert_eq!(heard, whole);
    }
}

#[tokio::test]
async fn a_storm_of_listeners_hears_everything_and_leaves_nothing_behind() {
    const LISTENERS: usize = 160;
    const CHANGES: usize = 10;
    let server = Server::start_with(|config| config.limits.listeners_each = LISTENERS).await;
    let admin = server.admin();
    let incident = opened(&admin).await;
    let coming = (0..LISTENERS).map(|number| {
        let admin = admin.clone();
        tokio::spawn(async move {
            let mut stream = Stream::open(WAYS[number % WAYS.len()], &admin, WATCH, &json!({})).await.unwrap();
            assert_eq!(stream.state().await.len(), 2);
            stream
        })
    });
    let mut streams = vec![];
    for stream in join_all(coming).await {
        streams.push(stream.unwrap());
    }
    assert_eq!(listeners(&server).await, i64::try_from(LISTENERS).unwrap());
    for number in 0..CHANGES {
        let change = json!({"id": incident, "title": format!("x {number}")});
        admin.call("incident.updateIncident", change).await;
    }
    let heard: Vec<Vec<_>> =
        join_all(streams.iter_mut().map(async |stream| stream.take(CHANGES).await.iter().map(sequence).collect()))
            .await;
    assert!(heard.iter().all(|one| one == &heard[0]) && heard[0].is_sorted());
    drop(streams);
    until("all have gone", Duration::from_secs(20), async || listeners(&server).await == 0).await;
}

/// A request whose answer nobody reads; the system keeps little of it.
async fn deaf(server: &Server, caller: &Caller) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(server.url.trim_start_matches("http://").parse().unwrap()).await.unwrap();
    let key = caller.key.as_ref().unwrap();
    let head = format!("GET /api/incident/watchIncidents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn who_does_not_read_is_cut_and_the_others_hear_on() {
    // Of 16 KiB each: more than the system and a client's windows take for somebody who does not read.
    const CHANGES: usize = 500;
    let server = Server::start_with(|config| config.limits.unread_s = 1).await;
    let admin = server.admin();
    let incident = opened(&admin).await;
    let _deaf = deaf(&server, &admin).await;
    let _deaf_too = Stream::open(Way::Grpc, &admin, WATCH, &json!({})).await.unwrap();
    let mut hearing = Stream::open(Way::Events, &admin, WATCH, &json!({})).await.unwrap();
    hearing.state().await;
    until("all listen", Duration::from_secs(10), async || listeners(&server).await == 3).await;
    let text = "\u{1F525}".repeat(4_000);
    admin.call("incident.updateIncident", json!({"id": incident, "description": text})).await;
    flood(&server, &incident, CHANGES).await;
    assert_eq!(hearing.take(CHANGES + 1).await[CHANGES]["incident"]["description"], text);
    until("the deaf are cut", Duration::from_secs(20), async || listeners(&server).await == 1).await;
    admin.call("incident.deleteIncident", incident).await;
    assert_eq!(hearing.next().await.unwrap()["type"], "deleted");
}
