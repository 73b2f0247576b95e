//! Whether the time of a refusal tells why a key was refused.
//!
//! Two kinds of keys are told apart as well as the area under the curve says (Mann-Whitney): 0.5 is chance, 1 is always.
//! The kinds take turns in an order drawn anew each round, so whatever else the machine does falls on all alike.

use crate::dynamic::{DynamicCodec, request};
use crate::line::{Line, grpc_request, json_request};
use crate::server::Server;
use crate::wrong_keys::bad_keys;
use checkmate::contract::method_named;
use serde_json::json;
use std::time::{Duration, Instant};

/// What is planted to see whether it is found.
const PLANTED: Duration = Duration::from_micros(200);

/// The times of every kind, in nanoseconds. The last kind is the planted one: it asks as the first does, and takes
/// [`PLANTED`] longer here, while it is being timed.
async fn times(kinds: usize, rounds: usize, mut ask: impl AsyncFnMut(usize)) -> Vec<Vec<u64>> {
    let mut times = vec![Vec::with_capacity(rounds); kinds + 1];
    let mut order: Vec<_> = (0..=kinds).collect();
    for round in 0..rounds + rounds / 10 {
        for last in (1..order.len()).rev() {
            order.swap(last, (uuid::Uuid::now_v7().as_u128() % (last as u128 + 1)) as usize);
        }
        for kind in &order {
            let started = Instant::now();
            ask(kind % kinds).await;
            if *kind == kinds {
                let end = Instant::now() + PLANTED;
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            }
            let took = started.elapsed().as_nanos();
            // The first rounds warm up.
            if round >= rounds / 10 {
                times[*kind].push(u64::try_from(took).unwrap());
            }
        }
    }
    times
}

/// The least of every five in a row. What a busy machine adds is left out, as who wants to know would do, and what is
/// always there stands out.
fn least_of(times: &[Vec<u64>]) -> Vec<Vec<u64>> {
    let least = |times: &Vec<u64>| times.chunks(5).filter_map(|five| five.iter().min()).copied().collect();
    times.iter().map(least).collect()
}

/// The chance that a value of `b` is larger than one of `a`; equal ones count half.
fn area(a: &[u64], b: &[u64]) -> f64 {
    let mut all: Vec<_> = a.iter().map(|time| (*time, false)).chain(b.iter().map(|time| (*time, true))).collect();
    all.sort_unstable();
    let (mut smaller, mut wins) = (0.0, 0.0);
    for equal in all.chunk_by(|one, next| one.0 == next.0) {
        let of_b = count(equal.iter().filter(|(_, is_b)| *is_b).count());
        let of_a = count(equal.len()) - of_b;
        wins += of_b * (smaller + of_a / 2.0);
        smaller += of_a;
    }
    wins / (count(a.len()) * count(b.len()))
}

fn count(count: usize) -> f64 {
    u32::try_from(count).unwrap().into()
}

/// What was found on one way in.
struct Found {
    /// How well the kinds of bad keys can be told apart, in pairs.
    pairs: Vec<(String, f64)>,
    /// How well the planted difference can be.
    planted: f64,
}

