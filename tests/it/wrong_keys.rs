//! Wrong keys in numbers: the failure budget of a client network, and what it leaves to those whose keys are good.

use crate::line::{Line, grpc_request, json_request};
use crate::server::{Caller, Server};
use checkmate::access::{ApplicationId, Token};
use checkmate::config::Config;
use checkmate::contract::method_named;
use checkmate::world::Entropy;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tonic::Code;
use tonic_types::StatusExt;

/// A well-formed key that nobody has issued.
pub fn forged(id: &str) -> String {
    Token::generate(ApplicationId::parse(id).unwrap(), Entropy).unwrap().reveal().to_owned()
}

/// A well-formed key of an application that there is not.
pub fn unknown() -> String {
    forged(&uuid::Uuid::now_v7().to_string())
}

/// One bad key of each kind; the clock is an hour on.
pub async fn bad_keys(server: &Server) -> Vec<(&'static str, String)> {
    let admin = server.admin();
    let expiry = server.clock.in_future(Duration::from_hours(1));
    let known = admin.call("auth.createApplication", json!({"name": "known"})).await;
    let deleted = admin.call("auth.createApplication", json!({"name": "deleted"})).await;
    let expired = admin.call("auth.createApplication", json!({"name": "expired", "expiresAt": expiry})).await;
    admin.call("auth.deleteApplication", deleted["application"]["id"].clone()).await;
    server.clock.advance(Duration::from_hours(1));
    let secret = |made: &Value| made["secret"].as_str().unwrap().to_owned();
    vec![
        ("unknown", unknown()),
        ("wrong", forged(known["application"]["id"].as_str().unwrap())),
        ("deleted", secret(&deleted)),
        ("expired", secret(&expired)),
    ]
}

/// A unit comes back every ten seconds.
fn budget_of(units: u32) -> impl FnOnce(&mut Config) {
    move |config| {
        config.limits.bad_credentials = units;
        config.limits.bad_credentials_per_minute = 6;
    }
}

async fn status(caller: &Caller) -> u16 {
    caller.json("auth.whoAmI", json!({})).await.status
}

