//! Checks that run by the clock: from their creation to their end, how often, how many at once, and what is left out.

use crate::checked::{
    PATIENCE, SECOND, Target, associate, behind_its_back, check, first_run, heartbeat, metric, next_run, runs, status,
    system, until_more_runs, until_status,
};
use crate::cluster::until;
use crate::server::{Caller, Server};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const MINUTE: Duration = Duration::from_mins(1);

/// The result of a call that succeeds, over one of the protocols.
async fn by(protocol: &str, caller: &Caller, procedure: &str, input: Value) -> Value {
    match protocol {
        "json" => caller.call(procedure, input).await,
        _ => caller.grpc(procedure, &input).await.unwrap(),
    }
}

#[tokio::test]
async fn a_check_runs_by_the_clock_from_its_creation_to_its_end() {
    for protocol in ["json", "grpc"] {
        let (server, target) = (Server::start().await, Target::start().await);
        let (admin, reader) = (server.admin(), server.reader().await);
        let shop = system(&admin, "shop").await;
        let new = json!({"name": "web", "strategyId": "http", "intervalSeconds": 60, "config": {"url": target.url}});
        let made = by(protocol, &admin, "healthcheck.createConfiguration", new).await;
        let id = &made["id"];
        let body = json!({"systemId": shop, "body": {"configurationId": id}});
        by(protocol, &admin, "healthcheck.associateSystem", body).await;
        assert_eq!(status(&reader, &shop).await["status"], "unknown", "nobody has looked yet");

        let first = first_run(&server, id).await;
        assert_eq!((&first["status"], &first["systemId"]), (&json!("healthy"), &shop));
        assert_eq!(
            by(protocol, &reader, "healthcheck.getSystemHealthStatus", json!({"systemId": shop})).await["status"],
            "healthy"
        );
        target.answers(500);
        for (runs, expected) in [(1, "healthy"), (2, "degraded"), (3, "degraded"), (4, "degraded"), (5, "unhealthy")] {
            assert_eq!(next_run(&server, id, MINUTE).await["status"], "unhealthy");
            assert_eq!(status(&reader, &shop).await["status"], expected, "after {runs} failures");
        }

        by(protocol, &admin, "healthcheck.pauseConfiguration", json!({"id": id})).await;
        let found = status(&reader, &shop).await;
        assert_eq!((&found["status"], &found["checkStatuses"][0]["paused"]), (&json!("unknown"), &json!(true)));
        sleep(SECOND / 2).await;
        let before = target.hits();
        server.clock.advance(MINUTE * 10);
        sleep(SECOND).await;
        assert_eq!(target.hits(), before, "a paused check does not run");

        target.answers(200);
        let before = runs(&admin, id).await.len();
        by(protocol, &admin, "healthcheck.resumeConfiguration", json!({"id": id})).await;
        sleep(SECOND / 2).await;
        server.clock.advance(SECOND);
        until_more_runs(&admin, id, before).await;
        until_status(&reader, &shop, "healthy").await;

        by(protocol, &admin, "healthcheck.deleteConfiguration", json!({"id": id})).await;
        sleep(SECOND / 2).await;
        let before = target.hits();
        server.clock.advance(MINUTE * 3);
        sleep(SECOND).await;
        assert_eq!(target.hits(), before, "a deleted check does not run");
        assert_eq!(status(&reader, &shop).await["status"], "unknown");
    }
}

