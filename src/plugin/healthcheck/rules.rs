//! Rules of whole messages.

use super::message;
use super::state::Thresholds;
use crate::contract::{Checker, Rules};
use crate::proto::checkmate::healthcheck::v1 as pb;

impl Rules for pb::StateThresholds {
    fn rules(&self, check: &mut Checker<'_>) {
        match message::thresholds_of(self) {
            Thresholds::Consecutive { degraded, unhealthy, .. } if degraded > unhealthy => {
                check.issue("degraded", "minFailureCount must not be more than that of unhealthy");
            }
            Thresholds::Window { degraded, unhealthy, .. } if degraded > unhealthy => {
                check.issue("degraded", "minFailureCount must not be more than that of unhealthy");
            }
            Thresholds::Window { size, unhealthy, .. } if unhealthy > size => {
                check.issue("unhealthy", "minFailureCount must not be more than windowSize");
            }
            Thresholds::Consecutive { .. } | Thresholds::Window { .. } => {}
        }
    }
}

impl Rules for pb::IncidentPolicy {
    fn rules(&self, check: &mut Checker<'_>) {
        if matches!(self.open_on(), pb::HealthStatus::Healthy | pb::HealthStatus::Unknown) {
            check.issue("openOn", "Must be one of degraded, unhealthy");
        }
    }
}

impl Rules for pb::CreateConfigurationRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        if self.interval_seconds == 0 {
            check.issue("intervalSeconds", "Required");
        }
    }
}

impl Rules for pb::TestHealthCheckRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        if self.id.is_none() && self.strategy_id.is_none() {
            check.issue("strategyId", "Required without the id of a saved check");
        }
        if self.id.is_none() && self.config.is_none() {
            check.issue("config", "Required without the id of a saved check");
        }
    }
}

impl Rules for pb::ReportResultRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        /// A day.
        const LATENCY_MAX: f64 = 86_400_000.0;
        if self.latency_ms.is_some_and(|millis| !(0.0..=LATENCY_MAX).contains(&millis)) {
            check.issue("latencyMs", "Must be between 0 and 86400000");
        }
    }
}
