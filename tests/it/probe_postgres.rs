//! The probe of PostgreSQL, against servers that lie, and a real one.

use crate::probe_fakes::{
    A_MOMENT, LONG, Then, bad_targets_are_blamed, blamed, faults, hear, look, nobody, real, says, serve,
    tls_is_spoken_and_verified, with,
};
use serde_json::{Value, json};
use std::time::Instant;
use tokio::io::AsyncWriteExt;

fn settings(port: u16) -> Value {
    json!({"host": "127.0.0.1", "port": port, "database": "d", "user": "u", "password": "hunter2-hunter2"})
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

fn welcome() -> Vec<u8> {
    let version = message(b'S', b"server_version\x0015.1\0");
    [message(b'R', &[0; 4]), version, message(b'Z', b"I")].concat()
}

/// One column of text.
fn columns() -> Vec<u8> {
    message(b'T', &[&[0, 1][..], b"c\0", &[0; 6], &25_u32.to_be_bytes(), &[0xFF; 2], &[0xFF; 4], &[0; 2]].concat())
}

fn row(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    message(b'D', &[&[0, 1][..], &length.to_be_bytes(), text.as_bytes()].concat())
}

fn done(rows: usize) -> Vec<u8> {
    [message(b'C', format!("SELECT {rows}\0").as_bytes()), message(b'Z', b"I")].concat()
}

fn error(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C{code}\0M{text}\0\0").as_bytes())
}

async fn answered(answer: Vec<u8>) -> checkmate::probe::Seen {
    let address = says(vec![welcome(), answer], false, Then::Listens).await;
    look("postgres", &settings(address.port()), LONG).await
}

#[tokio::test]
async fn bad_targets() {
    bad_targets_are_blamed("postgres", &settings(1), b"R\0\0\0\x7f").await;
}

#[tokio::test]
async fn a_refused_connection_is_the_targets() {
    let seen = look("postgres", &settings(nobody().await.port()), LONG).await;
    assert!(blamed(&seen).contains("refuses"), "{seen:?}");
    assert_eq!(seen.findings["connected"], false);
}

#[tokio::test]
async fn an_answer_is_found_even_if_the_connection_ends_with_it() {
    let answer = [columns(), row("42"), row("x"), done(2)].concat();
    let seen = answered(answer.clone()).await;
    assert_eq!(seen.trouble, None);
    let expected = json!({"connected": true, "success": true, "rowCount": 2, "value": 42, "serverVersion": "15.1"});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&seen.findings[name], value, "{name}");
    }
    let address = says(vec![welcome(), answer], false, Then::Closes).await;
    let seen = look("postgres", &settings(address.port()), LONG).await;
    assert_eq!((seen.trouble, &seen.findings["rowCount"]), (None, &json!(2)));
}

#[tokio::test]
async fn rows_and_bytes_are_bounded() {
    let seen = answered([columns(), row("x").repeat(10_001), done(10_001)].concat()).await;
    assert_eq!(blamed(&seen), "The query has more than 10000 rows");
    let seen = answered([columns(), row("x").repeat(10_000), done(10_000)].concat()).await;
    assert_eq!(seen.findings["rowCount"], 10_000);
    // One row that says it has 2 GiB, and goes on and on.
    let row = [&columns()[..], b"D\x7f\xff\xff\xff\0\x01"].concat();
    let address = says(vec![welcome(), row], false, Then::Pours(vec![b'x'; 64 << 10])).await;
    let seen = look("postgres", &settings(address.port()), LONG).await;
    assert!(blamed(&seen).ends_with("it sent more than 16384 KiB"), "{seen:?}");
}

