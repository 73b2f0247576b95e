//! For how long history is kept.

use crate::proto::checkmate::healthcheck::v1 as pb;
use serde::{Deserialize, Serialize};

/// In days; the defaults and bounds are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the unit comes last")]
pub(super) struct Retention {
    /// Single runs.
    pub(super) raw_days: i64,
    /// Tallies of hours.
    pub(super) hourly_days: i64,
    /// Tallies of days, and changes of status.
    pub(super) daily_days: i64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { raw_days: 7, hourly_days: 30, daily_days: 365 }
    }
}

impl Retention {
    /// Reads what was stored; nothing, or what cannot be read any more, is the defaults.
    pub(super) fn stored(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Whether anything that the other keeps goes.
    pub(super) fn is_shorter_than(self, other: Self) -> bool {
        self.raw_days < other.raw_days || self.hourly_days < other.hourly_days || self.daily_days < other.daily_days
    }

    pub(super) fn of(message: &pb::RetentionConfig) -> Self {
        let given = |days: Option<i32>, default: i64| days.map_or(default, i64::from);
        let defaults = Self::default();
        Self {
            raw_days: given(message.raw_retention_days, defaults.raw_days),
            hourly_days: given(message.hourly_retention_days, defaults.hourly_days),
            daily_days: given(message.daily_retention_days, defaults.daily_days),
        }
    }

    pub(super) fn message(self) -> pb::RetentionConfig {
        let days = |days: i64| Some(i32::try_from(days).unwrap_or(i32::MAX));
        pb::RetentionConfig {
            raw_retention_days: days(self.raw_days),
            hourly_retention_days: days(self.hourly_days),
            daily_retention_days: days(self.daily_days),
        }
    }
}
