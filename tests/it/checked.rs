//! Systems that are checked, and a target for the checks that answers as the test says.

use crate::cluster::until;
use crate::server::{Caller, Server, is_postgres};
use serde_json::{Value, json};
use sqlx::Connection;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

pub const SECOND: Duration = Duration::from_secs(1);

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// An HTTP server; it goes with the test.
#[derive(Clone)]
pub struct Target {
    pub url: String,
    state: Arc<State>,
}

struct State {
    status: AtomicU16,
    hangs: AtomicBool,
    delay_ms: AtomicU64,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    seen: Mutex<Vec<String>>,
}

impl Target {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            status: AtomicU16::new(200),
            hangs: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let there = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, there.clone()));
            }
        });
        Self { url, state }
    }

    pub fn answers(&self, status: u16) {
        self.state.status.store(status, SeqCst);
    }

    pub fn hangs(&self, hangs: bool) {
        self.state.hangs.store(hangs, SeqCst);
    }

    pub fn takes(&self, time: Duration) {
        self.state.delay_ms.store(u64::try_from(time.as_millis()).unwrap(), SeqCst);
    }

    /// How many requests there were.
    pub fn hits(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    pub fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(SeqCst)
    }
}

async fn answer(mut stream: TcpStream, state: Arc<State>) {
    let mut head = vec![0; 4_096];
    let length = stream.read(&mut head).await.unwrap_or_default();
    if length == 0 {
        return;
    }
    let line = String::from_utf8_lossy(&head[..length]).lines().next().unwrap_or_default().to_owned();
    state.seen.lock().unwrap().push(line);
    let now = state.at_once.fetch_add(1, SeqCst) + 1;
    state.most_at_once.fetch_max(now, SeqCst);
    if state.hangs.load(SeqCst) {
        // Until the other end has enough.
        let _ = stream.read(&mut head).await;
    } else {
        sleep(Duration::from_millis(state.delay_ms.load(SeqCst))).await;
        let status = state.status.load(SeqCst);
        let text = format!("HTTP/1.1 {status} Told\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(text.as_bytes()).await;
    }
    state.at_once.fetch_sub(1, SeqCst);
}

/// Some values with others over them.
pub fn with(mut value: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    value.as_object_mut().unwrap().extend(more);
    value
}

/// A new system.
pub async fn system(caller: &Caller, name: &str) -> Value {
    caller.call("catalog.createSystem", json!({"name": name})).await["id"].take()
}

/// A new check of a target, each minute unless it says otherwise.
pub async fn check(caller: &Caller, target: &Target, more: Value) -> Value {
    let new = json!({"name": "web", "strategyId": "http", "intervalSeconds": 60, "config": {"url": target.url}});
    caller.call("healthcheck.createConfiguration", with(new, more)).await["id"].take()
}

/// A new heartbeat.
pub async fn heartbeat(caller: &Caller, interval_s: u32, grace_s: u32) -> Value {
    let new = json!({
        "name": "backup", "strategyId": "heartbeat", "intervalSeconds": interval_s, "config": {"graceSeconds": grace_s}
    });
    caller.call("healthcheck.createConfiguration", new).await["id"].take()
}

pub async fn associate(caller: &Caller, system: &Value, check: &Value, more: Value) -> Value {
    let body = with(json!({"configurationId": check}), more);
    caller.call("healthcheck.associateSystem", json!({"systemId": system, "body": body})).await
}

/// The runs of a check, oldest first, with what was found.
pub async fn runs(caller: &Caller, check: &Value) -> Vec<Value> {
    let mut all = vec![];
    loop {
        let input = json!({"configurationId": check, "limit": 1_000, "offset": all.len(), "sortOrder": "asc"});
        let mut found = caller.call("healthcheck.getDetailedHistory", input).await;
        let part: Vec<Value> = serde_json::from_value(found["runs"].take()).unwrap();
        all.extend_from_slice(&part);
        if part.len() < 1_000 {
            return all;
        }
    }
}

/// Waits until there are more runs than so many.
pub async fn until_more_runs(caller: &Caller, check: &Value, than: usize) -> Vec<Value> {
    let mut found = vec![];
    until("a run is stored", PATIENCE, async || {
        found = runs(caller, check).await;
        found.len() > than
    })
    .await;
    found
}

/// The first run, which follows an association within a second.
pub async fn first_run(server: &Server, check: &Value) -> Value {
    let mut found = vec![];
    until("the first run is stored", PATIENCE, async || {
        server.clock.advance(SECOND);
        sleep(Duration::from_millis(300)).await;
        found = runs(&server.admin(), check).await;
        !found.is_empty()
    })
    .await;
    found.remove(0)
}

/// Goes on by an interval until there is one more run, and answers it.
pub async fn next_run(server: &Server, check: &Value, interval: Duration) -> Value {
    let before = runs(&server.admin(), check).await.len();
    // A first run out of turn may have taken the place of the next.
    for _ in 0..3 {
        server.clock.advance(interval);
        for _ in 0..60 {
            let mut found = runs(&server.admin(), check).await;
            if found.len() > before {
                return found.pop().unwrap();
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    panic!("there is no run after three intervals");
}

/// How a system is, by its checks.
pub async fn status(caller: &Caller, system: &Value) -> Value {
    caller.call("healthcheck.getSystemHealthStatus", json!({"systemId": system})).await
}

pub async fn until_status(caller: &Caller, system: &Value, wanted: &str) {
    let mut found = Value::Null;
    for _ in 0..800 {
        found = status(caller, system).await;
        if found["status"] == wanted {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("not {wanted}: {found}");
}

/// The incidents of a system, oldest first, each with its timeline.
pub async fn incidents(caller: &Caller) -> Vec<Value> {
    let all = caller.call("incident.getIncidents", json!({"includeResolved": true})).await;
    let rows = if all.is_array() { all } else { all["incidents"].clone() };
    let mut found = vec![];
    for row in rows.as_array().unwrap().iter().rev() {
        found.push(caller.call("incident.getIncident", json!({"id": row["id"]})).await);
    }
    found
}

/// What a timeline says.
pub fn line(incident: &Value) -> Vec<String> {
    let entries = incident["updates"].as_array().unwrap().iter();
    entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
}

/// Runs a statement in the database of a server, behind its back.
pub async fn behind_its_back(database: &str, sqlite: &[&'static str], postgres: &[&'static str]) {
    if is_postgres() {
        let mut connection = sqlx::PgConnection::connect(database).await.unwrap();
        for statement in postgres {
            sqlx::raw_sql(*statement).execute(&mut connection).await.unwrap();
        }
    } else {
        let mut connection = sqlx::SqliteConnection::connect(database).await.unwrap();
        for statement in sqlite {
            sqlx::raw_sql(*statement).execute(&mut connection).await.unwrap();
        }
    }
}

/// A figure of the metrics.
pub async fn metric(caller: &Caller, name: &str) -> u64 {
    crate::child::metric(caller, name).await
}
