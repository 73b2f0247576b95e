//! A program of the operator's machine, if the operator allows it: in a process group of its own, in an environment that
//! holds what was declared, with limits, and gone with the look.

use super::answer::{EXCERPT_CHARS, excerpt, without};
use super::tls::millis;
use super::{Fault, Net, Probe, Secret, Trouble};
use futures_util::future::{Either, join, select};
use rustix::process::{Pid, Signal, kill_process_group};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// What is kept of each output; the rest is read and forgotten, so that the program does not stop for it.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// What is still in the pipes when the program has ended is there at once. A process that has left the group could hold them
/// open.
const LATE_OUTPUT: Duration = Duration::from_millis(200);

/// Sets the limits and becomes the program. Processor seconds; then KiB of address space: 512 MiB; open files; blocks of 512
/// bytes of a file: 16 MiB; no core. What the shell adds to the environment is taken out again. No descriptor of ours is
/// inherited, but whoever started us may have left some open for all who come.
const LIMITED: &str = "ulimit -t 60 && ulimit -v 524288 && ulimit -n 64 && ulimit -f 32768 && ulimit -c 0 && \
                       unset PWD OLDPWD && exec \"$@\" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-";

/// Settings of `script`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Script {
    /// The program: an absolute path. No shell reads it.
    #[schemars(length(min = 1, max = 4096))]
    command: String,
    /// Its arguments.
    #[serde(default)]
    args: Vec<String>,
    /// Where it runs: an absolute path; `/` without one.
    cwd: Option<String>,
    /// Its environment, beside PATH and LANG.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// More of its environment, which is not shown.
    #[serde(default)]
    secret_env: BTreeMap<String, Secret>,
}

/// What a program found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// What it exited with; -1 when its time was up, or a signal ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    /// What it wrote, its first 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-ephemeral" = true))]
    stdout: Option<String>,
    /// The first 200 characters that it wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_excerpt: Option<String>,
    /// What it wrote as errors, its first 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-ephemeral" = true))]
    stderr: Option<String>,
    /// The first 200 characters that it wrote as errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_excerpt: Option<String>,
    /// How long it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    execution_time_ms: Option<f64>,
    /// Whether it exited with 0.
    success: bool,
    /// Whether its time was up.
    timed_out: bool,
}

impl Probe for Script {
    const ID: &'static str = "script";
    const NAME: &'static str = "Script";
    const DESCRIPTION: &'static str = "Runs a program where Checkmate runs, if the operator allows it";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = vec![];
        let paths = [("command", Some(&self.command)), ("cwd", self.cwd.as_ref())];
        for (path, text) in paths.into_iter().filter_map(|(path, text)| Some((path, text?))) {
            if !Path::new(text).is_absolute() || text.contains('\0') {
                faults.push(Fault::new(path, "Must be an absolute path"));
            }
        }
        let names =
            self.env.keys().map(|name| ("env", name)).chain(self.secret_env.keys().map(|name| ("secretEnv", name)));
        for (path, name) in names.filter(|(_, name)| !is_name(name)) {
            faults.push(Fault::new(format!("{path}.{name}"), "Must be a name of letters, digits and underscores"));
        }
        for name in self.env.keys().filter(|name| self.secret_env.contains_key(*name)) {
            faults.push(Fault::new(format!("secretEnv.{name}"), "Is in env, too"));
        }
        let texts = self.args.iter().chain(self.env.values()).map(String::as_str);
        let texts: Vec<_> = texts.chain(self.secret_env.values().map(Secret::reveal)).collect();
        if texts.iter().any(|text| text.contains('\0')) {
            faults.push(Fault::new("", "Arguments and environment must not contain the character zero"));
        }
        if texts.len() > 256 || texts.iter().map(|text| text.len()).sum::<usize>() > 64 << 10 {
            faults.push(Fault::new("", "Arguments and environment must not be more than 256 texts of 64 KiB together"));
        }
        faults
    }

    fn host(&self) -> Option<String> {
        None
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        if !net.policy().scripts {
            let why = "Scripts are switched off; the operator of Checkmate can allow them in its configuration";
            return Err(Trouble::Ours(why.into()));
        }
        self.check_program().await?;
        let started = Instant::now();
        let child = self.start()?;
        // What remains if the look ends before the program does.
        (found.exit_code, found.timed_out) = (Some(-1), true);
        net.phase("waiting for the script to end");
        let ended = watch(child).await;
        found.timed_out = false;
        found.execution_time_ms = Some(millis(started.elapsed()));
        let (status, out, error) =
            ended.map_err(|why| Trouble::Ours(format!("The script cannot be watched: {why}")))?;
        (found.exit_code, found.signal) = (status.code().or(Some(-1)), status.signal());
        let secrets: Vec<_> = self.secret_env.values().collect();
        let (out, error) = (kept(&out, &secrets), kept(&error, &secrets));
        (found.stdout_excerpt, found.stderr_excerpt) = (Some(excerpt(&out, &[])), Some(excerpt(&error, &[])));
        (found.stdout, found.stderr) = (Some(out), Some(error));
        found.success = status.success();
        if found.success { Ok(()) } else { Err(failure(status, found)) }
    }
}

