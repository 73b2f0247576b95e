//! Every statement about runs, and about what is kept of them.

use super::domain::{CheckId, Health};
use super::state::{Patience, Standing, State};
use crate::database::{Batch, Reader, Timestamp, Writer, boolean, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

/// A run as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Run {
    /// The number of the association.
    pub association: i64,
    /// The time for which it was due.
    pub scheduled_at: Timestamp,
    /// What came of it.
    pub status: Health,
    /// How long the look took.
    pub latency_us: Option<i64>,
    /// JSON.
    pub detail: Option<String>,
    /// The check.
    pub check_id: CheckId,
    /// The system.
    pub system_id: SystemId,
}

/// What a run is judged by, and the state before it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Judging {
    pub(super) number: i64,
    pub(super) check_id: CheckId,
    pub(super) check_name: String,
    pub(super) strategy_id: String,
    pub(super) system_id: SystemId,
    pub(super) enabled: bool,
    pub(super) paused: bool,
    #[sqlx(flatten)]
    pub(super) patience: Patience,
    pub(super) thresholds: Option<String>,
    pub(super) incident_policy: Option<String>,
    /// Hours before this one are sealed.
    pub(super) upto: i64,
}

/// An association with how it is. As `SQLite` puts it into an array: the fields in this order.
#[derive(Clone, Debug, Deserialize, sqlx::FromRow)]
pub(super) struct Known {
    pub(super) check_id: CheckId,
    pub(super) check_name: String,
    pub(super) strategy_id: String,
    pub(super) system_id: SystemId,
    pub(super) number: i64,
    #[serde(deserialize_with = "boolean")]
    pub(super) enabled: bool,
    #[serde(deserialize_with = "boolean")]
    pub(super) paused: bool,
    #[sqlx(flatten)]
    pub(super) patience: Patience,
    pub(super) thresholds: Option<String>,
    status: Option<Health>,
    since: Option<Timestamp>,
    /// How many runs are behind the status.
    pub(super) considered: Option<i64>,
    /// When the last run was due.
    pub(super) last_run_at: Option<Timestamp>,
    last_judged_at: Option<Timestamp>,
}

impl Known {
    pub(super) fn standing(&self) -> Option<Standing> {
        Some(Standing { status: self.status?, since: self.since?, last_judged_at: self.last_judged_at? })
    }
}

#[derive(sqlx::FromRow)]
struct StateRow {
    association: i64,
    #[sqlx(flatten)]
    state: State,
}

/// A run to store.
#[derive(Clone, Debug)]
pub(super) struct NewRun {
    pub(super) association: i64,
    pub(super) scheduled_at: Timestamp,
    pub(super) kind: i64,
    pub(super) status: Health,
    pub(super) latency_us: Option<i64>,
    pub(super) detail: Option<String>,
}

