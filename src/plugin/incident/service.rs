//! The procedures of incidents: `IncidentService`.

use super::domain::{Incident, IncidentId, LINKS_MAX, Status, Update};
use super::message;
use super::store::Filter;
use super::watch::Changes;
use crate::access::Call;
use crate::access::actor::Actor;
use crate::contract::stream::Messages;
use crate::contract::{Change, Page};
use crate::database::{Reader, Timestamp, Writer};
use crate::error::{Error, Reply, Result, reply};
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::{SystemId, parse_systems};
use crate::plugin::overview::{self, Overview};
use crate::plugin::watch::Hub;
use crate::proto::checkmate::incident::v1::{self as pb, incident_service_server::IncidentService};
use tonic::Request;

/// The service.
pub(super) struct Incidents {
    kernel: Kernel,
    watch: Hub<Changes>,
}

#[tonic::async_trait]
impl IncidentService for Incidents {
    type WatchIncidentsStream = Messages<pb::WatchIncidentsResponse>;

    async fn watch_incidents(&self, request: Request<pb::WatchIncidentsRequest>) -> Reply<Self::WatchIncidentsStream> {
        let (_, request) = Call::open(request)?;
        reply(self.watch.follow(request.cursor.as_deref()).await?)
    }

    async fn get_incidents(&self, request: Request<pb::GetIncidentsRequest>) -> Reply<pb::GetIncidentsResponse> {
        let (_, request) = Call::open(request)?;
        let (page, status) = (Page::all(), message::status(request.status()));
        let filter = Filter {
            status,
            severity: None,
            system: request.system_id.as_deref().map(SystemId::parse).transpose()?,
            created_from: None,
            created_before: None,
            text: None,
            includes_resolved: status.is_some() || request.include_resolved(),
        };
        let mut store = self.kernel.database.snapshot().await?;
        let found = page.whole(store.incidents(&page, &filter).await?, "listIncidents")?;
        reply(pb::GetIncidentsResponse { incidents: store.with_systems(found).await? })
    }

    async fn list_incidents(&self, request: Request<pb::ListIncidentsRequest>) -> Reply<pb::ListIncidentsResponse> {
        let (_, request) = Call::open(request)?;
        let page = self.kernel.page(&request)?;
        let filter = Filter {
            status: message::status(request.status()),
            severity: message::severity(request.severity()),
            system: request.system_id.as_deref().map(SystemId::parse).transpose()?,
            created_from: request.created_from.as_ref().map(Timestamp::of),
            created_before: request.created_before.as_ref().map(Timestamp::of),
            text: request.text_contains.clone(),
            includes_resolved: request.include_resolved.unwrap_or(true),
        };
        let mut store = self.kernel.database.snapshot().await?;
        let mut found = store.incidents(&page, &filter).await?;
        let next_page_token = self.kernel.pages.cut(&request, &page, &mut found);
        reply(pb::ListIncidentsResponse { incidents: store.with_systems(found).await?, next_page_token })
    }

    async fn get_incident(&self, request: Request<pb::GetIncidentRequest>) -> Reply<pb::GetIncidentResponse> {
        let (_, request) = Call::open(request)?;
        let id = IncidentId::parse(&request.id)?;
        let mut store = self.kernel.database.snapshot().await?;
        let found = store.incident(id).await?.ok_or_else(|| missing(id))?;
        let (updates, incident) = (store.updates(id).await?, store.with_its_systems(found).await?);
        reply(pb::GetIncidentResponse { incident: Some(message::detail(incident, updates)) })
    }

    async fn get_incidents_for_system(
        &self,
        request: Request<pb::GetIncidentsForSystemRequest>,
    ) -> Reply<pb::GetIncidentsForSystemResponse> {
        let (_, request) = Call::open(request)?;
        let mut store = self.kernel.database.snapshot().await?;
        let system = store.must_have_system(&request.system_id).await?.id;
        let (page, filter) = (Page::all(), Filter { system: Some(system), ..Filter::active() });
        let found = page.whole(store.incidents(&page, &filter).await?, "listIncidents")?;
        reply(pb::GetIncidentsForSystemResponse { incidents: store.with_systems(found).await? })
    }

