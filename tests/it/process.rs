//! The real binary in a process of its own. Whatever it says or leaves behind is searched for secrets.

use crate::remains;
use crate::secrets::{Secrets, Where, guard};
use crate::server::{Caller, database_url, is_postgres};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A test fails rather than waits longer.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Of replicas; a server on a file makes its own.
const INSTANCE_KEY: &str = "abababababababababababababababababababababababababababababababab";

/// A folder to run commands in, and a fresh database.
pub struct Home {
    pub folder: tempfile::TempDir,
    database: String,
    /// What nothing may give away that runs here.
    pub secrets: Arc<Secrets>,
}

impl Drop for Home {
    fn drop(&mut self) {
        let found = remains::database(&self.database, &self.secrets);
        assert!(found.is_none() || std::thread::panicking(), "{}", found.unwrap_or_default());
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

impl Home {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = database_url(folder.path().join("home.db")).await;
        Self { folder, database, secrets: Arc::default() }
    }

    /// Where its database is.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// A command in an environment of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_checkmate"));
        command.args(arguments).current_dir(&self.folder).env_clear();
        command.env("CHECKMATE_DATABASE", &self.database).env("CHECKMATE_LISTEN", "127.0.0.1:0");
        if is_postgres() {
            command.env("CHECKMATE_INSTANCE_KEY", INSTANCE_KEY);
        }
        command
    }

    /// What it prints is for whoever asked, keys and all; how it fails is for everybody.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let done = outcome(&mut self.command(arguments));
        self.secrets.printed(&done.out);
        assert_eq!(self.secrets.find(Where::Output, done.err.as_bytes()), None);
        done
    }

    pub fn serve(&self, arguments: &[&str]) -> Running {
        let server = Running::start_with(self.command(arguments).env("CHECKMATE_LOG", "trace"), &self.secrets);
        remains::note_instance_key(&self.database, is_postgres().then_some(INSTANCE_KEY), &self.secrets);
        server
    }
}

pub fn outcome(command: &mut Command) -> Outcome {
    let done = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
}

/// A server in a process of its own; it dies with this, and then its output and its log are searched for secrets.
pub struct Running {
    secrets: Arc<Secrets>,
    pub child: Child,
    /// What it printed until it listened.
    pub greeting: Vec<String>,
    pub url: String,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    /// Starts a command that serves, with secrets of its own.
    pub fn start(command: &mut Command) -> Self {
        Self::start_with(command, &Arc::default())
    }

    fn start_with(command: &mut Command, secrets: &Arc<Secrets>) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        let mut server = Self { secrets: secrets.clone(), child, greeting: vec![], url: String::new(), out, err };
        while server.url.is_empty() {
            let Ok(line) = server.out.recv_timeout(PATIENCE) else {
                panic!("the server does not start: {:?}", server.err.try_iter().collect::<Vec<_>>());
            };
            line.strip_prefix("listening on ").unwrap_or_default().clone_into(&mut server.url);
            server.greeting.push(line);
        }
        secrets.printed(&server.greeting.join("\n"));
        guard(&server.url, secrets);
        server
    }

    /// The key that the first start prints.
    pub fn key(&self) -> String {
        let line = self.greeting.iter().find(|line| line.trim().starts_with("ck_"));
        line.expect("the first start prints a key").trim().to_owned()
    }

    pub fn with_key(&self, key: &str) -> Caller {
        Caller { url: self.url.clone(), key: Some(key.to_owned()), http: reqwest::Client::new() }
    }

    pub fn signal(&self) {
        send("-TERM", self.child.id());
    }

    /// How it ended.
    pub async fn ended(&mut self) -> Option<i32> {
        let waited = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(waited.elapsed() < PATIENCE, "the server does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops it; what it printed after it listened, and its whole log.
    pub async fn stop(mut self) -> (Vec<String>, String) {
        self.signal();
        assert_eq!(self.ended().await, Some(0));
        self.said()
    }

    /// What it printed after it listened, and its whole log, when it has ended. There is no secret in it.
    fn said(&self) -> (Vec<String>, String) {
        let (out, log): (Vec<_>, Vec<_>) = (self.out.iter().collect(), self.err.iter().collect());
        let log = log.join("\n");
        let found = self.secrets.find(Where::Log, log.as_bytes());
        let found = found.or_else(|| self.secrets.find(Where::Output, out.join("\n").as_bytes()));
        assert!(found.is_none() || std::thread::panicking(), "{}", found.unwrap_or_default());
        (out, log)
    }

    /// A request of which the server has read the head and waits for the body.
    pub fn half_sent(&self, key: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /api/catalog/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        )
        .unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    }

    pub async fn until_it_accepts_no_more(&self) {
        let waited = Instant::now();
        while TcpStream::connect(self.url.strip_prefix("http://").unwrap()).is_ok() {
            assert!(waited.elapsed() < PATIENCE, "the server still accepts");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// `kill`, with a signal.
pub fn send(signal: &str, process: u32) {
    let done = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(done.success(), "kill {signal} {process}");
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.said();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    receive
}
