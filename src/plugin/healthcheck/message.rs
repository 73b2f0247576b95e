//! Messages into values of the domain, and back.

use super::domain::{Association, Check, Health, IncidentPolicy, RunId, SeverityWord};
use super::plan::{Looked, millis};
use super::recorder::Stored;
use super::run_store::Run;
use super::state::Thresholds;
use super::vault::{self, Secrets};
use crate::json::{Value, decode, encode};
use crate::probe::assertion::{Assertion, Judged};
use crate::probe::{Fault, Kind};
use crate::proto::checkmate::healthcheck::v1 as pb;
use std::time::Duration;

/// What was stored was checked before; what cannot be read any more is shown as nothing.
const STORED_JSON_DEPTH_MAX: usize = 128;

/// A status as it is on the wire.
pub(super) fn health(health: Health) -> i32 {
    match health {
        Health::Healthy => pb::HealthStatus::Healthy,
        Health::Degraded => pb::HealthStatus::Degraded,
        Health::Unhealthy => pb::HealthStatus::Unhealthy,
        Health::Unknown => pb::HealthStatus::Unknown,
    }
    .into()
}

/// A status off the wire; `None` if there is none.
pub(super) fn health_of(status: pb::HealthStatus) -> Option<Health> {
    match status {
        pb::HealthStatus::Unspecified => None,
        pb::HealthStatus::Healthy => Some(Health::Healthy),
        pb::HealthStatus::Degraded => Some(Health::Degraded),
        pb::HealthStatus::Unhealthy => Some(Health::Unhealthy),
        pb::HealthStatus::Unknown => Some(Health::Unknown),
    }
}

/// A kind of check.
pub(super) fn strategy(kind: &Kind) -> pb::Strategy {
    pb::Strategy {
        id: kind.id.to_owned(),
        display_name: kind.name.to_owned(),
        description: kind.description.to_owned(),
        config_schema: object(&kind.schemas().settings.to_string()),
        result_schema: object(&kind.schemas().findings.to_string()),
    }
}

/// A check, with the names of its secrets.
pub(super) fn check(check: Check, secrets: &Secrets) -> pb::HealthCheck {
    let assertions: Vec<Assertion> = serde_json::from_str(&check.assertions).unwrap_or_default();
    pb::HealthCheck {
        id: check.id.to_string(),
        name: check.name,
        description: check.description,
        strategy_id: check.strategy_id,
        config: object(&check.config),
        secrets: secrets.keys().map(|place| vault::shown(place)).collect(),
        assertions: assertions.iter().map(assertion).collect(),
        interval_seconds: narrow(check.interval_s),
        timeout_ms: narrow(check.timeout_ms),
        retries: narrow(check.retries),
        retry_backoff_ms: narrow(check.retry_backoff_ms),
        degraded_above_ms: check.degraded_above_ms.map(narrow),
        paused: check.paused,
        created_at: Some(check.created_at.message()),
        updated_at: Some(check.updated_at.message()),
    }
}

/// An association.
pub(super) fn association(found: Association) -> pb::Association {
    let stored = found.thresholds.as_deref().map(|text| thresholds(Thresholds::stored(Some(text))));
    pb::Association {
        configuration_id: found.check_id.to_string(),
        configuration_name: found.check_name,
        system_id: found.system_id.to_string(),
        enabled: found.enabled,
        state_thresholds: stored,
        incident_policy: IncidentPolicy::stored(found.incident_policy.as_deref()).map(policy),
        created_at: Some(found.created_at.message()),
        updated_at: Some(found.updated_at.message()),
    }
}

/// Thresholds as a message.
pub(super) fn thresholds(thresholds: Thresholds) -> pb::StateThresholds {
    let failures = |count: usize| Some(pb::FailureThreshold { min_failure_count: Some(whole(count)) });
    match thresholds {
        Thresholds::Consecutive { healthy, degraded, unhealthy } => pb::StateThresholds {
            mode: pb::ThresholdMode::Consecutive.into(),
            window_size: None,
            healthy: Some(pb::HealthyThreshold { min_success_count: Some(whole(healthy)) }),
            degraded: failures(degraded),
            unhealthy: failures(unhealthy),
        },
        Thresholds::Window { size, degraded, unhealthy } => pb::StateThresholds {
            mode: pb::ThresholdMode::Window.into(),
            window_size: Some(whole(size)),
            healthy: None,
            degraded: failures(degraded),
            unhealthy: failures(unhealthy),
        },
    }
}

/// Thresholds off a message, with the defaults of the contract for what is absent.
pub(super) fn thresholds_of(message: &pb::StateThresholds) -> Thresholds {
    let count =
        |given: Option<i32>, default: usize| given.and_then(|given| usize::try_from(given).ok()).unwrap_or(default);
    let failures = |given: &Option<pb::FailureThreshold>, default| {
        count(given.as_ref().and_then(|given| given.min_failure_count), default)
    };
    if message.mode() == pb::ThresholdMode::Window {
        return Thresholds::Window {
            size: count(message.window_size, 10),
            degraded: failures(&message.degraded, 3),
            unhealthy: failures(&message.unhealthy, 7),
        };
    }
    Thresholds::Consecutive {
        healthy: count(message.healthy.as_ref().and_then(|given| given.min_success_count), 1),
        degraded: failures(&message.degraded, 2),
        unhealthy: failures(&message.unhealthy, 5),
    }
}

