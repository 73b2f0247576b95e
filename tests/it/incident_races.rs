//! Incidents and windows when several want something at the same moment, and conditions that must not get lost.

use crate::maintenance::{HOUR, get, system, text, window};
use crate::process::Home;
use crate::server::{Server, is_postgres};
use crate::stream::{Stream, WAYS, Way};
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_condition_holds_in_a_batch_of_one_and_is_refused_in_a_larger_one() {
    let server = Server::start().await;
    let admin = server.admin();
    let web = system(&admin, "web").await;
    let new = json!({"title": "down", "severity": "major", "systemIds": [web]});
    let made = admin.call("incident.createIncident", new).await;
    let (id, stale) = (&made["id"], format!("\"{}\"", text(&made["updatedAt"])));
    let update = json!({"updateIncident": {"id": id, "severity": "minor"}});
    assert_eq!(admin.post_if("/api/incident/", &update, &stale).await.status, 200);
    let late = admin.post_if("/api/incident/", &update, &stale).await;
    assert_eq!((late.status, &late.body["code"]), (409, &json!("CONFLICT")), "{}", late.text);
    let several = json!({"updateIncident": {"id": id, "title": "lost"}, "getIncidents": {}});
    let why = "Malformed if-match: a condition is for one call, and these are several";
    admin.post_if("/api/incident/", &several, &stale).await.refused(400, "BAD_REQUEST", why);
    let none = json!({"deleteIncident": {"id": id}});
    assert_eq!(admin.post_if("/api/incident/", &none, &stale).await.status, 400);
    assert_eq!(admin.call("incident.getIncident", json!({"id": id})).await["title"], "down");
}

/// Whoever deletes holds the row of the system: whoever refers to it waits, and finds it gone.
#[tokio::test]
async fn a_system_that_is_deleted_meanwhile_is_named() {
    if !is_postgres() {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin();
    for procedure in ["incident.createIncident", "maintenance.scheduleWindow"] {
        let web = system(&admin, "web").await;
        let mut input = json!({"title": "t", "severity": "major", "systemIds": [web]});
        if procedure.starts_with("maintenance") {
            input = window(&server, "t", 1, &[&web]);
        }
        let mut raw = PgConnection::connect(&server.config.database).await.unwrap();
        raw.execute("begin").await.unwrap();
        sqlx::query("delete from catalog_system where id = $1::uuid").bind(&web).execute(&mut raw).await.unwrap();
        let commit = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            raw.execute("commit").await.unwrap();
        };
        let (answer, ()) = tokio::join!(admin.json(procedure, input), commit);
        let why = format!("Input validation failed: systemIds[0]: System not found: {web}");
        answer.refused(400, "BAD_REQUEST", &why);
    }
}

#[tokio::test]
async fn those_who_end_a_series_at_once_do_not_wait_for_each_other_for_ever() {
    let server = Server::start().await;
    let admin = server.admin();
    let web = system(&admin, "web").await;
    for _ in 0..4 {
        let mut new = window(&server, "patches", 1, &[&web]);
        new["recurrence"] = json!({"rrule": "FREQ=WEEKLY", "timeZone": "UTC"});
        let made = admin.call("maintenance.scheduleWindow", new).await;
        let all = json!({"pageSize": 1000, "seriesId": made["seriesId"]});
        let all = admin.call("maintenance.listMaintenances", all).await["maintenances"].clone();
        let calls = (0..8).map(|number| {
            let input = json!({"id": all[number]["id"], "series": true});
            let verb = if number == 5 { "deleteMaintenance" } else { "cancelMaintenance" };
            let admin = admin.clone();
            async move { admin.json(&format!("maintenance.{verb}"), input).await }
        });
        for answer in futures_util::future::join_all(calls).await {
            assert!([200, 404, 409].contains(&answer.status), "{}", answer.text);
        }
        let left = json!({"pageSize": 1000, "seriesId": made["seriesId"], "status": "scheduled"});
        assert_eq!(admin.call("maintenance.listMaintenances", left).await["maintenances"], json!([]));
    }
}

/// By the clock of the machine, not by that of a test.
#[tokio::test]
async fn windows_start_and_end_within_a_second_of_real_time() {
    let home = Home::new().await;
    let running = home.serve(&[]);
    let admin = running.with_key(&running.key());
    let web = system(&admin, "web").await;
    let mut stream = Stream::open(Way::Lines, &admin, "maintenance.watchMaintenances", &json!({})).await.unwrap();
    stream.state().await;
    let at = |ahead_ms: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_millis(ahead_ms)).to_string();
    for number in 0..3 {
        let (start, end) = (at(1_000 + number * 130), at(2_500 + number * 170));
        let new = json!({"title": "disks", "startAt": start, "endAt": end, "systemIds": [web]});
        admin.call("maintenance.scheduleWindow", new).await;
    }
    let mut seen = 0;
    while seen < 6 {
        let message = stream.next().await.unwrap();
        let due = match message["maintenance"]["status"].as_str().unwrap() {
            "in_progress" => "startAt",
            "completed" => "endAt",
            _ => continue,
        };
        let due: jiff::Timestamp = text(&message["maintenance"][due]).parse().unwrap();
        let late = jiff::Timestamp::now().duration_since(due);
        assert!(late < jiff::SignedDuration::from_secs(1) && !late.is_negative(), "{late}: {message}");
        seen += 1;
    }
}

#[tokio::test]
async fn a_stream_on_which_nothing_happens_ends_within_the_bound_of_revocation() {
    let server = Server::start().await;
    let admin = server.admin();
    for way in WAYS {
        for procedure in ["incident.watchIncidents", "maintenance.watchMaintenances"] {
            let doomed = server.reader().await;
            let id = doomed.call("auth.whoAmI", json!({})).await["id"].clone();
            let mut stream = Stream::open(way, &doomed, procedure, &json!({})).await.unwrap();
            stream.state().await;
            let began = Instant::now();
            admin.call("auth.deleteApplication", id).await;
            assert_eq!(stream.end().await.0, "UNAUTHORIZED", "{way:?} {procedure}");
            assert!(began.elapsed() < Duration::from_secs(2), "{way:?} {procedure}: {:?}", began.elapsed());
        }
    }
}

#[tokio::test]
async fn what_the_server_does_is_said_to_be_its_doing() {
    let server = Server::start().await;
    let (job, web) = (server.application(&["operator"]).await, system(&server.admin(), "web").await);
    let made = job.call("maintenance.scheduleWindow", window(&server, "disks", 1, &[&web])).await;
    let who = job.call("auth.whoAmI", json!({})).await;
    assert_eq!(made["createdBy"], json!({"type": "application", "id": who["id"], "name": who["name"]}));
    server.clock.advance(HOUR * 3);
    let over = get(&server, &made["id"]).await;
    let by_clock = json!({"type": "server", "id": "server", "name": "keeps maintenance windows on time"});
    assert_eq!((&over["updates"][0]["createdBy"], &over["updates"][1]["createdBy"]), (&by_clock, &by_clock));
    assert_eq!(over["createdBy"], made["createdBy"], "who planned it stays");
}
