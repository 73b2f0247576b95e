//! `If-Match` on an update: the `updatedAt` that the caller has read, in quotes, stands for the input's field of that
//! meaning (design: no lost updates). Without it an update happens whatever was there before.

use crate::contract::Method;
use crate::error::{Error, Result};
use crate::json::Value;
use http::HeaderMap;
use http::header::IF_MATCH;
use std::borrow::Cow;

/// What an update calls it.
const EXPECTED: &str = "expectedUpdatedAt";

/// Whether a request has a condition.
pub(super) fn is_in(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_MATCH)
}

/// Puts the condition of a request, if it has one, into the input of its mutation.
pub(super) fn add<'v>(headers: &'v HeaderMap, method: &Method, input: Value<'v>) -> Result<Value<'v>> {
    let mut tags = headers.get_all(IF_MATCH).iter();
    let Some(tag) = tags.next().filter(|_| !method.query) else { return Ok(input) };
    let malformed = |why: &str| Err(Error::Malformed(format!("Malformed if-match: {why}")));
    if !method.input_keys.contains(&EXPECTED) {
        return malformed("this procedure has no such condition");
    }
    let tag = tag.to_str().map(str::trim).unwrap_or_default();
    if tag == "*" {
        // That it exists is needed anyway.
        return Ok(input);
    }
    let inner = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let (Some(expected), None) = (inner.filter(|inner| !inner.contains('"')), tags.next()) else {
        return malformed("one updatedAt in quotes");
    };
    let Value::Object(mut entries) = input else { return malformed("the input is an object") };
    if entries.iter().any(|(key, _)| key == EXPECTED) {
        return malformed("the input has expectedUpdatedAt already");
    }
    entries.push((Cow::Borrowed(EXPECTED), Value::Text(Cow::Borrowed(expected))));
    Ok(Value::Object(entries))
}
