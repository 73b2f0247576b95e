//! The history against a naive model: random runs, late ones and duplicates, the clock moved on, restarts and retention;
//! whatever is asked, whenever, the answer is the one that a list of all runs gives.

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

use crate::server::{Caller, Server};
use checkmate::database::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// When the clock of a test server starts.
pub const NOW: i64 = 1_767_624_767_000_000;

/// A verdict stands for three intervals of a minute, and as long as a run of this check may take.
const STANDS: i64 = 3 * MINUTE;

pub fn text(micros: i64) -> String {
    Timestamp(micros).to_string()
}

/// Small, and the same each time.
pub struct Chance(u64);

impl Chance {
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, end: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 11) % u64::try_from(end).unwrap()).unwrap()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    status: &'static str,
    latency_ms: Option<f64>,
}

/// A check of a system with everything that was stored of it.
struct Model {
    admin: Caller,
    system: String,
    check: String,
    runs: BTreeMap<i64, Run>,
    now: i64,
    /// Runs before this are gone.
    raw_from: i64,
}

/// A check that never runs by itself, and its system.
pub async fn idle_check(admin: &Caller) -> (String, String) {
    let system = admin.call("catalog.createSystem", json!({"name": "web"})).await;
    let input = json!({
        "name": "port", "strategyId": "tcp", "config": {"host": "127.0.0.1", "port": 1}, "intervalSeconds": 60,
        "timeoutMs": 1000
    });
    let check = admin.call("healthcheck.createConfiguration", input).await;
    let (system, check) = (system["id"].as_str().unwrap().to_owned(), check["id"].as_str().unwrap().to_owned());
    let body = json!({"configurationId": check, "enabled": false});
    admin.call("healthcheck.associateSystem", json!({"systemId": system, "body": body})).await;
    (system, check)
}

impl Model {
    async fn new(server: &Server) -> Self {
        let admin = server.admin();
        let (system, check) = idle_check(&admin).await;
        Self { admin, system, check, runs: BTreeMap::new(), now: NOW, raw_from: 0 }
    }

    fn input(&self, more: &Value) -> Value {
        let mut input = json!({"systemId": self.system, "configurationId": self.check});
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        input
    }

    /// Imports runs around a time, some of which are known already.
    async fn import(&mut self, chance: &mut Chance, around: i64, count: i64) {
        let mut runs = vec![];
        let (mut new, mut known) = (0, 0);
        for place in 0..count {
            let jitter = chance.below(3) * chance.below(20_000) * 1_000;
            let at = (around + place * MINUTE + jitter).min(self.now) / 1_000 * 1_000;
            let status = ["healthy", "healthy", "healthy", "degraded", "unhealthy", "unknown"]
                [usize::try_from(chance.below(6)).unwrap()];
            let latency_ms =
                (chance.below(10) > 0).then(|| f64::from(i32::try_from(chance.below(900_000)).unwrap()) / 1_000.0);
            runs.push(json!({"timestamp": text(at), "status": status, "latencyMs": latency_ms}));
            if latency_ms.is_none() {
                runs.last_mut().unwrap().as_object_mut().unwrap().remove("latencyMs");
            }
            if self.runs.contains_key(&at) {
                known += 1;
            } else {
                new += 1;
                self.runs.insert(at, Run { status, latency_ms });
            }
        }
        let answer = self.admin.call("healthcheck.importRuns", self.input(&json!({"runs": runs}))).await;
        assert_eq!(answer, json!({"imported": new, "duplicates": known, "tooOld": 0}));
    }

    fn between(&self, from: i64, to: i64) -> Vec<Run> {
        self.runs.range(from..to).map(|(_, run)| *run).collect()
    }

