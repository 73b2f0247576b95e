//! Sealing: the runs of an hour that is over become a chunk and a tally, and a day that is over a tally of its hours.
//!
//! An hour of an association moves in one transaction, with the mark up to where it is sealed; whoever is killed in between
//! has changed nothing, and nobody seals an hour twice.

use super::chunk::{DAY_US, HOUR_US, encode, hour_of};
use super::detail::{Details, pack, worth_keeping};
use super::raw::{numbers_of, stands_us};
use super::span::{Last, Span, Taken, last_of};
use super::store::{Hot, NewChunk, Owner, Piece};
use super::tally::Tally;
use crate::database::{Timestamp, Writer};
use crate::error::{Error, Result};
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::SystemId;
use std::collections::{BTreeSet, HashMap};

/// An hour is sealed so long after its end: until then its runs are told to those who resume listening, and agents may be
/// late.
pub(crate) const SEALED_AFTER_US: i64 = 15 * 60 * 1_000_000;

/// So many associations are sealed in one transaction, an hour each: others wait for it, some tens of milliseconds.
const AT_ONCE: i64 = 8;

/// Hours of a day.
pub(super) const DAY_HOURS: i64 = DAY_US / HOUR_US;

/// What was sealed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sealed {
    /// Associations, an hour each.
    pub(crate) hours: usize,
    /// The runs of these hours.
    pub(crate) runs: usize,
    /// Associations that cannot be sealed for now.
    pub(crate) failed: Vec<i64>,
}

/// The first hour that is not sealed as of now.
pub(crate) fn sealed_before(now: Timestamp) -> i64 {
    hour_of(Timestamp(now.0.saturating_sub(SEALED_AFTER_US)))
}

/// Seals an hour of each of some associations, but of none that is set aside; nothing is left when it seals nothing.
///
/// One that cannot be sealed does not keep the others from it: where some fail together, each is tried by itself.
pub(crate) async fn seal_some(kernel: &Kernel, now: Timestamp, aside: &[i64]) -> Result<Sealed> {
    let mut store = kernel.database.writer().await?;
    let owners = store.lock_unsealed(sealed_before(now), AT_ONCE, aside).await?;
    let numbers: Vec<_> = owners.iter().map(|owner| owner.archive.association).collect();
    match seal_these(store, owners, now).await {
        Ok(sealed) => return Ok(sealed),
        Err(why) => tracing::warn!(cause = %why, "hours of runs cannot be sealed together; trying each"),
    }
    let mut all = Sealed::default();
    for number in &numbers {
        let mut store = kernel.database.writer().await?;
        let owners = store.lock_owners(&[*number]).await?;
        match seal_these(store, owners, now).await {
            Ok(sealed) => (all.hours, all.runs) = (all.hours + sealed.hours, all.runs + sealed.runs),
            Err(why) => {
                tracing::error!(association = number, cause = %why, "an hour of runs cannot be sealed");
                all.failed.push(*number);
            }
        }
    }
    Ok(all)
}

async fn seal_these(mut store: Writer, mut owners: Vec<Owner>, now: Timestamp) -> Result<Sealed> {
    let limit = sealed_before(now);
    owners.retain(|owner| owner.archive.upto < limit);
    if owners.is_empty() {
        return Ok(Sealed::default());
    }
    let sealed = store.seal_an_hour(owners, limit).await?.1;
    crate::fault::reach("seal.before_commit");
    store.commit_unseen("the same runs in another form").await?;
    crate::fault::reach("seal.after_commit");
    Ok(sealed)
}

/// The next hour of an association that has anything to seal, if it is before `limit`.
fn next_hour(owner: &Owner, limit: i64) -> Option<i64> {
    let upto = owner.archive.upto;
    let stands_until = owner.archive.last().map(|last| last.at.0.saturating_add(stands_us(owner)));
    let stands = stands_until.is_some_and(|until| until > owner.archive.sealed_until().0).then_some(upto);
    let has_runs = owner.first_at.map(|at| hour_of(at).max(upto));
    [stands, has_runs].into_iter().flatten().min().filter(|hour| *hour < limit)
}

pub(super) fn day_of_hour(hour: i64) -> i64 {
    hour.div_euclid(DAY_HOURS)
}

pub(super) fn span_of(hour: i64) -> Span {
    (Timestamp(hour.saturating_mul(HOUR_US)), Timestamp(hour.saturating_add(1).saturating_mul(HOUR_US)))
}

/// A tally as it is stored.
pub(super) fn piece(association: i64, at: i64, tally: &Tally) -> Piece {
    Piece { association, at, data: tally.encode() }
}

/// What becomes of an hour of one association.
struct Hour {
    association: i64,
    number: i64,
    chunk: Option<NewChunk>,
    tally: Option<Piece>,
    detail: Option<Piece>,
    last: Option<Last>,
    runs: usize,
}

