//! Requests that two readers would read in two ways.

use super::wire::{Http, KEY};
use super::{NOTHING, Row, bare, http};

fn call() -> Http {
    Http::post("/api/catalog/getSystem", format!("{{\"systemId\":\"{NOTHING}\"}}"))
}

/// The same with a body in chunks.
fn chunked(body: &str) -> Http {
    call().without("content-length").with("transfer-encoding", "chunked").body(body)
}

fn whole() -> String {
    let text = format!("{{\"systemId\":\"{NOTHING}\"}}");
    format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len())
}

pub fn rows() -> Vec<Row> {
    let not_found = "System not found";
    let unread = "The request body could not be read";
    let bearer = format!("Bearer {KEY}");
    let head =
        |line: &str| Http::line(line).with("host", "x").with("connection", "close").with("authorization", &bearer);
    let mut rows = vec![
        http("chunks", chunked(&whole()), 404, not_found),
        // RFC 9112, 6.3: chunks win, and the connection ends.
        http("a length and chunks", call().with("transfer-encoding", "chunked").body(whole()), 404, not_found),
        http("two hosts", call().with("host", "other.example"), 400, "exactly one host"),
        http("the same host twice", call().with("host", "checkmate.example"), 400, "exactly one host"),
        http("no host", call().without("host"), 400, "exactly one host"),
        http(
            "no host for a GET",
            Http::line("GET /healthz HTTP/1.1").with("connection", "close"),
            400,
            "exactly one host",
        ),
        http("HTTP/1.0 without a host", Http::line("GET /healthz HTTP/1.0"), 200, "alive"),
        bare("two lengths", call().with("content-length", "1"), 400),
        bare("a length of -1", call().set("content-length", "-1"), 400),
        bare("a length with a plus", call().set("content-length", "+5"), 400),
        bare("a length of nothing", call().set("content-length", ""), 400),
        bare("a hexadecimal length", call().set("content-length", "0x10"), 400),
        bare("a length of a word", call().set("content-length", "many"), 400),
        bare("a length with a point", call().set("content-length", "5.0"), 400),
        bare("two lengths in a line", call().set("content-length", "5, 6"), 400),
        bare("a length of 30 digits", call().set("content-length", "1".repeat(30)), 400),
        http(
            "a length beyond the limit",
            call().set("content-length", "9000000000").body(""),
            413,
            "The request body exceeds",
        ),
        bare("an encoding that is unknown", chunked(&whole()).set("transfer-encoding", "gzip"), 400),
        bare("identity as transfer encoding", chunked(&whole()).set("transfer-encoding", "identity"), 400),
        bare("chunked and then gzip", chunked(&whole()).set("transfer-encoding", "chunked, gzip"), 400),
        bare("chunked with a vertical tab", chunked(&whole()).set("transfer-encoding", "\u{b}chunked"), 400),
        bare("chunked in quotes", chunked(&whole()).set("transfer-encoding", "\"chunked\""), 400),
        bare("an x before chunked", chunked(&whole()).set("transfer-encoding", "xchunked"), 400),
        bare(
            "chunks in HTTP/1.0",
            head("POST /api/catalog/getSystem HTTP/1.0").with("transfer-encoding", "chunked").body(whole()),
            400,
        ),
        http("a chunk of no size", chunked("\r\n0\r\n\r\n"), 400, unread),
        http("a chunk of a word", chunked("xyz\r\nabc\r\n0\r\n\r\n"), 400, unread),
        http("a chunk of -1", chunked("-1\r\na\r\n0\r\n\r\n"), 400, unread),
        http("a chunk with 0x", chunked("0x5\r\nabcde\r\n0\r\n\r\n"), 400, unread),
        http("a chunk of 17 digits", chunked("fffffffffffffffff\r\na\r\n0\r\n\r\n"), 400, unread),
        http("a chunk longer than it says", chunked("1\r\nabc\r\n0\r\n\r\n"), 400, unread),
        http("a chunk with a bare line feed", chunked("1\na\n0\n\n"), 400, unread),
        http("an extension of 20 KB", chunked(&format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(20_000))), 400, unread),
        http("trailers of 20 KB", chunked(&format!("0\r\nx: {}\r\n\r\n", "x".repeat(20_000))), 400, unread),
        bare("a line folded", call().with("x", "a\r\n b"), 400),
        bare("a blank before the colon", call().with("x-y ", "1"), 400),
        bare("a blank in a name", call().with("x y", "1"), 400),
        bare("a name of nothing", call().with("", "1"), 400),
        bare("a NUL in a name", call().with("x\0", "1"), 400),
        bare("a NUL in a value", call().with("x", "a\0b"), 400),
        bare("a bare carriage return", call().with("x", "a\rb"), 400),
        bare("a control character", call().with("x", "a\u{1}b"), 400),
        bare("no version", head("GET /healthz"), 400),
        bare("HTTP/3.0", head("GET /healthz HTTP/3.0"), 400),
        bare("HTTP/1.2", head("GET /healthz HTTP/1.2"), 400),
        bare("http in small letters", head("GET /healthz http/1.1"), 400),
        bare("a word for a version", head("GET /healthz HTTP/x"), 400),
        bare("nothing but a method", head("GET"), 400),
        bare("a blank before the method", head(" GET /healthz HTTP/1.1"), 400),
        bare("two blanks", head("GET  /healthz HTTP/1.1"), 400),
        bare("a tab", head("GET\t/healthz HTTP/1.1"), 400),
        bare("a blank in the path", head("GET /health z HTTP/1.1"), 400),
        bare("another method in the path", head("GET / HTTP/1.1 POST /"), 400),
        bare("a hello of TLS", Http::line("\u{16}\u{3}\u{1}\0\u{5}"), 400),
        bare("a preface of HTTP/2 with another end", Http::line("PRI * HTTP/2.0\r\nhost: x"), 400),
        bare("a head of 20 KB", call().with("x", "x".repeat(20_000)), 431),
        bare("101 lines of a head", (0..101).fold(call(), |call, n| call.with(&format!("x-{n}"), "1")), 431),
        bare("a path of 70 KB", head(&format!("GET /{} HTTP/1.1", "x".repeat(70_000))), 431),
        http("a path of 8 KB", head(&format!("GET /{} HTTP/1.1", "x".repeat(8_000))), 404, "Not found"),
        http("everything", head("OPTIONS * HTTP/1.1"), 404, "Not found"),
        http("a whole URL", head("GET http://other.example/healthz HTTP/1.1"), 200, "alive"),
        bare("a URL without an authority", head("GET file:///etc/passwd HTTP/1.1"), 400),
        http("a tunnel", head("CONNECT other.example:443 HTTP/1.1"), 404, "Not found"),
    ];
    let second = format!("{}GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n", whole());
    let request = call().with("transfer-encoding", "chunked").body(second).set("connection", "keep-alive");
    rows.push(http("a length, chunks and a second request", request, 404, not_found));
    rows
}
