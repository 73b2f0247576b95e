//! One request and its answer over a connection. The connection is driven by the future that waits for the answer, and
//! ends with it.

use super::findings::Found;
use crate::probe::tls::plain;
use crate::probe::{Net, Trouble};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use std::error::Error as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use url::Url;

/// What a server may say before the body.
const HEAD_BYTES: usize = 65_536;

/// What may be on its way to us unread, of HTTP/2.
const WINDOW_BYTES: u32 = 262_144;

/// How much of an answer is wanted.
pub(super) struct Limits {
    pub(super) size: usize,
    pub(super) excerpt: usize,
    /// The body of a redirect is not read, if it leads somewhere.
    pub(super) skips_redirects: bool,
}

type Body = Full<Bytes>;

/// Asks, and reads the answer.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Body>,
    is_two: bool,
    url: &Url,
    limits: &Limits,
    net: &Net,
    found: &mut Found,
) -> Result<StatusCode, Trouble> {
    net.phase("waiting for the answer");
    let (asked, io) = (Instant::now(), TokioIo::new(stream));
    let failed = |why: hyper::Error| failed(&why);
    if is_two {
        let tasks = Tasks::default();
        let _end = EndOf(tasks.clone());
        let mut client = http2::Builder::new(tasks);
        client.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES * 2);
        client.max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX));
        let (mut sender, connection) = client.handshake(io).await.map_err(failed)?;
        let mut connection = pin!(connection.fuse());
        let answer = driven(&mut connection, sender.send_request(request)).await.map_err(failed)?;
        return driven(&mut connection, read(answer, url, limits, net, found, asked)).await;
    }
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD_BYTES);
    let (mut sender, connection) = client.handshake(io).await.map_err(failed)?;
    let mut connection = pin!(connection.fuse());
    let answer = driven(&mut connection, sender.send_request(request)).await.map_err(failed)?;
    driven(&mut connection, read(answer, url, limits, net, found, asked)).await
}

/// Does the work, and drives the connection meanwhile. A connection that ends has handed over what it had.
async fn driven<T>(
    connection: &mut (impl futures_util::future::FusedFuture + Unpin),
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if !connection.is_terminated() && connection.poll_unpin(context).is_ready() {
            return work.as_mut().poll(context);
        }
        Poll::Pending
    })
    .await
}

async fn read(
    answer: Response<Incoming>,
    url: &Url,
    limits: &Limits,
    net: &Net,
    found: &mut Found,
    asked: Instant,
) -> Result<StatusCode, Trouble> {
    let (head, mut body) = answer.into_parts();
    found.answered(url, &head, asked.elapsed());
    if limits.skips_redirects && head.status.is_redirection() && found.location.is_some() {
        return Ok(head.status);
    }
    net.phase("reading the answer");
    let too_long = || Trouble::Target(format!("The body is longer than {} bytes", limits.size));
    let announced = head.headers.get(header::CONTENT_LENGTH).and_then(length);
    let has_body = hyper::body::Body::size_hint(&body).upper() != Some(0);
    if has_body && announced.is_some_and(|length| length > limits.size) {
        return Err(too_long());
    }
    let (mut chunks, mut size) = (vec![], 0);
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|why| failed(&why))?.into_data() else { continue };
        size += chunk.len();
        if size > limits.size {
            return Err(too_long());
        }
        chunks.push(chunk);
    }
    found.read(chunks, limits.excerpt);
    Ok(head.status)
}

fn length(value: &HeaderValue) -> Option<usize> {
    value.to_str().ok()?.parse().ok()
}

/// Why there is no answer, or only a part of one.
fn failed(why: &hyper::Error) -> Trouble {
    let mut cause = why.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    let io = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    let text = match io {
        _ if why.is_parse_too_large() => "Answers with more headers than are accepted".into(),
        _ if why.is_parse() => format!("Does not answer in HTTP: {}", plain(&why.to_string(), 200)),
        _ if why.is_incomplete_message() => "Closed the connection before the answer was complete".into(),
        Some(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe) => "Reset the connection".into(),
        Some(std::io::ErrorKind::UnexpectedEof) => "Closed the connection before the answer was complete".into(),
        _ => match cause {
            Some(cause) => {
                format!("Answers wrongly: {}: {}", plain(&why.to_string(), 100), plain(&cause.to_string(), 200))
            }
            None => format!("Answers wrongly: {}", plain(&why.to_string(), 200)),
        },
    };
    Trouble::Target(text)
}

/// The tasks that HTTP/2 wants, which end with the look.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }
}

/// The tasks hold on to one another, so that dropping one handle ends nothing.
struct EndOf(Tasks);

impl Drop for EndOf {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
