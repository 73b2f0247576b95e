//! The probe of MySQL, against servers that lie, and a real MariaDB.

use crate::probe_fakes::{
    A_MOMENT, LONG, Then, bad_targets_are_blamed, blamed, faults, look, nobody, ours, real, says,
    tls_is_spoken_and_verified, with,
};
use checkmate::probe::Seen;
use serde_json::{Value, json};

fn settings(port: u16) -> Value {
    json!({"host": "127.0.0.1", "port": port, "user": "u", "password": "hunter2-hunter2", "readOnly": false})
}

fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], body].concat()
}

fn greeting(plugin: &str) -> Vec<u8> {
    // Everything is offered: local files, several statements, compression, TLS, redirects.
    let body = [
        b"\x0a8.0.36\0\x01\0\0\0abcdefgh\0\xff\xff\x2d\x02\0\xff\xff\x15",
        &[0; 10][..],
        b"ijklmnopqrst\0",
        plugin.as_bytes(),
        b"\0",
    ];
    packet(0, &body.concat())
}

const NATIVE: &str = "mysql_native_password";
const SHA2: &str = "caching_sha2_password";

fn ok(sequence: u8) -> Vec<u8> {
    packet(sequence, &[0, 0, 0, 2, 0, 0, 0])
}

fn end(sequence: u8) -> Vec<u8> {
    packet(sequence, &[0xFE, 0, 0, 2, 0])
}

fn error(sequence: u8, code: u16, text: &str) -> Vec<u8> {
    packet(sequence, &[&[0xFF], &code.to_le_bytes()[..], text.as_bytes()].concat())
}

/// A login, and this answer to the query.
async fn answered(answer: Vec<u8>) -> Seen {
    let address = says(vec![greeting(NATIVE), ok(2), answer], true, Then::Listens).await;
    look("mysql", &settings(address.port()), LONG).await
}

/// These words after the greeting.
async fn greeted(plugin: &str, words: Vec<Vec<u8>>) -> Seen {
    let address = says([vec![greeting(plugin)], words].concat(), true, Then::Listens).await;
    look("mysql", &settings(address.port()), A_MOMENT).await
}

#[tokio::test]
async fn bad_targets() {
    bad_targets_are_blamed("mysql", &settings(1), b"\x4a\0\0\0\x0a").await;
}

#[tokio::test]
async fn a_refused_connection_is_the_targets() {
    let seen = look("mysql", &settings(nobody().await.port()), LONG).await;
    assert!(blamed(&seen).contains("refuses"), "{seen:?}");
}

#[tokio::test]
async fn an_answer_is_found() {
    let rows = [packet(1, &[1]), packet(2, b"column"), end(3), packet(4, b"\x0242"), packet(5, b"\xfb"), end(6)];
    let seen = answered(rows.concat()).await;
    assert_eq!(seen.trouble, None);
    let expected = json!({"connected": true, "success": true, "rowCount": 2, "value": 42, "serverVersion": "8.0.36"});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&seen.findings[name], value, "{name}");
    }
    let seen = answered(packet(1, &[0, 7, 0, 2, 0, 0, 0])).await;
    assert_eq!((seen.trouble, &seen.findings["rowCount"]), (None, &json!(7)));
}

#[tokio::test]
async fn no_file_is_sent() {
    let seen = answered(packet(1, b"\xfb/etc/passwd")).await;
    assert_eq!(blamed(&seen), "The server asked for a file of ours, and gets none");
}

#[tokio::test]
async fn lengths_that_lie_cost_nothing() {
    for columns in [&[0xFE, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0xFE; 9], &[0xFD, 0xFF, 0xFF, 0xFF], &[0xFC, 1]] {
        assert_eq!(blamed(&answered(packet(1, columns)).await), "What came is not a number of columns");
    }
    let seen = answered(b"\xff\xff\xff\x01x".to_vec()).await;
    assert_eq!(blamed(&seen), "The server sends a packet of 16777215 bytes");
    let row = [packet(1, &[1]), packet(2, b"column"), end(3), packet(4, b"\xfd\xff\xff\xffx")];
    assert_eq!(blamed(&answered(row.concat()).await), "What came is not a row");
}

