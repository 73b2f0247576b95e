//! A check of a system, as the schedule holds it.

use super::queue::{Rhythm, spread};
use crate::database::Timestamp;
use crate::error::Error;
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::healthcheck::domain::CheckId;
use crate::plugin::healthcheck::{HEARTBEAT, Plan, Scheduled, plan_of};
use crate::probe::heartbeat::Heartbeat;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio_util::sync::CancellationToken;

/// A check of a system.
pub(super) struct Job {
    /// The number of the association.
    pub(super) number: i64,
    pub(super) check: CheckId,
    pub(super) system: SystemId,
    pub(super) rhythm: Rhythm,
    /// Ready to look, or in words why not.
    pub(super) plan: Result<Arc<Plan>, String>,
    /// When the check was last changed: the same time is the same check.
    pub(super) version: Timestamp,
    /// If its results are reported: when they are expected.
    pub(super) beat: Option<Heartbeat>,
    /// Since when there should be results: when the check was last changed, or the system got it.
    pub(super) since: Timestamp,
    /// For when the last run was due, when the job was made.
    last_run_at: Option<Timestamp>,
    /// How long it may be silent before nobody knows how it is.
    pub(super) grace_us: i64,
    /// For when the last run was due that says something, as far as it is known here.
    heard: AtomicI64,
    /// It was changed or removed: what runs is not wanted any more.
    pub(super) ended: CancellationToken,
}

/// Nothing was heard yet.
const NOTHING: i64 = i64::MIN;

/// What is saved runs within this: not all of an import at the same moment.
const FIRST_WITHIN_US: u64 = 500_000;

/// What was due while no server was there runs within this, or within an interval that is shorter: it may be all checks.
const OVERDUE_WITHIN_US: i64 = 10_000_000;

fn beat(one: &Scheduled) -> Option<Heartbeat> {
    if one.check.strategy_id != HEARTBEAT {
        return None;
    }
    serde_json::from_str(&one.check.config).ok()
}

impl Job {
    /// Something was heard of it.
    pub(super) fn hear(&self, at: Timestamp) {
        self.heard.fetch_max(at.0, Ordering::AcqRel);
    }

    /// When it is due first after a caller changed something: soon. If nothing has run since the change, that is the same
    /// time on every replica, and whoever runs it, it is one run.
    pub(super) fn first_time(&self, now: Timestamp) -> Timestamp {
        let from = if self.has_run() { now } else { self.since.min(now) };
        Timestamp(from.0 + self.soon(FIRST_WITHIN_US))
    }

    /// When it is due first after a start of the server, if not by its rhythm: soon, if it has never run, or if a time of
    /// its rhythm has passed without a run.
    pub(super) fn first_time_after_start(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.has_run() {
            return Some(self.first_time(now));
        }
        let was_missed = self.last_run_at.is_some_and(|last| last < self.rhythm.upto(now));
        let within = self.rhythm.interval_us.min(OVERDUE_WITHIN_US).unsigned_abs();
        let overdue = Timestamp(now.0 + self.soon(within));
        (was_missed && overdue < self.rhythm.after(now)).then_some(overdue)
    }

    fn has_run(&self) -> bool {
        self.last_run_at.is_some_and(|last| last >= self.since)
    }

    fn soon(&self, within_us: u64) -> i64 {
        i64::try_from(spread(self.number.unsigned_abs()) % within_us.max(1)).unwrap_or_default()
    }

    /// When it has been silent for too long; `None` if nothing was ever heard.
    pub(super) fn silent_at(&self) -> Option<Timestamp> {
        let heard = self.heard.load(Ordering::Acquire);
        (heard != NOTHING).then(|| Timestamp(heard.saturating_add(self.grace_us).saturating_add(1)))
    }
}

/// Jobs of what is to run. The plan of a check is shared by its systems.
pub(super) fn jobs(kernel: &Kernel, scheduled: Vec<Scheduled>) -> Vec<Arc<Job>> {
    let mut plans: HashMap<CheckId, Result<Arc<Plan>, String>> = HashMap::new();
    let job = |one: Scheduled| {
        let plan = plans
            .entry(one.check.id)
            .or_insert_with(|| plan_of(kernel, &one.check).map(Arc::new).map_err(|why: Error| why.to_string()));
        let identity = spread(one.check.id.0.as_u64_pair().1) ^ one.system_id.0.as_u64_pair().1;
        Arc::new(Job {
            number: one.number,
            check: one.check.id,
            system: one.system_id,
            rhythm: Rhythm::of(identity, one.check.interval_s.saturating_mul(1_000_000)),
            plan: plan.clone(),
            version: one.check.updated_at,
            beat: beat(&one),
            since: one.check.updated_at.max(one.associated_at),
            last_run_at: one.last_run_at,
            grace_us: one.grace_us(),
            heard: AtomicI64::new(one.last_judged_at.map_or(NOTHING, |at| at.0)),
            ended: CancellationToken::new(),
        })
    };
    scheduled.into_iter().map(job).collect()
}

/// What is due at another time than its rhythm says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Later {
    /// A run.
    Run(i64, Timestamp),
    /// A look whether it has fallen silent.
    Silence(i64, Timestamp),
}
