//! What a server leaves behind besides its log: figures, files, rows. None of it may hold a secret.

use crate::raw::Raw;
use crate::secrets::{Secrets, Where};
use checkmate::config::Config;
use checkmate::database::{Location, beside};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// A server that is busy or broken by its test does not hold the others up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first secret in what is there while a server runs: its database, with the write-ahead log, and its metrics.
pub fn of_running(url: &str, config: &Config, secrets: &Secrets) -> Option<String> {
    // First: whoever finds a hash in the database knows what to look for elsewhere.
    let stored = database(&config.database, secrets);
    let metrics = || secrets.find(Where::Metrics, metrics(url)?.as_bytes());
    stored.or_else(metrics)
}

/// The first secret in what a server has left when it has stopped.
pub fn of_stopped(config: &Config, secrets: &Secrets) -> Option<String> {
    // Rows are where they were; files have been rewritten.
    let location = Location::parse(&config.database).ok()?;
    files(location.file()?, secrets)
}

/// The first secret in a database: in its files, or in its rows.
pub fn database(url: &str, secrets: &Secrets) -> Option<String> {
    match Location::parse(url).ok()? {
        Location::Sqlite(path) => files(&path, secrets),
        Location::Postgres(_) => secrets.find(Where::Database, dump(url)?.as_bytes()),
    }
}

/// The first secret in a file of a database, and in everything beside it.
fn files(database: &Path, secrets: &Secrets) -> Option<String> {
    let key_file = beside(database, ".key");
    let entries = std::fs::read_dir(database.parent()?).ok()?;
    entries.flatten().find_map(|entry| {
        let place = if entry.path() == key_file { Where::KeyFile } else { Where::Database };
        // A file that goes away while this looks is no file of a database.
        let found = secrets.find(place, &std::fs::read(entry.path()).ok()?)?;
        Some(format!("{}: {found}", entry.path().display()))
    })
}

/// Every value of every table; nothing if the database is away.
fn dump(url: &str) -> Option<String> {
    let url = url.to_owned();
    // A thread, because whoever drops a server may be inside of a runtime.
    let dump = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dump = async { Some(Raw::try_open(&url).await?.dump().await) };
            tokio::time::timeout(PATIENCE, dump).await.ok().flatten()
        })
    });
    dump.join().ok().flatten()
}

/// What `GET /metrics` answers; nothing if the server does not.
pub fn metrics(url: &str) -> Option<String> {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Takes note of the instance key, wherever it is.
pub fn note_instance_key(database: &str, configured: Option<&str>, secrets: &Secrets) {
    let file = Location::parse(database).ok().and_then(|location| location.file().cloned());
    let in_file = || std::fs::read_to_string(beside(&file?, ".key")).ok();
    if let Some(key) = configured.map(str::to_owned).or_else(in_file) {
        secrets.instance_key(&key);
    }
}
