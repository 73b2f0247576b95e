//! The change feed: every commit says what it did, and whoever must know follows in commit order.
//!
//! Sequence numbers are drawn while holding what serialises commits (on `SQLite` the write transaction, on PostgreSQL an
//! advisory lock until the end of the transaction), so they have no gaps and a later one is never visible first.

use super::{Reader, Timestamp, Writer, sql};
use crate::error::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// What a commit did.
#[derive(Clone, Debug)]
pub struct Did {
    /// Whose data: `catalog`.
    pub plugin: &'static str,
    /// What happened: `system.created`.
    pub kind: &'static str,
    /// To what: its id.
    pub resource: String,
    /// Who did it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Where to leave the transaction instead of committing it.
    pub deferred: Option<Arc<Deferred>>,
}

/// A transaction that is done, and is committed by somebody else, with what came of it.
#[derive(Default)]
pub struct Deferred(Mutex<Option<(Writer, Did)>>);

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred(…)")
    }
}

impl Deferred {
    /// Leaves a transaction here. A call has one: two would be two effects, and one answer for both.
    pub fn hold(&self, store: Writer, did: Did) -> Result<()> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Err(Error::bug("a call has made two transactions"));
        }
        *held = Some((store, did));
        Ok(())
    }

    /// Takes what was left, if anything was.
    #[must_use]
    pub fn take(&self) -> Option<(Writer, Did)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One entry of the feed.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Entry {
    /// Its place.
    pub sequence: i64,
    /// Whose data.
    pub plugin: String,
    /// What happened.
    pub kind: String,
    /// To what.
    pub resource: String,
}

/// What happened since a place in the feed.
#[derive(Debug, PartialEq, Eq)]
pub enum Changes {
    /// These, and the feed now ends here.
    These(Vec<Entry>, i64),
    /// More than a follower should replay, or older ones are gone: read everything anew.
    TooMany(i64),
}

/// The feed keeps this many entries: a follower that lags further reads everything anew, which is cheaper then.
const KEPT: i64 = 100_000;

/// A follower replays this many at once, some 40 ms of reading; beyond that it reads everything anew.
const REPLAYED_MAX: i64 = 10_000;

impl Reader {
    /// What happened behind a place in the feed, in order.
    pub async fn changes(&mut self, after: i64) -> Result<Changes> {
        let (last, first) = self.ends_of_feed().await?;
        if last == after {
            return Ok(Changes::These(vec![], last));
        }
        if last < after || first > after + 1 || last - after > REPLAYED_MAX {
            return Ok(Changes::TooMany(last));
        }
        let entries = sql!(
            self,
            fetch_all as Entry,
            "select sequence, plugin, kind, resource from change
             where sequence > $1 and sequence <= $2 order by sequence",
            after,
            last
        )?;
        Ok(Changes::These(entries, last))
    }

    /// The last place in the feed.
    pub async fn last_change(&mut self) -> Result<i64> {
        Ok(self.ends_of_feed().await?.0)
    }

    pub(super) async fn ends_of_feed(&mut self) -> Result<(i64, i64)> {
        sql!(
            self,
            fetch_one as (i64, i64),
            "select coalesce((select max(sequence) from change), 0), coalesce((select min(sequence) from change), 0)"
        )
    }
}

impl Writer {
    /// Says of one more thing that it was done: the commit says the last. Only when the rows are written, for others wait
    /// for the feed until then.
    pub async fn also(&mut self, did: &Did) -> Result<()> {
        let sequence = self.append_change(did).await?;
        self.2.push((did.plugin, sequence));
        Ok(())
    }

    /// Appends an entry and answers its place.
    pub(super) async fn append_change(&mut self, did: &Did) -> Result<i64> {
        self.serialise_commits().await?;
        let (sequence,) = sql!(
            self,
            fetch_one as (i64,),
            "insert into change (sequence, plugin, kind, resource, made_by, made_at)
             select coalesce(max(sequence), 0) + 1, $1, $2, $3, $4, $5 from change returning sequence",
            did.plugin,
            did.kind,
            &did.resource,
            &did.by,
            did.at
        )?;
        self.notify().await?;
        sql!(self, execute, "delete from change where sequence <= $1", sequence - KEPT)?;
        Ok(sequence)
    }

    async fn serialise_commits(&mut self) -> Result<()> {
        // The schema is part of the key, so that installations in one database do not wait for each other.
        sql!(self, execute, {
            sqlite: "select 1",
            postgres: "select pg_advisory_xact_lock(1667786603, hashtext(current_schema()::text))",
        })?;
        Ok(())
    }
}
