//! Roles, permissions, and the lists of both and of applications.

use crate::server::Server;
use serde_json::{Value, json};
use std::time::Duration;

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_roles_of_a_new_server_are_known() {
    let server = Server::start().await;
    let roles = server.admin().call("auth.getRoles", json!({})).await;
    let facts: Vec<_> = roles
        .as_array()
        .unwrap()
        .iter()
        .map(|role| json!([role["id"], role["isSystem"], role["isAssignable"], role["permissions"]]))
        .collect();
    assert_eq!(
        json!(facts),
        json!([
            ["admin", true, true, ["*"]],
            ["anonymous", true, false, []],
            ["applications", true, true, []],
            [
                "operator",
                false,
                true,
                [
                    "catalog.catalog.manage",
                    "catalog.catalog.read",
                    "healthcheck.healthcheck.details.read",
                    "healthcheck.healthcheck.manage",
                    "healthcheck.healthcheck.read",
                    "healthcheck.healthcheck.status.read",
                    "incident.incident.manage",
                    "incident.incident.read",
                    "maintenance.maintenance.manage",
                    "maintenance.maintenance.read",
                ]
            ],
            [
                "reader",
                false,
                true,
                [
                    "catalog.catalog.read",
                    "healthcheck.healthcheck.read",
                    "healthcheck.healthcheck.status.read",
                    "incident.incident.read",
                    "maintenance.maintenance.read",
                ]
            ],
            ["users", true, true, []],
        ])
    );
}

#[tokio::test]
async fn a_new_role_is_answered_whole() {
    let server = Server::start().await;
    let admin = server.admin();
    let input = json!({"name": " deployer ", "description": "d", "permissions": ["catalog.*", "catalog.*"]});
    let made = admin.call("auth.createRole", input).await;
    let expected = json!({
        "id": made["id"], "name": "deployer", "description": "d", "permissions": ["catalog.*"], "isSystem": false,
        "isAssignable": true, "createdAt": "2026-01-05T14:52:47.000Z", "updatedAt": "2026-01-05T14:52:47.000Z",
    });
    assert_eq!(made, expected);
    let roles = admin.call("auth.getRoles", json!({})).await;
    assert!(roles.as_array().unwrap().contains(&expected), "{roles}");
}

#[tokio::test]
async fn an_update_of_a_role_leaves_what_is_absent_and_clears_what_is_null() {
    let server = Server::start().await;
    let admin = server.admin();
    let full = json!({"name": "r", "description": "d", "permissions": ["catalog.catalog.read"]});
    for (change, field, value) in [
        (json!({}), "name", json!("r")),
        (json!({"name": "other"}), "name", json!("other")),
        (json!({"description": null}), "description", json!(null)),
        (json!({"permissions": []}), "permissions", json!([])),
        (json!({"accessRules": ["catalog.*"]}), "permissions", json!(["catalog.*"])),
    ] {
        let mut expected = admin.call("auth.createRole", full.clone()).await;
        server.clock.advance(Duration::from_secs(1));
        let mut input = change.clone();
        input["id"] = expected["id"].clone();
        expected[field] = value;
        expected["updatedAt"] = server.clock.in_future(Duration::ZERO).into();
        assert_eq!(admin.call("auth.updateRole", input).await, expected, "{change}");
    }
}

#[tokio::test]
async fn what_a_role_must_have_cannot_be_null() {
    let server = Server::start().await;
    for field in ["name", "permissions"] {
        let answer = server.admin().json("auth.updateRole", json!({"id": "reader", field: null})).await;
        answer.refused(400, "BAD_REQUEST", &format!("Input validation failed: {field}: Must not be null"));
    }
}

#[tokio::test]
async fn later_spellings_are_accepted_and_stored_as_ours() {
    let server = Server::start().await;
    for (key, given, kept) in [
        ("permissions", "catalog.system.read", "catalog.catalog.read"),
        ("accessRules", "catalog.group.read", "catalog.catalog.read"),
        ("accessRules", "catalog.view.read", "catalog.catalog.read"),
        ("accessRules", "catalog.system.manage", "catalog.catalog.manage"),
        ("accessRules", "auth.roles.create.manage", "auth.roles.create"),
        ("permissions", "auth.roles.update.manage", "auth.roles.update"),
        ("accessRules", "auth.roles.delete.manage", "auth.roles.delete"),
    ] {
        let made = server.admin().call("auth.createRole", json!({"name": "r", key: [given]})).await;
        assert_eq!(made["permissions"], json!([kept]), "{given} as {key}");
    }
}

