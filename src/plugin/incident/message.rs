//! Messages into values of the domain, and back.

use super::domain::{Changes, Incident, IncidentId, Severity, Status, Update};
use crate::contract::Change;
use crate::database::Timestamp;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::overview::{self, Overview};
use crate::proto::checkmate::incident::v1 as pb;
use std::collections::HashMap;

impl From<Status> for pb::IncidentStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Investigating => Self::Investigating,
            Status::Identified => Self::Identified,
            Status::Fixing => Self::Fixing,
            Status::Monitoring => Self::Monitoring,
            Status::Resolved => Self::Resolved,
        }
    }
}

/// `None` if it was not given.
pub(super) fn status(status: pb::IncidentStatus) -> Option<Status> {
    match status {
        pb::IncidentStatus::Unspecified => None,
        pb::IncidentStatus::Investigating => Some(Status::Investigating),
        pb::IncidentStatus::Identified => Some(Status::Identified),
        pb::IncidentStatus::Fixing => Some(Status::Fixing),
        pb::IncidentStatus::Monitoring => Some(Status::Monitoring),
        pb::IncidentStatus::Resolved => Some(Status::Resolved),
    }
}

impl From<Severity> for pb::IncidentSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Minor => Self::Minor,
            Severity::Major => Self::Major,
            Severity::Critical => Self::Critical,
        }
    }
}

/// `None` if it was not given.
pub(super) fn severity(severity: pb::IncidentSeverity) -> Option<Severity> {
    match severity {
        pb::IncidentSeverity::Unspecified => None,
        pb::IncidentSeverity::Minor => Some(Severity::Minor),
        pb::IncidentSeverity::Major => Some(Severity::Major),
        pb::IncidentSeverity::Critical => Some(Severity::Critical),
    }
}

impl From<&pb::UpdateIncidentRequest> for Changes {
    fn from(request: &pb::UpdateIncidentRequest) -> Self {
        let mask = request.update_mask.as_ref();
        Self {
            title: Change::of(mask, "title", request.title.clone()),
            description: Change::of(mask, "description", request.description.clone()),
            severity: Change::of(mask, "severity", request.severity.and_then(|_| severity(request.severity()))),
            suppress_notifications: Change::of(mask, "suppress_notifications", request.suppress_notifications),
        }
    }
}

/// An incident with the systems that it touches.
pub(super) fn incident(incident: Incident, systems: &[SystemId]) -> pb::Incident {
    pb::Incident {
        duration_seconds: incident.duration_seconds(),
        id: incident.id.to_string(),
        title: incident.title,
        description: incident.description,
        status: pb::IncidentStatus::from(incident.status).into(),
        severity: pb::IncidentSeverity::from(incident.severity).into(),
        suppress_notifications: incident.suppress_notifications,
        system_ids: systems.iter().map(SystemId::to_string).collect(),
        created_by: Some(incident.created_by.message()),
        created_at: Some(incident.created_at.message()),
        updated_at: Some(incident.updated_at.message()),
        resolved_at: incident.resolved_at.map(Timestamp::message),
    }
}

/// Incidents with the systems that they touch.
pub(super) fn incidents(found: Vec<Incident>, links: Vec<(IncidentId, SystemId)>) -> Vec<pb::Incident> {
    let mut systems: HashMap<IncidentId, Vec<SystemId>> = HashMap::new();
    for (incident, system) in links {
        systems.entry(incident).or_default().push(system);
    }
    found
        .into_iter()
        .map(|one| {
            let systems = systems.remove(&one.id).unwrap_or_default();
            incident(one, &systems)
        })
        .collect()
}

/// What is wrong with many systems. An incident names the system that it stands under: all of them, under each of them,
/// would be the square of what there is to say.
pub(super) fn overview(
    overview: Overview<IncidentId>,
    incidents: Vec<Incident>,
) -> pb::GetBulkIncidentsForSystemsResponse {
    let shortened = |one: Incident| Incident { description: one.description.map(overview::shortened), ..one };
    let known: HashMap<_, _> = incidents.into_iter().map(|one| (one.id, shortened(one))).collect();
    let entry = |(system, shown): (SystemId, Vec<IncidentId>)| {
        let incidents = shown.iter().filter_map(|id| Some(incident(known.get(id)?.clone(), &[system])));
        pb::IncidentsOfSystem { system_id: system.to_string(), incidents: incidents.collect() }
    };
    pb::GetBulkIncidentsForSystemsResponse {
        incidents: overview.of.into_iter().map(entry).collect(),
        incomplete: overview.incomplete.iter().map(SystemId::to_string).collect(),
    }
}

/// An incident with its timeline.
pub(super) fn detail(incident: pb::Incident, updates: Vec<Update>) -> pb::IncidentDetail {
    pb::IncidentDetail {
        id: incident.id,
        title: incident.title,
        description: incident.description,
        status: incident.status,
        severity: incident.severity,
        suppress_notifications: incident.suppress_notifications,
        system_ids: incident.system_ids,
        created_by: incident.created_by,
        created_at: incident.created_at,
        updated_at: incident.updated_at,
        resolved_at: incident.resolved_at,
        duration_seconds: incident.duration_seconds,
        updates: updates.into_iter().map(pb::IncidentUpdate::from).collect(),
    }
}

impl From<Update> for pb::IncidentUpdate {
    fn from(update: Update) -> Self {
        Self {
            id: update.id.to_string(),
            incident_id: update.incident_id.to_string(),
            message: update.message,
            status_change: update.status_change.map(|status| pb::IncidentStatus::from(status).into()),
            created_at: Some(update.created_at.message()),
            created_by: Some(update.created_by.message()),
        }
    }
}
