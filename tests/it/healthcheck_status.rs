//! How runs become a status, and a status an incident: in whatever order runs come, and whatever is done to the check.

use crate::checked::{
    PATIENCE, SECOND, Target, associate, check, first_run, heartbeat, incidents, line, next_run, runs, status, system,
    until_more_runs, until_status,
};
use crate::cluster::until;
use crate::server::{Caller, Server};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

const MINUTE: Duration = Duration::from_mins(1);

/// Opened by one failure, so that tests are short.
fn at_once() -> Value {
    let one = json!({"minFailureCount": 1});
    json!({"mode": "consecutive", "degraded": one, "unhealthy": {"minFailureCount": 2}})
}

#[tokio::test]
async fn a_failing_check_that_takes_longer_than_its_interval_becomes_unhealthy() {
    let (server, target) = (Server::start().await, Target::start().await);
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let slow = check(&admin, &target, json!({"intervalSeconds": 30, "timeoutMs": 60_000, "retries": 2})).await;
    target.answers(500);
    associate(&admin, &shop, &slow, json!({})).await;
    until("the first run is stored", PATIENCE, async || {
        server.clock.advance(SECOND);
        sleep(SECOND / 2).await;
        !runs(&admin, &slow).await.is_empty()
    })
    .await;
    // What comes of runs that take all their time: every fourth is stored, two minutes apart.
    for _ in 0..6 {
        next_run(&server, &slow, SECOND * 120).await;
    }
    assert_eq!(status(&admin, &shop).await["status"], "unhealthy");
}

#[tokio::test]
async fn a_report_is_newer_than_a_deadline_before_it_whatever_is_stored_first() {
    let server = Server::start().await;
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let beat = heartbeat(&admin, 60, 0).await;
    associate(&admin, &shop, &beat, json!({})).await;
    for _ in 0..6 {
        admin.call("healthcheck.reportResult", json!({"configurationId": beat})).await;
        let before = runs(&admin, &beat).await.len();
        // The deadline passes, it is noticed, and before it is stored there is a report.
        server.clock.advance(MINUTE + SECOND);
        sleep(Duration::from_millis(150)).await;
        server.clock.advance(SECOND);
        admin.call("healthcheck.reportResult", json!({"configurationId": beat})).await;
        sleep(SECOND).await;
        assert!(runs(&admin, &beat).await.len() > before);
        assert_eq!(status(&admin, &shop).await["status"], "healthy", "{:?}", runs(&admin, &beat).await);
    }
}

#[tokio::test]
async fn failing_opens_one_incident_which_is_followed_and_resolved() {
    let (server, target) = (Server::start().await, Target::start().await);
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let web = check(&admin, &target, json!({})).await;
    let policy = json!({"openOn": "degraded", "severity": "critical"});
    associate(&admin, &shop, &web, json!({"stateThresholds": at_once(), "incidentPolicy": policy})).await;
    first_run(&server, &web).await;
    assert_eq!(incidents(&admin).await.len(), 0);
    target.answers(500);
    for _ in 0..3 {
        next_run(&server, &web, MINUTE).await;
    }
    let found = incidents(&admin).await;
    assert_eq!((found.len(), &found[0]["systemIds"], &found[0]["severity"]), (1, &json!([shop]), &json!("critical")));
    assert_eq!((&found[0]["title"], line(&found[0]).len()), (&json!("web is degraded"), 2), "{found:?}");
    assert!(line(&found[0])[1].starts_with("web is unhealthy: Answered 500"), "{found:?}");
    target.answers(200);
    next_run(&server, &web, MINUTE).await;
    let found = incidents(&admin).await;
    assert_eq!((found.len(), &found[0]["status"]), (1, &json!("resolved")));
    assert_eq!(line(&found[0])[2], "web is healthy again");

    target.answers(500);
    next_run(&server, &web, MINUTE).await;
    let found = incidents(&admin).await;
    assert_eq!((found.len(), &found[1]["status"]), (2, &json!("investigating")), "another failure is another incident");
    admin.call("incident.addUpdate", json!({"incidentId": found[1]["id"], "message": "I am on it"})).await;
    target.answers(200);
    next_run(&server, &web, MINUTE).await;
    let found = incidents(&admin).await;
    assert_eq!(found[1]["status"], "investigating", "what a person works on is theirs to resolve");
    assert_eq!(line(&found[1]).last().unwrap(), "web is healthy again");
}

#[tokio::test]
async fn maintenance_that_suppresses_opens_no_incident() {
    let (server, target) = (Server::start().await, Target::start().await);
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let web = check(&admin, &target, json!({})).await;
    let policy = json!({"openOn": "degraded"});
    associate(&admin, &shop, &web, json!({"stateThresholds": at_once(), "incidentPolicy": policy})).await;
    first_run(&server, &web).await;
    let (start, end) = (server.clock.in_future(SECOND), server.clock.in_future(MINUTE * 5));
    let window =
        json!({"title": "disks", "startAt": start, "endAt": end, "systemIds": [shop], "suppressNotifications": true});
    admin.call("maintenance.scheduleWindow", window).await;
    target.answers(500);
    for _ in 0..3 {
        next_run(&server, &web, MINUTE).await;
    }
    assert_eq!((status(&admin, &shop).await["status"].as_str(), incidents(&admin).await.len()), (Some("unhealthy"), 0));
    server.clock.advance(MINUTE * 2);
    until("it is opened when the window is over", PATIENCE, async || {
        server.clock.advance(MINUTE);
        sleep(SECOND).await;
        incidents(&admin).await.len() == 1
    })
    .await;
}

