//! Heartbeats that do not come: at the deadline it is looked whether there was a report, and if not, that is a run.

use super::job::{Job, Later};
use crate::database::Timestamp;
use crate::plugin::Kernel;
use crate::plugin::healthcheck::domain::{Health, RunKind};
use crate::plugin::healthcheck::{Finished, Lease};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Looks whether a report is missing, and answers when to look again.
pub(super) async fn look(
    kernel: Kernel,
    job: Arc<Job>,
    now: Timestamp,
    lease: Option<Lease>,
    done: mpsc::Sender<Finished>,
    later: mpsc::UnboundedSender<Later>,
) {
    let Some(beat) = &job.beat else { return };
    let found = async { kernel.database.reader().await?.last_report(job.number).await }.await;
    let (reported, last_run) = match found {
        Ok(found) => found,
        Err(why) => {
            tracing::warn!(cause = %why, "it could not be looked whether a report is missing; trying again");
            sleep(AGAIN).await;
            let _ = later.send(Later::Run(job.number, now));
            return;
        }
    };
    let reported = reported.unwrap_or(job.since).max(job.since);
    let deadlines = beat.deadlines(reported, job.rhythm.interval_us, now);
    let _ = later.send(Later::Run(job.number, deadlines.next));
    let Some(passed) = deadlines.passed.filter(|passed| last_run.is_none_or(|last| *passed > last)) else { return };
    let message = if reported == job.since {
        format!("No report since the check was saved at {reported}")
    } else {
        format!("No report since {reported}")
    };
    let detail = json!({
        "status": Health::Unhealthy.word(),
        "latencyMs": null,
        "message": message,
        "metadata": {"reported": false},
        "assertions": [],
        "attempts": 1,
    });
    let finished = Finished {
        association: job.number,
        scheduled_at: passed,
        kind: RunKind::Scheduled,
        verdict: Health::Unhealthy,
        latency_us: None,
        detail: Some(detail.to_string()),
        lease,
    };
    let _ = done.send(finished).await;
}

/// When the database is away.
const AGAIN: Duration = Duration::from_secs(1);
