//! What the runs of an association come to over a span or over buckets, from whatever is the least to read.

use super::chunk::{DAY_US, HOUR_US, hour_of};
use super::seal::{DAY_HOURS, tally_of};
use super::span::Span;
use super::store::Owner;
use super::tally::Tally;
use crate::database::{Reader, Timestamp};
use crate::error::Result;
use crate::plugin::healthcheck::series::Edges;
use std::collections::BTreeSet;

/// What figures were made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::plugin::healthcheck) enum Source {
    /// Single runs.
    Raw,
    /// Tallies of hours.
    Hourly,
    /// Tallies of days.
    Daily,
}

/// A total.
#[derive(Debug, Default)]
pub(in crate::plugin::healthcheck) struct Sum {
    pub(in crate::plugin::healthcheck) tally: Tally,
    pub(in crate::plugin::healthcheck) sources: BTreeSet<Source>,
}

fn floor(at: Timestamp, unit: i64) -> Timestamp {
    Timestamp(at.0.div_euclid(unit) * unit)
}

fn ceil(at: Timestamp, unit: i64) -> Timestamp {
    Timestamp((at.0 + unit - 1).div_euclid(unit) * unit)
}

/// The span for which figures can be told that is nearest to the one that is asked for, and holds it: where single runs are
/// gone, it begins and ends with an hour or a day.
pub(in crate::plugin::healthcheck) fn tellable(owner: &Owner, (from, to): Span) -> Span {
    let unit = |at: Timestamp| match hour_of(at) {
        hour if hour < owner.archive.hour_from => DAY_US,
        hour if hour < owner.archive.raw_from => HOUR_US,
        _ => 1,
    };
    (floor(from, unit(from)), ceil(to, unit(to)))
}

impl Reader {
    /// The sum over a span that is [`tellable`].
    pub(in crate::plugin::healthcheck) async fn tally_span(
        &mut self,
        owner: &Owner,
        (from, to): Span,
        maintenance: &[Span],
    ) -> Result<Sum> {
        let sealed = owner.archive.sealed_until();
        let hours_until = floor(to.min(sealed), HOUR_US);
        let days_until = floor(hours_until, DAY_US);
        let mut sum = Sum::default();
        let mut at = from;
        // To the next hour, hours to the next day, days, the hours of the last day, and the rest.
        at = self.add_runs(&mut sum, owner, (at, ceil(at, HOUR_US).min(to)), maintenance).await?;
        at = self.add_hours(&mut sum, owner, (at, ceil(at, DAY_US).min(hours_until))).await?;
        at = self.add_days(&mut sum, owner, (at, days_until)).await?;
        at = self.add_hours(&mut sum, owner, (at, hours_until)).await?;
        self.add_runs(&mut sum, owner, (at, to), maintenance).await?;
        Ok(sum)
    }

    async fn add_runs(&mut self, sum: &mut Sum, owner: &Owner, span: Span, maintenance: &[Span]) -> Result<Timestamp> {
        if span.0 >= span.1 {
            return Ok(span.0);
        }
        let tallies = self.raw(owner, span).await?.tallies(owner, span, maintenance, |_| 0, |_| span.1);
        for tally in tallies.values() {
            sum.tally.merge(tally);
        }
        sum.sources.insert(Source::Raw);
        Ok(span.1)
    }

    async fn add_hours(&mut self, sum: &mut Sum, owner: &Owner, (from, to): Span) -> Result<Timestamp> {
        if from >= to {
            return Ok(from);
        }
        for hour in self.hours(owner.archive.association, hour_of(from), hour_of(to)).await? {
            sum.tally.merge(&tally_of(&hour)?);
        }
        sum.sources.insert(Source::Hourly);
        Ok(to)
    }

    async fn add_days(&mut self, sum: &mut Sum, owner: &Owner, (from, to): Span) -> Result<Timestamp> {
        if from >= to {
            return Ok(from);
        }
        for day in self.days(owner.archive.association, from.0.div_euclid(DAY_US), to.0.div_euclid(DAY_US)).await? {
            sum.tally.merge(&tally_of(&day)?);
        }
        sum.sources.insert(Source::Daily);
        Ok(to)
    }

    /// A tally for each bucket, as far as there is one, until `now`.
    pub(in crate::plugin::healthcheck) async fn tally_buckets(
        &mut self,
        owner: &Owner,
        edges: &Edges,
        now: Timestamp,
        maintenance: &[Span],
    ) -> Result<(Vec<Tally>, BTreeSet<Source>)> {
        let mut buckets = vec![Tally::default(); edges.len()];
        let mut sources = BTreeSet::new();
        let (from, to) = (edges.first(), edges.last().min(Timestamp(now.0 + 1)));
        let mut at = from;
        if !edges.is_from_runs() {
            let (days_from, days_until, hours_until) = edges.tiers(owner);
            at = at.max(days_from);
            if at < days_until.min(to) {
                let end = ceil(days_until.min(to), DAY_US);
                for day in
                    self.days(owner.archive.association, at.0.div_euclid(DAY_US), end.0.div_euclid(DAY_US)).await?
                {
                    edges.merge(&mut buckets, Timestamp(day.at * DAY_US), &tally_of(&day)?);
                }
                sources.insert(Source::Daily);
                at = end;
            }
            if at < hours_until.min(to) {
                let end = ceil(hours_until.min(to), HOUR_US);
                for hour in self.hours(owner.archive.association, hour_of(at), hour_of(end)).await? {
                    edges.merge(&mut buckets, Timestamp(hour.at * HOUR_US), &tally_of(&hour)?);
                }
                sources.insert(Source::Hourly);
                at = end;
            }
        }
        if at < to {
            let raw = self.raw(owner, (at, to)).await?;
            for (bucket, tally) in
                raw.tallies(owner, (at, to), maintenance, |at| edges.bucket_of(at), |one| edges.end_of(one))
            {
                edges.merge(&mut buckets, edges.start_of(bucket), &tally);
            }
            sources.insert(Source::Raw);
        }
        Ok((buckets, sources))
    }
}

/// The hour with which a day begins.
pub(in crate::plugin::healthcheck) fn first_hour(day: i64) -> i64 {
    day * DAY_HOURS
}
