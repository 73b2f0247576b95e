//! The error table (design.md section 5), row by row, and that every refusal anywhere has the documented shape.

use crate::server::{Answer, Caller, Server};
use checkmate::contract::issue::Issues;
use checkmate::error::Error;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

#[test]
fn the_table_is_the_documented_one() {
    let text = || "x".to_owned();
    let rows = [
        (Error::NoCredential, Code::Unauthenticated, "UNAUTHORIZED", 401),
        (Error::BadCredential, Code::Unauthenticated, "UNAUTHORIZED", 401),
        (Error::Forbidden(text()), Code::PermissionDenied, "FORBIDDEN", 403),
        (Error::NotFound(text()), Code::NotFound, "NOT_FOUND", 404),
        (Error::NoProcedure(text()), Code::Unimplemented, "NOT_FOUND", 404),
        (Error::Invalid(Issues::one("a", "b")), Code::InvalidArgument, "BAD_REQUEST", 400),
        (Error::Malformed(text()), Code::InvalidArgument, "BAD_REQUEST", 400),
        (Error::Refused(text()), Code::FailedPrecondition, "BAD_REQUEST", 400),
        (Error::Conflict(text()), Code::AlreadyExists, "CONFLICT", 409),
        (Error::TooLarge(text()), Code::ResourceExhausted, "PAYLOAD_TOO_LARGE", 413),
        (Error::TooMany { retry_after_s: 7 }, Code::ResourceExhausted, "TOO_MANY_REQUESTS", 429),
        (Error::Deadline, Code::DeadlineExceeded, "GATEWAY_TIMEOUT", 504),
        (Error::SlowBody, Code::DeadlineExceeded, "TIMEOUT", 408),
        (Error::Unavailable("x"), Code::Unavailable, "SERVICE_UNAVAILABLE", 503),
        (Error::Cancelled, Code::Cancelled, "CLIENT_CLOSED_REQUEST", 499),
        (Error::Unimplemented(text()), Code::Unimplemented, "NOT_IMPLEMENTED", 501),
        (Error::Method("POST"), Code::Unimplemented, "METHOD_NOT_SUPPORTED", 405),
        (Error::MediaType("x"), Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", 415),
        (Error::Internal(text()), Code::Internal, "INTERNAL_SERVER_ERROR", 500),
    ];
    for (error, grpc, json, http) in rows {
        let row = error.row();
        assert_eq!((row.grpc, row.json, row.http), (grpc, json, http), "{error:?}");
        let status = Status::from(error.clone());
        assert_eq!(status.code(), grpc);
        assert_eq!(Error::from_status(&status).row(), row, "an error of ours comes back as it was");
    }
}

#[test]
fn what_others_raise_lands_in_the_table_too() {
    let rows = [
        (Code::Unauthenticated, "UNAUTHORIZED"),
        (Code::PermissionDenied, "FORBIDDEN"),
        (Code::NotFound, "NOT_FOUND"),
        (Code::InvalidArgument, "BAD_REQUEST"),
        (Code::FailedPrecondition, "BAD_REQUEST"),
        (Code::OutOfRange, "PAYLOAD_TOO_LARGE"),
        (Code::AlreadyExists, "CONFLICT"),
        (Code::Aborted, "CONFLICT"),
        (Code::ResourceExhausted, "PAYLOAD_TOO_LARGE"),
        (Code::DeadlineExceeded, "GATEWAY_TIMEOUT"),
        (Code::Unavailable, "SERVICE_UNAVAILABLE"),
        (Code::Cancelled, "CLIENT_CLOSED_REQUEST"),
        (Code::Unimplemented, "NOT_IMPLEMENTED"),
        (Code::Unknown, "INTERNAL_SERVER_ERROR"),
        (Code::Internal, "INTERNAL_SERVER_ERROR"),
        (Code::DataLoss, "INTERNAL_SERVER_ERROR"),
    ];
    for (code, json) in rows {
        assert_eq!(Error::from_status(&Status::new(code, "x")).row().json, json, "{code:?}");
    }
}

#[test]
fn an_internal_cause_never_leaves() {
    let status = Status::from(Error::Internal("password=hunter2".into()));
    assert_eq!(status.message(), "Internal server error");
    assert!(!String::from_utf8_lossy(status.details()).contains("hunter2"));
}

#[tokio::test]
async fn grpc_refusals_carry_details() {
    let server = Server::start().await;
    let status = server.admin().grpc("catalog.createSystem", &json!({"name": " ", "owner": "x".repeat(201)})).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    let found: Vec<_> = violations.iter().map(|v| (v.field.as_str(), v.description.as_str())).collect();
    assert_eq!(found, [("name", "Required"), ("owner", "Must have at most 200 characters")]);
}

/// Every answer that is not 2xx is `{"code","message"}`, whoever raised it.
#[tokio::test]
async fn every_refusal_has_the_documented_shape() {
    let server = Server::start().await;
    let admin = server.admin();
    let id = uuid::Uuid::now_v7();
    let cases = [
        ("GET", "/", "", 404, "NOT_FOUND", "Not found"),
        ("GET", "/api", "", 404, "NOT_FOUND", "Not found: use /api/{pluginId}/ or /api/{pluginId}/{procedure}"),
        (
            "POST",
            "/api/catalog/a/b",
            "{}",
            404,
            "NOT_FOUND",
            "Not found: use /api/{pluginId}/ or /api/{pluginId}/{procedure}",
        ),
        ("GET", "/api/nope/", "", 404, "NOT_FOUND", "Plugin not found: nope"),
        ("POST", "/api/nope/", "{}", 404, "NOT_FOUND", "Plugin not found: nope"),
        ("PUT", "/api/catalog/", "{}", 405, "METHOD_NOT_SUPPORTED", "Use GET, POST"),
        ("DELETE", "/api/catalog", "", 405, "METHOD_NOT_SUPPORTED", "Use GET, POST"),
        ("POST", "/healthz", "", 405, "METHOD_NOT_SUPPORTED", "Use GET"),
        ("POST", "/api/openapi.json/", "{}", 404, "NOT_FOUND", "Plugin not found: openapi.json"),
        ("POST", "/api/catalog/", "x", 400, "BAD_REQUEST", "Malformed request: expected value at line 1 column 1"),
    ];
    for (method, path, body, status, code, message) in cases {
        let request = admin.request(method, path).header("content-type", "application/json").body(body);
        let answer = Answer::of(request.send().await.unwrap()).await;
        answer.refused(status, code, message);
        assert_eq!(answer.body.as_object().unwrap().len(), 2, "{method} {path}: {}", answer.text);
        assert!(!answer.header("x-request-id").is_empty());
        if status == 405 {
            assert_eq!(format!("Use {}", answer.header("allow")), message);
        }
    }
    for (method, path, message) in
        [("GET", "/api/catalog/createSystem", "Use POST"), ("PUT", "/api/catalog/getSystems", "Use GET, POST")]
    {
        let wrong = admin.request(method, path).send().await.unwrap();
        assert_enveloped(&Answer::of(wrong).await, 405, "METHOD_NOT_SUPPORTED", message);
    }
    let singles = [
        ("/api/catalog/nope", "{}", 404, "NOT_FOUND", "Procedure not found: catalog.nope".to_owned()),
        ("/api/nope/nope/", "{}", 404, "NOT_FOUND", "Procedure not found: nope.nope".to_owned()),
        (
            "/api/catalog/getSystem",
            r#"{"systemId":5}"#,
            400,
            "BAD_REQUEST",
            "Input validation failed: systemId: Expected a string, got a number".to_owned(),
        ),
        ("/api/catalog/deleteSystem", &format!("\"{id}\""), 404, "NOT_FOUND", format!("System not found: {id}")),
        (
            "/api/catalog/deleteSystem",
            &"x".repeat(3 << 20),
            413,
            "PAYLOAD_TOO_LARGE",
            "The request body exceeds 2097152 bytes".to_owned(),
        ),
    ];
    for (path, body, status, code, message) in singles {
        assert_enveloped(&admin.post_text(path, body).await, status, code, &message);
    }
    let anonymous = server.anonymous().post_text("/api/catalog/getSystems", "not json").await;
    assert_enveloped(&anonymous, 401, "UNAUTHORIZED", "Authentication required");
    assert_eq!(anonymous.header("www-authenticate"), "Bearer realm=\"checkmate\"");
}

fn assert_enveloped(answer: &Answer, status: u16, code: &str, message: &str) {
    answer.refused(status, code, message);
    let inner = answer.body["json"].as_object().unwrap();
    let expected = json!({"defined": false, "code": code, "status": status, "message": message});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(inner[key], *value, "{}", answer.text);
    }
    let known = ["defined", "code", "status", "message", "data"];
    assert!(inner.keys().all(|key| known.contains(&key.as_str())), "oRPC refuses a sixth key: {}", answer.text);
}

