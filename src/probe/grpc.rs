//! `grpc`: the health service of gRPC, `grpc.health.v1.Health/Check`, in one call on one connection.
//!
//! A channel would dial again, and wait for a server that comes back; a look wants to know about this connection.

use super::secret::is_credential;
use super::talk::{days_remaining, said};
use super::tls::{TlsOptions, millis};
use super::{Fault, Net, Probe, Secret, Trouble};
use futures_util::future::{Either, select};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// An answer is two bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// What a server may say around the answer.
const HEADERS_BYTES_MAX: u32 = 16_384;

/// More metadata is no question about health.
const METADATA_MAX: usize = 50;

/// Asks the health service of a gRPC server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grpc {
    /// The host name or IP address.
    #[schemars(length(min = 1, max = 253))]
    host: String,
    /// The port.
    #[schemars(range(min = 1))]
    port: u16,
    /// The service that is asked about; empty: the server as a whole.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    service: String,
    /// Whether it is asked over TLS.
    #[serde(default)]
    use_tls: bool,
    /// Whom to trust, and who one is.
    #[serde(default)]
    tls: TlsOptions,
    /// The `:authority`, where it is not the host and port.
    #[schemars(length(min = 1, max = 260))]
    authority: Option<String>,
    /// Metadata, by lower-case name.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Metadata that is secret.
    #[serde(default)]
    secret_metadata: BTreeMap<String, Secret>,
}

/// What was found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// `SERVING`, `NOT_SERVING`, `UNKNOWN` or `SERVICE_UNKNOWN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// Whether it is `SERVING`.
    #[serde(skip_serializing_if = "Option::is_none")]
    serving: Option<bool>,
    /// How long the answer took, on an open connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    response_time_ms: Option<f64>,
    /// How long connecting took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    connection_time_ms: Option<f64>,
    /// Whole days until the certificate expires; negative once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "days"))]
    certificate_days_remaining: Option<i64>,
    /// The code of the call: `OK`, `UNIMPLEMENTED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_code: Option<&'static str>,
}

impl Probe for Grpc {
    const ID: &'static str = "grpc";
    const NAME: &'static str = "gRPC health";
    const DESCRIPTION: &'static str = "Asks the health service of a gRPC server, grpc.health.v1";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.tls.faults("tls");
        let mut fault = |is_one: bool, path: &str, message: &str| {
            if is_one {
                faults.push(Fault::new(path, message));
            }
        };
        fault(self.host.is_empty() || self.host.len() > 253, "host", "Must have 1 to 253 characters");
        fault(self.port == 0, "port", "Must be from 1 to 65535");
        fault(self.service.len() > 1_000, "service", "Must not be longer than 1000 bytes");
        fault(self.origin().is_none(), "authority", "Is not a host, with or without a port");
        let count = self.metadata.len() + self.secret_metadata.len();
        fault(count > METADATA_MAX, "metadata", "Must not have more than 50 names");
        for (path, key, value) in self.pairs() {
            let at = format!("{path}.{key}");
            let is_known = ["te", "content-type", "user-agent", "host"].contains(&key) || key.starts_with("grpc-");
            fault(is_known, &at, "Is set by gRPC itself");
            let is_key = MetadataKey::<Ascii>::from_bytes(key.as_bytes()).is_ok_and(|read| read.as_str() == key);
            fault(!is_key, &at, "Is not a name of text metadata, in lower case");
            fault(MetadataValue::<Ascii>::try_from(value).is_err(), &at, "Is not a value of text metadata");
            let is_open = path == "metadata" && is_credential(key);
            fault(is_open, &at, "Would be stored and shown as it is: use secretMetadata");
            let is_twice = path == "metadata" && self.secret_metadata.contains_key(key);
            fault(is_twice, &at, "Is in secretMetadata as well");
        }
        faults
    }

    fn host(&self) -> Option<String> {
        Some(format!("{}:{}", self.host, self.port))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let dialed = net.dial(&self.host, self.port).await?;
        found.connection_time_ms = Some(millis(dialed.connect));
        if self.use_tls {
            let stream = net.tls(dialed.stream, &self.host, &self.tls, &[b"h2"]).await?;
            found.certificate_days_remaining = days_remaining(&stream);
            self.ask(stream, net, found).await
        } else {
            self.ask(dialed.stream, net, found).await
        }
    }

    fn latency(found: &Found) -> Option<Duration> {
        found.response_time_ms.map(|ms| Duration::from_secs_f64(ms / 1_000.0))
    }
}