fn policy(policy: IncidentPolicy) -> pb::IncidentPolicy {
    let severity = match policy.severity {
        SeverityWord::Minor => pb::IncidentSeverityOnFailure::Minor,
        SeverityWord::Major => pb::IncidentSeverityOnFailure::Major,
        SeverityWord::Critical => pb::IncidentSeverityOnFailure::Critical,
    };
    pb::IncidentPolicy {
        open_on: health(policy.open_on),
        severity: severity.into(),
        auto_resolve: Some(policy.auto_resolve),
    }
}

/// A policy off a message.
pub(super) fn policy_of(message: &pb::IncidentPolicy) -> IncidentPolicy {
    let severity = match message.severity() {
        pb::IncidentSeverityOnFailure::Minor => SeverityWord::Minor,
        pb::IncidentSeverityOnFailure::Unspecified | pb::IncidentSeverityOnFailure::Major => SeverityWord::Major,
        pb::IncidentSeverityOnFailure::Critical => SeverityWord::Critical,
    };
    IncidentPolicy {
        open_on: health_of(message.open_on()).unwrap_or(Health::Unhealthy),
        severity,
        auto_resolve: message.auto_resolve.unwrap_or(true),
    }
}

/// A run without what was found.
pub(super) fn run(run: &Run) -> pb::Run {
    pb::Run {
        id: RunId { association: run.association, scheduled_at: run.scheduled_at }.uuid().to_string(),
        configuration_id: run.check_id.to_string(),
        system_id: run.system_id.to_string(),
        status: health(run.status),
        timestamp: Some(run.scheduled_at.message()),
        latency_ms: run.latency_us.map(millis_of),
    }
}

/// A run with what was found.
pub(super) fn run_detail(found: &Run) -> pb::RunDetail {
    let result = object(found.detail.as_deref().unwrap_or("{}"));
    let pb::Run { id, configuration_id, system_id, status, timestamp, latency_ms } = run(found);
    pb::RunDetail { id, configuration_id, system_id, status, timestamp, latency_ms, result }
}

/// A run that was just stored.
pub(super) fn stored(stored: Stored) -> pb::RunDetail {
    run_detail(&Run {
        association: stored.id.association,
        scheduled_at: stored.id.scheduled_at,
        status: stored.verdict,
        latency_us: stored.latency_us,
        detail: stored.detail,
        check_id: stored.check_id,
        system_id: stored.system_id,
    })
}

/// What came of a look that nobody keeps.
pub(super) fn test_result(looked: Looked) -> pb::TestResult {
    let judged = |(assertion, judged): (Assertion, Judged)| pb::JudgedAssertion {
        field: assertion.field,
        json_path: assertion.json_path,
        operator: assertion.operator.as_str().to_owned(),
        value: assertion.value.as_ref().and_then(any),
        passed: judged.passed,
        actual: judged.actual.as_ref().and_then(any),
        message: judged.message,
    };
    pb::TestResult {
        status: health(looked.verdict),
        message: looked.message,
        latency_ms: millis(looked.latency),
        metadata: object(&serde_json::Value::Object(looked.findings).to_string()),
        assertions: looked.judged.into_iter().map(judged).collect(),
    }
}

/// An assertion.
fn assertion(assertion: &Assertion) -> pb::Assertion {
    pb::Assertion {
        field: assertion.field.clone(),
        json_path: assertion.json_path.clone(),
        operator: assertion.operator.as_str().to_owned(),
        value: assertion.value.as_ref().and_then(any),
    }
}

/// Assertions off messages, or what is wrong with them.
pub(super) fn assertions_of(messages: &[pb::Assertion]) -> Result<Vec<Assertion>, Vec<Fault>> {
    let mut faults = vec![];
    let mut found = vec![];
    for (index, message) in messages.iter().enumerate() {
        let Some(operator) = crate::probe::operator::Operator::parse(&message.operator) else {
            let shown: String = message.operator.chars().take(40).collect();
            faults.push(Fault::new(format!("assertions[{index}].operator"), format!("Unknown operator: {shown}")));
            continue;
        };
        found.push(Assertion {
            field: message.field.clone(),
            json_path: message.json_path.clone(),
            operator,
            value: message.value.as_ref().map(plain_any),
        });
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

/// Free JSON as serde knows it.
pub(super) fn plain(object: &prost_types::Struct) -> serde_json::Value {
    serde_json::from_str(&encode::object_text(object)).unwrap_or_default()
}

fn plain_any(value: &prost_types::Value) -> serde_json::Value {
    serde_json::from_str(&encode::any_text(value)).unwrap_or_default()
}

/// JSON as a message has it; what is none is nothing.
pub(super) fn object(text: &str) -> Option<prost_types::Struct> {
    let value = Value::parse(text.as_bytes(), STORED_JSON_DEPTH_MAX).ok()?;
    decode::object(&value, &mut decode::Decoder::default())
}

fn any(value: &serde_json::Value) -> Option<prost_types::Value> {
    let text = value.to_string();
    let value = Value::parse(text.as_bytes(), STORED_JSON_DEPTH_MAX).ok()?;
    decode::any(&value, &mut decode::Decoder::default())
}

/// Microseconds as milliseconds.
pub(super) fn millis_of(micros: i64) -> f64 {
    millis(Duration::from_micros(u64::try_from(micros).unwrap_or_default()))
}

fn narrow(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn whole(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
