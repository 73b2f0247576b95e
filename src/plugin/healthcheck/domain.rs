//! What a health check is, how a run becomes a status, and the rules.

use crate::contract::Row;
use crate::database::Timestamp;
use crate::database::id::id;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::incident::domain::Severity;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

id! {
    /// A health check.
    CheckId
}

/// How something is; also what came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Healthy,
    /// It works, but not as it should.
    Degraded,
    /// It does not work.
    Unhealthy,
    /// Nobody knows.
    Unknown,
}

impl Health {
    /// The worst of several; `Unknown` says nothing, and without any that says something nobody knows.
    #[must_use]
    pub fn worst(all: impl IntoIterator<Item = Self>) -> Self {
        let known = all.into_iter().filter(|one| *one != Self::Unknown);
        known.max_by_key(|one| one.severity()).unwrap_or(Self::Unknown)
    }

    /// The word on the wire.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn severity(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Healthy => 1,
            Self::Degraded => 2,
            Self::Unhealthy => 3,
        }
    }

    pub(super) fn letter(self) -> Option<char> {
        match self {
            Self::Healthy => Some('h'),
            Self::Degraded => Some('d'),
            Self::Unhealthy => Some('u'),
            Self::Unknown => None,
        }
    }
}

/// A health check.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Check {
    /// Its id.
    pub id: CheckId,
    /// What people call it.
    pub name: String,
    /// More about it.
    pub description: Option<String>,
    /// Its kind.
    pub strategy_id: String,
    /// The settings without secrets, JSON.
    pub config: String,
    /// The secrets, sealed.
    pub secrets: Option<String>,
    /// What must hold, JSON.
    pub assertions: String,
    /// Seconds from one run to the next.
    pub interval_s: i64,
    /// How long a look may take.
    pub timeout_ms: i64,
    /// How often a failed look is repeated.
    pub retries: i64,
    /// How long before the first repetition.
    pub retry_backoff_ms: i64,
    /// A good run that takes longer is degraded.
    pub degraded_above_ms: Option<i64>,
    /// Whether it does not run at present.
    pub paused: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A check of a system.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Association {
    /// Its number, which its runs are kept by.
    pub number: i64,
    /// The check.
    pub check_id: CheckId,
    /// The name of the check.
    pub check_name: String,
    /// The system.
    pub system_id: SystemId,
    /// Whether it runs and counts.
    pub enabled: bool,
    /// JSON of [`Thresholds`].
    pub thresholds: Option<String>,
    /// JSON of [`IncidentPolicy`].
    pub incident_policy: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Row for Check {
    fn position(&self) -> String {
        self.id.to_string()
    }

    fn bytes(&self) -> usize {
        let texts = [&self.name, &self.config, &self.assertions, &self.strategy_id];
        texts.iter().map(|text| text.len()).sum::<usize>() + self.description.as_ref().map_or(0, String::len)
    }
}

impl Row for Association {
    fn position(&self) -> String {
        self.number.to_string()
    }

    fn bytes(&self) -> usize {
        self.check_name.len() + self.thresholds.as_ref().map_or(0, String::len)
    }
}

/// Whether failing opens an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentPolicy {
    /// From which status on.
    pub open_on: Health,
    /// How bad it is.
    pub severity: SeverityWord,
    /// Whether it is resolved when the check is healthy again.
    pub auto_resolve: bool,
}

/// The severity of an incident, as it is stored in a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeverityWord {
    /// Hardly anybody notices.
    Minor,
    /// Many notice.
    Major,
    /// It does not work.
    Critical,
}

impl From<SeverityWord> for Severity {
    fn from(word: SeverityWord) -> Self {
        match word {
            SeverityWord::Minor => Self::Minor,
            SeverityWord::Major => Self::Major,
            SeverityWord::Critical => Self::Critical,
        }
    }
}

impl IncidentPolicy {
    /// Reads what was stored.
    #[must_use]
    pub fn stored(text: Option<&str>) -> Option<Self> {
        text.and_then(|text| serde_json::from_str(text).ok())
    }

    /// Whether this status is bad enough.
    #[must_use]
    pub fn opens_on(&self, status: Health) -> bool {
        status != Health::Unknown && status.severity() >= self.open_on.severity()
    }
}

/// Why a run took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// It was due.
    Scheduled,
    /// Somebody wanted it now.
    Wanted,
    /// It was reported.
    Reported,
}

impl RunKind {
    /// As it is stored.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Scheduled => 0,
            Self::Wanted => 1,
            Self::Reported => 2,
        }
    }

    /// Reads what [`Self::number`] made.
    #[must_use]
    pub fn numbered(number: i64) -> Self {
        match number {
            1 => Self::Wanted,
            2 => Self::Reported,
            _ => Self::Scheduled,
        }
    }
}

/// The id of a run says which it is, so that no index of ids is needed: the time for which it was due in milliseconds,
/// as in a `UUIDv7`, then the number of its association and the microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId {
    /// The number of the association.
    pub association: i64,
    /// When it was due.
    pub scheduled_at: Timestamp,
}

const NUMBER_BITS: u32 = 52;
const MICROS_BITS: u32 = 10;

impl RunId {
    /// The id as it is shown.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        let micros = u64::try_from(self.scheduled_at.0).unwrap_or_default();
        let (millis, rest) = (micros / 1_000, micros % 1_000);
        let number = u64::try_from(self.association).unwrap_or_default() & ((1 << NUMBER_BITS) - 1);
        let low = (number << MICROS_BITS) | rest;
        let high = (millis << 16) | 0x7000;
        Uuid::from_u64_pair(high, (1 << 63) | low)
    }

    /// Reads what [`Self::uuid`] made.
    #[must_use]
    pub fn parse(id: Uuid) -> Option<Self> {
        let (high, low) = id.as_u64_pair();
        let (millis, low) = (high >> 16, low & ((1 << 62) - 1));
        let micros = millis.checked_mul(1_000)?.checked_add(low & ((1 << MICROS_BITS) - 1))?;
        let found = Self {
            association: i64::try_from(low >> MICROS_BITS).ok()?,
            scheduled_at: Timestamp(i64::try_from(micros).ok()?),
        };
        (found.uuid() == id).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_run_is_found_by_its_id(association in 0_i64..(1 << 52), at in 0_i64..(1 << 57)) {
            let id = RunId { association, scheduled_at: Timestamp(at) };
            prop_assert_eq!(RunId::parse(id.uuid()), Some(id));
            prop_assert_eq!(id.uuid().get_version_num(), 7);
        }
    }
}
