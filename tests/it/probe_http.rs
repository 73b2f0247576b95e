//! The `http` probe against servers that answer well, in every version, and against those that lead astray.

use crate::probe_net::Names;
use crate::probe_tls::{Authority, Target, faults, look, look_within, targets};
use checkmate::probe::{Net, Policy, Trouble};
use hickory_resolver::proto::op::ResponseCode;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// The head of a request, and its body as far as it has come.
pub async fn head(stream: &mut TcpStream) -> String {
    let mut seen = vec![];
    while !String::from_utf8_lossy(&seen).contains("\r\n\r\n") {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(length) if length > 0 => seen.extend_from_slice(&chunk[..length]),
            _ => break,
        }
    }
    String::from_utf8(seen).unwrap()
}

/// Answers each request with what this makes of it, and remembers the request.
pub struct Server {
    pub target: Target,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub async fn answering(answer: impl Fn(&str) -> String + Clone + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(vec![]));
        let seen_there = seen.clone();
        let target = Target::serving(move |mut stream| {
            let (answer, seen) = (answer.clone(), seen_there.clone());
            async move {
                let request = head(&mut stream).await;
                let answer = answer(&request);
                seen.lock().unwrap().push(request);
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        })
        .await;
        Self { target, seen }
    }

    pub async fn fixed(answer: &'static str) -> Self {
        Self::answering(move |_| answer.to_owned()).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.target.port())
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A: 1\r\nx-a: 2\r\nSet-Cookie: s=1\r\nContent-Length: 5\r\n\r\nhello";

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 4\r\n\r\nmove")
}

#[tokio::test]
async fn an_answer_is_described() {
    let server = Server::fixed(GOOD).await;
    let settings = json!({ "url": server.url("/a?b=secret#c"), "storeBodyBytes": 3, "headers": { "X-B": "y" } });
    let seen = look("http", &settings).await;
    assert_eq!(targets(&seen), "");
    let found = &seen.findings;
    for (field, expected) in [
        ("statusCode", json!(200)),
        ("statusText", json!("OK")),
        ("httpVersion", json!("1.1")),
        ("headers", json!({ "content-type": "text/plain", "x-a": "1, 2", "content-length": "5" })),
        ("body", json!("hello")),
        ("bodyExcerpt", json!("hel")),
        ("bodyLength", json!(5)),
        ("contentType", json!("text/plain")),
        ("redirects", json!(0)),
        ("finalUrl", json!(server.url("/a"))),
        ("remoteAddress", json!(server.target.address.to_string())),
        ("dnsTimeMs", json!(0.0)),
        ("success", json!(true)),
    ] {
        assert_eq!(found.get(field), Some(&expected), "{field}: {found:?}");
    }
    for field in ["connectTimeMs", "firstByteTimeMs", "responseTimeMs"] {
        assert!(found[field].as_f64().unwrap() > 0.0, "{field}");
    }
    assert!(!found.contains_key("tlsTimeMs") && !found.contains_key("certificateDaysRemaining"));
    let request = &server.requests()[0];
    assert!(request.starts_with("GET /a?b=secret HTTP/1.1\r\n"), "{request}");
    for line in ["host: 127.0.0.1:", "x-b: y\r\n", "connection: close\r\n", "user-agent: Checkmate/", "accept: */*\r\n"]
    {
        assert!(request.contains(line), "{line}: {request}");
    }
    // Nothing of the body is kept that was not asked for.
    let seen = look("http", &json!({ "url": server.url("/") })).await;
    assert!(!seen.findings.contains_key("bodyExcerpt"));
}

#[tokio::test]
async fn what_the_settings_say_is_sent() {
    let server = Server::fixed(GOOD).await;
    let settings = json!({
        "url": server.url("/"), "method": "POST", "body": "{}", "userAgent": "me",
        "headers": { "content-type": "application/json", "host": "other.example" },
        "secretHeaders": { "x-key": "k" }, "basicAuth": { "username": "a", "password": "b" },
    });
    assert_eq!(targets(&look("http", &settings).await), "");
    let request = server.requests()[0].clone();
    assert!(request.starts_with("POST / HTTP/1.1\r\n") && request.ends_with("\r\n\r\n{}"), "{request}");
    let lines = ["content-type: application/json", "host: other.example", "x-key: k", "user-agent: me"];
    for line in lines.into_iter().chain(["content-length: 2", "authorization: Basic YTpi"]) {
        assert_eq!(request.matches(&format!("{line}\r\n")).count(), 1, "{line}: {request}");
    }
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let settings = json!({ "url": server.url("/"), "method": method, "bearerToken": "t" });
        let seen = look("http", &settings).await;
        assert_eq!(targets(&seen), "", "{method}");
        assert_eq!(seen.findings["bodyLength"], if method == "HEAD" { 0 } else { 5 });
        let request = server.requests().pop().unwrap();
        assert!(request.starts_with(&format!("{method} / ")) && request.contains("authorization: Bearer t\r\n"));
    }
}

