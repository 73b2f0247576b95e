//! Streams of changes: complete, in order, resumable, and over when they have to be.

use crate::cluster::{Cluster, until};
use crate::raw::Raw;
use crate::server::{Caller, Server, is_postgres};
use crate::stream::{Stream, WAYS, Way};
use serde_json::{Value, json};
use std::time::Duration;

const WATCH: &str = "incident.watchIncidents";

/// All but the last entry of the feed.
const FORGET: &str = "delete from change where sequence < (select max(sequence) from change)";

async fn system(caller: &Caller) -> Value {
    caller.call("catalog.createSystem", json!({"name": "web"})).await["id"].clone()
}

/// Opens an incident and answers its id.
async fn opened(caller: &Caller, system: &Value, title: &str) -> Value {
    let input = json!({"title": title, "severity": "major", "systemIds": [system]});
    caller.call("incident.createIncident", input).await["id"].clone()
}

async fn watch(way: Way, caller: &Caller, cursor: &Value) -> Stream {
    let input = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
    Stream::open(way, caller, WATCH, &input).await.unwrap()
}

/// The type of a message and the incident that it is about.
fn told(messages: &[Value]) -> Vec<(&str, &str)> {
    messages
        .iter()
        .map(|message| {
            let about = [&message["incidentId"], &message["systemId"]];
            let about = about.into_iter().find_map(Value::as_str).unwrap_or_default();
            (message["type"].as_str().unwrap(), about)
        })
        .collect()
}

async fn metric(server: &Server, name: &str) -> i64 {
    let text = server.admin().get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("checkmate_{name} "))).unwrap();
    line.parse().unwrap()
}

#[tokio::test]
async fn a_stream_begins_with_the_state_and_then_tells_every_change() {
    let server = Server::start().await;
    let admin = server.admin();
    let system = system(&admin).await;
    let (open, over) = (opened(&admin, &system, "open").await, opened(&admin, &system, "over").await);
    admin.call("incident.resolveIncident", json!({"id": over})).await;
    for way in WAYS {
        let doomed = admin.call("catalog.createSystem", json!({"name": "doomed"})).await["id"].clone();
        let mut stream = watch(way, &server.reader().await, &Value::Null).await;
        let state = stream.state().await;
        assert_eq!(told(&state), [("current", open.as_str().unwrap()), ("synced", "")], "{way:?}");
        assert_eq!(state[0]["incident"]["title"], "open");
        assert_eq!(state[0].get("cursor"), None, "who has a part of the state can resume from nowhere");

        let new = opened(&admin, &system, "new").await;
        admin.call("incident.addUpdate", json!({"incidentId": new, "message": "x", "statusChange": "fixing"})).await;
        admin.call("incident.resolveIncident", json!({"id": new})).await;
        admin.call("catalog.deleteSystem", doomed.clone()).await;
        admin.call("incident.deleteIncident", new.clone()).await;
        let (new, changes) = (new.as_str().unwrap(), stream.take(5).await);
        let expected = [
            ("created", new),
            ("updated", new),
            ("updated", new),
            ("system_deleted", doomed.as_str().unwrap()),
            ("deleted", new),
        ];
        assert_eq!(told(&changes), expected, "{way:?}");
        assert_eq!(changes[4].get("incident"), None);
    }
}

/// The places of the feed at which incidents changed.
async fn feed(server: &Server) -> Vec<(i64, String)> {
    let mut raw = Raw::open(&server.config.database).await;
    raw.rows("select sequence, resource from change where plugin = 'incident' order by sequence").await
}

fn place(message: &Value) -> (i64, String) {
    let sequence = message["cursor"].as_str().unwrap().split('-').next().unwrap().parse().unwrap();
    (sequence, message["incidentId"].as_str().unwrap().to_owned())
}

