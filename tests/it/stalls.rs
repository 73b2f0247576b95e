//! Peers that stall, in every way there is, while a good client is served.
//!
//! A thousand of each, with the limits that a server has by default, in some two minutes (it opens 17,000 sockets):
//! `sh -c 'ulimit -n 20000; cargo test --test it a_thousand_of_each -- --ignored --nocapture'`.

#![expect(clippy::print_stdout, reason = "its figures are what one runs it for")]

use crate::child::{Process, metric};
use crate::frames::{self, DATA, HEADERS, INITIAL_WINDOW_SIZE, PING, WINDOW_UPDATE};
use crate::server::{Caller, Server};
use crate::wire::GET_SYSTEMS;
use checkmate::transport::Limits;
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::tcp::ReadHalf;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const OPENAPI: &str = "/api/openapi.json";

/// A limit that is not looked at.
const LATER_S: u64 = 600;

/// A connection that stalls: what it sends at first, what again and again, and when it should be over.
#[derive(Clone)]
struct Stall {
    name: &'static str,
    opening: Vec<u8>,
    beat: Vec<u8>,
    reads: bool,
    limit_s: u64,
}

fn stalls(key: &str, limits: &Limits) -> Vec<Stall> {
    let Limits { header_s, body_s, unread_s, idle_s, .. } = *limits;
    let stall =
        |name, opening: &[u8], limit_s| Stall { name, opening: opening.into(), beat: vec![], reads: true, limit_s };
    let post = format!(
        "POST /api/catalog/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: 9999\r\n\r\n{{\"getS"
    );
    let ask = format!("GET {OPENAPI} HTTP/1.1\r\nhost: x\r\n\r\n");
    let h2 = |settings: &[(u16, u32)], rest: &[u8]| [frames::opening(settings), rest.into()].concat();
    // None of these answers pings either.
    let silent_s = body_s.min(header_s) + idle_s;
    let half_of = |path| h2(&[], &[frames::call(1, path, key), frames::frame(DATA, 0, 1, &[0, 0, 0])].concat());
    let reading = h2(&[], &frames::get(1, OPENAPI));
    let widest = (1 << 31) - 1;
    let grow = frames::frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    let ping = frames::frame(PING, 0, 0, &[0; 8]);
    // A reset that meets a full window is often not believed (RFC 5961); who goes on sending is told again.
    let unread = |name, opening, beat| Stall { name, opening, beat, reads: false, limit_s: unread_s };
    // More than the system takes for a peer that does not read.
    let answers = 10;
    let many: Vec<u8> = (0..answers).flat_map(|number| frames::get(2 * number + 1, OPENAPI)).collect();
    vec![
        stall("silent", b"", header_s),
        stall("half a preface", b"PRI * HTTP/2.0\r\n", header_s),
        stall("half a head", b"GET /healthz HTTP/1.1\r\nhost: x\r\n", header_s),
        Stall { beat: b"x".into(), ..stall("a head byte by byte", b"GET /healthz HTTP/1.1\r\nx: ", header_s) },
        stall("half a body", post.as_bytes(), body_s),
        Stall { beat: b"x".into(), ..stall("a body byte by byte", post.as_bytes(), body_s) },
        stall("idle after an answer", b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", idle_s),
        unread("answers unread", ask.repeat(answers as usize).into_bytes(), b"x".into()),
        stall("idle HTTP/2", &h2(&[], &[]), idle_s),
        Stall { beat: ping.clone(), ..stall("HTTP/2 pings", &h2(&[], &[]), idle_s) },
        stall("half HTTP/2 headers", &h2(&[], &frames::frame(HEADERS, 4, 1, &[0; 40])[..20]), idle_s),
        stall("half a gRPC message", &half_of(GET_SYSTEMS), silent_s),
        stall("half a question to health", &half_of("/grpc.health.v1.Health/Check"), silent_s),
        stall("no window", &h2(&[(INITIAL_WINDOW_SIZE, 0)], &frames::get(1, OPENAPI)), unread_s),
        stall("a window of one byte", &h2(&[(INITIAL_WINDOW_SIZE, 1)], &frames::get(1, OPENAPI)), unread_s),
        stall("a window never opened again", &reading, unread_s),
        unread("HTTP/2 unread", h2(&[(INITIAL_WINDOW_SIZE, widest)], &[grow, many].concat()), ping),
    ]
}

/// How long it was held.
async fn hold(address: SocketAddr, stall: Stall, beat: Duration) -> Duration {
    let held = Instant::now();
    let mut stream = frames::connect(address, (!stall.reads).then_some(4_096)).await.unwrap();
    stream.write_all(&stall.opening).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let beats = async {
        while !stall.beat.is_empty() {
            sleep(beat).await;
            if writing.write_all(&stall.beat).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let end = async {
        let mut seen = vec![0; 4_096];
        if !stall.reads {
            return until_reset(&reading).await;
        }
        while reading.read(&mut seen).await.is_ok_and(|length| length > 0) {}
    };
    tokio::select! { () = beats => {}, () = end => {} }
    held.elapsed()
}

/// Who does not read sees the end of a connection only where the system shows it.
async fn until_reset(reading: &ReadHalf<'_>) {
    loop {
        let ready = reading.ready(Interest::READABLE | Interest::ERROR).await.unwrap();
        if ready.is_read_closed() || ready.is_error() {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// How a good client was served.
#[derive(Default)]
pub struct Served {
    /// How long each call took, sorted.
    took: Vec<Duration>,
    pub failures: Vec<String>,
}

impl Served {
    /// What 99 of 100 calls took at most.
    pub fn p99(&self) -> Duration {
        self.took[(self.took.len() * 99 / 100).min(self.took.len() - 1)]
    }
}

impl std::fmt::Display for Served {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (calls, failed) = (self.took.len(), self.failures.len());
        let (p99, longest) = (self.p99(), self.took[calls - 1]);
        write!(formatter, "a good client: {calls} calls, {failed} failed, p99 {p99:.1?}, longest {longest:.1?}")
    }
}

/// A client that does nothing wrong, until told to stop.
pub async fn good_client(caller: Caller, stop: CancellationToken) -> Served {
    let mut served = Served::default();
    while !stop.is_cancelled() {
        // The first on a connection of its own, the second on one that stays, the third over gRPC.
        for way in 0..3 {
            let begun = Instant::now();
            let fresh = Caller { http: reqwest::Client::new(), ..caller.clone() };
            let failure = if way == 2 {
                caller.grpc("catalog.getSystems", &json!({})).await.err().map(|status| status.to_string())
            } else {
                let caller = if way == 0 { &fresh } else { &caller };
                let answer = caller.json("catalog.getSystems", json!({})).await;
                (answer.status != 200).then_some(answer.text)
            };
            served.took.push(begun.elapsed());
            served.failures.extend(failure);
            sleep(Duration::from_millis(5)).await;
        }
    }
    served.took.sort();
    served
}

/// Holds `each` connections of every kind, with a good client meanwhile; all are closed no later than `grace` after
/// their limit, and none before it.
async fn besiege(
    address: SocketAddr,
    good: Caller,
    limits: &Limits,
    each: usize,
    beat: Duration,
    grace: Duration,
) -> Served {
    let (mut kinds, stop) = (stalls(good.key.as_ref().unwrap(), limits), CancellationToken::new());
    kinds.retain(|stall| stall.limit_s < LATER_S);
    let served = tokio::spawn(good_client(good, stop.clone()));
    let mut held = vec![];
    for round in 0..each {
        for (kind, stall) in kinds.iter().enumerate() {
            held.push((kind, tokio::spawn(hold(address, stall.clone(), beat))));
        }
        // A storm of requests would be another test.
        if round % 10 == 9 {
            sleep(Duration::from_millis(400)).await;
        }
    }
    let mut bounds = vec![(Duration::MAX, Duration::ZERO); kinds.len()];
    let latest = Duration::from_secs(kinds.iter().map(|stall| stall.limit_s).max().unwrap()) + grace * 2;
    for (kind, task) in held {
        let Ok(took) = timeout(latest, task).await else { panic!("{:?} is never closed", kinds[kind].name) };
        let (least, most) = bounds[kind];
        let took = took.unwrap();
        bounds[kind] = (least.min(took), most.max(took));
    }
    stop.cancel();
    let served = served.await.unwrap();
    println!("{served}");
    for (stall, (least, most)) in kinds.iter().zip(&bounds) {
        println!("{:>28}: limit {} s, closed after {least:.2?} to {most:.2?}", stall.name, stall.limit_s);
    }
    for (stall, (least, most)) in kinds.iter().zip(bounds) {
        let limit = Duration::from_secs(stall.limit_s);
        assert!(least >= limit, "{:?} is closed too early", stall.name);
        assert!(most < limit + grace, "{:?} is closed too late", stall.name);
    }
    served
}

/// Twenty of every kind whose limit is short here; what has another limit would live for minutes.
async fn besiege_with(limits: Limits) {
    let server = Server::start_with(|config| config.limits = limits).await;
    let address = server.url.trim_start_matches("http://").parse().unwrap();
    let (beat, grace) = (Duration::from_millis(200), Duration::from_secs(15));
    let outcome = besiege(address, server.admin(), &limits, 20, beat, grace).await;
    assert_eq!(outcome.failures, [""; 0]);
}

#[tokio::test]
async fn who_sends_or_reads_too_slowly_is_closed_while_good_clients_are_served() {
    besiege_with(Limits { header_s: 1, body_s: 1, unread_s: 1, idle_s: LATER_S, ..Limits::default() }).await;
}

#[tokio::test]
async fn who_asks_for_nothing_is_closed_while_good_clients_are_served() {
    besiege_with(Limits { header_s: LATER_S, body_s: 1, unread_s: LATER_S, idle_s: 1, ..Limits::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute, and 17,000 sockets; the head of this file says how"]
async fn a_thousand_of_each_are_closed_within_a_second_of_their_limit() {
    let limits = Limits { connections: 19_000, ..Limits::default() };
    let server = Process::start(20_000, limits).await;
    let before = server.memory_bytes();
    let second = Duration::from_secs(1);
    let outcome = besiege(server.address(), server.admin(), &limits, 1_000, second, second).await;
    println!("resident memory: {before:?} bytes before, {:?} after", server.memory_bytes());
    assert_eq!(outcome.failures, [""; 0]);
    println!("connections left: {}", metric(&server.admin(), "connections").await);
}
