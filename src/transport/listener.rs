//! The accept loop: connections in, within their limits, and out again when the server stops.

use super::answer::{Answer, Listens};
use super::farewell::{self, Farewell};
use super::files::{self, CLOSING_MAX};
use super::peer::{Peer, Peers};
use super::socket::{Protocol, Socket};
use super::{Edge, Limits};
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// After a failed accept (no file descriptors, say) a moment passes, or the loop would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until told to stop, then lets what is in flight finish for at most `drain`.
pub async fn serve(listener: TcpListener, edge: Edge, stop: CancellationToken, drain: Duration) {
    let mut limits = edge.shared().limits;
    limits.connections = files::connections_max(&limits);
    let (builders, peers) = (Arc::new(Builders::new(&limits)), Peers::new(limits, edge.shared().metrics.clone()));
    let (attended, cut) = (TaskTracker::new(), CancellationToken::new());
    let (farewell, closing) = (Arc::new(Farewell::new(stop.clone())), CancellationToken::new());
    let watch = tokio::spawn(peers.clone().watch(cut.clone()));
    let shared = edge.shared();
    let judge = tokio::spawn(shared.listeners.clone().judge(shared.stopping.clone(), cut.clone()));
    // Whoever makes room has a socket until its task has seen that it is cut, and in a storm that takes a while.
    let places = Arc::new(Semaphore::new(limits.connections.saturating_add(CLOSING_MAX).min(Semaphore::MAX_PERMITS)));
    let admit = |stream: TcpStream, place: Option<OwnedSemaphorePermit>| {
        // Whoever has gone already has no address.
        let Ok(address) = stream.peer_addr() else { return };
        let Some(known) = peers.meet(&closing, &cut) else { return };
        let (builders, edge, farewell) = (builders.clone(), edge.clone(), farewell.clone());
        attended.spawn(async move {
            let _until_closed = place;
            let (peer, socket) = (&known.peer, Socket::new(stream, known.peer.clone()));
            peer.cut.run_until_cancelled(attend(socket, address.ip(), peer, &builders, edge, farewell)).await;
        });
    };
    let next = || async { (places.clone().acquire_owned().await.ok(), listener.accept().await) };
    while let Some((place, accepted)) = stop.run_until_cancelled(next()).await {
        match accepted {
            Ok((stream, _)) => admit(stream, place),
            Err(why) => {
                tracing::warn!(cause = %why, "a connection could not be accepted");
                peers.make_room();
                sleep(PAUSE).await;
            }
        }
    }
    for stream in farewell::close(listener) {
        admit(stream, None);
    }
    edge.shared().tasks.close();
    attended.close();
    let finish = async {
        farewell.until_quiet().await;
        closing.cancel();
        attended.wait().await;
        edge.shared().tasks.wait().await;
    };
    if timeout(drain, finish).await.is_err() {
        tracing::warn!("requests were still in flight when the time to finish them ran out");
    }
    cut.cancel();
    if watch.await.is_err() || judge.await.is_err() {
        tracing::error!("a task that watches connections failed");
    }
}

/// One connection, from its first byte to its end.
async fn attend(
    mut socket: Socket,
    address: IpAddr,
    peer: &Arc<Peer>,
    builders: &Builders,
    edge: Edge,
    farewell: Arc<Farewell>,
) {
    let patience = Duration::from_secs(edge.shared().limits.header_s);
    let opening = peer.leave.run_until_cancelled(timeout(patience, socket.protocol())).await;
    let Some(Ok(Some(protocol))) = opening else { return };
    let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
        let (edge, in_hand, version) = (edge.clone(), peer.begin(), request.version());
        let farewell = farewell.clone();
        farewell.note_request();
        async move {
            if protocol == Protocol::Http2 {
                // The reset of a stream often stands right behind its head: let it be read before anything is done.
                tokio::task::yield_now().await;
            }
            let mut answer = edge.answer(request.map(Body::new), address).await;
            farewell.mark(version, &mut answer);
            let in_hand = if answer.extensions().get::<Listens>().is_some() { in_hand.listens() } else { in_hand };
            Ok::<_, Infallible>(answer.map(|body| Answer::new(body, in_hand, protocol)))
        }
    });
    let mut connection = pin!(builders.of(protocol).serve_connection(TokioIo::new(socket), service));
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = peer.leave.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(why) = done {
        tracing::debug!(cause = %why, "a connection ended early");
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
        // Heads are timed by `Peers`: hyper would count silence between two requests as a late head.
        http1.http1().header_read_timeout(None).max_buf_size(limits.header_bytes as usize).half_close(false);
        let mut http2 = Builder::new(TokioExecutor::new()).http2_only();
        http2
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_bytes)
            .max_send_buf_size(SEND_BYTES_MAX)
            .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
            .max_local_error_reset_streams(ERRORS_MAX)
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

/// What an HTTP/2 stream may keep for a peer that does not read: with 256 streams 16 MiB a connection, where hyper's
/// default allows 100.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// Streams that are reset before anybody has seen them (rapid reset, CVE-2023-44487); one more ends the connection.
/// h2's default, stated because the defence rests on it.
const UNSEEN_RESETS_MAX: usize = 20;

/// Streams that we reset because of what their peer did wrong; one more ends the connection. hyper's default: a client
/// that opens too many streams before it has read how many it may is refused that often without being at fault.
const ERRORS_MAX: usize = 1_024;
