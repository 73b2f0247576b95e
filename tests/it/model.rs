//! Random writers and readers on several replicas, which are paused, killed and made deaf meanwhile: no answer may be
//! older than its bound, no revoked key may live longer, and the change feed must neither lose nor reorder.
//!
//! What happened is written down and judged afterwards, by a judge that is itself tested with planted lies.

use crate::cluster::until;
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

/// How long the random part takes, and how long if little happens: on a busy machine with a slow disk a key takes seconds.
const LASTS: Duration = Duration::from_secs(8);
const LASTS_MAX: Duration = Duration::from_mins(1);

/// So many keys are revoked, and so often one of them is refused, or nothing can be said.
const ENOUGH: usize = 6;

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
    /// A key that is good for nothing from then on, in one of these ways.
    Revoked(Revocation, String),
}

/// How a key stops to be good for reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Revocation {
    Deleted,
    /// It has another secret.
    Regenerated,
    /// It has lost its role.
    Unassigned,
    /// Its role has lost its permissions.
    RoleChanged,
}

const REVOCATIONS: [Revocation; 4] =
    [Revocation::Deleted, Revocation::Regenerated, Revocation::Unassigned, Revocation::RoleChanged];

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
                What::Revoked(_, key) => *key == seen.key,
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
    let revoked = || What::Revoked(Revocation::Deleted, "k".into());
    assert_eq!(judge(fact(revoked(), 0, 100), seen(0, 101, &[])), 1, "a key that lives on");
    assert_eq!(judge(fact(revoked(), 0, 100), seen(1, 1_000, &[])), 0);
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

/// A key of a reader, with a role of its own.
struct Key {
    application: String,
    role: String,
    secret: String,
}

/// Everything that runs at the same time.
struct World {
    urls: Mutex<Vec<String>>,
    history: Mutex<History>,
    keys: Mutex<Vec<Key>>,
    /// Readers go on with these: they must be refused.
    revoked: Mutex<Vec<String>>,
    /// How often they tried, and how often they were refused.
    tried: AtomicUsize,
    refused: AtomicUsize,
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

