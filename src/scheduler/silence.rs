//! Checks that seem to have fallen silent: the database knows whether they have, for runs are reported to other replicas
//! as well.

use super::job::{Job, Later};
use crate::database::Timestamp;
use crate::plugin::Kernel;
use crate::plugin::healthcheck::fall_silent;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// When the database is away.
const AGAIN: Duration = Duration::from_secs(1);

/// Has it told which of these are silent, and the others looked at again when they would be.
pub(super) async fn look(kernel: Kernel, jobs: Vec<Arc<Job>>, now: Timestamp, later: mpsc::UnboundedSender<Later>) {
    let jobs: HashMap<_, _> = jobs.into_iter().map(|job| (job.number, job)).collect();
    let numbers: Vec<_> = jobs.keys().copied().collect();
    match fall_silent(&kernel, &numbers, now).await {
        Ok(heard) => {
            for (job, at) in heard.into_iter().filter_map(|(number, at)| Some((jobs.get(&number)?, at))) {
                job.hear(at);
                if let Some(at) = job.silent_at() {
                    let _ = later.send(Later::Silence(job.number, at));
                }
            }
        }
        Err(why) => {
            tracing::warn!(cause = %why, "it could not be looked which checks have fallen silent; trying again");
            sleep(AGAIN).await;
            for number in numbers {
                let _ = later.send(Later::Silence(number, now));
            }
        }
    }
}
