//! JSON that is none, says things twice, nests too deeply, or holds what cannot be kept.

use super::wire::Http;
use super::{NOTHING, Row, http};

const BATCH: &str = "/api/catalog/";
const SINGLE: &str = "/api/catalog/updateSystem";

/// A batch with one input.
fn call(procedure: &str, input: &str) -> Http {
    Http::post(BATCH, format!("{{\"{procedure}\":{input}}}"))
}

/// A change of the system that is not there; what is accepted ends as `NOT_FOUND`.
fn change(data: &str) -> Http {
    call("updateSystem", &format!("{{\"id\":\"{NOTHING}\",\"data\":{data}}}"))
}

/// What no reader of JSON accepts, with what is wrong.
const BROKEN: [(&str, &str, &str); 58] = [
    ("nothing", " ", "EOF while parsing a value"),
    ("an open brace", "{", "EOF while parsing an object"),
    ("a closing brace", "}", "expected value"),
    ("braces that do not match", "{]", "key must be a string"),
    ("a key without a value", r#"{"a"}"#, "expected `:`"),
    ("a colon without a value", r#"{"a":}"#, "expected value"),
    ("a comma at the end", r#"{"a":{},}"#, "trailing comma"),
    ("a comma at the start", r#"{,"a":{}}"#, "key must be a string"),
    ("two commas", r#"{"a":[1,,2]}"#, "expected value"),
    ("a comma at the end of a list", r#"{"a":[1,]}"#, "trailing comma"),
    ("no comma", r#"{"a":1 "b":2}"#, "expected `,` or `}`"),
    ("a second document", "{\"a\":{}}{}", "trailing characters"),
    ("a second line", "{\"a\":{}}\n{\"a\":{}}", "trailing characters"),
    ("a letter behind", r#"{"a":{}}x"#, "trailing characters"),
    ("NUL behind", "{\"a\":{}}\0", "trailing characters"),
    ("a line comment", "{\"a\":{}}//x", "trailing characters"),
    ("a comment", r#"/*x*/{"a":{}}"#, "expected value"),
    ("a comment inside", r#"{"a":/*x*/{}}"#, "expected value"),
    ("a hash comment", "#x\n{\"a\":{}}", "expected value"),
    ("single quotes", "{'a':{}}", "key must be a string"),
    ("a value in single quotes", r#"{"a":'x'}"#, "expected value"),
    ("a key without quotes", "{a:{}}", "key must be a string"),
    ("a number as key", "{1:{}}", "key must be a string"),
    ("undefined", r#"{"a":undefined}"#, "expected value"),
    ("NaN", r#"{"a":NaN}"#, "expected value"),
    ("Infinity", r#"{"a":Infinity}"#, "expected value"),
    ("minus Infinity", r#"{"a":-Infinity}"#, "invalid number"),
    ("a plus sign", r#"{"a":+1}"#, "expected value"),
    ("a leading zero", r#"{"a":01}"#, "invalid number"),
    ("no digit behind the point", r#"{"a":1.}"#, "invalid number"),
    ("no digit before the point", r#"{"a":.5}"#, "expected value"),
    ("an exponent without digits", r#"{"a":1e}"#, "invalid number"),
    ("an exponent with a sign only", r#"{"a":1e+}"#, "invalid number"),
    ("two minus signs", r#"{"a":--1}"#, "invalid number"),
    ("a minus sign alone", r#"{"a":-}"#, "invalid number"),
    ("a hexadecimal number", r#"{"a":0x10}"#, "expected `,` or `}`"),
    ("digits in groups", r#"{"a":1_000}"#, "expected `,` or `}`"),
    ("a big integer of JavaScript", r#"{"a":1n}"#, "expected `,` or `}`"),
    ("half of true", r#"{"a":tru}"#, "expected ident"),
    ("True", r#"{"a":True}"#, "expected value"),
    ("NULL", r#"{"a":NULL}"#, "expected value"),
    ("half of null", r#"{"a":nul}"#, "expected ident"),
    ("a byte order mark", "\u{feff}{\"a\":{}}", "expected value"),
    ("a form feed as white space", "{\u{c}\"a\":{}}", "key must be a string"),
    ("a vertical tab as white space", "{\u{b}\"a\":{}}", "key must be a string"),
    ("a hard space as white space", "{\u{a0}\"a\":{}}", "key must be a string"),
    ("a line separator as white space", "{\u{2028}\"a\":{}}", "key must be a string"),
    ("a raw NUL in a text", "{\"a\":\"\0\"}", "control character"),
    ("a raw line feed in a text", "{\"a\":\"\n\"}", "control character"),
    ("a raw tab in a text", "{\"a\":\"\t\"}", "control character"),
    ("an open text", r#"{"a":"x"#, "EOF while parsing a string"),
    ("an escape of C", r#"{"a":"\x41"}"#, "invalid escape"),
    ("an escaped single quote", r#"{"a":"\'"}"#, "invalid escape"),
    ("an escape with three digits", r#"{"a":"\u12"}"#, "invalid escape"),
    ("an escape of Rust", r#"{"a":"\u{41}"}"#, "invalid escape"),
    ("an escape with a capital", r#"{"a":"\U0041"}"#, "invalid escape"),
    ("a template text", "{\"a\":`x`}", "expected value"),
    ("a result that callers must not guess", ")]}',\n{\"a\":{}}", "expected value"),
];

/// Bytes that are no UTF-8 inside of a text.
const NO_UTF8: [(&str, &[u8]); 12] = [
    ("a byte of Latin-1", b"\xe9"),
    ("0xFF", b"\xff"),
    ("a continuation alone", b"\x80"),
    ("half of a character", b"\xc3"),
    ("an overlong slash", b"\xc0\xaf"),
    ("an overlong NUL", b"\xc0\x80"),
    ("an overlong character of three bytes", b"\xe0\x80\xaf"),
    ("an overlong character of four bytes", b"\xf0\x80\x80\xaf"),
    ("a surrogate as three bytes", b"\xed\xa0\x80"),
    ("two surrogates as six bytes", b"\xed\xa0\xbd\xed\xb8\x80"),
    ("a character beyond U+10FFFF", b"\xf4\x90\x80\x80"),
    ("a character of five bytes", b"\xf8\x88\x80\x80\x80"),
];

const SURROGATES: [(&str, &str, &str); 6] = [
    ("a lone high surrogate", r"\ud800", "unexpected end of hex escape"),
    ("a lone low surrogate", r"\udc00", "lone leading surrogate"),
    ("reversed surrogates", r"\udc00\ud800", "lone leading surrogate"),
    ("two high surrogates", r"\ud800\ud800", "lone leading surrogate"),
    ("a high surrogate and a letter", r"\ud800a", "unexpected end of hex escape"),
    ("a high surrogate and another escape", r"\ud800\n", "unexpected end of hex escape"),
];

pub fn syntax() -> Vec<Row> {
    let mut rows = vec![];
    for (name, text, why) in BROKEN {
        for path in [BATCH, SINGLE] {
            let why = format!("Malformed request: {why}");
            rows.push(http(format!("{name}, to {path}"), Http::post(path, text), 400, why));
        }
    }
    for (name, bytes) in NO_UTF8 {
        for (place, before, after) in [("a value", "{\"a\":\"", "\"}"), ("a key", "{\"", "\":1}")] {
            let body = [before.as_bytes(), bytes, after.as_bytes()].concat();
            rows.push(http(format!("{name} in {place}"), Http::post(BATCH, body), 400, "Malformed request: "));
        }
    }
    for (name, text, why) in SURROGATES {
        let body = format!("{{\"a\":\"{text}\"}}");
        rows.push(http(format!("{name} in a value"), Http::post(BATCH, body), 400, why));
        let body = format!("{{\"json\":{{\"{text}\":1}}}}");
        rows.push(http(format!("{name} in a key"), Http::post(SINGLE, body), 400, why));
    }
    let wide = |bytes: fn(u16) -> [u8; 2]| r#"{"getSystems":{}}"#.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
    rows.push(http("UTF-16, little end first", Http::post(BATCH, wide(u16::to_le_bytes)), 400, "Malformed request: "));
    rows.push(http("UTF-16, big end first", Http::post(BATCH, wide(u16::to_be_bytes)), 400, "Malformed request: "));
    for (name, text, kind) in [
        ("null", "null", "null"),
        ("true", "true", "a boolean"),
        ("a number", "1", "a number"),
        ("a text", "\"x\"", "a string"),
        ("a list", "[]", "an array"),
        ("a list of batches", "[{\"getSystems\":{}}]", "an array"),
    ] {
        let why = format!("Expected an object of procedures, got {kind}");
        rows.push(http(format!("{name} for a batch"), Http::post(BATCH, text), 400, why));
    }
    rows.push(http("no body for a batch", Http::post(BATCH, ""), 400, "EOF while parsing a value"));
    rows
}

pub fn duplicates() -> Vec<Row> {
    let twice = |key: &str| format!("Malformed request: Duplicate key: {key}");
    let many = |rest: &str| (0..40).fold(String::from("{"), |text, n| text + &format!("\"k{n}\":0,")) + rest + "}";
    let free = |text: &str| change(&format!("{{\"metadata\":{text}}}"));
    vec![
        http("two calls", Http::post(BATCH, r#"{"getViews":{},"getViews":{}}"#), 400, twice("getViews")),
        http("two calls, escaped", Http::post(BATCH, r#"{"getViews":{},"getV\u0069ews":{}}"#), 400, twice("getViews")),
        http("two calls around one", Http::post(BATCH, r#"{"a":1,"b":1,"a":1}"#), 400, twice("a")),
        http("a field", change(r#"{"name":"a","name":"a"}"#), 400, twice("name")),
        http("a field, escaped", change(r#"{"name":"a","n\u0061me":"b"}"#), 400, twice("name")),
        http(
            "a field, every letter escaped",
            change(r#"{"\u006e\u0061\u006d\u0065":"a","name":"b"}"#),
            400,
            twice("name"),
        ),
        http("a field and null", change(r#"{"name":"a","name":null}"#), 400, twice("name")),
        http(
            "the id",
            call("getSystem", &format!("{{\"systemId\":\"{NOTHING}\",\"systemId\":\"\"}}")),
            400,
            twice("systemId"),
        ),
        http("an unknown field", change(r#"{"x":1,"x":1}"#), 400, twice("x")),
        http("in free JSON", free(r#"{"a":1,"a":2}"#), 400, twice("a")),
        http("in free JSON, escaped", free(r#"{"a":1,"\u0061":2}"#), 400, twice("a")),
        http("in free JSON, a solidus", free(r#"{"a/b":1,"a\/b":2}"#), 400, twice("a/b")),
        http("in free JSON, beyond the BMP", free(r#"{"😀":1,"\ud83d\ude00":2}"#), 400, twice("😀")),
        http("in free JSON, the empty key", free(r#"{"":1,"":2}"#), 400, twice("")),
        http("in free JSON, __proto__", free(r#"{"__proto__":1,"__proto__":2}"#), 400, twice("__proto__")),
        http("deep in free JSON", free(r#"{"a":[{"b":{"c":1,"c":2}}]}"#), 400, twice("c")),
        http("the first of many", free(&many("\"k0\":1")), 400, twice("k0")),
        http("the last of many", free(&many("\"k39\":1")), 400, twice("k39")),
        http("behind many", free(&many("\"z\":1,\"z\":1")), 400, twice("z")),
        http("of an envelope", Http::post(SINGLE, r#"{"json":{},"json":{}}"#), 400, twice("json")),
        http("of an envelope, meta", Http::post(SINGLE, r#"{"json":{},"meta":[],"meta":[]}"#), 400, twice("meta")),
        http("in an envelope", Http::post(SINGLE, r#"{"json":{"id":"a","id":"b"}}"#), 400, twice("id")),
        http("of a plain input", Http::post(SINGLE, r#"{"id":"a","id":"b"}"#), 400, twice("id")),
        http(
            "two names of one field",
            Http::post(
                "/api/auth/",
                format!(r#"{{"updateRole":{{"id":"{NOTHING}","permissions":[],"accessRules":[]}}}}"#),
            ),
            400,
            "accessRules: Given twice: it is the same as permissions",
        ),
        http("keys that look the same are two", free("{\"\u{e9}\":1,\"e\u{301}\":2}"), 404, "System not found"),
        http("keys that differ in case are two", free(r#"{"a":1,"A":2}"#), 404, "System not found"),
        http("a key in two objects is two", free(r#"{"a":{"x":1},"b":{"x":1}}"#), 404, "System not found"),
    ]
}

/// So many of these around it.
fn nested(open: &str, close: &str, depth: usize) -> String {
    open.repeat(depth) + "1" + &close.repeat(depth)
}

pub fn sizes() -> Vec<Row> {
    let free = |text: &str| change(&format!("{{\"metadata\":{{\"a\":{text}}}}}"));
    let too_deep = "Malformed request: JSON nests too deeply";
    let calls = |many: usize, input: &str| {
        let calls: Vec<_> = (0..many).map(|n| format!("\"p{n}\":{input}")).collect();
        Http::post(BATCH, format!("{{{}}}", calls.join(",")))
    };
    let mut rows = vec![
        // The object that `metadata` is counts as a level.
        http("32 levels of free JSON", free(&nested("[", "]", 31)), 404, "System not found"),
        http("33 levels of free JSON", free(&nested("[", "]", 32)), 400, ": Nests too deeply"),
        http("33 levels of objects", free(&nested("{\"a\":", "}", 32)), 400, ": Nests too deeply"),
        http("64 levels of an input", call("updateSystem", &nested("[", "]", 64)), 400, "got an array"),
        http("65 levels of an input", call("updateSystem", &nested("[", "]", 65)), 400, too_deep),
        http(
            "brackets in a text are no levels",
            change(&format!("{{\"owner\":\"{}\"}}", "[".repeat(100))),
            404,
            "System",
        ),
        http("50 calls", calls(50, "{}"), 404, "Procedure not found: catalog.p0"),
        http("51 calls", calls(51, "{}"), 413, "A batch has at most 50 calls"),
        http("100,000 calls", calls(100_000, "0"), 413, "A batch has at most 50 calls"),
        http("no call", Http::post(BATCH, "{}"), 400, "Empty batch"),
        http(
            "a procedure of 1 MB",
            Http::post(BATCH, format!("{{\"{}\":1}}", "x".repeat(1 << 20))),
            404,
            "Procedure not found: catalog.xxx",
        ),
        http(
            "10,000 unknown fields",
            change(&format!("{{{}\"z\":1}}", (0..10_000).fold(String::new(), |t, n| t + &format!("\"k{n}\":1,")))),
            400,
            "; and 45 more",
        ),
        http("an unknown field of 1 MB", change(&format!("{{\"{}\":1}}", "x".repeat(1 << 20))), 400, "Unknown field"),
        http(
            "100,000 roles",
            Http::post(
                "/api/auth/",
                format!("{{\"createApplication\":{{\"name\":\"x\",\"roles\":[{}1]}}}}", "1,".repeat(99_999)),
            ),
            400,
            "roles[0]: Expected a string",
        ),
        http(
            "1,000,000 empty lists",
            free(&format!("[{}[]]", "[],".repeat(300_000))),
            400,
            "Must have at most 16384 bytes",
        ),
        http(
            "free JSON of 17 KB",
            free(&format!("\"{}\"", "x".repeat(17_000))),
            400,
            "data.metadata: Must have at most 16384 bytes as JSON, has 17008",
        ),
        http(
            "a body beyond 2 MiB",
            Http::post(BATCH, format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20))),
            413,
            "The request body exceeds 2097152 bytes",
        ),
        http(
            "white space beyond 2 MiB",
            Http::post(BATCH, " ".repeat((2 << 20) + 1)),
            413,
            "The request body exceeds 2097152 bytes",
        ),
        http("2 MiB of white space", Http::post(BATCH, " ".repeat(2 << 20)), 400, "EOF while parsing a value"),
    ];
    for depth in [128, 129, 100_000] {
        for (name, open, close) in [("lists", "[", "]"), ("objects", "{\"a\":", "}")] {
            let text = nested(open, close, depth);
            rows.push(http(format!("{depth} {name} for a batch"), Http::post(BATCH, &text), 400, too_deep));
            rows.push(http(
                format!("{depth} {name} in an unknown field"),
                change(&format!("{{\"x\":{text}}}")),
                400,
                too_deep,
            ));
            rows.push(http(
                format!("{depth} {name} in an envelope"),
                Http::post(SINGLE, format!("{{\"json\":{text}}}")),
                400,
                too_deep,
            ));
            rows.push(http(
                format!("{depth} {name} never closed"),
                Http::post(BATCH, open.repeat(depth)),
                400,
                too_deep,
            ));
        }
    }
    rows
}

pub fn numbers() -> Vec<Row> {
    let digits = "1".repeat(1_000_000);
    let small = format!("0.{}1", "0".repeat(1_000_000));
    let whole: [(&str, &str, u16, &str); 24] = [
        ("1", "1", 200, ""),
        ("1.0", "1.0", 200, ""),
        ("1e3", "1e3", 200, ""),
        ("1E+2", "1E+2", 200, ""),
        ("null", "null", 200, ""),
        ("0", "0", 400, "pageSize: Must be between 1 and 1000"),
        ("-0", "-0", 400, "pageSize: Must be between 1 and 1000"),
        ("-0.0", "-0.0", 400, "pageSize: Must be between 1 and 1000"),
        ("1001", "1001", 400, "pageSize: Must be between 1 and 1000"),
        ("-1", "-1", 400, "pageSize: Must be between 1 and 1000"),
        ("1.5", "1.5", 400, "pageSize: Expected a whole number"),
        ("1e-400", "1e-400", 400, "pageSize: Must be between 1 and 1000"),
        ("1e400", "1e400", 400, "Malformed request: number out of range"),
        ("-1e400", "-1e400", 400, "Malformed request: number out of range"),
        ("1e30", "1e30", 400, "pageSize: Is out of range"),
        ("2^31", "2147483648", 400, "pageSize: Is out of range"),
        ("-2^31 - 1", "-2147483649", 400, "pageSize: Is out of range"),
        ("2^53 + 1", "9007199254740993", 400, "pageSize: Is out of range"),
        ("2^63", "9223372036854775808", 400, "pageSize: Is out of range"),
        ("2^64", "18446744073709551616", 400, "pageSize: Is out of range"),
        ("-2^63 - 1", "-9223372036854775809", 400, "pageSize: Is out of range"),
        ("1,000,000 digits", &digits, 400, "Malformed request: number out of range"),
        ("1,000,000 digits behind the point", &small, 400, "pageSize: Must be between 1 and 1000"),
        ("digits in a text", "\"5\"", 400, "pageSize: Expected a whole number, got a string"),
    ];
    let beyond = "Whole numbers beyond 2^53 are not exact; send it as a string";
    let free: [(&str, &str, u16, &str); 16] = [
        ("-0", "-0", 404, "System not found"),
        ("2^53", "9007199254740992", 404, "System not found"),
        ("2^53 + 1", "9007199254740993", 400, beyond),
        ("-2^53 - 1", "-9007199254740993", 400, beyond),
        ("2^53 + 1 as a double", "9007199254740993.0", 404, "System not found"),
        ("2^64 - 1", "18446744073709551615", 400, beyond),
        ("2^64", "18446744073709551616", 400, beyond),
        ("30 digits", "123456789012345678901234567890", 400, beyond),
        ("1e22", "1e22", 400, beyond),
        ("1e308", "1e308", 400, beyond),
        ("1e309", "1e309", 400, "Malformed request: number out of range"),
        ("1e999999999999", "1e999999999999", 400, "Malformed request: number out of range"),
        ("1e-400", "1e-400", 404, "System not found"),
        ("the least double", "5e-324", 404, "System not found"),
        ("0.1", "0.1", 404, "System not found"),
        ("1,000,000 digits", &digits, 400, "Malformed request: number out of range"),
    ];
    let whole = whole.into_iter().map(|(name, text, status, why)| {
        http(format!("{name} for a page size"), call("listSystems", &format!("{{\"pageSize\":{text}}}")), status, why)
    });
    let free = free.into_iter().map(|(name, text, status, why)| {
        http(format!("{name} in free JSON"), change(&format!("{{\"metadata\":{{\"n\":[{text}]}}}}")), status, why)
    });
    whole.chain(free).collect()
}

pub fn texts() -> Vec<Row> {
    let nul = "Must not contain the character NUL";
    let cases: [(&str, String, u16, &str); 26] = [
        ("NUL in a name", r#"{"name":"a\u0000b"}"#.into(), 400, nul),
        ("NUL as a name", r#"{"name":"\u0000"}"#.into(), 400, nul),
        ("NUL in a description", r#"{"description":"\u0000"}"#.into(), 400, nul),
        ("NUL in free JSON", r#"{"metadata":{"a":"\u0000"}}"#.into(), 400, nul),
        ("NUL in a key of free JSON", r#"{"metadata":{"\u0000":1}}"#.into(), 400, nul),
        ("NUL deep in free JSON", r#"{"metadata":{"a":[{"b":["\u0000"]}]}}"#.into(), 400, nul),
        ("NUL in an unknown field", r#"{"a\u0000":1}"#.into(), 400, "Unknown field"),
        ("no name", r#"{"name":""}"#.into(), 400, "data.name: Required"),
        ("a blank name", r#"{"name":" \t\n "}"#.into(), 400, "data.name: Required"),
        ("a name of hard spaces", r#"{"name":"\u00a0\u3000"}"#.into(), 400, "data.name: Required"),
        ("a name that is null", r#"{"name":null}"#.into(), 400, "data.name: Must not be null"),
        ("200 characters", format!("{{\"name\":\"{}\"}}", "x".repeat(200)), 404, "System not found"),
        ("201 characters", format!("{{\"name\":\"{}\"}}", "x".repeat(201)), 400, "Must have at most 200 characters"),
        ("200 characters of four bytes", format!("{{\"name\":\"{}\"}}", "😀".repeat(200)), 404, "System not found"),
        ("201 characters of four bytes", format!("{{\"name\":\"{}\"}}", "😀".repeat(201)), 400, "at most 200"),
        ("200 characters in blanks", format!("{{\"name\":\"  {}  \"}}", "x".repeat(200)), 404, "System not found"),
        ("101 combined characters", format!("{{\"name\":\"{}\"}}", "e\u{301}".repeat(101)), 400, "at most 200"),
        (
            "a name of 1 MB",
            format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20)),
            400,
            "Must have at most 200 characters",
        ),
        ("4,001 characters", format!("{{\"description\":\"{}\"}}", "x".repeat(4_001)), 400, "at most 4000 characters"),
        ("a pair of surrogates is one character", r#"{"name":"\ud83d\ude00"}"#.into(), 404, "System not found"),
        ("an escaped letter is a letter", r#"{"n\u0061me":"\u0061"}"#.into(), 404, "System not found"),
        ("a right-to-left override", r#"{"name":"\u202egnp.exe"}"#.into(), 404, "System not found"),
        ("a byte order mark in a name", r#"{"name":"\ufeff"}"#.into(), 404, "System not found"),
        ("no character at all, U+FFFF", r#"{"name":"\uffff"}"#.into(), 404, "System not found"),
        ("SQL", r#"{"name":"x'; drop table catalog_system; --"}"#.into(), 404, "System not found"),
        ("a script", r#"{"name":"</script><script>alert(1)</script>"}"#.into(), 404, "System not found"),
    ];
    let mut rows: Vec<_> =
        cases.into_iter().map(|(name, data, status, why)| http(name, change(&data), status, why)).collect();
    for (name, id) in [
        ("an empty id", ""),
        ("a word", "nonsense"),
        ("no hyphens", "01890a5dac96774bbcceb302099a8057"),
        ("braces", "{01890a5d-ac96-774b-bcce-b302099a8057}"),
        ("a URN", "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057"),
        ("a blank before", " 01890a5d-ac96-774b-bcce-b302099a8057"),
        ("a blank behind", "01890a5d-ac96-774b-bcce-b302099a8057 "),
        ("a digit less", "01890a5d-ac96-774b-bcce-b302099a805"),
        ("a digit more", "01890a5d-ac96-774b-bcce-b302099a80577"),
        ("hyphens elsewhere", "01890a5da-c96-774b-bcce-b302099a8057"),
        ("a letter beyond f", "01890a5d-ac96-774b-bcce-b302099a805g"),
        ("digits of another script", "٠1890a5d-ac96-774b-bcce-b302099a805"),
        ("a path", "../../../../etc/passwd"),
        ("a number", "1"),
        ("NUL", "01890a5d-ac96-774b-bcce-b302099a8057\\u0000"),
    ] {
        let why = match name {
            "an empty id" => "systemId: Required",
            "NUL" => nul,
            _ => "systemId: Must be a UUID",
        };
        rows.push(http(
            format!("{name} for an id"),
            call("getSystem", &format!("{{\"systemId\":\"{id}\"}}")),
            400,
            why,
        ));
    }
    let upper = NOTHING.to_uppercase();
    let found = format!("System not found: {NOTHING}");
    rows.push(http("an id in capitals", call("getSystem", &format!("{{\"systemId\":\"{upper}\"}}")), 404, found));
    rows
}
