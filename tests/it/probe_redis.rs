//! The probe of Redis, against servers that lie, and a real one.

use crate::probe_fakes::{
    A_MOMENT, LONG, Then, bad_targets_are_blamed, blamed, faults, look, nobody, real, says, tls_is_spoken_and_verified,
    with,
};
use checkmate::probe::Seen;
use serde_json::{Value, json};

fn settings(port: u16) -> Value {
    json!({"host": "127.0.0.1", "port": port})
}

async fn answered(answer: &[u8]) -> Seen {
    let address = says(vec![answer.to_vec()], false, Then::Listens).await;
    look("redis", &settings(address.port()), A_MOMENT).await
}

#[tokio::test]
async fn bad_targets() {
    bad_targets_are_blamed("redis", &settings(1), b"+PONG").await;
    bad_targets_are_blamed("redis", &with(settings(1), &json!({"tls": true})), b"+PONG").await;
}

#[tokio::test]
async fn a_refused_connection_is_the_targets() {
    let seen = look("redis", &settings(nobody().await.port()), LONG).await;
    assert!(blamed(&seen).contains("refuses"), "{seen:?}");
}

#[tokio::test]
async fn replies_of_every_kind() {
    for (reply, response, value) in [
        ("+PONG\r\n", json!("PONG"), Value::Null),
        (":42\r\n", json!("42"), json!(42)),
        ("$3\r\n2.5\r\n", json!("2.5"), json!(2.5)),
        ("$-1\r\n", Value::Null, Value::Null),
        ("*2\r\n$1\r\na\r\n:7\r\n", json!("a\n7"), Value::Null),
    ] {
        let seen = answered(reply.as_bytes()).await;
        assert_eq!((&seen.trouble, &seen.findings["success"]), (&None, &json!(true)), "{reply:?}");
        assert_eq!(seen.findings.get("response").unwrap_or(&Value::Null), &response, "{reply:?}");
        assert_eq!(seen.findings.get("value").unwrap_or(&Value::Null), &value, "{reply:?}");
    }
    let seen = answered(format!("${}\r\n{}\r\n", 1_000, "x".repeat(1_000)).as_bytes()).await;
    assert_eq!(seen.findings["responseExcerpt"].as_str().unwrap().len(), 200);
    assert_eq!(seen.findings["response"].as_str().unwrap().len(), 1_000);
}

#[tokio::test]
async fn errors_are_told_in_the_servers_words() {
    for (reply, why) in [
        ("-LOADING Redis is loading\r\n", "Command failed: LOADING Redis is loading"),
        ("-NOAUTH Authentication required.\r\n", "Command failed: NOAUTH Authentication required."),
        ("-ERR \x07no\r\n", "Command failed: ERR no"),
    ] {
        assert_eq!(blamed(&answered(reply.as_bytes()).await), why);
    }
    let address = says(vec![b"-WRONGPASS not hunter2-hunter2\r\n".into()], false, Then::Listens).await;
    let seen = look("redis", &with(settings(address.port()), &json!({"password": "hunter2-hunter2"})), LONG).await;
    assert!(blamed(&seen).starts_with("Login failed: ") && !blamed(&seen).contains("hunter2"), "{seen:?}");
    assert_eq!(seen.findings["connected"], false);
}

#[tokio::test]
async fn lengths_that_lie_cost_nothing() {
    for reply in
        ["*1000000000\r\n", "*9223372036854775807\r\n", "$2147483647\r\nx", "$9223372036854775807\r\n", "%1\r\n"]
    {
        let seen = answered(reply.as_bytes()).await;
        assert!(!blamed(&seen).is_empty(), "{reply:?}");
    }
    assert!(!blamed(&answered("*1\r\n".repeat(100_000).as_bytes()).await).is_empty());
    let address = says(vec![b"$2147483647\r\n".into()], false, Then::Pours(vec![b'x'; 64 << 10])).await;
    let seen = look("redis", &settings(address.port()), LONG).await;
    assert!(blamed(&seen).ends_with("it sent more than 1024 KiB"), "{seen:?}");
}

#[test]
fn only_what_reads_is_sent() {
    let faults_of = |more: Value| faults("redis", &with(settings(1), &more));
    for command in ["PING", "ping", "Info", "GET", "EXISTS", "TTL", "LLEN", "SCARD", "ZCARD", "HLEN", "STRLEN", "HGET"]
    {
        assert!(faults_of(json!({"command": command, "args": "a b"})).is_empty(), "{command}");
    }
    for command in ["SET", "FLUSHALL", "CONFIG", "KEYS", "EVAL", "DEBUG", "SHUTDOWN", "", "PING\r\nFLUSHALL", " GET"] {
        assert_eq!(faults_of(json!({"command": command})), ["command"], "{command}");
    }
    assert_eq!(faults_of(json!({"args": ["x".repeat(5_000)]})), ["args"]);
    assert_eq!(faults_of(json!({"username": "u"})), ["password"]);
}

#[tokio::test]
async fn a_real_server() {
    let Some(real) = real("TEST_PROBE_REDIS") else { return };
    let good = json!({"host": real.host, "port": real.port, "password": real.password});
    let ask = async |more: Value| look("redis", &with(good.clone(), &more), LONG).await;

    let seen = ask(json!({})).await;
    assert_eq!((seen.trouble, &seen.findings["response"]), (None, &json!("PONG")));
    let seen = ask(json!({"command": "info", "args": "replication"})).await;
    assert_eq!((seen.trouble, &seen.findings["role"]), (None, &json!("master")));
    let seen = ask(json!({"command": "ROLE"})).await;
    assert_eq!((seen.trouble, &seen.findings["role"]), (None, &json!("master")));
    let seen = ask(json!({"command": "DBSIZE", "database": 3})).await;
    assert_eq!((seen.trouble, &seen.findings["value"]), (None, &json!(0)));
    let seen = ask(json!({"command": "GET", "args": ["no such key"]})).await;
    assert_eq!((seen.trouble, seen.findings.get("response")), (None, None));
    let encrypted = crate::probe_fakes::real("TEST_PROBE_REDIS_TLS").unwrap();
    tls_is_spoken_and_verified("redis", &with(good.clone(), &json!({"port": encrypted.port})), "tls").await;
    let plain = ask(json!({"port": encrypted.port})).await;
    assert!(!blamed(&plain).is_empty());
    for (more, why) in [
        (json!({"password": null}), "Command failed: NOAUTH"),
        (json!({"password": "wrong"}), "Login failed"),
        (json!({"username": "nobody"}), "Login failed"),
        (json!({"database": 4_000_000}), "Login failed"),
        (json!({"command": "GET"}), "Command failed: ERR wrong number of arguments"),
    ] {
        let seen = ask(more.clone()).await;
        assert!(blamed(&seen).starts_with(why), "{more}: {seen:?}");
        assert!(!blamed(&seen).contains(&real.password), "{seen:?}");
        eprintln!("{}", blamed(&seen));
    }
}
