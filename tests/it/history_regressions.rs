//! The history of runs, where it was wrong once.

#![allow(clippy::cast_precision_loss, reason = "figures of tests are small")]

use crate::checked::{associate, heartbeat, system};
use crate::cluster::until;
use crate::history::{Check, run, today, until_metric};
use crate::history_model::{NOW, text};
use crate::raw::Raw;
use crate::server::Server;
use crate::stream::{Stream, WAYS};
use serde_json::{Value, json};
use std::time::Duration;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn an_export_that_is_imported_again_doubles_nothing() {
    let server = Server::start().await;
    let admin = server.admin();
    let (web, beat) = (system(&admin, "web").await, heartbeat(&admin, 86_400, 60).await);
    associate(&admin, &web, &beat, json!({})).await;
    for _ in 0..3 {
        // Three within a few milliseconds, none of them a whole one.
        server.clock.advance(Duration::from_micros(1_234));
        admin.call("healthcheck.reportResult", json!({"configurationId": beat, "status": "healthy"})).await;
    }
    let asked = json!({"configurationId": beat});
    let mut stream = Stream::open(WAYS[0], &admin, "healthcheck.exportRuns", &asked).await.unwrap();
    let mut exported = stream.state().await;
    exported.retain(|one| !one["timestamp"].is_null());
    assert_eq!(exported.len(), 3);
    let again =
        |one: &Value| json!({"timestamp": one["timestamp"], "status": one["status"], "latencyMs": one["latencyMs"]});
    let runs: Vec<_> = exported.iter().map(again).collect();
    let input = json!({"systemId": web, "configurationId": beat, "runs": runs});
    let answer = admin.call("healthcheck.importRuns", input).await;
    assert_eq!(answer, json!({"imported": 0, "duplicates": 3, "tooOld": 0}));
    let at = exported[1]["timestamp"].clone();
    let one = json!({"configurationId": beat, "startDate": at, "endDate": at});
    assert_eq!(admin.call("healthcheck.getHistory", one).await["total"], json!(1), "it is found by the time it shows");
}

#[tokio::test]
async fn one_that_cannot_be_sealed_does_not_keep_the_others_from_it() {
    let server = Server::start().await;
    let (bad, good) = (Check::of(&server).await, Check::of(&server).await);
    for check in [&bad, &good] {
        check
            .import(NOW - 100 * SECOND, NOW - 90 * SECOND, 10 * SECOND, |at| run(at / SECOND * SECOND, "healthy", 1.0))
            .await;
    }
    let mut raw = Raw::open(&server.config.database).await;
    raw.execute("update healthcheck_run set status = 'torn' where association = 1").await;
    server.clock.advance(Duration::from_hours(2));
    until_metric(&server, "checkmate_history_sealed_runs_total 1").await;
    until_metric(&server, "checkmate_history_unsealed 1").await;
    raw.execute("update healthcheck_run set status = 'healthy' where association = 1").await;
    until("it is tried again", PATIENCE, async || {
        server.admin().get("/metrics").await.text.contains("checkmate_history_sealed_runs_total 2")
    })
    .await;
    assert_eq!(bad.call("getHistory", json!({})).await["total"], json!(1));
}

#[tokio::test]
async fn tallies_of_hours_go_in_whole_days() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    check.import(today() - 60 * DAY, today(), HOUR, |at| run(at, "healthy", 1.0)).await;
    let mut raw = Raw::open(&server.config.database).await;
    let keep = json!({"rawRetentionDays": 1, "hourlyRetentionDays": 7, "dailyRetentionDays": 90});
    check.call("updateRetentionConfig", json!({"retentionConfig": keep})).await;
    let done = today() / HOUR - 7 * 24;
    loop {
        let first = raw.count("select min(hour) from healthcheck_hour").await;
        assert_eq!(first % 24, 0, "a day is there or it is not");
        if first == done {
            break;
        }
    }
    let answer = check.call("importRuns", json!({"runs": [run(today() - 40 * DAY + SECOND, "healthy", 1.0)]})).await;
    assert_eq!(answer["tooOld"], json!(1));
    let asked = json!({"startDate": text(today() - 60 * DAY), "endDate": text(today()), "bucketSize": "daily"});
    let chart = check.call("getAggregatedHistory", asked).await;
    let counts: Vec<_> = chart["buckets"].as_array().unwrap().iter().map(|one| one["runCount"].clone()).collect();
    assert_eq!(counts, vec![json!(24); 60]);
}

