//! Deadlines, preferences and disconnects while the server has more to do than it can.

use crate::child::metric;
use crate::cluster::until;
use crate::dynamic;
use crate::raw::Raw;
use crate::server::{Answer, Caller, Server, is_postgres};
use crate::wire;
use serde_json::{Value, json};
use sqlx::Connection;
use std::time::{Duration, Instant};
use tonic::Code;

/// Long enough for a busy machine, far below the 30 s that a request may take.
const SLACK: Duration = Duration::from_secs(5);

/// Asks for everything, again and again, past the reply cache, until told to stop.
async fn burden(server: &Server, callers: usize) -> tokio::task::JoinSet<()> {
    for number in 0..200 {
        server.admin().call("catalog.createSystem", json!({"name": format!("system {number}")})).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let admin = server.admin();
        tasks.spawn(async move {
            loop {
                let request = admin.request("GET", "/api/catalog/getEntities").header("cache-control", "no-cache");
                let _ = request.send().await;
            }
        });
    }
    tasks
}

async fn batch(caller: &Caller, headers: &[(&str, String)], body: &Value) -> Answer {
    let mut request = caller.request("POST", "/api/catalog/").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    Answer::of(request.body(body.to_string()).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_and_preferences_hold_under_load() {
    let server = Server::start().await;
    let _burden = burden(&server, 12).await;
    let admin = server.admin();
    let missing = json!({"getSystems": {}, "getSystem": {"systemId": uuid::Uuid::now_v7().to_string()}});
    let (mut late, mut done) = (0, 0);
    for round in 0_u64..40 {
        let timeout_ms = 1 << (round % 10);
        let asked = Instant::now();
        let deadline = ("x-timeout-ms", timeout_ms.to_string());
        let anew = ("cache-control", "no-cache".to_owned());
        let lenient = ("prefer", "handling=lenient".to_owned());
        let answer = batch(&admin, &[deadline.clone(), anew, lenient], &missing).await;
        let codes: Vec<_> = answer.body["$errors"].as_object().into_iter().flatten().collect();
        match answer.status {
            // Whole: every call is under its key or among the errors.
            207 => {
                let answered = usize::from(answer.body["getSystems"].is_array()) + codes.len();
                assert_eq!(answered, 2, "{}", answer.text);
                assert!(
                    codes.iter().all(|(_, error)| error["code"] == "NOT_FOUND" || error["code"] == "GATEWAY_TIMEOUT")
                );
                done += 1;
            }
            504 => late += 1,
            _ => panic!("{}", answer.text),
        }
        let metadata = [("grpc-timeout", &*format!("{timeout_ms}m")), ("cache-control", "no-cache")];
        match admin.grpc_with("catalog.getSystems", &json!({}), &metadata).await {
            Ok(systems) => assert_eq!(systems.as_array().map(Vec::len), Some(200)),
            Err(status) => {
                // tonic's own client calls its expiry Cancelled.
                assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
                late += 1;
            }
        }
        assert!(asked.elapsed() < Duration::from_millis(timeout_ms) * 2 + SLACK, "{timeout_ms} ms");
    }
    assert!(late > 0 && done > 0, "{late} late, {done} done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_never_leaves_half_of_a_mutation() {
    let server = Server::start().await;
    let burden = burden(&server, 6).await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0_u64..60 {
        let admin = server.admin();
        calls.spawn(async move {
            let name = format!("ci {number}");
            // A row for the application, one for each role, and one for the feed.
            let body = json!({"createApplication": {"name": name, "roles": ["reader", "operator"]}});
            let request = admin.request("POST", "/api/auth/").header("content-type", "application/json");
            let sent = request.body(body.to_string()).send();
            tokio::time::timeout(Duration::from_millis(number * 3), sent).await.is_ok()
        });
    }
    let mut answered = 0;
    while let Some(done) = calls.join_next().await {
        answered += usize::from(done.unwrap());
    }
    drop(burden);
    let admin = server.admin();
    in_flight_is_over(&admin).await;

    let found = admin.call("auth.listApplications", json!({"nameContains": "ci ", "pageSize": 100})).await;
    let found = found["applications"].as_array().unwrap();
    assert!(found.len() >= answered, "{} of {answered}", found.len());
    for application in found {
        let mut roles: Vec<_> = application["roles"].as_array().unwrap().iter().map(Value::to_string).collect();
        roles.sort();
        assert_eq!(roles, [r#""applications""#, r#""operator""#, r#""reader""#], "whole: {application}");
    }
}

/// Waits until nothing is being answered but the question itself.
async fn in_flight_is_over(admin: &Caller) {
    until("nobody is being answered", SLACK * 2, async || metric(admin, "requests_in_flight").await == 1).await;
}

/// PostgreSQL ends a statement that waits for a lock after 1.5 s: what ends well before was given up by us.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(1);

/// How many statements wait for a lock on the systems.
async fn waiting(raw: &mut Raw) -> i64 {
    raw.count("select count(*) from pg_locks where not granted and relation = 'catalog_system'::regclass").await
}

/// Goes away when a call waits for the database; how long its connection is busy after that.
async fn busy_without_caller(admin: &Caller, raw: &mut Raw, call: impl Future) -> Duration {
    until("PostgreSQL has ended the one before", SLACK, async || waiting(raw).await == 0).await;
    tokio::select! {
        _ = call => panic!("it is answered, though its table is locked"),
        _ = until("it waits for the table", SLACK, async || waiting(raw).await == 1) => {}
    }
    until("nothing is busy", SLACK, async || metric(admin, "database_connections_busy").await == 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_cancels_a_query() {
    if !is_postgres() {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin();
    let (url, mut raw) = (&*server.config.database, Raw::open(&server.config.database).await);
    let mut other = sqlx::PgConnection::connect(url).await.unwrap();
    let mut locking = other.begin().await.unwrap();
    sqlx::query("lock table catalog_system in access exclusive mode").execute(&mut *locking).await.unwrap();

    let anew = ("cache-control", "no-cache");
    let get = async || admin.request("GET", "/api/catalog/getSystems").header(anew.0, anew.1).send().await;
    let batch = json!({"getGroups": {}, "getSystems": {}});
    let batch = async || admin.request("POST", "/api/catalog/").header(anew.0, anew.1).json(&batch).send().await;
    // Its connection stays: only the stream is reset.
    let channel = wire::channel(&server.url).await;
    let stream = async || {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let mut request = wire::with_key(&admin, dynamic::request(wire::GET_SYSTEMS, &json!({})));
        request.metadata_mut().insert(anew.0, anew.1.parse().unwrap());
        let codec = dynamic::DynamicCodec::of(wire::GET_SYSTEMS);
        client.unary(request, wire::GET_SYSTEMS.parse().unwrap(), codec).await
    };
    let input = json!({});
    let connection = async || admin.grpc_with("catalog.getSystems", &input, &[anew]).await;
    for (way, took) in [
        ("GET", busy_without_caller(&admin, &mut raw, get()).await),
        ("a batch", busy_without_caller(&admin, &mut raw, batch()).await),
        ("a stream of gRPC", busy_without_caller(&admin, &mut raw, stream()).await),
        ("a connection of gRPC", busy_without_caller(&admin, &mut raw, connection()).await),
    ] {
        assert!(took < GIVEN_UP_WITHIN, "{way}: its query went on for {took:?}");
    }
    // A mutation is finished: this is also how it looks if nothing is given up.
    let mutation = admin.json("catalog.createSystem", json!({"name": "x"}));
    let took = busy_without_caller(&admin, &mut raw, mutation).await;
    assert!(took > GIVEN_UP_WITHIN, "a mutation was given up after {took:?}");
    drop(locking);
}
