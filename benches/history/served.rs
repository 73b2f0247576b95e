//! The server that is measured.

use crate::postgres::Postgres;
use anyhow::{Context, Result, bail, ensure};
use checkmate::app::App;
use checkmate::config::Config;
use checkmate::database::Timestamp;
use checkmate::transport::Limits;
use checkmate::world::Clock;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// It runs in this process.
pub struct Served {
    pub url: String,
    pub key: String,
    pub http: reqwest::Client,
    database: String,
    file: Option<PathBuf>,
    clock: Arc<AtomicI64>,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<checkmate::error::Result<()>>,
    _folder: tempfile::TempDir,
}

/// What the archive's transactions took.
#[derive(Clone, Debug, Default)]
pub struct Archiving {
    pub count: u64,
    pub sum: f64,
    /// How many took at most so many seconds.
    upto: Vec<(f64, u64)>,
}

impl Archiving {
    /// The upper end of the bucket of the longest since then.
    pub fn longest_ms(&self, before: &Self) -> String {
        let new =
            |place: usize| self.upto.get(place).map_or(0, |one| one.1) - before.upto.get(place).map_or(0, |one| one.1);
        let all = self.count - before.count;
        let found = (0..self.upto.len()).find(|place| new(*place) == all).and_then(|place| self.upto.get(place));
        found.map_or("more than 4096".into(), |(seconds, _)| format!("{:.0}", seconds * 1e3))
    }
}

impl Served {
    pub async fn start(postgres: Option<&Postgres>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("checkmate.db");
        let (database, file) = match postgres {
            Some(postgres) => (postgres.schema(1_000).await?, None),
            None => (format!("sqlite://{}", file.display()), Some(file)),
        };
        let config = Config {
            listen: "127.0.0.1:0".into(),
            database: database.clone().into(),
            drain_timeout: Duration::from_secs(5),
            private_contract: false,
            bootstrap: true,
            instance_key: Some("ab".repeat(32).into()),
            old_instance_keys: vec![],
            limits: Limits { request_s: 120, ..Limits::default() },
            probes: checkmate::probe::Policy::default(),
        };
        // The beginning of an hour, so that runs are in whole ones.
        let now = Clock::system().now().0 / 3_600_000_000 * 3_600_000_000;
        let clock = Arc::new(AtomicI64::new(now));
        let told = clock.clone();
        let listener = TcpListener::bind(&config.listen).await?;
        let clock_of_app = Clock::new(move || Timestamp(told.load(Ordering::SeqCst)));
        let mut app = App::start(config, listener, clock_of_app).await?;
        let key = app.take_bootstrap().context("a key")?.reveal().to_owned();
        let (url, stop) = (format!("http://{}", app.address()), CancellationToken::new());
        let done = tokio::spawn(app.run(stop.clone()));
        Ok(Self { url, key, http: reqwest::Client::new(), database, file, clock, stop, done, _folder: folder })
    }

    pub fn kind(&self) -> &'static str {
        if self.file.is_some() { "SQLite" } else { "PostgreSQL" }
    }

    pub fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    pub fn advance(&self, time: Duration) {
        self.clock.fetch_add(time.as_micros() as i64, Ordering::SeqCst);
    }

    /// One call in JSON.
    pub async fn call(&self, procedure: &str, input: &Value) -> Result<Value> {
        let (plugin, name) = procedure.split_once('.').context("a plugin")?;
        let request = self.http.post(format!("{}/api/{plugin}/{name}", self.url)).bearer_auth(&self.key).json(input);
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status == 200, "{procedure}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// The bytes of an answer.
    pub async fn ask(&self, procedure: &str, input: &Value) -> Result<bytes::Bytes> {
        let (plugin, name) = procedure.split_once('.').context("a plugin")?;
        let request = self.http.post(format!("{}/api/{plugin}/{name}", self.url)).bearer_auth(&self.key).json(input);
        let response = request.send().await?;
        ensure!(response.status() == 200, "{procedure}: {}", response.status());
        Ok(response.bytes().await?)
    }

    async fn metrics(&self) -> Result<String> {
        Ok(self.http.get(format!("{}/metrics", self.url)).send().await?.text().await?)
    }

    pub async fn archiving(&self) -> Result<Archiving> {
        let mut found = Archiving::default();
        for line in
            self.metrics().await?.lines().filter_map(|line| line.strip_prefix("checkmate_history_archiving_seconds"))
        {
            let value = line.rsplit(' ').next().context("a value")?;
            if let Some(bound) = line.strip_prefix("_bucket{le=\"").and_then(|rest| rest.split('"').next()) {
                if let Ok(bound) = bound.parse() {
                    found.upto.push((bound, value.parse()?));
                }
            } else if line.starts_with("_sum") {
                found.sum = value.parse()?;
            } else if line.starts_with("_count") {
                found.count = value.parse()?;
            }
        }
        Ok(found)
    }

    /// Rows that retention has deleted.
    pub async fn swept(&self) -> Result<u64> {
        let text = self.metrics().await?;
        let lines = text.lines().filter(|line| line.starts_with("checkmate_history_swept_rows_total{"));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    pub async fn until_sealed(&self, runs: u64) -> Result<()> {
        let line = format!("checkmate_history_sealed_runs_total {runs}");
        for _ in 0..6_000 {
            if self.metrics().await?.lines().any(|one| one == line) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("it is not sealed: {}", self.metrics().await?)
    }

    /// Waits until nothing of these is too old.
    pub async fn until_swept(&self, checks: &[crate::made::Check]) -> Result<()> {
        let end = Timestamp((self.now() / 86_400_000_000 - 8) * 86_400_000_000).to_string();
        for check in checks {
            let input = serde_json::json!({"systemId": check.system, "configurationId": check.configuration, "endDate": end, "limit": 1});
            for attempt in 0.. {
                if self.call("healthcheck.getHistory", &input).await?["total"] == 0 {
                    break;
                }
                ensure!(attempt < 12_000, "it is not swept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// How large the database is.
    pub async fn bytes(&self) -> Result<u64> {
        let Some(file) = &self.file else {
            use sqlx::Connection as _;
            let mut connection = sqlx::PgConnection::connect(&self.database).await?;
            let size = "select sum(pg_total_relation_size(oid))::bigint from pg_class
                        where relnamespace = current_schema()::regnamespace and relkind = 'r'";
            let (bytes,): (i64,) = sqlx::query_as(size).fetch_one(&mut connection).await?;
            return Ok(bytes as u64);
        };
        // The write-ahead log is folded back as the server goes on.
        Ok(std::fs::metadata(file)?.len())
    }

    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.done.await??;
        Ok(())
    }
}
