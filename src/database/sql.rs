//! `sql!`: one statement for two databases.

use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use std::time::Duration;

/// The raw connection of the kind in use.
pub(crate) enum Dialect<'c> {
    Sqlite(&'c mut SqliteConnection),
    /// And how long to wait for it.
    Postgres(&'c mut PgConnection, Duration),
}

/// The highest `$n` of a statement. `SQLite` reads a parameter that was never bound as null, without complaint.
#[expect(clippy::indexing_slicing, reason = "const code: the bounds are in the loop's condition")]
pub(crate) const fn arity(sql: &str) -> usize {
    let (text, mut at, mut highest) = (sql.as_bytes(), 0, 0);
    while at < text.len() {
        if text[at] == b'$' {
            let mut number = 0;
            while at + 1 < text.len() && text[at + 1].is_ascii_digit() {
                at += 1;
                number = number * 10 + (text[at] - b'0') as usize;
            }
            if number > highest {
                highest = number;
            }
        }
        at += 1;
    }
    highest
}

/// Runs one statement on whichever database is open.
///
/// `sql!(self, fetch_all as Row, "select … where id = $1", id)` gives rows, `sql!(self, execute, "…")` the number of
/// rows changed. Where the text must differ: `{ sqlite: "…", postgres: "…" }`.
macro_rules! sql {
    ($db:expr, execute, $sql:tt $(, $bind:expr)* $(,)?) => {
        $crate::database::sql!(@run $db, $sql, [$($bind),*], |query, connection| {
            query.execute(connection).await.map(|done| done.rows_affected())
        }, sqlx::query)
    };
    ($db:expr, $fetch:ident as $row:ty, $sql:tt $(, $bind:expr)* $(,)?) => {
        $crate::database::sql!(@run $db, $sql, [$($bind),*], |query, connection| {
            query.$fetch(connection).await
        }, sqlx::query_as::<_, $row>)
    };
    (@run $db:expr, { sqlite: $sqlite:literal, postgres: $postgres:literal $(,)? }, $binds:tt,
     |$query:ident, $connection:ident| $run:block, $($make:tt)+) => {{
        $crate::database::sql!(@check $sqlite, $binds);
        $crate::database::sql!(@check $postgres, $binds);
        let done = match $db.dialect($sqlite, $postgres) {
            Ok($crate::database::Dialect::Sqlite($connection)) => {
                let $query = $crate::database::sql!(@bind ($($make)+($sqlite)), $binds);
                $run
            }
            Ok($crate::database::Dialect::Postgres($connection, most)) => {
                let $query = $crate::database::sql!(@bind ($($make)+($postgres)), $binds);
                $crate::database::in_time(most, async { $run }).await
            }
            Err(why) => Err(why),
        };
        $db.answered(done)
    }};
    (@run $db:expr, $sql:literal, $binds:tt, |$query:ident, $connection:ident| $run:block, $($make:tt)+) => {
        $crate::database::sql!(@run $db, { sqlite: $sql, postgres: $sql }, $binds, |$query, $connection| $run, $($make)+)
    };
    (@check $sql:literal, [$($bind:expr),*]) => {
        const {
            assert!(
                $crate::database::arity($sql) == <[&str]>::len(&[$(stringify!($bind)),*]),
                "placeholders and binds differ"
            );
        }
    };
    (@bind ($query:expr), [$($bind:expr),*]) => { $query$(.bind($bind))* };
}
pub(crate) use sql;
