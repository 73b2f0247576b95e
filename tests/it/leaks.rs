//! Nothing leaks: what the harness looks for in every test, it finds when it is there.

use crate::raw::Raw;
use crate::remains;
use crate::samples::{Fixture, SAMPLE_SECRET};
use crate::secrets::{Secrets, Where, forms, guard};
use crate::server::{Answer, Caller, Server, is_postgres};
use checkmate::access::{InstanceKey, Token};
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const KEY: &str = "ck_00000000-0000-7000-8000-000000000000_";
const RANDOM: &str = "4fGh7kLmN0pQrStUvWxYz123456789AbCdEfGhIjKlM";

/// A key nobody was given.
fn made_up() -> (Secrets, String) {
    let secrets = Secrets::default();
    let key = format!("{KEY}{RANDOM}000000");
    secrets.issued(&key);
    (secrets, key)
}

/// Asserts that a server ends with a secret in this place.
fn caught(mut server: Server, place: &str) {
    let found = server.end().unwrap_or_else(|| panic!("a secret in {place} is found"));
    assert!(found.contains(place), "{found}");
}

async fn with_a_key(server: &Server) -> String {
    server.reader().await.key.unwrap()
}

#[test]
fn a_key_is_found_in_every_form_wherever_it_begins() {
    let (secrets, key) = made_up();
    for before in ["", "x", "xy", "xyz"] {
        let text = format!("{before}{key}{before}");
        for form in forms(text.as_bytes()) {
            assert!(secrets.find(Where::Log, &form).is_some(), "{}", form.escape_ascii());
        }
    }
    for piece in [&RANDOM[..16], &RANDOM[27..], &RANDOM[10..41]] {
        assert!(secrets.find(Where::Log, piece.as_bytes()).is_some(), "{piece}");
    }
    assert_eq!(secrets.find(Where::Log, &key.as_bytes()[..50]), None, "the id is no secret");
}

#[test]
fn a_key_is_found_by_the_bits_that_it_stands_for() {
    // 1 in 256 bits is 0…01 in base 62.
    let (secrets, bits) = (Secrets::default(), [&[0; 31][..], &[1]].concat());
    secrets.issued(&format!("{KEY}{}1000000", "0".repeat(42)));
    for form in forms(&bits) {
        assert!(secrets.find(Where::Database, &form).is_some(), "{}", form.escape_ascii());
    }
}

#[test]
fn a_key_that_the_tests_never_saw_is_found_by_its_checksum() {
    let id = checkmate::access::ApplicationId(uuid::Uuid::now_v7());
    let token = Token::generate(id, checkmate::world::Entropy).unwrap();
    let text = format!("a line with {} in it", token.reveal());
    for place in [Where::Log, Where::Metrics, Where::Answer, Where::Output, Where::Database, Where::KeyFile] {
        assert!(Secrets::default().find(place, text.as_bytes()).is_some(), "{place:?}");
    }
}

#[test]
fn tags_hashes_and_the_instance_key_are_at_home_in_one_place_only() {
    let (secrets, instance) = (Secrets::default(), "5e".repeat(32));
    let id = checkmate::access::ApplicationId(uuid::Uuid::now_v7());
    let token = Token::generate(id, checkmate::world::Entropy).unwrap();
    secrets.issued(token.reveal());
    secrets.instance_key(&instance);
    let tag = InstanceKey::parse(&instance).unwrap().tag(&token).hex();
    let hash = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789+/AbCdE";
    let row = format!("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA${hash}{tag}");
    assert_eq!(secrets.find(Where::Database, row.as_bytes()), None);
    for at_rest in [&tag, hash, &row[..12]] {
        for place in [Where::Log, Where::Metrics, Where::Answer, Where::Output, Where::KeyFile] {
            assert!(secrets.find(place, at_rest.as_bytes()).is_some(), "{at_rest} in {place:?}");
        }
    }
    assert_eq!(secrets.find(Where::KeyFile, instance.as_bytes()), None);
    for place in [Where::Log, Where::Metrics, Where::Answer, Where::Output, Where::Database] {
        assert!(secrets.find(place, instance.as_bytes()).is_some(), "{place:?}");
        assert!(secrets.find(place, &[0x5e; 32]).is_some(), "{place:?}");
    }
}

#[test]
fn only_the_field_that_issues_a_key_may_hold_it() {
    let token = |n| {
        let id = checkmate::access::ApplicationId(uuid::Uuid::from_u128(n));
        Token::generate(id, checkmate::world::Entropy).unwrap().reveal().to_owned()
    };
    let (one, two) = (token(1), token(2));
    let batch = json!({"code": "NOT_FOUND", "data": {"results": {"createApplication": {"secret": one}}}});
    let cases = [
        (200, "", json!({"createApplication": {"secret": one}}), true),
        (200, "", json!({"json": {"secret": one}}), true),
        (404, "", batch, true),
        (200, "", json!({"createApplication": {"secret": one, "name": one}}), false),
        (200, "", json!({"createApplication": {"secret": one}, "name": two}), false),
        (400, "", json!({"secret": one}), false),
        (400, "", json!({"message": format!("Not found: {one}")}), false),
        (200, one.as_str(), json!({}), false),
    ];
    for (status, header, body, is_fine) in cases {
        let found = Secrets::default().find_in_answer(status, header, &body.to_string());
        assert_eq!(found.is_none(), is_fine, "{status} {header} {body}: {found:?}");
    }
}

