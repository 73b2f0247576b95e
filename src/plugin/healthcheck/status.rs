//! How systems are, put together from what is kept of their checks.

use super::domain::Health;
use super::message;
use super::run_store::Known;
use super::state::grace_us;
use crate::database::Timestamp;
use crate::proto::checkmate::healthcheck::v1 as pb;
use std::collections::BTreeMap;

/// How each of these systems is as of now, by their enabled checks.
pub(super) fn systems(known: Vec<Known>, now: Timestamp) -> Vec<pb::SystemHealthStatus> {
    let mut by_system: BTreeMap<_, Vec<Known>> = BTreeMap::new();
    for one in known {
        by_system.entry(one.system_id).or_default().push(one);
    }
    by_system.into_iter().map(|(id, known)| system(id.to_string(), &known, now)).collect()
}

/// How a system is by its enabled checks; those that are paused do not count.
pub(super) fn system(system_id: String, known: &[Known], now: Timestamp) -> pb::SystemHealthStatus {
    let enabled = || known.iter().filter(|one| one.enabled);
    let counting = enabled().filter(|one| !one.paused).map(|one| status_of(one, now));
    pb::SystemHealthStatus {
        system_id,
        status: message::health(Health::worst(counting)),
        evaluated_at: Some(now.message()),
        check_statuses: enabled().map(|one| check(one, now)).collect(),
    }
}

/// How a check of a system is.
pub(super) fn status_of(known: &Known, now: Timestamp) -> Health {
    known.state().map_or(Health::Unknown, |state| state.as_of(now, grace_us(&known.strategy_id, known.interval_s)))
}

fn check(known: &Known, now: Timestamp) -> pb::CheckStatus {
    let state = known.state();
    pb::CheckStatus {
        configuration_id: known.check_id.to_string(),
        configuration_name: known.check_name.clone(),
        status: message::health(status_of(known, now)),
        runs_considered: state.as_ref().map_or(0, |state| i32::try_from(state.outcomes.len()).unwrap_or(i32::MAX)),
        last_run_at: state.as_ref().map(|state| state.last_run_at.message()),
        since: state.as_ref().map(|state| state.since.message()),
        paused: known.paused,
    }
}
