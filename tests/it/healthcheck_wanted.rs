//! Looks that a caller waits for: there is an answer before the call's time is up, and they keep to the limits of all
//! looks.

use crate::server::{Caller, Server};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::sleep;

/// A server that answers HTTP after a while, and how many it has served at once at most.
async fn slow(after: Duration) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (now, most) = (now.clone(), most.clone());
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::spawn(async move {
                sleep(after).await;
                now.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            });
        }
    });
    (port, seen)
}

fn http(port: u16) -> Value {
    json!({"strategyId": "http", "config": {"url": format!("http://127.0.0.1:{port}/")}})
}

/// A check with more settings, for so many systems.
async fn saved(admin: &Caller, mut new: Value, more: Value, systems: usize) -> String {
    new["name"] = json!("wanted");
    new["intervalSeconds"] = json!(3600);
    new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let check = admin.call("healthcheck.createConfiguration", new).await["id"].as_str().unwrap().to_owned();
    for number in 0..systems {
        let system = admin.call("catalog.createSystem", json!({"name": format!("system {number}")})).await;
        // Not by the clock: what is counted here is what is wanted.
        let body = json!({"systemId": system["id"], "body": {"configurationId": check, "enabled": false}});
        admin.call("healthcheck.associateSystem", body).await;
    }
    check
}

async fn impatient() -> Server {
    Server::start_with(|config| config.limits.request_s = 3).await
}

#[tokio::test]
async fn a_target_that_hangs_is_explained_before_the_call_is_over() {
    let server = impatient().await;
    let (admin, (port, _)) = (server.admin(), slow(Duration::from_mins(1)).await);
    let seen = admin.call("healthcheck.testHealthCheck", http(port)).await;
    assert_eq!(seen["status"], "unhealthy", "{seen}");
    assert!(seen["message"].as_str().unwrap().starts_with("No answer within"), "{seen}");
    let seen = admin.grpc_with("healthcheck.testHealthCheck", &http(port), &[("grpc-timeout", "1S")]).await.unwrap();
    assert_eq!(seen["status"], "unhealthy", "{seen}");

    // Who asks for more time than the call has does not learn that the target is down.
    let mut patient = http(port);
    patient["timeoutMs"] = json!(20_000);
    let seen = admin.call("healthcheck.testHealthCheck", patient).await;
    assert!(seen["status"] == "unknown" && seen["message"].as_str().unwrap().starts_with("Not decided"), "{seen}");
    let check = saved(&admin, http(port), json!({}), 1).await;
    let runs = admin.call("healthcheck.runHealthCheckNow", json!({"configurationId": check})).await;
    assert!(runs[0]["status"] == "unknown" && runs.to_string().contains("Not decided"), "{runs}");
    let kept = admin.call("healthcheck.getHistory", json!({"configurationId": check})).await;
    assert_eq!(kept["total"], 1, "{kept}");
}

#[tokio::test]
async fn repetitions_end_before_the_call_does() {
    let server = impatient().await;
    let admin = server.admin();
    let refused = json!({"strategyId": "tcp", "config": {"host": "127.0.0.1", "port": 1}});
    let more = json!({"retries": 5, "retryBackoffMs": 800, "timeoutMs": 1000});
    let check = saved(&admin, refused, more, 1).await;
    let started = Instant::now();
    let runs = admin.call("healthcheck.runHealthCheckNow", json!({"configurationId": check})).await;
    assert!(started.elapsed() < Duration::from_secs(3));
    let text = runs.to_string();
    assert!(runs[0]["status"] == "unknown" && text.contains("Not decided") && text.contains("refuses"), "{text}");
}

#[tokio::test]
async fn what_is_wanted_keeps_to_the_turns_of_a_host() {
    let server = Server::start().await;
    let (admin, (port, most)) = (server.admin(), slow(Duration::from_millis(150)).await);
    let check = saved(&admin, http(port), json!({}), 20).await;
    let runs = admin.call("healthcheck.runHealthCheckNow", json!({"configurationId": check})).await;
    assert_eq!(runs.as_array().unwrap().len(), 20);
    assert_eq!(most.load(Ordering::SeqCst), 8, "runs");

    let (port, most) = slow(Duration::from_millis(150)).await;
    let tests = (0..20).map(|_| admin.call("healthcheck.testHealthCheck", http(port)));
    futures_util::future::join_all(tests).await;
    assert_eq!(most.load(Ordering::SeqCst), 8, "tests");
}

#[tokio::test]
async fn a_check_does_not_overlap_with_itself() {
    let server = impatient().await;
    let (admin, (port, most)) = (server.admin(), slow(Duration::from_millis(300)).await);
    let check = saved(&admin, http(port), json!({}), 1).await;
    let run = || admin.call("healthcheck.runHealthCheckNow", json!({"configurationId": check}));
    let all = futures_util::future::join_all((0..4).map(|_| run())).await;
    assert!(all.iter().all(|runs| runs[0]["status"] == "healthy"), "{all:?}");
    assert_eq!(most.load(Ordering::SeqCst), 1, "one after the other");

    // When there is no time to wait for the one before, that is the answer.
    let (port, _) = slow(Duration::from_mins(1)).await;
    let check = saved(&admin, http(port), json!({}), 1).await;
    let input = json!({"configurationId": check});
    let hurried = async {
        sleep(Duration::from_millis(500)).await;
        admin.grpc_with("healthcheck.runHealthCheckNow", &input, &[("grpc-timeout", "1S")]).await.unwrap()
    };
    let (_, other) = tokio::join!(admin.call("healthcheck.runHealthCheckNow", input.clone()), hurried);
    assert!(other.to_string().contains("the run before was still going on"), "{other}");
}
