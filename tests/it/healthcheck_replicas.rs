//! Replicas that share the checks: one is killed and another stands still for a while, and every due time has one run.

use crate::checked::{PATIENCE, SECOND, Target, associate, check, metric, runs, system};
use crate::cluster::until;
use crate::process::{Home, Running, send};
use crate::server::{Caller, is_postgres};
use serde_json::{Value, json};
use sqlx::Connection;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;
use uuid::Uuid;

/// The promise: so long after a replica is gone others run its checks.
const GAP_MAX_US: i64 = 10_000_000;

/// A run is stored this soon after it was due, also when it had to wait for another replica.
const LATE_MAX: Duration = Duration::from_secs(15);

/// Longer than that.
const STANDS_STILL: Duration = Duration::from_secs(20);

fn replica(home: &Home) -> Running {
    Running::start(home.command(&[]).env("CHECKMATE_LOG", "error"))
}

async fn until_it_runs_some(of: &Caller) {
    until("it has a share", PATIENCE, async || metric(of, "check_start_lag_seconds_count").await > 0).await;
}

/// The times for which each system had runs of a check, in microseconds.
async fn times(caller: &Caller, check: &Value) -> BTreeMap<String, Vec<i64>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for run in runs(caller, check).await {
        let at: jiff::Timestamp = run["timestamp"].as_str().unwrap().parse().unwrap();
        found.entry(run["systemId"].to_string()).or_default().push(at.as_microsecond());
    }
    found
}

fn gaps(times: &[i64]) -> Vec<Duration> {
    times.windows(2).map(|two| Duration::from_micros(u64::try_from(two[1] - two[0]).unwrap())).collect()
}

/// How long after it was due each run was stored: the id of its batch says when that was.
async fn delays(database: &str) -> Vec<Duration> {
    let mut connection = sqlx::PgConnection::connect(database).await.unwrap();
    let rows: Vec<(i64, Uuid)> =
        sqlx::query_as("select scheduled_at, batch from healthcheck_run").fetch_all(&mut connection).await.unwrap();
    let delay = |(at, batch): (i64, Uuid)| {
        let stored_ms = batch.as_u64_pair().0 >> 16;
        Duration::from_millis(stored_ms.saturating_sub(u64::try_from(at).unwrap() / 1_000))
    };
    rows.into_iter().map(delay).collect()
}

#[tokio::test]
async fn every_due_time_has_one_run_whatever_happens_to_the_replicas() {
    if !is_postgres() {
        return;
    }
    let (home, target) = (Home::new().await, Target::start().await);
    let mut killed = replica(&home);
    let key = killed.key();
    let (paused, other) = (replica(&home), replica(&home));
    let [first, second, third] = [&killed, &paused, &other].map(|one| one.with_key(&key));
    // Long enough to be killed in, and short enough that no run waits for its turn: one host is asked by eight at once.
    target.takes(SECOND / 2);
    let often = check(&third, &target, json!({"name": "often", "intervalSeconds": 2})).await;
    let seldom = check(&third, &target, json!({"name": "seldom", "intervalSeconds": 15})).await;
    for number in 0..12 {
        let shop = system(&third, &format!("shop {number}")).await;
        associate(&third, &shop, &often, json!({})).await;
        associate(&third, &shop, &seldom, json!({})).await;
    }
    for one in [&first, &second, &third] {
        until_it_runs_some(one).await;
    }
    sleep(SECOND * 5).await;

    let mut gone = vec![jiff::Timestamp::now().as_microsecond()];
    killed.child.kill().unwrap();
    sleep(SECOND * 12).await;
    // In the middle of runs, and for longer than its lease.
    gone.push(jiff::Timestamp::now().as_microsecond());
    send("-STOP", paused.child.id());
    sleep(STANDS_STILL).await;
    send("-CONT", paused.child.id());
    sleep(SECOND * 20).await;

    let often = times(&third, &often).await;
    assert_eq!(often.len(), 12);
    for (system, times) in often {
        for gone in &gone {
            let next = times.iter().find(|at| *at > gone).map(|at| at - gone);
            assert!(next.is_some_and(|next| next < GAP_MAX_US), "{system} after {gone}: {times:?}");
        }
    }
    for (system, times) in times(&third, &seldom).await {
        // The first is out of turn, and the next may be the one after that.
        let gaps = gaps(&times[1..]);
        assert!(gaps.iter().all(|gap| *gap == SECOND * 15), "{system} has lost a run: {gaps:?}");
        assert!(!gaps.is_empty(), "{system}: {times:?}");
    }
    let latest = delays(home.database()).await.into_iter().max().unwrap();
    assert!(latest < LATE_MAX, "a run was stored {latest:?} after it was due, when another replica had it");
}
