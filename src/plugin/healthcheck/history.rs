//! What came of runs: history, statuses, and runs that somebody wants or reports.

use super::domain::{CheckId, Health, RunId, RunKind};
use super::plan::Looked;
use super::recorder::{Finished, Stored, record};
use super::run_store::Run;
use super::runs::{Place, Wanted, place_and_rest};
use super::service::{Healthchecks, missing, wrong};
use super::state::Thresholds;
use super::{HEARTBEAT, message, push, settings, status, wanted};
use crate::access::instance::push_tag;
use crate::access::{Call, Identity};
use crate::contract::{Page, Paged};
use crate::database::{Reader, Timestamp};
use crate::error::{Error, Result};
use crate::plugin::catalog::domain::SystemId;
use crate::proto::checkmate::healthcheck::v1 as pb;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use serde_json::json;
use std::collections::HashMap;

const MANAGE: &str = "healthcheck.healthcheck.manage";

/// The runs in an overview.
const RECENT: usize = 25;

/// How systems are is read for so many at a time.
const SYSTEMS_AT_ONCE: usize = 500;

/// So many looks of one call take place at once.
const AT_ONCE: usize = 16;

/// One call runs a check for at most so many systems.
const WANTED_MAX: usize = 100;

/// A page of runs with what was found ends early at this many bytes of it, as other pages do.
const DETAIL_BYTES_MAX: usize = Page::BYTES_MAX;

/// A page of runs.
pub(super) struct Found {
    pub(super) runs: Vec<Run>,
    /// How many there are in all, or at least.
    pub(super) total: i64,
    pub(super) total_incomplete: bool,
    /// Where the next page starts.
    pub(super) next_page_token: Option<String>,
}

/// Which part of the history is wanted.
pub(super) trait Asked: Paged {
    fn wanted(&self) -> Result<Wanted>;
}

macro_rules! asked {
    ($request:ty) => {
        impl Asked for $request {
            fn wanted(&self) -> Result<Wanted> {
                let number = |given: Option<i32>, default| {
                    given.map_or(default, |given| usize::try_from(given).unwrap_or(default))
                };
                Ok(Wanted {
                    check: self.configuration_id.as_deref().map(CheckId::parse).transpose()?,
                    system: self.system_id.as_deref().map(SystemId::parse).transpose()?,
                    from: self.start_date.as_ref().map_or(Timestamp(i64::MIN), Timestamp::of),
                    to: self.end_date.as_ref().map_or(Timestamp(i64::MAX), Timestamp::of),
                    status: message::health_of(self.status()),
                    oldest_first: self.sort_order() == pb::SortOrder::Asc,
                    skip: number(self.offset, 0),
                    size: number(self.page_size.or(self.limit), 10),
                    behind: None,
                })
            }
        }
    };
}

asked!(pb::GetHistoryRequest);
asked!(pb::GetDetailedHistoryRequest);

impl Healthchecks {
    pub(super) async fn history(&self, request: &impl Asked, with_details: bool) -> Result<Found> {
        let mut wanted = request.wanted()?;
        if let Some((behind, rest)) = self.kernel.page(request)?.after.as_deref().and_then(place_and_rest) {
            // The pages before have passed the others over.
            (wanted.behind, wanted.skip) = (Some(behind), rest);
        }
        let mut store = self.kernel.database.snapshot().await?;
        let numbers = store.numbers(wanted.check, wanted.system).await?;
        let mut page = store.page_of_runs(&wanted, numbers.as_deref()).await?;
        if with_details {
            store.add_details(&mut page.runs).await?;
            page.fit(DETAIL_BYTES_MAX);
        }
        let total = store.total(&wanted, numbers.as_deref()).await?;
        let seen = i64::try_from(page.passed + page.runs.len()).unwrap_or(i64::MAX);
        let rest = wanted.skip - page.passed;
        let token =
            |(at, association): Place| self.kernel.pages.token(request, &format!("{}.{association}.{rest}", at.0));
        Ok(Found {
            runs: page.runs,
            total: total.unwrap_or(seen),
            total_incomplete: total.is_none(),
            next_page_token: page.next.map(token),
        })
    }

