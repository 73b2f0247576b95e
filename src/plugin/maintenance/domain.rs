//! What a maintenance window is, and its rules.

use crate::access::actor::Actor;
use crate::contract::issue::Issues;
use crate::contract::{Change, Checker, Row, Rules};
use crate::database::Timestamp;
use crate::database::id::id;
use crate::error::{Error, Result};
use crate::plugin::catalog::domain::check_touched;
use crate::proto::checkmate::maintenance::v1 as pb;

id! {
    /// A window.
    MaintenanceId
}
id! {
    /// A series of windows.
    SeriesId
}
id! {
    /// An entry of a timeline.
    UpdateId
}

/// A timeline is answered whole, and what has 500 entries of some 100 characters is read by nobody. No more notes then; a
/// status changes twice at most, and that always has room.
pub const UPDATES_MAX: i64 = 500;

/// One answer holds at most this many links to systems over all its windows: 100,000 ids are 4 MB already.
pub const LINKS_MAX: usize = 100_000;

/// How far a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Status {
    /// It has not started.
    Scheduled,
    /// It is under way.
    InProgress,
    /// It is over.
    Completed,
    /// It was called off.
    Cancelled,
}

/// A time of planned work on systems.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Maintenance {
    /// Its id.
    pub id: MaintenanceId,
    /// What is done, in a line.
    pub title: String,
    /// More about it.
    pub description: Option<String>,
    /// What was last written; [`Maintenance::as_of`] has what it is.
    pub status: Status,
    /// Whether notifications about its systems are held back while it is in progress.
    pub suppress_notifications: bool,
    /// When it starts, or started.
    pub start_at: Timestamp,
    /// When it is planned to end.
    pub end_at: Timestamp,
    /// The series that it is part of.
    pub series_id: Option<SeriesId>,
    /// When it starts by the rule of its series, also after it was moved.
    pub occurrence_start: Option<Timestamp>,
    /// Who planned it.
    #[sqlx(flatten)]
    pub created_by: Actor,
    /// When it was planned.
    pub created_at: Timestamp,
    /// When a field or the status was last changed.
    pub updated_at: Timestamp,
}

/// What changes about a window.
pub struct Changes {
    /// The title.
    pub title: Change<String>,
    /// More about it.
    pub description: Change<String>,
    /// Whether notifications are held back.
    pub suppress_notifications: Change<bool>,
    /// When it starts.
    pub start_at: Change<Timestamp>,
    /// When it ends.
    pub end_at: Change<Timestamp>,
}

/// A change of status by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The status from then on.
    pub to: Status,
    /// When it is due.
    pub at: Timestamp,
}

/// An entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Update {
    /// Its id.
    pub id: UpdateId,
    /// The window.
    pub maintenance_id: MaintenanceId,
    /// What happened.
    pub message: String,
    /// The status from then on, if it changed.
    pub status_change: Option<Status>,
    /// Who wrote it.
    #[sqlx(flatten)]
    pub created_by: Actor,
    /// When.
    pub created_at: Timestamp,
}

/// A window that repeats.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Series {
    /// Its id.
    pub id: SeriesId,
    /// A recurrence rule of RFC 5545.
    pub rrule: String,
    /// A time zone of the IANA database.
    pub time_zone: String,
    /// When its first window starts.
    pub start_at: Timestamp,
    /// How long each is, in microseconds.
    pub duration_us: i64,
    /// The title of each.
    pub title: String,
    /// More about each.
    pub description: Option<String>,
    /// Whether each holds notifications back.
    pub suppress_notifications: bool,
    /// The last occurrence that was made.
    pub made_until: Timestamp,
    /// When to look for more; `None`: there are no more.
    pub extend_at: Option<Timestamp>,
    /// Who planned it.
    #[sqlx(flatten)]
    pub created_by: Actor,
    /// When it was planned.
    pub created_at: Timestamp,
}

impl Status {
    /// Whether nothing changes any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::InProgress => "in progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Maintenance {
    /// What the clock has made of it by now, and the changes of status that are not written yet, in order.
    #[must_use]
    pub fn as_of(mut self, now: Timestamp) -> (Self, Vec<Due>) {
        let mut passed = vec![];
        while let Some(due) = self.due().filter(|due| due.at <= now) {
            self.status = due.to;
            // From the due time, so that all who work it out get the same.
            self.updated_at = self.updated_at.next(due.at);
            passed.push(due);
        }
        (self, passed)
    }

    /// What the clock does to it next.
    #[must_use]
    pub fn due(&self) -> Option<Due> {
        match self.status {
            Status::Scheduled => Some(Due { to: Status::InProgress, at: self.start_at }),
            Status::InProgress => Some(Due { to: Status::Completed, at: self.end_at }),
            Status::Completed | Status::Cancelled => None,
        }
    }

