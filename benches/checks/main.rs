//! What the schedule of checks carries: `cargo bench --bench checks`, or `cargo bench --bench checks -- --quick`.
//!
//! The real server, a process of its own on SQLite, runs checks against servers in this process, which count what arrives.
//! Its checks are written into the database before it starts: saving them one by one is another measurement. Figures stand
//! beside the targets they are measured against; nothing here asserts them.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    unreachable_pub,
    reason = "a program that prints figures, whose other files are its own"
)]

mod figures;
mod fill;
#[allow(dead_code, reason = "it belongs to the measurement of speed, which pins its servers")]
#[path = "../speed/process.rs"]
mod process;
mod target;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use figures::Figures;
use fill::Checks;
use process::{Server, cpu_ns};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use target::Target;

/// What the schedule of checks carries.
#[derive(Parser)]
struct Options {
    /// A tenth of everything, for a few seconds: to see that it works
    #[arg(long)]
    quick: bool,
    /// Only one of `http`, `https`, `restart`
    #[arg(long)]
    only: Option<String>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Bench { options, folder: tempfile::tempdir()? }.run())
}

struct Bench {
    options: Options,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn run(self) -> Result<()> {
        println!("{}", machine());
        let wants = |name: &str| self.options.only.as_deref().is_none_or(|only| only == name);
        if wants("http") {
            self.steady("http", 60_000, false).await?;
        }
        if wants("https") {
            self.steady("https", 30_000, true).await?;
        }
        if wants("restart") {
            self.restart(10_000).await?;
        }
        Ok(())
    }

    fn size(&self, count: usize) -> usize {
        if self.options.quick { count / 10 } else { count }
    }

    /// Warm-up, and how long it is measured.
    fn times(&self) -> (Duration, Duration) {
        let seconds = if self.options.quick { (3, 5) } else { (10, 40) };
        (Duration::from_secs(seconds.0), Duration::from_secs(seconds.1))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn server(&self, database: &str, target: &Target) -> Result<Server> {
        let authority = self.file("authority.pem");
        std::fs::write(&authority, target.authority())?;
        let config = self.file("empty.toml");
        std::fs::write(&config, "")?;
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_checkmate")));
        let url = format!("sqlite://{}", self.file(database).display());
        command.args(["serve", "--listen", "127.0.0.1:0", "--database", &url, "--config"]).arg(config);
        // As a certificate that everybody trusts, like nearly every target's.
        Server::start(command.env("SSL_CERT_FILE", authority))
    }

    /// A database with checks, and what an idle server on it takes before there are any, in KiB.
    async fn place(&self, database: &str, target: &Target, checks: &Checks) -> Result<u64> {
        let server = self.server(database, target)?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let idle = server.resident_kib()?;
        server.stop()?;
        checks.fill(&self.file(database)).await?;
        Ok(idle)
    }

    async fn steady(&self, name: &str, count: usize, is_tls: bool) -> Result<()> {
        let (count, (warm, time)) = (self.size(count), self.times());
        let target = Target::start(is_tls)?;
        let checks = Checks { count, interval_s: 30, target: target.urls() };
        let database = format!("{name}.db");
        let idle = self.place(&database, &target, &checks).await?;
        let server = self.server(&database, &target)?;
        tokio::time::sleep(warm).await;
        let (from, cpu, arrived) = (Figures::read(server.address).await?, cpu_ns(server.pid())?, target.arrived());
        let (started, own) = (Instant::now(), cpu_ns(std::process::id())?);
        tokio::time::sleep(time).await;
        let to = Figures::read(server.address).await?;
        let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_ns(server.pid())? - cpu);
        let own = (cpu_ns(std::process::id())? - own) as f64 / 1e9 / took;
        let (arrived, handshakes) = (target.arrived() - arrived, target.whole_handshakes());
        let memory = server.resident_kib()?;
        server.stop()?;
        let stored = fill::stored(&self.file(&database), from.at, to.at).await? as f64;
        ensure!(!is_tls || handshakes >= arrived, "each HTTPS check has a handshake of its own");
        let (runs, rate) = (to.since(&from), count as f64 / checks.interval_s as f64);
        println!(
            "\n{name}: {count} checks every {} s, for {took:.0} s; targets of the issue on the right",
            checks.interval_s
        );
        row(
            "runs stored and evaluated, each second",
            &format!("{:.0}", stored / (to.at - from.at) as f64 * 1e6),
            &format!("{rate:.0}"),
        );
        row("arrivals at the target, each second", &format!("{:.0}", arrived as f64 / took), "");
        row("start lag p50, ms", &format!("{:.1}", runs.lag(0.5)), "");
        row("start lag p99, ms", &format!("{:.1}", runs.lag(0.99)), "50");
        row("share started within 50 ms, %", &format!("{:.2}", runs.within_50_ms() * 100.0), "99");
        row("processor time of the server, cores", &format!("{:.2}", cpu as f64 / 1e9 / took), "1");
        row("memory for each check, KB", &format!("{:.1}", memory.saturating_sub(idle) as f64 / count as f64), "4");
        row(
            "runs not healthy; skipped, missed, overrun",
            &format!("{}; {}", runs.not_healthy(), runs.left_out()),
            "0; 0",
        );
        println!("  server {:.1} MiB; the targets took {own:.2} cores", memory as f64 / 1024.0);
        Ok(())
    }

    async fn restart(&self, count: usize) -> Result<()> {
        const SECONDS: usize = 20;
        let (count, target) = (self.size(count), Target::start(false)?);
        let checks = Checks { count, interval_s: 30, target: target.urls() };
        self.place("restart.db", &target, &checks).await?;
        let server = self.server("restart.db", &target)?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        server.stop()?;
        target.forget();
        let started = Instant::now();
        let server = self.server("restart.db", &target)?;
        let seconds = if self.options.quick { 6 } else { SECONDS };
        tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
        let arrivals = target.since(started);
        drop(server);
        let first = arrivals.first().context("nothing arrived")?;
        let mut each = vec![0_u32; seconds];
        for at in &arrivals {
            if let Some(one) = each.get_mut(at.saturating_sub(*first).as_secs() as usize) {
                *one += 1;
            }
        }
        // The last second is not whole.
        each.pop();
        let (most, mean) = (each.iter().max().copied().unwrap_or(0), count as f64 / checks.interval_s as f64);
        println!("\nrestart with {count} checks every {} s", checks.interval_s);
        row(
            "from the start of the process to the first check, ms",
            &format!("{:.0}", first.as_secs_f64() * 1e3),
            "2000",
        );
        row("most arrivals in a second, over the mean", &format!("{:.2}", f64::from(most) / mean), "3");
        println!("  each second: {each:?}, mean {mean:.0}");
        Ok(())
    }
}

fn row(what: &str, figure: &str, target: &str) {
    println!("  {what:<56} {figure:>12} {target:>8}");
}

/// What else runs here spoils figures, so it is said.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    format!("{cores} cores for the server and its targets together; load before: {load}")
}
