//! Probes: the kinds of health check. A kind is one file: typed settings, a real client, and what it finds. Adding one
//! adds a file and a line in [`KINDS`].
//!
//! A probe is given a [`Net`], the only way to the network, and fills in what it finds as it goes: what it knew when its
//! time was up is not lost. Dropping the future is the end of it, so a probe starts no task that could outlive it.

mod answer;
pub mod assertion;
pub mod dns;
pub mod grpc;
pub mod heartbeat;
pub mod http;
mod json_path;
pub mod mysql;
mod mysql_session;
pub mod net;
pub mod operator;
mod pattern;
pub mod ping;
pub mod policy;
pub mod postgres;
pub mod redis;
mod resolver;
mod rule;
pub mod script;
pub mod secret;
pub mod smtp;
pub mod ssh;
mod talk;
pub mod tcp;
pub mod tls;
mod turns;
mod value;
mod veil;
pub mod websocket;
mod wire;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
pub use net::Net;
pub use policy::Policy;
use schemars::JsonSchema;
pub use secret::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
pub use turns::{Going, Turn, Turns};

/// Every kind, by id.
pub const KINDS: &[Kind] = &[
    Kind::of::<dns::Dns>(),
    Kind::of::<grpc::Grpc>(),
    Kind::of::<heartbeat::Heartbeat>(),
    Kind::of::<http::Http>(),
    Kind::of::<mysql::Mysql>(),
    Kind::of::<ping::Ping>(),
    Kind::of::<postgres::Postgres>(),
    Kind::of::<redis::Redis>(),
    Kind::of::<script::Script>(),
    Kind::of::<smtp::Smtp>(),
    Kind::of::<ssh::Ssh>(),
    Kind::of::<tcp::Tcp>(),
    Kind::of::<tls::Tls>(),
    Kind::of::<websocket::WebSocket>(),
];

/// A kind of health check: the type holds the settings. Settings deny unknown fields and are written in lowerCamelCase;
/// their doc comments are the descriptions in the JSON Schema that clients read.
pub trait Probe: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The strategy id: `http`.
    const ID: &'static str;
    /// For people.
    const NAME: &'static str;
    /// What it looks at, in a sentence.
    const DESCRIPTION: &'static str;

    /// What it finds: fields in lowerCamelCase that assertions name, each left out while it is not known. A field whose
    /// schema has `"x-ephemeral": true` is there for assertions and never stored.
    type Findings: Serialize + JsonSchema + Default + Send + 'static;

    /// What is wrong with the settings beyond the shape of each.
    fn faults(&self) -> Vec<Fault> {
        vec![]
    }

    /// Whom it asks: looks at one host are bounded, and kept secrets are not sent to another one. `host:port` where there
    /// is a port.
    fn host(&self) -> Option<String>;

    /// Looks.
    fn look(&self, net: &Net, found: &mut Self::Findings) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// The latency where it is not the time that looking took.
    fn latency(_found: &Self::Findings) -> Option<Duration> {
        None
    }
}

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where below the settings, `tls.customCa`; empty: the settings as a whole.
    pub path: String,
    /// What, as a sentence without a full stop.
    pub message: String,
}

impl Fault {
    /// A fault of a setting.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// Why a look is not a good one. The text is for the owner of the check; it holds no secret and no response body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It works, but not as it should.
    Degraded(String),
    /// The target is down, or answers wrongly.
    Target(String),
    /// It could not be looked at, and that is not the target's fault: no resolver, no files left, not permitted.
    Ours(String),
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What was found.
    pub findings: Map<String, Value>,
    /// Why it is not good, if it is not.
    pub trouble: Option<Trouble>,
    /// How long it took.
    pub latency: Duration,
}

/// Reads settings, or says what is wrong with them.
pub type Prepare = fn(&Value) -> Result<Arc<dyn Prepared>, Vec<Fault>>;

/// A kind, without its types.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The strategy id.
    pub id: &'static str,
    /// For people.
    pub name: &'static str,
    /// What it looks at.
    pub description: &'static str,
    /// The JSON Schema of the settings.
    pub settings: fn() -> Value,
    /// The JSON Schema of what is found.
    pub findings: fn() -> Value,
    /// Reads settings.
    pub prepare: Prepare,
}

