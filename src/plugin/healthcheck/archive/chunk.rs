//! The runs of one hour of a check of a system as one value of some 2 bytes a run.

use super::bits::{BitReader, BitWriter, rice_bits};
use crate::database::Timestamp;
use crate::plugin::healthcheck::domain::{Health, RunKind};

/// Microseconds of an hour.
pub(in crate::plugin::healthcheck) const HOUR_US: i64 = 3_600_000_000;

/// Of a day.
pub(in crate::plugin::healthcheck) const DAY_US: i64 = 24 * HOUR_US;

/// An hour or a day by its number since 1970, UTC.
pub(in crate::plugin::healthcheck) fn hour_of(at: Timestamp) -> i64 {
    at.0.div_euclid(HOUR_US)
}

/// A run as the archive keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin::healthcheck) struct Sample {
    /// The time for which it was due.
    pub(in crate::plugin::healthcheck) at: Timestamp,
    /// Why it took place.
    pub(in crate::plugin::healthcheck) kind: RunKind,
    /// What came of it.
    pub(in crate::plugin::healthcheck) status: Health,
    /// How long it took.
    pub(in crate::plugin::healthcheck) latency_us: Option<i64>,
}

/// What a chunk begins with, so that another form can be told from this one.
const FORM: u64 = 1;

const STATUSES: [Health; 4] = [Health::Healthy, Health::Degraded, Health::Unhealthy, Health::Unknown];
const KINDS: [RunKind; 3] = [RunKind::Scheduled, RunKind::Wanted, RunKind::Reported];

fn code(sample: &Sample) -> u64 {
    let status = STATUSES.iter().position(|one| *one == sample.status).unwrap_or_default();
    let kind = KINDS.iter().position(|one| *one == sample.kind).unwrap_or_default();
    (status << 2 | kind) as u64
}

/// Runs of one hour, oldest first, each of another time.
pub(in crate::plugin::healthcheck) fn encode(samples: &[Sample]) -> Vec<u8> {
    let mut writer = BitWriter::default();
    writer.bits(FORM, 8);
    writer.gamma(samples.len() as u64);
    write_times(&mut writer, samples);
    write_codes(&mut writer, samples);
    write_latencies(&mut writer, samples);
    writer.finish()
}

/// What [`encode`] was given; `None` for anything else.
pub(in crate::plugin::healthcheck) fn decode(hour: i64, bytes: &[u8]) -> Option<Vec<Sample>> {
    let mut reader = BitReader::new(bytes);
    if reader.bits(8) != FORM {
        return None;
    }
    let count = usize::try_from(reader.gamma()).ok().filter(|count| *count <= bytes.len() * 8)?;
    let times = read_times(&mut reader, hour, count);
    let codes = read_codes(&mut reader, count)?;
    let latencies = read_latencies(&mut reader, count);
    let sample = |((at, (status, kind)), latency_us)| Sample { at, kind, status, latency_us };
    let samples = times.into_iter().zip(codes).zip(latencies).map(sample).collect();
    (!reader.is_over()).then_some(samples)
}

/// A rhythm that is kept costs one bit a run: what is written is how each step differs from the one before.
fn write_times(writer: &mut BitWriter, samples: &[Sample]) {
    let in_millis = samples.iter().all(|sample| sample.at.0 % 1_000 == 0);
    writer.flag(in_millis);
    let unit = if in_millis { 1_000 } else { 1 };
    let (mut last, mut step) = (0, 0);
    for sample in samples {
        let at = sample.at.0.rem_euclid(HOUR_US) / unit;
        writer.signed(at - last - step);
        (step, last) = (at - last, at);
    }
}

fn read_times(reader: &mut BitReader<'_>, hour: i64, count: usize) -> Vec<Timestamp> {
    let unit = if reader.flag() { 1_000 } else { 1 };
    let (mut at, mut step) = (0_i64, 0_i64);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        step = step.saturating_add(reader.signed());
        at = at.saturating_add(step);
        times.push(Timestamp(hour.saturating_mul(HOUR_US).saturating_add(at.saturating_mul(unit))));
    }
    times
}

