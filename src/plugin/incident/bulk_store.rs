//! Statements behind bulk answers: what many systems need is read in a constant number of them.

use super::domain::{Incident, IncidentId};
use crate::database::{Batch, Reader, hex, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;

impl Reader {
    /// What is wrong with these systems, so much of each: a system and an incident of it in each row, newest first.
    pub(super) async fn active_incidents(
        &mut self,
        systems: &[SystemId],
        each: usize,
    ) -> Result<Vec<(SystemId, IncidentId)>> {
        let found = sql!(
            self,
            fetch_all as Batch<(SystemId, IncidentId)>,
            {
                sqlite: "select json_group_array(json_array(hex(system_id), hex(incident_id))) from (
                             select system_id, incident_id, turn from (
                                 select system_id, incident_id, row_number() over (
                                     partition by system_id order by created_at desc, incident_id desc) as turn
                                 from incident_system
                                 where system_id in (select unhex(value) from json_each($1)) and is_active = true) as ranked
                             where turn <= $2 order by system_id, turn)",
                postgres: "select system_id, incident_id from (
                               select system_id, incident_id, row_number() over (
                                   partition by system_id order by created_at desc, incident_id desc) as turn
                               from incident_system
                               where system_id in (select value::uuid from json_array_elements_text(cast($1 as json)))
                                 and is_active = true) as ranked
                           where turn <= $2 order by system_id, turn",
            },
            hex(systems.iter().map(|system| system.0)),
            i64::try_from(each).unwrap_or(i64::MAX)
        )?;
        Ok(Batch::rows(found))
    }

    /// In no order.
    pub(super) async fn incidents_of(&mut self, ids: &[IncidentId]) -> Result<Vec<Incident>> {
        let found = sql!(
            self,
            fetch_all as Batch<Incident>,
            {
                sqlite: "select json_group_array(json_array(hex(id), title, description, severity, status,
                             suppress_notifications, json_array(created_by_kind, created_by_id, created_by_name),
                             created_at, updated_at, resolved_at))
                         from incident where id in (select unhex(value) from json_each($1))",
                postgres: "select id, title, description, severity, status,
                 suppress_notifications, created_by_kind, created_by_id, created_by_name,
                 created_at, updated_at, resolved_at
                           from incident
                           where id in (select value::uuid from json_array_elements_text(cast($1 as json)))",
            },
            hex(ids.iter().map(|id| id.0))
        )?;
        Ok(Batch::rows(found))
    }

    /// Which systems these incidents touch, oldest system first.
    pub(super) async fn links(&mut self, ids: &[IncidentId], limit: usize) -> Result<Vec<(IncidentId, SystemId)>> {
        let found = sql!(
            self,
            fetch_all as Batch<(IncidentId, SystemId)>,
            {
                sqlite: "select json_group_array(json_array(hex(incident_id), hex(system_id))) from (
                             select incident_id, system_id from incident_system
                             where incident_id in (select unhex(value) from json_each($1))
                             order by incident_id, system_id limit $2)",
                postgres: "select incident_id, system_id from incident_system
                           where incident_id in (select value::uuid from json_array_elements_text(cast($1 as json)))
                           order by incident_id, system_id limit $2",
            },
            hex(ids.iter().map(|id| id.0)),
            i64::try_from(limit).unwrap_or(i64::MAX)
        )?;
        Ok(Batch::rows(found))
    }
}
