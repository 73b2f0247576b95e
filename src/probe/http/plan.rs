//! The settings of a request, read once for all looks; and the way from one redirect to the next.

use super::status::Statuses;
use super::{Http, HttpVersion, Method};
use crate::probe::secret::is_credential;
use crate::probe::tls::TlsOptions;
use crate::probe::{Fault, Secret, Trouble};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::sync::OnceLock;
use url::Url;

/// No server accepts more.
const URL_MAX: usize = 8_192;

/// What anybody would post to see whether it works.
const BODY_MAX: usize = 1_048_576;

/// Together, what servers accept.
const HEADERS_MAX: usize = 100;

/// What the settings mean.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) url: Url,
    pub(super) method: http::Method,
    pub(super) headers: HeaderMap,
    /// For the origin of the URL alone.
    pub(super) secrets: HeaderMap,
    pub(super) body: Bytes,
    pub(super) expected: Statuses,
    pub(super) proxy: Option<Proxy>,
    /// For other origins, if there is a difference.
    elsewhere: OnceLock<Box<TlsOptions>>,
}

/// The proxy to go through.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
}

/// One request of a way.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) url: Url,
    pub(super) method: http::Method,
    pub(super) has_body: bool,
    /// It has not left the origin of the settings.
    pub(super) is_home: bool,
}

impl Plan {
    /// Everything that is wrong is told at once.
    pub(super) fn of(settings: &Http) -> Result<Self, Vec<Fault>> {
        let mut faults = settings.tls.faults("tls");
        let url = url(&settings.url).map_err(|why| faults.push(Fault::new("url", why))).ok();
        let (headers, secrets) = headers(settings, &mut faults);
        let expected = Statuses::of(settings.expected_status.as_ref());
        let expected = expected.map_err(|why| faults.push(Fault::new("expectedStatus", why))).ok();
        let proxy = settings.proxy.as_deref().map(proxy).transpose();
        let proxy = proxy.map_err(|why| faults.push(Fault::new("proxy", why))).ok();
        let mut bounds = |path, is_good: bool, message: &str| {
            if !is_good {
                faults.push(Fault::new(path, message));
            }
        };
        bounds("maxRedirects", settings.max_redirects <= 20, "Must be at most 20");
        bounds("sizeLimitBytes", (1..=10_485_760).contains(&settings.size_limit_bytes), "Must be from 1 to 10485760");
        bounds("storeBodyBytes", settings.store_body_bytes <= 1_024, "Must be at most 1024");
        bounds("body", settings.body.as_ref().is_none_or(|body| body.len() <= BODY_MAX), "Must have at most 1 MiB");
        let is_plain = url.as_ref().is_some_and(|url| url.scheme() == "http");
        let is_possible = !(is_plain && settings.proxy.is_some() && settings.http_version == HttpVersion::Two);
        bounds("httpVersion", is_possible, "A proxy speaks HTTP/1.1 unless the URL is https");
        match (faults.is_empty(), url, expected, proxy) {
            (true, Some(url), Some(expected), Some(proxy)) => Ok(Self {
                url,
                method: settings.method.into(),
                headers,
                secrets,
                body: settings.body.clone().unwrap_or_default().into(),
                expected,
                proxy,
                elsewhere: OnceLock::new(),
            }),
            _ => Err(faults),
        }
    }

    /// How to speak TLS there.
    pub(super) fn tls<'a>(&'a self, settings: &'a Http, hop: &Hop) -> &'a TlsOptions {
        if hop.is_home || !settings.tls.is_personal() {
            return &settings.tls;
        }
        self.elsewhere.get_or_init(|| Box::new(settings.tls.elsewhere()))
    }
}

impl Hop {
    pub(super) fn first(plan: &Plan) -> Self {
        Self { url: plan.url.clone(), method: plan.method.clone(), has_body: !plan.body.is_empty(), is_home: true }
    }

    /// Where a redirect leads, as the fetch standard has it.
    pub(super) fn next(&self, plan: &Plan, status: StatusCode, location: &str) -> Result<Self, Trouble> {
        let wrong = |why: &str| Trouble::Target(format!("Redirects {why}"));
        let mut url = self.url.join(location).map_err(|_| wrong("to something that is not a URL"))?;
        url.set_fragment(None);
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || url.as_str().len() > URL_MAX {
            return Err(wrong("to something that is not a URL of HTTP"));
        }
        if self.url.scheme() == "https" && url.scheme() == "http" {
            return Err(wrong("from https to http, where anybody could read along"));
        }
        let becomes_get = match status {
            StatusCode::SEE_OTHER => self.method != http::Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == http::Method::POST,
            _ => false,
        };
        Ok(Self {
            is_home: self.is_home && url.origin() == plan.url.origin(),
            url,
            method: if becomes_get { http::Method::GET } else { self.method.clone() },
            has_body: self.has_body && !becomes_get,
        })
    }
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
            Method::Options => Self::OPTIONS,
        }
    }
}