impl Grpc {
    async fn ask<S>(&self, stream: S, net: &Net, found: &mut Found) -> Result<(), Trouble>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        net.phase("waiting for the health service");
        let tasks = Tasks::default();
        let _guard = Guard(tasks.clone());
        let mut builder = http2::Builder::new(tasks);
        builder.max_header_list_size(HEADERS_BYTES_MAX);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|why| no_http2(&why))?;
        let origin = self.origin().unwrap_or_default();
        let mut client =
            HealthClient::with_origin(Connection(sender), origin).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let started = Instant::now();
        let answer = match select(Box::pin(client.check(self.request())), Box::pin(connection)).await {
            Either::Left((answer, _)) => answer,
            // The call says what came of the connection.
            Either::Right((_, call)) => call.await,
        };
        found.response_time_ms = Some(millis(started.elapsed()));
        match answer {
            Ok(answer) => {
                found.grpc_code = Some("OK");
                self.judge(*answer.get_ref(), found)
            }
            Err(status) => Err(self.explain(&status, found)),
        }
    }

    fn origin(&self) -> Option<Uri> {
        let host = if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let authority = self.authority.clone().unwrap_or_else(|| format!("{host}:{}", self.port));
        let scheme = if self.use_tls { "https" } else { "http" };
        let is_bare = !authority.contains(['/', '?', '#', '@']);
        Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build().ok().filter(|_| is_bare)
    }

    fn pairs(&self) -> impl Iterator<Item = (&'static str, &str, &str)> {
        let open = self.metadata.iter().map(|(key, value)| ("metadata", key.as_str(), value.as_str()));
        let secret = self.secret_metadata.iter();
        open.chain(secret.map(|(key, value)| ("secretMetadata", key.as_str(), value.reveal())))
    }

    fn request(&self) -> tonic::Request<HealthCheckRequest> {
        let mut request = tonic::Request::new(HealthCheckRequest { service: self.service.clone() });
        for (path, key, value) in self.pairs() {
            let key = MetadataKey::<Ascii>::from_bytes(key.as_bytes());
            if let (Ok(key), Ok(mut value)) = (key, MetadataValue::<Ascii>::try_from(value)) {
                // Not kept for headers to come.
                value.set_sensitive(path == "secretMetadata");
                request.metadata_mut().insert(key, value);
            }
        }
        request
    }

    fn judge(&self, answer: HealthCheckResponse, found: &mut Found) -> Result<(), Trouble> {
        let status = ServingStatus::try_from(answer.status).unwrap_or(ServingStatus::Unknown);
        found.status = Some(status.as_str_name());
        found.serving = Some(status == ServingStatus::Serving);
        match status {
            ServingStatus::Serving => Ok(()),
            ServingStatus::NotServing => Err(Trouble::Target(format!("{} is not serving", self.whom()))),
            ServingStatus::ServiceUnknown => Err(self.unknown()),
            ServingStatus::Unknown => Err(Trouble::Target(format!("{} does not know its health", self.whom()))),
        }
    }

    fn explain(&self, status: &Status, found: &mut Found) -> Trouble {
        if let Some(why) = status.source() {
            return no_http2(why);
        }
        found.grpc_code = Some(name(status.code()));
        let secrets: Vec<_> = self.secret_metadata.values().collect();
        let said = said(status.message(), &secrets);
        if status.code() == Code::NotFound {
            found.status = Some(ServingStatus::ServiceUnknown.as_str_name());
            found.serving = Some(false);
            return self.unknown();
        }
        if status.code() == Code::Unimplemented {
            return Trouble::Target("The server does not implement grpc.health.v1, the health service of gRPC".into());
        }
        let said = if said.is_empty() { said } else { format!(": {said}") };
        Trouble::Target(format!("The health service answered {}{said}", name(status.code())))
    }

    fn whom(&self) -> String {
        if self.service.is_empty() { "The server".into() } else { format!("The service {}", self.service) }
    }

    fn unknown(&self) -> Trouble {
        Trouble::Target(if self.service.is_empty() {
            "The health service does not know the server as a whole".into()
        } else {
            format!("The health service does not know the service {}", self.service)
        })
    }
}

/// What came is not HTTP/2, or not to its end.
fn no_http2(why: &dyn Error) -> Trouble {
    let mut last = why;
    while let Some(source) = last.source() {
        last = source;
    }
    Trouble::Target(format!("The server does not answer over HTTP/2 as gRPC does: {}", said(&last.to_string(), &[])))
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A connection as tonic's client wants it.
struct Connection(SendRequest<Body>);

impl tower::Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// What the connection has to do beside the call.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(async {
            task.await;
        });
    }
}

/// Ends the tasks, which hold the set that they are in.
struct Guard(Tasks);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