#[tokio::test]
async fn a_secret_in_a_body_a_header_or_a_figure_is_found_as_it_arrives() {
    let (secrets, key) = made_up();
    let secrets = Arc::new(secrets);
    for (status, header, body) in
        [("400 Bad Request", "x: y".to_owned(), key.clone()), ("404 Not Found", format!("x: {key}"), "{}".into())]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        guard(&url, &secrets);
        let answering = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await.unwrap();
                let length = body.len();
                let answer = format!("HTTP/1.1 {status}\r\n{header}\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let response = reqwest::get(&url).await.unwrap();
        let failed = tokio::spawn(Answer::of(response)).await.unwrap_err();
        let why = failed.into_panic().downcast::<String>().unwrap();
        assert!(why.contains("Answer holds a secret"), "{why}");
        let asked = tokio::task::spawn_blocking(move || remains::metrics(&url)).await.unwrap().unwrap();
        assert!(secrets.find(Where::Metrics, asked.as_bytes()).is_some(), "{asked}");
        answering.await.unwrap();
    }
}

#[tokio::test]
async fn a_secret_in_a_status_over_grpc_is_found() {
    let (secrets, key) = made_up();
    let said = tonic::Status::not_found(format!("no {key}"));
    let detailed = tonic::Status::with_details(tonic::Code::NotFound, "no", key.clone().into_bytes().into());
    let mut described = tonic::Status::not_found("no");
    described.metadata_mut().insert("x", key.parse().unwrap());
    for status in [said, detailed, described] {
        assert!(secrets.find_in_status(&status).is_some(), "{status:?}");
    }
}

#[tokio::test]
async fn a_secret_in_the_log_is_found_when_the_server_stops() {
    let server = Server::start().await;
    let key = with_a_key(&server).await;
    let log = server.log.clone();
    server.admin().grpc("catalog.getSystems", &json!({})).await.unwrap();
    for target in ["DEBUG checkmate::", "DEBUG h2::", "TRACE h2::"] {
        assert!(log.contains(target), "{target}: every crate at every level");
    }
    let elsewhere = std::thread::spawn(move || {
        log.follow_this_thread();
        tracing::trace!(headers = ?[("authorization", &key)], "a head");
    });
    elsewhere.join().unwrap();
    caught(server, "Log");
}

#[tokio::test]
async fn a_secret_in_a_span_is_found_even_if_more_follows_than_is_kept() {
    let server = Server::start().await;
    let key = with_a_key(&server).await;
    let log = server.log.clone();
    let elsewhere = std::thread::spawn(move || {
        log.follow_this_thread();
        let _span = tracing::trace_span!("call", %key);
        for _ in 0..600 {
            tracing::trace!("{}", " ".repeat(10_000));
        }
        assert!(!log.contains(&key), "it is searched, then forgotten");
    });
    elsewhere.join().unwrap();
    caught(server, "Log");
}

#[tokio::test]
async fn a_secret_in_a_row_is_found_when_the_server_stops() {
    let server = Server::start().await;
    let key = with_a_key(&server).await;
    let mut raw = Raw::open(&server.config.database).await;
    let hex = key.bytes().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat();
    raw.execute_with("update auth_role set description = $1", &hex).await;
    caught(server, "Database");
}

#[tokio::test]
async fn a_secret_beside_the_database_is_found_when_the_server_stops() {
    if is_postgres() {
        return;
    }
    for name in ["checkmate.db.lock", "checkmate.db-journal", "checkmate.db.key"] {
        let server = Server::start_with(|config| config.instance_key = None).await;
        let file = server.folder().join(name);
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(&file, format!("{before}{}", with_a_key(&server).await)).unwrap();
        caught(server, name);
    }
}

#[tokio::test]
async fn a_secret_that_is_only_in_the_write_ahead_log_is_found() {
    if is_postgres() {
        return;
    }
    let server = Server::start().await;
    let key = with_a_key(&server).await;
    let mut raw = Raw::open(&server.config.database).await;
    raw.execute_with("update auth_role set description = $1", &key).await;
    raw.execute_with("update auth_role set description = $1", "").await;
    let (wal, secrets) = (server.folder().join("checkmate.db-wal"), server.secrets());
    assert!(secrets.find(Where::Database, &std::fs::read(&wal).unwrap()).is_some());
    caught(server, "checkmate.db-wal");
}

