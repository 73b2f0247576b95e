//! The single runs of an association over some time, wherever they are.

use super::chunk::{HOUR_US, Sample, decode, hour_of};
use super::detail::{Details, numbers, unpack};
use super::span::{Last, Span, Taken, last_of};
use super::store::{Hot, Owner, Piece};
use super::tally::Tally;
use crate::database::{Reader, Timestamp};
use crate::error::{Error, Result};
use crate::plugin::healthcheck::HEARTBEAT;
use crate::plugin::healthcheck::domain::RunKind;
use std::collections::BTreeMap;

/// What the runs of some time are made of.
pub(in crate::plugin::healthcheck) struct Raw {
    pub(in crate::plugin::healthcheck) runs: Vec<Sample>,
    pub(super) numbers: BTreeMap<Timestamp, Vec<(String, f64)>>,
    pub(super) before: Option<Last>,
}

/// A heartbeat that is silent is late, which is a run. This is only for one that nobody waits for any more: it is paused.
const HEARTBEAT_STANDS_US: i64 = 32 * 24 * HOUR_US;

/// For how long the verdict of a run stands if no other follows.
pub(in crate::plugin::healthcheck) fn stands_us(owner: &Owner) -> i64 {
    if owner.strategy_id == HEARTBEAT {
        return HEARTBEAT_STANDS_US;
    }
    owner.patience.grace_us(&owner.strategy_id).min(HEARTBEAT_STANDS_US)
}

impl Hot {
    pub(super) fn sample(&self) -> Sample {
        let kind = RunKind::numbered(self.kind);
        Sample { at: self.scheduled_at, kind, status: self.status, latency_us: self.latency_us }
    }
}

/// The runs in a chunk.
pub(in crate::plugin::healthcheck) fn opened(chunk: &Piece) -> Result<Vec<Sample>> {
    decode(chunk.at, &chunk.data)
        .ok_or_else(|| Error::bug(format!("the chunk {} of association {} is damaged", chunk.at, chunk.association)))
}

/// What was found, by time, and the numbers in it.
pub(super) fn numbers_of(strategy: &str, details: &Details) -> BTreeMap<Timestamp, Vec<(String, f64)>> {
    let found = details.iter().map(|(at, detail)| (*at, numbers(strategy, detail)));
    found.filter(|(_, numbers)| !numbers.is_empty()).collect()
}

impl Reader {
    /// The runs that were due in a span, and the last before it. Their numbers are those of runs that are not sealed, or
    /// whose details were kept.
    pub(in crate::plugin::healthcheck) async fn raw(&mut self, owner: &Owner, (from, to): Span) -> Result<Raw> {
        let association = owner.archive.association;
        let behind = Timestamp(from.0.saturating_sub(stands_us(owner)));
        let (first, end) = (hour_of(behind), hour_of(Timestamp(to.0.saturating_sub(1))).saturating_add(1));
        let mut runs = vec![];
        let mut details = Details::new();
        if first < owner.archive.upto && from < to {
            let chunks = self.chunks(&[association], first, end).await?;
            for chunk in &chunks {
                runs.extend(opened(chunk)?);
            }
            let hours: Vec<_> = chunks.iter().map(|chunk| chunk.at).filter(|hour| *hour >= hour_of(from)).collect();
            for packed in self.details(&[association], &hours).await? {
                details.extend(unpack(packed.at, &packed.data));
            }
        }
        if to > owner.archive.sealed_until() {
            for hot in self.hot(&[(association, (behind, to))]).await? {
                runs.push(hot.sample());
                details.extend(hot.detail.map(|detail| (hot.scheduled_at, detail)));
            }
        }
        let start = runs.partition_point(|run| run.at < from);
        let end = runs.partition_point(|run| run.at < to);
        let known = owner.archive.last().filter(|last| last.at < from);
        let before = runs.get(..start).and_then(last_of).or(known);
        let runs = runs.get(start..end).unwrap_or_default().to_vec();
        Ok(Raw { runs, numbers: numbers_of(&owner.strategy_id, &details), before })
    }
}

impl Raw {
    /// What they come to, in parts.
    pub(in crate::plugin::healthcheck) fn tallies(
        &self,
        owner: &Owner,
        span: Span,
        maintenance: &[Span],
        part_of: impl Fn(Timestamp) -> i64,
        end_of: impl Fn(i64) -> Timestamp,
    ) -> BTreeMap<i64, Tally> {
        let grace_us = stands_us(owner);
        let (runs, numbers, before) = (&self.runs, &self.numbers, self.before);
        Taken { span, runs, numbers, before, grace_us, maintenance }.tallies(part_of, end_of)
    }
}
