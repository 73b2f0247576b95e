//! Lists of the catalog: their order, their pages and their filters.

use crate::server::{Caller, Server, is_postgres};
use serde_json::{Value, json};

/// The paged lists: the noun in procedures, and the key of the rows.
const LISTS: [(&str, &str); 3] = [("System", "systems"), ("Group", "groups"), ("View", "views")];

const NOT_A_TOKEN: &str = "Input validation failed: pageToken: Is not a page token of this list with these filters";

async fn create(caller: &Caller, kind: &str, input: Value) -> String {
    let made = caller.call(&format!("catalog.create{kind}"), input).await;
    made["id"].as_str().unwrap().to_owned()
}

fn names(rows: &Value) -> Value {
    rows.as_array().unwrap().iter().map(|row| row["name"].clone()).collect()
}

#[tokio::test]
async fn pages_of_whatever_size_make_up_the_whole_list_oldest_first() {
    let server = Server::start().await;
    let admin = server.admin();
    for (kind, rows) in LISTS {
        let list = format!("catalog.list{kind}s");
        assert_eq!(admin.call(&list, json!({})).await, json!({rows: []}), "no token on the only page");
        for name in ["z", "a", "M", "a", "b"] {
            create(&admin, kind, json!({"name": name})).await;
        }
        let all = admin.call(&format!("catalog.get{kind}s"), json!({})).await;
        assert_eq!(names(&all), json!(["z", "a", "M", "a", "b"]), "{kind}");
        for size in [1, 2, 3, 4, 5, 6, 1_000] {
            let pages = admin.pages(&list, rows, json!({"pageSize": size})).await;
            assert_eq!(json!(pages.concat()), all, "{list} by {size}");
            assert_eq!(pages.len(), 5_usize.div_ceil(size), "{list} by {size}: no page is empty");
        }
    }
}

#[tokio::test]
async fn a_page_has_a_hundred_rows_unless_it_is_asked_for_more() {
    let server = Server::start().await;
    let admin = server.admin();
    for number in 0..101 {
        create(&admin, "View", json!({"name": number.to_string()})).await;
    }
    let pages = admin.pages("catalog.listViews", "views", json!({})).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [100, 1]);
    for size in [0, -1, 1_001] {
        let answer = admin.json("catalog.listViews", json!({"pageSize": size})).await;
        answer.refused(400, "BAD_REQUEST", "Input validation failed: pageSize: Must be between 1 and 1000");
    }
}

#[tokio::test]
async fn what_comes_and_goes_between_pages_moves_nothing() {
    let server = Server::start().await;
    let admin = server.admin();
    for (kind, rows) in LISTS {
        let mut ids = vec![];
        for number in 0..6 {
            ids.push(create(&admin, kind, json!({"name": number.to_string()})).await);
        }
        let (list, delete) = (format!("catalog.list{kind}s"), format!("catalog.delete{kind}"));
        let first = admin.call(&list, json!({"pageSize": 2})).await;
        // One from the first page, the last of it at which the next one starts, one of the next, and a new one.
        for gone in [&ids[0], &ids[1], &ids[3]] {
            admin.call(&delete, json!(gone)).await;
        }
        create(&admin, kind, json!({"name": "new"})).await;
        let second = admin.call(&list, json!({"pageSize": 2, "pageToken": first["nextPageToken"]})).await;
        assert_eq!(names(&second[rows]), json!(["2", "4"]), "{list}");
        // The size may change on the way.
        let third = admin.call(&list, json!({"pageSize": 9, "pageToken": second["nextPageToken"]})).await;
        assert_eq!(names(&third[rows]), json!(["5", "new"]), "{list}");
        assert_eq!(third["nextPageToken"], json!(null), "{list}");
    }
}

