//! What is told of the past: charts, uptime, changes of status, and for how long all of it is kept.

use super::archive::chunk::{DAY_US, HOUR_US, hour_of};
use super::archive::sketch;
use super::archive::span::Span;
use super::archive::store::{Owner, StatusChange};
use super::archive::sum::{Source, tellable};
use super::archive::tally::{Counts, Figure, Tally};
use super::domain::{Association, CheckId};
use super::message;
use super::retention::Retention;
use super::runs::place;
use super::series::{Edges, RAW_RUNS_MAX, Wanted};
use super::service::{Healthchecks, missing, wrong};
use crate::access::Call;
use crate::contract::Row;
use crate::database::{Reader, Timestamp};
use crate::error::{Error, Result};
use crate::plugin::catalog::domain::SystemId;
use crate::proto::checkmate::healthcheck::v1 as pb;
use chrono_tz::Tz;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};

/// When a caller does not say from when.
const UPTIME_US: i64 = 30 * DAY_US;

/// A chart of which nobody says how many points it has.
const POINTS: i64 = 500;

/// More buckets than a screen has pixels are a mistake.
const BUCKETS_MAX: i64 = 10_000;

/// The range beyond which existing clients mean days.
const AUTO_HOURS_MAX_US: i64 = 7 * DAY_US;

/// A chart as it was made.
pub(super) struct Chart {
    owner: Owner,
    edges: Edges,
    tallies: Vec<Tally>,
    sources: BTreeSet<Source>,
    span: Span,
    now: Timestamp,
}

/// What a chart is asked for: the same in two procedures.
pub(super) struct Asked<'r> {
    pub(super) system_id: &'r str,
    pub(super) configuration_id: &'r str,
    pub(super) start_date: Option<&'r prost_types::Timestamp>,
    pub(super) end_date: Option<&'r prost_types::Timestamp>,
    pub(super) target_points: Option<i32>,
    pub(super) bucket_size: pb::BucketSize,
    pub(super) time_zone: Option<&'r str>,
    /// Whether it shows the numbers that runs found.
    pub(super) with_numbers: bool,
}

impl Asked<'_> {
    fn wanted(&self) -> Result<Wanted> {
        let time = |given: Option<&prost_types::Timestamp>| given.map(Timestamp::of);
        let (Some(from), Some(to)) = (time(self.start_date), time(self.end_date)) else {
            return Err(Error::bug("both ends are required"));
        };
        let step_us = match self.bucket_size {
            pb::BucketSize::Unspecified => None,
            pb::BucketSize::Daily => Some(DAY_US),
            pb::BucketSize::Auto if to.0 - from.0 > AUTO_HOURS_MAX_US => Some(DAY_US),
            pb::BucketSize::Hourly | pb::BucketSize::Auto => Some(HOUR_US),
        };
        if step_us.is_some_and(|step| (to.0 - from.0) / step >= BUCKETS_MAX) {
            return Err(wrong("bucketSize", &format!("Makes more than {BUCKETS_MAX} buckets")));
        }
        let zone = self.time_zone.map(zone).transpose()?;
        Ok(Wanted { span: (from, to), points: self.target_points.map_or(POINTS, i64::from), step_us, zone })
    }
}

fn zone(name: &str) -> Result<Tz> {
    name.parse().map_err(|_| wrong("timeZone", "Is not an IANA time zone"))
}

impl Reader {
    /// An association by its ends.
    async fn must_have_association(&mut self, check: &str, system: &str) -> Result<Association> {
        let (check, system) = (CheckId::parse(check)?, SystemId::parse(system)?);
        let found = self.association(check, system).await?;
        found.ok_or_else(|| Error::NotFound(format!("Health check {check} is not associated with system {system}")))
    }

    async fn must_have_owner(&mut self, association: i64) -> Result<Owner> {
        let found = self.owner(association).await?;
        found.ok_or_else(|| Error::bug(format!("association {association} has no archive")))
    }

    async fn maintenance_of(&mut self, owner: &Owner, span: Span) -> Result<Vec<Span>> {
        Ok(self.maintained(&[owner.system_id], span).await?.remove(&owner.system_id).unwrap_or_default())
    }
}

