//! The checks of a measurement, straight into a database that a server has made.

use anyhow::Result;
use checkmate::probe::assertion::Assertion;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use std::path::Path;
use uuid::Uuid;

/// Rows of one statement.
const AT_ONCE: usize = 5_000;

/// Checks of one system.
const EACH: usize = 100;

/// Checks of the kind `http`, each of one system.
pub struct Checks {
    pub count: usize,
    pub interval_s: i64,
    /// They take turns.
    pub target: Vec<String>,
}

impl Checks {
    pub async fn fill(&self, database: &Path) -> Result<()> {
        let mut connection = open(database).await?;
        let systems: Vec<_> = (0..self.count.div_ceil(EACH)).map(|_| Uuid::now_v7()).collect();
        let rows =
            systems.iter().enumerate().map(|(place, id)| json!([id.simple().to_string(), format!("system {place}")]));
        let insert = "insert into catalog_system (id, name, name_folded, metadata, created_at, updated_at)
                      select unhex(value ->> 0), value ->> 1, value ->> 1, '{}', 0, 0 from json_each($1)";
        sqlx::query(insert).bind(Value::from(rows.collect::<Vec<_>>()).to_string()).execute(&mut connection).await?;
        let places: Vec<_> = (0..self.count).collect();
        for some in places.chunks(AT_ONCE) {
            self.add(&mut connection, some, &systems).await?;
        }
        let last = i64::try_from(self.count)?;
        sqlx::query("update healthcheck_counter set last = $1").bind(last).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    async fn add(&self, connection: &mut SqliteConnection, places: &[usize], systems: &[Uuid]) -> Result<()> {
        let assertion = json!([{"field": "statusCode", "operator": "equals", "value": 200}]);
        let assertions = serde_json::to_string(&serde_json::from_value::<Vec<Assertion>>(assertion)?)?;
        let (mut checks, mut associations) = (vec![], vec![]);
        for place in places {
            let id = Uuid::now_v7().simple().to_string();
            let url = self.target.get(place % self.target.len()).cloned().unwrap_or_default();
            let config = json!({"url": format!("{url}/health/of/service/{place}")}).to_string();
            checks.push(json!([id, format!("check {place}"), config, assertions, self.interval_s]));
            let system = systems.get(place / EACH).map(|id| id.simple().to_string());
            associations.push(json!([place + 1, id, system]));
        }
        let insert = "insert into healthcheck_check
                          (id, name, name_folded, strategy_id, config, assertions, interval_s, timeout_ms, retries,
                           retry_backoff_ms, paused, created_at, updated_at)
                      select unhex(value ->> 0), value ->> 1, value ->> 1, 'http', value ->> 2, value ->> 3, value ->> 4,
                             10000, 0, 1000, false, 0, 0
                      from json_each($1)";
        sqlx::query(insert).bind(Value::from(checks).to_string()).execute(&mut *connection).await?;
        let insert =
            "insert into healthcheck_association (number, check_id, system_id, enabled, created_at, updated_at)
                      select value ->> 0, unhex(value ->> 1), unhex(value ->> 2), true, 0, 0 from json_each($1)";
        let associations = Value::from(associations).to_string();
        sqlx::query(insert).bind(&associations).execute(&mut *connection).await?;
        let insert = "insert into healthcheck_archive (association, upto, raw_from, hour_from, stored, swept_on)
                      select value ->> 0, 0, 0, 0, 0, 0 from json_each($1)";
        sqlx::query(insert).bind(&associations).execute(&mut *connection).await?;
        Ok(())
    }
}

/// How many runs are stored that were due in this time, in microseconds.
pub async fn stored(database: &Path, from: i64, to: i64) -> Result<i64> {
    let mut connection = open(database).await?;
    let count = "select count(*) from healthcheck_run where scheduled_at >= $1 and scheduled_at < $2";
    let (count,): (i64,) = sqlx::query_as(count).bind(from).bind(to).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(count)
}

async fn open(database: &Path) -> Result<SqliteConnection> {
    Ok(SqliteConnection::connect(&format!("sqlite://{}", database.display())).await?)
}
