//! Joins all parts; the only place that knows them all.

use crate::access::{Budget, Call, Caller, Gate, Hashing, InstanceKey, Ledger, Snapshot, Token, usage};
use crate::config::Config;
use crate::contract::{Checks, Mount, method_named};
use crate::database::{Database, FileLock, Ids, Location, Schema};
use crate::error::{Error, Result};
use crate::json::Value;
use crate::plugin::{self, Kernel, auth, healthcheck};
use crate::probe::{Net, Turns};
use crate::scheduler;
use crate::transport::{Edge, Listeners, Metrics, ReplyCache, Shared, listener};
use crate::world::{Clock, Entropy};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::ServingStatus;

/// After the requests are finished the rest ends within this each, also when the database hangs.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// Whoever starts everything at once (an orchestrator, a machine) starts us before PostgreSQL accepts connections; after
/// this it is somebody's mistake, and restarting is theirs to decide.
const STARTING_MAX: Duration = Duration::from_mins(1);

/// What stands on an open database.
pub struct Foundation {
    kernel: Kernel,
    gate: Gate,
    clock: Clock,
    checks: Checks,
    config: Config,
    /// Held for as long as the server runs.
    lock: Option<FileLock>,
}

/// Whether others may work on the same `SQLite` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A server: the only one.
    Alone,
    /// A command, also beside a running server.
    Beside,
}

impl Foundation {
    /// Opens the database, brings it up to date, and reads what the Gate decides from.
    pub async fn open(config: Config, clock: Clock, sharing: Sharing) -> Result<Self> {
        Self::try_open(config, clock, sharing).await.map_err(in_words)
    }

    async fn try_open(config: Config, clock: Clock, sharing: Sharing) -> Result<Self> {
        let location = Location::parse(&config.database)?;
        let lock = match (location.file(), sharing) {
            (Some(path), Sharing::Alone) => Some(FileLock::take(path)?),
            _ => None,
        };
        let patience = match sharing {
            Sharing::Alone => STARTING_MAX,
            // Somebody sits before it.
            Sharing::Beside => Duration::ZERO,
        };
        let database = Database::connect(&location, config.limits.database_connections, patience).await?;
        migrate(&database, &location, sharing).await?;
        let configured = config.instance_key.as_ref().map(|key| key.as_str());
        let key = Arc::new(InstanceKey::load(configured, &location, Entropy)?);
        let snapshot = Snapshot::load(database.clone(), &key).await?;
        let hashing = Hashing::default();
        let limits = &config.limits;
        let budget = Budget::new(limits.bad_credentials, limits.bad_credentials_per_minute, clock.clone());
        let gate = Gate::new(snapshot.clone(), key.clone(), hashing.clone(), database.clone(), budget, clock.clone());
        let pages = Arc::new(key.page_key());
        let checks = Checks { pages: pages.clone() };
        let ids = Arc::new(Ids::new(clock.clone()));
        let net = Net::new(config.probes.clone());
        let kernel = Kernel {
            database,
            snapshot,
            key,
            old_keys: config.old_instance_keys.iter().map(|key| InstanceKey::parse(key)).collect::<Result<_>>()?,
            hashing,
            entropy: Entropy,
            ids,
            pages,
            clock: clock.clone(),
            net,
            turns: Turns::default(),
        };
        let foundation = Self { kernel, gate, clock, checks, config, lock };
        auth::seed(&foundation.kernel, &foundation.call("makes the roles of a new installation")).await?;
        Ok(foundation)
    }

    /// Calls a procedure as the operator at the command line, in JSON, with every rule but the permission.
    pub async fn call_as_operator(&self, plugin: &str, procedure: &str, input: &serde_json::Value) -> Result<Vec<u8>> {
        let unknown = || Error::bug(format!("{plugin}.{procedure} is not in the contract"));
        let method = method_named(plugin, procedure).ok_or_else(unknown)?;
        let caller = Arc::new(Caller::server("the operator at the command line"));
        let (_, faces) = self.mount().into_parts();
        let text = input.to_string();
        let input =
            Value::parse(text.as_bytes(), self.config.limits.json_depth).map_err(|why| Error::bug(why.to_string()))?;
        let face = faces.get(method.path).ok_or_else(unknown)?;
        let prepared = face.prepare(self.gate.admit(method, &caller)?, &input)?;
        Ok(prepared.run(false).await.map_err(in_words)?.json)
    }

    /// Closes the database.
    pub async fn close(self) {
        self.kernel.database.close().await;
    }

    fn mount(&self) -> Mount {
        let mut mount = Mount::new(self.checks.clone(), self.config.limits.grpc_message_bytes);
        plugin::mount(&self.kernel, &mut mount);
        mount
    }

    fn call(&self, why: &'static str) -> Call {
        Call::by_server("auth", why, self.clock.now())
    }
}

/// A server that is ready to run.
pub struct App {
    foundation: Foundation,
    edge: Edge,
    listener: TcpListener,
    address: SocketAddr,
    bootstrap: Option<Token>,
    health: tonic_health::server::HealthReporter,
    services: Vec<&'static str>,
    stop: CancellationToken,
}

