//! The archive of runs: hours that are over are sealed, and what is too old goes. Every replica looks; who does it is
//! decided in the database.

use super::figures::Figures;
use crate::error::Result;
use crate::plugin::Kernel;
use crate::plugin::healthcheck::{seal_some, sealed_before, sweep_some};
use crate::world::Clock;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// An hour is sealed this soon after it is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Associations that are no more are found by looking at all.
const LOOK_FOR_GONE_EVERY: u32 = 30;

/// Others get a turn between two transactions.
const PAUSE: Duration = Duration::from_millis(2);

const DAY_US: i64 = 86_400_000_000;

/// Seals and sweeps until told to stop.
pub(super) async fn keep(kernel: Kernel, clock: Clock, figures: Figures, stop: CancellationToken) {
    let mut looks = 0;
    while stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
        let done = look(&kernel, &clock, &figures, looks % LOOK_FOR_GONE_EVERY == 0, &stop).await;
        if let Err(why) = done {
            tracing::warn!(cause = %why, "runs were not archived; trying again");
        }
        looks = looks.wrapping_add(1);
    }
}

async fn look(
    kernel: &Kernel,
    clock: &Clock,
    figures: &Figures,
    is_thorough: bool,
    stop: &CancellationToken,
) -> Result<()> {
    let now = clock.now();
    let today = now.0.div_euclid(DAY_US);
    let (unsealed, unswept) = kernel.database.reader().await?.count_due(sealed_before(now), today).await?;
    figures.unsealed.set(unsealed);
    while unsealed > 0 && !stop.is_cancelled() {
        let started = Instant::now();
        let sealed = seal_some(kernel, now).await?;
        if sealed.hours == 0 {
            break;
        }
        figures.archiving.observe(started.elapsed().as_secs_f64());
        figures.sealed.inc_by(sealed.runs as u64);
        sleep(PAUSE).await;
    }
    while (unswept > 0 || is_thorough) && !stop.is_cancelled() {
        let started = Instant::now();
        let swept = sweep_some(kernel, now).await?;
        if swept.looked == 0 {
            break;
        }
        figures.archiving.observe(started.elapsed().as_secs_f64());
        figures.swept(swept);
        sleep(PAUSE).await;
    }
    if unsealed > 0 {
        figures.unsealed.set(kernel.database.reader().await?.count_due(sealed_before(now), today).await?.0);
    }
    Ok(())
}
