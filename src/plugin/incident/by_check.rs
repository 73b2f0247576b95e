//! What failing health checks do with incidents.

use super::domain::{Incident, IncidentId, Severity, Status, Update};
use crate::access::Call;
use crate::access::actor::{Actor, ActorKind};
use crate::database::{Timestamp, Writer};
use crate::error::Result;
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::SystemId;

/// The most characters of a text of an incident.
const TEXT_MAX: usize = 4_000;
const TITLE_MAX: usize = 200;

impl Writer {
    /// Opens an incident about a system.
    #[expect(clippy::too_many_arguments, reason = "an incident has many parts")]
    pub(in crate::plugin) async fn open_incident_of_check(
        &mut self,
        kernel: &Kernel,
        id: IncidentId,
        title: String,
        message: String,
        severity: Severity,
        system: SystemId,
        call: &Call,
    ) -> Result<()> {
        let actor = Actor::of(&call.caller);
        let new = Incident {
            id,
            title: printable(&title, TITLE_MAX),
            description: None,
            severity,
            status: Status::Investigating,
            suppress_notifications: false,
            created_by: actor.clone(),
            created_at: call.now,
            updated_at: call.now,
            resolved_at: None,
        };
        self.insert_incident(&new).await?;
        self.link(&new, &[system]).await?;
        self.append_update(&entry(kernel, id, &message, Some(Status::Investigating), actor, call.now)).await?;
        Ok(())
    }

    /// Adds to the timeline, if the incident is still open and has room: whether it did.
    pub(in crate::plugin) async fn add_to_incident_of_check(
        &mut self,
        kernel: &Kernel,
        id: IncidentId,
        text: String,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool> {
        let Some(found) = self.lock_incident(id).await?.filter(Incident::is_active) else { return Ok(false) };
        if Incident::must_have_room(self.count_updates(id).await?, None).is_err() {
            return Ok(false);
        }
        self.append_update(&entry(kernel, found.id, &text, None, actor.clone(), now)).await?;
        Ok(true)
    }

    /// Resolves an incident, unless it is, or somebody else has written to it: then it is theirs to resolve, and is told.
    /// What it did, for the change feed.
    pub(in crate::plugin) async fn resolve_incident_of_check(
        &mut self,
        kernel: &Kernel,
        id: IncidentId,
        text: String,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Option<&'static str>> {
        let Some(found) = self.lock_incident(id).await?.filter(Incident::is_active) else { return Ok(None) };
        let updates = self.updates(id).await?;
        let is_ours = updates.iter().all(|update| update.created_by.kind == ActorKind::Server);
        if !is_ours {
            let is_added = self.add_to_incident_of_check(kernel, id, text, actor, now).await?;
            return Ok(is_added.then_some("incident.update_added"));
        }
        let changed = found.with_status(Status::Resolved, now)?;
        self.append_update(&entry(kernel, id, &text, Some(Status::Resolved), actor.clone(), now)).await?;
        self.save_incident(&changed).await?;
        self.save_activity(&changed).await?;
        Ok(Some("incident.resolved"))
    }
}

fn entry(
    kernel: &Kernel,
    incident_id: IncidentId,
    message: &str,
    status_change: Option<Status>,
    created_by: Actor,
    created_at: Timestamp,
) -> Update {
    let message = printable(message, TEXT_MAX);
    Update { id: kernel.ids.next(), incident_id, message, status_change, created_by, created_at }
}

/// The beginning of a text that a target may have written: PostgreSQL keeps no NUL.
fn printable(text: &str, characters_max: usize) -> String {
    text.chars().take(characters_max).map(|one| if one == '\0' { char::REPLACEMENT_CHARACTER } else { one }).collect()
}