    /// The entry of its timeline that says so. Its id follows from the window and the time: a reader who is ahead of
    /// whoever writes it shows the same.
    #[must_use]
    pub fn entry_of(&self, due: Due, by: &Actor) -> Update {
        let [_, _, _, _, _, _, mut rest @ ..] = *self.id.0.as_bytes();
        if let Some(last) = rest.last_mut().filter(|_| due.to == Status::Completed) {
            *last ^= 1;
        }
        let millis = u64::try_from(due.at.millis()).unwrap_or_default();
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &rest);
        let message = if due.to == Status::Completed { "Ended as planned" } else { "Started as planned" };
        Update {
            id: UpdateId(id.into_uuid()),
            maintenance_id: self.id,
            message: message.to_owned(),
            status_change: Some(due.to),
            created_by: by.clone(),
            created_at: due.at,
        }
    }

    /// What is searched for text.
    #[must_use]
    pub fn searched(&self) -> String {
        format!("{}\n{}", self.title, self.description.as_deref().unwrap_or_default())
    }

    /// Refuses if it was changed since the caller read it.
    pub fn must_be_as_of(&self, expected: Option<Timestamp>) -> Result<()> {
        match expected {
            Some(expected) if expected.millis() != self.updated_at.millis() => Err(Error::Conflict(format!(
                "The maintenance was changed by somebody else at {}; read it again",
                self.updated_at
            ))),
            _ => Ok(()),
        }
    }

    /// The window with another status.
    pub fn with_status(self, to: Status, now: Timestamp) -> Result<Self> {
        let refuse = |why: &str| Err(Error::Refused(format!("The maintenance {why}")));
        let start_at = match (self.status, to) {
            (Status::Scheduled, Status::InProgress) => now,
            (Status::InProgress, Status::Completed) | (Status::Scheduled | Status::InProgress, Status::Cancelled) => {
                self.start_at
            }
            (Status::Scheduled, Status::Completed) => return refuse("has not started; cancel it instead"),
            (Status::InProgress, Status::Scheduled) => return refuse("has started and cannot be scheduled again"),
            (Status::Scheduled, Status::Scheduled) | (Status::InProgress, Status::InProgress) => {
                return refuse(&format!("is {} already", self.status.words()));
            }
            (Status::Completed | Status::Cancelled, _) => {
                return refuse(&format!("is {}; that does not change any more", self.status.words()));
            }
        };
        Ok(Self { status: to, start_at, updated_at: self.updated_at.next(now), ..self })
    }

    /// The window with a status that ends it, which is done once.
    pub fn ended(self, to: Status, now: Timestamp) -> Result<Self> {
        if self.status.is_over() {
            return Err(Error::Conflict(format!("The maintenance is {} already", self.status.words())));
        }
        self.with_status(to, now)
    }

    /// The window with other fields.
    pub fn edited(self, changes: Changes, now: Timestamp) -> Result<Self> {
        if self.status.is_over() {
            let words = self.status.words();
            return Err(Error::Refused(format!("The maintenance is {words}; it does not change any more")));
        }
        let (start_at, end_at) = (changes.start_at.or(self.start_at), changes.end_at.or(self.end_at));
        if self.status == Status::InProgress && start_at != self.start_at {
            return Err(wrong("startAt", "The maintenance has started; its start is fixed"));
        }
        if start_at != self.start_at && start_at < now {
            return Err(wrong("startAt", "Must not be in the past; to start it now, add an update with in_progress"));
        }
        if end_at <= start_at {
            return Err(wrong("endAt", END_AFTER_START));
        }
        if end_at != self.end_at && end_at <= now {
            return Err(wrong("endAt", "Must be in the future"));
        }
        Ok(Self {
            title: changes.title.or(self.title),
            description: changes.description.or_option(self.description),
            suppress_notifications: changes.suppress_notifications.or(self.suppress_notifications),
            start_at,
            end_at,
            updated_at: self.updated_at.next(now),
            ..self
        })
    }
}

impl Series {
    /// Its window at an occurrence of its rule.
    #[must_use]
    pub fn window(&self, id: MaintenanceId, start: Timestamp, now: Timestamp) -> Maintenance {
        Maintenance {
            id,
            title: self.title.clone(),
            description: self.description.clone(),
            status: Status::Scheduled,
            suppress_notifications: self.suppress_notifications,
            start_at: start,
            end_at: Timestamp(start.0.saturating_add(self.duration_us)),
            series_id: Some(self.id),
            occurrence_start: Some(start),
            created_by: self.created_by.clone(),
            created_at: now,
            updated_at: now,
        }
    }
}

const END_AFTER_START: &str = "Must be later than startAt";

fn wrong(key: &str, message: &str) -> Error {
    Error::Invalid(Issues::one(key, message))
}

impl Row for Maintenance {
    fn position(&self) -> String {
        format!("{}:{}", self.start_at.0, self.id)
    }

    fn bytes(&self) -> usize {
        self.title.len() + self.description.as_ref().map_or(0, String::len)
    }
}

