//! Heartbeats: nothing is looked at; what runs elsewhere reports, and silence is what is noticed.

use super::{Fault, Net, Probe, Trouble};
use crate::database::Timestamp;
use chrono::DateTime;
use chrono_tz::Tz;
use croner::Cron;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// When a report is expected: after each interval, or as a cron expression says.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Heartbeat {
    /// How long a report may be late, in seconds, 0 to 604,800 (a week).
    #[serde(default = "grace")]
    #[schemars(range(min = 0, max = 604_800))]
    grace_seconds: u32,
    /// When reports are expected, `30 2 * * *`; without it, an interval of the check after the one before.
    cron: Option<String>,
    /// The IANA time zone of the cron expression.
    #[serde(default = "utc")]
    time_zone: String,
}

fn grace() -> u32 {
    60
}

fn utc() -> String {
    "UTC".to_owned()
}

/// What a report says.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// Whether there was a report.
    #[serde(skip_serializing_if = "Option::is_none")]
    reported: Option<bool>,
}

/// Up to when a report is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The last that has passed without a report, if one has.
    pub passed: Option<Timestamp>,
    /// The next.
    pub next: Timestamp,
}

const SECOND_US: i64 = 1_000_000;

impl Heartbeat {
    /// The deadlines around now, after the last report, or after the check was saved if there was none.
    #[must_use]
    pub fn deadlines(&self, reported: Timestamp, interval_us: i64, now: Timestamp) -> Deadlines {
        let grace = i64::from(self.grace_seconds) * SECOND_US;
        let expected_by = Timestamp(now.0 - grace);
        let late = |expected: Timestamp| Timestamp(expected.0.saturating_add(grace));
        let (last, next) = if let Ok(Some((cron, zone))) = self.cron() {
            around(&cron, zone, expected_by)
        } else {
            let interval = interval_us.max(1);
            let passed = (expected_by.0 - reported.0).div_euclid(interval).max(0);
            let at = |count: i64| Timestamp(reported.0.saturating_add(count.saturating_mul(interval)));
            (Some(at(passed)), Some(at(passed + 1)))
        };
        let next = next.filter(|next| *next > reported).or_else(|| {
            let (cron, zone) = self.cron().ok()??;
            around(&cron, zone, reported).1
        });
        Deadlines {
            passed: last.filter(|last| *last > reported).map(late),
            next: late(next.unwrap_or(Timestamp(i64::MAX / 2))),
        }
    }

    fn cron(&self) -> Result<Option<(Cron, Tz)>, Fault> {
        let Some(text) = &self.cron else { return Ok(None) };
        let zone = self.time_zone.parse().map_err(|_| Fault::new("timeZone", "Is not an IANA time zone"))?;
        let cron =
            Cron::from_str(text).map_err(|why| Fault::new("cron", format!("Is not a cron expression: {why}")))?;
        Ok(Some((cron, zone)))
    }
}

/// The last time of a cron expression that is not after another, and the first after it.
fn around(cron: &Cron, zone: Tz, at: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
    let Some(at) = DateTime::from_timestamp_micros(at.0).map(|at| at.with_timezone(&zone)) else { return (None, None) };
    let time = |found: DateTime<Tz>| Timestamp(found.timestamp_micros());
    let last = cron.find_previous_occurrence(&at, true).ok().map(time);
    (last, cron.find_next_occurrence(&at, false).ok().map(time))
}

impl Probe for Heartbeat {
    const ID: &'static str = "heartbeat";
    const NAME: &'static str = "Heartbeat";
    const DESCRIPTION: &'static str =
        "Waits for reports of what runs elsewhere, a cron job or a backup, and fails when one is late";
    type Findings = Findings;

    fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<_> = self.cron().err().into_iter().collect();
        if self.grace_seconds > 604_800 {
            faults.push(Fault::new("graceSeconds", "Must be between 0 and 604800"));
        }
        faults
    }

    fn host(&self) -> Option<String> {
        None
    }

    async fn look(&self, _: &Net, _: &mut Findings) -> Result<(), Trouble> {
        Err(Trouble::Ours("A heartbeat is reported; there is nothing to look at".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * SECOND_US)
    }

    fn heartbeat(json: serde_json::Value) -> Heartbeat {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_report_is_late_after_its_interval_and_the_grace() {
        let beat = heartbeat(serde_json::json!({"graceSeconds": 5}));
        let interval = 100 * SECOND_US;
        for (now, passed, next) in
            [(1_000, None, 1_105), (1_104, None, 1_105), (1_105, Some(1_105), 1_205), (1_304, Some(1_205), 1_305)]
        {
            let expected = Deadlines { passed: passed.map(at), next: at(next) };
            assert_eq!(beat.deadlines(at(1_000), interval, at(now)), expected, "at {now}");
        }
    }

    #[test]
    fn a_cron_expression_is_followed_in_its_time_zone() {
        let beat =
            heartbeat(serde_json::json!({"graceSeconds": 60, "cron": "30 2 * * *", "timeZone": "Europe/Berlin"}));
        let time = |text: &str| Timestamp(text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_micros());
        // The clocks go forward on 29 March 2026 at 2:00: winter time is UTC+1, summer time UTC+2.
        let reported = time("2026-03-28T01:30:10Z");
        let day = 86_400 * SECOND_US;
        let before = beat.deadlines(reported, day, time("2026-03-28T12:00:00Z"));
        assert_eq!(before.passed, None);
        let next = beat.deadlines(reported, day, time("2026-03-30T12:00:00Z"));
        assert_eq!(next.passed, Some(time("2026-03-30T00:31:00Z")));
        assert_eq!(next.next, time("2026-03-31T00:31:00Z"));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        let faults = |json| heartbeat(json).faults().into_iter().map(|fault| fault.path).collect::<Vec<_>>();
        assert_eq!(faults(serde_json::json!({"cron": "x"})), ["cron"]);
        assert_eq!(faults(serde_json::json!({"cron": "* * * * *", "timeZone": "Mars/Base"})), ["timeZone"]);
        assert_eq!(faults(serde_json::json!({"graceSeconds": 700_000})), ["graceSeconds"]);
    }
}
