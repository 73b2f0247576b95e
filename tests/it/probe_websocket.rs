//! The `websocket` probe against servers that open one and talk, and against those that do not, or never stop.

use crate::probe_tls::{Authority, Target, faults, look, look_within, targets};
use checkmate::probe::{Net, Policy};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// Opens a WebSocket, greets, and says everything again, with the headers that it was opened with.
#[expect(clippy::result_large_err, reason = "the crate decides the type of a refusal")]
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    let mut key = String::new();
    let accept = |request: &Request, mut answer: Response| {
        key = request.headers().get("x-key").map(|key| key.to_str().unwrap().to_owned()).unwrap_or_default();
        if request.headers().contains_key("sec-websocket-protocol") {
            answer.headers_mut().insert("sec-websocket-protocol", "two".parse().unwrap());
        }
        Ok(answer)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, accept).await else { return };
    let _ = socket.send(Message::text("welcome")).await;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message {
            let _ = socket.send(Message::text(format!("{text} with {key}"))).await;
        }
    }
}

fn url(target: &Target) -> String {
    format!("ws://127.0.0.1:{}/live?x=1", target.port())
}

#[tokio::test]
async fn a_message_is_sent_and_the_expected_one_awaited() {
    let target = Target::serving(echo).await;
    for (change, message, has_answer) in [
        (json!({}), Value::Null, false),
        (json!({ "send": "ping" }), Value::Null, false),
        (json!({ "expect": "come" }), json!("welcome"), true),
        (json!({ "send": "ping", "expect": "g with" }), json!("ping with "), true),
        (json!({ "send": "a", "expect": "k1", "secretHeaders": { "x-key": "k1" } }), json!("a with k1"), true),
        (json!({ "send": "a", "expect": "k2", "headers": { "X-Key": "k2" } }), json!("a with k2"), true),
    ] {
        let mut settings = json!({ "url": url(&target) });
        settings.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let seen = look("websocket", &settings).await;
        assert_eq!(targets(&seen), "", "{change}");
        let found = &seen.findings;
        assert_eq!(found["statusCode"], 101);
        assert_eq!(found.get("message").unwrap_or(&Value::Null), &message, "{change}");
        assert_eq!(found.contains_key("responseTimeMs"), has_answer, "{change}");
        assert!(found["connectionTimeMs"].as_f64().unwrap() > 0.0);
    }
    let settings = json!({ "url": url(&target), "subprotocols": ["one", "two"] });
    assert_eq!(look("websocket", &settings).await.findings["subprotocol"], "two");
    // The server chooses what was not offered.
    let settings = json!({ "url": url(&target), "subprotocols": ["one"] });
    assert!(targets(&look("websocket", &settings).await).contains("Does not speak WebSocket"));
}

#[tokio::test]
async fn it_is_spoken_over_tls() {
    let authority = Authority::new("An Authority");
    let config = authority.issue(&["localhost"], |_| {}).server(None, &[b"http/1.1"]);
    let target = Target::serving(move |stream| {
        let config = config.clone();
        async move {
            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                echo(stream).await;
            }
        }
    })
    .await;
    let url = format!("wss://localhost:{}/", target.port());
    let trusting = json!({ "url": url, "expect": "welcome", "tls": { "customCa": authority.pem() } });
    assert_eq!(targets(&look("websocket", &trusting).await), "");
    assert!(targets(&look("websocket", &json!({ "url": url })).await).contains("nobody that is trusted"));
}

/// Opens a WebSocket and sends these bytes, again and again.
async fn raw(opening: &'static str, beat: &'static [u8]) -> Target {
    Target::serving(move |mut stream| async move {
        let mut seen = vec![0; 4_096];
        let length = stream.read(&mut seen).await.unwrap();
        let request = String::from_utf8_lossy(&seen[..length]).into_owned();
        let key = request.lines().find_map(|line| {
            line.strip_prefix("Sec-WebSocket-Key: ").or_else(|| line.strip_prefix("sec-websocket-key: "))
        });
        let key = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.unwrap_or_default().as_bytes());
        let _ = stream.write_all(opening.replace("KEY", &key).as_bytes()).await;
        let (mut reading, mut writing) = stream.split();
        let beats = async {
            while !beat.is_empty() && writing.write_all(beat).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if beat.is_empty() {
                std::future::pending::<()>().await;
            }
        };
        let ended = async { while reading.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {} };
        tokio::select! { () = beats => {}, () = ended => {} }
    })
    .await
}

const OPEN: &str = "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\r\n";

#[tokio::test]
async fn what_is_no_websocket_is_told_in_words() {
    static HUGE: [u8; 10] = [0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0];
    for (opening, beat, words) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"".as_slice(), "Answers 200 OK instead"),
        (
            "HTTP/1.1 302 F\r\nLocation: ws://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
            b"",
            "Answers 302 Found instead",
        ),
        ("HTTP/1.1 403 F\r\nContent-Length: 0\r\n\r\n", b"", "Answers 403 Forbidden instead"),
        (
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            b"",
            "Does not speak",
        ),
        ("SSH-2.0-OpenSSH\r\n\r\n", b"", "Does not speak"),
        ("", b"", "waiting for the WebSocket to open"),
        ("HTTP/1.1 101 S\r\n", b"", "waiting for the WebSocket to open"),
        ("HTTP/1.1 101 S\r\nX: ", &[b'x'; 4_096], "more headers"),
        (OPEN, b"", "waiting for the expected message"),
        (OPEN, b"\x81\x05other", "not the expected one"),
        (OPEN, b"\x89\x00", "waiting for the expected message"),
        (OPEN, &HUGE, "longer than 1048576 bytes"),
        (OPEN, b"\xff\xff\xff", "Does not speak"),
        (OPEN, b"\x88\x02\x03\xe8", "Closed the WebSocket"),
    ] {
        let target = raw(opening, beat).await;
        let settings = json!({ "url": url(&target), "expect": "welcome" });
        let limit = Duration::from_millis(if words.contains("waiting") { 300 } else { 8_000 });
        let started = Instant::now();
        let seen = look_within("websocket", &settings, limit, &Net::new(Policy::default())).await;
        assert!(targets(&seen).contains(words), "{words}: {:?}", seen.trouble);
        assert!(started.elapsed() < limit + Duration::from_secs(5));
    }
    let closing = Target::serving(|mut stream| async move {
        let _ = stream.read(&mut [0; 4_096]).await;
    })
    .await;
    let seen = look("websocket", &json!({ "url": url(&closing) })).await;
    assert!(targets(&seen).contains("Closed the connection"), "{:?}", seen.trouble);
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let good = "ws://example.com/";
    for (settings, path) in [
        (json!({ "url": "http://example.com/" }), "url"),
        (json!({ "url": "ws://user@example.com/" }), "url"),
        (json!({ "url": "nonsense" }), "url"),
        (json!({ "url": good, "headers": { "Sec-WebSocket-Key": "x" } }), "headers.sec-websocket-key"),
        (json!({ "url": good, "headers": { "Upgrade": "x" } }), "headers.Upgrade"),
        (json!({ "url": good, "secretHeaders": { "a": "\n" } }), "secretHeaders.a"),
        (json!({ "url": good, "subprotocols": ["a b"] }), "subprotocols"),
        (json!({ "url": good, "expect": "" }), "expect"),
        (json!({ "url": good, "send": "x".repeat(65_537) }), "send"),
        (json!({ "url": good, "tls": { "serverName": "" } }), "tls.serverName"),
        (json!({ "url": good, "nonsense": 1 }), "nonsense"),
    ] {
        assert_eq!(faults("websocket", &settings), [path], "{settings}");
    }
}
