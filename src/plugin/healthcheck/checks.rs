//! Checks and associations as callers change them.

use super::archive::seal::sealed_before;
use super::domain::{Association, Check, CheckId};
use super::plan::{Pace, issues};
use super::service::{Healthchecks, missing, wrong};
use super::settings::{self, Wanted};
use super::store::changed_at;
use super::{message, push, vault, wanted};
use crate::access::Call;
use crate::access::instance::push_tag;
use crate::contract::Change;
use crate::database::{Did, Timestamp, Writer};
use crate::error::{Error, Result};
use crate::plugin::catalog::domain::SystemId;
use crate::proto::checkmate::healthcheck::v1 as pb;
use std::time::Duration;
use zeroize::Zeroizing;

/// What a caller does not say.
const TIMEOUT_MS: i64 = 30_000;
const RETRY_BACKOFF_MS: i64 = 1_000;

/// More checks of one system are a mistake of a script.
const CHECKS_OF_SYSTEM_MAX: i64 = 1_000;

impl Healthchecks {
    /// Checks as callers see them.
    pub(super) fn shown(&self, found: Vec<Check>) -> Vec<pb::HealthCheck> {
        found.into_iter().map(|check| self.show(check)).collect()
    }

    /// A check as callers see it. Secrets that cannot be opened any more are shown as none.
    pub(super) fn show(&self, check: Check) -> pb::HealthCheck {
        let secrets = settings::secrets_of(&self.kernel, check.id, check.secrets.as_deref()).unwrap_or_default();
        message::check(check, &secrets)
    }

    pub(super) async fn create(&self, call: &Call, request: pb::CreateConfigurationRequest) -> Result<pb::HealthCheck> {
        let assertions =
            message::assertions_of(&request.assertions).map_err(|faults| Error::Invalid(issues(faults, "")))?;
        let mut new = Check {
            id: self.kernel.ids.next(),
            name: request.name,
            description: request.description.filter(|text| !text.trim().is_empty()),
            strategy_id: String::new(),
            config: String::new(),
            secrets: None,
            assertions: String::new(),
            interval_s: request.interval_seconds.into(),
            timeout_ms: request.timeout_ms.map_or(TIMEOUT_MS, i64::from),
            retries: request.retries.unwrap_or_default().into(),
            retry_backoff_ms: request.retry_backoff_ms.map_or(RETRY_BACKOFF_MS, i64::from),
            degraded_above_ms: request.degraded_above_ms.map(i64::from),
            paused: request.paused.unwrap_or_default(),
            created_at: call.now,
            updated_at: call.now,
        };
        let wanted = Wanted {
            kind: settings::kind(&request.strategy_id, "")?,
            config: request.config.as_ref().map(message::plain).unwrap_or_default(),
            assertions,
            pace: settings::pace(&new),
        };
        self.take_over(&mut new, wanted, None, "")?;
        let mut store = self.kernel.database.writer().await?;
        store.insert_check(&new).await?;
        self.kernel.commit(store, call.did("configuration.created", new.id)).await?;
        Ok(self.show(new))
    }

