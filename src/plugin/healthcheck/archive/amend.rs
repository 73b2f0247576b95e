//! Runs that come when their hour is sealed already: late ones, and those that are imported.
//!
//! What is sealed is opened, merged and sealed again, with the tallies of every hour for which their verdicts stand and of
//! the days around. Where single runs are gone nothing can be merged without counting twice, so they are refused there.

use super::chunk::{DAY_US, HOUR_US, Sample, encode, hour_of};
use super::detail::{Details, pack, unpack, worth_keeping};
use super::raw::{numbers_of, opened, stands_us};
use super::seal::{DAY_HOURS, day_of_hour, piece, sealed_before, span_of, tally_of};
use super::span::{Span, Taken, last_of};
use super::store::{NewChunk, Owner, Piece};
use super::tally::merge_figures;
use crate::database::{Timestamp, Writer};
use crate::error::{Error, Result};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One call changes the tallies of at most so many hours, nearly six years: others wait for it, for some seconds.
const HOURS_MAX: i64 = 50_000;

/// A run that comes late.
#[derive(Clone, Debug)]
pub(in crate::plugin::healthcheck) struct Late {
    pub(in crate::plugin::healthcheck) run: Sample,
    pub(in crate::plugin::healthcheck) detail: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(in crate::plugin::healthcheck) struct Amended {
    /// These were stored, oldest first.
    pub(in crate::plugin::healthcheck) stored: Vec<Sample>,
    /// For so many there was a run of the same time.
    pub(in crate::plugin::healthcheck) duplicates: usize,
    /// So many belong where single runs are gone.
    pub(in crate::plugin::healthcheck) too_old: usize,
}

/// Hours that belong together, because verdicts of some stand in others.
struct Group {
    late: Vec<Late>,
    first: i64,
    /// The last hour in which one of their verdicts stands.
    last: i64,
}

impl Writer {
    /// Seals an association, which is locked, up to now.
    pub(in crate::plugin::healthcheck) async fn seal_all(&mut self, mut owner: Owner, now: Timestamp) -> Result<Owner> {
        let limit = sealed_before(now);
        while owner.archive.upto < limit {
            let locked = self.seal_an_hour(vec![owner.clone()], limit).await?.0;
            let Some(ahead) = locked.into_iter().next() else { break };
            owner = self.lock_owners(&[ahead.archive.association]).await?.pop().unwrap_or(ahead);
        }
        Ok(owner)
    }

    /// Adds runs to hours that are sealed. They are sorted by time, and of one association, which is locked.
    pub(in crate::plugin::healthcheck) async fn amend(
        &mut self,
        owner: &mut Owner,
        late: Vec<Late>,
        now: Timestamp,
    ) -> Result<Amended> {
        let mut amended = Amended::default();
        let (Some(first), Some(last)) = (late.first(), late.last()) else { return Ok(amended) };
        let span =
            (Timestamp(first.run.at.0 - DAY_US), Timestamp(last.run.at.0.saturating_add(stands_us(owner)) + DAY_US));
        let maintenance = self.maintained(&[owner.system_id], span).await?.remove(&owner.system_id).unwrap_or_default();
        let groups = groups(late, stands_us(owner), owner.archive.upto);
        let hours: i64 = groups.iter().map(|group| group.last - group.first + 1).sum();
        if hours > HOURS_MAX {
            let why =
                format!("They change {hours} hours of history, and one call at most {HOURS_MAX}; send fewer runs");
            return Err(Error::Refused(why));
        }
        for group in groups {
            self.amend_group(owner, group, &maintenance, &mut amended).await?;
        }
        owner.archive.stored += i64::try_from(amended.stored.len()).unwrap_or_default();
        owner.archive.heard(last_of(&amended.stored));
        self.save_archives(&[owner.archive]).await?;
        self.put_off_sweep(owner.archive.association, now.0.div_euclid(DAY_US)).await?;
        Ok(amended)
    }

    async fn amend_group(
        &mut self,
        owner: &Owner,
        group: Group,
        maintenance: &[Span],
        amended: &mut Amended,
    ) -> Result<()> {
        let association = owner.archive.association;
        let behind = hour_of(Timestamp(span_of(group.first).0.0 - stands_us(owner)));
        let end = group.last + 1;
        let chunks = self.chunks(&[association], behind, end).await?;
        let tallied: HashMap<i64, Piece> =
            self.hours(association, behind, end).await?.into_iter().map(|piece| (piece.at, piece)).collect();
        let closed = self.closed(owner, &group, &chunks, &tallied).await?;
        let mut runs: BTreeMap<i64, Sample> = BTreeMap::new();
        for chunk in &chunks {
            runs.extend(opened(chunk)?.into_iter().map(|run| (run.at.0, run)));
        }
        let mut new = Details::new();
        let (mut touched, mut stored) = (BTreeSet::new(), vec![]);
        for Late { run, detail } in group.late {
            let hour = hour_of(run.at);
            if closed.contains(&hour) {
                amended.too_old += 1;
                continue;
            }
            let Entry::Vacant(free) = runs.entry(run.at.0) else {
                amended.duplicates += 1;
                continue;
            };
            free.insert(run);
            new.extend(detail.map(|detail| (run.at, detail)));
            touched.insert(hour);
            stored.push(run);
        }
        if stored.is_empty() {
            return Ok(());
        }
        amended.stored.extend(stored);
        let runs: Vec<_> = runs.into_values().collect();
        let span = (span_of(group.first).0, span_of(group.last).1);
        self.save_amended(owner, span, &runs, &touched, new, maintenance, &tallied, &closed).await
    }