#[tokio::test]
async fn the_harness_knows_every_key_that_either_protocol_issues() {
    let server = Server::start().await;
    let admin = server.admin();
    assert_eq!(server.secrets().count(), 1, "the first start made one");
    let made = admin.grpc("auth.createApplication", &json!({"name": "a"})).await.unwrap();
    assert_eq!(server.secrets().count(), 2);
    let made = made["application"]["id"].clone();
    admin.call("auth.regenerateApplicationSecret", made).await;
    assert_eq!(server.secrets().count(), 3);
    // Through oRPC's envelope, and in the results of a batch that fails.
    admin.post("/api/auth/createApplication", &json!({"json": {"name": "b"}})).await;
    assert_eq!(server.secrets().count(), 4);
    let gone = uuid::Uuid::now_v7().to_string();
    let batch = json!({"createApplication": {"name": "c"}, "deleteApplication": gone});
    assert_eq!(admin.post("/api/auth/", &batch).await.status, 404);
    assert_eq!(server.secrets().count(), 5);
}

#[tokio::test]
async fn the_harness_knows_every_token_for_reports_and_the_setting_that_is_never_shown() {
    let server = Server::start().await;
    let (fixture, admin, secrets) = (Fixture::of_things(&server).await, server.admin(), server.secrets());
    assert_eq!(secrets.count_texts(), 1, "the setting of the sample");
    assert!(secrets.find(Where::Log, SAMPLE_SECRET.as_bytes()).is_some());
    let sample = |name: &str| fixture.sample(&format!("healthcheck.{name}"));
    let made = admin.call("healthcheck.createConfiguration", sample("createConfiguration")).await;
    assert_eq!(made["config"].get("bearerToken"), None, "{made}");
    let over_json = admin.call("healthcheck.regeneratePushToken", sample("regeneratePushToken")).await;
    let over_grpc = admin.grpc("healthcheck.regeneratePushToken", &sample("regeneratePushToken")).await.unwrap();
    assert_eq!(secrets.count_texts(), 3);
    // Used and refused: neither is a reason to write it down.
    for (token, status) in [(&over_grpc["token"], 200), (&over_json["token"], 403)] {
        let report = json!({"token": token, "status": "healthy"});
        let answer = server.anonymous().post("/api/healthcheck/reportResult", &report).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        for place in [Where::Answer, Where::Log, Where::Metrics, Where::Output, Where::Database, Where::KeyFile] {
            assert!(secrets.find(place, token.as_str().unwrap().as_bytes()).is_some(), "{place:?}");
        }
    }
}

/// The harness looks into each of these answers, and into the log: here stand the places where a key may be put.
#[tokio::test]
async fn a_key_in_the_wrong_place_is_repeated_nowhere() {
    let server = Server::start().await;
    let admin = server.admin();
    let key = with_a_key(&server).await;
    for key in [key.clone(), format!("Bearer {key}"), format!("{key},{key}")] {
        let inputs = [
            json!({key.as_str(): {}}),
            json!({"getSystems": {}, key.as_str(): {}}),
            json!({"deleteSystem": key}),
            json!({"getSystems": {key.as_str(): 1}}),
            json!({"createSystem": {"name": "x", "status": key, "metadata": key}}),
            json!({"createSystem": {"name": [key]}}),
            json!({"createContact": {key.as_str(): {key.as_str(): key}}}),
            json!({"listSystems": {"pageToken": key, "pageSize": key}}),
            json!([key]),
            json!(key),
        ];
        for input in inputs {
            refused(&admin.post("/api/catalog/", &input).await);
        }
        for path in ["", "api/", "api/catalog/", "api/auth/getRole?input=", "api/catalog/getSystems?"] {
            refused(&admin.get(&format!("/{path}{key}")).await);
            // Where the path is good, the query of a POST is not read.
            admin.post(&format!("/{path}{key}"), &json!({})).await;
        }
        for body in [format!("{{\"{key}"), key.clone(), format!("{{\"{key}\":1,\"{key}\":2}}"), format!("{{}}{key}")] {
            refused(&admin.post_text("/api/catalog/", &body).await);
            refused(&admin.post_text("/api/catalog/createSystem", &body).await);
        }
        let roles = json!({"createApplication": {"name": "x", "roles": [key], "expiresAt": key}});
        refused(&admin.post("/api/auth/", &roles).await);
        let permissions = json!({"createRole": {"name": "x", "permissions": [key]}});
        refused(&admin.post("/api/auth/", &permissions).await);
        for header in ["x-timeout-ms", "grpc-timeout", "content-type", "authorization", "x-request-id", "prefer"] {
            let caller = Caller { key: None, ..admin.clone() };
            let request = caller.request("POST", "/api/catalog/").header(header, &key);
            refused(&Answer::of(request.body("{}").send().await.unwrap()).await);
        }
        let metadata = [("grpc-timeout", key.as_str()), ("x-request-id", &key)];
        let _ = admin.grpc_with("catalog.getSystems", &json!({}), &metadata).await;
        admin.grpc("catalog.deleteSystem", &json!(key)).await.unwrap_err();
        admin.grpc("auth.createRole", &json!({"name": "x", "permissions": [key]})).await.unwrap_err();
        admin.grpc("auth.createApplication", &json!({"name": "x", "roles": [key]})).await.unwrap_err();
    }
}

fn refused(answer: &Answer) {
    assert!((400..500).contains(&answer.status), "{}", answer.text);
}
