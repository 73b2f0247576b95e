//! One call on a path of its own: `POST /api/{plugin}/{procedure}`, plain or in oRPC's envelope, and
//! `GET /api/{plugin}/{procedure}?input=…` for queries.

use super::body::{self, Untyped};
use super::dialect::{Dialect, RequestId, success};
use super::edge::Shared;
use super::envelope::{self, Body};
use super::events;
use super::idempotency;
use super::metrics::Protocol;
use super::reply_cache::{Finished, Form, freshness};
use super::{call, condition};
use crate::access::Caller;
use crate::contract::Method;
use crate::error::{Error, Result};
use crate::json::Value;
use axum::body::HttpBody;
use axum::extract::Request;
use http::header::{CACHE_CONTROL, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// Which call of a batch of single ones this is, in the extensions of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Index(pub(super) usize);

type Answered = Response<axum::body::Body>;

/// Answers a POST, also when it refuses.
pub(super) async fn post(
    shared: &Shared,
    method: Option<&'static Method>,
    request: Request,
    id: &RequestId,
) -> Answered {
    let started = Instant::now();
    noted(shared, method, started, answer_post(shared, method, request).await, id)
}

/// Answers a GET, also when it refuses.
pub(super) async fn get(shared: &Shared, method: Option<&'static Method>, head: Parts, id: &RequestId) -> Answered {
    let started = Instant::now();
    noted(shared, method, started, answer_get(shared, method, &head).await, id)
}

fn noted(
    shared: &Shared,
    method: Option<&'static Method>,
    started: Instant,
    done: Result<Answered>,
    id: &RequestId,
) -> Answered {
    if let Some(method) = method {
        shared.note(method, Protocol::Json, started, done.as_ref().err());
    } else if let Err(error) = &done {
        error.log("a call of nothing known failed");
    }
    done.unwrap_or_else(|error| Dialect::Enveloped.refuse(&error, id))
}

async fn answer_post(shared: &Shared, method: Option<&'static Method>, request: Request) -> Result<Answered> {
    let (head, body) = request.into_parts();
    let (caller, deadline) = shared.authenticate(&head.headers, &head.extensions).await?;
    let method = must_be_known(shared, &caller, method, &head.uri)?;
    shared.gate.admit(method, &caller)?;
    // Without a body there is nothing for a type to be wrong about.
    if !body.is_end_stream() {
        body::must_be_json(&head.headers, Untyped::IsJson)?;
    }
    let bytes = body::read(&head.headers, body, &shared.limits, deadline).await?;
    // The body may have taken its time: who may call is decided again.
    let admitted = shared.gate.admit(method, &shared.gate.renew(&caller)?)?.until(deadline);
    let (input, form) = match envelope::read(&bytes, shared.limits.json_depth)? {
        Body::Plain(input) => (input, Form::Plain),
        Body::Enveloped(input) => (input, Form::Enveloped),
    };
    if method.streams {
        return events::answer(shared, admitted, input, &head, deadline).await;
    }
    let input = condition::add(&head.headers, method, input)?;
    let mut once = None;
    if !method.query
        && let Some(request) = idempotency::read(&head.headers, method.path, &bytes)?
    {
        let index = head.extensions.get::<Index>().map_or(0, |index| index.0);
        once = Some(request.call(shared, &admitted.caller(), index)?);
    }
    let ready = call::prepare(shared, admitted, &input, form, freshness(&head.headers), once)?;
    Ok(success(ready.run(shared, deadline).await?))
}

async fn answer_get(shared: &Shared, method: Option<&'static Method>, head: &Parts) -> Result<Answered> {
    let (caller, deadline) = shared.authenticate(&head.headers, &head.extensions).await?;
    let method = must_be_known(shared, &caller, method, &head.uri)?;
    if !method.query {
        return Err(Error::Method("POST"));
    }
    let admitted = shared.gate.admit(method, &caller)?.until(deadline);
    let asked = question(head.uri.query().unwrap_or_default())?;
    let (input, form) = read(asked.as_ref(), shared.limits.json_depth)?;
    if method.streams {
        return events::answer(shared, admitted, input, head, deadline).await;
    }
    let ready = call::prepare(shared, admitted, &input, form, freshness(&head.headers), None)?;
    Ok(conditional(ready.run(shared, deadline).await?, &head.headers))
}

fn must_be_known(
    shared: &Shared,
    caller: &Arc<Caller>,
    method: Option<&'static Method>,
    uri: &Uri,
) -> Result<&'static Method> {
    if let Some(method) = method {
        return Ok(method);
    }
    shared.may_read_contract(caller)?;
    let mut path = uri.path().trim_matches('/').splitn(3, '/').skip(1);
    let (plugin, name) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
    Err(unknown_procedure(plugin, name))
}

