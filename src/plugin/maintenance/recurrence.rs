//! When the windows of a series start: an RRULE of RFC 5545 in a time zone, followed for a bounded way.
//!
//! The rule is a stranger's. What it may cost is bounded before the first step: its length by the contract, the times of a
//! day that it names here, the steps from one occurrence to the next by the crate, and the occurrences here. It is followed
//! on the pool for blocking work all the same, where a panic of the crate ends nothing but the call.

use super::domain::Series;
use crate::contract::issue::{Issues, Path};
use crate::database::Timestamp;
use crate::error::{Error, Result};
use chrono::DateTime;
use rrule::{Frequency, RRule, RRuleSet, Tz, Unvalidated};

/// Windows are made this far ahead, in microseconds: 90 days, a quarter of planning.
const AHEAD_US: i64 = 90 * DAY_US;

/// A day in microseconds.
pub(super) const DAY_US: i64 = 24 * 3_600 * 1_000_000;

/// At most this many windows are made ahead: of an hourly rule they are four days.
const AHEAD_MAX: usize = 100;

/// More are made when the windows ahead are down to this many.
const AHEAD_LOW: usize = 50;

/// A series ends after this many occurrences, which are eleven years of an hourly one: each look follows the rule from its
/// beginning, for only so does it count right.
const OCCURRENCES_MAX: usize = 100_000;

/// An hourly rule at every minute would be what `MINUTELY` is refused for.
const TIMES_MAX: usize = 24;

/// Overlaps show early, or with a change of daylight saving: a year of a daily rule.
const COMPARED: usize = 400;

/// What to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Starts, in order.
    pub(super) starts: Vec<Timestamp>,
    /// When to look for more; `None`: there are no more.
    pub(super) extend_at: Option<Timestamp>,
}

/// Checks a new series and says which windows to make of it at once.
pub(super) async fn first_plan(series: Series, now: Timestamp) -> Result<Plan> {
    off_thread(move || {
        let rule = Rule::of(&series)?;
        if series.start_at.0 < now.0.saturating_sub(DAY_US) {
            return Err(Error::Invalid(Issues::one("startAt", "A series must not start more than a day ago")));
        }
        rule.check(&series)?;
        Ok(rule.plan(None, now))
    })
    .await
}

/// Which windows to make of a series that has some.
pub(super) async fn next_plan(series: Series, now: Timestamp) -> Result<Plan> {
    off_thread(move || Ok(Rule::of(&series)?.plan(Some(series.made_until), now))).await
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(wrong("rrule", "Cannot be followed")))
}

/// A rule that can be followed.
struct Rule {
    set: RRuleSet,
    /// The crate counts in seconds; what the start has beyond them is added again.
    micros: i64,
}

impl Rule {
    fn of(series: &Series) -> Result<Self> {
        let zone: Result<chrono_tz::Tz, _> = series.time_zone.parse();
        let zone =
            zone.map_err(|_| wrong("timeZone", "Is not a time zone of the IANA database, like Europe/Berlin"))?;
        let start = DateTime::from_timestamp(series.start_at.0.div_euclid(1_000_000), 0);
        let start = start.ok_or_else(|| wrong("rrule", "Cannot be followed"))?.with_timezone(&Tz::Tz(zone));
        // The crate would read other lines of a calendar, too.
        if series.rrule.contains([':', '\n', '\r']) {
            return Err(wrong("rrule", "Is not a recurrence rule, like FREQ=WEEKLY;BYDAY=SU"));
        }
        if !has_good_until(&series.rrule) {
            return Err(wrong("rrule", "UNTIL must be a time in UTC, like 20270101T000000Z"));
        }
        let rule: RRule<Unvalidated> = series.rrule.parse().map_err(|why| wrong("rrule", format!("{why}")))?;
        let times = [rule.get_by_hour(), rule.get_by_minute(), rule.get_by_second()].map(|of| of.len().max(1));
        match rule.get_freq() {
            Frequency::Yearly | Frequency::Monthly | Frequency::Weekly | Frequency::Daily | Frequency::Hourly => {}
            Frequency::Minutely | Frequency::Secondly => {
                return Err(wrong("rrule", "A window repeats hourly or more rarely"));
            }
        }
        if times.iter().product::<usize>() > TIMES_MAX {
            return Err(wrong("rrule", format!("Must not name more than {TIMES_MAX} times of a day")));
        }
        if series.rrule.to_ascii_uppercase().contains("BYEASTER") {
            return Err(wrong("rrule", "BYEASTER is not part of RFC 5545"));
        }
        let set = rule.build(start).map_err(|why| wrong("rrule", format!("{why}")))?;
        Ok(Self { set: set.limit(), micros: series.start_at.0.rem_euclid(1_000_000) })
    }