/// Everything behind a cursor, through streams that end after a few messages each.
async fn in_pieces(callers: &[Caller], mut cursor: Value, until: usize) -> Vec<(i64, String)> {
    let mut found = vec![];
    for piece in 0.. {
        let way = WAYS[piece % WAYS.len()];
        let mut stream = watch(way, &callers[piece % callers.len()], &cursor).await;
        for _ in 0..(piece % 7 + 1).min(until - found.len()) {
            let message = stream.next().await.unwrap();
            cursor = message["cursor"].clone();
            found.push(place(&message));
        }
        if found.len() == until {
            break;
        }
    }
    found
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_while_many_write_and_listeners_come_and_go() {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 8;
    let server = Server::start().await;
    let other = if is_postgres() { Some(server.replica().await) } else { None };
    let admin = server.admin();
    let system = system(&admin).await;
    let start = watch(Way::Lines, &admin, &Value::Null).await.state().await[0]["cursor"].clone();
    let writers: Vec<Caller> = [Some(&server), other.as_ref()].into_iter().flatten().map(Server::admin).collect();
    let writing = (0..WRITERS).map(|number| {
        let (writer, system) = (writers[number % writers.len()].clone(), system.clone());
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let id = opened(&writer, &system, &format!("{number}.{round}")).await;
                writer.call("incident.addUpdate", json!({"incidentId": id, "message": "x"})).await;
                writer.call("catalog.createSystem", json!({"name": "noise"})).await;
            }
        })
    });
    let writing: Vec<_> = writing.collect();
    let most = WRITERS * ROUNDS * 2;
    let pieces = in_pieces(&writers, start.clone(), most).await;
    for writer in writing {
        writer.await.unwrap();
    }
    assert_eq!(pieces, feed(&server).await);
    // Once more, by somebody who comes late and stays.
    let whole = watch(Way::Grpc, &writers[writers.len() - 1], &start).await.take(most).await;
    assert_eq!(whole.iter().map(place).collect::<Vec<_>>(), pieces);
}

