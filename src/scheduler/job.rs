//! A check of a system, as the schedule holds it.

use super::queue::{Rhythm, spread};
use crate::database::Timestamp;
use crate::error::Error;
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::healthcheck::domain::{Check, CheckId};
use crate::plugin::healthcheck::{HEARTBEAT, Plan, Scheduled, keeps_plan, plan_of};
use crate::probe::heartbeat::Heartbeat;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio_util::sync::CancellationToken;

/// A check of a system.
pub(super) struct Job {
    /// The number of the association.
    pub(super) number: i64,
    pub(super) check: Arc<Check>,
    pub(super) system: SystemId,
    pub(super) rhythm: Rhythm,
    /// Its plan, if that is kept from run to run.
    kept: Option<Arc<Plan>>,
    /// If its results are reported: when they are expected.
    pub(super) beat: Option<Heartbeat>,
    /// Since when there should be results: when the check was last changed, or the system got it.
    pub(super) since: Timestamp,
    /// When a caller last changed the check, or whether it runs for the system.
    changed_at: Timestamp,
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

/// What was due while no server was there runs within this, or within half an interval that is shorter: it may be all
/// checks, and their targets are not to notice.
const OVERDUE_WITHIN_US: i64 = 600_000_000;

/// What is due this often waits for its time, also after a start.
const OFTEN_US: i64 = 60_000_000;

/// Replicas see a change at different moments, but not further apart.
const NEW_FOR_US: i64 = 10_000_000;

fn beat(one: &Scheduled) -> Option<Heartbeat> {
    if one.check.strategy_id != HEARTBEAT {
        return None;
    }
    serde_json::from_str(&one.check.config).ok()
}

impl Job {
    /// Ready to look, or in words why not. Made for each run: tens of thousands of checks are held for as long as the server
    /// runs, and few of them look at the same moment.
    pub(super) fn plan(&self, kernel: &Kernel) -> Result<Arc<Plan>, String> {
        match &self.kept {
            Some(plan) => Ok(plan.clone()),
            None => plan_of(kernel, &self.check).map(Arc::new).map_err(|why: Error| why.to_string()),
        }
    }

    /// Something was heard of it.
    pub(super) fn hear(&self, at: Timestamp) {
        self.heard.fetch_max(at.0, Ordering::AcqRel);
    }

    /// When it is due first after a caller changed something, if not by its rhythm: soon, if nothing has run since. That is
    /// the same time on every replica, and whoever runs it, it is one run.
    pub(super) fn first_time(&self, now: Timestamp) -> Option<Timestamp> {
        // Of a heartbeat it is looked by when a report is missing: that has to be known, also if one has come already.
        let has_run =
            self.beat.is_none() && self.last_run_at.is_some_and(|last| last >= self.changed_at.whole_millis());
        let is_new = now.0.saturating_sub(self.changed_at.0) < NEW_FOR_US;
        let from = if is_new { self.changed_at.min(now) } else { now };
        (!has_run).then(|| Timestamp(from.0 + self.soon(FIRST_WITHIN_US)))
    }

    /// The same after a start of the server: soon, if it is new, or if a time of its rhythm has passed without a run.
    pub(super) fn first_time_after_start(&self, now: Timestamp) -> Option<Timestamp> {
        if now.0.saturating_sub(self.changed_at.0) < NEW_FOR_US {
            return self.first_time(now);
        }
        if self.beat.is_some() {
            return Some(Timestamp(now.0 + self.soon(NEW_FOR_US.unsigned_abs())));
        }
        let Rhythm { interval_us, .. } = self.rhythm;
        let was_missed = self.last_run_at.is_none_or(|last| last < self.rhythm.upto(now));
        let overdue = Timestamp(now.0 + self.soon((interval_us / 2).min(OVERDUE_WITHIN_US).unsigned_abs()));
        (was_missed && interval_us > OFTEN_US && overdue < self.rhythm.after(now)).then_some(overdue)
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

/// Jobs of what is to run. A check is shared by its systems.
pub(super) fn jobs(kernel: &Kernel, scheduled: Vec<Scheduled>) -> Vec<Arc<Job>> {
    let mut checks: HashMap<CheckId, (Arc<Check>, Option<Arc<Plan>>)> = HashMap::new();
    let job = |one: Scheduled| {
        let (grace_us, beat) = (one.grace_us(), beat(&one));
        let Scheduled { check, number, system_id, associated_at, association_changed_at, last_judged_at, last_run_at } =
            one;
        let shared = checks.entry(check.id).or_insert_with(|| {
            let plan = keeps_plan(&check).then(|| plan_of(kernel, &check).ok()).flatten();
            (Arc::new(Check { description: None, ..check }), plan.map(Arc::new))
        });
        let (check, kept) = shared.clone();
        let identity = spread(check.id.0.as_u64_pair().1) ^ system_id.0.as_u64_pair().1;
        Arc::new(Job {
            number,
            system: system_id,
            rhythm: Rhythm::of(identity, check.interval_s.saturating_mul(1_000_000)),
            kept,
            beat,
            since: check.updated_at.max(associated_at),
            changed_at: check.updated_at.max(association_changed_at),
            last_run_at,
            grace_us,
            heard: AtomicI64::new(last_judged_at.map_or(NOTHING, |at| at.0)),
            ended: CancellationToken::new(),
            check,
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
    /// A run that was due then, when the shard is gained again.
    Left(i64, Timestamp),
}
