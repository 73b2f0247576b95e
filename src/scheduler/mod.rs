//! When work runs: what is done by the clock and not by a caller. Every replica looks; who does it is decided in the
//! database.

mod archive;
mod checks;
pub mod figures;
mod heartbeat;
mod job;
mod lease;
pub mod queue;
mod roster;
mod runner;
mod silence;
mod writer;

use crate::database::Timestamp;
use crate::plugin::{Kernel, maintenance};
use crate::world::Clock;
pub use figures::Figures;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What another replica plans is seen this soon: with the work itself it is done within a second of its time.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// What is due and left to another replica is not asked for without pause.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(20);

/// Does what is due, until told to stop.
pub async fn keep(kernel: Kernel, clock: Clock, figures: Figures, stop: CancellationToken) {
    let checks = checks::keep(kernel.clone(), clock.clone(), figures.clone(), stop.clone());
    let archive = archive::keep(kernel.clone(), clock.clone(), figures, stop.clone());
    tokio::join!(checks, archive, keep_windows(kernel, clock, stop));
}

/// Starts and ends maintenance windows.
async fn keep_windows(kernel: Kernel, clock: Clock, stop: CancellationToken) {
    let mut pause = Duration::ZERO;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = match maintenance::catch_up(&kernel, clock.now()).await {
            Ok(next) => pause_until(next, clock.now()),
            Err(why) => {
                tracing::warn!(cause = %why, "windows were not started and ended; trying again");
                LOOK_EVERY
            }
        };
    }
}

fn pause_until(next: Option<Timestamp>, now: Timestamp) -> Duration {
    let micros = next.map_or(i64::MAX, |next| next.0.saturating_sub(now.0));
    Duration::from_micros(u64::try_from(micros).unwrap_or_default()).clamp(LOOK_AT_MOST_EVERY, LOOK_EVERY)
}