#[tokio::test]
async fn which_status_is_good_is_a_setting() {
    let server = Server::answering(|request| {
        let code = request.split(['/', ' ']).nth(2).unwrap().to_owned();
        format!("HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    for (status, expected, is_good) in [
        (200, Value::Null, true),
        (304, Value::Null, true),
        (404, Value::Null, false),
        (503, Value::Null, false),
        (401, json!(401), true),
        (200, json!(401), false),
        (204, json!(["2xx", 418]), true),
        (418, json!(["2xx", 418]), true),
        (500, json!("200-499"), false),
    ] {
        let mut settings = json!({ "url": server.url(&format!("/{status}")) });
        if !expected.is_null() {
            settings["expectedStatus"] = expected.clone();
        }
        let seen = look("http", &settings).await;
        assert_eq!(seen.trouble.is_none(), is_good, "{status} {expected}: {:?}", seen.trouble);
        assert_eq!((&seen.findings["success"], &seen.findings["statusCode"]), (&json!(is_good), &json!(status)));
    }
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_the_settings_say() {
    let server = Server::answering(|request| match request.split(' ').nth(1).unwrap() {
        "/start" => redirect("one"),
        "/one" => redirect("/two?q=1#f"),
        "/two?q=1" => redirect("//user:pw@localhost:1/x"),
        "/circle" => redirect("/circle2"),
        "/circle2" => redirect("/circle"),
        "/file" => redirect("file:///etc/passwd"),
        "/see" => redirect("/done"),
        "/keep" => "HTTP/1.1 307 T\r\nLocation: /done\r\nContent-Length: 0\r\n\r\n".into(),
        path if path.starts_with("/n") => redirect(&format!("/n{}", path.len())),
        _ => GOOD.into(),
    })
    .await;
    for (path, change, words, redirects, last) in [
        ("/see", json!({}), "", 1, "GET /done"),
        ("/see", json!({ "followRedirects": false }), "", 0, "GET /see"),
        ("/see", json!({ "followRedirects": false, "expectedStatus": 200 }), "Answered 302", 0, "GET /see"),
        ("/see", json!({ "maxRedirects": 0 }), "more than 0 times", 0, "GET /see"),
        ("/circle", json!({}), "in a circle", 1, "GET /circle2"),
        ("/file", json!({}), "not a URL of HTTP", 0, "GET /file"),
        ("/start", json!({ "maxRedirects": 1 }), "more than 1 times", 1, "GET /one"),
        ("/start", json!({}), "refuses connections", 3, "GET /two?q=1"),
        ("/see", json!({ "method": "POST", "body": "x" }), "", 1, "GET /done"),
        ("/keep", json!({ "method": "POST", "body": "x" }), "", 1, "POST /done"),
        ("/see", json!({ "method": "HEAD" }), "", 1, "HEAD /done"),
    ] {
        let mut settings = json!({ "url": server.url(path) });
        settings.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let seen = look("http", &settings).await;
        assert!(
            targets(&seen).contains(words) && words.is_empty() == seen.trouble.is_none(),
            "{path}: {:?}",
            seen.trouble
        );
        assert_eq!(seen.findings["redirects"], redirects, "{path} {change}");
        let request = server.requests().pop().unwrap();
        assert!(request.starts_with(&format!("{last} HTTP/1.1\r\n")), "{path} {change}: {request}");
        let is_sent = request.ends_with("\r\n\r\nx");
        assert_eq!(is_sent, last.starts_with("POST"), "{path} {change}: {request}");
    }
}

#[tokio::test]
async fn each_hop_is_judged() {
    let inner = Server::fixed(GOOD).await;
    let port = inner.target.port();
    let net = Net::new(Policy { deny: vec![format!(":{port}").parse().unwrap()], ..Policy::default() });
    for (to, words) in [
        ("http://169.254.169.254/latest/meta-data".to_owned(), "metadata"),
        ("http://[::ffff:169.254.169.254]/".to_owned(), "metadata"),
        ("http://2852039166/".to_owned(), "metadata"),
        (inner.url("/"), "operator denies"),
    ] {
        let server = Server::answering(move |_| redirect(&to)).await;
        let seen = look_within("http", &json!({ "url": server.url("/") }), Duration::from_secs(1), &net).await;
        assert!(matches!(&seen.trouble, Some(Trouble::Ours(text)) if text.contains(words)), "{:?}", seen.trouble);
    }
    assert!(inner.requests().is_empty());
}

#[tokio::test]
async fn secrets_stay_with_their_origin() {
    let other = Server::fixed(GOOD).await;
    let home = other.url("/there");
    let server = Server::answering(move |request| {
        if request.starts_with("GET /near ") {
            GOOD.into()
        } else {
            redirect(if request.starts_with("GET /home ") { "/near" } else { &home })
        }
    })
    .await;
    let settings = |path: &str| {
        json!({
            "url": server.url(path), "bearerToken": "token-1", "secretHeaders": { "x-key": "key-1", "cookie": "cookie-1" },
            "headers": { "x-open": "open-1" },
        })
    };
    let secrets = ["token-1", "key-1", "cookie-1"];
    assert_eq!(targets(&look("http", &settings("/home")).await), "");
    let near = server.requests().pop().unwrap();
    assert!(secrets.iter().all(|secret| near.contains(secret)), "{near}");
    assert_eq!(targets(&look("http", &settings("/away")).await), "");
    let away = other.requests().pop().unwrap();
    assert!(!secrets.iter().any(|secret| away.contains(secret)) && away.contains("open-1"), "{away}");
}

/// A server of HTTP/1.1 or 2, as the client chooses, which tells the version and the host that were asked for.
async fn versions(config: Option<Arc<rustls::ServerConfig>>) -> Target {
    Target::serving(move |stream| {
        let config = config.clone();
        async move {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let host = request.uri().authority().map(ToString::to_string);
                let host = host.or_else(|| request.headers().get("host").map(|host| host.to_str().unwrap().to_owned()));
                let text = format!(
                    "{:?} {} {}",
                    request.version(),
                    host.unwrap(),
                    request.headers().contains_key("connection")
                );
                Ok::<_, Infallible>(http::Response::new(http_body_util::Full::new(bytes::Bytes::from(text))))
            });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let Some(config) = config else {
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
                return;
            };
            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn both_versions_are_spoken_with_and_without_tls() {
    let authority = Authority::new("An Authority");
    let identity = authority.issue(&["localhost"], |_| {});
    let both = versions(Some(identity.server(None, &[b"h2", b"http/1.1"]))).await;
    let old = versions(Some(identity.server(None, &[b"http/1.1"]))).await;
    let plain = versions(None).await;
    for (scheme, target, version, expected, words) in [
        ("https", &both, "auto", "2", ""),
        ("https", &both, "1.1", "1.1", ""),
        ("https", &both, "2", "2", ""),
        ("https", &old, "auto", "1.1", ""),
        ("https", &old, "2", "", "refuses the TLS handshake: NoApplicationProtocol"),
        ("http", &plain, "auto", "1.1", ""),
        ("http", &plain, "2", "2", ""),
    ] {
        let url = format!("{scheme}://localhost:{}/", target.port());
        let settings = json!({ "url": url, "httpVersion": version, "tls": { "customCa": authority.pem() } });
        let seen = look("http", &settings).await;
        assert!(targets(&seen).contains(words), "{scheme} {version}: {:?}", seen.trouble);
        if words.is_empty() {
            assert_eq!(targets(&seen), "", "{scheme} {version}");
            let is_old = expected == "1.1";
            let text = format!("HTTP/{} localhost:{} {is_old}", if is_old { "1.1" } else { "2.0" }, target.port());
            assert_eq!((&seen.findings["httpVersion"], &seen.findings["body"]), (&json!(expected), &json!(text)));
            assert_eq!(seen.findings.contains_key("tlsTimeMs"), scheme == "https");
            assert_eq!(seen.findings.contains_key("certificateDaysRemaining"), scheme == "https");
        }
    }
}

#[tokio::test]
async fn a_bad_certificate_is_the_targets_trouble_unless_it_is_said_not_to_matter() {
    let authority = Authority::new("An Authority");
    let expired = authority.issue(&["localhost"], |params| params.not_after = rcgen::date_time_ymd(2024, 5, 6));
    for (identity, words) in
        [(expired, "expired at 2024-05-06"), (authority.issue(&["a.example"], |_| {}), "not for localhost")]
    {
        let target = versions(Some(identity.server(None, &[b"h2"]))).await;
        let mut settings = json!({
            "url": format!("https://localhost:{}/", target.port()), "tls": { "customCa": authority.pem() },
        });
        assert!(targets(&look("http", &settings).await).contains(words));
        settings["tls"]["skipVerification"] = json!(true);
        assert_eq!(targets(&look("http", &settings).await), "");
    }
    // A redirect from encrypted to plain is not followed.
    let identity = authority.issue(&["localhost"], |_| {});
    let config = identity.server(None, &[]);
    let target = Target::serving(move |stream| {
        let config = config.clone();
        async move {
            let mut stream = TlsAcceptor::from(config).accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(redirect("http://localhost/").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let settings = json!({
        "url": format!("https://localhost:{}/", target.port()), "tls": { "customCa": authority.pem() },
    });
    assert!(targets(&look("http", &settings).await).contains("from https to http"));
}

/// A proxy that takes one kind of request: absolute ones, or tunnels.
async fn proxy(answer: Option<&'static str>) -> (Target, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(vec![]));
    let seen_there = seen.clone();
    let target = Target::serving(move |mut stream| {
        let seen = seen_there.clone();
        async move {
            let request = head(&mut stream).await;
            let authority = request.split(' ').nth(1).unwrap().to_owned();
            seen.lock().unwrap().push(request);
            if let Some(answer) = answer {
                let _ = stream.write_all(answer.as_bytes()).await;
                return;
            }
            let port = authority.rsplit(':').next().unwrap().parse().unwrap();
            let mut onward = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
        }
    })
    .await;
    (target, seen)
}

#[tokio::test]
async fn a_proxy_is_asked_and_its_troubles_are_ours() {
    let authority = Authority::new("An Authority");
    let target = versions(Some(authority.issue(&["far.example"], |_| {}).server(None, &[b"h2"]))).await;
    let (tunnels, tunnelled) = proxy(None).await;
    let at = |proxy: &Target| format!("http://127.0.0.1:{}", proxy.port());
    let url = format!("https://far.example:{}/", target.port());
    let settings = json!({ "url": url, "proxy": at(&tunnels), "tls": { "customCa": authority.pem() } });
    let seen = look("http", &settings).await;
    assert_eq!(targets(&seen), "");
    assert_eq!(
        (&seen.findings["httpVersion"], &seen.findings["remoteAddress"]),
        (&json!("2"), &json!(tunnels.address.to_string()))
    );
    assert!(tunnelled.lock().unwrap()[0].starts_with(&format!("CONNECT far.example:{} HTTP/1.1\r\n", target.port())));

    let (absolute, asked) = proxy(Some(GOOD)).await;
    let seen = look("http", &json!({ "url": "http://far.example/a?b", "proxy": at(&absolute) })).await;
    assert_eq!(targets(&seen), "");
    let request = asked.lock().unwrap()[0].clone();
    assert!(
        request.starts_with("GET http://far.example/a?b HTTP/1.1\r\n") && request.contains("host: far.example\r\n")
    );

    let closed = { Target::serving(|_| async {}).await.port() };
    let closed = json!({ "url": "http://far.example/", "proxy": format!("http://127.0.0.1:{closed}") });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let denied = json!({ "url": "http://169.254.169.254/", "proxy": at(&absolute) });
    let asks = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
    let (asking, _) = proxy(Some(asks)).await;
    let asking = json!({ "url": "https://far.example/", "proxy": at(&asking) });
    let (mute, _) = proxy(Some("nonsense\r\n\r\n")).await;
    let mute = json!({ "url": "https://far.example/", "proxy": at(&mute) });
    for (settings, words) in
        [(closed, "The proxy: "), (denied, "metadata"), (asking, "answers 407"), (mute, "not speak HTTP")]
    {
        let seen = look("http", &settings).await;
        assert!(
            matches!(&seen.trouble, Some(Trouble::Ours(text)) if text.contains(words)),
            "{words}: {:?}",
            seen.trouble
        );
    }
    let (failing, _) = proxy(Some("HTTP/1.1 504 Gateway Timeout\r\n\r\n")).await;
    let seen = look("http", &json!({ "url": "https://far.example/", "proxy": at(&failing) })).await;
    assert!(targets(&seen).contains("answers 504"), "{:?}", seen.trouble);
}

#[tokio::test]
async fn a_silent_resolver_is_not_the_targets_fault() {
    let names = Names::answering(None, &[]).await;
    let settings = json!({ "url": "http://far.example/" });
    let seen = look_within("http", &settings, Duration::from_millis(200), &names.net(Policy::default())).await;
    assert!(matches!(&seen.trouble, Some(Trouble::Ours(text)) if text.contains("resolving")), "{:?}", seen.trouble);
    let server = Server::fixed(GOOD).await;
    let names = Names::answering(Some(ResponseCode::NoError), &["127.0.0.1"]).await;
    let settings = json!({ "url": format!("http://far.example:{}/", server.target.port()) });
    let seen = look_within("http", &settings, Duration::from_secs(1), &names.net(Policy::default())).await;
    assert_eq!(targets(&seen), "");
    assert!(seen.findings["dnsTimeMs"].as_f64().unwrap() > 0.0);
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let good = "http://example.com/";
    for (settings, path) in [
        (json!({ "url": "example.com" }), "url"),
        (json!({ "url": "ftp://example.com/" }), "url"),
        (json!({ "url": "http://user:pw@example.com/" }), "url"),
        (json!({ "url": "http://user@example.com/" }), "url"),
        (json!({ "url": "http:///" }), "url"),
        (json!({ "url": good, "method": "TRACE" }), "method"),
        (json!({ "url": good, "headers": { "a b": "c" } }), "headers.a b"),
        (json!({ "url": good, "headers": { "a": "b\r\nc: d" } }), "headers.a"),
        (json!({ "url": good, "headers": { "Content-Length": "5" } }), "headers.Content-Length"),
        (json!({ "url": good, "headers": { "Authorization": "x" } }), "headers.Authorization"),
        (json!({ "url": good, "headers": { "cookie": "x" } }), "headers.cookie"),
        (json!({ "url": good, "secretHeaders": { "authorization": "x" }, "bearerToken": "y" }), "secretHeaders"),
        (json!({ "url": good, "secretHeaders": { "a": "\n" } }), "secretHeaders.a"),
        (json!({ "url": good, "bearerToken": "a\n" }), "bearerToken"),
        (json!({ "url": good, "bearerToken": "a", "basicAuth": { "username": "a", "password": "b" } }), "bearerToken"),
        (json!({ "url": good, "basicAuth": { "username": "a:b", "password": "b" } }), "basicAuth.username"),
        (json!({ "url": good, "expectedStatus": "2x" }), "expectedStatus"),
        (json!({ "url": good, "expectedStatus": true }), "expectedStatus"),
        (json!({ "url": good, "maxRedirects": 21 }), "maxRedirects"),
        (json!({ "url": good, "sizeLimitBytes": 0 }), "sizeLimitBytes"),
        (json!({ "url": good, "sizeLimitBytes": 10_485_761 }), "sizeLimitBytes"),
        (json!({ "url": good, "storeBodyBytes": 1025 }), "storeBodyBytes"),
        (json!({ "url": good, "proxy": "https://proxy/" }), "proxy"),
        (json!({ "url": good, "proxy": "http://u:p@proxy/" }), "proxy"),
        (json!({ "url": good, "proxy": "http://proxy:1/", "httpVersion": "2" }), "httpVersion"),
        (json!({ "url": good, "httpVersion": "3" }), "httpVersion"),
        (json!({ "url": good, "tls": { "customCa": "x" } }), "tls.customCa"),
        (json!({ "url": good, "userAgent": "a\nb" }), "userAgent"),
        (json!({ "url": good, "nonsense": 1 }), "nonsense"),
    ] {
        assert_eq!(faults("http", &settings), [path], "{settings}");
    }
    let both = json!({ "url": "ftp://example.com/", "maxRedirects": 99 });
    assert_eq!(faults("http", &both), ["url", "maxRedirects"], "all at once");
}
