//! Lists of windows, with what the clock has made of them.

use super::domain::{Maintenance, MaintenanceId, SeriesId, Status};
use crate::contract::Page;
use crate::database::search::containing;
use crate::database::{Reader, Timestamp, hex, sql};
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
            // Nothing else becomes scheduled.
            Some(Status::Scheduled) => sql!(
                self,
                fetch_all as Maintenance,
                "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                 created_by_kind, created_by_id, created_by_name, created_at, updated_at
                 from maintenance
                 where status = 'scheduled' and (start_at, id) < ($1, $2) and start_at > $3 and start_at < $4 and end_at > $5
                   and ($6 is null or search_text like coalesce($6, '') escape '!')
                 order by start_at desc, id desc limit $7",
                at,
                id,
                filter.now,
                starts_before,
                ends_after,
                text,
                page.limit()
            ),
            Some(Status::InProgress) => self.running_maintenances(page, filter).await,
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

    /// Those in progress, by hand or by the clock.
    async fn running_maintenances(&mut self, page: &Page, filter: &Filter) -> Result<Vec<Maintenance>> {
        let ((at, id), text) = (before(page), filter.text.as_deref().map(containing));
        let starts_before = filter.starts_before.unwrap_or(Timestamp(i64::MAX));
        let ends_after = filter.ends_after.unwrap_or(Timestamp(i64::MIN));
        sql!(
                self,
                fetch_all as Maintenance,
                "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                 created_by_kind, created_by_id, created_by_name, created_at, updated_at
                 from (
                     select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                     created_by_kind, created_by_id, created_by_name, created_at, updated_at
                     from (
                         select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                         created_by_kind, created_by_id, created_by_name, created_at, updated_at
                         from maintenance
                         where status = 'in_progress' and (start_at, id) < ($1, $2) and end_at > $3
                           and start_at < $4 and end_at > $5
                           and ($6 is null or search_text like coalesce($6, '') escape '!')
                         order by start_at desc, id desc limit $7) as started
                     union all
                     select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                     created_by_kind, created_by_id, created_by_name, created_at, updated_at
                     from (
                         select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                         created_by_kind, created_by_id, created_by_name, created_at, updated_at
                         from maintenance
                         where status = 'scheduled' and (start_at, id) < ($1, $2) and start_at <= $3 and end_at > $3
                           and start_at < $4 and end_at > $5
                           and ($6 is null or search_text like coalesce($6, '') escape '!')
                         order by start_at desc, id desc limit $7) as due) as running
                 order by start_at desc, id desc limit $7",
                at,
                id,
                filter.now,
                starts_before,
                ends_after,
                text,
                page.limit()
            )
    }

    /// Those that are written with a status, the earliest start first, behind one of them.
    pub(super) async fn windows_written_as(
        &mut self,
        status: Status,
        (after, behind): (Timestamp, Uuid),
        limit: usize,
    ) -> Result<Vec<Maintenance>> {
        sql!(
            self,
            fetch_all as Maintenance,
            "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
             created_by_kind, created_by_id, created_by_name, created_at, updated_at
             from maintenance where status = $1 and (start_at, id) > ($2, $3) order by start_at, id limit $4",
            status,
            after,
            behind,
            i64::try_from(limit).unwrap_or(i64::MAX)
        )
    }

    /// What is planned or under way for a system, the earliest start first.
    pub(super) async fn open_maintenances(
        &mut self,
        system: SystemId,
        now: Timestamp,
        page: &Page,
    ) -> Result<Vec<Maintenance>> {
        sql!(
            self,
            fetch_all as Maintenance,
            "select maintenance.id, title, description, status, suppress_notifications, maintenance.start_at, maintenance.end_at,
             maintenance.series_id, occurrence_start, created_by_kind, created_by_id, created_by_name, created_at, updated_at
             from maintenance_system as link join maintenance on maintenance.id = link.maintenance_id
             where link.system_id = $1 and link.is_open = true and link.end_at > $2
             order by link.start_at, link.maintenance_id limit $3",
            system,
            now,
            page.limit()
        )
    }

    /// The same for many systems, so much of each: a system and a window of it in each row, the earliest start first. Of a
    /// series the next two.
    pub(super) async fn coming_maintenances(
        &mut self,
        systems: &[SystemId],
        now: Timestamp,
        each: usize,
    ) -> Result<Vec<(SystemId, MaintenanceId)>> {
        sql!(
            self,
            fetch_all as (SystemId, MaintenanceId),
            {
                sqlite: "select system_id, maintenance_id from (
                             select system_id, maintenance_id, row_number() over (
                                 partition by system_id order by start_at, maintenance_id) as turn
                             from (
                                 select system_id, maintenance_id, start_at, series_id, row_number() over (
                                     partition by system_id, series_id order by start_at, maintenance_id) as occurrence
                                 from maintenance_system
                                 where system_id in (select unhex(value) from json_each($1)) and is_open = true
                                   and end_at > $2) as coming
                             where series_id is null or occurrence <= 2) as ranked
                         where turn <= $3 order by system_id, turn",
                postgres: "select system_id, maintenance_id from (
                               select system_id, maintenance_id, row_number() over (
                                   partition by system_id order by start_at, maintenance_id) as turn
                               from (
                                   select system_id, maintenance_id, start_at, series_id, row_number() over (
                                       partition by system_id, series_id order by start_at, maintenance_id) as occurrence
                                   from maintenance_system
                                   where system_id in (select value::uuid from json_array_elements_text(cast($1 as json)))
                                     and is_open = true and end_at > $2) as coming
                               where series_id is null or occurrence <= 2) as ranked
                           where turn <= $3 order by system_id, turn",
            },
            hex(systems.iter().map(|system| system.0)),
            now,
            i64::try_from(each).unwrap_or(i64::MAX)
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
                "select maintenance.id, title, description, status, suppress_notifications, maintenance.start_at, maintenance.end_at,
                 maintenance.series_id, occurrence_start, created_by_kind, created_by_id, created_by_name, created_at, updated_at
                 from maintenance_system as link join maintenance on maintenance.id = link.maintenance_id
                 where link.system_id = $9 and ($10 is null or link.series_id = $10)
                   and (link.start_at, link.maintenance_id) < ($1, $2)
                   and ($3 is null or $3 = case when status in ('completed', 'cancelled') then status when link.end_at <= $4 then 'completed'
                     when status = 'in_progress' or link.start_at <= $4 then 'in_progress' else 'scheduled' end)
                   and link.start_at < $5 and link.end_at > $6
                   and ($7 is null or search_text like coalesce($7, '') escape '!')
                 order by link.start_at desc, link.maintenance_id desc limit $8",
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
