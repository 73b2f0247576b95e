//! The `tcp` probe against ports that say something, nothing, too much, or the wrong thing before TLS.

use crate::probe_tls::{Authority, Target, faults, look, look_within, targets};
use checkmate::probe::{Net, Policy};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Says this at once, and reads until the end.
async fn saying(text: &'static [u8]) -> Target {
    Target::serving(move |mut stream: TcpStream| async move {
        let _ = stream.write_all(text).await;
        while stream.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {}
    })
    .await
}

fn at(target: &Target, more: &Value) -> Value {
    let mut settings = json!({ "host": "127.0.0.1", "port": target.port() });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

#[tokio::test]
async fn an_open_port_is_enough_and_nothing_is_waited_for() {
    let target = saying(b"").await;
    let seen = look("tcp", &at(&target, &json!({}))).await;
    assert_eq!((targets(&seen), &seen.findings["connected"]), ("", &json!(true)));
    assert!(seen.findings["connectionTimeMs"].as_f64().unwrap() > 0.0);
    assert!(!seen.findings.contains_key("banner"));
}

#[tokio::test]
async fn a_closed_port_is_the_targets_trouble() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let seen = look("tcp", &json!({ "host": "127.0.0.1", "port": port })).await;
    assert!(targets(&seen).contains("refuses"), "{seen:?}");
    assert_eq!(seen.findings["connected"], false);
}

#[tokio::test]
async fn a_banner_is_read_if_there_is_one() {
    let target = saying(b"SSH-2.0-\x1b[31mOpenSSH\r\nmore").await;
    let seen = look("tcp", &at(&target, &json!({ "readBanner": true }))).await;
    assert_eq!(targets(&seen), "");
    let banner = seen.findings["banner"].as_str().unwrap();
    assert!(banner.starts_with("SSH-2.0-[31mOpenSSH") && !banner.contains('\x1b'), "{banner:?}");
    assert_eq!(seen.findings["hasBanner"], true);

    let target = saying(b"").await;
    let started = Instant::now();
    let seen = look("tcp", &at(&target, &json!({ "readBanner": true, "bannerTimeoutMs": 100 }))).await;
    assert_eq!((targets(&seen), &seen.findings["hasBanner"]), ("", &json!(false)));
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert!(seen.latency < Duration::from_millis(100), "waiting for nothing is no latency: {:?}", seen.latency);
}

#[tokio::test]
async fn what_is_sent_arrives_as_it_is_and_what_is_expected_may_come_in_parts() {
    let heard = Arc::new(Mutex::new(vec![]));
    let ears = heard.clone();
    let target = Target::serving(move |mut stream| {
        let ears = ears.clone();
        async move {
            let mut question = [0; 8];
            stream.read_exact(&mut question).await.unwrap();
            ears.lock().unwrap().extend(question);
            for part in ["+P", "ON", "G\r\n"] {
                stream.write_all(part.as_bytes()).await.unwrap();
                sleep(Duration::from_millis(20)).await;
            }
            let _ = stream.read(&mut [0; 1]).await;
        }
    })
    .await;
    let seen = look("tcp", &at(&target, &json!({ "send": "PING\\n\r\n", "expect": "PONG" }))).await;
    assert_eq!(targets(&seen), "");
    assert_eq!(*heard.lock().unwrap(), b"PING\\n\r\n");
    assert_eq!(seen.findings["banner"], "+PONG");
}

