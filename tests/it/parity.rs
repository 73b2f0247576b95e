//! Every sample through every dialect gives the same value or the same error.

use crate::dynamic::{methods, procedure};
use crate::samples::Fixture;
use crate::server::{Answer, Caller, Server};
use checkmate::contract::method_named;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dialect {
    Batch,
    BatchOfTwo,
    Plain,
    Envelope,
    Get,
    Alias,
    Grpc,
}

const DIALECTS: [Dialect; 7] = [
    Dialect::Batch,
    Dialect::BatchOfTwo,
    Dialect::Plain,
    Dialect::Envelope,
    Dialect::Get,
    Dialect::Alias,
    Dialect::Grpc,
];

/// A result, or an error's JSON code and message.
type Outcome = Result<Value, (String, String)>;

fn of(answer: &Answer, result: impl FnOnce(&Value) -> Value) -> Outcome {
    let text = |key: &str| answer.body[key].as_str().unwrap_or_default().to_owned();
    if answer.status == 200 { Ok(result(&answer.body)) } else { Err((text("code"), text("message"))) }
}

async fn call(dialect: Dialect, caller: &Caller, procedure: &str, input: &Value) -> Outcome {
    let (plugin, name) = procedure.split_once('.').unwrap();
    let single = format!("/api/{plugin}/{name}");
    match dialect {
        Dialect::Batch => of(&caller.json(procedure, input.clone()).await, |body| body[name].clone()),
        Dialect::BatchOfTwo => {
            let other = match plugin {
                "auth" => "whoAmI",
                "catalog" => "getViews",
                "healthcheck" => "getHealthChecks",
                "incident" => "getIncidents",
                "maintenance" => "getWindows",
                other => panic!("no query of {other}"),
            };
            if name == other || method_named(plugin, name).unwrap().streams {
                return of(&caller.json(procedure, input.clone()).await, |body| body[name].clone());
            }
            let body = json!({name: input, other: {}});
            of(&caller.post(&format!("/api/{plugin}"), &body).await, |body| body[name].clone())
        }
        Dialect::Plain if *input == json!({}) => of(&caller.post(&single, &json!(null)).await, Value::clone),
        Dialect::Plain => of(&caller.post(&single, input).await, Value::clone),
        Dialect::Envelope => {
            of(&caller.post(&format!("{single}/"), &json!({"json": input, "meta": []})).await, |body| {
                // The messages of a stream come in no envelope.
                if method_named(plugin, name).unwrap().streams { body.clone() } else { body["json"].clone() }
            })
        }
        Dialect::Get if method_named(plugin, name).unwrap().query => {
            let input: String = form_urlencoded::byte_serialize(input.to_string().as_bytes()).collect();
            of(&caller.get(&format!("{single}?input={input}")).await, Value::clone)
        }
        // A mutation has no such form.
        Dialect::Get => of(&caller.post(&single, &json!({"json": input})).await, |body| body["json"].clone()),
        Dialect::Alias => {
            let name = method_named(plugin, name).unwrap().aliases.first().copied().unwrap_or(name);
            of(&caller.json(&format!("{plugin}.{name}"), input.clone()).await, |body| body[name].clone())
        }
        Dialect::Grpc => caller.grpc(procedure, input).await.map_err(|status| {
            let error = checkmate::error::Error::from_status(&status);
            (error.row().json.to_owned(), status.message().to_owned())
        }),
    }
}