/// What repeats is counted.
fn write_codes(writer: &mut BitWriter, samples: &[Sample]) {
    for same in samples.chunk_by(|a, b| code(a) == code(b)) {
        writer.bits(same.first().map_or(0, code), 4);
        writer.gamma(same.len() as u64 - 1);
    }
}

fn read_codes(reader: &mut BitReader<'_>, count: usize) -> Option<Vec<(Health, RunKind)>> {
    let mut codes = Vec::with_capacity(count);
    while codes.len() < count {
        let code = usize::try_from(reader.bits(4)).ok()?;
        let found = (*STATUSES.get(code >> 2)?, *KINDS.get(code & 3)?);
        let times = usize::try_from(reader.gamma()).ok()?.saturating_add(1);
        codes.extend(std::iter::repeat_n(found, times.min(count - codes.len())));
    }
    Some(codes)
}

fn write_latencies(writer: &mut BitWriter, samples: &[Sample]) {
    let known = || samples.iter().filter_map(|sample| sample.latency_us).map(|latency| latency.max(0).unsigned_abs());
    let all = samples.iter().all(|sample| sample.latency_us.is_some());
    writer.flag(all);
    let least = known().min().unwrap_or_default();
    let width = width_for(|| known().map(|latency| latency - least));
    writer.gamma(least);
    writer.bits(width.into(), 6);
    for sample in samples {
        if !all {
            writer.flag(sample.latency_us.is_some());
        }
        if let Some(latency) = sample.latency_us {
            writer.rice(latency.max(0).unsigned_abs() - least, width);
        }
    }
}

fn read_latencies(reader: &mut BitReader<'_>, count: usize) -> Vec<Option<i64>> {
    let all = reader.flag();
    let (least, width) = (reader.gamma(), u32::try_from(reader.bits(6)).unwrap_or_default());
    let latency = |_| {
        let is_known = all || reader.flag();
        is_known.then(|| i64::try_from(least.saturating_add(reader.rice(width))).unwrap_or(i64::MAX))
    };
    (0..count).map(latency).collect()
}

/// The width with which these are shortest: around that of their mean.
fn width_for<I: Iterator<Item = u64>>(values: impl Fn() -> I) -> u32 {
    let (sum, count) = values().fold((0_u64, 0_u64), |(sum, count), value| (sum.saturating_add(value), count + 1));
    let mean = sum.checked_div(count).unwrap_or_default().max(1);
    let around = mean.ilog2();
    let cost = |width: &u32| values().map(|value| rice_bits(value, *width)).sum::<u64>();
    (around.saturating_sub(4)..=around + 1).min_by_key(cost).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 490_000;

    fn samples() -> impl Strategy<Value = Vec<Sample>> {
        let one = (0_i64..HOUR_US, 0_usize..4, 0_usize..3, prop::option::of(0_i64..(1 << 45)));
        prop::collection::vec(one, 0..200).prop_map(|mut all| {
            all.sort_by_key(|one| one.0);
            all.dedup_by_key(|one| one.0);
            let sample = |(at, status, kind, latency_us): (i64, usize, usize, Option<i64>)| Sample {
                at: Timestamp(HOUR * HOUR_US + at),
                kind: KINDS[kind],
                status: STATUSES[status],
                latency_us,
            };
            all.into_iter().map(sample).collect()
        })
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(samples in samples()) {
            prop_assert_eq!(decode(HOUR, &encode(&samples)), Some(samples));
        }

        #[test]
        fn damage_is_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(first) = bytes.first_mut() {
                *first = 1;
            }
            let _ = decode(HOUR, &bytes);
        }
    }

    #[test]
    fn a_run_in_its_rhythm_takes_less_than_three_bytes() {
        let mut state = 1_u64;
        let mut latency = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some(80_000 + i64::try_from((state >> 40) % 60_000).unwrap())
        };
        let at = |place: i64| Timestamp(HOUR * HOUR_US + 12_345_678 + place * 30_000_000);
        let samples: Vec<_> = (0..119)
            .map(|place| Sample {
                at: at(place),
                kind: RunKind::Scheduled,
                status: Health::Healthy,
                latency_us: latency(),
            })
            .collect();
        let bytes = encode(&samples).len();
        assert!(bytes < samples.len() * 3, "{bytes}");
        assert_eq!(decode(HOUR, &encode(&samples)), Some(samples));
    }
}
