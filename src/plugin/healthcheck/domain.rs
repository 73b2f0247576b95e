//! What a health check is, how a run becomes a status, and the rules.

use crate::contract::Row;
use crate::database::Timestamp;
use crate::database::id::id;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::incident::domain::{IncidentId, Severity};
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

    fn severity(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Healthy => 1,
            Self::Degraded => 2,
            Self::Unhealthy => 3,
        }
    }

    fn letter(self) -> Option<char> {
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

/// What is kept of the runs of an association.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct State {
    /// How it is, by the thresholds.
    pub status: Health,
    /// Since when.
    pub since: Timestamp,
    /// The last outcomes that say something, newest last.
    pub outcomes: String,
    /// When the last run was due.
    pub last_run_at: Timestamp,
    /// The same of the last that says something.
    pub last_judged_at: Timestamp,
    /// The incident that is open because of it.
    pub incident_id: Option<IncidentId>,
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

/// So many outcomes are kept, and counted at most.
pub const OUTCOMES_MAX: usize = 100;

/// When the status of a check changes. The defaults are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Thresholds {
    /// Runs in a row are counted.
    Consecutive {
        /// So many good ones make it healthy.
        healthy: usize,
        /// So many failures make it degraded.
        degraded: usize,
        /// So many failures make it unhealthy.
        unhealthy: usize,
    },
    /// Failures among the last runs are counted.
    Window {
        /// Among so many.
        size: usize,
        /// So many make it degraded.
        degraded: usize,
        /// So many make it unhealthy.
        unhealthy: usize,
    },
}

impl Default for Thresholds {
    fn default() -> Self {
        Self::Consecutive { healthy: 1, degraded: 2, unhealthy: 5 }
    }
}

