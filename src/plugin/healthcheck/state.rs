//! How runs become a status: kept with each run, so that nothing is read again.

use super::domain::Health;
use crate::database::Timestamp;
use crate::plugin::incident::domain::IncidentId;
use serde::{Deserialize, Serialize};

/// What is kept of the runs of an association.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct State {
    /// How it is, by the thresholds.
    pub(super) status: Health,
    /// Since when.
    pub(super) since: Timestamp,
    /// The last outcomes that say something, newest last.
    pub(super) outcomes: String,
    /// When the last run was due.
    pub(super) last_run_at: Timestamp,
    /// The same of the last that says something.
    pub(super) last_judged_at: Timestamp,
    /// The incident that is open because of it.
    pub(super) incident_id: Option<IncidentId>,
}

/// So many outcomes are kept, and counted at most.
pub(super) const OUTCOMES_MAX: usize = 100;

/// When the status of a check changes. The defaults are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub(super) enum Thresholds {
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
    pub(super) fn stored(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The same for a check of some kind: a heartbeat that is missing is one failure that says it all.
    #[must_use]
    pub(super) fn of(strategy: &str, text: Option<&str>) -> Self {
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
    pub(super) fn status(&self, before: Health, outcomes: &str) -> Health {
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
                } else if down >= unhealthy && outcomes.ends_with('u') {
                    Health::Unhealthy
                } else if (before == Health::Unhealthy && failed > 0 && working >= healthy.max(degraded))
                    || (before != Health::Unhealthy && failed >= degraded)
                {
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

impl State {
    /// The state after a run that was due at a time, from the one before.
    #[must_use]
    pub(super) fn after(
        before: Option<Self>,
        verdict: Health,
        at: Timestamp,
        thresholds: Thresholds,
        grace_us: i64,
    ) -> Self {
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
    pub(super) fn as_of(&self, now: Timestamp, grace_us: i64) -> Health {
        let silent_for = now.0.saturating_sub(self.last_judged_at.0);
        if silent_for > grace_us { Health::Unknown } else { self.status }
    }
}

/// How long a check may be silent before nobody knows how it is: three intervals, and at least 90 s. A
/// heartbeat that is silent is not unknown, it is late.
#[must_use]
pub(super) fn grace_us(strategy: &str, interval_s: i64) -> i64 {
    const LEAST_S: i64 = 90;
    if strategy == super::HEARTBEAT {
        return i64::MAX;
    }
    interval_s.saturating_mul(3).max(LEAST_S).saturating_mul(1_000_000)
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
            let next =
                State::after(state, verdict, Timestamp(i64::try_from(at).unwrap() * 1_000_000), thresholds, GRACE);
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
    }
}
