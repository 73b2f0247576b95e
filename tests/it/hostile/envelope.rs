//! oRPC's envelope and its batches, as no oRPC client writes them.

use super::wire::Http;
use super::{NOTHING, Row, http};

fn get(body: &str) -> Http {
    Http::post("/api/catalog/getSystem", body.replace("<id>", NOTHING))
}

fn batch(body: impl AsRef<[u8]>) -> Http {
    Http::post("/api/catalog/__batch__", body).with("x-orpc-batch", "buffered")
}

/// The text of a call in a batch.
fn item(rest: &str) -> String {
    format!("{{\"url\":\"http://x/api/catalog/getSystem\",\"body\":{{\"json\":{{\"systemId\":\"{NOTHING}\"}}}}{rest}}}")
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    for (meta, why) in [
        ("{}", "meta is a list"),
        ("1", "meta is a list"),
        ("\"x\"", "meta is a list"),
        ("true", "meta is a list"),
        ("[1]", "meta is a list of lists"),
        ("[null]", "meta is a list of lists"),
        ("[{}]", "meta is a list of lists"),
        ("[[]]", "meta has no type"),
        ("[[\"1\"]]", "meta has no type"),
        ("[[null]]", "meta has no type"),
        ("[[[1]]]", "meta has no type"),
        ("[[1,\"nope\"]]", "meta points nowhere"),
        ("[[1,0]]", "meta points nowhere"),
        ("[[1,\"systemId\",0]]", "meta points nowhere"),
        ("[[1,\"systemId\",\"length\"]]", "meta points nowhere"),
        ("[[1,\"list\",\"0\"]]", "meta points nowhere"),
        ("[[1,\"list\",-1]]", "meta points nowhere"),
        ("[[1,\"list\",1.5]]", "meta points nowhere"),
        ("[[1,\"list\",99999999999999999999]]", "meta points nowhere"),
        ("[[1,null]]", "meta points nowhere"),
        ("[[1,[\"systemId\"]]]", "meta points nowhere"),
        ("[[1,\"__proto__\"]]", "meta points nowhere"),
        ("[[1,\"constructor\",\"prototype\"]]", "meta points nowhere"),
        ("[[3,\"__proto__\",\"polluted\"]]", "meta points nowhere"),
        ("[[1]]", "meta does not fit its value"),
        ("[[0]]", "meta does not fit its value"),
        ("[[0,\"systemId\"]]", "a bigint is out of range"),
        ("[[0,\"list\"]]", "meta does not fit its value"),
        ("[[1,\"list\"]]", "meta does not fit its value"),
        ("[[1,\"empty\"]]", "an invalid date"),
        ("[[2,\"empty\"]]", "NaN and Map are not accepted"),
        ("[[6,\"systemId\"]]", "meta does not fit its value"),
        ("[[7,\"list\"]]", "NaN and Map are not accepted"),
        ("[[8,\"systemId\"]]", "meta does not fit its value"),
        ("[[255,\"systemId\"]]", "meta does not fit its value"),
        ("[[-1,\"systemId\"]]", "meta does not fit its value"),
        ("[[1.5,\"systemId\"]]", "meta does not fit its value"),
        ("[[18446744073709551615,\"systemId\"]]", "meta does not fit its value"),
    ] {
        let body = format!(r#"{{"json":{{"systemId":"<id>","list":[],"empty":null}},"meta":{meta}}}"#);
        rows.push(http(format!("meta {meta}"), get(&body), 400, format!("Malformed request: {why}")));
    }
    let id = r#""json":{"systemId":"<id>"}"#;
    for (name, body, status, why) in [
        ("no meta", format!("{{{id}}}"), 404, "System not found"),
        ("meta that is null", format!("{{{id},\"meta\":null}}"), 404, "System not found"),
        ("a URL that is text", format!("{{{id},\"meta\":[[4,\"systemId\"]]}}"), 404, "System not found"),
        (
            "the same place twice",
            format!("{{{id},\"meta\":[[1,\"systemId\"],[1,\"systemId\"]]}}"),
            404,
            "System not found",
        ),
        ("an id that is undefined", format!("{{{id},\"meta\":[[3,\"systemId\"]]}}"), 400, "systemId: Required"),
        ("an input that is undefined", format!("{{{id},\"meta\":[[3]]}}"), 400, "systemId: Required"),
        ("undefined twice", format!("{{{id},\"meta\":[[3],[3,\"systemId\"]]}}"), 400, "meta points nowhere"),
        ("no files", format!("{{{id},\"maps\":[]}}"), 404, "System not found"),
        ("files", format!("{{{id},\"maps\":[[\"x\"]]}}"), 400, "files are not accepted"),
        ("maps that are null", format!("{{{id},\"maps\":null}}"), 400, "files are not accepted"),
        ("maps that are an object", format!("{{{id},\"maps\":{{}}}}"), 400, "files are not accepted"),
        ("meta alone", r#"{"meta":[]}"#.into(), 400, "systemId: Required"),
        ("one key more is a plain input", format!("{{{id},\"meta\":[],\"x\":1}}"), 400, "json: Unknown field"),
        ("JSON in capitals is a plain input", r#"{"JSON":{}}"#.into(), 400, "JSON: Unknown field"),
        ("an envelope in an envelope", format!("{{\"json\":{{{id}}}}}"), 400, "json: Unknown field"),
        (
            "__proto__ is a field like any",
            r#"{"__proto__":{"systemId":"<id>"}}"#.into(),
            400,
            "__proto__: Unknown field",
        ),
        (
            "__proto__ in an envelope",
            r#"{"json":{"__proto__":{"systemId":"<id>"}}}"#.into(),
            400,
            "__proto__: Unknown field",
        ),
        ("a list in an envelope", r#"{"json":["<id>"]}"#.into(), 400, "Expected an object, got an array"),
    ] {
        rows.push(http(format!("{name}, enveloped"), get(&body), status, why));
    }
    let long = format!("{{{id},\"meta\":[{}[1,\"systemId\"]]}}", "[1,\"systemId\"],".repeat(100_000));
    rows.push(http("100,000 entries of meta", get(&long), 404, "System not found"));
    let deep = format!("{{{id},\"meta\":[[1{}]]}}", ",\"a\"".repeat(300_000));
    rows.push(http("a path of 300,000 steps", get(&deep), 400, "meta points nowhere"));
    rows.extend(batches());
    rows
}

/// Each call of a batch of oRPC has an answer of its own in a 207; what is wrong with the whole is refused.
fn batches() -> Vec<Row> {
    let not_found = "\"status\":404";
    let mut rows = vec![];
    for (name, body, status, why) in [
        ("a good call", format!("[{}]", item("")), 207, not_found),
        ("no call", "[]".into(), 207, "[]"),
        ("50 calls", format!("[{}]", vec!["{\"url\":\"x://y/z\"}"; 50].join(",")), 207, not_found),
        ("51 calls", format!("[{}]", vec!["{\"url\":\"x://y/z\"}"; 51].join(",")), 413, "A batch has at most 50 calls"),
        ("an object", "{}".into(), 400, "Malformed batch: "),
        ("null", "null".into(), 400, "Malformed batch: "),
        ("a list of numbers", "[1]".into(), 400, "Malformed batch: "),
        ("a call without a url", "[{}]".into(), 400, "Malformed batch: missing field `url`"),
        ("a url that is a number", "[{\"url\":1}]".into(), 400, "Malformed batch: "),
        ("a url that is nothing", "[{\"url\":\"\"}]".into(), 400, "Malformed batch: a url cannot be read"),
        ("a url with blanks", "[{\"url\":\"http://x/a b\"}]".into(), 400, "Malformed batch: a url cannot be read"),
        ("a url that is a path", "[{\"url\":\"/api/catalog/getSystem\"}]".into(), 400, "a url is not absolute"),
        ("a url without an authority", "[{\"url\":\"file:///etc/passwd\"}]".into(), 400, "a url cannot be read"),
        ("a path of one segment", "[{\"url\":\"http://x/api\"}]".into(), 207, not_found),
        ("a path of four segments", "[{\"url\":\"http://x/api/catalog/getSystem/x\"}]".into(), 207, not_found),
        ("a path that climbs", "[{\"url\":\"http://x/api/catalog/../auth/getApplications\"}]".into(), 207, not_found),
        ("a path with an escape", "[{\"url\":\"http://x/api/catalog%2fgetSystem\"}]".into(), 207, not_found),
        ("a method with a blank", format!("[{}]", item(",\"method\":\"PO ST\"")), 400, "a method cannot be read"),
        ("a method that is a number", format!("[{}]", item(",\"method\":1")), 400, "Malformed batch: "),
        ("a DELETE", format!("[{}]", item(",\"method\":\"DELETE\"")), 207, "\"status\":405"),
        (
            "a header with a line feed",
            format!("[{}]", item(",\"headers\":{\"x\":\"a\\nb\"}")),
            400,
            "a header cannot be read",
        ),
        (
            "a header with a blank",
            format!("[{}]", item(",\"headers\":{\"x y\":\"a\"}")),
            400,
            "a header cannot be read",
        ),
        ("a header that is a number", format!("[{}]", item(",\"headers\":{\"x\":1}")), 400, "Malformed batch: "),
        ("headers that are a list", format!("[{}]", item(",\"headers\":[]")), 400, "Malformed batch: "),
        (
            "a key of its own that is bad",
            format!("[{}]", item(",\"headers\":{\"authorization\":\"Bearer x\"}")),
            207,
            "\"status\":401",
        ),
        (
            "two keys of its own",
            format!("[{}]", item(",\"headers\":{\"authorization\":[\"Bearer x\",\"Bearer x\"]}")),
            207,
            "\"status\":401",
        ),
        ("no key of its own", format!("[{}]", item(",\"headers\":{\"authorization\":[]}")), 207, "\"status\":401"),
        ("a batch in a batch", format!("[{}]", item(",\"headers\":{\"x-orpc-batch\":\"buffered\"}")), 207, not_found),
        (
            "a body that is no envelope",
            "[{\"url\":\"http://x/api/catalog/getSystem\",\"body\":[[1]]}]".into(),
            207,
            "\"status\":400",
        ),
        (
            "a deep body",
            format!(
                "[{{\"url\":\"http://x/api/catalog/getSystem\",\"body\":{}1{}}}]",
                "[".repeat(100),
                "]".repeat(100)
            ),
            207,
            "\"status\":400",
        ),
        (
            "a body of 100,000 levels",
            format!("[{{\"url\":\"http://x/y\",\"body\":{}}}]", "[".repeat(100_000)),
            400,
            "Malformed batch: ",
        ),
        (
            "a key twice in a body",
            format!("[{}]", item("").replace("{\"systemId\"", "{\"systemId\":1,\"systemId\"")),
            207,
            "\"status\":400",
        ),
        ("a key twice in a call", format!("[{}]", item(",\"url\":\"http://x/y\"")), 400, "duplicate field `url`"),
        ("what is no JSON", "[".into(), 400, "Malformed batch: EOF"),
    ] {
        rows.push(http(format!("{name}, in a batch of oRPC"), batch(body), status, why));
    }
    let kind = batch("[]").set("content-type", "text/plain");
    rows.push(http("a batch of oRPC of another type", kind, 415, "Use content-type: application/json"));
    let anonymous = batch("[]").without("authorization");
    rows.push(http("a batch of oRPC without a key", anonymous, 401, "Authentication required"));
    let got = Http::new("GET", "/api/catalog/__batch__").with("x-orpc-batch", "buffered");
    rows.push(http("a batch of oRPC with GET", got, 405, "Use POST"));
    for mode in ["", "BUFFERED", "x", "buffered, streaming"] {
        let request = Http::post("/api/x", "{}").with("x-orpc-batch", mode);
        rows.push(http(format!("x-orpc-batch {mode:?}"), request, 400, "Malformed batch: "));
    }
    rows
}
