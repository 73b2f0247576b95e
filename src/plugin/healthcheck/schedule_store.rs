//! Every statement that the schedule asks: what is to run, and what was heard of it.

use super::domain::{Check, CheckId, Health};
use super::state::Patience;
use crate::database::{Reader, Timestamp, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;
use serde_json::json;

/// What a schedule is made from.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Scheduled {
    /// The check.
    #[sqlx(flatten)]
    pub check: Check,
    /// The number of the association.
    pub number: i64,
    /// The system.
    pub system_id: SystemId,
    /// When it was associated.
    pub associated_at: Timestamp,
    /// When that was last changed.
    pub association_changed_at: Timestamp,
    /// For when the last run was due that says something.
    pub last_judged_at: Option<Timestamp>,
    /// For when the last run was due.
    pub last_run_at: Option<Timestamp>,
}

impl Scheduled {
    /// How long it may be silent before nobody knows how it is.
    #[must_use]
    pub fn grace_us(&self) -> i64 {
        Patience::of(&self.check).grace_us(&self.check.strategy_id)
    }
}

/// What was heard of an association.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Heard {
    pub(super) number: i64,
    pub(super) strategy_id: String,
    #[sqlx(flatten)]
    pub(super) patience: Patience,
    pub(super) status: Health,
    pub(super) last_judged_at: Timestamp,
}

impl Reader {
    /// What is to run.
    pub(crate) async fn all_scheduled(&mut self) -> Result<Vec<Scheduled>> {
        sql!(
            self,
            fetch_all as Scheduled,
            "select id, name, description, strategy_id, config, secrets, assertions, interval_s, timeout_ms, retries,
                 retry_backoff_ms, degraded_above_ms, paused, check_.created_at, check_.updated_at,
                 number, system_id, association.created_at as associated_at,
                 association.updated_at as association_changed_at, last_judged_at, last_run_at
             from healthcheck_association as association
             join healthcheck_check as check_ on check_.id = association.check_id
             left join healthcheck_state as state on state.association = number
             where enabled = true and paused = false"
        )
    }

    /// The same of these associations.
    pub(crate) async fn scheduled(&mut self, numbers: &[i64]) -> Result<Vec<Scheduled>> {
        sql!(
            self,
            fetch_all as Scheduled,
            {
                sqlite: "select id, name, description, strategy_id, config, secrets, assertions, interval_s, timeout_ms, retries,
                             retry_backoff_ms, degraded_above_ms, paused, check_.created_at, check_.updated_at,
                             number, system_id, association.created_at as associated_at,
                             association.updated_at as association_changed_at, last_judged_at, last_run_at
                         from healthcheck_association as association
                         join healthcheck_check as check_ on check_.id = association.check_id
                         left join healthcheck_state as state on state.association = number
                         where number in (select value from json_each($1)) and enabled = true and paused = false",
                postgres: "select id, name, description, strategy_id, config, secrets, assertions, interval_s, timeout_ms, retries,
                               retry_backoff_ms, degraded_above_ms, paused, check_.created_at, check_.updated_at,
                               number, system_id, association.created_at as associated_at,
                               association.updated_at as association_changed_at, last_judged_at, last_run_at
                           from healthcheck_association as association
                           join healthcheck_check as check_ on check_.id = association.check_id
                           left join healthcheck_state as state on state.association = number
                           where number in (select value::bigint from json_array_elements_text(cast($1 as json)))
                             and enabled = true and paused = false",
            },
            json!(numbers).to_string()
        )
    }

    /// Which associations of a check are to run, and when the check was last changed: short, for it is asked with every
    /// system that a check gets.
    pub(crate) async fn scheduled_of(&mut self, check: CheckId) -> Result<Vec<(i64, Timestamp)>> {
        sql!(
            self,
            fetch_all as (i64, Timestamp),
            "select number, check_.updated_at
             from healthcheck_association as association
             join healthcheck_check as check_ on check_.id = association.check_id
             where association.check_id = $1 and enabled = true and paused = false",
            check
        )
    }

    /// What was heard of these associations, if anything was.
    pub(super) async fn heard(&mut self, numbers: &[i64]) -> Result<Vec<Heard>> {
        sql!(
            self,
            fetch_all as Heard,
            {
                sqlite: "select number, strategy_id, interval_s, timeout_ms, retries, retry_backoff_ms, status, last_judged_at
                         from healthcheck_association as association
                         join healthcheck_check as check_ on check_.id = association.check_id
                         join healthcheck_state as state on state.association = number
                         where number in (select value from json_each($1))",
                postgres: "select number, strategy_id, interval_s, timeout_ms, retries, retry_backoff_ms, status, last_judged_at
                           from healthcheck_association as association
                           join healthcheck_check as check_ on check_.id = association.check_id
                           join healthcheck_state as state on state.association = number
                           where number in (select value::bigint from json_array_elements_text(cast($1 as json)))",
            },
            json!(numbers).to_string()
        )
    }

    /// For when the last runs of these associations were due.
    pub(crate) async fn last_run_times(&mut self, numbers: &[i64]) -> Result<Vec<(i64, Timestamp)>> {
        sql!(
            self,
            fetch_all as (i64, Timestamp),
            {
                sqlite: "select association, last_run_at from healthcheck_state
                         where association in (select value from json_each($1))",
                postgres: "select association, last_run_at from healthcheck_state
                           where association in (select value::bigint from json_array_elements_text(cast($1 as json)))",
            },
            json!(numbers).to_string()
        )
    }
}
