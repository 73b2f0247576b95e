//! Maintenance windows as a stream of changes.

use super::domain::{MaintenanceId, Status};
use crate::database::{Reader, Timestamp};
use crate::error::Result;
use crate::plugin::watch::{Event, Reading, STATE_PAGE, Watched};
use crate::proto::checkmate::maintenance::v1 as pb;
use std::collections::HashMap;
use uuid::Uuid;

/// Windows, watched: the state is those that are not over.
pub(super) struct Changes;

/// A window is shown as it is written: that the clock has started or ended it is a change of its own, told in its turn.
const AS_WRITTEN: Timestamp = Timestamp(i64::MIN);

impl Watched for Changes {
    const PLUGIN: &'static str = super::PLUGIN;
    type Resource = pb::Maintenance;
    type Message = pb::WatchMaintenancesResponse;

    /// The earliest start first, what is in progress before what is planned.
    async fn current(store: &mut Reader, _: Timestamp) -> Result<Vec<(String, pb::Maintenance)>> {
        let mut all = Reading::default();
        for status in [Status::InProgress, Status::Scheduled] {
            let mut behind = (Timestamp(i64::MIN), Uuid::nil());
            loop {
                let found = store.windows_written_as(status, behind, STATE_PAGE).await?;
                let Some(last) = found.last() else { break };
                behind = (last.start_at, last.id.0);
                all.take_in(by_id(store.windows(found, AS_WRITTEN).await?))?;
            }
        }
        Ok(all.whole())
    }

    async fn these(store: &mut Reader, ids: &[String], _: Timestamp) -> Result<HashMap<String, pb::Maintenance>> {
        let ids = ids.iter().map(|id| MaintenanceId::parse(id)).collect::<Result<Vec<_>>>()?;
        let found = store.maintenances_of(&ids).await?;
        Ok(by_id(store.windows(found, AS_WRITTEN).await?).collect())
    }

    fn message(cursor: Option<String>, event: Event<pb::Maintenance>) -> pb::WatchMaintenancesResponse {
        let Event { kind, id, resource, system_id } = event;
        pb::WatchMaintenancesResponse {
            cursor,
            r#type: kind.into(),
            maintenance_id: id,
            maintenance: resource,
            system_id,
        }
    }
}

fn by_id(windows: Vec<pb::Maintenance>) -> impl Iterator<Item = (String, pb::Maintenance)> {
    windows.into_iter().map(|window| (window.id.clone(), window))
}
