//! Every statement about incidents.

use super::domain::{Incident, IncidentId, Severity, Status, Update};
use crate::contract::Page;
use crate::database::search::{containing, folded};
use crate::database::{Reader, Timestamp, Writer, hex, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;
use uuid::Uuid;

/// Which incidents are wanted.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub(super) status: Option<Status>,
    pub(super) severity: Option<Severity>,
    pub(super) system: Option<SystemId>,
    pub(super) created_from: Option<Timestamp>,
    pub(super) created_before: Option<Timestamp>,
    pub(super) text: Option<String>,
    pub(super) includes_resolved: bool,
}

impl Filter {
    /// Those that are not resolved.
    pub(super) fn active() -> Self {
        Self {
            status: None,
            severity: None,
            system: None,
            created_from: None,
            created_before: None,
            text: None,
            includes_resolved: false,
        }
    }
}

/// Before which incident a page starts: the newest come first.
pub(super) fn before(page: &Page) -> (Timestamp, Uuid) {
    let position = page.after.as_deref().and_then(|after| after.split_once(':'));
    let known = position.and_then(|(at, id)| Some((Timestamp(at.parse().ok()?), Uuid::try_parse(id).ok()?)));
    known.unwrap_or((Timestamp(i64::MAX), Uuid::max()))
}

impl Reader {
    /// Newest first.
    ///
    /// A statement for each index: the databases plan before they know which filters there are. `is_active = true` and not
    /// `is_active`: SQLite looks for the latter in no index.
    pub(super) async fn incidents(&mut self, page: &Page, filter: &Filter) -> Result<Vec<Incident>> {
        let ((at, id), text) = (before(page), filter.text.as_deref().map(containing));
        let from = filter.created_from.unwrap_or(Timestamp(i64::MIN));
        let before = filter.created_before.unwrap_or(Timestamp(i64::MAX));
        if let Some(text) = &filter.text
            && let Some(places) = self.few_incidents(text).await?
        {
            return self.incidents_among(places, page, filter).await;
        }
        if let Some(system) = filter.system {
            return self.incidents_touching(system, page, filter).await;
        }
        match (filter.status, filter.severity, filter.includes_resolved) {
            (Some(status), ..) => sql!(
                self,
                fetch_all as Incident,
                "select id, title, description, severity, status,
                 suppress_notifications, created_by_kind, created_by_id, created_by_name,
                 created_at, updated_at, resolved_at
                 from incident
                 where status = $3 and (created_at, id) < ($1, $2)
                   and ($4 is null or severity = $4) and created_at >= $5 and created_at < $6
                   and ($7 is null or search_text like coalesce($7, '') escape '!')
                 order by created_at desc, id desc limit $8",
                at,
                id,
                status,
                filter.severity,
                from,
                before,
                text,
                page.limit()
            ),
            (None, Some(severity), false) => self.open_incidents(severity, page, filter).await,
            (None, Some(severity), true) => sql!(
                self,
                fetch_all as Incident,
                "select id, title, description, severity, status,
                 suppress_notifications, created_by_kind, created_by_id, created_by_name,
                 created_at, updated_at, resolved_at
                 from incident
                 where severity = $3 and (created_at, id) < ($1, $2)
                   and created_at >= $4 and created_at < $5
                   and ($6 is null or search_text like coalesce($6, '') escape '!')
                 order by created_at desc, id desc limit $7",
                at,
                id,
                severity,
                from,
                before,
                text,
                page.limit()
            ),
            (None, None, false) => sql!(
                self,
                fetch_all as Incident,
                "select id, title, description, severity, status,
                 suppress_notifications, created_by_kind, created_by_id, created_by_name,
                 created_at, updated_at, resolved_at
                 from incident
                 where is_active = true and (created_at, id) < ($1, $2)
                   and created_at >= $3 and created_at < $4
                   and ($5 is null or search_text like coalesce($5, '') escape '!')
                 order by created_at desc, id desc limit $6",
                at,
                id,
                from,
                before,
                text,
                page.limit()
            ),
            (None, None, true) => sql!(
                self,
                fetch_all as Incident,
                "select id, title, description, severity, status,
                 suppress_notifications, created_by_kind, created_by_id, created_by_name,
                 created_at, updated_at, resolved_at
                 from incident
                 where (created_at, id) < ($1, $2)
                   and created_at >= $3 and created_at < $4
                   and ($5 is null or search_text like coalesce($5, '') escape '!')
                 order by created_at desc, id desc limit $6",
                at,
                id,
                from,
                before,
                text,
                page.limit()
            ),
        }
    }