/// Ids, times, keys and tokens differ between two servers; numbers are the same whether `1` or `1.0`.
pub fn comparable(value: &Value) -> Value {
    match value {
        Value::String(text) if uuid::Uuid::try_parse(text).is_ok() => "<id>".into(),
        Value::String(text) if text.starts_with("ck_") && text.len() == 89 => "<key>".into(),
        Value::String(text) if text.starts_with("hb_") && text.len() == 46 => "<key>".into(),
        Value::String(text) if text.len() > 60 && !text.contains(' ') => "<token>".into(),
        Value::Array(items) => items.iter().map(comparable).collect(),
        Value::Object(entries) => {
            let key = |key: &String| comparable(&key.as_str().into()).as_str().unwrap().to_owned();
            // How long a look took is another each time.
            let is_measured = |name: &str| name.ends_with("atencyMs") || name == "connectionTimeMs";
            let shown = |name: &str, value: &Value| if is_measured(name) { "<ms>".into() } else { comparable(value) };
            entries.iter().map(|(name, value)| (key(name), shown(name, value))).collect()
        }
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

#[tokio::test]
async fn every_dialect_gives_the_same_results() {
    let mut seen: BTreeMap<String, Vec<(Dialect, Outcome)>> = BTreeMap::new();
    for dialect in DIALECTS {
        let server = Server::start().await;
        let (fixture, admin) = (Fixture::of_things(&server).await, server.admin());
        for method in methods() {
            let name = procedure(&method);
            let outcome = call(dialect, &admin, &name, &fixture.sample(&name)).await.map(|value| comparable(&value));
            seen.entry(name).or_default().push((dialect, outcome));
        }
    }
    for (procedure, outcomes) in seen {
        let (_, first) = &outcomes[0];
        let (plugin, name) = procedure.split_once('.').unwrap();
        assert!(first.is_ok() || method_named(plugin, name).unwrap().service_only, "{procedure}: {first:?}");
        for (dialect, outcome) in &outcomes {
            assert_eq!(first, outcome, "{procedure} through {dialect:?}");
        }
    }
}

#[tokio::test]
async fn every_dialect_gives_the_same_errors() {
    let server = Server::start().await;
    let nothing = uuid::Uuid::now_v7().to_string();
    let (admin, reader, anonymous) = (server.admin(), server.reader().await, server.anonymous());
    let cases: Vec<(&Caller, &str, Value)> = vec![
        (&anonymous, "catalog.getSystems", json!({})),
        (&reader, "catalog.createSystem", json!({"name": "x"})),
        (&reader, "auth.getApplications", json!({})),
        (&admin, "catalog.getSystem", json!({"systemId": nothing})),
        (&admin, "catalog.getSystem", json!({"systemId": "nonsense"})),
        (&admin, "catalog.createSystem", json!({"name": "  "})),
        (&admin, "catalog.createSystem", json!({"name": "x".repeat(201)})),
        (&admin, "catalog.createSystem", json!({"name": "a\u{0}b"})),
        (&admin, "catalog.createSystem", json!({"name": "x", "metadata": {"a": "\u{0}"}})),
        (&admin, "catalog.createSystem", json!({"name": "x", "metadata": {"a": "x".repeat(17_000)}})),
        (&admin, "catalog.updateSystem", json!({"id": nothing, "data": {"name": ""}})),
        (&admin, "catalog.updateSystem", json!({"id": nothing})),
        (&admin, "catalog.listSystems", json!({"pageSize": 0})),
        (&admin, "catalog.listSystems", json!({"pageSize": 1001, "groupId": "x"})),
        (&admin, "catalog.listSystems", json!({"pageToken": "AAAA"})),
        (&admin, "catalog.addSystemContact", json!({"systemId": nothing, "type": "user", "email": "a@b.co"})),
        (&admin, "catalog.addSystemContact", json!({"systemId": nothing, "type": "mailbox", "email": "nope"})),
        (&admin, "catalog.addSystemContact", json!({"systemId": nothing})),
        (&admin, "auth.createRole", json!({"name": "x", "permissions": ["catalog.catalog.read", "nope", "*.*"]})),
        (&admin, "auth.deleteRole", json!("admin")),
        (&admin, "auth.deleteApplication", json!(nothing)),
        (&admin, "auth.createApplication", json!({"name": "x", "roles": ["nope"]})),
        (&admin, "auth.createApplication", json!({"name": "x", "expiresAt": "2020-01-01T00:00:00Z"})),
    ];
    for (caller, procedure, input) in cases {
        let first = call(Dialect::Batch, caller, procedure, &input).await.unwrap_err();
        for dialect in DIALECTS {
            let outcome = call(dialect, caller, procedure, &input).await;
            assert_eq!(outcome.unwrap_err(), first, "{procedure} {input} through {dialect:?}");
        }
    }
}
