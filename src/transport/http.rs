//! The JSON paths.

use super::dialect::{Dialect, RequestId, json_response};
use super::edge::Shared;
use super::{batch, describe, single};
use crate::contract::{Method, OPEN_API, method_named, plugin};
use crate::error::{Error, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::routing::{get, post};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use std::sync::Arc;

type Common = (State<Arc<Shared>>, Extension<RequestId>);

/// The router of everything that is not gRPC.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(alive).fallback(wrong_method_get))
        .route("/readyz", get(ready).fallback(wrong_method_get))
        .route("/metrics", get(metrics).fallback(wrong_method_get))
        .route("/api/openapi.json", get(open_api).fallback(wrong_method_get))
        .route("/api/{plugin}", post(run_batch).get(describe_plugin).fallback(wrong_method_both))
        .route("/api/{plugin}/", post(run_batch).get(describe_plugin).fallback(wrong_method_both))
        .route("/api/{plugin}/{procedure}", post(run_single).get(get_single).fallback(wrong_method_single))
        .route("/api/{plugin}/{procedure}/", post(run_single).get(get_single).fallback(wrong_method_single))
        .fallback(nothing_here)
        .with_state(shared)
}

async fn alive() -> Response<Body> {
    json_response(StatusCode::OK, br#"{"status":"alive"}"#.to_vec())
}

async fn ready((State(shared), Extension(id)): Common) -> Response<Body> {
    match shared.snapshot.must_be_fresh() {
        Ok(()) if !shared.stopping.is_cancelled() => json_response(StatusCode::OK, br#"{"status":"ready"}"#.to_vec()),
        Ok(()) => Dialect::Plain.refuse(&Error::Unavailable("Shutting down"), &id),
        Err(error) => Dialect::Plain.refuse(&error, &id),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let (busy, open) = shared.database.connections();
    shared.metrics.database_busy.set(busy.into());
    shared.metrics.database_open.set(open.into());
    shared.metrics.reply_bytes.set(i64::try_from(shared.replies.bytes()).unwrap_or(i64::MAX));
    shared.metrics.applications.set(i64::try_from(shared.snapshot.size()).unwrap_or(i64::MAX));
    let mut response = json_response(StatusCode::OK, shared.metrics.text().into_bytes());
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn open_api((State(shared), Extension(id)): Common, head: Parts) -> Response<Body> {
    let done: Result<_> = async {
        let (caller, _) = shared.authenticate(&head.headers, &head.extensions).await?;
        shared.may_read_contract(&caller)?;
        // Not a copy each: strangers may ask for it, and not read it.
        Ok(json_response(StatusCode::OK, OPEN_API))
    }
    .await;
    done.unwrap_or_else(|error| {
        error.log("describing the contract failed");
        Dialect::Plain.refuse(&error, &id)
    })
}

async fn describe_plugin(
    (State(shared), Extension(id)): Common,
    name: Result<Path<String>, PathRejection>,
    head: Parts,
) -> Response<Body> {
    let done: Result<_> = async {
        let (caller, _) = shared.authenticate(&head.headers, &head.extensions).await?;
        shared.may_read_contract(&caller)?;
        let name = name.map(|Path(name)| name).unwrap_or_default();
        let found = plugin(&name).ok_or_else(|| batch::unknown_plugin(&name))?;
        Ok(json_response(StatusCode::OK, describe::describe(found, &shared.gate, &caller)))
    }
    .await;
    done.unwrap_or_else(|error| {
        error.log("describing the contract failed");
        Dialect::Plain.refuse(&error, &id)
    })
}

async fn run_batch(
    (State(shared), Extension(id)): Common,
    plugin: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    // What is not UTF-8 names no plugin.
    let plugin = plugin.map(|Path(plugin)| plugin).unwrap_or_default();
    batch::batch(&shared, &plugin, request, &id).await
}

async fn run_single(
    (State(shared), Extension(id)): Common,
    place: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response<Body> {
    single::post(&shared, named(place), request, &id).await
}

async fn get_single(
    (State(shared), Extension(id)): Common,
    place: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let (head, _) = request.into_parts();
    single::get(&shared, named(place), head, &id).await
}

fn named(place: Result<Path<(String, String)>, PathRejection>) -> Option<&'static Method> {
    place.ok().and_then(|Path((plugin, procedure))| method_named(&plugin, &procedure))
}

async fn wrong_method_get(Extension(id): Extension<RequestId>) -> Response<Body> {
    Dialect::Plain.refuse(&Error::Method("GET"), &id)
}

async fn wrong_method_both(common: Common, head: Parts) -> Response<Body> {
    refuse(common, &head, Dialect::Plain, Error::Method("GET, POST")).await
}

async fn wrong_method_single(
    common: Common,
    place: Result<Path<(String, String)>, PathRejection>,
    head: Parts,
) -> Response<Body> {
    let allowed = if named(place).is_some_and(|method| method.query) { "GET, POST" } else { "POST" };
    refuse(common, &head, Dialect::Enveloped, Error::Method(allowed)).await
}

async fn nothing_here(common: Common, head: Parts) -> Response<Body> {
    if !head.uri.path().starts_with("/api") {
        return Dialect::Plain.refuse(&Error::NoProcedure("Not found".into()), &common.1);
    }
    let hint = "Not found: use /api/{pluginId}/ or /api/{pluginId}/{procedure}";
    refuse(common, &head, Dialect::Plain, Error::NoProcedure(hint.into())).await
}

/// A bad key is 401 everywhere, also where there is nothing to call.
async fn refuse(
    (State(shared), Extension(id)): Common,
    head: &Parts,
    dialect: Dialect,
    error: Error,
) -> Response<Body> {
    dialect.refuse(&shared.authenticate(&head.headers, &head.extensions).await.err().unwrap_or(error), &id)
}
