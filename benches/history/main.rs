//! How large a history is and how fast it is told: `cargo bench --bench history`, or with `-- --runs 5000000`, and
//! `-- --postgres` for PostgreSQL.
//!
//! The real server in this process, with a clock of ours; runs go in through `importRuns` over gRPC and questions through
//! JSON, with a key, over loopback. A wrong answer ends the run. Nothing here asserts times.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    unreachable_pub,
    dead_code,
    reason = "a program that prints figures, whose other files are its own, and some of which it shares"
)]

mod made;
#[path = "../speed/postgres.rs"]
mod postgres;
#[path = "../speed/process.rs"]
mod process;
mod questions;
mod served;

use anyhow::Result;
use clap::Parser;
use made::Plan;
use served::Served;
use std::time::{Duration, Instant};

/// Size and speed of history.
#[derive(Parser)]
pub struct Options {
    /// How many runs, about
    #[arg(long, default_value_t = 100_000_000)]
    runs: u64,
    /// On PostgreSQL instead of SQLite: a cluster of its own, or `BENCH_DATABASE_URL`
    #[arg(long)]
    postgres: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(Options::parse()))
}

async fn run(options: Options) -> Result<()> {
    let postgres = if options.postgres { Some(postgres::Postgres::find(process::Cores::anywhere())?) } else { None };
    let served = Served::start(postgres.as_ref()).await?;
    let plan = Plan::of(options.runs);
    println!("{}: {}", served.kind(), plan.words());
    let started = Instant::now();
    let checks = made::checks(&served).await?;
    let imported = made::import(&served, &plan, &checks).await?;
    let took = started.elapsed();
    println!(
        "imported {imported} runs in {:.0} s: {:.0} runs/s",
        took.as_secs_f64(),
        imported as f64 / took.as_secs_f64()
    );
    let sealed = seal(&served, &checks).await?;
    let bytes = served.bytes().await?;
    let all = imported + sealed;
    println!("size {:.0} MB: {:.2} bytes a run all in (aim: at most 6)", bytes as f64 / 1e6, bytes as f64 / all as f64);
    questions::ask(&served, &plan, &checks, all).await?;
    forget(&served, &checks).await?;
    served.stop().await
}

/// The last two hours of all checks, which are rows, become chunks.
async fn seal(served: &Served, checks: &[made::Check]) -> Result<u64> {
    let rows = made::import_recent(served, checks).await?;
    let before = served.archiving().await?;
    served.advance(Duration::from_hours(3));
    let started = Instant::now();
    served.until_sealed(rows).await?;
    let (took, after) = (started.elapsed(), served.archiving().await?);
    println!(
        "sealed {rows} runs of {} checks in {:.1} s, {} transactions of {:.1} ms in the mean, the longest up to {} ms",
        checks.len(),
        took.as_secs_f64(),
        after.count - before.count,
        1e3 * (after.sum - before.sum) / (after.count - before.count).max(1) as f64,
        after.longest_ms(&before),
    );
    Ok(rows)
}

/// All but a week of single runs and hours goes.
async fn forget(served: &Served, checks: &[made::Check]) -> Result<()> {
    let before = served.archiving().await?;
    let rows_before = served.swept().await?;
    made::keep(served, checks, 7, 8).await?;
    served.advance(Duration::from_hours(24));
    let started = Instant::now();
    served.until_swept(checks).await?;
    let (took, after, rows) = (started.elapsed(), served.archiving().await?, served.swept().await? - rows_before);
    println!(
        "retention deleted {rows} rows in {:.1} s, {} transactions of {:.1} ms in the mean, the longest up to {} ms",
        took.as_secs_f64(),
        after.count - before.count,
        1e3 * (after.sum - before.sum) / (after.count - before.count).max(1) as f64,
        after.longest_ms(&before),
    );
    Ok(())
}