    pub(super) async fn update(&self, call: &Call, request: pb::UpdateConfigurationRequest) -> Result<pb::HealthCheck> {
        let id = CheckId::parse(&request.id)?;
        let body = request.body.unwrap_or_default();
        let mut store = self.kernel.database.writer().await?;
        let before = store.lock_check(id).await?.ok_or_else(|| missing(id))?;
        let expected = request.expected_updated_at.as_ref().map(Timestamp::of);
        if expected.is_some_and(|expected| expected.millis() != before.updated_at.millis()) {
            let at = before.updated_at;
            return Err(Error::Conflict(format!(
                "The health check was changed by somebody else at {at}; read it again"
            )));
        }
        let mask = body.update_mask.as_ref();
        let number = |field, given: Option<i32>, before: i64, default: i64| match Change::of(mask, field, given) {
            Change::Keep => before,
            Change::Clear => default,
            Change::Set(value) => value.into(),
        };
        let mut changed = Check {
            name: Change::of(mask, "name", body.name).or(before.name.clone()),
            description: Change::of(mask, "description", body.description).or_option(before.description.clone()),
            interval_s: number("interval_seconds", body.interval_seconds, before.interval_s, before.interval_s),
            timeout_ms: number("timeout_ms", body.timeout_ms, before.timeout_ms, TIMEOUT_MS),
            retries: number("retries", body.retries, before.retries, 0),
            retry_backoff_ms: number(
                "retry_backoff_ms",
                body.retry_backoff_ms,
                before.retry_backoff_ms,
                RETRY_BACKOFF_MS,
            ),
            degraded_above_ms: Change::of(mask, "degraded_above_ms", body.degraded_above_ms.map(i64::from))
                .or_option(before.degraded_above_ms),
            paused: Change::of(mask, "paused", body.paused).or(before.paused),
            updated_at: changed_at(before.updated_at, call.now),
            ..before.clone()
        };
        let strategy = Change::of(mask, "strategy_id", body.strategy_id).or(before.strategy_id.clone());
        let config = Change::of(mask, "config", body.config.as_ref().map(message::plain));
        let assertions = match Change::of_list(mask, "assertions", body.assertions) {
            Change::Set(given) => {
                message::assertions_of(&given).map_err(|faults| Error::Invalid(issues(faults, "body")))?
            }
            Change::Keep | Change::Clear => settings::assertions_of(&before),
        };
        let wanted = Wanted {
            kind: settings::kind(&strategy, "body")?,
            config: config.or(settings::config_of(&before)),
            assertions,
            pace: settings::pace(&changed),
        };
        self.take_over(&mut changed, wanted, Some(&before), "body")?;
        store.save_check(&changed).await?;
        if changed.paused != before.paused {
            self.begin_or_end(&mut store, call, id, changed.paused).await?;
        }
        self.kernel.commit(store, call.did("configuration.updated", id)).await?;
        Ok(self.show(changed))
    }

    /// Checks settings and writes them into a check, its secrets sealed.
    fn take_over(&self, check: &mut Check, wanted: Wanted, before: Option<&Check>, below: &str) -> Result<()> {
        let assertions = serde_json::to_string(&wanted.assertions).map_err(|_| Error::bug("assertions are JSON"))?;
        let kind = wanted.kind;
        let old = before.map(|before| self.old(before)).transpose()?;
        let checked =
            settings::check(wanted, old.as_ref().map(|(kind, config, secrets)| (*kind, config, secrets)), below)?;
        kind.id.clone_into(&mut check.strategy_id);
        check.config = checked.config.to_string();
        check.assertions = assertions;
        check.secrets = vault::seal(&checked.secrets, check.id, &self.kernel.key, self.kernel.entropy)?;
        Ok(())
    }

    fn old(&self, before: &Check) -> Result<(&'static crate::probe::Kind, serde_json::Value, vault::Secrets)> {
        let kind = settings::kind(&before.strategy_id, "")?;
        // Those that cannot be opened any more have to be given again.
        let secrets = settings::secrets_of(&self.kernel, before.id, before.secrets.as_deref()).unwrap_or_default();
        Ok((kind, settings::config_of(before), secrets))
    }

    pub(super) async fn delete(&self, call: &Call, id: CheckId) -> Result<()> {
        let mut store = self.kernel.database.writer().await?;
        store.lock_check(id).await?.ok_or_else(|| missing(id))?;
        let systems = store.associations(0, None, Some(id), i64::MAX).await?;
        let done = store.release_incidents(&self.kernel, call, &systems, "was deleted").await?;
        store.delete_check(id).await?;
        store.tell(call, done, &systems).await?;
        self.kernel.commit(store, call.did("configuration.deleted", id)).await
    }

