//! A real server for one test, with a clock that the test owns, and callers that speak both protocols.

use crate::dynamic;
use crate::log::Log;
use crate::remains;
use crate::samples::SAMPLE_SECRET;
use crate::secrets::{self, Secrets};
use crate::stream;
use checkmate::app::App;
use checkmate::config::Config;
use checkmate::contract::method_named;
use checkmate::database::Timestamp;
use checkmate::json::Value as Json;
use checkmate::probe::Policy;
use checkmate::transport::Limits;
use checkmate::world::Clock;
use serde_json::{Value, json};
use sqlx::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A running server; dropping it stops it and asserts that nothing in it failed and that it leaves no secret behind.
pub struct Server {
    /// `http://127.0.0.1:…`.
    pub url: String,
    /// Its time stands still until the test moves it.
    pub clock: TestClock,
    /// How it was started, to start it again.
    pub config: Config,
    /// Everything that it does, at every level.
    pub log: Log,
    admin_key: Option<String>,
    place: Arc<Place>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Where the data of a test is: gone with the last server on it.
pub struct Place {
    /// For files of the test.
    pub folder: tempfile::TempDir,
    /// What its servers must not give away.
    pub secrets: Arc<Secrets>,
}

/// A clock that the test moves.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    fn new() -> Self {
        // 2026-01-05T14:52:47Z.
        Self(Arc::new(AtomicI64::new(1_767_624_767_000_000)))
    }

    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// RFC 3339, so much later than now.
    pub fn in_future(&self, time: Duration) -> String {
        Timestamp(self.0.load(Ordering::SeqCst) + i64::try_from(time.as_micros()).unwrap()).to_string()
    }

    fn clock(&self) -> Clock {
        let now = self.0.clone();
        Clock::new(move || Timestamp(now.load(Ordering::SeqCst)))
    }
}

