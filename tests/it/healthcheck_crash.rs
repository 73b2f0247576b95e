//! A server that is killed under load: what it has told of is there when it is back, and once.

use crate::checked::{PATIENCE, SECOND, Target, associate, check, runs, system};
use crate::cluster::until;
use crate::process::{Home, Running};
use crate::server::Caller;
use crate::stream::{Stream, Way};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The ids of runs that somebody was told of.
type Told = Arc<Mutex<Vec<String>>>;

fn server(home: &Home) -> Running {
    Running::start(home.command(&[]).env("CHECKMATE_LOG", "error"))
}

fn note(told: &Told, runs: &Value) {
    let ids = runs.as_array().into_iter().flatten().map(|run| run["id"].as_str().unwrap().to_owned());
    told.lock().unwrap().extend(ids);
}

/// Listens until the server is gone.
async fn listen(caller: Caller, told: Told) {
    let mut stream = loop {
        match Stream::open(Way::Events, &caller, "healthcheck.watchRuns", &json!({})).await {
            Ok(stream) => break stream,
            // A busy machine, for one.
            Err(refused) => assert_eq!(refused.0, "SERVICE_UNAVAILABLE", "{}", refused.1),
        }
        sleep(Duration::from_millis(100)).await;
    };
    while let Ok(message) = stream.next().await {
        note(&told, &message["runs"]);
    }
}

/// Wants runs, again and again, until the server is gone.
async fn want(caller: Caller, check: Value, told: Told) {
    let input = json!({"runHealthCheckNow": {"configurationId": check}});
    loop {
        let request = caller.request("POST", "/api/healthcheck/").json(&input);
        let Ok(answer) = request.send().await else { return };
        let status = answer.status().as_u16();
        let Ok(body) = answer.json::<Value>().await else { return };
        // Too many at once, for one.
        if status == 200 {
            note(&told, &body["runHealthCheckNow"]);
        } else {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn what_was_told_before_a_kill_is_there_after_it_and_once() {
    let (home, target) = (Home::new().await, Target::start().await);
    let (mut running, told) = (server(&home), Told::default());
    let key = running.key();
    let admin = running.with_key(&key);
    let each_second = check(&admin, &target, json!({"intervalSeconds": 1})).await;
    let wanted = check(&admin, &target, json!({"intervalSeconds": 3_600})).await;
    for number in 0..20 {
        let shop = system(&admin, &format!("shop {number}")).await;
        associate(&admin, &shop, &each_second, json!({})).await;
        if number == 0 {
            associate(&admin, &shop, &wanted, json!({})).await;
        }
    }
    for round in 1..=3 {
        let caller = running.with_key(&key);
        let before = told.lock().unwrap().len();
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(caller.clone(), told.clone()));
        for _ in 0..3 {
            tasks.spawn(want(caller.clone(), wanted.clone(), told.clone()));
        }
        until("there is a load", PATIENCE, async || told.lock().unwrap().len() > before + 60).await;
        sleep(SECOND / 10 * round).await;
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        running = server(&home);
    }
    let admin = running.with_key(&key);
    admin.call("healthcheck.pauseConfiguration", json!({"id": each_second})).await;
    // What was done by then is stored, and pages stay as they are.
    sleep(SECOND).await;
    let mut kept: BTreeMap<String, usize> = BTreeMap::new();
    for check in [&each_second, &wanted] {
        for run in runs(&admin, check).await {
            *kept.entry(run["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert!(kept.values().all(|count| *count == 1), "{kept:?}");
    let mut told = told.lock().unwrap().clone();
    told.sort_unstable();
    told.dedup();
    let lost: Vec<_> = told.iter().filter(|id| !kept.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), told.len());
}