    fn occurrences(&self) -> impl Iterator<Item = Timestamp> {
        let start = |at: DateTime<Tz>| Timestamp(at.timestamp().saturating_mul(1_000_000).saturating_add(self.micros));
        self.set.into_iter().take(OCCURRENCES_MAX).map(start)
    }

    fn check(&self, series: &Series) -> Result<()> {
        let starts: Vec<_> = self.occurrences().take(COMPARED).collect();
        match starts.first() {
            None => return Err(wrong("rrule", "Has no occurrence")),
            Some(first) if *first != series.start_at => {
                return Err(wrong("rrule", format!("startAt is not its first occurrence, which is {first}")));
            }
            Some(_) => {}
        }
        let overlaps = starts.iter().zip(starts.iter().skip(1)).any(|(one, next)| next.0 - one.0 < series.duration_us);
        if overlaps {
            return Err(wrong("rrule", "The windows would overlap: they are longer than the time between them"));
        }
        Ok(())
    }

    /// What is not made yet: what was missed while nobody looked, and what is ahead. The first is made however far it is.
    fn plan(&self, made_until: Option<Timestamp>, now: Timestamp) -> Plan {
        let (mut starts, mut ahead): (Vec<Timestamp>, Vec<Timestamp>) = (vec![], vec![]);
        for at in self.occurrences() {
            let is_made = made_until.is_some_and(|made| at <= made);
            if !is_made {
                let is_first = made_until.is_none() && starts.is_empty();
                if !is_first && at.0 > now.0.saturating_add(AHEAD_US) {
                    // Once a day is enough to keep the way ahead filled.
                    let extend_at = Timestamp(at.0 - AHEAD_US).max(Timestamp(now.0.saturating_add(DAY_US)));
                    return Plan { starts, extend_at: Some(extend_at) };
                }
                if ahead.len() >= AHEAD_MAX {
                    let low = ahead.iter().nth_back(AHEAD_LOW).copied().unwrap_or(now);
                    return Plan { starts, extend_at: Some(low) };
                }
                if starts.len() >= AHEAD_MAX {
                    return Plan { starts, extend_at: Some(now) };
                }
                starts.push(at);
            }
            if at > now {
                ahead.push(at);
            }
        }
        Plan { starts, extend_at: None }
    }
}

/// Whether `UNTIL`, if it is there, has the form that RFC 5545 (section 3.3.10) asks for where the start is a time in a zone.
fn has_good_until(rrule: &str) -> bool {
    let upper = rrule.to_ascii_uppercase();
    let mut untils = upper.split(';').filter_map(|part| part.trim().strip_prefix("UNTIL="));
    untils.all(|until| {
        let form: String = until.chars().map(|one| if one.is_ascii_digit() { '0' } else { one }).collect();
        form == "00000000T000000Z"
    })
}

