//! The rules of the batch, one by one (design.md section 4).

use crate::server::{Answer, Caller, Server};
use serde_json::{Value, json};

async fn post(caller: &Caller, body: &Value) -> Answer {
    caller.post("/api/catalog/", body).await
}

async fn count(caller: &Caller) -> usize {
    caller.call("catalog.getSystems", json!({})).await.as_array().unwrap().len()
}

#[tokio::test]
async fn rule_1_a_batch_is_a_json_object_in_utf8() {
    let server = Server::start().await;
    let admin = server.admin();
    for body in ["", "null", "[]", "1", "\"x\"", "{", "{\"getSystems\":{}} x", "{'getSystems':{}}", "\u{feff}{}"] {
        let answer = admin.post_text("/api/catalog/", body).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("BAD_REQUEST")), "{body}: {}", answer.text);
    }
    let broken = admin.request("POST", "/api/catalog/").header("content-type", "application/json");
    let answer = Answer::of(broken.body(b"{\"getSystems\xff\":{}}".to_vec()).send().await.unwrap()).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    for kind in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/json; charset=latin1")]
    {
        let request = admin.request("POST", "/api/catalog/").body("{\"getSystems\":{}}");
        let request = match kind {
            Some(kind) => request.header("content-type", kind),
            None => request,
        };
        let answer = Answer::of(request.send().await.unwrap()).await;
        answer.refused(415, "UNSUPPORTED_MEDIA_TYPE", "Use content-type: application/json");
    }
}

#[tokio::test]
async fn rule_2_a_bad_key_is_refused_whatever_the_body() {
    let server = Server::start().await;
    let stranger = server.with_key(Some("ck_nonsense"));
    for body in ["", "{", "{}", "{\"nope\":{}}", "{\"getSystems\":{}}"] {
        stranger.post_text("/api/catalog/", body).await.refused(401, "UNAUTHORIZED", "Invalid API key");
        let anonymous = server.anonymous().post_text("/api/catalog/", body).await;
        anonymous.refused(401, "UNAUTHORIZED", "Authentication required");
    }
    stranger.post_text("/api/nope/", "{}").await.refused(401, "UNAUTHORIZED", "Invalid API key");
}

#[tokio::test]
async fn rule_3_empty_duplicate_and_oversized_batches_are_refused() {
    let server = Server::start().await;
    let admin = server.admin();
    post(&admin, &json!({})).await.refused(400, "BAD_REQUEST", "Empty batch");
    let twice = r#"{"createSystem":{"name":"a"},"create\u0053ystem":{"name":"b"}}"#;
    let answer = admin.post_text("/api/catalog/", twice).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["message"].as_str().unwrap().contains("Duplicate key: createSystem"), "{}", answer.text);
    let many: serde_json::Map<_, _> = (0..51).map(|n| (format!("p{n}"), json!({}))).collect();
    post(&admin, &Value::Object(many)).await.refused(413, "PAYLOAD_TOO_LARGE", "A batch has at most 50 calls");
    let large = json!({"createSystem": {"name": "x", "description": "x".repeat(2 * 1024 * 1024)}}).to_string();
    let refusal = "The request body exceeds 2097152 bytes";
    admin.post_text("/api/catalog/", &large).await.refused(413, "PAYLOAD_TOO_LARGE", refusal);
    // Without a length in the head.
    let chunks = futures_util::stream::iter(
        large.into_bytes().chunks(65_536).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    let request = admin.request("POST", "/api/catalog/").header("content-type", "application/json");
    let answer = Answer::of(request.body(reqwest::Body::wrap_stream(chunks)).send().await.unwrap()).await;
    answer.refused(413, "PAYLOAD_TOO_LARGE", refusal);
    assert_eq!(count(&admin).await, 0);
}

