//! Statements about windows and their timelines; `list_store.rs` has the lists, `series_store.rs` what repeats.

use super::domain::{Maintenance, MaintenanceId, Update};
use crate::database::search::folded;
use crate::database::{Reader, Timestamp, Writer, hex, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;

impl Reader {
    pub(super) async fn maintenance(&mut self, id: MaintenanceId) -> Result<Option<Maintenance>> {
        sql!(
            self,
            fetch_optional as Maintenance,
            "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                 created_by_kind, created_by_id, created_by_name, created_at, updated_at
             from maintenance where id = $1",
            id
        )
    }

    /// In no order.
    pub(super) async fn maintenances_of(&mut self, ids: &[MaintenanceId]) -> Result<Vec<Maintenance>> {
        sql!(
            self,
            fetch_all as Maintenance,
            {
                sqlite: "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                         created_by_kind, created_by_id, created_by_name, created_at, updated_at
                         from maintenance where id in (select unhex(value) from json_each($1))",
                postgres: "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                           created_by_kind, created_by_id, created_by_name, created_at, updated_at
                           from maintenance
                           where id in (select value::uuid from json_array_elements_text(cast($1 as json)))",
            },
            hex(ids.iter().map(|id| id.0))
        )
    }

    /// Which systems these windows touch, oldest system first.
    pub(super) async fn maintenance_links(
        &mut self,
        ids: &[MaintenanceId],
        limit: usize,
    ) -> Result<Vec<(MaintenanceId, SystemId)>> {
        sql!(
            self,
            fetch_all as (MaintenanceId, SystemId),
            {
                sqlite: "select maintenance_id, system_id from maintenance_system
                         where maintenance_id in (select unhex(value) from json_each($1))
                         order by maintenance_id, system_id limit $2",
                postgres: "select maintenance_id, system_id from maintenance_system
                           where maintenance_id in (select value::uuid from json_array_elements_text(cast($1 as json)))
                           order by maintenance_id, system_id limit $2",
            },
            hex(ids.iter().map(|id| id.0)),
            i64::try_from(limit).unwrap_or(i64::MAX)
        )
    }

    /// Oldest first.
    pub(super) async fn maintenance_updates(&mut self, id: MaintenanceId) -> Result<Vec<Update>> {
        sql!(
            self,
            fetch_all as Update,
            "select id, maintenance_id, message, status_change, created_by_kind, created_by_id, created_by_name, created_at
             from maintenance_update where maintenance_id = $1 order by place",
            id
        )
    }

    pub(super) async fn count_maintenance_updates(&mut self, id: MaintenanceId) -> Result<i64> {
        let (count,) =
            sql!(self, fetch_one as (i64,), "select count(*) from maintenance_update where maintenance_id = $1", id)?;
        Ok(count)
    }

    pub(in crate::plugin) async fn has_suppressing_maintenance(
        &mut self,
        system: SystemId,
        now: Timestamp,
    ) -> Result<bool> {
        let found = sql!(
            self,
            fetch_optional as (MaintenanceId,),
            "select maintenance.id from maintenance_system as link join maintenance on maintenance.id = link.maintenance_id
             where link.system_id = $1 and link.is_open = true and link.start_at <= $2 and link.end_at > $2
               and suppress_notifications limit 1",
            system,
            now
        )?;
        Ok(found.is_some())
    }

    /// When the clock changes something next: a window starts or ends, or a series goes on.
    pub(super) async fn next_due(&mut self) -> Result<Option<Timestamp>> {
        let (due,) = sql!(
            self,
            fetch_one as (Option<Timestamp>,),
            "select min(due) from (
                 select min(start_at) as due from maintenance where status = 'scheduled'
                 union all select min(end_at) from maintenance where status = 'in_progress'
                 union all select min(extend_at) from maintenance_series) as dues"
        )?;
        Ok(due)
    }
}

impl Writer {
    /// The window, and nobody else changes it until the end of the transaction.
    pub(super) async fn lock_maintenance(&mut self, id: MaintenanceId) -> Result<Option<Maintenance>> {
        sql!(
            self,
            fetch_optional as Maintenance,
            {
                sqlite: "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                         created_by_kind, created_by_id, created_by_name, created_at, updated_at
                         from maintenance where id = $1",
                postgres: "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                           created_by_kind, created_by_id, created_by_name, created_at, updated_at
                           from maintenance where id = $1 for update",
            },
            id
        )
    }

    /// Windows that the clock has changed and nobody has written yet, the longest due first. What another replica is
    /// about to write is left to it: whoever waits for rows while others wait for the feed would wait for ever.
    pub(super) async fn lock_due_maintenances(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Maintenance>> {
        sql!(
            self,
            fetch_all as Maintenance,
            {
                sqlite: "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                         created_by_kind, created_by_id, created_by_name, created_at, updated_at
                         from maintenance
                         where status = 'scheduled' and start_at <= $1 or status = 'in_progress' and end_at <= $1
                         order by case when status = 'scheduled' then start_at else end_at end, id limit $2",
                postgres: "select id, title, description, status, suppress_notifications, start_at, end_at, series_id, occurrence_start,
                           created_by_kind, created_by_id, created_by_name, created_at, updated_at
                           from maintenance
                           where status = 'scheduled' and start_at <= $1 or status = 'in_progress' and end_at <= $1
                           order by case when status = 'scheduled' then start_at else end_at end, id limit $2
                           for update skip locked",
            },
            now,
            limit
        )
    }

    /// 0 if the series has a window for this occurrence already.
    pub(super) async fn insert_maintenance(&mut self, new: &Maintenance) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into maintenance
                 (id, title, description, search_text, status, suppress_notifications, start_at, end_at, series_id,
                  occurrence_start, created_by_kind, created_by_id, created_by_name, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             on conflict (series_id, occurrence_start) do nothing",
            new.id,
            &new.title,
            &new.description,
            folded(&new.searched()),
            new.status,
            new.suppress_notifications,
            new.start_at,
            new.end_at,
            new.series_id,
            new.occurrence_start,
            new.created_by.kind,
            &new.created_by.id,
            &new.created_by.name,
            new.created_at,
            new.updated_at
        )
    }

