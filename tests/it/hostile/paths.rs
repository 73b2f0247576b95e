//! Paths in all spellings: none reaches a procedure, or the contract when it is private, without the key and the
//! permission that its canonical spelling needs.

use super::wire::{Grpc, Http};
use crate::server::Server;
use serde_json::json;
use std::collections::BTreeSet;

/// What there is to reach.
const SEEDS: [(&str, &str); 6] = [
    ("/api/catalog/createSystem", r#"{"name":"intruder"}"#),
    ("/api/catalog/createSystem/", r#"{"json":{"name":"intruder"}}"#),
    ("/api/catalog/", r#"{"createSystem":{"name":"intruder"}}"#),
    ("/api/catalog", r#"{"createSystem":{"name":"intruder"}}"#),
    ("/api/auth/getApplications", "{}"),
    ("/checkmate.catalog.v1.CatalogService/GetSystems", "{}"),
];

/// Open paths, to climb out of.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/grpc.health.v1.Health/Check"];

/// Other spellings of a path.
#[expect(clippy::too_many_lines, reason = "a table")]
fn spellings(path: &str) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = [
        path.to_owned(),
        path.to_uppercase(),
        path.to_lowercase(),
        path.replace('/', "//"),
        path.replace('/', "///"),
        path.replace('/', "/./"),
        path.replace('/', "%2f"),
        path.replace('/', "%2F"),
        path.replace('/', "%252f"),
        path.replace('/', "\\"),
        path.replace('/', "%5c"),
        path.replace('/', "/%2e/"),
        path.replace('/', "%c0%af"),
        path.replace('/', "%e0%80%af"),
        path.replace('/', "%u002f"),
        path.replace('/', "\u{2215}"),
        path.replace('/', ";/"),
        path.replace('/', "/;x=y/"),
        path.replace('a', "%61"),
        path.replace('a', "%2561"),
        path.replace('a', "\u{430}"),
        path.replace('a', "%D0%B0"),
        path.replace('.', "%2e"),
        path.replace('S', "\u{17f}"),
        path.chars().rev().collect(),
    ]
    .into();
    for behind in [
        "/",
        "//",
        "/.",
        "/..",
        "/../",
        "/..;/",
        "/../..",
        ".",
        "..",
        "%2e",
        "%2e%2e",
        "%00",
        "%20",
        "%09",
        "%0a",
        "%0d%0a",
        ";",
        ";x",
        ";/",
        "#",
        "?",
        "?x",
        "?x=/healthz",
        "%3f",
        "%23",
        "~",
        ".json",
        "/index.html",
        "*",
        "%",
        "%2",
        "%zz",
        "%ff",
        "%c0%ae",
        "/x",
        "&",
        "\u{e9}",
        "%e2%80%8b",
        "|",
        "^",
        "$",
        "'",
        "\"",
        "<",
        "{}",
        "[]",
        ":",
        ":80",
        "@x",
        "!",
    ] {
        all.insert(format!("{path}{behind}"));
    }
    for before in [
        "/",
        "//",
        "/.",
        "/./",
        "/..",
        "/../",
        "/%2e",
        "/%2e/",
        "/%2e%2e",
        "/%2f",
        "/x/..",
        "/api/..",
        "/;",
        "/;/",
        "/%20",
        "/%00",
        "\\",
        "/api",
        "/v1",
        "/http://x",
        "http://x",
        "http://x:1@y",
        "//x",
        "/%5c",
        "/~",
    ] {
        all.insert(format!("{before}{path}"));
    }
    for open in OPEN {
        for way in [
            "/..", "/../", "/%2e%2e", "/..%2f", "%2f..", "%2f..%2f", "/..;", "/.%2e", "/%2e.", "\\..", "%5c..", "?/..",
            ";/..", "#/..", "%3f/..", "/../.", "%23",
        ] {
            all.insert(format!("{open}{way}{path}"));
        }
    }
    for at in 1..path.len() {
        let (before, after) = path.split_at(at);
        all.insert(format!("{before}%{:02x}{}", after.as_bytes()[0], &after[1..]));
        if at % 4 == 0 {
            all.insert(format!("{before}%00{after}"));
            all.insert(format!("{before}/{after}"));
        }
    }
    all
}

/// 401, or nothing there, or no such method, or no request at all: never a result.
const REFUSALS: [u16; 5] = [400, 401, 404, 405, 431];

#[tokio::test]
async fn no_spelling_of_a_path_is_a_way_around_the_key() {
    let server = Server::start_with(|config| config.private_contract = true).await;
    let address = server.url.trim_start_matches("http://");
    let weak = server.application(&[]).await.key.unwrap();
    let mut sent = 0;
    for (path, body) in SEEDS {
        for spelling in spellings(path) {
            let reaches_open = OPEN.iter().any(|open| is_exactly(&spelling, open));
            for method in ["POST", "GET"] {
                let request = Http::post(&spelling, body);
                let request = if method == "GET" { without_body(&spelling) } else { request };
                let stranger = request.clone().without("authorization").send(address, "").await;
                let weak = request.send(address, &weak).await;
                let good = |status: u16| REFUSALS.contains(&status) || (reaches_open && status == 200);
                assert!(good(stranger.status), "{method} {spelling} without a key: {stranger:?}");
                let says_no = good(weak.status) || weak.status == 403 || is_description(&spelling, method);
                assert!(says_no, "{method} {spelling} without permission: {weak:?}");
                assert!(!stranger.body.contains("intruder") && !weak.body.contains("intruder"), "{spelling}");
                sent += 2;
            }
        }
    }
    assert!(sent > 2_000, "{sent}");
    let systems = server.admin().call("catalog.getSystems", json!({})).await;
    assert_eq!(systems, json!([]), "nothing came of it");
}

fn without_body(path: &str) -> Http {
    Http::new("GET", path).with("authorization", format!("Bearer {}", super::wire::KEY))
}

/// Whether a path is an open one with nothing but a query or a fragment behind it.
fn is_exactly(path: &str, open: &str) -> bool {
    path.strip_prefix(open).is_some_and(|rest| rest.starts_with(['?', '#']))
}

/// Whoever has a key may read what there is.
fn is_description(path: &str, method: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    // The absolute form of a request's target.
    let path = path.strip_prefix("http://x:1@y").or_else(|| path.strip_prefix("http://x")).unwrap_or(path);
    method == "GET" && ["/api/catalog", "/api/catalog/"].contains(&decoded(path).as_str())
}

/// Escapes of letters are letters.
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_at_checked(2).map(|(hex, rest)| (u8::from_str_radix(hex, 16), rest)) {
            Some((Ok(byte), rest)) if byte.is_ascii_alphanumeric() => {
                text.extend([char::from(byte).to_string().as_str(), rest]);
            }
            _ => text.extend(["%", part]),
        }
    }
    text
}

#[tokio::test]
async fn no_spelling_of_a_grpc_path_is_a_way_around_the_key() {
    let server = Server::start_with(|config| config.private_contract = true).await;
    let address = server.url.trim_start_matches("http://");
    let weak = server.application(&[]).await.key.unwrap();
    for (path, _) in SEEDS {
        for spelling in spellings(path) {
            let is_a_path = spelling.starts_with('/') && format!("http://x{spelling}").parse::<http::Uri>().is_ok();
            if !is_a_path || OPEN.iter().any(|open| is_exactly(&spelling, open)) {
                continue;
            }
            let stranger = Grpc::call(&spelling, []).without("authorization").send(address, "").await;
            let weak = Grpc::call(&spelling, []).send(address, &weak).await;
            // UNAUTHENTICATED or UNIMPLEMENTED; PERMISSION_DENIED for who has a key.
            assert!([Some(16), Some(12)].contains(&stranger.status), "{spelling} without a key: {stranger:?}");
            assert!([Some(7), Some(12)].contains(&weak.status), "{spelling} without permission: {weak:?}");
        }
    }
}
