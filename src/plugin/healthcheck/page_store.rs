//! Every statement that reads runs a page at a time.
//!
//! `offset 0` keeps PostgreSQL to the keys of what is wanted: as long as it does not know how much there is it reads an hour
//! of all instead, and the tables of runs grow and shrink faster than it looks.

use super::domain::{CheckId, Health};
use super::run_store::Run;
use crate::database::{Reader, Timestamp, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;
use serde_json::json;

/// Which runs that are not sealed are wanted, between two places, which are not among them.
#[derive(Clone, Debug)]
pub(super) struct Range<'a> {
    /// Of these; `None`: of all.
    pub(super) associations: Option<&'a [i64]>,
    pub(super) after: (Timestamp, i64),
    pub(super) before: (Timestamp, i64),
    pub(super) status: Option<Health>,
}

/// The runs of an hour, and whose they are.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Sealed {
    pub(super) association: i64,
    pub(super) hour: i64,
    pub(super) data: Vec<u8>,
    pub(super) check_id: CheckId,
    pub(super) system_id: SystemId,
}

/// How far the archives of some associations reach.
#[derive(Clone, Copy, Debug, Default, sqlx::FromRow)]
pub(super) struct Reach {
    /// How many they are.
    pub(super) count: i64,
    /// Hours before this one are sealed for all of them.
    pub(super) upto: Option<i64>,
    /// Runs in chunks.
    pub(super) stored: Option<i64>,
}

impl Reader {
    pub(super) async fn reach(&mut self, associations: Option<&[i64]>) -> Result<Reach> {
        let Some(numbers) = associations else {
            return sql!(
                self,
                fetch_one as Reach,
                {
                    sqlite: "select count(*) as count, min(upto) as upto, sum(stored) as stored
                             from healthcheck_archive as archive
                             join healthcheck_association as owner on owner.number = archive.association",
                    postgres: "select count(*) as count, min(upto) as upto, sum(stored)::bigint as stored
                               from healthcheck_archive as archive
                               join healthcheck_association as owner on owner.number = archive.association",
                }
            );
        };
        sql!(
            self,
            fetch_one as Reach,
            {
                sqlite: "select count(*) as count, min(upto) as upto, sum(stored) as stored from json_each($1) as wanted
                         cross join healthcheck_archive as archive on archive.association = wanted.value",
                postgres: "select count(*) as count, min(upto) as upto, sum(stored)::bigint as stored
                           from json_array_elements_text(cast($1 as json)) as wanted (value)
                           join healthcheck_archive as archive on archive.association = wanted.value::bigint",
            },
            json!(numbers).to_string()
        )
    }

    /// Runs that are not sealed, newest first, or oldest first.
    pub(super) async fn open_runs(&mut self, range: &Range<'_>, oldest: bool, limit: i64) -> Result<Vec<Run>> {
        match (range.associations, oldest) {
            (None, false) => self.newest_of_all(range, limit).await,
            (None, true) => self.oldest_of_all(range, limit).await,
            (Some(numbers), false) => self.newest_of(numbers, range, limit).await,
            (Some(numbers), true) => self.oldest_of(numbers, range, limit).await,
        }
    }

    async fn newest_of_all(&mut self, range: &Range<'_>, limit: i64) -> Result<Vec<Run>> {
        sql!(
            self,
            fetch_all as Run,
            "select association, scheduled_at, status, latency_us, detail, check_id, system_id
             from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
             where scheduled_at >= $1 and scheduled_at <= $2
               and (scheduled_at, association) > ($1, $3) and (scheduled_at, association) < ($2, $4)
               and ($5 is null or status = $5)
             order by scheduled_at desc, association desc limit $6",
            range.after.0,
            range.before.0,
            range.after.1,
            range.before.1,
            range.status,
            limit
        )
    }

    async fn oldest_of_all(&mut self, range: &Range<'_>, limit: i64) -> Result<Vec<Run>> {
        sql!(
            self,
            fetch_all as Run,
            "select association, scheduled_at, status, latency_us, detail, check_id, system_id
             from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
             where scheduled_at >= $1 and scheduled_at <= $2
               and (scheduled_at, association) > ($1, $3) and (scheduled_at, association) < ($2, $4)
               and ($5 is null or status = $5)
             order by scheduled_at, association limit $6",
            range.after.0,
            range.before.0,
            range.after.1,
            range.before.1,
            range.status,
            limit
        )
    }