    async fn get_bulk_incidents_for_systems(
        &self,
        request: Request<pb::GetBulkIncidentsForSystemsRequest>,
    ) -> Reply<pb::GetBulkIncidentsForSystemsResponse> {
        let (_, request) = Call::open(request)?;
        let mut systems = parse_systems(&request.system_ids)?;
        systems.sort_unstable();
        systems.dedup();
        let mut store = self.kernel.database.snapshot().await?;
        let rows = store.active_incidents(&systems, overview::EACH_MAX + 1).await?;
        let overview = Overview::share(systems, rows);
        let incidents = store.incidents_of(&overview.shown()).await?;
        reply(message::overview(overview, incidents))
    }

    async fn create_incident(&self, request: Request<pb::CreateIncidentRequest>) -> Reply<pb::CreateIncidentResponse> {
        let (call, request) = Call::open(request)?;
        let severity = message::severity(request.severity());
        let new = Incident {
            id: self.kernel.ids.next(),
            severity: severity.ok_or_else(|| Error::bug("a severity was not validated"))?,
            suppress_notifications: request.suppress_notifications(),
            title: request.title,
            description: request.description,
            status: Status::Investigating,
            created_by: Actor::of(&call.caller),
            created_at: call.now,
            updated_at: call.now,
            resolved_at: None,
        };
        let mut store = self.kernel.database.writer().await?;
        let systems = store.must_know_systems(&request.system_ids).await?;
        store.insert_incident(&new).await?;
        store.link(&new, &systems).await?;
        if let Some(text) = request.initial_message.filter(|text| !text.trim().is_empty()) {
            store.append_update(&self.update(&call, new.id, text, Some(new.status))).await?;
        }
        self.kernel.commit(store, call.did("incident.created", new.id)).await?;
        reply(pb::CreateIncidentResponse { incident: Some(message::incident(new, &sorted(systems))) })
    }

    async fn update_incident(&self, request: Request<pb::UpdateIncidentRequest>) -> Reply<pb::UpdateIncidentResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let found = store.hold_incident(&request.id, request.expected_updated_at.as_ref()).await?;
        let changed = found.edited((&request).into(), call.now);
        store.save_incident(&changed).await?;
        store.index_text(&changed).await?;
        let systems = Change::of_list(request.update_mask.as_ref(), "system_ids", request.system_ids);
        if let Change::Set(systems) = systems {
            let systems = store.must_know_systems(&systems).await?;
            store.link(&changed, &systems).await?;
        }
        let (id, incident) = (changed.id, store.with_its_systems(changed).await?);
        self.kernel.commit(store, call.did("incident.updated", id)).await?;
        reply(pb::UpdateIncidentResponse { incident: Some(incident) })
    }

    async fn add_update(
        &self,
        request: Request<pb::IncidentServiceAddUpdateRequest>,
    ) -> Reply<pb::IncidentServiceAddUpdateResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let found = store.hold_incident(&request.incident_id, request.expected_updated_at.as_ref()).await?;
        let status = message::status(request.status_change());
        let update = self.update(&call, found.id, request.message, status);
        store.add_to_timeline(found, &update).await?;
        let kind = if status == Some(Status::Resolved) { "incident.resolved" } else { "incident.update_added" };
        self.kernel.commit(store, call.did(kind, update.incident_id)).await?;
        reply(pb::IncidentServiceAddUpdateResponse { update: Some(update.into()) })
    }

    async fn resolve_incident(
        &self,
        request: Request<pb::ResolveIncidentRequest>,
    ) -> Reply<pb::ResolveIncidentResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let found = store.hold_incident(&request.id, request.expected_updated_at.as_ref()).await?;
        let text = request.message.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "Resolved".to_owned());
        let update = self.update(&call, found.id, text, Some(Status::Resolved));
        let changed = store.add_to_timeline(found, &update).await?;
        let incident = store.with_its_systems(changed).await?;
        self.kernel.commit(store, call.did("incident.resolved", update.incident_id)).await?;
        reply(pb::ResolveIncidentResponse { incident: Some(incident) })
    }

    async fn delete_incident(&self, request: Request<pb::DeleteIncidentRequest>) -> Reply<pb::DeleteIncidentResponse> {
        let (call, request) = Call::open(request)?;
        let id = IncidentId::parse(&request.id)?;
        let mut store = self.kernel.database.writer().await?;
        if store.delete_incident(id).await? == 0 {
            return Err(missing(id).into());
        }
        self.kernel.commit(store, call.did("incident.deleted", id)).await?;
        reply(pb::DeleteIncidentResponse { success: true })
    }

    async fn has_active_incident_with_suppression(
        &self,
        request: Request<pb::HasActiveIncidentWithSuppressionRequest>,
    ) -> Reply<pb::HasActiveIncidentWithSuppressionResponse> {
        let (_, request) = Call::open(request)?;
        let system = SystemId::parse(&request.system_id)?;
        let suppressed = self.kernel.database.reader().await?.has_suppressing_incident(system).await?;
        reply(pb::HasActiveIncidentWithSuppressionResponse { suppressed })
    }
}