#[tokio::test]
async fn permissions_under_both_names_at_once_are_refused() {
    let server = Server::start().await;
    let both = r#"{"createRole": {"name": "r", "permissions": [], "accessRules": ["*"]}}"#;
    let answer = server.admin().post_text("/api/auth/", both).await;
    let message = "Input validation failed: accessRules: Given twice: it is the same as permissions";
    answer.refused(400, "BAD_REQUEST", message);
}

#[tokio::test]
async fn every_unknown_permission_is_named() {
    let server = Server::start().await;
    let permissions = json!(["catalog.catalog.read", "catalog.nope.read", "*", "nope.*", "catalog.*.read", "**"]);
    for (procedure, id) in [("auth.createRole", None), ("auth.updateRole", Some("reader"))] {
        let mut input = json!({"name": "r", "permissions": permissions});
        if let Some(id) = id {
            input["id"] = id.into();
        }
        let answer = server.admin().json(procedure, input).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("BAD_REQUEST")), "{procedure}");
        let issues = json!([
            {"path": ["permissions", 1], "message": "Unknown permission: catalog.nope.read"},
            {"path": ["permissions", 3], "message": "Unknown permission: nope.*"},
            {"path": ["permissions", 4], "message": "Unknown permission: catalog.*.read"},
            {"path": ["permissions", 5], "message": "Unknown permission: **"},
        ]);
        assert_eq!(answer.body["data"]["issues"], issues, "{procedure}");
    }
}

#[tokio::test]
async fn wildcards_allow_what_they_cover_and_manage_is_not_read() {
    let server = Server::start().await;
    for (permission, read, manage, roles) in [
        ("*", 200, 200, 200),
        ("catalog.*", 200, 200, 403),
        ("auth.*", 403, 403, 200),
        ("catalog.catalog.read", 200, 403, 403),
        ("catalog.catalog.manage", 403, 200, 403),
        ("auth.roles.create", 403, 403, 403),
    ] {
        let caller = server.allowed(&[permission]).await;
        let mut seen = vec![];
        for (procedure, input) in [
            ("catalog.getSystems", json!({})),
            ("catalog.createSystem", json!({"name": "x"})),
            ("auth.getRoles", json!({})),
        ] {
            seen.push(caller.json(procedure, input).await.status);
        }
        assert_eq!(seen, [read, manage, roles], "{permission}");
    }
}

#[tokio::test]
async fn every_permission_is_listed_with_what_it_allows() {
    let server = Server::start().await;
    let admin = server.admin();
    let permissions = admin.call("auth.getPermissions", json!({})).await;
    let all = permissions.as_array().unwrap();
    assert!(all.is_sorted_by_key(|one| one["id"].as_str().unwrap()), "{permissions}");
    for one in all {
        assert_eq!(one.as_object().unwrap().keys().collect::<Vec<_>>(), ["description", "id"], "{one}");
        assert!(!one["description"].as_str().unwrap().is_empty(), "{one}");
        admin.call("auth.createRole", json!({"name": "r", "permissions": [one["id"]]})).await;
    }
    for id in ["auth.applications.manage", "auth.roles.read", "catalog.catalog.read", "catalog.catalog.manage"] {
        assert!(ids(all).contains(&id), "{id}");
    }
    assert_eq!(admin.call("auth.getAccessRules", json!({})).await, permissions);
}

#[tokio::test]
async fn callers_without_a_key_may_do_what_the_role_anonymous_says() {
    let server = Server::start().await;
    let open = async |status| {
        let answer = server.anonymous().json("catalog.getSystems", json!({})).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    };
    open(401).await;
    server.admin().call("auth.updateRole", json!({"id": "anonymous", "permissions": ["catalog.catalog.read"]})).await;
    open(200).await;
    let bad = server.with_key(Some("nonsense")).json("catalog.getSystems", json!({})).await;
    bad.refused(401, "UNAUTHORIZED", "Invalid API key");
    server.anonymous().json("auth.whoAmI", json!({})).await.refused(401, "UNAUTHORIZED", "Authentication required");
}

