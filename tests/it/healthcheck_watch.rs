//! Statuses and runs as streams of changes, resumed from a cursor.

use crate::checked::{SECOND, Target, associate, check, first_run, next_run, runs, status, system, until_more_runs};
use crate::server::{Caller, Server, is_postgres};
use crate::stream::{Stream, WAYS, Way};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const MINUTE: Duration = Duration::from_mins(1);

async fn watch(way: Way, caller: &Caller, what: &str, input: Value) -> Stream {
    Stream::open(way, caller, &format!("healthcheck.{what}"), &input).await.unwrap()
}

/// The next message about a system that tells a status.
async fn until_told(stream: &mut Stream, system: &Value, wanted: &str) -> Value {
    for _ in 0..20 {
        let message = stream.next().await.unwrap();
        if message["systemId"] == *system && message["status"]["status"] == wanted {
            return message;
        }
    }
    panic!("{wanted} is not told");
}

#[tokio::test]
async fn changes_of_status_are_told_in_their_order_and_resumed_from_a_cursor() {
    for way in WAYS {
        let (server, target) = (Server::start().await, Target::start().await);
        let (admin, reader) = (server.admin(), server.reader().await);
        let shop = system(&admin, "shop").await;
        let web = check(&admin, &target, json!({})).await;
        associate(&admin, &shop, &web, json!({})).await;
        let mut stream = watch(way, &reader, "watchStatus", json!({})).await;
        let state = stream.state().await;
        assert_eq!((state.len(), &state[0]["status"]["status"]), (2, &json!("unknown")), "{way:?}");
        first_run(&server, &web).await;
        let good = until_told(&mut stream, &shop, "healthy").await;
        target.answers(500);
        for _ in 0..5 {
            next_run(&server, &web, MINUTE).await;
        }
        let told = stream.take(2).await;
        let statuses: Vec<_> = told.iter().map(|one| one["status"]["status"].as_str().unwrap()).collect();
        assert_eq!(statuses.last(), Some(&"unhealthy"), "{way:?}");
        assert!(told.iter().all(|one| one["type"] == "updated" && one["systemId"] == shop), "{way:?}: {told:?}");

        let mut again = watch(way, &reader, "watchStatus", json!({"cursor": good["cursor"]})).await;
        let cursors = |told: &[Value]| told.iter().map(|one| one["cursor"].clone()).collect::<Vec<_>>();
        assert_eq!(cursors(&again.take(2).await), cursors(&told), "{way:?}");
    }
}

#[tokio::test]
async fn runs_are_told_once_each_and_resumed_from_a_cursor() {
    for way in WAYS {
        let (server, target) = (Server::start().await, Target::start().await);
        let (admin, reader) = (server.admin(), server.reader().await);
        let (shop, other) = (system(&admin, "shop").await, system(&admin, "other").await);
        let web = check(&admin, &target, json!({})).await;
        associate(&admin, &shop, &web, json!({})).await;
        associate(&admin, &other, &web, json!({"enabled": false})).await;
        let mut stream = watch(way, &reader, "watchRuns", json!({"systemId": shop})).await;
        assert_eq!(stream.state().await.len(), 1, "there is no state");
        let first = first_run(&server, &web).await;
        let told = stream.next().await.unwrap();
        assert_eq!((&told["type"], &told["runs"][0]["id"]), (&json!("created"), &first["id"]), "{way:?}");
        let wanted = admin.call("healthcheck.runHealthCheckNow", json!({"configurationId": web})).await;
        for _ in 0..3 {
            next_run(&server, &web, MINUTE).await;
        }
        let kept: Vec<_> = runs(&admin, &web).await.into_iter().filter(|run| run["systemId"] == shop).collect();
        let ids = |messages: &[Value]| -> Vec<Value> {
            messages.iter().flat_map(|one| one["runs"].as_array().unwrap()).map(|run| run["id"].clone()).collect()
        };
        let rest = stream.take(4).await;
        assert_eq!(ids(&rest), kept[1..].iter().map(|run| run["id"].clone()).collect::<Vec<_>>(), "{way:?}");
        assert!(ids(&rest).iter().any(|id| wanted.as_array().unwrap().iter().any(|run| run["id"] == *id)));
        let input = json!({"systemId": shop, "cursor": told["cursor"]});
        let mut again = watch(way, &reader, "watchRuns", input).await;
        assert_eq!(ids(&again.take(4).await), ids(&rest), "{way:?}");
    }
}

#[tokio::test]
async fn a_check_that_falls_silent_is_told_in_time_and_once() {
    let (server, target) = (Server::start().await, Target::start().await);
    // A second replica looks as well.
    let other = if is_postgres() { Some(server.replica().await) } else { None };
    let (admin, shop) = (server.admin(), system(&server.admin(), "shop").await);
    let web = check(&admin, &target, json!({"timeoutMs": 300_000})).await;
    associate(&admin, &shop, &web, json!({})).await;
    first_run(&server, &web).await;
    let mut stream = watch(Way::Events, &admin, "watchStatus", json!({})).await;
    assert_eq!(stream.state().await[0]["status"]["status"], "healthy");
    // From now on nothing is heard of it.
    target.hangs(true);
    // Three intervals, what a run takes, and how much longer than the interval that is.
    let (intervals, a_run, longer) = (SECOND * 180, SECOND * 300, SECOND * 240);
    server.clock.advance(intervals + a_run + longer.saturating_sub(SECOND * 30));
    assert!(timeout(SECOND * 2, stream.next()).await.is_err(), "it is not silent for long enough");
    server.clock.advance(SECOND * 40);
    let began = Instant::now();
    let told = stream.next().await.unwrap();
    assert_eq!((&told["systemId"], &told["status"]["status"]), (&shop, &json!("unknown")));
    assert!(began.elapsed() < SECOND * 10, "{:?}", began.elapsed());
    assert_eq!(status(&admin, &shop).await["checkStatuses"][0]["since"], told["status"]["checkStatuses"][0]["since"]);
    server.clock.advance(MINUTE * 2);
    assert!(timeout(SECOND * 3, stream.next()).await.is_err(), "it is told once");

    // A change ends the look that hangs; the next one is due within a second.
    target.hangs(false);
    let changed = json!({"id": web, "body": {"timeoutMs": 10_000}});
    admin.call("healthcheck.updateConfiguration", changed).await;
    let mut told = Value::Null;
    for _ in 0..20 {
        server.clock.advance(SECOND);
        if let Ok(next) = timeout(SECOND, stream.next()).await {
            told = next.unwrap();
        }
        if told["status"]["status"] == "healthy" {
            break;
        }
    }
    assert_eq!(told["status"]["status"], "healthy", "and begins anew");
    drop(other);
    until_more_runs(&admin, &web, 1).await;
    sleep(SECOND / 10).await;
}