#[tokio::test]
async fn what_was_just_imported_goes_only_if_less_is_to_be_kept() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    check.import(today() - 20 * DAY, today() - 20 * DAY + HOUR, 60 * SECOND, |at| run(at, "healthy", 1.0)).await;
    let mut raw = Raw::open(&server.config.database).await;
    for keep in [Value::Null, json!({"rawRetentionDays": 8}), json!({"rawRetentionDays": 9, "dailyRetentionDays": 400})]
    {
        check.call("updateRetentionConfig", json!({"retentionConfig": keep})).await;
        assert_eq!(raw.count("select count(*) from healthcheck_archive where swept_on = 0").await, 0, "{keep}");
    }
    check.call("updateRetentionConfig", json!({"retentionConfig": {"rawRetentionDays": 5}})).await;
    until_metric(&server, "checkmate_history_swept_rows_total{tier=\"raw\"} 1").await;
    assert_eq!(check.call("getHistory", json!({})).await["total"], json!(0));
}

#[tokio::test]
async fn a_run_beside_hours_of_which_runs_are_gone_changes_nothing_there() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    let slow = json!({"id": check.check, "body": {"intervalSeconds": 3_600}});
    check.admin.call("healthcheck.updateConfiguration", slow).await;
    let start = today() - 20 * DAY;
    check.import(start, start + DAY, 4 * HOUR, |at| run(at, "healthy", 1.0)).await;
    let keep = json!({"rawRetentionDays": 1, "hourlyRetentionDays": 30});
    check.call("updateRetentionConfig", json!({"retentionConfig": keep})).await;
    until_metric(&server, "checkmate_history_swept_rows_total{tier=\"raw\"} 6").await;
    let asked = json!({"startDate": text(start), "endDate": text(start + DAY)});
    let before = check.call("getUptime", asked.clone()).await["checks"].take();
    // The verdict of the run that is gone stands in this hour.
    let answer =
        check.call("importRuns", json!({"runs": [run(start + 2 * HOUR + 60 * SECOND, "unhealthy", 1.0)]})).await;
    assert_eq!(answer, json!({"imported": 0, "duplicates": 0, "tooOld": 1}));
    assert_eq!(check.call("getUptime", asked).await["checks"], before);
    let apart = json!({"runs": [run(start - 10 * HOUR, "unhealthy", 1.0)]});
    assert_eq!(check.call("importRuns", apart).await["imported"], json!(1), "nothing is known of that time");
}

#[tokio::test]
async fn numbers_are_told_of_all_runs_and_the_last_is_the_latest() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    let hour = NOW / HOUR * HOUR - 4 * HOUR;
    let found = |at: i64, number: i64| json!({"timestamp": text(at), "status": "healthy", "result": {"metadata": {"connectionTimeMs": number}}});
    let runs: Vec<_> = (0..20).map(|place| found(hour + (30 + place) * 60 * SECOND, place)).collect();
    check.call("importRuns", json!({"runs": runs})).await;
    check.call("importRuns", json!({"runs": [found(hour + 60 * SECOND, 99)]})).await;
    for points in [10, 500] {
        let asked = json!({"startDate": text(hour), "endDate": text(hour + HOUR), "targetPoints": points});
        let chart = check.call("getDetailedAggregatedHistory", asked).await;
        let figure = &chart["buckets"][0]["aggregatedResult"]["connectionTimeMs"];
        assert_eq!(
            (&figure["count"], &figure["last"], &figure["max"]),
            (&json!(21), &json!(19), &json!(99)),
            "{chart}"
        );
    }
}

#[tokio::test]
async fn long_latencies_and_charts_of_the_future_are_what_they_are() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    for at in [NOW - 5 * DAY, NOW - 60 * SECOND] {
        check.call("importRuns", json!({"runs": [run(at, "unhealthy", 86_400_000.0)]})).await;
    }
    for shown in check.call("getHistory", json!({})).await["runs"].as_array().unwrap() {
        assert_eq!(shown["latencyMs"], json!(86_400_000.0));
    }
    let asked = json!({"startDate": text(NOW + 30 * DAY + 1_234_567), "endDate": text(NOW + 31 * DAY)});
    assert_eq!(check.call("getAggregatedHistory", asked).await["buckets"], json!([]));
}

#[tokio::test]
async fn an_import_changes_a_bounded_number_of_hours() {
    let server = Server::start().await;
    let admin = server.admin();
    let (web, beat) = (system(&admin, "web").await, heartbeat(&admin, 86_400, 60).await);
    associate(&admin, &web, &beat, json!({})).await;
    let runs: Vec<_> = (1..100).map(|place| run(NOW - place * 31 * DAY, "healthy", 1.0)).collect();
    let input = json!({"systemId": web, "configurationId": beat, "runs": runs});
    let refused = admin.json("healthcheck.importRuns", input).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(refused.text.contains("at most 50000"), "{}", refused.text);
}
