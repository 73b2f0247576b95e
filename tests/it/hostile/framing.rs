//! What is around a Protobuf message: frames, compression, types, paths, deadlines.

use super::protobuf::{GET, field};
use super::wire::{Grpc, frame};
use super::{NOTHING, Row, Says, Send, grpc};
use tonic::Code;

fn message() -> Vec<u8> {
    field(1, NOTHING)
}

fn good() -> Grpc {
    Grpc::call(GET, message())
}

pub fn frames() -> Vec<Row> {
    let (bad, absent) = (Code::InvalidArgument, Code::NotFound);
    let with_length = |length: u32| [&[0][..], &length.to_be_bytes(), &message()].concat();
    let mut rows = vec![
        grpc("no frame", Grpc::raw(GET, vec![]), bad, ""),
        grpc(
            "a frame and half of another",
            Grpc::raw(GET, [frame(0, &message()), vec![0, 0]].concat()),
            bad,
            "one message",
        ),
        grpc("two messages", Grpc::raw(GET, frame(0, &message()).repeat(2)), bad, "one message"),
        grpc("1,000 messages", Grpc::raw(GET, frame(0, &message()).repeat(1_000)), bad, "one message"),
        grpc("100,000 empty messages", Grpc::raw(GET, frame(0, &[]).repeat(100_000)), bad, "one message"),
        grpc("a length that is too long", Grpc::raw(GET, with_length(39)), bad, ""),
        grpc("a length that is too short", Grpc::raw(GET, with_length(10)), bad, "one message"),
        grpc("a length of 0", Grpc::raw(GET, with_length(0)), bad, "one message"),
        grpc("a length of 4 MiB", Grpc::raw(GET, with_length(4 << 20)), bad, ""),
        grpc("a length beyond 4 MiB", Grpc::raw(GET, with_length((4 << 20) + 1)), Code::ResourceExhausted, "4194304"),
        grpc("a length of 0xFFFFFFFF", Grpc::raw(GET, with_length(u32::MAX)), Code::ResourceExhausted, "4194304"),
        grpc("a length of 0x80000000", Grpc::raw(GET, with_length(1 << 31)), Code::ResourceExhausted, "4194304"),
        grpc("every byte by itself", good().in_single_bytes(), absent, "System not found"),
        grpc("every byte of garbage by itself", Grpc::raw(GET, vec![0xff; 200]).in_single_bytes(), bad, ""),
        grpc("a frame of gRPC-Web's trailers", Grpc::raw(GET, frame(0x80, b"grpc-status: 0")), bad, ""),
        grpc("JSON without a frame", Grpc::raw(GET, format!("{{\"systemId\":\"{NOTHING}\"}}").into()), bad, ""),
        grpc("10 MB of zeros", Grpc::raw(GET, vec![0; 10_000_000]), Code::ResourceExhausted, "exceeds 4194304 bytes"),
    ];
    for length in 1..5 {
        let piece = frame(0, &message())[..length].to_vec();
        rows.push(grpc(format!("{length} bytes of a frame's head"), Grpc::raw(GET, piece), bad, ""));
    }
    for flag in [2, 3, 0x7f, 0x80, 0xff] {
        rows.push(grpc(format!("flag {flag}"), Grpc::raw(GET, frame(flag, &message())), bad, ""));
    }
    let packed = || Grpc::raw(GET, frame(1, &message()));
    rows.push(grpc("packed, and nothing said how", packed(), bad, ""));
    rows.push(grpc("packed as identity", packed().with("grpc-encoding", "identity"), bad, ""));
    for encoding in
        ["gzip", "GZIP", "deflate", "zstd", "br", "snappy", "nonsense", "gzip, gzip", "identity, gzip", "*", ""]
    {
        for (name, request) in [("packed", packed()), ("unpacked", good())] {
            let request = request.with("grpc-encoding", encoding);
            rows.push(grpc(format!("{name}, with grpc-encoding {encoding:?}"), request, Code::Unimplemented, ""));
        }
    }
    // 10 MB of zeros would be packed into these few bytes.
    let bomb = Grpc::raw(GET, frame(1, &[0x1f; 10_000])).with("grpc-encoding", "gzip");
    rows.push(grpc("a packed bomb", bomb, Code::Unimplemented, ""));
    rows.push(grpc("grpc-encoding identity", good().with("grpc-encoding", "identity"), absent, ""));
    rows.push(grpc("grpc-accept-encoding garbage", good().with("grpc-accept-encoding", "\u{e9},,;q"), absent, ""));
    rows
}

