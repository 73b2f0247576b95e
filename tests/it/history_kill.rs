//! Servers that are killed while runs come in, are sealed and deleted: what was acknowledged is there afterwards, once.
//!
//! `cargo test --test it killed_two_hundred_times -- --ignored --nocapture` does it at length.

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

use crate::history_model::{Chance, micros, text};
use crate::server::{Caller, database_url};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SECOND: i64 = 1_000_000;

/// Where it dies by itself.
const POINTS: [&str; 8] = [
    "import.before_commit",
    "import.after_commit",
    "record.before_commit",
    "record.after_commit",
    "seal.before_commit",
    "seal.after_commit",
    "sweep.before_commit",
    "sweep.after_commit",
];

/// A database that outlives its servers.
struct Place {
    folder: tempfile::TempDir,
    database: String,
    key: String,
}

/// A server that dies with this, at the latest.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already, which is the purpose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = database_url(folder.path().join("killed.db")).await;
        Self { folder, database, key: String::new() }
    }

    fn start(&mut self, die_at: &str, ahead_s: i64) -> Server {
        let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_checkmate")));
        command
            .env_clear()
            .current_dir(&self.folder)
            .env("CHECKMATE_LISTEN", "127.0.0.1:0")
            .env("CHECKMATE_LOG", "error");
        command.env("CHECKMATE_DATABASE", &self.database).env("CHECKMATE_INSTANCE_KEY", "ab".repeat(32));
        command.env("CHECKMATE_DIE_AT", die_at).env("CHECKMATE_CLOCK_AHEAD_S", ahead_s.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if line.trim().starts_with("ck_") {
                line.trim().clone_into(&mut self.key);
            }
            if let Some(address) = line.strip_prefix("listening on ") {
                address.clone_into(&mut url);
                break;
            }
        }
        assert!(!url.is_empty(), "the server starts, whatever happened to the one before");
        Server { child, url }
    }

    fn admin(&self, server: &Server) -> Caller {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Caller { url: server.url.clone(), key: Some(self.key.clone()), http }
    }
}

/// What somebody who reports runs knows.
struct Reporter {
    system: String,
    check: String,
    heartbeat: String,
    /// Acknowledged.
    known: BTreeSet<i64>,
    /// Sent, and never answered.
    unsure: BTreeSet<i64>,
    /// Acknowledged reports of the heartbeat.
    reports: usize,
    reports_unsure: usize,
    next: i64,
}

/// One call; `None` if its server died.
async fn try_call(admin: &Caller, procedure: &str, input: &Value) -> Option<Value> {
    let (plugin, name) = procedure.split_once('.').unwrap();
    let request = admin.request("POST", &format!("/api/{plugin}/{name}")).json(input);
    let response = request.send().await.ok()?;
    let (status, text) = (response.status(), response.text().await.ok()?);
    assert_eq!(status, 200, "{procedure}: {text}");
    serde_json::from_str(&text).ok()
}

impl Reporter {
    async fn new(admin: &Caller) -> Self {
        let (system, check) = crate::history_model::idle_check(admin).await;
        let input = json!({"name": "backup", "strategyId": "heartbeat", "config": {}, "intervalSeconds": 86_400});
        let heartbeat = admin.call("healthcheck.createConfiguration", input).await["id"].as_str().unwrap().to_owned();
        let body = json!({"configurationId": heartbeat});
        admin.call("healthcheck.associateSystem", json!({"systemId": system, "body": body})).await;
        let (known, unsure) = (BTreeSet::new(), BTreeSet::new());
        Self { system, check, heartbeat, known, unsure, reports: 0, reports_unsure: 0, next: 0 }
    }

    /// Reports until its server dies, or for so long.
    async fn report(&mut self, admin: &Caller, chance: &mut Chance, most: Duration) {
        let started = Instant::now();
        while started.elapsed() < most {
            let now = chrono::Utc::now().timestamp_micros() / 1_000 * 1_000;
            // Some of now, some of the days before.
            let around = if chance.below(2) == 0 { now } else { now - chance.below(3 * 86_400) * SECOND };
            let mut times = BTreeSet::new();
            for _ in 0..=chance.below(20) {
                self.next += 1_000;
                times.insert(around - (self.next * 7_919) % (600 * SECOND) / 1_000 * 1_000);
            }
            let runs: Vec<_> =
                times.iter().map(|at| json!({"timestamp": text(*at), "status": "healthy", "latencyMs": 1})).collect();
            let input = json!({"systemId": self.system, "configurationId": self.check, "runs": runs});
            match try_call(admin, "healthcheck.importRuns", &input).await {
                Some(_) => self.known.extend(times),
                None => {
                    self.unsure.extend(times);
                    return;
                }
            }
            match try_call(admin, "healthcheck.reportResult", &json!({"configurationId": self.heartbeat})).await {
                Some(_) => self.reports += 1,
                None => {
                    self.reports_unsure += 1;
                    return;
                }
            }
        }
    }

