//! The real binary, as an operator runs it.

use crate::process::{Home, PATIENCE, outcome};
use crate::server::Caller;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

/// A server sees what a command did within this.
const SEEN_WITHIN: Duration = Duration::from_millis(250);

/// Asserts that a status comes within the bound, counted to when it was asked for.
async fn seen(caller: &Caller, status: u16) {
    let done = Instant::now();
    loop {
        let asked = done.elapsed();
        let answer = caller.json("catalog.getSystems", json!({})).await;
        if answer.status == status {
            return;
        }
        assert!(asked < SEEN_WITHIN, "still {} after {asked:?}", answer.status);
    }
}

#[tokio::test]
async fn only_the_first_start_prints_a_key() {
    let home = Home::new().await;
    let first = home.serve(&[]);
    let key = first.key();
    assert_eq!(first.greeting.iter().filter(|line| line.trim() == key).count(), 1);
    assert_eq!(first.greeting.iter().filter(|line| line.trim().starts_with("curl ")).count(), 1);
    assert!(first.url.strip_prefix("http://127.0.0.1:").unwrap().parse::<u16>().unwrap() > 0);
    let (later, _) = first.stop().await;
    assert!(later.is_empty(), "nothing follows the listening line: {later:?}");

    let second = home.serve(&["serve"]);
    assert_eq!(second.greeting.len(), 1, "{:?}", second.greeting);
    assert_eq!(second.with_key(&key).json("catalog.getSystems", json!({})).await.status, 200);
}

#[tokio::test]
async fn the_printed_curl_line_works_as_it_is() {
    let home = Home::new().await;
    let server = home.serve(&[]);
    let line = server.greeting.iter().find(|line| line.trim().starts_with("curl ")).unwrap();
    let done = outcome(Command::new("sh").args(["-c", &format!("{} --silent --show-error", line.trim())]));
    assert_eq!(done.json(), json!({"getSystems": []}));
}

#[tokio::test]
async fn no_key_reaches_the_log() {
    let home = Home::new().await;
    let server = home.serve(&[]);
    let admin = server.with_key(&server.key());
    let made = admin.call("auth.createApplication", json!({"name": "ci", "roles": ["reader"]})).await;
    let made = made["secret"].as_str().unwrap().to_owned();
    let reader = server.with_key(&made);
    assert_eq!(reader.json("catalog.createSystem", json!({"name": "x"})).await.status, 403);
    reader.grpc("catalog.getSystems", &json!({})).await.unwrap();
    let broken = server.with_key(&made.replace("ck_", "ck-"));
    assert_eq!(broken.json("catalog.getSystems", json!({})).await.status, 401);
    broken.grpc("catalog.getSystems", &json!({})).await.unwrap_err();

    // Whatever ends a server searches what it said.
    let (_, log) = server.stop().await;
    assert!(log.contains("TRACE"), "the log says everything it can");
    assert_eq!(home.secrets.count(), 2);
}

#[tokio::test]
async fn no_bootstrap_makes_no_application() {
    let home = Home::new().await;
    let server = home.serve(&["--no-bootstrap"]);
    assert_eq!(server.greeting.len(), 1, "{:?}", server.greeting);
    assert_eq!(home.run(&["application", "list", "--output", "json"]).json(), json!([]));
}

#[tokio::test]
async fn an_application_made_beside_a_server_can_call() {
    let home = Home::new().await;
    let server = home.serve(&["--no-bootstrap"]);
    let made = home.run(&["application", "create", "--name", "ci", "--role", "reader", "--output", "json"]).json();
    let caller = server.with_key(made["secret"].as_str().unwrap());
    seen(&caller, 200).await;
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&made), "application secret");
    assert_eq!(
        keys(&made["application"]),
        "createdAt createdById description expiresAt id lastUsedAt name roles updatedAt"
    );
}

