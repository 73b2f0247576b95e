//! Systems, groups, views and contacts: what can be said about them, and what goes with what.

use crate::dynamic::{methods, procedure};
use crate::samples::Fixture;
use crate::server::{Caller, Server};
use serde_json::{Value, json};
use std::time::Duration;

/// What the catalog holds: the noun in procedures, and the key of its id.
const KINDS: [(&str, &str); 3] = [("System", "systemId"), ("Group", "groupId"), ("View", "viewId")];

async fn create(caller: &Caller, kind: &str, input: Value) -> Value {
    caller.call(&format!("catalog.create{kind}"), input).await
}

async fn get(caller: &Caller, kind: &str, id: &Value) -> Value {
    let key = format!("{}Id", kind.to_lowercase());
    caller.call(&format!("catalog.get{kind}"), json!({key: id})).await
}

async fn id(caller: &Caller, kind: &str, name: &str) -> String {
    create(caller, kind, json!({"name": name})).await["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_created_is_answered_whole_and_read_back() {
    let server = Server::start().await;
    let admin = server.admin();
    let now = "2026-01-05T14:52:47.000Z";
    for (kind, input, rest) in [
        (
            "System",
            json!({"name": " web\n"}),
            json!({"name": "web", "description": null, "owner": null, "metadata": {}}),
        ),
        (
            "System",
            json!({"name": "web", "description": "the front", "owner": "ops", "metadata": {"tier": 1}}),
            json!({"name": "web", "description": "the front", "owner": "ops", "metadata": {"tier": 1}}),
        ),
        ("Group", json!({"name": " all "}), json!({"name": "all", "systemIds": [], "metadata": {}})),
        (
            "Group",
            json!({"name": "all", "metadata": {"a": []}}),
            json!({"name": "all", "systemIds": [], "metadata": {"a": []}}),
        ),
        ("View", json!({"name": "wall"}), json!({"name": "wall", "description": null, "configuration": null})),
        (
            "View",
            json!({"name": "wall", "description": "d", "configuration": [1, {"a": null}]}),
            json!({"name": "wall", "description": "d", "configuration": [1, {"a": null}]}),
        ),
    ] {
        let made = create(&admin, kind, input.clone()).await;
        let mut expected = rest;
        expected["id"] = made["id"].clone();
        expected["createdAt"] = now.into();
        expected["updatedAt"] = now.into();
        assert_eq!(made, expected, "create{kind} {input}");
        assert_eq!(get(&admin, kind, &made["id"]).await, expected, "get{kind} {input}");
        let all = admin.call(&format!("catalog.get{kind}s"), json!({})).await;
        assert_eq!(all.as_array().unwrap().last(), Some(&expected), "get{kind}s {input}");
    }
}

#[tokio::test]
async fn names_are_trimmed_and_counted_in_characters() {
    let server = Server::start().await;
    let admin = server.admin();
    let emoji = "🦀".repeat(200);
    for (kind, _) in KINDS {
        let made = id(&admin, kind, "x").await;
        for over_update in [false, true] {
            let call = async |name: &str| {
                if over_update {
                    admin.json(&format!("catalog.update{kind}"), json!({"id": made, "data": {"name": name}})).await
                } else {
                    admin.json(&format!("catalog.create{kind}"), json!({"name": name})).await
                }
            };
            let result = if over_update { format!("update{kind}") } else { format!("create{kind}") };
            for (given, kept) in [("  é ", "é"), (&format!("\u{3000}{emoji}\u{3000}"), &emoji)] {
                assert_eq!(call(given).await.body[&result]["name"], kept, "{result}");
            }
            let field = if over_update { "data.name" } else { "name" };
            for (bad, why) in [
                ("", "Required"),
                (" \t ", "Required"),
                (&"🦀".repeat(201), "Must have at most 200 characters"),
                ("a\0b", "Must not contain the character NUL"),
            ] {
                let message = format!("Input validation failed: {field}: {why}");
                call(bad).await.refused(400, "BAD_REQUEST", &message);
            }
        }
    }
}

#[tokio::test]
async fn texts_and_free_json_have_exact_bounds() {
    let server = Server::start().await;
    let admin = server.admin();
    // {"a":"…"} is 8 bytes around the text; a text alone has 2.
    let object = |bytes: usize| json!({"a": "x".repeat(bytes - 8)});
    let text = |characters: usize| json!("ü".repeat(characters));
    for (kind, field, most, more) in [
        ("System", "metadata", object(16_384), object(16_385)),
        ("Group", "metadata", object(16_384), object(16_385)),
        ("System", "metadata", json!({"a": "ü".repeat(8_188)}), json!({"a": "ü".repeat(8_189)})),
        ("View", "configuration", json!("x".repeat(65_534)), json!("x".repeat(65_535))),
        ("System", "description", text(4_000), text(4_001)),
        ("System", "owner", text(200), text(201)),
        ("View", "description", text(4_000), text(4_001)),
    ] {
        let made = create(&admin, kind, json!({"name": "x", field: most})).await;
        assert_eq!(made[field], most, "create{kind} {field}");
        assert_eq!(get(&admin, kind, &made["id"]).await[field], most, "{kind} {field}");
        let update = json!({"id": made["id"], "data": {field: most}});
        assert_eq!(admin.call(&format!("catalog.update{kind}"), update).await[field], most, "update{kind} {field}");
        for (procedure, input) in [
            (format!("catalog.create{kind}"), json!({"name": "x", field: more})),
            (format!("catalog.update{kind}"), json!({"id": made["id"], "data": {field: more}})),
        ] {
            let json = admin.json(&procedure, input.clone()).await;
            assert_eq!((json.status, &json.body["code"]), (400, &json!("BAD_REQUEST")), "{procedure} {field}");
            let grpc = admin.grpc(&procedure, &input).await.unwrap_err();
            assert_eq!(grpc.code(), tonic::Code::InvalidArgument, "{procedure} {field}");
        }
    }
}

#[tokio::test]
async fn free_json_comes_back_as_it_was_sent() {
    let server = Server::start().await;
    let admin = server.admin();
    for (sent, back) in [
        (r#"{"n":1}"#, r#"{"n":1}"#),
        (r#"{"n":-3}"#, r#"{"n":-3}"#),
        (r#"{"n":0.5}"#, r#"{"n":0.5}"#),
        (r#"{"n":9007199254740992}"#, r#"{"n":9007199254740992}"#),
        (r#"{"a":[],"b":{},"c":null,"d":true,"e":""}"#, r#"{"a":[],"b":{},"c":null,"d":true,"e":""}"#),
        (r#"{"ключ":"\"\\\n\u0001🦀"}"#, r#"{"ключ":"\"\\\n\u0001🦀"}"#),
        (r#"{"":{"":[[1,2],[3]]}}"#, r#"{"":{"":[[1,2],[3]]}}"#),
    ] {
        let body = format!(r#"{{"createSystem":{{"name":"x","metadata":{sent}}}}}"#);
        let answer = admin.post_text("/api/catalog/", &body).await;
        assert!(answer.text.contains(&format!(r#""metadata":{back}"#)), "{sent}: {}", answer.text);
        let read = admin.json("catalog.getSystem", json!({"systemId": answer.body["createSystem"]["id"]})).await;
        assert!(read.text.contains(&format!(r#""metadata":{back}"#)), "{sent}: {}", read.text);
    }
    let mixed = json!({"z": 1, "a": {"y": [1.5, null], "b": "x"}, "m": false});
    assert_eq!(create(&admin, "System", json!({"name": "x", "metadata": mixed})).await["metadata"], mixed);
}

#[tokio::test]
async fn what_free_json_cannot_keep_is_refused() {
    let server = Server::start().await;
    for (metadata, why) in [
        (
            json!({"id": 9_007_199_254_740_993_i64}),
            "metadata.id: Whole numbers beyond 2^53 are not exact; send it as a string",
        ),
        (
            json!({"id": -9_007_199_254_740_993_i64}),
            "metadata.id: Whole numbers beyond 2^53 are not exact; send it as a string",
        ),
        (json!({"id": 1e20}), "metadata.id: Whole numbers beyond 2^53 are not exact; send it as a string"),
        (json!([]), "metadata: Expected an object, got an array"),
        (json!("x"), "metadata: Expected an object, got a string"),
        (json!({"a": ["b\0"]}), "metadata.a[0]: Must not contain the character NUL"),
    ] {
        let answer = server.admin().json("catalog.createSystem", json!({"name": "x", "metadata": metadata})).await;
        answer.refused(400, "BAD_REQUEST", &format!("Input validation failed: {why}"));
    }
    let status = server.admin().grpc("catalog.createSystem", &json!({"name": "x", "metadata": {"id": 1e20}})).await;
    assert_eq!(status.unwrap_err().code(), tonic::Code::InvalidArgument, "no more over gRPC");
}

#[tokio::test]
async fn free_json_nests_no_deeper_than_every_reader_can_follow() {
    let server = Server::start().await;
    let admin = server.admin();
    // Objects, the costliest to nest, and lists.
    let objects = |levels: usize| (1..levels).fold(json!({"a": 1}), |inner, _| json!({"a": inner}));
    let lists = |levels: usize| (1..levels).fold(json!([1]), |inner, _| json!([inner]));
    let made = id(&admin, "System", "x").await;
    let view = id(&admin, "View", "x").await;
    for (procedure, input, too_deep) in [
        (
            "catalog.createSystem",
            json!({"name": "x", "metadata": objects(32)}),
            json!({"name": "x", "metadata": objects(33)}),
        ),
        (
            "catalog.updateSystem",
            json!({"id": made, "data": {"metadata": objects(32)}}),
            json!({"id": made, "data": {"metadata": objects(33)}}),
        ),
        (
            "catalog.updateView",
            json!({"id": view, "data": {"configuration": lists(32)}}),
            json!({"id": view, "data": {"configuration": lists(33)}}),
        ),
    ] {
        admin.call(procedure, input.clone()).await;
        admin.grpc(procedure, &input).await.unwrap();
        let json = admin.json(procedure, too_deep.clone()).await;
        assert_eq!((json.status, &json.body["code"]), (400, &json!("BAD_REQUEST")), "{procedure}: {}", json.text);
        assert!(json.body["message"].as_str().unwrap().ends_with(": Nests too deeply"), "{procedure}: {}", json.text);
        let grpc = admin.grpc(procedure, &too_deep).await.unwrap_err();
        assert_eq!(
            (grpc.code(), grpc.message()),
            (tonic::Code::InvalidArgument, json.body["message"].as_str().unwrap())
        );
    }
    for list in ["catalog.getEntities", "catalog.getSystems", "catalog.getViews"] {
        admin.grpc(list, &json!({})).await.unwrap();
    }
}

#[tokio::test]
async fn an_update_leaves_what_is_absent_and_clears_what_is_null() {
    let server = Server::start().await;
    let admin = server.admin();
    let system = json!({"name": "x", "description": "d", "owner": "o", "metadata": {"a": 1}});
    let view = json!({"name": "x", "description": "d", "configuration": {"a": 1}});
    let group = json!({"name": "x", "metadata": {"a": 1}});
    for (kind, full, change) in [
        ("System", &system, json!({})),
        ("System", &system, json!({"name": "y"})),
        ("System", &system, json!({"description": null})),
        ("System", &system, json!({"owner": null, "description": "other"})),
        ("System", &system, json!({"metadata": null})),
        ("System", &system, json!({"metadata": {}})),
        ("Group", &group, json!({"name": "y"})),
        ("Group", &group, json!({"metadata": null})),
        ("Group", &group, json!({"metadata": {"b": [2]}})),
        ("View", &view, json!({"description": null})),
        ("View", &view, json!({"configuration": null})),
        ("View", &view, json!({"configuration": "x", "name": "y"})),
    ] {
        for over_grpc in [false, true] {
            let mut expected = create(&admin, kind, full.clone()).await;
            server.clock.advance(Duration::from_secs(1));
            let (procedure, input) = (format!("catalog.update{kind}"), json!({"id": expected["id"], "data": change}));
            let updated = if over_grpc {
                admin.grpc(&procedure, &input).await.unwrap()
            } else {
                admin.call(&procedure, input).await
            };
            for (field, value) in change.as_object().unwrap() {
                expected[field] = value.clone();
            }
            expected["updatedAt"] = server.clock.in_future(Duration::ZERO).into();
            // Protobuf has one kind of number.
            let comparable =
                |value: &Value| value.to_string().replace(".0,", ",").replace(".0]", "]").replace(".0}", "}");
            assert_eq!(comparable(&updated), comparable(&expected), "{kind} {change} over gRPC: {over_grpc}");
            assert_eq!(get(&admin, kind, &expected["id"]).await, expected, "{kind} {change}");
        }
    }
}

#[tokio::test]
async fn a_name_cannot_be_cleared() {
    let server = Server::start().await;
    let admin = server.admin();
    for (kind, _) in KINDS {
        let input = json!({"id": id(&admin, kind, "x").await, "data": {"name": null}});
        let message = "Input validation failed: data.name: Must not be null";
        admin.json(&format!("catalog.update{kind}"), input).await.refused(400, "BAD_REQUEST", message);
    }
}

/// Every procedure of the catalog that takes an id, with its sample.
fn with_ids(fixture: &Fixture) -> Vec<(String, Value)> {
    let names = methods().map(|method| procedure(&method)).filter(|name| name.starts_with("catalog."));
    let samples = names.map(|name| (fixture.sample(&name), name)).map(|(sample, name)| (name, sample));
    let mine = samples.filter(|(name, sample)| name != "catalog.notifySystemSubscribers" && first_id(sample).is_some());
    mine.collect()
}

fn first_id(sample: &Value) -> Option<String> {
    match sample {
        Value::String(text) => Some(text.clone()).filter(|text| uuid::Uuid::try_parse(text).is_ok()),
        Value::Object(fields) => fields.values().find_map(first_id),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let server = Server::start().await;
    let admin = server.admin();
    let cases = with_ids(&Fixture::of_nothing());
    assert!(cases.len() >= 16, "{cases:?}");
    for (procedure, sample) in cases.into_iter().filter(|(name, _)| name != "catalog.listGroups") {
        let answer = admin.json(&procedure, sample.clone()).await;
        assert_eq!((answer.status, &answer.body["code"]), (404, &json!("NOT_FOUND")), "{procedure}: {}", answer.text);
        let grpc = admin.grpc(&procedure, &sample).await.unwrap_err();
        assert_eq!((grpc.code(), grpc.message()), (tonic::Code::NotFound, answer.body["message"].as_str().unwrap()));
    }
    for filter in [("listGroups", "systemId", "groups"), ("listSystems", "groupId", "systems")] {
        let (list, key, rows) = filter;
        let found = admin.call(&format!("catalog.{list}"), json!({key: uuid::Uuid::now_v7().to_string()})).await;
        assert_eq!(found, json!({rows: []}), "a filter that nothing matches");
    }
}

#[tokio::test]
async fn malformed_ids_are_refused_and_any_case_is_good() {
    let server = Server::start().await;
    let fixture = Fixture::of_things(&server).await;
    let admin = server.admin();
    for (procedure, sample) in with_ids(&fixture) {
        let id = first_id(&sample).unwrap();
        for bad in ["nonsense", "", &id.replace('-', ""), &format!("{id} "), &format!("{{{id}}}"), &format!("{id}0")] {
            let input: Value = serde_json::from_str(&sample.to_string().replace(&id, bad)).unwrap();
            let answer = admin.json(&procedure, input).await;
            assert_eq!((answer.status, &answer.body["code"]), (400, &json!("BAD_REQUEST")), "{procedure} {bad:?}");
        }
        let shouted = serde_json::from_str(&sample.to_string().replace(&id, &id.to_uppercase())).unwrap();
        assert_eq!(admin.json(&procedure, shouted).await.status, 200, "{procedure}");
    }
}

#[tokio::test]
async fn a_deletion_takes_an_id_or_an_object_and_happens_once() {
    let server = Server::start().await;
    let admin = server.admin();
    for (kind, key) in KINDS {
        for wrapped in [false, true] {
            let made = id(&admin, kind, "x").await;
            let input = if wrapped { json!({"id": made}) } else { json!(made) };
            let delete = format!("catalog.delete{kind}");
            assert_eq!(admin.call(&delete, input.clone()).await, json!({"success": true}), "{delete}");
            let gone = format!("{kind} not found: {made}");
            admin.json(&delete, input).await.refused(404, "NOT_FOUND", &gone);
            admin.json(&format!("catalog.get{kind}"), json!({key: made})).await.refused(404, "NOT_FOUND", &gone);
            assert_eq!(admin.call(&format!("catalog.get{kind}s"), json!({})).await, json!([]), "{kind}");
        }
    }
}

#[tokio::test]
async fn names_need_not_be_unique() {
    let server = Server::start().await;
    let admin = server.admin();
    for (kind, _) in KINDS {
        assert_ne!(id(&admin, kind, "x").await, id(&admin, kind, "x").await, "{kind}");
    }
}

#[tokio::test]
async fn updates_of_different_fields_at_once_both_count() {
    let server = Server::start().await;
    let admin = server.admin();
    let made = id(&admin, "System", "x").await;
    for round in 0..10 {
        let data = |field: &str| json!({"id": made, "data": {field: format!("{field} {round}")}});
        let change = async |field: &str| admin.call("catalog.updateSystem", data(field)).await;
        tokio::join!(change("name"), change("description"), change("owner"));
        let read = get(&admin, "System", &json!(made)).await;
        for field in ["name", "description", "owner"] {
            assert_eq!(read[field], format!("{field} {round}"));
        }
    }
}