#[tokio::test]
async fn names_are_searched_literally_and_in_any_case() {
    let server = Server::start().await;
    let admin = server.admin();
    let all = ["100% Web", "web_1", "Straße", "ΟΔΟΣ ΑΘΗΝΑΣ", "Über!", r"back\slash", "w.b"];
    for (kind, rows) in LISTS {
        for name in all {
            create(&admin, kind, json!({"name": name})).await;
        }
        for (text, found) in [
            ("", &all[..]),
            ("WEB", &["100% Web", "web_1"]),
            ("%", &["100% Web"]),
            ("0% w", &["100% Web"]),
            ("_", &["web_1"]),
            ("w_b", &[]),
            ("!", &["Über!"]),
            ("ÜBER", &["Über!"]),
            ("STRASSE", &["Straße"]),
            ("οδός", &[]),
            ("οδος", &["ΟΔΟΣ ΑΘΗΝΑΣ"]),
            ("οδοσ", &["ΟΔΟΣ ΑΘΗΝΑΣ"]),
            ("αθηνας", &["ΟΔΟΣ ΑΘΗΝΑΣ"]),
            (r"\", &[r"back\slash"]),
            (".", &["w.b"]),
            ("nothing", &[]),
        ] {
            let page = admin.call(&format!("catalog.list{kind}s"), json!({"nameContains": text})).await;
            assert_eq!(names(&page[rows]), json!(found), "{kind} {text:?}");
        }
    }
}

#[tokio::test]
async fn filters_hold_together_and_on_every_page() {
    let server = Server::start().await;
    let admin = server.admin();
    let mut groups = vec![];
    for name in ["one", "two"] {
        groups.push(create(&admin, "Group", json!({"name": name})).await);
    }
    let mut systems = vec![];
    for (name, owner, group) in [
        ("web 1", Some("ops"), Some(0)),
        ("web 2", Some("dev"), Some(0)),
        ("mail", Some("ops"), Some(0)),
        ("web 3", Some("ops"), None),
        ("web 4", Some("ops"), Some(0)),
        ("web 5", None, Some(1)),
    ] {
        let system = create(&admin, "System", json!({"name": name, "owner": owner})).await;
        if let Some(group) = group {
            admin.call("catalog.addSystemToGroup", json!({"groupId": groups[group], "systemId": system})).await;
        }
        systems.push(system);
    }
    for (list, rows, filter, found) in [
        ("listSystems", "systems", json!({"owner": "dev"}), json!(["web 2"])),
        ("listSystems", "systems", json!({"owner": "OPS"}), json!([])),
        ("listSystems", "systems", json!({"owner": "ops"}), json!(["web 1", "mail", "web 3", "web 4"])),
        ("listSystems", "systems", json!({"groupId": groups[0]}), json!(["web 1", "web 2", "mail", "web 4"])),
        ("listSystems", "systems", json!({"groupId": groups[1].to_uppercase()}), json!(["web 5"])),
        (
            "listSystems",
            "systems",
            json!({"groupId": groups[0], "owner": "ops", "nameContains": "web"}),
            json!(["web 1", "web 4"]),
        ),
        ("listGroups", "groups", json!({"systemId": systems[0]}), json!(["one"])),
        ("listGroups", "groups", json!({"systemId": systems[3]}), json!([])),
        ("listGroups", "groups", json!({"systemId": systems[5], "nameContains": "o"}), json!(["two"])),
    ] {
        for size in 1..=4 {
            let mut input = filter.clone();
            input["pageSize"] = size.into();
            let pages = admin.pages(&format!("catalog.{list}"), rows, input).await;
            assert_eq!(names(&json!(pages.concat())), found, "{list} {filter} by {size}");
        }
    }
}

#[tokio::test]
async fn a_page_token_is_good_for_its_list_and_filters_only() {
    let server = Server::start().await;
    let admin = server.admin();
    let mut systems = vec![];
    for (kind, _) in LISTS {
        for _ in 0..2 {
            systems.push(create(&admin, kind, json!({"name": "x"})).await);
        }
    }
    for system in &systems[..2] {
        for user in ["a", "b"] {
            let input = json!({"systemId": system, "type": "user", "userId": user});
            admin.call("catalog.addSystemContact", input).await;
        }
    }
    let token = async |list: &str, mut input: Value| {
        input["pageSize"] = 1.into();
        let page = admin.call(&format!("catalog.{list}"), input).await;
        page["nextPageToken"].as_str().unwrap().to_owned()
    };
    let plain = token("listSystems", json!({})).await;
    let filtered = token("listSystems", json!({"nameContains": "x"})).await;
    let contacts = token("listSystemContacts", json!({"systemId": systems[0]})).await;
    // The seal stands first and begins with any letter: what replaces a letter has to differ from that one.
    let other_than = |is: bool| if is { "B" } else { "A" };
    let tampered = format!("{}{}", &plain[..plain.len() - 1], other_than(plain.ends_with('A')));
    let resealed = format!("{}{}", other_than(plain.starts_with('A')), &plain[1..]);
    for (list, input) in [
        ("listGroups", json!({"pageToken": plain})),
        ("listViews", json!({"pageToken": plain})),
        ("listSystemContacts", json!({"pageToken": plain, "systemId": systems[0]})),
        ("listSystemContacts", json!({"pageToken": contacts, "systemId": systems[1]})),
        ("listSystems", json!({"pageToken": plain, "nameContains": "x"})),
        ("listSystems", json!({"pageToken": plain, "nameContains": ""})),
        ("listSystems", json!({"pageToken": plain, "owner": "x"})),
        ("listSystems", json!({"pageToken": plain, "groupId": systems[2]})),
        ("listSystems", json!({"pageToken": filtered})),
        ("listSystems", json!({"pageToken": filtered, "owner": "x"})),
        ("listSystems", json!({"pageToken": tampered})),
        ("listSystems", json!({"pageToken": resealed})),
        ("listSystems", json!({"pageToken": format!("{plain}=")})),
        ("listSystems", json!({"pageToken": plain[..plain.len() - 4]})),
        ("listSystems", json!({"pageToken": "nonsense"})),
        ("listSystems", json!({"pageToken": systems[0]})),
        ("listSystems", json!({"pageToken": ""})),
    ] {
        let answer = admin.json(&format!("catalog.{list}"), input.clone()).await;
        assert_eq!(answer.status, 400, "{list} {input}: {}", answer.text);
        answer.refused(400, "BAD_REQUEST", NOT_A_TOKEN);
    }
    let server = server.restart_with(|_| {}).await;
    let page = server.admin().call("catalog.listSystems", json!({"pageToken": plain})).await;
    assert_eq!(page["systems"][0]["id"], systems[1], "a token outlives a restart");
}

/// Adds 9,999 systems and as many groups and views behind the server's back: ten thousand calls each would take minutes.
async fn fill(server: &Server) {
    use sqlx::Connection;
    let url = server.config.database.as_str();
    if is_postgres() {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        for statement in [
            "insert into catalog_system (id, name, name_folded, created_at, updated_at)
             select gen_random_uuid(), 'x', 'x', 0, 0 from generate_series(1, 9999)",
            "insert into catalog_group (id, name, name_folded, created_at, updated_at)
             select gen_random_uuid(), 'x', 'x', 0, 0 from generate_series(1, 9999)",
            "insert into catalog_view (id, name, name_folded, created_at, updated_at)
             select gen_random_uuid(), 'x', 'x', 0, 0 from generate_series(1, 9999)",
        ] {
            sqlx::query(statement).execute(&mut connection).await.unwrap();
        }
        return;
    }
    let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
    for statement in [
        "with recursive n (i) as (select 1 union all select i + 1 from n where i < 9999)
         insert into catalog_system (id, name, name_folded, created_at, updated_at)
         select randomblob(16), 'x', 'x', 0, 0 from n",
        "with recursive n (i) as (select 1 union all select i + 1 from n where i < 9999)
         insert into catalog_group (id, name, name_folded, created_at, updated_at)
         select randomblob(16), 'x', 'x', 0, 0 from n",
        "with recursive n (i) as (select 1 union all select i + 1 from n where i < 9999)
         insert into catalog_view (id, name, name_folded, created_at, updated_at)
         select randomblob(16), 'x', 'x', 0, 0 from n",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
}

#[tokio::test]
async fn beyond_ten_thousand_rows_only_pages_are_answered() {
    let server = Server::start().await;
    let admin = server.admin();
    fill(&server).await;
    for (kind, rows) in LISTS {
        let get = format!("catalog.get{kind}s");
        create(&admin, kind, json!({"name": "the ten thousandth"})).await;
        assert_eq!(admin.call(&get, json!({})).await.as_array().unwrap().len(), 10_000, "{get}");
        if kind == "Group" {
            // The systems are too many by now, and they are looked at first.
            let answer = admin.json("catalog.getEntities", json!({})).await;
            answer.refused(400, "BAD_REQUEST", "There are more than 10000; page with listSystems");
        }
        create(&admin, kind, json!({"name": "one more"})).await;
        let message = format!("There are more than 10000; page with list{kind}s");
        admin.json(&get, json!({})).await.refused(400, "BAD_REQUEST", &message);
        let pages = admin.pages(&format!("catalog.list{kind}s"), rows, json!({"pageSize": 1000})).await;
        assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), 10_001, "list{kind}s");
    }
}
