//! A command of a Redis server.

use super::answer::{excerpt, reasons, value, without};
use super::postgres::faults_of_target;
use super::tls::{TlsOptions, millis};
use super::wire::Wire;
use super::{Fault, Net, Probe, Secret, Trouble};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError, Value as Reply};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::pin::pin;
use std::time::Instant;

/// What is read of a server: INFO with every section is some 10 KiB.
const BYTES_MAX: usize = 1 << 20;

/// What assertions see of a reply.
const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// A reply may be an array of arrays.
const DEPTH_MAX: usize = 8;

/// Commands that read, and cost the server little.
const COMMANDS: [&str; 14] = [
    "PING", "INFO", "GET", "EXISTS", "TTL", "LLEN", "SCARD", "ZCARD", "HLEN", "STRLEN", "DBSIZE", "ROLE", "TIME",
    "HGET",
];

/// Settings of `redis`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redis {
    /// A name or an IP address.
    #[schemars(length(min = 1, max = 253))]
    host: String,
    /// The port.
    #[serde(default = "port")]
    #[schemars(range(min = 1))]
    port: u16,
    /// Who logs in; without it, the user `default`.
    username: Option<String>,
    /// The password, if there is one.
    password: Option<Secret>,
    /// Whether to speak TLS.
    #[serde(default)]
    tls: bool,
    /// How to speak it: whom to trust, and who one is.
    #[serde(default)]
    tls_options: TlsOptions,
    /// The number of the database.
    #[serde(default)]
    database: u32,
    /// PING, INFO, GET, EXISTS, TTL, LLEN, SCARD, ZCARD, HLEN, STRLEN, DBSIZE, ROLE, TIME or HGET.
    #[serde(default = "ping")]
    #[schemars(length(min = 1))]
    command: String,
    /// Its arguments: a list, or a text of words.
    #[serde(default)]
    args: Words,
}

/// Some words.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Words {
    /// With spaces between them.
    Text(String),
    /// One by one.
    List(Vec<String>),
}

impl Default for Words {
    fn default() -> Self {
        Self::List(vec![])
    }
}

impl Words {
    fn list(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => text.split_whitespace().collect(),
            Self::List(list) => list.iter().map(String::as_str).collect(),
        }
    }
}

/// What a command found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Whether the login succeeded.
    connected: bool,
    /// How long connecting and logging in took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    connection_time_ms: Option<f64>,
    /// How long the command took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    response_time_ms: Option<f64>,
    /// The reply as text, its first 64 KiB. Absent where the reply is that there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-ephemeral" = true))]
    response: Option<String>,
    /// The first 200 characters of the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_excerpt: Option<String>,
    /// The reply, if it is a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// `master` or `slave`, after INFO or ROLE.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    /// Whether the command succeeded.
    success: bool,
}

fn port() -> u16 {
    6379
}

fn ping() -> String {
    "PING".into()
}

impl Probe for Redis {
    const ID: &'static str = "redis";
    const NAME: &'static str = "Redis";
    const DESCRIPTION: &'static str = "Connects to a Redis server and sends it a command that reads";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = faults_of_target(&self.host, self.port);
        faults.extend(self.tls_options.faults("tlsOptions"));
        if !COMMANDS.contains(&self.command.to_ascii_uppercase().as_str()) {
            faults.push(Fault::new("command", format!("Must be one of {}", COMMANDS.join(", "))));
        }
        let words = self.args.list();
        if words.len() > 16 || words.iter().map(|word| word.len()).sum::<usize>() > 4_096 {
            faults.push(Fault::new("args", "Must not be more than 16 words of 4096 bytes together"));
        }
        if self.username.is_some() && self.password.is_none() {
            faults.push(Fault::new("password", "Is needed with a username"));
        }
        faults
    }

    fn host(&self) -> Option<String> {
        Some(format!("{}:{}", self.host, self.port))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let started = Instant::now();
        let stream = net.connect(&self.host, self.port).await?;
        let wire = if self.tls {
            Wire::new(net.tls(stream, &self.host, &self.tls_options, &[]).await?, BYTES_MAX)
        } else {
            Wire::new(stream, BYTES_MAX)
        };
        net.phase(if self.password.is_some() { "waiting for the login" } else { "waiting for the database" });
        // How long a look may take is decided where it is started.
        let patient = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let connected = MultiplexedConnection::new_with_config(&self.login(), wire, patient).await;
        let (connection, driver) = connected.map_err(|why| self.trouble("Login failed", &why))?;
        found.connected = true;
        found.connection_time_ms = Some(millis(started.elapsed()));
        net.phase(format!("waiting for the reply to {}", self.command));
        let mut asked = pin!(self.ask(connection, found));
        // The driver ends with the look, like all of it. When it ends before, the reply is there or will never be.
        tokio::select! {
            done = &mut asked => return done,
            () = driver => {}
        }
        asked.await
    }
}