/// What a GET asks.
#[derive(Debug, PartialEq, Eq)]
enum Question<'q> {
    /// `input`: the input, to be answered plainly.
    Input(Cow<'q, str>),
    /// `data`: oRPC's envelope, to be answered with one.
    Data(Cow<'q, str>),
}

/// Reads the query of a URI. Other parameters are refused, or a misspelt `input` would ask for everything.
fn question(query: &str) -> Result<Option<Question<'_>>> {
    let malformed = |why: String| Error::Malformed(format!("Malformed request: {why}"));
    let mut found = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let asked = match &*name {
            "input" => Question::Input(value),
            "data" => Question::Data(value),
            _ => {
                let short: String = name.chars().take(100).collect();
                return Err(malformed(format!("unknown query parameter: {short}; the input is ?input=…")));
            }
        };
        if found.replace(asked).is_some() {
            return Err(malformed("one input at a time".into()));
        }
    }
    Ok(found)
}

fn read<'q>(asked: Option<&'q Question<'_>>, depth_max: usize) -> Result<(Value<'q>, Form)> {
    match asked {
        None => Ok((Value::Null, Form::Plain)),
        Some(Question::Input(text)) => {
            let input = Value::parse(text.as_bytes(), depth_max);
            Ok((input.map_err(|why| Error::Malformed(format!("Malformed request: {why}")))?, Form::Plain))
        }
        Some(Question::Data(text)) => match envelope::read(text.as_bytes(), depth_max)? {
            Body::Plain(input) | Body::Enveloped(input) => Ok((input, Form::Enveloped)),
        },
    }
}

/// The answer to a GET, or 304 if the caller has it already. Its caller alone may store it, and asks before using it.
fn conditional(answer: Finished, asked: &HeaderMap) -> Answered {
    let is_known = answer.tag.as_ref().is_some_and(|tag| names(asked, tag));
    let mut response = success(answer);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = axum::body::Body::empty();
        response.headers_mut().remove(http::header::CONTENT_TYPE);
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(VARY, HeaderValue::from_static("authorization"));
    response
}

/// Whether `If-None-Match` names a tag; compared weakly (RFC 9110, section 13.1.2).
fn names(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let Ok(tag) = tag.to_str().map(opaque) else { return false };
    let lists = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).any(|known| known == "*" || opaque(known) == tag)
}

/// There is no such procedure. A name may be as long as the body.
pub(super) fn unknown_procedure(plugin: &str, name: &str) -> Error {
    let short = |text: &str| text.chars().take(100).collect::<String>();
    Error::NoProcedure(format!("Procedure not found: {}.{}", short(plugin), short(name)))
}

/// A service's JSON face.
pub(super) type Face = Arc<dyn crate::contract::dispatch::Dispatch>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_one_input_and_nothing_else() {
        assert_eq!(question("").unwrap(), None);
        assert_eq!(question("input=%7B%7D").unwrap(), Some(Question::Input("{}".into())));
        assert_eq!(question("data=%7B%22json%22%3A1%7D").unwrap(), Some(Question::Data("{\"json\":1}".into())));
        for bad in ["inptu=1", "input=1&input=2", "input=1&data=2", "x", "=1"] {
            assert!(question(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_compared_weakly() {
        let tag = HeaderValue::from_static("W/\"a\"");
        let asks = |value: &'static str| names(&HeaderMap::from_iter([(IF_NONE_MATCH, value.parse().unwrap())]), &tag);
        for same in ["W/\"a\"", "\"a\"", "\"b\", W/\"a\"", "*"] {
            assert!(asks(same), "{same}");
        }
        for other in ["", "\"b\"", "a", "W/a"] {
            assert!(!asks(other), "{other}");
        }
    }
}
