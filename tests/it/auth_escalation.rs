//! Nobody grants what they do not hold, and nobody locks everybody out.

use crate::server::{Answer, Caller, Server};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An application that may manage applications and roles, and what else is given; and its id.
async fn manager(server: &Server, more: &[&str]) -> (String, Caller) {
    let mut permissions =
        vec!["auth.applications.manage", "auth.roles.create", "auth.roles.update", "auth.roles.delete"];
    permissions.extend(more);
    let caller = server.allowed(&permissions).await;
    (caller.call("auth.whoAmI", json!({})).await["id"].as_str().unwrap().to_owned(), caller)
}

async fn role(server: &Server, permissions: Value) -> String {
    let made = server.admin().call("auth.createRole", json!({"name": "r", "permissions": permissions})).await;
    made["id"].as_str().unwrap().to_owned()
}

async fn application(server: &Server, roles: Value) -> String {
    let made = server.admin().call("auth.createApplication", json!({"name": "a", "roles": roles})).await;
    made["application"]["id"].as_str().unwrap().to_owned()
}

/// Everything about applications and roles, as somebody who may see it all has it; uses aside.
async fn everything(server: &Server) -> Value {
    let mut applications = server.admin().call("auth.getApplications", json!({})).await;
    for one in applications.as_array_mut().unwrap() {
        one["lastUsedAt"].take();
    }
    json!([applications, server.admin().call("auth.getRoles", json!({})).await])
}

/// Asserts that each is FORBIDDEN over both protocols, in these words, and changes nothing.
async fn forbidden(server: &Server, caller: &Caller, calls: &[(&str, Value, &str)]) {
    let before = everything(server).await;
    for (procedure, input, message) in calls {
        caller.json(procedure, input.clone()).await.refused(403, "FORBIDDEN", message);
        let status = caller.grpc(procedure, input).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (tonic::Code::PermissionDenied, *message), "{procedure}");
    }
    assert_eq!(everything(server).await, before);
}

#[tokio::test]
async fn nobody_adds_a_permission_that_they_do_not_hold() {
    let server = Server::start().await;
    let (own, caller) = manager(&server, &["catalog.catalog.read"]).await;
    let (writer, target) =
        (role(&server, json!(["catalog.catalog.manage"])).await, application(&server, json!([])).await);
    let empty = role(&server, json!([])).await;
    let message = "You cannot give what you do not hold: catalog.catalog.manage";
    let own_role = caller.call("auth.whoAmI", json!({})).await["roles"].clone();
    let own_role = own_role.as_array().unwrap().iter().find(|role| *role != "applications").unwrap().clone();
    let calls = [
        ("auth.createApplication", json!({"name": "x", "roles": [writer]}), message),
        ("auth.updateApplication", json!({"id": target, "roles": ["applications", writer]}), message),
        ("auth.updateApplication", json!({"id": own, "roles": [own_role, writer]}), message),
        ("auth.createRole", json!({"name": "x", "permissions": ["catalog.catalog.manage"]}), message),
        ("auth.createRole", json!({"name": "x", "permissions": ["catalog.system.manage"]}), message),
        ("auth.updateRole", json!({"id": empty, "permissions": ["catalog.catalog.manage"]}), message),
        // E4: to edit a role is to grant to everybody who has it, oneself included.
        ("auth.updateRole", json!({"id": own_role, "permissions": ["catalog.catalog.manage"]}), message),
        ("auth.updateRole", json!({"id": "anonymous", "permissions": ["catalog.catalog.manage"]}), message),
        ("auth.updateRole", json!({"id": "applications", "permissions": ["catalog.catalog.manage"]}), message),
    ];
    forbidden(&server, &caller, &calls).await;
}

#[tokio::test]
async fn the_default_role_is_granted_like_any_other() {
    let server = Server::start().await;
    let (_, caller) = manager(&server, &[]).await;
    let admin = server.admin();
    let (own, mine) = (caller.call("auth.whoAmI", json!({})).await, json!({"name": "x"}));
    let roles: Vec<_> = own["roles"].as_array().unwrap().iter().filter(|role| *role != "applications").collect();
    admin.call("auth.updateApplication", json!({"id": own["id"], "roles": roles})).await;
    admin.call("auth.updateRole", json!({"id": "applications", "permissions": ["catalog.*"]})).await;
    let message = "You cannot give what you do not hold: catalog.*";
    forbidden(&server, &caller, &[("auth.createApplication", mine, message)]).await;
}