impl Thresholds {
    /// Reads what was stored; nothing, or what cannot be read any more, is the defaults.
    #[must_use]
    pub fn stored(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The same for a check of some kind: a heartbeat that is missing is one failure that says it all.
    #[must_use]
    pub fn of(strategy: &str, text: Option<&str>) -> Self {
        match text {
            None if strategy == super::HEARTBEAT => Self::Consecutive { healthy: 1, degraded: 1, unhealthy: 1 },
            _ => Self::stored(text),
        }
    }

    /// The status after some outcomes, newest last, of which the newest is new.
    ///
    /// Below a threshold the status before is kept. A slow run is a failure, but many of them are not as bad as one that
    /// does not work: they lead to degraded, and out of unhealthy.
    #[must_use]
    pub fn status(&self, before: Health, outcomes: &str) -> Health {
        let newest_first = || outcomes.chars().rev();
        match *self {
            Self::Consecutive { healthy, degraded, unhealthy } => {
                let good = newest_first().take_while(|one| *one == 'h').count();
                let working = newest_first().take_while(|one| *one != 'u').count();
                let failures = newest_first().take_while(|one| *one != 'h');
                let (failed, down) =
                    failures.fold((0, 0), |(all, down), one| (all + 1, down + usize::from(one == 'u')));
                if good >= healthy {
                    Health::Healthy
                } else if down >= unhealthy {
                    Health::Unhealthy
                } else if before == Health::Unhealthy && failed > 0 && working >= healthy.max(degraded) {
                    Health::Degraded
                } else if failed >= degraded && before != Health::Unhealthy {
                    Health::Degraded
                } else {
                    before
                }
            }
            Self::Window { size, degraded, unhealthy } => {
                let counted = |which: fn(char) -> bool| newest_first().take(size).filter(|one| which(*one)).count();
                let (failed, down) = (counted(|one| one != 'h'), counted(|one| one == 'u'));
                // Left two below where it is entered, so that a count that goes up and down by one does not flap.
                let leaves = |count: usize, enters: usize| count == 0 || count + 2 <= enters;
                if down >= unhealthy || (before == Health::Unhealthy && !leaves(down, unhealthy)) {
                    Health::Unhealthy
                } else if failed >= degraded
                    || (matches!(before, Health::Degraded | Health::Unhealthy) && !leaves(failed, degraded))
                {
                    Health::Degraded
                } else {
                    Health::Healthy
                }
            }
        }
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

impl State {
    /// The state after a run that was due at a time, from the one before.
    #[must_use]
    pub fn after(before: Option<Self>, verdict: Health, at: Timestamp, thresholds: Thresholds, grace_us: i64) -> Self {
        let new = || Self {
            status: Health::Unknown,
            since: at,
            outcomes: String::new(),
            last_run_at: at,
            last_judged_at: Timestamp(i64::MIN),
            incident_id: None,
        };
        let mut state = before.unwrap_or_else(new);
        let was = state.as_of(at, grace_us);
        state.last_run_at = state.last_run_at.max(at);
        let Some(letter) = verdict.letter() else {
            return state;
        };
        if was == Health::Unknown && state.status != Health::Unknown {
            // What it was before it fell silent says nothing about now.
            state.outcomes.clear();
        }
        state.outcomes.push(letter);
        let too_many = state.outcomes.len().saturating_sub(OUTCOMES_MAX);
        state.outcomes.drain(..too_many);
        state.last_judged_at = state.last_judged_at.max(at);
        let status = thresholds.status(was, &state.outcomes);
        if status != state.status {
            (state.status, state.since) = (status, at);
        }
        state
    }

    /// How it is as of a time: unknown when nothing was heard for longer than the grace.
    #[must_use]
    pub fn as_of(&self, now: Timestamp, grace_us: i64) -> Health {
        let silent_for = now.0.saturating_sub(self.last_judged_at.0);
        if silent_for > grace_us { Health::Unknown } else { self.status }
    }
}

/// How long a check may be silent before nobody knows how it is: three intervals, and at least 90 s. A
/// heartbeat that is silent is not unknown, it is late.
#[must_use]
pub fn grace_us(strategy: &str, interval_s: i64) -> i64 {
    const LEAST_S: i64 = 90;
    if strategy == super::HEARTBEAT {
        return i64::MAX;
    }
    interval_s.saturating_mul(3).max(LEAST_S).saturating_mul(1_000_000)
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
    use Health::{Degraded, Healthy, Unhealthy, Unknown};
    use proptest::prelude::*;

    const GRACE: i64 = 90_000_000;

    /// The status after each of these outcomes, a second apart.
    fn word(outcomes: &str, thresholds: Thresholds) -> Vec<Health> {
        let mut state = None;
        let mut seen = vec![];
        for (at, one) in outcomes.chars().enumerate() {
            let verdict = match one {
                'h' => Healthy,
                'd' => Degraded,
                'u' => Unhealthy,
                _ => Unknown,
            };
            let next = State::after(state, verdict, Timestamp(at as i64 * 1_000_000), thresholds, GRACE);
            seen.push(next.as_of(next.last_run_at, GRACE));
            state = Some(next);
        }
        seen
    }

    #[test]
    fn the_status_follows_the_table() {
        let defaults = Thresholds::default();
        let three = Thresholds::Consecutive { healthy: 3, degraded: 2, unhealthy: 5 };
        let window = Thresholds::Window { size: 10, degraded: 3, unhealthy: 7 };
        for (thresholds, outcomes, expected) in [
            (defaults, "u", Unknown),
            (defaults, "h", Healthy),
            (defaults, "hu", Healthy),
            (defaults, "huu", Degraded),
            (defaults, "huuuu", Degraded),
            (defaults, "huuuuu", Unhealthy),
            (defaults, "huuuuuu", Unhealthy),
            (defaults, "huuuuuh", Healthy),
            (defaults, "hdddddddd", Degraded),
            (defaults, "huuuuuddd", Degraded),
            (defaults, "huuuuuudu", Unhealthy),
            (defaults, "h????", Healthy),
            (three, "h", Unknown),
            (three, "hhh", Healthy),
            (three, "hhhuuuuuh", Unhealthy),
            (three, "hhhuuuuuhh", Unhealthy),
            (three, "hhhuuuuuhhh", Healthy),
            (three, "hhhuhuhuhuhu", Healthy),
            (window, "u", Healthy),
            (window, "uuu", Degraded),
            (window, "uuuhhhhhhh", Degraded),
            (window, "uuuhhhhhhhh", Degraded),
            (window, "uuuhhhhhhhhh", Healthy),
            (window, "uuuuuuu", Unhealthy),
            (window, "uuuuuuuhhhh", Unhealthy),
            (window, "uuuuuuuhhhhh", Degraded),
        ] {
            assert_eq!(word(outcomes, thresholds).last(), Some(&expected), "{outcomes} by {thresholds:?}");
        }
    }

    #[test]
    fn who_falls_silent_is_unknown_and_begins_anew() {
        let state = State::after(None, Unhealthy, Timestamp(0), Thresholds::default(), GRACE);
        let state = State::after(Some(state), Healthy, Timestamp(1), Thresholds::default(), GRACE);
        assert_eq!(state.as_of(Timestamp(1 + GRACE), GRACE), Healthy);
        assert_eq!(state.as_of(Timestamp(2 + GRACE), GRACE), Unknown);
        let later = State::after(Some(state), Unhealthy, Timestamp(10 * GRACE), Thresholds::default(), GRACE);
        assert_eq!((later.status, later.outcomes.as_str()), (Unknown, "u"));
    }

    #[test]
    fn a_system_is_as_bad_as_the_worst_that_is_known() {
        assert_eq!(Health::worst([]), Unknown);
        assert_eq!(Health::worst([Unknown, Healthy]), Healthy);
        assert_eq!(Health::worst([Healthy, Unhealthy, Degraded]), Unhealthy);
    }

    proptest! {
        /// The longer it fails the worse it is, and what stays below a threshold changes nothing.
        #[test]
        fn severity_never_falls_while_failures_grow(
            past in "[hdu]{0,20}", failures in 1_usize..30, degraded in 1_usize..6, more in 0_usize..6,
            healthy in 1_usize..4, size in 12_usize..30, windowed: bool,
        ) {
            let unhealthy = degraded + more;
            let thresholds = if windowed { Thresholds::Window { size, degraded, unhealthy } }
                else { Thresholds::Consecutive { healthy, degraded, unhealthy } };
            let seen = word(&format!("{past}{}", "u".repeat(failures)), thresholds);
            let tail: Vec<_> = seen.iter().skip(past.len()).map(|one| one.severity()).collect();
            prop_assert!(tail.windows(2).all(|pair| pair[0] <= pair[1]), "{tail:?}");
        }

        #[test]
        fn alternating_within_the_thresholds_does_not_flap(degraded in 2_usize..5, times in 1_usize..40) {
            let thresholds = Thresholds::Consecutive { healthy: 1, degraded, unhealthy: 5 };
            let seen = word(&format!("h{}", "uh".repeat(times)), thresholds);
            prop_assert!(seen.iter().all(|one| *one == Healthy));
        }

        #[test]
        fn a_run_is_found_by_its_id(association in 0_i64..(1 << 52), at in 0_i64..(1 << 57)) {
            let id = RunId { association, scheduled_at: Timestamp(at) };
            prop_assert_eq!(RunId::parse(id.uuid()), Some(id));
            prop_assert_eq!(id.uuid().get_version_num(), 7);
        }
    }
}
