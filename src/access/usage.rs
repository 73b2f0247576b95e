//! When each key was last used, without a write per request.
//!
//! A use is noted in memory. The first use of a key is written within a second, so that "never" can be trusted; later
//! ones when what is written is half a minute old, so that it is correct to a minute everywhere; the rest at shutdown.

use super::ApplicationId;
use super::snapshot::Snapshot;
use crate::database::{Database, Timestamp};
use crate::error::Result;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// First uses are visible within a second, with room for the write.
const FLUSH_EVERY: Duration = Duration::from_millis(400);

/// With a flush twice a second nothing is ever older than a minute.
const WRITTEN_AGE_MAX_S: i64 = 30;

/// One statement writes at most this many keys; the rest waits for the next.
const BATCH_MAX: usize = 1_000;

/// When one key was used. 0: never.
#[derive(Debug, Default)]
pub struct Usage {
    last: AtomicI64,
    written: AtomicI64,
}

impl Usage {
    /// What the database knows.
    #[must_use]
    pub fn known(at: Option<Timestamp>) -> Self {
        let at = at.map_or(0, |at| at.0);
        Self { last: AtomicI64::new(at), written: AtomicI64::new(at) }
    }

    /// The key was accepted.
    pub fn touch(&self, now: Timestamp) {
        self.last.fetch_max(now.0, Ordering::Relaxed);
    }

    /// When it was last used.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        Some(Timestamp(self.last.load(Ordering::Relaxed))).filter(|at| at.0 != 0)
    }

    fn due(&self, all: bool) -> Option<Timestamp> {
        let (last, written) = (self.last.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed));
        let old = written == 0 || all || Timestamp(last).seconds_since(Timestamp(written)) >= WRITTEN_AGE_MAX_S;
        (last > written && old).then_some(Timestamp(last))
    }

    fn written(&self, at: Timestamp) {
        self.written.fetch_max(at.0, Ordering::Relaxed);
    }
}

/// Writes uses until told to stop, and then what is left.
pub async fn keep(snapshot: Snapshot, database: Database, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(FLUSH_EVERY)).await.is_some() {
        if let Err(why) = flush(&snapshot, &database, false).await {
            tracing::warn!(cause = %why, "the last uses of keys were not written; trying again");
        }
    }
    if let Err(why) = flush(&snapshot, &database, true).await {
        tracing::error!(cause = %why, "the last uses of keys were lost at shutdown");
    }
}

async fn flush(snapshot: &Snapshot, database: &Database, all: bool) -> Result<()> {
    let due: Vec<_> = snapshot.usages(|usage| usage.due(all));
    for batch in due.chunks(BATCH_MAX) {
        let rows: Vec<(ApplicationId, Timestamp)> = batch.iter().map(|(id, _, at)| (*id, *at)).collect();
        let mut store = database.writer().await?;
        store.note_uses(&rows).await?;
        store.commit_unseen("a use is not a change").await?;
        for (_, usage, at) in batch {
            usage.written(*at);
        }
    }
    Ok(())
}
