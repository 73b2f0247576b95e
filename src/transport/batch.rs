//! `POST /api/{plugin}/`: several procedures in one request, `{"getSystems": {}, "getGroups": {}}`.
//!
//! The documented clients look at the status alone, so a failure never hides in a 2xx unless they ask for it. Nothing
//! runs before everything is known, permitted and valid. The rules are those of design.md section 4.

use super::Limits;
use super::body::{self, Untyped};
use super::call::{self, Ready};
use super::condition;
use super::dialect::{Data, Dialect, ErrorBody, Failures, RequestId, json_response, success};
use super::edge::Shared;
use super::idempotency;
use super::metrics::Protocol;
use super::reply_cache::{self, Finished, Form, Freshness, weak_tag};
use super::single::unknown_procedure;
use crate::access::Token;
use crate::contract::{method_named, plugin};
use crate::error::{Error, Result};
use crate::json::Value;
use crate::json::value::Entry;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::value::RawValue;
use std::time::Instant as Clock;
use tokio::time::Instant;

/// What a call came to; `None`: it never ran.
type Outcome = Option<Result<Finished>>;

/// Answers, also when it refuses.
pub(super) async fn batch(shared: &Shared, plugin: &str, request: Request, id: &RequestId) -> Response<Body> {
    let done = answer(shared, plugin, request, id).await;
    done.unwrap_or_else(|error| {
        error.log("a batch failed");
        Dialect::Plain.refuse(&error, id)
    })
}

async fn answer(shared: &Shared, plugin_id: &str, request: Request, id: &RequestId) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let (caller, deadline) = shared.authenticate(&head.headers, &head.extensions).await?;
    if plugin(plugin_id).is_none() {
        shared.may_read_contract(&caller)?;
        return Err(unknown_plugin(plugin_id));
    }
    shared.must_be_able_to_call(&caller)?;
    let bytes = read(shared, &head.headers, body, deadline).await?;
    // The body may have taken its time: who may call is decided again.
    let caller = shared.gate.renew(&caller)?;
    let entries = parse(&bytes, &shared.limits)?;
    let has_condition = condition::is_in(&head.headers);
    if has_condition && entries.len() > 1 {
        return Err(Error::Malformed("Malformed if-match: a condition is for one call, and these are several".into()));
    }
    let is_lenient = prefers_lenient(&head.headers);

    let methods: Vec<_> = entries.iter().map(|(name, _)| method_named(plugin_id, name)).collect();
    // What was kept before a mutation of the same batch is no answer to a query after it.
    let changes = methods.iter().flatten().any(|method| !method.query);
    let freshness = if changes { Freshness::Anew } else { reply_cache::freshness(&head.headers) };
    let repeatable = if changes { idempotency::read(&head.headers, plugin_id, &bytes)? } else { None };
    let mut calls = vec![];
    for (index, ((name, input), method)) in entries.iter().zip(methods).enumerate() {
        let checked = Clock::now();
        let method = method.ok_or_else(|| unknown_procedure(plugin_id, name));
        let prepared = method.clone().and_then(|method| {
            let once = repeatable.as_ref().map(|request| request.call(shared, &caller, index)).transpose()?;
            let admitted = shared.gate.admit(method, &caller)?.until(deadline);
            let form = if entries.len() == 1 { Form::Named(method.known_as(name)) } else { Form::Plain };
            if has_condition {
                let input = condition::add(&head.headers, method, input.clone())?;
                return call::prepare(shared, admitted, &input, form, freshness, once);
            }
            call::prepare(shared, admitted, input, form, freshness, once)
        });
        if let (Ok(method), Err(error)) = (method, &prepared) {
            shared.note(method, Protocol::Json, checked, Some(error));
        }
        match prepared {
            Err(error) if !is_lenient => {
                return Ok(Outcomes::refused(name, error, entries.len()).respond(false, id));
            }
            prepared => calls.push((name.as_ref(), prepared)),
        }
    }
    Ok(execute(shared, calls, deadline).await.respond(is_lenient, id))
}

async fn read(shared: &Shared, headers: &HeaderMap, body: Body, deadline: Instant) -> Result<Bytes> {
    body::must_be_json(headers, Untyped::IsRefused)?;
    body::read(headers, body, &shared.limits, deadline).await
}

/// The calls of a batch, in the order written.
pub(super) fn parse<'b>(bytes: &'b [u8], limits: &Limits) -> Result<Vec<Entry<'b>>> {
    // The batch is a level of its own.
    let value = Value::parse(bytes, limits.json_depth + 1)
        .map_err(|why| Error::Malformed(format!("Malformed request: {why}")))?;
    let most = limits.batch_calls;
    match value {
        Value::Object(entries) if entries.is_empty() => Err(Error::Malformed("Empty batch".into())),
        Value::Object(entries) if entries.len() > most => {
            Err(Error::TooLarge(format!("A batch has at most {most} calls")))
        }
        Value::Object(entries) => Ok(entries),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
            Err(Error::Malformed(format!("Expected an object of procedures, got {}", value.kind())))
        }
    }
}

/// There is no such plugin.
pub(super) fn unknown_plugin(id: &str) -> Error {
    Error::NoProcedure(format!("Plugin not found: {}", id.chars().take(100).collect::<String>()))
}

/// RFC 7240.
fn prefers_lenient(headers: &HeaderMap) -> bool {
    let lenient = |preference: &str| {
        let (name, value) = preference.split(';').next().unwrap_or_default().split_once('=').unwrap_or_default();
        name.trim().eq_ignore_ascii_case("handling") && value.trim().trim_matches('"').eq_ignore_ascii_case("lenient")
    };
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .any(lenient)
}

