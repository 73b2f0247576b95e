//! Every limit on what a peer may take, each with its reason. All of them can be configured.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The limits. Times are in seconds, sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct Limits {
    /// A client that has connected sends its first byte within this, and the rest of a head within this after its first
    /// byte, or it is holding a place for nothing.
    pub header_s: u64,
    /// A body arrives within this: 2 MiB at 70 KB/s.
    pub body_s: u64,
    /// An answer that its reader takes nothing of for so long is given up, and the connection with it: a pause of a
    /// client is shorter, and what it does not read costs memory.
    pub unread_s: u64,
    /// A connection without a request ends after this, whatever else it sends; clients keep one for the next request,
    /// rarely for the one a minute later. An HTTP/2 connection with long streams is asked whether it lives.
    pub idle_s: u64,
    /// Connections at once; each costs some 20 KiB. Beyond it, who has been waited for longest makes room.
    pub connections: usize,
    /// HTTP/2 streams of one connection at once: enough for any honest client, bounded for the others.
    pub streams: u32,
    /// Requests being answered at once. Beyond it new ones are told to come back, so that these are finished.
    pub requests: usize,
    /// Body of a JSON request: 50 calls of 40 KB.
    pub body_bytes: usize,
    /// One gRPC message: what gRPC clients accept by default.
    pub grpc_message_bytes: usize,
    /// Request head of HTTP/1.1 and header list of HTTP/2.
    pub header_bytes: u32,
    /// Calls of one batch.
    pub batch_calls: usize,
    /// Queries of one batch that run at once. The access check has a database connection of its own, so it never waits
    /// behind them.
    pub batch_queries: usize,
    /// How deep JSON may nest: no message nests deeper than 4, free JSON hardly.
    pub json_depth: usize,
    /// A request is answered within this, whatever deadline its caller asks for.
    pub request_s: u64,
    /// Streams of changes at once, which cost some 10 KiB each and a look at their callers twenty times a second.
    pub listeners: usize,
    /// Streams of one application, or of callers without a key from one network: dashboards on some walls and in some
    /// browsers, and no more than an eighth of all.
    pub listeners_each: usize,
    /// A stream on which nothing happens says so this often, or proxies take it for dead: many give up after 30 s.
    pub heartbeat_s: u64,
    /// Bad credentials that one client network (an IPv4 address, an IPv6 /64) may send before it gets 429 for them: a
    /// fleet behind one address that has missed a new secret still reads why. One that Argon2 has to look at counts as 10.
    pub bad_credentials: u32,
    /// How many of those come back in a minute: ten a second cost next to nothing, also where Argon2 looks.
    pub bad_credentials_per_minute: u32,
    /// Connections to the database: readers on SQLite, all on PostgreSQL.
    pub database_connections: u32,
    /// Kept answers of queries, altogether; one of them takes at most an eighth. 0: none are kept.
    pub reply_cache_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_s: 10,
            body_s: 30,
            unread_s: 30,
            idle_s: 60,
            connections: 4_096,
            streams: 256,
            requests: 2_048,
            body_bytes: 2 * 1024 * 1024,
            grpc_message_bytes: 4 * 1024 * 1024,
            header_bytes: 16 * 1024,
            batch_calls: 50,
            batch_queries: 16,
            json_depth: 64,
            request_s: 30,
            listeners: 1_024,
            listeners_each: 128,
            heartbeat_s: 15,
            bad_credentials: 1_000,
            bad_credentials_per_minute: 600,
            database_connections: 16,
            reply_cache_bytes: 32 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// Refuses values with which nothing would work, or which no clock and no counter can hold.
    pub fn check(&self) -> Result<()> {
        /// A day.
        const SECONDS_MAX: u64 = 86_400;
        const COUNT_MAX: u64 = 1_000_000;
        /// No message that anybody should send.
        const BYTES_MAX: u64 = 1 << 30;
        let bounds = [
            ("header_s", self.header_s, 1, SECONDS_MAX),
            ("body_s", self.body_s, 1, SECONDS_MAX),
            ("unread_s", self.unread_s, 1, SECONDS_MAX),
            ("idle_s", self.idle_s, 1, SECONDS_MAX),
            ("request_s", self.request_s, 1, SECONDS_MAX),
            ("connections", self.connections as u64, 1, COUNT_MAX),
            ("streams", self.streams.into(), 1, COUNT_MAX),
            ("requests", self.requests as u64, 1, COUNT_MAX),
            ("batch_calls", self.batch_calls as u64, 1, COUNT_MAX),
            ("batch_queries", self.batch_queries as u64, 1, COUNT_MAX),
            ("listeners", self.listeners as u64, 1, COUNT_MAX),
            ("listeners_each", self.listeners_each as u64, 1, COUNT_MAX),
            ("heartbeat_s", self.heartbeat_s, 1, SECONDS_MAX),
            ("bad_credentials", self.bad_credentials.into(), 1, COUNT_MAX),
            ("bad_credentials_per_minute", self.bad_credentials_per_minute.into(), 1, COUNT_MAX),
            ("database_connections", self.database_connections.into(), 1, COUNT_MAX),
            ("body_bytes", self.body_bytes as u64, 1, BYTES_MAX),
            ("reply_cache_bytes", self.reply_cache_bytes as u64, 0, 64 * BYTES_MAX),
            ("grpc_message_bytes", self.grpc_message_bytes as u64, 1, BYTES_MAX),
            // hyper refuses a smaller buffer.
            ("header_bytes", self.header_bytes.into(), 8_192, BYTES_MAX),
            // serde_json recurses to 128 and no further.
            ("json_depth", self.json_depth as u64, 1, 120),
        ];
        match bounds.iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
            Some((name, _, least, most)) => {
                Err(Error::Refused(format!("limits.{name} must be between {least} and {most}")))
            }
            None => Ok(()),
        }
    }
}