#[tokio::test]
async fn rule_4_nothing_runs_unless_everything_is_known_permitted_and_valid() {
    let server = Server::start().await;
    let (admin, writer) = (server.admin(), server.allowed(&["catalog.catalog.manage"]).await);
    let good = json!({"name": "a"});
    let cases = [
        (&admin, json!({"createSystem": good, "nope": {}}), 404, "Procedure not found: catalog.nope"),
        (&writer, json!({"createSystem": good, "getSystems": {}}), 403, "Missing permission: catalog.catalog.read"),
        (&admin, json!({"createSystem": good, "createGroup": {}}), 400, "Input validation failed: name: Required"),
        // The first refusal in written order, whatever its kind.
        (&admin, json!({"createSystem": {}, "nope": {}}), 400, "Input validation failed: name: Required"),
        (&writer, json!({"absent": {}, "getSystems": {}}), 404, "Procedure not found: catalog.absent"),
        (
            &admin,
            json!({"createSystem": good, "listSystems": {"pageToken": "x"}}),
            400,
            "Input validation failed: pageToken: Is not a page token of this list with these filters",
        ),
    ];
    for (caller, body, status, message) in cases {
        let answer = post(caller, &body).await;
        assert_eq!((answer.status, &answer.body["message"]), (status, &json!(message)), "{body}");
        assert_eq!(answer.body["data"]["results"], json!({}), "{body}");
        assert_eq!(count(&admin).await, 0, "{body}");
    }
}

