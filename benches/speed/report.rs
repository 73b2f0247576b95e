//! The table.

use crate::load::Load;
use std::fmt;

/// What was measured, in order.
#[derive(Default)]
pub struct Table {
    pub rows: Vec<Row>,
    /// Figures that are no rates.
    pub notes: Vec<String>,
}

/// One thing that was measured, in some rounds.
pub struct Row {
    name: String,
    bytes: usize,
    /// The row that this one is compared with.
    against: Option<String>,
    loads: Vec<Load>,
}

impl Row {
    pub fn new(name: String, bytes: usize, against: Option<String>) -> Self {
        Self { name, bytes, against, loads: vec![] }
    }

    pub fn add(&mut self, load: Load) {
        self.loads.push(load);
    }

    fn median_of(&self, of: impl Fn(&Load) -> f64) -> f64 {
        median(&mut self.loads.iter().map(of).collect::<Vec<_>>())
    }

    fn rate(&self) -> f64 {
        self.median_of(|load| load.rate)
    }

    /// The time in µs within which this share of a round's requests was answered.
    fn quantile(&self, share: f64) -> f64 {
        self.median_of(|load| {
            let place = (load.times.len() as f64 * share) as usize;
            load.times.get(place).or(load.times.last()).map_or(f64::NAN, |ns| *ns as f64 / 1e3)
        })
    }
}

/// The middle one, or between the two in the middle.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    let upper = figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = figures.len().checked_sub(1).and_then(|last| figures.get(last / 2)).copied().unwrap_or(f64::NAN);
    f64::midpoint(lower, upper)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<56} {:>8} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7}",
            "rows, server, way", "bytes", "requests/s", "p50 µs", "p99 µs", "ratio", "server", "load"
        )?;
        for row in &self.rows {
            let against = row.against.as_ref().and_then(|name| self.rows.iter().find(|row| row.name == *name));
            let ratio = against.map(|against| format!("{:.2}", row.rate() / against.rate())).unwrap_or_default();
            writeln!(
                f,
                "{:<56} {:>8} {:>9.0} {:>9.0} {:>8.0} {:>8} {:>6.0}% {:>6.0}%",
                row.name,
                row.bytes,
                row.rate(),
                row.quantile(0.5),
                row.quantile(0.99),
                ratio,
                row.median_of(|load| load.server) * 100.0,
                row.median_of(|load| load.client) * 100.0
            )?;
        }
        writeln!(
            f,
            "\nratio: against the bare handler with as many rows (axum for JSON, tonic for gRPC), and for pages against 100 \
             rows;\nserver and load: share of a core. Where the load takes 100%, it is what was measured."
        )?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}
