//! Keys that are almost good: each is refused as any other bad key is, byte for byte, on both protocols.

use super::protobuf::GET;
use super::target;
use super::wire::{Grpc, Http};
use std::collections::BTreeSet;
use tonic::Code;

/// What stands behind `authorization:`, made from a good key.
fn almost(key: &str) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![];
    let mut add = |text: String| all.push(format!("Bearer {text}").into_bytes());
    for at in 0..key.len() {
        let (before, rest) = key.split_at(at);
        let (here, after) = rest.split_at(1);
        add(before.to_owned());
        add(format!("{before}{after}"));
        add(format!("{before}{here}{here}{after}"));
        if at > 0 {
            add(rest.to_owned());
            add(format!("{before} {rest}"));
            add(format!("{before}\t{rest}"));
        }
        for other in likeness(here) {
            add(format!("{before}{other}{after}"));
        }
        if let Some(next) = after.chars().next().filter(|next| !here.starts_with(*next)) {
            add(format!("{before}{next}{here}{}", &after[1..]));
        }
    }
    let (id, secret) = (&key[3..39], &key[40..]);
    for text in [
        format!("{key}0"),
        format!("{key}{key}"),
        format!("{key},"),
        format!("{key};"),
        format!("{key}="),
        format!("{key}%00"),
        format!("{key}, Bearer {key}"),
        format!("\"{key}\""),
        format!("'{key}'"),
        format!("<{key}>"),
        format!("{key}\u{200b}"),
        format!("\u{feff}{key}"),
        format!("{key}\u{a0}"),
        key.to_uppercase(),
        format!("CK_{id}_{secret}"),
        format!("Ck_{id}_{secret}"),
        format!("ck-{id}-{secret}"),
        format!("ck_{}_{secret}", id.to_uppercase()),
        format!("ck_{}_{secret}", id.replace('-', "")),
        format!("ck_{{{id}}}_{secret}"),
        format!("ck_urn:uuid:{id}_{secret}"),
        format!("ck__{secret}"),
        format!("ck_{id}_"),
        format!("ck_{id}"),
        format!("{id}_{secret}"),
        format!("sk_{id}_{secret}"),
        format!("ck_00000000-0000-0000-0000-000000000000_{secret}"),
        format!("ck_{id}_{}", "0".repeat(49)),
        format!("ck_{id}_{}", secret.chars().rev().collect::<String>()),
        secret.to_owned(),
        "null".into(),
        "undefined".into(),
        String::new(),
        "' or '1'='1".into(),
        "x".repeat(10_000),
    ] {
        add(text);
    }
    for scheme in [
        "",
        "Bearer",
        "Bearer:",
        "Bearer,",
        "Basic ",
        "Digest ",
        "Token ",
        "ApiKey ",
        "Bearer\t",
        "Bearer\u{a0}",
        "Bearer\u{3000}",
        " Bearer  x ",
        "Bеarer ",
        "Bearers ",
        "Beare ",
        "Bearer=",
        "Bearer Bearer ",
        "\"Bearer\" ",
        "AWS4-HMAC-SHA256 ",
        "Negotiate ",
    ] {
        all.push(format!("{scheme}{key}").into_bytes());
    }
    all.push([b"Bearer ", key.as_bytes(), b"\xff"].concat());
    all.push([b"Bearer \xc0\x80", key.as_bytes()].concat());
    all
}

/// What looks like a character, or is next to it.
fn likeness(here: &str) -> BTreeSet<String> {
    const TWINS: [(&str, &str); 20] = [
        ("0", "O"),
        ("0", "o"),
        ("1", "l"),
        ("1", "I"),
        ("5", "S"),
        ("2", "Z"),
        ("8", "B"),
        ("6", "b"),
        ("9", "g"),
        ("c", "с"),
        ("a", "а"),
        ("e", "е"),
        ("o", "о"),
        ("k", "к"),
        ("-", "\u{2010}"),
        ("-", "_"),
        ("-", "\u{2212}"),
        ("_", "-"),
        ("_", "\u{ff3f}"),
        ("u", "v"),
    ];
    let pairs = TWINS.into_iter().chain(TWINS.into_iter().map(|(a, b)| (b, a)));
    let mut all: BTreeSet<String> = pairs.filter(|(from, _)| *from == here).map(|(_, to)| to.to_owned()).collect();
    let flipped =
        here.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
    all.insert(flipped.collect());
    let byte = here.as_bytes()[0];
    all.extend([byte ^ 1, byte ^ 2].map(|byte| char::from(byte).to_string()));
    all.insert("0".into());
    all.insert("%".into());
    all.remove(here);
    all.retain(|text| text.chars().all(|c| !c.is_control()));
    all
}

#[tokio::test]
async fn a_key_is_good_as_issued_and_in_no_other_form() {
    let server = target().await;
    let key = server.reader().await.key.unwrap();
    let address = server.url.trim_start_matches("http://");
    let body = r#"{"getSystems":{}}"#;
    let good = Http::post("/api/catalog/", body).send(address, &key).await;
    assert_eq!(good.status, 200, "{good:?}");
    let refusal = Http::post("/api/catalog/", body).set("authorization", "Bearer x").send(address, &key).await;
    assert_eq!(
        (refusal.status, refusal.body.as_str()),
        (401, r#"{"code":"UNAUTHORIZED","message":"Invalid API key"}"#)
    );
    let almost = almost(&key);
    assert!(almost.len() > 700, "{}", almost.len());
    for value in almost {
        let answer = Http::post("/api/catalog/", body).set("authorization", &value).send(address, "").await;
        let shown = String::from_utf8_lossy(&value);
        assert_eq!((answer.status, &answer.body), (401, &refusal.body), "{shown:?}");
    }
}

#[tokio::test]
async fn grpc_refuses_the_same_keys() {
    let server = target().await;
    let key = server.reader().await.key.unwrap();
    let address = server.url.trim_start_matches("http://");
    // Every seventh: the credential is read by the same function.
    for value in almost(&key).iter().step_by(7) {
        let Ok(_) = http::HeaderValue::from_bytes(value) else { continue };
        let answer = Grpc::call(GET, []).set("authorization", value).send(address, "").await;
        let found = (answer.status, answer.message.as_str());
        assert_eq!(
            found,
            (Some(Code::Unauthenticated as i32), "Invalid API key"),
            "{:?}",
            String::from_utf8_lossy(value)
        );
    }
}
