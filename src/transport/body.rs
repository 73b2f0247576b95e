//! Reading the body of a JSON request, and refusing what is not one.

use super::Limits;
use crate::error::{Error, Result};
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Whether a body without a content type is taken for JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Untyped {
    /// As oRPC does.
    IsJson,
    /// As the batch does.
    IsRefused,
}

/// Refuses what is not JSON in UTF-8, from the head.
pub(super) fn must_be_json(headers: &HeaderMap, untyped: Untyped) -> Result<()> {
    const REFUSAL: Error = Error::MediaType("Use content-type: application/json");
    if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| encoding != "identity") {
        return Err(Error::MediaType("Send the body without content-encoding"));
    }
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let kind = match (kinds.next(), kinds.next()) {
        (None, _) if untyped == Untyped::IsJson => return Ok(()),
        (Some(kind), None) => kind.to_str().map_err(|_| REFUSAL)?,
        _ => return Err(REFUSAL),
    };
    let mut parts = kind.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let utf8 = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    };
    if is_json && parts.all(utf8) { Ok(()) } else { Err(REFUSAL) }
}

/// Reads a body within its limits of size and time.
pub(super) async fn read(headers: &HeaderMap, body: Body, limits: &Limits, deadline: Instant) -> Result<Bytes> {
    let too_large = || Error::TooLarge(format!("The request body exceeds {} bytes", limits.body_bytes));
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limits.body_bytes as u64) {
        return Err(too_large());
    }
    let patience = Instant::now() + Duration::from_secs(limits.body_s);
    let late = if deadline < patience { Error::Deadline } else { Error::SlowBody };
    let collected = timeout_at(deadline.min(patience), Limited::new(body, limits.body_bytes).collect());
    match collected.await {
        Err(_) => Err(late),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(why)) if why.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Error::Malformed("The request body could not be read".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_in_utf8_is_read() {
        let check = |kind: &'static str| {
            must_be_json(&HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]), Untyped::IsRefused)
        };
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonp",
            "application/json; charset=latin1",
            "application/x-www-form-urlencoded",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
