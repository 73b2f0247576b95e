//! The envelope of oRPC 1.13: `{"json": value, "meta": [[type, segment, …], …]}`.

use crate::error::{Error, Result};
use crate::json::Value;

/// What a body on the path of one procedure is.
pub(super) enum Body<'a> {
    /// A plain input, to be answered plainly.
    Plain(Value<'a>),
    /// The input out of an envelope, to be answered with one.
    Enveloped(Value<'a>),
}

/// Keys that are compared while following `meta`, over all of its paths: an honest request has tens of paths into small
/// objects, and a large object with as many paths would take minutes.
const STEPS_MAX: usize = 1_000_000;

/// oRPC's types that JSON does not have, by their codes.
mod code {
    pub(super) const BIGINT: u64 = 0;
    pub(super) const DATE: u64 = 1;
    pub(super) const NAN: u64 = 2;
    pub(super) const UNDEFINED: u64 = 3;
    pub(super) const URL: u64 = 4;
    pub(super) const REGEXP: u64 = 5;
    pub(super) const SET: u64 = 6;
    pub(super) const MAP: u64 = 7;
}

/// Reads a body: none at all, or an object whose keys are all `json`, `meta` or `maps`, is an envelope.
pub(super) fn read(bytes: &[u8], depth_max: usize) -> Result<Body<'_>> {
    if bytes.is_empty() {
        return Ok(Body::Enveloped(Value::Null));
    }
    // The envelope is a level of its own.
    let value =
        Value::parse(bytes, depth_max + 1).map_err(|why| Error::Malformed(format!("Malformed request: {why}")))?;
    let Value::Object(entries) = value else { return Ok(Body::Plain(value)) };
    if !entries.iter().all(|(key, _)| matches!(key.as_ref(), "json" | "meta" | "maps")) {
        return Ok(Body::Plain(Value::Object(entries)));
    }
    let (mut json, mut meta) = (Value::Null, Value::Null);
    for (key, value) in entries {
        match key.as_ref() {
            "json" => json = value,
            "meta" => meta = value,
            _ if value == Value::List(vec![]) => {}
            _ => return Err(malformed("files are not accepted")),
        }
    }
    revive(&mut json, &meta)?;
    Ok(Body::Enveloped(json))
}

/// Turns what `meta` points at into what the contract knows: a bigint into a number, undefined into null. A date stays
/// the text that it is.
fn revive(json: &mut Value<'_>, meta: &Value<'_>) -> Result<()> {
    if *meta == Value::Null {
        return Ok(());
    }
    let Value::List(items) = meta else { return Err(malformed("meta is a list")) };
    let mut steps = STEPS_MAX;
    for item in items {
        let Value::List(parts) = item else { return Err(malformed("meta is a list of lists")) };
        let Some((Value::Number(kind), path)) = parts.split_first() else { return Err(malformed("meta has no type")) };
        let place = find(json, path, &mut steps).ok_or_else(|| malformed("meta points nowhere"))?;
        match (kind.as_u64().unwrap_or(u64::MAX), &*place) {
            (code::BIGINT, Value::Text(digits)) => {
                let number: i64 = digits.parse().map_err(|_| malformed("a bigint is out of range"))?;
                *place = Value::Number(number.into());
            }
            (code::UNDEFINED, _) => *place = Value::Null,
            (code::DATE | code::URL | code::REGEXP, Value::Text(_)) | (code::SET, Value::List(_)) => {}
            (code::DATE, Value::Null) => return Err(malformed("an invalid date")),
            (code::NAN | code::MAP, _) => return Err(malformed("NaN and Map are not accepted")),
            _ => return Err(malformed("meta does not fit its value")),
        }
    }
    Ok(())
}

fn find<'v, 'a>(root: &'v mut Value<'a>, path: &[Value<'_>], steps: &mut usize) -> Option<&'v mut Value<'a>> {
    path.iter().try_fold(root, |here, segment| match (here, segment) {
        (Value::Object(entries), Value::Text(key)) => {
            *steps = steps.checked_sub(entries.len())?;
            entries.iter_mut().find(|(known, _)| known == key).map(|(_, value)| value)
        }
        (Value::List(items), Value::Number(index)) => items.get_mut(usize::try_from(index.as_u64()?).ok()?),
        _ => None,
    })
}

fn malformed(why: &str) -> Error {
    Error::Malformed(format!("Malformed request: {why}"))
}

/// Wraps a result.
pub(super) fn write(json: &[u8], meta: Option<&[u8]>) -> Vec<u8> {
    let mut body = Vec::with_capacity(json.len() + meta.map_or(0, <[u8]>::len) + 20);
    body.extend_from_slice(b"{\"json\":");
    body.extend_from_slice(json);
    if let Some(meta) = meta {
        body.extend_from_slice(b",\"meta\":");
        body.extend_from_slice(meta);
    }
    body.push(b'}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        match read(json.as_bytes(), 64) {
            Ok(Body::Plain(value)) => format!("plain {value:?}"),
            Ok(Body::Enveloped(value)) => format!("enveloped {value:?}"),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn envelopes_are_told_from_plain_inputs() {
        assert_eq!(text(""), "enveloped Null");
        assert_eq!(text("{}"), "enveloped Null");
        assert_eq!(text(r#"{"json":"x","meta":[]}"#), r#"enveloped Text("x")"#);
        assert!(text(r#"{"name":"x"}"#).starts_with("plain Object"));
        assert!(text(r#"{"json":1,"name":"x"}"#).starts_with("plain Object"));
        assert_eq!(text(r#""x""#), r#"plain Text("x")"#);
    }

    #[test]
    fn meta_is_applied_or_refused() {
        let number = r#"enveloped Object([("n", Number(Number(5)))])"#;
        assert_eq!(text(r#"{"json":{"n":"5"},"meta":[[0,"n"]]}"#), number);
        assert!(text(r#"{"json":{"at":"2026-01-01T00:00:00.000Z"},"meta":[[1,"at"]]}"#).starts_with("enveloped"));
        assert_eq!(text(r#"{"json":[null],"meta":[[3,0]]}"#), "enveloped List([Null])");
        for bad in [
            r#"{"json":{},"meta":[[1,"at"]]}"#,
            r#"{"json":{"at":null},"meta":[[1,"at"]]}"#,
            r#"{"json":1,"meta":[[2]]}"#,
            r#"{"json":1,"meta":{}}"#,
            r#"{"json":1,"meta":[1]}"#,
            r#"{"json":1,"meta":[["x"]]}"#,
            r#"{"json":1,"maps":[[1]]}"#,
            r#"{"json":[],"meta":[[99]]}"#,
        ] {
            assert!(text(bad).starts_with("Malformed request"), "{bad}: {}", text(bad));
        }
    }
}
