//! How fast reading is: `cargo bench --bench speed`, or with `-- --quick --only "100 sqlite"`.
//!
//! The real server answers `getSystems` with key, permissions and database, beside bare handlers that serialise the same
//! list from memory, on the same machine in the same run. Servers have a core, the load has another; rounds alternate
//! between all of them, and figures are medians of the rounds. A wrong answer ends the run. Nothing here asserts times.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    unreachable_pub,
    reason = "a program that prints figures, whose other files are its own"
)]

mod baseline;
mod data;
mod gate;
mod incidents;
mod load;
mod postgres;
mod process;
mod report;
mod rows;

use anyhow::{Context, Result};
use clap::Parser;
use postgres::Postgres;
use process::{Cores, Server};
use report::{Row, Table};
use rows::{WAYS, Way};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [10, 100, 1_000];

/// What the access check and the catalog are filled with, to see that they cost the same.
const MANY: usize = 100_000;

/// Speed of reading, beside bare handlers.
#[derive(Parser)]
struct Options {
    /// One short round: to see that it works
    #[arg(long)]
    quick: bool,
    /// Only rows whose name contains this, and what they are compared with
    #[arg(long, default_value = "")]
    only: String,
    /// Measure each row for so many seconds in one round: for a profiler
    #[arg(long)]
    seconds: Option<u64>,
    /// Be a baseline instead: `axum` or `tonic`, and how many systems
    #[arg(long, num_args = 2, hide = true)]
    serve: Option<Vec<String>>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some([kind, count]) = options.serve.as_deref() {
        // As many workers as there are cores to run on, like the server.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(baseline::serve(kind, count.parse()?));
    }
    let cores = Cores::take();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(Bench::run(options, cores))
}

struct Bench {
    options: Options,
    cores: Cores,
    folder: tempfile::TempDir,
    started: Instant,
    table: Table,
}

/// A database with systems in it, and a key to read them.
struct Place {
    url: String,
    key: String,
    first_start: Duration,
}

impl Bench {
    async fn run(options: Options, cores: Cores) -> Result<()> {
        let (folder, started) = (tempfile::tempdir()?, Instant::now());
        let mut bench = Self { options, cores, folder, started, table: Table::default() };
        println!("{}; {} connections", cores.words(), load::CONNECTIONS);
        let postgres = Postgres::find(cores);
        match &postgres {
            Ok(found) => println!("PostgreSQL: {}", found.words()),
            Err(why) => println!("PostgreSQL: not measured: {why:#}"),
        }
        for size in SIZES {
            bench.size(size, postgres.as_ref().ok()).await?;
        }
        bench.many().await?;
        bench.incidents().await?;
        println!("\n{}\nafter {} s", bench.table, bench.started.elapsed().as_secs());
        Ok(())
    }

