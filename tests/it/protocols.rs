//! One port, both protocols: HTTP/1.1, h2c, gRPC, gRPC-Web, and what is the same on all of them.

use crate::server::{Answer, Caller, Server};
use crate::wire::{self, CREATE_SYSTEM, Encoding, GET_SYSTEMS, grpc_status, raw_unary};
use reqwest::Version;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tonic::Code;

#[tokio::test]
async fn json_is_the_same_over_http_1_and_h2c() {
    let server = Server::start().await;
    let one = server.admin();
    let two = Caller { http: wire::h2c(), ..one.clone() };
    let mut texts = vec![];
    for (caller, version) in [(&one, Version::HTTP_11), (&two, Version::HTTP_2)] {
        let request = caller.request("POST", "/api/catalog/").json(&json!({"getSystems": {}, "nope": {}}));
        let refused = request.send().await.unwrap();
        assert_eq!((refused.version(), refused.status().as_u16()), (version, 404));
        texts.push((refused.text().await.unwrap(), caller.get("/api/openapi.json").await.text));
    }
    assert_eq!(texts[0], texts[1]);
}

#[tokio::test]
async fn grpc_web_answers_over_http_1() {
    let server = Server::start().await;
    server.admin().call("catalog.createSystem", json!({"name": "web"})).await;
    for encoding in [Encoding::Binary, Encoding::Text] {
        let answer = wire::web(&server.admin(), GET_SYSTEMS, &json!({}), encoding).await;
        assert_eq!((answer.status(), answer.http), (0, 200), "{encoding:?}");
        assert!(answer.trailers.is_some(), "{encoding:?}: the status is in a frame of trailers");
        assert_eq!(answer.result(GET_SYSTEMS)[0]["name"], "web", "{encoding:?}");
    }
}

#[tokio::test]
async fn grpc_web_refuses_in_its_own_form() {
    let server = Server::start().await;
    let (reader, admin, anonymous) = (server.reader().await, server.admin(), server.anonymous());
    let broken = server.with_key(Some("ck_nonsense"));
    let cases = [
        (&anonymous, CREATE_SYSTEM, Code::Unauthenticated, "Authentication required"),
        (&broken, CREATE_SYSTEM, Code::Unauthenticated, "Invalid API key"),
        (&reader, CREATE_SYSTEM, Code::PermissionDenied, "Missing permission: catalog.catalog.manage"),
        (&admin, "/checkmate.catalog.v1.CatalogService/Nope", Code::Unimplemented, "Unknown service or method"),
        (&admin, "/nope.Nope/Nope", Code::Unimplemented, "Unknown service or method"),
    ];
    for (caller, path, code, message) in cases {
        for encoding in [Encoding::Binary, Encoding::Text] {
            let answer = wire::web(caller, path, &Value::Null, encoding).await;
            assert_eq!((answer.status(), answer.message()), (code as i32, message.to_owned()), "{path} {encoding:?}");
            assert_eq!((answer.http, answer.kind.as_str()), (200, encoding.kind()), "{path}");
        }
    }
}

#[tokio::test]
async fn grpc_over_http_1_is_refused_in_the_form_of_grpc() {
    let server = Server::start().await;
    let request = server.admin().request("POST", GET_SYSTEMS).header("content-type", "application/grpc");
    let response = request.body(wire::frame(&[])).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(grpc_status(&response), Some(Code::Unimplemented as i32));
}

#[tokio::test]
async fn what_grpc_cannot_read_is_refused_by_its_code() {
    let server = Server::start_with(|config| config.limits.grpc_message_bytes = 2_000).await;
    let admin = server.admin();
    // A field of bytes that nobody knows is skipped, so this is as good as empty; its size counts.
    let unknown_field = |bytes: usize| {
        [&[0xFA, 0x3F, 0x80 | (bytes % 128), bytes / 128].map(|byte| u8::try_from(byte).unwrap())[..], &vec![0; bytes]]
            .concat()
    };
    let cases = [
        (GET_SYSTEMS, unknown_field(1_000), Code::Ok),
        (GET_SYSTEMS, unknown_field(2_000), Code::ResourceExhausted),
        (GET_SYSTEMS, vec![0xFF; 8], Code::InvalidArgument),
        (CREATE_SYSTEM, vec![0x0A, 0x02, 0xC3, 0x28], Code::InvalidArgument),
        ("/checkmate.catalog.v1.CatalogService/Nope", vec![], Code::Unimplemented),
        ("/checkmate.nope.v1.NopeService/GetSystems", vec![], Code::Unimplemented),
        ("/nonsense", vec![], Code::Unimplemented),
    ];
    for (path, message, code) in cases {
        let size = message.len();
        let found = raw_unary(&admin, path, message).await.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(found, code, "{path}, {size} bytes");
    }
}

#[tokio::test]
async fn the_default_limit_of_a_grpc_message_is_4_mib() {
    let server = Server::start().await;
    let refused = raw_unary(&server.admin(), GET_SYSTEMS, vec![0; 4 * 1024 * 1024 + 1]).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}