#[tokio::test]
async fn a_network_with_too_many_bad_keys_is_told_to_come_back_and_its_good_keys_pass() {
    let server = Server::start_with(budget_of(10)).await;
    let good = server.reader().await;
    let mut bad = bad_keys(&server).await;
    bad.push(("malformed", "ck_nonsense".into()));
    for (kind, key) in &bad {
        let caller = server.with_key(Some(key));
        caller.json("auth.whoAmI", json!({})).await.refused(401, "UNAUTHORIZED", "Invalid API key");
        let refused = caller.grpc("auth.whoAmI", &json!({})).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{kind}: each costs the same");
    }

    let mut answers = BTreeSet::new();
    for (kind, key) in &bad {
        let caller = server.with_key(Some(key));
        let answer = caller.json("auth.whoAmI", json!({})).await;
        answer.refused(429, "TOO_MANY_REQUESTS", "Too many requests");
        assert_eq!(answer.header("retry-after"), "10", "{kind}");
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        headers.remove("date");
        let refused = caller.grpc("auth.whoAmI", &json!({})).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{kind}");
        assert_eq!(refused.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(10)), "{kind}");
        answers.insert(format!("{headers:?} {} {:?} {:?}", answer.text, refused.message(), refused.details()));
        assert_eq!(status(&good).await, 200, "a good key passes after {kind}");
        assert!(good.grpc("auth.whoAmI", &json!({})).await.is_ok(), "a good key passes after {kind}");
        assert_eq!(server.anonymous().get("/api/catalog/").await.status, 200, "and who brings none");
    }
    assert_eq!(answers.len(), 1, "all kinds are answered the same: {answers:?}");

    server.clock.advance(Duration::from_secs(10));
    let again = server.with_key(Some(&bad[0].1));
    assert_eq!([status(&again).await, status(&again).await], [401, 429], "one unit has come back");
    let metrics = server.anonymous().get("/metrics").await.text;
    for line in ["checkmate_bad_credentials_total 11", "checkmate_bad_credentials_limited_total 11"] {
        assert!(metrics.lines().any(|have| have == line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn what_a_header_says_about_where_a_client_is_changes_nothing() {
    let server = Server::start_with(budget_of(4)).await;
    let caller = server.with_key(Some(&unknown()));
    let mut seen = vec![];
    for (header, value) in [
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.2"),
        ("x-real-ip", "192.0.2.3"),
        ("cf-connecting-ip", "192.0.2.4"),
        ("x-forwarded-for", "192.0.2.5"),
        ("forwarded", "for=192.0.2.6"),
    ] {
        let request = caller.request("POST", "/api/auth/whoAmI").header(header, value).body("{}");
        let json = request.header("content-type", "application/json").send().await.unwrap().status().as_u16();
        let grpc = caller.grpc_with("auth.whoAmI", &json!({}), &[(header, value)]).await.unwrap_err().code();
        seen.push((json, grpc));
    }
    let (bad, many) = ((401, Code::Unauthenticated), (429, Code::ResourceExhausted));
    assert_eq!(seen, [bad, bad, many, many, many, many], "one budget for all, on both protocols");
}

#[tokio::test]
async fn every_door_takes_from_the_same_budget() {
    const DOORS: u32 = 9;
    let server = Server::start_with(budget_of(DOORS)).await;
    let (good, bad) = (server.admin(), server.with_key(Some(&unknown())));
    let path = method_named("auth", "whoAmI").unwrap().path;
    for (http, grpc) in [(401, Code::Unauthenticated), (429, Code::ResourceExhausted)] {
        assert_eq!(bad.post("/api/auth/", &json!({"whoAmI": {}})).await.status, http, "a batch");
        assert_eq!(bad.post("/api/auth/whoAmI", &json!({})).await.status, http, "a single call");
        assert_eq!(bad.get("/api/auth/").await.status, http, "the procedures of a plugin");
        assert_eq!(bad.get("/api/openapi.json").await.status, http, "the contract");
        assert_eq!(bad.get("/api/auth/whoAmI").await.status, http, "a wrong method");
        assert_eq!(bad.get("/api/a/b/c/d").await.status, http, "a path to nothing");
        let call = json!([{"url": "http://x/api/auth/whoAmI", "headers": {"authorization": format!("Bearer {}", bad.key.as_deref().unwrap())}}]);
        let batch = good.request("POST", "/api/auth/whoAmI").header("x-orpc-batch", "buffered");
        let batch = batch.header("content-type", "application/json").body(call.to_string()).send().await.unwrap();
        let answers: Value = serde_json::from_str(&batch.text().await.unwrap()).unwrap();
        assert_eq!(answers[0]["status"], http, "a call within a batch under a good key: {answers}");
        assert_eq!(bad.grpc("auth.whoAmI", &json!({})).await.unwrap_err().code(), grpc, "gRPC");
        let web = crate::wire::web(&bad, path, &json!({}), crate::wire::Encoding::Binary).await;
        assert_eq!(web.status(), grpc as i32, "gRPC-Web");
    }
}

#[tokio::test]
async fn of_thousands_of_bad_keys_those_within_the_budget_are_looked_at_and_no_good_key_fails() {
    const EACH: usize = 1_000;
    let server = Server::start().await;
    let (good, id) = (server.reader().await, server.reader().await.call("auth.whoAmI", json!({})).await["id"].clone());
    let (good, id) = (json_request(good.key.as_deref().unwrap()), id.as_str().unwrap().to_owned());
    let mut line = Line::open(&server.url);
    let mut seen = BTreeMap::new();
    for round in 0..EACH {
        let malformed = format!("ck_{}_{}", uuid::Uuid::now_v7(), "0".repeat(49));
        for key in [unknown(), forged(&id), malformed] {
            let request = if round % 2 == 0 { json_request(&key) } else { grpc_request(&key) };
            let (status, answer) = line.ask(&request);
            let text = String::from_utf8_lossy(answer);
            let code = text.split("grpc-status:").nth(1).map_or("", |rest| rest.trim().lines().next().unwrap());
            let code = match (status, code) {
                (200, "16") => 401,
                (200, "8") => 429,
                _ => status,
            };
            *seen.entry(code).or_insert(0) += 1;
        }
        if round % 10 == 0 {
            assert_eq!(line.ask(&good).0, 200, "a good key passes in round {round}");
        }
    }
    let within = server.config.limits.bad_credentials as usize;
    assert_eq!(seen, BTreeMap::from([(401, within), (429, 3 * EACH - within)]));
}

/// Two applications whose keys have no tags under the instance key in use: an id and a good key each.
async fn untagged(change: impl FnOnce(&mut Config)) -> (Server, [(String, Caller); 2]) {
    let server = Server::start().await;
    let keys = [server.reader().await.key, server.reader().await.key];
    let server = server
        .restart_with(|config| {
            config.instance_key = Some("cd".repeat(32).into());
            change(config);
        })
        .await;
    let named = keys.map(|key| {
        let key = key.unwrap();
        (key["ck_".len()..][..36].to_owned(), server.with_key(Some(&key)))
    });
    (server, named)
}

#[tokio::test]
async fn argon2_looks_at_no_more_wrong_keys_of_a_network_than_its_budget_pays_for() {
    let (server, [(id, good), (_, other)]) = untagged(budget_of(40)).await;
    assert_eq!(status(&other).await, 200, "a good key is verified, gets its tag, and costs nothing");
    let mut seen = vec![];
    for _ in 0..7 {
        seen.push(status(&server.with_key(Some(&forged(&id)))).await);
    }
    assert_eq!(seen, [401, 401, 401, 401, 429, 429, 429], "ten units each");
    assert_eq!(status(&good).await, 429, "who has no tag yet waits, and is not told that the key is bad");
    assert_eq!(status(&other).await, 200, "who has one does not");
    server.clock.advance(Duration::from_secs(100));
    assert_eq!(status(&good).await, 200);
    assert_eq!(status(&server.with_key(Some(&unknown()))).await, 401, "nothing was kept for the good one");
    for _ in 0..20 {
        status(&server.with_key(Some(&unknown()))).await;
    }
    assert_eq!(status(&good).await, 200, "from then on it always passes");
}

#[tokio::test]
async fn a_pool_that_is_full_of_wrong_keys_is_unavailable_and_keys_with_tags_do_not_notice() {
    let (server, [(id, good), (_, other)]) = untagged(|config| config.limits.bad_credentials = 1_000_000).await;
    assert_eq!(status(&other).await, 200, "it has its tag now");
    let wrong = async || {
        let caller = server.with_key(Some(&forged(&id)));
        match caller.grpc("auth.whoAmI", &json!({})).await.unwrap_err().code() {
            Code::Unauthenticated => 401,
            Code::Unavailable => 503,
            code => panic!("{code}"),
        }
    };
    let attack = join_all((0..150).map(|_| wrong()));
    let bystander = async {
        let mut seen = vec![];
        for _ in 0..30 {
            seen.push((status(&other).await, status(&good).await));
        }
        seen
    };
    let (attacked, stood_by) = tokio::join!(attack, bystander);
    assert!(attacked.contains(&503), "the pool was full: {attacked:?}");
    assert!(stood_by.iter().all(|(tagged, _)| *tagged == 200), "{stood_by:?}");
    assert!(stood_by.iter().all(|(_, untagged)| matches!(untagged, 200 | 503)), "never 401: {stood_by:?}");
    assert_eq!(status(&good).await, 200);
}
