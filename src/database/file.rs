//! Looking at an SQLite file before anything writes to it: what is not ours, or not whole, stays as it is.

use super::migrate::{APPLIED, Applied, are_ours};
use super::{beside, closed};
use crate::error::{Error, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;

/// How every SQLite file of any use begins (<https://www.sqlite.org/fileformat.html>, section 1.3).
const HEADER: &[u8; 16] = b"SQLite format 3\0";

/// Refuses, in words, a file that cannot be used. One that does not exist yet, or is empty, is a new database.
///
/// Every page is read: 0.3 s for 60 MB (100,000 systems, and as many keys). A damaged one would otherwise be found by
/// whoever needs it, at any time.
pub(super) async fn examine(path: &Path) -> Result<()> {
    let shown = path.display();
    if path.is_dir() {
        return Err(Error::Refused(format!("{shown} is a folder; name a file in it")));
    }
    let length = match std::fs::metadata(path) {
        Ok(file) => file.len(),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => 0,
        Err(why) => return Err(Error::Refused(format!("cannot look at {shown}: {why}"))),
    };
    if length == 0 {
        return Ok(());
    }
    // SQLite would open what it may not write to, and fail at the first change.
    let open = OpenOptions::new().read(true).write(true).open(path);
    let mut file = open.map_err(|why| Error::Refused(format!("cannot open {shown} for reading and writing: {why}")))?;
    let Some(page_size) = page_size(&mut file) else {
        let next = "name another file, or move it away to begin with an empty database";
        return Err(Error::Refused(format!("{shown} is not an SQLite database; {next}")));
    };
    // Unless the log beside it has the rest, the file was cut off. SQLite reads zeros there.
    let has_log = std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    if !has_log && length % page_size != 0 {
        return Err(damaged(path, "it ends in the middle of a page"));
    }
    let found = look(path).await.map_err(|why| damaged(path, &why.to_string()))?;
    match found {
        Found::Ours => Ok(()),
        Found::Foreign => Err(Error::Refused(format!("{shown} is a database of another program"))),
        Found::Unfit(why) => Err(why),
        Found::Damaged(why) => Err(damaged(path, &why)),
    }
}

enum Found {
    Ours,
    Foreign,
    /// Ours, but of a release that this binary does not know.
    Unfit(Error),
    Damaged(String),
}

/// Reads only: opening it to write would already change its header.
async fn look(path: &Path) -> Result<Found, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
    let mut connection = options.connect().await?;
    let found = match whose(&mut connection).await? {
        Found::Ours => {
            let (result,): (String,) = sqlx::query_as("pragma quick_check(1)").fetch_one(&mut connection).await?;
            if result == "ok" { Found::Ours } else { Found::Damaged(result) }
        }
        other @ (Found::Foreign | Found::Unfit(_) | Found::Damaged(_)) => other,
    };
    connection.close().await?;
    Ok(found)
}

/// Whose a database is. Every program that stands on sqlx has a table of this name: ours has our migrations in it.
async fn whose(connection: &mut SqliteConnection) -> Result<Found, sqlx::Error> {
    let tables = "select count(*), (select count(*) from pragma_table_info('_sqlx_migrations')
                  where name in ('version', 'checksum')) from sqlite_master where type = 'table'";
    let (tables, columns): (i64, i64) = sqlx::query_as(tables).fetch_one(&mut *connection).await?;
    if tables == 0 {
        return Ok(Found::Ours);
    }
    if columns != 2 {
        return Ok(Found::Foreign);
    }
    let applied: Vec<Applied> = sqlx::query_as(APPLIED).fetch_all(connection).await?;
    if applied.is_empty() && tables == 1 {
        // A first start was ended before its first migration.
        return Ok(Found::Ours);
    }
    Ok(match are_ours(&applied) {
        Ok(true) => Found::Ours,
        Ok(false) => Found::Foreign,
        Err(why) => Found::Unfit(why),
    })
}

/// The size of a page, from the header; none if it is no SQLite file.
fn page_size(file: &mut File) -> Option<u64> {
    let (mut header, mut size) = ([0; HEADER.len()], [0; 2]);
    file.read_exact(&mut header).ok().filter(|()| header == *HEADER)?;
    file.read_exact(&mut size).ok()?;
    // 1 stands for what two bytes cannot hold.
    Some(match u16::from_be_bytes(size) {
        0 => return None,
        1 => 65_536,
        size => size.into(),
    })
}

fn damaged(path: &Path, why: &str) -> Error {
    closed(format_args!(
        "{} is damaged and was left as it is ({}); restore it from a backup, or move it away to begin with an empty one",
        path.display(),
        why.replace('\n', " ")
    ))
}