    pub(super) async fn status(&self, system: &str, now: Timestamp) -> Result<pb::SystemHealthStatus> {
        let mut store = self.kernel.database.reader().await?;
        let system = store.must_have_system(system).await?.id;
        let known = store.known(&[system], i64::MAX).await?;
        Ok(status::system(system.to_string(), &known, now))
    }

    pub(super) async fn statuses(&self, systems: &[String], now: Timestamp) -> Result<Vec<pb::SystemHealth>> {
        let mut ids = systems.iter().map(|id| SystemId::parse(id)).collect::<Result<Vec<_>>>()?;
        ids.sort_unstable();
        ids.dedup();
        // Side by side: a connection of SQLite computes on a core of its own.
        let known = ids.chunks(SYSTEMS_AT_ONCE).map(async |some| {
            let mut store = self.kernel.database.reader().await?;
            store.known(some, Page::all().limit()).await
        });
        let known = try_join_all(known).await?;
        if known.iter().map(Vec::len).sum::<usize>() > Page::UNPAGED_MAX {
            let max = Page::UNPAGED_MAX;
            return Err(Error::Refused(format!("They have more than {max} checks; ask for fewer systems")));
        }
        let mut by_system: HashMap<SystemId, Vec<_>> = HashMap::new();
        for one in known.into_iter().flatten() {
            by_system.entry(one.system_id).or_default().push(one);
        }
        let of = |id: SystemId| {
            let known = by_system.remove(&id).unwrap_or_default();
            let status = status::system(id.to_string(), &known, now);
            pb::SystemHealth { system_id: id.to_string(), status: Some(status) }
        };
        Ok(ids.into_iter().map(of).collect())
    }

    pub(super) async fn group_status(
        &self,
        request: &pb::GetGroupHealthStatusRequest,
        now: Timestamp,
    ) -> Result<pb::GroupHealthStatus> {
        let mut store = self.kernel.database.reader().await?;
        let systems = store.must_have_members(&request.group_id).await?;
        drop(store);
        let mut all = vec![];
        for some in systems.chunks(SYSTEMS_AT_ONCE) {
            let ids: Vec<_> = some.iter().map(SystemId::to_string).collect();
            let statuses = self.statuses(&ids, now).await?;
            let health = |one: pb::SystemHealth| one.status.and_then(|status| message::health_of(status.status()));
            all.extend(statuses.into_iter().map(|one| health(one).unwrap_or(Health::Unknown)));
        }
        Ok(status::group(request, &all, now))
    }

    pub(super) async fn overview(&self, system: &str, now: Timestamp) -> Result<pb::SystemHealthOverview> {
        let mut store = self.kernel.database.snapshot().await?;
        let system = store.must_have_system(system).await?.id;
        let mut checks = vec![];
        for one in store.known(&[system], i64::MAX).await? {
            let runs = store.last_runs(one.number, RECENT).await?;
            let recent = runs.into_iter().rev().map(|run| pb::RecentRun {
                id: RunId { association: one.number, scheduled_at: run.scheduled_at }.uuid().to_string(),
                status: message::health(run.status),
                timestamp: Some(run.scheduled_at.message()),
            });
            let thresholds = one.thresholds.as_deref().map(|text| message::thresholds(Thresholds::stored(Some(text))));
            checks.push(pb::CheckOverview {
                configuration_id: one.check_id.to_string(),
                recent_runs: recent.collect(),
                status: message::health(status::status_of(&one, now)),
                configuration_name: one.check_name,
                strategy_id: one.strategy_id,
                interval_seconds: i32::try_from(one.patience.interval_s).unwrap_or(i32::MAX),
                enabled: one.enabled,
                state_thresholds: thresholds,
            });
        }
        Ok(pb::SystemHealthOverview { system_id: system.to_string(), checks })
    }

