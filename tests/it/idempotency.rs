//! What is asked for twice with one idempotency key happens once, and is answered twice.

use crate::dynamic::{methods, procedure};
use crate::samples::Fixture;
use crate::server::{Answer, Caller, Server};
use checkmate::contract::method_named;
use serde_json::{Value, json};
use std::time::Duration;
use tonic::Code;

/// Posts JSON with an idempotency key.
async fn post(caller: &Caller, path: &str, key: &str, body: &Value) -> Answer {
    post_text(caller, path, key, body.to_string()).await
}

async fn post_text(caller: &Caller, path: &str, key: &str, body: String) -> Answer {
    let request =
        caller.request("POST", path).header("content-type", "application/json").header("idempotency-key", key);
    Answer::of(request.body(body).send().await.unwrap()).await
}

async fn grpc(caller: &Caller, procedure: &str, key: &str, input: &Value) -> Result<Value, tonic::Status> {
    caller.grpc_with(procedure, input, &[("idempotency-key", key)]).await
}

async fn systems(server: &Server) -> usize {
    server.admin().call("catalog.getSystems", json!({})).await.as_array().unwrap().len()
}

/// A mutation must commit last and once, or its answer and its effect would not be one transaction: whoever adds one
/// that does not is told here.
#[tokio::test]
async fn every_mutation_is_answered_again_and_not_done_again() {
    let server = Server::start().await;
    let fixture = Fixture::of_things(&server).await;
    let other = Fixture::of_things(&server).await;
    let admin = server.admin();
    let mut walked = 0;
    for descriptor in methods() {
        let name = procedure(&descriptor);
        let (plugin, short) = name.split_once('.').unwrap();
        if method_named(plugin, short).unwrap().query {
            continue;
        }
        let (path, sample) = (format!("/api/{plugin}/{short}"), json!({"json": fixture.sample(&name)}));
        let first = post(&admin, &path, &name, &sample).await;
        let again = post(&admin, &path, &name, &sample).await;
        assert_eq!((again.status, &again.text), (first.status, &first.text), "{name}");
        let is_replayed = again.header("idempotent-replayed") == "true";
        assert_eq!(is_replayed, first.status == 200, "{name}");
        assert_eq!(first.header("idempotent-replayed"), "", "{name}");

        let (key, sample) = (format!("grpc {name}").replace(' ', "-"), other.sample(&name));
        let (first, again) = (grpc(&admin, &name, &key, &sample).await, grpc(&admin, &name, &key, &sample).await);
        let comparable = |answer: Result<Value, tonic::Status>| {
            answer.map_err(|status| (status.code(), status.message().to_owned()))
        };
        assert_eq!(comparable(first), comparable(again), "{name}");
        walked += 1;
    }
    assert!(walked >= 20, "{walked}");
}

#[tokio::test]
async fn the_same_key_for_another_request_is_a_conflict() {
    let server = Server::start().await;
    let admin = server.admin();
    let first = post(&admin, "/api/catalog/", "k", &json!({"createSystem": {"name": "a"}})).await;
    assert_eq!(first.status, 200);
    let message = "This idempotency-key was used for another request";
    for (path, body) in [
        ("/api/catalog/", json!({"createSystem": {"name": "b"}})),
        ("/api/catalog/", json!({"getSystems": {}, "createSystem": {"name": "a"}})),
        ("/api/catalog/", json!({"createGroup": {"name": "a"}})),
        ("/api/catalog/createSystem", json!({"name": "a"})),
        ("/api/auth/", json!({"createRole": {"name": "a", "permissions": []}})),
    ] {
        let answer = post(&admin, path, "k", &body).await;
        assert_eq!((answer.status, &answer.body["message"]), (409, &json!(message)), "{path} {body}");
    }
    let refused = grpc(&admin, "catalog.createSystem", "k", &json!({"name": "a"})).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::AlreadyExists, message));
    assert_eq!(systems(&server).await, 1);
}

#[tokio::test]
async fn a_key_belongs_to_its_caller_and_to_one_day() {
    let server = Server::start().await;
    let (first, second) = (server.application(&["operator"]).await, server.application(&["operator"]).await);
    let body = json!({"createSystem": {"name": "a"}});
    for caller in [&first, &second, &first, &second] {
        assert_eq!(post(caller, "/api/catalog", "k", &body).await.status, 200);
    }
    assert_eq!(systems(&server).await, 2, "each of them once");
    server.clock.advance(Duration::from_hours(24));
    assert_eq!(post(&first, "/api/catalog", "k", &body).await.header("idempotent-replayed"), "true");
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(post(&first, "/api/catalog", "k", &body).await.header("idempotent-replayed"), "");
    assert_eq!(systems(&server).await, 3);
    assert_eq!(post(&first, "/api/catalog", "k", &body).await.header("idempotent-replayed"), "true");
}

#[tokio::test]
async fn whoever_asks_at_the_same_time_gets_the_same_answer() {
    let server = Server::start().await;
    let body = json!({"createSystem": {"name": "a"}});
    let calls = (0..16).map(|_| {
        let (admin, body) = (server.admin(), body.clone());
        async move { post(&admin, "/api/catalog/", "k", &body).await }
    });
    let answers = futures_util::future::join_all(calls).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.text), (200, &answers[0].text));
    }
    assert_eq!(answers.iter().filter(|answer| answer.header("idempotent-replayed").is_empty()).count(), 1);
    assert_eq!(systems(&server).await, 1);
}