impl Reader {
    /// The associations of these systems with how they are, oldest first.
    pub(super) async fn known(&mut self, systems: &[SystemId], limit: i64) -> Result<Vec<Known>> {
        let found = sql!(
            self,
            fetch_all as Batch<Known>,
            {
                sqlite: "select json_group_array(json_array(
                             hex(check_id), name, strategy_id, hex(system_id), number, enabled, paused,
                             json_array(interval_s, timeout_ms, retries, retry_backoff_ms), thresholds,
                             status, since, considered, last_run_at, last_judged_at))
                         from (select check_id, name, strategy_id, system_id, number, enabled, paused, interval_s,
                                   timeout_ms, retries, retry_backoff_ms, thresholds,
                                   status, since, length(outcomes) as considered, last_run_at, last_judged_at
                               from (select distinct unhex(value) as id from json_each($1)) as wanted
                               cross join healthcheck_association as association on association.system_id = wanted.id
                               join healthcheck_check as check_ on check_.id = association.check_id
                               left join healthcheck_state as state on state.association = association.number
                               limit $2)",
                postgres: "select check_id, name as check_name, strategy_id, system_id, number, enabled, paused, interval_s,
                               timeout_ms, retries, retry_backoff_ms, thresholds,
                               status, since, length(outcomes)::bigint as considered, last_run_at, last_judged_at
                           from healthcheck_association as association
                           join healthcheck_check as check_ on check_.id = association.check_id
                           left join healthcheck_state as state on state.association = association.number
                           where system_id in (select value::uuid from json_array_elements_text(cast($1 as json)))
                           limit $2",
            },
            crate::database::hex(systems.iter().map(|system| system.0)),
            limit
        )?;
        let mut found = Batch::rows(found);
        // The databases take longer for it than for all the rest.
        found.sort_unstable_by_key(|one| one.number);
        Ok(found)
    }

    /// The same of every system.
    pub(super) async fn all_known(&mut self, limit: i64) -> Result<Vec<Known>> {
        sql!(
            self,
            fetch_all as Known,
            "select check_id, name as check_name, strategy_id, system_id, number, enabled, paused, interval_s,
                 timeout_ms, retries, retry_backoff_ms, thresholds,
                 status, since, cast(length(outcomes) as bigint) as considered, last_run_at, last_judged_at
             from healthcheck_association as association
             join healthcheck_check as check_ on check_.id = association.check_id
             left join healthcheck_state as state on state.association = association.number
             order by number limit $1",
            limit
        )
    }

    pub(super) async fn run(&mut self, association: i64, at: Timestamp) -> Result<Option<Run>> {
        sql!(
            self,
            fetch_optional as Run,
            "select run.association, run.scheduled_at, run.status, run.latency_us, run.detail, owner.check_id, owner.system_id
             from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
             where run.association = $1 and run.scheduled_at = $2",
            association,
            at
        )
    }

    /// When the last report came, and for when the last run was due.
    pub(crate) async fn last_report(&mut self, association: i64) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
        let found = sql!(
            self,
            fetch_optional as (Option<Timestamp>, Option<Timestamp>),
            "select last_reported_at, last_run_at from healthcheck_state where association = $1",
            association
        )?;
        Ok(found.unwrap_or_default())
    }

    /// The runs that were stored together.
    pub(super) async fn runs_of(&mut self, batch: Uuid) -> Result<Vec<Run>> {
        sql!(
            self,
            fetch_all as Run,
            "select run.association, run.scheduled_at, run.status, run.latency_us, null as detail, owner.check_id, owner.system_id
             from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
             where run.batch = $1 order by run.scheduled_at, run.association",
            batch
        )
    }
}

impl Writer {
    /// Nobody else changes these until the end of the transaction, nor what is kept of their runs.
    pub(super) async fn lock_associations(&mut self, numbers: &[i64]) -> Result<u64> {
        sql!(
            self,
            execute,
            {
                sqlite: "select $1",
                postgres: "select number from healthcheck_association
                           where number in (select value::bigint from json_array_elements_text(cast($1 as json)))
                           order by number for update",
            },
            json!(numbers).to_string()
        )
    }

    /// What runs of these associations are judged by; nobody else judges them until the end of the transaction.
    pub(super) async fn lock_judging(&mut self, numbers: &[i64]) -> Result<HashMap<i64, Judging>> {
        // First, and apart: what is read with the lock is as of when it began to wait, and a pause may have been what it
        // waited for.
        self.lock_associations(numbers).await?;
        let found = sql!(
            self,
            fetch_all as Judging,
            {
                sqlite: "select number, check_id, name as check_name, strategy_id, system_id, enabled, paused, interval_s,
                             timeout_ms, retries, retry_backoff_ms, thresholds, incident_policy, upto
                         from healthcheck_association as association
                         join healthcheck_check as check_ on check_.id = association.check_id
                         join healthcheck_archive as archive on archive.association = number
                         where number in (select value from json_each($1))",
                postgres: "select number, check_id, name as check_name, strategy_id, system_id, enabled, paused, interval_s,
                               timeout_ms, retries, retry_backoff_ms, thresholds, incident_policy, upto
                           from healthcheck_association as association
                           join healthcheck_check as check_ on check_.id = association.check_id
                           join healthcheck_archive as archive on archive.association = number
                           where number in (select value::bigint from json_array_elements_text(cast($1 as json)))",
            },
            json!(numbers).to_string()
        )?;
        Ok(found.into_iter().map(|one| (one.number, one)).collect())
    }