impl Writer {
    /// Seals an hour of each of these and answers how far they are archived then.
    pub(super) async fn seal_an_hour(&mut self, owners: Vec<Owner>, limit: i64) -> Result<(Vec<Owner>, Sealed)> {
        let due: Vec<_> = owners.iter().filter_map(|owner| Some((owner, next_hour(owner, limit)?))).collect();
        let wanted: Vec<_> = due.iter().map(|(owner, hour)| (owner.archive.association, span_of(*hour))).collect();
        let maintenance = self.maintenance_of(&due).await?;
        let mut hot: HashMap<i64, Vec<Hot>> = HashMap::new();
        for run in self.hot(&wanted).await? {
            hot.entry(run.association).or_default().push(run);
        }
        let mut made = vec![];
        for (owner, hour) in &due {
            let runs = hot.remove(&owner.archive.association).unwrap_or_default();
            let spans = maintenance.get(&owner.system_id).map_or(&[][..], Vec::as_slice);
            made.push(seal(owner, *hour, runs, spans)?);
        }
        let runs = made.iter().map(|hour| hour.runs).sum();
        let sealed = Sealed { hours: owners.len(), runs, failed: vec![] };
        let ahead = self.save(owners, made, limit).await?;
        self.delete_hot(&wanted).await?;
        Ok((ahead, sealed))
    }

    /// When the systems of these were in maintenance.
    async fn maintenance_of(&mut self, due: &[(&Owner, i64)]) -> Result<HashMap<SystemId, Vec<Span>>> {
        let (Some(first), Some(last)) = (due.iter().map(|due| due.1).min(), due.iter().map(|due| due.1).max()) else {
            return Ok(HashMap::new());
        };
        let systems: Vec<_> = due.iter().map(|(owner, _)| owner.system_id).collect();
        self.maintained(&systems, (span_of(first).0, span_of(last).1)).await
    }

    async fn save(&mut self, owners: Vec<Owner>, hours: Vec<Hour>, limit: i64) -> Result<Vec<Owner>> {
        let (mut chunks, mut tallies, mut details) = (vec![], vec![], vec![]);
        let mut by_association = HashMap::new();
        for hour in hours {
            chunks.extend(hour.chunk);
            tallies.extend(hour.tally);
            details.extend(hour.detail);
            by_association.insert(hour.association, (hour.number, hour.last, hour.runs));
        }
        self.save_chunks(&chunks).await?;
        self.save_hours(&tallies).await?;
        self.save_details(&details).await?;
        let mut days = vec![];
        let mut ahead = vec![];
        for mut owner in owners {
            let before = owner.archive.upto;
            let archive = &mut owner.archive;
            match by_association.get(&archive.association) {
                Some((number, last, runs)) => {
                    archive.upto = number + 1;
                    archive.heard(*last);
                    archive.stored += i64::try_from(*runs).unwrap_or_default();
                }
                // Nothing happened until then.
                None => archive.upto = limit,
            }
            let hour = by_association.get(&archive.association).map(|hour| hour.0);
            let over: BTreeSet<_> = [Some(before), hour].into_iter().flatten().map(day_of_hour).collect();
            for day in over.range(..day_of_hour(archive.upto)) {
                days.extend(self.day_of(archive.association, *day).await?);
            }
            ahead.push(owner);
        }
        self.save_days(&days).await?;
        let archives: Vec<_> = ahead.iter().map(|owner| owner.archive).collect();
        self.save_archives(&archives).await?;
        Ok(ahead)
    }

    /// The tally of a day, from those of its hours.
    pub(super) async fn day_of(&mut self, association: i64, day: i64) -> Result<Option<Piece>> {
        let hours = self.hours(association, day * DAY_HOURS, (day + 1) * DAY_HOURS).await?;
        let mut whole: Option<Tally> = None;
        for hour in &hours {
            whole.get_or_insert_default().merge(&tally_of(hour)?);
        }
        Ok(whole.map(|tally| piece(association, day, &tally)))
    }
}

/// A stored tally.
pub(crate) fn tally_of(piece: &Piece) -> Result<Tally> {
    Tally::decode(&piece.data)
        .ok_or_else(|| Error::bug(format!("the tally {} of association {} is damaged", piece.at, piece.association)))
}

fn seal(owner: &Owner, hour: i64, hot: Vec<Hot>, maintenance: &[Span]) -> Result<Hour> {
    let association = owner.archive.association;
    let runs: Vec<_> = hot.iter().map(Hot::sample).collect();
    let details: Details = hot.into_iter().filter_map(|run| Some((run.scheduled_at, run.detail?))).collect();
    let numbers = numbers_of(&owner.strategy_id, &details);
    let before = owner.archive.last();
    let span = span_of(hour);
    let taken = Taken { span, runs: &runs, numbers: &numbers, before, grace_us: stands_us(owner), maintenance };
    let tallies = taken.tallies(hour_of, |hour| span_of(hour).1);
    let kept = worth_keeping(&runs, before.map(|last| last.status), details);
    let chunk = (!runs.is_empty())
        .then(|| NewChunk { piece: Piece { association, at: hour, data: encode(&runs) }, runs: runs.len() });
    let detail = if kept.is_empty() { None } else { Some(Piece { association, at: hour, data: pack(&kept)? }) };
    Ok(Hour {
        association,
        number: hour,
        chunk,
        tally: tallies.get(&hour).map(|tally| piece(association, hour, tally)),
        detail,
        last: last_of(&runs),
        runs: runs.len(),
    })
}
