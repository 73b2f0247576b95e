//! The `http` probe against servers that hang, drip, flood, lie or reset.

use crate::probe_http::{Server, head};
use crate::probe_tls::{Target, look, look_within, targets};
use bytes::Bytes;
use checkmate::probe::{Net, Policy};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

static FLOOD: [u8; 65_536] = [b'x'; 65_536];

/// Whoever connects gets this, and then the same again and again, until the connection is gone, which is counted.
async fn stubborn(opening: &'static [u8], beat: &'static [u8], pause: Duration) -> (Target, Arc<Mutex<usize>>) {
    let gone = Arc::new(Mutex::new(0));
    let counted = gone.clone();
    let target = Target::serving(move |mut stream| {
        let gone = counted.clone();
        async move {
            let _ = head(&mut stream).await;
            let _ = stream.write_all(opening).await;
            let (mut reading, mut writing) = stream.split();
            let beats = async {
                loop {
                    tokio::time::sleep(pause).await;
                    if !beat.is_empty() && writing.write_all(beat).await.is_err() {
                        return;
                    }
                }
            };
            let ended = async { while reading.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {} };
            tokio::select! { () = beats => {}, () = ended => {} }
            *gone.lock().unwrap() += 1;
        }
    })
    .await;
    (target, gone)
}

#[tokio::test]
async fn who_takes_too_long_is_left_and_nothing_stays_open() {
    let slow = Duration::from_millis(20);
    for (name, opening, beat, words) in [
        ("silent", b"".as_slice(), b"".as_slice(), "waiting for the answer"),
        ("half a head", b"HTTP/1.1 200 OK\r\nX-A", b"", "waiting for the answer"),
        ("a head that drips", b"HTTP/1.1 200 OK\r\nX-A: ", b"x", "waiting for the answer"),
        ("half a body", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"", "reading the answer"),
        ("a body that drips", b"HTTP/1.1 200 OK\r\n\r\n", b"x", "reading the answer"),
        ("only interim answers", b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n", "waiting for"),
    ] {
        let (target, gone) = stubborn(opening, beat, slow).await;
        let settings = json!({ "url": format!("http://127.0.0.1:{}/", target.port()) });
        let started = Instant::now();
        let seen = look_within("http", &settings, Duration::from_millis(200), &Net::new(Policy::default())).await;
        assert!(targets(&seen).contains(words), "{name}: {:?}", seen.trouble);
        assert!(started.elapsed() < Duration::from_secs(10), "{name}");
        assert_eq!(seen.findings.contains_key("statusCode"), words.starts_with("reading"), "{name}");
        for _ in 0..50 {
            if *gone.lock().unwrap() == 1 {
                break;
            }
            tokio::time::sleep(slow).await;
        }
        assert_eq!(*gone.lock().unwrap(), 1, "{name}: the connection is closed");
    }
}

#[tokio::test]
async fn who_lies_or_floods_is_refused_in_words() {
    let quick = Duration::from_millis(1);
    let (endless, _) = stubborn(b"HTTP/1.1 200 OK\r\n\r\n", &FLOOD, quick).await;
    let (chunks, _) =
        stubborn(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", quick).await;
    let (bomb, _) = stubborn(b"HTTP/1.1 200 OK\r\nX: ", &FLOOD, quick).await;
    let (many, _) = stubborn(b"HTTP/1.1 200 OK\r\n", b"X: y\r\nX: y\r\nX: y\r\nX: y\r\nX: y\r\nX: y\r\n", quick).await;
    for (target, change, words) in [
        (&endless, json!({}), "longer than 1048576 bytes"),
        (&chunks, json!({ "sizeLimitBytes": 12 }), "longer than 12 bytes"),
        (&bomb, json!({}), "more headers"),
        (&many, json!({}), "more headers"),
    ] {
        let mut settings = json!({ "url": format!("http://127.0.0.1:{}/", target.port()) });
        settings.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let seen = look_within("http", &settings, Duration::from_secs(30), &Net::new(Policy::default())).await;
        assert!(targets(&seen).contains(words), "{words}: {:?}", seen.trouble);
        assert!(!seen.findings.contains_key("body"));
    }
    for (answer, words) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", "longer than"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\n", "Does not answer in HTTP"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "before the answer was complete"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc", "Does not answer in HTTP"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "Answers wrongly"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "Does not answer in HTTP"),
        ("", "before the answer was complete"),
        ("HTTP/1.1 200", "before the answer was complete"),
    ] {
        let server = Server::fixed(answer).await;
        let seen = look("http", &json!({ "url": server.url("/") })).await;
        assert!(targets(&seen).contains(words), "{answer:?}: {:?}", seen.trouble);
    }
    // More than was announced is not ours to read.
    let server = Server::fixed("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef").await;
    assert_eq!(look("http", &json!({ "url": server.url("/") })).await.findings["body"], "abc");
    let resetting = Target::serving(|mut stream| async move {
        let _ = head(&mut stream).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let seen = look("http", &json!({ "url": format!("http://127.0.0.1:{}/", resetting.port()) })).await;
    assert!(targets(&seen).contains("Reset the connection"), "{:?}", seen.trouble);
}

/// A server of HTTP/2 that does what the path says: nothing, headers without end, or a body without end. How many
/// connections are over is counted.
async fn second_version() -> (Target, Arc<Mutex<usize>>) {
    let gone = Arc::new(Mutex::new(0));
    let counted = gone.clone();
    let target = Target::serving(move |stream| {
        let gone = counted.clone();
        async move {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let mut answer = http::Response::builder();
                if request.uri().path() == "/hang" {
                    std::future::pending::<()>().await;
                }
                if request.uri().path() == "/headers" {
                    for number in 0..200 {
                        answer = answer.header(format!("x-{number}"), "y".repeat(1_000));
                    }
                }
                let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&FLOOD)));
                let body = StreamBody::new(futures_util::stream::repeat_with(chunk));
                Ok::<_, Infallible>(answer.body(body).unwrap())
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            *gone.lock().unwrap() += 1;
        }
    })
    .await;
    (target, gone)
}

#[tokio::test]
async fn the_second_version_is_bounded_too_and_its_tasks_end() {
    for (path, words) in
        [("hang", "waiting for the answer"), ("headers", "Answers"), ("body", "longer than 1048576 bytes")]
    {
        let (target, gone) = second_version().await;
        let settings = json!({ "url": format!("http://127.0.0.1:{}/{path}", target.port()), "httpVersion": "2" });
        let limit = Duration::from_millis(if path == "hang" { 200 } else { 5_000 });
        let seen = look_within("http", &settings, limit, &Net::new(Policy::default())).await;
        assert!(targets(&seen).contains(words), "{path}: {:?}", seen.trouble);
        assert!(!seen.findings.contains_key("headers") || path == "body");
        for _ in 0..50 {
            if *gone.lock().unwrap() == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(*gone.lock().unwrap(), 1, "{path}: the connection is closed");
    }
}
