//! Where everything is kept: SQLite in a file, or PostgreSQL. Every statement is written once and runs on both.
//!
//! A [`Reader`] reads; a [`Writer`] is a transaction and the only thing that changes rows, and it cannot be committed
//! without saying what changed.

pub mod change;
pub mod id;
mod lock;
mod migrate;
pub mod search;
pub use migrate::Schema;
mod sql;
mod timestamp;

pub use change::{Changes, Did};
pub use id::Ids;
pub use lock::{FileLock, beside};
pub use timestamp::Timestamp;

pub(crate) use sql::{Dialect, arity, sql};

use crate::error::{Error, Result};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Postgres, Sqlite, Transaction};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::time::Duration;

/// Longer than any statement of ours takes, shorter than a caller waits.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A database of either kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database(Pools);

#[derive(Clone, Debug)]
enum Pools {
    Sqlite { read: SqlitePool, write: SqlitePool },
    Postgres(PgPool),
}

/// A connection to read on.
pub struct Reader(Connection);

/// A transaction: everything a [`Reader`] can do, and changes. Dropping it rolls back.
pub struct Writer(Reader);

enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    SqliteWrite(Transaction<'static, Sqlite>),
    Postgres(PoolConnection<Postgres>),
    PostgresWrite(Transaction<'static, Postgres>),
}

/// Where a database is.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Box<PgConnectOptions>),
}

impl Location {
    /// Reads `sqlite://checkmate.db` or `postgres://user@host/name`. The error never repeats the URL, which may hold a
    /// password.
    pub fn parse(url: &str) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.starts_with(":memory:") || path.contains('?') {
                return Err(Error::Refused("the database is a file: sqlite://checkmate.db".into()));
            }
            return Ok(Self::Sqlite(path.into()));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options: Result<PgConnectOptions, _> = url.parse();
            return options
                .map(|options| Self::Postgres(Box::new(options)))
                .map_err(|_| Error::Refused("the PostgreSQL URL is malformed: postgres://user@host/name".into()));
        }
        Err(Error::Refused("the database URL starts with sqlite:// or postgres://".into()))
    }

    /// The SQLite file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl Database {
    /// Connects, without migrating. `connections` bounds the pool.
    pub async fn connect(location: &Location, connections: u32) -> Result<Self> {
        match location {
            Location::Sqlite(path) => {
                lock::create_private(path)?;
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // What was acknowledged survives a power cut.
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
                    .busy_timeout(WAIT_MAX)
                    .disable_statement_logging();
                let write = SqlitePoolOptions::new().max_connections(1).acquire_timeout(WAIT_MAX);
                let write = write.connect_with(options.clone()).await?;
                let read = SqlitePoolOptions::new().max_connections(connections).acquire_timeout(WAIT_MAX);
                let read = read.connect_lazy_with(options.read_only(true).create_if_missing(false));
                Ok(Self(Pools::Sqlite { read, write }))
            }
            Location::Postgres(options) => {
                let options = options.as_ref().clone().disable_statement_logging();
                let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(WAIT_MAX);
                Ok(Self(Pools::Postgres(pool.connect_with(options).await?)))
            }
        }
    }

    /// A connection to read on.
    pub async fn reader(&self) -> Result<Reader> {
        Ok(Reader(match &self.0 {
            Pools::Sqlite { read, .. } => Connection::Sqlite(read.acquire().await?),
            Pools::Postgres(pool) => Connection::Postgres(pool.acquire().await?),
        }))
    }

    /// A transaction to write in. On SQLite there is one at a time.
    pub async fn writer(&self) -> Result<Writer> {
        Ok(Writer(Reader(match &self.0 {
            // Immediate: a transaction that reads first and writes later could not be retried.
            Pools::Sqlite { write, .. } => Connection::SqliteWrite(write.begin_with("begin immediate").await?),
            Pools::Postgres(pool) => Connection::PostgresWrite(pool.begin().await?),
        })))
    }

    /// Closes every connection; SQLite folds its write-ahead log back into the file.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Sqlite { read, write } => {
                read.close().await;
                write.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// Connections in use and open.
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        let count = |size: u32, idle: usize| (size.saturating_sub(u32::try_from(idle).unwrap_or(u32::MAX)), size);
        match &self.0 {
            Pools::Sqlite { read, .. } => count(read.size(), read.num_idle()),
            Pools::Postgres(pool) => count(pool.size(), pool.num_idle()),
        }
    }
}

impl Reader {
    pub(crate) fn dialect(&mut self) -> Dialect<'_> {
        match &mut self.0 {
            Connection::Sqlite(connection) => Dialect::Sqlite(connection),
            Connection::SqliteWrite(transaction) => Dialect::Sqlite(transaction),
            Connection::Postgres(connection) => Dialect::Postgres(connection),
            Connection::PostgresWrite(transaction) => Dialect::Postgres(transaction),
        }
    }
}

impl Writer {
    /// Makes everything durable and visible, with what was done. Whoever follows the changes sees them in this order.
    pub async fn commit(mut self, did: Did) -> Result<()> {
        self.append_change(&did).await?;
        self.end().await
    }

    /// Commits what nobody follows: the reason is a required argument.
    pub async fn commit_unseen(self, _why: &'static str) -> Result<()> {
        self.end().await
    }

    async fn end(self) -> Result<()> {
        match self.0.0 {
            Connection::SqliteWrite(transaction) => transaction.commit().await?,
            Connection::PostgresWrite(transaction) => transaction.commit().await?,
            Connection::Sqlite(_) | Connection::Postgres(_) => {
                return Err(Error::bug("a writer always holds a transaction"));
            }
        }
        Ok(())
    }
}

impl Deref for Writer {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.0
    }
}

impl DerefMut for Writer {
    fn deref_mut(&mut self) -> &mut Reader {
        &mut self.0
    }
}
