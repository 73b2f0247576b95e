//! A place in the change feed and what lies behind it: what streams of changes stand on.

use super::{Reader, Timestamp, sql};
use crate::error::Result;
use std::fmt;

/// An entry of the feed, and when it was made: a feed that was restored from a backup has other entries at the same
/// numbers, and their times tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Place {
    /// Its number.
    pub sequence: i64,
    /// When it was made.
    pub made_at: Timestamp,
}

/// An entry of the feed with its place.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Happened {
    /// Where.
    #[sqlx(flatten)]
    pub place: Place,
    /// Whose data.
    pub plugin: String,
    /// What happened.
    pub kind: String,
    /// To what.
    pub resource: String,
}

/// What lies behind a place.
#[derive(Debug, PartialEq, Eq)]
pub enum Behind {
    /// These, and the feed is read up to there.
    These(Vec<Happened>, i64),
    /// The feed does not reach back to the place, or not up to it.
    OutOfReach,
}

/// So many entries are looked at in one go, also by somebody who wants few of them.
pub const STRIDE: i64 = 500;

impl Place {
    /// Reads what [`fmt::Display`] wrote, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (sequence, made_at) = text.split_once('-')?;
        let place = Self { sequence: sequence.parse().ok()?, made_at: Timestamp(made_at.parse().ok()?) };
        // Numbers can be written in other ways as well: `+1`, `01`.
        (place.to_string() == text).then_some(place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.sequence, self.made_at.0)
    }
}

impl Reader {
    /// Where the feed ends.
    pub async fn last_place(&mut self) -> Result<Place> {
        let last =
            sql!(self, fetch_optional as Place, "select sequence, made_at from change order by sequence desc limit 1")?;
        Ok(last.unwrap_or(Place { sequence: 0, made_at: Timestamp(0) }))
    }

    /// Whether a place is one of this feed.
    pub async fn has_place(&mut self, place: Place) -> Result<bool> {
        let found = sql!(
            self,
            fetch_optional as Place,
            "select sequence, made_at from change where sequence = $1 and made_at = $2",
            place.sequence,
            place.made_at
        )?;
        Ok(found.is_some())
    }

    /// What happened behind a place to the data of a plugin, and what of one kind to that of another, in order.
    pub async fn behind(&mut self, after: i64, plugin: &str, (other, kind): (&str, &str)) -> Result<Behind> {
        let (last, first) = self.ends_of_feed().await?;
        if last < after || (last > after && first > after + 1) {
            return Ok(Behind::OutOfReach);
        }
        let upto = last.min(after + STRIDE);
        let found = sql!(
            self,
            fetch_all as Happened,
            "select sequence, made_at, plugin, kind, resource from change
             where sequence > $1 and sequence <= $2 and (plugin = $3 or (plugin = $4 and kind = $5)) order by sequence",
            after,
            upto,
            plugin,
            other,
            kind
        )?;
        Ok(Behind::These(found, upto))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written_and_in_no_other_way() {
        let place = Place { sequence: 12, made_at: Timestamp(1_767_624_767_000_000) };
        assert_eq!(Place::parse(&place.to_string()), Some(place));
        for bad in ["", "-", "12", "12-", "-1-2-3", "+12-1", "012-1", "12-1 ", "12-x", "99999999999999999999-1"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
