//! `checkmate serve`.

use super::print;
use crate::app::App;
use crate::config::{Config, planned_ahead, planned_fault};
use crate::world::Clock;
use anyhow::Context;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(super) async fn run(config: Config) -> anyhow::Result<()> {
    if let Some(place) = planned_fault() {
        crate::fault::plan(&place);
    }
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signal(stop.clone())?);
    let listener =
        TcpListener::bind(&config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    // Starting may mean waiting for PostgreSQL.
    let clock = planned_ahead().map_or_else(Clock::system, Clock::ahead);
    let starting = Box::pin(App::start(config, listener, clock));
    let started = stop.run_until_cancelled(starting).await;
    let Some(mut app) = started.transpose()? else { return Ok(()) };
    let address = app.address();
    if let Some(token) = app.take_bootstrap() {
        print(&welcome(address, token.reveal()))?;
    }
    print(&format!("listening on http://{address}"))?;
    app.run(stop).await?;
    signals.abort();
    Ok(())
}

/// SIGTERM and SIGINT end in peace; the second of them ends at once.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        for is_second in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if is_second {
                std::process::exit(1);
            }
            tracing::info!("stopping: finishing what is in flight; a second signal exits at once");
            stop.cancel();
        }
    })
}

/// What the first start prints, once.
fn welcome(address: SocketAddr, key: &str) -> String {
    // Nobody can connect to "any address".
    let mut reachable = address;
    if address.ip().is_unspecified() {
        reachable.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    format!(
        "First start: made the application \"bootstrap\" with the role admin. Its key is shown only now:

    {key}

Try it:

    curl -X POST http://{reachable}/api/catalog/ -H \"Authorization: Bearer {key}\" \
         -H \"Content-Type: application/json\" -d '{{\"getSystems\": {{}}}}'
"
    )
}
