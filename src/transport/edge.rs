//! Where every request comes in and every answer goes out: request id, log, shedding, panics, and which protocol it is.

use super::credential::Peer;
use super::dialect::{Dialect, RequestId};
use super::leftover::Leftover;
use super::metrics::Protocol;
use super::single::Face;
use super::{Limits, Listeners, Metrics, ReplyCache, credential, deadline, grpc, http, orpc_batch};
use crate::access::{Caller, Gate, Identity, Ledger, Network, Snapshot};
use crate::contract::{Method, Mount};
use crate::database::Database;
use crate::error::{Error, Result};
use ::http::header::{CONNECTION, HOST};
use ::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use axum::body::Body;
use futures_util::FutureExt;
use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::ServiceExt;
use tower_http::request_id::{MakeRequestId, PropagateRequestId, SetRequestId};
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the protocols share.
pub struct Shared {
    /// Decides.
    pub gate: Gate,
    /// What it decides from.
    pub snapshot: Snapshot,
    /// For its figures.
    pub database: Database,
    /// Limits.
    pub limits: Limits,
    /// Figures.
    pub metrics: Metrics,
    /// What was answered to idempotency keys.
    pub ledger: Ledger,
    /// Answers that are kept.
    pub replies: ReplyCache,
    /// Those who listen to changes.
    pub listeners: Listeners,
    /// Mutations that run.
    pub tasks: TaskTracker,
    /// Cancelled when the server stops.
    pub stopping: CancellationToken,
    /// Whether reading the contract takes a key.
    pub private_contract: bool,
    /// The JSON faces of the services, by gRPC path.
    pub faces: HashMap<&'static str, Face>,
}

impl Shared {
    /// Counts a call, and logs what is ours to fix: the only place that does, so it is logged once.
    pub(super) fn note(&self, method: &Method, protocol: Protocol, started: Instant, outcome: Option<&Error>) {
        self.metrics.count(method, protocol, started, outcome);
        if let Some(Error::Internal(cause)) = outcome {
            tracing::error!(procedure = method.path, cause, "a call failed");
        }
    }

    /// Who calls, and until when the answer is wanted; counts credentials that are no good.
    pub(super) async fn authenticate(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<(Arc<Caller>, tokio::time::Instant)> {
        let Peer(peer) = extensions.get().ok_or_else(|| Error::bug("a request from nowhere"))?;
        let most = Duration::from_secs(self.limits.request_s);
        let deadline = deadline::read(headers, most);
        // A call of a batch has no more time than the batch.
        let deadline = match extensions.get() {
            Some(Until(batch)) => deadline.map(|own| own.min(*batch)),
            None => deadline,
        };
        // A bad credential goes before a bad deadline, and looking at it may take a while (hashing).
        let until = deadline.as_ref().copied().unwrap_or_else(|_| tokio::time::Instant::now() + most);
        let caller = self.gate.authenticate(credential::read(headers), Network::of(*peer));
        let caller = timeout_at(until, caller).await.unwrap_or(Err(Error::Deadline));
        if let Err(Error::BadCredential) = caller {
            self.metrics.bad_credentials.inc();
        } else if let Err(Error::TooMany { .. }) = caller {
            self.metrics.bad_credentials_limited.inc();
        }
        Ok((caller?, deadline?))
    }

    /// Refuses a caller without a key before its body is read, if nobody without a key may call anything.
    pub(super) fn must_be_able_to_call(&self, caller: &Caller) -> Result<()> {
        if caller.identity == Identity::Anonymous && !self.gate.admits_anonymous() {
            return Err(Error::NoCredential);
        }
        Ok(())
    }

    /// Refuses to show the contract to callers without a key, if it is private.
    pub(super) fn may_read_contract(&self, caller: &Caller) -> Result<()> {
        if self.private_contract && caller.identity == Identity::Anonymous {
            return Err(Error::NoCredential);
        }
        Ok(())
    }

    /// The JSON face of a method's service.
    pub(super) fn dispatch(&self, method: &Method) -> Result<&Face> {
        self.faces.get(method.path).ok_or_else(|| Error::bug(format!("{} is not mounted", method.path)))
    }
}

/// Until when the batch is answered that a call belongs to, in the extensions of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until(pub(super) tokio::time::Instant);

/// Both protocols on one port. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    grpc: grpc::Grpc,
    json: axum::Router,
    ids: NewIds,
}

