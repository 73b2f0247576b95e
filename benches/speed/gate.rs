//! What knowing who calls and whether they may costs, in this process.

use crate::data::Store;
use anyhow::{Context, Result};
use checkmate::access::gate::Credential;
use checkmate::access::{ApplicationId, Budget, Gate, Hashing, InstanceKey, Network, Snapshot, Token};
use checkmate::contract::method_named;
use checkmate::database::{Database, Location};
use checkmate::world::{Clock, Entropy};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The instance key of every server here.
pub const INSTANCE_KEY: &str = "abababababababababababababababababababababababababababababababab";

/// The µs that a call spends in the Gate.
pub struct Cost {
    /// With one key that is used again and again.
    pub one_key: f64,
    /// With another key each time.
    pub every_key: f64,
    /// Reading all applications.
    pub load: Duration,
}

/// Adds so many applications to a database without a server; their keys.
pub async fn add(url: &str, count: usize) -> Result<Vec<Token>> {
    let key = InstanceKey::parse(INSTANCE_KEY)?;
    let token = |_| Token::generate(ApplicationId(Uuid::now_v7()), Entropy);
    let tokens = (0..count).map(token).collect::<checkmate::error::Result<Vec<_>>>()?;
    let rows: Vec<_> = tokens.iter().map(|token| (token.application.0, key.tag(token).hex())).collect();
    let mut store = Store::open(url).await?;
    store.add_applications(&rows, &key.name).await?;
    store.close().await?;
    Ok(tokens)
}

/// Measures for so long, twice.
pub async fn measure(url: &str, tokens: &[Token], time: Duration) -> Result<Cost> {
    let key = InstanceKey::parse(INSTANCE_KEY)?;
    let database = Database::connect(&Location::parse(url)?, 2, Duration::ZERO).await?;
    let started = Instant::now();
    let snapshot = Snapshot::load(database.clone(), &key).await?;
    let load = started.elapsed();
    let (clock, network) = (Clock::system(), Network::of(Ipv4Addr::LOCALHOST.into()));
    let budget = Budget::new(1_000, 600, clock.clone());
    let gate = Gate::new(snapshot.clone(), key.into(), Hashing::default(), database.clone(), budget, clock);
    let one_key = repeat(&gate, network, &snapshot, tokens.get(..1).context("a key")?, time).await?;
    let every_key = repeat(&gate, network, &snapshot, tokens, time).await?;
    database.close().await;
    Ok(Cost { one_key, every_key, load })
}

async fn repeat(gate: &Gate, network: Network, snapshot: &Snapshot, tokens: &[Token], time: Duration) -> Result<f64> {
    /// Between two looks at the clock, which costs as much as a tenth of a call.
    const CALLS: u32 = 1_000;
    let method = method_named("catalog", "getSystems").context("a method")?;
    // The snapshot decides for 2 s after it has been looked at.
    snapshot.refresh().await?;
    let (started, mut calls, mut keys) = (Instant::now(), 0, tokens.iter().cycle());
    while started.elapsed() < time.min(Duration::from_secs(1)) {
        for _ in 0..CALLS {
            let token = keys.next().context("a key")?;
            let caller = gate.authenticate(Credential::Bearer(token.reveal()), network).await?;
            std::hint::black_box(gate.admit(method, &caller)?);
        }
        calls += CALLS;
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / f64::from(calls))
}