    fn say(&self, what: &str) {
        println!("[{:>4} s] {what}", self.started.elapsed().as_secs());
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.options.only)
    }

    /// Warm-up, time, and rounds of each row.
    fn times(&self) -> (Duration, Duration, usize) {
        match (self.options.seconds, self.options.quick) {
            (Some(seconds), _) => (Duration::from_millis(200), Duration::from_secs(seconds), 1),
            (None, true) => (Duration::from_millis(150), Duration::from_millis(500), 1),
            // Three rounds of a second each see the same 3 s as one, and a disturbance spoils one of them only.
            (None, false) => (Duration::from_millis(300), Duration::from_secs(1), 3),
        }
    }

    fn settings(&self) -> Result<(PathBuf, PathBuf)> {
        let (kept, anew) = (self.folder.path().join("kept.toml"), self.folder.path().join("anew.toml"));
        std::fs::write(&kept, "")?;
        std::fs::write(&anew, "[limits]\nreply_cache_bytes = 0\n")?;
        Ok((kept, anew))
    }

    fn server(&self, url: &str, config: &Path) -> Result<Server> {
        let mut command = self.cores.command(Path::new(env!("CARGO_BIN_EXE_checkmate")));
        command.args(["serve", "--listen", "127.0.0.1:0", "--database", url, "--config"]).arg(config);
        Server::start(command.env("CHECKMATE_INSTANCE_KEY", gate::INSTANCE_KEY))
    }

    fn baseline(&self, kind: &str, count: usize) -> Result<Server> {
        let mut command: Command = self.cores.command(&std::env::current_exe()?);
        Server::start(command.args(["--serve", kind, &count.to_string()]))
    }

    /// An empty database that a first start has made, with an application that may read, and then rows.
    async fn place(&self, url: String, count: usize) -> Result<Place> {
        let (kept, _) = self.settings()?;
        let server = self.server(&url, &kept)?;
        let admin = server.key.clone().context("a first start prints a key")?;
        let new = json!({"createApplication": {"name": "load", "roles": ["reader"]}}).to_string();
        let (_, made) = load::once(server.address, &load::Ask::post("/api/auth/", &admin, &new)).await?;
        let made: serde_json::Value = serde_json::from_slice(&made)?;
        let key = made.pointer("/createApplication/secret").and_then(|key| key.as_str()).context("a key")?.to_owned();
        let first_start = server.ready;
        server.stop()?;
        let mut store = data::Store::open(&url).await?;
        store.fill(count).await?;
        store.close().await?;
        Ok(Place { url, key, first_start })
    }

    fn sqlite(&self, name: &str) -> String {
        format!("sqlite://{}", self.folder.path().join(name).display())
    }

    /// Everything with so many systems.
    async fn size(&mut self, size: usize, postgres: Option<&Postgres>) -> Result<()> {
        let of = |server: &str, way: Way| format!("{size:>4} {server:<19} {}", way.name());
        let anything = ["axum", "tonic", "sqlite kept", "sqlite read anew", "postgres kept", "postgres read anew"];
        if !anything.iter().any(|server| WAYS.iter().any(|way| self.wants(&of(server, *way)))) {
            return Ok(());
        }
        self.say(&format!("{size} systems"));
        let (kept, anew) = self.settings()?;
        let place = self.place(self.sqlite(&format!("{size}.db")), size).await?;
        // SQLite has one server for each file.
        let (from, to) = (format!("{size}.db"), format!("{size}-anew.db"));
        std::fs::copy(self.folder.path().join(from), self.folder.path().join(&to))?;
        let mut servers = vec![
            ("axum", self.baseline("axum", size)?, String::from("none"), vec![Way::BatchOfOne]),
            ("tonic", self.baseline("tonic", size)?, String::from("none"), vec![Way::Grpc]),
            ("sqlite kept", self.server(&place.url, &kept)?, place.key.clone(), WAYS.to_vec()),
            ("sqlite read anew", self.server(&self.sqlite(&to), &anew)?, place.key.clone(), WAYS.to_vec()),
        ];
        if size == 100 {
            self.starts(&place).await?;
        }
        if let Some(postgres) = postgres {
            let place = self.place(postgres.schema(size).await?, size).await?;
            // What is kept is the same whatever it was read from.
            let ways = vec![Way::BatchOfOne, Way::Grpc];
            servers.push(("postgres kept", self.server(&place.url, &kept)?, place.key.clone(), ways.clone()));
            servers.push(("postgres read anew", self.server(&place.url, &anew)?, place.key, ways));
        }
        let (warm, time, rounds) = self.times();
        let mut rows = vec![];
        for (name, server, key, ways) in &servers {
            for way in ways.iter().filter(|way| matches!(*name, "axum" | "tonic") || self.wants(&of(name, **way))) {
                let (ask, bytes) = way.checked(server.address, key, size).await?;
                let against = (!matches!(*name, "axum" | "tonic"))
                    .then(|| if *way == Way::Grpc { of("tonic", Way::Grpc) } else { of("axum", Way::BatchOfOne) });
                rows.push((Row::new(of(name, *way), bytes, against), server, ask));
            }
        }
        self.say(&format!("{size} systems: all answers are right; {} rows", rows.len()));
        for _ in 0..rounds {
            // The baselines once more at the end: what is compared stands on both sides of what it is compared with.
            let order = (0..rows.len()).chain(0..2);
            for place in order {
                let (row, server, ask) = rows.get_mut(place).context("a row")?;
                row.add(load::run(server.address, server.pid(), ask, warm, time).await?);
            }
        }
        self.table.rows.extend(rows.into_iter().map(|(row, ..)| row));
        Ok(())
    }

    /// How long a start takes, and what a server takes that has nothing to do.
    async fn starts(&mut self, place: &Place) -> Result<()> {
        const STARTS: usize = 5;
        let name = "starts.db";
        let from = place.url.strip_prefix("sqlite://").context("a file")?;
        std::fs::copy(from, self.folder.path().join(name))?;
        let (mut times, mut memory) = (vec![], vec![]);
        for _ in 0..STARTS {
            let server = self.server(&self.sqlite(name), &self.settings()?.0)?;
            times.push(server.ready.as_secs_f64() * 1e3);
            tokio::time::sleep(Duration::from_millis(300)).await;
            memory.push(server.resident_kib()? as f64 / 1024.0);
            server.stop()?;
        }
        self.table.notes.push(format!(
            "start to ready: {:.0} ms (first start, with the first key hashed: {:.0} ms); resident memory idle: {:.1} MiB",
            report::median(&mut times),
            place.first_start.as_secs_f64() * 1e3,
            report::median(&mut memory)
        ));
        Ok(())
    }

    /// Pages and bulk calls of very many incidents, each read from the database.
    async fn incidents(&mut self) -> Result<()> {
        if !self.wants("incidents") {
            return Ok(());
        }
        let place = self.place(self.sqlite("incidents.db"), incidents::SYSTEMS).await?;
        self.say(&format!("adding {} incidents", incidents::INCIDENTS));
        incidents::fill(&place.url).await?;
        let server = self.server(&place.url, &self.settings()?.1)?;
        for (name, median, p95) in incidents::measure(server.address, &place.key).await? {
            let verdict = if p95 < incidents::AIM_MS { "pass" } else { "FAIL" };
            self.table.notes.push(format!(
                "{verdict}: {} incidents, {name}: median {median:.1} ms, p95 {p95:.1} of {} ms",
                incidents::INCIDENTS,
                incidents::AIM_MS
            ));
        }
        Ok(())
    }

    /// The same with very many applications and systems.
    async fn many(&mut self) -> Result<()> {
        let of = |count: usize, server: &str, way: &str| format!("{count:>4} {server:<19} {way}");
        let gate_name = "gate: authentication and permissions";
        if !self.wants(gate_name) && !self.wants(&of(MANY, "sqlite kept", Way::Page.name())) {
            return Ok(());
        }
        let (warm, time, rounds) = self.times();
        let (few, many) =
            (self.place(self.sqlite("few.db"), 100).await?, self.place(self.sqlite("many.db"), 100).await?);
        let few_keys = gate::add(&few.url, 1).await?;
        self.say(&format!("adding {MANY} applications"));
        let many_keys = gate::add(&many.url, MANY).await?;
        self.say(&format!("adding {MANY} systems"));
        let mut store = data::Store::open(&many.url).await?;
        store.add_systems(100, MANY).await?;
        store.close().await?;
        self.say("the access check");
        for (place, keys) in [(&few, &few_keys), (&many, &many_keys)] {
            let cost = gate::measure(&place.url, keys, time).await?;
            self.table.notes.push(format!(
                "{gate_name}, {} application(s): {:.2} µs a call with one key, {:.2} µs with another one each time; \
                 read in {:.0} ms",
                keys.len(),
                cost.one_key,
                cost.every_key,
                cost.load.as_secs_f64() * 1e3
            ));
        }
        let (kept, anew) = self.settings()?;
        let copy = |from: &str, to: &str| std::fs::copy(self.folder.path().join(from), self.folder.path().join(to));
        copy("few.db", "few-anew.db")?;
        copy("many.db", "many-anew.db")?;
        let servers = [
            (100, "sqlite kept", self.server(&few.url, &kept)?, &few.key),
            (100, "sqlite read anew", self.server(&self.sqlite("few-anew.db"), &anew)?, &few.key),
            (MANY, "sqlite kept", self.server(&many.url, &kept)?, &many.key),
            (MANY, "sqlite read anew", self.server(&self.sqlite("many-anew.db"), &anew)?, &many.key),
        ];
        let mut rows = vec![];
        for (count, name, server, key) in &servers {
            let (ask, bytes) = Way::Page.checked(server.address, key, *count).await?;
            let against = (*count == MANY).then(|| of(100, name, Way::Page.name()));
            rows.push((Row::new(of(*count, name, Way::Page.name()), bytes, against), server, ask));
            if *count == MANY && *name == "sqlite kept" {
                self.table.notes.push(format!(
                    "with {MANY} applications and {MANY} systems: start to ready {:.0} ms, resident memory {:.1} MiB",
                    server.ready.as_secs_f64() * 1e3,
                    server.resident_kib()? as f64 / 1024.0
                ));
            }
        }
        for _ in 0..rounds {
            for (row, server, ask) in &mut rows {
                row.add(load::run(server.address, server.pid(), ask, warm, time).await?);
            }
        }
        self.table.rows.extend(rows.into_iter().map(|(row, ..)| row));
        Ok(())
    }
}
