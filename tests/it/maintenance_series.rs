//! Windows that repeat.

use crate::maintenance::{HOUR, fed, get, system, text, until_fed};
use crate::raw::Raw;
use crate::server::Server;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn repeat(server: &Server, rrule: &str, zone: &str, start: &str, end: &str) -> crate::server::Answer {
    let web = system(&server.admin(), "web").await;
    let input = json!({
        "title": "patches", "startAt": start, "endAt": end, "systemIds": [web],
        "recurrence": {"rrule": rrule, "timeZone": zone}
    });
    server.admin().json("maintenance.scheduleWindow", input).await
}

/// Every window of a series, the earliest start first.
async fn windows(server: &Server, series: &Value) -> Vec<Value> {
    let input = json!({"pageSize": 1000, "seriesId": series});
    let mut found = server.admin().pages("maintenance.listMaintenances", "maintenances", input).await.concat();
    found.reverse();
    found
}

fn starts(windows: &[Value]) -> Vec<String> {
    windows.iter().map(|one| text(&one["startAt"])).collect()
}

#[tokio::test]
async fn a_time_of_day_stays_across_daylight_saving() {
    let server = Server::start().await;
    // The clock of tests stands at 2026-01-05. Clocks go forward on 03-29 in Berlin, on 03-08 in New York.
    for (zone, start, end, last_of_winter, first_of_summer) in [
        (
            "Europe/Berlin",
            "2026-01-11T03:00:00+01:00",
            "2026-01-11T05:00:00+01:00",
            "2026-03-22T02:00:00.000Z",
            "2026-03-29T01:00:00.000Z",
        ),
        (
            "America/New_York",
            "2026-01-11T03:00:00-05:00",
            "2026-01-11T05:00:00-05:00",
            "2026-03-01T08:00:00.000Z",
            "2026-03-08T07:00:00.000Z",
        ),
    ] {
        let made = repeat(&server, "FREQ=WEEKLY;BYDAY=SU", zone, start, end).await.body["scheduleWindow"].take();
        let found = windows(&server, &made["seriesId"]).await;
        assert_eq!(found[0]["id"], made["id"]);
        let starts = starts(&found);
        let at = starts.iter().position(|start| start == last_of_winter).unwrap();
        assert_eq!(starts[at + 1], first_of_summer, "{zone}");
        assert!(found.iter().all(|one| one["status"] == "scheduled" && one["systemIds"] == made["systemIds"]));
    }
}

#[tokio::test]
async fn a_series_goes_on_and_does_not_make_anew_what_was_moved_cancelled_or_deleted() {
    let server = Server::start().await;
    let admin = server.admin();
    let made = repeat(&server, "FREQ=WEEKLY", "UTC", "2026-01-06T10:00:00Z", "2026-01-06T11:00:00Z").await;
    let series = &made.body["scheduleWindow"]["seriesId"];
    let before = windows(&server, series).await;
    assert_eq!(before.len(), 13, "90 days");
    let moved = json!({"id": before[2]["id"], "startAt": "2026-01-21T10:00:00Z", "endAt": "2026-01-21T11:00:00Z"});
    let moved = admin.call("maintenance.updateMaintenance", moved).await;
    assert_eq!(moved["occurrenceStart"], "2026-01-20T10:00:00.000Z");
    admin.call("maintenance.cancelMaintenance", json!({"id": before[3]["id"]})).await;
    admin.call("maintenance.deleteMaintenance", before[4]["id"].clone()).await;
    server.clock.advance(HOUR * 24 * 30);
    until_fed(&server, "maintenance.scheduled", 13 + 5).await;
    let after = starts(&windows(&server, series).await);
    assert_eq!(after.len(), 13 - 1 + 5);
    assert!(after.contains(&"2026-01-21T10:00:00.000Z".into()) && !after.contains(&"2026-01-20T10:00:00.000Z".into()));
    assert!(!after.contains(&text(&before[4]["startAt"])));
    assert_eq!(get(&server, &before[3]["id"]).await["status"], "cancelled");
    assert_eq!(get(&server, &before[3]["id"]).await["recurrence"]["rrule"], "FREQ=WEEKLY");
}

