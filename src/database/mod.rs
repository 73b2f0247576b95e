//! Where everything is kept: SQLite in a file, or PostgreSQL. Every statement is written once and runs on both.
//!
//! A [`Reader`] reads; a [`Writer`] is a transaction and the only thing that changes rows, and it cannot be committed
//! without saying what changed.

mod batch;
pub mod change;
mod ear;
mod file;
pub mod id;
mod lock;
mod migrate;
pub mod place;
mod postgres;
pub mod search;
pub use migrate::Schema;
mod sql;
mod sqlite;
mod timestamp;
mod version;

pub(crate) use batch::{Batch, boolean, bytes};
pub use change::{Changes, Deferred, Did};
pub use ear::Ear;
pub use id::Ids;
pub(crate) use id::hex;
pub use lock::{FileLock, beside};
pub use place::Place;
pub use timestamp::Timestamp;
pub use version::{Dependency, Version, Versions};

pub(crate) use postgres::in_time;
pub(crate) use sql::{Dialect, arity, sql};

use crate::error::{Error, Result};
use postgres::{Lent, Purpose};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For SQLite's one writer. Longer than any statement of ours takes, shorter than a caller waits.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A database of either kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database(Pools, Versions);

#[derive(Clone, Debug)]
enum Pools {
    /// `feed` is for whoever follows the changes: requests must not make them wait.
    Sqlite {
        read: SqlitePool,
        write: SqlitePool,
        feed: SqlitePool,
    },
    Postgres {
        pool: PgPool,
        feed: PgPool,
    },
}

/// A connection to read on.
pub struct Reader(Connection);

/// A transaction: everything a [`Reader`] can do, and changes. Dropping it rolls back.
pub struct Writer(Reader, Versions, Told);

/// Whose data a transaction has said that it changes, and where in the feed that stands.
type Told = Vec<(&'static str, i64)>;

enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    SqliteTransaction(sqlite::Transaction),
    Postgres(Lent),
}

/// Where a database is.
#[derive(Clone)]
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
            return Ok(Self::Sqlite(canonical(path.into())));
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

/// Why a database cannot be opened, for the operator. sqlx names no password.
fn closed(why: impl std::fmt::Display) -> Error {
    Error::Refused(format!("cannot open the database: {why}"))
}

/// The path without links: two names of one file are one database, with one lock and one instance key.
fn canonical(path: PathBuf) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

impl Database {
    /// Connects, without migrating. `connections` bounds the pool; `patience` is for a PostgreSQL that is still starting.
    pub async fn connect(location: &Location, connections: u32, patience: Duration) -> Result<Self> {
        match location {
            Location::Sqlite(path) => {
                file::examine(path).await?;
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
                let write = write.connect_with(options.clone()).await.map_err(closed)?;
                // A file does not go away as a server does, and asking each time costs as much as a small read.
                let readers = connections.min(sqlite::readers_max());
                let read = SqlitePoolOptions::new().max_connections(readers).test_before_acquire(false);
                let read = read.acquire_timeout(WAIT_MAX);
                let options = options.read_only(true).create_if_missing(false);
                let read = read.connect_lazy_with(options.clone());
                let feed =
                    SqlitePoolOptions::new().max_connections(1).acquire_timeout(WAIT_MAX).connect_lazy_with(options);
                Ok(Self(Pools::Sqlite { read, write, feed }, Versions::default()))
            }
            Location::Postgres(options) => {
                let options = options.as_ref().clone().disable_statement_logging();
                postgres::reach(&options, patience).await?;
                let pool = postgres::pool(&options, connections, Purpose::Requests);
                // One to read the feed, one to listen.
                let feed = postgres::pool(&options, 2, Purpose::Feed);
                Ok(Self(Pools::Postgres { pool, feed }, Versions::default()))
            }
        }
    }

    /// A connection to read on.
    pub async fn reader(&self) -> Result<Reader> {
        Ok(Reader(match &self.0 {
            Pools::Sqlite { read, .. } => Connection::Sqlite(read.acquire().await?),
            Pools::Postgres { pool, .. } => Connection::Postgres(Lent::from(pool, Purpose::Requests).await?),
        }))
    }

    /// A connection on which everything that is read is of one moment. Not for long: old rows are kept meanwhile.
    pub async fn snapshot(&self) -> Result<Reader> {
        Ok(Reader(match &self.0 {
            Pools::Sqlite { read, .. } => {
                Connection::SqliteTransaction(sqlite::Transaction::begin_reading(read).await?)
            }
            Pools::Postgres { pool, .. } => {
                let mut connection = Lent::from(pool, Purpose::Requests).await?;
                connection.begin_reading().await?;
                Connection::Postgres(connection)
            }
        }))
    }

