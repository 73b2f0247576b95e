//! Every statement that reads runs a page at a time.

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
        let (all, numbers) = (associations.is_none(), json!(associations.unwrap_or_default()).to_string());
        sql!(
            self,
            fetch_one as Reach,
            {
                sqlite: "select count(*) as count, min(upto) as upto, sum(stored) as stored from healthcheck_archive as archive
                         join healthcheck_association as owner on owner.number = archive.association
                         where $1 or archive.association in (select value from json_each($2))",
                postgres: "select count(*) as count, min(upto) as upto, sum(stored)::bigint as stored
                           from healthcheck_archive as archive
                           join healthcheck_association as owner on owner.number = archive.association
                           where $1 or archive.association in
                               (select value::bigint from json_array_elements_text(cast($2 as json)))",
            },
            all,
            numbers
        )
    }

    /// Runs that are not sealed, newest first, or oldest first.
    pub(super) async fn open_runs(&mut self, range: &Range<'_>, oldest: bool, limit: i64) -> Result<Vec<Run>> {
        let (all, numbers) = (range.associations.is_none(), json!(range.associations.unwrap_or_default()).to_string());
        if let Some([association]) = range.associations {
            return self.open_runs_of_one(*association, range, oldest, limit).await;
        }
        if oldest {
            return sql!(
                self,
                fetch_all as Run,
                {
                    sqlite: "select association, scheduled_at, status, latency_us, detail, check_id, system_id
                             from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
                             where scheduled_at >= $1 and scheduled_at <= $2
                               and (scheduled_at, association) > ($1, $3) and (scheduled_at, association) < ($2, $4)
                               and ($5 is null or status = $5)
                               and ($6 or association in (select value from json_each($7)))
                             order by scheduled_at, association limit $8",
                    postgres: "select association, scheduled_at, status, latency_us, detail, check_id, system_id
                               from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
                               where scheduled_at >= $1 and scheduled_at <= $2
                                 and (scheduled_at, association) > ($1, $3) and (scheduled_at, association) < ($2, $4)
                                 and ($5 is null or status = $5)
                                 and ($6 or association in (select value::bigint from json_array_elements_text(cast($7 as json))))
                               order by scheduled_at, association limit $8",
                },
                range.after.0,
                range.before.0,
                range.after.1,
                range.before.1,
                range.status,
                all,
                numbers,
                limit
            );
        }
        sql!(
            self,
            fetch_all as Run,
            {
                sqlite: "select association, scheduled_at, status, latency_us, detail, check_id, system_id
                         from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
                         where scheduled_at >= $1 and scheduled_at <= $2
                           and (scheduled_at, association) > ($1, $3) and (scheduled_at, association) < ($2, $4)
                           and ($5 is null or status = $5)
                           and ($6 or association in (select value from json_each($7)))
                         order by scheduled_at desc, association desc limit $8",
                postgres: "select association, scheduled_at, status, latency_us, detail, check_id, system_id
                           from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
                           where scheduled_at >= $1 and scheduled_at <= $2
                             and (scheduled_at, association) > ($1, $3) and (scheduled_at, association) < ($2, $4)
                             and ($5 is null or status = $5)
                             and ($6 or association in (select value::bigint from json_array_elements_text(cast($7 as json))))
                           order by scheduled_at desc, association desc limit $8",
            },
            range.after.0,
            range.before.0,
            range.after.1,
            range.before.1,
            range.status,
            all,
            numbers,
            limit
        )
    }

    async fn open_runs_of_one(
        &mut self,
        association: i64,
        range: &Range<'_>,
        oldest: bool,
        limit: i64,
    ) -> Result<Vec<Run>> {
        if oldest {
            return sql!(
                self,
                fetch_all as Run,
                "select association, scheduled_at, status, latency_us, detail, check_id, system_id
                 from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
                 where association = $1 and scheduled_at >= $2 and scheduled_at <= $3
                   and (scheduled_at, association) > ($2, $4) and (scheduled_at, association) < ($3, $5)
                   and ($6 is null or status = $6)
                 order by scheduled_at limit $7",
                association,
                range.after.0,
                range.before.0,
                range.after.1,
                range.before.1,
                range.status,
                limit
            );
        }
        sql!(
            self,
            fetch_all as Run,
            "select association, scheduled_at, status, latency_us, detail, check_id, system_id
             from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
             where association = $1 and scheduled_at >= $2 and scheduled_at <= $3
               and (scheduled_at, association) > ($2, $4) and (scheduled_at, association) < ($3, $5)
               and ($6 is null or status = $6)
             order by scheduled_at desc limit $7",
            association,
            range.after.0,
            range.before.0,
            range.after.1,
            range.before.1,
            range.status,
            limit
        )
    }

    /// How many runs are not sealed.
    pub(super) async fn count_open(&mut self, range: &Range<'_>) -> Result<i64> {
        let (all, numbers) = (range.associations.is_none(), json!(range.associations.unwrap_or_default()).to_string());
        let (count,) = if let Some([association]) = range.associations {
            sql!(
                self,
                fetch_one as (i64,),
                "select count(*) from healthcheck_run
                 where association = $1 and scheduled_at >= $2 and scheduled_at <= $3 and ($4 is null or status = $4)",
                *association,
                range.after.0,
                range.before.0,
                range.status
            )?
        } else {
            sql!(
                self,
                fetch_one as (i64,),
                {
                    sqlite: "select count(*) from healthcheck_run as run
                             join healthcheck_association as owner on owner.number = run.association
                             where scheduled_at >= $1 and scheduled_at <= $2 and ($3 is null or status = $3)
                               and ($4 or association in (select value from json_each($5)))",
                    postgres: "select count(*) from healthcheck_run as run
                               join healthcheck_association as owner on owner.number = run.association
                               where scheduled_at >= $1 and scheduled_at <= $2 and ($3 is null or status = $3)
                                 and ($4 or association in (select value::bigint from json_array_elements_text(cast($5 as json))))",
                },
                range.after.0,
                range.before.0,
                range.status,
                all,
                numbers
            )?
        };
        Ok(count)
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
                           join healthcheck_chunk as chunk
                             on chunk.association = wanted.value::bigint and hour >= $2 and hour < $3
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
                           join healthcheck_chunk as chunk
                             on chunk.association = wanted.value::bigint and hour >= $2 and hour < $3",
            },
            json!(numbers).to_string(),
            from,
            to
        )
    }

    /// The first hour of which there are chunks.
    pub(super) async fn first_hour_of_all(&mut self) -> Result<Option<i64>> {
        let (first,) = sql!(self, fetch_one as (Option<i64>,), "select min(hour) from healthcheck_chunk")?;
        Ok(first)
    }
}
