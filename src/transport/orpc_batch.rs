//! oRPC 1.13's batch plugin: header `x-orpc-batch: streaming` or `buffered`, whatever the URL.
//!
//! The body is an array of single calls with URLs of their own, also of several plugins; each is answered as
//! [`single`] answers it, in the order in which they finish.

use super::body::{self, Untyped};
use super::credential::Peer;
use super::dialect::{Dialect, RequestId, json_response};
use super::edge::{Shared, Until};
use super::{idempotency, single};
use crate::contract::method_named;
use crate::error::{Error, Result};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use futures_util::{StreamExt, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::time::Instant;

/// What makes a request a batch of this kind.
const MODE: HeaderName = HeaderName::from_static("x-orpc-batch");

/// Whether a request is one: the header alone tells, not the path.
pub(super) fn is_one(request: &Request) -> bool {
    request.headers().contains_key(MODE) && request.uri().path().starts_with("/api/")
}

/// One call.
#[derive(Deserialize)]
struct Item<'b> {
    /// Absolute.
    url: String,
    method: Option<String>,
    /// Those that differ from the outer ones.
    #[serde(default)]
    headers: BTreeMap<String, Words>,
    #[serde(borrow, default)]
    body: Option<&'b RawValue>,
}

/// A header once, or several times.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

/// Answers, also when it refuses.
pub(super) async fn batch(shared: Arc<Shared>, request: Request, id: &RequestId) -> Response<Body> {
    let done = answer(shared, request, id).await;
    done.unwrap_or_else(|error| {
        error.log("a batch failed");
        Dialect::Enveloped.refuse(&error, id)
    })
}

async fn answer(shared: Arc<Shared>, request: Request, id: &RequestId) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return Err(Error::Method("POST"));
    }
    // Each call brings its own credential; without a good one here nobody is made to read a body.
    let (caller, deadline) = shared.authenticate(&head.headers, &head.extensions).await?;
    shared.must_be_able_to_call(&caller)?;
    body::must_be_json(&head.headers, Untyped::IsJson)?;
    let bytes = body::read(&head.headers, body, &shared.limits, deadline).await?;
    let is_streaming = head.headers.get(MODE).is_none_or(|mode| mode != "buffered");
    let calls = parse(&bytes, &head, shared.limits.batch_calls, deadline)?;

    let (most, id) = (shared.limits.batch_queries, id.clone());
    let answers = stream::iter(calls.into_iter().enumerate())
        .map(move |(index, call)| one(shared.clone(), index, call, id.clone()))
        .buffer_unordered(most);
    if is_streaming {
        let events = answers.map(|answer| [&b"event: message\ndata: "[..], &answer, b"\n\n"].concat());
        let first = stream::once(async { b": \n\n".to_vec() });
        let last = stream::once(async { b"event: done\ndata: \n\n".to_vec() });
        let events = first.chain(events).chain(last).map(|event| Ok::<_, Infallible>(Bytes::from(event)));
        let mut response = Response::new(Body::from_stream(events));
        *response.status_mut() = StatusCode::MULTI_STATUS;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return Ok(response);
    }
    let answers: Vec<_> = answers.collect().await;
    Ok(json_response(StatusCode::MULTI_STATUS, [&b"["[..], &answers.join(&b','), b"]"].concat()))
}

/// The calls as requests of their own, in the order written.
fn parse(bytes: &[u8], outer: &Parts, most: usize, deadline: Instant) -> Result<Vec<Request>> {
    let malformed = |why: &str| Error::Malformed(format!("Malformed batch: {why}"));
    let items: Vec<Item<'_>> = serde_json::from_slice(bytes).map_err(|why| malformed(&why.to_string()))?;
    if items.len() > most {
        return Err(Error::TooLarge(format!("A batch has at most {most} calls")));
    }
    let request = |(index, item): (usize, &Item<'_>)| -> Result<Request> {
        let url: Uri = item.url.parse().map_err(|_| malformed("a url cannot be read"))?;
        if url.scheme().is_none() {
            return Err(malformed("a url is not absolute"));
        }
        let text = item.body.map_or("", RawValue::get);
        let mut request = Request::new(Body::from(text.to_owned()));
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = target.parse().map_err(|_| malformed("a url cannot be read"))?;
        let method = item.method.as_deref().unwrap_or("POST");
        *request.method_mut() = method.parse().map_err(|_| malformed("a method cannot be read"))?;
        *request.headers_mut() =
            merged(&outer.headers, &item.headers).ok_or_else(|| malformed("a header cannot be read"))?;
        // Keys are guessed from where the whole batch came from.
        if let Some(peer) = outer.extensions.get::<Peer>() {
            request.extensions_mut().insert(*peer);
        }
        request.extensions_mut().insert(Until(deadline));
        // Under the key of the batch a call is known by its place; under a key of its own by that alone, as clients put
        // calls together as they come.
        if !item.headers.keys().any(|name| name.eq_ignore_ascii_case(idempotency::KEY)) {
            request.extensions_mut().insert(single::Index(index));
        }
        Ok(request)
    };
    items.iter().enumerate().map(request).collect()
}

/// The outer headers, except what belongs to the outer body, and the call's own over them.
fn merged(outer: &HeaderMap, own: &BTreeMap<String, Words>) -> Option<HeaderMap> {
    let mut headers = outer.clone();
    for name in [MODE, http::header::CONTENT_LENGTH, http::header::CONTENT_TYPE, http::header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    for (name, words) in own {
        let name: HeaderName = name.parse().ok()?;
        headers.remove(&name);
        let words = match words {
            Words::One(word) => std::slice::from_ref(word),
            Words::Many(words) => words,
        };
        for word in words {
            headers.append(name.clone(), word.parse().ok()?);
        }
    }
    Some(headers)
}

/// Answers one call as `{"index":…,"status":…,"body":…}`.
async fn one(shared: Arc<Shared>, index: usize, request: Request, id: RequestId) -> Vec<u8> {
    let path = request.uri().path().trim_matches('/').to_owned();
    let mut segments = path.split('/');
    let place = (segments.next(), segments.next(), segments.next(), segments.next());
    let (Some("api"), Some(plugin), Some(procedure), None) = place else {
        return format!(r#"{{"index":{index},"status":404,"body":"No procedure matched"}}"#).into_bytes();
    };
    let called = method_named(plugin, procedure);
    let response = if request.method() == Method::POST {
        single::post(&shared, called, request, &id).await
    } else if request.method() == Method::GET {
        single::get(&shared, called, request.into_parts().0, &id).await
    } else {
        Dialect::Enveloped.refuse(&Error::Method("POST"), &id)
    };
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    [format!(r#"{{"index":{index},"status":{status},"body":"#).as_bytes(), &body, b"}"].concat()
}