#[tokio::test]
async fn results_are_reported_with_a_token_or_a_key() {
    let server = Server::start().await;
    let (admin, nobody) = (server.admin(), server.anonymous());
    let (shop, beat) = (system(&admin, "shop").await, heartbeat(&admin, 60, 10).await);
    associate(&admin, &shop, &beat, json!({})).await;
    let token = admin.call("healthcheck.regeneratePushToken", json!({"configurationId": beat})).await["token"].take();
    let path = "/api/healthcheck/reportResult";

    let told = nobody.post(path, &json!({"token": token, "message": "all copied", "latencyMs": 12.5})).await;
    assert_eq!((told.status, &told.body["recorded"]), (200, &json!(1)), "{}", told.text);
    assert_eq!(status(&admin, &shop).await["status"], "healthy");
    let run = runs(&admin, &beat).await.remove(0);
    assert_eq!((&run["result"]["message"], &run["latencyMs"]), (&json!("all copied"), &json!(12.5)));

    server.clock.advance(SECOND);
    admin.call("healthcheck.reportResult", json!({"configurationId": beat, "status": "unhealthy"})).await;
    assert_eq!(status(&admin, &shop).await["status"], "unhealthy");
    let by_grpc = nobody.grpc("healthcheck.reportResult", &json!({"token": token})).await.unwrap();
    assert_eq!(by_grpc["recorded"], 1);
    assert_eq!(status(&admin, &shop).await["status"], "healthy");

    let keyless = nobody.post(path, &json!({"configurationId": beat})).await;
    assert_eq!((keyless.status, &keyless.body["code"]), (401, &json!("UNAUTHORIZED")));
    let may_not = server.reader().await.post(path, &json!({"configurationId": beat})).await;
    assert_eq!((may_not.status, &may_not.body["code"]), (403, &json!("FORBIDDEN")));
    admin.call("healthcheck.regeneratePushToken", json!({"configurationId": beat})).await;
    let old = nobody.post(path, &json!({"token": token})).await;
    assert_eq!((old.status, &old.body["code"]), (403, &json!("FORBIDDEN")), "a token is replaced");

    until("the missing report is noticed", PATIENCE, async || {
        server.clock.advance(SECOND * 30);
        sleep(SECOND / 2).await;
        status(&admin, &shop).await["status"] == "unhealthy"
    })
    .await;
}

#[tokio::test]
async fn a_failed_look_is_repeated_and_the_run_says_how_often() {
    let (server, target) = (Server::start().await, Target::start().await);
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let patient = check(&admin, &target, json!({"retries": 2, "retryBackoffMs": 10})).await;
    associate(&admin, &shop, &patient, json!({})).await;
    let first = first_run(&server, &patient).await;
    assert_eq!((&first["result"]["attempts"], target.hits()), (&json!(1), 1), "a good look is not repeated");
    target.answers(500);
    let run = next_run(&server, &patient, MINUTE).await;
    assert_eq!((&run["result"]["attempts"], &run["status"], target.hits()), (&json!(3), &json!("unhealthy"), 4));
}

#[tokio::test]
async fn repetitions_end_before_the_next_run_is_due() {
    let (server, target) = (Server::start().await, Target::start().await);
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let settings =
        json!({"intervalSeconds": 2, "timeoutMs": 1_500, "retries": 5, "retryBackoffMs": 10, "paused": true});
    let hasty = check(&admin, &target, settings).await;
    associate(&admin, &shop, &hasty, json!({})).await;
    target.hangs(true);
    let began = Instant::now();
    let run = admin.call("healthcheck.runHealthCheckNow", json!({"configurationId": hasty})).await[0].take();
    let attempts = run["result"]["attempts"].as_u64().unwrap();
    assert!((1..=2).contains(&attempts), "{run}");
    assert!(began.elapsed() < SECOND * 6, "six looks take nine seconds: {:?}", began.elapsed());
}

#[tokio::test]
async fn one_host_is_asked_by_eight_at_once() {
    let (server, target) = (Server::start().await, Target::start().await);
    let admin = server.admin();
    let busy = check(&admin, &target, json!({})).await;
    target.takes(SECOND);
    for number in 0..20 {
        let one = system(&admin, &format!("shop {number}")).await;
        associate(&admin, &one, &busy, json!({})).await;
    }
    sleep(SECOND / 2).await;
    server.clock.advance(SECOND);
    until("all have run", PATIENCE, async || runs(&admin, &busy).await.len() == 20).await;
    assert_eq!((target.hits(), target.most_at_once()), (20, 8));
}