impl Healthchecks {
    pub(super) async fn chart(&self, call: &Call, asked: &Asked<'_>) -> Result<Chart> {
        let wanted = asked.wanted()?;
        let mut store = self.kernel.database.snapshot().await?;
        let number = store.must_have_association(asked.configuration_id, asked.system_id).await?.number;
        let owner = store.must_have_owner(number).await?;
        let (from, to) = wanted.span;
        let span = (from, to.min(Timestamp(call.now.0 + 1)));
        let wanted = Wanted { span: if span.0 < span.1 { span } else { (from, from) }, ..wanted };
        // Of most runs that are sealed the numbers are in the tally of the hour alone.
        let runs_allowed = !asked.with_numbers || hour_of(from) >= owner.archive.upto;
        let mut edges = wanted.edges(&owner, runs_allowed);
        // They are counted only if they are to be read: that is as many rows as there are hours.
        if edges.is_from_runs() {
            let runs = store.count_sealed(&[number], hour_of(from), hour_of(to).saturating_add(1)).await?;
            edges = wanted.edges(&owner, runs <= RAW_RUNS_MAX);
        }
        let maintenance = store.maintenance_of(&owner, (edges.first(), edges.last())).await?;
        let (tallies, sources) = store.tally_buckets(&owner, &edges, call.now, &maintenance).await?;
        Ok(Chart { owner, edges, tallies, sources, span: (from, to), now: call.now })
    }

    pub(super) async fn availability(
        &self,
        call: &Call,
        check: &str,
        system: &str,
    ) -> Result<pb::GetAvailabilityStatsResponse> {
        let mut store = self.kernel.database.snapshot().await?;
        let number = store.must_have_association(check, system).await?.number;
        let owner = store.must_have_owner(number).await?;
        let mut counts = [Counts::default(); 2];
        for (counts, days) in counts.iter_mut().zip([31, 365]) {
            let span = tellable(&owner, (Timestamp(call.now.0 - days * DAY_US), Timestamp(call.now.0 + 1)));
            *counts = store.tally_span(&owner, span, &[]).await?.tally.counts();
        }
        let [month, year] = counts;
        Ok(pb::GetAvailabilityStatsResponse {
            availability31_days: percent(month.healthy, judged(month)),
            availability365_days: percent(year.healthy, judged(year)),
            total_runs31_days: whole(judged(month)),
            total_runs365_days: whole(judged(year)),
        })
    }

    pub(super) async fn uptime(&self, call: &Call, request: &pb::GetUptimeRequest) -> Result<pb::GetUptimeResponse> {
        let to = request.end_date.as_ref().map_or(call.now, Timestamp::of).min(call.now);
        let from = request.start_date.as_ref().map_or(Timestamp(to.0 - UPTIME_US), Timestamp::of);
        let mut store = self.kernel.database.snapshot().await?;
        let system = store.must_have_system(&request.system_id).await?.id;
        let check = request.configuration_id.as_deref().map(CheckId::parse).transpose()?;
        let associations = store.associations(0, Some(system), check, i64::MAX).await?;
        if let Some(check) = check.filter(|_| associations.is_empty()) {
            return Err(Error::NotFound(format!("Health check {check} is not associated with system {system}")));
        }
        let mut checks = vec![];
        for association in associations {
            let owner = store.must_have_owner(association.number).await?;
            let span = tellable(&owner, (from, to.max(from)));
            let maintenance = store.maintenance_of(&owner, span).await?;
            let sum = store.tally_span(&owner, (span.0, span.1.min(call.now)), &maintenance).await?;
            checks.push(uptime(&association, span, call.now, &sum.tally, &sum.sources));
        }
        Ok(pb::GetUptimeResponse { system_id: system.to_string(), checks })
    }

    pub(super) async fn status_changes(
        &self,
        request: &pb::GetStatusChangesRequest,
    ) -> Result<pb::GetStatusChangesResponse> {
        let page = self.kernel.page(request)?;
        let mut store = self.kernel.database.reader().await?;
        let system = store.must_have_system(&request.system_id).await?.id;
        let check = request.configuration_id.as_deref().map(CheckId::parse).transpose()?;
        let associations = store.associations(0, Some(system), check, i64::MAX).await?;
        let checks: HashMap<_, _> = associations.iter().map(|one| (one.number, one.check_id)).collect();
        let numbers: Vec<_> = checks.keys().copied().collect();
        let time =
            |given: &Option<prost_types::Timestamp>, default| given.as_ref().map_or(Timestamp(default), Timestamp::of);
        let span = (time(&request.start_date, i64::MIN), time(&request.end_date, i64::MAX));
        let before = page.after.as_deref().and_then(place).unwrap_or((Timestamp(i64::MAX), i64::MAX));
        let mut found = store.status_changes(&numbers, span, before, page.limit()).await?;
        let next_page_token = self.kernel.pages.cut(request, &page, &mut found);
        let change = |one: StatusChange| {
            let configuration_id = checks.get(&one.association).map(CheckId::to_string).unwrap_or_default();
            let (system_id, timestamp) = (system.to_string(), Some(one.at.message()));
            pb::StatusChange { configuration_id, system_id, timestamp, status: message::health(one.status) }
        };
        Ok(pb::GetStatusChangesResponse { changes: found.into_iter().map(change).collect(), next_page_token })
    }