#[tokio::test]
async fn rule_5_mutations_run_as_written_and_stop_at_the_first_failure() {
    let server = Server::start().await;
    let admin = server.admin();
    let nothing = uuid::Uuid::now_v7().to_string();
    let before = admin.post_text("/api/catalog/", r#"{"getSystems":{},"createSystem":{"name":"a"}}"#).await;
    assert_eq!(before.body["getSystems"], json!([]));
    let after = admin.post_text("/api/catalog/", r#"{"createSystem":{"name":"b"},"getSystems":{}}"#).await;
    assert_eq!(after.body["getSystems"].as_array().unwrap().len(), 2);
    let body =
        format!(r#"{{"createGroup":{{"name":"g"}},"deleteSystem":"{nothing}","createSystem":{{"name":"never"}}}}"#);
    let answer = admin.post_text("/api/catalog/", &body).await;
    assert_eq!(answer.status, 404);
    assert_eq!(count(&admin).await, 2, "what stands behind a failure does not run");
    assert_eq!(
        admin.call("catalog.getGroups", json!({})).await.as_array().unwrap().len(),
        1,
        "what stands before does"
    );
}

#[tokio::test]
async fn rule_6_results_stand_under_their_names_in_the_order_written() {
    let server = Server::start().await;
    let admin = server.admin();
    for names in [["getViews", "getSystems", "getGroups"], ["getGroups", "getViews", "getSystems"]] {
        let body: Vec<_> = names.iter().map(|name| format!("\"{name}\":{{}}")).collect();
        let answer = admin.post_text("/api/catalog/", &format!("{{{}}}", body.join(","))).await;
        let expected: Vec<_> = names.iter().map(|name| format!("\"{name}\":[]")).collect();
        assert_eq!((answer.status, answer.text), (200, format!("{{{}}}", expected.join(","))));
    }
    let alias = admin.post("/api/auth", &json!({"accessRules": {}})).await;
    assert_eq!(
        alias.text, r#"{"accessRules":{"permissions":["*"]}}"#,
        "an alias answers under the name that was asked"
    );
}

#[tokio::test]
async fn rule_7_one_failed_call_answers_with_its_error_alone() {
    let server = Server::start().await;
    let id = uuid::Uuid::now_v7();
    let answer = server.admin().json("catalog.getSystem", json!({"systemId": id.to_string()})).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.text, format!(r#"{{"code":"NOT_FOUND","message":"System not found: {id}"}}"#));
    let answer = server.admin().json("catalog.createSystem", json!({"nme": 1})).await;
    let issues = json!([{"path": ["nme"], "message": "Unknown field"}, {"path": ["name"], "message": "Required"}]);
    let message = "Input validation failed: nme: Unknown field; name: Required";
    assert_eq!(answer.body, json!({"code": "BAD_REQUEST", "message": message, "data": {"issues": issues}}));
}

#[tokio::test]
async fn rule_8_a_failure_among_several_says_what_succeeded() {
    let server = Server::start().await;
    let id = uuid::Uuid::now_v7();
    let body = format!(
        r#"{{"getGroups":{{}},"getSystem":{{"systemId":"{id}"}},"getView":{{"viewId":"{id}"}},"getViews":{{}}}}"#
    );
    let answer = server.admin().post_text("/api/catalog/", &body).await;
    answer.refused(404, "NOT_FOUND", &format!("System not found: {id}"));
    let not_found = |what: &str| json!({"code": "NOT_FOUND", "message": format!("{what} not found: {id}")});
    let data = json!({
        "procedure": "getSystem",
        "results": {"getGroups": [], "getViews": []},
        "errors": {"getSystem": not_found("System"), "getView": not_found("View")},
    });
    assert_eq!(answer.body["data"], data);
}

#[tokio::test]
async fn rule_9_who_prefers_it_gets_207_with_the_failures_apart() {
    let server = Server::start().await;
    let reader = server.reader().await;
    let send = async |body: &str, prefer: &str| {
        let request = reader.request("POST", "/api/catalog/").header("content-type", "application/json");
        Answer::of(request.header("prefer", prefer).body(body.to_owned()).send().await.unwrap()).await
    };
    let mixed = r#"{"getSystems":{},"createSystem":{"name":"x"},"nope":{},"listViews":{"pageSize":0}}"#;
    let answer = send(mixed, "respond-async, handling=lenient").await;
    assert_eq!((answer.status, answer.header("preference-applied")), (207, "handling=lenient"));
    assert_eq!(answer.body["getSystems"], json!([]));
    let errors = answer.body["$errors"].as_object().unwrap();
    let codes: Vec<_> = errors.iter().map(|(name, error)| (name.as_str(), error["code"].as_str().unwrap())).collect();
    assert_eq!(codes, [("createSystem", "FORBIDDEN"), ("listViews", "BAD_REQUEST"), ("nope", "NOT_FOUND")]);
    assert_eq!(answer.body.as_object().unwrap().len(), 2, "{}", answer.text);

    let good = send(r#"{"getSystems":{}}"#, "handling=lenient").await;
    assert_eq!((good.status, good.text.as_str()), (200, r#"{"getSystems":[]}"#));
    let strict = send(mixed, "handling=strict").await;
    assert_eq!(strict.status, 403);
    let empty = send("{}", "handling=lenient").await;
    assert_eq!(empty.status, 400, "what is wrong with the whole stays so");
    let stranger = Caller { key: Some("ck_x".into()), ..reader.clone() };
    let request = stranger.request("POST", "/api/catalog/").header("prefer", "handling=lenient");
    assert_eq!(request.body("{}").send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn rule_9_mutations_stop_at_a_failure_and_go_on_after_a_refusal() {
    let server = Server::start().await;
    let admin = server.admin();
    let nothing = uuid::Uuid::now_v7();
    let send = async |body: String| {
        let request = admin.request("POST", "/api/catalog/").header("content-type", "application/json");
        Answer::of(request.header("prefer", "handling=lenient").body(body).send().await.unwrap()).await
    };
    let refused = send(r#"{"createGroup":{},"createSystem":{"name":"a"}}"#.into()).await;
    assert_eq!((refused.status, refused.body["createSystem"]["name"].as_str()), (207, Some("a")));
    let failed = send(format!(r#"{{"deleteSystem":"{nothing}","createSystem":{{"name":"b"}}}}"#)).await;
    assert_eq!(failed.status, 207);
    assert!(failed.body.get("createSystem").is_none(), "what never ran stands nowhere: {}", failed.text);
    assert_eq!(count(&admin).await, 1);
}

#[tokio::test]
async fn rule_10_one_deadline_holds_for_the_whole_batch() {
    let server = Server::start().await;
    let admin = server.admin();
    for (name, value) in [("x-timeout-ms", "0"), ("grpc-timeout", "1n")] {
        let request = admin.request("POST", "/api/catalog/").header("content-type", "application/json");
        let body = r#"{"getSystems":{},"getGroups":{}}"#;
        let answer = Answer::of(request.header(name, value).body(body).send().await.unwrap()).await;
        answer.refused(504, "GATEWAY_TIMEOUT", "Deadline exceeded");
    }
    for (name, value) in [("x-timeout-ms", "soon"), ("grpc-timeout", "5")] {
        let request = admin.request("POST", "/api/catalog/").header("content-type", "application/json");
        let answer = Answer::of(request.header(name, value).body(r#"{"getSystems":{}}"#).send().await.unwrap()).await;
        answer.refused(400, "BAD_REQUEST", &format!("Malformed {name}"));
    }
}

#[tokio::test]
async fn inputs_may_be_absent_null_or_empty() {
    let server = Server::start().await;
    let admin = server.admin();
    for input in [json!(null), json!({})] {
        assert_eq!(admin.call("catalog.getSystems", input).await, json!([]));
    }
    let answer = admin.json("catalog.getSystems", json!("x")).await;
    answer.refused(400, "BAD_REQUEST", "Input validation failed: Expected an object, got a string");
}