/// Runs queries together; as soon as there is a mutation, everything one after another up to the first failure.
async fn execute<'n>(shared: &Shared, calls: Vec<(&'n str, Result<Ready>)>, deadline: Instant) -> Outcomes<'n> {
    let only_queries = calls.iter().all(|(_, call)| call.as_ref().map_or(true, |ready| ready.method.query));
    if only_queries {
        let (names, calls): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        let each: Vec<_> = calls.into_iter().map(|call| run_one(shared, call, deadline)).collect();
        let done: Vec<_> = stream::iter(each).buffered(shared.limits.batch_queries).map(Some).collect().await;
        return Outcomes(names.into_iter().zip(done).collect());
    }
    let (mut outcomes, mut has_failed) = (vec![], false);
    for (name, call) in calls {
        let was_refused = call.is_err();
        let mut outcome = None;
        if was_refused || !has_failed {
            outcome = Some(run_one(shared, call, deadline).await);
        }
        has_failed |= !was_refused && matches!(outcome, Some(Err(_)));
        outcomes.push((name, outcome));
    }
    Outcomes(outcomes)
}

async fn run_one(shared: &Shared, call: Result<Ready>, deadline: Instant) -> Result<Finished> {
    let ready = call?;
    let (method, started) = (ready.method, Clock::now());
    let done = ready.run(shared, deadline).await;
    shared.note(method, Protocol::Json, started, done.as_ref().err());
    done
}

/// What every call came to, in the order written.
struct Outcomes<'n>(Vec<(&'n str, Outcome)>);

impl<'n> Outcomes<'n> {
    /// Nothing ran: one call was refused. The others, if any, are named by nobody.
    fn refused(name: &'n str, error: Error, calls: usize) -> Self {
        let mut outcomes = vec![(name, Some(Err(error)))];
        outcomes.extend((1..calls).map(|_| (name, None)));
        Self(outcomes)
    }

    fn respond(&self, is_lenient: bool, id: &RequestId) -> Response<Body> {
        let failures = || self.0.iter().filter_map(|(name, outcome)| Some((*name, outcome.as_ref()?.as_ref().err()?)));
        let errors = || Failures(failures().map(|(name, error)| (name, ErrorBody::of(error, id))).collect());
        match failures().next() {
            None => with_preference(success(self.whole()), is_lenient),
            Some(_) if is_lenient => {
                let errors = serde_json::to_vec(&errors()).unwrap_or_default();
                with_preference(json_response(StatusCode::MULTI_STATUS, self.results(Some(&errors))), true)
            }
            Some((_, error)) if self.0.len() == 1 => Dialect::Plain.refuse(error, id),
            Some((procedure, error)) => {
                let results = String::from_utf8(self.results(None)).ok().and_then(|r| RawValue::from_string(r).ok());
                let data = Data {
                    procedure: Some(Token::hidden_in(procedure)),
                    results,
                    errors: Some(errors()),
                    ..Data::default()
                };
                Dialect::Plain.refuse_with(error, &ErrorBody::of(error, id).with_batch(data))
            }
        }
    }

    /// The answer when all went well. That of a single call is written already.
    fn whole(&self) -> Finished {
        if let [(_, Some(Ok(answer)))] = &*self.0 {
            return answer.clone();
        }
        let is_replayed = self.0.iter().any(|(_, outcome)| matches!(outcome, Some(Ok(answer)) if answer.is_replayed));
        Finished { body: self.results(None).into(), tag: self.tag(), is_replayed }
    }

    /// The tag of a batch of queries follows from theirs.
    fn tag(&self) -> Option<HeaderValue> {
        let mut parts = vec![];
        for (name, outcome) in &self.0 {
            parts.extend([name.as_bytes(), outcome.as_ref()?.as_ref().ok()?.tag.as_ref()?.as_bytes()]);
        }
        Some(weak_tag(parts))
    }

    /// `{"getSystems": …, "$errors": …}`: finished JSON, written as it is.
    fn results(&self, errors: Option<&Vec<u8>>) -> Vec<u8> {
        let succeeded = self.0.iter().filter_map(|(name, outcome)| Some((*name, outcome.as_ref()?.as_ref().ok()?)));
        let parts = succeeded.map(|(name, answer)| (name, &*answer.body));
        write(parts.chain(errors.map(|errors| ("$errors", &**errors))))
    }
}

/// An object of finished JSON, which is written as it is. A name is a known procedure: it needs no escaping.
pub(super) fn write<'p>(parts: impl IntoIterator<Item = (&'p str, &'p [u8])>) -> Vec<u8> {
    let parts: Vec<_> = parts.into_iter().collect();
    // Two quotes, a colon and a comma beside each.
    let length = parts.iter().map(|(name, json)| name.len() + json.len() + 4).sum::<usize>();
    let mut body = Vec::with_capacity(length + 2);
    body.push(b'{');
    for (name, json) in parts {
        if body.len() > 1 {
            body.push(b',');
        }
        body.push(b'"');
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(b"\":");
        body.extend_from_slice(json);
    }
    body.push(b'}');
    body
}

fn with_preference(mut response: Response<Body>, is_lenient: bool) -> Response<Body> {
    if is_lenient {
        let applied = HeaderName::from_static("preference-applied");
        response.headers_mut().insert(applied, HeaderValue::from_static("handling=lenient"));
    }
    response
}
