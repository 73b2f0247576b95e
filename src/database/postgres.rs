//! Connections to PostgreSQL, which may stop answering at any moment: every wait has an end, and a connection that may
//! still be busy is given to nobody else.

use super::closed;
use crate::error::{Error, Result};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, Postgres};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// A connection is there within this, or the request is told to come back: waiting in line for longer than any statement
/// takes only makes the line longer.
const ACQUIRE_MAX: Duration = Duration::from_secs(1);

/// A statement is answered within this. It is the lease of the Gate's knowledge: when PostgreSQL has been silent for that
/// long, everybody is refused anyway. With [`ACQUIRE_MAX`] a caller who gives 3 s still reads why.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Reading everything that the Gate decides from is one statement, and takes some 5 µs a key.
const FEED_ANSWER_MAX: Duration = Duration::from_mins(1);

/// A connection that is given back shows within this that it lives, or is closed.
const RELEASE_MAX: Duration = Duration::from_secs(1);

/// Between two tries to reach PostgreSQL at start; the first is a quarter of a second after the failure.
const TRY_AGAIN_MAX: Duration = Duration::from_secs(2);

/// PostgreSQL ends by itself what we have given up: a statement shortly before we stop waiting for it, so that the
/// connection stays good; a transaction whose process has stopped (it may hold the lock that orders changes); and the
/// connection of a process that has vanished.
const BOUNDS: &str = "set statement_timeout = '1900ms'; set lock_timeout = '1500ms';
     set idle_in_transaction_session_timeout = '3s';
     set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3";

/// The same for whoever follows the changes, which may read everything.
const FEED_BOUNDS: &str = "set statement_timeout = '1min'; set idle_in_transaction_session_timeout = '3s';
     set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3";

/// Who uses a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Requests.
    Requests,
    /// Following the changes.
    Feed,
}

/// A pool that connects when somebody asks.
pub(super) fn pool(options: &PgConnectOptions, connections: u32, purpose: Purpose) -> PgPool {
    let bounds = match purpose {
        Purpose::Requests => BOUNDS,
        Purpose::Feed => FEED_BOUNDS,
    };
    let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_MAX);
    let pool = pool.after_connect(move |connection, _| {
        // Not as parameters of the connection: poolers refuse those that they do not know.
        Box::pin(async move { sqlx::raw_sql(bounds).execute(connection).await.map(drop) })
    });
    pool.connect_lazy_with(options.clone())
}

/// Waits until PostgreSQL accepts connections, at most so long: it may be starting beside us.
pub(super) async fn reach(options: &PgConnectOptions, most: Duration) -> Result<()> {
    let (end, mut pause) = (Instant::now() + most, Duration::from_millis(250));
    loop {
        let why = match in_time(ANSWER_MAX, options.connect()).await {
            Ok(connection) => {
                // Closing says goodbye; a connection that cannot even do that is as good as closed.
                let _ = timeout(RELEASE_MAX, connection.close()).await;
                return Ok(());
            }
            Err(why) => why,
        };
        let text = why.to_string();
        if !matches!(Error::from(why), Error::Unavailable(_)) || Instant::now() + pause > end {
            return Err(closed(&text));
        }
        tracing::warn!(cause = text, "PostgreSQL cannot be reached yet; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(TRY_AGAIN_MAX);
    }
}

/// The answer, or that there was none in time.
pub(crate) async fn in_time<T>(
    most: Duration,
    asked: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(most, asked).await.unwrap_or_else(|_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into())))
}

/// A connection out of a pool, with what is known of its state.
pub(super) struct Lent {
    /// None: it was given up.
    connection: Option<PoolConnection<Postgres>>,
    /// A statement is under way; if nobody waits for its end any more, the connection is of no use.
    is_asking: bool,
    transaction: Transaction,
    answer_max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    /// PostgreSQL answers its `commit` with a rollback that looks like success.
    Failed,
}

impl Lent {
    pub(super) async fn from(pool: &PgPool, purpose: Purpose) -> Result<Self> {
        let answer_max = match purpose {
            Purpose::Requests => ANSWER_MAX,
            Purpose::Feed => FEED_ANSWER_MAX,
        };
        let connection = Some(pool.acquire().await?);
        Ok(Self { connection, is_asking: false, transaction: Transaction::None, answer_max })
    }

    /// The connection, to ask one statement and report with [`Self::answered`]; and how long to wait.
    pub(super) fn ask(&mut self) -> Result<(&mut PgConnection, Duration), sqlx::Error> {
        let connection = self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)?;
        self.is_asking = true;
        Ok((connection, self.answer_max))
    }

    /// Takes note of how a statement ended.
    pub(super) fn answered<T>(&mut self, done: &Result<T, sqlx::Error>) {
        self.is_asking = false;
        match done {
            Ok(_) | Err(sqlx::Error::RowNotFound) => {}
            Err(sqlx::Error::Database(_)) => {
                if self.transaction == Transaction::Open {
                    self.transaction = Transaction::Failed;
                }
            }
            Err(_) => self.give_up(),
        }
    }

    /// Closes it at once.
    pub(super) fn give_up(&mut self) {
        drop(self.connection.take().map(PoolConnection::detach));
    }

    pub(super) async fn begin(&mut self) -> Result<()> {
        self.order("begin").await?;
        self.transaction = Transaction::Open;
        Ok(())
    }

    /// A transaction that reads, all of it as of the first statement.
    pub(super) async fn begin_reading(&mut self) -> Result<()> {
        self.order("begin isolation level repeatable read read only").await?;
        self.transaction = Transaction::Open;
        Ok(())
    }

    pub(super) async fn commit(mut self) -> Result<()> {
        if self.transaction != Transaction::Open {
            return Err(Error::bug("a transaction in which a statement failed cannot be committed"));
        }
        self.order("commit").await.map_err(|why| {
            if let sqlx::Error::Database(_) = why {
                return Error::from(why);
            }
            tracing::warn!(cause = %why, "nobody knows whether a change was committed");
            Error::Unavailable("The database did not say whether the change was made")
        })?;
        self.transaction = Transaction::None;
        Ok(())
    }

    async fn order(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        let (connection, most) = self.ask()?;
        let done = in_time(most, sqlx::raw_sql(statement).execute(connection)).await;
        self.answered(&done);
        done.map(drop)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.is_asking {
            return self.give_up();
        }
        let Some(mut connection) = self.connection.take() else { return };
        let is_clean = self.transaction == Transaction::None;
        // The pool itself would wait for a connection that hangs for as long as it hangs, and count it as open.
        tokio::spawn(timeout(RELEASE_MAX, async move {
            // Should time run out, its end is not the pool's either.
            connection.close_on_drop();
            if is_clean || sqlx::raw_sql("rollback").execute(&mut *connection).await.is_ok() {
                connection.return_to_pool().await;
            }
        }));
    }
}