impl Redis {
    fn secrets(&self) -> Vec<&Secret> {
        self.password.iter().collect()
    }

    fn login(&self) -> RedisConnectionInfo {
        let login = RedisConnectionInfo::default().set_db(self.database.into()).set_skip_set_lib_name();
        // What servers and proxies of any age speak.
        let mut login = login.set_protocol(ProtocolVersion::RESP2);
        if let Some(username) = &self.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password.reveal());
        }
        login
    }

    async fn ask(&self, mut connection: MultiplexedConnection, found: &mut Found) -> Result<(), Trouble> {
        let started = Instant::now();
        let mut command = redis::cmd(&self.command.to_ascii_uppercase());
        command.arg(&self.args.list()[..]);
        let reply = connection.send_packed_command(&command).await;
        let reply = reply.and_then(Reply::extract_error).map_err(|why| self.trouble("Command failed", &why))?;
        found.response_time_ms = Some(millis(started.elapsed()));
        if let Some(text) = text(&reply, DEPTH_MAX) {
            let text = without(&text, &self.secrets());
            found.role = role(&reply, &text).map(|role| excerpt(role, &[]));
            found.response_excerpt = Some(excerpt(&text, &[]));
            found.value = Some(value(&text, &[])).filter(Value::is_number);
            found.response = Some(text.chars().take(RESPONSE_BYTES_MAX / 4).collect());
        }
        found.success = true;
        Ok(())
    }

    fn trouble(&self, what: &str, why: &RedisError) -> Trouble {
        // The crate tells an answer of the server from a connection that ended, and names the first by its code.
        let why = match (why.kind(), why.code(), why.detail()) {
            (ErrorKind::Io, ..) | (_, None, _) => reasons(why, &self.secrets()),
            (_, Some(code), detail) => excerpt(&format!("{code} {}", detail.unwrap_or_default()), &self.secrets()),
        };
        Trouble::Target(format!("{what}: {why}"))
    }
}

/// A reply as text, an array as lines.
#[expect(clippy::wildcard_enum_match_arm, reason = "what the protocol in use does not have is nothing")]
fn text(reply: &Reply, depth: usize) -> Option<String> {
    let bytes = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match reply {
        Reply::Int(number) => Some(number.to_string()),
        Reply::Double(number) => Some(number.to_string()),
        Reply::Boolean(is_true) => Some(is_true.to_string()),
        Reply::BulkString(text) => Some(bytes(text)),
        Reply::SimpleString(text) | Reply::VerbatimString { text, .. } => Some(text.clone()),
        Reply::Okay => Some("OK".into()),
        Reply::Array(list) | Reply::Set(list) if depth > 0 => {
            let lines: Vec<_> = list.iter().map(|item| text(item, depth - 1).unwrap_or_default()).collect();
            Some(lines.join("\n"))
        }
        _ => None,
    }
}

fn role<'a>(reply: &Reply, text: &'a str) -> Option<&'a str> {
    if matches!(reply, Reply::Array(_)) {
        return text.lines().next().filter(|role| ["master", "slave", "sentinel"].contains(role));
    }
    text.lines().find_map(|line| line.strip_prefix("role:"))
}
