//! What an incident is, and its rules.

use crate::access::actor::Actor;
use crate::contract::{Change, Checker, Row, Rules};
use crate::database::id::id;
use crate::database::{Timestamp, boolean};
use crate::error::{Error, Result};
use crate::plugin::catalog::domain::{check_touched, must_have_room};
use crate::proto::checkmate::incident::v1 as pb;
use serde::Deserialize;

id! {
    /// An incident.
    IncidentId
}
id! {
    /// An entry of a timeline.
    UpdateId
}

/// A timeline is answered whole, and what has 500 entries of some 100 characters is read by nobody. No more notes then;
/// that its status changes is told all the same.
pub const UPDATES_MAX: i64 = 500;

/// Who opens an incident again and again does not follow one thing that went wrong: at twice the notes it is not opened
/// any more, nor moved from one status to another. What is open can still be resolved, once.
pub const CHANGES_MAX: i64 = 2 * UPDATES_MAX;

/// One answer holds at most this many links to systems over all its incidents: 100,000 ids are 4 MB already.
pub const LINKS_MAX: usize = 100_000;

/// How far the work on an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Somebody looks for the cause.
    Investigating,
    /// The cause is known.
    Identified,
    /// It is being repaired.
    Fixing,
    /// It is repaired, and watched.
    Monitoring,
    /// It is over.
    Resolved,
}

/// How bad an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Hardly anybody notices.
    Minor,
    /// Many notice.
    Major,
    /// It does not work.
    Critical,
}

/// Something that went wrong. As `SQLite` puts it into an array: the fields in this order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, sqlx::FromRow)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// What went wrong, in a line.
    pub title: String,
    /// More about it.
    pub description: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// How far the work on it is.
    pub status: Status,
    /// Whether notifications about its systems are held back while it is active.
    #[serde(deserialize_with = "boolean")]
    pub suppress_notifications: bool,
    /// Who opened it.
    #[sqlx(flatten)]
    pub created_by: Actor,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When a field or the status was last changed.
    pub updated_at: Timestamp,
    /// When it was resolved, if it is.
    pub resolved_at: Option<Timestamp>,
}

/// What changes about an incident.
pub struct Changes {
    /// The title.
    pub title: Change<String>,
    /// More about it.
    pub description: Change<String>,
    /// How bad it is.
    pub severity: Change<Severity>,
    /// Whether notifications are held back.
    pub suppress_notifications: Change<bool>,
}

/// An entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Update {
    /// Its id.
    pub id: UpdateId,
    /// The incident.
    pub incident_id: IncidentId,
    /// What happened.
    pub message: String,
    /// The status from then on, if it was given.
    pub status_change: Option<Status>,
    /// Who wrote it.
    #[sqlx(flatten)]
    pub created_by: Actor,
    /// When.
    pub created_at: Timestamp,
}

impl Incident {
    /// Whether it is not over.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status != Status::Resolved
    }

    /// What is searched for text.
    #[must_use]
    pub fn searched(&self) -> String {
        let description = self.description.as_deref().unwrap_or_default();
        format!("{}\n{description}", self.title)
    }

    /// Whole seconds from opening to resolving.
    #[must_use]
    pub fn duration_seconds(&self) -> Option<i64> {
        self.resolved_at.map(|end| end.seconds_since(self.created_at).max(0))
    }

    /// Refuses one more entry in a timeline that has so many, unless it is needed to end what is open.
    pub fn must_have_room(count: i64, change: Option<Status>) -> Result<()> {
        match change {
            None => must_have_room("The timeline", count, UPDATES_MAX),
            Some(Status::Resolved) => Ok(()),
            Some(Status::Investigating | Status::Identified | Status::Fixing | Status::Monitoring) => {
                must_have_room("The timeline", count, CHANGES_MAX)
            }
        }
    }

    /// Refuses if it was changed since the caller read it.
    pub fn must_be_as_of(&self, expected: Option<Timestamp>) -> Result<()> {
        match expected {
            Some(expected) if expected.millis() != self.updated_at.millis() => Err(Error::Conflict(format!(
                "The incident was changed by somebody else at {}; read it again",
                self.updated_at
            ))),
            _ => Ok(()),
        }
    }

    /// The incident with other fields.
    #[must_use]
    pub fn edited(self, changes: Changes, now: Timestamp) -> Self {
        Self {
            title: changes.title.or(self.title),
            description: changes.description.or_option(self.description),
            severity: changes.severity.or(self.severity),
            suppress_notifications: changes.suppress_notifications.or(self.suppress_notifications),
            updated_at: self.updated_at.next(now),
            ..self
        }
    }

    /// The incident with another status, which may be any; what is over already cannot end once more.
    pub fn with_status(self, status: Status, now: Timestamp) -> Result<Self> {
        if status == Status::Resolved && !self.is_active() {
            return Err(Error::Conflict("The incident is resolved already".into()));
        }
        let updated_at = self.updated_at.next(now);
        let resolved_at = (status == Status::Resolved).then_some(now);
        Ok(Self { status, updated_at, resolved_at, ..self })
    }
}

