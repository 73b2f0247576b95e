//! Single runs a page at a time, wherever they are: those of the last hours in rows, the others in chunks.
//!
//! A page is put together from windows of time, each whole before the next, so that runs of many checks come in the order
//! of their times. How many chunks one call opens is bounded; where it stops, the next page goes on.

use super::archive::chunk::{HOUR_US, decode, hour_of};
use super::archive::detail::unpack;
use super::domain::{CheckId, Health};
use super::page_store::{Range, Sealed};
use super::run_store::Run;
use crate::database::{Reader, Timestamp};
use crate::error::{Error, Result};
use crate::plugin::catalog::domain::SystemId;
use std::collections::{BTreeSet, HashMap};

/// A call opens at most so many chunks: some 50 ms of it.
pub(super) const CHUNKS_MAX: i64 = 50_000;

/// A window holds about so many chunks, or an hour: some megabytes.
const WINDOW_CHUNKS: i64 = 4_096;

/// So many runs that are not sealed are looked at to count them, unless they are asked for by check or system: some 100 ms.
const COUNTED_MAX: i64 = 200_000;

/// A window is sorted and cut off when so many runs are in it that are not wanted: some megabytes.
const GATHERED_MAX: usize = 20_000;

/// Where a run stands among all.
pub(super) type Place = (Timestamp, i64);

/// Which runs are wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) check: Option<CheckId>,
    pub(super) system: Option<SystemId>,
    pub(super) from: Timestamp,
    /// This time is part of it.
    pub(super) to: Timestamp,
    pub(super) status: Option<Health>,
    pub(super) oldest_first: bool,
    /// So many are passed over.
    pub(super) skip: usize,
    pub(super) size: usize,
    /// Behind this place, in the order that is wanted.
    pub(super) behind: Option<Place>,
}

/// A page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) runs: Vec<Run>,
    /// How many were passed over: fewer than were to be where the page stops before.
    pub(super) passed: usize,
    /// Behind which place the next one starts.
    pub(super) next: Option<Place>,
}

impl Page {
    /// Cuts it off where it would be too large. One run always fits: a page without any would never end.
    pub(super) fn fit(&mut self, bytes_max: usize) {
        let mut bytes = 0;
        let fits = |run: &&Run| {
            bytes += run.detail.as_ref().map_or(0, String::len);
            bytes <= bytes_max
        };
        let size = self.runs.iter().take_while(fits).count().max(1);
        if size < self.runs.len() {
            self.runs.truncate(size);
            self.next = self.runs.last().map(|run| (run.scheduled_at, run.association));
        }
    }
}

/// Reads a position.
pub(super) fn place(position: &str) -> Option<Place> {
    let (at, association) = position.split_once('.')?;
    Some((Timestamp(at.parse().ok()?), association.parse().ok()?))
}

/// Reads a position behind which so many are still to be passed over, which earlier releases did not say.
pub(super) fn place_and_rest(position: &str) -> Option<(Place, usize)> {
    if let Some(place) = place(position) {
        return Some((place, 0));
    }
    let (position, rest) = position.rsplit_once('.')?;
    Some((place(position)?, rest.parse().ok()?))
}

impl Wanted {
    /// Between which places, neither of which is part of it.
    fn range<'a>(&self, associations: Option<&'a [i64]>) -> Range<'a> {
        let mut range =
            Range { associations, after: (self.from, i64::MIN), before: (self.to, i64::MAX), status: self.status };
        match self.behind {
            Some(place) if self.oldest_first => range.after = range.after.max(place),
            Some(place) => range.before = range.before.min(place),
            None => {}
        }
        range
    }
}

/// A page as it grows.
struct Reading<'w> {
    wanted: &'w Wanted,
    range: Range<'w>,
    found: Vec<Run>,
    opened: i64,
}

impl Reading<'_> {
    /// One more than wanted tells that there is a next page.
    fn missing(&self) -> usize {
        (self.wanted.skip + self.wanted.size + 1).saturating_sub(self.found.len())
    }

    fn limit(&self) -> i64 {
        i64::try_from(self.missing()).unwrap_or(i64::MAX)
    }

    fn has(&self, run: &Run) -> bool {
        let place = (run.scheduled_at, run.association);
        self.range.after < place && place < self.range.before && self.range.status.is_none_or(|one| one == run.status)
    }

    /// Adds runs to a window. No more of it is kept than may be wanted: an hour of all checks may have millions.
    fn gather(&self, window: &mut Vec<Run>, runs: impl Iterator<Item = Run>) {
        window.extend(runs.filter(|run| self.has(run)));
        if window.len() > self.missing().saturating_add(GATHERED_MAX) {
            self.sort(window);
        }
    }

    fn sort(&self, window: &mut Vec<Run>) {
        window.sort_unstable_by_key(|run| (run.scheduled_at, run.association));
        if !self.wanted.oldest_first {
            window.reverse();
        }
        window.truncate(self.missing());
    }

    fn take(&mut self, mut window: Vec<Run>) {
        self.sort(&mut window);
        self.found.append(&mut window);
    }

    /// The page, if it is full; what comes behind it needs no look.
    fn cut(mut self, stopped_at: Option<Place>) -> Page {
        let (skip, size) = (self.wanted.skip, self.wanted.size);
        let is_more = self.found.len() > skip + size;
        self.found.truncate(skip + size);
        let last = self.found.last().map(|run| (run.scheduled_at, run.association));
        let passed = skip.min(self.found.len());
        self.found.drain(..passed);
        Page { runs: self.found, passed, next: if is_more { last } else { stopped_at } }
    }
}