    pub(super) async fn retention(&self, check: &str, system: &str) -> Result<Option<pb::RetentionConfig>> {
        let mut store = self.kernel.database.reader().await?;
        let number = store.must_have_association(check, system).await?.number;
        Ok(store.retention(number).await?.map(|text| Retention::stored(Some(&text)).message()))
    }

    pub(super) async fn keep_for(
        &self,
        call: &Call,
        request: pb::UpdateRetentionConfigRequest,
    ) -> Result<Option<pb::RetentionConfig>> {
        let check = CheckId::parse(&request.configuration_id)?;
        let mut store = self.kernel.database.writer().await?;
        store.lock_check(check).await?.ok_or_else(|| missing(check))?;
        let number = store.must_have_association(&request.configuration_id, &request.system_id).await?.number;
        let kept = request.retention_config.as_ref().map(Retention::of);
        let text = kept.map(|kept| serde_json::to_string(&kept)).transpose();
        let text = text.map_err(|_| Error::bug("days are JSON"))?;
        let before = Retention::stored(store.retention(number).await?.as_deref());
        store.save_retention(number, text.as_deref()).await?;
        if kept.unwrap_or_default().is_shorter_than(before) {
            store.ask_for_sweep(number).await?;
        }
        self.kernel.commit(store, call.did("association.retention_changed", check)).await?;
        Ok(kept.map(Retention::message))
    }
}

impl Row for StatusChange {
    fn position(&self) -> String {
        format!("{}.{}", self.at.0, self.association)
    }

    fn bytes(&self) -> usize {
        0
    }
}

impl Chart {
    pub(super) fn interval_seconds(&self) -> i64 {
        self.edges.step_us / 1_000_000
    }

    pub(super) fn resolution(&self) -> String {
        self.edges.resolution()
    }

    pub(super) fn sources(&self) -> Vec<String> {
        words(&self.sources)
    }

    pub(super) fn error() -> f64 {
        sketch::ERROR
    }

