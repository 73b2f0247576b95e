//! A flood of wrong keys against the real binary: what it costs in memory, and what it costs those whose keys are good.
//!
//! `cargo test --release --test it flood -- --ignored --nocapture --test-threads 1`

#![expect(clippy::disallowed_methods, reason = "the senders are threads of their own, and keep a pace")]

use crate::line::{Line, json_request};
use crate::process::{Home, Running};
use crate::wrong_keys::{forged, unknown};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Of each of three kinds.
const EACH: usize = 100_000;
/// What a network with a gigabit could send is more; this is what leaves the machine to the server.
const WRONG_PER_S: u32 = 2_000;
const SENDERS: usize = 16;
/// More than may wait for Argon2.
const SENDERS_FOR_ARGON2: usize = 100;
/// The flood comes in so many.
const WAVES: usize = 30;
/// How many questions with a good key make a quiet time: three seconds of them.
const QUIET: usize = 500;
const GROWTH_MAX_MIB: u64 = 32;

/// The memory of a server that is resident, in KiB.
fn resident_kib(server: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Asks with a good key every five milliseconds for as long as it is told to; the times.
fn ask_well(url: &str, key: &str, go_on: impl Fn(usize) -> bool) -> Vec<Duration> {
    let (mut line, request) = (Line::open(url), json_request(key));
    let mut times = vec![];
    while go_on(times.len()) {
        let started = Instant::now();
        let (status, _) = line.ask(&request);
        times.push(started.elapsed());
        assert_eq!(status, 200, "a good key fails");
        sleep(Duration::from_millis(5));
    }
    times
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Sends wrong keys over many connections; how many were answered 401, 429 and 503.
fn ask_badly(
    url: &str,
    senders: usize,
    count: usize,
    pace: Duration,
    key: impl Fn(usize) -> String + Sync,
) -> [usize; 3] {
    let send = |first: usize| {
        let (mut line, mut seen, mut due) = (Line::open(url), [0; 3], Instant::now());
        for at in (first..count).step_by(senders) {
            let status = line.ask(&json_request(&key(at))).0;
            let known = [401, 429, 503].iter().position(|known| *known == status);
            seen[known.unwrap_or_else(|| panic!("a wrong key is answered {status}"))] += 1;
            due += pace;
            sleep(due.saturating_duration_since(Instant::now()));
        }
        seen
    };
    scope(|threads| {
        let senders: Vec<_> = (0..senders).map(|first| threads.spawn(move || send(first))).collect();
        senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .fold([0; 3], |all, one| [0, 1, 2].map(|n| all[n] + one[n]))
    })
}

#[expect(clippy::print_stdout, reason = "what was measured is what it is run for")]
fn tell(what: &str) {
    println!("{what}");
}

#[tokio::test]
#[ignore = "takes minutes, and wants a quiet machine"]
async fn three_hundred_thousand_wrong_keys_cost_little_memory_and_no_good_key_its_answer() {
    let home = Home::new().await;
    let server = Running::start(&mut home.command(&["serve"]));
    let (good, url) = (server.key(), server.url.clone());
    let id = good["ck_".len()..][..36].to_owned();
    let wrong = |at: usize| match at % 3 {
        0 => unknown(),
        1 => forged(&id),
        _ => format!("ck_{}_{}", uuid::Uuid::now_v7(), "0".repeat(49)),
    };
    let pace = Duration::from_secs(1) * u32::try_from(SENDERS).unwrap() / WRONG_PER_S;
    ask_well(&url, &good, |asked| asked < QUIET);
    let (before, mut after) = (resident_kib(&server), 0);

    // Quiet and flooded times take turns: what else the machine does falls on both.
    let (mut quiet, mut flooded, mut answered) = (vec![], vec![], [0; 3]);
    for _ in 0..WAVES {
        quiet.extend(ask_well(&url, &good, |asked| asked < QUIET));
        let is_over = AtomicBool::new(false);
        let (seen, times) = scope(|threads| {
            let asking = threads.spawn(|| ask_well(&url, &good, |_| !is_over.load(Ordering::Relaxed)));
            let seen = ask_badly(&url, SENDERS, 3 * EACH / WAVES, pace, wrong);
            is_over.store(true, Ordering::Relaxed);
            (seen, asking.join().unwrap())
        });
        flooded.extend(times);
        answered = [0, 1, 2].map(|n| answered[n] + seen[n]);
        after = resident_kib(&server).max(after);
    }

    let [bad, limited, unavailable] = answered;
    let (calm, busy) = (p99(&mut quiet), p99(&mut flooded));
    tell(&format!(
        "{} wrong keys: {bad} times 401, {limited} times 429, {unavailable} times 503; memory: {before} KiB before, at \
         most {after} KiB after; p99 of a good key: {calm:.0?} of {} quiet ones, {busy:.0?} of {} meanwhile",
        3 * EACH,
        quiet.len(),
        flooded.len(),
    ));
    assert!(after.saturating_sub(before) <= GROWTH_MAX_MIB * 1024, "memory grew");
    assert_eq!(unavailable, 0);
    assert!(busy < 2 * calm, "a good key waits");
}

#[tokio::test]
#[ignore = "takes a while, and wants a quiet machine"]
async fn wrong_keys_that_argon2_looks_at_cost_what_its_pool_costs() {
    let home = Home::new().await;
    std::fs::write(home.folder.path().join("checkmate.toml"), "[limits]\nbad_credentials = 1000000\n").unwrap();
    let start = |key: &str| Running::start(home.command(&["serve"]).env("CHECKMATE_INSTANCE_KEY", key.repeat(32)));
    let server = start("ab");
    let (good, admin) = (server.key(), server.with_key(&server.key()));
    let victim = admin.call("auth.createApplication", json!({"name": "victim"})).await;
    let victim = victim["application"]["id"].as_str().unwrap().to_owned();
    drop(server);
    // Nobody's tag counts under another instance key.
    let server = start("cd");
    let url = server.url.clone();
    ask_well(&url, &good, |asked| asked < 100);
    let before = resident_kib(&server);

    let is_over = AtomicBool::new(false);
    let (seen, mut times) = scope(|threads| {
        let asking = threads.spawn(|| ask_well(&url, &good, |_| !is_over.load(Ordering::Relaxed)));
        let seen = ask_badly(&url, SENDERS_FOR_ARGON2, 2_000, Duration::ZERO, |_| forged(&victim));
        is_over.store(true, Ordering::Relaxed);
        (seen, asking.join().unwrap())
    });

    let after = resident_kib(&server);
    tell(&format!(
        "2000 wrong keys without a tag: 401, 429, 503: {seen:?}; memory: {before} KiB before, {after} KiB after; p99 of a \
         good key {:.0?}",
        p99(&mut times),
    ));
    assert!(after.saturating_sub(before) <= GROWTH_MAX_MIB * 1024, "memory grew");
}
