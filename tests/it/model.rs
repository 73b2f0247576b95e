//! Random writers and readers on several replicas, which are paused, killed and made deaf meanwhile: no answer may be
//! older than its bound, no revoked key may live longer, and the change feed must neither lose nor reorder.
//!
//! What happened is written down and judged afterwards, by a judge that is itself tested with planted lies.

use crate::server::{database_url, is_postgres};
use checkmate::database::{Changes, Database, Location};
use serde_json::{Value, json};
use sqlx::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What other replicas may not know yet (design.md section 6).
const BOUND: Duration = Duration::from_secs(2);

/// How long the random part takes.
const LASTS: Duration = Duration::from_secs(8);

/// Something that was acknowledged.
#[derive(Clone, Debug)]
struct Fact {
    what: What,
    replica: usize,
    acknowledged: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Created(String),
    Deleted(String),
    KeyDeleted(String),
}

/// Something that was answered.
#[derive(Clone, Debug)]
struct Seen {
    replica: usize,
    asked: Duration,
    key: String,
    /// The names in the answer.
    names: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct History {
    facts: Vec<Fact>,
    seen: Vec<Seen>,
    /// Deletions that were asked for, acknowledged or not: what they name may be there or not.
    doomed: BTreeSet<String>,
}

/// Every answer that is older than it may be.
fn lies(history: &History) -> Vec<String> {
    let mut found = vec![];
    for seen in &history.seen {
        for fact in &history.facts {
            let bound = if fact.replica == seen.replica { Duration::ZERO } else { BOUND };
            if fact.acknowledged + bound > seen.asked {
                continue;
            }
            let lie = match &fact.what {
                What::Created(name) => !history.doomed.contains(name) && !seen.names.contains(name),
                What::Deleted(name) => seen.names.contains(name),
                What::KeyDeleted(key) => *key == seen.key,
            };
            if lie {
                found.push(format!(
                    "{:?}, known to {} at {:?}, was not to {} at {:?}",
                    fact.what, fact.replica, fact.acknowledged, seen.replica, seen.asked
                ));
            }
        }
    }
    found
}

/// How late the latest facts were seen elsewhere: the time from acknowledgement to the last answer without them.
fn lag(history: &History) -> Vec<Duration> {
    let late = |fact: &Fact, seen: &&Seen| {
        let What::Created(name) = &fact.what else { return false };
        seen.asked > fact.acknowledged && !history.doomed.contains(name) && !seen.names.contains(name)
    };
    let worst = |fact: &Fact| history.seen.iter().filter(|seen| late(fact, seen)).map(|seen| seen.asked).max();
    history.facts.iter().filter_map(|fact| worst(fact)?.checked_sub(fact.acknowledged)).collect()
}

#[test]
fn the_judge_finds_planted_lies() {
    let at = Duration::from_millis;
    let fact = |what, replica, ms| Fact { what, replica, acknowledged: at(ms) };
    let seen = |replica, ms, names: &[&str]| Seen {
        replica,
        asked: at(ms),
        key: "k".into(),
        names: names.iter().map(ToString::to_string).collect(),
    };
    let judge =
        |fact: Fact, seen: Seen| lies(&History { facts: vec![fact], seen: vec![seen], doomed: BTreeSet::new() }).len();
    let created = || What::Created("a".into());
    assert_eq!(judge(fact(created(), 0, 100), seen(0, 99, &[])), 0, "asked before it was acknowledged");
    assert_eq!(judge(fact(created(), 0, 100), seen(0, 101, &[])), 1, "the same replica knows at once");
    assert_eq!(judge(fact(created(), 0, 100), seen(1, 2_000, &[])), 0, "another one has its bound");
    assert_eq!(judge(fact(created(), 0, 100), seen(1, 2_101, &[])), 1);
    assert_eq!(judge(fact(created(), 0, 100), seen(1, 2_101, &["a"])), 0);
    assert_eq!(judge(fact(What::Deleted("a".into()), 0, 100), seen(0, 101, &["a"])), 1);
    assert_eq!(judge(fact(What::KeyDeleted("k".into()), 0, 100), seen(0, 101, &[])), 1, "a key that lives on");
    assert_eq!(judge(fact(What::KeyDeleted("k".into()), 0, 100), seen(1, 1_000, &[])), 0);
}

/// One replica: a process, so that it can be paused and killed.
struct Replica {
    child: Child,
    url: String,
}

impl Replica {
    fn start(database: &str) -> (Self, Option<String>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_checkmate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--database", database])
            .env("CHECKMATE_INSTANCE_KEY", "ab".repeat(32))
            .env("CHECKMATE_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut key, mut url) = (None, None);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(at) = line.find("ck_") {
                key = key.or(line[at..].get(..89).map(str::to_owned));
            }
            if let Some(found) = line.strip_prefix("listening on ") {
                url = Some(found.trim().to_owned());
                break;
            }
        }
        (Self { child, url: url.expect("the server says where it listens") }, key)
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that runs at the same time.
struct World {
    urls: Mutex<Vec<String>>,
    history: Mutex<History>,
    keys: Mutex<Vec<(String, String)>>,
    admin: String,
    started: Instant,
    next: AtomicUsize,
    dice: AtomicU64,
    http: reqwest::Client,
}

impl World {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A number below `most`: an xorshift is random enough, and says its seed.
    fn roll(&self, most: usize) -> usize {
        let mut dice = self.dice.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        dice ^= dice >> 30;
        dice = dice.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        dice ^= dice >> 27;
        usize::try_from(dice % u64::try_from(most).unwrap()).unwrap()
    }

