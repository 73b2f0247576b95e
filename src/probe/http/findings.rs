//! What a request found.

use crate::probe::tls::{Certificate, millis, plain};
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Version, header};
use rustls::pki_types::CertificateDer;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use url::Url;

/// Headers that are told.
const HEADERS_MAX: usize = 100;

/// What they may be together, names and values.
const HEADER_BYTES_MAX: usize = 8_192;

/// What was found. Times of several connections, of redirects, are sums.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The status.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    /// What the status means.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_text: Option<&'static str>,
    /// `1.1` or `2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_version: Option<&'static str>,
    /// The headers, by name in lower case; what is there several times is joined by commas. Without cookies.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    /// The body as text. Never stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-ephemeral" = true))]
    body: Option<String>,
    /// The beginning of the body, as far as the settings have it stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_excerpt: Option<String>,
    /// The length of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "bytes"))]
    body_length: Option<usize>,
    /// What the body is said to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// How many redirects were followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "count"))]
    pub(super) redirects: Option<usize>,
    /// Where the answer came from, without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    final_url: Option<String>,
    /// The address that was connected to; that of the proxy where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remote_address: Option<String>,
    /// How long resolving took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    dns_time_ms: Option<f64>,
    /// How long connecting took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    connect_time_ms: Option<f64>,
    /// How long the TLS handshake took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    tls_time_ms: Option<f64>,
    /// How long the server took to begin its answer, from when it was connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    first_byte_time_ms: Option<f64>,
    /// How long all of it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "ms"))]
    pub(super) response_time_ms: Option<f64>,
    /// Whole days until the certificate of the server expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-chart-unit" = "days"))]
    certificate_days_remaining: Option<i64>,
    /// Whether the status is an expected one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) success: Option<bool>,
    /// Where a redirect leads.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) location: Option<String>,
}

impl Found {
    pub(super) fn connected(&mut self, dns: Duration, connect: Duration) {
        add(&mut self.dns_time_ms, dns);
        add(&mut self.connect_time_ms, connect);
    }

    pub(super) fn encrypted(&mut self, took: Duration, own: Option<&CertificateDer<'_>>) {
        add(&mut self.tls_time_ms, took);
        self.certificate_days_remaining = own.and_then(Certificate::days_remaining_of);
    }

    pub(super) fn answered(&mut self, url: &Url, head: &Parts, took: Duration) {
        add(&mut self.first_byte_time_ms, took);
        self.status_code = Some(head.status.as_u16());
        self.status_text = head.status.canonical_reason();
        self.http_version = match head.version {
            Version::HTTP_10 => Some("1.0"),
            Version::HTTP_11 => Some("1.1"),
            Version::HTTP_2 => Some("2"),
            _ => None,
        };
        self.headers = Some(told(&head.headers));
        let text = |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        self.content_type = text(header::CONTENT_TYPE).map(|value| plain(&value, 200));
        self.location = text(header::LOCATION);
        self.redirects.get_or_insert(0);
        self.final_url = Some(bare(url));
    }

    pub(super) fn read(&mut self, body: Vec<Bytes>, excerpt_bytes: usize) {
        let mut chunks = body.into_iter();
        let first: Vec<u8> = chunks.next().unwrap_or_default().into();
        let whole = chunks.fold(first, |mut whole, chunk| {
            whole.extend_from_slice(&chunk);
            whole
        });
        self.body_length = Some(whole.len());
        let text =
            String::from_utf8(whole).unwrap_or_else(|bytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned());
        if excerpt_bytes > 0 {
            self.body_excerpt = text.get(..text.floor_char_boundary(excerpt_bytes)).map(str::to_owned);
        }
        self.body = Some(text);
    }
}

fn add(sum: &mut Option<f64>, took: Duration) {
    *sum = Some(((sum.unwrap_or(0.0) + millis(took)) * 100.0).round() / 100.0);
}

/// A query may hold secrets, and so may a user.
fn bare(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    let _ = (bare.set_username(""), bare.set_password(None));
    bare.into()
}

fn told(headers: &HeaderMap) -> BTreeMap<String, String> {
    let (mut told, mut room) = (BTreeMap::<String, String>::new(), HEADER_BYTES_MAX);
    for (name, value) in headers.iter().filter(|(name, _)| **name != header::SET_COOKIE).take(HEADERS_MAX) {
        let value = String::from_utf8_lossy(value.as_bytes());
        let Some(left) = room.checked_sub(name.as_str().len() + value.len()) else { break };
        room = left;
        let joined = told.entry(name.as_str().to_owned()).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(&value);
    }
    told
}