impl Script {
    /// The shell could not say so in a way that is told from the program's own failures.
    async fn check_program(&self) -> Result<(), Trouble> {
        let ours = |why: String| Trouble::Ours(format!("{} cannot be run here: {why}", self.command));
        let about = tokio::fs::metadata(&self.command).await.map_err(|why| ours(why.to_string()))?;
        if !about.is_file() || about.permissions().mode() & 0o111 == 0 {
            return Err(ours("it is not an executable file".into()));
        }
        Ok(())
    }

    fn start(&self) -> Result<Group, Trouble> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", LIMITED, "sh", &self.command]).args(&self.args);
        command.current_dir(self.cwd.as_deref().unwrap_or("/"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").envs(&self.env);
        command.envs(self.secret_env.iter().map(|(name, secret)| (name, secret.reveal())));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).kill_on_drop(true).spawn();
        let child = child.map_err(|why| Trouble::Ours(format!("The script cannot be started: {why}")))?;
        Ok(Group::of(child))
    }
}

/// A program and all that it started, which end with this value.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, id }
    }

    /// Once: the number may be given to others when all of the group have ended.
    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // All of them may have ended already.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for the program to end and reads what it writes.
async fn watch(mut group: Group) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
    let (mut out, mut error) = (vec![], vec![]);
    let status = {
        let mut reading = pin!(join(read(stdout, &mut out), read(stderr, &mut error)));
        let ended = match select(pin!(group.child.wait()), &mut reading).await {
            Either::Left((status, _)) => (status?, false),
            Either::Right((_, waiting)) => (waiting.await?, true),
        };
        let (status, is_read) = ended;
        group.kill();
        if !is_read {
            // What comes later is not the program's.
            drop(tokio::time::timeout(LATE_OUTPUT, reading).await);
        }
        status
    };
    Ok((status, out, error))
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 8 << 10];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend(buffer.iter().take(length.min(room)));
    }
}

fn kept(output: &[u8], secrets: &[&Secret]) -> String {
    without(&String::from_utf8_lossy(output), secrets)
}

fn failure(status: ExitStatus, found: &Found) -> Trouble {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("The script exited with {code}"),
        (None, signal) => format!("The script was ended by signal {}", signal.unwrap_or_default()),
    };
    let said = found.stderr_excerpt.iter().chain(&found.stdout_excerpt).find(|text| !text.is_empty());
    let text = said.map_or(how.clone(), |said| format!("{how}: {said}"));
    Trouble::Target(text.chars().take(EXCERPT_CHARS).collect())
}

fn is_name(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(is_letter)
}
