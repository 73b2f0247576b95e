//! Every statement that reads what is sealed, and what the rows are. `offset 0`: see `page_store.rs`.

use super::chunk::HOUR_US;
use super::span::{Last, Span};
use crate::database::{Batch, Reader, Timestamp, bytes, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::healthcheck::domain::Health;
use crate::plugin::healthcheck::state::Patience;
use serde::Deserialize;
use serde_json::{Value, json};

/// How far the runs of an association are archived.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(in crate::plugin::healthcheck) struct Archive {
    pub(in crate::plugin::healthcheck) association: i64,
    /// Hours before this one are sealed.
    pub(in crate::plugin::healthcheck) upto: i64,
    pub(super) last_at: Option<Timestamp>,
    pub(super) last_status: Option<Health>,
    /// Runs of hours from this one on are complete.
    pub(in crate::plugin::healthcheck) raw_from: i64,
    /// Tallies of hours from this one on are complete.
    pub(in crate::plugin::healthcheck) hour_from: i64,
    /// Runs in chunks.
    pub(in crate::plugin::healthcheck) stored: i64,
}

impl Archive {
    /// Up to when it is sealed.
    pub(in crate::plugin::healthcheck) fn sealed_until(&self) -> Timestamp {
        Timestamp(self.upto.saturating_mul(HOUR_US))
    }

    /// The last sealed run that says something.
    pub(in crate::plugin::healthcheck) fn last(&self) -> Option<Last> {
        Some(Last { at: self.last_at?, status: self.last_status? })
    }

    pub(super) fn heard(&mut self, last: Option<Last>) {
        let Some(last) = last.filter(|last| self.last_at.is_none_or(|before| before < last.at)) else { return };
        (self.last_at, self.last_status) = (Some(last.at), Some(last.status));
    }
}

/// What its runs are tallied by.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::plugin::healthcheck) struct Owner {
    pub(in crate::plugin::healthcheck) system_id: SystemId,
    pub(in crate::plugin::healthcheck) strategy_id: String,
    #[sqlx(flatten)]
    pub(in crate::plugin::healthcheck) patience: Patience,
    #[sqlx(flatten)]
    pub(in crate::plugin::healthcheck) archive: Archive,
    /// When the first run is due that is not sealed.
    pub(super) first_at: Option<Timestamp>,
}

/// A run that is not sealed.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Hot {
    pub(super) association: i64,
    pub(super) scheduled_at: Timestamp,
    pub(super) kind: i64,
    pub(super) status: Health,
    pub(super) latency_us: Option<i64>,
    pub(super) detail: Option<String>,
}

/// Something that is kept of an hour or a day. As `SQLite` puts it into an array: the fields in this order.
#[derive(Clone, Debug, Deserialize, sqlx::FromRow)]
pub(in crate::plugin::healthcheck) struct Piece {
    pub(in crate::plugin::healthcheck) association: i64,
    /// The number of the hour or the day.
    pub(in crate::plugin::healthcheck) at: i64,
    #[serde(deserialize_with = "bytes")]
    pub(in crate::plugin::healthcheck) data: Vec<u8>,
}

/// Runs of an hour.
pub(super) struct NewChunk {
    pub(super) piece: Piece,
    pub(super) runs: usize,
}

/// A change of a status.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(in crate::plugin::healthcheck) struct StatusChange {
    pub(in crate::plugin::healthcheck) association: i64,
    pub(in crate::plugin::healthcheck) at: Timestamp,
    pub(in crate::plugin::healthcheck) status: Health,
}

impl Reader {
    /// How far an association is archived, and what its runs are tallied by.
    pub(in crate::plugin::healthcheck) async fn owner(&mut self, association: i64) -> Result<Option<Owner>> {
        Ok(self.owners(&[association]).await?.pop())
    }

