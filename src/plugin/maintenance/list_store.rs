//! Lists of windows, with what the clock has made of them.

use super::domain::{Maintenance, SeriesId, Status};
use crate::contract::Page;
use crate::database::search::containing;
use crate::database::{Reader, Timestamp, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;
use uuid::Uuid;

/// Which windows.
pub(super) struct Filter {
    /// What time it is.
    pub(super) now: Timestamp,
    /// Those in this status by then.
    pub(super) status: Option<Status>,
    /// Those that touch it.
    pub(super) system: Option<SystemId>,
    /// Those that start before.
    pub(super) starts_before: Option<Timestamp>,
    /// Those that end after.
    pub(super) ends_after: Option<Timestamp>,
    /// Those whose title or description contains it.
    pub(super) text: Option<String>,
    /// Those of it.
    pub(super) series: Option<SeriesId>,
}

/// Before which window a page starts: the latest start comes first.
fn before(page: &Page) -> (Timestamp, Uuid) {
    let position = page.after.as_deref().and_then(|after| after.split_once(':'));
    let known = position.and_then(|(at, id)| Some((Timestamp(at.parse().ok()?), Uuid::try_parse(id).ok()?)));
    known.unwrap_or((Timestamp(i64::MAX), Uuid::max()))
}

impl Reader {
    /// The latest start first.
    ///
    /// A statement for each index: the databases plan before they know which filters there are. Statuses that the clock
    /// changes are few in the table, because what is due is written within a second.
    pub(super) async fn maintenances(&mut self, page: &Page, filter: &Filter) -> Result<Vec<Maintenance>> {
        let ((at, id), text) = (before(page), filter.text.as_deref().map(containing));
        let starts_before = filter.starts_before.unwrap_or(Timestamp(i64::MAX));
        let ends_after = filter.ends_after.unwrap_or(Timestamp(i64::MIN));
        if filter.system.is_some() || filter.series.is_some() {
            return self.maintenances_of_one(page, filter).await;
        }
        match filter.status {
            Some(Status::Scheduled | Status::InProgress) => sql!(
                self,
                fetch_all as Maintenance,
                "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                 created_by_kind, created_by_id, created_by_name, created_at, updated_at
                 from maintenance
                 where status in ('scheduled', 'in_progress') and (start_at, id) < ($1, $2)
                   and ($3 is null or $3 = case when status in ('completed', 'cancelled') then status when end_at <= $4 then 'completed'
                     when status = 'in_progress' or start_at <= $4 then 'in_progress' else 'scheduled' end)
                   and start_at < $5 and end_at > $6
                   and ($7 is null or search_text like coalesce($7, '') escape '!')
                 order by start_at desc, id desc limit $8",
                at,
                id,
                filter.status,
                filter.now,
                starts_before,
                ends_after,
                text,
                page.limit()
            ),
            Some(Status::Cancelled) => sql!(
                self,
                fetch_all as Maintenance,
                "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                 created_by_kind, created_by_id, created_by_name, created_at, updated_at
                 from maintenance
                 where status = 'cancelled' and (start_at, id) < ($1, $2)
                   and ($3 is null or $3 = case when status in ('completed', 'cancelled') then status when end_at <= $4 then 'completed'
                     when status = 'in_progress' or start_at <= $4 then 'in_progress' else 'scheduled' end)
                   and start_at < $5 and end_at > $6
                   and ($7 is null or search_text like coalesce($7, '') escape '!')
                 order by start_at desc, id desc limit $8",
                at,
                id,
                filter.status,
                filter.now,
                starts_before,
                ends_after,
                text,
                page.limit()
            ),
            Some(Status::Completed) | None => sql!(
                self,
                fetch_all as Maintenance,
                "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                 created_by_kind, created_by_id, created_by_name, created_at, updated_at
                 from maintenance
                 where (start_at, id) < ($1, $2)
                   and ($3 is null or $3 = case when status in ('completed', 'cancelled') then status when end_at <= $4 then 'completed'
                     when status = 'in_progress' or start_at <= $4 then 'in_progress' else 'scheduled' end)
                   and start_at < $5 and end_at > $6
                   and ($7 is null or search_text like coalesce($7, '') escape '!')
                 order by start_at desc, id desc limit $8",
                at,
                id,
                filter.status,
                filter.now,
                starts_before,
                ends_after,
                text,
                page.limit()
            ),
        }
    }

    /// Those that are neither completed nor cancelled, the earliest start first.
    pub(super) async fn windows_not_over(&mut self, page: &Page) -> Result<Vec<Maintenance>> {
        sql!(
            self,
            fetch_all as Maintenance,
            "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
             created_by_kind, created_by_id, created_by_name, created_at, updated_at
             from maintenance where status in ('scheduled', 'in_progress') order by start_at, id limit $1",
            page.limit()
        )
    }

    /// Those of one system, or of one series.
    async fn maintenances_of_one(&mut self, page: &Page, filter: &Filter) -> Result<Vec<Maintenance>> {
        let ((at, id), text) = (before(page), filter.text.as_deref().map(containing));
        let starts_before = filter.starts_before.unwrap_or(Timestamp(i64::MAX));
        let ends_after = filter.ends_after.unwrap_or(Timestamp(i64::MIN));
        if let Some(system) = filter.system {
            return sql!(
                self,
                fetch_all as Maintenance,
                "select maintenance.id, maintenance.title, maintenance.description, maintenance.status, maintenance.suppress_notifications,
                 maintenance.start_at, maintenance.end_at, maintenance.series_id, maintenance.occurrence_start,
                 maintenance.created_by_kind, maintenance.created_by_id, maintenance.created_by_name,
                 maintenance.created_at, maintenance.updated_at
                 from maintenance_system as link join maintenance on id = link.maintenance_id
                 where link.system_id = $9 and ($10 is null or series_id = $10) and (start_at, id) < ($1, $2)
                   and ($3 is null or $3 = case when status in ('completed', 'cancelled') then status when end_at <= $4 then 'completed'
                     when status = 'in_progress' or start_at <= $4 then 'in_progress' else 'scheduled' end)
                   and start_at < $5 and end_at > $6
                   and ($7 is null or search_text like coalesce($7, '') escape '!')
                 order by start_at desc, id desc limit $8",
                at,
                id,
                filter.status,
                filter.now,
                starts_before,
                ends_after,
                text,
                page.limit(),
                system,
                filter.series
            );
        }
        sql!(
                self,
                fetch_all as Maintenance,
                "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                 created_by_kind, created_by_id, created_by_name, created_at, updated_at
                 from maintenance
                 where series_id = $9 and (start_at, id) < ($1, $2)
                   and ($3 is null or $3 = case when status in ('completed', 'cancelled') then status when end_at <= $4 then 'completed'
                     when status = 'in_progress' or start_at <= $4 then 'in_progress' else 'scheduled' end)
                   and start_at < $5 and end_at > $6
                   and ($7 is null or search_text like coalesce($7, '') escape '!')
                 order by start_at desc, id desc limit $8",
                at,
                id,
                filter.status,
                filter.now,
                starts_before,
                ends_after,
                text,
                page.limit(),
                filter.series
            )
    }
}