    /// [`Self::save_touches`] says the same of its links.
    pub(super) async fn save_maintenance(&mut self, changed: &Maintenance) -> Result<u64> {
        sql!(
            self,
            execute,
            "update maintenance set title = $2, description = $3, search_text = $4, status = $5,
                 suppress_notifications = $6, start_at = $7, end_at = $8, updated_at = $9
             where id = $1",
            changed.id,
            &changed.title,
            &changed.description,
            folded(&changed.searched()),
            changed.status,
            changed.suppress_notifications,
            changed.start_at,
            changed.end_at,
            changed.updated_at
        )
    }

    /// Says of its links whether it is open, and when it is.
    pub(super) async fn save_touches(&mut self, changed: &Maintenance) -> Result<u64> {
        sql!(
            self,
            execute,
            "update maintenance_system set is_open = $2, start_at = $3, end_at = $4 where maintenance_id = $1",
            changed.id,
            !changed.status.is_over(),
            changed.start_at,
            changed.end_at
        )
    }

    /// The systems that it touches from now on, and no others.
    pub(super) async fn link_maintenance(&mut self, window: &Maintenance, systems: &[SystemId]) -> Result<()> {
        sql!(self, execute, "delete from maintenance_system where maintenance_id = $1", window.id)?;
        sql!(
            self,
            execute,
            {
                sqlite: "insert into maintenance_system (maintenance_id, system_id, is_open, start_at, end_at, series_id)
                         select $1, unhex(value), $2, $3, $4, $5 from json_each($6)",
                postgres: "insert into maintenance_system (maintenance_id, system_id, is_open, start_at, end_at, series_id)
                           select $1, value::uuid, $2, $3, $4, $5 from json_array_elements_text(cast($6 as json))",
            },
            window.id,
            !window.status.is_over(),
            window.start_at,
            window.end_at,
            window.series_id,
            hex(systems.iter().map(|system| system.0))
        )?;
        Ok(())
    }

    /// At the end of its timeline. Whoever calls holds the window.
    pub(super) async fn append_maintenance_update(&mut self, new: &Update) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into maintenance_update
                 (maintenance_id, place, id, message, status_change, created_by_kind, created_by_id, created_by_name,
                  created_at)
             select $1, coalesce(max(place), 0) + 1, $2, $3, $4, $5, $6, $7, $8
             from maintenance_update where maintenance_id = $1",
            new.maintenance_id,
            new.id,
            &new.message,
            new.status_change,
            new.created_by.kind,
            &new.created_by.id,
            &new.created_by.name,
            new.created_at
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::actor::{Actor, ActorKind};
    use crate::database::{Database, Location};
    use crate::plugin::maintenance::domain::Status;
    use std::time::Duration;

    async fn database(folder: &tempfile::TempDir) -> Database {
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let database = Database::connect(&Location::parse(&url).unwrap(), 2, Duration::ZERO).await.unwrap();
        database.migrate().await.unwrap();
        database
    }

    fn window(number: u128, suppress_notifications: bool) -> Maintenance {
        Maintenance {
            id: MaintenanceId(uuid::Uuid::from_u128(number)),
            title: "t".into(),
            description: None,
            status: Status::Scheduled,
            suppress_notifications,
            start_at: Timestamp(100),
            end_at: Timestamp(200),
            series_id: None,
            occurrence_start: None,
            created_by: Actor { kind: ActorKind::Server, id: "server".into(), name: "a test".into() },
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    async fn plan(store: &mut Writer, window: &Maintenance, system: SystemId) {
        let added: Result<u64> = sql!(
            store,
            execute,
            "insert into catalog_system (id, name, name_folded, metadata, created_at, updated_at)
             values ($1, 'web', 'web', '{}', 0, 0)",
            system
        );
        added.unwrap();
        store.insert_maintenance(window).await.unwrap();
        store.link_maintenance(window, &[system]).await.unwrap();
    }

    #[tokio::test]
    async fn a_window_suppresses_while_it_is_in_progress_and_only_if_it_is_to() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = database(&folder).await.writer().await.unwrap();
        let (quiet, loud) = (SystemId(uuid::Uuid::from_u128(1)), SystemId(uuid::Uuid::from_u128(2)));
        let held_back = window(3, true);
        plan(&mut store, &held_back, quiet).await;
        plan(&mut store, &window(4, false), loud).await;
        for (now, suppressed) in [(99, false), (100, true), (199, true), (200, false)] {
            assert_eq!(store.has_suppressing_maintenance(quiet, Timestamp(now)).await.unwrap(), suppressed, "at {now}");
            assert!(!store.has_suppressing_maintenance(loud, Timestamp(now)).await.unwrap(), "at {now}");
        }
        // Started by hand, and called off.
        let begun = held_back.with_status(Status::InProgress, Timestamp(50)).unwrap();
        for (changed, suppressed) in
            [(begun.clone(), true), (begun.with_status(Status::Cancelled, Timestamp(60)).unwrap(), false)]
        {
            store.save_maintenance(&changed).await.unwrap();
            store.save_touches(&changed).await.unwrap();
            assert_eq!(store.has_suppressing_maintenance(quiet, Timestamp(70)).await.unwrap(), suppressed);
        }
    }
}
