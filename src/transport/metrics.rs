//! What is counted, in a registry of its own: two servers in one process do not share figures.

use crate::contract::Method;
use crate::error::Error;
use crate::scheduler::Figures;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Instant;

/// The figures. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    calls: Family<CallLabels, Counter>,
    seconds: Family<TimeLabels, Histogram>,
    /// Requests refused because too many were being answered.
    pub shed: Counter,
    /// Requests being answered.
    pub in_flight: Gauge,
    /// Open streams of changes.
    pub listeners: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Connections refused because too many were open.
    pub connections_refused: Counter,
    /// Connections ended for stalling, or to make room.
    pub connections_cut: Counter,
    /// Credentials that were no good.
    pub bad_credentials: Counter,
    /// Credentials that were no good, from networks that had sent too many of them.
    pub bad_credentials_limited: Counter,
    /// Connections to the database, in use and open.
    pub database_busy: Gauge,
    /// Connections to the database that are open.
    pub database_open: Gauge,
    /// Applications that the access check knows.
    pub applications: Gauge,
    /// Answers out of the reply cache.
    pub replies_kept: Counter,
    /// Answers that could have been there and were made.
    pub replies_made: Counter,
    /// What the reply cache holds.
    pub reply_bytes: Gauge,
    /// Runs of health checks.
    pub checks: Figures,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    plugin: &'static str,
    procedure: &'static str,
    protocol: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    protocol: &'static str,
    kind: &'static str,
}

/// The protocol of a call, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Json,
    Grpc,
}

impl Protocol {
    fn label(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Grpc => "grpc",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("checkmate");
        let metrics = Self {
            registry: Arc::default(),
            calls: Family::default(),
            // 0.1 ms to 26 s: from an answer out of memory to the longest request.
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 4.0, 10))),
            shed: Counter::default(),
            in_flight: Gauge::default(),
            listeners: Gauge::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            connections_cut: Counter::default(),
            bad_credentials: Counter::default(),
            bad_credentials_limited: Counter::default(),
            database_busy: Gauge::default(),
            database_open: Gauge::default(),
            applications: Gauge::default(),
            replies_kept: Counter::default(),
            replies_made: Counter::default(),
            reply_bytes: Gauge::default(),
            checks: Figures::default(),
        };
        registry.register("calls", "Calls of procedures by outcome", metrics.calls.clone());
        registry.register("call_seconds", "How long calls took", metrics.seconds.clone());
        registry.register("requests_shed", "Requests refused under overload", metrics.shed.clone());
        registry.register("requests_in_flight", "Requests being answered", metrics.in_flight.clone());
        registry.register("listeners", "Open streams of changes", metrics.listeners.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("connections_refused", "Connections over the limit", metrics.connections_refused.clone());
        registry.register("connections_cut", "Connections ended for stalling", metrics.connections_cut.clone());
        registry.register("bad_credentials", "Credentials that were refused", metrics.bad_credentials.clone());
        let limited = metrics.bad_credentials_limited.clone();
        registry.register("bad_credentials_limited", "Credentials refused because of too many bad ones", limited);
        registry.register("database_connections_busy", "Database connections in use", metrics.database_busy.clone());
        registry.register("database_connections_open", "Database connections", metrics.database_open.clone());
        registry.register("applications", "Applications known to the access check", metrics.applications.clone());
        registry.register("replies_kept", "Answers out of the reply cache", metrics.replies_kept.clone());
        registry.register("replies_made", "Answers that the reply cache did not hold", metrics.replies_made.clone());
        registry.register("reply_cache_bytes", "What the reply cache holds", metrics.reply_bytes.clone());
        metrics.checks.register(&mut registry);
        Self { registry: Arc::new(registry), ..metrics }
    }
}

impl Metrics {
    /// Counts a call: `None` succeeded.
    pub(super) fn count(&self, method: &Method, protocol: Protocol, started: Instant, outcome: Option<&Error>) {
        let code = outcome.map_or("OK", |error| error.row().json);
        let labels = CallLabels { plugin: method.plugin, procedure: method.name, protocol: protocol.label(), code };
        self.calls.get_or_create(&labels).inc();
        let kind = if method.query { "query" } else { "mutation" };
        let labels = TimeLabels { protocol: protocol.label(), kind };
        self.seconds.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
    }

    /// Everything, in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}