    pub(super) async fn pause(&self, call: &Call, id: CheckId, paused: bool) -> Result<pb::HealthCheck> {
        let mut store = self.kernel.database.writer().await?;
        let before = store.lock_check(id).await?.ok_or_else(|| missing(id))?;
        if before.paused == paused {
            return Ok(self.show(before));
        }
        let changed = Check { paused, updated_at: changed_at(before.updated_at, call.now), ..before };
        store.save_check(&changed).await?;
        self.begin_or_end(&mut store, call, id, paused).await?;
        let kind = if paused { "configuration.paused" } else { "configuration.resumed" };
        self.kernel.commit(store, call.did(kind, id)).await?;
        Ok(self.show(changed))
    }

    /// What follows for its systems when a check is paused or goes on.
    async fn begin_or_end(&self, store: &mut Writer, call: &Call, id: CheckId, paused: bool) -> Result<()> {
        let systems = store.associations(0, None, Some(id), i64::MAX).await?;
        let released = if paused { systems.as_slice() } else { &[] };
        let done = store.release_incidents(&self.kernel, call, released, "was paused").await?;
        store.tell(call, done, &systems).await
    }

    pub(super) async fn associate(&self, call: &Call, request: pb::AssociateSystemRequest) -> Result<Association> {
        let body = request.body.unwrap_or_default();
        let check = CheckId::parse(&body.configuration_id)?;
        let mut store = self.kernel.database.writer().await?;
        let held = store.lock_check(check).await?.ok_or_else(|| missing(check))?;
        let system = store.must_have_system(&request.system_id).await?.id;
        let mask = body.update_mask.as_ref();
        let stored = |text: Result<String, serde_json::Error>| text.map_err(|_| Error::bug("a policy is JSON"));
        let thresholds = Change::of(mask, "state_thresholds", body.state_thresholds);
        let thresholds = thresholds.map(|given| serde_json::to_string(&message::thresholds_of(&given)));
        let policy = Change::of(mask, "incident_policy", body.incident_policy);
        let policy = policy.map(|given| serde_json::to_string(&message::policy_of(&given)));
        let enabled = Change::of(mask, "enabled", body.enabled);
        let before = store.association(check, system).await?;
        let kind = if before.is_some() { "association.updated" } else { "association.created" };
        let is_new = before.is_none();
        let before = if let Some(before) = before {
            before
        } else {
            if store.count_associations(system).await? >= CHECKS_OF_SYSTEM_MAX {
                let max = CHECKS_OF_SYSTEM_MAX;
                return Err(Error::Refused(format!("A system has at most {max} health checks")));
            }
            Association {
                number: store.next_number().await?,
                check_id: check,
                check_name: held.name,
                system_id: system,
                enabled: true,
                thresholds: None,
                incident_policy: None,
                created_at: call.now,
                updated_at: call.now,
            }
        };
        let as_it_was = before.clone();
        let changed = Association {
            enabled: enabled.or(before.enabled),
            thresholds: thresholds.or_option(before.thresholds.map(Ok)).map(stored).transpose()?,
            incident_policy: policy.or_option(before.incident_policy.map(Ok)).map(stored).transpose()?,
            updated_at: if is_new { call.now } else { changed_at(before.updated_at, call.now) },
            ..before
        };
        let mut done = vec![];
        if is_new {
            store.insert_association(&changed).await?;
            store.insert_archive(changed.number, sealed_before(call.now)).await?;
        } else {
            if let Some(why) = no_longer_followed(&as_it_was, &changed) {
                done = store.release_incidents(&self.kernel, call, &[as_it_was], why).await?;
            }
            store.save_association(&changed).await?;
        }
        store.tell(call, done, std::slice::from_ref(&changed)).await?;
        self.kernel.commit(store, call.did(kind, check)).await?;
        Ok(changed)
    }

    pub(super) async fn disassociate(&self, call: &Call, check: CheckId, system: SystemId) -> Result<()> {
        let mut store = self.kernel.database.writer().await?;
        let none = || Error::NotFound(format!("Health check {check} is not associated with system {system}"));
        let found = [store.association(check, system).await?.ok_or_else(none)?];
        let why = "does not run for this system any more";
        let done = store.release_incidents(&self.kernel, call, &found, why).await?;
        if store.delete_association(check, system).await? == 0 {
            return Err(none());
        }
        store.tell(call, done, &found).await?;
        self.kernel.commit(store, call.did("association.deleted", check)).await
    }

