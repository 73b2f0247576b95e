//! The command line, one file per command.

mod application;
mod check_config;
mod migrate;
mod serve;

use crate::config::{Config, Settings, log_filter};
use anyhow::Context;
use clap::{Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Monitoring and status, over gRPC and JSON.
#[derive(Parser)]
#[command(name = "checkmate", version, about)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (the default)
    Serve,
    /// Manage applications on the database directly, also beside a running server
    #[command(subcommand)]
    Application(application::Command),
    /// Bring the database up to date, and do nothing else
    Migrate,
    /// Say what the configuration comes to, and whether it is good
    CheckConfig,
    /// Print the version
    Version,
}

/// Runs the command that the arguments name.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match start_log() {
        Ok(()) => run(cli).await,
        Err(why) => Err(why),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // If standard error is gone there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "checkmate: {why:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let config = || Config::load(&cli.settings);
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(config()?).await,
        Command::Application(command) => application::run(config()?, command).await,
        Command::Migrate => migrate::run(config()?).await,
        Command::CheckConfig => check_config::run(&config()?),
        Command::Version => print(&format!("checkmate {}", env!("CARGO_PKG_VERSION"))),
    }
}

/// A line on standard output.
fn print(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The log goes to standard error: for people on a terminal, for machines elsewhere.
fn start_log() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(log_filter()).context("CHECKMATE_LOG")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second initialisation in one process changes nothing.
    let _ = if std::io::stderr().is_terminal() { log.try_init() } else { log.json().try_init() };
    Ok(())
}
