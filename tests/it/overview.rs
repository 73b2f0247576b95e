//! What a dashboard asks of many systems: bounded in bytes and in statements, and read along indexes.

use crate::maintenance::{HOUR, text, window};
use crate::raw::Raw;
use crate::server::{Answer, Caller, Server, is_postgres};
use futures_util::future::join_all;
use serde_json::{Value, json};

async fn systems(caller: &Caller, count: usize) -> Vec<String> {
    let mut made = vec![];
    for part in (0..count).collect::<Vec<_>>().chunks(20) {
        let create = |number: &usize| {
            let name = format!("system {number}");
            async move { caller.call("catalog.createSystem", json!({"name": name})).await }
        };
        made.extend(join_all(part.iter().map(create)).await.iter().map(|system| text(&system["id"])));
    }
    made.sort();
    made
}

async fn repeat(server: &Server, title: &str, rrule: &str, systems: &[String]) -> Value {
    let touched: Vec<_> = systems.iter().collect();
    let mut input = window(server, title, 1, &touched);
    input["recurrence"] = json!({"rrule": rrule, "timeZone": "Europe/Berlin"});
    server.admin().call("maintenance.scheduleWindow", input).await
}

fn shown<'a>(answer: &'a Answer, procedure: &str, key: &str, system: &str) -> &'a Vec<Value> {
    answer.body[procedure][key][system].as_array().unwrap()
}

#[tokio::test]
async fn a_dashboard_of_200_systems_is_answered_in_few_bytes_whatever_is_planned() {
    const BULK: &str = "getBulkMaintenancesForSystems";
    let server = Server::start().await;
    let admin = server.admin();
    let systems = systems(&admin, 200).await;
    let daily = repeat(&server, "daily", "FREQ=DAILY", &systems[..150]).await;
    for number in 0..3 {
        repeat(&server, &format!("hourly {number}"), "FREQ=HOURLY", &systems).await;
    }
    let mut once = window(&server, "once", 500, &[&systems[0]]);
    once["description"] = json!("x".repeat(4_000));
    admin.call("maintenance.scheduleWindow", once).await;
    server.clock.advance(HOUR + HOUR / 2);

    let answer = admin.json(&format!("maintenance.{BULK}"), json!({"systemIds": systems})).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.len() < 400_000, "{} bytes", answer.text.len());
    for system in &systems {
        let windows = shown(&answer, BULK, "maintenances", system);
        assert_eq!(windows[0]["status"], "in_progress");
        assert!(windows.iter().all(|one| one["systemIds"] == json!([system])));
        assert!(windows.iter().map(|one| text(&one["startAt"])).is_sorted());
    }
    assert_eq!(answer.body[BULK]["incomplete"], json!(systems), "each has six windows or more, and room for two");

    // Of few systems more is shown: of each series what is in progress and the next one.
    let few = admin.json(&format!("maintenance.{BULK}"), json!({"systemIds": [systems[0], systems[199]]})).await;
    let windows = shown(&few, BULK, "maintenances", &systems[0]);
    let of_daily: Vec<_> = windows.iter().filter(|one| one["seriesId"] == daily["seriesId"]).collect();
    let statuses: Vec<_> = of_daily.iter().map(|one| text(&one["status"])).collect();
    assert_eq!((windows.len(), statuses), (9, vec!["in_progress".to_owned(), "scheduled".to_owned()]));
    assert_eq!(windows[8]["title"], "once", "a series does not hide what is planned behind it");
    assert_eq!(text(&windows[8]["description"]).chars().count(), 201);
    assert_eq!(shown(&few, BULK, "maintenances", &systems[199]).len(), 6);
    assert_eq!(few.body[BULK]["incomplete"], json!([]));
    let alone = admin.call("maintenance.getMaintenancesForSystem", json!({"systemId": systems[199]})).await;
    assert_eq!(alone.as_array().unwrap().len(), 3 * 100, "all of it");
}

