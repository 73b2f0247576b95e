//! What is left of a body when the answer is ready.
//!
//! Most refusals are decided from the head. The body is then still under way, and closing the connection (or resetting
//! the stream) on it loses the answer: the client fails at writing before it reads. So what is on its way is read and
//! thrown away, within reason; if there is more, an HTTP/1.1 answer says that the connection ends.

use axum::body::{Body, Bytes, HttpBody};
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// An honest body that was on its way arrives within this.
const PATIENCE: Duration = Duration::from_secs(1);

/// Four times the largest body: a client that sends a little too much still reads why it is refused.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// A hand on the body that the handler reads; none where nothing needs to be settled.
pub(super) struct Leftover {
    body: Option<Shared>,
    can_close: bool,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Body>>);

impl Leftover {
    /// Gives the handler a body to read, and keeps a hand on it.
    pub(super) fn split(request: Request<Body>, is_grpc: bool) -> (Request<Body>, Self) {
        // Who expects 100-continue has not sent the body, and must not be asked for it now.
        // gRPC over HTTP/2 may talk both ways, and its clients read the answer first.
        let is_stream = is_grpc && request.version() >= Version::HTTP_2;
        let is_settled = is_stream || request.body().is_end_stream() || request.headers().contains_key(EXPECT);
        if is_settled {
            return (request, Self { body: None, can_close: false });
        }
        let (head, body) = request.into_parts();
        let (shared, can_close) = (Shared(Arc::new(Mutex::new(body))), head.version < Version::HTTP_2);
        (Request::from_parts(head, Body::new(shared.clone())), Self { body: Some(shared), can_close })
    }

    /// Reads what is left, within reason, and says so if that is not all.
    pub(super) async fn settle(self, mut response: Response<Body>) -> Response<Body> {
        let Some(body) = self.body else { return response };
        // A body that is refused for being late has had its time.
        let is_late = matches!(response.status(), StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT);
        let patience = if is_late { Duration::ZERO } else { PATIENCE };
        let is_over = body.is_end_stream() || timeout(patience, drain(body)).await.unwrap_or(false);
        if !is_over && self.can_close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Whether the end was reached.
async fn drain(mut body: Shared) -> bool {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.into_data().map_or(0, |data| data.len());
        if bytes > BYTES_MAX {
            return false;
        }
    }
    true
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}