#[tokio::test]
async fn a_fit_request_id_comes_back_and_any_other_is_replaced() {
    let server = Server::start().await;
    let long = "x".repeat(64);
    let longer = "x".repeat(65);
    let cases: [(&[u8], bool); 8] = [
        (b"abc-123.x:y", true),
        (long.as_bytes(), true),
        (longer.as_bytes(), false),
        (b"a b", false),
        (b"", false),
        (b"<script>", false),
        ("ä".as_bytes(), false),
        (b"a\"b", false),
    ];
    for (given, is_fit) in cases {
        let shown = String::from_utf8_lossy(given);
        for (path, kind) in [("/healthz", ""), ("/api/catalog/", "application/json"), (GET_SYSTEMS, "application/grpc")]
        {
            let caller = Caller { http: wire::h2c(), ..server.admin() };
            let method = if path == "/healthz" { "GET" } else { "POST" };
            let request = caller.request(method, path).header("content-type", kind).header("x-request-id", given);
            let response = request.body(wire::frame(&[])).send().await.unwrap();
            let id = response.headers()["x-request-id"].as_bytes();
            assert_eq!(id == given, is_fit, "{path} {shown}");
            assert!(is_fit || uuid::Uuid::try_parse_ascii(id).is_ok(), "{path} {shown}");
        }
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = Server::start().await;
    let mut seen = std::collections::BTreeSet::new();
    let (admin, anonymous) = (server.admin(), server.anonymous());
    let mut note = |id: &str| assert!(seen.insert(id.to_owned()) && !id.is_empty(), "{id:?} is new");
    for (caller, method, path) in [
        (&admin, "GET", "/healthz"),
        (&admin, "GET", "/metrics"),
        (&admin, "GET", "/nowhere"),
        (&admin, "DELETE", "/api/catalog/"),
        (&admin, "GET", "/api/openapi.json"),
        (&admin, "POST", "/api/catalog/"),
        (&admin, "POST", "/api/catalog/getSystems"),
        (&anonymous, "POST", "/api/catalog/getSystems"),
        (&anonymous, "POST", "/api/nope/"),
    ] {
        note(Answer::of(caller.request(method, path).send().await.unwrap()).await.header("x-request-id"));
    }
    for (caller, path) in [(&admin, GET_SYSTEMS), (&anonymous, GET_SYSTEMS), (&admin, "/nope.Nope/Nope")] {
        let metadata = match raw_unary(caller, path, vec![]).await {
            Ok(reply) => reply.metadata().clone(),
            Err(status) => status.metadata().clone(),
        };
        note(metadata.get("x-request-id").unwrap().to_str().unwrap());
        note(&wire::web(caller, path, &Value::Null, Encoding::Binary).await.request_id);
    }
}

const DEADLINES: [(&str, &str, u16, Code); 8] = [
    ("grpc-timeout", "1n", 504, Code::DeadlineExceeded),
    ("x-timeout-ms", "0", 504, Code::DeadlineExceeded),
    ("grpc-timeout", "soon", 400, Code::InvalidArgument),
    ("grpc-timeout", "123456789S", 400, Code::InvalidArgument),
    ("x-timeout-ms", "-1", 400, Code::InvalidArgument),
    ("x-timeout-ms", "1.5", 400, Code::InvalidArgument),
    ("grpc-timeout", "10S", 200, Code::Ok),
    ("x-timeout-ms", "10000", 200, Code::Ok),
];

#[tokio::test]
async fn deadlines_are_kept_by_json() {
    let server = Server::start().await;
    let admin = server.admin();
    let inputs = [
        ("/api/catalog/", json!({"getSystems": {}})),
        ("/api/catalog/getSystems", json!({})),
        ("/api/auth/", json!({"whoAmI": {}, "permissions": {}})),
        ("/api/catalog/", json!({"createSystem": {"name": "late"}})),
    ];
    for (header, value, status, _) in DEADLINES {
        for (path, body) in &inputs {
            let answer =
                Answer::of(admin.request("POST", path).header(header, value).json(body).send().await.unwrap()).await;
            assert_eq!(answer.status, status, "{header}: {value} {path} {body}: {}", answer.text);
            let code = match status {
                504 => json!("GATEWAY_TIMEOUT"),
                400 => json!("BAD_REQUEST"),
                _ => Value::Null,
            };
            assert_eq!(answer.body["code"], code, "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn deadlines_are_kept_by_grpc() {
    let server = Server::start().await;
    let caller = Caller { http: wire::h2c(), ..server.admin() };
    let who_am_i = "/checkmate.auth.v1.SessionService/WhoAmI";
    // {"name": "late"}
    let system = wire::frame(b"\x0a\x04late");
    for (header, value, _, code) in DEADLINES {
        for (path, frame) in
            [(GET_SYSTEMS, wire::frame(&[])), (who_am_i, wire::frame(&[])), (CREATE_SYSTEM, system.clone())]
        {
            let request =
                caller.request("POST", path).header("content-type", "application/grpc").header("te", "trailers");
            let response = request.header(header, value).body(frame).send().await.unwrap();
            // A success has its status in the trailers, which come later.
            assert_eq!(grpc_status(&response).unwrap_or(0), code as i32, "{header}: {value} {path}");
        }
    }
}

#[tokio::test]
async fn a_mutation_whose_deadline_has_passed_does_nothing() {
    let server = Server::start().await;
    let admin = server.admin();
    for (path, body) in [
        ("/api/catalog/", json!({"createSystem": {"name": "late"}})),
        ("/api/catalog/createSystem", json!({"name": "late"})),
    ] {
        let request = admin.request("POST", path).header("x-timeout-ms", "0").json(&body);
        assert_eq!(request.send().await.unwrap().status(), 504);
    }
    admin.grpc_with("catalog.createSystem", &json!({"name": "late"}), &[("x-timeout-ms", "0")]).await.unwrap_err();
    // What was refused is not on its way either: a write made now comes after it.
    admin.call("catalog.createSystem", json!({"name": "in time"})).await;
    let systems = admin.call("catalog.getSystems", json!({})).await;
    assert_eq!(systems.as_array().unwrap().len(), 1, "{systems}");
}

#[tokio::test]
async fn the_probes_of_orchestrators_need_no_key() {
    let server = Server::start_with(|config| config.private_contract = true).await;
    let anonymous = server.anonymous();
    for (path, says) in [("/healthz", "alive"), ("/readyz", "ready")] {
        let answer = anonymous.get(path).await;
        assert_eq!((answer.status, answer.body), (200, json!({"status": says})));
        anonymous.post(path, &json!({})).await.refused(405, "METHOD_NOT_SUPPORTED", "Use GET");
    }
}

/// The lines of `checkmate_calls_total`, sorted.
async fn calls_counted(server: &Server) -> Vec<String> {
    let answer = server.anonymous().get("/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    assert!(answer.text.ends_with("# EOF\n"));
    let mut lines: Vec<_> =
        answer.text.lines().filter_map(|line| line.strip_prefix("checkmate_calls_total")).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn every_call_is_counted_once_by_procedure_protocol_and_code() {
    let server = Server::start().await;
    let (admin, reader) = (server.admin(), server.reader().await);
    let before = calls_counted(&server).await;
    assert_eq!(before, [r#"{plugin="auth",procedure="createApplication",protocol="json",code="OK"} 1"#]);
    admin.post("/api/catalog/", &json!({"getSystems": {}, "getGroups": {}})).await;
    admin.post("/api/catalog/getConfigurations", &json!({})).await;
    admin.post("/api/catalog/getSystems", &json!({})).await;
    reader.json("catalog.createSystem", json!({"name": "x"})).await;
    reader.grpc("catalog.createSystem", &json!({"name": "x"})).await.unwrap_err();
    admin.grpc("catalog.getSystems", &json!({})).await.unwrap();
    wire::web(&admin, GET_SYSTEMS, &json!({}), Encoding::Binary).await;
    raw_unary(&admin, CREATE_SYSTEM, vec![0xFF; 8]).await.unwrap_err();
    let expected = [
        r#"{plugin="auth",procedure="createApplication",protocol="json",code="OK"} 1"#,
        r#"{plugin="catalog",procedure="createSystem",protocol="grpc",code="BAD_REQUEST"} 1"#,
        r#"{plugin="catalog",procedure="createSystem",protocol="grpc",code="FORBIDDEN"} 1"#,
        r#"{plugin="catalog",procedure="createSystem",protocol="json",code="FORBIDDEN"} 1"#,
        r#"{plugin="catalog",procedure="getGroups",protocol="json",code="OK"} 1"#,
        r#"{plugin="catalog",procedure="getSystems",protocol="grpc",code="OK"} 2"#,
        r#"{plugin="catalog",procedure="getSystems",protocol="json",code="OK"} 2"#,
    ];
    assert_eq!(calls_counted(&server).await, expected);
}

#[tokio::test]
async fn refused_keys_are_counted() {
    let server = Server::start().await;
    let broken = server.with_key(Some("ck_nonsense"));
    broken.json("catalog.getSystems", json!({})).await.refused(401, "UNAUTHORIZED", "Invalid API key");
    broken.grpc("catalog.getSystems", &json!({})).await.unwrap_err();
    let metrics = server.anonymous().get("/metrics").await.text;
    assert!(metrics.lines().any(|line| line == "checkmate_bad_credentials_total 2"), "{metrics}");
}

#[tokio::test]
async fn a_stopping_server_says_so_and_does_not_wait_for_who_watches() {
    let server = Server::start_with(|config| config.drain_timeout = Duration::from_mins(1)).await;
    let mut watch = wire::health(&server).await.watch(wire::health_request("")).await.unwrap().into_inner();
    let status = watch.message().await.unwrap().unwrap().status;
    assert_eq!(status, wire::SERVING);

    let began = Instant::now();
    let stopped = tokio::task::spawn_blocking(move || drop(server));
    let status = watch.message().await.unwrap().unwrap().status;

    assert_eq!(status, wire::NOT_SERVING);
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    stopped.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "stopped after {:?}", began.elapsed());
}
