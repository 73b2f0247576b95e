//! Hearing of changes before the next look at the feed: PostgreSQL's LISTEN.
//!
//! A notification carries nothing that is believed; it only says that looking is worth it. Whoever misses one finds the
//! change at the next poll.

use super::{Database, Pools, Writer, sql};
use crate::error::Result;
use sqlx::postgres::PgListener;

/// Hears that something was committed elsewhere.
pub struct Ear(PgListener);

impl Database {
    /// Starts to listen; `None` on `SQLite`, where nobody notifies.
    pub async fn listen(&self) -> Result<Option<Ear>> {
        let Pools::Postgres { feed, .. } = &self.0 else { return Ok(None) };
        let mut store = self.feed().await?;
        let (channel,) = sql!(store, fetch_one as (String,), {
            sqlite: "select ''",
            postgres: "select 'checkmate_' || hashtext(current_schema()::text)",
        })?;
        drop(store);
        let mut listener = PgListener::connect_with(feed).await?;
        listener.listen(&channel).await?;
        Ok(Some(Ear(listener)))
    }
}

impl Ear {
    /// Waits for the next commit. `false`: the connection was lost and something may have been missed; listen anew.
    pub async fn hears(&mut self) -> bool {
        matches!(self.0.try_recv().await, Ok(Some(_)))
    }
}

impl Writer {
    /// Tells the others, when this transaction commits.
    pub(super) async fn notify(&mut self) -> Result<()> {
        sql!(self, execute, {
            sqlite: "select 1",
            postgres: "select pg_notify('checkmate_' || hashtext(current_schema()::text), '')",
        })?;
        Ok(())
    }
}