impl Row for Incident {
    fn position(&self) -> String {
        format!("{}:{}", self.created_at.0, self.id)
    }

    fn bytes(&self) -> usize {
        self.title.len() + self.description.as_ref().map_or(0, String::len)
    }
}

impl Rules for pb::CreateIncidentRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        check_touched(&self.system_ids, true, check);
    }
}

impl Rules for pb::UpdateIncidentRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        let names =
            |field: &str| self.update_mask.as_ref().is_some_and(|mask| mask.paths.iter().any(|path| path == field));
        check_touched(&self.system_ids, names("system_ids"), check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::actor::ActorKind;

    fn incident(status: Status) -> Incident {
        let created_by = Actor { kind: ActorKind::Server, id: "server".into(), name: "a test".into() };
        Incident {
            id: IncidentId(uuid::Uuid::nil()),
            title: "t".into(),
            description: None,
            severity: Severity::Minor,
            status,
            suppress_notifications: false,
            created_by,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            resolved_at: (status == Status::Resolved).then_some(Timestamp(1_000_000)),
        }
    }

    const ALL: [Status; 5] =
        [Status::Investigating, Status::Identified, Status::Fixing, Status::Monitoring, Status::Resolved];

    #[test]
    fn any_status_follows_any_but_nothing_ends_twice() {
        for before in ALL {
            for after in ALL {
                let changed = incident(before).with_status(after, Timestamp(5_000_000));
                if (before, after) == (Status::Resolved, Status::Resolved) {
                    assert!(matches!(changed, Err(Error::Conflict(_))));
                    continue;
                }
                let changed = changed.unwrap();
                assert_eq!(changed.status, after);
                let is_over = after == Status::Resolved;
                assert_eq!(changed.resolved_at, is_over.then_some(Timestamp(5_000_000)), "{before:?} to {after:?}");
                assert_eq!(changed.duration_seconds(), is_over.then_some(5));
            }
        }
    }

    #[test]
    fn what_is_open_can_be_resolved_however_full_its_timeline_is() {
        for (count, note, other, resolve) in [
            (499, true, true, true),
            (500, false, true, true),
            (999, false, true, true),
            (1_000, false, false, true),
            (1_001, false, false, true),
        ] {
            let may = |change| Incident::must_have_room(count, change).is_ok();
            assert_eq!(may(None), note, "{count}");
            assert_eq!(may(Some(Status::Resolved)), resolve, "{count}");
            for status in ALL.into_iter().filter(|status| *status != Status::Resolved) {
                assert_eq!(may(Some(status)), other, "{count} {status:?}");
            }
        }
    }

    #[test]
    fn two_changes_in_one_millisecond_can_be_told_apart() {
        let first = incident(Status::Fixing).with_status(Status::Monitoring, Timestamp(100)).unwrap();
        let second = first.clone().with_status(Status::Fixing, Timestamp(100)).unwrap();
        assert!(second.must_be_as_of(Some(first.updated_at)).is_err());
        assert!(second.must_be_as_of(Some(Timestamp(second.updated_at.millis() * 1_000))).is_ok());
    }
}
