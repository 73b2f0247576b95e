//! The history of runs: what is told of it, from which of its forms, and for how long it is kept.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::too_many_lines,
    clippy::similar_names,
    clippy::struct_field_names,
    clippy::needless_pass_by_value,
    clippy::maybe_infinite_iter,
    clippy::single_match_else,
    clippy::print_stdout,
    clippy::map_entry,
    clippy::unused_self,
    reason = "figures of tests are small, and a test tells one story"
)]

use crate::history_model::{Chance, NOW, idle_check, micros, text};
use crate::server::{Answer, Caller, Server};
use crate::stream::{Stream, WAYS};
use serde_json::{Value, json};
use std::time::Duration;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// What a run of the check of these tests may take, for which its verdict stands longer.
pub const PATIENCE: i64 = SECOND;

/// Waits for a number in the metrics.
pub async fn until_metric(server: &Server, line: &str) {
    for _ in 0..300 {
        if server.admin().get("/metrics").await.text.contains(line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no {line} in {}", server.admin().get("/metrics").await.text);
}

pub fn run(at: i64, status: &str, latency_ms: f64) -> Value {
    json!({"timestamp": text(at), "status": status, "latencyMs": latency_ms})
}

pub struct Check {
    pub admin: Caller,
    pub system: String,
    pub check: String,
}

impl Check {
    pub async fn of(server: &Server) -> Self {
        let admin = server.admin();
        let (system, check) = idle_check(&admin).await;
        Self { admin, system, check }
    }

    pub fn input(&self, more: Value) -> Value {
        let mut input = json!({"systemId": self.system, "configurationId": self.check});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    }

    pub async fn call(&self, procedure: &str, more: Value) -> Value {
        self.admin.call(&format!("healthcheck.{procedure}"), self.input(more)).await
    }

    async fn refusal(&self, procedure: &str, more: Value) -> Answer {
        self.admin.json(&format!("healthcheck.{procedure}"), self.input(more)).await
    }

    /// Imports a run each so many seconds, from one time to another.
    pub async fn import(&self, from: i64, to: i64, step: i64, run_at: impl Fn(i64) -> Value) {
        let all: Vec<_> = (0..).map(|place| from + place * step).take_while(|at| *at < to).collect();
        for part in all.chunks(10_000) {
            let runs: Vec<_> = part.iter().map(|at| run_at(*at)).collect();
            let answer = self.call("importRuns", json!({"runs": runs})).await;
            assert_eq!(answer["imported"], json!(runs.len()));
        }
    }
}

/// The beginning of the day of the test.
pub fn today() -> i64 {
    NOW / DAY * DAY
}

#[tokio::test]
async fn a_known_outage_gives_a_known_uptime() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    // 30 days at 36 s: 72,000 runs, of which 12 fail: 432 s of 2,592,000.
    let (from, to) = (today() - 30 * DAY, today());
    let outage = from + 11 * DAY + 5 * HOUR..from + 11 * DAY + 5 * HOUR + 432 * SECOND;
    check
        .import(from, to, 36 * SECOND, |at| run(at, if outage.contains(&at) { "unhealthy" } else { "healthy" }, 10.0))
        .await;
    let asked = json!({"startDate": text(from), "endDate": text(to)});
    let expected = 100.0 * (1.0 - 432.0 / 2_592_000.0);
    for _ in 0..2 {
        let found = check.call("getUptime", asked.clone()).await["checks"][0].take();
        for key in ["runRatioPercent", "timeWeightedPercent"] {
            let percent = found[key].as_f64().unwrap();
            assert!((percent - expected).abs() < 0.000_1, "{key}: {percent} instead of {expected}");
        }
        assert_eq!(found["unhealthySeconds"], json!(432.0));
        assert_eq!(found["noDataSeconds"], json!(0.0));
        // The same from tallies of days alone.
        let keep = json!({"rawRetentionDays": 1, "hourlyRetentionDays": 7, "dailyRetentionDays": 30});
        check.call("updateRetentionConfig", json!({"retentionConfig": keep})).await;
        until_metric(&server, "checkmate_history_swept_rows_total{tier=\"hourly\"} 5").await;
    }
    let found = check.call("getUptime", asked).await["checks"][0].take();
    assert_eq!(found["sources"], json!(["daily"]), "{found}");
    let stats = check.call("getAvailabilityStats", json!({})).await;
    assert_eq!(stats["totalRuns365Days"], json!(72_000));
    assert!((stats["availability365Days"].as_f64().unwrap() - expected).abs() < 0.000_1, "{stats}");
}

#[tokio::test]
async fn maintenance_and_silence_are_told_apart() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    let start = NOW / HOUR * HOUR + HOUR;
    let window = json!({
        "title": "move", "systemIds": [check.system], "startAt": text(start), "endAt": text(start + HOUR)
    });
    server.admin().call("maintenance.scheduleWindow", window).await;
    server.clock.advance(Duration::from_hours(6));
    // An hour of good runs, an hour of maintenance in which all fail, an hour of silence, an hour of which half fails.
    let minute = 60 * SECOND;
    check.import(start - HOUR, start, minute, |at| run(at, "healthy", 5.0)).await;
    check.import(start, start + HOUR, minute, |at| run(at, "unhealthy", 5.0)).await;
    let back = start + 2 * HOUR;
    check
        .import(back, back + HOUR, minute, |at| {
            run(at, if at < back + HOUR / 2 { "healthy" } else { "unhealthy" }, 5.0)
        })
        .await;
    let asked = json!({"startDate": text(start - HOUR), "endDate": text(back + HOUR)});
    let found = check.call("getUptime", asked.clone()).await["checks"][0].take();
    let stands = 180.0 + PATIENCE as f64 / 1e6;
    // The last run of the maintenance stands beyond its end.
    let expected = [
        ("healthySeconds", 5_400.0),
        ("unhealthySeconds", 1_800.0 + stands - 60.0),
        ("maintenanceSeconds", 3_600.0),
        ("noDataSeconds", 3_600.0 - (stands - 60.0)),
    ];
    for (key, seconds) in expected {
        assert!((found[key].as_f64().unwrap() - seconds).abs() < 1e-6, "{key}: {seconds} in {found}");
    }
    assert_eq!(found["maintenanceRunCount"], json!(60));
    assert_eq!((&found["runCount"], &found["healthyCount"]), (&json!(120), &json!(90)));
    let percent = found["runRatioPercent"].as_f64().unwrap();
    assert!((percent - 75.0).abs() < 1e-9, "{found}");
    let chart = check.call("getAggregatedHistory", {
        let mut asked = asked;
        asked["bucketSize"] = json!("hourly");
        asked
    });
    let chart = chart.await;
    let silent = &chart["buckets"][2];
    assert_eq!(
        (&silent["runCount"], &silent["successRate"], &silent["p95LatencyMs"]),
        (&json!(0), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn days_are_those_of_the_time_zone_that_is_asked_for() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    // Around the end of summer time in Berlin, 26 October 2025.
    let (from, to) = (micros("2025-10-24T00:00:00Z"), micros("2025-10-29T00:00:00Z"));
    check.import(from, to, HOUR / 4, |at| run(at, "healthy", 1.0)).await;
    let asked = json!({
        "startDate": "2025-10-24T22:00:00Z", "endDate": "2025-10-27T23:00:00Z", "bucketSize": "daily", "timeZone": "Europe/Berlin"
    });
    let chart = check.call("getAggregatedHistory", asked).await;
    let shown: Vec<_> = chart["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["bucketStart"].as_str().unwrap(), one["runCount"].as_i64().unwrap()))
        .collect();
    let expected =
        [("2025-10-24T22:00:00.000Z", 96), ("2025-10-25T22:00:00.000Z", 100), ("2025-10-26T23:00:00.000Z", 96)];
    assert_eq!(shown, expected, "{chart}");
    assert_eq!(chart["approximateBefore"], Value::Null);
    let half = json!({
        "startDate": "2025-10-24T18:30:00Z", "endDate": "2025-10-26T18:30:00Z", "bucketSize": "daily", "timeZone": "Asia/Kolkata"
    });
    let chart = check.call("getAggregatedHistory", half).await;
    let counts: Vec<_> = chart["buckets"].as_array().unwrap().iter().map(|one| one["runCount"].clone()).collect();
    assert_eq!(
        (counts, &chart["sources"]),
        (vec![json!(96), json!(96)], &json!(["raw"])),
        "whole runs tell it exactly"
    );
    let refused = check.refusal(
        "getAggregatedHistory",
        json!({
            "startDate": "2025-10-24T18:30:00Z", "endDate": "2025-10-26T18:30:00Z", "timeZone": "Mars/Base"
        }),
    );
    let refused = refused.await;
    assert_eq!(
        (refused.status, &refused.body["data"]["issues"][0]["path"]),
        (400, &json!(["timeZone"])),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn what_was_found_is_kept_for_failures_and_changes_and_its_numbers_for_all() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    let hour = NOW / HOUR * HOUR - 4 * HOUR;
    let found = |at: i64, status: &str| {
        let millis = (at - hour) / SECOND;
        json!({
            "timestamp": text(at), "status": status, "latencyMs": 1.5,
            "result": {"status": status, "message": format!("at {millis}"), "metadata": {"connectionTimeMs": millis, "note": "x"}}
        })
    };
    // Recent ones, which the clock then seals.
    let now = NOW / SECOND * SECOND - 100 * SECOND;
    for (first, offset) in [(hour, 0), (now, now - hour)] {
        let statuses = ["healthy", "healthy", "unhealthy", "healthy", "healthy"];
        let runs: Vec<_> = (0..5).zip(statuses).map(|(place, status)| found(first + place * SECOND, status)).collect();
        check.call("importRuns", json!({"runs": runs})).await;
        assert!(offset >= 0);
    }
    server.clock.advance(Duration::from_hours(2));
    until_metric(&server, "checkmate_history_sealed_runs_total 5").await;
    for first in [hour, now] {
        let asked = json!({"startDate": text(first), "endDate": text(first + 10 * SECOND), "sortOrder": "asc"});
        let runs = check.call("getDetailedHistory", asked).await["runs"].take();
        let notes: Vec<_> = runs.as_array().unwrap().iter().map(|run| run["result"]["message"].is_string()).collect();
        // The first run of all is a change, the first of the others is as good as the one before.
        assert_eq!(notes, [first == hour, false, true, true, false], "{runs}");
        let one = server.admin().call("healthcheck.getRunById", runs[2]["id"].clone()).await;
        assert_eq!(one["result"]["metadata"]["note"], json!("x"));
        let good = server.admin().call("healthcheck.getRunById", runs[1]["id"].clone()).await;
        assert_eq!((&good["result"], &good["latencyMs"]), (&json!({}), &json!(1.5)));
        let asked = json!({"startDate": text(first), "endDate": text(first + HOUR), "bucketSize": "hourly"});
        let chart = check.call("getDetailedAggregatedHistory", asked).await;
        let figure = &chart["buckets"][0]["aggregatedResult"]["connectionTimeMs"];
        let start = (first - hour) / SECOND;
        let expected = json!({"count": 5, "min": start, "max": start + 4, "mean": start + 2, "last": start + 4});
        assert_eq!(*figure, expected, "{chart}");
    }
}

#[tokio::test]
async fn what_is_imported_twice_or_too_late_is_counted_not_stored() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    let old = today() - 20 * DAY;
    check.import(old, old + HOUR, 60 * SECOND, |at| run(at, "healthy", 1.0)).await;
    let again = json!({"runs": [run(old, "unhealthy", 9.0), run(old + SECOND, "healthy", 1.0), run(old + SECOND, "unhealthy", 2.0)]});
    let answer = check.call("importRuns", again).await;
    assert_eq!(answer, json!({"imported": 1, "duplicates": 2, "tooOld": 0}));
    check
        .call("updateRetentionConfig", json!({"retentionConfig": {"rawRetentionDays": 1, "hourlyRetentionDays": 7}}))
        .await;
    until_metric(&server, "checkmate_history_swept_rows_total{tier=\"hourly\"} 2").await;
    let answer = check.call("importRuns", json!({"runs": [run(old + 2 * SECOND, "healthy", 1.0)]})).await;
    assert_eq!(answer, json!({"imported": 0, "duplicates": 0, "tooOld": 1}), "it would be counted twice or not at all");
    let asked = json!({"startDate": text(old), "endDate": text(old + DAY), "targetPoints": 10});
    let chart = check.call("getAggregatedHistory", asked).await;
    assert_eq!((&chart["buckets"][0]["runCount"], &chart["sources"]), (&json!(61), &json!(["daily"])), "{chart}");
    let day_before = json!({"runs": [run(old - DAY, "healthy", 1.0)]});
    assert_eq!(check.call("importRuns", day_before).await["imported"], json!(1), "of that day nothing was known");
    for (bad, path) in [
        (json!({"runs": [run(NOW + HOUR, "healthy", 1.0)]}), json!(["runs", 0, "timestamp"])),
        (
            json!({"runs": [{"timestamp": text(old), "status": "healthy", "latencyMs": -1}]}),
            json!(["runs", 0, "latencyMs"]),
        ),
        (json!({"runs": [{"status": "healthy"}]}), json!(["runs", 0, "timestamp"])),
    ] {
        let refused = check.refusal("importRuns", bad).await;
        assert_eq!((refused.status, &refused.body["data"]["issues"][0]["path"]), (400, &path), "{}", refused.text);
    }
}

#[tokio::test]
async fn retention_is_bounded_and_in_order() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    assert_eq!(check.call("getRetentionConfig", json!({})).await, json!({"retentionConfig": null}));
    let kept = check.call("updateRetentionConfig", json!({"retentionConfig": {"rawRetentionDays": 3}})).await;
    let expected =
        json!({"retentionConfig": {"rawRetentionDays": 3, "hourlyRetentionDays": 30, "dailyRetentionDays": 365}});
    assert_eq!(kept, expected);
    assert_eq!(check.call("getRetentionConfig", json!({})).await, expected);
    for (bad, path) in [
        (json!({"rawRetentionDays": 31}), "rawRetentionDays"),
        (json!({"rawRetentionDays": 10, "hourlyRetentionDays": 10}), "rawRetentionDays"),
        (json!({"hourlyRetentionDays": 40, "dailyRetentionDays": 40}), "hourlyRetentionDays"),
        (json!({"dailyRetentionDays": 1096}), "dailyRetentionDays"),
    ] {
        let refused = check.refusal("updateRetentionConfig", json!({"retentionConfig": bad})).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert_eq!(refused.body["data"]["issues"][0]["path"], json!(["retentionConfig", path]), "{}", refused.text);
    }
    assert_eq!(
        check.call("updateRetentionConfig", json!({"retentionConfig": null})).await,
        json!({"retentionConfig": null})
    );
    let nobody = json!({"systemId": uuid::Uuid::now_v7().to_string(), "configurationId": check.check});
    assert_eq!(server.admin().json("healthcheck.getRetentionConfig", nobody).await.status, 404);
}

#[tokio::test]
async fn runs_are_exported_whole_and_from_any_place() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    let mut chance = Chance::of(7);
    let mut times: Vec<_> = (0..90).map(|_| (NOW - chance.below(3 * DAY)) / 1_000 * 1_000).collect();
    times.sort_unstable();
    times.dedup();
    let runs: Vec<_> = times.iter().map(|at| run(*at, "degraded", 2.5)).collect();
    check.call("importRuns", json!({"runs": runs})).await;
    let expected: Vec<_> = times.iter().map(|at| text(*at)).collect();
    let asked = json!({"systemId": check.system});
    for way in WAYS {
        let mut stream = Stream::open(way, &check.admin, "healthcheck.exportRuns", &asked).await.unwrap();
        let all = stream.state().await;
        let shown: Vec<_> = all.iter().filter_map(|one| one["timestamp"].as_str()).collect();
        assert_eq!(shown, expected, "{way:?}");
        let mut from = asked.clone();
        from["cursor"] = all[40]["cursor"].clone();
        let mut stream = Stream::open(way, &check.admin, "healthcheck.exportRuns", &from).await.unwrap();
        let rest = stream.state().await;
        assert_eq!(rest, all[41..], "{way:?} resumes behind what was read");
    }
    let response = check.admin.request("POST", "/api/healthcheck/exportRuns").header("accept", "text/csv").json(&asked);
    let response = response.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/csv");
    let table = response.text().await.unwrap();
    let lines: Vec<_> = table.split_terminator("\r\n").collect();
    assert_eq!((lines[0], lines.len()), ("configurationId,id,latencyMs,status,systemId,timestamp", times.len() + 1));
    assert!(lines[1].ends_with(&format!(",2.5,degraded,{},{}", check.system, expected[0])), "{}", lines[1]);
}

#[tokio::test]
async fn changes_of_status_are_remembered() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    let minute = 60 * SECOND;
    let start = NOW - 60 * minute;
    let word = "hhuuuuuhh";
    let runs = word.chars().enumerate().map(|(place, one)| {
        let at = start + i64::try_from(place).unwrap() * minute;
        run(at, if one == 'h' { "healthy" } else { "unhealthy" }, 1.0)
    });
    check.call("importRuns", json!({"runs": runs.collect::<Vec<_>>()})).await;
    let later = start + 50 * minute;
    check.call("importRuns", json!({"runs": [run(later, "healthy", 1.0)]})).await;
    let mut pages = server
        .admin()
        .pages("healthcheck.getStatusChanges", "changes", check.input(json!({"pageSize": 2})))
        .await
        .concat();
    pages.reverse();
    let shown: Vec<_> = pages
        .iter()
        .map(|one| (micros(one["timestamp"].as_str().unwrap()) - start, one["status"].as_str().unwrap()))
        .collect();
    let silent = 8 * minute + 3 * minute + PATIENCE;
    let expected = [
        (0, "healthy"),
        (3 * minute, "degraded"),
        (6 * minute, "unhealthy"),
        (7 * minute, "healthy"),
        (silent, "unknown"),
        (50 * minute, "healthy"),
    ];
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn what_belonged_to_a_deleted_check_goes() {
    let server = Server::start().await;
    let check = Check::of(&server).await;
    let old = today() - 3 * DAY;
    check.import(old, old + DAY, HOUR / 2, |at| run(at, "unhealthy", 1.0)).await;
    let input = json!({"systemId": check.system, "configId": check.check});
    server.admin().call("healthcheck.disassociateSystem", input).await;
    // It is looked for every half minute.
    for _ in 0..700 {
        if server.admin().get("/metrics").await.text.contains("checkmate_history_swept_rows_total{tier=\"raw\"} 24") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing was swept");
}

#[tokio::test]
async fn what_one_replica_stores_all_can_read() {
    if !crate::server::is_postgres() {
        return;
    }
    let server = Server::start().await;
    let check = Check::of(&server).await;
    let other = server.replica().await;
    for (place, ago) in [(1, 2 * DAY), (2, 60 * SECOND)] {
        let at = (NOW - ago) / 1_000 * 1_000;
        check.call("importRuns", json!({"runs": [run(at, "healthy", 1.0)]})).await;
        let stored = std::time::Instant::now();
        let found = other.admin().call("healthcheck.getHistory", check.input(json!({}))).await;
        assert_eq!(found["total"], json!(place), "after {:?}", stored.elapsed());
    }
}