    /// Of each no more than may be wanted of all: the run so many before the newest tells from when on.
    async fn newest_of(&mut self, numbers: &[i64], range: &Range<'_>, limit: i64) -> Result<Vec<Run>> {
        sql!(
            self,
            fetch_all as Run,
            {
                sqlite: "select association, scheduled_at, status, latency_us, detail, check_id, system_id
                         from json_each($7) as wanted
                         cross join healthcheck_run as run on run.association = wanted.value and run.scheduled_at <= $2
                             and run.scheduled_at >= coalesce((
                                 select edge.scheduled_at from healthcheck_run as edge
                                 where edge.association = wanted.value and edge.scheduled_at >= $1
                                   and edge.scheduled_at <= $2 and ($5 is null or edge.status = $5)
                                 order by edge.scheduled_at desc limit 1 offset $6), $1)
                         join healthcheck_association as owner on owner.number = run.association
                         where (scheduled_at, association) > ($1, $3) and (scheduled_at, association) < ($2, $4)
                           and ($5 is null or status = $5)
                         order by scheduled_at desc, association desc limit $6",
                postgres: "select association, scheduled_at, status, latency_us, detail, check_id, system_id
                           from json_array_elements_text(cast($7 as json)) as wanted (value)
                           cross join lateral (
                               select association, scheduled_at, status, latency_us, detail from healthcheck_run
                               where association = wanted.value::bigint and scheduled_at >= $1 and scheduled_at <= $2
                                 and (scheduled_at, association) > ($1, $3) and (scheduled_at, association) < ($2, $4)
                                 and ($5 is null or status = $5)
                               order by scheduled_at desc limit $6) as run
                           join healthcheck_association as owner on owner.number = run.association
                           order by scheduled_at desc, association desc limit $6",
            },
            range.after.0,
            range.before.0,
            range.after.1,
            range.before.1,
            range.status,
            limit,
            json!(numbers).to_string()
        )
    }

    async fn oldest_of(&mut self, numbers: &[i64], range: &Range<'_>, limit: i64) -> Result<Vec<Run>> {
        sql!(
            self,
            fetch_all as Run,
            {
                sqlite: "select association, scheduled_at, status, latency_us, detail, check_id, system_id
                         from json_each($7) as wanted
                         cross join healthcheck_run as run on run.association = wanted.value and run.scheduled_at >= $1
                             and run.scheduled_at <= coalesce((
                                 select edge.scheduled_at from healthcheck_run as edge
                                 where edge.association = wanted.value and edge.scheduled_at >= $1
                                   and edge.scheduled_at <= $2 and ($5 is null or edge.status = $5)
                                 order by edge.scheduled_at limit 1 offset $6), $2)
                         join healthcheck_association as owner on owner.number = run.association
                         where (scheduled_at, association) > ($1, $3) and (scheduled_at, association) < ($2, $4)
                           and ($5 is null or status = $5)
                         order by scheduled_at, association limit $6",
                postgres: "select association, scheduled_at, status, latency_us, detail, check_id, system_id
                           from json_array_elements_text(cast($7 as json)) as wanted (value)
                           cross join lateral (
                               select association, scheduled_at, status, latency_us, detail from healthcheck_run
                               where association = wanted.value::bigint and scheduled_at >= $1 and scheduled_at <= $2
                                 and (scheduled_at, association) > ($1, $3) and (scheduled_at, association) < ($2, $4)
                                 and ($5 is null or status = $5)
                               order by scheduled_at limit $6) as run
                           join healthcheck_association as owner on owner.number = run.association
                           order by scheduled_at, association limit $6",
            },
            range.after.0,
            range.before.0,
            range.after.1,
            range.before.1,
            range.status,
            limit,
            json!(numbers).to_string()
        )
    }

    /// How many runs are not sealed. Of all associations at most `limit` are looked at; `None` if there are more.
    pub(super) async fn count_open(&mut self, range: &Range<'_>, limit: i64) -> Result<Option<i64>> {
        let Some(numbers) = range.associations else {
            let (looked_at, count) = sql!(
                self,
                fetch_one as (i64, i64),
                "select count(*), coalesce(sum(case when $3 is null or status = $3 then 1 else 0 end), 0)
                 from (select status from healthcheck_run as run
                       join healthcheck_association as owner on owner.number = run.association
                       where scheduled_at >= $1 and scheduled_at <= $2 limit $4) as looked_at",
                range.after.0,
                range.before.0,
                range.status,
                limit + 1
            )?;
            return Ok((looked_at <= limit).then_some(count));
        };
        let (count,) = sql!(
            self,
            fetch_one as (i64,),
            {
                sqlite: "select count(*) from json_each($4) as wanted
                         cross join healthcheck_run as run on run.association = wanted.value
                             and scheduled_at >= $1 and scheduled_at <= $2 and ($3 is null or status = $3)",
                postgres: "select coalesce(sum(count), 0)::bigint
                           from json_array_elements_text(cast($4 as json)) as wanted (value)
                           cross join lateral (
                               select count(*) as count from healthcheck_run
                               where association = wanted.value::bigint and scheduled_at >= $1 and scheduled_at <= $2
                                 and ($3 is null or status = $3)) as open",
            },
            range.after.0,
            range.before.0,
            range.status,
            json!(numbers).to_string()
        )?;
        Ok(Some(count))
    }

