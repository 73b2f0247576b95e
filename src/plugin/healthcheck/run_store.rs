//! Every statement about runs, and about what is kept of them.

use super::domain::{CheckId, Health};
use super::state::State;
use crate::database::{Reader, Timestamp, Writer, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;
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

/// Which runs are wanted.
#[derive(Clone, Debug)]
pub(super) struct RunFilter {
    pub(super) check: Option<CheckId>,
    pub(super) system: Option<SystemId>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) status: Option<Health>,
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
    pub(super) interval_s: i64,
    pub(super) thresholds: Option<String>,
    pub(super) incident_policy: Option<String>,
}

/// An association with what is kept of its runs.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Known {
    pub(super) check_id: CheckId,
    pub(super) check_name: String,
    pub(super) strategy_id: String,
    pub(super) system_id: SystemId,
    pub(super) number: i64,
    pub(super) enabled: bool,
    pub(super) paused: bool,
    pub(super) interval_s: i64,
    pub(super) thresholds: Option<String>,
    status: Option<Health>,
    since: Option<Timestamp>,
    outcomes: Option<String>,
    last_run_at: Option<Timestamp>,
    last_judged_at: Option<Timestamp>,
}

impl Known {
    pub(super) fn state(&self) -> Option<State> {
        Some(State {
            status: self.status?,
            since: self.since?,
            outcomes: self.outcomes.clone()?,
            last_run_at: self.last_run_at?,
            last_judged_at: self.last_judged_at?,
            incident_id: None,
        })
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
    /// The associations of these systems with what is kept of their runs, oldest first.
    pub(super) async fn known(&mut self, systems: &[SystemId], limit: i64) -> Result<Vec<Known>> {
        sql!(
            self,
            fetch_all as Known,
            {
                sqlite: "select check_id, name as check_name, strategy_id, system_id, number, enabled, paused, interval_s, thresholds,
                             status, since, outcomes, last_run_at, last_judged_at
                         from healthcheck_association as association
                         join healthcheck_check as check_ on check_.id = association.check_id
                         left join healthcheck_state as state on state.association = association.number
                         where system_id in (select unhex(value) from json_each($1)) order by number limit $2",
                postgres: "select check_id, name as check_name, strategy_id, system_id, number, enabled, paused, interval_s, thresholds,
                               status, since, outcomes, last_run_at, last_judged_at
                           from healthcheck_association as association
                           join healthcheck_check as check_ on check_.id = association.check_id
                           left join healthcheck_state as state on state.association = association.number
                           where system_id in (select value::uuid from json_array_elements_text(cast($1 as json)))
                           order by number limit $2",
            },
            crate::database::hex(systems.iter().map(|system| system.0)),
            limit
        )
    }

    /// The same of every system.
    pub(super) async fn all_known(&mut self, limit: i64) -> Result<Vec<Known>> {
        sql!(
            self,
            fetch_all as Known,
            "select check_id, name as check_name, strategy_id, system_id, number, enabled, paused, interval_s, thresholds,
                 status, since, outcomes, last_run_at, last_judged_at
             from healthcheck_association as association
             join healthcheck_check as check_ on check_.id = association.check_id
             left join healthcheck_state as state on state.association = association.number
             order by number limit $1",
            limit
        )
    }

    /// The last runs of an association, newest first.
    pub(super) async fn last_runs(&mut self, association: i64, limit: i64) -> Result<Vec<(Timestamp, Health)>> {
        sql!(
            self,
            fetch_all as (Timestamp, Health),
            "select scheduled_at, status from healthcheck_run where association = $1 order by scheduled_at desc limit $2",
            association,
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
        sql!(
            self,
            fetch_one as (Option<Timestamp>, Option<Timestamp>),
            "select (select scheduled_at from healthcheck_run where association = $1 and kind = 2
                     order by scheduled_at desc limit 1),
                    (select scheduled_at from healthcheck_run where association = $1 order by scheduled_at desc limit 1)",
            association
        )
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

    /// Runs by time; the newest first unless it is asked for the oldest.
    pub(super) async fn runs(&mut self, filter: &RunFilter, oldest: bool, limit: i64, offset: i64) -> Result<Vec<Run>> {
        let mut numbers = vec![];
        if filter.check.is_some() || filter.system.is_some() {
            numbers = self.numbers(filter).await?;
        }
        if let [association] = numbers.as_slice() {
            return self.runs_of_one(*association, filter, oldest, limit, offset).await;
        }
        let (all, numbers) = (filter.check.is_none() && filter.system.is_none(), json!(numbers).to_string());
        if oldest {
            sql!(
                self,
                fetch_all as Run,
                {
                    sqlite: "select run.association, run.scheduled_at, run.status, run.latency_us, run.detail, owner.check_id, owner.system_id
                             from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
                             where run.scheduled_at >= $1 and run.scheduled_at <= $2 and ($3 is null or run.status = $3)
                               and ($4 or run.association in (select value from json_each($5)))
                             order by run.scheduled_at, run.association limit $6 offset $7",
                    postgres: "select run.association, run.scheduled_at, run.status, run.latency_us, run.detail, owner.check_id, owner.system_id
                               from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
                               where run.scheduled_at >= $1 and run.scheduled_at <= $2 and ($3 is null or run.status = $3)
                                 and ($4 or run.association in (select value::bigint from json_array_elements_text(cast($5 as json))))
                               order by run.scheduled_at, run.association limit $6 offset $7",
                },
                filter.from,
                filter.to,
                filter.status,
                all,
                numbers,
                limit,
                offset
            )
        } else {
            sql!(
                self,
                fetch_all as Run,
                {
                    sqlite: "select run.association, run.scheduled_at, run.status, run.latency_us, run.detail, owner.check_id, owner.system_id
                             from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
                             where run.scheduled_at >= $1 and run.scheduled_at <= $2 and ($3 is null or run.status = $3)
                               and ($4 or run.association in (select value from json_each($5)))
                             order by run.scheduled_at desc, run.association desc limit $6 offset $7",
                    postgres: "select run.association, run.scheduled_at, run.status, run.latency_us, run.detail, owner.check_id, owner.system_id
                               from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
                               where run.scheduled_at >= $1 and run.scheduled_at <= $2 and ($3 is null or run.status = $3)
                                 and ($4 or run.association in (select value::bigint from json_array_elements_text(cast($5 as json))))
                               order by run.scheduled_at desc, run.association desc limit $6 offset $7",
                },
                filter.from,
                filter.to,
                filter.status,
                all,
                numbers,
                limit,
                offset
            )
        }
    }

    async fn runs_of_one(
        &mut self,
        association: i64,
        filter: &RunFilter,
        oldest: bool,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<Run>> {
        if oldest {
            return sql!(
                self,
                fetch_all as Run,
                "select run.association, run.scheduled_at, run.status, run.latency_us, run.detail, owner.check_id, owner.system_id
                 from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
                 where run.association = $1 and run.scheduled_at >= $2 and run.scheduled_at <= $3
                   and ($4 is null or run.status = $4)
                 order by run.scheduled_at limit $5 offset $6",
                association,
                filter.from,
                filter.to,
                filter.status,
                limit,
                offset
            );
        }
        sql!(
            self,
            fetch_all as Run,
            "select run.association, run.scheduled_at, run.status, run.latency_us, run.detail, owner.check_id, owner.system_id
             from healthcheck_run as run join healthcheck_association as owner on owner.number = run.association
             where run.association = $1 and run.scheduled_at >= $2 and run.scheduled_at <= $3
               and ($4 is null or run.status = $4)
             order by run.scheduled_at desc limit $5 offset $6",
            association,
            filter.from,
            filter.to,
            filter.status,
            limit,
            offset
        )
    }

    /// How many runs there are.
    pub(super) async fn count_runs(&mut self, filter: &RunFilter) -> Result<i64> {
        let all = filter.check.is_none() && filter.system.is_none();
        let numbers = if all { vec![] } else { self.numbers(filter).await? };
        let (count,) = sql!(
            self,
            fetch_one as (i64,),
            {
                sqlite: "select count(*) from healthcheck_run as run
                         join healthcheck_association as owner on owner.number = run.association
                         where run.scheduled_at >= $1 and run.scheduled_at <= $2 and ($3 is null or run.status = $3)
                           and ($4 or run.association in (select value from json_each($5)))",
                postgres: "select count(*) from healthcheck_run as run
                           join healthcheck_association as owner on owner.number = run.association
                           where run.scheduled_at >= $1 and run.scheduled_at <= $2 and ($3 is null or run.status = $3)
                             and ($4 or run.association in (select value::bigint from json_array_elements_text(cast($5 as json))))",
            },
            filter.from,
            filter.to,
            filter.status,
            all,
            json!(numbers).to_string()
        )?;
        Ok(count)
    }

    async fn numbers(&mut self, filter: &RunFilter) -> Result<Vec<i64>> {
        let found = self.associations(0, filter.system, filter.check, i64::MAX).await?;
        Ok(found.into_iter().map(|association| association.number).collect())
    }
}

impl Writer {
    /// What runs of these associations are judged by; nobody else judges them until the end of the transaction.
    pub(super) async fn lock_judging(&mut self, numbers: &[i64]) -> Result<HashMap<i64, Judging>> {
        let found = sql!(
            self,
            fetch_all as Judging,
            {
                sqlite: "select number, check_id, name as check_name, strategy_id, system_id, enabled, paused, interval_s, thresholds, incident_policy
                         from healthcheck_association as association
                         join healthcheck_check as check_ on check_.id = association.check_id
                         where number in (select value from json_each($1))",
                postgres: "select number, check_id, name as check_name, strategy_id, system_id, enabled, paused, interval_s, thresholds, incident_policy
                           from healthcheck_association as association
                           join healthcheck_check as check_ on check_.id = association.check_id
                           where number in (select value::bigint from json_array_elements_text(cast($1 as json)))
                           order by number for update of association",
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