    /// Newest first.
    async fn incidents_touching(&mut self, system: SystemId, page: &Page, filter: &Filter) -> Result<Vec<Incident>> {
        let ((at, id), text) = (before(page), filter.text.as_deref().map(containing));
        let from = filter.created_from.unwrap_or(Timestamp(i64::MIN));
        let before = filter.created_before.unwrap_or(Timestamp(i64::MAX));
        if !filter.includes_resolved && filter.status.is_none() {
            return sql!(
                self,
                fetch_all as Incident,
                "select incident.id, incident.title, incident.description, incident.severity, incident.status,
                     incident.suppress_notifications, incident.created_by_kind, incident.created_by_id, incident.created_by_name,
                     incident.created_at, incident.updated_at, incident.resolved_at
                 from incident_system as link join incident on incident.id = link.incident_id
                 where link.system_id = $8 and link.is_active = true and (link.created_at, link.incident_id) < ($1, $2)
                   and ($3 is null or severity = $3) and link.created_at >= $4 and link.created_at < $5
                   and ($6 is null or search_text like coalesce($6, '') escape '!')
                 order by link.created_at desc, link.incident_id desc limit $7",
                at,
                id,
                filter.severity,
                from,
                before,
                text,
                page.limit(),
                system
            );
        }
        sql!(
            self,
            fetch_all as Incident,
            "select incident.id, incident.title, incident.description, incident.severity, incident.status,
                 incident.suppress_notifications, incident.created_by_kind, incident.created_by_id, incident.created_by_name,
                 incident.created_at, incident.updated_at, incident.resolved_at
             from incident_system as link join incident on incident.id = link.incident_id
             where link.system_id = $9 and (link.created_at, link.incident_id) < ($1, $2)
               and ($3 is null or status = $3) and ($4 is null or severity = $4)
               and link.created_at >= $5 and link.created_at < $6
               and ($7 is null or search_text like coalesce($7, '') escape '!')
             order by link.created_at desc, link.incident_id desc limit $8",
            at,
            id,
            filter.status,
            filter.severity,
            from,
            before,
            text,
            page.limit(),
            system
        )
    }

    /// Those of a severity that are not resolved.
    async fn open_incidents(&mut self, severity: Severity, page: &Page, filter: &Filter) -> Result<Vec<Incident>> {
        let ((at, id), text) = (before(page), filter.text.as_deref().map(containing));
        let from = filter.created_from.unwrap_or(Timestamp(i64::MIN));
        let before = filter.created_before.unwrap_or(Timestamp(i64::MAX));
        sql!(
            self,
            fetch_all as Incident,
            "select id, title, description, severity, status,
             suppress_notifications, created_by_kind, created_by_id, created_by_name,
             created_at, updated_at, resolved_at
             from incident
             where severity = $3 and is_active = true and (created_at, id) < ($1, $2)
               and created_at >= $4 and created_at < $5
               and ($6 is null or search_text like coalesce($6, '') escape '!')
             order by created_at desc, id desc limit $7",
            at,
            id,
            severity,
            from,
            before,
            text,
            page.limit()
        )
    }

    pub(super) async fn incident(&mut self, id: IncidentId) -> Result<Option<Incident>> {
        sql!(
            self,
            fetch_optional as Incident,
            "select id, title, description, severity, status,
                 suppress_notifications, created_by_kind, created_by_id, created_by_name,
                 created_at, updated_at, resolved_at from incident where id = $1",
            id
        )
    }

    /// Oldest first.
    pub(super) async fn updates(&mut self, id: IncidentId) -> Result<Vec<Update>> {
        sql!(
            self,
            fetch_all as Update,
            "select id, incident_id, message, status_change, created_by_kind, created_by_id, created_by_name, created_at
             from incident_update where incident_id = $1 order by place",
            id
        )
    }

    pub(super) async fn count_updates(&mut self, id: IncidentId) -> Result<i64> {
        let (count,) =
            sql!(self, fetch_one as (i64,), "select count(*) from incident_update where incident_id = $1", id)?;
        Ok(count)
    }

    pub(super) async fn has_suppressing_incident(&mut self, system: SystemId) -> Result<bool> {
        let found = sql!(
            self,
            fetch_optional as (IncidentId,),
            "select incident.id from incident_system as link join incident on incident.id = link.incident_id
             where link.system_id = $1 and link.is_active = true and incident.suppress_notifications limit 1",
            system
        )?;
        Ok(found.is_some())
    }
}

impl Writer {
    /// The incident, and nobody else changes it until the end of the transaction.
    pub(super) async fn lock_incident(&mut self, id: IncidentId) -> Result<Option<Incident>> {
        sql!(
            self,
            fetch_optional as Incident,
            {
                sqlite: "select id, title, description, severity, status,
                 suppress_notifications, created_by_kind, created_by_id, created_by_name,
                 created_at, updated_at, resolved_at
                         from incident where id = $1",
                postgres: "select id, title, description, severity, status,
                 suppress_notifications, created_by_kind, created_by_id, created_by_name,
                 created_at, updated_at, resolved_at
                           from incident where id = $1 for update",
            },
            id
        )
    }

