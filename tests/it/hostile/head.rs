//! What stands in the head of a JSON request: type, method, preferences, deadlines, credentials.

use super::wire::{Http, KEY};
use super::{NOTHING, Row, http};

const BATCH: &str = "/api/catalog/";
const SINGLE: &str = "/api/catalog/getSystem";

fn batch() -> Http {
    Http::post(BATCH, format!("{{\"getSystem\":{{\"systemId\":\"{NOTHING}\"}}}}"))
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn types() -> Vec<Row> {
    let mut rows = vec![];
    for kind in [
        "",
        " ",
        "json",
        "text/json",
        "text/plain",
        "text/html",
        "text/plain; application/json",
        "application/*",
        "*/*",
        "application/jsonp",
        "application/json5",
        "application/x-json",
        "application/xjson",
        "application/ld+json",
        "application/json-patch+json",
        "application/problem+json",
        "application/x-ndjson",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/json, text/plain",
        "text/plain, application/json",
        "application /json",
        "application/ json",
        "\"application/json\"",
        "application/json; charset=latin1",
        "application/json; charset=utf-16",
        "application/json; charset=\"iso-8859-1\"",
        "application/json;charset=utf-8;charset=utf-7",
        "application/json; charset",
        "application/json; charset=",
        "application/json charset=utf-8",
        "application/json\u{e9}",
        "application/cbor",
        "application/protobuf",
        "application/msgpack",
        "image/png",
    ] {
        let why = "Use content-type: application/json";
        rows.push(http(format!("{kind:?} as type of a batch"), batch().set("content-type", kind), 415, why));
    }
    for kind in [
        "application/json",
        "APPLICATION/JSON",
        "Application/Json",
        "application/json;",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json; charset=\"utf-8\"",
        "application/json ; charset=utf-8",
        "application/json; version=1",
        "\tapplication/json\t",
    ] {
        rows.push(http(format!("{kind:?} is JSON"), batch().set("content-type", kind), 404, "System not found"));
    }
    let why = "Use content-type: application/json";
    rows.push(http("a batch without a type", batch().without("content-type"), 415, why));
    rows.push(http("two types that agree", batch().with("content-type", "application/json"), 415, why));
    rows.push(http("two types that do not", batch().with("content-type", "text/plain"), 415, why));
    rows.push(http(
        "the good type second",
        batch().set("content-type", "text/plain").with("content-type", "application/json"),
        415,
        why,
    ));
    let single = || Http::post(SINGLE, format!("{{\"systemId\":\"{NOTHING}\"}}"));
    rows.push(http("a call without a type", single().without("content-type"), 404, "System not found"));
    rows.push(http("a call with a form's type", single().set("content-type", "text/plain"), 415, why));
    for encoding in [
        "gzip",
        "GZIP",
        "x-gzip",
        "deflate",
        "br",
        "zstd",
        "compress",
        "gzip, gzip",
        "identity, gzip",
        "gzip, identity",
        "chunked",
        "aes128gcm",
        "nonsense",
        "",
        "*",
    ] {
        let request = batch().with("content-encoding", encoding);
        rows.push(http(
            format!("content-encoding {encoding:?}"),
            request,
            415,
            "Send the body without content-encoding",
        ));
    }
    let request = batch().with("content-encoding", "identity").with("content-encoding", "gzip");
    rows.push(http("two content-encodings", request, 415, "Send the body without content-encoding"));
    rows.push(http("content-encoding identity", batch().with("content-encoding", "identity"), 404, "System not found"));
    // 45 KB that would be 45 MB: what is not unpacked costs nothing.
    let bomb = batch().with("content-encoding", "gzip").set("content-length", "45000").body(vec![0x1f; 45_000]);
    rows.push(http("a compression bomb", bomb, 415, "Send the body without content-encoding"));
    rows
}

/// Where, what it takes, and as which mutation.
const PLACES: [(&str, &str); 8] = [
    ("/api/catalog/", "GET, POST"),
    ("/api/catalog", "GET, POST"),
    ("/api/auth/", "GET, POST"),
    ("/api/catalog/createSystem", "POST"),
    ("/api/catalog/createSystem/", "POST"),
    ("/api/openapi.json", "GET"),
    ("/healthz", "GET"),
    ("/metrics", "GET"),
];

pub fn methods() -> Vec<Row> {
    let mut rows = vec![];
    for (path, allowed) in PLACES {
        for method in [
            "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "post", "Post", "G3T",
            "M-SEARCH",
        ] {
            if allowed.split(", ").any(|known| known == method) {
                continue;
            }
            let request = Http::new(method, path).with("authorization", format!("Bearer {KEY}"));
            rows.push(http(format!("{method} {path}"), request, 405, format!("Use {allowed}")));
        }
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let request = Http::new(method, "/api/nope/nope/nope").with("authorization", format!("Bearer {KEY}"));
        rows.push(http(format!("{method} of nothing"), request, 404, "Not found"));
    }
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let request = Http::post("/api/catalog/createSystem", "{}").with(name, "GET");
        rows.push(http(format!("{name} is nothing"), request, 400, "name: Required"));
        let request = Http::new("PUT", "/api/catalog/createSystem")
            .with("authorization", format!("Bearer {KEY}"))
            .with(name, "POST");
        rows.push(http(format!("{name} opens nothing"), request, 405, "Use POST"));
    }
    rows
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn headers() -> Vec<Row> {
    let mut rows = vec![];
    rows.extend(credentials());
    for value in [
        "",
        " ",
        "soon",
        "-1",
        "+1",
        "1.5",
        "1e3",
        "1,000",
        "0x10",
        "1 000",
        "1ms",
        "١",
        "1000000000000",
        "NaN",
        "null",
        "1;2",
    ] {
        let request = batch().with("x-timeout-ms", value);
        rows.push(http(format!("x-timeout-ms {value:?}"), request, 400, "Malformed x-timeout-ms"));
    }
    for value in ["", "5", "S", "5s", "1.5S", "-1S", "123456789S", "1 S", "1D"] {
        let request = batch().with("grpc-timeout", value);
        rows.push(http(format!("grpc-timeout {value:?} with JSON"), request, 400, "Malformed grpc-timeout"));
    }
    for (name, value, status, why) in [
        ("x-timeout-ms", "0", 504, "Deadline exceeded"),
        ("grpc-timeout", "0S", 504, "Deadline exceeded"),
        ("grpc-timeout", "1n", 504, "Deadline exceeded"),
        ("x-timeout-ms", "999999999999", 404, "System not found"),
        ("grpc-timeout", "99999999H", 404, "System not found"),
    ] {
        rows.push(http(format!("{name} {value} with JSON"), batch().with(name, value), status, why));
    }
    let two = batch().with("x-timeout-ms", "30000").with("x-timeout-ms", "0");
    rows.push(http("of two deadlines the shorter one", two, 504, "Deadline exceeded"));
    let two = batch().with("x-timeout-ms", "30000").with("x-timeout-ms", "x");
    rows.push(http("of two deadlines one is garbage", two, 400, "Malformed x-timeout-ms"));
    let two = batch().with("x-timeout-ms", "30000").with("grpc-timeout", "0S");
    rows.push(http("two kinds of deadline", two, 504, "Deadline exceeded"));
    for value in [
        "",
        "lenient",
        "handling",
        "handling=",
        "handling=strict",
        "handling lenient",
        "handling:lenient",
        "handling=lenientx",
        "xhandling=lenient",
        "\"handling=lenient\"",
        "return=minimal",
        "wait=10; handling=lenient",
        ";handling=lenient",
        "=lenient",
        "handling==lenient",
    ] {
        rows.push(http(
            format!("prefer {value:?} is not lenient"),
            batch().with("prefer", value),
            404,
            "System not found",
        ));
    }
    for value in [
        "handling=lenient",
        "HANDLING=LENIENT",
        "handling=\"lenient\"",
        " handling = lenient ",
        "respond-async, handling=lenient",
        "handling=lenient; x=y",
        "handling=strict, handling=lenient",
    ] {
        rows.push(http(format!("prefer {value:?} is lenient"), batch().with("prefer", value), 207, "$errors"));
    }
    for (name, value) in [
        ("cookie", "session=x"),
        ("origin", "https://evil.example"),
        ("range", "bytes=0-"),
        ("if-match", "*"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-original-url", "/api/auth/getApplications"),
        ("x-rewrite-url", "/api/auth/getApplications"),
        ("x-forwarded-prefix", "/api/auth"),
        ("grpc-metadata-authorization", "Bearer x"),
        ("grpc-encoding", "gzip"),
        ("te", "gzip, trailers"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip;q=1, identity;q=0"),
        ("accept-charset", "utf-16"),
        ("upgrade", "h2c"),
        ("upgrade-insecure-requests", "1"),
        ("expect", "200-ok"),
        ("trailer", "authorization"),
        ("via", "1.1 x"),
        ("x-request-id", "<script>"),
        ("x-request-id", "a\u{e9}"),
        ("date", "yesterday"),
        ("keep-alive", "timeout=99999999"),
        ("proxy-connection", "keep-alive"),
        ("x-checkmate-user", "admin"),
    ] {
        rows.push(http(
            format!("{name} {value:?} changes nothing"),
            batch().with(name, value),
            404,
            "System not found",
        ));
    }
    rows
}

/// Only one `Authorization` that says `Bearer` and a good key lets in; the key stands nowhere else.
fn credentials() -> Vec<Row> {
    let mut rows = vec![];
    let key = format!("Bearer {KEY}");
    let bad = "Invalid API key";
    let none = "Authentication required";
    for (name, first, second) in [
        ("the same key twice", key.as_str(), key.as_str()),
        ("a good key and a bad one", &key, "Bearer ck_x"),
        ("a bad key and a good one", "Bearer ck_x", &key),
        ("a good key and nothing", &key, ""),
        ("nothing and a good key", "", &key),
        ("a good key and another scheme", &key, "Basic dTpw"),
    ] {
        let request = batch().set("authorization", first).with("authorization", second);
        rows.push(http(format!("{name} are no credential"), request, 401, bad));
    }
    let request = batch().set("authorization", format!("{key}, {key}"));
    rows.push(http("two keys in one line are no credential", request, 401, bad));
    for name in [
        "proxy-authorization",
        "x-authorization",
        "x-api-key",
        "api-key",
        "x-auth-token",
        "x-forwarded-authorization",
        "grpc-metadata-authorization",
        "cookie",
        "authorization-",
        "x-original-authorization",
        "sec-websocket-protocol",
    ] {
        let request = batch().without("authorization").with(name, &key);
        rows.push(http(format!("{name} is not where a key stands"), request, 401, none));
    }
    for query in ["key", "api_key", "token", "access_token", "authorization"] {
        let path = format!("{BATCH}?{query}={KEY}");
        let request = Http::post(&path, "{}").without("authorization");
        rows.push(http(format!("{query} in the query is not where a key stands"), request, 401, none));
    }
    // A key in the body of what has none in its head is not looked at.
    let request = Http::post(BATCH, format!("{{\"authorization\":\"{KEY}\"}}")).without("authorization");
    rows.push(http("the body is not where a key stands", request, 401, none));
    rows
}