#[tokio::test]
async fn what_they_hold_they_may_give_and_anything_they_may_take() {
    let server = Server::start().await;
    let (_, caller) = manager(&server, &["catalog.catalog.read"]).await;
    let beyond = role(&server, json!(["catalog.*"])).await;
    let mine = role(&server, json!(["catalog.catalog.read"])).await;
    let target = application(&server, json!([beyond])).await;
    for (procedure, input) in [
        ("auth.createRole", json!({"name": "x", "permissions": ["catalog.catalog.read", "auth.roles.create"]})),
        ("auth.createApplication", json!({"name": "x", "roles": [mine]})),
        ("auth.updateApplication", json!({"id": target, "roles": [beyond, mine]})),
        ("auth.updateApplication", json!({"id": target, "name": "renamed"})),
        ("auth.updateApplication", json!({"id": target, "roles": []})),
        ("auth.updateRole", json!({"id": beyond, "permissions": ["catalog.*", "catalog.catalog.read"]})),
        ("auth.updateRole", json!({"id": beyond, "permissions": ["catalog.catalog.manage"]})),
        ("auth.updateRole", json!({"id": beyond, "permissions": []})),
        ("auth.deleteRole", json!(beyond)),
        ("auth.deleteApplication", json!(target)),
    ] {
        caller.call(procedure, input).await;
    }
}

#[tokio::test]
async fn a_wildcard_is_given_only_by_who_holds_it() {
    let server = Server::start().await;
    let each: Vec<Value> = server.admin().call("auth.getPermissions", json!({})).await.as_array().unwrap().clone();
    let each: Vec<_> = each.iter().map(|one| one["id"].as_str().unwrap()).collect();
    let target = application(&server, json!([])).await;
    let (_, by_one) = manager(&server, &each).await;
    let (_, by_plugin) = manager(&server, &["auth.*", "catalog.*"]).await;
    let catalog = "You cannot give what you do not hold: catalog.*";
    let everything = "You cannot give what you do not hold: *";
    let calls = [
        ("auth.createRole", json!({"name": "x", "permissions": ["catalog.*"]}), catalog),
        ("auth.createRole", json!({"name": "x", "permissions": ["*"]}), everything),
        ("auth.updateRole", json!({"id": "reader", "permissions": ["catalog.*"]}), catalog),
        ("auth.createApplication", json!({"name": "x", "roles": ["admin"]}), everything),
    ];
    forbidden(&server, &by_one, &calls).await;
    let calls = [
        ("auth.createRole", json!({"name": "x", "permissions": ["*"]}), everything),
        ("auth.updateRole", json!({"id": "reader", "permissions": ["*"]}), everything),
        ("auth.updateApplication", json!({"id": target, "roles": ["admin"]}), everything),
    ];
    forbidden(&server, &by_plugin, &calls).await;
    by_plugin.call("auth.createRole", json!({"name": "x", "permissions": ["catalog.*", "auth.roles.read"]})).await;
}

#[tokio::test]
async fn nobody_gets_the_key_of_somebody_who_may_more() {
    let server = Server::start().await;
    let (_, caller) = manager(&server, &["catalog.catalog.read"]).await;
    let reader = role(&server, json!(["catalog.catalog.read"])).await;
    let reader = application(&server, json!([reader])).await;
    let writer = server.allowed(&["catalog.catalog.manage"]).await;
    let id = writer.call("auth.whoAmI", json!({})).await["id"].clone();
    let message = "You cannot give what you do not hold: catalog.catalog.manage";
    forbidden(&server, &caller, &[("auth.regenerateApplicationSecret", id, message)]).await;
    assert_eq!(writer.json("auth.whoAmI", json!({})).await.status, 200, "its key is still good");
    caller.call("auth.regenerateApplicationSecret", json!(reader)).await;
}

