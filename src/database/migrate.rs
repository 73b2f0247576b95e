//! Bringing the schema up to date.

use super::{Database, Pools};
use crate::error::{Error, Result};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgPoolOptions;
use std::sync::LazyLock;

static PORTABLE: Migrator = sqlx::migrate!("./migrations");

/// What can only be written for one of the databases stands in a folder of its own; the numbers are of one row.
static OF_SQLITE: LazyLock<Migrator> = LazyLock::new(|| with(&sqlx::migrate!("./migrations/sqlite")));
static OF_POSTGRES: LazyLock<Migrator> = LazyLock::new(|| with(&sqlx::migrate!("./migrations/postgres")));

fn with(own: &Migrator) -> Migrator {
    Migrator::with_migrations(PORTABLE.iter().chain(own.iter()).cloned().collect())
}

/// Where the schema of a database stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Migrations of this binary are still to run.
    Behind,
    /// It is what this binary needs.
    Current,
}

impl Database {
    /// Runs what is still to run. Safe when two processes start at once on PostgreSQL: one waits for the other. A
    /// database that a newer binary migrated is refused.
    pub async fn migrate(&self) -> Result<()> {
        let done = match &self.0 {
            Pools::Sqlite { write, .. } => OF_SQLITE.run(write).await,
            Pools::Postgres { pool, .. } => {
                // A migration, and waiting for the replica that runs it, may take longer than any statement may.
                let unbounded = PgPoolOptions::new().max_connections(1);
                let unbounded = unbounded.connect_lazy_with(pool.connect_options().as_ref().clone());
                let done = OF_POSTGRES.run(&unbounded).await;
                unbounded.close().await;
                done
            }
        };
        done.map_err(|why| {
            if let MigrateError::VersionMissing(version) = why {
                return newer(version);
            }
            if let MigrateError::VersionMismatch(version) = why {
                return altered(version);
            }
            Error::Refused(format!("migrating failed: {why}"))
        })
    }

    /// Compares the schema with what this binary needs.
    pub async fn schema(&self) -> Result<Schema> {
        let (applied, ours) = match &self.0 {
            Pools::Sqlite { write, .. } => {
                let known = "select count(*) from sqlite_master where name = '_sqlx_migrations'";
                let (exists,): (i64,) = sqlx::query_as(known).fetch_one(write).await?;
                if exists == 0 {
                    return Ok(Schema::Behind);
                }
                (sqlx::query_as::<_, Applied>(APPLIED).fetch_all(write).await?, &*OF_SQLITE)
            }
            Pools::Postgres { pool, .. } => {
                let known = "select count(*) from pg_tables
                             where tablename = '_sqlx_migrations' and schemaname = current_schema()";
                let (exists,): (i64,) = sqlx::query_as(known).fetch_one(pool).await?;
                if exists == 0 {
                    return Ok(Schema::Behind);
                }
                (sqlx::query_as::<_, Applied>(APPLIED).fetch_all(pool).await?, &*OF_POSTGRES)
            }
        };
        if let Some((version, _)) = applied.iter().find(|(version, _)| !ours.version_exists(*version)) {
            return Err(newer(*version));
        }
        let missing = ours.iter().any(|one| !applied.iter().any(|(version, _)| *version == one.version));
        Ok(if missing { Schema::Behind } else { Schema::Current })
    }
}

pub(super) const APPLIED: &str = "select version, checksum from _sqlx_migrations order by version";

/// A migration that was applied: its version and its checksum.
pub(super) type Applied = (i64, Vec<u8>);

/// Whether the migrations of an SQLite file are those of these releases. Refuses those that only begin so.
pub(super) fn are_ours(applied: &[Applied]) -> Result<bool> {
    let ours = |version: i64| OF_SQLITE.iter().find(|ours| ours.version == version);
    let is_same = |(version, checksum): &Applied| ours(*version).map(|ours| ours.checksum.as_ref() == checksum);
    if !applied.iter().any(|one| is_same(one) == Some(true)) {
        return Ok(false);
    }
    match applied.iter().find(|one| is_same(one) != Some(true)) {
        None => Ok(true),
        Some((version, _)) if ours(*version).is_some() => Err(altered(*version)),
        Some((version, _)) => Err(newer(*version)),
    }
}

fn altered(version: i64) -> Error {
    Error::Refused(format!(
        "migration {version} was applied with another content; this is not a database of these releases"
    ))
}

fn newer(version: i64) -> Error {
    Error::Refused(format!(
        "the database is newer than this binary (it has migration {version}); start the release that wrote it, or a later one"
    ))
}
