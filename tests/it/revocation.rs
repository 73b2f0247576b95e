//! What was let in from the head of a request is decided again when it matters: a revoked key does nothing more.

use crate::dynamic;
use crate::server::{Caller, Server};
use crate::wire;
use futures_util::{StreamExt, stream};
use prost::Message;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends a request whose body stops in the middle, does something, sends the rest, and reads the status and the body.
async fn half(caller: &Caller, path: &str, body: &str, meanwhile: impl AsyncFnOnce()) -> (u16, Value) {
    let mut stream = TcpStream::connect(caller.url.trim_start_matches("http://")).await.unwrap();
    let (first, rest) = body.split_at(5);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{first}",
        caller.key.as_ref().unwrap(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    meanwhile().await;
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

async fn applications(server: &Server) -> usize {
    server.admin().call("auth.getApplications", json!({})).await.as_array().unwrap().len()
}

#[tokio::test]
async fn a_key_that_is_deleted_while_its_body_is_under_way_makes_nothing() {
    let server = Server::start().await;
    let new = json!({"name": "persist", "roles": ["admin"]});
    for (path, body) in [
        ("/api/auth/", json!({"createApplication": new})),
        ("/api/auth/createApplication", new.clone()),
        ("/api/auth/createApplication", json!({"json": new})),
    ] {
        let doomed = server.application(&["admin"]).await;
        let id = doomed.call("auth.whoAmI", json!({})).await["id"].clone();
        let before = applications(&server).await;
        let (status, answer) = half(&doomed, path, &body.to_string(), async || {
            server.admin().call("auth.deleteApplication", id).await;
        })
        .await;
        assert_eq!((status, &answer["message"]), (401, &json!("Invalid API key")), "{path} {body}");
        assert_eq!(applications(&server).await, before - 1, "{path} {body}");
    }
}

#[tokio::test]
async fn a_key_that_is_renewed_or_demoted_while_its_body_is_under_way_is_judged_anew() {
    let server = Server::start().await;
    let admin = server.admin();
    let caller = server.application(&["admin"]).await;
    let id = caller.call("auth.whoAmI", json!({})).await["id"].clone();
    let body = json!({"createSystem": {"name": "x"}}).to_string();
    let demote = async || drop(admin.call("auth.updateApplication", json!({"id": id, "roles": ["reader"]})).await);
    let (status, answer) = half(&caller, "/api/catalog/", &body, demote).await;
    assert_eq!((status, &answer["message"]), (403, &json!("Missing permission: catalog.catalog.manage")));
    let renew = async || drop(admin.call("auth.regenerateApplicationSecret", id.clone()).await);
    let (status, answer) = half(&caller, "/api/catalog/", &body, renew).await;
    assert_eq!((status, &answer["message"]), (401, &json!("Invalid API key")));
    assert_eq!(admin.call("catalog.getSystems", json!({})).await, json!([]));
}

#[tokio::test]
async fn a_grpc_message_that_comes_after_its_key_is_deleted_makes_nothing() {
    let server = Server::start().await;
    let doomed = server.application(&["admin"]).await;
    let id = doomed.call("auth.whoAmI", json!({})).await["id"].clone();
    let before = applications(&server).await;
    let path = "/checkmate.auth.v1.ApplicationService/CreateApplication";
    let message = dynamic::request(path, &json!({"name": "persist", "roles": ["admin"]})).encode_to_vec();
    let frame = wire::frame(&message);
    let (first, rest) = (frame[..7].to_vec(), frame[7..].to_vec());
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let late = async move {
        gone.await.unwrap();
        Ok::<_, std::io::Error>(rest)
    };
    let body = stream::once(async move { Ok(first) }).chain(stream::once(late));
    let request = wire::h2c().post(format!("{}{path}", server.url)).header("content-type", "application/grpc");
    let request = request.bearer_auth(doomed.key.as_ref().unwrap()).body(reqwest::Body::wrap_stream(body));
    let answer = tokio::spawn(request.send());
    server.admin().call("auth.deleteApplication", id).await;
    go.send(()).unwrap();
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(wire::grpc_status(&answer), Some(tonic::Code::Unauthenticated as i32));
    assert_eq!(applications(&server).await, before - 1);
}

/// Those who wait for the lock are judged by what they hold when they have it.
#[tokio::test]
async fn a_key_that_is_deleted_while_its_calls_wait_makes_no_more_administrators() {
    let server = Server::start().await;
    let admin = server.admin();
    let doomed = server.application(&["admin"]).await;
    let id = doomed.call("auth.whoAmI", json!({})).await["id"].clone();
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let doomed = doomed.clone();
            let input = json!({"name": format!("persist {n}"), "roles": ["admin"]});
            tokio::spawn(async move { doomed.json("auth.createApplication", input).await.status })
        })
        .collect();
    admin.call("auth.deleteApplication", id).await;
    let made_before = applications(&server).await;
    for call in calls {
        assert!([200, 401].contains(&call.await.unwrap()));
    }
    assert_eq!(applications(&server).await, made_before, "nothing is made after the deletion has returned");
}
