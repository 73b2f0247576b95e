//! Random calls never break what holds of every incident.

use crate::maintenance::{system, text};
use crate::maintenance_model::Dice;
use crate::server::{Caller, Server};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const STATUSES: [&str; 5] = ["investigating", "identified", "fixing", "monitoring", "resolved"];

#[derive(Clone, Debug)]
struct Model {
    status: &'static str,
    /// Seconds since the test began.
    opened: u64,
    resolved: Option<u64>,
    systems: BTreeSet<String>,
    timeline: Vec<Value>,
}

struct World {
    server: Server,
    admin: Caller,
    systems: Vec<String>,
    dice: Dice,
    now: u64,
    models: BTreeMap<String, Model>,
}

impl World {
    fn side(&mut self, sides: usize) -> usize {
        usize::try_from(self.dice.below(u64::try_from(sides).unwrap())).unwrap()
    }

    fn some_systems(&mut self) -> BTreeSet<String> {
        let count = 1 + self.side(self.systems.len());
        let mut some = BTreeSet::new();
        for _ in 0..count {
            let one = self.side(self.systems.len());
            some.insert(self.systems[one].clone());
        }
        some
    }

    async fn create(&mut self) {
        let systems = self.some_systems();
        let message = if self.side(2) == 0 { Value::Null } else { json!("it began") };
        let mut input = json!({"title": "t", "severity": "major", "systemIds": systems});
        if !message.is_null() {
            input["initialMessage"] = message;
        }
        let made = self.admin.call("incident.createIncident", input).await;
        let model = Model { status: "investigating", opened: self.now, resolved: None, systems, timeline: vec![] };
        self.models.insert(text(&made["id"]), model);
    }

    async fn change(&mut self, id: &str, to: &'static str, step: usize) {
        let (by_itself, now) = (to == "resolved" && self.side(2) == 0, self.now);
        let answer = if by_itself {
            self.admin.json("incident.resolveIncident", json!({"id": id})).await
        } else {
            let input = json!({"incidentId": id, "message": "m", "statusChange": to});
            self.admin.json("incident.addUpdate", input).await
        };
        let model = self.models.get_mut(id).unwrap();
        let expected = if (model.status, to) == ("resolved", "resolved") { 409 } else { 200 };
        assert_eq!(answer.status, expected, "step {step} {model:?} {to}: {}", answer.text);
        if expected == 200 {
            model.status = to;
            model.resolved = (to == "resolved").then_some(now);
        }
    }

    async fn act(&mut self, step: usize) {
        let place = self.side(1_000);
        let id = self.models.keys().rev().nth(place % self.models.len().clamp(1, 6)).cloned();
        match (self.side(14), id) {
            (0..=2, _) | (_, None) => self.create().await,
            (3..=8, Some(id)) => {
                let to = STATUSES[self.side(STATUSES.len())];
                self.change(&id, to, step).await;
            }
            (9, Some(id)) => {
                self.admin.call("incident.addUpdate", json!({"incidentId": id, "message": "a note"})).await;
            }
            (10..=11, Some(id)) => {
                let systems = self.some_systems();
                self.admin.call("incident.updateIncident", json!({"id": id, "systemIds": systems})).await;
                self.models.get_mut(&id).unwrap().systems = systems;
            }
            (12, Some(id)) => {
                self.admin.call("incident.deleteIncident", json!(id)).await;
                self.models.remove(&id);
            }
            (_, Some(_)) => self.replace_a_system(step).await,
        }
    }

    async fn replace_a_system(&mut self, step: usize) {
        let place = self.side(self.systems.len());
        let fresh = system(&self.admin, &format!("system {step}")).await;
        let gone = std::mem::replace(&mut self.systems[place], fresh);
        self.admin.call("catalog.deleteSystem", json!(gone)).await;
        for model in self.models.values_mut() {
            model.systems.remove(&gone);
        }
    }

    /// Everything reads as the model says, and every timeline leads to the status that is read.
    async fn look(&mut self, step: usize) {
        let found = self.admin.call("incident.getIncidents", json!({"includeResolved": true})).await;
        assert_eq!(found.as_array().unwrap().len(), self.models.len());
        for (id, model) in &mut self.models {
            let whole = self.admin.call("incident.getIncident", json!({"id": id})).await;
            assert_eq!(whole["status"], model.status, "step {step}");
            let seconds = model.resolved.map(|at| at - model.opened);
            assert_eq!(whole["durationSeconds"], json!(seconds), "step {step} {model:?}");
            assert_eq!(whole["resolvedAt"].is_null(), model.resolved.is_none());
            let systems: BTreeSet<_> = whole["systemIds"].as_array().unwrap().iter().map(text).collect();
            assert_eq!(systems, model.systems);
            let entries = whole["updates"].as_array().unwrap().clone();
            assert_eq!(entries[..model.timeline.len()], model.timeline[..], "a timeline only grows");
            let times: Vec<_> = entries.iter().map(|entry| text(&entry["createdAt"])).collect();
            assert!(times.is_sorted(), "{times:?}");
            let last = entries.iter().rev().find_map(|entry| entry["statusChange"].as_str());
            assert_eq!(last.unwrap_or("investigating"), model.status);
            model.timeline = entries;
        }
        self.look_at_systems().await;
    }

    /// A system shows exactly what touches it and is not resolved, newest first.
    async fn look_at_systems(&self) {
        let bulk = self.admin.call("incident.getBulkIncidentsForSystems", json!({"systemIds": self.systems})).await;
        for system in &self.systems {
            let is_its = |model: &&Model| model.status != "resolved" && model.systems.contains(system);
            let mut expected: Vec<_> =
                self.models.iter().filter(|(_, model)| is_its(model)).map(|(id, _)| id.clone()).collect();
            expected.reverse();
            let ids = |found: &Value| found.as_array().unwrap().iter().map(|one| text(&one["id"])).collect::<Vec<_>>();
            let found = self.admin.call("incident.getIncidentsForSystem", json!({"systemId": system})).await;
            assert_eq!(ids(&found), expected);
            assert_eq!(ids(&bulk["incidents"][system]), expected[..expected.len().min(10)]);
        }
    }
}

#[tokio::test]
async fn random_calls_agree_with_a_model() {
    for seed in [4, 11] {
        let server = Server::start().await;
        let admin = server.admin();
        let mut systems = vec![];
        for number in 0..4 {
            systems.push(system(&admin, &number.to_string()).await);
        }
        let mut world = World { server, admin, systems, dice: Dice(seed), now: 0, models: BTreeMap::new() };
        for step in 0..150 {
            let seconds = 1 + world.dice.below(600);
            world.server.clock.advance(Duration::from_secs(seconds));
            world.now += seconds;
            world.act(step).await;
            if step % 10 == 9 {
                world.look(step).await;
            }
        }
        let has = |is_over| world.models.values().any(|model| (model.status == "resolved") == is_over);
        assert!(world.models.len() > 5 && has(true) && has(false), "the run was worth it: {:?}", world.models);
    }
}