impl App {
    /// Makes everything ready behind a listener.
    pub async fn start(config: Config, listener: TcpListener, clock: Clock) -> Result<Self> {
        let address = listener.local_addr().map_err(|why| Error::Refused(format!("cannot listen: {why}")))?;
        let foundation = Foundation::open(config, clock, Sharing::Alone).await?;
        let Foundation { kernel, gate, config, .. } = &foundation;
        let mut bootstrap = None;
        if config.bootstrap {
            bootstrap = auth::bootstrap(kernel, &foundation.call("makes the first application")).await?;
        } else {
            auth::decline_bootstrap(kernel, &foundation.call("is told to make no application")).await?;
        }
        let (health, health_server) = tonic_health::server::health_reporter();
        let (mount, stop) = (foundation.mount(), CancellationToken::new());
        let mut services = mount.names().to_vec();
        services.push("");
        let metrics = Metrics::default();
        let replies = ReplyCache::new(config.limits.reply_cache_bytes, kernel.database.versions(), metrics.clone())?;
        let Kernel { database, snapshot, key, entropy, .. } = kernel;
        let ledger = Ledger::new(database.clone(), snapshot.clone(), key, *entropy, foundation.clock.clone());
        let listeners = Listeners::new(gate.clone(), &config.limits, metrics.clone());
        let edge = Edge::new(mount, health_server, |faces| Shared {
            gate: gate.clone(),
            snapshot: kernel.snapshot.clone(),
            database: kernel.database.clone(),
            limits: config.limits,
            metrics,
            ledger,
            replies,
            listeners,
            tasks: TaskTracker::new(),
            stopping: stop.clone(),
            private_contract: config.private_contract,
            faces,
        })?;
        Ok(Self { foundation, edge, listener, address, bootstrap, health, services, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key of the application that this start made, once.
    pub fn take_bootstrap(&mut self) -> Option<Token> {
        self.bootstrap.take()
    }

    /// Serves until `stop` is cancelled; then finishes what is in flight, writes what is only in memory, and closes.
    ///
    /// Fails if a task of the server did.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let Self { foundation, edge, listener, health, services, .. } = self;
        let Kernel { snapshot, database, .. } = &foundation.kernel;
        let (teller, listener_of_health) = watch::channel(true);
        let following = CancellationToken::new();
        let follow = snapshot.clone().follow(following.clone(), move |well| {
            teller.send_if_modified(|known| std::mem::replace(known, well) != well);
        });
        let keep = usage::keep(snapshot.clone(), database.clone(), following.clone());
        let ledger = edge.shared().ledger.clone();
        let figures = edge.shared().metrics.checks.clone();
        let forgetter = tokio::spawn(ending(stop.clone(), ledger.keep(following.clone())));
        let by_time = scheduler::keep(foundation.kernel.clone(), foundation.clock.clone(), figures, following.clone());
        let resealing = tokio::spawn(healthcheck::reseal(foundation.kernel.clone(), following.clone()));
        let timekeeper = tokio::spawn(ending(stop.clone(), by_time));
        let apart = Apart::new()?;
        let (follower, keeper) = (apart.spawn(ending(stop.clone(), follow)), tokio::spawn(ending(stop.clone(), keep)));
        let reporter =
            tokio::spawn(report_health(health, services, listener_of_health, stop.clone(), self.stop.clone()));

        listener::serve(listener, edge, stop, foundation.config.drain_timeout).await;

        following.cancel();
        let mut done = Ok(());
        for (name, task) in [
            ("follower", follower),
            ("last uses", keeper),
            ("kept answers", forgetter),
            ("scheduler", timekeeper),
            ("secrets", resealing),
            ("health", reporter),
        ] {
            match timeout(CLOSING_MAX, task).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => done = Err(Error::bug(format!("the task {name:?} failed: {why}"))),
                Err(_) => tracing::warn!(task = name, "a task did not end in time"),
            }
        }
        if timeout(CLOSING_MAX, foundation.kernel.database.close()).await.is_err() {
            tracing::warn!("the database did not close in time");
        }
        drop(apart);
        drop(foundation.lock);
        done
    }
}

/// A runtime of one thread for what must not wait in line with requests: the system gives each thread its share, also
/// when those that serve are all busy.
struct Apart {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Apart {
    fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("apart").enable_all().build();
        let runtime = runtime.map_err(|why| Error::Refused(format!("cannot start a thread: {why}")))?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.handle.spawn(task)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it here would block the thread of others.
            runtime.shutdown_background();
        }
    }
}

/// A task that the server cannot do without: however it ends, the server ends too.
async fn ending(stop: CancellationToken, task: impl Future<Output = ()>) {
    let _guard = stop.drop_guard();
    task.await;
}

/// Tells `grpc.health.v1` whether the database answers, and that the server stops; only then `stopping` ends the streams
/// of those who listen.
async fn report_health(
    health: tonic_health::server::HealthReporter,
    services: Vec<&'static str>,
    mut hears: watch::Receiver<bool>,
    stop: CancellationToken,
    stopping: CancellationToken,
) {
    loop {
        let stops = stop.is_cancelled();
        let well = *hears.borrow_and_update() && !stops;
        let status = if well { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in &services {
            health.set_service_status(*service, status).await;
        }
        if stops {
            stopping.cancel();
        }
        tokio::select! {
            changed = hears.changed() => if changed.is_err() { return },
            () = stop.cancelled(), if !stops => {}
        }
    }
}

/// Only a server, or a command without one, migrates: under a running server the schema stays as it is.
async fn migrate(database: &Database, location: &Location, sharing: Sharing) -> Result<()> {
    if database.schema().await? == Schema::Current {
        return Ok(());
    }
    let _lock = match (location.file(), sharing) {
        (Some(path), Sharing::Beside) => Some(FileLock::take(path)?),
        _ => None,
    };
    database.migrate().await
}

/// An internal error with its cause: here the operator reads it, not a caller.
fn in_words(error: Error) -> Error {
    if let Error::Internal(cause) = error { Error::Refused(cause) } else { error }
}