    /// The same of several.
    pub(super) async fn owners(&mut self, associations: &[i64]) -> Result<Vec<Owner>> {
        sql!(
            self,
            fetch_all as Owner,
            {
                sqlite: "select system_id, strategy_id, interval_s, timeout_ms, retries, retry_backoff_ms, archive.association,
                             upto, last_at, last_status, raw_from, hour_from, stored,
                             (select min(scheduled_at) from healthcheck_run where association = archive.association) as first_at
                         from healthcheck_archive as archive
                         join healthcheck_association as owner on owner.number = archive.association
                         join healthcheck_check as check_ on check_.id = owner.check_id
                         where archive.association in (select value from json_each($1)) order by archive.association",
                postgres: "select system_id, strategy_id, interval_s, timeout_ms, retries, retry_backoff_ms, archive.association,
                               upto, last_at, last_status, raw_from, hour_from, stored,
                               (select min(scheduled_at) from healthcheck_run where association = archive.association) as first_at
                           from healthcheck_archive as archive
                           join healthcheck_association as owner on owner.number = archive.association
                           join healthcheck_check as check_ on check_.id = owner.check_id
                           where archive.association in (select value::bigint from json_array_elements_text(cast($1 as json)))
                           order by archive.association",
            },
            json!(associations).to_string()
        )
    }

    /// Runs in chunks of hours, oldest first.
    pub(in crate::plugin::healthcheck) async fn chunks(
        &mut self,
        associations: &[i64],
        from: i64,
        to: i64,
    ) -> Result<Vec<Piece>> {
        sql!(
            self,
            fetch_all as Piece,
            {
                sqlite: "select association, hour as at, data from json_each($1) as wanted
                         join healthcheck_chunk as chunk on chunk.association = wanted.value and hour >= $2 and hour < $3
                         order by hour, association",
                postgres: "select association, hour as at, data from json_array_elements_text(cast($1 as json)) as wanted (value)
                           cross join lateral (
                               select association, hour, data from healthcheck_chunk
                               where association = wanted.value::bigint and hour >= $2 and hour < $3 offset 0) as chunk
                           order by hour, association",
            },
            json!(associations).to_string(),
            from,
            to
        )
    }

    /// What was found by some runs of these hours.
    pub(in crate::plugin::healthcheck) async fn details(
        &mut self,
        associations: &[i64],
        hours: &[i64],
    ) -> Result<Vec<Piece>> {
        sql!(
            self,
            fetch_all as Piece,
            {
                sqlite: "select association, hour as at, data from json_each($1) as wanted
                         join healthcheck_detail as detail on detail.association = wanted.value
                         where hour in (select value from json_each($2))",
                postgres: "select association, hour as at, data from json_array_elements_text(cast($1 as json)) as wanted (value)
                           join healthcheck_detail as detail on detail.association = wanted.value::bigint
                           where hour in (select value::bigint from json_array_elements_text(cast($2 as json)))",
            },
            json!(associations).to_string(),
            json!(hours).to_string()
        )
    }