    /// For how long each verdict stood in a span.
    fn stood(&self, from: i64, to: i64) -> BTreeMap<&'static str, i64> {
        let says: Vec<_> = self.runs.iter().filter(|(_, run)| run.status != "unknown").collect();
        let mut found = BTreeMap::new();
        for (place, (at, run)) in says.iter().enumerate() {
            let next = says.get(place + 1).map_or(i64::MAX, |(at, _)| **at);
            let end = next.min(**at + STANDS + self.patience()).min(self.now).min(to);
            *found.entry(run.status).or_default() += (end - (**at).max(from)).max(0);
        }
        found
    }

    /// What a run of this check may take.
    fn patience(&self) -> i64 {
        crate::history::PATIENCE
    }

    async fn compare(&self, chance: &mut Chance) {
        self.compare_runs(chance).await;
        let length = [HOUR, 6 * HOUR, DAY, 7 * DAY, 20 * DAY][usize::try_from(chance.below(5)).unwrap()];
        let from = self.now - chance.below(24 * DAY) - 1;
        let to = (from + length).min(self.now);
        self.compare_chart(from, to, [10, 50, 500][usize::try_from(chance.below(3)).unwrap()]).await;
        self.compare_uptime(from, to).await;
    }

    async fn compare_runs(&self, chance: &mut Chance) {
        let order = ["asc", "desc"][usize::try_from(chance.below(2)).unwrap()];
        let status = [None, Some("unhealthy"), Some("healthy")][usize::try_from(chance.below(3)).unwrap()];
        let from = (self.now - chance.below(26 * DAY)).max(self.raw_from) / 1_000 * 1_000;
        let to = (from + chance.below(3 * DAY)) / 1_000 * 1_000;
        let mut expected: Vec<_> = self.runs.range(from..=to).collect();
        expected.retain(|(_, run)| status.is_none_or(|status| status == run.status));
        if order == "desc" {
            expected.reverse();
        }
        let filter = json!({"startDate": text(from), "endDate": text(to), "sortOrder": order, "pageSize": 1 + chance.below(200)});
        let mut input = self.input(&filter);
        if let Some(status) = status {
            input["status"] = json!(status);
        }
        let answer = self.admin.call("healthcheck.getHistory", input.clone()).await;
        assert_eq!(answer["total"], json!(expected.len()), "{input}");
        let found = self.admin.pages("healthcheck.getHistory", "runs", input.clone()).await.concat();
        let shown = |run: &Value| {
            (run["timestamp"].as_str().unwrap().to_owned(), run["status"].clone(), run["latencyMs"].as_f64())
        };
        let expected: Vec<_> =
            expected.iter().map(|(at, run)| (text(**at), json!(run.status), run.latency_ms)).collect();
        assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected, "{input}");
    }

    async fn compare_chart(&self, from: i64, to: i64, points: i64) {
        let asked = json!({"startDate": text(from), "endDate": text(to), "targetPoints": points});
        let chart = self.admin.call("healthcheck.getAggregatedHistory", self.input(&asked)).await;
        let buckets = chart["buckets"].as_array().unwrap();
        assert!(i64::try_from(buckets.len()).unwrap() <= points && !buckets.is_empty(), "{asked}");
        let mut last: Option<i64> = None;
        for bucket in buckets {
            let time = |key: &str| micros(bucket[key].as_str().unwrap());
            let (start, end) = (time("bucketStart"), time("bucketEnd"));
            assert!(last.is_none_or(|last| last == start), "no gap and no overlap");
            assert_eq!(start % (chart["bucketIntervalSeconds"].as_i64().unwrap() * 1_000_000), 0, "aligned to UTC");
            last = Some(end);
            self.compare_bucket(bucket, start, end);
        }
        let (first, last) = (micros(buckets[0]["bucketStart"].as_str().unwrap()), last.unwrap());
        assert!(first <= from && to <= last, "{asked}: from {} to {}", text(first), text(last));
    }

    fn compare_bucket(&self, bucket: &Value, start: i64, end: i64) {
        let runs = self.between(start, end);
        let count = |status: &str| runs.iter().filter(|run| run.status == status).count();
        for status in ["healthy", "degraded", "unhealthy", "unknown"] {
            assert_eq!(bucket[format!("{status}Count")], json!(count(status)), "{bucket}");
        }
        assert_eq!(bucket["runCount"], json!(runs.len()));
        let judged = runs.len() - count("unknown");
        let rate = (judged > 0).then(|| count("healthy") as f64 / judged as f64);
        assert!(is_near(bucket["successRate"].as_f64(), rate, 1e-9), "{bucket}");
        let mut latencies: Vec<_> = runs.iter().filter_map(|run| run.latency_ms).collect();
        latencies.sort_by(f64::total_cmp);
        assert!(is_near(bucket["minLatencyMs"].as_f64(), latencies.first().copied(), 1e-9), "{bucket}");
        assert!(is_near(bucket["maxLatencyMs"].as_f64(), latencies.last().copied(), 1e-9), "{bucket}");
        let mean = (!latencies.is_empty()).then(|| latencies.iter().sum::<f64>() / latencies.len() as f64);
        assert!(is_near(bucket["avgLatencyMs"].as_f64(), mean, 0.001), "{bucket} {mean:?}");
        for (key, share) in [("p50LatencyMs", 0.5), ("p95LatencyMs", 0.95), ("p99LatencyMs", 0.99)] {
            let rank = ((share * latencies.len() as f64).ceil() as usize).max(1);
            let exact = latencies.get(rank - 1).copied();
            let error = exact.map_or(0.0, |exact| exact * 0.01 + 0.001);
            assert!(is_near(bucket[key].as_f64(), exact, error), "{key} of {bucket}: {exact:?}");
        }
        self.compare_time(bucket, start, end);
    }

    fn compare_time(&self, answer: &Value, start: i64, end: i64) {
        let stood = self.stood(start, end);
        let seconds = |status: &str| stood.get(status).copied().unwrap_or_default() as f64 / 1e6;
        for status in ["healthy", "degraded", "unhealthy"] {
            let found = answer[format!("{status}Seconds")].as_f64();
            assert!(is_near(found, Some(seconds(status)), 2e-6), "{status} {} in {answer}", seconds(status));
        }
        let known: f64 = stood.values().map(|micros| *micros as f64 / 1e6).sum();
        let passed = (end.min(self.now) - start).max(0) as f64 / 1e6;
        assert!(is_near(answer["noDataSeconds"].as_f64(), Some(passed - known), 1e-5), "{answer} {passed} {known}");
    }

    async fn compare_uptime(&self, from: i64, to: i64) {
        let (from, to) = (from / 1_000 * 1_000, to / 1_000 * 1_000);
        if from >= to {
            return;
        }
        let asked = self.input(&json!({"startDate": text(from), "endDate": text(to)}));
        let answer = self.admin.call("healthcheck.getUptime", asked).await;
        let found = &answer["checks"][0];
        let (start, end) = (micros(found["startDate"].as_str().unwrap()), micros(found["endDate"].as_str().unwrap()));
        assert!(start <= from && (to <= end || end == self.now / 1_000 * 1_000), "{found}");
        let end = if to <= end { end } else { self.now };
        let runs = self.between(start, end);
        let count = |status: &str| runs.iter().filter(|run| run.status == status).count();
        let judged = runs.len() - count("unknown");
        assert_eq!(found["runCount"], json!(judged), "{found}");
        let ratio = (judged > 0).then(|| 100.0 * count("healthy") as f64 / judged as f64);
        assert!(is_near(found["runRatioPercent"].as_f64(), ratio, 1e-9), "{found} {ratio:?}");
        self.compare_time(found, start, end);
        let stood = self.stood(start, end);
        let time = |status: &str| stood.get(status).copied().unwrap_or_default() as f64;
        let works = time("healthy") + time("degraded");
        let all = works + time("unhealthy");
        let weighted = (all > 0.0).then(|| 100.0 * works / all);
        assert!(is_near(found["timeWeightedPercent"].as_f64(), weighted, 1e-7), "{found} {weighted:?}");
    }
}

