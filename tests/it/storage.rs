//! What is kept: restarts, replicas, the instance key, the change feed, and who sees it when.

use crate::dynamic::{methods, procedure};
use crate::raw::Raw;
use crate::samples::Fixture;
use crate::server::{Caller, Server, database_url, is_postgres};
use checkmate::app::App;
use checkmate::config::Config;
use checkmate::contract::method_named;
use checkmate::transport::Limits;
use checkmate::world::Clock;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Changes from elsewhere are seen within this.
const SEEN_WITHIN: Duration = Duration::from_millis(250);

fn config(database: &str) -> Config {
    Config {
        listen: "127.0.0.1:0".into(),
        database: database.to_owned().into(),
        drain_timeout: Duration::from_secs(5),
        private_contract: false,
        bootstrap: true,
        instance_key: Some("ab".repeat(32).into()),
        old_instance_keys: vec![],
        limits: Limits { database_connections: 4, ..Limits::default() },
        probes: checkmate::probe::Policy::default(),
    }
}

async fn start(config: Config) -> checkmate::error::Result<App> {
    let listener = TcpListener::bind(&config.listen).await.unwrap();
    App::start(config, listener, Clock::system()).await
}

/// Why a server does not start.
async fn refusal(config: Config) -> String {
    start(config).await.err().expect("the server is refused").to_string()
}

async fn everything(admin: &Caller) -> Vec<Value> {
    let mut all = vec![];
    for query in ["catalog.getEntities", "catalog.getViews", "auth.getRoles", "auth.getApplications"] {
        all.push(admin.call(query, json!({})).await);
    }
    all
}

#[tokio::test]
async fn data_survives_a_restart() {
    let server = Server::start().await;
    Fixture::of_things(&server).await;
    let before = everything(&server.admin()).await;
    let server = server.restart_with(|_| {}).await;
    assert_eq!(everything(&server.admin()).await, before);
}

#[tokio::test]
async fn a_later_start_makes_no_key() {
    let server = Server::start().await;
    let reader = server.reader().await;
    // The harness keeps the first key; a second one would take its place, and `bootstrap` would exist twice.
    let server = server.restart_with(|_| {}).await;
    let applications = server.admin().call("auth.listApplications", json!({"nameContains": "bootstrap"})).await;
    assert_eq!(applications["applications"].as_array().unwrap().len(), 1);
    let reader = server.with_key(reader.key.as_deref());
    assert_eq!(reader.json("catalog.getSystems", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_second_server_on_the_same_file_is_refused_in_words_and_changes_nothing() {
    if is_postgres() {
        return;
    }
    let server = Server::start().await;
    let files = || {
        let read = |name: &str| std::fs::read(server.folder().join(name)).unwrap();
        (read("checkmate.db"), read("checkmate.db-wal"))
    };
    let before = files();
    let why = refusal(server.config.clone()).await;
    assert!(why.contains("another server is running on") && why.contains("checkmate.db"), "{why}");
    assert!(files() == before, "the file was touched");
}

#[tokio::test]
async fn replicas_that_start_at_once_on_an_empty_database_make_one_key() {
    if !is_postgres() {
        return;
    }
    let url = database_url("unused".into()).await;
    let starts: Vec<_> = (0..4).map(|_| tokio::spawn(start(config(&url)))).collect();
    let mut apps = vec![];
    for start in starts {
        apps.push(start.await.unwrap().expect("every replica starts"));
    }
    let keys = apps.iter_mut().filter_map(App::take_bootstrap).count();
    let mut raw = Raw::open(&url).await;
    let rows =
        (raw.count("select count(*) from auth_application").await, raw.count("select count(*) from auth_role").await);
    assert_eq!((keys, rows), (1, (1, 6)));
}

#[tokio::test]
async fn a_database_newer_than_the_binary_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let url = database_url(folder.path().join("checkmate.db")).await;
    drop(Server::start_with(|config| config.database = url.clone().into()).await);
    let migration = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                     select 990001, 'from the future', success, checksum, 0 from _sqlx_migrations where version = 1";
    Raw::open(&url).await.execute(migration).await;
    let why = refusal(config(&url)).await;
    assert!(why.contains("newer than this binary") && why.contains("990001"), "{why}");
}

#[tokio::test]
async fn a_key_outlives_the_instance_key_and_gets_a_new_tag() {
    let server = Server::start().await;
    let old = server.reader().await;
    let id = old.call("auth.whoAmI", json!({})).await["id"].clone();
    let new = server.admin().call("auth.regenerateApplicationSecret", id).await["secret"].as_str().unwrap().to_owned();
    let url = server.config.database.clone();
    let tags =
        "select coalesce(tag_key, '') || ' ' || coalesce(tag, '') from auth_application where name = 'test reader'";
    let before = Raw::open(&url).await.text(tags).await;

    let server = server.restart_with(|config| config.instance_key = Some("cd".repeat(32).into())).await;

    let (wrong, right) = (server.with_key(old.key.as_deref()), server.with_key(Some(&new)));
    // Before there is a tag, Argon2 decides; afterwards the tag does.
    for _ in 0..2 {
        wrong.json("catalog.getSystems", json!({})).await.refused(401, "UNAUTHORIZED", "Invalid API key");
        assert_eq!(right.json("catalog.getSystems", json!({})).await.status, 200);
    }
    let after = Raw::open(&url).await.text(tags).await;
    let (before, after) = (before.split_once(' ').unwrap(), after.split_once(' ').unwrap());
    assert!(before.0 != after.0 && before.1 != after.1 && !after.1.is_empty(), "{before:?} {after:?}");
}

#[tokio::test]
async fn the_instance_key_is_made_once_for_its_owner_only() {
    if is_postgres() {
        return;
    }
    let server = Server::start_with(|config| config.instance_key = None).await;
    let path = server.folder().join("checkmate.db.key");
    let made = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(made.trim().len() == 64 && made.trim().bytes().all(|byte| byte.is_ascii_hexdigit()));

    let server = server.restart_with(|_| {}).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), made);
    assert_eq!(server.admin().json("auth.whoAmI", json!({})).await.status, 200);
}

