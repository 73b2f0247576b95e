//! The `grpc` probe against the health service of tonic, servers without one, and servers that speak nonsense.

use crate::probe_tls::{Authority, Target, faults, look, look_within, targets};
use checkmate::probe::{Net, Policy};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic::{Request, Status};
use tonic_health::ServingStatus;
use tonic_health::server::health_reporter;

async fn http2<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S, router: axum::Router) {
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

async fn serving(router: axum::Router, tls: Option<Arc<ServerConfig>>) -> Target {
    Target::serving(move |stream| {
        let (router, tls) = (router.clone(), tls.clone());
        async move {
            match tls {
                None => http2(stream, router).await,
                Some(config) => {
                    if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                        http2(stream, router).await;
                    }
                }
            }
        }
    })
    .await
}

fn at(target: &Target, more: &Value) -> Value {
    let mut settings = json!({ "host": "127.0.0.1", "port": target.port() });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

#[tokio::test]
async fn the_status_is_followed() {
    let (reporter, service) = health_reporter();
    let target = serving(Routes::new(service).into_axum_router(), None).await;
    for (status, expected, words) in [
        (ServingStatus::Serving, "SERVING", ""),
        (ServingStatus::NotServing, "NOT_SERVING", "The service shop.Cart is not serving"),
        (ServingStatus::Unknown, "UNKNOWN", "The service shop.Cart does not know its health"),
        (ServingStatus::Serving, "SERVING", ""),
    ] {
        reporter.set_service_status("shop.Cart", status).await;
        let seen = look("grpc", &at(&target, &json!({ "service": "shop.Cart" }))).await;
        assert_eq!((targets(&seen), &seen.findings["status"]), (words, &json!(expected)));
        assert_eq!((&seen.findings["serving"], &seen.findings["grpcCode"]), (&json!(words.is_empty()), &json!("OK")));
        assert!(seen.findings["responseTimeMs"].as_f64().unwrap() > 0.0);
        assert!(seen.findings["connectionTimeMs"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(targets(&look("grpc", &at(&target, &json!({}))).await), "", "the server as a whole");
    let seen = look("grpc", &at(&target, &json!({ "service": "shop.Other" }))).await;
    assert_eq!(targets(&seen), "The health service does not know the service shop.Other");
    assert_eq!(
        (&seen.findings["status"], &seen.findings["grpcCode"]),
        (&json!("SERVICE_UNKNOWN"), &json!("NOT_FOUND"))
    );
}

#[tokio::test]
async fn a_server_without_health_is_told_from_one_without_grpc() {
    let without = serving(Routes::default().into_axum_router(), None).await;
    let plain = serving(axum::Router::new(), None).await;
    for target in [&without, &plain] {
        let seen = look("grpc", &at(target, &json!({}))).await;
        assert!(targets(&seen).contains("does not implement grpc.health.v1"), "{seen:?}");
        assert_eq!(seen.findings["grpcCode"], "UNIMPLEMENTED");
    }
    let old = Target::serving(|mut stream| async move {
        let _ = stream.read(&mut [0; 16]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        while stream.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {}
    })
    .await;
    let noise = Target::serving(|mut stream| async move { while stream.write_all(&[0xff; 64]).await.is_ok() {} }).await;
    let closes = Target::serving(|mut stream| async move {
        let _ = stream.read(&mut [0; 16]).await;
    })
    .await;
    for target in [&old, &noise, &closes] {
        let seen = look("grpc", &at(target, &json!({}))).await;
        assert!(targets(&seen).starts_with("The server does not answer over HTTP/2 as gRPC does: "), "{seen:?}");
        assert!(!seen.findings.contains_key("grpcCode"));
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_none_is_refused() {
    let answer = |bytes: Vec<u8>| {
        let handler = move || async move { ([("content-type", "application/grpc")], bytes) };
        axum::Router::new().route("/grpc.health.v1.Health/Check", axum::routing::post(handler))
    };
    for (bytes, code) in [
        (vec![0, 0x7f, 0xff, 0xff, 0xff, 1], "OUT_OF_RANGE"),
        (vec![0, 0, 0, 0, 2, 0xff, 0xff], "INTERNAL"),
        (vec![9, 0, 0, 0, 0], "INTERNAL"),
        (vec![0, 0, 0, 0, 9, 8], "INTERNAL"),
    ] {
        let target = serving(answer(bytes.clone()), None).await;
        let seen = look("grpc", &at(&target, &json!({}))).await;
        assert!(!targets(&seen).is_empty(), "{bytes:?}: {seen:?}");
        assert!(seen.findings.get("grpcCode").is_none_or(|found| *found == code || *found == "UNKNOWN"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_with_nothing_behind() {
    let gone = Arc::new(Notify::new());
    let notify = gone.clone();
    let target = Target::serving(move |mut stream| {
        let notify = notify.clone();
        async move {
            while stream.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {}
            notify.notify_one();
        }
    })
    .await;
    let net = Net::new(Policy::default());
    let seen = look_within("grpc", &at(&target, &json!({})), Duration::from_millis(100), &net).await;
    assert_eq!(targets(&seen), "No answer within 100 ms (waiting for the health service)");
    timeout(Duration::from_secs(2), gone.notified()).await.expect("the connection is closed");
}

#[tokio::test]
async fn metadata_is_sent_and_what_is_secret_is_not_told() {
    let (_reporter, service) = health_reporter();
    let guarded = tonic::service::interceptor::InterceptedService::new(service, |request: Request<()>| {
        let of = |key: &str| request.metadata().get(key).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match (of("x-tenant").as_deref(), of("authorization")) {
            (Some("one"), Some(token)) if token == "Bearer right" => Ok(request),
            (tenant, token) => Err(Status::unauthenticated(format!("no\n{tenant:?} {}", token.unwrap_or_default()))),
        }
    });
    let target = serving(Routes::new(guarded).into_axum_router(), None).await;
    let with = |token: &str| {
        at(&target, &json!({ "metadata": { "x-tenant": "one" }, "secretMetadata": { "authorization": token } }))
    };
    assert_eq!(targets(&look("grpc", &with("Bearer right")).await), "");
    let seen = look("grpc", &with("Bearer wrong")).await;
    assert_eq!(targets(&seen), r#"The health service answered UNAUTHENTICATED: noSome("one") …"#);
    assert_eq!(seen.findings["grpcCode"], "UNAUTHENTICATED");
}

#[tokio::test]
async fn it_is_asked_over_tls() {
    let authority = Authority::new("An Authority");
    let config = authority.issue(&["127.0.0.1"], |_| {}).server(None, &[b"h2"]);
    let (_reporter, service) = health_reporter();
    let target = serving(Routes::new(service).into_axum_router(), Some(config)).await;
    let seen = look("grpc", &at(&target, &json!({ "useTls": true, "tls": { "customCa": authority.pem() } }))).await;
    assert_eq!(targets(&seen), "");
    assert!(seen.findings["certificateDaysRemaining"].as_i64().unwrap() > 0);
    assert!(!targets(&look("grpc", &at(&target, &json!({ "useTls": true }))).await).is_empty(), "nobody trusts it");
    assert!(!targets(&look("grpc", &at(&target, &json!({}))).await).is_empty(), "it does not speak in the open");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (more, expected) in [
        (json!({ "authority": "shop.example:443" }), vec![]),
        (json!({ "authority": "shop example" }), vec!["authority"]),
        (json!({ "authority": "a@b" }), vec!["authority"]),
        (json!({ "port": 0 }), vec!["port"]),
        (json!({ "metadata": { "X-Tenant": "a" } }), vec!["metadata.X-Tenant"]),
        (json!({ "metadata": { "grpc-timeout": "1S" } }), vec!["metadata.grpc-timeout"]),
        (json!({ "metadata": { "x": "a\nb" } }), vec!["metadata.x"]),
        (json!({ "metadata": { "x-bin": "a" } }), vec!["metadata.x-bin"]),
        (json!({ "metadata": { "x": "a" }, "secretMetadata": { "x": "b" } }), vec!["metadata.x"]),
        (json!({ "secretMetadata": { "x": "a\r\n" } }), vec!["secretMetadata.x"]),
    ] {
        let mut settings = json!({ "host": "127.0.0.1", "port": 80 });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(faults("grpc", &settings), expected, "{settings}");
    }
    assert_eq!(faults("grpc", &json!({ "host": "::1", "port": 80 })), [""; 0]);
}
