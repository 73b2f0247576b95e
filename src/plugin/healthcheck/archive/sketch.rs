//! Latencies as counts of ranges: what percentiles are made from, of any hours and days put together.
//!
//! Ranges grow with the values: each power of two is cut into 64 of equal width, so the middle of a range is within
//! 1/128 (0.8 %) of whatever fell into it. Merging adds counts; no percentile is ever made from percentiles.

use super::bits::{BitReader, BitWriter};

/// What percentiles are at most away from the exact ones, relative to them.
pub(in crate::plugin::healthcheck) const ERROR: f64 = 1.0 / 128.0;

const WIDTH_BITS: u32 = 6;

/// Values below this have a range of their own.
const EXACT: u64 = 1 << (WIDTH_BITS + 1);

/// How often values fell into each range, lowest first. Values are microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::plugin::healthcheck) struct Sketch(Vec<(u16, u64)>);

fn range_of(value: u64) -> u16 {
    if value < EXACT {
        return u16::try_from(value).unwrap_or_default();
    }
    let power = value.ilog2();
    let within = (value >> (power - WIDTH_BITS)) - (1 << WIDTH_BITS);
    let before = EXACT + (u64::from(power - WIDTH_BITS - 1) << WIDTH_BITS);
    u16::try_from(before + within).unwrap_or(u16::MAX)
}

/// The middle of a range.
fn middle_of(range: u16) -> u64 {
    let range = u64::from(range);
    if range < EXACT {
        return range;
    }
    let above = range - EXACT;
    let power = (above >> WIDTH_BITS) + u64::from(WIDTH_BITS) + 1;
    let width = 1 << (power - u64::from(WIDTH_BITS));
    let low = ((above & ((1 << WIDTH_BITS) - 1)) + (1 << WIDTH_BITS)) * width;
    low + width / 2
}

impl Sketch {
    /// Of these values.
    pub(super) fn of(values: impl IntoIterator<Item = u64>) -> Self {
        let mut ranges: Vec<_> = values.into_iter().map(range_of).collect();
        ranges.sort_unstable();
        let mut counts: Vec<(u16, u64)> = vec![];
        for range in ranges {
            match counts.last_mut() {
                Some((last, count)) if *last == range => *count += 1,
                _ => counts.push((range, 1)),
            }
        }
        Self(counts)
    }

    /// Adds what another one counted.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        let (mut ours, mut theirs) = (std::mem::take(&mut self.0).into_iter().peekable(), other.0.iter().peekable());
        while let (Some(our), Some(their)) = (ours.peek(), theirs.peek()) {
            let next = match our.0.cmp(&their.0) {
                std::cmp::Ordering::Less => ours.next(),
                std::cmp::Ordering::Greater => theirs.next().copied(),
                std::cmp::Ordering::Equal => ours.next().zip(theirs.next()).map(|(a, b)| (a.0, a.1 + b.1)),
            };
            self.0.extend(next);
        }
        self.0.extend(ours);
        self.0.extend(theirs);
    }

    /// How many values there were.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The value at a rank by the nearest-rank method, in microseconds; `None` without any. `share` is 0.95 for p95.
    pub(in crate::plugin::healthcheck) fn percentile(&self, share: f64) -> Option<u64> {
        #[expect(clippy::cast_precision_loss, reason = "counts of runs are far below 2^53")]
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is within the count")]
        let mut rank = (share * self.count() as f64).ceil().max(1.0) as u64;
        for (range, count) in &self.0 {
            if rank <= *count {
                return Some(middle_of(*range));
            }
            rank -= count;
        }
        self.0.last().map(|(range, _)| middle_of(*range))
    }

    pub(super) fn write(&self, writer: &mut BitWriter) {
        writer.gamma(self.0.len() as u64);
        let mut last = 0;
        for (range, count) in &self.0 {
            writer.gamma((range - last).into());
            writer.gamma(count - 1);
            last = *range;
        }
    }

    pub(super) fn read(reader: &mut BitReader<'_>) -> Self {
        let mut last: u16 = 0;
        let mut counts = vec![];
        for _ in 0..reader.gamma() {
            last = last.saturating_add(u16::try_from(reader.gamma()).unwrap_or(u16::MAX));
            counts.push((last, reader.gamma() + 1));
            if reader.is_over() {
                break;
            }
        }
        Self(counts)
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "exact percentiles of small numbers"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(values: &mut [u64], share: f64) -> u64 {
        values.sort_unstable();
        let rank = (share * values.len() as f64).ceil().max(1.0) as usize;
        values[rank - 1]
    }

    proptest! {
        #[test]
        fn percentiles_are_within_one_percent_however_they_were_put_together(
            parts in prop::collection::vec(prop::collection::vec(0_u64..(1 << 40), 0..200), 1..10), narrow in 0_u32..35,
        ) {
            let parts: Vec<Vec<u64>> = parts.into_iter().map(|part| part.into_iter().map(|one| one >> narrow).collect()).collect();
            let mut merged = Sketch::default();
            for part in &parts {
                let mut writer = BitWriter::default();
                let one = Sketch::of(part.iter().copied());
                one.write(&mut writer);
                let bytes = writer.finish();
                let read = Sketch::read(&mut BitReader::new(&bytes));
                prop_assert_eq!(&read, &one);
                merged.merge(&read);
            }
            let mut all: Vec<_> = parts.concat();
            prop_assert_eq!(merged.count(), all.len() as u64);
            for share in [0.01, 0.5, 0.95, 0.99, 1.0] {
                if all.is_empty() {
                    prop_assert_eq!(merged.percentile(share), None);
                    continue;
                }
                let (found, exact) = (merged.percentile(share).unwrap() as f64, exact(&mut all, share) as f64);
                prop_assert!((found - exact).abs() <= ERROR * exact, "{found} instead of {exact}");
            }
        }
    }
}