    pub(super) fn approximate_before(&self) -> Option<prost_types::Timestamp> {
        self.edges.approximate_before(&self.owner).map(Timestamp::message)
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = (pb::HistoryBucket, &Tally)> {
        self.edges.spans().zip(&self.tallies).map(|(span, tally)| (self.bucket(span, tally), tally))
    }

    fn bucket(&self, (from, to): Span, tally: &Tally) -> pb::HistoryBucket {
        let (counts, stood, latency) = (tally.counts(), tally.stood, &tally.latency);
        let size = match to.0 - from.0 {
            HOUR_US => Some(pb::BucketSize::Hourly.into()),
            DAY_US => Some(pb::BucketSize::Daily.into()),
            _ => None,
        };
        let percentile = |share| latency.percentile(share).map(millis);
        let known = latency.count > 0;
        let passed = self.now.min(to).0.saturating_sub(from.0).max(0).unsigned_abs();
        pb::HistoryBucket {
            bucket_start: Some(from.message()),
            bucket_end: Some(to.message()),
            bucket_size: size,
            bucket_interval_seconds: (to.0 - from.0) / 1_000_000,
            run_count: whole(counts.all()),
            healthy_count: whole(counts.healthy),
            degraded_count: whole(counts.degraded),
            unhealthy_count: whole(counts.unhealthy),
            unknown_count: whole(counts.unknown),
            success_rate: percent(counts.healthy, judged(counts)).map(|percent| percent / 100.0),
            avg_latency_ms: known.then(|| mean_ms(latency.sum, latency.count)),
            min_latency_ms: known.then(|| millis(latency.min)),
            max_latency_ms: known.then(|| millis(latency.max)),
            p50_latency_ms: percentile(0.5),
            p95_latency_ms: percentile(0.95),
            p99_latency_ms: percentile(0.99),
            healthy_seconds: seconds(stood.healthy),
            degraded_seconds: seconds(stood.degraded),
            unhealthy_seconds: seconds(stood.unhealthy),
            maintenance_seconds: seconds(stood.maintenance),
            no_data_seconds: seconds(passed.saturating_sub(stood.known())),
            partial: from < self.span.0 || to > self.span.1 || to > self.now,
        }
    }
}

/// A bucket with the numbers that runs found.
pub(super) fn detailed(bucket: &pb::HistoryBucket, tally: &Tally) -> pb::DetailedHistoryBucket {
    let figure = |figure: &Figure| json!({"count": figure.count, "min": figure.min, "max": figure.max, "mean": figure.mean, "last": figure.last});
    let found: serde_json::Map<_, _> = tally.figures.iter().map(|(field, one)| (field.clone(), figure(one))).collect();
    pb::DetailedHistoryBucket {
        bucket_start: bucket.bucket_start,
        bucket_end: bucket.bucket_end,
        bucket_size: bucket.bucket_size,
        bucket_interval_seconds: bucket.bucket_interval_seconds,
        run_count: bucket.run_count,
        healthy_count: bucket.healthy_count,
        degraded_count: bucket.degraded_count,
        unhealthy_count: bucket.unhealthy_count,
        unknown_count: bucket.unknown_count,
        success_rate: bucket.success_rate,
        avg_latency_ms: bucket.avg_latency_ms,
        min_latency_ms: bucket.min_latency_ms,
        max_latency_ms: bucket.max_latency_ms,
        p50_latency_ms: bucket.p50_latency_ms,
        p95_latency_ms: bucket.p95_latency_ms,
        p99_latency_ms: bucket.p99_latency_ms,
        healthy_seconds: bucket.healthy_seconds,
        degraded_seconds: bucket.degraded_seconds,
        unhealthy_seconds: bucket.unhealthy_seconds,
        maintenance_seconds: bucket.maintenance_seconds,
        no_data_seconds: bucket.no_data_seconds,
        partial: bucket.partial,
        aggregated_result: message::object(&serde_json::Value::Object(found).to_string()),
    }
}

fn uptime(
    association: &Association,
    span: Span,
    now: Timestamp,
    tally: &Tally,
    sources: &BTreeSet<Source>,
) -> pb::Uptime {
    let (runs, stood) = (tally.runs, tally.stood);
    let works = stood.healthy + stood.degraded;
    let passed = span.1.min(now).0.saturating_sub(span.0.0).max(0).unsigned_abs();
    pb::Uptime {
        configuration_id: association.check_id.to_string(),
        configuration_name: association.check_name.clone(),
        start_date: Some(span.0.message()),
        end_date: Some(span.1.min(now.max(span.0)).message()),
        run_ratio_percent: percent(runs.healthy, judged(runs)),
        time_weighted_percent: percent(works, works + stood.unhealthy),
        run_count: whole(judged(runs)),
        healthy_count: whole(runs.healthy),
        degraded_count: whole(runs.degraded),
        unhealthy_count: whole(runs.unhealthy),
        unknown_count: whole(tally.counts().unknown),
        maintenance_run_count: whole(judged(tally.in_maintenance)),
        healthy_seconds: seconds(stood.healthy),
        degraded_seconds: seconds(stood.degraded),
        unhealthy_seconds: seconds(stood.unhealthy),
        maintenance_seconds: seconds(stood.maintenance),
        no_data_seconds: seconds(passed.saturating_sub(stood.known())),
        sources: words(sources),
    }
}

fn words(sources: &BTreeSet<Source>) -> Vec<String> {
    let word = |source: &Source| match source {
        Source::Raw => "raw",
        Source::Hourly => "hourly",
        Source::Daily => "daily",
    };
    sources.iter().map(word).map(str::to_owned).collect()
}

/// Runs that could look.
fn judged(counts: Counts) -> u64 {
    counts.all() - counts.unknown
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn percent(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| 100.0 * part as f64 / of as f64)
}

#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1_000_000.0
}

#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn mean_ms(sum: u64, count: u64) -> f64 {
    (sum as f64 / count as f64).round() / 1_000.0
}
