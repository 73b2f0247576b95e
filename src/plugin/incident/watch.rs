//! Incidents as a stream of changes.

use super::domain::IncidentId;
use super::store::Filter;
use crate::contract::{Page, Row};
use crate::database::{Reader, Timestamp};
use crate::error::Result;
use crate::plugin::watch::{Event, Reading, STATE_PAGE, Watched};
use crate::proto::checkmate::incident::v1 as pb;
use std::collections::HashMap;

/// Incidents, watched: the state is those that are not resolved.
pub(super) struct Changes;

impl Watched for Changes {
    const PLUGIN: &'static str = "incident";
    type Resource = pb::Incident;
    type Message = pb::WatchIncidentsResponse;

    async fn current(store: &mut Reader, _: Timestamp) -> Result<Vec<(String, pb::Incident)>> {
        let (mut page, mut all) = (Page { after: None, size: STATE_PAGE }, Reading::default());
        loop {
            let mut found = store.incidents(&page, &Filter::active()).await?;
            let is_last = found.len() <= page.size;
            found.truncate(page.size);
            page.after = found.last().map(Row::position);
            all.take_in(by_id(store.with_systems(found).await?))?;
            if is_last {
                return Ok(all.whole());
            }
        }
    }

    async fn these(store: &mut Reader, ids: &[String], _: Timestamp) -> Result<HashMap<String, pb::Incident>> {
        let ids = ids.iter().map(|id| IncidentId::parse(id)).collect::<Result<Vec<_>>>()?;
        let found = store.incidents_of(&ids).await?;
        Ok(by_id(store.with_systems(found).await?).collect())
    }

    fn message(cursor: Option<String>, event: Event<pb::Incident>) -> pb::WatchIncidentsResponse {
        let Event { kind, id, resource, system_id } = event;
        pb::WatchIncidentsResponse { cursor, r#type: kind.into(), incident_id: id, incident: resource, system_id }
    }
}

fn by_id(incidents: Vec<pb::Incident>) -> impl Iterator<Item = (String, pb::Incident)> {
    incidents.into_iter().map(|incident| (incident.id.clone(), incident))
}
