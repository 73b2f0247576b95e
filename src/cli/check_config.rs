//! `checkmate check-config`.

use super::print;
use crate::access::InstanceKey;
use crate::config::Config;
use crate::database::Location;
use std::net::ToSocketAddrs;

/// Prints what the configuration comes to, without what is secret in it.
pub(super) fn run(config: &Config) -> anyhow::Result<()> {
    let location = Location::parse(&config.database)?;
    config.listen.to_socket_addrs().map_err(|why| anyhow::anyhow!("cannot listen on {}: {why}", config.listen))?;
    let database = match &location {
        Location::Sqlite(path) => format!("sqlite://{}", path.display()),
        Location::Postgres(to) => {
            format!("postgres://{}:{}/{}", to.get_host(), to.get_port(), to.get_database().unwrap_or_default())
        }
    };
    let key = match (&config.instance_key, &location) {
        (Some(key), _) => InstanceKey::parse(key).map(|_| "set")?,
        (None, Location::Sqlite(_)) => "in a file beside the database",
        (None, Location::Postgres(_)) => {
            anyhow::bail!("PostgreSQL needs CHECKMATE_INSTANCE_KEY: 64 hex digits, the same for every replica")
        }
    };
    print(&format!("listen           {}", config.listen))?;
    print(&format!("database         {database}"))?;
    print(&format!("instance key     {key}"))?;
    for old in &config.old_instance_keys {
        InstanceKey::parse(old).map_err(|why| anyhow::anyhow!("CHECKMATE_OLD_INSTANCE_KEYS: {why}"))?;
    }
    print(&format!("old keys         {}", config.old_instance_keys.len()))?;
    print(&format!("drain timeout    {:?}", config.drain_timeout))?;
    print(&format!("private contract {}", config.private_contract))?;
    print(&format!("bootstrap        {}", config.bootstrap))?;
    print(&format!("\n[limits]\n{}", toml::to_string(&config.limits)?.trim_end()))?;
    print("\nthe configuration is good")
}
