//! A PostgreSQL cluster that is thrown away.

use crate::process::Cores;
use anyhow::{Context, Result, ensure};
use sqlx::{Connection as _, PgConnection};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where PostgreSQL is; a cluster of our own ends with this.
pub struct Postgres {
    url: String,
    own: Option<Cluster>,
}

struct Cluster {
    folder: tempfile::TempDir,
    programs: PathBuf,
}

impl Postgres {
    /// The one that `BENCH_DATABASE_URL` names, or one of our own on the servers' core.
    pub fn find(cores: Cores) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the measurement's own setting")]
        let given = std::env::var("BENCH_DATABASE_URL").ok().filter(|url| !url.is_empty());
        if let Some(url) = given {
            return Ok(Self { url, own: None });
        }
        let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
        let mut found: Vec<_> = versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect();
        found.retain(|programs| programs.join("initdb").exists());
        found.sort();
        let programs = found.pop().context("PostgreSQL is not installed")?;
        let folder = tempfile::tempdir()?;
        // The server refuses to run as root, and whoever it runs as needs a place for its socket.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))?;
        let shown = folder.path().display().to_string();
        let cluster = Cluster { folder, programs };
        cluster.run(cores, "initdb", &format!("-A trust -U postgres -D {shown}/data"))?;
        let options = format!("-k {shown} -c listen_addresses= -c fsync=off -c max_connections=100");
        cluster.run(cores, "pg_ctl", &format!("-w -D {shown}/data -l {shown}/log -o '{options}' start"))?;
        Ok(Self { url: format!("postgres://postgres@localhost/postgres?host={shown}"), own: Some(cluster) })
    }

    /// What was found, in words.
    pub fn words(&self) -> &'static str {
        match self.own {
            Some(_) => "a cluster of its own on the servers' core, over a Unix socket",
            None => "BENCH_DATABASE_URL",
        }
    }

    /// An empty schema for so many systems.
    pub async fn schema(&self, count: usize) -> Result<String> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let statements = match count {
            10 => "drop schema if exists checkmate_speed_10 cascade; create schema checkmate_speed_10",
            100 => "drop schema if exists checkmate_speed_100 cascade; create schema checkmate_speed_100",
            _ => "drop schema if exists checkmate_speed_1000 cascade; create schema checkmate_speed_1000",
        };
        sqlx::raw_sql(statements).execute(&mut connection).await?;
        connection.close().await?;
        let joined = if self.url.contains('?') { '&' } else { '?' };
        Ok(format!("{}{joined}options=-c%20search_path%3Dcheckmate_speed_{count}", self.url))
    }
}

impl Cluster {
    fn run(&self, cores: Cores, program: &str, arguments: &str) -> Result<()> {
        let line = format!("{} {arguments}", self.programs.join(program).display());
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"));
        let mut command = if is_root {
            let mut command = cores.command(Path::new("su"));
            command.args(["postgres", "-s", "/bin/bash", "-c"]);
            command
        } else {
            let mut command = cores.command(Path::new("/bin/bash"));
            command.arg("-c");
            command
        };
        let log = self.folder.path().join("out");
        // The cluster inherits what it writes to: a pipe would stay open for as long as it lives.
        let out = std::fs::File::create(&log)?;
        let status = command.arg(line).stdout(out.try_clone()?).stderr(out).status()?;
        ensure!(status.success(), "{program}: {}", std::fs::read_to_string(&log)?);
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        let stop = format!("-m immediate -D {} stop", data.display());
        // What is left over lies in a temporary folder.
        let _ = self.run(Cores::anywhere(), "pg_ctl", &stop);
    }
}