impl Server {
    /// A server on an empty database.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with another configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            listen: "127.0.0.1:0".into(),
            database: database_url(folder.path().join("checkmate.db")).await.into(),
            drain_timeout: Duration::from_secs(5),
            private_contract: false,
            bootstrap: true,
            instance_key: Some("ab".repeat(32).into()),
            old_instance_keys: vec![],
            limits: Limits { database_connections: 4, ..Limits::default() },
            probes: Policy { scripts: true, ..Policy::default() },
        };
        change(&mut config);
        Self::launch(config, TestClock::new(), Arc::new(Place { folder, secrets: Arc::default() }), None).await
    }

    /// Stops, and starts again on the same data.
    pub async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = self.config.clone();
        let (clock, place, key) = (self.clock.clone(), self.place.clone(), self.admin_key.clone());
        self.halt();
        change(&mut config);
        Self::launch(config, clock, place, key).await
    }

    /// One more server on the same data: another replica.
    pub async fn replica(&self) -> Self {
        Self::launch(self.config.clone(), self.clock.clone(), self.place.clone(), self.admin_key.clone()).await
    }

    async fn launch(config: Config, clock: TestClock, place: Arc<Place>, admin_key: Option<String>) -> Self {
        let (stop, (ready, started)) = (CancellationToken::new(), tokio::sync::oneshot::channel());
        let (options, time, stopping) = (config.clone(), clock.clock(), stop.clone());
        let log = Log::new(place.secrets.clone());
        let (here, there) = (log.clone(), log.clone());
        // A runtime of its own: a test that blocks does not stop the server, and Drop can wait for it.
        let thread = std::thread::spawn(move || {
            here.follow_this_thread();
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).on_thread_start(move || there.follow_this_thread());
            runtime.enable_all().build().unwrap().block_on(async move {
                let listener = TcpListener::bind(&options.listen).await.unwrap();
                let mut app = App::start(options, listener, time).await.unwrap();
                let key = app.take_bootstrap().map(|token| token.reveal().to_owned());
                ready.send((app.address(), key)).unwrap();
                app.run(stopping).await.unwrap();
            });
        });
        let (address, key) = started.await.expect("the server starts");
        if let Some(key) = &key {
            place.secrets.issued(key);
        }
        place.secrets.hidden(SAMPLE_SECRET);
        let instance_key = config.instance_key.as_ref().map(|key| key.as_str());
        remains::note_instance_key(&config.database, instance_key, &place.secrets);
        let (url, admin_key) = (format!("http://{address}"), key.or(admin_key));
        secrets::guard(&url, &place.secrets);
        Self { url, clock, config, log, admin_key, place, stop, thread: Some(thread) }
    }

    fn halt(&mut self) {
        let found = self.end();
        if !std::thread::panicking() {
            assert!(found.is_none(), "{}", found.unwrap_or_default());
        }
    }

    /// Stops it; the first secret that it leaves behind.
    pub fn end(&mut self) -> Option<String> {
        let thread = self.thread.take()?;
        let secrets = self.place.secrets.clone();
        // The write-ahead log is gone when it has stopped.
        let before = remains::of_running(&self.url, &self.config, &secrets);
        self.stop.cancel();
        let failed = thread.join().is_err();
        assert!(!failed || std::thread::panicking(), "the server failed");
        before.or_else(|| remains::of_stopped(&self.config, &secrets)).or_else(|| self.log.find())
    }

    /// What it must not give away.
    pub fn secrets(&self) -> Arc<Secrets> {
        self.place.secrets.clone()
    }

    /// The folder of the test.
    pub fn folder(&self) -> PathBuf {
        self.place.folder.path().to_owned()
    }

    /// Whoever holds `*`.
    pub fn admin(&self) -> Caller {
        self.with_key(self.admin_key.as_deref())
    }

    /// Nobody.
    pub fn anonymous(&self) -> Caller {
        self.with_key(None)
    }

    pub fn with_key(&self, key: Option<&str>) -> Caller {
        Caller { url: self.url.clone(), key: key.map(str::to_owned), http: client() }
    }

    /// A new application with these roles.
    pub async fn application(&self, roles: &[&str]) -> Caller {
        let made = self
            .admin()
            .call("auth.createApplication", json!({"name": format!("test {}", roles.join(" ")), "roles": roles}))
            .await;
        self.with_key(made["secret"].as_str())
    }

    /// A new application that may do exactly this.
    pub async fn allowed(&self, permissions: &[&str]) -> Caller {
        let role = self.admin().call("auth.createRole", json!({"name": "test", "permissions": permissions})).await;
        self.application(&[role["id"].as_str().unwrap()]).await
    }

    pub async fn reader(&self) -> Caller {
        self.application(&["reader"]).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Whether the suite runs on PostgreSQL.
pub fn is_postgres() -> bool {
    postgres_url().is_some()
}

fn postgres_url() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the suite's own setting")]
    std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty())
}

/// A fresh database: the file, or a new schema.
pub async fn database_url(file: PathBuf) -> String {
    let Some(url) = postgres_url() else { return format!("sqlite://{}", file.display()) };
    let schema = format!("test_{}", uuid::Uuid::now_v7().simple());
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a schema's name cannot be bound; this one is ours")]
    let create = sqlx::AssertSqlSafe(format!("create schema {schema}"));
    sqlx::query(create).execute(&mut connection).await.unwrap();
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20search_path%3D{schema}")
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_mins(1)).build().unwrap()
}

/// Somebody who calls, with or without a key.
#[derive(Clone)]
pub struct Caller {
    pub url: String,
    pub key: Option<String>,
    pub http: reqwest::Client,
}

/// What came back over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let secrets = secrets::at(response.url().authority());
        let kind = headers.get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let text = match kind.as_str() {
            "text/event-stream" if status == 200 => stream::first_event(response).await,
            _ => response.text().await.unwrap(),
        };
        let leak = secrets.find_in_answer(status, &format!("{headers:?}"), &text);
        assert!(leak.is_none(), "{}", leak.unwrap_or_default());
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        assert_ne!(status, 500, "nothing that a caller sends is our fault: {text}");
        Self { status, headers, text, body }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts a refusal: status, code and message, and that nothing else stands in the body (`data` aside).
    pub fn refused(&self, status: u16, code: &str, message: &str) -> &Self {
        assert_eq!(
            (self.status, &self.body["code"], &self.body["message"]),
            (status, &json!(code), &json!(message)),
            "{}",
            self.text
        );
        assert_eq!(self.header("content-type"), "application/json");
        self
    }
}

