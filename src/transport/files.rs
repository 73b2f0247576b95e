//! File descriptors: connections must leave enough of them for the database.

use super::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// SQLite keeps the database, its log and their index open for each connection.
const DATABASE_FILES: u64 = 3;

/// Standard streams, the runtimes, the lock and the listener (16 in all), and what is open for a moment.
const OTHER_FILES: u64 = 24;

/// Connections that are being ended or refused, and whose sockets are still open.
pub(super) const CLOSING_MAX: usize = 8;

/// How many connections fit: as many as are configured, or as the system leaves room for.
///
/// A process often starts with leave for 1,024 files and may take more, so it does.
pub(super) fn connections_max(limits: &Limits) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let Some(files) = getrlimit(Resource::Nofile).current else { return limits.connections };
    // Those of the pool, and those that write and follow the changes.
    let database = (u64::from(limits.database_connections) + 3) * DATABASE_FILES;
    // Health checks connect, too.
    let room = files.saturating_sub(database + OTHER_FILES) / 4 * 3;
    let room = usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(CLOSING_MAX).max(1);
    if room < limits.connections {
        tracing::warn!(
            connections = room,
            files,
            "there are fewer file descriptors than limits.connections would need"
        );
    }
    room.min(limits.connections)
}
