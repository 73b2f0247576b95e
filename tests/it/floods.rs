//! HTTP/2 peers that attack, while a good client is served.
//!
//! Longer, and with a bound on what it costs: `cargo test --release --test it floods_in_full -- --ignored --nocapture`.

#![expect(clippy::print_stdout, reason = "its figures are what one runs it for")]

use crate::child::{Process, metric};
use crate::frames::{self, CANCEL, CONTINUATION, DATA, HEADERS, PING, RST_STREAM, SETTINGS};
use crate::server::Server;
use crate::stalls::good_client;
use crate::wire::GET_SYSTEMS;
use checkmate::transport::Limits;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long each attack lasts.
const SIEGE: Duration = Duration::from_millis(500);
/// The same, when it is measured what it costs.
const LONG_SIEGE: Duration = Duration::from_secs(5);
/// What a good client waits for at most, in 99 of 100 calls.
const P99_MAX: Duration = Duration::from_millis(250);
/// How many attack at once.
const ATTACKERS: usize = 4;
/// Frames in one write.
const VOLLEY: u32 = 500;

type Volley = fn(&mut u32, &str) -> Vec<u8>;

/// Streams that are opened and reset at once.
fn resets(stream: &mut u32, key: &str) -> Vec<u8> {
    let reset =
        |stream| [frames::call(stream, GET_SYSTEMS, key), frames::frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())];
    (0..VOLLEY).flat_map(|_| reset(next(stream)).concat()).collect()
}

/// A head without end.
fn continuations(stream: &mut u32, _: &str) -> Vec<u8> {
    let piece = frames::fields(&[("x", "y")]);
    let begin = if *stream == 1 { frames::frame(HEADERS, 0, next(stream), &piece) } else { vec![] };
    [begin, frames::frame(CONTINUATION, 0, 1, &piece).repeat(VOLLEY as usize)].concat()
}

/// A body of nothing, without end.
fn empty_data(stream: &mut u32, key: &str) -> Vec<u8> {
    let begin = if *stream == 1 { frames::call(next(stream), GET_SYSTEMS, key) } else { vec![] };
    [begin, frames::frame(DATA, 0, 1, &[]).repeat(VOLLEY as usize)].concat()
}

fn settings(_: &mut u32, _: &str) -> Vec<u8> {
    frames::frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(VOLLEY as usize)
}

fn pings(_: &mut u32, _: &str) -> Vec<u8> {
    frames::frame(PING, 0, 0, &[0; 8]).repeat(VOLLEY as usize)
}

fn next(stream: &mut u32) -> u32 {
    std::mem::replace(stream, *stream + 2)
}

/// Attacks until the time is over, on a new connection whenever one is ended. How many were ended.
async fn attack(address: SocketAddr, volley: Volley, key: String, reads: bool, siege: Duration) -> usize {
    let (until, mut ended) = (Instant::now() + siege, 0);
    while Instant::now() < until {
        let (mut stream, mut number) = (frames::open(address, &[]).await, 1);
        let (mut reading, mut writing) = stream.split();
        let fire = async { while writing.write_all(&volley(&mut number, &key)).await.is_ok() {} };
        let drain = async {
            let mut seen = vec![0; 65_536];
            while reads && reading.read(&mut seen).await.is_ok_and(|length| length > 0) {}
            if !reads {
                std::future::pending::<()>().await;
            }
        };
        let over = async {
            tokio::select! { () = fire => {}, () = drain => {} }
        };
        if timeout_at(until, over).await.is_ok() {
            ended += 1;
        }
    }
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_cost_a_good_client_nothing() {
    flood(SIEGE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "its figures want a release build and a quiet machine"]
async fn floods_in_full() {
    for (name, p99) in flood(LONG_SIEGE).await {
        assert!(p99 < P99_MAX, "{name}: a good client waits for {p99:?}");
    }
}

/// Every flood in turn; the p99 of a good client under each.
async fn flood(siege: Duration) -> Vec<(&'static str, Duration)> {
    /// What all floods together may leave behind.
    const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;
    let server = Process::start(1_024, Limits { database_connections: 4, ..Limits::default() }).await;
    let (admin, address) = (server.admin(), server.address());
    let key = admin.key.clone().unwrap();
    let floods: [(&str, Volley, bool); 7] = [
        ("rapid reset", resets, true),
        ("CONTINUATION", continuations, true),
        ("empty DATA", empty_data, true),
        ("SETTINGS", settings, true),
        ("SETTINGS, unread", settings, false),
        ("PING", pings, true),
        ("PING, unread", pings, false),
    ];
    let mut waited = vec![];
    for (name, volley, reads) in floods {
        let (before, stop) = (server.memory_bytes(), CancellationToken::new());
        let good = tokio::spawn(good_client(admin.clone(), stop.clone()));
        let attacks = (0..ATTACKERS).map(|_| tokio::spawn(attack(address, volley, key.clone(), reads, siege)));
        let ended: usize = futures_util::future::join_all(attacks).await.into_iter().map(Result::unwrap).sum();
        stop.cancel();
        let outcome = good.await.unwrap();
        let grown = before.zip(server.memory_bytes()).map(|(before, after)| after.saturating_sub(before));
        println!("{name:>17}: {ended} connections ended; {outcome}; grown {grown:?}");
        assert_eq!(outcome.failures, [""; 0], "{name}");
        assert!(grown.is_none_or(|grown| grown < GROWTH_BYTES_MAX), "{name}: {grown:?} bytes");
        waited.push((name, outcome.p99()));
    }
    waited
}

/// A stream that is reset before its request is looked at costs a look at neither key nor database.
#[tokio::test]
async fn a_stream_that_is_reset_at_once_reaches_nobody() {
    let server = Server::start().await;
    let address = server.url.trim_start_matches("http://").parse().unwrap();
    let admin = server.admin();
    let stranger = admin.key.as_ref().map(|key| key.split_once('_').unwrap().0.to_owned() + "_no_key").unwrap();
    let mut number = 1;
    for _ in 0..20 {
        let mut stream = frames::open(address, &[]).await;
        // As many as h2 takes for bad luck.
        let volley: Vec<u8> = (0..10)
            .flat_map(|_| {
                let id = next(&mut number);
                [frames::call(id, GET_SYSTEMS, &stranger), frames::frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes())]
                    .concat()
            })
            .collect();
        stream.write_all(&[volley, frames::frame(PING, 0, 0, &[7; 8])].concat()).await.unwrap();
        while let Some(frame) = frames::next(&mut stream).await {
            if frame.kind == PING {
                break;
            }
        }
    }
    // One that was read alone, between its head and its reset, is looked at: that is a race with the network.
    let seen = metric(&admin, "bad_credentials_total").await;
    assert!(seen < 40, "{seen} of 200 were looked at");
}