impl Caller {
    /// A request with this caller's key.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string()).await
    }

    /// Posts with a condition.
    pub async fn post_if(&self, path: &str, body: &Value, tag: &str) -> Answer {
        Answer::of(self.request("POST", path).header("if-match", tag).json(body).send().await.unwrap()).await
    }

    /// Posts a text as JSON.
    pub async fn post_text(&self, path: &str, body: &str) -> Answer {
        let request = self.request("POST", path).header("content-type", "application/json").body(body.to_owned());
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request("GET", path).send().await.unwrap()).await
    }

    /// One procedure in a batch of its own: `catalog.getSystems`. One that streams is called by itself, and its first
    /// message stands for the answer.
    pub async fn json(&self, procedure: &str, input: Value) -> Answer {
        let (plugin, name) = procedure.split_once('.').unwrap();
        if method_named(plugin, name).is_some_and(|method| method.streams) {
            let mut answer = self.post(&format!("/api/{plugin}/{name}"), &input).await;
            match answer.status {
                200 => answer.body = json!({name: answer.body}),
                _ => answer.body["data"] = answer.body["json"]["data"].clone(),
            }
            return answer;
        }
        self.post(&format!("/api/{plugin}/"), &json!({name: input})).await
    }

    /// The result of a call that succeeds.
    pub async fn call(&self, procedure: &str, input: Value) -> Value {
        let mut answer = self.json(procedure, input).await;
        assert_eq!(answer.status, 200, "{procedure}: {}", answer.text);
        answer.body[procedure.split_once('.').unwrap().1].take()
    }

    /// The rows of every page of a list, in order: `key` is where they stand, `input` says the size and the filters.
    pub async fn pages(&self, procedure: &str, key: &str, mut input: Value) -> Vec<Vec<Value>> {
        let mut pages = vec![];
        loop {
            let mut answer = self.call(procedure, input.clone()).await;
            let Value::Array(rows) = answer[key].take() else { panic!("{procedure} has no {key}") };
            pages.push(rows);
            match answer["nextPageToken"].take() {
                Value::Null => return pages,
                token => input["pageToken"] = token,
            }
            assert!(pages.len() < 1_000, "{procedure} never ends");
        }
    }

    /// The same procedure over gRPC. The input and the result are in the JSON of the contract.
    pub async fn grpc(&self, procedure: &str, input: &Value) -> Result<Value, tonic::Status> {
        self.grpc_with(procedure, input, &[]).await
    }

    pub async fn grpc_with(
        &self,
        procedure: &str,
        input: &Value,
        metadata: &[(&'static str, &str)],
    ) -> Result<Value, tonic::Status> {
        let (plugin, name) = procedure.split_once('.').unwrap();
        let text = input.to_string();
        let method = method_named(plugin, name).unwrap().meant_by(&Json::parse(text.as_bytes(), 128).unwrap());
        let path = method.path;
        let mut request = tonic::Request::new(dynamic::request(path, input));
        if let Some(key) = &self.key {
            request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        }
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let channel = tonic::transport::Endpoint::new(self.url.clone()).unwrap().connect().await.unwrap();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let codec = dynamic::DynamicCodec::of(path);
        let reply = if method.streams {
            stream::first_message(client.server_streaming(request, path.parse().unwrap(), codec).await).await
        } else {
            client.unary(request, path.parse().unwrap(), codec).await
        };
        let reply = reply.map(|reply| (format!("{:?}", reply.metadata()), dynamic::result(path, reply.get_ref())));
        let secrets = secrets::at(&self.url);
        let leak = match &reply {
            Ok((head, result)) => secrets.find_in_answer(200, head, &result.to_string()),
            Err(status) => secrets.find_in_status(status),
        };
        assert!(leak.is_none(), "{}", leak.unwrap_or_default());
        reply.map(|(_, result)| result)
    }
}
