//! What the clock does to windows, written down: that they start, that they end, and that series go on.
//!
//! Whoever writes it holds the row, and a row that has changed is not due any more: it happens once, however many replicas
//! look. Reads do not wait for it ([`Maintenance::as_of`]), and changes do it first.

use super::PLUGIN;
use super::domain::{Maintenance, Series, Status, Update};
use super::recurrence::{self, Plan};
use crate::access::Call;
use crate::access::actor::Actor;
use crate::database::{Did, Timestamp, Writer};
use crate::error::Result;
use crate::plugin::Kernel;

/// So many windows are one transaction: others write in between.
const BATCH: i64 = 100;

/// So many windows are linked to their systems by one statement: 2,000 rows, far from what a statement may take.
const LINKED: usize = 10;

/// Does what is due by now, and says when something is due next; what is still due then, another replica does.
pub async fn catch_up(kernel: &Kernel, now: Timestamp) -> Result<Option<Timestamp>> {
    loop {
        // The one writer of SQLite is left alone when there is nothing to do.
        let next = kernel.database.reader().await?.next_due().await?;
        if next.is_none_or(|next| next > now) {
            return Ok(next);
        }
        let is_done = start_and_end(kernel, now).await? | extend(kernel, now).await?;
        if !is_done {
            return Ok(next);
        }
    }
}

/// Whether anything was to do.
async fn start_and_end(kernel: &Kernel, now: Timestamp) -> Result<bool> {
    let mut store = kernel.database.writer().await?;
    let mut by_clock = vec![];
    let held = store.lock_due_maintenances(now, BATCH).await?;
    // What was due by then is all here; what comes later has its turn after the windows that had no place.
    let is_all = held.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
    let until = held.last().and_then(Maintenance::due).filter(|_| !is_all).map_or(now, |last| last.at);
    for due in held {
        let (_, done) = store.bring_up(due, until).await?;
        by_clock.extend(done);
    }
    let Some(last) = in_order(&mut by_clock) else { return Ok(false) };
    store.all_done(kernel, by_clock, last).await?;
    Ok(true)
}

/// Takes the last of what was done, in the order in which it was due.
fn in_order(by_clock: &mut Vec<Did>) -> Option<Did> {
    by_clock.sort_by_key(|did| did.at);
    by_clock.pop()
}

async fn extend(kernel: &Kernel, now: Timestamp) -> Result<bool> {
    let Some(series) = kernel.database.reader().await?.due_series(now).await? else { return Ok(false) };
    // Followed before the transaction: it may take a while.
    let plan = recurrence::next_plan(series.clone(), now).await.unwrap_or_else(|why| {
        tracing::error!(series.id = %series.id, cause = %why, "a series cannot be followed; trying again in a day");
        Plan { starts: vec![], extend_at: Some(Timestamp(now.0.saturating_add(recurrence::DAY_US))) }
    });
    let mut store = kernel.database.writer().await?;
    if store.extend_series(&series, &plan).await? == 0 {
        return Ok(false);
    }
    let call = by_clock(now);
    let windows = store.make_windows(kernel, &series, &plan, now).await?;
    let mut done: Vec<_> = windows.iter().map(|window| call.did("maintenance.scheduled", window.id)).collect();
    if let Some(last) = done.pop() {
        store.all_done(kernel, done, last).await?;
    } else {
        store.forget_series(series.id).await?;
        store.commit_unseen("a look ahead that found nothing").await?;
    }
    Ok(true)
}

fn by_clock(now: Timestamp) -> Call {
    Call::by_server(PLUGIN, "keeps maintenance windows on time", now)
}

impl Writer {
    /// Writes what the clock has made of a window that is held, and says what that was.
    pub(super) async fn bring_up(&mut self, held: Maintenance, now: Timestamp) -> Result<(Maintenance, Vec<Did>)> {
        let (window, passed) = held.as_of(now);
        let mut done = vec![];
        if passed.is_empty() {
            return Ok((window, done));
        }
        self.save_maintenance(&window).await?;
        if window.status.is_over() {
            self.save_touches(&window).await?;
        }
        for due in passed {
            let call = by_clock(due.at);
            self.append_maintenance_update(&window.entry_of(due, &Actor::of(&call.caller))).await?;
            done.push(call.did(kind_of(due.to), window.id));
        }
        Ok((window, done))
    }

    /// Makes the windows of a plan, each unless it is there.
    pub(super) async fn make_windows(
        &mut self,
        kernel: &Kernel,
        series: &Series,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<Vec<Maintenance>> {
        let mut made = vec![];
        for start in &plan.starts {
            let window = series.window(kernel.ids.next(), *start, now);
            if self.insert_maintenance(&window).await? > 0 {
                made.push(window);
            }
        }
        for part in plan.starts.chunks(LINKED) {
            if let (Some(first), Some(last)) = (part.first(), part.last()) {
                self.link_occurrences(series.id, *first, *last).await?;
            }
        }
        Ok(made)
    }

    /// Commits with everything that was done.
    pub(super) async fn all_done(mut self, kernel: &Kernel, also: Vec<Did>, last: Did) -> Result<()> {
        for did in also {
            self.also(&did).await?;
        }
        kernel.commit(self, last).await
    }
}

/// What the change feed calls a change of status.
pub(super) fn kind_of(status: Status) -> &'static str {
    match status {
        Status::Scheduled => "maintenance.scheduled",
        Status::InProgress => "maintenance.started",
        Status::Completed => "maintenance.completed",
        Status::Cancelled => "maintenance.cancelled",
    }
}

/// The timeline as it is by now, also what nobody has written yet.
pub(super) fn entries_by_clock(read: &Maintenance, now: Timestamp) -> Vec<Update> {
    let (window, passed) = read.clone().as_of(now);
    let actor = Actor::of(&by_clock(now).caller);
    passed.into_iter().map(|due| window.entry_of(due, &actor)).collect()
}
