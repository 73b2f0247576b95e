//! The `smtp` probe against mail servers that follow a script.

use crate::probe_tls::{Authority, Target, faults, look, look_within, targets};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use checkmate::probe::{Net, Policy};
use rustls::ServerConfig;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

/// What it was told, in order.
type Heard = Arc<Mutex<Vec<String>>>;

/// A mail server: its answer to the line, before or over TLS.
type Answers = fn(&str, bool) -> &'static str;

/// Talks until TLS is asked for, if there is a certificate.
async fn talk<S>(stream: S, answers: Answers, is_encrypted: bool, stops: bool, heard: &Heard) -> Option<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        heard.lock().unwrap().push(line.to_owned());
        stream.write_all(answers(line, is_encrypted).as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        if stops && line == "STARTTLS" {
            return Some(stream.into_inner());
        }
    }
}

async fn serving(answers: Answers, config: Option<Arc<ServerConfig>>) -> (Target, Heard) {
    let heard = Heard::default();
    let ears = heard.clone();
    let target = Target::serving(move |mut stream| {
        let (config, heard) = (config.clone(), ears.clone());
        async move {
            let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n").await;
            let Some(stream) = talk(stream, answers, false, config.is_some(), &heard).await else { return };
            let Ok(stream) = TlsAcceptor::from(config.unwrap()).accept(stream).await else { return };
            talk(stream, answers, true, false, &heard).await;
        }
    })
    .await;
    (target, heard)
}

fn at(target: &Target, more: &Value) -> Value {
    let mut settings = json!({ "host": "127.0.0.1", "port": target.port() });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

/// A server that knows a user, `ann` with `secret`, and only mail for `ok@example.com`.
fn usual(line: &str, is_encrypted: bool) -> &'static str {
    match line {
        "EHLO checkmate" if is_encrypted => "250-mail\r\n250-SIZE 10240000\r\n250 AUTH PLAIN LOGIN\r\n",
        "EHLO checkmate" => "250-mail\r\n250-SIZE 10240000\r\n250 STARTTLS\r\n",
        "STARTTLS" => "220 go\r\n",
        "MAIL FROM:<me@example.com>" | "RCPT TO:<ok@example.com>" | "RSET" => "250 ok\r\n",
        "AUTH PLAIN AGFubgBzZWNyZXQ=" => "235 in\r\n",
        _ if line.starts_with("AUTH") => "535 wrong: hunter2, no\r\n",
        "QUIT" => "221 bye\r\n",
        _ => "550 5.1.1 no such user\r\n",
    }
}

#[tokio::test]
async fn a_server_in_the_open_is_described() {
    let (target, heard) = serving(usual, None).await;
    let seen = look("smtp", &at(&target, &json!({}))).await;
    assert_eq!(targets(&seen), "");
    let found = &seen.findings;
    assert_eq!(found["banner"], "220 mail.example.com ESMTP");
    assert_eq!(found["capabilities"], json!(["SIZE 10240000", "STARTTLS"]));
    assert_eq!((&found["startTlsOffered"], &found["replyCode"]), (&json!(true), &json!(250)));
    assert!(found["responseTimeMs"].as_f64().unwrap() > 0.0 && found["connectionTimeMs"].as_f64().unwrap() > 0.0);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(*heard.lock().unwrap(), ["EHLO checkmate", "QUIT"]);
}

#[tokio::test]
async fn addresses_are_tried_over_tls_and_no_mail_is_sent() {
    let authority = Authority::new("An Authority");
    let config = authority.issue(&["127.0.0.1"], |_| {}).server(None, &[]);
    let (target, heard) = serving(usual, Some(config)).await;
    let settings = |to: &str, password: &str| {
        at(
            &target,
            &json!({
                "startTls": "required",
                "tls": { "customCa": authority.pem() },
                "auth": { "username": "ann", "password": password },
                "from": "me@example.com",
                "to": to,
            }),
        )
    };
    let seen = look("smtp", &settings("ok@example.com", "secret")).await;
    assert_eq!(targets(&seen), "");
    assert_eq!(seen.findings["capabilities"], json!(["SIZE 10240000", "AUTH PLAIN LOGIN"]));
    assert!(seen.findings["certificateDaysRemaining"].as_i64().unwrap() > 0);
    sleep(Duration::from_millis(50)).await;
    let expected = ["EHLO checkmate", "STARTTLS", "EHLO checkmate", "AUTH PLAIN AGFubgBzZWNyZXQ="];
    let expected =
        [&expected[..], &["MAIL FROM:<me@example.com>", "RCPT TO:<ok@example.com>", "RSET", "QUIT"]].concat();
    assert_eq!(*heard.lock().unwrap(), expected);

    let seen = look("smtp", &settings("nobody@example.com", "secret")).await;
    assert_eq!(targets(&seen), "The server does not take the recipient: it answered 550 5.1.1 no such user");
    assert_eq!(seen.findings["replyCode"], 550);
    let seen = look("smtp", &settings("ok@example.com", "hunter2")).await;
    assert_eq!(targets(&seen), "The server does not let the user in: 535 wrong: …, no");
}