fn is_near(found: Option<f64>, expected: Option<f64>, error: f64) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= error,
        (None, None) => true,
        _ => false,
    }
}

pub fn micros(text: &str) -> i64 {
    text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros()
}

#[tokio::test]
async fn every_answer_is_that_of_a_list_of_all_runs() {
    let mut server = Server::start().await;
    let mut chance = Chance::of(20_260_105);
    let mut model = Model::new(&server).await;
    let keep = json!({"rawRetentionDays": 30, "hourlyRetentionDays": 90, "dailyRetentionDays": 1095});
    model.admin.call("healthcheck.updateRetentionConfig", model.input(&json!({"retentionConfig": keep}))).await;
    for round in 0..24 {
        match chance.below(4) {
            0 => {
                let (around, count) = (model.now - chance.below(20 * DAY), 1 + chance.below(300));
                model.import(&mut chance, around / 1_000 * 1_000, count).await;
            }
            1 | 2 => {
                let count = 1 + chance.below(150);
                model.import(&mut chance, (model.now - count * MINUTE) / 1_000 * 1_000, count).await;
            }
            _ => {
                let passed = chance.below(i64::from(round % 5 == 0) * 30 * HOUR + 2 * HOUR);
                server.clock.advance(Duration::from_micros(passed.unsigned_abs()));
                model.now += passed;
            }
        }
        if round % 9 == 8 {
            server = server.restart_with(|_| {}).await;
            model.admin = server.admin();
        }
        model.compare(&mut chance).await;
        model.compare(&mut chance).await;
    }
    forget(&server, &mut model).await;
    for _ in 0..6 {
        model.compare(&mut chance).await;
    }
}

/// Keeps no more than a week of single runs and ten days of hours.
async fn forget(server: &Server, model: &mut Model) {
    let keep = json!({"rawRetentionDays": 7, "hourlyRetentionDays": 10, "dailyRetentionDays": 1095});
    model.admin.call("healthcheck.updateRetentionConfig", model.input(&json!({"retentionConfig": keep}))).await;
    model.raw_from = (model.now.div_euclid(DAY) - 7) * DAY;
    let gone = model.input(&json!({"endDate": text(model.raw_from - 1_000)}));
    for _ in 0..200 {
        let left = model.admin.call("healthcheck.getHistory", gone.clone()).await;
        if left["total"] == json!(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let left = model.admin.call("healthcheck.getHistory", gone).await;
    assert_eq!(left["total"], json!(0), "what is too old goes");
    let swept = server.admin().get("/metrics").await.text;
    assert!(swept.contains("checkmate_history_swept_rows_total{tier=\"raw\"}"), "{swept}");
}
