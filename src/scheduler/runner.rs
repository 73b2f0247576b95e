//! Carries runs out, each when its turn comes, and hands what came of them to the writer.

use super::figures::Figures;
use super::job::Job;
use crate::database::Timestamp;
use crate::plugin::Kernel;
use crate::plugin::healthcheck::domain::{Health, RunKind};
use crate::plugin::healthcheck::{Finished, Lease, Plan};
use crate::world::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What waits for its turn until it is due again is left out.
const MARGIN: Duration = Duration::from_millis(50);

/// A run that is not wanted any more, for its check was changed, is gone within this.
const ENDING: Duration = Duration::from_millis(20);

/// Carries runs out. Cheap to clone.
#[derive(Clone)]
pub(super) struct Runner(Arc<Inner>);

struct Inner {
    kernel: Kernel,
    clock: Clock,
    figures: Figures,
    done: mpsc::Sender<Finished>,
}

/// A run that is to take place.
pub(super) struct Start {
    pub(super) job: Arc<Job>,
    pub(super) at: Timestamp,
    pub(super) lease: Option<Lease>,
}

impl Runner {
    pub(super) fn new(kernel: Kernel, clock: Clock, figures: Figures, done: mpsc::Sender<Finished>) -> Self {
        Self(Arc::new(Inner { kernel, clock, figures, done }))
    }

    /// Carries a run out, unless the one before is still going on, or its turn does not come in time.
    pub(super) async fn run(&self, start: Start) {
        let inner = &self.0;
        let turns = &inner.kernel.turns;
        let Ok(_going) = timeout(ENDING, turns.begin(start.job.number)).await else {
            inner.figures.overrun.inc();
            return;
        };
        let patience = Duration::from_micros(start.job.rhythm.interval_us.unsigned_abs()).saturating_sub(MARGIN);
        let plan = start.job.plan(&inner.kernel);
        let host = plan.as_ref().ok().and_then(|plan| plan.host());
        let turn = start.job.ended.run_until_cancelled(timeout(patience, turns.take(host))).await;
        let _turn = match turn {
            Some(Ok(turn)) => turn,
            Some(Err(_)) => {
                inner.figures.skipped.inc();
                return;
            }
            None => return,
        };
        let lag = inner.clock.now().0.saturating_sub(start.at.0).max(0);
        inner.figures.lag.observe(Duration::from_micros(lag.unsigned_abs()).as_secs_f64());
        inner.figures.in_flight.inc();
        let looked = start.job.ended.run_until_cancelled(self.look(&start, plan)).await;
        inner.figures.in_flight.dec();
        let Some(finished) = looked else { return };
        inner.figures.count(finished.verdict);
        if finished.verdict != Health::Unknown {
            start.job.hear(start.at);
        }
        // Waits while the database is away, with its turn: then the rest is left out instead of piling up.
        let _ = inner.done.send(finished).await;
    }

    async fn look(&self, start: &Start, plan: Result<Arc<Plan>, String>) -> Finished {
        let finished = |verdict, latency_us, detail| Finished {
            association: start.job.number,
            scheduled_at: start.at,
            kind: RunKind::Scheduled,
            verdict,
            latency_us,
            detail: Some(detail),
            lease: start.lease,
        };
        match plan {
            Ok(plan) => {
                let looked = plan.look(&self.0.kernel.net).await;
                let detail = plan.detail(&looked);
                finished(looked.verdict, i64::try_from(looked.latency.as_micros()).ok(), detail)
            }
            Err(why) => {
                let detail = serde_json::json!({"status": "unknown", "message": why, "attempts": 0});
                finished(Health::Unknown, None, detail.to_string())
            }
        }
    }
}
