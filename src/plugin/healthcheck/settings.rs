//! The settings of a check between what a caller sends and what is stored: secrets apart, everything else checked by the
//! probe that it is for.

use super::domain::{Check, CheckId};
use super::plan::{Pace, Plan, issues};
use super::vault::{self, Secrets};
use crate::error::{Error, Result};
use crate::plugin::Kernel;
use crate::probe::assertion::Assertion;
use crate::probe::{Fault, Kind};
use serde_json::Value;
use std::time::Duration;

/// What a caller says about how a check looks.
pub(super) struct Wanted {
    /// The kind.
    pub(super) kind: &'static Kind,
    /// The settings, with what secrets are given.
    pub(super) config: Value,
    /// What must hold.
    pub(super) assertions: Vec<Assertion>,
    /// How patient it is.
    pub(super) pace: Pace,
}

/// Settings that are good, as they are stored.
pub(super) struct Checked {
    /// Ready to look with.
    pub(super) plan: Plan,
    /// The settings without secrets.
    pub(super) config: Value,
    /// The secrets.
    pub(super) secrets: Secrets,
}

/// Checks settings. Secrets that are not given are those of before, if it is the same host that they are sent to.
pub(super) fn check(wanted: Wanted, before: Option<(&Kind, &Value, &Secrets)>, below: &str) -> Result<Checked> {
    let Wanted { kind, mut config, assertions, pace } = wanted;
    let (mut secrets, forgotten) = vault::take_out(&mut config, &kind.schemas().settings);
    let mut kept = vec![];
    if let Some((kind_before, config_before, secrets_before)) = before
        && kind_before.id == kind.id
    {
        for (place, secret) in secrets_before {
            let is_named = secrets.contains_key(place) || forgotten.contains(place);
            if !is_named && has_parent(&config, config_before, place) {
                kept.push(place.clone());
                secrets.insert(place.clone(), secret.clone());
            }
        }
        if !kept.is_empty() && host(kind, &config, &secrets) != host(kind, config_before, secrets_before) {
            let moved = |place: &String| Fault {
                path: format!("config.{}", vault::shown(place)),
                message: "Must be given again: it would be sent to another host".into(),
            };
            return Err(Error::Invalid(issues(kept.iter().map(moved).collect(), below)));
        }
    }
    let mut whole = config.clone();
    vault::put_back(&mut whole, &secrets);
    let plan = Plan::new(kind, &whole, &secrets, assertions, pace);
    let plan = plan.map_err(|faults| Error::Invalid(issues(faults, below)))?;
    Ok(Checked { plan, config, secrets })
}

/// The secret is kept with what it belongs to: who removes `basicAuth` removes its password.
fn has_parent(config: &Value, before: &Value, place: &str) -> bool {
    let Some((parent, _)) = place.rsplit_once('/') else { return false };
    before.pointer(parent).is_none() || config.pointer(parent).is_some_and(Value::is_object)
}

fn host(kind: &Kind, config: &Value, secrets: &Secrets) -> Option<String> {
    let mut whole = config.clone();
    vault::put_back(&mut whole, secrets);
    // Settings that cannot be read go to no host, and are refused after this.
    (kind.prepare)(&whole).ok().and_then(|prepared| prepared.host())
}

/// The kind with this id, or what is wrong with it.
pub(super) fn kind(id: &str, below: &str) -> Result<&'static Kind> {
    Kind::named(id).ok_or_else(|| {
        let shown: String = id.chars().take(100).collect();
        let fault =
            Fault::new("strategyId", format!("Unknown strategy: {shown}; getStrategies has those that there are"));
        Error::Invalid(issues(vec![fault], below))
    })
}

/// A run is over this long before the next is due, so that they do not meet.
const BEFORE_THE_NEXT: Duration = Duration::from_millis(50);

/// How patient a stored check is.
pub(super) fn pace(check: &Check) -> Pace {
    let millis = |value: i64| Duration::from_millis(u64::try_from(value).unwrap_or_default());
    Pace {
        timeout: millis(check.timeout_ms),
        retries: u32::try_from(check.retries).unwrap_or_default(),
        backoff: millis(check.retry_backoff_ms),
        degraded_above: check.degraded_above_ms.map(millis),
        within: millis(check.interval_s.saturating_mul(1_000)).saturating_sub(BEFORE_THE_NEXT),
    }
}

/// The stored settings without secrets.
pub(super) fn config_of(check: &Check) -> Value {
    serde_json::from_str(&check.config).unwrap_or_default()
}

/// The stored assertions.
pub(super) fn assertions_of(check: &Check) -> Vec<Assertion> {
    serde_json::from_str(&check.assertions).unwrap_or_default()
}

/// The stored secrets.
pub(super) fn secrets_of(kernel: &Kernel, id: CheckId, sealed: Option<&str>) -> Result<Secrets> {
    vault::open(sealed, id, &kernel.key, &kernel.old_keys)
}

/// Whether a plan is to be kept from run to run: others are made quickly, and take kilobytes.
#[must_use]
pub fn keeps_plan(check: &Check) -> bool {
    assertions_of(check).iter().any(Assertion::has_expression)
}

/// A stored check, ready to look; in words why it is not.
pub fn plan_of(kernel: &Kernel, check: &Check) -> Result<Plan> {
    let kind = kind(&check.strategy_id, "")?;
    let secrets = secrets_of(kernel, check.id, check.secrets.as_deref())?;
    let mut whole = config_of(check);
    vault::put_back(&mut whole, &secrets);
    let plan = Plan::new(kind, &whole, &secrets, assertions_of(check), pace(check));
    plan.map_err(|faults| Error::Invalid(issues(faults, "")))
}