    pub(super) async fn states(&mut self, numbers: &[i64]) -> Result<HashMap<i64, State>> {
        let found = sql!(
            self,
            fetch_all as StateRow,
            {
                sqlite: "select association, status, since, outcomes, last_run_at, last_judged_at, incident_id
                         from healthcheck_state where association in (select value from json_each($1))",
                postgres: "select association, status, since, outcomes, last_run_at, last_judged_at, incident_id
                           from healthcheck_state
                           where association in (select value::bigint from json_array_elements_text(cast($1 as json)))",
            },
            json!(numbers).to_string()
        )?;
        Ok(found.into_iter().map(|row| (row.association, row.state)).collect())
    }

    /// Stores runs, each unless there is one for its time, and answers which were stored.
    pub(super) async fn insert_runs(&mut self, runs: &[NewRun], batch: Uuid) -> Result<Vec<(i64, Timestamp)>> {
        let rows: Vec<Value> = runs
            .iter()
            .map(|run| {
                json!([run.association, run.scheduled_at.0, run.kind, run.status.word(), run.latency_us, run.detail])
            })
            .collect();
        sql!(
            self,
            fetch_all as (i64, Timestamp),
            {
                sqlite: "insert into healthcheck_run (association, scheduled_at, kind, status, latency_us, detail, batch)
                         select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, $2
                         from json_each($1) where true
                         on conflict do nothing returning association, scheduled_at",
                postgres: "insert into healthcheck_run (association, scheduled_at, kind, status, latency_us, detail, batch)
                           select (value ->> 0)::bigint, (value ->> 1)::bigint, (value ->> 2)::bigint, value ->> 3,
                                  (value ->> 4)::bigint, value ->> 5, $2
                           from json_array_elements(cast($1 as json)) as rows (value)
                           on conflict do nothing returning association, scheduled_at",
            },
            Value::Array(rows).to_string(),
            batch
        )
    }

    /// When the last reports of these came.
    pub(super) async fn save_reports(&mut self, reports: &[(i64, Timestamp)]) -> Result<u64> {
        let row = |(association, at): &(i64, Timestamp)| json!([association, at.0]);
        sql!(
            self,
            execute,
            {
                sqlite: "update healthcheck_state set last_reported_at = max(coalesce(last_reported_at, 0), value ->> 1)
                         from json_each($1) where association = value ->> 0",
                postgres: "update healthcheck_state set last_reported_at = greatest(last_reported_at, (value ->> 1)::bigint)
                           from json_array_elements(cast($1 as json)) as rows (value) where association = (value ->> 0)::bigint",
            },
            Value::Array(reports.iter().map(row).collect()).to_string()
        )
    }

    pub(super) async fn save_states(&mut self, states: &HashMap<i64, State>) -> Result<u64> {
        let rows: Vec<Value> = states
            .iter()
            .map(|(association, state)| {
                json!([
                    association,
                    state.status.word(),
                    state.since.0,
                    state.outcomes,
                    state.last_run_at.0,
                    state.last_judged_at.0,
                    state.incident_id.map(|id| id.0.simple().to_string())
                ])
            })
            .collect();
        sql!(
            self,
            execute,
            {
                sqlite: "insert into healthcheck_state
                             (association, status, since, outcomes, last_run_at, last_judged_at, incident_id)
                         select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, unhex(value ->> 6)
                         from json_each($1) where true
                         on conflict (association) do update set status = excluded.status, since = excluded.since,
                             outcomes = excluded.outcomes, last_run_at = excluded.last_run_at,
                             last_judged_at = excluded.last_judged_at, incident_id = excluded.incident_id",
                postgres: "insert into healthcheck_state
                               (association, status, since, outcomes, last_run_at, last_judged_at, incident_id)
                           select (value ->> 0)::bigint, value ->> 1, (value ->> 2)::bigint, value ->> 3,
                                  (value ->> 4)::bigint, (value ->> 5)::bigint, (value ->> 6)::uuid
                           from json_array_elements(cast($1 as json)) as rows (value)
                           on conflict (association) do update set status = excluded.status, since = excluded.since,
                               outcomes = excluded.outcomes, last_run_at = excluded.last_run_at,
                               last_judged_at = excluded.last_judged_at, incident_id = excluded.incident_id",
            },
            Value::Array(rows).to_string()
        )
    }
}