#[tokio::test]
async fn postgresql_without_an_instance_key_is_refused_in_words() {
    if !is_postgres() {
        return;
    }
    let why = refusal(Config { instance_key: None, ..config(&database_url("unused".into()).await) }).await;
    assert!(why.contains("CHECKMATE_INSTANCE_KEY"), "{why}");
}

/// Every row of the feed: sequence, plugin, kind, who.
async fn feed(url: &str) -> Vec<(i64, String)> {
    let rows = "select sequence, plugin || ' ' || kind || ' by ' || made_by from change order by sequence";
    Raw::open(url).await.rows(rows).await
}

#[tokio::test]
async fn every_mutation_appends_one_change() {
    let server = Server::start().await;
    let (fixture, admin) = (Fixture::of_things(&server).await, server.admin());
    let me = admin.call("auth.whoAmI", json!({})).await["id"].as_str().unwrap().to_owned();
    for method in methods() {
        let name = procedure(&method);
        let (plugin, short) = name.split_once('.').unwrap();
        let before = feed(&server.config.database).await;
        let answer = admin.json(&name, fixture.sample(&name)).await;
        let after = feed(&server.config.database).await;

        let is_change = answer.status == 200 && !method_named(plugin, short).unwrap().query;
        let added = &after[before.len()..];
        // Changes of status that follow from it are told beside it.
        let (follows, own): (Vec<_>, Vec<_>) =
            added.iter().partition(|(_, what)| what.starts_with("healthcheck.status "));
        assert_eq!(own.len(), usize::from(is_change && name != "healthcheck.testHealthCheck"), "{name}: {added:?}");
        assert!(follows.is_empty() || plugin == "healthcheck", "{name}: {added:?}");
        for (place, (sequence, _)) in added.iter().enumerate() {
            assert_eq!(*sequence, before.last().unwrap().0 + 1 + i64::try_from(place).unwrap(), "{name}");
        }
        for (_, what) in own.into_iter().filter(|(_, what)| !what.starts_with("healthcheck.run ")) {
            assert!(what.starts_with(&format!("{plugin} ")) && what.contains(&me), "{name}: {what}");
        }
    }
}

#[tokio::test]
async fn what_changes_nothing_appends_nothing() {
    let server = Server::start().await;
    let (fixture, admin, reader) = (Fixture::of_things(&server).await, server.admin(), server.reader().await);
    let member = json!({"groupId": fixture.group, "systemId": fixture.system});
    admin.call("catalog.addSystemToGroup", member.clone()).await;
    let removed = json!({"groupId": fixture.doomed_group, "systemId": fixture.system});
    let before = feed(&server.config.database).await;
    let cases = [
        (&admin, "catalog.addSystemToGroup", member, 200),
        (&admin, "catalog.removeSystemFromGroup", removed, 200),
        (&admin, "catalog.createSystem", json!({"name": ""}), 400),
        (&admin, "catalog.deleteSystem", json!(uuid::Uuid::now_v7().to_string()), 404),
        (&admin, "auth.createApplication", json!({"name": "x", "roles": ["nope"]}), 404),
        (&reader, "catalog.createSystem", json!({"name": "x"}), 403),
    ];
    for (caller, procedure, input, status) in cases {
        assert_eq!(caller.json(procedure, input).await.status, status, "{procedure}");
        assert_eq!(feed(&server.config.database).await, before, "{procedure}");
    }
}

#[tokio::test]
async fn changes_at_once_are_numbered_without_gaps() {
    let server = Server::start().await;
    let other = if is_postgres() { Some(server.replica().await) } else { None };
    let callers = [server.admin(), other.as_ref().unwrap_or(&server).admin()];
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let caller = callers[n % 2].clone();
            tokio::spawn(async move { caller.call("catalog.createSystem", json!({"name": format!("{n}")})).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let sequences: Vec<_> = feed(&server.config.database).await.into_iter().map(|(sequence, _)| sequence).collect();
    let last = i64::try_from(sequences.len()).unwrap();
    assert_eq!(sequences, (1..=last).collect::<Vec<_>>());
    assert!(last >= 40);
}

#[tokio::test]
async fn a_key_replaced_on_one_replica_stops_working_on_the_other() {
    if !is_postgres() {
        return;
    }
    let here = Server::start().await;
    let there = here.replica().await;
    let key = here.reader().await;
    let id = key.call("auth.whoAmI", json!({})).await["id"].clone();

    let new = there.admin().call("auth.regenerateApplicationSecret", id).await;

    let replaced = Instant::now();
    loop {
        let asked = replaced.elapsed();
        let answer = key.json("catalog.getSystems", json!({})).await;
        if answer.status == 401 {
            break;
        }
        assert!(asked < SEEN_WITHIN, "the old key still works after {asked:?}");
    }
    let new = here.with_key(new["secret"].as_str());
    assert_eq!(new.json("catalog.getSystems", json!({})).await.status, 200);
}