impl Kind {
    /// A probe as a kind.
    #[must_use]
    pub const fn of<P: Probe>() -> Self {
        Self {
            id: P::ID,
            name: P::NAME,
            description: P::DESCRIPTION,
            settings: || schemars::schema_for!(P).to_value(),
            findings: || schemars::schema_for!(P::Findings).to_value(),
            prepare: prepare::<P>,
        }
    }

    /// Its schemas, made once: making them costs more than a look.
    #[must_use]
    pub fn schemas(&self) -> &'static Schemas {
        static ALL: LazyLock<HashMap<&'static str, Schemas>> =
            LazyLock::new(|| KINDS.iter().map(|kind| (kind.id, Schemas::of(kind))).collect());
        static NONE: LazyLock<Schemas> = LazyLock::new(Schemas::default);
        ALL.get(self.id).unwrap_or(&NONE)
    }

    /// The kind with this id. HEAD's spelling with a plugin in front is good as well: `healthcheck-http.http`.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        let bare = |kind: &&Self| {
            id.strip_prefix("healthcheck-").is_some_and(|id| id.split_once('.') == Some((kind.id, kind.id)))
        };
        KINDS.iter().find(|kind| kind.id == id || bare(kind))
    }
}

/// Settings that are ready to look with.
pub trait Prepared: Send + Sync {
    /// See [`Probe::host`].
    fn host(&self) -> Option<String>;

    /// Looks for at most so long.
    fn look<'a>(&'a self, net: &'a Net, timeout: Duration) -> BoxFuture<'a, Seen>;
}

/// The JSON Schemas of a kind.
#[derive(Debug, Default)]
pub struct Schemas {
    /// Of its settings.
    pub settings: Value,
    /// Of what it finds.
    pub findings: Value,
    /// The fields of what it finds that are never stored.
    pub ephemeral: Vec<String>,
    /// The fields that are numbers and have a unit: they are charted.
    pub charted: Vec<String>,
}

impl Schemas {
    fn of(kind: &Kind) -> Self {
        let (settings, findings) = ((kind.settings)(), (kind.findings)());
        let fields = || findings.get("properties").and_then(Value::as_object).into_iter().flatten();
        let ephemeral = fields().filter(|(_, field)| field.get("x-ephemeral") == Some(&Value::Bool(true)));
        let ephemeral = ephemeral.map(|(name, _)| name.clone()).collect();
        let charted = fields().filter(|(_, field)| field.get("x-chart-unit").is_some());
        let charted = charted.map(|(name, _)| name.clone()).collect();
        Self { settings, findings, ephemeral, charted }
    }
}

struct Ready<P>(P);

impl<P: Probe> Prepared for Ready<P> {
    fn host(&self) -> Option<String> {
        self.0.host()
    }

    fn look<'a>(&'a self, net: &'a Net, timeout: Duration) -> BoxFuture<'a, Seen> {
        async move {
            let (started, mut found) = (Instant::now(), P::Findings::default());
            // Probes read what strangers send, with clients of others: a panic is caught here, and is ours.
            let look = AssertUnwindSafe(self.0.look(net, &mut found)).catch_unwind();
            let trouble = match tokio::time::timeout(timeout, look).await {
                Ok(Ok(Ok(()))) => None,
                Ok(Ok(Err(trouble))) => Some(trouble),
                Ok(Err(_)) => Some(Trouble::Ours("The probe stopped with an error of its own".into())),
                Err(_) => Some(net.too_late(timeout)),
            };
            let latency = P::latency(&found).unwrap_or_else(|| started.elapsed());
            let findings = match serde_json::to_value(&found) {
                Ok(Value::Object(findings)) => findings,
                _ => Map::new(),
            };
            Seen { findings, trouble, latency }
        }
        .boxed()
    }
}

fn prepare<P: Probe>(settings: &Value) -> Result<Arc<dyn Prepared>, Vec<Fault>> {
    let probe: P = serde_path_to_error::deserialize(settings).map_err(|why| {
        let path = why.path().to_string();
        let path = if path == "." { String::new() } else { path };
        vec![Fault { path, message: sentence(&why.into_inner().to_string()) }]
    })?;
    let faults = probe.faults();
    if faults.is_empty() { Ok(Arc::new(Ready(probe))) } else { Err(faults) }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
