//! What went wrong once, each as the claim that it does not again.

use crate::raw::Raw;
use crate::server::{Answer, Server, is_postgres};
use serde_json::json;
use sqlx::Connection;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The last second that both protocols can write; one more would break every list that it stands in.
#[tokio::test]
async fn a_time_that_json_cannot_write_is_refused_over_grpc_too() {
    let server = Server::start().await;
    let admin = server.admin();
    let last = "9999-12-30T21:59:59.000Z";
    let made = admin.grpc("auth.createApplication", &json!({"name": "x", "expiresAt": last})).await.unwrap();
    assert_eq!(made["application"]["expiresAt"], last);
    let status = admin.grpc("auth.createApplication", &json!({"name": "x", "expiresAt": "9999-12-31T23:59:59Z"})).await;
    assert_eq!(status.unwrap_err().code(), tonic::Code::InvalidArgument);
    let refused = admin.json("auth.createApplication", json!({"name": "x", "expiresAt": "9999-12-31T23:59:59Z"})).await;
    assert_eq!(refused.status, 400);
    assert_eq!(admin.json("auth.getApplications", json!({})).await.status, 200);
}

/// Following `meta` once took time in the square of the body.
#[tokio::test]
async fn an_envelope_with_many_paths_into_many_keys_is_refused_soon() {
    let server = Server::start().await;
    let keys: serde_json::Map<_, _> = (0..40_000).map(|n| (format!("k{n}"), json!(""))).collect();
    let meta: Vec<_> = (0..40_000).map(|_| json!([1, "k39999"])).collect();
    let body = json!({"json": keys, "meta": meta});
    let started = Instant::now();
    let answer = server.admin().post("/api/catalog/getSystems", &body).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(started.elapsed().as_secs() < 20, "a bound, not a measurement: it was minutes");
}

/// Whoever sends the later spelling must not lose what the earlier one protects.
#[tokio::test]
async fn null_permissions_are_refused_under_every_name() {
    let server = Server::start().await;
    for key in ["permissions", "accessRules"] {
        let answer = server.admin().json("auth.updateRole", json!({"id": "operator", key: null})).await;
        answer.refused(400, "BAD_REQUEST", &format!("Input validation failed: {key}: Must not be null"));
    }
}

/// Rule E8 holds for roles as for applications: taking administration away takes administration.
#[tokio::test]
async fn only_administrators_take_administration_away() {
    let server = Server::start().await;
    let admin = server.admin();
    let god = admin.call("auth.createRole", json!({"name": "god", "permissions": ["*"]})).await["id"].clone();
    let clerk = server.allowed(&["auth.roles.update", "auth.roles.delete"]).await;
    let refusal = "It administers what you do not: auth.*";
    clerk.json("auth.updateRole", json!({"id": god, "permissions": []})).await.refused(403, "FORBIDDEN", refusal);
    clerk.json("auth.deleteRole", god.clone()).await.refused(403, "FORBIDDEN", refusal);
    assert_eq!(admin.call("auth.deleteRole", god).await, json!({"success": true}));
}

/// Rule E5: rights that end are not handed to what does not end.
#[tokio::test]
async fn an_expiring_key_gives_no_rights_to_one_that_does_not_expire() {
    let server = Server::start().await;
    let admin = server.admin();
    let expires = server.clock.in_future(std::time::Duration::from_hours(1));
    let input = json!({"name": "guest", "roles": ["admin"], "expiresAt": expires});
    let guest = server.with_key(admin.call("auth.createApplication", input).await["secret"].as_str());
    let eternal = admin.call("auth.createApplication", json!({"name": "eternal"})).await["application"]["id"].clone();
    let answer = guest.json("auth.updateApplication", json!({"id": eternal, "roles": ["admin"]})).await;
    answer.refused(403, "FORBIDDEN", &format!("It would outlive you: expiresAt must be no later than {expires}"));
}