#[tokio::test]
async fn pages_of_whatever_size_make_up_the_whole_list() {
    let server = Server::start().await;
    let admin = server.admin();
    for number in 0..3 {
        admin.call("auth.createApplication", json!({"name": format!("a {number}")})).await;
        // Two at the same instant, the third later.
        admin.call("auth.createRole", json!({"name": format!("r {number}")})).await;
        if number > 0 {
            server.clock.advance(Duration::from_micros(1));
        }
    }
    for (get, list, key) in [
        ("auth.getApplications", "auth.listApplications", "applications"),
        ("auth.getRoles", "auth.listRoles", "roles"),
        ("auth.getPermissions", "auth.listPermissions", "permissions"),
    ] {
        let all = admin.call(get, json!({})).await;
        let all = all.as_array().unwrap();
        for size in 1..=all.len() + 1 {
            let pages = admin.pages(list, key, json!({"pageSize": size})).await;
            assert_eq!(&pages.concat(), all, "{list} by {size}");
            assert_eq!(pages.len(), all.len().div_ceil(size), "{list} by {size}: no page is empty");
        }
    }
}

#[tokio::test]
async fn applications_and_roles_are_listed_in_the_order_of_creation() {
    let server = Server::start().await;
    let admin = server.admin();
    let (mut applications, mut roles) = (vec![], vec![]);
    for name in ["z", "a", "m"] {
        server.clock.advance(Duration::from_millis(1));
        let made = admin.call("auth.createApplication", json!({"name": name})).await;
        applications.push(made["application"]["id"].clone());
        roles.push(admin.call("auth.createRole", json!({"name": name})).await["id"].clone());
    }
    for (procedure, made) in [("auth.getApplications", applications), ("auth.getRoles", roles)] {
        let all = admin.call(procedure, json!({})).await;
        let all: Vec<_> = all.as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
        assert!(all.ends_with(&made), "{procedure}: {all:?}");
    }
}

#[tokio::test]
async fn filters_leave_out_what_does_not_match() {
    let server = Server::start().await;
    let admin = server.admin();
    for (name, roles) in [("Über 50%", json!(["reader"])), ("uber_x", json!(["operator"])), ("ÜBER", json!([]))] {
        admin.call("auth.createApplication", json!({"name": name, "roles": roles})).await;
        admin.call("auth.createRole", json!({"name": name})).await;
    }
    for (filter, applications, roles) in [
        (json!({"nameContains": "üb"}), json!(["Über 50%", "ÜBER"]), Some(json!(["Über 50%", "ÜBER"]))),
        (json!({"nameContains": "%"}), json!(["Über 50%"]), Some(json!(["Über 50%"]))),
        (json!({"nameContains": "_"}), json!(["uber_x"]), Some(json!(["uber_x"]))),
        (json!({"nameContains": "BOOT"}), json!(["bootstrap"]), Some(json!([]))),
        (json!({"role": "reader"}), json!(["Über 50%"]), None),
        (json!({"role": "admin"}), json!(["bootstrap"]), None),
        (json!({"role": "nope"}), json!([]), None),
        (json!({"role": "applications", "nameContains": "u"}), json!(["uber_x"]), None),
    ] {
        let names = |page: Value, key: &str| -> Value {
            page[key].as_array().unwrap().iter().map(|row| row["name"].clone()).collect()
        };
        let found = admin.call("auth.listApplications", filter.clone()).await;
        assert_eq!(names(found, "applications"), applications, "{filter}");
        if let Some(roles) = roles {
            // Made at the same instant as the initial ones, they stand in any order.
            let found = names(admin.call("auth.listRoles", filter.clone()).await, "roles");
            assert_eq!(found, roles, "{filter}");
        }
    }
}

#[tokio::test]
async fn a_page_token_is_good_for_its_list_and_filters_only() {
    let server = Server::start().await;
    let admin = server.admin();
    let token = async |procedure: &str, input: Value| admin.call(procedure, input).await["nextPageToken"].clone();
    admin.call("auth.createApplication", json!({"name": "b"})).await;
    let applications = token("auth.listApplications", json!({"pageSize": 1})).await;
    let filtered = token("auth.listApplications", json!({"pageSize": 1, "nameContains": "b"})).await;
    let roles = token("auth.listRoles", json!({"pageSize": 1})).await;
    for (procedure, input) in [
        ("auth.listRoles", json!({"pageToken": applications})),
        ("auth.listPermissions", json!({"pageToken": roles})),
        ("auth.listApplications", json!({"pageToken": filtered})),
        ("auth.listApplications", json!({"pageToken": applications, "role": "admin"})),
        ("auth.listApplications", json!({"pageToken": "AAAA"})),
    ] {
        let answer = admin.json(procedure, input).await;
        let message = "Input validation failed: pageToken: Is not a page token of this list with these filters";
        answer.refused(400, "BAD_REQUEST", message);
    }
}
