//! Every statement that deletes history.

use crate::database::{Timestamp, Writer, sql};
use crate::error::Result;

/// An association whose history was not looked through today.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Unswept {
    pub(super) association: i64,
    pub(super) upto: i64,
    pub(super) raw_from: i64,
    pub(super) hour_from: i64,
    pub(super) stored: i64,
    pub(super) swept_on: i64,
    pub(super) retention: Option<String>,
}

/// An association that is no more.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Gone {
    pub(super) association: i64,
}

impl Writer {
    pub(super) async fn lock_unswept(&mut self, today: i64, limit: i64) -> Result<Vec<Unswept>> {
        sql!(
            self,
            fetch_all as Unswept,
            {
                sqlite: "select archive.association, upto, raw_from, hour_from, stored, swept_on, owner.retention
                         from healthcheck_archive as archive
                         join healthcheck_association as owner on owner.number = archive.association
                         where swept_on < $1 order by swept_on, archive.association limit $2",
                postgres: "select archive.association, upto, raw_from, hour_from, stored, swept_on, owner.retention
                           from healthcheck_archive as archive
                           join healthcheck_association as owner on owner.number = archive.association
                           where swept_on < $1 order by swept_on, archive.association limit $2
                           for update of archive, owner skip locked",
            },
            today,
            limit
        )
    }

    pub(super) async fn lock_gone(&mut self, limit: i64) -> Result<Vec<Gone>> {
        sql!(
            self,
            fetch_all as Gone,
            {
                sqlite: "select association from healthcheck_archive as archive
                         where not exists (select 1 from healthcheck_association where number = archive.association)
                         order by association limit $1",
                postgres: "select association from healthcheck_archive as archive
                           where not exists (select 1 from healthcheck_association where number = archive.association)
                           order by association limit $1 for update skip locked",
            },
            limit
        )
    }

    /// Answers how many runs were in each.
    pub(super) async fn delete_chunks(&mut self, association: i64, before: i64, limit: i64) -> Result<Vec<i64>> {
        let deleted = sql!(
            self,
            fetch_all as (i64,),
            "delete from healthcheck_chunk where association = $1 and hour in (
                 select hour from healthcheck_chunk where association = $1 and hour < $2 order by hour limit $3)
             returning runs",
            association,
            before,
            limit
        )?;
        Ok(deleted.into_iter().map(|(runs,)| runs).collect())
    }

    pub(super) async fn delete_details(&mut self, association: i64, before: i64, limit: i64) -> Result<u64> {
        sql!(
            self,
            execute,
            "delete from healthcheck_detail where association = $1 and hour in (
                 select hour from healthcheck_detail where association = $1 and hour < $2 order by hour limit $3)",
            association,
            before,
            limit
        )
    }

    /// Whole days of them: where a part of a day is left, nobody could tell what its tally was made from. These may be up to a day's
    /// hours fewer than the limit when there are more.
    pub(super) async fn delete_hours(&mut self, association: i64, before: i64, limit: i64) -> Result<u64> {
        sql!(
            self,
            execute,
            "delete from healthcheck_hour where association = $1 and hour < coalesce(
                 (select hour / 24 * 24 from healthcheck_hour where association = $1 and hour < $2
                  order by hour limit 1 offset $3), $2)",
            association,
            before,
            limit
        )
    }

    pub(super) async fn delete_days(&mut self, association: i64, before: i64, limit: i64) -> Result<u64> {
        sql!(
            self,
            execute,
            "delete from healthcheck_day where association = $1 and day in (
                 select day from healthcheck_day where association = $1 and day < $2 order by day limit $3)",
            association,
            before,
            limit
        )
    }

    pub(super) async fn delete_status_changes(
        &mut self,
        association: i64,
        before: Timestamp,
        limit: i64,
    ) -> Result<u64> {
        sql!(
            self,
            execute,
            "delete from healthcheck_status_change where association = $1 and at in (
                 select at from healthcheck_status_change where association = $1 and at < $2 order by at limit $3)",
            association,
            before,
            limit
        )
    }

    pub(super) async fn delete_runs(&mut self, association: i64, limit: i64) -> Result<u64> {
        sql!(
            self,
            execute,
            "delete from healthcheck_run where association = $1 and scheduled_at in (
                 select scheduled_at from healthcheck_run where association = $1 order by scheduled_at limit $2)",
            association,
            limit
        )
    }

    pub(super) async fn delete_archive(&mut self, association: i64) -> Result<u64> {
        sql!(self, execute, "delete from healthcheck_archive where association = $1", association)
    }

    pub(super) async fn save_swept(
        &mut self,
        association: i64,
        raw_from: i64,
        hour_from: i64,
        stored: i64,
        swept_on: i64,
    ) -> Result<u64> {
        sql!(
            self,
            execute,
            "update healthcheck_archive set raw_from = $2, hour_from = $3, stored = $4, swept_on = $5 where association = $1",
            association,
            raw_from,
            hour_from,
            stored,
            swept_on
        )
    }

    /// Has the history of an association looked through at once.
    pub(in crate::plugin::healthcheck) async fn ask_for_sweep(&mut self, association: i64) -> Result<u64> {
        sql!(self, execute, "update healthcheck_archive set swept_on = 0 where association = $1", association)
    }
}