    /// The first hour of which there are runs.
    pub(in crate::plugin::healthcheck) async fn first_chunk(&mut self, associations: &[i64]) -> Result<Option<i64>> {
        let (first,) = sql!(
            self,
            fetch_one as (Option<i64>,),
            {
                sqlite: "select min(first) from (
                             select (select min(hour) from healthcheck_chunk where association = wanted.value) as first
                             from json_each($1) as wanted)",
                postgres: "select min(first) from (
                               select (select min(hour) from healthcheck_chunk where association = wanted.value::bigint) as first
                               from json_array_elements_text(cast($1 as json)) as wanted (value)) as firsts",
            },
            json!(associations).to_string()
        )?;
        Ok(first)
    }

    /// The first hour from this one on of which there are runs.
    pub(in crate::plugin::healthcheck) async fn chunk_from(
        &mut self,
        association: i64,
        hour: i64,
    ) -> Result<Option<i64>> {
        let (first,) = sql!(
            self,
            fetch_one as (Option<i64>,),
            "select min(hour) from healthcheck_chunk where association = $1 and hour >= $2",
            association,
            hour
        )?;
        Ok(first)
    }

    /// How many runs are in the chunks of these hours.
    pub(in crate::plugin::healthcheck) async fn count_sealed(
        &mut self,
        associations: &[i64],
        from: i64,
        to: i64,
    ) -> Result<i64> {
        let (count,) = sql!(
            self,
            fetch_one as (i64,),
            {
                sqlite: "select coalesce(sum(runs), 0) from json_each($1) as wanted
                         join healthcheck_chunk as chunk on chunk.association = wanted.value and hour >= $2 and hour < $3",
                postgres: "select coalesce(sum(runs), 0)::bigint from json_array_elements_text(cast($1 as json)) as wanted (value)
                           cross join lateral (
                               select runs from healthcheck_chunk
                               where association = wanted.value::bigint and hour >= $2 and hour < $3 offset 0) as chunk",
            },
            json!(associations).to_string(),
            from,
            to
        )?;
        Ok(count)
    }

    /// Tallies of hours, oldest first.
    pub(in crate::plugin::healthcheck) async fn hours(
        &mut self,
        association: i64,
        from: i64,
        to: i64,
    ) -> Result<Vec<Piece>> {
        let found = sql!(
            self,
            fetch_all as Batch<Piece>,
            {
                sqlite: "select json_group_array(json_array(association, hour, hex(data)))
                         from (select association, hour, data from healthcheck_hour
                               where association = $1 and hour >= $2 and hour < $3 order by hour)",
                postgres: "select association, hour as at, data from healthcheck_hour
                           where association = $1 and hour >= $2 and hour < $3 order by hour",
            },
            association,
            from,
            to
        )?;
        Ok(Batch::rows(found))
    }

    /// Tallies of days, oldest first.
    pub(in crate::plugin::healthcheck) async fn days(
        &mut self,
        association: i64,
        from: i64,
        to: i64,
    ) -> Result<Vec<Piece>> {
        let found = sql!(
            self,
            fetch_all as Batch<Piece>,
            {
                sqlite: "select json_group_array(json_array(association, day, hex(data)))
                         from (select association, day, data from healthcheck_day
                               where association = $1 and day >= $2 and day < $3 order by day)",
                postgres: "select association, day as at, data from healthcheck_day
                           where association = $1 and day >= $2 and day < $3 order by day",
            },
            association,
            from,
            to
        )?;
        Ok(Batch::rows(found))
    }

    /// Runs that are not sealed, by these associations and the ends of what is wanted of each, oldest first.
    pub(super) async fn hot(&mut self, wanted: &[(i64, Span)]) -> Result<Vec<Hot>> {
        sql!(
            self,
            fetch_all as Hot,
            {
                sqlite: "select association, scheduled_at, kind, status, latency_us, detail from json_each($1) as wanted
                         join healthcheck_run as run on run.association = wanted.value ->> 0
                             and run.scheduled_at >= wanted.value ->> 1 and run.scheduled_at < wanted.value ->> 2
                         order by association, scheduled_at",
                postgres: "select association, scheduled_at, kind, status, latency_us, detail
                           from json_array_elements(cast($1 as json)) as wanted (value)
                           cross join lateral (
                               select association, scheduled_at, kind, status, latency_us, detail from healthcheck_run
                               where association = (wanted.value ->> 0)::bigint
                                 and scheduled_at >= (wanted.value ->> 1)::bigint
                                 and scheduled_at < (wanted.value ->> 2)::bigint offset 0) as run
                           order by association, scheduled_at",
            },
            spans(wanted)
        )
    }

    /// Changes of status, newest first, before a place.
    pub(in crate::plugin::healthcheck) async fn status_changes(
        &mut self,
        associations: &[i64],
        (from, to): Span,
        before: (Timestamp, i64),
        limit: i64,
    ) -> Result<Vec<StatusChange>> {
        sql!(
            self,
            fetch_all as StatusChange,
            {
                sqlite: "select association, at, status from json_each($1) as wanted
                         join healthcheck_status_change as entry on entry.association = wanted.value
                             and at >= $2 and at <= $3 and at <= $4
                         where (at, association) < ($4, $5) order by at desc, association desc limit $6",
                postgres: "select association, at, status from json_array_elements_text(cast($1 as json)) as wanted (value)
                           join healthcheck_status_change as entry on entry.association = wanted.value::bigint
                               and at >= $2 and at <= $3 and at <= $4
                           where (at, association) < ($4, $5) order by at desc, association desc limit $6",
            },
            json!(associations).to_string(),
            from,
            to,
            before.0,
            before.1,
            limit
        )
    }

    /// How many associations have an hour to seal, and how many are to be looked through.
    pub(crate) async fn count_due(&mut self, upto: i64, today: i64) -> Result<(i64, i64)> {
        sql!(
            self,
            fetch_one as (i64, i64),
            "select (select count(*) from healthcheck_archive as archive
                     join healthcheck_association on number = archive.association where upto < $1),
                    (select count(*) from healthcheck_archive as archive
                     join healthcheck_association on number = archive.association where swept_on < $2)",
            upto,
            today
        )
    }
}

pub(super) fn spans(wanted: &[(i64, Span)]) -> String {
    let row = |(association, (from, to)): &(i64, Span)| json!([association, from.0, to.0]);
    Value::from(wanted.iter().map(row).collect::<Vec<_>>()).to_string()
}