#[tokio::test]
async fn a_batch_is_answered_again_as_a_whole() {
    let server = Server::start().await;
    let admin = server.admin();
    let nobody = uuid::Uuid::now_v7().to_string();
    // In this order.
    let body = format!(
        r#"{{"createSystem": {{"name": "a"}}, "getSystems": {{}}, "deleteSystem": "{nobody}", "createGroup": {{"name": "b"}}}}"#
    );
    let first = post_text(&admin, "/api/catalog/", "k", body.clone()).await;
    assert_eq!((first.status, first.body["data"]["procedure"].as_str()), (404, Some("deleteSystem")));
    admin.call("catalog.createSystem", json!({"name": "meanwhile"})).await;
    let again = post_text(&admin, "/api/catalog/", "k", body).await;
    assert_eq!((again.status, &again.text), (404, &first.text), "also what was read and what was refused");
    assert_eq!(systems(&server).await, 2);
    assert_eq!(admin.call("catalog.getGroups", json!({})).await, json!([]));
}

#[tokio::test]
async fn a_refusal_is_an_answer_too() {
    let server = Server::start().await;
    let admin = server.admin();
    let me = admin.call("auth.whoAmI", json!({})).await;
    let last = json!({"deleteApplication": me["id"].as_str().or(me["applicationId"].as_str()).unwrap()});
    let first = post(&admin, "/api/auth/", "k", &last).await;
    assert_ne!(first.status, 200, "{}", first.text);
    let other = server.application(&["admin"]).await;
    let again = post(&admin, "/api/auth/", "k", &last).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text), "though there is another way in now");
    assert_eq!(post(&admin, "/api/auth/", "k2", &last).await.status, 200);
    assert_eq!(other.json("catalog.getSystems", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_new_secret_is_shown_again_and_not_stored_in_the_clear() {
    let server = Server::start().await;
    let body = json!({"createApplication": {"name": "ci"}});
    let first = post(&server.admin(), "/api/auth/", "k", &body).await;
    assert_eq!(post(&server.admin(), "/api/auth/", "k", &body).await.text, first.text);
    let key = first.body["createApplication"]["secret"].as_str().unwrap();
    assert_eq!(server.with_key(Some(key)).json("auth.whoAmI", json!({})).await.status, 200);

    let server = server.restart_with(|config| config.instance_key = Some("cd".repeat(32).into())).await;
    let lost = post(&server.admin(), "/api/auth/", "k", &body).await;
    let message = "The answer to this idempotency-key cannot be read: the instance key is another one now";
    lost.refused(409, "CONFLICT", message);
}

#[tokio::test]
async fn a_key_is_one_short_word() {
    let server = Server::start().await;
    let admin = server.admin();
    let body = json!({"createSystem": {"name": "a"}});
    for bad in ["", "two words", &"x".repeat(256)] {
        let answer = post(&admin, "/api/catalog/", bad, &body).await;
        answer.refused(400, "BAD_REQUEST", "Malformed idempotency-key: once, 1 to 255 visible ASCII characters");
    }
    let twice = admin.request("POST", "/api/catalog/").header("content-type", "application/json");
    let twice = twice.header("idempotency-key", "a").header("idempotency-key", "a").body(body.to_string());
    assert_eq!(Answer::of(twice.send().await.unwrap()).await.status, 400);
    assert_eq!(systems(&server).await, 0);
    assert_eq!(post(&admin, "/api/catalog/", "two words", &json!({"getSystems": {}})).await.status, 200, "a query");

    admin.call("auth.updateRole", json!({"id": "anonymous", "permissions": ["catalog.catalog.manage"]})).await;
    let anonymous = post(&server.anonymous(), "/api/catalog/", "k", &body).await;
    anonymous.refused(400, "BAD_REQUEST", "Only the key of an application goes with an idempotency-key");
}

#[tokio::test]
async fn what_was_not_waited_for_is_answered_the_next_time() {
    let server = Server::start().await;
    let admin = server.admin();
    let body = json!({"createApplication": {"name": "slow"}});
    for timeout_ms in [1, 3, 10, 30, 30_000] {
        let request = admin.request("POST", "/api/auth/").header("content-type", "application/json");
        let request = request.header("idempotency-key", "k").header("x-timeout-ms", timeout_ms);
        let answer = Answer::of(request.body(body.to_string()).send().await.unwrap()).await;
        assert!([200, 504].contains(&answer.status), "{}", answer.text);
    }
    let found = admin.call("auth.listApplications", json!({"nameContains": "slow"})).await;
    assert_eq!(found["applications"].as_array().map(Vec::len), Some(1));
}

/// oRPC's client puts calls together as they come: the same call stands at another place the next time.
#[tokio::test]
async fn a_call_with_a_key_of_its_own_is_known_wherever_it_stands_in_a_batch() {
    let server = Server::start().await;
    let admin = server.admin();
    let call = |key: &str| {
        let (url, body) = (format!("{}/api/catalog/createSystem", server.url), json!({"json": {"name": key}}));
        json!({"url": url, "headers": {"Idempotency-Key": key}, "body": body})
    };
    for calls in [json!([call("a"), call("b")]), json!([call("b")]), json!([call("b"), call("a")])] {
        let request = admin.request("POST", "/api/catalog/__batch__").header("x-orpc-batch", "buffered");
        let request = request.header("content-type", "application/json").body(calls.to_string());
        assert_eq!(Answer::of(request.send().await.unwrap()).await.status, 207);
    }
    assert_eq!(systems(&server).await, 2);
}
