//! Runs into the database: a batch is one transaction, with the status that follows from each run, the incidents that it
//! opens and closes, and what those who watch are told.

use super::domain::{CheckId, Health, IncidentPolicy, RunId, RunKind};
use super::lease_store::{Lease, SHARDS};
use super::run_store::{Judging, NewRun};
use super::state::{State, Thresholds, grace_us};
use super::{PLUGIN, RUNS, STATUSES};
use crate::access::Call;
use crate::access::actor::Actor;
use crate::database::{Did, Timestamp, Writer};
use crate::error::Result;
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::SystemId;
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// What came of a run, on its way to the database.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The number of the association.
    pub association: i64,
    /// The time for which it was due.
    pub scheduled_at: Timestamp,
    /// Why it took place.
    pub kind: RunKind,
    /// The verdict.
    pub verdict: Health,
    /// How long the look took.
    pub latency_us: Option<i64>,
    /// What is kept of it, JSON.
    pub detail: Option<String>,
    /// Under which lease it was started, if there are leases.
    pub lease: Option<Lease>,
}

/// A run that was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Which.
    pub id: RunId,
    /// The check.
    pub check_id: CheckId,
    /// The system.
    pub system_id: SystemId,
    /// The verdict.
    pub verdict: Health,
    /// How long the look took.
    pub latency_us: Option<i64>,
    /// What is kept of it, JSON.
    pub detail: Option<String>,
}

/// The shard of an association.
#[must_use]
pub fn shard_of(association: i64) -> i64 {
    association.rem_euclid(SHARDS)
}

/// Stores runs. Left out are those of what has been paused or removed meanwhile, those whose time has a run already, and
/// those whose lease is lost: another replica runs them now.
pub async fn record(kernel: &Kernel, finished: Vec<Finished>, me: Option<Uuid>, now: Timestamp) -> Result<Vec<Stored>> {
    let mut store = kernel.database.writer().await?;
    let mut numbers: Vec<_> = finished.iter().map(|one| one.association).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let standing = match me {
        Some(me) => Some(store.standing_leases(me).await?),
        None => None,
    };
    let judging = store.lock_judging(&numbers).await?;
    let mut states = store.states(&numbers).await?;
    let mut finished: Vec<_> =
        finished.into_iter().filter(|one| may_be_stored(one, &judging, standing.as_deref())).collect();
    if finished.is_empty() {
        return Ok(vec![]);
    }
    for one in finished.iter_mut().filter(|one| one.kind != RunKind::Scheduled) {
        // What was not due has no time of its own: it comes behind what there is.
        let last = states.get(&one.association).map(|state| state.last_run_at);
        one.scheduled_at = last.map_or(one.scheduled_at, |last| one.scheduled_at.max(Timestamp(last.0 + 1)));
    }
    let batch: Uuid = kernel.ids.next();
    let rows: Vec<_> = finished.iter().map(new_run).collect();
    let inserted: BTreeSet<_> =
        store.insert_runs(&rows, batch).await?.into_iter().map(|(number, at)| (number, at.0)).collect();
    finished.retain(|one| inserted.contains(&(one.association, one.scheduled_at.0)));
    if finished.is_empty() {
        return Ok(vec![]);
    }
    let call = Call::by_server(PLUGIN, "runs health checks", now);
    let mut changed = BTreeSet::new();
    let mut incidents = vec![];
    let mut saved = HashMap::new();
    for one in &finished {
        let Some(judged) = judging.get(&one.association) else { continue };
        let before = states.remove(&one.association);
        let grace = grace_us(&judged.strategy_id, judged.interval_s);
        let was = before.as_ref().map_or(Health::Unknown, |state| state.as_of(one.scheduled_at, grace));
        let thresholds = Thresholds::of(&judged.strategy_id, judged.thresholds.as_deref());
        let mut state = State::after(before, one.verdict, one.scheduled_at, thresholds, grace);
        if was != state.as_of(one.scheduled_at, grace) {
            changed.insert(judged.system_id);
        }
        incidents.extend(store.follow_with_incident(kernel, &call, judged, one, &mut state).await?);
        states.insert(one.association, state.clone());
        saved.insert(one.association, state);
    }
    store.save_states(&saved).await?;
    for did in incidents {
        store.also(&did).await?;
    }
    for system in changed {
        store.also(&Did { plugin: STATUSES, ..call.did("status.changed", system) }).await?;
    }
    store.commit(Did { plugin: RUNS, ..call.did("runs.created", batch) }).await?;
    Ok(finished.into_iter().filter_map(|one| stored(one, &judging)).collect())
}

