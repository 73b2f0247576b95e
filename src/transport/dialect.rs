//! How answers are written: one body for errors, in two wrappings.

use super::idempotency::REPLAYED;
use super::reply_cache::Finished;
use crate::access::Token;
use crate::error::Error;
use axum::body::Body;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Whose form of error an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `{"code","message","data"?}`.
    Plain,
    /// The same inside of what oRPC clients expect: `{"json":{…},"code","message"}`.
    Enveloped,
}

/// The id of a request, in the extensions of request and answer.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// The body of an error.
#[derive(Serialize)]
pub(super) struct ErrorBody<'e> {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'e>>,
}

/// The failures of a batch by name, in the order written.
pub(super) struct Failures<'e>(pub(super) Vec<(&'e str, ErrorBody<'e>)>);

impl Serialize for Failures<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, body)| (Token::hidden_in(name), body)))
    }
}

/// What goes with an error.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Data<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issues: Option<&'e crate::contract::issue::Issues>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'e str>,
    /// Of a batch: the procedure that failed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) procedure: Option<Cow<'e, str>>,
    /// Of a batch: what succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) results: Option<Box<RawValue>>,
    /// Of a batch: what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errors: Option<Failures<'e>>,
}

impl<'e> ErrorBody<'e> {
    /// The body of an error; an internal one has the request id, for whoever reads the log.
    pub(super) fn of(error: &'e Error, id: &'e RequestId) -> Self {
        let issues = if let Error::Invalid(issues) = error { Some(issues) } else { None };
        let request_id = matches!(error, Error::Internal(_)).then_some(id.0.as_str());
        let says_more = issues.is_some() || request_id.is_some();
        let data = says_more.then(|| Data { issues, request_id, ..Data::default() });
        Self { code: error.row().json, message: Token::hidden_in(&error.to_string()).into_owned(), data }
    }

    /// Adds what a batch says.
    pub(super) fn with_batch(mut self, batch: Data<'e>) -> Self {
        let own = self.data.unwrap_or_default();
        self.data = Some(Data { issues: own.issues, request_id: own.request_id, ..batch });
        self
    }
}

impl Dialect {
    /// The answer for an error.
    pub(super) fn refuse(self, error: &Error, id: &RequestId) -> Response<Body> {
        self.refuse_with(error, &ErrorBody::of(error, id))
    }

    /// The answer for an error whose body says more.
    pub(super) fn refuse_with(self, error: &Error, body: &ErrorBody<'_>) -> Response<Body> {
        let status = error.row().http;
        let json = match self {
            Self::Plain => serde_json::to_vec(body),
            Self::Enveloped => serde_json::to_vec(&Enveloped::of(body, status)),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json_response(status, json.unwrap_or_default());
        let headers = response.headers_mut();
        if let Error::NoCredential | Error::BadCredential = error {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"checkmate\""));
        } else if let Some(seconds) = error.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        } else if let Error::Method(allowed) = error {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

/// oRPC 1.13 accepts exactly these keys inside of `json` and ignores what stands beside it.
#[derive(Serialize)]
struct Enveloped<'b, 'e> {
    json: Orpc<'b, 'e>,
    code: &'static str,
    message: &'b str,
}

#[derive(Serialize)]
struct Orpc<'b, 'e> {
    defined: bool,
    code: &'static str,
    status: u16,
    message: &'b str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'b Data<'e>>,
}

impl<'b, 'e> Enveloped<'b, 'e> {
    fn of(body: &'b ErrorBody<'e>, status: u16) -> Self {
        let (code, message) = (body.code, &body.message);
        Self { json: Orpc { defined: false, code, status, message, data: body.data.as_ref() }, code, message }
    }
}

/// The answer of a call that succeeded.
pub(super) fn success(answer: Finished) -> Response<Body> {
    let mut response = json_response(StatusCode::OK, answer.body);
    if let Some(tag) = answer.tag {
        response.headers_mut().insert(ETAG, tag);
    }
    if answer.is_replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// A JSON answer. Answers depend on who asks, so nobody between us keeps them.
pub(super) fn json_response(status: StatusCode, json: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(json.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
