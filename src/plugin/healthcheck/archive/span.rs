//! From runs to tallies: each run counts where it was due, and its verdict stands until the next one that says something,
//! or until it is too old to say anything about now.

use super::chunk::Sample;
use super::tally::{Figure, Latency, Tally};
use crate::database::Timestamp;
use crate::plugin::healthcheck::domain::Health;
use std::collections::BTreeMap;

/// The last run that said something, before a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin::healthcheck) struct Last {
    pub(in crate::plugin::healthcheck) at: Timestamp,
    pub(in crate::plugin::healthcheck) status: Health,
}

/// From when until when.
pub(in crate::plugin::healthcheck) type Span = (Timestamp, Timestamp);

/// What is to be tallied.
pub(in crate::plugin::healthcheck) struct Taken<'r> {
    /// From when until when.
    pub(in crate::plugin::healthcheck) span: Span,
    /// All runs that were due in it, oldest first.
    pub(in crate::plugin::healthcheck) runs: &'r [Sample],
    /// The numbers that runs found, by the time for which the run was due.
    pub(in crate::plugin::healthcheck) numbers: &'r BTreeMap<Timestamp, Vec<(String, f64)>>,
    /// The last run before it that said something.
    pub(in crate::plugin::healthcheck) before: Option<Last>,
    /// After this many microseconds a verdict says nothing about now.
    pub(in crate::plugin::healthcheck) grace_us: i64,
    /// When the system was in maintenance; sorted, apart from one another.
    pub(in crate::plugin::healthcheck) maintenance: &'r [Span],
}

/// The last of these that says something.
pub(in crate::plugin::healthcheck) fn last_of(runs: &[Sample]) -> Option<Last> {
    let says = runs.iter().rev().find(|run| run.status != Health::Unknown)?;
    Some(Last { at: says.at, status: says.status })
}

impl Taken<'_> {
    /// A tally for each part of the span of which something is known. `part_of` says which part a time is in, and
    /// `end_of` where a part ends.
    pub(in crate::plugin::healthcheck) fn tallies(
        &self,
        part_of: impl Fn(Timestamp) -> i64,
        end_of: impl Fn(i64) -> Timestamp,
    ) -> BTreeMap<i64, Tally> {
        let mut found: BTreeMap<i64, Tally> = BTreeMap::new();
        for runs in self.runs.chunk_by(|a, b| part_of(a.at) == part_of(b.at)) {
            let Some(first) = runs.first() else { continue };
            self.count(found.entry(part_of(first.at)).or_default(), runs);
        }
        for (status, from, to) in self.verdicts() {
            let mut at = from;
            while at < to {
                let part = part_of(at);
                let end = end_of(part).min(to).max(Timestamp(at.0 + 1));
                let tally = found.entry(part).or_default();
                let in_maintenance = self.maintained((at, end));
                tally.stood.maintenance += in_maintenance;
                tally.stood.add(status, end.0.abs_diff(at.0) - in_maintenance);
                at = end;
            }
        }
        found
    }

    fn count(&self, tally: &mut Tally, runs: &[Sample]) {
        let latencies: Vec<_> =
            runs.iter().filter_map(|run| run.latency_us).map(|one| one.max(0).unsigned_abs()).collect();
        tally.latency = Latency::of(&latencies);
        for run in runs {
            let is_maintained = self.maintained((run.at, Timestamp(run.at.0 + 1))) > 0;
            let counts = if is_maintained { &mut tally.in_maintenance } else { &mut tally.runs };
            counts.add(run.status);
            for (field, value) in self.numbers.get(&run.at).into_iter().flatten() {
                let figure = Figure::of(*value);
                tally.figures.entry(field.clone()).and_modify(|ours| ours.merge(&figure)).or_insert(figure);
            }
        }
    }

    /// Which verdict stood from when until when, within the span.
    fn verdicts(&self) -> Vec<(Health, Timestamp, Timestamp)> {
        let says = self.runs.iter().filter(|run| run.status != Health::Unknown);
        let says = says.map(|run| Last { at: run.at, status: run.status });
        let all: Vec<_> = self.before.into_iter().chain(says).collect();
        let ends = all.iter().skip(1).map(|next| next.at).chain([self.span.1]);
        let stood = all.iter().zip(ends).map(|(one, next)| {
            let stale = Timestamp(one.at.0.saturating_add(self.grace_us));
            (one.status, one.at.max(self.span.0), next.min(stale).min(self.span.1))
        });
        stood.filter(|(_, from, to)| from < to).collect()
    }

    /// For how many microseconds of a span the system was in maintenance.
    fn maintained(&self, (from, to): Span) -> u64 {
        let start = self.maintenance.partition_point(|(_, end)| *end <= from);
        let touching = self.maintenance.iter().skip(start).take_while(|(begin, _)| *begin < to);
        touching.map(|(begin, end)| (*end).min(to).0.abs_diff((*begin).max(from).0)).sum()
    }
}
