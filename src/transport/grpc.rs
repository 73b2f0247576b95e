//! gRPC and gRPC-Web: the Gate in front of tonic's routes, reflection and health.

use super::answer::Listens;
use super::edge::Shared;
use super::idempotency::{self, REPLAYED};
use super::listening::Followed;
use super::metrics::Protocol;
use super::reply_cache::{Finished, Form, Look, Pledge, freshness};
use super::run;
use crate::access::Admitted;
use crate::access::once::Given;
use crate::contract::{DESCRIPTORS, Method, method_at};
use crate::error::{Error, Result};
use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceExt};

type GrpcBody = tonic::body::Body;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What gRPC puts before each message: whether it is packed, and its length.
const PREFIX_BYTES: usize = 5;

/// The whole of gRPC.
pub(super) type Grpc = tonic_web::GrpcWebService<Gated>;

/// Joins the mounted services with reflection and health, and puts the Gate in front.
pub(super) fn assemble(routes: Routes, health: HealthServer<impl Health>, shared: Arc<Shared>) -> Result<Grpc> {
    /// A name and what to tell about it. Strangers may send these, and half of one is kept for as long as its stream.
    const QUESTION_BYTES_MAX: usize = 4 * 1024;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
    };
    let broken = |why: tonic_reflection::server::Error| Error::bug(format!("reflection: {why}"));
    let routes = routes
        .add_service(health.max_decoding_message_size(QUESTION_BYTES_MAX))
        .add_service(reflection().build_v1().map_err(broken)?.max_decoding_message_size(QUESTION_BYTES_MAX))
        // grpcio asks for this one.
        .add_service(reflection().build_v1alpha().map_err(broken)?.max_decoding_message_size(QUESTION_BYTES_MAX));
    Ok(GrpcWebLayer::new().layer(Gated { routes, shared }))
}

/// Whether a request is gRPC or gRPC-Web.
pub(super) fn is_grpc(request: &Request<impl Sized>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    // Protobuf only: gRPC with another codec is nothing that could be answered in its own form.
    let protocol = essence.strip_suffix("+proto").unwrap_or(essence);
    matches!(protocol, "application/grpc" | "application/grpc-web" | "application/grpc-web-text")
}

/// Answers a gRPC request; the answer is in gRPC's form whatever happens.
pub(super) async fn answer(grpc: Grpc, request: Request<Body>) -> Response<Body> {
    let is_web =
        request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc-web"));
    if request.method() != http::Method::POST {
        return Status::unimplemented("gRPC is called with POST").into_http();
    }
    if !is_web && request.version() < Version::HTTP_2 {
        return Status::unimplemented("gRPC needs HTTP/2; gRPC-Web does not").into_http();
    }
    match grpc.oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// The routes behind the Gate.
#[derive(Clone)]
pub(super) struct Gated {
    routes: Routes,
    shared: Arc<Shared>,
}

impl Service<Request<GrpcBody>> for Gated {
    type Response = Response<GrpcBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<GrpcBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<GrpcBody>) -> Self::Future {
        let (routes, shared) = (self.routes.clone(), self.shared.clone());
        Box::pin(async move {
            let (method, started) = (method_at(request.uri().path()), std::time::Instant::now());
            let done = pass(routes, &shared, method, request).await;
            if let Some(method) = method {
                let status = done.as_ref().ok().and_then(|response| response.extensions().get::<Status>());
                let failed = status.map(Error::from_status).or_else(|| done.as_ref().err().cloned());
                shared.note(method, Protocol::Grpc, started, failed.as_ref());
            } else if let Err(error) = &done {
                error.log("a call of nothing known failed");
            }
            Ok(done.unwrap_or_else(|error| Status::from(error).into_http()))
        })
    }
}

