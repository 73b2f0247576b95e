//! What is older than it is to be kept goes, a little at a time, and so does what belonged to associations that are no more.

use super::chunk::DAY_US;
use super::sweep_store::{Gone, Unswept};
use crate::database::{Timestamp, Writer};
use crate::error::Result;
use crate::plugin::Kernel;
use crate::plugin::healthcheck::retention::Retention;

/// So many associations are looked through in one transaction.
const AT_ONCE: i64 = 4;

/// So many rows of a kind of one association are deleted in one transaction: together some milliseconds.
pub(super) const ROWS_MAX: i64 = 400;

/// Hours are deleted in whole days, so a step that leaves some may delete this many fewer.
const MOST_OF_A_DAY: u64 = 23;

/// What was deleted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Swept {
    /// Associations that were looked through.
    pub(crate) looked: usize,
    /// Those of them that are no more.
    pub(crate) gone: usize,
    /// Hours of runs.
    pub(crate) raw: u64,
    /// Tallies of hours.
    pub(crate) hourly: u64,
    /// Tallies of days.
    pub(crate) daily: u64,
}

impl Swept {
    fn add(&mut self, other: Self) {
        self.raw += other.raw;
        self.hourly += other.hourly;
        self.daily += other.daily;
    }
}

/// Deletes some of what is too old, and of what belonged to those that are no more if they are to be looked for, which means
/// to look at all; nothing is left when it looks at nothing.
pub(crate) async fn sweep_some(kernel: &Kernel, now: Timestamp, looks_for_gone: bool) -> Result<Swept> {
    let today = now.0.div_euclid(DAY_US);
    let mut store = kernel.database.writer().await?;
    let unswept = store.lock_unswept(today, AT_ONCE).await?;
    let gone = if looks_for_gone { store.lock_gone(AT_ONCE).await? } else { vec![] };
    let mut swept = Swept { looked: unswept.len() + gone.len(), gone: gone.len(), ..Swept::default() };
    for one in &unswept {
        swept.add(store.sweep(one, today).await?);
    }
    for Gone { association } in gone {
        swept.add(store.clear(association).await?);
    }
    if swept.looked == 0 {
        return Ok(swept);
    }
    crate::fault::reach("sweep.before_commit");
    store.commit_unseen("what is too old is not asked for").await?;
    crate::fault::reach("sweep.after_commit");
    Ok(swept)
}

impl Writer {
    async fn sweep(&mut self, one: &Unswept, today: i64) -> Result<Swept> {
        let keep = Retention::stored(one.retention.as_deref());
        let first_hour = |days: i64| super::sum::first_hour(today - days);
        // Hours of a day that has no tally yet stay.
        let sealed_days = super::sum::first_hour(super::seal::day_of_hour(one.upto));
        let (raw_from, hour_from) = (first_hour(keep.raw_days), first_hour(keep.hourly_days).min(sealed_days));
        let day_from = today - keep.daily_days;
        let runs = self.delete_chunks(one.association, raw_from, ROWS_MAX).await?;
        let details = self.delete_details(one.association, raw_from, ROWS_MAX).await?;
        let hourly = self.delete_hours(one.association, hour_from, ROWS_MAX).await?;
        let daily = self.delete_days(one.association, day_from, ROWS_MAX).await?;
        let changes = self.delete_status_changes(one.association, Timestamp(day_from * DAY_US), ROWS_MAX).await?;
        let raw = runs.len() as u64;
        let is_all = [raw, details, hourly + MOST_OF_A_DAY, daily, changes]
            .into_iter()
            .all(|rows| rows < ROWS_MAX.unsigned_abs());
        let stored = one.stored - runs.iter().sum::<i64>();
        let swept_on = if is_all { today } else { one.swept_on };
        self.save_swept(one.association, raw_from.max(one.raw_from), hour_from.max(one.hour_from), stored, swept_on)
            .await?;
        Ok(Swept { raw, hourly, daily, ..Swept::default() })
    }

    /// Deletes what is left of an association that is no more.
    async fn clear(&mut self, association: i64) -> Result<Swept> {
        let raw = self.delete_chunks(association, i64::MAX, ROWS_MAX).await?.len() as u64;
        let details = self.delete_details(association, i64::MAX, ROWS_MAX).await?;
        let hourly = self.delete_hours(association, i64::MAX, ROWS_MAX).await?;
        let daily = self.delete_days(association, i64::MAX, ROWS_MAX).await?;
        let changes = self.delete_status_changes(association, Timestamp(i64::MAX), ROWS_MAX).await?;
        let runs = self.delete_runs(association, ROWS_MAX).await?;
        let all = [raw, details, hourly + MOST_OF_A_DAY, daily, changes, runs];
        if all.into_iter().all(|rows| rows < ROWS_MAX.unsigned_abs()) {
            self.delete_archive(association).await?;
        }
        Ok(Swept { raw, hourly, daily, ..Swept::default() })
    }
}
