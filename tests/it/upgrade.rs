//! A database that an older release wrote is brought up to date with what is in it.

use crate::server::{Server, database_url, is_postgres};
use serde_json::{Value, json};
use sqlx::migrate::{Migration, Migrator};
use sqlx::{Connection, SqlSafeStr};
use std::path::Path;

/// The last migration of the release that the rows below are from.
const OLD: i64 = 6;

const SHOP: &str = "0195f000-0000-7000-8000-000000000001";
const CHECK: &str = "0195f000-0000-7000-8000-000000000002";
const OUTAGE: &str = "0195f000-0000-7000-8000-000000000003";
const WINDOW: &str = "0195f000-0000-7000-8000-000000000005";

/// Rows of that release. `:now` is the time of the test's clock, `:id(…)` an id as the database has it.
const ROWS: &str = "
insert into catalog_system values (:id(SHOP), 'shop', 'shop', null, null, null, :now, :now);
insert into incident values
    (:id(OUTAGE), 'The kiosk is down', null, 'the kiosk is down', 'major', 'investigating', true, false,
     'application', 'ci', 'CI', :now, :now, null);
insert into incident_system values (:id(OUTAGE), :id(SHOP), true, :now);
insert into incident_update values
    (:id(OUTAGE), 1, :id(0195f000-0000-7000-8000-000000000004), 'We are looking', 'investigating',
     'application', 'ci', 'CI', :now);
insert into maintenance values
    (:id(WINDOW), 'New disks', null, 'new disks', 'scheduled', false, :now + 3600000000, :now + 7200000000, null, null,
     'application', 'ci', 'CI', :now, :now);
insert into maintenance_system values (:id(WINDOW), :id(SHOP), true);
update healthcheck_counter set last = 1;
insert into healthcheck_check values
    (:id(CHECK), 'port', 'port', null, 'tcp', '{\"host\": \"127.0.0.1\", \"port\": 1}', null, '[]', 86400, 1000, 0, 100,
     null, true, null, :now, :now);
insert into healthcheck_association values (1, :id(CHECK), :id(SHOP), true, null, null, :now, :now);
insert into healthcheck_state values (1, 'healthy', :now - 7200000000, 'hh', :now - 10000000, :now - 10000000, null);
insert into healthcheck_run values
    (1, :now - 7200000000, 0, 'healthy', 1500, null, :id(0195f000-0000-7000-8000-000000000006)),
    (1, :now - 10000000, 0, 'healthy', 2500, null, :id(0195f000-0000-7000-8000-000000000006));
";

fn rows(now: i64) -> String {
    let mut text = ROWS.replace(":now", &now.to_string());
    for (name, id) in [("SHOP", SHOP), ("CHECK", CHECK), ("OUTAGE", OUTAGE), ("WINDOW", WINDOW)] {
        text = text.replace(&format!(":id({name})"), &format!(":id({id})"));
    }
    while let Some((before, rest)) = text.split_once(":id(") {
        let (id, after) = rest.split_once(')').unwrap();
        let id = if is_postgres() { format!("'{id}'") } else { format!("x'{}'", id.replace('-', "")) };
        text = format!("{before}{id}{after}");
    }
    text
}

/// A database as the old release left it.
async fn old_database(url: &str, rows: String) {
    let all = Migrator::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations")).await.unwrap();
    let old: Vec<Migration> = all.iter().filter(|one| one.version <= OLD).cloned().collect();
    assert_eq!(old.len(), usize::try_from(OLD).unwrap());
    let old = Migrator::with_migrations(old);
    #[expect(clippy::disallowed_methods, reason = "the rows of this file")]
    let rows = sqlx::AssertSqlSafe(rows).into_sql_str();
    if is_postgres() {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        old.run(&mut connection).await.unwrap();
        sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = sqlx::SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
        old.run(&mut connection).await.unwrap();
        sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_an_older_release_wrote_is_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let url = database_url(folder.path().join("old.db")).await;
    let now = 1_767_624_767_000_000;
    old_database(&url, rows(now)).await;
    let server = Server::start_with(|config| config.database = url.clone().into()).await;
    let admin = server.admin();

    let found = admin.call("incident.listIncidents", json!({"pageSize": 10, "textContains": "KIOSK"})).await;
    assert_eq!(found["incidents"][0]["id"], json!(OUTAGE), "its text is found: {found}");
    let one = admin.call("incident.getIncident", json!({"id": OUTAGE})).await;
    assert_eq!((&one["systemIds"], one["updates"].as_array().map(Vec::len)), (&json!([SHOP]), Some(1)), "{one}");
    let open = admin.call("incident.getBulkIncidentsForSystems", json!({"systemIds": [SHOP]})).await;
    assert_eq!(open["incidents"][SHOP][0]["id"], json!(OUTAGE), "{open}");
    let planned = admin.call("maintenance.getBulkMaintenancesForSystems", json!({"systemIds": [SHOP]})).await;
    assert_eq!(planned["maintenances"][SHOP][0]["id"], json!(WINDOW), "{planned}");
    let new = json!({"title": "Kiosks again", "systemIds": [SHOP], "severity": "minor"});
    admin.call("incident.createIncident", new).await;
    let found = admin.call("incident.listIncidents", json!({"pageSize": 10, "textContains": "kiosk"})).await;
    assert_eq!(found["incidents"].as_array().map(Vec::len), Some(2), "what is new goes on after it: {found}");

    let status = admin.call("healthcheck.getSystemHealthStatus", json!({"systemId": SHOP})).await;
    assert_eq!(status["checkStatuses"][0]["runsConsidered"], json!(2), "{status}");
    let of = json!({"systemId": SHOP, "configurationId": CHECK});
    let latencies = async || {
        let found = admin.call("healthcheck.getHistory", of.clone()).await;
        let runs = found["runs"].as_array().cloned().unwrap_or_default();
        runs.iter().map(|run: &Value| run["latencyMs"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(latencies().await, [json!(2.5), json!(1.5)]);
    server.clock.advance(std::time::Duration::from_hours(3));
    crate::cluster::until("its runs are sealed", crate::checked::PATIENCE, async || {
        crate::checked::metric(&admin, "history_sealed_runs_total").await == 2
    })
    .await;
    assert_eq!(latencies().await, [json!(2.5), json!(1.5)]);
    let uptime = admin.call("healthcheck.getUptime", of.clone()).await;
    assert_eq!(uptime["checks"][0]["runRatioPercent"], json!(100.0), "{uptime}");
    let window = admin.call("maintenance.getMaintenance", json!({"id": WINDOW})).await;
    assert_eq!(window["status"], "completed", "{window}");
}
