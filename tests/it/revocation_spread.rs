//! How soon a key that is good for nothing any more is refused by the other replicas, over both protocols.
//!
//! `TEST_DATABASE_URL=postgres://… cargo test --test it how_soon -- --ignored --nocapture` prints the figures.

#![expect(clippy::print_stdout, reason = "its figures are what one runs it for")]

use crate::cluster::until;
use crate::dynamic;
use crate::model::deafen;
use crate::process::{Home, Running};
use crate::server::is_postgres;
use crate::wire;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Never later than this (design.md section 6).
const BOUND: Duration = Duration::from_secs(2);
/// At the 99th percentile.
const BOUND_P99: Duration = Duration::from_millis(100);
/// From now on: so that everybody has heard of it before.
const EXPIRES_IN: Duration = Duration::from_millis(400);
/// Of one key, in the full measurement; each gives a time for two replicas and two protocols.
const ROUNDS: usize = 200;

#[derive(Clone, Copy, Debug)]
enum Revocation {
    Regenerated,
    Deleted,
    /// Its role has lost its permissions.
    RoleChanged,
    /// It has lost its role.
    Unassigned,
    Expired,
}

const ALL: [Revocation; 5] = [
    Revocation::Regenerated,
    Revocation::Deleted,
    Revocation::RoleChanged,
    Revocation::Unassigned,
    Revocation::Expired,
];

/// A replica and a protocol.
#[derive(Clone)]
enum Door {
    Json(reqwest::Client, String),
    Grpc(Channel),
}

impl Door {
    async fn lets_in(&self, key: &str) -> bool {
        match self {
            Self::Json(http, url) => {
                let answer = http.get(format!("{url}/api/catalog/getSystems")).bearer_auth(key).send().await.unwrap();
                let status = answer.status().as_u16();
                // Read to its end, so that the connection is used again.
                let text = answer.text().await.unwrap();
                assert!([200, 401, 403].contains(&status), "{status}: {text}");
                status == 200
            }
            Self::Grpc(channel) => {
                let mut request = tonic::Request::new(dynamic::request(wire::GET_SYSTEMS, &json!({})));
                request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
                let mut client = tonic::client::Grpc::new(channel.clone());
                client.ready().await.unwrap();
                let codec = dynamic::DynamicCodec::of(wire::GET_SYSTEMS);
                let done = client.unary(request, wire::GET_SYSTEMS.parse().unwrap(), codec).await;
                let refused = [tonic::Code::Unauthenticated, tonic::Code::PermissionDenied];
                assert!(done.as_ref().err().is_none_or(|status| refused.contains(&status.code())), "{done:?}");
                done.is_ok()
            }
        }
    }
}

/// Three replicas on one database: changes are made on the first, and looked for on the others.
struct Replicas {
    home: Home,
    running: Vec<Running>,
    doors: Vec<Door>,
    admin: String,
    http: reqwest::Client,
}

impl Replicas {
    async fn start() -> Self {
        let home = Home::new().await;
        let start = || Running::start(home.command(&[]).env("CHECKMATE_LOG", "error"));
        let running: Vec<_> = (0..3).map(|_| start()).collect();
        let (admin, http) = (running[0].key(), reqwest::Client::new());
        let mut doors = vec![];
        for replica in &running[1..] {
            doors.push(Door::Json(http.clone(), replica.url.clone()));
            doors.push(Door::Grpc(wire::channel(&replica.url).await));
        }
        Self { home, running, doors, admin, http }
    }

    fn database(&self) -> &str {
        self.home.database()
    }

    /// One call on the first replica, and when it returned. Not through a `Caller`, which looks for secrets meanwhile.
    async fn change(&self, procedure: &str, input: Value) -> (Value, Instant) {
        let request = self.http.post(format!("{}/api/auth/{procedure}", self.running[0].url)).bearer_auth(&self.admin);
        let answer = request.json(&input).send().await.unwrap();
        let returned = Instant::now();
        assert_eq!(answer.status(), 200, "{procedure}");
        (answer.json().await.unwrap(), returned)
    }