fn wrong(key: &str, message: impl Into<String>) -> Error {
    let (mut issues, mut path) = (Issues::default(), Path::default());
    path.push_key("recurrence");
    path.push_key(key);
    issues.add(&path, message);
    Error::Invalid(issues)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::actor::{Actor, ActorKind};
    use crate::plugin::maintenance::domain::SeriesId;

    fn time(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn series(rrule: &str, zone: &str, start: &str, minutes: i64) -> Series {
        Series {
            id: SeriesId(uuid::Uuid::nil()),
            rrule: rrule.into(),
            time_zone: zone.into(),
            start_at: time(start),
            duration_us: minutes * 60_000_000,
            title: "t".into(),
            description: None,
            suppress_notifications: false,
            made_until: time(start),
            extend_at: None,
            created_by: Actor { kind: ActorKind::Server, id: "server".into(), name: "a test".into() },
            created_at: time(start),
        }
    }

    fn refusal(series: &Series) -> Option<String> {
        Rule::of(series).and_then(|rule| rule.check(series)).err().map(|why| why.to_string())
    }

    #[test]
    fn a_time_of_day_stays_across_daylight_saving() {
        for (zone, start, expected) in [
            // Clocks go forward on 2026-03-29, and back on 2026-10-25.
            ("Europe/Berlin", "2026-03-22T03:00:00Z", ["2026-03-22T03:00:00Z", "2026-03-29T02:00:00Z"]),
            ("Europe/Berlin", "2026-10-18T02:00:00Z", ["2026-10-18T02:00:00Z", "2026-10-25T03:00:00Z"]),
            // 2026-03-08 and 2026-11-01.
            ("America/New_York", "2026-03-01T09:00:00Z", ["2026-03-01T09:00:00Z", "2026-03-08T08:00:00Z"]),
            ("America/New_York", "2026-10-25T08:00:00Z", ["2026-10-25T08:00:00Z", "2026-11-01T09:00:00Z"]),
            // What the clocks skip is as long after midnight: 02:30 becomes 03:30.
            ("Europe/Berlin", "2026-03-22T01:30:00Z", ["2026-03-22T01:30:00Z", "2026-03-29T01:30:00Z"]),
            // Of what they show twice it is the first.
            ("Europe/Berlin", "2026-10-18T00:30:00Z", ["2026-10-18T00:30:00Z", "2026-10-25T00:30:00Z"]),
        ] {
            let rule = Rule::of(&series("FREQ=WEEKLY", zone, start, 60)).unwrap();
            let found: Vec<_> = rule.occurrences().take(2).collect();
            assert_eq!(found, expected.map(time), "{zone} {start}");
        }
    }

    #[test]
    fn what_makes_no_series_is_refused_in_words() {
        let start = "2026-01-05T10:00:00.250Z";
        for (rrule, zone, minutes, word) in [
            ("FREQ=WEEKLY", "Europe/Berlin", 60, ""),
            ("FREQ=DAILY;COUNT=3", "UTC", 60, ""),
            ("FREQ=HOURLY", "UTC", 60, ""),
            ("FREQ=WEEKLY", "Europe/Nowhere", 60, "timeZone"),
            ("every day", "UTC", 60, "rrule"),
            ("FREQ=DAILY\nRDATE:20260101T000000Z", "UTC", 60, "recurrence rule"),
            ("FREQ=MINUTELY;INTERVAL=90", "UTC", 60, "hourly"),
            ("FREQ=SECONDLY", "UTC", 60, "hourly"),
            ("FREQ=DAILY;INTERVAL=0", "UTC", 60, "rrule"),
            ("FREQ=DAILY;UNTIL=20270101T000000Z", "Europe/Berlin", 60, ""),
            ("FREQ=DAILY;UNTIL=20270101", "UTC", 60, "UNTIL must be a time in UTC"),
            ("UNTIL=20270101T000000;FREQ=DAILY", "Europe/Berlin", 60, "UNTIL must be a time in UTC"),
            ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "UTC", 60, "no occurrence"),
            ("FREQ=WEEKLY;BYDAY=TU", "UTC", 60, "startAt"),
            ("FREQ=DAILY", "UTC", 24 * 60 + 1, "overlap"),
            ("FREQ=HOURLY;BYMINUTE=0,30", "UTC", 40, "overlap"),
            // The day on which the clocks go forward has 23 hours.
            ("FREQ=DAILY", "Europe/Berlin", 24 * 60, "overlap"),
            ("FREQ=YEARLY;BYHOUR=0,1,2,3,4;BYMINUTE=1,2,3,4,5", "UTC", 1, "times of a day"),
        ] {
            let found = refusal(&series(rrule, zone, start, minutes));
            assert_eq!(found.is_some(), !word.is_empty(), "{rrule}: {found:?}");
            assert!(found.unwrap_or_default().contains(word), "{rrule}");
        }
    }

    #[test]
    fn what_is_ahead_is_bounded_and_refilled_without_gaps() {
        for (rrule, most) in [("FREQ=DAILY", 91), ("FREQ=HOURLY", 100), ("FREQ=YEARLY", 1), ("FREQ=DAILY;COUNT=5", 5)] {
            let series = series(rrule, "UTC", "2026-01-05T10:00:00Z", 30);
            let (rule, mut now) = (Rule::of(&series).unwrap(), time("2026-01-05T10:00:00Z"));
            let first = rule.plan(None, Timestamp(now.0 - 1));
            assert!(first.starts.len() <= most, "{rrule}: {}", first.starts.len());
            let (mut made, mut extend_at) = (first.starts, first.extend_at);
            for _ in 0..20 {
                let Some(at) = extend_at else { break };
                now = now.max(at);
                let more = rule.plan(made.last().copied(), now);
                made.extend(more.starts);
                extend_at = more.extend_at;
                let ahead = made.iter().filter(|start| **start > now).count();
                assert!(ahead <= AHEAD_MAX, "{rrule}: {ahead}");
            }
            let expected: Vec<_> = rule.occurrences().take(made.len()).collect();
            assert_eq!(made, expected, "{rrule}");
        }
    }

    #[test]
    fn a_server_that_was_away_makes_what_it_missed_in_parts() {
        let series = series("FREQ=DAILY", "UTC", "2026-01-05T10:00:00Z", 30);
        let (rule, now) = (Rule::of(&series).unwrap(), time("2027-01-05T10:00:00Z"));
        let plan = rule.plan(Some(series.start_at), now);
        assert_eq!((plan.starts.len(), plan.extend_at), (AHEAD_MAX, Some(now)));
    }
}
