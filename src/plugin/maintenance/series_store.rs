//! Statements about series of windows.

use super::domain::{Maintenance, MaintenanceId, Series, SeriesId};
use super::recurrence::Plan;
use crate::database::{Reader, Timestamp, Writer, hex, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;

impl Reader {
    pub(super) async fn series(&mut self, id: SeriesId) -> Result<Option<Series>> {
        sql!(
            self,
            fetch_optional as Series,
            "select id, rrule, time_zone, start_at, duration_us, title, description, suppress_notifications, made_until, extend_at,
                 created_by_kind, created_by_id, created_by_name, created_at
             from maintenance_series where id = $1",
            id
        )
    }

    /// A series that is due to be looked at, the longest due first.
    pub(super) async fn due_series(&mut self, now: Timestamp) -> Result<Option<Series>> {
        sql!(
            self,
            fetch_optional as Series,
            "select id, rrule, time_zone, start_at, duration_us, title, description, suppress_notifications, made_until, extend_at,
                 created_by_kind, created_by_id, created_by_name, created_at
             from maintenance_series where extend_at <= $1 order by extend_at, id limit 1",
            now
        )
    }
}

impl Writer {
    /// The series, for whoever ends it or all of its windows: one after another, or two of them would wait for each other's
    /// windows.
    pub(super) async fn lock_series(&mut self, id: SeriesId) -> Result<Option<Series>> {
        sql!(
            self,
            fetch_optional as Series,
            {
                sqlite: "select id, rrule, time_zone, start_at, duration_us, title, description, suppress_notifications,
                         made_until, extend_at, created_by_kind, created_by_id, created_by_name, created_at
                         from maintenance_series where id = $1",
                postgres: "select id, rrule, time_zone, start_at, duration_us, title, description, suppress_notifications,
                           made_until, extend_at, created_by_kind, created_by_id, created_by_name, created_at
                           from maintenance_series where id = $1 for update",
            },
            id
        )
    }

    /// Removes a series that has ended and has no window any more.
    pub(super) async fn forget_series(&mut self, id: SeriesId) -> Result<u64> {
        sql!(
            self,
            execute,
            "delete from maintenance_series where id = $1 and extend_at is null
                 and not exists (select 1 from maintenance where series_id = $1)",
            id
        )
    }

    pub(super) async fn insert_series(&mut self, new: &Series, systems: &[SystemId]) -> Result<()> {
        sql!(
            self,
            execute,
            "insert into maintenance_series
                 (id, rrule, time_zone, start_at, duration_us, title, description, suppress_notifications, made_until,
                  extend_at, created_by_kind, created_by_id, created_by_name, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            new.id,
            &new.rrule,
            &new.time_zone,
            new.start_at,
            new.duration_us,
            &new.title,
            &new.description,
            new.suppress_notifications,
            new.made_until,
            new.extend_at,
            new.created_by.kind,
            &new.created_by.id,
            &new.created_by.name,
            new.created_at
        )?;
        sql!(
            self,
            execute,
            {
                sqlite: "insert into maintenance_series_system (series_id, system_id)
                         select $1, unhex(value) from json_each($2)",
                postgres: "insert into maintenance_series_system (series_id, system_id)
                           select $1, value::uuid from json_array_elements_text(cast($2 as json))",
            },
            new.id,
            hex(systems.iter().map(|system| system.0))
        )?;
        Ok(())
    }

    /// Takes note of what is made by a plan. 0 if somebody else was faster, or the series has ended.
    pub(super) async fn extend_series(&mut self, series: &Series, plan: &Plan) -> Result<u64> {
        sql!(
            self,
            execute,
            "update maintenance_series set made_until = $4, extend_at = $5
             where id = $1 and made_until = $2 and extend_at = $3",
            series.id,
            series.made_until,
            series.extend_at,
            plan.starts.last().copied().unwrap_or(series.made_until),
            plan.extend_at
        )
    }

    /// Links the windows of a series from one occurrence to another to the systems of the series.
    pub(super) async fn link_occurrences(&mut self, series: SeriesId, from: Timestamp, to: Timestamp) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into maintenance_system (maintenance_id, system_id, is_open, start_at, end_at, series_id)
             select maintenance.id, touched.system_id, $3, maintenance.start_at, maintenance.end_at, maintenance.series_id
             from maintenance join maintenance_series_system as touched on touched.series_id = maintenance.series_id
             where maintenance.series_id = $1 and maintenance.occurrence_start >= $2
               and maintenance.occurrence_start <= $4
             on conflict do nothing",
            series,
            from,
            true,
            to
        )
    }

    /// No more windows are made. 0 if there were no more to make.
    pub(super) async fn end_series(&mut self, id: SeriesId) -> Result<u64> {
        sql!(
            self,
            execute,
            "update maintenance_series set extend_at = null where id = $1 and extend_at is not null",
            id
        )
    }

    /// The windows of a series that have not started, and nobody else changes them until the end of the transaction.
    pub(super) async fn lock_coming(&mut self, series: SeriesId, now: Timestamp) -> Result<Vec<Maintenance>> {
        sql!(
            self,
            fetch_all as Maintenance,
            {
                sqlite: "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                         created_by_kind, created_by_id, created_by_name, created_at, updated_at
                         from maintenance where series_id = $1 and status = 'scheduled' and start_at > $2
                         order by start_at, id",
                postgres: "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                           created_by_kind, created_by_id, created_by_name, created_at, updated_at
                           from maintenance where series_id = $1 and status = 'scheduled' and start_at > $2
                           order by start_at, id for update",
            },
            series,
            now
        )
    }

    /// Their timelines and links go with them.
    pub(super) async fn delete_maintenances(&mut self, ids: &[MaintenanceId]) -> Result<u64> {
        sql!(
            self,
            execute,
            {
                sqlite: "delete from maintenance where id in (select unhex(value) from json_each($1))",
                postgres: "delete from maintenance
                           where id in (select value::uuid from json_array_elements_text(cast($1 as json)))",
            },
            hex(ids.iter().map(|id| id.0))
        )
    }
}