impl Edge {
    /// Joins what was mounted with what is shared.
    pub fn new(
        mount: Mount,
        health: HealthServer<impl Health>,
        shared: impl FnOnce(HashMap<&'static str, Face>) -> Shared,
    ) -> Result<Self> {
        let (routes, faces) = mount.into_parts();
        let shared = Arc::new(shared(faces));
        Ok(Self {
            places: Arc::new(Semaphore::new(shared.limits.requests)),
            grpc: grpc::assemble(routes, health, shared.clone())?,
            json: http::router(shared.clone()),
            ids: NewIds::default(),
            shared,
        })
    }

    /// What the protocols share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Answers a request of a peer. Nothing fails from here on: whatever happens has an answer, with the id of the
    /// request.
    pub async fn answer(self, mut request: Request<Body>, peer: IpAddr) -> Response<Body> {
        request.extensions_mut().insert(Peer(peer));
        if !has_fit_id(&request) {
            request.headers_mut().remove(REQUEST_ID);
        }
        let ids = self.ids.clone();
        let answer = tower::service_fn(move |request| self.clone().answer_with_id(request));
        let answer = SetRequestId::x_request_id(PropagateRequestId::x_request_id(answer), ids);
        answer.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {})
    }

    async fn answer_with_id(self, mut request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let id = RequestId(id.to_owned());
        request.extensions_mut().insert(id.clone());
        let (is_grpc, started) = (grpc::is_grpc(&request), Instant::now());
        let (request, leftover) = Leftover::split(request, is_grpc);
        let span = tracing::info_span!("request", request.id = id.0, protocol = if is_grpc { "grpc" } else { "json" });
        let answer = async {
            let answered = AssertUnwindSafe(self.within_places(request, is_grpc, &id).boxed()).catch_unwind().await;
            let response = answered.unwrap_or_else(|_| refuse(is_grpc, Error::bug("answering panicked"), &id));
            let response = leftover.settle(response).await;
            let duration_ms = started.elapsed().as_secs_f64() * 1e3;
            tracing::debug!(status = response.status().as_u16(), duration_ms, "answered");
            response
        };
        Ok(answer.instrument(span).await)
    }

    async fn within_places(self, request: Request<Body>, is_grpc: bool, id: &RequestId) -> Response<Body> {
        if !names_one_host(&request) {
            let mut refusal = refuse(is_grpc, Error::Malformed("A request names exactly one host".into()), id);
            refusal.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return refusal;
        }
        let metrics = &self.shared.metrics;
        let Ok(_place) = self.places.try_acquire() else {
            metrics.shed.inc();
            return refuse(is_grpc, Error::Unavailable("Too many requests are being answered"), id);
        };
        let _counted = InFlight::new(metrics);
        if is_grpc {
            return grpc::answer(self.grpc.clone(), request).await;
        }
        if orpc_batch::is_one(&request) {
            return orpc_batch::batch(self.shared.clone(), request, id).await;
        }
        self.json.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
    }
}

/// Counts a request while it lives, also when its caller goes away.
struct InFlight<'m>(&'m Metrics);

impl<'m> InFlight<'m> {
    fn new(metrics: &'m Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

fn refuse(is_grpc: bool, error: Error, id: &RequestId) -> Response<Body> {
    error.log("a request failed");
    if is_grpc { tonic::Status::from(error).into_http() } else { Dialect::Plain.refuse(&error, id) }
}

/// Whether a request says whom it is for, once: otherwise somebody between us may have read it in another way (RFC 9112,
/// section 3.2). HTTP/1.0 need not say it, HTTP/2 says it elsewhere.
fn names_one_host(request: &Request<Body>) -> bool {
    request.version() != Version::HTTP_11 || request.headers().get_all(HOST).iter().count() == 1
}

/// Whether a request brings an id of its own that is fit for a log; it is kept then.
fn has_fit_id(request: &Request<Body>) -> bool {
    const BYTES_MAX: usize = 64;
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':');
    !given.is_empty() && given.len() <= BYTES_MAX && given.bytes().all(is_plain)
}

/// Makes ids for requests that bring none: UUIDv7, whose random part is a keyed hash of a counter, so that nobody can
/// guess the next one and the system is not asked for randomness with every request.
#[derive(Clone, Default)]
struct NewIds(Arc<(RandomState, AtomicU64)>);

impl MakeRequestId for NewIds {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<tower_http::request_id::RequestId> {
        let (hasher, counter) = &*self.0;
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 10];
        let parts = hasher.hash_one(number).to_be_bytes().into_iter().chain(number.to_be_bytes().into_iter().skip(6));
        random.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        let now = uuid::Timestamp::now(uuid::NoContext).to_unix();
        let millis = now.0 * 1_000 + u64::from(now.1) / 1_000_000;
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        HeaderValue::from_str(id.hyphenated().encode_lower(&mut [0; 36])).ok().map(Into::into)
    }
}
