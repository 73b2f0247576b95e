//! Servers as processes of their own, on a core of their own.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which core serves and which one asks; `None` where nothing can be pinned.
#[derive(Clone, Copy)]
pub struct Cores(Option<(usize, usize)>);

impl Cores {
    /// The first two that this process may use; it moves to the second one itself.
    pub fn take() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        let mut cores = allowed.trim().split(',').flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse::<usize>().unwrap_or(1)..=last.parse::<usize>().unwrap_or(0)
        });
        let (Some(server), Some(client)) = (cores.next(), cores.next()) else { return Self(None) };
        let moved = Command::new("taskset")
            .args(["-a", "-p", "-c", &client.to_string(), &std::process::id().to_string()])
            .stdout(Stdio::null())
            .status();
        Self(moved.is_ok_and(|status| status.success()).then_some((server, client)))
    }

    /// Wherever there is room.
    pub fn anywhere() -> Self {
        Self(None)
    }

    /// What it came to, in words.
    pub fn words(self) -> String {
        match self.0 {
            Some((server, client)) => format!("servers on core {server}, the load on core {client}"),
            None => "NOT PINNED: there is no taskset, or one core only; the load takes from the servers".into(),
        }
    }

    /// A program that will run on the servers' core.
    pub fn command(self, program: &Path) -> Command {
        let Some((server, _)) = self.0 else { return Command::new(program) };
        let mut command = Command::new("taskset");
        command.args(["-c", &server.to_string()]).arg(program);
        command
    }
}

/// A server; dropping it kills it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// The key that the first start printed.
    pub key: Option<String>,
    /// From the start of the process to the line that says that it is ready.
    pub ready: Duration,
}

impl Server {
    /// Starts it, and waits until it is ready. What it cannot start with stands on our standard error.
    pub fn start(command: &mut Command) -> Result<Self> {
        let started = Instant::now();
        let command = command.env("CHECKMATE_LOG", "off");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let mut key = None;
        while let Some(Ok(line)) = lines.next() {
            if let Some(address) = line.strip_prefix("listening on http://") {
                let (ready, address) = (started.elapsed(), address.parse()?);
                return Ok(Self { child, address, key, ready });
            }
            if line.trim().starts_with("ck_") {
                key = Some(line.trim().to_owned());
            }
        }
        let _ = child.wait();
        bail!("a server did not start; why stands above")
    }

    /// Its process: taskset replaces itself by what it starts.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// Stops it in peace, so that SQLite folds its log back into the file.
    pub fn stop(mut self) -> Result<()> {
        ensure!(Command::new("kill").arg(self.pid().to_string()).status()?.success(), "cannot stop a server");
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time that a process has spent on processors, in nanoseconds; the kernel counts it in hundredths of a second.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    const TICK_NS: u64 = 10_000_000;
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces. The 14th and 15th fields are user and system time.
    let fields = text.rsplit_once(')').context("a name")?.1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks * TICK_NS)
}
