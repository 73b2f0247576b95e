//! Times as they are stored.

/// Microseconds since 1970, UTC: an integer sorts the same in both databases, and there is no text to disagree about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, sqlx::Type)]
#[sqlx(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time as a message has it.
    #[must_use]
    pub fn message(self) -> prost_types::Timestamp {
        let nanos = i32::try_from(self.0.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
        prost_types::Timestamp { seconds: self.0.div_euclid(1_000_000), nanos }
    }

    /// The time that a message has; what a microsecond cannot express is cut off.
    #[must_use]
    pub fn of(message: &prost_types::Timestamp) -> Self {
        Self(message.seconds.saturating_mul(1_000_000).saturating_add(i64::from(message.nanos) / 1_000))
    }

    /// Seconds between an earlier time and this one.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }

    /// When something is changed that was last changed at this time: now, but at least a millisecond later. Times are shown
    /// in milliseconds, and two changes must not look like one.
    #[must_use]
    pub fn next(self, now: Self) -> Self {
        now.max(Self(self.0.saturating_add(1_000)))
    }

    /// Without what milliseconds cannot express.
    #[must_use]
    pub fn whole_millis(self) -> Self {
        Self(self.0.div_euclid(1_000).saturating_mul(1_000))
    }

    /// The first whole millisecond after it.
    #[must_use]
    pub fn next_millis(self) -> Self {
        Self(self.whole_millis().0.saturating_add(1_000))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}