#[tokio::test]
async fn what_is_wrong_with_200_systems_is_answered_in_few_bytes() {
    const BULK: &str = "getBulkIncidentsForSystems";
    let server = Server::start().await;
    let admin = server.admin();
    let systems = systems(&admin, 200).await;
    for number in 0..12 {
        let input = json!({"title": format!("down {number}"), "severity": "minor", "systemIds": systems,
            "description": "d".repeat(4_000)});
        admin.call("incident.createIncident", input).await;
    }
    let answer = admin.json(&format!("incident.{BULK}"), json!({"systemIds": systems})).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.len() < 400_000, "{} bytes", answer.text.len());
    for system in &systems {
        let titles: Vec<_> = shown(&answer, BULK, "incidents", system).iter().map(|one| text(&one["title"])).collect();
        assert_eq!(titles, ["down 11", "down 10"], "the newest, and the same room for everybody");
    }
    assert_eq!(answer.body[BULK]["incomplete"], json!(systems));
    let one = admin.json(&format!("incident.{BULK}"), json!({"systemIds": [systems[7]]})).await;
    assert_eq!(shown(&one, BULK, "incidents", &systems[7]).len(), 10);
    assert_eq!(one.body[BULK]["incomplete"], json!([systems[7]]));
}

/// What a call asks of the tables of incidents and windows.
async fn statements(server: &Server, procedure: &str, input: Value) -> Vec<String> {
    server.log.take_statements();
    server.admin().call(procedure, input).await;
    let is_ours = |statement: &String| {
        let of_clock = statement.contains("as dues") || statement.contains("extend_at <= $1");
        (statement.contains("incident") || statement.contains("maintenance"))
            && !of_clock
            && !statement.contains("healthcheck")
    };
    server.log.take_statements().into_iter().filter(is_ours).collect()
}

#[tokio::test]
async fn lists_and_bulk_calls_ask_as_much_of_few_as_of_many() {
    let server = Server::start_with(|config| config.limits.reply_cache_bytes = 0).await;
    let admin = server.admin();
    let systems = systems(&admin, 30).await;
    let questions = || {
        [
            ("incident.getIncidents", json!({}), 2),
            ("incident.listIncidents", json!({"pageSize": 50, "severity": "minor"}), 2),
            ("incident.getIncidentsForSystem", json!({"systemId": systems[0]}), 2),
            ("incident.getBulkIncidentsForSystems", json!({"systemIds": systems}), 2),
            ("maintenance.getWindows", json!({}), 2),
            ("maintenance.listMaintenances", json!({"pageSize": 50, "systemId": systems[0]}), 2),
            ("maintenance.getMaintenancesForSystem", json!({"systemId": systems[0]}), 2),
            ("maintenance.getBulkMaintenancesForSystems", json!({"systemIds": systems}), 2),
        ]
    };
    for is_full in [false, true] {
        for (procedure, input, expected) in questions() {
            let asked = statements(&server, procedure, input).await;
            assert_eq!(asked.len(), expected, "{procedure} {is_full}: {asked:#?}");
        }
        repeat(&server, "daily", "FREQ=DAILY", &systems).await;
        for number in 0..20 {
            let input = json!({"title": number.to_string(), "severity": "minor", "systemIds": systems});
            admin.call("incident.createIncident", input).await;
        }
    }
}