#[tokio::test]
async fn a_series_ends_with_all_that_has_not_started() {
    let server = Server::start().await;
    let admin = server.admin();
    for verb in ["cancel", "delete"] {
        let (start, end) = (server.clock.in_future(HOUR), server.clock.in_future(HOUR * 2));
        let made = repeat(&server, "FREQ=DAILY", "UTC", &start, &end).await.body["scheduleWindow"].take();
        server.clock.advance(HOUR * 25 + HOUR / 2);
        let (series, all) = (&made["seriesId"], windows(&server, &made["seriesId"]).await);
        let statuses = |windows: &[Value]| windows.iter().map(|one| text(&one["status"])).collect::<Vec<_>>();
        assert_eq!(statuses(&all)[..3], ["completed", "in_progress", "scheduled"]);
        // The one in progress is named, so it ends, too.
        let input = json!({"id": all[1]["id"], "series": true});
        admin.call(&format!("maintenance.{verb}Maintenance"), input.clone()).await;
        let left = windows(&server, series).await;
        if verb == "cancel" {
            assert!(statuses(&left)[1..].iter().all(|status| status == "cancelled"));
            admin.json("maintenance.cancelMaintenance", input).await.refused(
                409,
                "CONFLICT",
                "The maintenance is cancelled already",
            );
        } else {
            assert_eq!(statuses(&left), ["completed"]);
        }
        let before = fed(&server).await.iter().filter(|(kind, _)| kind == "maintenance.scheduled").count();
        server.clock.advance(HOUR * 24 * 40);
        tokio::time::sleep(Duration::from_millis(900)).await;
        until_fed(&server, "maintenance.scheduled", before).await;
    }
    let once = json!({"title": "t", "startAt": "2099-01-01T00:00:00Z", "endAt": "2099-01-02T00:00:00Z",
        "systemIds": [system(&admin, "mail").await]});
    let once = admin.call("maintenance.scheduleWindow", once).await;
    let answer = admin.json("maintenance.cancelMaintenance", json!({"id": once["id"], "series": true})).await;
    answer.refused(400, "BAD_REQUEST", "The maintenance is not part of a series");
}

#[tokio::test]
async fn a_series_without_windows_can_be_ended_and_leaves_nothing() {
    const SERIES: &str = "select count(*) from maintenance_series";
    let server = Server::start().await;
    let admin = server.admin();
    let mut raw = Raw::open(&server.config.database).await;
    let (start, end) = (server.clock.in_future(HOUR), server.clock.in_future(HOUR * 2));
    let made = repeat(&server, "FREQ=YEARLY", "UTC", &start, &end).await.body["scheduleWindow"].take();
    let whole = json!({"id": made["seriesId"], "series": true});
    admin.call("maintenance.deleteMaintenance", made["id"].clone()).await;
    assert_eq!(raw.count(SERIES).await, 1, "next year there is another window");
    let alone = admin.json("maintenance.deleteMaintenance", made["seriesId"].clone()).await;
    assert_eq!(alone.status, 404, "only with `series`: {}", alone.text);
    assert_eq!(admin.call("maintenance.deleteMaintenance", whole.clone()).await, json!({"success": true}));
    assert_eq!(raw.count(SERIES).await, 0);
    assert_eq!(admin.json("maintenance.deleteMaintenance", whole).await.status, 404);

    let few = repeat(&server, "FREQ=DAILY;COUNT=2", "UTC", &start, &end).await.body["scheduleWindow"].take();
    let all = windows(&server, &few["seriesId"]).await;
    admin.call("maintenance.deleteMaintenance", all[1]["id"].clone()).await;
    assert_eq!(raw.count(SERIES).await, 1);
    admin.call("maintenance.deleteMaintenance", all[0]["id"].clone()).await;
    assert_eq!(raw.count(SERIES).await, 0, "it had ended, and its last window is gone");
}

#[tokio::test]
async fn what_makes_no_series_is_refused_in_time_and_by_name() {
    let server = Server::start().await;
    let all = |to: u32| (0..to).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let times = format!("FREQ=YEARLY;BYHOUR={};BYMINUTE={};BYSECOND={}", all(24), all(60), all(60));
    for (rrule, zone, hours, field) in [
        ("FREQ=WEEKLY", "Mars/Base", 1, "timeZone"),
        ("nonsense", "UTC", 1, "rrule"),
        ("FREQ=SECONDLY", "UTC", 1, "rrule"),
        ("FREQ=MINUTELY;INTERVAL=600", "UTC", 1, "rrule"),
        ("FREQ=DAILY;INTERVAL=0", "UTC", 1, "rrule"),
        ("FREQ=DAILY;UNTIL=20270101", "UTC", 1, "rrule"),
        ("FREQ=DAILY", "UTC", 25, "rrule"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31", "UTC", 1, "rrule"),
        ("FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=31", "UTC", 1, "rrule"),
        ("FREQ=HOURLY;INTERVAL=65535;BYMONTH=2;BYMONTHDAY=31", "Europe/Berlin", 1, "rrule"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;BYSETPOS=-1", "Europe/Berlin", 1, "rrule"),
        ("FREQ=DAILY;COUNT=99999999999", "UTC", 1, "rrule"),
        ("FREQ=DAILY\r\nRDATE:20260101T000000Z", "UTC", 1, "rrule"),
        (&times, "UTC", 1, "rrule"),
    ] {
        let (start, end) = (server.clock.in_future(HOUR), server.clock.in_future(HOUR * (1 + hours)));
        let began = Instant::now();
        let answer = repeat(&server, rrule, zone, &start, &end).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("BAD_REQUEST")), "{rrule}: {}", answer.text);
        assert_eq!(answer.body["data"]["issues"][0]["path"], json!(["recurrence", field]), "{}", answer.text);
        assert!(began.elapsed() < Duration::from_secs(20), "{rrule} took {:?}", began.elapsed());
    }
    assert_eq!(server.admin().call("maintenance.getWindows", json!({})).await, json!([]));
}
