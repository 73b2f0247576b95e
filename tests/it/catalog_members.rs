//! What belongs to a system: the groups it stands in, and whom to call about it.

use crate::server::{Caller, Server};
use serde_json::{Value, json};

async fn create(caller: &Caller, kind: &str, name: &str) -> String {
    let made = caller.call(&format!("catalog.create{kind}"), json!({"name": name})).await;
    made["id"].as_str().unwrap().to_owned()
}

async fn members(caller: &Caller, group: &str) -> Value {
    caller.call("catalog.getGroup", json!({"groupId": group})).await["systemIds"].take()
}

async fn join(caller: &Caller, group: &str, system: &str) {
    let done = caller.call("catalog.addSystemToGroup", json!({"groupId": group, "systemId": system})).await;
    assert_eq!(done, json!({"success": true}));
}

async fn contact(caller: &Caller, system: &str) -> String {
    let input = json!({"systemId": system, "type": "user", "userId": "u"});
    caller.call("catalog.addSystemContact", input).await["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_membership_begins_once_and_ends_once() {
    let server = Server::start().await;
    let admin = server.admin();
    let (group, first, second) =
        (create(&admin, "Group", "g").await, create(&admin, "System", "a").await, create(&admin, "System", "b").await);
    for (procedure, system, after) in [
        ("addSystemToGroup", &second, json!([second])),
        ("addSystemToGroup", &first, json!([first, second])),
        ("addSystemToGroup", &first, json!([first, second])),
        ("removeSystemFromGroup", &second, json!([first])),
        ("removeSystemFromGroup", &second, json!([first])),
        ("addSystemToGroup", &second, json!([first, second])),
    ] {
        let input = json!({"groupId": group, "systemId": system});
        assert_eq!(admin.call(&format!("catalog.{procedure}"), input).await, json!({"success": true}));
        assert_eq!(members(&admin, &group).await, after, "after {procedure}");
    }
}

#[tokio::test]
async fn every_answer_about_a_group_has_its_members() {
    let server = Server::start().await;
    let admin = server.admin();
    let (group, other) = (create(&admin, "Group", "g").await, create(&admin, "Group", "other").await);
    let systems = [create(&admin, "System", "a").await, create(&admin, "System", "b").await];
    for system in &systems {
        join(&admin, &group, system).await;
    }
    join(&admin, &other, &systems[1]).await;
    let updated = admin.call("catalog.updateGroup", json!({"id": group, "data": {"name": "renamed"}})).await;
    assert_eq!(updated["systemIds"], json!(systems));
    let both = json!([systems, [systems[1]]]);
    let of =
        |groups: &Value| -> Value { groups.as_array().unwrap().iter().map(|one| one["systemIds"].clone()).collect() };
    assert_eq!(of(&admin.call("catalog.getGroups", json!({})).await), both);
    assert_eq!(of(&admin.call("catalog.listGroups", json!({})).await["groups"]), both);
    assert_eq!(of(&admin.call("catalog.getEntities", json!({})).await["groups"]), both);
}

#[tokio::test]
async fn a_membership_needs_both_to_exist() {
    let server = Server::start().await;
    let admin = server.admin();
    let (group, system) = (create(&admin, "Group", "g").await, create(&admin, "System", "s").await);
    let nothing = uuid::Uuid::now_v7().to_string();
    for procedure in ["catalog.addSystemToGroup", "catalog.removeSystemFromGroup"] {
        for (group, system, what) in [(&group, &nothing, "System"), (&nothing, &system, "Group")] {
            let answer = admin.json(procedure, json!({"groupId": group, "systemId": system})).await;
            answer.refused(404, "NOT_FOUND", &format!("{what} not found: {nothing}"));
        }
    }
    assert_eq!(members(&admin, &group).await, json!([]));
}

#[tokio::test]
async fn a_deleted_system_leaves_nothing_behind() {
    let server = Server::start().await;
    let admin = server.admin();
    let (group, doomed, other) =
        (create(&admin, "Group", "g").await, create(&admin, "System", "a").await, create(&admin, "System", "b").await);
    join(&admin, &group, &doomed).await;
    join(&admin, &group, &other).await;
    let (gone, kept) = (contact(&admin, &doomed).await, contact(&admin, &other).await);
    admin.call("catalog.deleteSystem", json!(doomed)).await;
    assert_eq!(members(&admin, &group).await, json!([other]));
    let removal = admin.json("catalog.removeSystemContact", json!(gone)).await;
    removal.refused(404, "NOT_FOUND", &format!("Contact not found: {gone}"));
    for procedure in ["catalog.getSystemContacts", "catalog.listSystemContacts"] {
        let answer = admin.json(procedure, json!({"systemId": doomed})).await;
        answer.refused(404, "NOT_FOUND", &format!("System not found: {doomed}"));
    }
    assert_eq!(admin.call("catalog.listGroups", json!({"systemId": doomed})).await, json!({"groups": []}));
    assert_eq!(admin.call("catalog.getSystemContacts", json!({"systemId": other})).await[0]["id"], kept);
}

#[tokio::test]
async fn a_deleted_group_leaves_its_systems() {
    let server = Server::start().await;
    let admin = server.admin();
    let (doomed, other, system) =
        (create(&admin, "Group", "g").await, create(&admin, "Group", "h").await, create(&admin, "System", "s").await);
    join(&admin, &doomed, &system).await;
    join(&admin, &other, &system).await;
    admin.call("catalog.deleteGroup", json!(doomed)).await;
    assert_eq!(admin.call("catalog.getSystem", json!({"systemId": system})).await["id"], system);
    assert_eq!(admin.call("catalog.listSystems", json!({"groupId": doomed})).await, json!({"systems": []}));
    assert_eq!(members(&admin, &other).await, json!([system]));
}

#[tokio::test]
async fn a_system_that_is_deleted_while_it_joins_is_no_member() {
    let server = Server::start().await;
    let admin = server.admin();
    let group = create(&admin, "Group", "g").await;
    for _ in 0..10 {
        let system = create(&admin, "System", "s").await;
        let input = json!({"groupId": group, "systemId": system});
        let (joined, deleted) = tokio::join!(
            admin.json("catalog.addSystemToGroup", input),
            admin.json("catalog.deleteSystem", json!(system))
        );
        assert_eq!(deleted.status, 200, "{}", deleted.text);
        assert!([200, 404].contains(&joined.status), "{}", joined.text);
        assert_eq!(members(&admin, &group).await, json!([]));
    }
}

#[tokio::test]
async fn contacts_are_answered_whole() {
    let server = Server::start().await;
    let admin = server.admin();
    let system = create(&admin, "System", "s").await;
    let mut all = vec![];
    for (given, kept) in [
        (json!({"type": "user", "userId": "u1"}), json!({"type": "user", "userId": "u1", "label": null})),
        (
            json!({"type": "mailbox", "email": " ops@example.org ", "label": "on call"}),
            json!({"type": "mailbox", "email": "ops@example.org", "label": "on call"}),
        ),
        (
            json!({"type": "user", "userId": "u1", "label": null}),
            json!({"type": "user", "userId": "u1", "label": null}),
        ),
    ] {
        let mut input = given.clone();
        input["systemId"] = system.clone().into();
        let made = admin.call("catalog.addSystemContact", input).await;
        let mut expected = kept;
        expected["id"] = made["id"].clone();
        expected["systemId"] = system.clone().into();
        expected["createdAt"] = "2026-01-05T14:52:47.000Z".into();
        assert_eq!(made, expected, "{given}");
        all.push(made);
    }
    assert_eq!(admin.call("catalog.getSystemContacts", json!({"systemId": system})).await, json!(all), "oldest first");
    for size in 1..=4 {
        let pages =
            admin.pages("catalog.listSystemContacts", "contacts", json!({"systemId": system, "pageSize": size}));
        assert_eq!(pages.await.concat(), all, "by {size}");
    }
}

#[tokio::test]
async fn a_contact_says_what_its_type_needs_and_nothing_else() {
    let server = Server::start().await;
    let admin = server.admin();
    let system = create(&admin, "System", "s").await;
    for (given, path, message) in [
        (json!({}), "type", "Required"),
        (json!({"type": "phone"}), "type", "Must be one of user, mailbox"),
        (json!({"type": "user"}), "userId", "Required"),
        (json!({"type": "user", "userId": null}), "userId", "Required"),
        (json!({"type": "user", "userId": " "}), "userId", "Must not be blank"),
        (json!({"type": "user", "userId": "u".repeat(201)}), "userId", "Must have at most 200 characters"),
        (json!({"type": "user", "userId": "u", "email": "a@b.co"}), "email", "Not for this type of contact"),
        (json!({"type": "mailbox"}), "email", "Required"),
        (json!({"type": "mailbox", "email": "a@b.co", "userId": "u"}), "userId", "Not for this type of contact"),
        (json!({"type": "mailbox", "email": "a.b.co"}), "email", "Must be an e-mail address"),
        (
            json!({"type": "mailbox", "email": "a@b.co", "label": "l".repeat(201)}),
            "label",
            "Must have at most 200 characters",
        ),
    ] {
        let mut input = given.clone();
        input["systemId"] = system.clone().into();
        let answer = admin.json("catalog.addSystemContact", input).await;
        assert_eq!(answer.status, 400, "{given}: {}", answer.text);
        assert_eq!(answer.body["data"]["issues"], json!([{"path": [path], "message": message}]), "{given}");
    }
    assert_eq!(admin.call("catalog.getSystemContacts", json!({"systemId": system})).await, json!([]));
}

#[tokio::test]
async fn a_contact_is_removed_once() {
    let server = Server::start().await;
    let admin = server.admin();
    let system = create(&admin, "System", "s").await;
    for wrapped in [false, true] {
        let made = contact(&admin, &system).await;
        let input = if wrapped { json!({"id": made}) } else { json!(made) };
        assert_eq!(admin.call("catalog.removeSystemContact", input.clone()).await, json!({"success": true}));
        let gone = format!("Contact not found: {made}");
        admin.json("catalog.removeSystemContact", input).await.refused(404, "NOT_FOUND", &gone);
        assert_eq!(admin.call("catalog.getSystemContacts", json!({"systemId": system})).await, json!([]));
    }
}

#[tokio::test]
async fn entities_are_every_system_and_every_group() {
    let server = Server::start().await;
    let admin = server.admin();
    assert_eq!(admin.call("catalog.getEntities", json!({})).await, json!({"systems": [], "groups": []}));
    for name in ["z", "a", "m"] {
        let (system, group) = (create(&admin, "System", name).await, create(&admin, "Group", name).await);
        join(&admin, &group, &system).await;
    }
    let entities = admin.call("catalog.getEntities", json!({})).await;
    let (systems, groups) =
        (admin.call("catalog.getSystems", json!({})).await, admin.call("catalog.getGroups", json!({})).await);
    assert_eq!(entities, json!({"systems": systems, "groups": groups}));
    let names: Vec<_> = systems.as_array().unwrap().iter().map(|system| system["name"].clone()).collect();
    assert_eq!(names, ["z", "a", "m"], "oldest first");
}
