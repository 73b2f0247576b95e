//! What the server counts, from `/metrics`.

use anyhow::{Context, Result};
use checkmate::world::Clock;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Its counters at one time.
pub struct Figures {
    /// When, in microseconds.
    pub at: i64,
    lines: BTreeMap<String, f64>,
}

/// What was counted between two times.
pub struct Difference(BTreeMap<String, f64>);

impl Figures {
    pub async fn read(server: SocketAddr) -> Result<Self> {
        let at = Clock::system().now().0;
        let text = reqwest::get(format!("http://{server}/metrics")).await?.text().await?;
        let counted = text.lines().filter(|line| line.starts_with("checkmate_check"));
        let line = |line: &str| -> Result<(String, f64)> {
            let (name, value) = line.rsplit_once(' ').context("a figure")?;
            Ok((name.to_owned(), value.parse()?))
        };
        Ok(Self { at, lines: counted.map(line).collect::<Result<_>>()? })
    }

    pub fn since(&self, before: &Self) -> Difference {
        let less =
            |(name, value): (&String, &f64)| (name.clone(), value - before.lines.get(name).copied().unwrap_or(0.0));
        Difference(self.lines.iter().map(less).collect())
    }
}

impl Difference {
    /// The lag, in milliseconds, that this share of the runs did not exceed; within a bucket by its share of it.
    pub fn lag(&self, share: f64) -> f64 {
        let buckets = self.buckets();
        let wanted = buckets.last().map_or(0.0, |(_, all)| all * share);
        let (mut below, mut before) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= wanted && count > before {
                return if bound.is_finite() {
                    (below + (bound - below) * (wanted - before) / (count - before)) * 1e3
                } else {
                    bound
                };
            }
            (below, before) = (bound, count);
        }
        f64::NAN
    }

    /// The share of the runs that started within 50 ms.
    pub fn within_50_ms(&self) -> f64 {
        let buckets = self.buckets();
        let all = buckets.last().map_or(0.0, |(_, all)| *all);
        buckets.iter().find(|(bound, _)| (bound - 0.05).abs() < 1e-9).map_or(f64::NAN, |(_, count)| count / all)
    }

    /// Runs that were not healthy.
    pub fn not_healthy(&self) -> f64 {
        let runs = self.0.iter().filter(|(name, _)| name.starts_with("checkmate_check_runs_total{"));
        runs.filter(|(name, _)| !name.contains("\"healthy\"")).fold(0.0, |all, (_, count)| all + count)
    }

    /// What was left out, for whatever reason.
    pub fn left_out(&self) -> f64 {
        let reasons = ["skipped", "missed", "overrun"].map(|why| format!("checkmate_check_runs_{why}_total"));
        reasons.iter().filter_map(|name| self.0.get(name)).sum()
    }

    /// Bounds in seconds, and how many did not exceed them.
    fn buckets(&self) -> Vec<(f64, f64)> {
        let bound = |name: &str| {
            let text = name.strip_prefix("checkmate_check_start_lag_seconds_bucket{le=\"")?.strip_suffix("\"}")?;
            if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
        };
        let mut found: Vec<_> = self.0.iter().filter_map(|(name, count)| Some((bound(name)?, *count))).collect();
        found.sort_by(|one, other| one.0.total_cmp(&other.0));
        found
    }
}
