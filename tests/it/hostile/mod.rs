//! Hostile requests over both protocols, each with its documented answer.
//!
//! None of them is anything that may happen: whatever is let in asks about a system that is not there, so an accepted
//! input is `NOT_FOUND`, and the catalog is the same before and after.

mod envelope;
mod framing;
mod head;
mod json;
mod pages;
mod paths;
mod protobuf;
mod smuggling;
mod tokens;
mod types;
pub mod wire;

use crate::server::{Caller, Server};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;
use tonic::Code;
use wire::{Grpc, Http};

/// The id of nothing.
pub const NOTHING: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// A hostile request is answered within this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server says when it was not given the time to ask its database.
const STARVED: &str = "nobody's permissions are known";

/// A request and its documented answer.
pub struct Row {
    name: String,
    send: Send,
    says: Says,
}

enum Send {
    Http(Http),
    Grpc(Grpc),
}

/// What is documented.
#[derive(Debug)]
enum Says {
    /// HTTP status, `code`, and a part of the message or, for results, of the body.
    Json(u16, &'static str, String),
    /// What no procedure and no router saw: a status without a body.
    Bare(u16),
    /// gRPC's code and a part of the message.
    Grpc(Code, String),
}

/// A row over HTTP/1.1.
pub fn http(name: impl Into<String>, send: Http, status: u16, part: impl Into<String>) -> Row {
    let code = match status {
        200 | 207 => "",
        400 => "BAD_REQUEST",
        401 => "UNAUTHORIZED",
        404 => "NOT_FOUND",
        405 => "METHOD_NOT_SUPPORTED",
        413 => "PAYLOAD_TOO_LARGE",
        415 => "UNSUPPORTED_MEDIA_TYPE",
        504 => "GATEWAY_TIMEOUT",
        other => panic!("{other} is not documented"),
    };
    Row { name: name.into(), send: Send::Http(send), says: Says::Json(status, code, part.into()) }
}

/// A row over HTTP/1.1 that is refused before it is a request.
pub fn bare(name: impl Into<String>, send: Http, status: u16) -> Row {
    Row { name: name.into(), send: Send::Http(send), says: Says::Bare(status) }
}

/// A row over gRPC.
pub fn grpc(name: impl Into<String>, send: Grpc, code: Code, part: impl Into<String>) -> Row {
    Row { name: name.into(), send: Send::Grpc(send), says: Says::Grpc(code, part.into()) }
}

impl Row {
    /// What is not as documented. On a starved machine the server may be late, or not know for a moment who may call and
    /// say so; what is wrong stays wrong when it is asked again.
    async fn failure(&self, address: &str, key: &str) -> Option<String> {
        let mut failure = None;
        for _ in 0..3 {
            failure = tokio::time::timeout(PATIENCE, self.difference(address, key))
                .await
                .unwrap_or_else(|_| Some(format!("no answer within {PATIENCE:?}")));
            if !failure.as_ref().is_some_and(|why| why.contains("no answer within") || why.contains(STARVED)) {
                break;
            }
        }
        failure.map(|why| format!("{}: {why}", self.name))
    }

