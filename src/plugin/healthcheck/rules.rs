//! Rules of whole messages.

use super::message;
use super::retention::Retention;
use super::state::Thresholds;
use crate::contract::{Checker, Rules};
use crate::database::Timestamp;
use crate::proto::checkmate::healthcheck::v1 as pb;

/// A day: what takes longer is no latency.
const LATENCY_MS_MAX: f64 = 86_400_000.0;

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
        if self.latency_ms.is_some_and(|millis| !(0.0..=LATENCY_MS_MAX).contains(&millis)) {
            check.issue("latencyMs", "Must be between 0 and 86400000");
        }
    }
}

impl Rules for pb::RetentionConfig {
    fn rules(&self, check: &mut Checker<'_>) {
        let kept = Retention::of(self);
        if kept.raw_days >= kept.hourly_days {
            check.issue("rawRetentionDays", "Must be less than hourlyRetentionDays");
        }
        if kept.hourly_days >= kept.daily_days {
            check.issue("hourlyRetentionDays", "Must be less than dailyRetentionDays");
        }
    }
}

/// A range has to begin before it ends; what both are is decided elsewhere.
fn in_order(check: &mut Checker<'_>, start: Option<&prost_types::Timestamp>, end: Option<&prost_types::Timestamp>) {
    if let (Some(start), Some(end)) = (start, end)
        && Timestamp::of(start) >= Timestamp::of(end)
    {
        check.issue("endDate", "Must be after startDate");
    }
}

impl Rules for pb::GetAggregatedHistoryRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        in_order(check, self.start_date.as_ref(), self.end_date.as_ref());
    }
}

impl Rules for pb::GetDetailedAggregatedHistoryRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        in_order(check, self.start_date.as_ref(), self.end_date.as_ref());
    }
}

impl Rules for pb::GetUptimeRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        in_order(check, self.start_date.as_ref(), self.end_date.as_ref());
    }
}

impl Rules for pb::ImportedRun {
    fn rules(&self, check: &mut Checker<'_>) {
        if self.latency_ms.is_some_and(|millis| !(0.0..=LATENCY_MS_MAX).contains(&millis)) {
            check.issue("latencyMs", "Must be between 0 and 86400000");
        }
    }
}