#[tokio::test]
async fn what_does_not_come_is_said() {
    let other = Target::serving(|mut stream| async move {
        let _ = stream.write_all(b"-ERR").await;
    })
    .await;
    let endless =
        Target::serving(|mut stream| async move { while stream.write_all(&[b'x'; 512]).await.is_ok() {} }).await;
    let drips = Target::serving(|mut stream| async move {
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(30)).await;
        }
    })
    .await;
    let resets = Target::serving(|stream| async move {
        sleep(Duration::from_millis(30)).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let silent = saying(b"").await;
    for (target, words) in [
        (&other, "closed the connection without the expected text"),
        (&endless, "not in the first 4096 bytes"),
        (&drips, "No answer within 300 ms (waiting for the expected text)"),
        (&resets, "broke the connection off"),
        (&silent, "No answer within 300 ms (waiting for the expected text)"),
    ] {
        let settings = at(target, &json!({ "expect": "PONG" }));
        let seen = look_within("tcp", &settings, Duration::from_millis(300), &Net::new(Policy::default())).await;
        assert!(targets(&seen).contains(words), "{seen:?}");
        assert!(seen.findings.get("banner").is_none_or(|banner| banner.as_str().unwrap().chars().count() <= 201));
    }
}

#[tokio::test]
async fn a_look_that_is_over_leaves_no_connection() {
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
    let settings = at(&target, &json!({ "expect": "x" }));
    look_within("tcp", &settings, Duration::from_millis(50), &Net::new(Policy::default())).await;
    timeout(Duration::from_secs(2), gone.notified()).await.unwrap();
}

/// Says the greeting, answers each line with the next reply, and then begins TLS.
async fn starting(authority: &Authority, script: &'static [&'static str]) -> Target {
    let config = authority.issue(&["127.0.0.1"], |_| {}).server(None, &[]);
    Target::serving(move |stream| {
        let config = config.clone();
        async move {
            let mut stream = BufReader::new(stream);
            for (number, reply) in script.iter().enumerate() {
                let mut line = String::new();
                if number > 0 && stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                if stream.write_all(reply.as_bytes()).await.is_err() {
                    return;
                }
            }
            if let Ok(mut stream) = TlsAcceptor::from(config).accept(stream.into_inner()).await {
                let _ = stream.write_all(b"over TLS\r\n").await;
                let _ = stream.read(&mut [0; 1]).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn tls_begins_in_the_middle_of_every_protocol() {
    let authority = Authority::new("An Authority");
    for (protocol, script) in [
        ("smtp", &["220-mail\r\n220 ready\r\n", "250-mail\r\n250 STARTTLS\r\n", "220 go\r\n"][..]),
        ("imap", &["* OK ready\r\n", "* CAPABILITY IMAP4rev1\r\na1 OK go\r\n"]),
        ("pop3", &["+OK ready\r\n", "+OK go\r\n"]),
        ("ftp", &["220 ready\r\n", "234 go\r\n"]),
    ] {
        let target = starting(&authority, script).await;
        let tls = json!({ "customCa": authority.pem() });
        let seen = look("tcp", &at(&target, &json!({ "startTls": protocol, "tls": tls, "expect": "over TLS" }))).await;
        assert_eq!(targets(&seen), "", "{protocol}");
        assert!(seen.findings["certificateDaysRemaining"].as_i64().unwrap() > 0);
        assert!(seen.findings["handshakeTimeMs"].as_f64().unwrap() > 0.0);
        // Whom nobody trusts.
        let seen = look("tcp", &at(&target, &json!({ "startTls": protocol }))).await;
        assert!(!targets(&seen).is_empty(), "{protocol}");
    }
}

#[tokio::test]
async fn what_comes_before_tls_is_not_believed_to_come_over_it() {
    let authority = Authority::new("An Authority");
    let long = Box::leak(format!("220 {}\r\n", "x".repeat(5_000)).into_boxed_str());
    let many = Box::leak("220-x\r\n".repeat(200).into_boxed_str());
    let lines = Box::leak("* x\r\n".repeat(200).into_boxed_str());
    for (protocol, script, words) in [
        ("pop3", vec!["+OK ready\r\n", "+OK go\r\n+OK injected\r\n"], "went on talking"),
        ("pop3", vec!["+OK ready\r\n", "-ERR no\r\n"], "does not begin TLS: -ERR no"),
        ("imap", vec!["* OK ready\r\n", "a1 NO not now\r\n"], "does not begin TLS: NO not now"),
        ("imap", vec!["* OK ready\r\n", lines], "more than 100 lines"),
        ("smtp", vec!["220 ready\r\n", "250 mail\r\n", "454 not now\r\n"], "does not begin TLS: 454 not now"),
        ("smtp", vec!["554 go away\r\n", "250 x\r\n", "250 x\r\n"], "does not begin TLS: 554 go away"),
        ("smtp", vec![long], "more than 2048 bytes"),
        ("smtp", vec![many], "more than 100 lines"),
        ("smtp", vec!["SSH-2.0-OpenSSH\r\n"], "no reply: SSH-2.0-OpenSSH"),
        ("smtp", vec!["220-a\r\n550 b\r\n"], "two codes"),
        ("ftp", vec!["220 ready\r\n", "é\r\n"], "no reply"),
    ] {
        let target = starting(&authority, script.leak()).await;
        let seen = look("tcp", &at(&target, &json!({ "startTls": protocol }))).await;
        assert!(targets(&seen).contains(words), "{protocol} {words}: {seen:?}");
    }
}

#[tokio::test]
async fn tls_from_the_beginning() {
    let authority = Authority::new("An Authority");
    let config = authority.issue(&["127.0.0.1"], |_| {}).server(None, &[]);
    let target = Target::serving(move |stream| {
        let config = config.clone();
        async move {
            let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else { return };
            let mut question = [0; 4];
            stream.read_exact(&mut question).await.unwrap();
            stream.write_all(b"PONG").await.unwrap();
            let _ = stream.read(&mut [0; 1]).await;
        }
    })
    .await;
    let settings = json!({ "useTls": true, "tls": { "customCa": authority.pem() }, "send": "PING", "expect": "PONG" });
    assert_eq!(targets(&look("tcp", &at(&target, &settings)).await), "");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (more, expected) in [
        (json!({ "port": 0 }), vec!["port"]),
        (json!({ "host": "" }), vec!["host"]),
        (json!({ "expect": "" }), vec!["expect"]),
        (json!({ "expect": "abc", "readBytesMax": 2 }), vec!["expect"]),
        (json!({ "readBytesMax": 70_000 }), vec!["readBytesMax"]),
        (json!({ "bannerTimeoutMs": 0 }), vec!["bannerTimeoutMs"]),
        (json!({ "useTls": true, "startTls": "smtp" }), vec!["startTls"]),
        (json!({ "startTls": "gopher" }), vec!["startTls"]),
        (json!({ "port": "x", "host": "" }), vec!["port"]),
    ] {
        let mut settings = json!({ "host": "127.0.0.1", "port": 80 });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(faults("tcp", &settings), expected, "{settings}");
    }
}
