//! A PostgreSQL of a test's own, to stop, pause and fill up.

use crate::server::is_postgres;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A cluster in a folder that disappears.
pub struct Cluster {
    folder: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
}

impl Cluster {
    /// A running one; `None` unless the suite runs on PostgreSQL.
    pub fn start() -> Option<Self> {
        let cluster = Self::stopped()?;
        cluster.bring_up();
        Some(cluster)
    }

    /// One that is ready to be started.
    pub fn stopped() -> Option<Self> {
        if !is_postgres() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // The server does not run as root, so its folder belongs to somebody else.
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let cluster = Self { folder, programs: programs(), port };
        cluster.run("initdb", "--no-sync -A trust -U postgres");
        Some(cluster)
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it, and waits until it accepts.
    pub fn bring_up(&self) {
        let folder = self.folder.path().display();
        let settings = "-c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=20 -c shared_buffers=16MB";
        self.run("pg_ctl", &format!("-w -l {folder}/log -o '-p {} -k {folder} {settings}' start", self.port));
    }

    /// `fast` cuts connections, `immediate` is a crash.
    pub fn take_down(&self, mode: &str) {
        self.run("pg_ctl", &format!("-w -m {mode} stop"));
    }

    /// Nothing of it runs any more, and its connections stay open: what a machine does that hangs.
    pub fn pause(&self) {
        // The postmaster first, or it would start more; the second time, what it had started meanwhile.
        self.send("-STOP");
        self.send("-STOP");
    }

    pub fn resume(&self) {
        self.send("-CONT");
    }

    fn send(&self, signal: &str) {
        for process in self.processes() {
            // A backend may have ended by itself.
            let _ = Command::new("kill").args([signal, &process.to_string()]).output();
        }
    }

    /// The postmaster and its children.
    fn processes(&self) -> Vec<u32> {
        let pid = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap();
        let postmaster: u32 = pid.lines().next().unwrap().parse().unwrap();
        let all =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_child = |process: &u32| {
            // It may have ended meanwhile.
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let after_name = stat.rsplit(") ").next().unwrap_or_default();
            after_name.split(' ').nth(1) == Some(postmaster.to_string().as_str())
        };
        [postmaster].into_iter().chain(all.filter(is_child)).collect()
    }

    fn run(&self, program: &str, arguments: &str) -> Output {
        let line =
            format!("{}/{program} -D {}/data {arguments}", self.programs.display(), self.folder.path().display());
        let mut command = Command::new(if is_root() { "su" } else { "bash" });
        if is_root() {
            command.args(["postgres", "-s", "/bin/bash"]);
        }
        // What it starts in the background must not hold the pipes of this test.
        let log = self.folder.path().join(format!("{program}.log"));
        let done = command.args(["-c", &format!("{line} >{} 2>&1 </dev/null", log.display())]).output().unwrap();
        assert!(done.status.success(), "{line}: {}", std::fs::read_to_string(log).unwrap_or_default());
        done
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.folder.path().join("data/postmaster.pid").exists() {
            self.resume();
            self.take_down("immediate");
        }
    }
}

pub fn is_root() -> bool {
    let done = Command::new("id").arg("-u").output().unwrap();
    done.stdout == b"0\n"
}

/// Where the newest PostgreSQL of this machine is.
fn programs() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = found.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(version);
    newest.expect("the tests of faults start a PostgreSQL of their own from /usr/lib/postgresql").join("bin")
}

/// Waits for something that is about to happen.
pub async fn until(what: &str, most: Duration, mut happens: impl AsyncFnMut() -> bool) -> Duration {
    let waited = Instant::now();
    while !happens().await {
        assert!(waited.elapsed() < most, "not within {most:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    waited.elapsed()
}
