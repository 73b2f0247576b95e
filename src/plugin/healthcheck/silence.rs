//! Checks of which nothing was heard for too long: that nobody knows how they are is written down, and told once.

use super::archive::store::StatusChange;
use super::domain::Health;
use super::run_store::Judging;
use super::state::State;
use super::{PLUGIN, STATUSES};
use crate::access::Call;
use crate::access::actor::Actor;
use crate::database::{Did, Timestamp, Writer};
use crate::error::Result;
use crate::plugin::Kernel;
use std::collections::{BTreeSet, HashMap};

/// Writes down which of these associations have fallen silent by now, and tells it. Whoever does so first holds the state,
/// and then it is not news any more: it happens once, however many replicas look.
///
/// Answers when something was last heard of the others.
pub async fn fall_silent(kernel: &Kernel, numbers: &[i64], now: Timestamp) -> Result<Vec<(i64, Timestamp)>> {
    // The one writer of SQLite is left alone when there is nothing to do.
    let heard = kernel.database.reader().await?.heard(numbers).await?;
    let known = heard.into_iter().filter(|one| one.status != Health::Unknown);
    let (silent, speaking): (Vec<_>, Vec<_>) =
        known.partition(|one| now.0.saturating_sub(one.last_judged_at.0) > one.patience.grace_us(&one.strategy_id));
    if !silent.is_empty() {
        let silent: Vec<_> = silent.iter().map(|one| one.number).collect();
        write_down(kernel, &silent, now).await?;
    }
    Ok(speaking.into_iter().map(|one| (one.number, one.last_judged_at)).collect())
}

async fn write_down(kernel: &Kernel, numbers: &[i64], now: Timestamp) -> Result<()> {
    let mut store = kernel.database.writer().await?;
    let judging = store.lock_judging(numbers).await?;
    let (mut silent, mut systems, mut changes) = (HashMap::new(), BTreeSet::new(), vec![]);
    for (number, state) in store.states(numbers).await? {
        let Some(judged) = judging.get(&number).filter(|judged| judged.enabled && !judged.paused) else { continue };
        let grace = judged.patience.grace_us(&judged.strategy_id);
        let at = Timestamp(state.last_judged_at.0.saturating_add(grace));
        if let Some(state) = state.fallen_silent(now, grace) {
            changes.push(StatusChange { association: number, at, status: Health::Unknown });
            systems.insert(judged.system_id);
            silent.insert(number, state);
        }
    }
    store.save_states(&silent).await?;
    store.insert_status_changes(&changes).await?;
    let call = Call::by_server(PLUGIN, "notices checks that fall silent", now);
    let mut done = vec![];
    for (number, state) in &silent {
        if let Some(judged) = judging.get(number) {
            done.extend(store.say_in_incident(kernel, &call, judged, state).await?);
        }
    }
    done.extend(systems.into_iter().map(|system| Did { plugin: STATUSES, ..call.did("status.changed", system) }));
    let Some(last) = done.pop() else { return Ok(()) };
    for did in done {
        store.also(&did).await?;
    }
    store.commit(last).await
}

impl Writer {
    async fn say_in_incident(
        &mut self,
        kernel: &Kernel,
        call: &Call,
        judged: &Judging,
        state: &State,
    ) -> Result<Option<Did>> {
        let Some(id) = state.incident_id else { return Ok(None) };
        let text = format!("{} is unknown: nothing was heard of it since {}", judged.check_name, state.last_judged_at);
        let is_added = self.add_to_incident_of_check(kernel, id, text, &Actor::of(&call.caller), call.now).await?;
        Ok(is_added.then(|| Did { plugin: "incident", ..call.did("incident.update_added", id) }))
    }
}