    pub(super) async fn insert_incident(&mut self, new: &Incident) -> Result<()> {
        sql!(
            self,
            execute,
            {
                sqlite: "insert into incident
                             (id, title, description, search_text, severity, status, is_active, suppress_notifications,
                              created_by_kind, created_by_id, created_by_name, created_at, updated_at, resolved_at, place)
                         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                                 (select coalesce(max(place), 0) + 1 from incident))",
                postgres: "insert into incident
                               (id, title, description, search_text, severity, status, is_active, suppress_notifications,
                                created_by_kind, created_by_id, created_by_name, created_at, updated_at, resolved_at)
                           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            },
            new.id,
            &new.title,
            &new.description,
            folded(&new.searched()),
            new.severity,
            new.status,
            new.is_active(),
            new.suppress_notifications,
            new.created_by.kind,
            &new.created_by.id,
            &new.created_by.name,
            new.created_at,
            new.updated_at,
            new.resolved_at
        )?;
        self.index_text(new).await?;
        Ok(())
    }

    pub(super) async fn save_incident(&mut self, changed: &Incident) -> Result<u64> {
        sql!(
            self,
            execute,
            "update incident set title = $2, description = $3, search_text = $4, severity = $5, status = $6,
                 is_active = $7, suppress_notifications = $8, updated_at = $9, resolved_at = $10
             where id = $1",
            changed.id,
            &changed.title,
            &changed.description,
            folded(&changed.searched()),
            changed.severity,
            changed.status,
            changed.is_active(),
            changed.suppress_notifications,
            changed.updated_at,
            changed.resolved_at
        )
    }

    /// Says of its links what it has become.
    pub(super) async fn save_activity(&mut self, changed: &Incident) -> Result<u64> {
        sql!(
            self,
            execute,
            "update incident_system set is_active = $2 where incident_id = $1",
            changed.id,
            changed.is_active()
        )
    }

    /// The systems that it touches from now on, and no others.
    pub(super) async fn link(&mut self, incident: &Incident, systems: &[SystemId]) -> Result<()> {
        sql!(self, execute, "delete from incident_system where incident_id = $1", incident.id)?;
        sql!(
            self,
            execute,
            {
                sqlite: "insert into incident_system (incident_id, system_id, is_active, created_at)
                         select $1, unhex(value), $2, $3 from json_each($4)",
                postgres: "insert into incident_system (incident_id, system_id, is_active, created_at)
                           select $1, value::uuid, $2, $3 from json_array_elements_text(cast($4 as json))",
            },
            incident.id,
            incident.is_active(),
            incident.created_at,
            hex(systems.iter().map(|system| system.0))
        )?;
        Ok(())
    }

    /// At the end of its timeline. Whoever calls holds the incident.
    pub(super) async fn append_update(&mut self, new: &Update) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into incident_update
                 (incident_id, place, id, message, status_change, created_by_kind, created_by_id, created_by_name,
                  created_at)
             select $1, coalesce(max(place), 0) + 1, $2, $3, $4, $5, $6, $7, $8
             from incident_update where incident_id = $1",
            new.incident_id,
            new.id,
            &new.message,
            new.status_change,
            new.created_by.kind,
            &new.created_by.id,
            &new.created_by.name,
            new.created_at
        )
    }

    /// Its timeline and links go with it.
    pub(super) async fn delete_incident(&mut self, id: IncidentId) -> Result<u64> {
        self.forget_text(id).await?;
        sql!(self, execute, "delete from incident where id = $1", id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::actor::{Actor, ActorKind};
    use crate::database::{Database, Location};
    use std::time::Duration;

    #[tokio::test]
    async fn an_incident_suppresses_until_it_is_resolved_and_only_if_it_is_to() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let database = Database::connect(&Location::parse(&url).unwrap(), 2, Duration::ZERO).await.unwrap();
        database.migrate().await.unwrap();
        let (mut store, system) = (database.writer().await.unwrap(), SystemId(Uuid::from_u128(1)));
        let added: Result<u64> = sql!(
            store,
            execute,
            "insert into catalog_system (id, name, name_folded, metadata, created_at, updated_at)
             values ($1, 'web', 'web', '{}', 0, 0)",
            system
        );
        added.unwrap();
        let mut incident = Incident {
            id: IncidentId(Uuid::from_u128(2)),
            title: "t".into(),
            description: None,
            severity: Severity::Minor,
            status: Status::Investigating,
            suppress_notifications: false,
            created_by: Actor { kind: ActorKind::Server, id: "server".into(), name: "a test".into() },
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            resolved_at: None,
        };
        store.insert_incident(&incident).await.unwrap();
        store.link(&incident, &[system]).await.unwrap();
        let steps = [
            (Status::Investigating, false, false),
            (Status::Investigating, true, true),
            (Status::Resolved, true, false),
            (Status::Fixing, true, true),
            (Status::Fixing, false, false),
        ];
        for (status, suppresses, expected) in steps {
            (incident.status, incident.suppress_notifications) = (status, suppresses);
            store.save_incident(&incident).await.unwrap();
            store.save_activity(&incident).await.unwrap();
            assert_eq!(store.has_suppressing_incident(system).await.unwrap(), expected, "{status:?} {suppresses}");
        }
    }
}
