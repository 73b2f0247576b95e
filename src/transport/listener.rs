//! The accept loop: connections in, within their limits, and out again when the server stops.

use super::farewell::{self, Farewell};
use super::{Edge, Limits};
use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown, Watcher};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// After a failed accept (no file descriptors, say) a moment passes, or the loop would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves until told to stop, then lets what is in flight finish for at most `drain`.
pub async fn serve(listener: TcpListener, edge: Edge, stop: CancellationToken, drain: Duration) {
    let limits = edge.shared().limits;
    let (builders, graceful) = (Arc::new(Builders::new(&limits)), GracefulShutdown::new());
    let (places, cut) = (Arc::new(Semaphore::new(limits.connections)), CancellationToken::new());
    let (farewell, closing) = (Arc::new(Farewell::new(stop.clone())), CancellationToken::new());
    let admit = |stream: TcpStream| {
        // Whoever has gone already has no address.
        let Ok(peer) = stream.peer_addr() else { return };
        let Ok(place) = places.clone().try_acquire_owned() else {
            edge.shared().metrics.connections_refused.inc();
            return;
        };
        let (builders, edge, watcher) = (builders.clone(), edge.clone(), graceful.watcher());
        let (cut, closing, farewell) = (cut.clone(), closing.clone(), farewell.clone());
        tokio::spawn(async move {
            let _place = place;
            let metrics = edge.shared().metrics.clone();
            metrics.connections.inc();
            cut.run_until_cancelled(attend(stream, peer.ip(), &builders, edge, watcher, closing, farewell)).await;
            metrics.connections.dec();
        });
    };
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => admit(stream),
            Err(why) => {
                tracing::warn!(cause = %why, "a connection could not be accepted");
                sleep(PAUSE).await;
            }
        }
    }
    farewell::close(listener).into_iter().for_each(admit);
    edge.shared().tasks.close();
    let finish = async {
        farewell.until_quiet().await;
        closing.cancel();
        graceful.shutdown().await;
        edge.shared().tasks.wait().await;
    };
    if timeout(drain, finish).await.is_err() {
        tracing::warn!("requests were still in flight when the time to finish them ran out");
    }
    cut.cancel();
}

/// One connection, from its first byte to its end.
async fn attend(
    stream: TcpStream,
    peer: IpAddr,
    builders: &Builders,
    edge: Edge,
    watcher: Watcher,
    closing: CancellationToken,
    farewell: Arc<Farewell>,
) {
    let patience = Duration::from_secs(edge.shared().limits.header_s);
    let opening = closing.run_until_cancelled(timeout(patience, protocol(&stream))).await;
    let Some(Ok(Some(protocol))) = opening else { return };
    if let Err(why) = watcher.watch(connection(builders.of(protocol), stream, peer, edge, farewell)).await {
        tracing::debug!(cause = %why, "a connection ended early");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Looks at the first bytes without taking them; `None` if the peer has gone. hyper would look for as long as it takes.
async fn protocol(stream: &TcpStream) -> Option<Protocol> {
    /// Half a preface stays readable, so waiting for the rest of it means looking again.
    const AGAIN: Duration = Duration::from_millis(10);
    loop {
        let mut first = [0; PREFACE.len()];
        let length = stream.peek(&mut first).await.ok()?;
        let seen = first.get(..length)?;
        match length {
            0 => return None,
            _ if !PREFACE.starts_with(seen) => return Some(Protocol::Http1),
            _ if length == PREFACE.len() => return Some(Protocol::Http2),
            _ => sleep(AGAIN).await,
        }
    }
}

/// A builder for each protocol, so that hyper does not look for itself.
struct Builders {
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
}

impl Builders {
    fn new(limits: &Limits) -> Self {
        let mut http1 = Builder::new(TokioExecutor::new()).http1_only();
        http1
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(limits.header_s))
            .max_buf_size(limits.header_bytes as usize)
            .half_close(false);
        let mut http2 = Builder::new(TokioExecutor::new()).http2_only();
        http2
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_bytes)
            .keep_alive_interval(Duration::from_secs(limits.idle_s))
            .keep_alive_timeout(Duration::from_secs(limits.header_s));
        Self { http1, http2 }
    }

    fn of(&self, protocol: Protocol) -> &Builder<TokioExecutor> {
        match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        }
    }
}

fn connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    peer: IpAddr,
    edge: Edge,
    farewell: Arc<Farewell>,
) -> impl GracefulConnection<Error = impl std::fmt::Display> + Send + 'static {
    // Answers are small and written whole: waiting for more to send only adds latency.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (edge, farewell, version) = (edge.clone(), farewell.clone(), request.version());
        farewell.note_request();
        async move {
            let mut answer = edge.answer(request.map(Body::new), peer).await;
            farewell.mark(version, &mut answer);
            Ok::<_, Infallible>(answer)
        }
    });
    builder.serve_connection(TokioIo::new(stream), service).into_owned()
}