#[tokio::test]
async fn a_child_does_not_outlive_its_parent() {
    let server = Server::start().await;
    let (own, caller) = manager(&server, &[]).await;
    let endless = application(&server, json!([])).await;
    let end = server.clock.in_future(Duration::from_mins(1));
    let (later, sooner) =
        (server.clock.in_future(Duration::from_secs(61)), server.clock.in_future(Duration::from_secs(9)));
    server.admin().call("auth.updateApplication", json!({"id": own, "expiresAt": end})).await;
    let child = caller.call("auth.createApplication", json!({"name": "child", "expiresAt": sooner})).await;
    let child = &child["application"]["id"];
    let message = &*format!("It would outlive you: expiresAt must be no later than {end}");
    let calls = [
        ("auth.createApplication", json!({"name": "x"}), message),
        ("auth.createApplication", json!({"name": "x", "expiresAt": null}), message),
        ("auth.createApplication", json!({"name": "x", "expiresAt": later}), message),
        ("auth.updateApplication", json!({"id": child, "expiresAt": null}), message),
        ("auth.updateApplication", json!({"id": child, "expiresAt": later}), message),
        ("auth.updateApplication", json!({"id": own, "expiresAt": null}), message),
        ("auth.updateApplication", json!({"id": own, "expiresAt": later}), message),
        ("auth.regenerateApplicationSecret", json!(endless), message),
    ];
    forbidden(&server, &caller, &calls).await;
    caller.call("auth.updateApplication", json!({"id": child, "expiresAt": end})).await;
    caller.call("auth.updateApplication", json!({"id": endless, "name": "renamed"})).await;
    caller.call("auth.updateApplication", json!({"id": endless, "expiresAt": later})).await;
}

#[tokio::test]
async fn a_key_that_renews_itself_gains_nothing() {
    let server = Server::start().await;
    let (own, caller) = manager(&server, &["catalog.catalog.read"]).await;
    let end = server.clock.in_future(Duration::from_mins(1));
    server.admin().call("auth.updateApplication", json!({"id": own, "expiresAt": end})).await;
    let before = caller.call("auth.whoAmI", json!({})).await;
    let made = caller.call("auth.regenerateApplicationSecret", json!(own)).await;
    let renewed = server.with_key(made["secret"].as_str());
    assert_eq!(renewed.call("auth.whoAmI", json!({})).await, before);
    server.clock.advance(Duration::from_mins(1));
    assert_eq!(renewed.json("auth.whoAmI", json!({})).await.status, 401);
}

#[tokio::test]
async fn who_administers_is_changed_only_by_their_like() {
    let server = Server::start().await;
    let caller = server.allowed(&["auth.applications.manage", "catalog.*"]).await;
    let admin = server.admin().call("auth.whoAmI", json!({})).await["id"].clone();
    let creator = role(&server, json!(["auth.roles.create", "catalog.catalog.read"])).await;
    let creator = application(&server, json!([creator])).await;
    let (one, all) = ("It administers what you do not: auth.roles.create", "It administers what you do not: auth.*");
    let calls = [
        ("auth.updateApplication", json!({"id": creator, "name": "renamed"}), one),
        ("auth.updateApplication", json!({"id": creator, "roles": []}), one),
        ("auth.updateApplication", json!({"id": creator, "expiresAt": "2026-02-01T00:00:00Z"}), one),
        ("auth.deleteApplication", json!(creator), one),
        ("auth.updateApplication", json!({"id": admin, "description": null}), all),
        ("auth.deleteApplication", json!(admin), all),
    ];
    forbidden(&server, &caller, &calls).await;
    let like = server.allowed(&["auth.applications.manage", "auth.roles.create"]).await;
    like.call("auth.deleteApplication", json!(creator)).await;
}

#[tokio::test]
async fn an_application_may_manage_applications() {
    let server = Server::start().await;
    let caller = server.allowed(&["auth.applications.manage"]).await;
    let made = caller.call("auth.createApplication", json!({"name": "child"})).await;
    let id = &made["application"]["id"];
    let child = server.with_key(made["secret"].as_str());
    assert_eq!(child.call("auth.whoAmI", json!({})).await["id"], *id);
    caller.call("auth.updateApplication", json!({"id": id, "name": "renamed"})).await;
    let found = caller.call("auth.listApplications", json!({"nameContains": "renamed"})).await;
    assert_eq!(found["applications"][0]["id"], *id);
    caller.call("auth.regenerateApplicationSecret", id.clone()).await;
    assert_eq!(child.json("auth.whoAmI", json!({})).await.status, 401);
    caller.call("auth.deleteApplication", id.clone()).await;
    let without = server.allowed(&["auth.roles.read", "catalog.*"]).await;
    let refusal = without.json("auth.createApplication", json!({"name": "x"})).await;
    refusal.refused(403, "FORBIDDEN", "Missing permission: auth.applications.manage");
}

