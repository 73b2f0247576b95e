//! Page tokens that were not issued: for this list, these filters, by this instance.

use super::wire::Http;
use super::{Row, hold_on, http, target};
use crate::server::{Caller, Server};
use serde_json::{Value, json};

const REFUSAL: &str = "pageToken: Is not a page token of this list with these filters";

/// A list of which there is a second page, and its token.
async fn issue(admin: &Caller, list: &str, filters: Value) -> String {
    let mut input = filters;
    input["pageSize"] = 1.into();
    admin.call(list, input).await["nextPageToken"].as_str().expect("there is a second page").to_owned()
}

async fn with_rows(server: &Server) -> Caller {
    let admin = server.admin();
    for name in ["web a", "web b", "web c"] {
        admin.call("catalog.createSystem", json!({"name": name, "owner": "ops"})).await;
        admin.call("catalog.createView", json!({"name": name})).await;
        admin.call("catalog.createGroup", json!({"name": name})).await;
    }
    admin
}

fn ask(list: &str, input: &Value) -> Http {
    let (plugin, name) = list.split_once('.').unwrap();
    Http::post(&format!("/api/{plugin}/"), json!({name: input}).to_string())
}

fn refused(name: String, list: &str, input: &Value) -> Row {
    http(name, ask(list, input), 400, REFUSAL)
}

#[tokio::test]
async fn a_page_token_is_good_as_issued_and_in_no_other_form() {
    let server = target().await;
    let admin = with_rows(&server).await;
    let token = issue(&admin, "catalog.listSystems", json!({})).await;
    let with = |token: &str| json!({"pageToken": token});
    let mut rows = vec![http("as issued", ask("catalog.listSystems", &with(&token)), 200, "web b")];
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let turned = String::from_utf8(bytes).unwrap();
            rows.push(refused(format!("bit {bit} of {at}"), "catalog.listSystems", &with(&turned)));
        }
        rows.push(refused(format!("cut at {at}"), "catalog.listSystems", &with(&token[..at])));
    }
    for (name, text) in [
        ("doubled", token.repeat(2)),
        ("padded", format!("{token}=")),
        ("padded twice", format!("{token}==")),
        ("a letter longer", format!("{token}A")),
        ("four letters longer", format!("{token}AAAA")),
        ("a blank before", format!(" {token}")),
        ("a blank behind", format!("{token} ")),
        ("a line feed behind", format!("{token}\n")),
        ("NUL behind", format!("{token}\0")),
        ("in capitals", token.to_uppercase()),
        ("in quotes", format!("\"{token}\"")),
        ("escaped", format!("%{token}")),
        ("reversed", token.chars().rev().collect()),
        ("an offset", "100".into()),
        ("an id", super::NOTHING.into()),
        ("a word", "next".into()),
        ("zeros", "A".repeat(token.len())),
        ("a seal alone", token[..22].into()),
        ("2,048 letters", "A".repeat(2_048)),
        ("1,000,000 letters", "A".repeat(1_000_000)),
    ] {
        rows.push(refused(name.into(), "catalog.listSystems", &with(&text)));
    }
    hold_on(&server, &rows).await;
}

#[tokio::test]
async fn a_page_token_is_good_for_its_list_and_its_filters_only() {
    let server = target().await;
    let admin = with_rows(&server).await;
    let filters = json!({"nameContains": "web", "owner": "ops"});
    let token = issue(&admin, "catalog.listSystems", filters.clone()).await;
    let mut rows = vec![];
    for (name, list, input) in [
        ("another list", "catalog.listViews", json!({"nameContains": "web"})),
        ("another list without filters", "catalog.listGroups", json!({})),
        ("a list of another plugin", "auth.listRoles", json!({"nameContains": "web"})),
        ("no filter", "catalog.listSystems", json!({})),
        ("a filter less", "catalog.listSystems", json!({"nameContains": "web"})),
        ("another filter", "catalog.listSystems", json!({"nameContains": "web", "owner": "dev"})),
        ("a filter in capitals", "catalog.listSystems", json!({"nameContains": "WEB", "owner": "ops"})),
        (
            "a filter more",
            "catalog.listSystems",
            json!({"nameContains": "web", "owner": "ops", "groupId": super::NOTHING}),
        ),
        ("filters that are exchanged", "catalog.listSystems", json!({"nameContains": "ops", "owner": "web"})),
    ] {
        let mut input = input;
        input["pageToken"] = token.clone().into();
        rows.push(refused(name.into(), list, &input));
    }
    let other = issue(&admin, "catalog.listViews", json!({})).await;
    rows.push(refused("a token of views".into(), "catalog.listSystems", &json!({"pageToken": other})));
    let stranger = Server::start_with(|config| config.instance_key = Some("cd".repeat(32).into())).await;
    let foreign = issue(&with_rows(&stranger).await, "catalog.listSystems", json!({})).await;
    rows.push(refused("a token of another instance".into(), "catalog.listSystems", &json!({"pageToken": foreign})));
    hold_on(&server, &rows).await;

    // Whose it is does not matter: it says where, and the key says who. Its page may have another size.
    let mut input = filters;
    input["pageToken"] = token.into();
    input["pageSize"] = 5.into();
    let reader = server.reader().await;
    let page = reader.call("catalog.listSystems", input).await;
    assert_eq!(page["systems"].as_array().unwrap().len(), 2);
    server.application(&[]).await.json("catalog.listSystems", json!({})).await.refused(
        403,
        "FORBIDDEN",
        "Missing permission: catalog.catalog.read",
    );
}
