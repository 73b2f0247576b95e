//! `POST /api/{plugin}/{procedure}`: one call, plain or in oRPC's envelope.

use super::body::{self, Untyped};
use super::dialect::{Dialect, RequestId, json_response};
use super::edge::Shared;
use super::envelope::{self, Body};
use super::metrics::Protocol;
use super::run;
use crate::contract::Method;
use crate::error::{Error, Result};
use axum::body::HttpBody;
use axum::extract::Request;
use http::{Response, StatusCode};
use std::sync::Arc;
use std::time::Instant;

/// Answers, also when it refuses.
pub(super) async fn single(
    shared: &Shared,
    method: Option<&'static Method>,
    request: Request,
    id: &RequestId,
) -> Response<axum::body::Body> {
    let started = Instant::now();
    let done = answer(shared, method, request).await;
    if let Some(method) = method {
        shared.note(method, Protocol::Json, started, done.as_ref().err());
    } else if let Err(error) = &done {
        error.log("a call of nothing known failed");
    }
    done.unwrap_or_else(|error| Dialect::Enveloped.refuse(&error, id))
}

async fn answer(
    shared: &Shared,
    method: Option<&'static Method>,
    request: Request,
) -> Result<Response<axum::body::Body>> {
    let (head, body) = request.into_parts();
    let (caller, deadline) = shared.authenticate(&head.headers).await?;
    if method.is_none() {
        shared.may_read_contract(&caller)?;
    }
    let method = method.ok_or_else(|| {
        let mut path = head.uri.path().trim_matches('/').splitn(3, '/').skip(1);
        let (plugin, name) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
        unknown_procedure(plugin, name)
    })?;
    shared.gate.admit(method, &caller)?;
    // Without a body there is nothing for a type to be wrong about.
    if !body.is_end_stream() {
        body::must_be_json(&head.headers, Untyped::IsJson)?;
    }
    let bytes = body::read(&head.headers, body, &shared.limits, deadline).await?;
    // The body may have taken its time: who may call is decided again.
    let admitted = shared.gate.admit(method, &shared.gate.renew(&caller)?)?;
    let (input, enveloped) = match envelope::read(&bytes, shared.limits.json_depth)? {
        Body::Plain(input) => (input, false),
        Body::Enveloped(input) => (input, true),
    };
    let prepared = shared.dispatch(method)?.prepare(admitted, &input)?;
    let answer = run::run(method.query, deadline, &shared.tasks, prepared.run(enveloped)).await??;
    let json = if enveloped { envelope::write(&answer.json, answer.meta.as_deref()) } else { answer.json };
    Ok(json_response(StatusCode::OK, json))
}

/// There is no such procedure. A name may be as long as the body.
pub(super) fn unknown_procedure(plugin: &str, name: &str) -> Error {
    let short = |text: &str| text.chars().take(100).collect::<String>();
    Error::NoProcedure(format!("Procedure not found: {}.{}", short(plugin), short(name)))
}

/// A service's JSON face.
pub(super) type Face = Arc<dyn crate::contract::dispatch::Dispatch>;
