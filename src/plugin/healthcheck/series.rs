//! Buckets of charts: how long they are, and where they begin.

use super::archive::chunk::{DAY_US, HOUR_US, hour_of};
use super::archive::span::Span;
use super::archive::store::Owner;
use super::archive::tally::Tally;
use crate::database::Timestamp;
use chrono::{DateTime, Datelike, Days, NaiveDate, TimeZone};
use chrono_tz::Tz;

const SECOND_US: i64 = 1_000_000;

/// Lengths of buckets in seconds: what people read on a clock, each a part of a day. Beyond a day they are whole days.
const STEPS_S: [i64; 20] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 14_400, 21_600, 28_800, 43_200, 86_400];

/// Ten buckets of these are longer than any time that can be told.
const DAYS_MAX: i64 = 1_000_000;

/// A chart is made from at most so many single runs: they take some 30 MB; beyond it hours do.
pub(super) const RAW_RUNS_MAX: i64 = 500_000;

/// Where buckets begin and end: each at the end of the one before.
#[derive(Debug)]
pub(super) struct Edges {
    at: Vec<Timestamp>,
    /// How long each is; days of a time zone differ.
    pub(super) step_us: i64,
    /// Whether days of UTC are parts of buckets.
    of_whole_days: bool,
    /// Whether hours are.
    of_whole_hours: bool,
    from_runs: bool,
}

/// What a chart is to be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// What it shows.
    pub(super) span: Span,
    /// How many buckets at most.
    pub(super) points: i64,
    /// How long buckets are, if that was said.
    pub(super) step_us: Option<i64>,
    /// By which days begin.
    pub(super) zone: Option<Tz>,
}

impl Wanted {
    /// The least length that does not make too many buckets.
    fn step_us(&self, least_us: i64) -> i64 {
        if let Some(step_us) = self.step_us {
            return step_us.max(least_us);
        }
        let (from, to) = self.span;
        let fits = |step: &i64| to.0.saturating_sub(1).div_euclid(*step) - from.0.div_euclid(*step) < self.points;
        let short = STEPS_S.iter().map(|seconds| seconds * SECOND_US).filter(|step| *step >= least_us).find(fits);
        let days = || (1..DAYS_MAX).map(|days| days * DAY_US).find(fits).unwrap_or(DAYS_MAX * DAY_US);
        short.unwrap_or_else(days)
    }

    /// How long buckets have to be for what is left of an association's history, and so that not too many runs are read.
    fn least_us(&self, owner: &Owner, runs_allowed: bool) -> i64 {
        let first = hour_of(self.span.0);
        if first < owner.archive.hour_from {
            DAY_US
        } else if first < owner.archive.raw_from || !runs_allowed {
            HOUR_US
        } else {
            SECOND_US
        }
    }

    /// The buckets, from single runs only if they may be read.
    pub(super) fn edges(&self, owner: &Owner, runs_allowed: bool) -> Edges {
        let least_us = self.least_us(owner, runs_allowed);
        let step_us = self.step_us(least_us);
        let zone = self.zone.filter(|zone| step_us >= DAY_US && *zone != Tz::UTC);
        let mut at = match zone {
            Some(zone) => days_of(zone, step_us / DAY_US, self.span),
            None => fixed(step_us, self.span),
        };
        if self.span.0 >= self.span.1 {
            at.truncate(1);
        }
        let of_whole_hours = at.iter().all(|at| at.0 % HOUR_US == 0);
        let from_runs = least_us < HOUR_US && (step_us < HOUR_US || !of_whole_hours);
        Edges { of_whole_days: at.iter().all(|at| at.0 % DAY_US == 0), at, step_us, of_whole_hours, from_runs }
    }
}

/// Multiples of a length, counted from 1970.
fn fixed(step_us: i64, (from, to): Span) -> Vec<Timestamp> {
    let (first, end) = (from.0.div_euclid(step_us), to.0.saturating_sub(1).div_euclid(step_us) + 1);
    (first..=end).map(|place| Timestamp(place * step_us)).collect()
}

/// The beginnings of days of a time zone.
fn days_of(zone: Tz, days: i64, (from, to): Span) -> Vec<Timestamp> {
    let date_of = |at: Timestamp| DateTime::from_timestamp_micros(at.0).map(|at| at.with_timezone(&zone).date_naive());
    let Some(mut date) = date_of(from) else { return fixed(DAY_US * days, (from, to)) };
    let over = i64::from(date.num_days_from_ce()).rem_euclid(days);
    date = date.checked_sub_days(Days::new(over.unsigned_abs())).unwrap_or(date);
    let mut found = vec![];
    loop {
        let at = midnight(zone, date);
        found.push(at);
        if at >= to {
            return found;
        }
        let Some(next) = date.checked_add_days(Days::new(days.unsigned_abs())) else { return found };
        date = next;
    }
}

