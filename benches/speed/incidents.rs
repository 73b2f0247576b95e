//! What a dashboard asks of a hundred thousand incidents: pages with filters, and what is wrong with two hundred systems.

use crate::data;
use crate::load::{self, Ask};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use std::net::SocketAddr;
use std::time::Instant;

/// How many incidents, with three entries each in their timelines, over how many systems.
pub const INCIDENTS: usize = 100_000;
pub const SYSTEMS: usize = 1_000;

/// What a page or a bulk call may take at the 95th percentile, in milliseconds.
pub const AIM_MS: f64 = 10.0;

/// Each question so often, one after another.
const ASKED: usize = 200;

/// Puts them into a database that has the systems: two systems each, one in 97 not resolved, evenly over the systems.
pub async fn fill(url: &str) -> Result<()> {
    const STATEMENTS: [&str; 4] = [
        "with recursive place(n) as (select 0 union all select n + 1 from place where n < 99999)
         insert into incident
             (id, title, description, search_text, severity, status, is_active, suppress_notifications,
              created_by_kind, created_by_id, created_by_name, created_at, updated_at, resolved_at, place)
         select unhex(printf('019b8ea57618700080050000%08x', n)), 'payments fail ' || n, 'Cards are declined',
                'payments fail ' || n || char(10) || 'cards are declined',
                case n % 10 when 0 then 'critical' when 1 then 'major' else 'minor' end,
                case when n % 97 then 'resolved' else 'fixing' end, n % 97 = 0, n % 7 = 0,
                'application', 'load', 'load', 1767624767000000 + n * 1000000, 1767624767000000 + n * 1000000,
                case when n % 97 then 1767624767000000 + n * 1000000 + 600000000 end, n + 1
         from place",
        "insert into incident_text (rowid, search_text) select place, search_text from incident",
        "insert into incident_system (incident_id, system_id, is_active, created_at)
         select incident.id, system.id, incident.is_active, incident.created_at
         from (select id, is_active, created_at, row_number() over (order by id) - 1 as n from incident) as incident
         join (select id, row_number() over (order by id) - 1 as n from catalog_system) as system
           on system.n in (incident.n * 7 % 1000, (incident.n * 13 + 1) % 1000)",
        "insert into incident_update
             (incident_id, place, id, message, status_change, created_by_kind, created_by_id, created_by_name, created_at)
         select id, step.n, randomblob(16), 'somebody looks at it', null, 'application', 'load', 'load', created_at + step.n
         from incident, (select 1 as n union all select 2 union all select 3) as step",
    ];
    let mut connection = SqliteConnection::connect(url).await?;
    for statement in STATEMENTS {
        sqlx::query(statement).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// The names of the questions, and the median and 95th percentile of the answers' times in milliseconds.
pub async fn measure(address: SocketAddr, key: &str) -> Result<Vec<(&'static str, f64, f64)>> {
    let some: Vec<_> = (0..200).map(|place| data::system_id(place * 5).to_string()).collect();
    let page = |filter: Value| {
        let mut input = json!({"pageSize": 50});
        if let (Some(input), Value::Object(filter)) = (input.as_object_mut(), filter) {
            input.extend(filter);
        }
        json!({"listIncidents": input})
    };
    let system = data::system_id(77).to_string();
    let questions = [
        ("page of 50", page(json!({}))),
        ("page of 50 by status", page(json!({"status": "fixing"}))),
        ("page of 50 by severity", page(json!({"severity": "critical", "includeResolved": false}))),
        ("page of 50 by system", page(json!({"systemId": system}))),
        ("page of 50 by system and severity", page(json!({"systemId": system, "severity": "minor"}))),
        (
            "page of 50 by time and text",
            page(json!({"createdFrom": "2026-01-05T15:00:00Z", "createdBefore": "2026-01-06T12:00:00Z",
                        "textContains": "DECLINED"})),
        ),
        ("page of 50 by a text that one has", page(json!({"textContains": "fail 4711"}))),
        ("page of 50 by a text that nobody has", page(json!({"textContains": "no such thing"}))),
        ("page of 50 by a text that 100 have", page(json!({"textContains": "fail 471"}))),
        ("what is wrong, all of it", json!({"getIncidents": {}})),
        ("bulk of 200 systems", json!({"getBulkIncidentsForSystems": {"systemIds": some}})),
    ];
    let mut figures = vec![];
    for (name, question) in questions {
        let ask = Ask::post("/api/incident/", key, &question.to_string());
        let mut times = vec![];
        for _ in 0..ASKED {
            let asked = Instant::now();
            let (_, body) = load::once(address, &ask).await?;
            times.push(asked.elapsed().as_secs_f64() * 1e3);
            ensure!(
                body.len() > 200 || name.ends_with("nobody has"),
                "{name}: hardly an answer: {}",
                String::from_utf8_lossy(&body)
            );
        }
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times.get(ASKED * part / 100).copied().context("a time");
        figures.push((name, at(50)?, at(95)?));
    }
    Ok(figures)
}
