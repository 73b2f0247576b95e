//! Every statement about checks and which systems they run for.

use super::domain::{Association, Check, CheckId};
use crate::contract::Page;
use crate::database::search::containing;
use crate::database::search::folded;
use crate::database::{Reader, Timestamp, Writer, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;
use uuid::Uuid;

/// After which check a page starts: the oldest come first.
fn after_check(page: &Page) -> Uuid {
    page.after.as_deref().and_then(|after| Uuid::try_parse(after).ok()).unwrap_or(Uuid::nil())
}

impl Reader {
    /// Oldest first.
    pub(super) async fn checks(
        &mut self,
        page: &Page,
        name_contains: Option<&str>,
        strategy: Option<&str>,
        paused: Option<bool>,
    ) -> Result<Vec<Check>> {
        let (after, text) = (after_check(page), name_contains.map(containing));
        if let Some(strategy) = strategy {
            return sql!(
                self,
                fetch_all as Check,
                "select id, name, description, strategy_id, config, secrets, assertions, interval_s, timeout_ms, retries,
                     retry_backoff_ms, degraded_above_ms, paused, created_at, updated_at
                 from healthcheck_check
                 where strategy_id = $5 and id > $1 and ($2 is null or name_folded like coalesce($2, '') escape '!')
                   and ($3 is null or paused = $3)
                 order by id limit $4",
                after,
                text,
                paused,
                page.limit(),
                strategy
            );
        }
        sql!(
            self,
            fetch_all as Check,
            "select id, name, description, strategy_id, config, secrets, assertions, interval_s, timeout_ms, retries,
                     retry_backoff_ms, degraded_above_ms, paused, created_at, updated_at
                 from healthcheck_check
                 where id > $1 and ($2 is null or name_folded like coalesce($2, '') escape '!')
                   and ($3 is null or paused = $3)
                 order by id limit $4",
            after,
            text,
            paused,
            page.limit()
        )
    }

    pub(super) async fn check(&mut self, id: CheckId) -> Result<Option<Check>> {
        sql!(
            self,
            fetch_optional as Check,
            "select id, name, description, strategy_id, config, secrets, assertions, interval_s, timeout_ms, retries,
                 retry_backoff_ms, degraded_above_ms, paused, created_at, updated_at
             from healthcheck_check where id = $1",
            id
        )
    }

    /// The checks of a system, oldest association first.
    pub(super) async fn checks_of(&mut self, system: SystemId, limit: i64) -> Result<Vec<Check>> {
        sql!(
            self,
            fetch_all as Check,
            "select id, name, description, strategy_id, config, secrets, assertions, interval_s, timeout_ms, retries,
                 retry_backoff_ms, degraded_above_ms, paused, check_.created_at, check_.updated_at
             from healthcheck_association as association join healthcheck_check as check_ on check_.id = association.check_id
             where association.system_id = $1 order by association.number limit $2",
            system,
            limit
        )
    }

    /// Checks whose secrets are not sealed under the key with this name, in the order of their ids.
    pub(super) async fn sealed_otherwise(
        &mut self,
        key: &str,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<(CheckId, String)>> {
        sql!(
            self,
            fetch_all as (CheckId, String),
            "select id, secrets from healthcheck_check
             where id > $1 and secrets is not null and secrets not like $2 order by id limit $3",
            after,
            format!("{key}:%"),
            limit
        )
    }

    /// The check that a token belongs to, by the forms of its tag, and the form that is stored.
    pub(super) async fn check_with_token(&mut self, tags: &[String]) -> Result<Option<(CheckId, String)>> {
        sql!(
            self,
            fetch_optional as (CheckId, String),
            {
                sqlite: "select id, push_tag from healthcheck_check where push_tag in (select value from json_each($1))",
                postgres: "select id, push_tag from healthcheck_check
                           where push_tag in (select value from json_array_elements_text(cast($1 as json)))",
            },
            serde_json::json!(tags).to_string()
        )
    }

    /// Oldest first.
    pub(super) async fn associations(
        &mut self,
        after: i64,
        system: Option<SystemId>,
        check: Option<CheckId>,
        limit: i64,
    ) -> Result<Vec<Association>> {
        match (system, check) {
            (Some(system), check) => sql!(
                self,
                fetch_all as Association,
                "select number, check_id, name as check_name, system_id, enabled, thresholds, incident_policy,
                     association.created_at, association.updated_at
                 from healthcheck_association as association
                 join healthcheck_check as check_ on check_.id = association.check_id
                 where association.system_id = $2 and number > $1 and ($3 is null or check_id = $3)
                 order by association.number limit $4",
                after,
                system,
                check,
                limit
            ),
            (None, Some(check)) => sql!(
                self,
                fetch_all as Association,
                "select number, check_id, name as check_name, system_id, enabled, thresholds, incident_policy,
                     association.created_at, association.updated_at
                 from healthcheck_association as association
                 join healthcheck_check as check_ on check_.id = association.check_id
                 where association.check_id = $2 and number > $1 order by association.number limit $3",
                after,
                check,
                limit
            ),
            (None, None) => sql!(
                self,
                fetch_all as Association,
                "select number, check_id, name as check_name, system_id, enabled, thresholds, incident_policy,
                     association.created_at, association.updated_at
                 from healthcheck_association as association
                 join healthcheck_check as check_ on check_.id = association.check_id
                 where number > $1 order by association.number limit $2",
                after,
                limit
            ),
        }
    }

    pub(super) async fn association(&mut self, check: CheckId, system: SystemId) -> Result<Option<Association>> {
        sql!(
            self,
            fetch_optional as Association,
            "select number, check_id, name as check_name, system_id, enabled, thresholds, incident_policy,
                 association.created_at, association.updated_at
             from healthcheck_association as association
             join healthcheck_check as check_ on check_.id = association.check_id
             where association.check_id = $1 and association.system_id = $2",
            check,
            system
        )
    }

    /// For how long the history of an association is kept, JSON.
    pub(super) async fn retention(&mut self, association: i64) -> Result<Option<String>> {
        let found = sql!(
            self,
            fetch_optional as (Option<String>,),
            "select retention from healthcheck_association where number = $1",
            association
        )?;
        Ok(found.and_then(|(text,)| text))
    }

    pub(super) async fn count_associations(&mut self, system: SystemId) -> Result<i64> {
        let (count,) = sql!(
            self,
            fetch_one as (i64,),
            "select count(*) from healthcheck_association where system_id = $1",
            system
        )?;
        Ok(count)
    }
}

impl Writer {
    /// The check, and nobody else changes it until the end of the transaction.
    pub(super) async fn lock_check(&mut self, id: CheckId) -> Result<Option<Check>> {
        sql!(
            self,
            fetch_optional as Check,
            {
                sqlite: "select id, name, description, strategy_id, config, secrets, assertions, interval_s, timeout_ms, retries,
                             retry_backoff_ms, degraded_above_ms, paused, created_at, updated_at
                         from healthcheck_check where id = $1",
                postgres: "select id, name, description, strategy_id, config, secrets, assertions, interval_s, timeout_ms, retries,
                               retry_backoff_ms, degraded_above_ms, paused, created_at, updated_at
                           from healthcheck_check where id = $1 for update",
            },
            id
        )
    }

    pub(super) async fn insert_check(&mut self, new: &Check) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into healthcheck_check
                 (id, name, name_folded, description, strategy_id, config, secrets, assertions, interval_s, timeout_ms,
                  retries, retry_backoff_ms, degraded_above_ms, paused, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            new.id,
            &new.name,
            folded(&new.name),
            &new.description,
            &new.strategy_id,
            &new.config,
            &new.secrets,
            &new.assertions,
            new.interval_s,
            new.timeout_ms,
            new.retries,
            new.retry_backoff_ms,
            new.degraded_above_ms,
            new.paused,
            new.created_at,
            new.updated_at
        )
    }

    pub(super) async fn save_check(&mut self, changed: &Check) -> Result<u64> {
        sql!(
            self,
            execute,
            "update healthcheck_check set name = $2, name_folded = $3, description = $4, strategy_id = $5, config = $6,
                 secrets = $7, assertions = $8, interval_s = $9, timeout_ms = $10, retries = $11, retry_backoff_ms = $12,
                 degraded_above_ms = $13, paused = $14, updated_at = $15
             where id = $1",
            changed.id,
            &changed.name,
            folded(&changed.name),
            &changed.description,
            &changed.strategy_id,
            &changed.config,
            &changed.secrets,
            &changed.assertions,
            changed.interval_s,
            changed.timeout_ms,
            changed.retries,
            changed.retry_backoff_ms,
            changed.degraded_above_ms,
            changed.paused,
            changed.updated_at
        )
    }

    /// Replaces sealed secrets, unless somebody has changed them meanwhile.
    pub(super) async fn replace_sealed(&mut self, id: CheckId, before: &str, anew: &str) -> Result<u64> {
        sql!(
            self,
            execute,
            "update healthcheck_check set secrets = $3 where id = $1 and secrets = $2",
            id,
            before,
            anew
        )
    }

    pub(super) async fn save_push_tag(&mut self, id: CheckId, tag: &str) -> Result<u64> {
        sql!(self, execute, "update healthcheck_check set push_tag = $2 where id = $1", id, tag)
    }

    /// Unless another was given in the meantime.
    pub(super) async fn replace_push_tag(&mut self, id: CheckId, before: &str, tag: &str) -> Result<u64> {
        sql!(
            self,
            execute,
            "update healthcheck_check set push_tag = $3 where id = $1 and push_tag = $2",
            id,
            before,
            tag
        )
    }

    pub(super) async fn delete_check(&mut self, id: CheckId) -> Result<u64> {
        sql!(self, execute, "delete from healthcheck_check where id = $1", id)
    }

    /// A number that no association has had.
    pub(super) async fn next_number(&mut self) -> Result<i64> {
        let (number,) =
            sql!(self, fetch_one as (i64,), "update healthcheck_counter set last = last + 1 returning last")?;
        Ok(number)
    }

    pub(super) async fn insert_association(&mut self, new: &Association) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into healthcheck_association
                 (number, check_id, system_id, enabled, thresholds, incident_policy, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            new.number,
            new.check_id,
            new.system_id,
            new.enabled,
            &new.thresholds,
            &new.incident_policy,
            new.created_at,
            new.updated_at
        )
    }

    pub(super) async fn save_association(&mut self, changed: &Association) -> Result<u64> {
        sql!(
            self,
            execute,
            "update healthcheck_association set enabled = $2, thresholds = $3, incident_policy = $4, updated_at = $5
             where number = $1",
            changed.number,
            changed.enabled,
            &changed.thresholds,
            &changed.incident_policy,
            changed.updated_at
        )
    }

    pub(super) async fn save_retention(&mut self, association: i64, retention: Option<&str>) -> Result<u64> {
        sql!(
            self,
            execute,
            "update healthcheck_association set retention = $2 where number = $1",
            association,
            retention
        )
    }

    pub(super) async fn delete_association(&mut self, check: CheckId, system: SystemId) -> Result<u64> {
        sql!(self, execute, "delete from healthcheck_association where check_id = $1 and system_id = $2", check, system)
    }
}

/// The position behind a row, for the next page.
pub(super) fn number_after(page: &Page) -> i64 {
    page.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(0)
}

/// When something was last changed, for the next change.
pub(super) fn changed_at(before: Timestamp, now: Timestamp) -> Timestamp {
    before.next(now)
}