/// All that is wrong is said at once.
#[tokio::test]
async fn every_violation_of_an_input_is_reported_together() {
    let server = Server::start().await;
    let input = json!({
        "id": "x", "colour": 1,
        "data": {"name": null, "description": 5, "metadata": {"a": [1, 9_007_199_254_740_993_u64]}, "extra": {}},
    });
    let answer = server.admin().json("catalog.updateSystem", input).await;
    let issue = |path: Value, message: &str| json!({"path": path, "message": message});
    let mut found = answer.body["data"]["issues"].as_array().unwrap().clone();
    found.sort_by_key(|issue| issue["path"].to_string());
    let expected = [
        issue(json!(["colour"]), "Unknown field"),
        issue(json!(["data", "description"]), "Expected a string, got a number"),
        issue(json!(["data", "extra"]), "Unknown field"),
        issue(json!(["data", "metadata", "a", 1]), "Whole numbers beyond 2^53 are not exact; send it as a string"),
        issue(json!(["data", "name"]), "Must not be null"),
        issue(json!(["id"]), "Must be a UUID"),
    ];
    assert_eq!(found, expected);
}

/// An operator opens reading to the world; a bad key stays bad.
#[tokio::test]
async fn anonymous_callers_have_the_permissions_of_their_role() {
    let server = Server::start().await;
    let (admin, anonymous) = (server.admin(), server.anonymous());
    admin.call("auth.updateRole", json!({"id": "anonymous", "permissions": ["catalog.system.read"]})).await;
    assert_eq!(anonymous.call("catalog.getSystems", json!({})).await, json!([]));
    let write = anonymous.json("catalog.createSystem", json!({"name": "x"})).await;
    write.refused(401, "UNAUTHORIZED", "Authentication required");
    let bad = Caller { key: Some("ck_x".into()), ..anonymous.clone() };
    bad.json("catalog.getSystems", json!({})).await.refused(401, "UNAUTHORIZED", "Invalid API key");
    assert_eq!(bad.grpc("catalog.getSystems", &json!({})).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(anonymous.grpc("catalog.getSystems", &json!({})).await.is_ok());
}