    /// Makes a key good for nothing; when it became so.
    async fn revoke(&self, how: Revocation, application: &Value, role: &Value) -> Instant {
        let (procedure, input) = match how {
            Revocation::Regenerated => ("regenerateApplicationSecret", application.clone()),
            Revocation::Deleted => ("deleteApplication", application.clone()),
            Revocation::RoleChanged => ("updateRole", json!({"id": role, "permissions": []})),
            Revocation::Unassigned => ("updateApplication", json!({"id": application, "roles": []})),
            Revocation::Expired => {
                let (at, end) = (jiff::Timestamp::now() + EXPIRES_IN, Instant::now() + EXPIRES_IN);
                self.change("updateApplication", json!({"id": application, "expiresAt": format!("{at:.3}")})).await;
                return end;
            }
        };
        self.change(procedure, input).await.1
    }

    /// How long after a new key is revoked each door refuses it.
    async fn round(&self, how: Revocation) -> Vec<Duration> {
        let name = uuid::Uuid::now_v7().to_string();
        let (role, _) = self.change("createRole", json!({"name": name, "permissions": ["catalog.catalog.read"]})).await;
        let (made, _) = self.change("createApplication", json!({"name": name, "roles": [role["id"]]})).await;
        let key = made["secret"].as_str().unwrap();
        for door in &self.doors {
            until("it is known everywhere", BOUND, async || door.lets_in(key).await).await;
        }
        let watching: Vec<_> = self.doors.iter().map(|door| tokio::spawn(refusal(door.clone(), key.into()))).collect();
        let revoked = self.revoke(how, &made["application"]["id"], &role["id"]).await;
        let mut took = vec![];
        for refused in watching {
            let refused = refused.await.unwrap();
            took.push(refused.unwrap_or_else(|| panic!("{how:?}: still let in")).saturating_duration_since(revoked));
        }
        took
    }
}

/// When a door first refuses a key.
async fn refusal(door: Door, key: String) -> Option<Instant> {
    let begun = Instant::now();
    while begun.elapsed() < BOUND * 5 {
        if !door.lets_in(&key).await {
            return Some(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_refused_everywhere_soon_in_whatever_way_it_was_revoked() {
    if !is_postgres() {
        return;
    }
    let replicas = Replicas::start().await;
    for how in ALL {
        let took = replicas.round(how).await;
        println!("{how:?}: {took:.1?}");
        assert!(took.iter().all(|took| *took < BOUND), "{how:?}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes; its figures want a quiet machine"]
async fn how_soon_a_revoked_key_is_refused() {
    if !is_postgres() {
        return;
    }
    let replicas = Replicas::start().await;
    let notified = measure(&replicas, "notified").await;
    let stop = CancellationToken::new();
    let cutting = tokio::spawn(keep_deaf(replicas.database().to_owned(), stop.clone()));
    let alone = measure(&replicas, "never notified").await;
    stop.cancel();
    assert!(cutting.await.unwrap() > 0, "somebody listened");
    for (p99, longest) in [notified, alone] {
        assert!(p99 <= BOUND_P99 && longest <= BOUND, "p99 {p99:?}, longest {longest:?}");
    }
}

/// Cuts whoever listens; how many did.
async fn keep_deaf(database: String, stop: CancellationToken) -> u64 {
    let mut cut = 0;
    while !stop.is_cancelled() {
        cut += deafen(&database).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cut
}

/// The p99, and the longest.
async fn measure(replicas: &Replicas, case: &str) -> (Duration, Duration) {
    let mut took = vec![];
    for round in 0..ROUNDS {
        took.extend(replicas.round(ALL[round % ALL.len()]).await);
    }
    took.sort();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    let (p50, p99, longest) = (at(50), at(99), at(100));
    println!(
        "{case}: refused by the others after p50 {p50:.1?}, p99 {p99:.1?}, longest {longest:.1?} ({} times)",
        took.len()
    );
    (p99, longest)
}
