//! Messages into values of the domain, and back.

use super::domain::{Changes, Maintenance, MaintenanceId, Series, Status, Update};
use crate::contract::Change;
use crate::database::Timestamp;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::overview::{self, Overview};
use crate::proto::checkmate::maintenance::v1 as pb;
use std::collections::HashMap;

impl From<Status> for pb::MaintenanceStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Scheduled => Self::Scheduled,
            Status::InProgress => Self::InProgress,
            Status::Completed => Self::Completed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// `None` if it was not given.
pub(super) fn status(status: pb::MaintenanceStatus) -> Option<Status> {
    match status {
        pb::MaintenanceStatus::Unspecified => None,
        pb::MaintenanceStatus::Scheduled => Some(Status::Scheduled),
        pb::MaintenanceStatus::InProgress => Some(Status::InProgress),
        pb::MaintenanceStatus::Completed => Some(Status::Completed),
        pb::MaintenanceStatus::Cancelled => Some(Status::Cancelled),
    }
}

impl From<&pb::UpdateMaintenanceRequest> for Changes {
    fn from(request: &pb::UpdateMaintenanceRequest) -> Self {
        let mask = request.update_mask.as_ref();
        Self {
            title: Change::of(mask, "title", request.title.clone()),
            description: Change::of(mask, "description", request.description.clone()),
            suppress_notifications: Change::of(mask, "suppress_notifications", request.suppress_notifications),
            start_at: Change::of(mask, "start_at", request.start_at.as_ref().map(Timestamp::of)),
            end_at: Change::of(mask, "end_at", request.end_at.as_ref().map(Timestamp::of)),
        }
    }
}

/// A window with the systems that it touches.
pub(super) fn maintenance(window: Maintenance, systems: &[SystemId]) -> pb::Maintenance {
    pb::Maintenance {
        id: window.id.to_string(),
        title: window.title,
        description: window.description,
        status: pb::MaintenanceStatus::from(window.status).into(),
        suppress_notifications: window.suppress_notifications,
        start_at: Some(window.start_at.message()),
        end_at: Some(window.end_at.message()),
        system_ids: systems.iter().map(SystemId::to_string).collect(),
        series_id: window.series_id.map(|id| id.to_string()),
        occurrence_start: window.occurrence_start.map(Timestamp::message),
        created_by: Some(window.created_by.message()),
        created_at: Some(window.created_at.message()),
        updated_at: Some(window.updated_at.message()),
    }
}

/// Windows with the systems that they touch.
pub(super) fn maintenances(found: Vec<Maintenance>, links: Vec<(MaintenanceId, SystemId)>) -> Vec<pb::Maintenance> {
    let mut systems: HashMap<MaintenanceId, Vec<SystemId>> = HashMap::new();
    for (window, system) in links {
        systems.entry(window).or_default().push(system);
    }
    let with_systems = |window: Maintenance| {
        let systems = systems.remove(&window.id).unwrap_or_default();
        maintenance(window, &systems)
    };
    found.into_iter().map(with_systems).collect()
}

/// What is planned or under way for many systems. A window names the system that it stands under: all of them, under each
/// of them, would be the square of what there is to say.
pub(super) fn overview(
    overview: Overview<MaintenanceId>,
    windows: Vec<Maintenance>,
    now: Timestamp,
) -> pb::GetBulkMaintenancesForSystemsResponse {
    let shortened = |one: Maintenance| Maintenance { description: one.description.map(overview::shortened), ..one };
    let known: HashMap<_, _> = windows.into_iter().map(|one| (one.id, shortened(one.as_of(now).0))).collect();
    let entry = |(system, shown): (SystemId, Vec<MaintenanceId>)| {
        let maintenances = shown.iter().filter_map(|id| Some(maintenance(known.get(id)?.clone(), &[system])));
        pb::MaintenancesOfSystem { system_id: system.to_string(), maintenances: maintenances.collect() }
    };
    pb::GetBulkMaintenancesForSystemsResponse {
        maintenances: overview.of.into_iter().map(entry).collect(),
        incomplete: overview.incomplete.iter().map(SystemId::to_string).collect(),
    }
}

/// A window with its timeline, and how it repeats.
pub(super) fn detail(window: pb::Maintenance, updates: Vec<Update>, series: Option<Series>) -> pb::MaintenanceDetail {
    pb::MaintenanceDetail {
        id: window.id,
        title: window.title,
        description: window.description,
        status: window.status,
        suppress_notifications: window.suppress_notifications,
        start_at: window.start_at,
        end_at: window.end_at,
        system_ids: window.system_ids,
        series_id: window.series_id,
        occurrence_start: window.occurrence_start,
        created_by: window.created_by,
        created_at: window.created_at,
        updated_at: window.updated_at,
        updates: updates.into_iter().map(pb::MaintenanceUpdate::from).collect(),
        recurrence: series.map(|series| pb::MaintenanceRecurrence { rrule: series.rrule, time_zone: series.time_zone }),
    }
}

impl From<Update> for pb::MaintenanceUpdate {
    fn from(update: Update) -> Self {
        Self {
            id: update.id.to_string(),
            maintenance_id: update.maintenance_id.to_string(),
            message: update.message,
            status_change: update.status_change.map(|status| pb::MaintenanceStatus::from(status).into()),
            created_at: Some(update.created_at.message()),
            created_by: Some(update.created_by.message()),
        }
    }
}