impl Rules for pb::ScheduleWindowRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        check_touched(&self.system_ids, true, check);
        let [start, end] = [&self.start_at, &self.end_at].map(|time| time.as_ref().map(Timestamp::of));
        if start.zip(end).is_some_and(|(start, end)| end <= start) {
            check.issue("endAt", END_AFTER_START);
        }
    }
}

impl Rules for pb::UpdateMaintenanceRequest {
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
    use Status::{Cancelled, Completed, InProgress, Scheduled};

    const ALL: [Status; 4] = [Scheduled, InProgress, Completed, Cancelled];

    /// From 10 s to 20 s.
    fn window(status: Status) -> Maintenance {
        Maintenance {
            id: MaintenanceId(uuid::Uuid::from_u128(0x0189_0a5d_ac96_774b_bcce_b302_099a_8057)),
            title: "t".into(),
            description: None,
            status,
            suppress_notifications: false,
            start_at: Timestamp(10_000_000),
            end_at: Timestamp(20_000_000),
            series_id: None,
            occurrence_start: None,
            created_by: actor(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    fn actor() -> Actor {
        Actor { kind: ActorKind::Server, id: "server".into(), name: "a test".into() }
    }

    #[test]
    fn only_these_moves_are_allowed() {
        let allowed =
            [(Scheduled, InProgress), (Scheduled, Cancelled), (InProgress, Completed), (InProgress, Cancelled)];
        for from in ALL {
            for to in ALL {
                let moved = window(from).with_status(to, Timestamp(5_000_000));
                assert_eq!(moved.is_ok(), allowed.contains(&(from, to)), "{from:?} to {to:?}");
                match moved {
                    Ok(moved) => assert_eq!((moved.status, moved.updated_at), (to, Timestamp(5_000_000))),
                    Err(why) => assert!(matches!(why, Error::Refused(_))),
                }
            }
        }
        assert_eq!(window(Scheduled).with_status(InProgress, Timestamp(5)).unwrap().start_at, Timestamp(5));
    }

    #[test]
    fn what_is_over_does_not_end_again() {
        for over in [Completed, Cancelled] {
            for to in [Completed, Cancelled] {
                assert!(matches!(window(over).ended(to, Timestamp(5)), Err(Error::Conflict(_))), "{over:?} {to:?}");
            }
        }
    }

    #[test]
    fn the_clock_starts_and_ends_it_at_the_due_times_and_not_before() {
        let due = |to, at| Due { to, at: Timestamp(at) };
        let (start, end) = (due(InProgress, 10_000_000), due(Completed, 20_000_000));
        for (from, now, to, passed) in [
            (Scheduled, 9_999_999, Scheduled, vec![]),
            (Scheduled, 10_000_000, InProgress, vec![start]),
            (Scheduled, 19_999_999, InProgress, vec![start]),
            (Scheduled, 20_000_000, Completed, vec![start, end]),
            (InProgress, 9_000_000, InProgress, vec![]),
            (InProgress, 30_000_000, Completed, vec![end]),
            (Completed, 30_000_000, Completed, vec![]),
            (Cancelled, 30_000_000, Cancelled, vec![]),
        ] {
            let (after, by_clock) = window(from).as_of(Timestamp(now));
            assert_eq!((after.status, &by_clock), (to, &passed), "{from:?} at {now}");
            assert_eq!(after.updated_at, passed.last().map_or(Timestamp(0), |due| due.at));
        }
    }

    #[test]
    fn entries_of_start_and_end_differ_and_are_the_same_each_time() {
        let window = window(Scheduled);
        let [start, end] = [InProgress, Completed].map(|to| window.entry_of(Due { to, at: Timestamp(5) }, &actor()));
        assert_ne!(start.id, end.id);
        assert_eq!(start, window.entry_of(Due { to: InProgress, at: Timestamp(5) }, &actor()));
    }

    #[test]
    fn the_end_stays_after_the_start_and_what_has_started_keeps_its_start() {
        let now = Timestamp(15_000_000);
        let keep = || Changes {
            title: Change::Keep,
            description: Change::Keep,
            suppress_notifications: Change::Keep,
            start_at: Change::Keep,
            end_at: Change::Keep,
        };
        let at = |at| Change::Set(Timestamp(at));
        for (status, start_at, end_at, good) in [
            (Scheduled, at(16_000_000), Change::Keep, true),
            (Scheduled, at(20_000_000), Change::Keep, false),
            (Scheduled, at(30_000_000), at(31_000_000), true),
            (Scheduled, Change::Keep, at(10_000_000), false),
            (InProgress, at(16_000_000), Change::Keep, false),
            (InProgress, at(10_000_000), at(16_000_000), true),
            (InProgress, Change::Keep, at(15_000_000), false),
            (Completed, Change::Keep, Change::Keep, false),
            (Cancelled, Change::Keep, Change::Keep, false),
        ] {
            let edited = window(status).edited(Changes { start_at: start_at.clone(), end_at, ..keep() }, now);
            assert_eq!(edited.is_ok(), good, "{status:?} {start_at:?}");
        }
    }
}
