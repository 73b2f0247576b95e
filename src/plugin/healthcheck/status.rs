//! How systems are, put together from what is kept of their checks.

use super::domain::Health;
use super::message;
use super::run_store::Known;
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
    known
        .standing()
        .map_or(Health::Unknown, |standing| standing.as_of(now, known.patience.grace_us(&known.strategy_id)))
}

fn check(known: &Known, now: Timestamp) -> pb::CheckStatus {
    let grace = known.patience.grace_us(&known.strategy_id);
    pb::CheckStatus {
        configuration_id: known.check_id.to_string(),
        configuration_name: known.check_name.clone(),
        status: message::health(status_of(known, now)),
        runs_considered: known.considered.map_or(0, |count| i32::try_from(count).unwrap_or(i32::MAX)),
        last_run_at: known.last_run_at.map(Timestamp::message),
        since: known.standing().map(|standing| standing.since_as_of(now, grace).message()),
        paused: known.paused,
    }
}

/// How a group is, by how its systems are.
pub(super) fn group(
    request: &pb::GetGroupHealthStatusRequest,
    all: &[Health],
    now: Timestamp,
) -> pb::GroupHealthStatus {
    let count = |which: Health| all.iter().filter(|one| **one == which).count();
    let (healthy, degraded, unhealthy) = (count(Health::Healthy), count(Health::Degraded), count(Health::Unhealthy));
    let known = healthy + degraded + unhealthy;
    let percent = usize::try_from(request.percent.unwrap_or(50)).unwrap_or_default();
    let is_down = match request.strategy() {
        pb::GroupStrategy::Unspecified | pb::GroupStrategy::Worst | pb::GroupStrategy::Any => unhealthy > 0,
        pb::GroupStrategy::All => unhealthy == known,
        pb::GroupStrategy::Percent => unhealthy * 100 >= percent * known,
    };
    let status = match () {
        () if known == 0 => Health::Unknown,
        () if is_down => Health::Unhealthy,
        () if degraded + unhealthy > 0 => Health::Degraded,
        () => Health::Healthy,
    };
    let whole = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    pb::GroupHealthStatus {
        group_id: request.group_id.clone(),
        status: message::health(status),
        evaluated_at: Some(now.message()),
        healthy_count: whole(healthy),
        degraded_count: whole(degraded),
        unhealthy_count: whole(unhealthy),
        unknown_count: whole(count(Health::Unknown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::{Degraded, Healthy, Unhealthy, Unknown};
    use pb::GroupStrategy::{All, Any, Percent, Worst};

    #[test]
    fn a_group_is_judged_by_its_strategy() {
        for (strategy, percent, all, expected) in [
            (Worst, None, &[Healthy, Degraded][..], Degraded),
            (Worst, None, &[Healthy, Unhealthy], Unhealthy),
            (Worst, None, &[Unknown], Unknown),
            (Worst, None, &[], Unknown),
            (All, None, &[Healthy, Unhealthy], Degraded),
            (All, None, &[Unknown, Unhealthy], Unhealthy),
            (All, None, &[Healthy, Unknown], Healthy),
            (Any, None, &[Healthy, Unhealthy], Unhealthy),
            (Any, None, &[Healthy, Degraded], Degraded),
            (Percent, None, &[Healthy, Unhealthy], Unhealthy),
            (Percent, Some(60), &[Healthy, Unhealthy], Degraded),
            (Percent, Some(1), &[Healthy, Healthy, Unhealthy], Unhealthy),
        ] {
            let mut request = pb::GetGroupHealthStatusRequest { percent, ..Default::default() };
            request.set_strategy(strategy);
            let found = group(&request, all, Timestamp(0)).status();
            assert_eq!(message::health_of(found), Some(expected), "{strategy:?} {percent:?} of {all:?}");
        }
    }
}
