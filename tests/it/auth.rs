//! Applications and their keys: how they are made, used, replaced and refused.

use crate::server::{Answer, Caller, Server, is_postgres};
use checkmate::access::{ApplicationId, Token};
use checkmate::proto::checkmate::auth::v1 as pb;
use checkmate::world::Entropy;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tonic::Code;

/// `ck_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}_[0-9A-Za-z]{49}`, as it is published.
fn is_a_key(text: &str) -> bool {
    let Some((id, secret)) = text.strip_prefix("ck_").and_then(|rest| rest.split_once('_')) else { return false };
    let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    id.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && id.split('-').all(hex)
        && secret.len() == 49
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A new application: its id, and itself as a caller.
async fn make(server: &Server, input: Value) -> (String, Caller) {
    let made = server.admin().call("auth.createApplication", input).await;
    (made["application"]["id"].as_str().unwrap().to_owned(), server.with_key(made["secret"].as_str()))
}

/// An application as the list has it.
async fn read(server: &Server, id: &str) -> Value {
    let all = server.admin().call("auth.getApplications", json!({})).await;
    all.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap().clone()
}

/// The status of a call that any valid key may make.
async fn status(caller: &Caller) -> u16 {
    caller.json("auth.whoAmI", json!({})).await.status
}

/// What the database itself says of the last use, in microseconds.
async fn written_use(server: &Server, id: &str) -> Option<i64> {
    use sqlx::Connection;
    const QUERY: &str = "select last_used_at from auth_application where id = $1";
    let id = uuid::Uuid::parse_str(id).unwrap();
    let url = server.config.database.as_str();
    if is_postgres() {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        return sqlx::query_scalar(QUERY).bind(id).fetch_one(&mut connection).await.unwrap();
    }
    let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
    sqlx::query_scalar(QUERY).bind(id).fetch_one(&mut connection).await.unwrap()
}

/// Waits for the database to say something else than `before`; panics if it takes longer than a second.
async fn newly_written_use(server: &Server, id: &str, before: Option<i64>) -> i64 {
    let started = Instant::now();
    loop {
        match written_use(server, id).await {
            Some(at) if Some(at) != before => return at,
            _ => assert!(started.elapsed() < Duration::from_secs(1), "the use is not written within a second"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_new_application_is_answered_whole_with_its_secret() {
    let server = Server::start().await;
    let admin = server.admin().call("auth.whoAmI", json!({})).await;
    let made = server.admin().call("auth.createApplication", json!({"name": "ci", "roles": ["reader"]})).await;
    assert!(is_a_key(made["secret"].as_str().unwrap()), "{made}");
    let id = made["application"]["id"].as_str().unwrap();
    assert!(made["secret"].as_str().unwrap().starts_with(&format!("ck_{id}_")), "the key says whose it is");
    let application = json!({
        "id": id, "name": "ci", "description": null, "roles": ["applications", "reader"], "createdById": admin["id"],
        "createdAt": "2026-01-05T14:52:47.000Z", "updatedAt": "2026-01-05T14:52:47.000Z", "lastUsedAt": null,
        "expiresAt": null,
    });
    assert_eq!(made["application"], application);
    assert_eq!(read(&server, id).await, application);
}

#[tokio::test]
async fn a_secret_is_shown_once() {
    let server = Server::start().await;
    let made = server.admin().call("auth.createApplication", json!({"name": "ci"})).await;
    let secret = made["secret"].as_str().unwrap().rsplit_once('_').unwrap().1;
    let calls = [
        ("auth.getApplications", json!({})),
        ("auth.listApplications", json!({})),
        ("auth.updateApplication", json!({"id": made["application"]["id"], "name": "ci 2"})),
    ];
    for (procedure, input) in calls {
        let answer = server.admin().json(procedure, input).await;
        assert_eq!(answer.status, 200, "{procedure}");
        assert!(!answer.text.contains(secret) && !answer.text.contains("argon2"), "{procedure}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_new_key_works_on_both_protocols() {
    let server = Server::start().await;
    let (id, caller) = make(&server, json!({"name": "ci"})).await;
    assert_eq!(caller.call("auth.whoAmI", json!({})).await["id"], id);
    assert_eq!(caller.grpc("auth.whoAmI", &json!({})).await.unwrap()["id"], id);
}

#[tokio::test]
async fn a_new_application_has_the_role_applications_and_those_that_are_given() {
    let server = Server::start().await;
    for (given, kept) in [
        (json!([]), json!(["applications"])),
        (json!(null), json!(["applications"])),
        (json!(["applications"]), json!(["applications"])),
        (json!(["reader", "operator", "reader"]), json!(["applications", "operator", "reader"])),
    ] {
        let made = server.admin().call("auth.createApplication", json!({"name": "x", "roles": given})).await;
        assert_eq!(made["application"]["roles"], kept, "{given}");
    }
}

#[tokio::test]
async fn names_are_trimmed_and_have_bounds() {
    let server = Server::start().await;
    let admin = server.admin();
    let (application, _) = make(&server, json!({"name": "x"})).await;
    let role = admin.call("auth.createRole", json!({"name": "x"})).await["id"].clone();
    for (procedure, id) in [
        ("auth.createApplication", json!(null)),
        ("auth.updateApplication", json!(application)),
        ("auth.createRole", json!(null)),
        ("auth.updateRole", role),
    ] {
        let call = async |field: &str, value: &str| {
            let mut input = json!({"name": "x"});
            input[field] = value.into();
            if !id.is_null() {
                input["id"] = id.clone();
            }
            admin.json(procedure, input).await
        };
        let result = procedure.split_once('.').unwrap().1;
        for (given, kept) in [(" \u{a0}ci\t ", "ci"), ("é", "é"), (&"🦀".repeat(100), &"🦀".repeat(100))] {
            let mut answer = call("name", given).await;
            let made = answer.body[result].take();
            let made = if made["application"].is_null() { &made } else { &made["application"] };
            assert_eq!(made["name"], kept, "{procedure} {}", answer.text);
        }
        for bad in ["", " \u{2003} ", &"x".repeat(101), "a\0b"] {
            let answer = call("name", bad).await;
            assert_eq!(
                (answer.status, &answer.body["data"]["issues"][0]["path"]),
                (400, &json!(["name"])),
                "{procedure}"
            );
        }
        assert_eq!(call("description", &"ü".repeat(500)).await.status, 200, "{procedure}");
        let long = call("description", &"ü".repeat(501)).await;
        long.refused(400, "BAD_REQUEST", "Input validation failed: description: Must have at most 500 characters");
    }
}

#[tokio::test]
async fn a_new_secret_replaces_the_old_one_at_once() {
    let server = Server::start().await;
    let (id, old) = make(&server, json!({"name": "ci"})).await;
    assert_eq!(status(&old).await, 200);
    let made = server.admin().call("auth.regenerateApplicationSecret", json!(id)).await;
    let new = server.with_key(made["secret"].as_str());
    assert!(is_a_key(new.key.as_ref().unwrap()), "{made}");
    assert_eq!((status(&old).await, status(&new).await), (401, 200));
    assert_eq!(old.grpc("auth.whoAmI", &json!({})).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(new.grpc("auth.whoAmI", &json!({})).await.unwrap()["id"], id);
    let server = server.restart_with(|_| {}).await;
    let (old, new) = (server.with_key(old.key.as_deref()), server.with_key(new.key.as_deref()));
    assert_eq!((status(&old).await, status(&new).await), (401, 200), "also after a restart");
}

#[tokio::test]
async fn keys_are_good_under_another_instance_key() {
    let server = Server::start().await;
    let (id, caller) = make(&server, json!({"name": "ci"})).await;
    let forged = Token::generate(ApplicationId::parse(&id).unwrap(), Entropy).unwrap();
    let server = server.restart_with(|config| config.instance_key = Some("cd".repeat(32).into())).await;
    let (caller, wrong) = (server.with_key(caller.key.as_deref()), server.with_key(Some(forged.reveal())));
    for when in ["verified slowly", "from then on by its tag"] {
        assert_eq!((status(&wrong).await, status(&caller).await), (401, 200), "{when}");
    }
    let made = server.admin().call("auth.regenerateApplicationSecret", json!(id)).await;
    assert_eq!((status(&caller).await, status(&server.with_key(made["secret"].as_str())).await), (401, 200));
}

#[tokio::test]
async fn a_deleted_key_is_refused_at_once() {
    let server = Server::start().await;
    let (id, caller) = make(&server, json!({"name": "ci"})).await;
    assert_eq!(status(&caller).await, 200);
    assert_eq!(server.admin().call("auth.deleteApplication", json!(id)).await, json!({"success": true}));
    assert_eq!(status(&caller).await, 401);
    let again = server.admin().json("auth.deleteApplication", json!({"id": id})).await;
    again.refused(404, "NOT_FOUND", &format!("Application not found: {id}"));
}

#[tokio::test]
async fn a_key_is_refused_from_its_expiry_on() {
    let server = Server::start().await;
    let end = server.clock.in_future(Duration::from_secs(10));
    let (_, caller) = make(&server, json!({"name": "ci", "expiresAt": end})).await;
    assert_eq!(caller.call("auth.whoAmI", json!({})).await["expiresAt"], end);
    server.clock.advance(Duration::from_micros(9_999_999));
    assert_eq!(status(&caller).await, 200);
    assert!(caller.grpc("auth.whoAmI", &json!({})).await.is_ok());
    server.clock.advance(Duration::from_micros(1));
    assert_eq!(status(&caller).await, 401);
    assert_eq!(caller.grpc("auth.whoAmI", &json!({})).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_expiry_lies_in_the_future() {
    let server = Server::start().await;
    let (id, _) = make(&server, json!({"name": "ci"})).await;
    for time in ["2026-01-05T14:52:47Z", "2026-01-05T15:52:47+01:00", "1999-01-01T00:00:00Z"] {
        for (procedure, input) in [
            ("auth.createApplication", json!({"name": "x", "expiresAt": time})),
            ("auth.updateApplication", json!({"id": id, "expiresAt": time})),
        ] {
            let answer = server.admin().json(procedure, input).await;
            answer.refused(400, "BAD_REQUEST", "Input validation failed: expiresAt: Must be in the future");
        }
    }
}

/// Everything that a refusal shows, but for what differs from request to request.
fn shown(answer: &Answer) -> (u16, String, BTreeMap<String, String>) {
    let headers = answer.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (answer.status, answer.text.clone(), headers.filter(|(name, _)| name != "x-request-id" && name != "date").collect())
}

#[tokio::test]
async fn nobody_can_tell_why_a_key_is_refused() {
    let server = Server::start().await;
    let (known, _) = make(&server, json!({"name": "known"})).await;
    let (deleted, gone) = make(&server, json!({"name": "deleted"})).await;
    let expiry = server.clock.in_future(Duration::from_secs(1));
    let (_, expired) = make(&server, json!({"name": "expired", "expiresAt": expiry})).await;
    server.admin().call("auth.deleteApplication", json!(deleted)).await;
    server.clock.advance(Duration::from_secs(1));
    let forged = |id: &str| Token::generate(ApplicationId::parse(id).unwrap(), Entropy).unwrap().reveal().to_owned();
    let mut answers = vec![];
    for (why, key) in [
        ("wrong secret", forged(&known)),
        ("unknown application", forged(&uuid::Uuid::now_v7().to_string())),
        ("deleted", gone.key.unwrap()),
        ("expired", expired.key.unwrap()),
        ("no key at all", "nonsense".into()),
    ] {
        let caller = server.with_key(Some(&key));
        let json = caller.json("catalog.getSystems", json!({})).await;
        json.refused(401, "UNAUTHORIZED", "Invalid API key");
        let grpc = caller.grpc("catalog.getSystems", &json!({})).await.unwrap_err();
        let mut metadata = grpc.metadata().clone().into_headers();
        metadata.remove("x-request-id");
        metadata.remove("date");
        let metadata = format!("{metadata:?}");
        answers.push((
            why,
            shown(&json),
            (grpc.code(), grpc.message().to_owned(), grpc.details().to_owned(), metadata),
        ));
    }
    for (why, json, grpc) in &answers {
        assert_eq!((json, grpc), (&answers[0].1, &answers[0].2), "{why}");
    }
}

#[tokio::test]
async fn a_change_of_roles_counts_from_the_next_request_on() {
    let server = Server::start().await;
    let admin = server.admin();
    let (id, caller) = make(&server, json!({"name": "ci"})).await;
    let role = admin.call("auth.createRole", json!({"name": "r", "permissions": ["catalog.catalog.read"]})).await;
    let role = role["id"].as_str().unwrap();
    for (procedure, input, after) in [
        ("auth.updateApplication", json!({"id": id, "roles": [role]}), 200),
        ("auth.updateRole", json!({"id": role, "permissions": []}), 403),
        ("auth.updateRole", json!({"id": role, "permissions": ["catalog.*"]}), 200),
        ("auth.updateApplication", json!({"id": id, "roles": []}), 403),
        ("auth.updateApplication", json!({"id": id, "roles": ["reader", role]}), 200),
        ("auth.updateApplication", json!({"id": id, "roles": [role]}), 200),
        ("auth.deleteRole", json!(role), 403),
    ] {
        admin.call(procedure, input.clone()).await;
        assert_eq!(caller.json("catalog.getSystems", json!({})).await.status, after, "after {procedure} {input}");
        assert_eq!(caller.grpc("catalog.getSystems", &json!({})).await.is_ok(), after == 200, "{procedure} {input}");
    }
    assert_eq!(read(&server, &id).await["roles"], json!([]), "a deleted role is nobody's");
}

#[tokio::test]
async fn the_first_use_of_a_key_is_written_within_a_second() {
    let server = Server::start().await;
    let (id, caller) = make(&server, json!({"name": "ci"})).await;
    assert_eq!(read(&server, &id).await["lastUsedAt"], json!(null));
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(status(&caller).await, 200);
    assert_eq!(read(&server, &id).await["lastUsedAt"], "2026-01-05T14:52:48.000Z", "seen at once");
    newly_written_use(&server, &id, None).await;
    if is_postgres() {
        let other = server.replica().await;
        assert_eq!(read(&other, &id).await["lastUsedAt"], "2026-01-05T14:52:48.000Z", "also in a replica");
    }
}

#[tokio::test]
async fn later_uses_are_written_once_in_a_while_and_never_a_minute_late() {
    let server = Server::start().await;
    let (id, caller) = make(&server, json!({"name": "busy"})).await;
    let (marker, marking) = make(&server, json!({"name": "marker"})).await;
    assert_eq!(status(&caller).await, 200);
    let first = newly_written_use(&server, &id, None).await;
    for _ in 0..20 {
        server.clock.advance(Duration::from_millis(100));
        assert_eq!(status(&caller).await, 200);
    }
    assert_eq!(read(&server, &id).await["lastUsedAt"], "2026-01-05T14:52:49.000Z");
    // Whatever was due before is written by the time that the marker is.
    assert_eq!(status(&marking).await, 200);
    newly_written_use(&server, &marker, None).await;
    assert_eq!(written_use(&server, &id).await, Some(first), "twenty uses are no twenty writes");
    server.clock.advance(Duration::from_secs(58));
    assert_eq!(status(&caller).await, 200);
    assert_eq!(newly_written_use(&server, &id, Some(first)).await, first + 60_000_000);
}

#[tokio::test]
async fn the_last_use_survives_a_stop() {
    let server = Server::start().await;
    let (id, caller) = make(&server, json!({"name": "ci"})).await;
    assert_eq!(status(&caller).await, 200);
    newly_written_use(&server, &id, None).await;
    server.clock.advance(Duration::from_secs(5));
    assert_eq!(status(&caller).await, 200);
    let server = server.restart_with(|_| {}).await;
    assert_eq!(read(&server, &id).await["lastUsedAt"], "2026-01-05T14:52:52.000Z");
}

#[tokio::test]
async fn a_refused_key_is_not_used() {
    let server = Server::start().await;
    let (id, _) = make(&server, json!({"name": "ci"})).await;
    let forged = Token::generate(ApplicationId::parse(&id).unwrap(), Entropy).unwrap();
    assert_eq!(status(&server.with_key(Some(forged.reveal()))).await, 401);
    assert_eq!(read(&server, &id).await["lastUsedAt"], json!(null));
}

#[tokio::test]
async fn a_new_secret_leaves_the_rest_as_it_is() {
    let server = Server::start().await;
    let (id, caller) = make(&server, json!({"name": "ci", "description": "d", "roles": ["reader"]})).await;
    assert_eq!(status(&caller).await, 200);
    let mut before = read(&server, &id).await;
    server.clock.advance(Duration::from_secs(1));
    server.admin().call("auth.regenerateApplicationSecret", json!({"id": id})).await;
    before["updatedAt"] = "2026-01-05T14:52:48.000Z".into();
    assert_eq!(read(&server, &id).await, before);
}

#[tokio::test]
async fn an_application_says_who_created_it() {
    let server = Server::start().await;
    let manager = server.allowed(&["auth.applications.manage"]).await;
    let made = manager.call("auth.createApplication", json!({"name": "child"})).await;
    let manager = manager.call("auth.whoAmI", json!({})).await;
    assert_eq!(made["application"]["createdById"], manager["id"]);
    let admin = server.admin().call("auth.whoAmI", json!({})).await;
    assert_eq!(read(&server, admin["id"].as_str().unwrap()).await["createdById"], "system");
}

#[tokio::test]
async fn an_application_learns_about_itself() {
    let server = Server::start().await;
    let admin = server.admin();
    let permissions = json!(["catalog.*", "auth.roles.read", "catalog.catalog.read"]);
    let role = admin.call("auth.createRole", json!({"name": "r", "permissions": permissions})).await;
    admin.call("auth.updateRole", json!({"id": "applications", "permissions": ["auth.roles.read"]})).await;
    let (id, caller) = make(&server, json!({"name": "ci", "roles": [role["id"]]})).await;
    let mut who = caller.call("auth.whoAmI", json!({})).await;
    who["roles"].as_array_mut().unwrap().sort_by_key(Value::to_string);
    let allowed = json!(["catalog.*", "auth.roles.read", "catalog.catalog.read"]);
    let expected = json!({
        "type": "application", "id": id, "name": "ci", "roles": [role["id"], "applications"], "permissions": allowed,
        "expiresAt": null,
    });
    assert_eq!(who, expected);
    for name in ["auth.permissions", "auth.accessRules"] {
        assert_eq!(caller.call(name, json!({})).await, json!({"permissions": allowed}), "{name}");
    }
}

#[tokio::test]
async fn an_update_leaves_what_is_absent_and_clears_what_is_null() {
    let server = Server::start().await;
    let full = json!({"name": "ci", "description": "d", "roles": ["reader"], "expiresAt": "2027-01-01T00:00:00Z"});
    let whole = json!({"name": "ci", "description": "d", "roles": ["applications", "reader"],
                       "expiresAt": "2027-01-01T00:00:00.000Z"});
    for (change, field, value) in [
        (json!({}), "name", json!("ci")),
        (json!({"name": "other"}), "name", json!("other")),
        (json!({"description": "other"}), "description", json!("other")),
        (json!({"description": null}), "description", json!(null)),
        (json!({"description": ""}), "description", json!("")),
        (json!({"expiresAt": null}), "expiresAt", json!(null)),
        (json!({"expiresAt": "2026-06-01T02:00:00+02:00"}), "expiresAt", json!("2026-06-01T00:00:00.000Z")),
        (json!({"roles": []}), "roles", json!([])),
        (json!({"roles": ["operator", "operator"]}), "roles", json!(["operator"])),
    ] {
        for over_grpc in [false, true] {
            let (id, _) = make(&server, full.clone()).await;
            let mut expected = read(&server, &id).await;
            assert_eq!(expected["roles"], whole["roles"]);
            server.clock.advance(Duration::from_secs(1));
            let mut input = change.clone();
            input["id"] = id.clone().into();
            let updated = if over_grpc {
                server.admin().grpc("auth.updateApplication", &input).await.unwrap()
            } else {
                server.admin().call("auth.updateApplication", input).await
            };
            expected[field] = value.clone();
            expected["updatedAt"] = server.clock.in_future(Duration::ZERO).into();
            assert_eq!(updated, expected, "{change} over gRPC: {over_grpc}");
            assert_eq!(read(&server, &id).await, expected, "{change}");
        }
    }
}

#[tokio::test]
async fn what_must_have_a_value_cannot_be_null() {
    let server = Server::start().await;
    let (id, _) = make(&server, json!({"name": "ci"})).await;
    for field in ["name", "roles"] {
        let answer = server.admin().json("auth.updateApplication", json!({"id": id, field: null})).await;
        answer.refused(400, "BAD_REQUEST", &format!("Input validation failed: {field}: Must not be null"));
    }
}

#[tokio::test]
async fn without_a_mask_what_is_unset_stays() {
    let server = Server::start().await;
    let (id, _) = make(&server, json!({"name": "ci", "description": "d", "roles": ["reader"]})).await;
    let before = read(&server, &id).await;
    let message = pb::UpdateApplicationRequest { id: id.clone(), name: Some("renamed".into()), ..Default::default() };
    let mut request = tonic::Request::new(message);
    let key = format!("Bearer {}", server.admin().key.unwrap());
    request.metadata_mut().insert("authorization", key.parse().unwrap());
    let channel = tonic::transport::Endpoint::new(server.url.clone()).unwrap().connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<pb::UpdateApplicationRequest, pb::UpdateApplicationResponse>::default();
    let path = "/checkmate.auth.v1.ApplicationService/UpdateApplication".parse().unwrap();
    client.unary(request, path, codec).await.unwrap();
    let after = read(&server, &id).await;
    for (field, value) in
        [("name", &json!("renamed")), ("description", &before["description"]), ("roles", &before["roles"])]
    {
        assert_eq!(&after[field], value, "{field}");
    }
}

#[tokio::test]
async fn unknown_applications_and_roles_are_not_found() {
    let server = Server::start().await;
    let nothing = uuid::Uuid::now_v7().to_string();
    let (id, _) = make(&server, json!({"name": "ci"})).await;
    for (procedure, input, message) in [
        ("auth.updateApplication", json!({"id": nothing}), format!("Application not found: {nothing}")),
        ("auth.deleteApplication", json!(nothing), format!("Application not found: {nothing}")),
        ("auth.regenerateApplicationSecret", json!(nothing), format!("Application not found: {nothing}")),
        ("auth.updateApplication", json!({"id": id, "roles": ["nope"]}), "Role not found: nope".into()),
        ("auth.createApplication", json!({"name": "x", "roles": ["reader", "nope"]}), "Role not found: nope".into()),
        ("auth.updateRole", json!({"id": "nope"}), "Role not found: nope".into()),
        ("auth.deleteRole", json!("nope"), "Role not found: nope".into()),
    ] {
        server.admin().json(procedure, input).await.refused(404, "NOT_FOUND", &message);
    }
}
