//! What runs come to over a span of time: counts, how long each verdict stood, latencies, and the numbers that were found.
//!
//! Tallies of spans beside each other add up to that of both, whatever they are put together from: runs, hours or days.

use super::bits::{BitReader, BitWriter};
use super::sketch::Sketch;
use crate::plugin::healthcheck::domain::Health;
use std::collections::BTreeMap;

/// How many runs there were of each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::plugin::healthcheck) struct Counts {
    pub(in crate::plugin::healthcheck) healthy: u64,
    pub(in crate::plugin::healthcheck) degraded: u64,
    pub(in crate::plugin::healthcheck) unhealthy: u64,
    /// It could not be looked.
    pub(in crate::plugin::healthcheck) unknown: u64,
}

/// How long each verdict stood, in microseconds: from its run to the next, or until it is too old to say anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::plugin::healthcheck) struct Stood {
    pub(in crate::plugin::healthcheck) healthy: u64,
    pub(in crate::plugin::healthcheck) degraded: u64,
    pub(in crate::plugin::healthcheck) unhealthy: u64,
    /// Any of them, during maintenance: not in the others.
    pub(in crate::plugin::healthcheck) maintenance: u64,
}

/// How long runs took, in microseconds; of those that took any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::plugin::healthcheck) struct Latency {
    pub(in crate::plugin::healthcheck) count: u64,
    pub(in crate::plugin::healthcheck) sum: u64,
    pub(in crate::plugin::healthcheck) min: u64,
    pub(in crate::plugin::healthcheck) max: u64,
    pub(in crate::plugin::healthcheck) sketch: Sketch,
}

/// A number that runs found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::plugin::healthcheck) struct Figure {
    pub(in crate::plugin::healthcheck) count: u64,
    pub(in crate::plugin::healthcheck) min: f64,
    pub(in crate::plugin::healthcheck) max: f64,
    pub(in crate::plugin::healthcheck) mean: f64,
    pub(in crate::plugin::healthcheck) last: f64,
}

/// Numbers that runs found, by what they are called.
pub(super) type Figures = BTreeMap<String, Figure>;

/// What runs come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::plugin::healthcheck) struct Tally {
    /// Runs outside of maintenance.
    pub(in crate::plugin::healthcheck) runs: Counts,
    /// Runs during maintenance.
    pub(in crate::plugin::healthcheck) in_maintenance: Counts,
    pub(in crate::plugin::healthcheck) stood: Stood,
    pub(in crate::plugin::healthcheck) latency: Latency,
    /// By the field of the result.
    pub(in crate::plugin::healthcheck) figures: Figures,
}

/// What a stored tally begins with.
const FORM: u64 = 1;

impl Counts {
    pub(super) fn add(&mut self, status: Health) {
        *match status {
            Health::Healthy => &mut self.healthy,
            Health::Degraded => &mut self.degraded,
            Health::Unhealthy => &mut self.unhealthy,
            Health::Unknown => &mut self.unknown,
        } += 1;
    }

    pub(in crate::plugin::healthcheck) fn all(&self) -> u64 {
        self.healthy + self.degraded + self.unhealthy + self.unknown
    }

    pub(in crate::plugin::healthcheck) fn plus(self, other: Self) -> Self {
        Self {
            healthy: self.healthy + other.healthy,
            degraded: self.degraded + other.degraded,
            unhealthy: self.unhealthy + other.unhealthy,
            unknown: self.unknown + other.unknown,
        }
    }

    fn each(self) -> [u64; 4] {
        [self.healthy, self.degraded, self.unhealthy, self.unknown]
    }

    fn read(reader: &mut BitReader<'_>) -> Self {
        let [healthy, degraded, unhealthy, unknown] = std::array::from_fn(|_| reader.gamma());
        Self { healthy, degraded, unhealthy, unknown }
    }
}

impl Stood {
    /// Adds time.
    pub(super) fn add(&mut self, status: Health, micros: u64) {
        match status {
            Health::Healthy => self.healthy += micros,
            Health::Degraded => self.degraded += micros,
            Health::Unhealthy => self.unhealthy += micros,
            Health::Unknown => {}
        }
    }

    /// All of which something is known.
    pub(in crate::plugin::healthcheck) fn known(&self) -> u64 {
        self.healthy + self.degraded + self.unhealthy + self.maintenance
    }
}

impl Latency {
    pub(super) fn of(values: &[u64]) -> Self {
        Self {
            count: values.len() as u64,
            sum: values.iter().sum(),
            min: values.iter().min().copied().unwrap_or_default(),
            max: values.iter().max().copied().unwrap_or_default(),
            sketch: Sketch::of(values.iter().copied()),
        }
    }

    fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.sum += other.sum;
        self.sketch.merge(&other.sketch);
    }

    /// A percentile, never beyond what was measured.
    pub(in crate::plugin::healthcheck) fn percentile(&self, share: f64) -> Option<u64> {
        Some(self.sketch.percentile(share)?.clamp(self.min, self.max))
    }

    fn write(&self, writer: &mut BitWriter) {
        self.sketch.write(writer);
        if self.count > 0 {
            writer.gamma(self.min);
            writer.gamma(self.max - self.min);
            writer.gamma(self.sum);
        }
    }

    fn read(reader: &mut BitReader<'_>) -> Self {
        let sketch = Sketch::read(reader);
        let count = sketch.count();
        if count == 0 {
            return Self::default();
        }
        let min = reader.gamma();
        Self { count, min, max: min.saturating_add(reader.gamma()), sum: reader.gamma(), sketch }
    }
}

impl Figure {
    pub(super) fn of(value: f64) -> Self {
        Self { count: 1, min: value, max: value, mean: value, last: value }
    }

    /// Adds what came later.
    pub(super) fn merge(&mut self, later: &Self) {
        #[expect(clippy::cast_precision_loss, reason = "counts of runs are far below 2^53")]
        let (ours, theirs) = (self.count as f64, later.count as f64);
        self.mean += (later.mean - self.mean) * (theirs / (ours + theirs));
        self.count += later.count;
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.last = later.last;
    }

    fn write(&self, writer: &mut BitWriter) {
        writer.gamma(self.count - 1);
        writer.float(self.last);
        let is_constant = [self.min, self.max, self.mean].iter().all(|one| one.to_bits() == self.last.to_bits());
        writer.flag(is_constant);
        if !is_constant {
            for one in [self.min, self.max, self.mean] {
                writer.float(one);
            }
        }
    }

    fn read(reader: &mut BitReader<'_>) -> Self {
        let count = reader.gamma() + 1;
        let last = reader.float();
        if reader.flag() {
            return Self { count, ..Self::of(last) };
        }
        let [min, max, mean] = std::array::from_fn(|_| reader.float());
        Self { count, min, max, mean, last }
    }
}

/// Adds the figures of later runs.
pub(super) fn merge_figures(earlier: &mut Figures, later: &Figures) {
    for (field, figure) in later {
        earlier.entry(field.clone()).and_modify(|ours| ours.merge(figure)).or_insert(*figure);
    }
}

impl Tally {
    /// Adds what belongs to a later span.
    pub(in crate::plugin::healthcheck) fn merge(&mut self, later: &Self) {
        self.runs = self.runs.plus(later.runs);
        self.in_maintenance = self.in_maintenance.plus(later.in_maintenance);
        self.stood.healthy += later.stood.healthy;
        self.stood.degraded += later.stood.degraded;
        self.stood.unhealthy += later.stood.unhealthy;
        self.stood.maintenance += later.stood.maintenance;
        self.latency.merge(&later.latency);
        merge_figures(&mut self.figures, &later.figures);
    }

    /// All runs, whenever they took place.
    pub(in crate::plugin::healthcheck) fn counts(&self) -> Counts {
        self.runs.plus(self.in_maintenance)
    }

    pub(in crate::plugin::healthcheck) fn encode(&self) -> Vec<u8> {
        let mut writer = BitWriter::default();
        writer.bits(FORM, 8);
        let is_plain = self.in_maintenance.all() == 0 && self.stood.maintenance == 0;
        for count in self.runs.each() {
            writer.gamma(count);
        }
        writer.flag(is_plain);
        if !is_plain {
            for count in self.in_maintenance.each() {
                writer.gamma(count);
            }
            writer.gamma(self.stood.maintenance);
        }
        for stood in [self.stood.healthy, self.stood.degraded, self.stood.unhealthy] {
            writer.gamma(stood);
        }
        self.latency.write(&mut writer);
        writer.gamma(self.figures.len() as u64);
        for (field, figure) in &self.figures {
            writer.text(field);
            figure.write(&mut writer);
        }
        writer.finish()
    }

    /// What [`Self::encode`] wrote; `None` for anything else.
    pub(in crate::plugin::healthcheck) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = BitReader::new(bytes);
        if reader.bits(8) != FORM {
            return None;
        }
        let mut tally = Self { runs: Counts::read(&mut reader), ..Self::default() };
        if !reader.flag() {
            tally.in_maintenance = Counts::read(&mut reader);
            tally.stood.maintenance = reader.gamma();
        }
        [tally.stood.healthy, tally.stood.degraded, tally.stood.unhealthy] = std::array::from_fn(|_| reader.gamma());
        tally.latency = Latency::read(&mut reader);
        for _ in 0..reader.gamma() {
            let field = reader.text()?;
            tally.figures.insert(field, Figure::read(&mut reader));
            if reader.is_over() {
                return None;
            }
        }
        (!reader.is_over()).then_some(tally)
    }
}