    /// Everything that is there.
    async fn compare(&mut self, admin: &Caller, when: &str) {
        let input =
            json!({"systemId": self.system, "configurationId": self.check, "sortOrder": "asc", "pageSize": 1000});
        let found = admin.pages("healthcheck.getHistory", "runs", input.clone()).await.concat();
        let times: Vec<_> = found.iter().map(|run| micros(run["timestamp"].as_str().unwrap())).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "{when}: none is there twice");
        let there: BTreeSet<_> = times.into_iter().collect();
        let lost: Vec<_> = self.known.difference(&there).collect();
        assert!(lost.is_empty(), "{when}: {} of {} are lost: {lost:?}", lost.len(), self.known.len());
        let invented: Vec<_> = there.difference(&self.known).filter(|at| !self.unsure.contains(at)).collect();
        assert!(invented.is_empty(), "{when}: {invented:?}");
        let total = admin.call("healthcheck.getHistory", input).await["total"].as_u64();
        assert_eq!(total, Some(there.len() as u64), "{when}: the count is right");
        let (first, last) = (there.first(), there.last());
        if let (Some(first), Some(last)) = (first, last) {
            let asked = json!({
                "systemId": self.system, "configurationId": self.check,
                "startDate": text(*first), "endDate": text(last + 1_000), "bucketSize": "hourly"
            });
            let chart = admin.call("healthcheck.getAggregatedHistory", asked).await;
            let tallied: u64 =
                chart["buckets"].as_array().unwrap().iter().map(|one| one["runCount"].as_u64().unwrap()).sum();
            assert_eq!(tallied, there.len() as u64, "{when}: the tallies are right");
        }
        self.known = there;
        self.unsure.clear();
        self.compare_reports(admin, when).await;
    }

    async fn compare_reports(&mut self, admin: &Caller, when: &str) {
        let input = json!({"configurationId": self.heartbeat, "status": "healthy", "limit": 1});
        let total = admin.call("healthcheck.getHistory", input).await["total"].as_u64().unwrap();
        let most = self.reports + self.reports_unsure;
        let total = usize::try_from(total).unwrap();
        assert!((self.reports..=most).contains(&total), "{when}: {total} reports, {} acknowledged", self.reports);
        (self.reports, self.reports_unsure) = (total, 0);
    }
}

/// Kills servers: at each point, and at random.
async fn kill(times: usize, seed: u64) {
    let (mut place, mut chance) = (Place::new().await, Chance::of(seed));
    let server = place.start("", 0);
    let mut reporter = Reporter::new(&place.admin(&server)).await;
    drop(server);
    for round in 0..times {
        let point = POINTS.get(round % (POINTS.len() + 3)).copied().unwrap_or_default();
        let server = if point.starts_with("seal") || point.starts_with("sweep") {
            let server = place.start("", 0);
            reporter.report(&place.admin(&server), &mut chance, Duration::from_millis(300)).await;
            drop(server);
            // Hours later it dies of its work on what was reported.
            place.start(point, 7_200)
        } else {
            place.start(&format!("{point}:{}", 1 + chance.below(8)), 0)
        };
        let admin = place.admin(&server);
        if point.starts_with("seal") || point.starts_with("sweep") {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        } else {
            let most = if point.is_empty() { chance.below(700) } else { 2_000 };
            reporter.report(&admin, &mut chance, Duration::from_millis(most.unsigned_abs())).await;
        }
        drop(server);
        let server = place.start("", 0);
        reporter.compare(&place.admin(&server), &format!("round {round} at {point:?}")).await;
    }
    assert!(!reporter.known.is_empty() && reporter.reports > 0);
    println!(
        "killed {times} times; {} runs and {} reports are there, each once",
        reporter.known.len(),
        reporter.reports
    );
}

#[tokio::test]
async fn what_was_acknowledged_survives_kills_at_any_point() {
    kill(POINTS.len() + 3, 6).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn killed_two_hundred_times() {
    kill(200, 7).await;
}
