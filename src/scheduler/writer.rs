//! One writer for all runs: they are stored in batches, each a transaction.

use super::figures::Figures;
use super::lease::Share;
use crate::error::Error;
use crate::plugin::Kernel;
use crate::plugin::healthcheck::{Finished, record};
use crate::world::Clock;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

/// A batch is stored after this, or when it is full: a transaction costs a write to the disk, whatever is in it.
const COLLECTS_FOR: Duration = Duration::from_millis(200);
const BATCH_MAX: usize = 1_000;

/// When the database is away.
const AGAIN: Duration = Duration::from_millis(500);

/// Stores what comes until nobody sends any more.
pub(super) async fn store(
    kernel: Kernel,
    clock: Clock,
    share: Share,
    figures: Figures,
    mut finished: mpsc::Receiver<Finished>,
) {
    let mut batch = vec![];
    while let Some(first) = finished.recv().await {
        batch.push(first);
        let until = Instant::now() + COLLECTS_FOR;
        while batch.len() < BATCH_MAX {
            match timeout_at(until, finished.recv()).await {
                Ok(Some(next)) => batch.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        figures.waiting.set(i64::try_from(batch.len()).unwrap_or(i64::MAX));
        loop {
            match record(&kernel, batch.clone(), share.me(), clock.now()).await {
                Ok(_) => break,
                // Nobody sends any more: the server ends, and does not wait for a database that is away.
                Err(why) if finished.is_closed() => {
                    tracing::error!(cause = %why, runs = batch.len(), "the last runs could not be stored");
                    break;
                }
                Err(Error::Unavailable(why)) => {
                    tracing::warn!(why, runs = batch.len(), "runs could not be stored; trying again");
                    sleep(AGAIN).await;
                }
                Err(why) => {
                    tracing::error!(cause = ?why, runs = batch.len(), "runs could not be stored");
                    break;
                }
            }
        }
        batch.clear();
        figures.waiting.set(0);
    }
}
