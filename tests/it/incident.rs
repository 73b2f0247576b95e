//! Incidents: what a CI job, an operator and a dashboard do with them.

use crate::server::{Caller, Server};
use serde_json::{Value, json};
use std::time::Duration;

async fn system(caller: &Caller, name: &str) -> String {
    text(&caller.call("catalog.createSystem", json!({"name": name})).await["id"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn open(caller: &Caller, title: &str, systems: &[&String]) -> Value {
    caller.call("incident.createIncident", json!({"title": title, "severity": "major", "systemIds": systems})).await
}

async fn titles(caller: &Caller, procedure: &str, input: Value) -> Vec<String> {
    let found = caller.call(procedure, input).await;
    let rows = if found.is_array() { &found } else { &found["incidents"] };
    rows.as_array().unwrap().iter().map(|row| text(&row["title"])).collect()
}

#[tokio::test]
async fn a_job_opens_an_incident_follows_it_and_resolves_it() {
    let server = Server::start().await;
    let web = system(&server.admin(), "web").await;
    let job = server.application(&["operator"]).await;
    let new = json!({
        "title": " deploy of web ", "severity": "minor", "systemIds": [web], "initialMessage": "about to deploy"
    });
    let made = job.call("incident.createIncident", new).await;
    let id = &made["id"];
    assert_eq!(made["title"], "deploy of web");
    assert_eq!((&made["status"], &made["severity"]), (&json!("investigating"), &json!("minor")));
    assert_eq!((&made["systemIds"], &made["suppressNotifications"]), (&json!([web]), &json!(false)));
    assert_eq!((&made["resolvedAt"], &made["durationSeconds"]), (&Value::Null, &Value::Null));
    assert_eq!(made["createdBy"]["type"], "application");
    let who = job.call("auth.whoAmI", json!({})).await;
    assert_eq!(made["createdBy"]["name"], who["name"]);

    server.clock.advance(Duration::from_secs(90));
    let update = json!({"incidentId": id, "message": "errors rise", "statusChange": "identified"});
    let update = job.call("incident.addUpdate", update).await;
    assert_eq!((&update["incidentId"], &update["statusChange"]), (id, &json!("identified")));
    let note = job.call("incident.addUpdate", json!({"incidentId": id, "message": "rolling back"})).await;
    assert!(note.get("statusChange").is_none());
    server.clock.advance(Duration::from_secs(30));
    let over = job.call("incident.resolveIncident", json!({"id": id, "message": "rolled back"})).await;
    assert_eq!((&over["status"], &over["durationSeconds"]), (&json!("resolved"), &json!(120)));
    assert_eq!(over["resolvedAt"], over["updatedAt"]);

    let whole = server.reader().await.call("incident.getIncident", json!({"id": id})).await;
    let entry = |one: &Value| json!([one["message"], one.get("statusChange")]);
    let line: Vec<_> = whole["updates"].as_array().unwrap().iter().map(entry).collect();
    let expected = json!([
        ["about to deploy", "investigating"],
        ["errors rise", "identified"],
        ["rolling back", null],
        ["rolled back", "resolved"],
    ]);
    assert_eq!(json!(line), expected);
}

#[tokio::test]
async fn what_is_resolved_is_not_resolved_again_and_can_be_opened_again() {
    let server = Server::start().await;
    let admin = server.admin();
    let web = system(&admin, "web").await;
    let id = open(&admin, "down", &[&web]).await["id"].clone();
    admin.call("incident.resolveIncident", json!({"id": id})).await;
    let before = admin.call("incident.getIncident", json!({"id": id})).await;
    assert_eq!(before["updates"][0]["message"], "Resolved");
    let twice = admin.json("incident.resolveIncident", json!({"id": id})).await;
    twice.refused(409, "CONFLICT", "The incident is resolved already");
    let again = json!({"incidentId": id, "message": "again", "statusChange": "resolved"});
    admin.json("incident.addUpdate", again).await.refused(409, "CONFLICT", "The incident is resolved already");
    assert_eq!(admin.call("incident.getIncident", json!({"id": id})).await, before, "nothing has changed");
    assert_eq!(admin.call("incident.getIncidentsForSystem", json!({"systemId": web})).await, json!([]));

    let back = json!({"incidentId": id, "message": "it is back", "statusChange": "fixing"});
    admin.call("incident.addUpdate", back).await;
    let open = admin.call("incident.getIncident", json!({"id": id})).await;
    assert_eq!((&open["status"], &open["resolvedAt"]), (&json!("fixing"), &Value::Null));
    assert_eq!(titles(&admin, "incident.getIncidentsForSystem", json!({"systemId": web})).await, ["down"]);
}

#[tokio::test]
async fn a_lost_update_is_a_conflict() {
    let server = Server::start().await;
    let admin = server.admin();
    let web = system(&admin, "web").await;
    let made = open(&admin, "down", &[&web]).await;
    let (id, seen) = (&made["id"], &made["updatedAt"]);
    let first = json!({"id": id, "severity": "critical", "expectedUpdatedAt": seen});
    let changed = admin.call("incident.updateIncident", first.clone()).await;
    assert!(text(&changed["updatedAt"]) > text(seen), "the clock stands, and the change shows all the same");
    for (procedure, input) in [
        ("incident.updateIncident", first),
        ("incident.addUpdate", json!({"incidentId": id, "message": "x", "expectedUpdatedAt": seen})),
        ("incident.resolveIncident", json!({"id": id, "expectedUpdatedAt": seen})),
    ] {
        let late = admin.json(procedure, input).await;
        assert_eq!((late.status, &late.body["code"]), (409, &json!("CONFLICT")), "{procedure}: {}", late.text);
    }
    let whole = admin.call("incident.getIncident", json!({"id": id})).await;
    assert_eq!((&whole["updatedAt"], &whole["updates"]), (&changed["updatedAt"], &json!([])));
}

#[tokio::test]
async fn a_condition_may_stand_in_a_header() {
    let server = Server::start().await;
    let admin = server.admin();
    let web = system(&admin, "web").await;
    let made = open(&admin, "down", &[&web]).await;
    let update = async |tag: &str| {
        let input = json!({"id": made["id"], "severity": "minor"});
        admin.post_if("/api/incident/updateIncident", &input, tag).await
    };
    let seen = format!("\"{}\"", text(&made["updatedAt"]));
    let cases =
        [("*", 200), (&*seen, 409), ("\"never\"", 400), ("never", 400), ("W/\"x\"", 400), ("\"a\", \"b\"", 400)];
    for (tag, status) in cases {
        let answer = update(tag).await;
        assert_eq!(answer.status, status, "{tag}: {}", answer.text);
    }
    let now = admin.call("incident.getIncident", json!({"id": made["id"]})).await;
    assert_eq!(update(&format!("\"{}\"", text(&now["updatedAt"]))).await.status, 200);
    let other = json!({"name": "x"});
    let without = admin.post_if("/api/catalog/createSystem", &other, &seen).await;
    assert_eq!(without.status, 400, "{}", without.text);
}

#[tokio::test]
async fn what_refers_to_nothing_is_refused_and_nothing_is_written() {
    let server = Server::start().await;
    let admin = server.admin();
    let (web, nothing) = (system(&admin, "web").await, uuid::Uuid::now_v7().to_string());
    let with = |systems: Value| json!({"title": "t", "severity": "minor", "systemIds": systems});
    let cases = [
        (with(json!([web, nothing])), format!("systemIds[1]: System not found: {nothing}")),
        (with(json!([web, web])), format!("systemIds[1]: Stands there twice: {web}")),
        (with(json!([])), "systemIds: Must have at least one item".to_owned()),
        (json!({"title": "t", "severity": "minor"}), "systemIds: Must have at least one item".to_owned()),
        (with(json!(vec![web.clone(); 201])), "systemIds: Must have at most 200 items".to_owned()),
        (
            json!({"title": "x".repeat(201), "severity": "minor", "systemIds": [web]}),
            "title: Must have at most 200 characters".to_owned(),
        ),
        (
            json!({"title": "t", "severity": "bad", "systemIds": [web]}),
            "severity: Must be one of minor, major, critical".to_owned(),
        ),
    ];
    for (input, why) in cases {
        let refusal = format!("Input validation failed: {why}");
        admin.json("incident.createIncident", input).await.refused(400, "BAD_REQUEST", &refusal);
    }
    assert_eq!(admin.call("incident.getIncidents", json!({"includeResolved": true})).await, json!([]));

    let made = open(&admin, "down", &[&web]).await;
    for systems in [json!([nothing]), json!([]), json!([web, web])] {
        let input = json!({"id": made["id"], "title": "other", "systemIds": systems});
        assert_eq!(admin.json("incident.updateIncident", input).await.status, 400);
    }
    let left = admin.json("incident.addUpdate", json!({"incidentId": nothing, "message": "x"})).await;
    left.refused(404, "NOT_FOUND", &format!("Incident not found: {nothing}"));
    assert_eq!(admin.call("incident.getIncidents", json!({})).await, json!([made]));
}

#[tokio::test]
async fn a_deleted_system_leaves_its_incidents_readable() {
    let server = Server::start().await;
    let admin = server.admin();
    let (web, mail) = (system(&admin, "web").await, system(&admin, "mail").await);
    let id = open(&admin, "down", &[&web, &mail]).await["id"].clone();
    admin.call("catalog.deleteSystem", json!(web)).await;
    assert_eq!(admin.call("incident.getIncident", json!({"id": id})).await["systemIds"], json!([mail]));
    admin.call("catalog.deleteSystem", json!(mail)).await;
    assert_eq!(admin.call("incident.getIncident", json!({"id": id})).await["systemIds"], json!([]));
    assert_eq!(titles(&admin, "incident.getIncidents", json!({})).await, ["down"]);
    admin.call("incident.deleteIncident", json!(id)).await;
    assert_eq!(admin.json("incident.getIncident", json!({"id": id})).await.status, 404);
}

#[tokio::test]
async fn lists_are_newest_first_and_filters_leave_out() {
    let server = Server::start().await;
    let admin = server.admin();
    let (web, mail) = (system(&admin, "web").await, system(&admin, "mail").await);
    let mut ids = vec![];
    for (title, systems) in [("Disk full", vec![&web]), ("slow", vec![&mail]), ("disk slow", vec![&web, &mail])] {
        ids.push(open(&admin, title, &systems).await);
        server.clock.advance(Duration::from_mins(1));
    }
    admin.call("incident.resolveIncident", json!({"id": ids[0]["id"]})).await;
    admin
        .call("incident.updateIncident", json!({"id": ids[1]["id"], "severity": "critical", "description": "DISK?"}))
        .await;
    let first = ids[1]["createdAt"].clone();
    let cases = [
        ("incident.getIncidents", json!({}), vec!["disk slow", "slow"]),
        ("incident.listIncidents", json!({}), vec!["disk slow", "slow"]),
        ("incident.listIncidents", json!({"status": "resolved"}), vec!["Disk full"]),
        ("incident.getIncidents", json!({"includeResolved": true}), vec!["disk slow", "slow", "Disk full"]),
        ("incident.getIncidents", json!({"systemId": mail}), vec!["disk slow", "slow"]),
        ("incident.getIncidents", json!({"systemId": web, "includeResolved": true}), vec!["disk slow", "Disk full"]),
        ("incident.listIncidents", json!({"pageSize": 9}), vec!["disk slow", "slow", "Disk full"]),
        ("incident.listIncidents", json!({"pageSize": 9, "includeResolved": false}), vec!["disk slow", "slow"]),
        ("incident.listIncidents", json!({"severity": "critical"}), vec!["slow"]),
        ("incident.listIncidents", json!({"severity": "major", "status": "resolved"}), vec!["Disk full"]),
        ("incident.listIncidents", json!({"textContains": "disk"}), vec!["disk slow", "slow", "Disk full"]),
        ("incident.listIncidents", json!({"textContains": "disk", "systemId": web}), vec!["disk slow", "Disk full"]),
        ("incident.listIncidents", json!({"createdFrom": first}), vec!["disk slow", "slow"]),
        ("incident.listIncidents", json!({"createdBefore": first}), vec!["Disk full"]),
    ];
    for (procedure, input, expected) in cases {
        assert_eq!(titles(&admin, procedure, input.clone()).await, expected, "{procedure} {input}");
    }
    for filter in [json!({}), json!({"severity": "major"}), json!({"systemId": web}), json!({"includeResolved": false})]
    {
        let sized = |size: u32| {
            let mut input = filter.clone();
            input["pageSize"] = json!(size);
            input
        };
        let pages = admin.pages("incident.listIncidents", "incidents", sized(1)).await.concat();
        let whole = admin.call("incident.listIncidents", sized(1_000)).await;
        assert_eq!(json!(pages), whole["incidents"], "{filter}");
    }
    let bulk = admin.call("incident.getBulkIncidentsForSystems", json!({"systemIds": [web, mail, web]})).await;
    let of = |id: &String| {
        bulk["incidents"][id].as_array().unwrap().iter().map(|one| text(&one["title"])).collect::<Vec<_>>()
    };
    assert_eq!((of(&web), of(&mail)), (vec!["disk slow".into()], vec!["disk slow".into(), "slow".to_owned()]));
}

#[tokio::test]
async fn a_timeline_has_an_end() {
    let server = Server::start().await;
    let admin = server.admin();
    let web = system(&admin, "web").await;
    let id = open(&admin, "down", &[&web]).await["id"].clone();
    let body = json!({"incidentId": id, "message": "x"});
    for _ in 0..500 {
        admin.call("incident.addUpdate", body.clone()).await;
    }
    admin.json("incident.addUpdate", body).await.refused(400, "BAD_REQUEST", "The timeline has 500 already");
    // What is full can be resolved, opened again and resolved again.
    admin.call("incident.resolveIncident", json!({"id": id})).await;
    let back = json!({"incidentId": id, "message": "again", "statusChange": "fixing"});
    admin.call("incident.addUpdate", back).await;
    let over = json!({"incidentId": id, "message": "over", "statusChange": "resolved"});
    admin.call("incident.addUpdate", over).await;
    let whole = admin.call("incident.getIncident", json!({"id": id})).await;
    assert_eq!((&whole["status"], whole["updates"].as_array().unwrap().len()), (&json!("resolved"), 503));
}