impl Sealed {
    fn runs(&self) -> Result<impl Iterator<Item = Run> + '_> {
        let samples = decode(self.hour, &self.data).ok_or_else(|| {
            Error::bug(format!("the chunk {} of association {} is damaged", self.hour, self.association))
        })?;
        Ok(samples.into_iter().map(|sample| Run {
            association: self.association,
            scheduled_at: sample.at,
            status: sample.status,
            latency_us: sample.latency_us,
            detail: None,
            check_id: self.check_id,
            system_id: self.system_id,
        }))
    }
}

impl Reader {
    /// The numbers of the associations that are wanted; `None`: all.
    pub(super) async fn numbers(
        &mut self,
        check: Option<CheckId>,
        system: Option<SystemId>,
    ) -> Result<Option<Vec<i64>>> {
        if check.is_none() && system.is_none() {
            return Ok(None);
        }
        let found = self.associations(0, system, check, i64::MAX).await?;
        Ok(Some(found.into_iter().map(|association| association.number).collect()))
    }

    /// A page of runs. Everything is to be read of one moment.
    pub(super) async fn page_of_runs(&mut self, wanted: &Wanted, numbers: Option<&[i64]>) -> Result<Page> {
        let reach = self.reach(numbers).await?;
        let Some(upto) = reach.upto else { return Ok(Page::default()) };
        let range = wanted.range(numbers);
        let mut reading = Reading { wanted, range, found: vec![], opened: 0 };
        let first = match numbers {
            Some(numbers) => self.first_chunk(numbers).await?,
            None => self.first_hour_of_all().await?,
        };
        let low = hour_of(reading.range.after.0).max(first.unwrap_or(upto)).min(upto);
        let high = hour_of(reading.range.before.0).saturating_add(1).min(upto).max(low);
        let stride = (WINDOW_CHUNKS / reach.count.max(1)).max(1);
        if wanted.oldest_first {
            let stopped = self.read_hours(&mut reading, low, high, stride).await?;
            if stopped.is_none() && reading.missing() > 0 {
                self.read_open(&mut reading, upto).await?;
            }
            return Ok(reading.cut(stopped));
        }
        self.read_open(&mut reading, upto).await?;
        let stopped = self.read_hours(&mut reading, low, high, stride).await?;
        Ok(reading.cut(stopped))
    }

    /// The hours that are not sealed for all: rows, and chunks of those that are ahead.
    async fn read_open(&mut self, reading: &mut Reading<'_>, upto: i64) -> Result<()> {
        let mut window = self.open_runs(&reading.range, reading.wanted.oldest_first, reading.limit()).await?;
        let ends = hour_of(reading.range.before.0).saturating_add(1);
        let mut begins = upto.max(hour_of(reading.range.after.0));
        // An hour at a time: where one association lags, the others may have sealed many.
        while let Some(hour) = self.next_sealed_hour(reading.range.associations, begins).await? {
            if hour >= ends {
                break;
            }
            for chunk in self.sealed(reading.range.associations, hour, hour + 1).await? {
                reading.gather(&mut window, chunk.runs()?);
            }
            begins = hour + 1;
        }
        reading.take(window);
        Ok(())
    }

    /// Hours that are sealed for all; where it stopped if it did not come to an end.
    async fn read_hours(
        &mut self,
        reading: &mut Reading<'_>,
        low: i64,
        high: i64,
        stride: i64,
    ) -> Result<Option<Place>> {
        let (mut low, mut high, oldest_first) = (low, high, reading.wanted.oldest_first);
        // The last runs are mostly in the last hour.
        let mut width = 1;
        while low < high && reading.missing() > 0 {
            if reading.opened >= CHUNKS_MAX {
                let edge = Timestamp(if oldest_first { low } else { high }.saturating_mul(HOUR_US));
                return Ok(Some((edge, i64::MIN)));
            }
            let (from, to) = if oldest_first { (low, high.min(low + width)) } else { (low.max(high - width), high) };
            let chunks = self.sealed(reading.range.associations, from, to).await?;
            reading.opened += i64::try_from(chunks.len()).unwrap_or(i64::MAX);
            let mut window = vec![];
            for chunk in &chunks {
                reading.gather(&mut window, chunk.runs()?);
            }
            reading.take(window);
            (low, high) = if oldest_first { (to, high) } else { (low, from) };
            width = (width * 2).min(stride);
        }
        Ok(None)
    }