impl Found {
    fn in_times(keys: &[(&'static str, String)], times: &[Vec<u64>]) -> Self {
        let kinds = keys.len();
        let pairs = (0..kinds).flat_map(|one| (one + 1..kinds).map(move |other| (one, other)));
        let pair = |(one, other): (usize, usize)| {
            (format!("{}/{}", keys[one].0, keys[other].0), area(&times[one], &times[other]))
        };
        Self { pairs: pairs.map(pair).collect(), planted: area(&times[0], &times[kinds]) }
    }

    /// Whether the kinds are alike within the margin, by the same measure that finds the planted difference.
    fn is_good(&self, margin: f64) -> bool {
        let is_alike = |area: f64| (area - 0.5).abs() <= margin;
        self.pairs.iter().all(|(_, area)| is_alike(*area)) && !is_alike(self.planted)
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (pair, area) in &self.pairs {
            write!(f, "{pair} {area:.3}, ")?;
        }
        write!(f, "planted {:.3}", self.planted)
    }
}

/// Ways in.
#[derive(Clone, Copy, Debug)]
enum Way {
    Json,
    GrpcWeb,
    Grpc,
}

async fn measure(server: &Server, keys: &[(&'static str, String)], way: Way, rounds: usize) -> Vec<Vec<u64>> {
    match way {
        Way::Json | Way::GrpcWeb => {
            let form = if matches!(way, Way::Json) { json_request } else { grpc_request };
            let requests: Vec<_> = keys.iter().map(|(_, key)| form(key)).collect();
            let mut line = Line::open(&server.url);
            let ask = async |kind: usize| assert_ne!(line.ask(&requests[kind]).0, 500);
            times(keys.len(), rounds, ask).await
        }
        Way::Grpc => {
            let path = method_named("auth", "whoAmI").unwrap().path;
            let channel = tonic::transport::Endpoint::new(server.url.clone()).unwrap().connect().await.unwrap();
            let mut client = tonic::client::Grpc::new(channel);
            let headers: Vec<_> = keys.iter().map(|(_, key)| format!("Bearer {key}").parse().unwrap()).collect();
            let ask = async |kind: usize| {
                let mut request = tonic::Request::new(request(path, &json!({})));
                request.metadata_mut().insert("authorization", tonic::metadata::MetadataValue::clone(&headers[kind]));
                client.ready().await.unwrap();
                client.unary(request, path.parse().unwrap(), DynamicCodec::of(path)).await.unwrap_err();
            };
            times(keys.len(), rounds, ask).await
        }
    }
}

/// Enough for every question of a measurement.
async fn without_a_budget() -> Server {
    Server::start_with(|config| config.limits.bad_credentials = 1_000_000).await
}

#[test]
fn the_measure_is_right() {
    assert_eq!(area(&[1, 2, 3], &[4, 5, 6]).to_bits(), 1.0_f64.to_bits());
    assert_eq!(area(&[4, 5, 6], &[1, 2, 3]).to_bits(), 0.0_f64.to_bits());
    assert_eq!(area(&[1, 2, 2, 3], &[2, 2]).to_bits(), 0.5_f64.to_bits());
    assert_eq!(area(&[1, 3], &[2, 4]).to_bits(), 0.75_f64.to_bits());
}

#[tokio::test]
async fn time_does_not_tell_why_a_key_is_refused() {
    let server = without_a_budget().await;
    let keys = bad_keys(&server).await;
    for (way, rounds) in [(Way::Json, 2_000), (Way::Grpc, 1_000)] {
        // A machine that is busy with something else may spoil a measurement, but not three.
        let mut last = String::new();
        for _ in 0..3 {
            let times = measure(&server, &keys, way, rounds).await;
            let found = Found::in_times(&keys, &least_of(&times));
            if found.is_good(0.1) {
                last.clear();
                break;
            }
            last = found.to_string();
        }
        assert!(last.is_empty(), "{way:?}: {last}");
    }
}

/// The whole measurement: `cargo test --release --test it timing::in_full -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "takes minutes, and wants a quiet machine"]
async fn in_full() {
    const ROUNDS: usize = 10_000;
    let (open, closed) =
        (without_a_budget().await, Server::start_with(|config| config.limits.bad_credentials = 1).await);
    let mut all_good = true;
    for (server, answered) in [(&open, "401"), (&closed, "429")] {
        let keys = bad_keys(server).await;
        for way in [Way::Json, Way::GrpcWeb, Way::Grpc] {
            let times = measure(server, &keys, way, ROUNDS).await;
            let found = Found::in_times(&keys, &times);
            let sharper = Found::in_times(&keys, &least_of(&times));
            #[expect(clippy::print_stdout, reason = "what was measured is what it is run for")]
            {
                println!("{answered} {way:?}: {found}; the least of five: {sharper}");
            }
            all_good &= found.is_good(0.03);
        }
    }
    assert!(all_good, "a pair can be told apart, or what was planted was not found");
}