fn url(text: &str) -> Result<Url, &'static str> {
    if text.len() > URL_MAX {
        return Err("Must have at most 8192 characters");
    }
    let mut url = Url::parse(text).map_err(|_| "Is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("Must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("Must not have a user or a password in it: use basicAuth");
    }
    if url.port() == Some(0) {
        return Err("Must not have port 0");
    }
    url.set_fragment(None);
    url.as_str().parse::<http::Uri>().map_err(|_| "Is not a URL that HTTP can ask for")?;
    Ok(url)
}

fn proxy(text: &str) -> Result<Proxy, &'static str> {
    let url = Url::parse(text).map_err(|_| "Is not a URL")?;
    let is_good = url.scheme() == "http" && url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !url.username().is_empty() || url.password().is_some() {
        return Err("Must not have a user or a password in it");
    }
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) if is_good && port > 0 => Ok(Proxy { host: host.into(), port }),
        _ => Err("Must be of the form http://host:port"),
    }
}

/// What others may see, and what not.
fn headers(settings: &Http, faults: &mut Vec<Fault>) -> (HeaderMap, HeaderMap) {
    // Left to itself the map makes room for six.
    let mut open = HeaderMap::with_capacity(settings.headers.len() + 2);
    let mut secret = HeaderMap::new();
    let agent = settings.user_agent.as_deref().unwrap_or(concat!("Checkmate/", env!("CARGO_PKG_VERSION")));
    match HeaderValue::from_str(agent) {
        Ok(agent) => drop(open.insert(header::USER_AGENT, agent)),
        Err(_) => faults.push(Fault::new("userAgent", "Holds characters that a header cannot")),
    }
    open.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in &settings.headers {
        match named(name, value) {
            Ok(_) if is_credential(name) => {
                let why = "Would be stored and shown as it is: use basicAuth, bearerToken or secretHeaders";
                faults.push(Fault::new(format!("headers.{name}"), why));
            }
            Ok((name, value)) if name == header::HOST => drop(secret.insert(name, value)),
            Ok((name, value)) => drop(open.insert(name, value)),
            Err(why) => faults.push(Fault::new(format!("headers.{name}"), why)),
        }
    }
    for (name, value) in &settings.secret_headers {
        match named(name, value.reveal()) {
            Ok((name, value)) => drop(secret.insert(name, sensitive(value))),
            Err(why) => faults.push(Fault::new(format!("secretHeaders.{name}"), why)),
        }
    }
    let count = settings.headers.len() + settings.secret_headers.len();
    if count > HEADERS_MAX {
        faults.push(Fault::new("headers", format!("Must be at most {HEADERS_MAX}, with the secret ones")));
    }
    match authorization(settings) {
        Ok(None) => {}
        Ok(Some(_)) if secret.contains_key(header::AUTHORIZATION) => {
            faults.push(Fault::new("secretHeaders", "Has an authorization beside basicAuth or bearerToken"));
        }
        Ok(Some(value)) => drop(secret.insert(header::AUTHORIZATION, value)),
        Err(fault) => faults.push(fault),
    }
    (open, secret)
}

/// A header that one may set.
pub(in crate::probe) fn named(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "Is not the name of a header")?;
    let value = HeaderValue::from_str(value).map_err(|_| "Holds characters that a header cannot")?;
    // They would say something else about the connection or the body than what is sent.
    let framing = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::EXPECT,
    ];
    if framing.contains(&name) {
        return Err("Is set by the request itself");
    }
    Ok((name, value))
}

fn authorization(settings: &Http) -> Result<Option<HeaderValue>, Fault> {
    let text = match (&settings.basic_auth, &settings.bearer_token) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(Fault::new("bearerToken", "Must not be given with basicAuth")),
        (Some(basic), None) if basic.username.contains(':') => {
            return Err(Fault::new("basicAuth.username", "Must not hold a colon"));
        }
        (Some(basic), None) => {
            let pair = zeroize::Zeroizing::new(format!("{}:{}", basic.username, basic.password.reveal()));
            zeroize::Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        }
        (None, Some(token)) => zeroize::Zeroizing::new(format!("Bearer {}", Secret::reveal(token))),
    };
    let value = HeaderValue::from_str(&text);
    let value = value.map_err(|_| Fault::new("bearerToken", "Holds characters that a header cannot"))?;
    Ok(Some(sensitive(value)))
}

/// Kept out of HTTP/2's tables, and printed as nothing.
fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}