#[tokio::test]
async fn the_state_and_what_follows_fit_whenever_a_listener_comes() {
    let server = Server::start().await;
    let admin = server.admin();
    let system = system(&admin).await;
    let writing = {
        let (admin, system) = (admin.clone(), system.clone());
        tokio::spawn(async move {
            for number in 0..40 {
                opened(&admin, &system, &number.to_string()).await;
            }
        })
    };
    for round in 0..12 {
        let mut stream = watch(WAYS[round % WAYS.len()], &admin, &Value::Null).await;
        let mut known: Vec<_> = stream.state().await;
        known.retain(|message| message["type"] == "current");
        while known.len() < 40 {
            known.push(stream.next().await.unwrap());
        }
        let mut ids: Vec<_> = known.iter().map(|message| message["incidentId"].to_string()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 40, "each once: {:?}", told(&known));
        if writing.is_finished() {
            break;
        }
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_resumed_is_refused_or_begins_anew() {
    let server = Server::start().await;
    let admin = server.admin();
    let id = opened(&admin, &system(&admin).await, "x").await;
    for way in WAYS {
        for bad in ["", "x", "1", "1-x", "01-1", "-1-1-1"] {
            let refused = Stream::open(way, &admin, WATCH, &json!({"cursor": bad})).await.err().unwrap();
            assert_eq!(refused.0, "BAD_REQUEST", "{bad:?} {way:?}");
        }
        // Never given, of another feed, and ahead.
        for unknown in ["0-0", "1-1", "999999-1767624767000000"] {
            let state = watch(way, &admin, &json!(unknown)).await.state().await;
            assert_eq!(told(&state), [("reset", ""), ("current", id.as_str().unwrap()), ("synced", "")], "{way:?}");
        }
    }
    // What the feed has forgotten.
    let cursor = watch(Way::Lines, &admin, &Value::Null).await.state().await[1]["cursor"].clone();
    admin.call("incident.updateIncident", json!({"id": id, "title": "y"})).await;
    admin.call("catalog.createSystem", json!({"name": "later"})).await;
    Raw::open(&server.config.database).await.execute(FORGET).await;
    let state = watch(Way::Events, &admin, &cursor).await.state().await;
    assert_eq!(told(&state)[0].0, "reset");
    assert_eq!(state[1]["incident"]["title"], "y");
}

#[tokio::test]
async fn the_last_event_id_goes_before_the_cursor() {
    let server = Server::start().await;
    let admin = server.admin();
    let system = system(&admin).await;
    let start = watch(Way::Lines, &admin, &Value::Null).await.state().await[0]["cursor"].clone();
    let (first, second) = (opened(&admin, &system, "a").await, opened(&admin, &system, "b").await);
    let cursor = watch(Way::Lines, &admin, &start).await.take(1).await[0]["cursor"].clone();
    let resume = [("last-event-id", cursor.as_str().unwrap())];
    for input in [json!({}), json!({"cursor": start})] {
        let mut stream = Stream::open_with(Way::Events, &admin, WATCH, &input, &resume).await.unwrap();
        assert_eq!(stream.next().await.unwrap()["incidentId"], second);
    }
    let mut stream = Stream::open_with(Way::Events, &admin, WATCH, &json!({"cursor": start}), &[("last-event-id", "")])
        .await
        .unwrap();
    assert_eq!(stream.next().await.unwrap()["incidentId"], first);
    let bad = Stream::open_with(Way::Events, &admin, WATCH, &json!({}), &[("last-event-id", "x")]).await.err().unwrap();
    assert_eq!(bad.0, "BAD_REQUEST");
    // As a browser asks.
    let got = admin.request("GET", "/api/incident/watchIncidents").send().await.unwrap();
    assert_eq!((got.status().as_u16(), &got.headers()["content-type"]), (200, &"text/event-stream".parse().unwrap()));
}

#[tokio::test]
async fn a_stream_is_no_part_of_a_batch() {
    let server = Server::start().await;
    let admin = server.admin();
    let words = "watchIncidents is a stream: call it by itself, at /api/incident/watchIncidents";
    let batch = json!({"watchIncidents": {}, "getIncidents": {}});
    for body in [json!({"watchIncidents": {}}), batch] {
        let refused = admin.post("/api/incident/", &body).await;
        assert_eq!((refused.status, &refused.body["message"]), (400, &json!(words)));
    }
    let nobody = server.allowed(&[]).await.post("/api/incident/", &json!({"watchIncidents": {}})).await;
    nobody.refused(403, "FORBIDDEN", "Missing permission: incident.incident.read");
    let call = json!([{"url": format!("{}/api/incident/watchIncidents", server.url), "method": "POST"}]);
    let answer = admin.request("POST", "/api/incident").header("x-orpc-batch", "buffered").json(&call).send().await;
    let text = answer.unwrap().text().await.unwrap();
    assert!(text.contains("\"status\":400") && text.contains(words), "{text}");
}

async fn id_of(caller: &Caller) -> Value {
    caller.call("auth.whoAmI", json!({})).await["id"].clone()
}

#[tokio::test]
async fn whoever_may_not_listen_any_more_is_told_and_hears_nothing_else() {
    let server = Server::start().await;
    let replica = if is_postgres() { Some(server.replica().await) } else { None };
    let admin = server.admin();
    let system = system(&admin).await;
    for way in WAYS {
        for here in [Some(&server), replica.as_ref()].into_iter().flatten() {
            let on_it = |caller: Caller| Caller { url: here.url.clone(), ..caller };
            let role = admin
                .call("auth.createRole", json!({"name": "watcher", "permissions": ["incident.incident.read"]}))
                .await["id"]
                .clone();
            let role = [role.as_str().unwrap()];
            let watcher = || server.application(&role);
            let (deleted, renewed, demoted, expiring) =
                (watcher().await, watcher().await, watcher().await, watcher().await);
            let soon = server.clock.in_future(Duration::from_mins(1));
            let id = id_of(&expiring).await;
            admin.call("auth.updateApplication", json!({"id": id, "expiresAt": soon})).await;
            let mut streams = vec![];
            for caller in [&deleted, &renewed, &demoted, &expiring] {
                let mut stream = watch(way, &on_it(caller.clone()), &Value::Null).await;
                stream.state().await;
                streams.push(stream);
            }
            admin.call("auth.deleteApplication", id_of(&deleted).await).await;
            admin.call("auth.regenerateApplicationSecret", id_of(&renewed).await).await;
            admin.call("auth.updateApplication", json!({"id": id_of(&demoted).await, "roles": []})).await;
            let bad = ("UNAUTHORIZED".to_owned(), "Invalid API key".to_owned());
            let less = ("FORBIDDEN".to_owned(), "Missing permission: incident.incident.read".to_owned());
            let mut streams = streams.into_iter();
            for expected in [&bad, &bad, &less] {
                let ended = streams.next().unwrap().next().await.unwrap_err();
                assert_eq!(&ended, expected, "{way:?}");
            }
            let mut last = streams.next().unwrap();
            let fine = opened(&admin, &system, "fine").await;
            assert_eq!(last.next().await.unwrap()["incidentId"], fine);
            server.clock.advance(Duration::from_mins(2));
            assert_eq!(last.end().await, bad, "{way:?}");
        }
    }
    until("nobody listens", Duration::from_secs(10), async || metric(&server, "listeners").await == 0).await;
}

#[tokio::test]
async fn a_revoked_key_hears_nothing_that_happens_after_its_revocation() {
    let server = Server::start().await;
    let admin = server.admin();
    let system = system(&admin).await;
    for way in WAYS {
        let doomed = server.reader().await;
        let id = id_of(&doomed).await;
        let mut stream = watch(way, &doomed, &Value::Null).await;
        stream.state().await;
        admin.call("auth.deleteApplication", id).await;
        opened(&admin, &system, "secret").await;
        assert_eq!(stream.next().await.unwrap_err().0, "UNAUTHORIZED", "{way:?}");
    }
}

#[tokio::test]
async fn a_stream_has_no_deadline_but_its_callers() {
    let server = Server::start_with(|config| config.limits.request_s = 1).await;
    let admin = server.admin();
    let mut free = vec![];
    for way in WAYS {
        let mut stream = watch(way, &admin, &Value::Null).await;
        stream.state().await;
        free.push(stream);
        for (name, value) in [("x-timeout-ms", "300"), ("grpc-timeout", "300m")] {
            let opened = Stream::open_with(way, &admin, WATCH, &json!({}), &[(name, value)]).await;
            assert_eq!(opened.unwrap().end().await.0, "GATEWAY_TIMEOUT", "{way:?}");
        }
    }
    // By now each has lasted for longer than a request may.
    let id = opened(&admin, &system(&admin).await, "x").await;
    for stream in &mut free {
        assert_eq!(stream.next().await.unwrap()["incidentId"], id);
    }
}

#[tokio::test]
async fn silence_is_broken_by_a_heartbeat() {
    let server = Server::start_with(|config| config.limits.heartbeat_s = 1).await;
    let admin = server.admin();
    let system = system(&admin).await;
    for way in [Way::Events, Way::Lines] {
        let mut stream = watch(way, &admin, &Value::Null).await;
        stream.state().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        opened(&admin, &system, "x").await;
        let message = stream.next().await.unwrap();
        assert!(stream.beats >= 1 && message["type"] == "created", "{way:?}");
        admin.call("incident.deleteIncident", message["incidentId"].clone()).await;
    }
}

#[tokio::test]
async fn there_are_only_so_many_listeners_and_a_place_is_free_when_one_goes() {
    let server = Server::start_with(|config| {
        (config.limits.listeners, config.limits.listeners_each) = (5, 3);
        config.limits.requests = 2;
    })
    .await;
    let (first, second) = (server.reader().await, server.reader().await);
    for way in WAYS {
        let mut held = vec![];
        for caller in [&first, &first, &first, &second, &second] {
            held.push(watch(way, caller, &Value::Null).await);
        }
        assert_eq!(metric(&server, "listeners").await, 5, "they take no place of requests");
        let refused = Stream::open(way, &first, WATCH, &json!({})).await.err().unwrap();
        assert_eq!(refused.1, "Too many requests", "{way:?}");
        let refused = Stream::open(way, &second, WATCH, &json!({})).await.err().unwrap();
        assert_eq!(refused, ("SERVICE_UNAVAILABLE".to_owned(), "Too many are listening".to_owned()), "{way:?}");
        drop(held);
        until("all have gone", Duration::from_secs(10), async || metric(&server, "listeners").await == 0).await;
    }
}

#[tokio::test]
async fn the_end_of_the_server_ends_every_stream_in_words() {
    let mut server = Server::start().await;
    let reader = server.reader().await;
    let mut streams = vec![];
    for way in WAYS {
        let mut stream = watch(way, &reader, &Value::Null).await;
        stream.state().await;
        streams.push((way, stream));
    }
    let ends = streams.into_iter().map(|(way, mut stream)| tokio::spawn(async move { (way, stream.end().await) }));
    let ends: Vec<_> = ends.collect();
    let stopping = std::time::Instant::now();
    let found = tokio::task::spawn_blocking(move || server.end()).await.unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(4), "nobody waits for who only listens");
    assert!(found.is_none(), "{found:?}");
    for end in ends {
        let (way, end) = end.await.unwrap();
        assert_eq!(end.0, "SERVICE_UNAVAILABLE", "{way:?}: {}", end.1);
    }
}

#[tokio::test]
async fn without_the_database_a_stream_ends_with_the_lease() {
    let Some(cluster) = Cluster::start() else { return };
    let server = Server::start_with(|config| config.database = cluster.url().into()).await;
    let reader = server.reader().await;
    let mut streams = vec![];
    for way in WAYS {
        let mut stream = watch(way, &reader, &Value::Null).await;
        stream.state().await;
        streams.push(stream);
    }
    cluster.pause();
    for stream in &mut streams {
        assert_eq!(stream.end().await.0, "SERVICE_UNAVAILABLE");
    }
    cluster.resume();
}
