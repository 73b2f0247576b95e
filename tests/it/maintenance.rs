//! Maintenance windows: they start and end by themselves, and what people may do with them meanwhile.

use crate::server::{Caller, Server, is_postgres};
use serde_json::{Value, json};
use sqlx::Connection;
use std::time::{Duration, Instant};

pub const HOUR: Duration = Duration::from_hours(1);

pub async fn system(caller: &Caller, name: &str) -> String {
    text(&caller.call("catalog.createSystem", json!({"name": name})).await["id"])
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// From so many hours on, for an hour.
pub fn window(server: &Server, title: &str, hours: u32, systems: &[&String]) -> Value {
    let (start, end) = (server.clock.in_future(HOUR * hours), server.clock.in_future(HOUR * (hours + 1)));
    json!({"title": title, "startAt": start, "endAt": end, "systemIds": systems})
}

async fn plan(server: &Server, title: &str, hours: u32, systems: &[&String]) -> Value {
    server.admin().call("maintenance.scheduleWindow", window(server, title, hours, systems)).await
}

pub async fn get(server: &Server, id: &Value) -> Value {
    server.admin().call("maintenance.getMaintenance", json!({"id": id})).await
}

/// What the timeline says: status and time of each entry.
pub fn line(detail: &Value) -> Vec<(String, String)> {
    let entries = detail["updates"].as_array().unwrap().iter();
    entries.map(|entry| (text(&entry["statusChange"]), text(&entry["createdAt"]))).collect()
}

async fn titles(server: &Server, procedure: &str, input: Value) -> Vec<String> {
    let found = server.admin().call(procedure, input).await;
    let rows = if found.is_array() { &found } else { &found["maintenances"] };
    rows.as_array().unwrap().iter().map(|row| text(&row["title"])).collect()
}

/// What the change feed says of windows, in order: kind and resource.
pub async fn fed(server: &Server) -> Vec<(String, String)> {
    const FEED: &str = "select kind, resource from change where plugin = 'maintenance' order by sequence";
    if is_postgres() {
        let mut connection = sqlx::PgConnection::connect(&server.config.database).await.unwrap();
        return sqlx::query_as(FEED).fetch_all(&mut connection).await.unwrap();
    }
    let mut connection = sqlx::SqliteConnection::connect(&server.config.database).await.unwrap();
    sqlx::query_as(FEED).fetch_all(&mut connection).await.unwrap()
}

/// Waits until the feed says it so often; more is never right.
pub async fn until_fed(server: &Server, kind: &str, times: usize) {
    let began = Instant::now();
    loop {
        let found = fed(server).await.into_iter().filter(|(fed, _)| fed == kind).count();
        assert!(found <= times, "{kind} {found} times");
        if found == times {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{kind} only {found} times of {times}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_window_starts_and_ends_by_itself_at_its_times() {
    let server = Server::start().await;
    let web = system(&server.admin(), "web").await;
    let made = plan(&server, "disks", 1, &[&web]).await;
    let (id, start, end) = (&made["id"], text(&made["startAt"]), text(&made["endAt"]));
    assert_eq!((&made["status"], &made["seriesId"]), (&json!("scheduled"), &Value::Null));
    server.clock.advance(HOUR.saturating_sub(Duration::from_millis(1)));
    assert_eq!(get(&server, id).await["status"], "scheduled");

    // What is read is never behind the clock, whether or not anybody has written it.
    server.clock.advance(Duration::from_millis(1));
    let running = get(&server, id).await;
    assert_eq!((&running["status"], text(&running["updatedAt"])), (&json!("in_progress"), start.clone()));
    assert_eq!(line(&running), [("in_progress".to_owned(), start.clone())]);
    assert_eq!(running["updates"][0]["createdBy"]["type"], "server");
    until_fed(&server, "maintenance.started", 1).await;
    assert_eq!(get(&server, id).await, running, "written, it reads the same");

    server.clock.advance(HOUR);
    let over = get(&server, id).await;
    assert_eq!(over["status"], "completed");
    assert_eq!(line(&over), [("in_progress".to_owned(), start), ("completed".to_owned(), end)]);
    until_fed(&server, "maintenance.completed", 1).await;
    assert_eq!(get(&server, id).await, over);
}

#[tokio::test]
async fn a_server_that_was_down_catches_up_in_order_with_the_due_times() {
    let mut server = Server::start().await;
    let web = system(&server.admin(), "web").await;
    let (second, first) = (plan(&server, "b", 3, &[&web]).await, plan(&server, "a", 1, &[&web]).await);
    server.end();
    server.clock.advance(HOUR * 24);
    let server = server.restart_with(|_| {}).await;
    until_fed(&server, "maintenance.completed", 2).await;
    for made in [&first, &second] {
        let [start, end] = ["startAt", "endAt"].map(|key| text(&made[key]));
        let over = get(&server, &made["id"]).await;
        assert_eq!(line(&over), [("in_progress".to_owned(), start), ("completed".to_owned(), end)]);
    }
    let order: Vec<_> = fed(&server).await.into_iter().skip(2).collect();
    let said = |kind: &str, made: &Value| (format!("maintenance.{kind}"), text(&made["id"]));
    let expected =
        [said("started", &first), said("completed", &first), said("started", &second), said("completed", &second)];
    assert_eq!(order, expected);
}

/// More than the server takes in one go.
#[tokio::test]
async fn catching_up_is_in_order_also_beyond_one_batch() {
    const WINDOWS: u32 = 130;
    let mut server = Server::start().await;
    let web = system(&server.admin(), "web").await;
    let mut due = std::collections::HashMap::new();
    for number in 0..WINDOWS {
        let mut input = window(&server, &number.to_string(), 0, &[&web]);
        // They all overlap: each starts a minute later and ends two minutes earlier than the one before.
        input["startAt"] = json!(server.clock.in_future(HOUR + Duration::from_mins(1) * number));
        input["endAt"] = json!(server.clock.in_future((HOUR * 24).saturating_sub(Duration::from_mins(2) * number)));
        let made = server.admin().call("maintenance.scheduleWindow", input).await;
        let [start, end] = ["startAt", "endAt"].map(|key| text(&made[key]));
        due.insert(("maintenance.started".to_owned(), text(&made["id"])), start);
        due.insert(("maintenance.completed".to_owned(), text(&made["id"])), end);
    }
    server.end();
    server.clock.advance(HOUR * 48);
    let server = server.restart_with(|_| {}).await;
    until_fed(&server, "maintenance.completed", WINDOWS as usize).await;
    let order: Vec<_> = fed(&server).await.into_iter().filter_map(|did| due.get(&did).cloned()).collect();
    assert_eq!(order.len(), 2 * WINDOWS as usize);
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn a_window_with_a_full_timeline_can_be_ended() {
    let server = Server::start().await;
    let (admin, web) = (server.admin(), system(&server.admin(), "web").await);
    let (closed, off) = (plan(&server, "a", 1, &[&web]).await, plan(&server, "b", 1, &[&web]).await);
    for made in [&closed, &off] {
        let note = json!({"maintenanceId": made["id"], "message": "m"});
        for _ in 0..500 {
            admin.call("maintenance.addUpdate", note.clone()).await;
        }
        let full = admin.json("maintenance.addUpdate", note).await;
        full.refused(400, "BAD_REQUEST", "The timeline has 500 already");
    }
    admin.call("maintenance.cancelMaintenance", json!({"id": off["id"]})).await;
    let begin = json!({"maintenanceId": closed["id"], "message": "m", "statusChange": "in_progress"});
    admin.call("maintenance.addUpdate", begin).await;
    admin.call("maintenance.closeMaintenance", json!({"id": closed["id"]})).await;
    assert_eq!(get(&server, &closed["id"]).await["updates"].as_array().unwrap().len(), 502);
}

#[tokio::test]
async fn a_start_does_not_move_into_the_past() {
    let server = Server::start().await;
    let (admin, web) = (server.admin(), system(&server.admin(), "web").await);
    let made = plan(&server, "disks", 2, &[&web]).await;
    let before = server.clock.in_future(HOUR);
    server.clock.advance(HOUR + Duration::from_secs(1));
    let input = json!({"id": made["id"], "startAt": before});
    let why =
        "Input validation failed: startAt: Must not be in the past; to start it now, add an update with in_progress";
    admin.json("maintenance.updateMaintenance", input).await.refused(400, "BAD_REQUEST", why);
    let now = json!({"id": made["id"], "startAt": server.clock.in_future(Duration::ZERO)});
    assert_eq!(admin.call("maintenance.updateMaintenance", now).await["status"], "in_progress");
}

#[tokio::test]
async fn many_replicas_start_and_end_each_window_once() {
    let server = Server::start().await;
    let web = system(&server.admin(), "web").await;
    // On SQLite there is one server.
    let others = if is_postgres() { vec![server.replica().await, server.replica().await] } else { vec![] };
    let mut made = vec![];
    for number in 0..120 {
        made.push(plan(&server, &number.to_string(), 1, &[&web]).await);
    }
    server.clock.advance(HOUR);
    until_fed(&server, "maintenance.started", 120).await;
    server.clock.advance(HOUR);
    until_fed(&server, "maintenance.completed", 120).await;
    for one in &made {
        assert_eq!(line(&get(&server, &one["id"]).await).len(), 2);
    }
    drop(others);
}

#[tokio::test]
async fn changes_act_on_what_the_clock_has_made_of_a_window() {
    let server = Server::start().await;
    let (admin, web) = (server.admin(), system(&server.admin(), "web").await);
    let made = plan(&server, "disks", 1, &[&web]).await;
    let id = &made["id"];
    server.clock.advance(HOUR + HOUR / 2);
    let moved = json!({"id": id, "startAt": server.clock.in_future(Duration::from_mins(1))});
    let fixed = "Input validation failed: startAt: The maintenance has started; its start is fixed";
    admin.json("maintenance.updateMaintenance", moved).await.refused(400, "BAD_REQUEST", fixed);
    let longer = json!({"id": id, "endAt": server.clock.in_future(HOUR), "expectedUpdatedAt": made["startAt"]});
    let longer = admin.call("maintenance.updateMaintenance", longer).await;
    assert_eq!(longer["status"], "in_progress");
    let closed = admin.call("maintenance.closeMaintenance", json!({"id": id})).await;
    assert_eq!(closed["status"], "completed");
    let whole = get(&server, id).await;
    let statuses: Vec<_> = line(&whole).into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, ["in_progress", "completed"]);
    assert_eq!(whole["updates"][1]["message"], "Finished early");
    let kinds: Vec<_> = fed(&server).await.into_iter().map(|(kind, _)| kind).collect();
    let expected = ["scheduled", "started", "updated", "completed"].map(|kind| format!("maintenance.{kind}"));
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn each_status_allows_its_own_changes_and_refuses_the_others_in_words() {
    let server = Server::start().await;
    let (admin, web) = (server.admin(), system(&server.admin(), "web").await);
    let note = |to: &str| ("addUpdate", json!({"message": "m", "statusChange": to}), to.to_owned());
    let (close, cancel) =
        (("closeMaintenance", json!({}), String::new()), ("cancelMaintenance", json!({}), String::new()));
    let edit = ("updateMaintenance", json!({"title": "t"}), String::new());
    for (status, good, bad) in [
        (
            "scheduled",
            vec![note("in_progress"), note("cancelled"), cancel.clone(), edit.clone()],
            vec![
                (note("completed"), 400, "The maintenance has not started; cancel it instead"),
                (note("scheduled"), 400, "The maintenance is scheduled already"),
                (close.clone(), 400, "The maintenance has not started; cancel it instead"),
            ],
        ),
        (
            "in_progress",
            vec![note("completed"), note("cancelled"), close.clone(), cancel.clone(), edit.clone()],
            vec![
                (note("scheduled"), 400, "The maintenance has started and cannot be scheduled again"),
                (note("in_progress"), 400, "The maintenance is in progress already"),
            ],
        ),
        (
            "completed",
            vec![],
            vec![
                (note("in_progress"), 400, "The maintenance is completed; that does not change any more"),
                (close.clone(), 409, "The maintenance is completed already"),
                (cancel.clone(), 409, "The maintenance is completed already"),
                (edit.clone(), 400, "The maintenance is completed; it does not change any more"),
            ],
        ),
        (
            "cancelled",
            vec![],
            vec![
                (note("scheduled"), 400, "The maintenance is cancelled; that does not change any more"),
                (close.clone(), 409, "The maintenance is cancelled already"),
                (cancel.clone(), 409, "The maintenance is cancelled already"),
                (edit.clone(), 400, "The maintenance is cancelled; it does not change any more"),
            ],
        ),
    ] {
        let reach = async || {
            let id = plan(&server, status, 1, &[&web]).await["id"].clone();
            let path = match status {
                "scheduled" => vec![],
                "completed" => vec!["in_progress", "completed"],
                one => vec![one],
            };
            for to in path {
                let step = json!({"maintenanceId": id, "message": "m", "statusChange": to});
                admin.call("maintenance.addUpdate", step).await;
            }
            id
        };
        let on = |id: &Value, procedure: &str, input: &Value| {
            let mut input = input.clone();
            input[if procedure == "addUpdate" { "maintenanceId" } else { "id" }] = id.clone();
            input
        };
        let unchanged = reach().await;
        let before = get(&server, &unchanged).await;
        for ((procedure, input, _), code, words) in bad {
            let input = on(&unchanged, procedure, &input);
            let name = if code == 409 { "CONFLICT" } else { "BAD_REQUEST" };
            admin.json(&format!("maintenance.{procedure}"), input).await.refused(code, name, words);
        }
        assert_eq!(get(&server, &unchanged).await, before, "a refusal changes nothing");
        for (procedure, input, to) in good {
            let id = reach().await;
            admin.call(&format!("maintenance.{procedure}"), on(&id, procedure, &input)).await;
            if !to.is_empty() {
                assert_eq!(get(&server, &id).await["status"], *to, "{status} {procedure}");
            }
        }
        assert_eq!(admin.call("maintenance.deleteMaintenance", unchanged).await, json!({"success": true}));
    }
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_written() {
    let server = Server::start().await;
    let (admin, web) = (server.admin(), system(&server.admin(), "web").await);
    let nothing = uuid::Uuid::now_v7().to_string();
    let good = window(&server, "t", 1, &[&web]);
    for (key, value, field) in [
        ("systemIds", json!([]), "systemIds"),
        ("systemIds", json!([web, web]), "systemIds"),
        ("systemIds", json!([web, nothing]), "systemIds"),
        ("title", json!("  "), "title"),
        ("title", json!("x".repeat(201)), "title"),
        ("description", json!("x".repeat(4_001)), "description"),
        ("endAt", good["startAt"].clone(), "endAt"),
        ("startAt", Value::Null, "startAt"),
    ] {
        let mut input = good.clone();
        input[key] = value;
        let answer = admin.json("maintenance.scheduleWindow", input).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert_eq!(answer.body["data"]["issues"][0]["path"][0], field, "{}", answer.text);
    }
    assert_eq!(admin.call("maintenance.getWindows", json!({})).await, json!([]));
    let made = admin.call("maintenance.createMaintenance", good.clone()).await;
    for (key, value) in
        [("endAt", good["startAt"].clone()), ("startAt", good["endAt"].clone()), ("systemIds", json!([]))]
    {
        let answer = admin.json("maintenance.updateMaintenance", json!({"id": made["id"], key: value})).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("BAD_REQUEST")), "{key}: {}", answer.text);
    }
    for procedure in
        ["getMaintenance", "closeMaintenance", "cancelMaintenance", "updateMaintenance", "deleteMaintenance"]
    {
        let answer = admin.json(&format!("maintenance.{procedure}"), json!({"id": nothing})).await;
        answer.refused(404, "NOT_FOUND", &format!("Maintenance not found: {nothing}"));
    }
    let stale = json!({"id": made["id"], "title": "x", "expectedUpdatedAt": server.clock.in_future(HOUR)});
    assert_eq!(admin.json("maintenance.updateMaintenance", stale).await.status, 409);
    assert_eq!(get(&server, &made["id"]).await["title"], "t");
}

#[tokio::test]
async fn lists_know_the_status_of_this_moment() {
    let server = Server::start().await;
    let (admin, web, mail) =
        (server.admin(), system(&server.admin(), "web").await, system(&server.admin(), "mail").await);
    for (title, hours, touched) in [("a", 1, &web), ("b", 3, &web), ("c", 5, &mail), ("d", 7, &web)] {
        plan(&server, title, hours, &[touched]).await;
    }
    let cancelled = plan(&server, "Off", 9, &[&web, &mail]).await;
    admin.call("maintenance.cancelMaintenance", json!({"id": cancelled["id"]})).await;
    server.clock.advance(HOUR * 3);
    for (filter, expected) in [
        (json!({}), vec!["Off", "d", "c", "b", "a"]),
        (json!({"status": "scheduled"}), vec!["d", "c"]),
        (json!({"status": "in_progress"}), vec!["b"]),
        (json!({"status": "completed"}), vec!["a"]),
        (json!({"status": "cancelled"}), vec!["Off"]),
        (json!({"systemId": mail}), vec!["Off", "c"]),
        (json!({"systemId": web, "status": "completed"}), vec!["a"]),
    ] {
        assert_eq!(titles(&server, "maintenance.listMaintenances", filter.clone()).await, expected, "{filter}");
        assert_eq!(titles(&server, "maintenance.getWindows", filter.clone()).await, expected, "{filter}");
        for size in [1, 2, 1_000] {
            let mut input = filter.clone();
            input["pageSize"] = json!(size);
            let found = admin.pages("maintenance.listMaintenances", "maintenances", input).await;
            let found: Vec<_> = found.concat().iter().map(|row| text(&row["title"])).collect();
            assert_eq!(found, expected, "{filter} by {size}");
        }
    }
    for (filter, expected) in [
        (json!({"textContains": "oF"}), vec!["Off"]),
        (json!({"endsAfter": server.clock.in_future(HOUR * 5)}), vec!["Off"]),
        (json!({"startsBefore": server.clock.in_future(HOUR * 2)}), vec!["b", "a"]),
    ] {
        let mut paged = filter.clone();
        paged["pageSize"] = json!(9);
        assert_eq!(titles(&server, "maintenance.listMaintenances", paged).await, expected, "{filter}");
    }
    assert_eq!(titles(&server, "maintenance.getMaintenancesForSystem", json!({"systemId": web})).await, ["b", "d"]);
    let nothing = uuid::Uuid::now_v7().to_string();
    let bulk = json!({"systemIds": [web, mail, nothing]});
    let bulk = &admin.call("maintenance.getBulkMaintenancesForSystems", bulk).await["maintenances"];
    let of =
        |system: &String| bulk[system].as_array().unwrap().iter().map(|row| text(&row["title"])).collect::<Vec<_>>();
    assert_eq!((of(&web), of(&mail), of(&nothing)), (vec!["b".into(), "d".into()], vec!["c".into()], vec![]));
    // A window whose systems are gone stays readable.
    admin.call("catalog.deleteSystem", json!(mail)).await;
    assert_eq!(titles(&server, "maintenance.getWindows", json!({"status": "scheduled"})).await, ["d", "c"]);
}
