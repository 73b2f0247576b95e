//! The archive of runs: hours that are over are sealed, and what is too old goes. Every replica looks; who does it is
//! decided in the database.

use super::figures::Figures;
use crate::database::Timestamp;
use crate::error::{Error, Result};
use crate::plugin::Kernel;
use crate::plugin::healthcheck::{seal_some, sealed_before, sweep_some};
use crate::world::Clock;
use std::collections::HashMap;
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

/// One that cannot be sealed is tried again after this, then after twice as long, and so on.
const ASIDE: Duration = Duration::from_secs(10);

/// But at least this often.
const ASIDE_MAX: Duration = Duration::from_hours(1);

/// Associations that cannot be sealed for now.
#[derive(Default)]
struct Aside(HashMap<i64, (Instant, Duration)>);

/// Seals and sweeps until told to stop.
pub(super) async fn keep(kernel: Kernel, clock: Clock, figures: Figures, stop: CancellationToken) {
    let (mut looks, mut aside) = (0, Aside::default());
    while stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
        let now = clock.now();
        if let Err(why) = seal(&kernel, now, &figures, &mut aside, &stop).await {
            tracing::warn!(cause = %why, "runs were not archived; trying again");
        }
        if let Err(why) = sweep(&kernel, now, &figures, looks % LOOK_FOR_GONE_EVERY == 0, &stop).await {
            tracing::warn!(cause = %why, "old runs were not deleted; trying again");
        }
        looks = looks.wrapping_add(1);
    }
}

async fn seal(
    kernel: &Kernel,
    now: Timestamp,
    figures: &Figures,
    aside: &mut Aside,
    stop: &CancellationToken,
) -> Result<()> {
    let count =
        async || Ok::<_, Error>(kernel.database.reader().await?.count_due(sealed_before(now), today(now)).await?.0);
    let unsealed = count().await?;
    figures.unsealed.set(unsealed);
    while unsealed > 0 && !stop.is_cancelled() {
        let started = Instant::now();
        let sealed = seal_some(kernel, now, &aside.numbers()).await?;
        if sealed.hours == 0 && sealed.failed.is_empty() {
            break;
        }
        figures.archiving.observe(started.elapsed().as_secs_f64());
        figures.sealed.inc_by(sealed.runs as u64);
        aside.add(&sealed.failed);
        sleep(PAUSE).await;
    }
    if unsealed > 0 {
        figures.unsealed.set(count().await?);
    }
    Ok(())
}

async fn sweep(
    kernel: &Kernel,
    now: Timestamp,
    figures: &Figures,
    is_thorough: bool,
    stop: &CancellationToken,
) -> Result<()> {
    let (_, unswept) = kernel.database.reader().await?.count_due(sealed_before(now), today(now)).await?;
    let mut looks_for_gone = is_thorough;
    while (unswept > 0 || looks_for_gone) && !stop.is_cancelled() {
        let started = Instant::now();
        let swept = sweep_some(kernel, now, looks_for_gone).await?;
        looks_for_gone &= swept.gone > 0;
        if swept.looked == 0 {
            break;
        }
        figures.archiving.observe(started.elapsed().as_secs_f64());
        figures.swept(swept);
        sleep(PAUSE).await;
    }
    Ok(())
}

fn today(now: Timestamp) -> i64 {
    now.0.div_euclid(DAY_US)
}

impl Aside {
    /// Those that are not to be tried yet.
    fn numbers(&self) -> Vec<i64> {
        let now = Instant::now();
        self.0.iter().filter(|(_, (until, _))| *until > now).map(|(number, _)| *number).collect()
    }

    fn add(&mut self, failed: &[i64]) {
        let now = Instant::now();
        // Who was sealed again meanwhile begins anew.
        self.0.retain(|_, (until, waited)| *until + *waited > now);
        for number in failed {
            let wait = self.0.get(number).map_or(ASIDE, |(_, waited)| (*waited * 2).min(ASIDE_MAX));
            self.0.insert(*number, (now + wait, wait));
        }
    }
}
