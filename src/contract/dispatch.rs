//! How the generated code reaches the services: gRPC through tonic, JSON through [`Dispatch`].
//!
//! JSON runs in two steps. `prepare` needs an [`Admitted`], which only the Gate can make, and decodes and validates;
//! what it returns runs. A batch prepares everything before it runs anything.

use super::Method;
use super::check::{Checker, Validate};
use super::issue::Issues;
use super::page::PageKey;
use super::stream::Stream;
use crate::access::gate::Admitted;
use crate::error::{Error, Result};
use crate::json::decode::wrap;
use crate::json::{DatePaths, Dates, Decode, Decoder, Value};
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// A service as transport reaches it beside tonic. Generated.
pub trait Dispatch: Send + Sync {
    /// Decodes and validates the input of a method that the caller may call.
    fn prepare(&self, admitted: Admitted, input: &Value<'_>) -> Result<Prepared>;

    /// The same for a method that streams.
    fn follow(&self, admitted: Admitted, _input: &Value<'_>) -> Result<Stream> {
        Err(Error::bug(format!("{} does not stream", admitted.method().path)))
    }

    /// The bytes of a method's input in the one order that we write: equal messages have equal bytes, whatever order
    /// their sender wrote maps in. `None` if they are no such message.
    fn canonical(&self, path: &str, message: &[u8]) -> Option<Vec<u8>>;
}

/// What [`Dispatch::canonical`] says of a message of one kind.
pub(super) fn canonical<M: prost::Message + Default>(message: &[u8]) -> Option<Vec<u8>> {
    M::decode(message).ok().map(|message| message.encode_to_vec())
}

/// A call that is known, permitted and valid, and has not run.
pub struct Prepared {
    /// What will run.
    pub method: &'static Method,
    run: Box<dyn FnOnce(bool) -> BoxFuture<'static, Result<Answer>> + Send>,
}

/// A result as JSON.
#[derive(Debug)]
pub struct Answer {
    /// The result.
    pub json: Vec<u8>,
    /// oRPC's `meta`, as JSON, if there are dates and they were asked for.
    pub meta: Option<Vec<u8>>,
}

impl Prepared {
    /// Joins a message with the service method that takes it and the part of the reply that JSON shows.
    pub fn new<M, R, O, F>(
        admitted: Admitted,
        message: M,
        call: impl FnOnce(Request<M>) -> F + Send + 'static,
        shown: fn(&R) -> &O,
    ) -> Self
    where
        M: Send + 'static,
        R: Send + 'static,
        O: serde::Serialize + Dates + 'static,
        F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        let method = admitted.method();
        let run = move |with_dates: bool| -> BoxFuture<'static, Result<Answer>> {
            Box::pin(async move {
                let reply = call(admitted.request(message)).await.map_err(|status| Error::from_status(&status))?;
                Answer::of(shown(reply.get_ref()), with_dates)
            })
        };
        Self { method, run: Box::new(run) }
    }

    /// Runs it, once. `with_dates` asks for oRPC's `meta`.
    #[must_use]
    pub fn run(self, with_dates: bool) -> BoxFuture<'static, Result<Answer>> {
        (self.run)(with_dates)
    }
}

impl Answer {
    fn of<O: serde::Serialize + Dates>(shown: &O, with_dates: bool) -> Result<Self> {
        let broken = |why: serde_json::Error| Error::bug(format!("a result cannot be written as JSON: {why}"));
        let json = serde_json::to_vec(shown).map_err(broken)?;
        let mut dates = DatePaths::default();
        if with_dates {
            shown.dates(&mut dates);
        }
        let meta = (!dates.is_empty()).then(|| serde_json::to_vec(&dates)).transpose().map_err(broken)?;
        Ok(Self { json, meta })
    }
}

/// What validation needs besides the message. Cheap to clone.
#[derive(Clone)]
pub struct Checks {
    /// Opens page tokens.
    pub pages: Arc<PageKey>,
}

impl Checks {
    /// Validates a message that came as Protobuf.
    pub fn request<M: Validate>(&self, request: Request<M>) -> Result<Request<M>> {
        let (metadata, extensions, mut message) = request.into_parts();
        self.validate(&mut message, Issues::default())?;
        Ok(Request::from_parts(metadata, extensions, message))
    }

    /// Decodes and validates a message that came as JSON. `bare` is the field that may stand alone.
    pub fn input<M: Decode + Validate>(&self, input: &Value<'_>, bare: Option<&'static str>) -> Result<M> {
        let mut decoder = Decoder::default();
        let message = match (bare, input) {
            (Some(key), Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::List(_)) => {
                M::decode(&wrap(key, input.clone()), &mut decoder)
            }
            _ => M::decode(input, &mut decoder),
        };
        let Some(mut message) = message else { return Err(Error::Invalid(decoder.issues)) };
        self.validate(&mut message, decoder.issues)?;
        Ok(message)
    }

    fn validate<M: Validate>(&self, message: &mut M, found: Issues) -> Result<()> {
        let mut checker = Checker::new(&self.pages, found);
        message.validate(&mut checker);
        let issues = checker.finish();
        if issues.is_empty() { Ok(()) } else { Err(Error::Invalid(issues)) }
    }
}

/// Where services are mounted: once for each, on both protocols.
pub struct Mount {
    /// What validation needs.
    pub checks: Checks,
    /// The largest message that gRPC decodes.
    pub grpc_message_bytes_max: usize,
    routes: tonic::service::Routes,
    json: HashMap<&'static str, Arc<dyn Dispatch>>,
    names: Vec<&'static str>,
}

impl Mount {
    /// Nothing is mounted yet.
    #[must_use]
    pub fn new(checks: Checks, grpc_message_bytes_max: usize) -> Self {
        // `Routes::default` has a fallback of its own.
        let routes = tonic::service::Routes::from(axum::Router::new());
        Self { checks, grpc_message_bytes_max, routes, json: HashMap::new(), names: vec![] }
    }

    /// Adds the two faces of a service.
    pub fn add<S>(&mut self, grpc: S, json: &Arc<dyn Dispatch>, methods: &'static [Method])
    where
        S: tower::Service<http::Request<tonic::body::Body>, Error = Infallible>
            + tonic::server::NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes = std::mem::take(&mut self.routes).add_service(grpc);
        self.names.push(S::NAME);
        self.json.extend(methods.iter().map(|method| (method.path, json.clone())));
    }

    /// The full names of the mounted services.
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// The gRPC routes and the JSON dispatch by gRPC path.
    #[must_use]
    pub fn into_parts(self) -> (tonic::service::Routes, HashMap<&'static str, Arc<dyn Dispatch>>) {
        (self.routes, self.json)
    }
}