    fn replica(&self) -> (usize, String) {
        let urls = self.urls.lock().unwrap();
        let replica = self.roll(urls.len());
        (replica, urls[replica].clone())
    }

    /// The result of one call, if there was one.
    async fn call(&self, url: &str, key: &str, plugin: &str, body: Value) -> Option<Value> {
        let request = self.http.post(format!("{url}/api/{plugin}/")).bearer_auth(key);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let response = request.send().await.ok().filter(|response| response.status() == 200)?;
        response.json().await.ok()
    }

    async fn write(&self) {
        let (replica, url) = self.replica();
        let name = format!("s{}", self.next.fetch_add(1, Ordering::Relaxed));
        let made = self.call(&url, &self.admin, "catalog", json!({"createSystem": {"name": name}})).await;
        let Some(made) = made else { return };
        self.note(What::Created(name.clone()), replica);
        if self.roll(3) > 0 {
            return;
        }
        self.history.lock().unwrap().doomed.insert(name.clone());
        let (replica, url) = self.replica();
        let id = &made["createSystem"]["id"];
        if self.call(&url, &self.admin, "catalog", json!({"deleteSystem": id})).await.is_some() {
            self.note(What::Deleted(name), replica);
        }
    }

    async fn change_keys(&self) {
        let (_, url) = self.replica();
        let body = json!({"createApplication": {"name": "reader", "roles": ["reader"]}});
        let Some(made) = self.call(&url, &self.admin, "auth", body).await else { return };
        let made = &made["createApplication"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let old = {
            let mut keys = self.keys.lock().unwrap();
            keys.push((text(&made["application"]["id"]), text(&made["secret"])));
            if keys.len() > 4 { Some(keys.remove(0)) } else { None }
        };
        let Some((id, key)) = old else { return };
        let (replica, url) = self.replica();
        if self.call(&url, &self.admin, "auth", json!({"deleteApplication": id})).await.is_some() {
            self.note(What::KeyDeleted(key.clone()), replica);
        }
        // Readers go on with it: they must be refused.
        self.keys.lock().unwrap().insert(0, (id, key));
        self.keys.lock().unwrap().truncate(6);
    }

    async fn read(&self) {
        let (replica, url) = self.replica();
        let key = {
            let keys = self.keys.lock().unwrap();
            let chosen = self.roll(keys.len() + 1);
            keys.get(chosen).map_or(self.admin.clone(), |(_, key)| key.clone())
        };
        let asked = self.now();
        let list = if self.roll(2) == 0 {
            self.call(&url, &key, "catalog", json!({"getSystems": {}})).await.map(|mut all| all["getSystems"].take())
        } else {
            let request = self.http.get(format!("{url}/api/catalog/getSystems")).bearer_auth(&key);
            match request.send().await {
                Ok(response) if response.status() == 200 => response.json().await.ok(),
                _ => None,
            }
        };
        let Some(Value::Array(list)) = list else { return };
        let names = list.iter().filter_map(|system| system["name"].as_str().map(str::to_owned)).collect();
        self.history.lock().unwrap().seen.push(Seen { replica, asked, key, names });
    }

    fn note(&self, what: What, replica: usize) {
        let fact = Fact { what, replica, acknowledged: self.now() };
        self.history.lock().unwrap().facts.push(fact);
    }
}

/// Cuts the connections on which the replicas hear of changes.
async fn deafen(url: &str) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where query like 'LISTEN%checkmate_' || hashtext(current_schema()::text) || '%'";
    let _ = sqlx::query(cut).execute(&mut connection).await;
}

/// Reads the feed as a follower does, until told that it is over, and then to its end.
async fn follow(url: String, over: Arc<AtomicUsize>) -> Vec<(i64, String)> {
    let database = Database::connect(&Location::parse(&url).unwrap(), 2, Duration::ZERO).await.unwrap();
    let (mut place, mut entries) = (0, vec![]);
    loop {
        let is_over = over.load(Ordering::SeqCst) > 0;
        let found = database.feed().await.unwrap().changes(place).await.unwrap();
        let Changes::These(new, last) = found else { panic!("a follower that keeps up replays everything") };
        entries.extend(new.into_iter().map(|entry| (entry.sequence, format!("{} {}", entry.kind, entry.resource))));
        place = last;
        if is_over {
            database.close().await;
            return entries;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the seed and the figures, for whoever asks with --nocapture")]
async fn no_answer_is_older_than_its_bound_whatever_happens_to_the_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let url = database_url(folder.path().join("checkmate.db")).await;
    let count = if is_postgres() { 3 } else { 1 };
    let (first, admin) = Replica::start(&url);
    let mut replicas = vec![first];
    replicas.extend((1..count).map(|_| Replica::start(&url).0));
    let seed = uuid::Uuid::now_v7().as_u64_pair().1;
    println!("seed {seed}");
    let world = Arc::new(World {
        urls: Mutex::new(replicas.iter().map(|replica| replica.url.clone()).collect()),
        history: Mutex::default(),
        keys: Mutex::default(),
        admin: admin.expect("the first start shows a key"),
        started: Instant::now(),
        next: AtomicUsize::new(0),
        dice: AtomicU64::new(seed),
        http: reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap(),
    });

    let over = Arc::new(AtomicUsize::new(0));
    let follower = tokio::spawn(follow(url.clone(), over.clone()));
    let mut tasks = tokio::task::JoinSet::new();
    // Whoever asks a paused replica waits for it, so there are many.
    for number in 0..40 {
        let world = world.clone();
        tasks.spawn(async move {
            while world.now() < LASTS {
                match number {
                    0..6 => world.write().await,
                    6..9 => world.change_keys().await,
                    _ => world.read().await,
                }
            }
        });
    }
    while world.now() < LASTS {
        let victim = world.roll(replicas.len());
        match world.roll(4) {
            // Longer than the lease, while others write and requests waiting for it to go on.
            0 => {
                replicas[victim].signal("-STOP");
                tokio::time::sleep(Duration::from_millis(2_300)).await;
                replicas[victim].signal("-CONT");
            }
            1 => {
                replicas[victim].signal("-KILL");
                replicas[victim].child.wait().unwrap();
                replicas[victim] = Replica::start(&url).0;
                world.urls.lock().unwrap()[victim].clone_from(&replicas[victim].url);
            }
            _ if is_postgres() => deafen(&url).await,
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    over.store(1, Ordering::SeqCst);
    let feed = follower.await.unwrap();

    let history = world.history.lock().unwrap();
    let found = lies(&history);
    let mut lags = lag(&history);
    lags.sort();
    let at = |share: usize| lags.get(lags.len() * share / 100).or(lags.last());
    println!(
        "{} facts, {} answers, {} feed entries; not seen elsewhere: p50 {:?}, p99 {:?}, worst {:?}",
        history.facts.len(),
        history.seen.len(),
        feed.len(),
        at(50),
        at(99),
        lags.last()
    );
    assert!(history.facts.len() > 5 && history.seen.len() > 5, "too little happened to say anything");
    assert!(found.is_empty(), "{} of {}: {:#?}", found.len(), history.seen.len(), &found[..found.len().min(5)]);
    must_be_whole(&feed, &history);
}

/// No gap, no repeat, in order; and everything that was acknowledged is in it.
fn must_be_whole(feed: &[(i64, String)], history: &History) {
    let sequences: Vec<_> = feed.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, (1..=i64::try_from(feed.len()).unwrap()).collect::<Vec<_>>());
    let mut counts = BTreeMap::new();
    for (_, entry) in feed {
        *counts.entry(entry.split(' ').next().unwrap()).or_insert(0) += 1;
    }
    for (kind, wanted) in [
        ("system.created", history.facts.iter().filter(|fact| matches!(fact.what, What::Created(_))).count()),
        ("system.deleted", history.facts.iter().filter(|fact| matches!(fact.what, What::Deleted(_))).count()),
        ("application.deleted", history.facts.iter().filter(|fact| matches!(fact.what, What::KeyDeleted(_))).count()),
    ] {
        assert!(counts.get(kind).copied().unwrap_or_default() >= wanted, "{kind}: {counts:?}, {wanted} acknowledged");
    }
}
