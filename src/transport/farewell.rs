//! How connections end when the server stops: whatever reached it is answered.
//!
//! A caller who keeps an HTTP/1.1 connection sends the next request as soon as it has an answer, and cannot know that the
//! connection is about to be closed. So for a moment it stays open, and the next answer says `Connection: close`. HTTP/2
//! needs no such help: GOAWAY names the last request that is answered.

use http::header::CONNECTION;
use http::{HeaderValue, Response, Version};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Nothing was asked for this long: whoever would have asked has done so. Stopping an idle server takes as long.
const QUIET: Duration = Duration::from_millis(50);

/// A steady stream of requests on HTTP/2 is never quiet.
const LOOKS_MAX: u32 = 20;

/// Tells the connections of a listener that it stops.
pub(super) struct Farewell {
    stop: CancellationToken,
    heard: AtomicU64,
}

impl Farewell {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop, heard: AtomicU64::new(0) }
    }

    /// A request has arrived.
    pub(super) fn note_request(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes an answer the last of its connection, if the server stops.
    pub(super) fn mark<B>(&self, version: Version, answer: &mut Response<B>) {
        if self.stop.is_cancelled() && version < Version::HTTP_2 {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Waits until nobody asks anything more, a second at most.
    pub(super) async fn until_quiet(&self) {
        let mut heard = self.heard.load(Ordering::Relaxed);
        for _ in 0..LOOKS_MAX {
            sleep(QUIET).await;
            let now = self.heard.load(Ordering::Relaxed);
            if now == heard {
                return;
            }
            heard = now;
        }
    }
}

/// Closes a listener; the connections that the kernel had let in already.
pub(super) fn close(listener: TcpListener) -> Vec<TcpStream> {
    let Ok(listener) = listener.into_std() else { return vec![] };
    let waiting = std::iter::from_fn(|| listener.accept().ok());
    let ready = waiting.filter_map(|(stream, _)| stream.set_nonblocking(true).is_ok().then_some(stream));
    ready.filter_map(|stream| TcpStream::from_std(stream).ok()).collect()
}