    /// How many runs are wanted in all; `None` if that would mean to open too many chunks.
    pub(super) async fn total(&mut self, wanted: &Wanted, numbers: Option<&[i64]>) -> Result<Option<i64>> {
        let range = Wanted { behind: None, ..wanted.clone() }.range(numbers);
        let Some(open) = self.count_open(&range, COUNTED_MAX).await? else { return Ok(None) };
        let (first, last) = (hour_of(wanted.from), hour_of(wanted.to));
        let is_whole = wanted.from.0 == i64::MIN && wanted.to.0 == i64::MAX;
        if is_whole && wanted.status.is_none() {
            return Ok(Some(open + self.reach(numbers).await?.stored.unwrap_or_default()));
        }
        let (chunks, _) = self.count_chunks(numbers, first, last.saturating_add(1)).await?;
        if chunks > CHUNKS_MAX {
            return Ok(None);
        }
        if wanted.status.is_some() {
            let found = self.count_in(wanted, numbers, first, last.saturating_add(1)).await?;
            return Ok(Some(open + found));
        }
        let (_, inside) = self.count_chunks(numbers, first.saturating_add(1), last).await?;
        let mut at_ends = self.count_in(wanted, numbers, first, first.saturating_add(1)).await?;
        if last > first {
            at_ends += self.count_in(wanted, numbers, last, last.saturating_add(1)).await?;
        }
        Ok(Some(open + inside + at_ends))
    }

    async fn count_in(&mut self, wanted: &Wanted, numbers: Option<&[i64]>, from: i64, to: i64) -> Result<i64> {
        let is_wanted = |run: &Run| {
            wanted.from <= run.scheduled_at
                && run.scheduled_at <= wanted.to
                && wanted.status.is_none_or(|status| status == run.status)
        };
        let mut count = 0;
        for chunk in self.sealed(numbers, from, to).await? {
            count += chunk.runs()?.filter(is_wanted).count();
        }
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Adds what was found, as far as it was kept.
    pub(super) async fn add_details(&mut self, runs: &mut [Run]) -> Result<()> {
        let sealed = || runs.iter().filter(|run| run.detail.is_none());
        let associations: BTreeSet<_> = sealed().map(|run| run.association).collect();
        let hours: BTreeSet<_> = sealed().map(|run| hour_of(run.scheduled_at)).collect();
        let (associations, hours): (Vec<_>, Vec<_>) = (associations.into_iter().collect(), hours.into_iter().collect());
        let mut found = HashMap::new();
        for packed in self.details(&associations, &hours).await? {
            let details = unpack(packed.at, &packed.data);
            found.extend(details.into_iter().map(|(at, detail)| ((packed.association, at), detail)));
        }
        for run in runs.iter_mut().filter(|run| run.detail.is_none()) {
            run.detail = found.remove(&(run.association, run.scheduled_at));
        }
        Ok(())
    }

    /// One run with what was found.
    pub(super) async fn any_run(&mut self, association: i64, at: Timestamp) -> Result<Option<Run>> {
        if let Some(found) = self.run(association, at).await? {
            return Ok(Some(found));
        }
        let hour = hour_of(at);
        for chunk in self.sealed(Some(&[association]), hour, hour.saturating_add(1)).await? {
            let found = chunk.runs()?.find(|run| run.scheduled_at == at);
            if let Some(run) = found {
                let mut one = [run];
                self.add_details(&mut one).await?;
                let [run] = one;
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// The last runs of an association, newest first.
    pub(super) async fn last_runs(&mut self, association: i64, size: usize) -> Result<Vec<Run>> {
        let wanted = Wanted {
            check: None,
            system: None,
            from: Timestamp(i64::MIN),
            to: Timestamp(i64::MAX),
            status: None,
            oldest_first: false,
            skip: 0,
            size,
            behind: None,
        };
        Ok(self.page_of_runs(&wanted, Some(&[association])).await?.runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_stops_short_of_is_passed_over_by_the_next() {
        let id = uuid::Uuid::nil();
        let run = |at: i64| Run {
            association: 1,
            scheduled_at: Timestamp(at),
            status: Health::Healthy,
            latency_us: None,
            detail: None,
            check_id: CheckId(id),
            system_id: SystemId(id),
        };
        for (skip, there, passed, shown) in [(5, 3, 3, 0), (5, 7, 5, 2), (0, 3, 0, 3), (5, 40, 5, 10)] {
            let wanted = Wanted {
                check: None,
                system: None,
                from: Timestamp(0),
                to: Timestamp(100),
                status: None,
                oldest_first: true,
                skip,
                size: 10,
                behind: None,
            };
            let mut reading = Reading { wanted: &wanted, range: wanted.range(None), found: vec![], opened: 0 };
            let mut window = vec![];
            reading.gather(&mut window, (0..there).map(run));
            reading.take(window);
            let page = reading.cut(Some((Timestamp(50), i64::MIN)));
            assert_eq!((page.passed, page.runs.len()), (passed, shown), "{skip} of {there}");
        }
        assert_eq!(place_and_rest("7.3.2"), Some(((Timestamp(7), 3), 2)));
        assert_eq!(place_and_rest("7.3"), Some(((Timestamp(7), 3), 0)));
        assert_eq!(place_and_rest("7"), None);
    }
}
