//! Configuration: flags win over the environment, which wins over the file, which wins over the defaults.
//!
//! The only place that reads the environment.

use crate::error::{Error, Result};
use crate::probe::Policy;
use crate::transport::Limits;
use clap::builder::BoolishValueParser;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Flags and environment. What is absent is looked for in the file.
#[derive(Clone, Default, clap::Args)]
pub struct Settings {
    /// Where to listen; port 0 picks a free one [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS", env = "CHECKMATE_LISTEN", global = true)]
    listen: Option<String>,
    /// `sqlite://FILE` or `postgres://USER@HOST/NAME` [default: `sqlite://checkmate.db`]
    #[arg(long, value_name = "URL", env = "CHECKMATE_DATABASE", hide_env_values = true, global = true)]
    database: Option<String>,
    /// A TOML file; read if it is there [default: checkmate.toml]
    #[arg(long, value_name = "FILE", env = "CHECKMATE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// How long to finish what is in flight after SIGTERM [default: 10s]
    #[arg(long, value_name = "TIME", env = "CHECKMATE_DRAIN_TIMEOUT", global = true)]
    drain_timeout: Option<String>,
    /// Show the contract (reflection, openapi.json, GET /api/{pluginId}/) only to callers with a key
    #[arg(long, env = "CHECKMATE_PRIVATE_CONTRACT", value_parser = BoolishValueParser::new(), global = true)]
    private_contract: bool,
    /// Never make the application `bootstrap` at first start
    #[arg(long, env = "CHECKMATE_NO_BOOTSTRAP", value_parser = BoolishValueParser::new(), global = true)]
    no_bootstrap: bool,
}

/// The file.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    listen: Option<String>,
    database: Option<String>,
    drain_timeout: Option<String>,
    private_contract: bool,
    no_bootstrap: bool,
    limits: Limits,
    probes: Policy,
}

/// What the server runs with.
#[derive(Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: String,
    /// Where the database is. May hold a password: not for logs.
    pub database: Zeroizing<String>,
    /// How long to finish what is in flight.
    pub drain_timeout: Duration,
    /// Whether reading the contract takes a key.
    pub private_contract: bool,
    /// Whether the first start makes an application.
    pub bootstrap: bool,
    /// 64 hex digits; needed with PostgreSQL.
    pub instance_key: Option<Zeroizing<String>>,
    /// Those before it, which still open what they sealed.
    pub old_instance_keys: Vec<Zeroizing<String>>,
    /// Limits.
    pub limits: Limits,
    /// Where probes may connect.
    pub probes: Policy,
}

impl Config {
    /// Puts the configuration together.
    pub fn load(settings: &Settings) -> Result<Self> {
        let file = read_file(settings.config.as_deref())?;
        let drain = settings.drain_timeout.clone().or(file.drain_timeout);
        file.limits.check()?;
        Ok(Self {
            listen: settings.listen.clone().or(file.listen).unwrap_or_else(|| "127.0.0.1:3000".into()),
            database: settings
                .database
                .clone()
                .or(file.database)
                .unwrap_or_else(|| "sqlite://checkmate.db".into())
                .into(),
            drain_timeout: drain.as_deref().map_or(Ok(Duration::from_secs(10)), duration)?,
            private_contract: settings.private_contract || file.private_contract,
            bootstrap: !(settings.no_bootstrap || file.no_bootstrap),
            instance_key: environment("CHECKMATE_INSTANCE_KEY")?.map(Zeroizing::new),
            old_instance_keys: several(environment("CHECKMATE_OLD_INSTANCE_KEYS")?.map(Zeroizing::new)),
            limits: file.limits,
            probes: file.probes,
        })
    }
}

/// What to log: the syntax of `tracing_subscriber::EnvFilter`.
#[must_use]
pub fn log_filter() -> String {
    environment("CHECKMATE_LOG").ok().flatten().unwrap_or_else(|| "info,sqlx=warn".into())
}

/// Where to die, in tests of debug builds: see [`crate::fault`].
#[must_use]
pub fn planned_fault() -> Option<String> {
    environment("CHECKMATE_DIE_AT").ok().flatten()
}

/// By how much the clock is ahead, in tests of debug builds: hours are over when the test wants it.
#[must_use]
pub fn planned_ahead() -> Option<Duration> {
    let seconds = environment("CHECKMATE_CLOCK_AHEAD_S").ok().flatten()?.parse().ok()?;
    cfg!(debug_assertions).then(|| Duration::from_secs(seconds))
}

/// An environment variable; the error of one that is not UTF-8 does not repeat it.
fn environment(name: &str) -> Result<Option<String>> {
    #[expect(clippy::disallowed_methods, reason = "the one home of the environment")]
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Error::Refused(format!("{name} is not UTF-8"))),
    }
}

/// What stands between commas.
fn several(text: Option<Zeroizing<String>>) -> Vec<Zeroizing<String>> {
    let text = text.unwrap_or_default();
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| Zeroizing::new(part.to_owned())).collect()
}

fn read_file(named: Option<&Path>) -> Result<File> {
    let path = named.unwrap_or(Path::new("checkmate.toml"));
    let shown = path.display();
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|why| {
            // The whole error quotes the line, which may hold a password.
            let before = why.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            Error::Refused(format!("{shown}, line {line}: {}", why.message()))
        }),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(File::default()),
        Err(why) => Err(Error::Refused(format!("{shown}: {why}"))),
    }
}

/// `10s`, `1m 30s`, or whole seconds.
fn duration(text: &str) -> Result<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| Error::Refused(format!("{text:?} is not a time like 10s")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        assert_eq!(duration("10s").unwrap(), Duration::from_secs(10));
        assert_eq!(duration("1m 30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("7").unwrap(), Duration::from_secs(7));
        assert!(duration("soon").is_err() && duration("-1s").is_err());
    }

    #[test]
    fn keys_stand_between_commas() {
        let keys =
            |text: &str| several(Some(Zeroizing::new(text.to_owned()))).iter().map(|key| key.len()).collect::<Vec<_>>();
        assert_eq!((keys("ab, cde,,"), keys(""), several(None).len()), (vec![2, 3], vec![], 0));
    }

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "listen = \"a\"\ndatabase = \"b\"\n[limits]\nbatch_calls = 3\n").unwrap();
        let settings = Settings { config: Some(path.clone()), listen: Some("flag".into()), ..Settings::default() };
        let config = Config::load(&settings).unwrap();
        assert_eq!((config.listen.as_str(), config.database.as_str()), ("flag", "b"));
        assert_eq!((config.limits.batch_calls, config.limits.request_s), (3, 30));
        for (bad, says) in [("lisen = \"x\"", "line 1"), ("[limits]\nstreams = 0", "limits.streams"), ("x", "line 1")] {
            std::fs::write(&path, bad).unwrap();
            let why = Config::load(&settings).err().unwrap().to_string();
            assert!(why.contains(says), "{bad}: {why}");
        }
    }
}