impl Incidents {
    pub(super) fn new(kernel: Kernel) -> Self {
        let watch = Hub::new(&kernel);
        Self { kernel, watch }
    }

    fn update(&self, call: &Call, incident_id: IncidentId, message: String, status_change: Option<Status>) -> Update {
        Update {
            id: self.kernel.ids.next(),
            incident_id,
            message,
            status_change,
            created_by: Actor::of(&call.caller),
            created_at: call.now,
        }
    }
}

impl Reader {
    pub(super) async fn with_systems(&mut self, found: Vec<Incident>) -> Result<Vec<pb::Incident>> {
        let ids: Vec<_> = found.iter().map(|incident| incident.id).collect();
        let links = self.links(&ids, LINKS_MAX + 1).await?;
        if links.len() > LINKS_MAX {
            return Err(Error::Refused(format!(
                "These incidents touch more than {LINKS_MAX} systems; ask listIncidents for less"
            )));
        }
        Ok(message::incidents(found, links))
    }

    async fn with_its_systems(&mut self, found: Incident) -> Result<pb::Incident> {
        let links = self.links(&[found.id], LINKS_MAX).await?;
        let systems: Vec<_> = links.into_iter().map(|(_, system)| system).collect();
        Ok(message::incident(found, &systems))
    }
}

impl Writer {
    /// The incident as the caller knows it; nobody else changes it until the end of the transaction.
    async fn hold_incident(&mut self, id: &str, expected: Option<&prost_types::Timestamp>) -> Result<Incident> {
        let id = IncidentId::parse(id)?;
        let found = self.lock_incident(id).await?.ok_or_else(|| missing(id))?;
        found.must_be_as_of(expected.map(Timestamp::of))?;
        Ok(found)
    }

    /// Appends an entry, with the status that it brings.
    async fn add_to_timeline(&mut self, found: Incident, update: &Update) -> Result<Incident> {
        let was_active = found.is_active();
        let changed = match update.status_change {
            Some(status) => found.with_status(status, update.created_at)?,
            None => found,
        };
        Incident::must_have_room(self.count_updates(changed.id).await?, update.status_change)?;
        self.append_update(update).await?;
        if update.status_change.is_some() {
            self.save_incident(&changed).await?;
        }
        if was_active != changed.is_active() {
            self.save_activity(&changed).await?;
        }
        Ok(changed)
    }
}

fn sorted(mut systems: Vec<SystemId>) -> Vec<SystemId> {
    systems.sort_unstable();
    systems
}

fn missing(id: IncidentId) -> Error {
    Error::NotFound(format!("Incident not found: {id}"))
}
