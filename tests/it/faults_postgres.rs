//! PostgreSQL goes away, hangs, or has no connection left: everybody gets an answer, and nothing acknowledged is lost.
//!
//! How soon all is well again: `TEST_DATABASE_URL=postgres://… cargo test --test it all_is_well -- --ignored --nocapture`.

#![expect(clippy::print_stdout, reason = "its figures are what one runs it for")]

use crate::cluster::{Cluster, until};
use crate::process::{Running, send};
use crate::raw::Raw;
use crate::server::{Caller, Server};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic_types::StatusExt;

/// Half a minute is what a request may take; nobody is to be kept waiting for a PostgreSQL that does not answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// The promise; a busy machine takes some itself.
const BACK_WITHIN_PROMISED: Duration = Duration::from_secs(3);
const BACK_WITHIN: Duration = Duration::from_secs(8);
/// After this the Gate decides nothing.
const LEASE: Duration = Duration::from_secs(2);

async fn start(cluster: &Cluster) -> Server {
    Server::start_with(|config| config.database = cluster.url().into()).await
}

/// Somebody's view of the fault: what was acknowledged, and how often they were told to come back.
#[derive(Default)]
struct Ledger {
    acknowledged: Vec<String>,
    read: usize,
    refused: usize,
    longest: Duration,
}

impl Ledger {
    fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.read += other.read;
        self.refused += other.refused;
        self.longest = self.longest.max(other.longest);
    }
}

/// Callers that write and read over both protocols until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Ledger>,
}

