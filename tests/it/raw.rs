//! The database behind the server's back.

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr, SqliteConnection};

/// A connection of the test's own, to either kind of database.
pub enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

macro_rules! on_both {
    ($raw:expr, $connection:ident => $call:expr) => {
        match $raw {
            Raw::Sqlite($connection) => $call.await.unwrap(),
            Raw::Postgres($connection) => $call.await.unwrap(),
        }
    };
}

impl Raw {
    pub async fn open(url: &str) -> Self {
        if url.starts_with("sqlite:") {
            return Self::Sqlite(SqliteConnection::connect(url).await.unwrap());
        }
        Self::Postgres(PgConnection::connect(url).await.unwrap())
    }

    /// Nothing if the database is away.
    pub async fn try_open(url: &str) -> Option<Self> {
        if url.starts_with("sqlite:") {
            return SqliteConnection::connect(url).await.ok().map(Self::Sqlite);
        }
        PgConnection::connect(url).await.ok().map(Self::Postgres)
    }

    pub async fn execute(&mut self, statement: impl SqlSafeStr) {
        let statement = statement.into_sql_str();
        match self {
            Self::Sqlite(connection) => drop(sqlx::query(statement).execute(connection).await.unwrap()),
            Self::Postgres(connection) => drop(sqlx::query(statement).execute(connection).await.unwrap()),
        }
    }

    /// Executes a statement that has a text.
    pub async fn execute_with(&mut self, statement: &'static str, text: &str) {
        let text = text.to_owned();
        match self {
            Self::Sqlite(connection) => drop(sqlx::query(statement).bind(text).execute(connection).await.unwrap()),
            Self::Postgres(connection) => drop(sqlx::query(statement).bind(text).execute(connection).await.unwrap()),
        }
    }

    /// One text.
    pub async fn text(&mut self, query: impl SqlSafeStr) -> String {
        let query = query.into_sql_str();
        let (text,): (String,) = on_both!(self, connection => sqlx::query_as(query).fetch_one(connection));
        text
    }

    /// One number.
    pub async fn count(&mut self, query: impl SqlSafeStr) -> i64 {
        let query = query.into_sql_str();
        let (count,): (i64,) = on_both!(self, connection => sqlx::query_as(query).fetch_one(connection));
        count
    }

    /// Rows of a number and a text.
    pub async fn rows(&mut self, query: impl SqlSafeStr) -> Vec<(i64, String)> {
        let query = query.into_sql_str();
        on_both!(self, connection => sqlx::query_as(query).fetch_all(connection))
    }

    /// How SQLite would answer a query.
    pub async fn plan(&mut self, query: &'static str) -> String {
        let Self::Sqlite(connection) = self else { return String::new() };
        let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(query).fetch_all(connection).await.unwrap();
        steps.into_iter().map(|(.., step)| step).collect::<Vec<_>>().join("; ")
    }

    /// The same for a statement that the server was heard to ask.
    pub async fn plan_of(&mut self, statement: &str) -> String {
        let Self::Sqlite(connection) = self else { return String::new() };
        let query = ours(format!("explain query plan {statement}"));
        let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(query).fetch_all(connection).await.unwrap();
        steps.into_iter().map(|(.., step)| step).collect::<Vec<_>>().join("; ")
    }

    /// Every value of every table.
    pub async fn dump(&mut self) -> String {
        let tables = match self {
            Self::Sqlite(_) => "select 0, name from sqlite_master where type = 'table' order by name",
            Self::Postgres(_) => {
                "select 0::bigint, tablename::text from pg_tables where schemaname = current_schema() order by 2"
            }
        };
        let mut dump = String::new();
        for (_, table) in self.rows(tables).await {
            let query = match self {
                Self::Sqlite(_) => self.quoted_rows(&table).await,
                Self::Postgres(_) => format!("select coalesce(string_agg(one::text, ' '), '') from {table} as one"),
            };
            dump.push_str(&self.text(ours(query)).await);
        }
        dump
    }

    /// A query for every value of a table; bytes come as hexadecimal.
    async fn quoted_rows(&mut self, table: &str) -> String {
        let columns = self.rows(ours(format!("select cid, name from pragma_table_info('{table}')"))).await;
        let quoted: Vec<_> = columns.iter().map(|(_, column)| format!("quote({column})")).collect();
        format!("select coalesce(group_concat({}, ' '), '') from {table}", quoted.join(" || ' ' || "))
    }
}

/// A statement made of names that the database itself gave.
fn ours(statement: String) -> AssertSqlSafe<String> {
    #[expect(clippy::disallowed_methods, reason = "names cannot be bound; these are the database's own")]
    AssertSqlSafe(statement)
}
