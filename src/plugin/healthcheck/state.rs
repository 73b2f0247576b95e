//! How runs become a status: kept with each run, so that nothing is read again.

use super::domain::{Check, Health};
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

/// How an association is, and what that depends on as time goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// How it is, by the thresholds.
    pub(super) status: Health,
    /// Since when.
    pub(super) since: Timestamp,
    /// When the last run was due that says something.
    pub(super) last_judged_at: Timestamp,
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
                let failed = newest_first().take_while(|one| *one != 'h').count();
                // So many that work in a row end what was before, also when they are slow.
                let enough = healthy.max(degraded);
                if good >= healthy {
                    Health::Healthy
                } else if down(outcomes, enough) >= unhealthy && outcomes.ends_with('u') {
                    Health::Unhealthy
                } else if (before == Health::Unhealthy && failed > 0 && working >= enough)
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
                } else if before == Health::Unknown && !outcomes.contains('h') {
                    // Too few failures to be bad, and nothing that says it is good.
                    Health::Unknown
                } else {
                    Health::Healthy
                }
            }
        }
    }
}

/// How many did not work since the last good one, or since so many in a row that did work.
fn down(outcomes: &str, enough: usize) -> usize {
    let (mut down, mut working) = (0, 0);
    for one in outcomes.chars().rev().take_while(|one| *one != 'h') {
        if one == 'u' {
            (down, working) = (down + 1, 0);
        } else {
            working += 1;
        }
        if working >= enough {
            break;
        }
    }
    down
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

    /// How it is, without what it was made from.
    #[must_use]
    pub(super) fn standing(&self) -> Standing {
        let Self { status, since, last_judged_at, .. } = *self;
        Standing { status, since, last_judged_at }
    }

    /// How it is as of a time.
    #[must_use]
    pub(super) fn as_of(&self, now: Timestamp, grace_us: i64) -> Health {
        self.standing().as_of(now, grace_us)
    }

    /// The state once it is written down that nothing was heard for too long; `None` if there is nothing to write.
    #[must_use]
    pub(super) fn fallen_silent(self, now: Timestamp, grace_us: i64) -> Option<Self> {
        let standing = self.standing();
        let is_news = self.status != Health::Unknown && standing.is_silent(now, grace_us);
        // What it was before says nothing about what comes.
        let (since, outcomes) = (standing.silent_at(grace_us), String::new());
        is_news.then_some(Self { status: Health::Unknown, since, outcomes, ..self })
    }

    /// Whether a run that was due at a time comes behind what the state was made from. A heartbeat that is missing can be
    /// noticed before a report comes and be stored after it; then the report is the newer of the two.
    #[must_use]
    pub(super) fn is_before(&self, at: Timestamp) -> bool {
        at > self.last_judged_at
    }
}

impl Standing {
    /// How it is as of a time: unknown when nothing was heard for longer than the grace.
    #[must_use]
    pub(super) fn as_of(self, now: Timestamp, grace_us: i64) -> Health {
        if self.is_silent(now, grace_us) { Health::Unknown } else { self.status }
    }

    /// Since when it is as it is as of a time.
    #[must_use]
    pub(super) fn since_as_of(self, now: Timestamp, grace_us: i64) -> Timestamp {
        let was_known = self.status != Health::Unknown;
        if was_known && self.is_silent(now, grace_us) { self.silent_at(grace_us) } else { self.since }
    }

    fn is_silent(self, now: Timestamp, grace_us: i64) -> bool {
        now.0.saturating_sub(self.last_judged_at.0) > grace_us
    }

    fn silent_at(self, grace_us: i64) -> Timestamp {
        Timestamp(self.last_judged_at.0.saturating_add(grace_us))
    }
}

/// How often a check is heard of, at the slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, sqlx::FromRow)]
pub(super) struct Patience {
    /// Seconds from one run to the next.
    pub(super) interval_s: i64,
    /// How long a look may take.
    pub(super) timeout_ms: i64,
    /// How often a failed look is repeated.
    pub(super) retries: i64,
    /// How long before the first repetition; each further one waits twice as long.
    pub(super) retry_backoff_ms: i64,
}

impl Patience {
    #[must_use]
    pub(super) fn of(check: &Check) -> Self {
        let Check { interval_s, timeout_ms, retries, retry_backoff_ms, .. } = *check;
        Self { interval_s, timeout_ms, retries, retry_backoff_ms }
    }

    /// How long a check may be silent before nobody knows how it is: three intervals, at least 90 s, and what a run takes,
    /// for it is heard of when it is over. One that takes longer than the interval is followed that much later by the next.
    /// A heartbeat that is silent is not unknown, it is late.
    #[must_use]
    pub(super) fn grace_us(&self, strategy: &str) -> i64 {
        const LEAST_US: i64 = 90_000_000;
        if strategy == super::HEARTBEAT {
            return i64::MAX;
        }
        let (interval, longest) = (self.interval_s.saturating_mul(1_000_000), self.longest_us());
        let overrun = (longest - interval).max(0);
        interval.saturating_mul(3).max(LEAST_US).saturating_add(longest).saturating_add(overrun)
    }