impl Load {
    fn on(caller: &Caller) -> Self {
        let (stop, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for who in 0..6 {
            callers.spawn(keep_calling(caller.clone(), who, stop.clone()));
        }
        Self { stop, callers }
    }

    async fn end(mut self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Ledger::default();
        while let Some(ledger) = self.callers.join_next().await {
            all.add(ledger.unwrap());
        }
        all
    }
}

async fn keep_calling(caller: Caller, who: usize, stop: Arc<AtomicBool>) -> Ledger {
    let mut ledger = Ledger::default();
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (name, is_write, over_grpc) = (format!("{who}-{turn}"), turn % 3 != 2, (who + turn).is_multiple_of(2));
        let (procedure, input) = if is_write {
            ("catalog.createSystem", json!({"name": name}))
        } else {
            ("catalog.listSystems", json!({"pageSize": 1}))
        };
        let asked = Instant::now();
        let done = if over_grpc {
            over_grpc_once(&caller, procedure, input).await
        } else {
            once(&caller, procedure, input).await
        };
        ledger.longest = ledger.longest.max(asked.elapsed());
        match (done, is_write) {
            (true, true) => ledger.acknowledged.push(name),
            (true, false) => ledger.read += 1,
            (false, _) => {
                ledger.refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    ledger
}

/// Whether it was done; otherwise it was refused in the one way that is allowed.
async fn once(caller: &Caller, procedure: &str, input: Value) -> bool {
    let answer = caller.json(procedure, input).await;
    if answer.status != 200 {
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{}", answer.text);
        assert_eq!(answer.body["code"], "SERVICE_UNAVAILABLE", "{}", answer.text);
    }
    answer.status == 200
}

async fn over_grpc_once(caller: &Caller, procedure: &str, input: Value) -> bool {
    let done = caller.grpc(procedure, &input).await;
    if let Err(status) = &done {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
        assert!(status.get_details_retry_info().is_some(), "{status:?}");
    }
    done.is_ok()
}

async fn is_normal(caller: &Caller) -> bool {
    let is_ready = caller.get("/readyz").await.status == 200;
    is_ready && once(caller, "catalog.listSystems", json!({"pageSize": 1})).await
}

/// Everything that was acknowledged is there once, with its entry in the feed, and nothing is half there.
async fn nothing_is_lost(cluster: &Cluster, ledger: &Ledger) {
    let mut raw = Raw::open(&cluster.url()).await;
    let mut stored: HashMap<String, usize> = HashMap::new();
    for (_, name) in raw.rows("select 0::bigint, name from catalog_system").await {
        *stored.entry(name).or_default() += 1;
    }
    let lost: Vec<_> = ledger.acknowledged.iter().filter(|name| stored.get(*name) != Some(&1)).collect();
    assert!(lost.is_empty(), "acknowledged, and not there once: {lost:?}");
    let told = "select count(*) from change join catalog_system on resource = id::text where kind = 'system.created'";
    let everything = i64::try_from(stored.len()).unwrap();
    assert_eq!(raw.count(told).await, everything, "every system has its change");
    assert_eq!(raw.count("select count(*) from change where kind = 'system.created'").await, everything);
    assert!(ledger.acknowledged.len() > 10 && ledger.refused > 0, "there was a load and a fault");
    assert!(ledger.longest < ANSWERED_WITHIN, "somebody waited for {:?}", ledger.longest);
}

/// Nothing of what was given up runs or holds a lock.
async fn no_zombies(cluster: &Cluster) {
    let mut raw = Raw::open(&cluster.url()).await;
    until("no abandoned statement runs", BACK_WITHIN, async || {
        let old = "select count(*) from pg_stat_activity where backend_type = 'client backend'
                   and pid <> pg_backend_pid() and state <> 'idle' and now() - state_change > interval '3 s'";
        raw.count(old).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_postgresql_loses_nothing_and_is_over_when_it_is_back() {
    let Some(cluster) = Cluster::start() else { return };
    let server = start(&cluster).await;
    let (admin, load) = (server.admin(), Load::on(&server.admin()));
    // Connections that end at every point of a transaction, also between its last statement and its commit.
    let mut other = PgConnection::connect(&cluster.url()).await.unwrap();
    let one = "select pg_terminate_backend(pid) from pg_stat_activity
               where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 1";
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        sqlx::query(one).execute(&mut other).await.unwrap();
    }
    drop(other);
    for mode in ["fast", "immediate"] {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.take_down(mode);
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.bring_up();
        until("normal again", BACK_WITHIN, async || is_normal(&admin).await).await;
    }
    let ledger = load.end().await;
    nothing_is_lost(&cluster, &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgresql_hangs_everybody_is_answered_and_nobody_is_let_in_on_old_knowledge() {
    let Some(cluster) = Cluster::start() else { return };
    let server = start(&cluster).await;
    let (admin, load) = (server.admin(), Load::on(&server.admin()));
    tokio::time::sleep(Duration::from_millis(500)).await;

    cluster.pause();
    let paused = Instant::now();
    while paused.elapsed() < ANSWERED_WITHIN + Duration::from_millis(500) {
        let asked = paused.elapsed();
        // It needs no more than to know who calls.
        let is_let_in = once(&admin, "auth.whoAmI", json!({})).await;
        assert!(!is_let_in || asked < LEASE, "let in {asked:?} after the database was last heard");
        assert_eq!(admin.get("/healthz").await.status, 200);
        let is_ready = admin.get("/readyz").await.status == 200;
        assert!(!is_ready || asked < LEASE, "ready after {asked:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.resume();

    until("normal again", BACK_WITHIN, async || is_normal(&admin).await).await;
    let ledger = load.end().await;
    nothing_is_lost(&cluster, &ledger).await;
    no_zombies(&cluster).await;
}

/// Those who only read hold no locks, so that others can go on beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_hang_are_replaced() {
    let Some(cluster) = Cluster::start() else { return };
    let server = start(&cluster).await;
    let admin = server.admin();
    let (stop, mut readers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for _ in 0..8 {
        let (admin, stop) = (admin.clone(), stop.clone());
        readers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                once(&admin, "catalog.listSystems", json!({"pageSize": 1})).await;
            }
        });
    }
    let mut raw = Raw::open(&cluster.url()).await;
    let backends = "select pid::bigint, '' from pg_stat_activity
                    where backend_type = 'client backend' and pid <> pg_backend_pid()";
    let mut hanging: Vec<i64> = vec![];
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for (backend, _) in raw.rows(backends).await {
            if !hanging.contains(&backend) {
                send("-STOP", u32::try_from(backend).unwrap());
                hanging.push(backend);
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        until("normal beside connections that hang", BACK_WITHIN, async || is_normal(&admin).await).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    assert!(hanging.len() >= 6, "connections hung twice: {hanging:?}");
    let unused = async || admin.get("/metrics").await.text.contains("database_connections_busy 0\n");
    until("none is taken for used for ever", BACK_WITHIN, unused).await;
    cluster.resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_without_a_free_connection_is_waited_for_and_used_again() {
    let Some(cluster) = Cluster::start() else { return };
    let server = start(&cluster).await;
    let (admin, load) = (server.admin(), Load::on(&server.admin()));
    let hogs = every_connection(&cluster).await;
    until("refused", BACK_WITHIN, async || !once(&admin, "catalog.listSystems", json!({"pageSize": 1})).await).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!is_normal(&admin).await);
    drop(hogs);
    until("normal again", BACK_WITHIN, async || is_normal(&admin).await).await;
    let ledger = load.end().await;
    nothing_is_lost(&cluster, &ledger).await;
}

/// Takes whatever the server gives back or loses, until it has none.
async fn every_connection(cluster: &Cluster) -> Vec<PgConnection> {
    let mut hogs = vec![PgConnection::connect(&cluster.url()).await.unwrap()];
    let ours = "select pg_terminate_backend(pid) from pg_stat_activity
                where backend_type = 'client backend' and application_name <> 'hog' and pid <> pg_backend_pid()";
    let hog = format!("{}?application_name=hog", cluster.url());
    let taken = Instant::now();
    while hogs.len() < 20 {
        assert!(taken.elapsed() < BACK_WITHIN, "the connections cannot be taken");
        sqlx::query(ours).execute(&mut hogs[0]).await.unwrap();
        while let Ok(connection) = PgConnection::connect(&hog).await {
            hogs.push(connection);
        }
    }
    hogs
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Restart,
    Crash,
    Pause,
    NoConnections,
}

impl Fault {
    /// It happens, lasts longer than the lease, and is over.
    async fn pass(self, cluster: &Cluster) {
        let lasts = LEASE + Duration::from_millis(500);
        match self {
            Self::Restart | Self::Crash => {
                cluster.take_down(if matches!(self, Self::Crash) { "immediate" } else { "fast" });
                tokio::time::sleep(lasts).await;
                cluster.bring_up();
            }
            Self::Pause => {
                cluster.pause();
                tokio::time::sleep(lasts).await;
                cluster.resume();
            }
            Self::NoConnections => {
                let hogs = every_connection(cluster).await;
                tokio::time::sleep(lasts).await;
                drop(hogs);
            }
        }
    }
}

/// The best of three: one may fall into a moment at which the machine is busy with something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute; its figures want a quiet machine"]
async fn all_is_well_again_within_three_seconds() {
    let Some(cluster) = Cluster::start() else { return };
    let server = start(&cluster).await;
    let (admin, load) = (server.admin(), Load::on(&server.admin()));
    for fault in [Fault::Restart, Fault::Crash, Fault::Pause, Fault::NoConnections] {
        let mut took = vec![];
        for _ in 0..3 {
            fault.pass(&cluster).await;
            took.push(until("normal again", BACK_WITHIN, async || is_normal(&admin).await).await);
        }
        println!("{fault:?}: normal again after {took:.1?}");
        assert!(took.iter().min() < Some(&BACK_WITHIN_PROMISED), "{fault:?}: {took:?}");
    }
    nothing_is_lost(&cluster, &load.end().await).await;
}

fn replica(cluster: &Cluster) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_checkmate"));
    command.env_clear().env("CHECKMATE_DATABASE", cluster.url()).env("CHECKMATE_LISTEN", "127.0.0.1:0");
    command.env("CHECKMATE_INSTANCE_KEY", "ab".repeat(32));
    command
}

#[tokio::test]
async fn a_replica_that_was_stopped_never_honours_a_key_that_was_deleted_meanwhile() {
    let Some(cluster) = Cluster::start() else { return };
    let server = start(&cluster).await;
    let stopped = Running::start(&mut replica(&cluster));
    let doomed = server.application(&["admin"]).await;
    let id = doomed.call("auth.whoAmI", json!({})).await["id"].clone();
    let there = stopped.with_key(doomed.key.as_ref().unwrap());
    until("known there", BACK_WITHIN, async || there.json("auth.whoAmI", json!({})).await.status == 200).await;

    send("-STOP", stopped.child.id());
    server.admin().call("auth.deleteApplication", id).await;
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let there = Caller { http: reqwest::Client::new(), ..there.clone() };
            tokio::spawn(async move { there.json("auth.whoAmI", json!({})).await.status })
        })
        .collect();
    tokio::time::sleep(LEASE + Duration::from_millis(100)).await;
    send("-CONT", stopped.child.id());

    for first in asked {
        let status = first.await.unwrap();
        assert!([401, 503].contains(&status), "its first answer was {status}");
    }
    until("refused for good", BACK_WITHIN, async || there.json("auth.whoAmI", json!({})).await.status == 401).await;
}

/// Further behind than a follower replays; and behind a feed of which the older part is gone.
#[tokio::test]
async fn a_replica_that_cannot_replay_the_feed_reads_everything_anew() {
    let Some(cluster) = Cluster::start() else { return };
    let server = start(&cluster).await;
    let stopped = Running::start(&mut replica(&cluster));
    let mut raw = Raw::open(&cluster.url()).await;
    let much = "insert into change (sequence, plugin, kind, resource, made_by, made_at)
                select known + n, 'catalog', 'system.updated', 'none', 'test', 0
                from generate_series(1, 10001) as n, (select max(sequence) as known from change) as feed";
    let gone = "delete from change where sequence < (select max(sequence) from change)";
    for (case, behind) in [("far behind", much), ("behind what is gone", gone)] {
        let doomed = server.application(&["reader"]).await;
        let id = doomed.call("auth.whoAmI", json!({})).await["id"].clone();
        let there = stopped.with_key(doomed.key.as_ref().unwrap());
        let status = async || there.json("auth.whoAmI", json!({})).await.status;
        until("known there", BACK_WITHIN, async || status().await == 200).await;

        send("-STOP", stopped.child.id());
        server.admin().call("auth.deleteApplication", id).await;
        // What says that the key was deleted is out of reach then.
        raw.execute(behind).await;
        server.admin().call("catalog.createSystem", json!({"name": case})).await;
        send("-CONT", stopped.child.id());

        until("refused there", BACK_WITHIN, async || status().await == 401).await;
        let admin = stopped.with_key(server.admin().key.as_ref().unwrap());
        let seen = async || admin.call("catalog.getSystems", json!({})).await.to_string().contains(case);
        until("kept answers are made anew", BACK_WITHIN, seen).await;
        assert_eq!(status().await, 401, "{case}");
    }
}

#[tokio::test]
async fn a_revocation_is_seen_in_time_without_notifications() {
    let Some(cluster) = Cluster::start() else { return };
    let here = start(&cluster).await;
    let there = here.replica().await;
    let stop = Arc::new(AtomicBool::new(false));
    let cut = tokio::spawn({
        let (mut raw, stop) = (PgConnection::connect(&cluster.url()).await.unwrap(), stop.clone());
        async move {
            let listeners = "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%'";
            let mut cuts = 0;
            while !stop.load(Ordering::Relaxed) {
                cuts += sqlx::query(listeners).execute(&mut raw).await.unwrap().rows_affected();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cuts
        }
    });
    for _ in 0..3 {
        let doomed = here.application(&["reader"]).await;
        let id = doomed.call("auth.whoAmI", json!({})).await["id"].clone();
        let elsewhere = there.with_key(doomed.key.as_deref());
        until("known there", LEASE, async || elsewhere.json("auth.whoAmI", json!({})).await.status == 200).await;
        here.admin().call("auth.deleteApplication", id).await;
        until("refused there", LEASE, async || elsewhere.json("auth.whoAmI", json!({})).await.status == 401).await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(cut.await.unwrap() > 0, "somebody listened");
}

/// Ends with the test.
struct Starting(Child);

impl Drop for Starting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_server_waits_for_a_postgresql_that_starts_after_it() {
    let Some(cluster) = Cluster::stopped() else { return };
    let starting = std::thread::spawn({
        let mut command = replica(&cluster);
        move || Running::start(&mut command)
    });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!starting.is_finished());
    cluster.bring_up();
    let server = starting.join().unwrap();
    assert_eq!(server.with_key(&server.key()).call("catalog.getSystems", json!({})).await, json!([]));
}

#[tokio::test]
async fn a_server_that_waits_for_postgresql_ends_when_told_to() {
    let Some(cluster) = Cluster::stopped() else { return };
    let mut child = Starting(replica(&cluster).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(child.0.try_wait().unwrap().is_none(), "it waits");
    send("-TERM", child.0.id());
    until("it ends", BACK_WITHIN, async || child.0.try_wait().unwrap().is_some()).await;
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}