fn may_be_stored(one: &Finished, judging: &HashMap<i64, Judging>, standing: Option<&[Lease]>) -> bool {
    let Some(judged) = judging.get(&one.association) else { return false };
    let is_due = one.kind != RunKind::Scheduled || (judged.enabled && !judged.paused);
    let holds = match (one.lease, standing) {
        (Some(lease), Some(standing)) => standing.contains(&lease),
        (Some(_), None) => false,
        (None, _) => true,
    };
    is_due && holds
}

fn new_run(one: &Finished) -> NewRun {
    NewRun {
        association: one.association,
        scheduled_at: one.scheduled_at,
        kind: one.kind.number(),
        status: one.verdict,
        latency_us: one.latency_us,
        detail: one.detail.clone(),
    }
}

fn stored(one: Finished, judging: &HashMap<i64, Judging>) -> Option<Stored> {
    let judged = judging.get(&one.association)?;
    Some(Stored {
        id: RunId { association: one.association, scheduled_at: one.scheduled_at },
        check_id: judged.check_id,
        system_id: judged.system_id,
        verdict: one.verdict,
        latency_us: one.latency_us,
        detail: one.detail,
    })
}

impl Writer {
    /// Opens, follows or resolves the incident of an association, by its policy.
    async fn follow_with_incident(
        &mut self,
        kernel: &Kernel,
        call: &Call,
        judged: &Judging,
        run: &Finished,
        state: &mut State,
    ) -> Result<Option<Did>> {
        let Some(policy) = IncidentPolicy::stored(judged.incident_policy.as_deref()) else { return Ok(None) };
        let (actor, status) = (Actor::of(&call.caller), state.status);
        match state.incident_id {
            None if policy.opens_on(status) => {
                if self.has_suppressing_maintenance(judged.system_id, call.now).await? {
                    return Ok(None);
                }
                let title = format!("{} is {}", judged.check_name, status.word());
                let message = message_of(run).unwrap_or_else(|| title.clone());
                let id = kernel.ids.next();
                self.open_incident_of_check(kernel, id, title, message, policy.severity.into(), judged.system_id, call)
                    .await?;
                state.incident_id = Some(id);
                Ok(Some(Did { plugin: "incident", ..call.did("incident.created", id) }))
            }
            Some(id) if status == Health::Healthy => {
                state.incident_id = None;
                if !policy.auto_resolve {
                    return Ok(None);
                }
                let text = format!("{} is healthy again", judged.check_name);
                let done = self.resolve_incident_of_check(kernel, id, text, &actor, call.now).await?;
                Ok(done.map(|kind| Did { plugin: "incident", ..call.did(kind, id) }))
            }
            Some(id) if state.since == run.scheduled_at => {
                let mut text = format!("{} is {}", judged.check_name, status.word());
                if let Some(why) = message_of(run) {
                    text = format!("{text}: {why}");
                }
                let is_added = self.add_to_incident_of_check(kernel, id, text, &actor, call.now).await?;
                Ok(is_added.then(|| Did { plugin: "incident", ..call.did("incident.update_added", id) }))
            }
            _ => Ok(None),
        }
    }
}

/// Why a run was not good.
fn message_of(run: &Finished) -> Option<String> {
    let detail: serde_json::Value = serde_json::from_str(run.detail.as_deref()?).ok()?;
    detail.get("message")?.as_str().map(str::to_owned)
}