#[tokio::test]
async fn what_the_server_says_is_told_without_the_password() {
    let asks_for_it = message(b'R', &[0, 0, 0, 3]);
    let tells_it = error("28P01", "no \x1b[2J\r\nhunter2-hunter2");
    let address = says(vec![asks_for_it, tells_it], false, Then::Listens).await;
    let seen = look("postgres", &settings(address.port()), LONG).await;
    assert_eq!(blamed(&seen), "Login failed: no [2J *** (SQLSTATE 28P01)");
    let seen = answered(error("42P01", &"long ".repeat(100))).await;
    assert!(blamed(&seen).starts_with("Query failed: long long") && blamed(&seen).len() < 250, "{seen:?}");
    assert_eq!((&seen.findings["connected"], &seen.findings["success"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn endless_scram_is_refused() {
    let asks = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let address = serve(move |mut stream| {
        let asks = asks.clone();
        async move {
            hear(&mut stream).await;
            stream.write_all(&asks).await.unwrap();
            let text = String::from_utf8(hear(&mut stream).await).unwrap();
            let nonce = text.split("r=").nth(1).unwrap();
            let reply = message(b'R', format!("\0\0\0\x0br={nonce}x,s=AAAA,i=4294967295").as_bytes());
            stream.write_all(&reply).await.unwrap();
            hear(&mut stream).await;
        }
    })
    .await;
    let started = Instant::now();
    let seen = look("postgres", &settings(address.port()), LONG).await;
    assert!(blamed(&seen).contains("iteration count") && started.elapsed() < LONG, "{seen:?}");
}

#[tokio::test]
async fn tls_is_not_done_without() {
    for (answer, why) in
        [(&b"N"[..], "The server offers no TLS"), (b"E\0\0\0", "What came is not an answer to a request for TLS")]
    {
        let address = says(vec![answer.into(), welcome()], false, Then::Listens).await;
        let seen = look("postgres", &with(settings(address.port()), &json!({"ssl": true})), LONG).await;
        assert_eq!(blamed(&seen), why);
    }
    bad_targets_are_blamed("postgres", &with(settings(1), &json!({"ssl": true})), b"S").await;
}

#[test]
fn faults_name_the_setting() {
    for (more, expected) in [
        (json!({}), vec![]),
        (json!({"port": 0}), vec!["port"]),
        (json!({"host": ""}), vec!["host"]),
        (json!({"query": " "}), vec!["query"]),
        (json!({"user": "", "database": ""}), vec!["database", "user"]),
    ] {
        assert_eq!(faults("postgres", &with(settings(1), &more)), expected, "{more}");
    }
}

#[tokio::test]
async fn a_real_server() {
    let Some(real) = real("TEST_PROBE_POSTGRES") else { return };
    let good = json!({
        "host": real.host, "port": real.port, "user": real.user, "password": real.password, "database": real.path,
    });
    let ask = async |query: &str| look("postgres", &with(good.clone(), &json!({"query": query})), LONG).await;

    let seen = look("postgres", &good, LONG).await;
    assert_eq!(seen.trouble, None);
    assert_eq!((&seen.findings["value"], &seen.findings["rowCount"]), (&json!(1), &json!(1)));
    assert!(seen.findings["serverVersion"].as_str().unwrap().starts_with(char::is_numeric));
    for (query, value, rows) in [
        ("select 'a' || repeat('b', 1000) from generate_series(1, 3)", json!(format!("a{}", "b".repeat(199))), 3),
        ("select 2.5, 'x'", json!(2.5), 1),
        ("select null", Value::Null, 1),
        ("select 1 where false", Value::Null, 0),
    ] {
        let seen = ask(query).await;
        assert_eq!(seen.trouble, None, "{query}");
        assert_eq!(seen.findings.get("value").unwrap_or(&Value::Null), &value, "{query}");
        assert_eq!(seen.findings["rowCount"], rows, "{query}");
    }
    for (query, why) in [
        (
            "create table t(i int)",
            "Query failed: cannot execute CREATE TABLE in a read-only transaction (SQLSTATE 25006)",
        ),
        ("selekt", "Query failed: syntax error at or near \"selekt\" (SQLSTATE 42601)"),
        ("select 1 from generate_series(1, 20000)", "The query has more than 10000 rows"),
        ("copy (select 1) to stdout", "Query failed: unexpected message from server"),
    ] {
        assert_eq!(blamed(&ask(query).await), why);
    }
    let limit = ask("show statement_timeout").await;
    assert_eq!(limit.findings["value"], "1min");
    let wrong = look("postgres", &with(good.clone(), &json!({"password": "wrong"})), LONG).await;
    assert!(blamed(&wrong).contains("SQLSTATE 28P01"), "{wrong:?}");
    tls_is_spoken_and_verified("postgres", &good, "ssl").await;
    let query = "select ssl::int from pg_stat_ssl where pid = pg_backend_pid()";
    let more = json!({"query": query, "ssl": true, "tlsOptions": {"skipVerification": true}});
    assert_eq!(look("postgres", &with(good.clone(), &more), LONG).await.findings["value"], 1);
    let slow = look("postgres", &with(good, &json!({"query": "select pg_sleep(30)"})), A_MOMENT).await;
    assert_eq!(blamed(&slow), "No answer within 1000 ms (waiting for the query)");
}