#[tokio::test]
async fn rows_are_bounded() {
    let columns = [packet(1, &[1]), packet(2, b"column"), end(3)].concat();
    let seen = answered([columns.clone(), packet(4, b"\x01x").repeat(10_001), end(5)].concat()).await;
    assert_eq!(blamed(&seen), "The query has more than 10000 rows");
    let seen = answered([columns.clone(), packet(4, b"\x01x").repeat(10_000), end(5)].concat()).await;
    assert_eq!(seen.findings["rowCount"], 10_000);
    let pours = Then::Pours(packet(4, &vec![b'x'; 1 << 20]));
    let address = says(vec![greeting(NATIVE), ok(2), columns], true, pours).await;
    let seen = look("mysql", &settings(address.port()), LONG).await;
    assert!(blamed(&seen).ends_with("it sent more than 16384 KiB"), "{seen:?}");
}

#[tokio::test]
async fn errors_are_told_in_the_servers_words_without_the_password() {
    let address = says(vec![error(0, 1040, "Too many connections")], true, Then::Listens).await;
    let seen = look("mysql", &settings(address.port()), LONG).await;
    assert_eq!(blamed(&seen), "Refused: Too many connections (1040)");
    let seen = greeted(NATIVE, vec![error(2, 1045, "#28000no \x1b hunter2-hunter2")]).await;
    assert_eq!(blamed(&seen), "Login failed: no *** (1045, SQLSTATE 28000)");
    let seen = answered(error(1, 1146, "#42S02No such table")).await;
    assert_eq!(blamed(&seen), "Query failed: No such table (1146, SQLSTATE 42S02)");
    let cut = [packet(1, &[1]), packet(2, b"column"), end(3), error(4, 1317, "#70100Interrupted")];
    assert_eq!(blamed(&answered(cut.concat()).await), "Query failed: Interrupted (1317, SQLSTATE 70100)");
}

#[tokio::test]
async fn a_server_can_neither_have_the_password_nor_our_time() {
    let switch = |plugin: &str| packet(2, &[&[0xFE], plugin.as_bytes(), b"\0abcdefghijklmnopqrst\0"].concat());
    for plugin in ["mysql_clear_password", "mysql_old_password", "parsec", "dialog"] {
        let seen = greeted(NATIVE, vec![switch(plugin)]).await;
        assert_eq!(ours(&seen), format!("The server asks for a login that is not spoken here: {plugin}"));
    }
    // An endless exchange.
    let seen = greeted(NATIVE, vec![switch(NATIVE).repeat(20)]).await;
    assert_eq!(blamed(&seen), "What came is not an end of the login");
    // Keys that are none, or too much work.
    let asks = packet(2, &[1, 4]);
    for key in [vec![], vec![1], b"\x01no key".to_vec(), [&[1][..], &[b'A'; 2_000]].concat()] {
        let seen = greeted(SHA2, vec![asks.clone(), packet(4, &key)]).await;
        assert!(blamed(&seen).starts_with("What came is not "), "{seen:?}");
    }
    // No nonce to divide by.
    let switched = packet(2, &[&[0xFE], SHA2.as_bytes(), b"\0"].concat());
    let seen = greeted(NATIVE, vec![switched, packet(4, &[1, 4]), packet(6, b"\x01key")]).await;
    assert!(blamed(&seen).starts_with("What came is not "), "{seen:?}");
}