#[tokio::test]
async fn a_user_is_let_in_with_login_where_there_is_no_plain() {
    fn login(line: &str, is_encrypted: bool) -> &'static str {
        match line {
            "EHLO checkmate" if is_encrypted => "250-mail\r\n250 AUTH=LOGIN\r\n",
            "AUTH LOGIN" => "334 VXNlcm5hbWU6\r\n",
            "YW5u" => "334 UGFzc3dvcmQ6\r\n",
            "c2VjcmV0" => "235 in\r\n",
            _ => usual(line, is_encrypted),
        }
    }
    assert_eq!(BASE64_STANDARD.encode("secret"), "c2VjcmV0");
    let authority = Authority::new("An Authority");
    let config = authority.issue(&["127.0.0.1"], |_| {}).server(None, &[]);
    let (target, _) = serving(login, Some(config)).await;
    let auth = json!({ "username": "ann", "password": "secret" });
    let tls = json!({ "customCa": authority.pem() });
    let seen = look("smtp", &at(&target, &json!({ "startTls": "required", "tls": tls, "auth": auth }))).await;
    assert_eq!(targets(&seen), "");
}

#[tokio::test]
async fn tls_that_is_required_has_to_be_offered() {
    fn bare(line: &str, is_encrypted: bool) -> &'static str {
        if line.starts_with("EHLO") { "250 mail\r\n" } else { usual(line, is_encrypted) }
    }
    let (target, _) = serving(bare, None).await;
    let seen = look("smtp", &at(&target, &json!({ "startTls": "required" }))).await;
    assert_eq!(targets(&seen), "The server does not offer STARTTLS");
    assert_eq!(targets(&look("smtp", &at(&target, &json!({ "startTls": "optional" }))).await), "");
}

#[tokio::test]
async fn what_is_no_mail_server_is_said() {
    let saying = |text: &'static [u8]| {
        Target::serving(move |mut stream| async move {
            let _ = stream.write_all(text).await;
            while stream.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {}
        })
    };
    let endless =
        Target::serving(|mut stream| async move { while stream.write_all(b"220-x\r\n").await.is_ok() {} }).await;
    let drips = Target::serving(|mut stream| async move {
        while stream.write_all(b"2").await.is_ok() {
            sleep(Duration::from_millis(30)).await;
        }
    })
    .await;
    for (target, words) in [
        (saying(b"554 no\x07 service\r\n").await, "The server greets 554 no service"),
        (saying(b"HTTP/1.1 400 Bad Request\r\n").await, "no reply: HTTP/1.1 400"),
        (saying(b"").await, "No answer within 300 ms (waiting for the greeting)"),
        (saying(b"220 mail\r\n").await, "No answer within 300 ms (waiting for the answer to EHLO)"),
        (endless, "more than 100 lines"),
        (drips, "No answer within 300 ms (waiting for the greeting)"),
    ] {
        let net = Net::new(Policy::default());
        let seen = look_within("smtp", &at(&target, &json!({})), Duration::from_millis(300), &net).await;
        assert!(targets(&seen).contains(words), "{words}: {seen:?}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let auth = json!({ "username": "ann", "password": "secret" });
    for (more, expected) in [
        (json!({ "ehloName": "a b" }), vec!["ehloName"]),
        (json!({ "ehloName": "a\r\nDATA" }), vec!["ehloName"]),
        (json!({ "from": "a@b>\r\nDATA" }), vec!["from"]),
        (json!({ "to": "a@b" }), vec!["from"]),
        (json!({ "auth": auth }), vec!["auth"]),
        (json!({ "auth": auth, "startTls": "optional" }), vec!["auth"]),
        (json!({ "auth": auth, "useTls": true }), vec![]),
        (json!({ "useTls": true, "startTls": "required" }), vec!["startTls"]),
        (json!({ "auth": { "username": "", "password": "x" }, "useTls": true }), vec!["auth.username"]),
    ] {
        let mut settings = json!({ "host": "127.0.0.1" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(faults("smtp", &settings), expected, "{settings}");
    }
}
