//! When systems were in maintenance, for those who count uptime.

use super::domain::Status;
use crate::database::{Reader, Timestamp, hex, sql};
use crate::error::Result;
use crate::plugin::catalog::domain::SystemId;
use std::collections::HashMap;

#[derive(sqlx::FromRow)]
struct Window {
    system_id: SystemId,
    status: Status,
    start_at: Timestamp,
    end_at: Timestamp,
    updated_at: Timestamp,
}

impl Window {
    /// What was closed early or called off ended when that was done, and nothing changes it later.
    fn span(&self) -> (Timestamp, Timestamp) {
        let end = match self.status {
            Status::Scheduled | Status::InProgress => self.end_at,
            Status::Completed | Status::Cancelled => self.end_at.min(self.updated_at),
        };
        (self.start_at, end)
    }
}

impl Reader {
    /// The spans in which each of these systems was, or will be, in maintenance, as far as they touch this one: sorted, and
    /// apart from one another.
    pub(in crate::plugin) async fn maintained(
        &mut self,
        systems: &[SystemId],
        (from, to): (Timestamp, Timestamp),
    ) -> Result<HashMap<SystemId, Vec<(Timestamp, Timestamp)>>> {
        let windows = sql!(
            self,
            fetch_all as Window,
            {
                sqlite: "select link.system_id, maintenance.status, maintenance.start_at, maintenance.end_at, maintenance.updated_at from maintenance_system as link
                         join maintenance on maintenance.id = link.maintenance_id
                         where link.system_id in (select unhex(value) from json_each($1)) and link.start_at < $3 and maintenance.end_at > $2
                         order by maintenance.start_at",
                postgres: "select link.system_id, maintenance.status, maintenance.start_at, maintenance.end_at, maintenance.updated_at from maintenance_system as link
                           join maintenance on maintenance.id = link.maintenance_id
                           where link.system_id in (select value::uuid from json_array_elements_text(cast($1 as json)))
                             and link.start_at < $3 and maintenance.end_at > $2
                           order by maintenance.start_at",
            },
            hex(systems.iter().map(|system| system.0)),
            from,
            to
        )?;
        let mut found: HashMap<SystemId, Vec<_>> = HashMap::new();
        for window in windows {
            let (start, end) = window.span();
            let spans = found.entry(window.system_id).or_default();
            match spans.last_mut() {
                Some((_, before)) if start <= *before => *before = end.max(*before),
                _ if start < end => spans.push((start, end)),
                _ => {}
            }
        }
        Ok(found)
    }
}
