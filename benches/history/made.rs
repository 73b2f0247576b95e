//! What is measured: checks of systems, and runs at 30 s that look like those of real ones.

use crate::served::Served;
use anyhow::{Context, Result, ensure};
use checkmate::proto::checkmate::healthcheck::v1 as pb;
use serde_json::{Value, json};
use std::time::Instant;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

const SECOND: i64 = 1_000_000;
const STEP: i64 = 30 * SECOND;
const DAY: i64 = 86_400 * SECOND;

/// Checks of systems, an association each.
const CHECKS: usize = 1_000;

/// So many of them have a whole year.
pub const OF_A_YEAR: usize = 10;

/// A call takes so many days of a check.
const DAYS_AT_ONCE: i64 = 4;

/// A check of a system.
#[derive(Clone)]
pub struct Check {
    pub system: String,
    pub configuration: String,
    seed: u64,
}

/// How much of it there is.
pub struct Plan {
    /// Days of every check.
    pub days: i64,
    /// Days of some.
    pub year: i64,
}

impl Plan {
    pub fn of(runs: u64) -> Self {
        let a_day = (DAY / STEP) as u64;
        let year = 365.min((runs / a_day / 40).max(2)) as i64;
        let rest = runs.saturating_sub(OF_A_YEAR as u64 * year as u64 * a_day);
        let days = (rest / a_day / (CHECKS - OF_A_YEAR) as u64).max(1) as i64;
        Self { days, year: year.max(days) }
    }

    pub fn words(&self) -> String {
        format!("{CHECKS} checks at 30 s, {} days of each, {} days of {OF_A_YEAR} of them", self.days, self.year)
    }
}

pub async fn checks(served: &Served) -> Result<Vec<Check>> {
    let config = json!({
        "name": "port", "strategyId": "tcp", "config": {"host": "127.0.0.1", "port": 1}, "intervalSeconds": 30, "timeoutMs": 1000
    });
    let made = served.call("healthcheck.createConfiguration", &config).await?;
    let configuration = made["id"].as_str().context("an id")?.to_owned();
    let mut checks = vec![];
    for place in 0..CHECKS {
        let made = served.call("catalog.createSystem", &json!({"name": format!("system {place}")})).await?;
        let system = made["id"].as_str().context("an id")?.to_owned();
        // It does not run by itself: nothing but what is imported is measured.
        let body = json!({"configurationId": configuration, "enabled": false});
        served.call("healthcheck.associateSystem", &json!({"systemId": system, "body": body})).await?;
        checks.push(Check { system, configuration: configuration.clone(), seed: place as u64 + 1 });
    }
    keep(served, &checks, 30, 90).await?;
    Ok(checks)
}

/// For how long history is kept.
pub async fn keep(served: &Served, checks: &[Check], raw: i64, hourly: i64) -> Result<()> {
    for check in checks {
        let kept = json!({"rawRetentionDays": raw, "hourlyRetentionDays": hourly, "dailyRetentionDays": 1095});
        let input = json!({"systemId": check.system, "configurationId": check.configuration, "retentionConfig": kept});
        served.call("healthcheck.updateRetentionConfig", &input).await?;
    }
    Ok(())
}

/// Everything but the last hours, some days of all checks after the other, as they would have come.
pub async fn import(served: &Served, plan: &Plan, checks: &[Check]) -> Result<u64> {
    let channel = Channel::from_shared(served.url.clone())?.connect().await?;
    // The last runs are the second last hour's: the hour that is sealed last.
    let end = served.now() - 3_600 * SECOND;
    let (started, mut told, mut all) = (Instant::now(), Instant::now(), 0);
    let mut day = plan.year;
    while day > 0 {
        let days = day.min(DAYS_AT_ONCE);
        let (from, to) = (end - day * DAY, end - (day - days) * DAY);
        for (place, check) in checks.iter().enumerate() {
            let from = if place < OF_A_YEAR { from } else { from.max(end - plan.days * DAY) };
            if from < to {
                all += send(&channel, served, check, from, to).await?;
            }
            if told.elapsed().as_secs() >= 10 {
                told = Instant::now();
                println!("  {all} runs after {:.0} s", started.elapsed().as_secs_f64());
            }
        }
        day -= days;
    }
    Ok(all)
}

/// The last hours, which are rows until they are sealed.
pub async fn import_recent(served: &Served, checks: &[Check]) -> Result<u64> {
    let channel = Channel::from_shared(served.url.clone())?.connect().await?;
    let mut all = 0;
    for check in checks {
        all += send(&channel, served, check, served.now() - 3_600 * SECOND, served.now()).await?;
    }
    Ok(all)
}

async fn send(channel: &Channel, served: &Served, check: &Check, from: i64, to: i64) -> Result<u64> {
    let mut chance = check.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ from as u64;
    let mut next = || {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) as f64 / f64::from(1_u32 << 31)
    };
    // A rhythm of its own, to the microsecond, as the schedule gives to each.
    let phase = (check.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) % STEP as u64) as i64;
    let mut at = from.div_euclid(STEP) * STEP + phase;
    if at < from {
        at += STEP;
    }
    let mut runs = Vec::with_capacity(((to - from) / STEP) as usize + 1);
    while at < to {
        // Around 80 ms, with a tail, to the microsecond.
        let spread: f64 = (0..6).map(|_| next()).sum::<f64>() - 3.0;
        let latency_ms = (80.0 * (0.45 * spread).exp() * 1e3).round() / 1e3;
        let luck = next();
        let status = if luck < 0.001 { pb::HealthStatus::Unhealthy } else { pb::HealthStatus::Healthy };
        runs.push(pb::ImportedRun {
            timestamp: Some(checkmate::database::Timestamp(at).message()),
            status: status.into(),
            latency_ms: Some(latency_ms),
            result: None,
        });
        at += STEP;
    }
    let sent = runs.len() as u64;
    let message =
        pb::ImportRunsRequest { system_id: check.system.clone(), configuration_id: check.configuration.clone(), runs };
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {}", served.key).parse()?);
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await?;
    let path = "/checkmate.healthcheck.v1.HealthcheckService/ImportRuns".parse()?;
    let codec: ProstCodec<pb::ImportRunsRequest, pb::ImportRunsResponse> = ProstCodec::default();
    let answer = client.unary(request, path, codec).await?.into_inner();
    ensure!(answer.imported == sent as i64, "{sent} runs were sent: {answer:?}");
    Ok(sent)
}

/// The system and the check of a question.
pub fn input(check: &Check, more: Value) -> Value {
    let mut input = json!({"systemId": check.system, "configurationId": check.configuration});
    if let (Some(input), Value::Object(more)) = (input.as_object_mut(), more) {
        input.extend(more);
    }
    input
}
