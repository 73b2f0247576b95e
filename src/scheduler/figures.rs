//! What is counted about runs.

use crate::plugin::healthcheck::Swept;
use crate::plugin::healthcheck::domain::Health;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The figures. Cheap to clone.
#[derive(Clone)]
pub struct Figures {
    runs: Family<Verdict, Counter>,
    /// How late runs were started.
    pub lag: Histogram,
    /// Runs going on.
    pub in_flight: Gauge,
    /// Checks of systems in the schedule.
    pub scheduled: Gauge,
    /// Runs whose turn did not come in time.
    pub skipped: Counter,
    /// Runs left out because the one before was still going on.
    pub overrun: Counter,
    /// Times that passed while nobody looked.
    pub missed: Counter,
    /// Runs that are not stored yet.
    pub waiting: Gauge,
    /// Runs that could not be stored.
    pub lost: Counter,
    /// Associations with an hour that is over and not sealed.
    pub unsealed: Gauge,
    /// Runs that were sealed.
    pub sealed: Counter,
    /// How long each transaction of the archive took: others wait for it.
    pub archiving: Histogram,
    swept: Family<Tier, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tier {
    tier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    status: &'static str,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            runs: Family::default(),
            // With a bound at 50 ms, which is what is promised.
            lag: Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]),
            in_flight: Gauge::default(),
            scheduled: Gauge::default(),
            skipped: Counter::default(),
            overrun: Counter::default(),
            missed: Counter::default(),
            waiting: Gauge::default(),
            lost: Counter::default(),
            unsealed: Gauge::default(),
            sealed: Counter::default(),
            // 1 ms to 4 s.
            archiving: Histogram::new(exponential_buckets(0.001, 2.0, 13)),
            swept: Family::default(),
        }
    }
}

impl Figures {
    /// Counts a run.
    pub fn count(&self, verdict: Health) {
        self.runs.get_or_create(&Verdict { status: verdict.word() }).inc();
    }

    /// Counts what was deleted.
    pub(super) fn swept(&self, swept: Swept) {
        for (tier, rows) in [("raw", swept.raw), ("hourly", swept.hourly), ("daily", swept.daily)] {
            self.swept.get_or_create(&Tier { tier }).inc_by(rows);
        }
    }

    /// Has them shown.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("check_runs", "Runs of health checks by what came of them", self.runs.clone());
        registry.register("check_start_lag_seconds", "How late runs were started", self.lag.clone());
        registry.register("checks_in_flight", "Runs going on", self.in_flight.clone());
        registry.register("checks_scheduled", "Checks of systems in the schedule", self.scheduled.clone());
        registry.register("check_runs_skipped", "Runs whose turn did not come in time", self.skipped.clone());
        registry.register("check_runs_overrun", "Runs left out: the one before went on", self.overrun.clone());
        registry.register("check_runs_missed", "Times that passed while nobody looked", self.missed.clone());
        registry.register("check_runs_lost", "Runs that could not be stored", self.lost.clone());
        registry.register("check_runs_waiting", "Runs that are not stored yet", self.waiting.clone());
        let help = "Checks of systems with an hour that is over and not sealed";
        registry.register("history_unsealed", help, self.unsealed.clone());
        registry.register("history_sealed_runs", "Runs that were sealed", self.sealed.clone());
        let help = "How long transactions of sealing and retention took";
        registry.register("history_archiving_seconds", help, self.archiving.clone());
        registry.register("history_swept_rows", "Rows that were older than they are kept", self.swept.clone());
    }
}