#[tokio::test]
async fn a_role_is_given_by_id_or_by_name() {
    let home = Home::new().await;
    let create = |roles: &[&str]| {
        let mut arguments = vec!["application", "create", "--name", "x", "--description", "y", "--output", "json"];
        arguments.extend(roles.iter().flat_map(|role| ["--role", role]));
        home.run(&arguments)
    };
    for (given, held) in [
        (&[][..], json!(["applications"])),
        (&["reader"], json!(["applications", "reader"])),
        (&["Reader"], json!(["applications", "reader"])),
        (&["reader", "Operator"], json!(["applications", "operator", "reader"])),
    ] {
        let made = create(given).json();
        assert_eq!((&made["application"]["roles"], &made["application"]["description"]), (&held, &json!("y")));
    }
    let refused = create(&["nope"]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(refused.err.contains("role \"nope\"") && refused.err.contains("there is none"), "{}", refused.err);
}

#[tokio::test]
async fn a_name_that_several_have_is_refused_in_words() {
    let home = Home::new().await;
    for _ in 0..2 {
        assert_eq!(home.run(&["application", "create", "--name", "twin"]).code, Some(0));
    }
    let refused = home.run(&["application", "delete", "twin"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("2 have this name; use the id"), "{}", refused.err);
}

#[tokio::test]
async fn json_output_is_what_the_procedure_returns() {
    let home = Home::new().await;
    let server = home.serve(&[]);
    let admin = server.with_key(&server.key());
    let made = admin.call("auth.createApplication", json!({"name": "ci", "roles": ["reader"]})).await;
    let old = server.with_key(made["secret"].as_str().unwrap());

    let listed = home.run(&["application", "list", "--output", "json"]).json();
    let by_procedure = admin.call("auth.getApplications", json!({})).await;
    assert_eq!(listed[1], by_procedure[1]);
    assert_eq!(listed.as_array().unwrap().len(), 2);

    let renewed = home.run(&["application", "regenerate", "ci", "--output", "json"]).json();
    seen(&old, 401).await;
    let new = server.with_key(renewed["secret"].as_str().unwrap());
    assert_eq!(renewed, json!({"secret": new.key}));
    seen(&new, 200).await;

    let id = made["application"]["id"].as_str().unwrap();
    let deleted = home.run(&["application", "delete", id, "--output", "json"]).json();
    seen(&new, 401).await;
    assert_eq!(deleted, json!({"success": true}));
}

#[tokio::test]
async fn text_output_says_what_was_done() {
    let home = Home::new().await;
    let made = home.run(&["application", "create", "--name", "ci", "--role", "reader"]).out;
    let (line, key) = made.trim_end().split_once('\n').unwrap();
    assert!(line.ends_with("  ci  roles: applications, reader  last used: never"), "{line}");
    assert!(key.starts_with("key, shown only now: ck_"), "{key}");
    assert_eq!(home.run(&["application", "list"]).out, format!("{line}\n"));
    assert!(home.run(&["application", "regenerate", "ci"]).out.starts_with("key, shown only now: ck_"));
    let id = line.split(' ').next().unwrap();
    assert_eq!(home.run(&["application", "delete", "ci"]).out, format!("deleted {id}\n"));
    let refused = home.run(&["application", "delete", id]);
    assert_eq!((refused.code, refused.err), (Some(1), format!("checkmate: Application not found: {id}\n")));
}

#[tokio::test]
async fn flags_win_over_the_environment_over_the_file() {
    let home = Home::new().await;
    let check = |arguments: &[&str], environment: bool| {
        let mut command = home.command(&[&["check-config"], arguments].concat());
        if !environment {
            command.env_remove("CHECKMATE_LISTEN");
        }
        let done = outcome(&mut command);
        assert_eq!(done.code, Some(0), "{done:?}");
        done.out.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(check(&[], false), "127.0.0.1:3000");
    std::fs::write(home.folder.path().join("checkmate.toml"), "listen = \"127.0.0.1:1111\"").unwrap();
    assert_eq!(check(&[], false), "127.0.0.1:1111");
    assert_eq!(check(&[], true), "127.0.0.1:0");
    assert_eq!(check(&["--listen", "127.0.0.1:2222"], true), "127.0.0.1:2222");
}

#[tokio::test]
async fn the_version_is_printed() {
    let home = Home::new().await;
    let done = home.run(&["version"]);
    assert_eq!((done.code, done.out), (Some(0), format!("checkmate {}\n", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn migrating_makes_no_key_and_may_be_repeated() {
    let home = Home::new().await;
    for _ in 0..2 {
        let done = home.run(&["migrate"]);
        assert_eq!((done.code, done.out.as_str()), (Some(0), "the database is up to date\n"), "{done:?}");
    }
    let server = home.serve(&[]);
    assert!(server.key().starts_with("ck_"));
    assert_eq!(home.run(&["migrate"]).code, Some(0), "also beside a server");
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_writes_the_last_use() {
    let home = Home::new().await;
    let mut server = home.serve(&["--no-bootstrap"]);
    let made = home.run(&["application", "create", "--name", "ci", "--role", "reader", "--output", "json"]).json();
    let key = made["secret"].as_str().unwrap();
    seen(&server.with_key(key), 200).await;
    let last_use = || home.run(&["application", "list", "--output", "json"]).json()[0]["lastUsedAt"].clone();
    let waited = Instant::now();
    while last_use().is_null() {
        assert!(waited.elapsed() < PATIENCE, "the first use is not written");
    }
    // From now on a use is written after half a minute, or at the end.
    let first = last_use();
    let body = r#"{"getSystems": {}}"#;
    let mut request = server.half_sent(key, body);

    server.signal();
    server.until_it_accepts_no_more().await;
    request.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    request.read_to_string(&mut answer).unwrap();

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(r#"{"getSystems":[]}"#), "{answer}");
    assert_eq!(server.ended().await, Some(0));
    assert!(last_use().as_str() > first.as_str(), "{first}");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let home = Home::new().await;
    let mut server = home.serve(&["--drain-timeout", "1h"]);
    let _request = server.half_sent(&server.key(), "{}");
    server.signal();
    server.until_it_accepts_no_more().await;
    server.signal();
    assert_eq!(server.ended().await, Some(1));
}

#[tokio::test]
async fn what_outlasts_the_drain_timeout_is_cut_off() {
    let home = Home::new().await;
    let mut server = home.serve(&["--drain-timeout", "1s"]);
    let _request = server.half_sent(&server.key(), "{}");
    server.signal();
    assert_eq!(server.ended().await, Some(0));
}

#[tokio::test]
async fn a_good_configuration_is_shown_without_its_secrets() {
    let home = Home::new().await;
    let url = "postgres://somebody:hunter2@db.example.org:5433/status";
    let key = "5e".repeat(32);
    let done = outcome(home.command(&["check-config", "--database", url]).env("CHECKMATE_INSTANCE_KEY", &key));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.out.contains("postgres://db.example.org:5433/status") && done.out.contains("the configuration is good")
    );
    for secret in ["hunter2", &key] {
        assert!(!done.out.contains(secret) && !done.err.contains(secret), "{done:?}");
    }
}

#[tokio::test]
async fn a_bad_configuration_is_refused_in_words_without_its_secrets() {
    let cases: [(&str, &[&str], &str); 10] = [
        ("", &["--database", "mysql://u:hunter2@h/d"], "sqlite:// or postgres://"),
        ("", &["--database", "postgres://u:hunter2@h:port/d"], "malformed"),
        ("", &["--database", "sqlite://:memory:"], "the database is a file"),
        ("", &["--config", "nowhere.toml"], "nowhere.toml"),
        ("", &["--drain-timeout", "soon"], "\"soon\" is not a time"),
        ("", &["--listen", "nonsense"], "nonsense"),
        ("[limits]\nstreams = 0", &[], "limits.streams"),
        ("[limits]\nnonsense = 1", &[], "line 2"),
        ("databse = \"postgres://u:hunter2@h/d\"", &[], "line 1"),
        ("listen = \"postgres://u:hunter2@h/d", &[], "line 1"),
    ];
    for (file, arguments, says) in cases {
        let home = Home::new().await;
        std::fs::write(home.folder.path().join("checkmate.toml"), file).unwrap();
        for command in ["check-config", "serve"] {
            let done = home.run(&[&[command], arguments].concat());
            assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{command} {file} {arguments:?}: {done:?}");
            assert!(
                done.err.contains(says) && !done.err.contains("hunter2"),
                "{command} {file} {arguments:?}: {done:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_malformed_instance_key_is_refused_without_repeating_it() {
    let home = Home::new().await;
    for command in ["check-config", "migrate"] {
        let done = outcome(home.command(&[command]).env("CHECKMATE_INSTANCE_KEY", "hunter2"));
        assert_eq!(done.code, Some(1));
        assert!(done.err.contains("64 hex digits") && !done.err.contains("hunter2"), "{done:?}");
    }
}

#[tokio::test]
async fn a_database_out_of_reach_is_refused_without_its_password() {
    let home = Home::new().await;
    for url in ["postgres://u:hunter2@127.0.0.1:1/d", "sqlite:///nowhere/at/all.db"] {
        let mut command = home.command(&["migrate", "--database", url]);
        let done = outcome(command.env("CHECKMATE_INSTANCE_KEY", "ab".repeat(32)));
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{done:?}");
        assert!(
            done.err.lines().any(|line| line.starts_with("checkmate: ")) && !done.err.contains("hunter2"),
            "{done:?}"
        );
    }
}

#[tokio::test]
async fn help_does_not_show_the_environment_s_password() {
    let home = Home::new().await;
    let done = outcome(home.command(&["--help"]).env("CHECKMATE_DATABASE", "postgres://u:hunter2@h/d"));
    assert_eq!(done.code, Some(0));
    assert!(done.out.contains("CHECKMATE_DATABASE") && !done.out.contains("hunter2"), "{}", done.out);
}