    async fn difference(&self, address: &str, key: &str) -> Option<String> {
        match (&self.send, &self.says) {
            (Send::Http(request), Says::Bare(status)) => {
                let answer = request.send(address, key).await;
                let good = answer.status == *status && answer.body.is_empty();
                (!good).then(|| format!("{status} is documented, found {answer:?}"))
            }
            (Send::Http(request), Says::Json(status, code, part)) => {
                let answer = request.send(address, key).await;
                let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
                let (found, text) = match status {
                    200 | 207 => ("", answer.body.as_str()),
                    _ => (body["code"].as_str().unwrap_or("none"), body["message"].as_str().unwrap_or_default()),
                };
                let is_short = text.len() < 8_192 && answer.body.len() < 32_768;
                let is_json = answer.header("content-type").starts_with("application/json") || *status == 207;
                let good = answer.status == *status && found == *code && text.contains(part) && is_json && is_short;
                let shown: String = format!("{answer:?}").chars().take(600).collect();
                (!good).then(|| format!("{status} {code} {part:?} is documented, found {shown}"))
            }
            (Send::Grpc(request), Says::Grpc(code, part)) => {
                let answer = request.send(address, key).await;
                let is_grpc = answer.http == 200 && answer.kind.starts_with("application/grpc");
                let good = is_grpc && answer.status == Some(*code as i32) && answer.message.contains(part);
                let shown: String = format!("{answer:?}").chars().take(600).collect();
                (!good).then(|| format!("{code:?} {part:?} is documented, found {shown}"))
            }
            (Send::Grpc(request), Says::Json(status, code, part)) => {
                let answer = request.send(address, key).await;
                let good = answer.http == *status && answer.body.contains(code) && answer.body.contains(part);
                (!good).then(|| format!("{status} {code} {part:?} is documented, found {answer:?}"))
            }
            (Send::Http(_), Says::Grpc(..)) | (Send::Grpc(_), Says::Bare(_)) => Some("no such row".into()),
        }
    }
}

/// A server that hostile rows are sent to: the one place for limits that a table would run into.
pub async fn target() -> Server {
    // Hundreds of bad keys are sent on purpose, and each is to have its own answer.
    Server::start_with(|config| config.limits.bad_credentials = 100_000).await
}

/// Sends every row, several at once, and claims that nothing but its answer came of it.
async fn hold(rows: Vec<Row>) {
    let server = target().await;
    hold_on(&server, &rows).await;
}

pub async fn hold_on(server: &Server, rows: &[Row]) {
    let admin = server.admin();
    let before = everything(&admin).await;
    let (address, key) = (server.url.trim_start_matches("http://"), admin.key.clone().unwrap());
    let each = rows.iter().map(|row| row.failure(address, &key));
    let failures: Vec<_> = stream::iter(each).buffered(4).filter_map(std::future::ready).collect().await;
    let mut text = String::new();
    for failure in &failures {
        writeln!(text, "{failure}").unwrap();
    }
    assert!(failures.is_empty(), "{} of {} rows:\n{text}", failures.len(), rows.len());
    assert_eq!(everything(&admin).await, before, "nothing came of it");
    let metrics = server.anonymous().get("/metrics").await.text;
    assert!(!metrics.contains("INTERNAL_SERVER_ERROR"), "nothing that a caller sends is our fault");
}

/// What there is.
async fn everything(admin: &Caller) -> Value {
    let mut all = admin.call("catalog.getEntities", json!({})).await;
    all["views"] = admin.call("catalog.getViews", json!({})).await;
    all["roles"] = admin.call("auth.getRoles", json!({})).await;
    all
}

macro_rules! tables {
    ($($name:ident = $rows:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            hold($rows).await;
        })*

        #[test]
        fn the_table_has_at_least_300_rows_with_names_of_their_own() {
            let rows = [$($rows),*].into_iter().flatten();
            let names: Vec<_> = rows.map(|row| row.name).collect();
            let mut seen = BTreeSet::new();
            let twice: Vec<_> = names.iter().filter(|name| !seen.insert(*name)).collect();
            assert!(twice.is_empty(), "two rows have one name: {twice:?}");
            assert!(names.len() >= 300, "{} rows", names.len());
        }
    };
}

tables! {
    what_is_not_json_is_refused = json::syntax();
    keys_written_twice_are_refused_everywhere = json::duplicates();
    json_is_only_so_deep_and_so_large = json::sizes();
    numbers_are_exact_or_refused = json::numbers();
    text_is_unicode_without_nul = json::texts();
    every_kind_of_field_refuses_what_is_none = types::kinds();
    names_are_those_of_the_contract = types::names();
    bodies_have_one_type = head::types();
    paths_answer_to_their_methods = head::methods();
    headers_that_conflict_or_make_no_sense_are_refused = head::headers();
    requests_have_one_reading = smuggling::rows();
    envelopes_point_at_what_is_there = envelope::rows();
    protobuf_that_is_none_is_refused = protobuf::rows();
    messages_come_in_frames = framing::frames();
    calls_say_what_they_are = framing::calls();
    deadlines_are_spelled_as_grpc_says = framing::deadlines();
}