#[tokio::test]
async fn a_check_does_not_overlap_itself() {
    let (server, target) = (Server::start().await, Target::start().await);
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let slow = check(&admin, &target, json!({"intervalSeconds": 1, "timeoutMs": 300_000})).await;
    target.hangs(true);
    associate(&admin, &shop, &slow, json!({})).await;
    until("runs are left out and counted", PATIENCE, async || {
        server.clock.advance(SECOND);
        sleep(SECOND / 5).await;
        metric(&admin, "check_runs_overrun_total").await >= 5
    })
    .await;
    assert_eq!((target.hits(), runs(&admin, &slow).await.len()), (1, 0));
}

#[tokio::test]
async fn another_interval_applies_at_once() {
    let (server, target) = (Server::start().await, Target::start().await);
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let id = check(&admin, &target, json!({"intervalSeconds": 86_400})).await;
    associate(&admin, &shop, &id, json!({})).await;
    first_run(&server, &id).await;
    admin.call("healthcheck.updateConfiguration", json!({"id": id, "body": {"intervalSeconds": 1}})).await;
    for _ in 0..4 {
        sleep(SECOND / 2).await;
        server.clock.advance(SECOND);
    }
    until("it runs each second", PATIENCE, async || {
        server.clock.advance(SECOND);
        sleep(SECOND / 5).await;
        runs(&admin, &id).await.len() >= 5
    })
    .await;
    admin.call("healthcheck.updateConfiguration", json!({"id": id, "body": {"intervalSeconds": 86_400}})).await;
    sleep(SECOND / 2).await;
    server.clock.advance(SECOND);
    sleep(SECOND).await;
    let before = target.hits();
    server.clock.advance(MINUTE);
    sleep(SECOND).await;
    assert_eq!(target.hits(), before, "and each day from then on");
}

#[tokio::test]
async fn one_more_system_does_not_run_a_check_for_all_the_others() {
    const SYSTEMS: usize = 15;
    let (server, target) = (Server::start().await, Target::start().await);
    let admin = server.admin();
    let hourly = check(&admin, &target, json!({"intervalSeconds": 2_678_400})).await;
    for number in 0..SYSTEMS {
        let one = system(&admin, &format!("shop {number}")).await;
        associate(&admin, &one, &hourly, json!({})).await;
        let edited = json!({"stateThresholds": {"mode": "consecutive"}});
        associate(&admin, &one, &hourly, edited).await;
        until("it runs for the new one", PATIENCE, async || {
            server.clock.advance(SECOND);
            sleep(SECOND / 10).await;
            target.hits() > number
        })
        .await;
    }
    sleep(SECOND).await;
    assert_eq!(target.hits(), SYSTEMS, "each has run once");
}

#[tokio::test]
async fn what_was_due_while_no_server_was_there_runs_soon_after_the_start() {
    const DAY: Duration = Duration::from_hours(24);
    let (server, target) = (Server::start().await, Target::start().await);
    let (shop, other) = (system(&server.admin(), "shop").await, system(&server.admin(), "other").await);
    let daily = check(&server.admin(), &target, json!({"intervalSeconds": 86_400})).await;
    associate(&server.admin(), &shop, &daily, json!({})).await;
    first_run(&server, &daily).await;
    let (mut expected, clock) = (1, server.clock.clone());
    let ends = async |server: Server, for_long: Duration| {
        let clock = clock.clone();
        server.restart_with(move |_| clock.advance(for_long)).await
    };
    let ten_minutes_later = async |server: &Server, expected: usize| {
        for _ in 0..13 {
            server.clock.advance(SECOND * 50);
            sleep(SECOND / 4).await;
        }
        let admin = server.admin();
        until("what was due has run", PATIENCE, async || runs(&admin, &daily).await.len() >= expected).await;
        assert_eq!(target.hits(), expected, "and nothing else");
    };

    let server = ends(server, SECOND).await;
    ten_minutes_later(&server, expected).await;
    let server = ends(server, DAY * 2).await;
    expected += 1;
    ten_minutes_later(&server, expected).await;
    // The clock stands still: it has not run yet.
    associate(&server.admin(), &other, &daily, json!({})).await;
    let server = ends(server, Duration::ZERO).await;
    expected += 1;
    ten_minutes_later(&server, expected).await;
}

