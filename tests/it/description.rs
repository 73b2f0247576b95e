//! What the server says about itself: OpenAPI, the descriptions of plugins, reflection, health, and who may read them.

use crate::dynamic::{methods, procedure};
use crate::samples::Fixture;
use crate::server::{Caller, Server};
use crate::wire::{self, SERVING};
use checkmate::contract::method_named;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tonic::{Code, Status};
use tonic_reflection::pb::{v1, v1alpha};

const OPEN_API: &str = "/api/openapi.json";
const PLUGINS: [&str; 5] = ["auth", "catalog", "healthcheck", "incident", "maintenance"];

/// Checks a value against a schema; keys that it does not know are refused.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["anyOf"].as_array() {
        let whys: Vec<_> = choices.iter().filter_map(|choice| fits(document, choice, value).err()).collect();
        return if whys.len() < choices.len() { Ok(()) } else { Err(whys.join(" and ")) };
    }
    let kinds = match &schema["type"] {
        Value::Null => return Ok(()),
        Value::Array(kinds) => kinds.clone(),
        Value::String(_) => vec![schema["type"].clone()],
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => panic!("a type is a text: {schema}"),
    };
    if !kinds.iter().any(|kind| is_of(kind.as_str().unwrap(), value)) {
        return Err(format!("{value} is not {kinds:?}"));
    }
    if let Some(choices) = schema["enum"].as_array()
        && !value.is_null()
        && !choices.contains(value)
    {
        return Err(format!("{value} is none of {choices:?}"));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], item)?;
    }
    let Some(entries) = value.as_object() else { return Ok(()) };
    for key in schema["required"].as_array().into_iter().flatten() {
        entries.get(key.as_str().unwrap()).ok_or_else(|| format!("{key} is missing"))?;
    }
    if schema["additionalProperties"] == true {
        return Ok(());
    }
    for (key, value) in entries {
        let others = Some(&schema["additionalProperties"]).filter(|others| others.is_object());
        let property = schema["properties"].get(key).or(others).ok_or_else(|| format!("{key} is not known"))?;
        fits(document, property, value).map_err(|why| format!("{key}: {why}"))?;
    }
    Ok(())
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64(),
        other => panic!("{other} is no type of JSON Schema"),
    }
}

fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    let Some(reference) = schema.get("$ref") else { return schema };
    let reference = reference.as_str().unwrap();
    document.pointer(reference.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

/// Every value below one, itself included.
fn below<'v>(value: &'v Value, visit: &mut dyn FnMut(&'v Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| below(item, visit)),
        Value::Object(entries) => entries.values().for_each(|item| below(item, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn the_openapi_document_is_whole() {
    let server = Server::start().await;
    let document = server.anonymous().get(OPEN_API).await.body;

    assert_eq!((&document["openapi"], &document["info"]["title"]), (&json!("3.1.0"), &json!("Checkmate")));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    below(&document, &mut |value| assert!(!resolved(&document, value).is_null() || value.is_null()));
    let mut ids = BTreeSet::new();
    let operations = document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        assert!(path.starts_with('/'));
        item.as_object().unwrap()
    });
    for (method, operation) in operations {
        assert!(["get", "post"].contains(&method.as_str()));
        for response in operation["responses"].as_object().unwrap().values() {
            assert!(response["description"].is_string(), "{operation}");
        }
        if let Some(id) = operation.get("operationId") {
            assert!(ids.insert(id.to_string()), "{id} twice");
        }
    }
    for scheme in document["security"][0].as_object().unwrap().keys() {
        assert!(document["components"]["securitySchemes"][scheme].is_object(), "{scheme}");
    }
}

#[tokio::test]
async fn the_openapi_document_covers_every_method() {
    let server = Server::start().await;
    let document = server.anonymous().get(OPEN_API).await.body;
    let mut expected: BTreeSet<_> = ["/api/openapi.json", "/healthz", "/readyz", "/metrics"].map(str::to_owned).into();
    for name in methods().map(|method| procedure(&method)) {
        let (plugin, name) = name.split_once('.').unwrap();
        expected.extend([format!("/api/{plugin}/"), format!("/api/{plugin}/{name}")]);
        let batch = &document["paths"][format!("/api/{plugin}/")]["post"];
        let properties = &batch["requestBody"]["content"]["application/json"]["schema"]["properties"];
        let streams = method_named(plugin, name).unwrap().streams;
        assert_eq!(properties[name].is_object(), !streams, "what does not stream is in a batch: {name}");
    }
    let paths: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn inputs_and_results_have_the_shape_that_is_published() {
    let server = Server::start().await;
    let (fixture, admin) = (Fixture::of_things(&server).await, server.admin());
    let document = admin.get(OPEN_API).await.body;
    for name in methods().map(|method| procedure(&method)) {
        let (plugin, short) = name.split_once('.').unwrap();
        let input = fixture.sample(&name);
        let answer = admin.json(&name, input.clone()).await;
        let published = &document["paths"][format!("/api/{plugin}/{short}")]["post"];
        let json = |part: &'static str| &published.pointer(part).unwrap()["content"]["application/json"]["schema"];
        fits(&document, json("/requestBody"), &input).unwrap_or_else(|why| panic!("the input of {name}: {why}"));
        if answer.status == 200 {
            let result = &answer.body[short];
            let contract = method_named(plugin, short).unwrap();
            let schema = if contract.streams {
                &published["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]
            } else {
                json("/responses/200")
            };
            fits(&document, schema, result).unwrap_or_else(|why| panic!("the result of {name}: {why}"));
            let alone: Value = serde_json::from_str(contract.output_schema).unwrap();
            fits(&json!({}), &alone, result).unwrap_or_else(|why| panic!("the result of {name}, alone: {why}"));
        }
    }
}

#[tokio::test]
async fn a_plugin_describes_every_procedure() {
    let server = Server::start().await;
    let mut found = BTreeSet::new();
    for plugin in PLUGINS {
        let description = server.anonymous().get(&format!("/api/{plugin}/")).await.body;
        assert_eq!(description, server.anonymous().get(&format!("/api/{plugin}")).await.body);
        assert_eq!(description["plugin"], plugin);
        for one in description["procedures"].as_array().unwrap() {
            let name = one["name"].as_str().unwrap();
            let contract = method_named(plugin, name).unwrap();
            assert_eq!(one["permissions"], json!(contract.permissions), "{name}");
            let kind = match (contract.streams, contract.query) {
                (true, _) => "stream",
                (false, true) => "query",
                (false, false) => "mutation",
            };
            assert_eq!(one["kind"], kind, "{name}");
            let sample = Fixture::of_nothing().sample(&format!("{plugin}.{name}"));
            fits(&json!({}), &one["input"], &sample).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(one["output"].is_object() && !one["description"].as_str().unwrap().is_empty(), "{name}");
            found.insert(format!("{plugin}.{name}"));
        }
    }
    assert_eq!(found, methods().map(|method| procedure(&method)).collect());
}

#[tokio::test]
async fn may_call_says_what_happens_on_calling() {
    let server = Server::start().await;
    let fixture = Fixture::of_nothing();
    for caller in [server.admin(), server.reader().await, server.anonymous()] {
        for plugin in PLUGINS {
            let description = caller.get(&format!("/api/{plugin}/")).await.body;
            for one in description["procedures"].as_array().unwrap() {
                let name = format!("{plugin}.{}", one["name"].as_str().unwrap());
                if method_named(plugin, one["name"].as_str().unwrap()).unwrap().open {
                    assert_eq!(one["mayCall"], true, "{name}: it depends on what it is given, not on who calls");
                    continue;
                }
                let status = caller.json(&name, fixture.sample(&name)).await.status;
                assert_eq!(one["mayCall"], ![401, 403].contains(&status), "{name}: {status}");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_plugin_describes_nothing() {
    let server = Server::start().await;
    server.anonymous().get("/api/nope/").await.refused(404, "NOT_FOUND", "Plugin not found: nope");
}

/// The services that reflection v1 lists.
async fn listed(caller: &Caller) -> Result<BTreeSet<String>, Status> {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let question = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = wire::with_key(caller, futures_util::stream::iter([question]));
    let channel = wire::channel(&caller.url).await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel);
    let answer = client.server_reflection_info(stream).await?.into_inner().message().await?.unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    Ok(list.service.into_iter().map(|service| service.name).collect())
}

/// The services that reflection v1alpha lists.
async fn listed_by_alpha(caller: &Caller) -> Result<BTreeSet<String>, Status> {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let question = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = wire::with_key(caller, futures_util::stream::iter([question]));
    let channel = wire::channel(&caller.url).await;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let answer = client.server_reflection_info(stream).await?.into_inner().message().await?.unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    Ok(list.service.into_iter().map(|service| service.name).collect())
}

fn services() -> BTreeSet<String> {
    methods().map(|method| method.parent_service().full_name().to_owned()).collect()
}

#[tokio::test]
async fn reflection_lists_what_is_served() {
    let server = Server::start().await;
    let mut expected = services();
    expected.extend(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"].map(str::to_owned));
    expected.insert("grpc.reflection.v1alpha.ServerReflection".into());
    assert_eq!(listed(&server.anonymous()).await.unwrap(), expected);
    assert_eq!(listed_by_alpha(&server.anonymous()).await.unwrap(), expected);
}

#[tokio::test]
async fn every_service_is_healthy_by_name() {
    let server = Server::start_with(|config| config.private_contract = true).await;
    let mut health = wire::health(&server).await;
    for service in services().into_iter().chain([String::new()]) {
        let answer = health.check(wire::health_request(&service)).await.unwrap();
        assert_eq!(answer.into_inner().status, SERVING, "{service:?}");
    }
    let unknown = health.check(wire::health_request("nope.Nope")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

/// Who may read the contract: by HTTP status over JSON, by code over gRPC.
async fn reads(caller: &Caller, status: u16, code: Code) {
    for path in [OPEN_API, "/api/catalog/", "/api/auth"] {
        assert_eq!(caller.get(path).await.status, status, "{path}");
    }
    for listed in [listed(caller).await, listed_by_alpha(caller).await] {
        assert_eq!(listed.map_or_else(|status| status.code(), |_| Code::Ok), code);
    }
}

#[tokio::test]
async fn an_open_contract_is_for_everybody_but_bad_keys() {
    let server = Server::start().await;
    reads(&server.anonymous(), 200, Code::Ok).await;
    reads(&server.reader().await, 200, Code::Ok).await;
    reads(&server.with_key(Some("ck_nonsense")), 401, Code::Unauthenticated).await;
}

#[tokio::test]
async fn a_private_contract_takes_a_key_any_key() {
    let server = Server::start_with(|config| config.private_contract = true).await;
    reads(&server.anonymous(), 401, Code::Unauthenticated).await;
    reads(&server.application(&[]).await, 200, Code::Ok).await;
    reads(&server.with_key(Some("ck_nonsense")), 401, Code::Unauthenticated).await;
    server.anonymous().get(OPEN_API).await.refused(401, "UNAUTHORIZED", "Authentication required");
}