#[tokio::test]
async fn the_guard_rails_hold_even_for_who_may_do_everything() {
    let server = Server::start().await;
    let admin = server.admin();
    let target = application(&server, json!([])).await;
    let anonymous = "Input validation failed: roles: anonymous is for callers without a key";
    for (procedure, input) in [
        ("auth.createApplication", json!({"name": "x", "roles": ["anonymous"]})),
        ("auth.updateApplication", json!({"id": target, "roles": ["reader", "anonymous"]})),
    ] {
        admin.json(procedure, input).await.refused(400, "BAD_REQUEST", anonymous);
    }
    let (system, fixed) = ("A system role cannot be deleted", "The role admin cannot be changed");
    let calls = [
        ("auth.deleteRole", json!("admin"), system),
        ("auth.deleteRole", json!("users"), system),
        ("auth.deleteRole", json!("anonymous"), system),
        ("auth.deleteRole", json!({"id": "applications"}), system),
        ("auth.updateRole", json!({"id": "admin", "permissions": []}), fixed),
        ("auth.updateRole", json!({"id": "admin", "permissions": ["*"]}), fixed),
    ];
    forbidden(&server, &admin, &calls).await;
}

const LAST: &str = "This is the last application that may do everything; give another one the role admin first";

fn last(answer: &Answer) {
    answer.refused(400, "BAD_REQUEST", LAST);
}

#[tokio::test]
async fn somebody_who_may_do_everything_always_remains() {
    let server = Server::start().await;
    let admin = server.admin();
    let id = admin.call("auth.whoAmI", json!({})).await["id"].clone();
    let end = server.clock.in_future(Duration::from_mins(1));
    // Somebody whose own key runs out is no way in for good.
    let short = json!({"name": "short", "roles": ["admin"], "expiresAt": end});
    admin.call("auth.createApplication", short).await;
    for (procedure, input) in [
        ("auth.deleteApplication", id.clone()),
        ("auth.updateApplication", json!({"id": id, "roles": ["operator"]})),
        ("auth.updateApplication", json!({"id": id, "roles": []})),
        ("auth.updateApplication", json!({"id": id, "expiresAt": end})),
        ("auth.updateApplication", json!({"id": id, "name": "renamed", "expiresAt": "2099-01-01T00:00:00Z"})),
    ] {
        last(&admin.json(procedure, input).await);
        assert_eq!(admin.call("auth.whoAmI", json!({})).await["name"], "bootstrap", "{procedure}");
    }
    application(&server, json!(["admin"])).await;
    admin.call("auth.deleteApplication", id).await;
}

#[tokio::test]
async fn somebody_remains_also_when_a_role_of_ones_own_allows_everything() {
    let server = Server::start().await;
    let bootstrap = server.admin().call("auth.whoAmI", json!({})).await["id"].clone();
    let everything = role(&server, json!(["*", "catalog.*"])).await;
    let owner = server.application(&[&everything]).await;
    let other = role(&server, json!(["auth.*"])).await;
    let helper = server.application(&[&other]).await;
    owner.call("auth.deleteApplication", bootstrap).await;
    last(&owner.json("auth.updateRole", json!({"id": everything, "permissions": ["catalog.*"]})).await);
    last(&helper.json("auth.updateRole", json!({"id": everything, "permissions": []})).await);
    last(&helper.json("auth.deleteRole", json!(everything)).await);
    owner.json("auth.deleteRole", json!(everything)).await.refused(403, "FORBIDDEN", "You have this role yourself");
    assert_eq!(owner.json("auth.getApplications", json!({})).await.status, 200);
    owner.call("auth.updateRole", json!({"id": everything, "permissions": ["*"], "name": "all"})).await;
}

#[tokio::test]
async fn two_who_may_do_everything_cannot_delete_each_other_at_once() {
    for round in 0..5 {
        let server = Server::start().await;
        let (one, two) = (server.admin(), server.application(&["admin"]).await);
        let id = async |caller: &Caller| caller.call("auth.whoAmI", json!({})).await["id"].clone();
        let (first, second) = (id(&one).await, id(&two).await);
        let (a, b) =
            tokio::join!(one.json("auth.deleteApplication", second), two.json("auth.deleteApplication", first));
        let done = [&a, &b].iter().filter(|answer| answer.status == 200).count();
        assert_eq!(done, 1, "round {round}: {} {}", a.text, b.text);
        let mut alive = 0;
        for caller in [&one, &two] {
            alive += usize::from(caller.json("auth.getApplications", json!({})).await.status == 200);
        }
        assert_eq!(alive, 1, "round {round}");
    }
}