    pub(super) async fn new_push_token(&self, call: &Call, id: CheckId) -> Result<Zeroizing<String>> {
        let token = push::draw(self.kernel.entropy)?;
        let mut store = self.kernel.database.writer().await?;
        let held = store.lock_check(id).await?.ok_or_else(|| missing(id))?;
        if held.strategy_id != super::HEARTBEAT {
            return Err(Error::Refused("Only results of a heartbeat check are reported".into()));
        }
        store.save_push_tag(id, &push_tag(&token)).await?;
        self.kernel.commit(store, call.did("configuration.token_made", id)).await?;
        Ok(token)
    }

    /// Tries a configuration once, without saving anything.
    pub(super) async fn test(&self, call: &Call, request: pb::TestHealthCheckRequest) -> Result<super::Looked> {
        let until = wanted::until(call);
        let before = match &request.id {
            Some(id) => {
                let id = CheckId::parse(id)?;
                Some(self.kernel.database.reader().await?.check(id).await?.ok_or_else(|| missing(id))?)
            }
            None => None,
        };
        let strategy = request.strategy_id.or_else(|| before.as_ref().map(|before| before.strategy_id.clone()));
        let config = request.config.as_ref().map(message::plain);
        let assertions = match &before {
            Some(before) if request.assertions.is_empty() => settings::assertions_of(before),
            _ => message::assertions_of(&request.assertions).map_err(|faults| Error::Invalid(issues(faults, "")))?,
        };
        let millis = |given: Option<i32>| given.and_then(|given| u64::try_from(given).ok()).map(Duration::from_millis);
        let stored = before.as_ref().map(settings::pace);
        let pace = Pace {
            timeout: millis(request.timeout_ms)
                .or(stored.map(|pace| pace.timeout))
                .unwrap_or_else(|| wanted::patience(until).min(Duration::from_millis(TIMEOUT_MS.unsigned_abs()))),
            retries: 0,
            backoff: Duration::ZERO,
            degraded_above: millis(request.degraded_above_ms).or(stored.and_then(|pace| pace.degraded_above)),
            within: Duration::ZERO,
        };
        let tried = Wanted {
            kind: settings::kind(strategy.as_deref().unwrap_or_default(), "")?,
            config: config.or_else(|| before.as_ref().map(settings::config_of)).unwrap_or_default(),
            assertions,
            pace,
        };
        let old = before.as_ref().map(|before| self.old(before)).transpose()?;
        let old = old.as_ref().map(|(kind, config, secrets)| (*kind, config, secrets));
        let checked = settings::check(tried, old, "")?;
        if checked.plan.kind().id == super::HEARTBEAT {
            return Err(wrong("strategyId", "A heartbeat is reported, so there is nothing to try"));
        }
        Ok(self.look_for(&checked.plan, None, until).await)
    }
}

/// Why a change of an association leaves its incident to itself, if it does.
fn no_longer_followed(before: &Association, changed: &Association) -> Option<&'static str> {
    match (before, changed) {
        (Association { enabled: true, .. }, Association { enabled: false, .. }) => Some("was disabled for this system"),
        (Association { incident_policy: Some(_), .. }, Association { incident_policy: None, .. }) => {
            Some("opens no incidents for this system any more")
        }
        _ => None,
    }
}

impl Writer {
    /// Says what was done, and that the status of these systems may have changed: when all rows are written.
    async fn tell(&mut self, call: &Call, done: Vec<Did>, systems: &[Association]) -> Result<()> {
        for did in done {
            self.also(&did).await?;
        }
        for association in systems {
            let did = Did { plugin: super::STATUSES, ..call.did("status.changed", association.system_id) };
            self.also(&did).await?;
        }
        Ok(())
    }
}