/// When a day begins: where clocks go forward at midnight, an hour later.
fn midnight(zone: Tz, date: NaiveDate) -> Timestamp {
    let local = |hour| date.and_hms_opt(hour, 0, 0).unwrap_or_default();
    let found = (0..24).find_map(|hour| zone.from_local_datetime(&local(hour)).earliest());
    Timestamp(found.map_or_else(|| local(0).and_utc().timestamp_micros(), |at| at.timestamp_micros()))
}

impl Edges {
    pub(super) fn len(&self) -> usize {
        self.at.len().saturating_sub(1)
    }

    pub(super) fn first(&self) -> Timestamp {
        self.at.first().copied().unwrap_or(Timestamp(0))
    }

    pub(super) fn last(&self) -> Timestamp {
        self.at.last().copied().unwrap_or(Timestamp(0))
    }

    /// Whether only single runs tell what is in a bucket.
    pub(super) fn is_from_runs(&self) -> bool {
        self.from_runs
    }

    /// Which bucket a time is in.
    pub(super) fn bucket_of(&self, at: Timestamp) -> i64 {
        i64::try_from(self.at.partition_point(|edge| *edge <= at)).unwrap_or_default() - 1
    }

    pub(super) fn start_of(&self, bucket: i64) -> Timestamp {
        usize::try_from(bucket).ok().and_then(|place| self.at.get(place)).copied().unwrap_or(self.first())
    }

    pub(super) fn end_of(&self, bucket: i64) -> Timestamp {
        usize::try_from(bucket + 1).ok().and_then(|place| self.at.get(place)).copied().unwrap_or(self.last())
    }

    /// Adds to the bucket that a time is in.
    pub(super) fn merge(&self, buckets: &mut [Tally], at: Timestamp, tally: &Tally) {
        let bucket = usize::try_from(self.bucket_of(at)).ok().and_then(|place| buckets.get_mut(place));
        if let Some(bucket) = bucket {
            bucket.merge(tally);
        }
    }

    /// From when until when tallies of days are read, and until when those of hours behind them.
    pub(super) fn tiers(&self, owner: &Owner) -> (Timestamp, Timestamp, Timestamp) {
        let sealed = owner.archive.sealed_until();
        let whole_days = Timestamp(sealed.0.div_euclid(DAY_US) * DAY_US);
        let only_days = Timestamp(owner.archive.hour_from * HOUR_US);
        (self.first(), if self.of_whole_days { whole_days } else { only_days.min(whole_days) }, sealed)
    }

    /// Before this time a bucket is made from pieces that do not quite fit.
    pub(super) fn approximate_before(&self, owner: &Owner) -> Option<Timestamp> {
        if self.of_whole_days || self.from_runs {
            return None;
        }
        let (_, days_until, sealed) = self.tiers(owner);
        let until = if self.of_whole_hours { days_until } else { sealed };
        (until > self.first()).then_some(until)
    }

    /// Each bucket from when until when.
    pub(super) fn spans(&self) -> impl Iterator<Item = Span> {
        self.at.iter().copied().zip(self.at.iter().skip(1).copied())
    }

    /// The length in words.
    pub(super) fn resolution(&self) -> String {
        let seconds = self.step_us / SECOND_US;
        match seconds {
            _ if seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
            _ if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
            _ if seconds % 60 == 0 => format!("{}m", seconds / 60),
            _ => format!("{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        Timestamp(text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_micros())
    }

    fn wanted(from: &str, to: &str, points: i64) -> Wanted {
        Wanted { span: (time(from), time(to)), points, step_us: None, zone: None }
    }

    #[test]
    fn buckets_are_as_short_as_their_number_allows() {
        for (from, to, points, least, expected) in [
            ("2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z", 500, SECOND_US, 300),
            ("2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z", 288, SECOND_US, 300),
            ("2026-01-05T00:00:01Z", "2026-01-06T00:00:01Z", 288, SECOND_US, 600),
            ("2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z", 500, HOUR_US, 3_600),
            ("2026-01-01T00:00:00Z", "2026-01-31T00:00:00Z", 500, SECOND_US, 7_200),
            ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", 500, SECOND_US, 86_400),
            ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", 100, SECOND_US, 4 * 86_400),
            ("2026-01-05T00:00:00Z", "2026-01-05T00:00:10Z", 10, SECOND_US, 1),
        ] {
            let wanted = wanted(from, to, points);
            assert_eq!(wanted.step_us(least), expected * SECOND_US, "{from} {to} {points}");
            assert!(i64::try_from(fixed(wanted.step_us(least), wanted.span).len()).unwrap() - 1 <= points);
        }
    }

    #[test]
    fn days_of_a_time_zone_follow_its_clocks() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        let days = days_of(berlin, 1, (time("2026-03-28T12:00:00Z"), time("2026-03-30T12:00:00Z")));
        let expected = ["2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z"];
        assert_eq!(days, expected.map(time));
        // There is no midnight on the day on which Beirut's clocks go forward.
        let beirut: Tz = "Asia/Beirut".parse().unwrap();
        let days = days_of(beirut, 1, (time("2026-03-29T12:00:00Z"), time("2026-03-29T13:00:00Z")));
        assert_eq!(days, ["2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"].map(time));
    }
}