/// Not gRPC: answered as JSON is.
fn json(name: String, send: Grpc, status: u16, code: &'static str) -> Row {
    Row { name, send: Send::Grpc(send), says: Says::Json(status, code, String::new()) }
}

pub fn calls() -> Vec<Row> {
    let mut rows = vec![];
    for kind in [
        "application/grpc+json",
        "application/grpc+thrift",
        "application/grpc+",
        "application/grpcx",
        "application/grp",
        "application/grpc-foo",
        "application/proto",
        "application/x-protobuf",
        "text/grpc",
        "grpc",
        "",
        "application/grpc, x",
        "application/json",
    ] {
        rows.push(json(format!("{kind:?} is not gRPC"), good().set("content-type", kind), 404, "NOT_FOUND"));
    }
    rows.push(json("no type is not gRPC".into(), good().without("content-type"), 404, "NOT_FOUND"));
    for kind in ["application/grpc", "application/grpc+proto", "application/grpc;x=y", "application/grpc ; x"] {
        rows.push(grpc(
            format!("{kind:?} is gRPC"),
            good().set("content-type", kind),
            Code::NotFound,
            "System not found",
        ));
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"] {
        rows.push(grpc(
            format!("gRPC with {method}"),
            good().method(method),
            Code::Unimplemented,
            "gRPC is called with POST",
        ));
    }
    let service = "/checkmate.catalog.v1.CatalogService";
    for path in [
        "/".to_owned(),
        "//".into(),
        service.into(),
        format!("{service}/"),
        format!("{service}/Nope"),
        format!("{service}/getSystem"),
        format!("{service}/GETSYSTEM"),
        format!("{service}/GetSystem/"),
        format!("{service}/GetSystem/x"),
        format!("/{service}/GetSystem"),
        format!("{service}//GetSystem"),
        format!("{service}/%47etSystem"),
        format!("{service}%2fGetSystem"),
        format!("{service}/GetSystem%00"),
        format!("{service}/../CatalogService/GetSystem"),
        format!("{service}/./GetSystem"),
        format!("{service}/GetSystem;x"),
        format!("{service}/GetSystem."),
        format!("{service}.GetSystem"),
        format!("{service}/*"),
        "/catalog/getSystem".into(),
        "/checkmate.catalog.v2.CatalogService/GetSystem".into(),
        "/checkmate.catalog.v1.catalogservice/GetSystem".into(),
        "/checkmate.catalog.v1.RoleService/GetSystem".into(),
        "/CatalogService/GetSystem".into(),
        "/.checkmate.catalog.v1.CatalogService/GetSystem".into(),
        "/api/catalog/getSystem".into(),
        "/api/catalog/".into(),
        "/healthz".into(),
        "/metrics".into(),
        "/google.longrunning.Operations/List".into(),
        "/grpc.channelz.v1.Channelz/GetServers".into(),
        "/grpc.reflection.v2.ServerReflection/ServerReflectionInfo".into(),
        "/grpc.reflection.v1.ServerReflection/Nope".into(),
        "/grpc.health.v1.Health/Nope".into(),
        "/grpc.health.v2.Health/Check".into(),
        format!("/{}/x", "x".repeat(8_000)),
    ] {
        let shown: String = path.chars().take(80).collect();
        rows.push(grpc(format!("{shown} is no method"), Grpc::call(&path, message()), Code::Unimplemented, ""));
    }
    rows.push(grpc(
        "a query is nothing",
        Grpc::call(&format!("{GET}?x=y"), message()),
        Code::NotFound,
        "System not found",
    ));
    rows.push(grpc(
        "a health check of nothing",
        Grpc::call("/grpc.health.v1.Health/Check", field(1, "nope")),
        Code::NotFound,
        "",
    ));
    rows.push(grpc(
        "a health check of garbage",
        Grpc::call("/grpc.health.v1.Health/Check", [0xff; 9]),
        Code::InvalidArgument,
        "",
    ));
    rows.push(grpc(
        "a health check without a frame",
        Grpc::raw("/grpc.health.v1.Health/Check", vec![]),
        Code::InvalidArgument,
        "",
    ));
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    rows.push(grpc("reflection of garbage says nothing", Grpc::call(reflection, [0xff; 9]), Code::Ok, ""));
    rows.push(grpc("reflection of nothing", Grpc::call(reflection, field(4, "nope.Nope")), Code::NotFound, ""));
    for (name, request) in [
        ("no te", good().without("te")),
        ("another te", good().set("te", "trailers, deflate")),
        ("bytes that are no base64", good().with("x-bin", "!!!")),
        ("a bad percent sign", good().with("grpc-message", "%zz%")),
        ("a status of its own", good().with("grpc-status", "0")),
        ("a user agent of bytes", good().with("user-agent", b"\xff\xfe")),
        ("a trace that is none", good().with("grpc-trace-bin", "x").with("traceparent", "x")),
        ("a previous attempt", good().with("grpc-previous-rpc-attempts", "-1")),
    ] {
        rows.push(grpc(format!("{name} changes nothing"), request, Code::NotFound, "System not found"));
    }
    for (name, request) in [
        ("two keys", good().with("authorization", "Bearer <key>")),
        ("another scheme", good().set("authorization", "Basic dTpw")),
        ("bytes for a key", good().set("authorization", b"Bearer \xff")),
        ("an empty key", good().set("authorization", "Bearer ")),
        ("nothing for a key", good().set("authorization", "")),
    ] {
        rows.push(grpc(format!("{name}, gRPC"), request, Code::Unauthenticated, "Invalid API key"));
    }
    for name in ["x-api-key", "authorization-bin", "grpc-metadata-authorization", "proxy-authorization"] {
        let request = good().without("authorization").with(name, "Bearer <key>");
        rows.push(grpc(format!("{name}, gRPC"), request, Code::Unauthenticated, "Authentication required"));
    }
    rows
}