/// The statements that the server really asks.
#[tokio::test]
async fn every_list_of_incidents_and_windows_has_an_index_for_its_order_and_filters() {
    if is_postgres() {
        return;
    }
    let server = Server::start_with(|config| config.limits.reply_cache_bytes = 0).await;
    let systems = systems(&server.admin(), 2).await;
    let series = repeat(&server, "daily", "FREQ=DAILY", &systems).await["seriesId"].clone();
    let mut raw = Raw::open(&server.config.database).await;
    let mut looked_at = 0;
    for (procedure, filters) in [
        (
            "incident.listIncidents",
            vec![
                json!({}),
                json!({"status": "fixing"}),
                json!({"severity": "major"}),
                json!({"includeResolved": false}),
                json!({"systemId": systems[0]}),
                json!({"systemId": systems[0], "includeResolved": false}),
                json!({"systemId": systems[0], "status": "resolved"}),
                json!({"createdFrom": "2026-01-05T15:00:00Z"}),
                json!({"textContains": "few have this"}),
            ],
        ),
        ("incident.getBulkIncidentsForSystems", vec![json!({"systemIds": systems})]),
        (
            "maintenance.listMaintenances",
            vec![
                json!({}),
                json!({"status": "scheduled"}),
                json!({"status": "in_progress"}),
                json!({"status": "completed"}),
                json!({"status": "cancelled"}),
                json!({"systemId": systems[0]}),
                json!({"systemId": systems[0], "status": "scheduled"}),
                json!({"seriesId": series}),
            ],
        ),
        ("maintenance.getMaintenancesForSystem", vec![json!({"systemId": systems[0]})]),
        ("maintenance.getBulkMaintenancesForSystems", vec![json!({"systemIds": systems})]),
    ] {
        for mut input in filters {
            if procedure.contains(".list") {
                input["pageSize"] = json!(50);
            }
            for statement in statements(&server, procedure, input.clone()).await {
                let plan = raw.plan_of(&statement).await;
                looked_at += 1;
                for table in ["incident", "incident_system", "maintenance", "maintenance_system", "link"] {
                    let is_read_whole = plan.split("; ").any(|step| step == format!("SCAN {table}"));
                    assert!(!is_read_whole, "{procedure} {input}: {plan}\n{statement}");
                }
                // Bounded before they are sorted: the share of each system, the few that have a text, and two pages of
                // what runs, by hand and by the clock.
                let is_sorted = ["row_number", "place in", "as running"].iter().any(|word| statement.contains(word));
                assert!(is_sorted || !plan.contains("TEMP B-TREE"), "{procedure} {input}: {plan}\n{statement}");
            }
        }
    }
    assert!(looked_at > 30, "{looked_at}");
}

#[tokio::test]
async fn a_text_is_found_wherever_it_stands_and_as_it_is_now() {
    let server = Server::start().await;
    let admin = server.admin();
    let systems = systems(&admin, 2).await;
    let mut ids = vec![];
    for (number, title) in ["Payments FAIL", "50%_off \"now\"", "straße gesperrt", "ab"].into_iter().enumerate() {
        let input = json!({"title": title, "severity": "minor", "systemIds": [systems[number % 2]],
            "description": format!("number {number} of a few")});
        ids.push(admin.call("incident.createIncident", input).await["id"].clone());
        server.clock.advance(HOUR);
    }
    let titles = async |filter: Value| {
        let mut input = filter;
        input["pageSize"] = json!(1);
        let found = admin.pages("incident.listIncidents", "incidents", input).await.concat();
        found.iter().map(|one| text(&one["title"])).collect::<Vec<_>>()
    };
    for (asked, expected) in [
        ("ments f", vec!["Payments FAIL"]),
        ("STRASSE", vec!["straße gesperrt"]),
        ("%_o", vec!["50%_off \"now\""]),
        ("\"now\"", vec!["50%_off \"now\""]),
        ("ab", vec!["ab"]),
        ("g", vec!["straße gesperrt"]),
        ("number 1 of", vec!["50%_off \"now\""]),
        ("of a few", vec!["ab", "straße gesperrt", "50%_off \"now\"", "Payments FAIL"]),
        ("fail\nnumber", vec!["Payments FAIL"]),
        ("off AND now", vec![]),
        ("nobody has this", vec![]),
    ] {
        assert_eq!(titles(json!({"textContains": asked})).await, expected, "{asked}");
    }
    let both = json!({"textContains": "of a few", "systemId": systems[0]});
    assert_eq!(titles(both).await, ["straße gesperrt", "Payments FAIL"]);
    admin.call("incident.resolveIncident", json!({"id": ids[3]})).await;
    let open = json!({"textContains": "of a few", "includeResolved": false, "systemId": systems[1]});
    assert_eq!(titles(open).await, ["50%_off \"now\""]);
    assert_eq!(titles(json!({"textContains": "of a few", "status": "resolved"})).await, ["ab"]);
    admin.call("incident.updateIncident", json!({"id": ids[0], "title": "Refunds work"})).await;
    assert_eq!(titles(json!({"textContains": "payments"})).await, Vec::<String>::new());
    assert_eq!(titles(json!({"textContains": "refunds"})).await, ["Refunds work"]);
    admin.call("incident.deleteIncident", ids[3].clone()).await;
    let input = json!({"title": "another", "severity": "minor", "systemIds": systems});
    admin.call("incident.createIncident", input).await;
    assert_eq!(titles(json!({"textContains": "number 3"})).await, Vec::<String>::new(), "its number is another's now");
}
