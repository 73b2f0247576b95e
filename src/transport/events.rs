//! Streams in JSON: server-sent events, a line of JSON for each message, or a table.

use super::answer::Listens;
use super::dialect::{ErrorBody, RequestId};
use super::edge::{Shared, Until};
use super::listening::Listening;
use super::{run, table};
use crate::access::Admitted;
use crate::contract::Method;
use crate::contract::stream::Told;
use crate::error::{Error, Result};
use crate::json::Value;
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use std::borrow::Cow;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Where a client of server-sent events says what it has read last (WHATWG HTML, section 9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// nginx would keep what is sent until it fills a buffer.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The field of an input that says from where to resume.
const CURSOR: &str = "cursor";

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `text/event-stream`.
    Events,
    /// `application/x-ndjson`.
    Lines,
    /// `text/csv` (RFC 4180): the resources alone, a column for each of their fields.
    Table,
}

/// What a message with a resource of the state is called: a table shows these.
const CURRENT: &str = "current";

/// A stream is no part of a batch.
pub(super) fn by_itself(method: &Method) -> Error {
    let Method { plugin, name, .. } = method;
    Error::Malformed(format!("{name} is a stream: call it by itself, at /api/{plugin}/{name}"))
}

/// Answers with a stream.
pub(super) async fn answer(
    shared: &Shared,
    admitted: Admitted,
    input: Value<'_>,
    head: &Parts,
    deadline: Instant,
) -> Result<Response<Body>> {
    let method = admitted.method();
    // The parts of a batch are answered whole.
    if head.extensions.get::<Until>().is_some() {
        return Err(by_itself(method));
    }
    let input = resumed(input, &head.headers)?;
    let stream = shared.dispatch(method)?.follow(admitted.clone(), &input)?;
    let mut listening = shared.listeners.admit(&admitted, head)?;
    let told = run::run(true, deadline, &shared.tasks, stream.run()).await??;
    listening.begins();
    let every = Duration::from_secs(shared.limits.heartbeat_s);
    let mut heartbeat = interval_at(Instant::now() + every, every);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let id = head.extensions.get().cloned().unwrap_or_else(|| RequestId(String::new()));
    let form = Form::wanted(&head.headers);
    let speech = Speech { told, listening, heartbeat, form, id, columns: None };
    let parts = stream::unfold(Some(speech), async |speech| {
        let mut speech = speech?;
        let (part, goes_on) = speech.next().await?;
        Some((part, goes_on.then_some(speech)))
    });
    let mut response = Response::new(Body::from_stream(parts));
    response.extensions_mut().insert(Listens);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
    Ok(response)
}

/// The input with the cursor of the header, which is newer: a client that reconnects by itself repeats its first input.
fn resumed<'v>(input: Value<'v>, headers: &HeaderMap) -> Result<Value<'v>> {
    let Some(last) = headers.get(LAST_EVENT_ID).filter(|last| !last.is_empty()) else { return Ok(input) };
    let last = last.to_str().map_err(|_| Error::Malformed(format!("Malformed {LAST_EVENT_ID}")))?;
    let cursor = (Cow::Borrowed(CURSOR), Value::Text(Cow::Owned(last.to_owned())));
    Ok(match input {
        Value::Null => Value::Object(vec![cursor]),
        Value::Object(mut entries) => {
            entries.retain(|(key, _)| key != CURSOR);
            entries.push(cursor);
            Value::Object(entries)
        }
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => input,
    })
}

impl Form {
    fn wanted(headers: &HeaderMap) -> Self {
        let kinds = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut kinds =
            kinds.flat_map(|text| text.split(',')).map(|kind| kind.split(';').next().unwrap_or_default().trim());
        let form = |kind: &str| {
            let is = |form: &Self| kind.eq_ignore_ascii_case(form.content_type());
            [Self::Events, Self::Lines, Self::Table].into_iter().find(is)
        };
        kinds.find_map(form).unwrap_or(Self::Events)
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::Table => "text/csv",
        }
    }

    fn message(self, told: &Told, columns: &mut Option<Vec<String>>) -> Bytes {
        // JSON as it is written here has no line breaks.
        let id = told.cursor.as_ref().map_or(String::new(), |cursor| format!("id: {cursor}\n"));
        let before = format!("{id}event: {}\ndata: ", told.name);
        match self {
            Self::Events => [before.as_bytes(), &told.json, b"\n\n"].concat().into(),
            Self::Lines => [&*told.json, b"\n"].concat().into(),
            Self::Table if told.name == CURRENT => table::rows(&told.json, columns).into(),
            Self::Table => Bytes::new(),
        }
    }

    /// A table has no place for an error: it is cut off, and its reader sees that it is not whole.
    fn error(self, error: &Error, id: &RequestId) -> io::Result<Bytes> {
        let body = serde_json::to_vec(&ErrorBody::of(error, id)).unwrap_or_default();
        Ok(match self {
            Self::Events => [&b"event: error\ndata: "[..], &body, b"\n\n"].concat().into(),
            Self::Lines => [&b"{\"error\":"[..], &body, b"}\n"].concat().into(),
            Self::Table => return Err(io::Error::other("the table is cut off")),
        })
    }

    /// What means nothing.
    fn heartbeat(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Events => b": \n\n",
            Self::Lines => b"\n",
            Self::Table => b"",
        })
    }
}

/// A stream as it is sent.
struct Speech {
    told: BoxStream<'static, Result<Told>>,
    listening: Listening,
    heartbeat: Interval,
    form: Form,
    id: RequestId,
    /// Of a table that has begun.
    columns: Option<Vec<String>>,
}

impl Speech {
    /// What is sent next, and whether anything follows.
    async fn next(&mut self) -> Option<(io::Result<Bytes>, bool)> {
        let told = tokio::select! {
            biased;
            why = self.listening.ends() => Err(why),
            told = self.told.next() => told?.and_then(|told| self.listening.may_go_on().map(|()| told)),
            _ = self.heartbeat.tick() => return Some((Ok(self.form.heartbeat()), true)),
        };
        Some(match told {
            Ok(told) => {
                self.heartbeat.reset();
                (Ok(self.form.message(&told, &mut self.columns)), true)
            }
            Err(why) => (self.form.error(&why, &self.id), false),
        })
    }
}