pub fn deadlines() -> Vec<Row> {
    let mut rows = vec![];
    for value in [
        "",
        " ",
        "5",
        "S",
        "s",
        "5s",
        "5h",
        "5D",
        "5ms",
        "5us",
        "-5S",
        "+5S",
        "5.0S",
        "5,0S",
        "5e3S",
        "0x5S",
        "5 S",
        "5S S",
        "5SS",
        "123456789S",
        "000000001S",
        "99999999999999999999S",
        "١S",
        "５S",
        "S5",
        "5S;",
        "5S,5S",
        "infinity",
        "NaNS",
        "null",
        "5\u{b5}",
        "\u{e9}",
        "5\u{e9}",
    ] {
        let request = good().with("grpc-timeout", value);
        rows.push(grpc(format!("grpc-timeout {value:?}"), request, Code::InvalidArgument, "Malformed grpc-timeout"));
    }
    for value in ["0S", "0n", "1n", "0H", "00000000S"] {
        let request = good().with("grpc-timeout", value);
        rows.push(grpc(format!("grpc-timeout {value:?}"), request, Code::DeadlineExceeded, "Deadline exceeded"));
    }
    for value in ["30S", "99999999H", "99999999M", "99999999S", "99999999m", "60000000u", "00000030S"] {
        let request = good().with("grpc-timeout", value);
        rows.push(grpc(format!("grpc-timeout {value:?}"), request, Code::NotFound, "System not found"));
    }
    let two = good().with("grpc-timeout", "30S").with("grpc-timeout", "0S");
    rows.push(grpc("of two grpc-timeouts the shorter one", two, Code::DeadlineExceeded, ""));
    let two = good().with("grpc-timeout", "30S").with("grpc-timeout", "x");
    rows.push(grpc("of two grpc-timeouts one is garbage", two, Code::InvalidArgument, "Malformed grpc-timeout"));
    let two = good().with("grpc-timeout", "30S").with("x-timeout-ms", "0");
    rows.push(grpc("grpc-timeout and x-timeout-ms", two, Code::DeadlineExceeded, ""));
    let two = good().with("x-timeout-ms", "1.5");
    rows.push(grpc("x-timeout-ms that is none, gRPC", two, Code::InvalidArgument, "Malformed x-timeout-ms"));
    // A bad key is said before a bad deadline.
    let stranger = good().set("authorization", "Bearer x").with("grpc-timeout", "x");
    rows.push(grpc("a bad key and a bad deadline", stranger, Code::Unauthenticated, "Invalid API key"));
    rows
}