    #[expect(clippy::too_many_arguments, reason = "they are the parts of one amendment, and it is done here")]
    async fn save_amended(
        &mut self,
        owner: &Owner,
        span: Span,
        runs: &[Sample],
        touched: &BTreeSet<i64>,
        new: Details,
        maintenance: &[Span],
        tallied: &HashMap<i64, Piece>,
        closed: &BTreeSet<i64>,
    ) -> Result<()> {
        let association = owner.archive.association;
        let start = runs.partition_point(|run| run.at < span.0);
        let (earlier, inside) = runs.split_at(start);
        let numbers = numbers_of(&owner.strategy_id, &new);
        let taken = Taken {
            span,
            runs: inside,
            numbers: &numbers,
            before: last_of(earlier),
            grace_us: stands_us(owner),
            maintenance,
        };
        let by_hour = || inside.chunk_by(|a, b| hour_of(a.at) == hour_of(b.at));
        let last: HashMap<_, _> = by_hour().filter_map(<[_]>::last).map(|run| (hour_of(run.at), run.at)).collect();
        let mut hours = vec![];
        for (hour, mut tally) in taken.tallies(hour_of, |hour| span_of(hour).1) {
            if closed.contains(&hour) {
                continue;
            }
            if let Some(before) = tallied.get(&hour) {
                // The details of good runs are gone, and with them the numbers that made these.
                let mut ours = tally_of(before)?.figures;
                let (from, to) = span_of(hour);
                let is_last = numbers.range(from..to).next_back().is_some_and(|(at, _)| last.get(&hour) == Some(at));
                if is_last {
                    merge_figures(&mut ours, &tally.figures);
                    tally.figures = ours;
                } else {
                    merge_figures(&mut tally.figures, &ours);
                }
            }
            hours.push(piece(association, hour, &tally));
        }
        let chunk = |runs: &[Sample]| {
            let hour = hour_of(runs.first()?.at);
            let piece = || Piece { association, at: hour, data: encode(runs) };
            touched.contains(&hour).then(|| NewChunk { piece: piece(), runs: runs.len() })
        };
        self.save_chunks(&by_hour().filter_map(chunk).collect::<Vec<_>>()).await?;
        self.save_hours(&hours).await?;
        self.add_details(owner, runs, new).await?;
        let over = day_of_hour(owner.archive.upto);
        let days: BTreeSet<_> = hours.iter().map(|hour| day_of_hour(hour.at)).filter(|day| *day < over).collect();
        let mut whole = vec![];
        for day in days {
            whole.extend(self.day_of(association, day).await?);
        }
        self.save_days(&whole).await?;
        Ok(())
    }

    /// Hours whose single runs, or whose tallies, are gone.
    async fn closed(
        &mut self,
        owner: &Owner,
        group: &Group,
        chunks: &[Piece],
        tallied: &HashMap<i64, Piece>,
    ) -> Result<BTreeSet<i64>> {
        let open: BTreeSet<_> = chunks.iter().map(|chunk| chunk.at).collect();
        let archive = &owner.archive;
        let mut swept = BTreeSet::new();
        let mut without_runs = vec![];
        for (hour, tally) in tallied.iter().filter(|(hour, _)| **hour < archive.raw_from && !open.contains(hour)) {
            if tally_of(tally)?.counts().all() > 0 {
                swept.insert(*hour);
            } else {
                without_runs.push(*hour);
            }
        }
        // Without runs it is an hour in which a verdict of before stands: of one that is gone, or of one that is there.
        let stands_hours = stands_us(owner) / HOUR_US + 1;
        let is_of_swept = |hour: &i64| swept.range(hour - stands_hours..*hour).next().is_some();
        let mut closed: BTreeSet<_> = without_runs.into_iter().filter(is_of_swept).collect();
        closed.append(&mut swept);
        if group.first < archive.hour_from {
            let (first, end) = (day_of_hour(group.first), day_of_hour(group.last) + 1);
            let known = self.hours(archive.association, first * DAY_HOURS, end * DAY_HOURS).await?;
            let known: BTreeSet<_> = known.iter().map(|hour| day_of_hour(hour.at)).collect();
            for day in self.days(archive.association, first, end).await? {
                let hours = day.at * DAY_HOURS..(day.at + 1) * DAY_HOURS;
                if hours.start < archive.hour_from && !known.contains(&day.at) {
                    closed.extend(hours);
                }
            }
        }
        Ok(closed)
    }

    async fn add_details(&mut self, owner: &Owner, runs: &[Sample], new: Details) -> Result<()> {
        let association = owner.archive.association;
        let kept = worth_keeping(runs, None, new);
        let mut by_hour: BTreeMap<i64, Details> = BTreeMap::new();
        for (at, detail) in kept {
            by_hour.entry(hour_of(at)).or_default().insert(at, detail);
        }
        let hours: Vec<_> = by_hour.keys().copied().collect();
        for packed in self.details(&[association], &hours).await? {
            by_hour.entry(packed.at).or_default().extend(unpack(packed.at, &packed.data));
        }
        let pack = |(at, details)| Ok(Piece { association, at, data: pack(&details)? });
        self.save_details(&by_hour.into_iter().map(pack).collect::<Result<Vec<_>>>()?).await?;
        Ok(())
    }
}

/// Runs so far apart that no verdict of one stands where another is are amended by themselves.
fn groups(late: Vec<Late>, stands_us: i64, upto: i64) -> Vec<Group> {
    let mut groups: Vec<Group> = vec![];
    for one in late {
        let hour = hour_of(one.run.at);
        let last = hour_of(Timestamp(one.run.at.0.saturating_add(stands_us))).min(upto - 1);
        match groups.last_mut() {
            Some(group) if hour <= group.last + 1 => {
                group.last = group.last.max(last);
                group.late.push(one);
            }
            _ => groups.push(Group { late: vec![one], first: hour, last }),
        }
    }
    groups
}
