//! Runs into the database: a batch is one transaction, with the status that follows from each run, the incidents that it
//! opens and closes, and what those who watch are told.

use super::archive::amend::Late;
use super::archive::chunk::{Sample, hour_of};
use super::archive::store::StatusChange;
use super::domain::{CheckId, Health, IncidentPolicy, RunId, RunKind};
use super::lease_store::{Lease, SHARDS};
use super::run_store::{Judging, NewRun};
use super::state::{State, Thresholds};
use super::{PLUGIN, RUNS, STATUSES};
use crate::access::Call;
use crate::access::actor::Actor;
use crate::database::{Did, Timestamp, Writer};
use crate::error::Result;
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::SystemId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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

/// The shard of an association: numbers are dense, and a share is a row of shards, so neighbours are spread.
#[must_use]
pub fn shard_of(association: i64) -> i64 {
    // Fibonacci hashing: the golden ratio keeps neighbours apart.
    let mixed = association.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    i64::try_from(mixed).unwrap_or_default().rem_euclid(SHARDS)
}

/// Stores runs. Left out are those of what has been paused or removed meanwhile, those whose time has a run already, and
/// those whose lease is lost: another replica runs them now.
///
/// Times are whole milliseconds: a run is known by its time, and that is how JSON shows it.
pub async fn record(
    kernel: &Kernel,
    mut finished: Vec<Finished>,
    me: Option<Uuid>,
    now: Timestamp,
) -> Result<Vec<Stored>> {
    for one in &mut finished {
        one.scheduled_at = one.scheduled_at.whole_millis();
    }
    let mut store = kernel.database.writer().await?;
    let mut numbers: Vec<_> = finished.iter().map(|one| one.association).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let judging = store.lock_judging(&numbers).await?;
    // Behind what may have to wait, or the leases could not be renewed meanwhile.
    let standing = match me {
        Some(me) => Some(store.standing_leases(me).await?),
        None => None,
    };
    let mut states = store.states(&numbers).await?;
    let mut finished: Vec<_> =
        finished.into_iter().filter(|one| may_be_stored(one, &judging, standing.as_deref())).collect();
    if finished.is_empty() {
        return Ok(vec![]);
    }
    let mut last: HashMap<_, _> = states.iter().map(|(number, state)| (*number, state.last_run_at)).collect();
    for one in finished.iter_mut().filter(|one| one.kind != RunKind::Scheduled) {
        // What was not due has no time of its own: it comes behind what there is.
        let next = last.get(&one.association).map(|last| last.next_millis());
        one.scheduled_at = next.map_or(one.scheduled_at, |next| one.scheduled_at.max(next));
        last.insert(one.association, one.scheduled_at);
    }
    let batch: Uuid = kernel.ids.next();
    let is_late = |one: &&Finished| judging.get(&one.association).is_some_and(|of| hour_of(one.scheduled_at) < of.upto);
    let rows: Vec<_> = finished.iter().filter(|one| !is_late(one)).map(new_run).collect();
    let inserted = store.insert_runs(&rows, batch).await?;
    let mut inserted: BTreeSet<_> = inserted.into_iter().map(|(number, at)| (number, at.0)).collect();
    let late: Vec<_> = finished.iter().filter(is_late).cloned().collect();
    inserted.extend(store.add_late(late, now).await?);
    finished.retain(|one| inserted.contains(&(one.association, one.scheduled_at.0)));
    if finished.is_empty() {
        return Ok(vec![]);
    }
    let call = Call::by_server(PLUGIN, "runs health checks", now);
    let (mut changed, mut moves) = (BTreeSet::new(), vec![]);
    let mut incidents = vec![];
    let mut saved = HashMap::new();
    for one in &finished {
        let Some(judged) = judging.get(&one.association) else { continue };
        let is_late = |state: &State| one.kind == RunKind::Scheduled && !state.is_before(one.scheduled_at);
        if states.get(&one.association).is_some_and(is_late) {
            continue;
        }
        let before = states.remove(&one.association);
        let grace = judged.patience.grace_us(&judged.strategy_id);
        let silent_since = before.as_ref().filter(|state| state.status != Health::Unknown).map(|state| {
            // The moment at which nobody knew any more.
            Timestamp(state.last_judged_at.0.saturating_add(grace))
        });
        let was = before.as_ref().map_or(Health::Unknown, |state| state.as_of(one.scheduled_at, grace));
        let thresholds = Thresholds::of(&judged.strategy_id, judged.thresholds.as_deref());
        let mut state = State::after(before, one.verdict, one.scheduled_at, thresholds, grace);
        if was != state.as_of(one.scheduled_at, grace) {
            changed.insert(judged.system_id);
        }
        moves.extend(status_changes(one, silent_since, was, &state));
        incidents.extend(store.follow_with_incident(kernel, &call, judged, one, &mut state).await?);
        states.insert(one.association, state.clone());
        saved.insert(one.association, state);
    }
    store.save_states(&saved).await?;
    store.insert_status_changes(&moves).await?;
    let reported = finished.iter().filter(|one| one.kind == RunKind::Reported);
    store.save_reports(&reported.map(|one| (one.association, one.scheduled_at)).collect::<Vec<_>>()).await?;
    for did in incidents {
        store.also(&did).await?;
    }
    for system in changed {
        store.also(&Did { plugin: STATUSES, ..call.did("status.changed", system) }).await?;
    }
    crate::fault::reach("record.before_commit");
    store.commit(Did { plugin: RUNS, ..call.did("runs.created", batch) }).await?;
    crate::fault::reach("record.after_commit");
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

/// What a run changed about the status, to remember.
fn status_changes(run: &Finished, silent_since: Option<Timestamp>, was: Health, state: &State) -> Vec<StatusChange> {
    let association = run.association;
    let fell_silent = silent_since.filter(|since| was == Health::Unknown && *since < run.scheduled_at);
    let silence = fell_silent.map(|at| StatusChange { association, at, status: Health::Unknown });
    let news = (state.status != was && state.last_judged_at >= run.scheduled_at).then_some(StatusChange {
        association,
        at: run.scheduled_at,
        status: state.status,
    });
    silence.into_iter().chain(news).collect()
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
    /// Stores runs whose hours are sealed, and answers which were stored.
    async fn add_late(&mut self, finished: Vec<Finished>, now: Timestamp) -> Result<Vec<(i64, i64)>> {
        let mut by_association: BTreeMap<i64, Vec<Late>> = BTreeMap::new();
        for one in finished {
            let run = Sample { at: one.scheduled_at, kind: one.kind, status: one.verdict, latency_us: one.latency_us };
            by_association.entry(one.association).or_default().push(Late { run, detail: one.detail });
        }
        let numbers: Vec<_> = by_association.keys().copied().collect();
        if numbers.is_empty() {
            return Ok(vec![]);
        }
        let mut stored = vec![];
        for mut owner in self.lock_owners(&numbers).await? {
            let association = owner.archive.association;
            let mut late = by_association.remove(&association).unwrap_or_default();
            late.sort_by_key(|one| one.run.at);
            let added = self.amend(&mut owner, late, now).await?.stored;
            stored.extend(added.into_iter().map(|run| (association, run.at.0)));
        }
        Ok(stored)
    }

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
                let text = format!("{} is healthy again", judged.check_name);
                let kind = if policy.auto_resolve {
                    self.resolve_incident_of_check(kernel, id, text, &actor, call.now).await?
                } else {
                    let is_added = self.add_to_incident_of_check(kernel, id, text, &actor, call.now).await?;
                    is_added.then_some("incident.update_added")
                };
                Ok(kind.map(|kind| Did { plugin: "incident", ..call.did(kind, id) }))
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