async fn pass(
    routes: Routes,
    shared: &Shared,
    method: Option<&'static Method>,
    request: Request<GrpcBody>,
) -> Result<Response<GrpcBody>> {
    let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    if service == "grpc.health.v1.Health" {
        return listen(routes, shared, request).await;
    }
    let (caller, deadline) = shared.authenticate(request.headers(), request.extensions()).await?;
    let Some(method) = method else {
        if !matches!(service, "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection") {
            return Err(Error::NoProcedure("Unknown service or method".into()));
        }
        shared.may_read_contract(&caller)?;
        return listen(routes, shared, request).await;
    };
    shared.gate.admit(method, &caller)?;
    let (mut head, body) = with_body(request, shared, deadline).await?;
    // The body may have taken its time: who may call is decided again.
    let admitted = shared.gate.admit(method, &shared.gate.renew(&caller)?)?.until(deadline);
    if method.streams {
        return follow(routes, shared, admitted, head, body, deadline).await;
    }
    let pledge = match shared.replies.look(&admitted, Form::Protobuf, body.clone(), freshness(&head.headers)) {
        Look::Hit(answer) => {
            run::must_be_in_time(deadline)?;
            return Ok(whole(answer.body));
        }
        Look::Miss(pledge) => pledge,
    };
    if !method.query
        && let Some(request) = idempotency::read(&head.headers, method.path, &canonical(shared, method, &body)?)?
    {
        let once = request.call(shared, &admitted.caller(), 0)?;
        head.extensions.insert(admitted.deferring(once.deferred()));
        let request = Request::from_parts(head, GrpcBody::new(Full::new(body)));
        let work =
            async { message_of(blame(routes.oneshot(request).await.unwrap_or_else(|never| match never {}))).await };
        let Given { body, is_replayed } =
            Box::pin(run::run(false, deadline, &shared.tasks, once.answer(work))).await??;
        let mut response = whole(body);
        if is_replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        return Ok(response);
    }
    head.extensions.insert(admitted);
    let request = Request::from_parts(head, GrpcBody::new(Full::new(body)));
    let done = run::run(method.query, deadline, &shared.tasks, routes.oneshot(request)).await?;
    let response = blame(done.unwrap_or_else(|never| match never {}));
    match pledge {
        Some(pledge) => kept(response, shared, pledge).await,
        None => Ok(response),
    }
}

/// A stream, for as long as its caller may listen to it.
async fn follow(
    routes: Routes,
    shared: &Shared,
    admitted: Admitted,
    mut head: Parts,
    body: Bytes,
    deadline: Instant,
) -> Result<Response<GrpcBody>> {
    let mut listening = shared.listeners.admit(&admitted, &head)?;
    head.extensions.insert(admitted);
    let request = Request::from_parts(head, GrpcBody::new(Full::new(body)));
    let done = run::run(true, deadline, &shared.tasks, routes.oneshot(request)).await?;
    let mut response = blame(done.unwrap_or_else(|never| match never {}));
    if response.extensions().get::<Status>().is_none() {
        response.extensions_mut().insert(Listens);
        listening.begins();
    }
    Ok(response.map(|body| GrpcBody::new(Followed::new(body, listening))))
}

/// What is asked, whatever order its sender writes maps in.
fn canonical(shared: &Shared, method: &Method, body: &Bytes) -> Result<Vec<u8>> {
    let message = body.get(PREFIX_BYTES..).unwrap_or_default();
    Ok(shared.dispatch(method)?.canonical(method.path, message).unwrap_or_else(|| body.to_vec()))
}

/// Keeps an answer that is one, and sends it on.
async fn kept(response: Response<GrpcBody>, shared: &Shared, pledge: Pledge) -> Result<Response<GrpcBody>> {
    let answer = Finished::protobuf(message_of(response).await?);
    shared.replies.keep(pledge, &answer);
    Ok(whole(answer.body))
}

/// The message of a unary answer, with its prefix, or the error that it is.
async fn message_of(response: Response<GrpcBody>) -> Result<Bytes> {
    if let Some(status) = response.extensions().get::<Status>() {
        return Err(Error::from_status(status));
    }
    let message = response.into_body().collect().await.map_err(|status| Error::from_status(&status))?;
    let is_good = message.trailers().and_then(|trailers| trailers.get(GRPC_STATUS)).is_some_and(|code| code == "0");
    if !is_good {
        return Err(Error::bug("a unary answer ended badly"));
    }
    // What is kept is counted by its length, so that is what it may take.
    Ok(Bytes::copy_from_slice(&message.to_bytes()))
}

