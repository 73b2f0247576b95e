//! Every procedure × role × protocol, walked from the descriptors: a new procedure cannot escape.

use crate::dynamic::{methods, procedure};
use crate::samples::Fixture;
use crate::server::{Caller, Server};
use checkmate::contract::method_named;
use serde_json::json;
use std::fmt::Write;
use tonic::Code;

/// The word for what became of a call.
async fn outcome(caller: &Caller, procedure: &str, fixture: &Fixture) -> &'static str {
    let sample = fixture.sample(procedure);
    let json = match caller.json(procedure, sample.clone()).await {
        answer if answer.status == 401 => "401",
        answer if answer.status == 403 => "403",
        answer if answer.status == 200 || answer.status == 404 => "yes",
        // What it refers to does not exist.
        answer if answer.status == 400 && answer.text.contains("not found") => "yes",
        answer => panic!("{procedure}: {}", answer.text),
    };
    let (plugin, name) = procedure.split_once('.').unwrap();
    if method_named(plugin, name).unwrap().query {
        let input: String = form_urlencoded::byte_serialize(sample.to_string().as_bytes()).collect();
        let got = caller.get(&format!("/api/{plugin}/{name}?input={input}")).await;
        let word = match got.status {
            401 => "401",
            403 => "403",
            _ => "yes",
        };
        assert_eq!(word, json, "{procedure}: GET lets the same callers in");
    }
    let grpc = match caller.grpc(procedure, &sample).await {
        Ok(_) => "yes",
        Err(status) if status.code() == Code::NotFound => "yes",
        Err(status) if status.code() == Code::InvalidArgument && status.message().contains("not found") => "yes",
        Err(status) if status.code() == Code::Unauthenticated => "401",
        Err(status) if status.code() == Code::PermissionDenied => "403",
        Err(status) => panic!("{procedure}: {status}"),
    };
    assert_eq!(json, grpc, "{procedure}: both protocols let the same callers in");
    json
}

#[tokio::test]
async fn every_procedure_lets_exactly_its_callers_in() {
    let server = Server::start().await;
    let manager = server.allowed(&["auth.*"]).await;
    let (none, reader, operator) =
        (server.application(&[]).await, server.application(&["reader"]).await, server.application(&["operator"]).await);
    let wrong = server.with_key(Some(&format!("{}x", &none.key.as_ref().unwrap()[..88])));
    let open = Server::start().await;
    open.admin().call("auth.updateRole", json!({"id": "anonymous", "permissions": ["catalog.catalog.read"]})).await;
    let callers = [
        ("wrong key", wrong),
        ("no key", server.anonymous()),
        ("no key, anonymous reads", open.anonymous()),
        ("applications", none),
        ("reader", reader),
        ("operator", operator),
        ("auth.*", manager),
        ("admin", server.admin()),
    ];
    let fixture = Fixture::of_nothing();
    let mut table = String::new();
    for method in methods() {
        let name = procedure(&method);
        write!(table, "{name:<36}").unwrap();
        for (role, caller) in &callers {
            write!(table, " {role}={}", outcome(caller, &name, &fixture).await).unwrap();
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}