#[tokio::test]
async fn tls_is_not_done_without() {
    let mut plain = greeting(NATIVE);
    // The second byte of what it offers, where TLS is.
    plain[26] &= !0x08;
    let address = says(vec![plain, ok(2)], true, Then::Listens).await;
    let seen = look("mysql", &with(settings(address.port()), &json!({"ssl": true})), LONG).await;
    assert_eq!(blamed(&seen), "The server offers no TLS");
    let address = says(vec![greeting(NATIVE), ok(2)], true, Then::Listens).await;
    let seen = look("mysql", &with(settings(address.port()), &json!({"ssl": true})), LONG).await;
    assert!(!blamed(&seen).is_empty());
    bad_targets_are_blamed("mysql", &with(settings(1), &json!({"ssl": true})), b"\x4a\0\0\0\x0a").await;
}

#[test]
fn faults_name_the_setting() {
    for (more, expected) in [
        (json!({}), vec![]),
        (json!({"port": 0}), vec!["port"]),
        (json!({"query": ""}), vec!["query"]),
        (json!({"user": "", "database": ""}), vec!["user", "database"]),
    ] {
        assert_eq!(faults("mysql", &with(settings(1), &more)), expected, "{more}");
    }
}

#[tokio::test]
async fn a_real_server() {
    let Some(real) = real("TEST_PROBE_MYSQL") else { return };
    let good = json!({
        "host": real.host, "port": real.port, "user": real.user, "password": real.password, "database": real.path,
    });
    let ask = async |query: &str| look("mysql", &with(good.clone(), &json!({"query": query})), LONG).await;

    for more in [json!({}), json!({"database": null}), json!({"user": "modern"}), json!({"readOnly": false})] {
        let seen = look("mysql", &with(good.clone(), &more), LONG).await;
        assert_eq!(seen.trouble, None, "{more}");
        assert_eq!((&seen.findings["value"], &seen.findings["rowCount"]), (&json!(1), &json!(1)), "{more}");
        assert!(seen.findings["serverVersion"].as_str().unwrap().contains("MariaDB"), "{more}");
    }
    for (query, value, rows) in [
        ("select concat('ä', repeat('b', 1000)), 2 from seq_1_to_3", json!(format!("ä{}", "b".repeat(199))), 3),
        ("select 2.5", json!(2.5), 1),
        ("select null", Value::Null, 1),
        ("select 1 from dual where false", Value::Null, 0),
        ("do 1", Value::Null, 0),
    ] {
        let seen = ask(query).await;
        assert_eq!(seen.trouble, None, "{query}");
        assert_eq!(seen.findings.get("value").unwrap_or(&Value::Null), &value, "{query}");
        assert_eq!(seen.findings["rowCount"], rows, "{query}");
    }
    for (query, why) in [
        ("create table t(i int)", "Query failed: Cannot execute statement in a READ ONLY transaction"),
        ("selekt", "Query failed: You have an error in your SQL syntax"),
        ("select 1; select 2", "Query failed: You have an error in your SQL syntax"),
        ("select 1 from seq_1_to_20000", "The query has more than 10000 rows"),
    ] {
        let seen = ask(query).await;
        assert!(blamed(&seen).starts_with(why), "{query}: {seen:?}");
    }
    assert_eq!(ask("select @@max_statement_time").await.findings["value"], 60.0);
    let wrong = look("mysql", &with(good.clone(), &json!({"password": "wrong"})), LONG).await;
    assert!(blamed(&wrong).contains("SQLSTATE 28000"), "{wrong:?}");
    tls_is_spoken_and_verified("mysql", &good, "ssl").await;
    let query = "select variable_value from information_schema.session_status where variable_name = 'ssl_cipher'";
    let more = json!({"query": query, "ssl": true, "tlsOptions": {"skipVerification": true}});
    let cipher = look("mysql", &with(good.clone(), &more), LONG).await;
    assert!(cipher.findings["value"].as_str().unwrap().starts_with("TLS_"), "{cipher:?}");
    let slow = look("mysql", &with(good, &json!({"query": "select sleep(30)"})), A_MOMENT).await;
    assert_eq!(blamed(&slow), "No answer within 1000 ms (waiting for the query)");
}