    pub(super) async fn run_now(&self, call: &Call, request: pb::RunHealthCheckNowRequest) -> Result<Vec<Stored>> {
        let id = CheckId::parse(&request.configuration_id)?;
        let system = request.system_id.as_deref().map(SystemId::parse).transpose()?;
        let mut store = self.kernel.database.reader().await?;
        let check = store.check(id).await?.ok_or_else(|| missing(id))?;
        let limit = i64::try_from(WANTED_MAX).unwrap_or(i64::MAX) + 1;
        let associations = store.associations(0, system, Some(id), limit).await?;
        drop(store);
        if check.strategy_id == HEARTBEAT {
            return Err(Error::Refused("A heartbeat is reported, so there is nothing to run".into()));
        }
        if associations.is_empty() {
            let whom = if system.is_some() { "that system" } else { "any system" };
            return Err(Error::NotFound(format!("Health check {id} is not associated with {whom}")));
        }
        if associations.len() > WANTED_MAX {
            return Err(Error::Refused(format!("It has more than {WANTED_MAX} systems; name one with systemId")));
        }
        let (plan, until) = (&settings::plan_of(&self.kernel, &check)?, wanted::until(call));
        let looks = associations.into_iter().map(|association| async move {
            let looked = self.look_for(plan, Some(association.number), until).await;
            let detail = plan.detail(&looked);
            finished(association.number, RunKind::Wanted, call.now, &looked, detail)
        });
        let finished: Vec<_> = futures_util::stream::iter(looks).buffered(AT_ONCE).collect().await;
        record(&self.kernel, finished, None, call.now).await
    }

    pub(super) async fn report(&self, call: &Call, request: pb::ReportResultRequest) -> Result<i32> {
        let mut store = self.kernel.database.reader().await?;
        let id = match (&request.token, &request.configuration_id) {
            (Some(token), _) => {
                let found = self.check_with_token(&mut store, token).await?;
                found.ok_or_else(|| Error::Forbidden("This token reports nothing (any more)".into()))?
            }
            (None, _) if call.caller.identity == Identity::Anonymous => return Err(Error::NoCredential),
            (None, _) if !call.caller.may(MANAGE) => return Err(Error::missing_permission(&[MANAGE])),
            (None, Some(id)) => CheckId::parse(id)?,
            (None, None) => return Err(wrong("configurationId", "Required without a token")),
        };
        let check = store.check(id).await?.ok_or_else(|| missing(id))?;
        if check.strategy_id != HEARTBEAT {
            return Err(Error::Refused("Only results of a heartbeat check are reported".into()));
        }
        if check.paused {
            return Ok(0);
        }
        let system = request.system_id.as_deref().map(SystemId::parse).transpose()?;
        let associations = store.associations(0, system, Some(id), i64::MAX).await?;
        drop(store);
        let verdict = message::health_of(request.status()).unwrap_or(Health::Healthy);
        let detail = json!({
            "status": verdict.word(),
            "latencyMs": request.latency_ms,
            "message": request.message,
            "metadata": {"reported": true},
            "assertions": [],
            "attempts": 1,
        });
        #[expect(clippy::cast_possible_truncation, reason = "validation has bounded it")]
        let latency_us = request.latency_ms.map(|millis| (millis * 1_000.0) as i64);
        let enabled = associations.into_iter().filter(|association| association.enabled);
        let finished = enabled.map(|association| Finished {
            association: association.number,
            scheduled_at: call.now,
            kind: RunKind::Reported,
            verdict,
            latency_us,
            detail: Some(detail.to_string()),
            lease: None,
        });
        let stored = record(&self.kernel, finished.collect(), None, call.now).await?;
        Ok(i32::try_from(stored.len()).unwrap_or(i32::MAX))
    }
}

impl Healthchecks {
    async fn check_with_token(&self, store: &mut Reader, token: &str) -> Result<Option<CheckId>> {
        if !push::is_like_one(token) {
            return Ok(None);
        }
        let tag = push_tag(token);
        let keys = std::iter::once(&*self.kernel.key).chain(self.kernel.old_keys.iter());
        let tags: Vec<_> = std::iter::once(tag.clone()).chain(keys.map(|key| key.old_push_tag(token))).collect();
        let Some((id, stored)) = store.check_with_token(&tags).await? else { return Ok(None) };
        if stored != tag {
            let mut store = self.kernel.database.writer().await?;
            store.replace_push_tag(id, &stored, &tag).await?;
            store.commit_unseen("the same token in the form that needs no key").await?;
        }
        Ok(Some(id))
    }
}

/// A look as a run to store.
fn finished(association: i64, kind: RunKind, at: Timestamp, looked: &Looked, detail: String) -> Finished {
    Finished {
        association,
        scheduled_at: at,
        kind,
        verdict: looked.verdict,
        latency_us: i64::try_from(looked.latency.as_micros()).ok(),
        detail: Some(detail),
        lease: None,
    }
}
