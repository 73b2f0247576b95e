//! Kept answers: never older than they may be, never somebody else's, and never too many.

use crate::dynamic::{methods, procedure};
use crate::samples::Fixture;
use crate::server::{Caller, Server};
use checkmate::contract::method_named;
use serde_json::{Value, json};
use sqlx::Connection;
use std::time::{Duration, Instant};

const ANEW: (&str, &str) = ("cache-control", "no-cache");

/// The same query through every form of an answer.
async fn everywhere(caller: &Caller, procedure: &str, input: &Value, anew: bool) -> Vec<Value> {
    let (plugin, name) = procedure.split_once('.').unwrap();
    let single = format!("/api/{plugin}/{name}");
    let mut answers = vec![];
    for (method, path, body) in [
        ("POST", format!("/api/{plugin}/"), json!({name: input})),
        ("POST", single.clone(), json!({"json": input})),
        ("GET", format!("{single}?input={}", encoded(&input.to_string())), Value::Null),
    ] {
        let mut request = caller.request(method, &path);
        if method == "POST" {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        if anew {
            request = request.header(ANEW.0, ANEW.1);
        }
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let unwrapped = answer.get(name).or(answer.get("json")).cloned();
        answers.push(unwrapped.unwrap_or(answer));
    }
    let metadata: &[_] = if anew { &[ANEW] } else { &[] };
    answers.push(caller.grpc_with(procedure, input, metadata).await.unwrap_or_default());
    answers
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

async fn figure(server: &Server, name: &str) -> f64 {
    let text = server.admin().get("/metrics").await.text;
    let line = text.lines().find(|line| line.starts_with(&format!("checkmate_{name} "))).unwrap_or_default();
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name}: {text}"))
}

/// A change that nobody announces: only an answer that is made anew shows it.
async fn rename_behind_the_back(server: &Server, name: &str) {
    let url = server.config.database.to_string();
    if let Some(file) = url.strip_prefix("sqlite://") {
        let mut connection = sqlx::SqliteConnection::connect(file).await.unwrap();
        sqlx::query("update catalog_system set name = $1").bind(name).execute(&mut connection).await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::query("update catalog_system set name = $1").bind(name).execute(&mut connection).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_is_kept_until_it_is_asked_for_anew_or_its_data_changes() {
    let server = Server::start().await;
    let admin = server.admin();
    admin.call("catalog.createSystem", json!({"name": "first"})).await;
    let names = async |anew| -> Vec<String> {
        let answers = everywhere(&admin, "catalog.getSystems", &json!({}), anew).await;
        answers.iter().map(|answer| answer[0]["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(false).await, ["first"; 4]);
    rename_behind_the_back(&server, "second").await;
    assert_eq!(names(false).await, ["first"; 4], "kept in every form");
    assert_eq!(names(true).await, ["second"; 4], "no-cache has it made anew");
    assert_eq!(names(false).await, ["second"; 4], "and what was made is kept");
    rename_behind_the_back(&server, "third").await;
    admin.call("catalog.createGroup", json!({"name": "all"})).await;
    assert_eq!(names(false).await, ["third"; 4], "a change of the plugin's data ends it");
}

#[tokio::test]
async fn a_change_of_another_plugin_leaves_answers_kept() {
    let server = Server::start().await;
    let admin = server.admin();
    admin.call("catalog.getSystems", json!({})).await;
    admin.call("auth.createRole", json!({"name": "new", "permissions": []})).await;
    let kept = figure(&server, "replies_kept_total").await;
    admin.call("catalog.getSystems", json!({})).await;
    assert!(figure(&server, "replies_kept_total").await > kept);
}

#[tokio::test]
async fn a_write_is_seen_by_the_next_read_whatever_the_protocol() {
    let server = Server::start().await;
    let admin = server.admin();
    for round in 0..20 {
        admin.call("catalog.createSystem", json!({"name": format!("json {round}")})).await;
        for answer in everywhere(&admin, "catalog.getSystems", &json!({}), false).await {
            assert_eq!(answer.as_array().map(Vec::len), Some(round * 2 + 1), "{answer}");
        }
        admin.grpc("catalog.createSystem", &json!({"name": format!("grpc {round}")})).await.unwrap();
        for answer in everywhere(&admin, "catalog.getSystems", &json!({}), false).await {
            assert_eq!(answer.as_array().map(Vec::len), Some(round * 2 + 2), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_query_behind_a_mutation_of_the_same_batch_sees_it() {
    let server = Server::start().await;
    let admin = server.admin();
    for round in 1..5 {
        let batch = json!({"createSystem": {"name": "x"}, "getSystems": {}});
        let answer = admin.post("/api/catalog/", &batch).await;
        assert_eq!(answer.body["getSystems"].as_array().map(Vec::len), Some(round));
        admin.call("catalog.getSystems", json!({})).await;
    }
}

#[tokio::test]
async fn a_write_is_seen_on_another_replica_within_its_bound() {
    let first = Server::start().await;
    if !crate::server::is_postgres() {
        return;
    }
    let second = first.replica().await;
    for round in 1..=20 {
        first.admin().call("catalog.createSystem", json!({"name": "x"})).await;
        let written = Instant::now();
        while second.admin().call("catalog.getSystems", json!({})).await.as_array().map(Vec::len) != Some(round) {
            assert!(written.elapsed() < Duration::from_secs(2), "round {round}");
        }
    }
}

/// Who says in its .proto what its answer follows from must not have it follow from anything else.
#[tokio::test]
async fn a_kept_answer_is_the_one_that_would_be_made_whoever_asks() {
    let server = Server::start().await;
    let fixture = Fixture::of_things(&server).await;
    let callers = [server.admin(), server.reader().await, server.application(&["operator"]).await];
    let mut walked = 0;
    for descriptor in methods() {
        let name = procedure(&descriptor);
        let (plugin, short) = name.split_once('.').unwrap();
        let method = method_named(plugin, short).unwrap();
        if method.depends_on.is_empty() {
            continue;
        }
        let input = fixture.sample(&name);
        for caller in &callers {
            let kept = everywhere(caller, &name, &input, false).await;
            assert_eq!(kept, everywhere(caller, &name, &input, false).await, "{name}");
            assert_eq!(kept, everywhere(caller, &name, &input, true).await, "{name}");
        }
        walked += 1;
    }
    assert!(walked >= 15, "{walked}");
}

#[tokio::test]
async fn who_loses_a_permission_gets_nothing_kept() {
    let server = Server::start().await;
    let reader = server.reader().await;
    assert_eq!(reader.json("catalog.getSystems", json!({})).await.status, 200);
    server.admin().call("auth.updateRole", json!({"id": "reader", "permissions": []})).await;
    for answer in [reader.json("catalog.getSystems", json!({})).await, reader.get("/api/catalog/getSystems").await] {
        answer.refused(403, "FORBIDDEN", "Missing permission: catalog.catalog.read");
    }
    let refused = reader.grpc("catalog.getSystems", &json!({})).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn what_is_kept_is_bounded_in_bytes() {
    const MOST: u32 = 256 * 1024;
    let server = Server::start_with(|config| config.limits.reply_cache_bytes = MOST as usize).await;
    let admin = server.admin();
    let description = "d".repeat(1_000);
    for _ in 0..5 {
        admin.call("catalog.createSystem", json!({"name": "x", "description": description})).await;
    }
    for size in 1..300 {
        let found = admin.call("catalog.listSystems", json!({"pageSize": size})).await;
        assert_eq!(found["systems"].as_array().map(Vec::len), Some(size.min(5)));
    }
    let held = figure(&server, "reply_cache_bytes").await;
    assert!((1.0..=f64::from(MOST)).contains(&held), "{held}");
}

#[tokio::test]
async fn without_room_nothing_is_kept() {
    let server = Server::start_with(|config| config.limits.reply_cache_bytes = 0).await;
    for _ in 0..3 {
        server.admin().call("catalog.getSystems", json!({})).await;
    }
    assert!(figure(&server, "replies_kept_total").await < 1.0);
}

#[tokio::test]
async fn a_get_answers_a_query_with_a_tag_and_304_to_who_has_it() {
    let server = Server::start().await;
    let admin = server.admin();
    admin.call("catalog.createSystem", json!({"name": "web"})).await;
    let answer = admin.get("/api/catalog/getSystems").await;
    assert_eq!((answer.status, &answer.body[0]["name"]), (200, &json!("web")));
    assert_eq!((answer.header("cache-control"), answer.header("vary")), ("private, no-cache", "authorization"));
    let tag = answer.header("etag").to_owned();
    assert!(tag.starts_with("W/\"") && tag.len() == 36, "{tag}");
    for headers in [vec![], vec![ANEW]] {
        let mut request =
            admin.request("GET", "/api/catalog/getSystems").header("if-none-match", format!("\"x\", {tag}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let known = request.send().await.unwrap();
        assert_eq!((known.status().as_u16(), known.headers()["etag"].to_str().unwrap()), (304, &*tag));
        assert_eq!(known.text().await.unwrap(), "");
    }
    admin.call("catalog.createSystem", json!({"name": "db"})).await;
    let request = admin.request("GET", "/api/catalog/getSystems").header("if-none-match", &tag);
    let changed = request.send().await.unwrap();
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.headers()["etag"].to_str().unwrap(), tag);
}

#[tokio::test]
async fn answers_of_queries_have_tags_and_others_have_none() {
    let server = Server::start().await;
    let admin = server.admin();
    let tags = [
        admin.json("catalog.getSystems", json!({})).await.header("etag").to_owned(),
        admin.post("/api/catalog/getSystems", &json!({})).await.header("etag").to_owned(),
        admin.post("/api/catalog/", &json!({"getSystems": {}, "getGroups": {}})).await.header("etag").to_owned(),
        admin.get("/api/auth/whoAmI").await.header("etag").to_owned(),
    ];
    assert!(tags.iter().all(|tag| tag.starts_with("W/\"")), "{tags:?}");
    let made = admin.json("catalog.createSystem", json!({"name": "x"})).await;
    let failed = admin.json("catalog.getSystem", json!({"systemId": uuid::Uuid::now_v7().to_string()})).await;
    assert_eq!((made.header("etag"), failed.header("etag")), ("", ""));
    let other = server.restart_with(|_| {}).await;
    assert_eq!(other.admin().json("catalog.getGroups", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_get_has_one_input_and_changes_nothing() {
    let server = Server::start().await;
    let admin = server.admin();
    let made = admin.call("catalog.createSystem", json!({"name": "web"})).await;
    let id = made["id"].as_str().unwrap();
    let input = encoded(&json!({"systemId": id}).to_string());
    assert_eq!(admin.get(&format!("/api/catalog/getSystem?input={input}")).await.body["id"], id);
    let envelope = encoded(&json!({"json": {"systemId": id}}).to_string());
    assert_eq!(admin.get(&format!("/api/catalog/getSystem/?data={envelope}")).await.body["json"]["id"], id);

    let malformed = "Malformed request: ";
    for (path, status, code, message) in [
        ("/api/catalog/getSystem", 400, "BAD_REQUEST", "Input validation failed: systemId: Required".to_owned()),
        (
            "/api/catalog/getSystems?input=x",
            400,
            "BAD_REQUEST",
            format!("{malformed}expected value at line 1 column 1"),
        ),
        (
            "/api/catalog/getSystems?input=",
            400,
            "BAD_REQUEST",
            format!("{malformed}EOF while parsing a value at line 1 column 0"),
        ),
        ("/api/catalog/getSystems?input={}&input={}", 400, "BAD_REQUEST", format!("{malformed}one input at a time")),
        (
            "/api/catalog/getSystems?q=1",
            400,
            "BAD_REQUEST",
            format!("{malformed}unknown query parameter: q; the input is ?input=…"),
        ),
        ("/api/catalog/nope", 404, "NOT_FOUND", "Procedure not found: catalog.nope".to_owned()),
        ("/api/catalog/deleteSystem?input={}", 405, "METHOD_NOT_SUPPORTED", "Use POST".to_owned()),
    ] {
        let answer = admin.get(path).await;
        answer.refused(status, code, &message);
        assert_eq!(answer.header("etag"), "");
        assert_eq!(answer.header("allow"), if status == 405 { "POST" } else { "" });
    }
    server.anonymous().get("/api/catalog/getSystems").await.refused(401, "UNAUTHORIZED", "Authentication required");
}