    /// The connection of whoever follows the changes.
    pub async fn feed(&self) -> Result<Reader> {
        Ok(Reader(match &self.0 {
            Pools::Sqlite { feed, .. } => Connection::Sqlite(feed.acquire().await?),
            Pools::Postgres { feed, .. } => Connection::Postgres(Lent::from(feed, Purpose::Feed).await?),
        }))
    }

    /// A transaction to write in. On SQLite there is one at a time.
    pub async fn writer(&self) -> Result<Writer> {
        let connection = match &self.0 {
            Pools::Sqlite { write, .. } => Connection::SqliteTransaction(sqlite::Transaction::begin(write).await?),
            Pools::Postgres { pool, .. } => {
                let mut connection = Lent::from(pool, Purpose::Requests).await?;
                connection.begin().await?;
                Connection::Postgres(connection)
            }
        };
        Ok(Writer(Reader(connection), self.1.clone(), vec![]))
    }

    /// Up to where this process knows the change feed.
    #[must_use]
    pub fn versions(&self) -> &Versions {
        &self.1
    }

    /// Whether other replicas may work on it at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Pools::Postgres { .. })
    }

    /// Closes every connection; SQLite folds its write-ahead log back into the file.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Sqlite { read, write, feed } => {
                feed.close().await;
                read.close().await;
                write.close().await;
            }
            Pools::Postgres { pool, feed } => {
                feed.close().await;
                pool.close().await;
            }
        }
    }

    /// Connections in use and open.
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        let count = |size: u32, idle: usize| (size.saturating_sub(u32::try_from(idle).unwrap_or(u32::MAX)), size);
        match &self.0 {
            Pools::Sqlite { read, .. } => count(read.size(), read.num_idle()),
            Pools::Postgres { pool, .. } => count(pool.size(), pool.num_idle()),
        }
    }
}

impl Reader {
    /// Gives a connection up that does not answer: it is closed, not put back for somebody else to wait on.
    pub fn abandon(self) {
        match self.0 {
            Connection::Sqlite(connection) => drop(connection.detach()),
            Connection::Postgres(mut connection) => connection.give_up(),
            Connection::SqliteTransaction(_) => {}
        }
    }

    /// The connection for one statement, in the words of each database, whose end goes to [`Self::answered`].
    pub(crate) fn dialect(&mut self, sqlite: &str, postgres: &str) -> Result<Dialect<'_>, sqlx::Error> {
        // Without its values: how many statements there are, and how they are planned, is looked at by tests.
        let asked = |statement| tracing::trace!(statement, "asking");
        Ok(match &mut self.0 {
            Connection::Sqlite(connection) => {
                asked(sqlite);
                Dialect::Sqlite(connection)
            }
            Connection::SqliteTransaction(transaction) => {
                asked(sqlite);
                Dialect::Sqlite(transaction.live()?)
            }
            Connection::Postgres(connection) => {
                asked(postgres);
                let (connection, most) = connection.ask()?;
                Dialect::Postgres(connection, most)
            }
        })
    }

    /// Takes note of how a statement ended.
    pub(crate) fn answered<T>(&mut self, done: Result<T, sqlx::Error>) -> Result<T> {
        if let Connection::Postgres(connection) = &mut self.0 {
            connection.answered(&done);
        }
        Ok(done?)
    }
}

impl Writer {
    /// Makes everything durable and visible, with what was done. Whoever follows the changes sees them in this order.
    pub async fn commit(mut self, did: Did) -> Result<()> {
        let last = (did.plugin, self.append_change(&did).await?);
        let (versions, told) = (self.1.clone(), std::mem::take(&mut self.2));
        self.end().await?;
        for (plugin, sequence) in told.into_iter().chain([last]) {
            versions.committed(plugin, sequence);
        }
        Ok(())
    }

    /// Commits what nobody follows: the reason is a required argument.
    pub async fn commit_unseen(self, _why: &'static str) -> Result<()> {
        self.end().await
    }

    async fn end(self) -> Result<()> {
        match self.0.0 {
            Connection::SqliteTransaction(transaction) => transaction.commit().await?,
            Connection::Postgres(connection) => connection.commit().await?,
            Connection::Sqlite(_) => return Err(Error::bug("a writer always holds a transaction")),
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
