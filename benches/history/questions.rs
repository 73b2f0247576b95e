//! What is asked, and how long the answers took.

use crate::made::{Check, OF_A_YEAR, Plan, input};
use crate::served::Served;
use anyhow::{Result, ensure};
use checkmate::database::Timestamp;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DAY: i64 = 86_400_000_000;

/// Each is asked so often.
const TIMES: usize = 200;

/// The aims of the issue, at the 95th percentile.
const AIM_SQLITE: Duration = Duration::from_millis(10);
const AIM_POSTGRES: Duration = Duration::from_millis(20);

pub async fn ask(served: &Served, plan: &Plan, checks: &[Check], all: u64) -> Result<()> {
    let now = served.now();
    let time = |at: i64| json!(Timestamp(at).to_string());
    let range = |days: i64| json!({"startDate": time(now - days * DAY), "endDate": time(now), "targetPoints": 500});
    let of_year = &checks[..OF_A_YEAR];
    let latest = |check: &Check| ("healthcheck.getHistory", input(check, json!({"limit": 100})));
    measure(served, "latest 100", checks, latest, |answer| {
        answer["runs"].as_array().is_some_and(|runs| runs.len() == 100)
    })
    .await?;
    let chart = |days: i64| {
        let asked = range(days);
        move |check: &Check| ("healthcheck.getAggregatedHistory", input(check, asked.clone()))
    };
    let has_percentiles = |answer: &Value| {
        answer["buckets"].as_array().is_some_and(|all| all.iter().any(|one| one["p99LatencyMs"].is_f64()))
    };
    measure(served, "a day in 500 points", checks, chart(1), has_percentiles).await?;
    measure(served, "30 days in 500 points", checks, chart(30.min(plan.days)), has_percentiles).await?;
    measure(served, "a year in 500 points", of_year, chart(365), has_percentiles).await?;
    let uptime = |check: &Check| {
        ("healthcheck.getUptime", input(check, json!({"startDate": time(now - 365 * DAY), "endDate": time(now)})))
    };
    measure(served, "uptime over a year", of_year, uptime, |answer| answer["checks"][0]["runRatioPercent"].is_f64())
        .await?;
    let systems: Vec<_> = checks.iter().map(|check| &check.system).collect();
    let statuses = json!({"systemIds": systems});
    let status = |_: &Check| ("healthcheck.getBulkSystemHealthStatus", statuses.clone());
    let count = checks.len();
    measure(served, "status of 1,000 systems", checks, status, |answer| {
        answer["statuses"].as_object().is_some_and(|all| all.len() == count)
    })
    .await?;
    let stored: i64 =
        served.call("healthcheck.getHistory", &json!({"limit": 1})).await?["total"].as_i64().unwrap_or(-1);
    ensure!(stored as u64 == all, "{stored} runs are there, {all} were acknowledged");
    Ok(())
}

async fn measure(
    served: &Served,
    what: &str,
    checks: &[Check],
    question: impl Fn(&Check) -> (&'static str, Value),
    is_right: impl Fn(&Value) -> bool,
) -> Result<()> {
    let mut times = vec![];
    for (place, check) in checks.iter().cycle().step_by(7).take(TIMES).enumerate() {
        let (procedure, input) = question(check);
        let started = Instant::now();
        let answer = served.ask(procedure, &input).await?;
        times.push(started.elapsed());
        if place == 0 {
            let answer: Value = serde_json::from_slice(&answer)?;
            ensure!(is_right(&answer), "{what}: {answer}");
        }
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let aim = if served.kind() == "SQLite" { AIM_SQLITE } else { AIM_POSTGRES };
    let (median, tail) = (at(0.5), at(0.95));
    let verdict = if tail <= aim { "met" } else { "MISSED" };
    println!(
        "{what:<26} p50 {:>7.2} ms   p95 {:>7.2} ms   aim {} ms: {verdict}",
        ms(median),
        ms(tail),
        aim.as_millis()
    );
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
