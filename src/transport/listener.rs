//! The accept loop: connections in, within their limits, and out again when the server stops.

use super::{Edge, Limits};
use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// After a failed accept (no file descriptors, say) a moment passes, or the loop would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until told to stop, then lets what is in flight finish for at most `drain`.
pub async fn serve(listener: TcpListener, edge: Edge, stop: CancellationToken, drain: Duration) {
    let limits = edge.shared().limits;
    let (builder, graceful) = (builder(&limits), GracefulShutdown::new());
    let (places, cut) = (Arc::new(Semaphore::new(limits.connections)), CancellationToken::new());
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(why) => {
                tracing::warn!(cause = %why, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            edge.shared().metrics.connections_refused.inc();
            continue;
        };
        let connection = graceful.watch(connection(&builder, stream, &edge));
        let metrics = edge.shared().metrics.clone();
        let cut = cut.clone();
        tokio::spawn(async move {
            let _place = place;
            metrics.connections.inc();
            if let Some(Err(why)) = cut.run_until_cancelled(connection).await {
                tracing::debug!(cause = %why, "a connection ended early");
            }
            metrics.connections.dec();
        });
    }
    drop(listener);
    edge.shared().tasks.close();
    let finish = async {
        graceful.shutdown().await;
        edge.shared().tasks.wait().await;
    };
    if tokio::time::timeout(drain, finish).await.is_err() {
        tracing::warn!("requests were still in flight when the time to finish them ran out");
    }
    cut.cancel();
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits.header_s))
        .max_buf_size(limits.header_bytes as usize)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes)
        .keep_alive_interval(Duration::from_secs(limits.idle_s))
        .keep_alive_timeout(Duration::from_secs(limits.header_s));
    builder
}

fn connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    edge: &Edge,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = impl std::fmt::Display> + Send + 'static {
    // Answers are small and written whole: waiting for more to send only adds latency.
    let _ = stream.set_nodelay(true);
    let edge = edge.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let edge = edge.clone();
        async move { Ok::<_, Infallible>(edge.answer(request.map(Body::new)).await) }
    });
    builder.serve_connection(TokioIo::new(stream), service).into_owned()
}
