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
    pub(super) beat: Option<Beat>,
    /// How long it may be silent before nobody knows how it is.
    pub(super) grace_us: i64,
    /// For when the last run was due that says something, as far as it is known here.
    heard: AtomicI64,
    /// It was changed or removed: what runs is not wanted any more.
    pub(super) ended: CancellationToken,
}

/// Nothing was heard yet.
const NOTHING: i64 = i64::MIN;

/// When reports are expected.
pub(super) struct Beat {
    pub(super) settings: Heartbeat,
    /// Since when there should be any.
    pub(super) since: Timestamp,
}

fn beat(one: &Scheduled) -> Option<Beat> {
    if one.check.strategy_id != HEARTBEAT {
        return None;
    }
    let settings = serde_json::from_str(&one.check.config).ok()?;
    Some(Beat { settings, since: one.check.updated_at.max(one.associated_at) })
}

impl Job {
    /// Something was heard of it.
    pub(super) fn hear(&self, at: Timestamp) {
        self.heard.fetch_max(at.0, Ordering::AcqRel);
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
