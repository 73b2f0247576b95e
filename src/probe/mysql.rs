//! A query of a MySQL or MariaDB database.

use super::mysql_session::Session;
use super::postgres::{BYTES_MAX, Found, ROWS_MAX, STATEMENT_MS, fault_of_query, faults_of_target, query, yes};
use super::tls::{TlsOptions, millis};
use super::wire::Wire;
use super::{Fault, Net, Probe, Secret, Trouble};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Instant;

/// Settings of `mysql`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mysql {
    /// A name or an IP address.
    #[schemars(length(min = 1, max = 253))]
    host: String,
    /// The port.
    #[serde(default = "port")]
    #[schemars(range(min = 1))]
    port: u16,
    /// The database, if one is to be chosen.
    database: Option<String>,
    /// Who logs in.
    #[schemars(length(min = 1))]
    user: String,
    /// The password, if there is one. Without TLS it is as safe as the network.
    password: Option<Secret>,
    /// Whether to speak TLS.
    #[serde(default)]
    ssl: bool,
    /// How to speak it: whom to trust, and who one is.
    #[serde(default)]
    tls_options: TlsOptions,
    /// What is asked: one statement.
    #[serde(default = "query")]
    #[schemars(length(min = 1, max = 65_536))]
    query: String,
    /// Makes the session read-only, with a limit of a minute on each statement.
    #[serde(default = "yes")]
    read_only: bool,
}

fn port() -> u16 {
    3306
}

impl Probe for Mysql {
    const ID: &'static str = "mysql";
    const NAME: &'static str = "MySQL";
    const DESCRIPTION: &'static str = "Logs in to a MySQL or MariaDB database and runs a query";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = faults_of_target(&self.host, self.port);
        faults.extend(fault_of_query(&self.query));
        faults.extend(self.tls_options.faults("tlsOptions"));
        if self.user.is_empty() || self.user.contains('\0') {
            faults.push(Fault::new("user", "Must have at least one character, none of them zero"));
        }
        if self.database.as_ref().is_some_and(|name| name.is_empty() || name.contains('\0')) {
            faults.push(Fault::new("database", "Must have at least one character, none of them zero"));
        }
        faults
    }

    fn host(&self) -> Option<String> {
        Some(format!("{}:{}", self.host, self.port))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let started = Instant::now();
        let stream = net.connect(&self.host, self.port).await?;
        net.phase("waiting for the greeting");
        let mut session = Session::new(Wire::new(stream, BYTES_MAX), self.password.as_ref());
        session.greeting().await?;
        found.server_version = Some(session.server_version());
        if self.ssl {
            session = session.encrypted(net, &self.host, &self.tls_options).await?;
        }
        net.phase("waiting for the login");
        session.log_in(&self.user, self.database.as_deref()).await?;
        found.connected = true;
        found.connection_time_ms = Some(millis(started.elapsed()));
        if self.read_only {
            net.phase("waiting for a read-only session");
            guard(&mut session).await?;
        }
        net.phase("waiting for the query");
        let started = Instant::now();
        let rows = session.query(&self.query, ROWS_MAX).await?;
        found.execution_time_ms = Some(millis(started.elapsed()));
        (found.row_count, found.value) = (Some(rows.count), rows.value);
        found.success = true;
        session.quit().await;
        Ok(())
    }
}

async fn guard(session: &mut Session<'_>) -> Result<(), Trouble> {
    session.query("SET SESSION TRANSACTION READ ONLY", 0).await?;
    let limit = if session.is_mariadb() {
        format!("SET SESSION max_statement_time = {}", STATEMENT_MS / 1_000)
    } else {
        format!("SET SESSION max_execution_time = {STATEMENT_MS}")
    };
    // Older servers have no such limit.
    session.query_if_known(&limit).await
}