#[tokio::test]
async fn numbers_in_free_json_come_back_as_they_were() {
    let server = Server::start().await;
    let admin = server.admin();
    for number in ["0.36995516654807925", "52.370216", "1764000000.123456", "1e-7", "-0.1", "9007199254740992"] {
        let body = format!(r#"{{"createSystem":{{"name":"n","metadata":{{"n":{number}}}}}}}"#);
        let made = admin.post_text("/api/catalog/", &body).await;
        let id = made.body["createSystem"]["id"].clone();
        let read = admin.call("catalog.getSystem", json!({"systemId": id})).await;
        assert_eq!(read["metadata"]["n"].as_f64(), number.parse().ok(), "{number}: {read}");
    }
}

#[tokio::test]
async fn paths_that_are_not_utf8_are_refused_in_the_documented_shape() {
    let server = Server::start().await;
    let admin = server.admin();
    for (method, path) in
        [("POST", "/api/%FF/"), ("GET", "/api/%ff"), ("POST", "/api/catalog/%FF"), ("POST", "/api/catalog/%C3%28/")]
    {
        let request = admin.request(method, path).header("content-type", "application/json").body("{}");
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!((answer.status, &answer.body["code"]), (404, &json!("NOT_FOUND")), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_bad_key_is_refused_also_where_there_is_nothing_to_call() {
    let server = Server::start().await;
    let stranger = server.with_key(Some("ck_x"));
    for (method, path) in [
        ("POST", "/api/nope"),
        ("POST", "/api/catalog/nope"),
        ("PUT", "/api/catalog/"),
        ("GET", "/api/catalog/getSystems"),
        ("GET", "/api/a/b/c"),
    ] {
        let answer = Answer::of(stranger.request(method, path).send().await.unwrap()).await;
        answer.refused(401, "UNAUTHORIZED", "Invalid API key");
    }
}

#[tokio::test]
async fn an_empty_body_has_no_type_to_be_wrong() {
    let server = Server::start().await;
    let request = server.admin().request("POST", "/api/catalog/getSystems");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!((answer.status, answer.body), (200, json!({"json": []})));
}

#[tokio::test]
async fn failures_stand_in_the_order_written() {
    let server = Server::start().await;
    let request = server.admin().request("POST", "/api/catalog/").header("content-type", "application/json");
    let request = request.header("prefer", "handling=lenient").body(r#"{"zeta":{},"getViews":{},"alpha":{}}"#);
    let answer = Answer::of(request.send().await.unwrap()).await;
    let (zeta, alpha) = (answer.text.find("zeta").unwrap(), answer.text.find("alpha").unwrap());
    assert!(zeta < alpha, "{}", answer.text);
}

/// The first start decides: later ones never print a key.
#[tokio::test]
async fn a_first_start_without_an_application_stays_without() {
    let server = Server::start_with(|config| config.bootstrap = false).await;
    let again = server.restart_with(|config| config.bootstrap = true).await;
    again.admin().json("auth.whoAmI", json!({})).await.refused(401, "UNAUTHORIZED", "Authentication required");
}

/// A later release may have stored permissions that this one cannot read.
#[tokio::test]
async fn renaming_a_role_leaves_permissions_that_are_not_known_yet() {
    let server = Server::start().await;
    let role = server.admin().call("auth.createRole", json!({"name": "new", "permissions": []})).await["id"].clone();
    let mut raw = Raw::open(&server.config.database).await;
    raw.execute("update auth_role set permissions = '[\"future.future.read\"]' where name = 'new'").await;
    server.admin().call("auth.updateRole", json!({"id": role, "name": "renamed"})).await;
    let kept = raw.text("select permissions from auth_role where name = 'renamed'").await;
    assert_eq!(kept, r#"["future.future.read"]"#);
}

#[tokio::test]
async fn a_link_to_a_database_is_the_same_database() {
    if is_postgres() {
        return;
    }
    let server = Server::start().await;
    let (file, link) = (server.folder().join("checkmate.db"), server.folder().join("link.db"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let config =
        checkmate::config::Config { database: format!("sqlite://{}", link.display()).into(), ..server.config.clone() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusal = checkmate::app::App::start(config, listener, checkmate::world::Clock::system()).await;
    assert!(refusal.err().unwrap().to_string().starts_with("another server is running on "));
}

/// What sqlx keeps in every database that it migrates.
const SQLX: &str = "create table _sqlx_migrations (version bigint primary key, description text not null,
    installed_on timestamp not null default current_timestamp, success boolean not null, checksum blob not null,
    execution_time bigint not null)";

/// A file made by these statements, in the journal mode that SQLite has by default.
async fn file_of(folder: &Path, statements: &[&'static str]) -> PathBuf {
    let file = folder.join("other.db");
    let mut other = sqlx::SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", file.display())).await.unwrap();
    for statement in statements {
        sqlx::raw_sql(*statement).execute(&mut other).await.unwrap();
    }
    other.close().await.unwrap();
    file
}

/// A start on a file.
async fn start_on(file: &Path) -> checkmate::error::Result<checkmate::app::App> {
    let template = Server::start().await;
    let database = format!("sqlite://{}", file.display()).into();
    let config = checkmate::config::Config { database, ..template.config.clone() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    checkmate::app::App::start(config, listener, checkmate::world::Clock::system()).await
}

/// Even the journal mode, which stands in the header, is left as it was.
async fn left_alone(file: &Path, says: &str) {
    let before = std::fs::read(file).unwrap();
    let refusal = start_on(file).await.err().unwrap_or_else(|| panic!("it starts instead of saying {says}"));
    assert!(refusal.to_string().contains(says), "{refusal}");
    assert!(std::fs::read(file).unwrap() == before, "{says}: the file is untouched");
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    const THEIRS: &str = "create table theirs (id integer)";
    const FIRST: &str = "insert into _sqlx_migrations values (1, 'first', 0, true, x'00', 0)";
    const DATED: &str = "insert into _sqlx_migrations values (20260101000000, 'first', 0, true, x'00', 0)";
    if is_postgres() {
        return;
    }
    let programs: [&[&str]; 5] = [
        &[THEIRS],
        // Of sqlx as well: numbered as ours, by date, not begun; and one that only has the name.
        &[THEIRS, SQLX, FIRST],
        &[THEIRS, SQLX, DATED],
        &[THEIRS, SQLX],
        &[THEIRS, "create table _sqlx_migrations (name text)"],
    ];
    for statements in programs {
        let folder = tempfile::tempdir().unwrap();
        left_alone(&file_of(folder.path(), statements).await, "is a database of another program").await;
    }
}

#[tokio::test]
async fn a_database_of_other_releases_is_left_alone() {
    if is_postgres() {
        return;
    }
    for (change, says) in [
        (
            "insert into _sqlx_migrations select 990001, '', 0, success, checksum, 0 from _sqlx_migrations limit 1",
            "newer",
        ),
        (
            "update _sqlx_migrations set checksum = x'00' where version = 2",
            "migration 2 was applied with another content",
        ),
    ] {
        let server = Server::start().await;
        let file = server.folder().join("checkmate.db");
        let server = server.restart_with(|config| config.database = format!("sqlite://{}.new", file.display()).into());
        let server = server.await;
        let mut ours = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
        for statement in ["pragma journal_mode = delete", change] {
            sqlx::raw_sql(statement).execute(&mut ours).await.unwrap();
        }
        ours.close().await.unwrap();
        left_alone(&file, says).await;
        drop(server);
    }
}

#[tokio::test]
async fn a_first_start_that_ended_before_its_first_migration_is_begun_anew() {
    if is_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = file_of(folder.path(), &[SQLX]).await;
    assert!(start_on(&file).await.unwrap().take_bootstrap().is_some());
}

/// A connection that says nothing, or half of something, holds its place for as long as a head may take, and no longer.
#[tokio::test]
async fn silent_connections_are_closed() {
    let server = Server::start_with(|config| config.limits.header_s = 1).await;
    for opening in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
        stream.write_all(opening.as_bytes()).await.unwrap();
        let mut rest = vec![];
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{opening:?} is closed");
    }
}

/// Pages fit what gRPC clients accept by default, and whole lists fit the memory.
#[tokio::test]
async fn answers_are_bounded_in_bytes() {
    let server = Server::start().await;
    let admin = server.admin();
    for _ in 0..40 {
        let metadata = json!({"large": "x".repeat(16_000)});
        let calls: Vec<_> = (0..8)
            .map(|_| admin.json("catalog.createSystem", json!({"name": "large", "metadata": metadata})))
            .collect();
        for call in futures_util::future::join_all(calls).await {
            assert_eq!(call.status, 200);
        }
    }
    let (mut seen, mut input) = (0, json!({"pageSize": 1000}));
    loop {
        let page = admin.grpc("catalog.listSystems", &input).await.expect("a page fits a client's default limit");
        seen += page["systems"].as_array().unwrap().len();
        let Some(token) = page["nextPageToken"].as_str() else { break };
        input["pageToken"] = token.into();
    }
    assert_eq!(seen, 320, "nothing is lost or seen twice");
}

/// Each list is read along an index, not sorted.
#[tokio::test]
async fn every_list_has_an_index_for_its_order() {
    if is_postgres() {
        return;
    }
    let server = Server::start().await;
    let mut raw = Raw::open(&server.config.database).await;
    for list in [
        "explain query plan select * from catalog_system order by id limit 10",
        "explain query plan select * from catalog_system where owner = 'x' order by id limit 10",
        "explain query plan select * from catalog_group order by id limit 10",
        "explain query plan select * from catalog_view order by id limit 10",
        "explain query plan select * from catalog_contact where system_id = x'00' order by id limit 10",
        "explain query plan select * from auth_application order by id limit 10",
        "explain query plan select * from auth_role order by created_at, id limit 10",
    ] {
        let plan = raw.plan(list).await;
        assert!(!plan.contains("TEMP B-TREE") && plan.contains("INDEX"), "{list}: {plan}");
    }
}
