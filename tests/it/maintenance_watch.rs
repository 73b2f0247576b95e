//! Maintenance windows as a stream, under conditions, and with a replica that is killed while one is open.

use crate::maintenance::{HOUR, line, system, text, window};
use crate::process::Home;
use crate::server::{Caller, Server, is_postgres};
use crate::stream::{Stream, WAYS};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_stream_tells_what_callers_and_the_clock_do() {
    for way in WAYS {
        let server = Server::start().await;
        let (admin, reader) = (server.admin(), server.reader().await);
        let web = system(&admin, "web").await;
        let planned = admin.call("maintenance.scheduleWindow", window(&server, "disks", 1, &[&web])).await;
        let input = json!({});
        let mut stream = Stream::open(way, &reader, "maintenance.watchMaintenances", &input).await.unwrap();
        let state = stream.state().await;
        assert_eq!((state.len(), &state[0]["maintenance"], &state[1]["type"]), (2, &planned, &json!("synced")));

        server.clock.advance(HOUR);
        let begun = stream.next().await.unwrap();
        server.clock.advance(HOUR);
        let over = stream.next().await.unwrap();
        let told = |message: &Value| {
            let part = |key: &str| message[key].clone();
            json!([part("type"), part("maintenanceId"), message["maintenance"]["status"]])
        };
        assert_eq!(told(&begun), json!(["updated", planned["id"], "in_progress"]), "{way:?}");
        assert_eq!(told(&over), json!(["updated", planned["id"], "completed"]), "{way:?}");

        let again = json!({"cursor": begun["cursor"]});
        let mut stream = Stream::open(way, &reader, "maintenance.watchMaintenances", &again).await.unwrap();
        assert_eq!(stream.next().await.unwrap()["cursor"], over["cursor"], "{way:?}");
    }
}

#[tokio::test]
async fn a_window_is_changed_under_a_condition() {
    let server = Server::start().await;
    let admin = server.admin();
    let web = system(&admin, "web").await;
    let made = admin.call("maintenance.scheduleWindow", window(&server, "disks", 1, &[&web])).await;
    let (input, seen) = (json!({"id": made["id"], "title": "more disks"}), format!("\"{}\"", text(&made["updatedAt"])));
    let path = "/api/maintenance/updateMaintenance";
    assert_eq!(admin.post_if(path, &input, &seen).await.status, 200);
    let late = admin.post_if(path, &input, &seen).await;
    assert_eq!((late.status, &late.body["code"]), (409, &json!("CONFLICT")), "{}", late.text);
}

async fn until_status(caller: &Caller, id: &Value, status: &str) -> Value {
    let began = Instant::now();
    loop {
        let found = caller.call("maintenance.getMaintenance", json!({"id": id})).await;
        let is_written = found["updates"].as_array().unwrap().iter().any(|entry| entry["statusChange"] == status);
        if is_written && found["status"] == status {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{found}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_window_ends_once_also_when_the_replica_that_began_it_is_killed() {
    if !is_postgres() {
        return;
    }
    let home = Home::new().await;
    let mut killed = home.serve(&[]);
    let key = killed.key();
    let other = home.serve(&[]);
    let (first, second) = (killed.with_key(&key), other.with_key(&key));
    let web = system(&first, "web").await;
    let at = |ahead_ms: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_millis(ahead_ms)).to_string();
    let new = json!({"title": "disks", "startAt": at(500), "endAt": at(3_000), "systemIds": [web]});
    let made = first.call("maintenance.scheduleWindow", new).await;
    until_status(&first, &made["id"], "in_progress").await;
    killed.child.kill().unwrap();
    let over = until_status(&second, &made["id"], "completed").await;
    let due = |status: &str, time: &Value| (status.to_owned(), text(time));
    let expected = [due("in_progress", &made["startAt"]), due("completed", &made["endAt"])];
    assert_eq!(line(&over), expected);
}