    fn goes_on(&self) -> bool {
        let has_enough = || {
            let revoked: usize = revocations(&self.history.lock().unwrap()).values().sum();
            revoked >= ENOUGH && self.refused.load(Ordering::Relaxed) >= ENOUGH
        };
        self.now() < LASTS || (self.now() < LASTS_MAX && !has_enough())
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

    /// Makes a key, and revokes one when there are enough.
    async fn change_keys(&self) {
        if let Some(new) = self.make_key().await {
            self.keys.lock().unwrap().push(new);
        }
        let old = {
            let mut keys = self.keys.lock().unwrap();
            if keys.len() > 2 { keys.remove(0) } else { return }
        };
        let how = REVOCATIONS[self.roll(REVOCATIONS.len())];
        // Before it is asked for: whether it was done or not, nobody needs the key any more.
        self.revoked.lock().unwrap().push(old.secret.clone());
        let body = match how {
            Revocation::Deleted => json!({"deleteApplication": old.application}),
            Revocation::Regenerated => json!({"regenerateApplicationSecret": old.application}),
            Revocation::Unassigned => json!({"updateApplication": {"id": old.application, "roles": []}}),
            Revocation::RoleChanged => json!({"updateRole": {"id": old.role, "permissions": []}}),
        };
        let (replica, url) = self.replica();
        let Some(mut done) = self.call(&url, &self.admin, "auth", body).await else { return };
        self.note(What::Revoked(how, old.secret), replica);
        if let Value::String(secret) = done["regenerateApplicationSecret"]["secret"].take() {
            self.keys.lock().unwrap().push(Key { secret, ..old });
        }
    }

    async fn make_key(&self) -> Option<Key> {
        let (_, url) = self.replica();
        let name = format!("r{}", self.next.fetch_add(1, Ordering::Relaxed));
        let role = json!({"createRole": {"name": name, "permissions": ["catalog.catalog.read"]}});
        let role = self.call(&url, &self.admin, "auth", role).await?["createRole"]["id"].as_str()?.to_owned();
        let body = json!({"createApplication": {"name": name, "roles": [role]}});
        let made = self.call(&url, &self.admin, "auth", body).await?;
        let made = &made["createApplication"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Some(Key { application: text(&made["application"]["id"]), role, secret: text(&made["secret"]) })
    }

    /// A key to read with: good, revoked or the administrator's.
    fn some_key(&self) -> (String, bool) {
        let revoked = self.revoked.lock().unwrap();
        if !revoked.is_empty() && self.roll(3) == 0 {
            // The latest more often: who has just heard of them is where it can go wrong.
            let latest = revoked.len().min(1 + self.roll(revoked.len()));
            return (revoked[revoked.len() - latest].clone(), true);
        }
        let keys = self.keys.lock().unwrap();
        (keys.get(self.roll(keys.len() + 1)).map_or(self.admin.clone(), |key| key.secret.clone()), false)
    }

    async fn read(&self) {
        let (replica, url) = self.replica();
        let (key, is_revoked) = self.some_key();
        let asked = self.now();
        let request = if self.roll(2) == 0 {
            let request = self.http.post(format!("{url}/api/catalog/getSystems"));
            request.header("content-type", "application/json").body("null")
        } else {
            self.http.get(format!("{url}/api/catalog/getSystems"))
        };
        let Ok(response) = request.bearer_auth(&key).send().await else { return };
        let status = response.status().as_u16();
        if is_revoked {
            self.tried.fetch_add(1, Ordering::Relaxed);
            self.refused.fetch_add(usize::from([401, 403].contains(&status)), Ordering::Relaxed);
        }
        if status != 200 {
            return;
        }
        let Ok(Value::Array(list)) = response.json().await else { return };
        let names = list.iter().filter_map(|system| system["name"].as_str().map(str::to_owned)).collect();
        self.history.lock().unwrap().seen.push(Seen { replica, asked, key, names });
    }

    fn note(&self, what: What, replica: usize) {
        let fact = Fact { what, replica, acknowledged: self.now() };
        self.history.lock().unwrap().facts.push(fact);
    }
}

/// Cuts the connections on which the replicas of a database hear of changes; how many there were.
pub async fn deafen(url: &str) -> u64 {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where query like 'LISTEN%checkmate_' || hashtext(current_schema()::text) || '%'";
    sqlx::query(cut).execute(&mut connection).await.unwrap().rows_affected()
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
        revoked: Mutex::default(),
        tried: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
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
    for number in 0..44 {
        let world = world.clone();
        tasks.spawn(async move {
            while world.goes_on() {
                match number {
                    0..6 => world.write().await,
                    6..13 => world.change_keys().await,
                    _ => world.read().await,
                }
                // A replica that starts, and the hashing of a new secret, want a core, too.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    let mut cut = 0;
    if is_postgres() {
        // Chance may never come to it.
        until("somebody listens", BOUND * 3, async || {
            cut += deafen(&url).await;
            cut > 0
        })
        .await;
    }
    while world.goes_on() {
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
            _ if is_postgres() => cut += deafen(&url).await,
            _ => {}
        }
        // Long enough for a key to be made and revoked between two faults.
        tokio::time::sleep(Duration::from_millis(500)).await;
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
    let (tried, refused) = (world.tried.load(Ordering::Relaxed), world.refused.load(Ordering::Relaxed));
    let revoked = revocations(&history);
    println!("revoked {revoked:?}; tried {tried} times, {refused} refused; {cut} connections that listened were cut");
    assert!(history.facts.len() > 5 && history.seen.len() > 5, "too little happened to say anything");
    assert!(revoked.values().sum::<usize>() >= ENOUGH && refused >= ENOUGH, "too few keys were revoked and tried");
    assert!(cut > 0 || !is_postgres(), "nobody listened");
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
    let revoked = revocations(history);
    let revoked = |how| revoked.get(&how).copied().unwrap_or_default();
    for (kind, wanted) in [
        ("system.created", history.facts.iter().filter(|fact| matches!(fact.what, What::Created(_))).count()),
        ("system.deleted", history.facts.iter().filter(|fact| matches!(fact.what, What::Deleted(_))).count()),
        ("application.deleted", revoked(Revocation::Deleted)),
        ("application.secret_regenerated", revoked(Revocation::Regenerated)),
        ("application.updated", revoked(Revocation::Unassigned)),
        ("role.updated", revoked(Revocation::RoleChanged)),
    ] {
        assert!(counts.get(kind).copied().unwrap_or_default() >= wanted, "{kind}: {counts:?}, {wanted} acknowledged");
    }
}

/// How many keys were revoked in each way.
fn revocations(history: &History) -> BTreeMap<Revocation, usize> {
    let mut counts = BTreeMap::new();
    for fact in &history.facts {
        if let What::Revoked(how, _) = fact.what {
            *counts.entry(how).or_default() += 1;
        }
    }
    counts
}