/// A system whose check fails and has opened an incident.
async fn failing(server: &Server, target: &Target, auto_resolve: bool) -> (Value, Value) {
    let admin = server.admin();
    target.answers(200);
    let (shop, web) =
        (system(&admin, &format!("shop {}", uuid::Uuid::now_v7())).await, check(&admin, target, json!({})).await);
    let policy = json!({"openOn": "degraded", "autoResolve": auto_resolve});
    associate(&admin, &shop, &web, json!({"stateThresholds": at_once(), "incidentPolicy": policy})).await;
    target.answers(500);
    first_run(server, &web).await;
    until("there is an incident", PATIENCE, async || of_system(&admin, &shop).await.is_some()).await;
    (shop, web)
}

/// The incident of a system.
async fn of_system(admin: &Caller, shop: &Value) -> Option<Value> {
    incidents(admin).await.into_iter().find(|found| found["systemIds"] == json!([shop]))
}

#[tokio::test]
async fn an_incident_that_nothing_follows_any_more_is_resolved_or_says_so() {
    let (server, target) = (Server::start().await, Target::start().await);
    let admin = server.admin();
    for (what, why) in [
        ("pause", "was paused"),
        ("update", "was paused"),
        ("disable", "was disabled for this system"),
        ("clear", "opens no incidents for this system any more"),
        ("disassociate", "does not run for this system any more"),
        ("delete", "was deleted"),
        ("delete the system", "has lost its system, which was deleted"),
    ] {
        for auto_resolve in [true, false] {
            let (shop, web) = failing(&server, &target, auto_resolve).await;
            let incident = of_system(&admin, &shop).await.unwrap()["id"].take();
            let changed = |more: Value| json!({"systemId": shop, "body": crate::checked::with(json!({"configurationId": web}), more)});
            let (procedure, input) = match what {
                "pause" => ("healthcheck.pauseConfiguration", json!({"id": web})),
                "update" => ("healthcheck.updateConfiguration", json!({"id": web, "body": {"paused": true}})),
                "disable" => ("healthcheck.associateSystem", changed(json!({"enabled": false}))),
                "clear" => ("healthcheck.associateSystem", changed(json!({"incidentPolicy": null}))),
                "disassociate" => ("healthcheck.disassociateSystem", json!({"systemId": shop, "configId": web})),
                "delete" => ("healthcheck.deleteConfiguration", json!({"id": web})),
                _ => ("catalog.deleteSystem", json!({"id": shop})),
            };
            admin.call(procedure, input).await;
            let found = admin.call("incident.getIncident", json!({"id": incident})).await;
            let expected = if auto_resolve { "resolved" } else { "investigating" };
            assert_eq!(found["status"], expected, "{what}");
            assert_eq!(line(&found).last().unwrap(), &format!("web {why}: this incident is not followed any more"));
        }
    }
}

#[tokio::test]
async fn a_check_that_goes_on_after_a_pause_opens_another_incident() {
    let (server, target) = (Server::start().await, Target::start().await);
    let admin = server.admin();
    let (_, web) = failing(&server, &target, true).await;
    admin.call("healthcheck.pauseConfiguration", json!({"id": web})).await;
    let before = runs(&admin, &web).await.len();
    admin.call("healthcheck.resumeConfiguration", json!({"id": web})).await;
    sleep(SECOND / 2).await;
    server.clock.advance(SECOND);
    until_more_runs(&admin, &web, before).await;
    let found = incidents(&admin).await;
    assert_eq!((found.len(), &found[1]["status"]), (2, &json!("investigating")), "{found:?}");
}

#[tokio::test]
async fn what_a_target_says_stands_in_the_incident_whatever_it_is() {
    let server = Server::start().await;
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let beat = heartbeat(&admin, 60, 0).await;
    associate(&admin, &shop, &beat, json!({"incidentPolicy": {"openOn": "unhealthy"}})).await;
    let report = json!({"configurationId": beat, "status": "unhealthy", "message": "half\u{0}done"});
    let told = admin.post("/api/healthcheck/reportResult", &report).await;
    if told.status == 200 {
        assert_eq!(line(&incidents(&admin).await[0]), ["half\u{fffd}done"]);
    } else {
        assert_eq!((told.status, &told.body["code"]), (400, &json!("BAD_REQUEST")), "{}", told.text);
    }
}

#[tokio::test]
async fn who_falls_silent_is_unknown_also_in_the_incident() {
    let (server, target) = (Server::start().await, Target::start().await);
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let web = check(&admin, &target, json!({"timeoutMs": 300_000})).await;
    let policy = json!({"openOn": "degraded"});
    associate(&admin, &shop, &web, json!({"stateThresholds": at_once(), "incidentPolicy": policy})).await;
    target.answers(500);
    let last = first_run(&server, &web).await;
    until_status(&admin, &shop, "degraded").await;
    target.hangs(true);
    server.clock.advance(MINUTE * 20);
    until("the incident says it", PATIENCE, async || line(&incidents(&admin).await[0]).len() == 2).await;
    let (found, said) = (status(&admin, &shop).await, line(&incidents(&admin).await[0]).pop().unwrap());
    assert_eq!((&found["status"], &found["checkStatuses"][0]["runsConsidered"]), (&json!("unknown"), &json!(0)));
    let when = last["timestamp"].as_str().unwrap();
    assert!(said.starts_with("web is unknown: nothing was heard of it since 20"), "{said}, not {when}");
}