    /// How long a run takes at most: all its looks, as far as they begin before the next run is due.
    fn longest_us(&self) -> i64 {
        let doubled = (1_i64 << self.retries.clamp(0, 16)) - 1;
        let looks = self.timeout_ms.saturating_mul(self.retries.saturating_add(1));
        let all = looks.saturating_add(self.retry_backoff_ms.saturating_mul(doubled));
        all.min(self.timeout_ms.max(self.interval_s.saturating_mul(1_000))).saturating_mul(1_000)
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
            (defaults, "huuuuudduuuu", Degraded),
            (defaults, "huuuuudduuuuu", Unhealthy),
            (window, "u", Unknown),
            (window, "uh", Healthy),
            (window, "d", Unknown),
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

        /// Two outcomes that take turns lead to one status and stay there, whatever was before, as long as a single run is
        /// not enough to change it.
        #[test]
        fn what_alternates_settles(
            past in "[hdu]{0,20}", pair in prop::sample::select(vec!["uh", "dh", "ud"]), size in 3_usize..20,
            healthy in 1_usize..4, degraded in 1_usize..6, more in 0_usize..6, windowed: bool,
        ) {
            let unhealthy = degraded + more;
            prop_assume!(degraded > 1 && (!windowed || unhealthy <= size));
            let thresholds = if windowed { Thresholds::Window { size, degraded, unhealthy } }
                else { Thresholds::Consecutive { healthy, degraded, unhealthy } };
            let seen = word(&format!("{past}{}", pair.repeat(60)), thresholds);
            // By then every count has seen as much of it as it ever will.
            let settled = &seen[past.len() + 60..];
            prop_assert!(settled.iter().all(|one| Some(one) == settled.last()), "{settled:?} by {thresholds:?}");
        }

        /// On its way to there it changes in one direction only.
        #[test]
        fn a_window_that_fills_does_not_go_back_and_forth(
            size in 3_usize..40, degraded in 2_usize..20, more in 0_usize..20,
            pair in prop::sample::select(vec!["uh", "hu", "dh", "hd", "ud", "du"]),
        ) {
            let unhealthy = degraded + more;
            prop_assume!(unhealthy <= size);
            let seen = word(&format!("h{}", pair.repeat(60)), Thresholds::Window { size, degraded, unhealthy });
            let mut changes = seen.windows(2).filter(|two| two[0] != two[1]);
            prop_assert!(changes.all(|two| two[0].severity() < two[1].severity()), "{seen:?}");
        }
    }

    #[test]
    fn the_grace_is_longer_than_the_silence_between_two_runs() {
        let patience =
            |interval_s, timeout_ms, retries| Patience { interval_s, timeout_ms, retries, retry_backoff_ms: 1_000 };
        for (of, seconds) in [
            (patience(30, 30_000, 0), 90 + 30),
            (patience(30, 30_000, 2), 90 + 30),
            (patience(60, 10_000, 2), 180 + 33),
            (patience(30, 60_000, 2), 90 + 60 + 30),
            (patience(1, 300_000, 5), 90 + 300 + 299),
            (patience(3_600, 30_000, 5), 10_800 + 180 + 31),
        ] {
            assert_eq!(of.grace_us("http"), seconds * 1_000_000, "{of:?}");
            assert_eq!(of.grace_us(crate::plugin::healthcheck::HEARTBEAT), i64::MAX);
            // Due, over when the run was, and the next only then: so long is silence with every run in its place.
            let (longest, interval) = (of.longest_us(), of.interval_s * 1_000_000);
            let begins_after = (longest + interval - 1) / interval * interval;
            assert!(of.grace_us("http") > begins_after.max(interval) + longest, "{of:?}");
        }
    }

    #[test]
    fn who_has_fallen_silent_is_written_down_once() {
        let state = State::after(None, Healthy, Timestamp(5), Thresholds::default(), GRACE);
        assert_eq!(state.clone().fallen_silent(Timestamp(5 + GRACE), GRACE), None);
        let now = Timestamp(6 + GRACE);
        let silent = state.clone().fallen_silent(now, GRACE).unwrap();
        assert_eq!((silent.status, silent.since, silent.outcomes.as_str()), (Unknown, Timestamp(5 + GRACE), ""));
        assert_eq!(
            (state.standing().since_as_of(now, GRACE), silent.standing().since_as_of(now, GRACE)),
            (silent.since, silent.since)
        );
        assert_eq!(silent.fallen_silent(Timestamp(7 + GRACE), GRACE), None);
    }
}
