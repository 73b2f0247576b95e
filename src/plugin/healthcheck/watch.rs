//! Statuses and runs as streams of changes.

use super::run_store::Run;
use super::{RUNS, STATUSES, message, status};
use crate::contract::Page;
use crate::database::{Reader, Timestamp};
use crate::error::{Error, Result};
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::watch::{Event, Watched};
use crate::proto::checkmate::healthcheck::v1 as pb;
use std::collections::HashMap;
use uuid::Uuid;

/// How systems are, watched: the state is every system that has checks.
pub(super) struct Statuses;

impl Watched for Statuses {
    const PLUGIN: &'static str = STATUSES;
    // A check that falls silent becomes unknown without a change.
    const STATE_FOLLOWS_FROM_FEED: bool = false;
    type Resource = pb::SystemHealthStatus;
    type Message = pb::WatchStatusResponse;

    async fn current(store: &mut Reader, now: Timestamp) -> Result<Vec<(String, pb::SystemHealthStatus)>> {
        let limit = i64::try_from(Page::UNPAGED_MAX).unwrap_or(i64::MAX) + 1;
        let known = store.all_known(limit).await?;
        if known.len() > Page::UNPAGED_MAX {
            let max = Page::UNPAGED_MAX;
            return Err(Error::Refused(format!("There are more than {max} checks of systems; ask for single systems")));
        }
        Ok(by_id(status::systems(known, now)))
    }

    async fn these(
        store: &mut Reader,
        ids: &[String],
        now: Timestamp,
    ) -> Result<HashMap<String, pb::SystemHealthStatus>> {
        let ids = ids.iter().map(|id| SystemId::parse(id)).collect::<Result<Vec<_>>>()?;
        let known = store.known(&ids, i64::MAX).await?;
        Ok(by_id(status::systems(known, now)).into_iter().collect())
    }

    fn message(cursor: Option<String>, event: Event<pb::SystemHealthStatus>) -> pb::WatchStatusResponse {
        let Event { kind, id, resource, system_id } = event;
        pb::WatchStatusResponse { cursor, r#type: kind.into(), system_id: id.or(system_id), status: resource }
    }
}

fn by_id(all: Vec<pb::SystemHealthStatus>) -> Vec<(String, pb::SystemHealthStatus)> {
    all.into_iter().map(|one| (one.system_id.clone(), one)).collect()
}

/// Runs, watched: there is no state, only what comes.
pub(super) struct Runs;

impl Watched for Runs {
    const PLUGIN: &'static str = RUNS;
    // Runs of an hour move into a chunk some time after its end, and a long one is stored late: no sooner than this.
    const REACHES_BACK_US: i64 = 9 * 60 * 1_000_000;
    type Resource = pb::WatchRunsResponse;
    type Message = pb::WatchRunsResponse;

    async fn current(_: &mut Reader, _: Timestamp) -> Result<Vec<(String, pb::WatchRunsResponse)>> {
        Ok(vec![])
    }

    async fn these(store: &mut Reader, ids: &[String], _: Timestamp) -> Result<HashMap<String, pb::WatchRunsResponse>> {
        let mut found = HashMap::new();
        for id in ids {
            let batch = Uuid::try_parse(id).map_err(|_| Error::bug("a batch of runs has a UUID"))?;
            let runs: Vec<Run> = store.runs_of(batch).await?;
            let runs = runs.iter().map(message::run).collect();
            found.insert(id.clone(), pb::WatchRunsResponse { cursor: None, r#type: 0, runs });
        }
        Ok(found)
    }

    fn message(cursor: Option<String>, event: Event<pb::WatchRunsResponse>) -> pb::WatchRunsResponse {
        let runs = event.resource.map(|batch| batch.runs).unwrap_or_default();
        pb::WatchRunsResponse { cursor, r#type: event.kind.into(), runs }
    }
}

/// What a listener wants to hear of.
pub(super) struct Wish {
    pub(super) system: Option<String>,
    pub(super) check: Option<String>,
}

impl Wish {
    /// The message without what is not wanted; `None` if nothing is left of it.
    pub(super) fn narrowed(&self, mut message: pb::WatchRunsResponse) -> Option<pb::WatchRunsResponse> {
        if message.runs.is_empty() {
            return (message.r#type != i32::from(crate::proto::checkmate::watch::v1::EventType::Created))
                .then_some(message);
        }
        message.runs.retain(|run| {
            self.system.as_ref().is_none_or(|id| *id == run.system_id)
                && self.check.as_ref().is_none_or(|id| *id == run.configuration_id)
        });
        (!message.runs.is_empty()).then_some(message)
    }
}