/// An answer that is there as a whole.
fn whole(message: Bytes) -> Response<GrpcBody> {
    let mut response = Response::new(GrpcBody::new(Whole { message: Some(message), has_ended: false }));
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

/// A message and its good end. It has no size hint: in gRPC-Web the end is part of the body.
struct Whole {
    message: Option<Bytes>,
    has_ended: bool,
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.has_ended, true) {
            return Poll::Ready(None);
        }
        let end = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
        Poll::Ready(Some(Ok(Frame::trailers(end))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}

/// Health and reflection stream for as long as their caller listens, or until the server stops.
async fn listen(routes: Routes, shared: &Shared, request: Request<GrpcBody>) -> Result<Response<GrpcBody>> {
    // The answer begins at the latest when the first message is there.
    let begun = timeout(Duration::from_secs(shared.limits.body_s), routes.oneshot(request)).await;
    let mut response = blame(begun.map_err(|_| Error::SlowBody)?.unwrap_or_else(|never| match never {}));
    let stopped = Box::pin(shared.stopping.clone().cancelled_owned());
    response.extensions_mut().insert(Listens);
    Ok(response.map(|body| GrpcBody::new(UntilStop { body, stopped, has_ended: false })))
}

/// A request's head and its whole body: nothing runs, and nobody is let in for good, while it is still on its way.
async fn with_body(request: Request<GrpcBody>, shared: &Shared, deadline: Instant) -> Result<(Parts, Bytes)> {
    let most = shared.limits.grpc_message_bytes.saturating_add(PREFIX_BYTES);
    let (head, body) = request.into_parts();
    let patience = Instant::now() + Duration::from_secs(shared.limits.body_s);
    let late = if deadline < patience { Error::Deadline } else { Error::SlowBody };
    let collected = timeout_at(deadline.min(patience), Limited::new(body, most).collect()).await.map_err(|_| late)?;
    let collected = collected.map_err(|why| {
        if why.is::<LengthLimitError>() {
            return Error::TooLarge(format!("The message exceeds {} bytes", shared.limits.grpc_message_bytes));
        }
        Error::Malformed("The request body could not be read".into())
    })?;
    let body = collected.to_bytes();
    if has_second_message(&body) {
        return Err(Error::Malformed("A call has exactly one message".into()));
    }
    Ok((head, body))
}

/// Whether anything stands behind the first message; tonic would not look at it.
fn has_second_message(body: &[u8]) -> bool {
    let Some((prefix, rest)) = body.split_first_chunk::<PREFIX_BYTES>() else { return false };
    let [_, length @ ..] = *prefix;
    usize::try_from(u32::from_be_bytes(length)).is_ok_and(|length| rest.len() > length)
}

/// tonic calls what a caller did wrong our fault, and a message that is too large out of range. What is ours stays.
fn blame(mut response: Response<GrpcBody>) -> Response<GrpcBody> {
    let Some(status) = response.extensions().get::<Status>() else { return response };
    let is_ours = std::error::Error::source(status).is_some_and(<dyn std::error::Error>::is::<Error>);
    let code = if status.code() == Code::OutOfRange {
        Code::ResourceExhausted
    } else if !is_ours && matches!(status.code(), Code::Internal | Code::Unknown) {
        Code::InvalidArgument
    } else {
        return response;
    };
    let blamed = Status::new(code, status.message());
    response.headers_mut().insert(GRPC_STATUS, HeaderValue::from(code as i32));
    response.extensions_mut().insert(blamed);
    response
}

/// A stream without an end of its own, which the end of the server ends: stopping does not wait for who only listens.
struct UntilStop {
    body: GrpcBody,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    has_ended: bool,
}

impl http_body::Body for UntilStop {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // What was to be said before the end is said.
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(self.stopped.as_mut().poll(context));
        self.has_ended = true;
        let mut trailers = HeaderMap::new();
        Status::unavailable("The server stops").add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
