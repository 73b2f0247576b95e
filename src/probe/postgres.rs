//! A query of a PostgreSQL database.
//!
//! Simple queries, whose values are text: they also work where there are no prepared statements, as behind a pooler.

use super::answer::{excerpt, reasons, value};
use super::tls::{TlsOptions, millis};
use super::wire::Wire;
use super::{Fault, Net, Probe, Secret, Trouble};
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::pin::pin;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Connection, NoTls, SimpleQueryMessage, SimpleQueryRow};

/// A health check reads a row or two; whoever counts uses `count(*)`.
pub(super) const ROWS_MAX: u64 = 10_000;

/// What those rows may weigh.
pub(super) const BYTES_MAX: usize = 16 << 20;

/// Longer than any query that a person would write.
pub(super) const QUERY_BYTES_MAX: usize = 64 << 10;

/// When the server gives a statement up by itself. The look waits less long; what it no longer waits for must not pile up.
pub(super) const STATEMENT_MS: u64 = 60_000;

/// Its length and its number, in place of a version.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Settings of `postgres`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Postgres {
    /// A name or an IP address.
    #[schemars(length(min = 1, max = 253))]
    host: String,
    /// The port.
    #[serde(default = "port")]
    #[schemars(range(min = 1))]
    port: u16,
    /// The database.
    #[schemars(length(min = 1))]
    database: String,
    /// Who logs in.
    #[schemars(length(min = 1))]
    user: String,
    /// The password, if one is asked for.
    password: Option<Secret>,
    /// Whether to speak TLS.
    #[serde(default)]
    ssl: bool,
    /// How to speak it: whom to trust, and who one is.
    #[serde(default)]
    tls_options: TlsOptions,
    /// What is asked.
    #[serde(default = "query")]
    #[schemars(length(min = 1, max = 65_536))]
    query: String,
    /// Opens the session read-only and with a limit of a minute on each statement. PgBouncer refuses such a session unless
    /// it ignores the startup parameter `options`: switch this off there.
    #[serde(default = "yes")]
    read_only: bool,
}

/// What a query found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Whether the login succeeded.
    pub(super) connected: bool,
    /// How long connecting and logging in took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    pub(super) connection_time_ms: Option<f64>,
    /// How long the query took, its rows included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    pub(super) execution_time_ms: Option<f64>,
    /// How many rows came; of a statement without rows, how many it affected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "count"))]
    pub(super) row_count: Option<u64>,
    /// The first column of the first row: a number or a text, of which the first 200 characters are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Value>,
    /// What the server says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_version: Option<String>,
    /// Whether the query succeeded.
    pub(super) success: bool,
}

fn port() -> u16 {
    5432
}

pub(super) fn query() -> String {
    "SELECT 1".into()
}

pub(super) fn yes() -> bool {
    true
}

/// What is wrong with settings that every kind with a host and a port has.
pub(super) fn faults_of_target(host: &str, port: u16) -> Vec<Fault> {
    let mut faults = vec![];
    if host.is_empty() || host.len() > 253 {
        faults.push(Fault::new("host", "Must have between 1 and 253 characters"));
    }
    if port == 0 {
        faults.push(Fault::new("port", "Must be between 1 and 65535"));
    }
    faults
}

/// What is wrong with a query.
pub(super) fn fault_of_query(query: &str) -> Option<Fault> {
    let is_fine = !query.trim().is_empty() && query.len() <= QUERY_BYTES_MAX && !query.contains('\0');
    (!is_fine)
        .then(|| Fault::new("query", format!("Must have between 1 and {QUERY_BYTES_MAX} bytes, none of them zero")))
}

