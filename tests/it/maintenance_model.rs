//! Random calls never break what holds of every window.

use crate::maintenance::{system, text};
use crate::server::Server;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// A generator of its own, so that a seed stays the same run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[derive(Clone, Debug)]
struct Model {
    status: &'static str,
    /// Minutes since the test began.
    start: u64,
    end: u64,
}

impl Model {
    fn by_clock(&mut self, now: u64) {
        if self.status == "scheduled" && self.start <= now {
            self.status = "in_progress";
        }
        if self.status == "in_progress" && self.end <= now {
            self.status = "completed";
        }
    }

    fn may(&self, to: &str) -> bool {
        matches!(
            (self.status, to),
            ("scheduled", "in_progress" | "cancelled") | ("in_progress", "completed" | "cancelled")
        )
    }
}

#[tokio::test]
async fn random_calls_agree_with_a_model() {
    const STATUSES: [&str; 4] = ["scheduled", "in_progress", "completed", "cancelled"];
    let server = Server::start().await;
    let (admin, web) = (server.admin(), system(&server.admin(), "web").await);
    let (mut dice, mut now, mut models) = (Dice(4), 0_u64, BTreeMap::<String, Model>::new());
    let mut lines: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for step in 0..250 {
        let minutes = dice.below(30);
        server.clock.advance(Duration::from_mins(minutes));
        now += minutes;
        let at = |minute: u64| server.clock.in_future(Duration::from_mins(minute - now));
        for model in models.values_mut() {
            model.by_clock(now);
        }
        let pick = usize::try_from(dice.below(1_000)).unwrap();
        // Of the newest: the others are mostly over.
        let id = models.keys().rev().nth(pick % models.len().clamp(1, 6)).cloned();
        match (dice.below(14), id) {
            (0..=3, _) | (_, None) => {
                let (start, end) = (now + dice.below(120), now + dice.below(240));
                let input = json!({"title": "t", "startAt": at(start), "endAt": at(end), "systemIds": [web]});
                let answer = admin.json("maintenance.scheduleWindow", input).await;
                assert_eq!(answer.status == 200, end > start, "step {step}: {}", answer.text);
                if answer.status == 200 {
                    let model = Model { status: "scheduled", start, end };
                    models.insert(text(&answer.body["scheduleWindow"]["id"]), model);
                }
            }
            (4..=6, Some(id)) => {
                let model = models.get_mut(&id).unwrap();
                let to = STATUSES[usize::try_from(dice.below(4)).unwrap()];
                let input = json!({"maintenanceId": id, "message": "m", "statusChange": to});
                let answer = admin.json("maintenance.addUpdate", input).await;
                assert_eq!(answer.status == 200, model.may(to), "step {step} {model:?} {to}: {}", answer.text);
                if answer.status == 200 {
                    model.status = to;
                    model.start = if to == "in_progress" { now } else { model.start };
                }
            }
            (verb @ 7..=8, Some(id)) => {
                let (verb, to) = if verb == 7 { ("close", "completed") } else { ("cancel", "cancelled") };
                let model = models.get_mut(&id).unwrap();
                let answer = admin.json(&format!("maintenance.{verb}Maintenance"), json!({"id": id})).await;
                assert_eq!(answer.status == 200, model.may(to), "step {step} {model:?} {to}: {}", answer.text);
                if answer.status == 200 {
                    model.status = to;
                }
            }
            (9..=12, Some(id)) => {
                let model = models.get_mut(&id).unwrap();
                let (start, end) = (now + dice.below(120), now + dice.below(240));
                let with_start = dice.below(2) == 0;
                let mut input = json!({"id": id, "endAt": at(end)});
                if with_start {
                    input["startAt"] = json!(at(start));
                }
                let start = if with_start { start } else { model.start };
                let fine = match model.status {
                    "scheduled" => end > start && (end > now || end == model.end),
                    "in_progress" => start == model.start && end > start && (end > now || end == model.end),
                    _ => false,
                };
                let answer = admin.json("maintenance.updateMaintenance", input).await;
                assert_eq!(answer.status == 200, fine, "step {step} {model:?} {start} {end}: {}", answer.text);
                if answer.status == 200 {
                    (model.start, model.end) = (start, end);
                    model.by_clock(now);
                }
            }
            (_, Some(id)) => {
                admin.call("maintenance.deleteMaintenance", json!(id)).await;
                models.remove(&id);
                lines.remove(&id);
            }
        }
        if step % 5 == 0 {
            look(&server, now, &models, &mut lines).await;
        }
    }
    let reached = |status| models.values().any(|model| model.status == status);
    assert!(models.len() > 5 && reached("completed") && reached("cancelled"), "the run was worth it: {models:?}");
}

/// Everything reads as the model says; ends lie after starts; timelines only grow.
async fn look(server: &Server, now: u64, models: &BTreeMap<String, Model>, lines: &mut BTreeMap<String, Vec<Value>>) {
    let found = server.admin().call("maintenance.getWindows", json!({})).await;
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), models.len());
    for row in found {
        let model = &models[&text(&row["id"])];
        assert_eq!(row["status"], model.status, "at {now}: {row} {model:?}");
        assert!(text(&row["startAt"]) < text(&row["endAt"]));
    }
    for id in models.keys() {
        let whole = server.admin().call("maintenance.getMaintenance", json!({"id": id})).await;
        let updates = whole["updates"].as_array().unwrap().clone();
        let before = lines.entry(id.clone()).or_default();
        assert_eq!(updates[..before.len()], before[..], "a timeline only grows");
        let mut status = "scheduled".to_owned();
        for to in updates.iter().filter_map(|entry| entry["statusChange"].as_str()) {
            let model = Model { status: Box::leak(status.clone().into_boxed_str()), start: 0, end: 0 };
            assert!(model.may(to), "{status} to {to}");
            to.clone_into(&mut status);
        }
        assert_eq!(whole["status"], status);
        *before = updates;
    }
}