#[tokio::test]
async fn a_missing_report_is_noticed_at_its_hour_also_after_a_start() {
    let server = Server::start().await;
    let shop = system(&server.admin(), "shop").await;
    let new = json!({"name": "backup", "strategyId": "heartbeat", "intervalSeconds": 86_400,
                     "config": {"cron": "0 * * * *", "graceSeconds": 60}});
    let hourly = server.admin().call("healthcheck.createConfiguration", new).await["id"].take();
    associate(&server.admin(), &shop, &hourly, json!({})).await;
    let good = json!({"configurationId": hourly, "status": "healthy"});
    server.admin().call("healthcheck.reportResult", good).await;
    let clock = server.clock.clone();
    let server = server.restart_with(move |_| clock.advance(MINUTE)).await;
    let admin = server.admin();
    let mut statuses = vec![];
    for _ in 0..30 {
        server.clock.advance(MINUTE * 5);
        sleep(SECOND / 4).await;
        statuses.push(status(&admin, &shop).await["status"].as_str().unwrap().to_owned());
    }
    assert!(
        statuses.iter().any(|one| one == "unhealthy"),
        "two hours and a half without an hourly report: {statuses:?}"
    );
}

#[tokio::test]
async fn a_run_goes_on_when_another_system_gets_the_check() {
    let (server, target) = (Server::start().await, Target::start().await);
    let admin = server.admin();
    let (shop, other) = (system(&admin, "shop").await, system(&admin, "other").await);
    let hourly = check(&admin, &target, json!({"intervalSeconds": 3_600})).await;
    target.takes(SECOND * 3);
    associate(&admin, &shop, &hourly, json!({})).await;
    until("it runs", PATIENCE, async || {
        server.clock.advance(SECOND);
        sleep(SECOND / 10).await;
        target.hits() == 1
    })
    .await;
    associate(&admin, &other, &hourly, json!({"enabled": false})).await;
    until_more_runs(&admin, &hourly, 0).await;
    assert_eq!(target.hits(), 1, "and is not begun anew");
}

#[tokio::test]
async fn a_run_that_cannot_be_stored_takes_no_other_with_it() {
    let (server, target) = (Server::start().await, Target::start().await);
    let admin = server.admin();
    let (shop, other) = (system(&admin, "shop").await, system(&admin, "other").await);
    let both = check(&admin, &target, json!({})).await;
    let sqlite = "create trigger poison before insert on healthcheck_run when new.association = 2
                  begin select raise(abort, 'poison'); end";
    let postgres = "create function poison() returns trigger language plpgsql as
                    $$ begin if new.association = 2 then raise 'poison'; end if; return new; end $$;
                    create trigger poison before insert on healthcheck_run for each row execute function poison()";
    behind_its_back(&server.config.database, &[sqlite], &[postgres]).await;
    associate(&admin, &shop, &both, json!({})).await;
    associate(&admin, &other, &both, json!({})).await;
    sleep(SECOND / 2).await;
    server.clock.advance(SECOND);
    let found = until_more_runs(&admin, &both, 0).await;
    assert_eq!((found.len(), &found[0]["systemId"]), (1, &shop));
    until("the other is counted", PATIENCE, async || metric(&admin, "check_runs_lost_total").await == 1).await;
}