impl Probe for Postgres {
    const ID: &'static str = "postgres";
    const NAME: &'static str = "PostgreSQL";
    const DESCRIPTION: &'static str = "Logs in to a PostgreSQL database and runs a query";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = faults_of_target(&self.host, self.port);
        faults.extend(fault_of_query(&self.query));
        faults.extend(self.tls_options.faults("tlsOptions"));
        for (path, text) in [("database", &self.database), ("user", &self.user)] {
            if text.is_empty() || text.contains('\0') {
                faults.push(Fault::new(path, "Must have at least one character, none of them zero"));
            }
        }
        faults
    }

    fn host(&self) -> Option<String> {
        Some(format!("{}:{}", self.host, self.port))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let started = Instant::now();
        let stream = net.connect(&self.host, self.port).await?;
        let wire = if self.ssl { self.encrypted(net, stream).await? } else { Wire::new(stream, BYTES_MAX) };
        net.phase("waiting for the login");
        let (client, connection) =
            self.config().connect_raw(wire, NoTls).await.map_err(|why| self.trouble("Login failed", &why))?;
        found.connected = true;
        found.connection_time_ms = Some(millis(started.elapsed()));
        found.server_version = connection.parameter("server_version").map(|text| excerpt(text, &[]));
        net.phase("waiting for the query");
        match drive(connection, self.ask(client, found)).await {
            // The connection knows better why.
            (Err(_), Some(why)) => Err(self.trouble("The connection was lost", &why)),
            (done, _) => done,
        }
    }
}

impl Postgres {
    fn secrets(&self) -> Vec<&Secret> {
        self.password.iter().collect()
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config.dbname(&self.database).user(&self.user).application_name("checkmate").ssl_mode(SslMode::Disable);
        config.password(self.password.as_ref().map_or("", Secret::reveal));
        if self.read_only {
            config.options(format!("-c default_transaction_read_only=on -c statement_timeout={STATEMENT_MS}"));
        }
        config
    }

    async fn encrypted(&self, net: &Net, mut stream: TcpStream) -> Result<Wire, Trouble> {
        let lost = |why: std::io::Error| Trouble::Target(format!("The connection was lost: {why}"));
        net.phase("waiting for an offer of TLS");
        stream.write_all(&TLS_REQUEST).await.map_err(lost)?;
        // Not a byte more: what follows must be encrypted.
        match stream.read_u8().await.map_err(lost)? {
            b'S' => Ok(Wire::new(net.tls(stream, &self.host, &self.tls_options, &[]).await?, BYTES_MAX)),
            b'N' => Err(Trouble::Target("The server offers no TLS".into())),
            _ => Err(Trouble::Target("What came is not an answer to a request for TLS".into())),
        }
    }

    async fn ask(&self, client: Client, found: &mut Found) -> Result<(), Trouble> {
        let started = Instant::now();
        let failed = |why: tokio_postgres::Error| self.trouble("Query failed", &why);
        let mut rows = pin!(client.simple_query_raw(&self.query).await.map_err(failed)?);
        let (mut count, mut affected) = (0, None);
        while let Some(message) = rows.next().await {
            let message = message.map_err(failed)?;
            if let SimpleQueryMessage::CommandComplete(rows) = message {
                affected = Some(rows);
            } else if let SimpleQueryMessage::Row(row) = message {
                count += 1;
                if count == 1 {
                    found.value = self.first(&row);
                }
                if count > ROWS_MAX {
                    return Err(Trouble::Target(format!("The query has more than {ROWS_MAX} rows")));
                }
            }
        }
        found.row_count = Some(if count == 0 { affected.unwrap_or(0) } else { count });
        found.execution_time_ms = Some(millis(started.elapsed()));
        found.success = true;
        Ok(())
    }

    fn first(&self, row: &SimpleQueryRow) -> Option<Value> {
        let text = row.try_get(0).ok()??;
        Some(value(text, &self.secrets()))
    }

    fn trouble(&self, what: &str, why: &tokio_postgres::Error) -> Trouble {
        let why = match why.as_db_error() {
            Some(said) => excerpt(&format!("{} (SQLSTATE {})", said.message(), said.code().code()), &self.secrets()),
            None => reasons(why, &self.secrets()),
        };
        Trouble::Target(format!("{what}: {why}"))
    }
}

/// Drives the connection while something is asked over it; both end together.
async fn drive<S, T>(
    connection: Connection<S, T>,
    asked: impl Future<Output = Result<(), Trouble>>,
) -> (Result<(), Trouble>, Option<tokio_postgres::Error>)
where
    Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>>,
{
    let mut asked = pin!(asked);
    let ended = tokio::select! {
        done = &mut asked => return (done, None),
        ended = connection => ended,
    };
    // What came before the end may be a whole answer.
    (asked.await, ended.err())
}
