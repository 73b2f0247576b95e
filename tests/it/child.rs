//! A server in a process of its own, whose memory and files are counted apart from the test's.

use crate::server::{Caller, database_url, is_postgres};
use checkmate::transport::Limits;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// It dies with this.
pub struct Process {
    child: Child,
    key: String,
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Process {
    /// On an empty database. `files` is how many it may have open.
    pub async fn start(files: usize, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = toml::to_string(&std::collections::HashMap::from([("limits", limits)])).unwrap();
        std::fs::write(folder.path().join("checkmate.toml"), settings).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files} && exec \"$0\""), env!("CARGO_BIN_EXE_checkmate")]);
        command.env_clear().current_dir(&folder).env("CHECKMATE_LISTEN", "127.0.0.1:0").env("CHECKMATE_LOG", "error");
        command.env("CHECKMATE_DATABASE", database_url(folder.path().join("child.db")).await);
        if is_postgres() {
            command.env("CHECKMATE_INSTANCE_KEY", "ab".repeat(32));
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (mut key, mut url) = (String::new(), String::new());
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if line.trim().starts_with("ck_") {
                line.trim().clone_into(&mut key);
            }
            if let Some(address) = line.strip_prefix("listening on ") {
                address.clone_into(&mut url);
                break;
            }
        }
        assert!(!url.is_empty(), "the server starts");
        Self { child, key, url, _folder: folder }
    }

    pub fn admin(&self) -> Caller {
        Caller { url: self.url.clone(), key: Some(self.key.clone()), http: reqwest::Client::new() }
    }

    pub fn address(&self) -> SocketAddr {
        self.url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Its resident memory, where the system tells.
    pub fn memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One figure of `/metrics`.
pub async fn metric(caller: &Caller, name: &str) -> u64 {
    let text = caller.get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("checkmate_{name} ")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}