    /// Chunks of hours of these associations, or of all.
    pub(super) async fn sealed(&mut self, associations: Option<&[i64]>, from: i64, to: i64) -> Result<Vec<Sealed>> {
        let Some(numbers) = associations else {
            return sql!(
                self,
                fetch_all as Sealed,
                "select association, hour, data, check_id, system_id from healthcheck_chunk as chunk
                 join healthcheck_association as owner on owner.number = chunk.association
                 where hour >= $1 and hour < $2 order by hour, association",
                from,
                to
            );
        };
        sql!(
            self,
            fetch_all as Sealed,
            {
                sqlite: "select association, hour, data, check_id, system_id from json_each($1) as wanted
                         join healthcheck_chunk as chunk on chunk.association = wanted.value and hour >= $2 and hour < $3
                         join healthcheck_association as owner on owner.number = chunk.association
                         order by hour, association",
                postgres: "select association, hour, data, check_id, system_id
                           from json_array_elements_text(cast($1 as json)) as wanted (value)
                           cross join lateral (
                               select association, hour, data from healthcheck_chunk
                               where association = wanted.value::bigint and hour >= $2 and hour < $3 offset 0) as chunk
                           join healthcheck_association as owner on owner.number = chunk.association
                           order by hour, association",
            },
            json!(numbers).to_string(),
            from,
            to
        )
    }

    /// How many chunks there are of these hours, and how many runs are in them.
    pub(super) async fn count_chunks(
        &mut self,
        associations: Option<&[i64]>,
        from: i64,
        to: i64,
    ) -> Result<(i64, i64)> {
        let Some(numbers) = associations else {
            return sql!(
                self,
                fetch_one as (i64, i64),
                {
                    sqlite: "select count(*), coalesce(sum(runs), 0) from healthcheck_chunk as chunk
                             join healthcheck_association as owner on owner.number = chunk.association
                             where hour >= $1 and hour < $2",
                    postgres: "select count(*), coalesce(sum(runs), 0)::bigint from healthcheck_chunk as chunk
                               join healthcheck_association as owner on owner.number = chunk.association
                               where hour >= $1 and hour < $2",
                },
                from,
                to
            );
        };
        sql!(
            self,
            fetch_one as (i64, i64),
            {
                sqlite: "select count(*), coalesce(sum(runs), 0) from json_each($1) as wanted
                         join healthcheck_chunk as chunk on chunk.association = wanted.value and hour >= $2 and hour < $3",
                postgres: "select count(*), coalesce(sum(runs), 0)::bigint
                           from json_array_elements_text(cast($1 as json)) as wanted (value)
                           cross join lateral (
                               select runs from healthcheck_chunk
                               where association = wanted.value::bigint and hour >= $2 and hour < $3 offset 0) as chunk",
            },
            json!(numbers).to_string(),
            from,
            to
        )
    }

    /// The first hour from this one on of which these associations, or all, have chunks.
    pub(super) async fn next_sealed_hour(&mut self, associations: Option<&[i64]>, hour: i64) -> Result<Option<i64>> {
        let (first,) = match associations {
            None => sql!(
                self,
                fetch_one as (Option<i64>,),
                "select min(hour) from healthcheck_chunk where hour >= $1",
                hour
            )?,
            Some(numbers) => sql!(
                self,
                fetch_one as (Option<i64>,),
                {
                    sqlite: "select min((select min(hour) from healthcheck_chunk
                                         where association = wanted.value and hour >= $2))
                             from json_each($1) as wanted",
                    postgres: "select min((select min(hour) from healthcheck_chunk
                                           where association = wanted.value::bigint and hour >= $2))
                               from json_array_elements_text(cast($1 as json)) as wanted (value)",
                },
                json!(numbers).to_string(),
                hour
            )?,
        };
        Ok(first)
    }

    /// The first hour of which there are chunks.
    pub(super) async fn first_hour_of_all(&mut self) -> Result<Option<i64>> {
        let (first,) = sql!(self, fetch_one as (Option<i64>,), "select min(hour) from healthcheck_chunk")?;
        Ok(first)
    }
}