/// A generator of numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }

    fn some<T: Clone>(&mut self, from: &[T], most: usize) -> Vec<T> {
        (0..self.roll(most + 1)).map(|_| self.pick(from)).collect()
    }
}

type Held = BTreeSet<String>;

/// Whether holding these means holding that: by structure, as a role is written.
fn covers(held: &Held, wanted: &str) -> bool {
    let plugin = format!("{}.*", wanted.split('.').next().unwrap());
    held.contains("*") || held.contains(wanted) || (wanted != "*" && held.contains(&plugin))
}

/// What every role allows and what every application may do, by id.
async fn held(server: &Server) -> [BTreeMap<String, Held>; 2] {
    let all = everything(server).await;
    let texts = |value: &Value| value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let roles = all[1].as_array().unwrap().iter().map(|role| (id(role), texts(&role["permissions"])));
    let roles: BTreeMap<String, Held> = roles.collect();
    let permissions =
        |one: &Value| -> Held { texts(&one["roles"]).iter().flat_map(|role| roles[role].clone()).collect() };
    let applications = all[0].as_array().unwrap().iter().map(|one| (id(one), permissions(one))).collect();
    [roles, applications]
}

fn random_call(dice: &mut Dice, applications: &[String], roles: &[String]) -> (&'static str, Value) {
    const PERMISSIONS: [&str; 9] = [
        "*",
        "auth.*",
        "catalog.*",
        "catalog.catalog.read",
        "catalog.catalog.manage",
        "auth.applications.manage",
        "auth.roles.create",
        "auth.roles.update",
        "auth.roles.read",
    ];
    match dice.roll(7) {
        0 => ("auth.createApplication", json!({"name": "x", "roles": dice.some(roles, 2)})),
        1 => ("auth.updateApplication", json!({"id": dice.pick(applications), "roles": dice.some(roles, 3)})),
        2 => ("auth.regenerateApplicationSecret", json!(dice.pick(applications))),
        3 => ("auth.createRole", json!({"name": "x", "permissions": dice.some(&PERMISSIONS, 3)})),
        4 | 5 => ("auth.updateRole", json!({"id": dice.pick(roles), "permissions": dice.some(&PERMISSIONS, 4)})),
        _ => ("auth.updateApplication", json!({"id": dice.pick(applications), "expiresAt": null})),
    }
}

#[tokio::test]
async fn whatever_is_tried_nobody_comes_to_hold_more_than_who_gave_it() {
    let server = Server::start().await;
    let mut dice = Dice(20_260_105);
    let mut actors = vec![];
    for more in [&["catalog.catalog.read"][..], &["catalog.*"], &["auth.*"], &["auth.roles.read"]] {
        actors.push(manager(&server, more).await);
    }
    let (mut done, mut refused) = (0, 0);
    for step in 0..160 {
        let before = held(&server).await;
        let [roles, applications] = before.each_ref().map(|held| held.keys().cloned().collect::<Vec<_>>());
        let (actor, caller) = dice.pick(&actors);
        let (procedure, input) = random_call(&mut dice, &applications, &roles);
        let mut answer = caller.json(procedure, input.clone()).await;
        let after = held(&server).await;
        let giver = &before[1][&actor];
        for (kind, (id, permissions)) in
            after.iter().enumerate().flat_map(|(kind, held)| held.iter().map(move |row| (kind, row)))
        {
            let old = before[kind].get(id).cloned().unwrap_or_default();
            for permission in permissions.iter().filter(|one| !covers(&old, one)) {
                assert!(covers(giver, permission), "step {step}: {procedure} {input} gave {id} {permission}");
            }
        }
        if answer.status != 200 {
            assert_eq!(after, before, "step {step}: what is refused changes nothing: {}", answer.text);
            refused += 1;
            continue;
        }
        done += 1;
        let name = procedure.split_once('.').unwrap().1;
        if let Value::String(key) = answer.body[name]["secret"].take() {
            let id = key[3..39].to_owned();
            assert!(after[1][&id].iter().all(|one| covers(giver, one)), "step {step}: {actor} got the key of {id}");
            actors.retain(|(known, _)| *known != id);
            actors.push((id, server.with_key(Some(&key))));
        }
    }
    assert!(done > 30 && refused > 30, "{done} done, {refused} refused: a test of nothing");
}
