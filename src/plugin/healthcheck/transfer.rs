//! Runs in and out: a migration brings those of before along, and whoever wants to keep them takes them with them.

use super::archive::amend::Late;
use super::archive::chunk::{Sample, decode, hour_of};
use super::archive::store::StatusChange;
use super::domain::{Association, CheckId, Health, RunId, RunKind};
use super::page_store::Range;
use super::run_store::{NewRun, Run};
use super::runs::Place;
use super::service::{Healthchecks, wrong};
use super::state::{State, Thresholds};
use super::{STATUSES, message};
use crate::access::Call;
use crate::contract::stream::Messages;
use crate::database::{Database, Did, Timestamp, Writer};
use crate::error::{Error, Result};
use crate::plugin::catalog::domain::SystemId;
use crate::proto::checkmate::healthcheck::v1 as pb;
use crate::proto::checkmate::watch::v1::EventType;
use futures_util::{StreamExt, stream};
use std::collections::{HashMap, HashSet, VecDeque};
use tonic::Status;

/// A clock elsewhere may be a little ahead.
const FUTURE_US: i64 = 60 * 1_000_000;

/// An export reads so many hours of a check at once: at one run a second some megabytes.
const WINDOW_HOURS: i64 = 24;

impl Healthchecks {
    pub(super) async fn import(&self, call: &Call, request: pb::ImportRunsRequest) -> Result<pb::ImportRunsResponse> {
        let (check, system) = (CheckId::parse(&request.configuration_id)?, SystemId::parse(&request.system_id)?);
        let late = runs_of(&request.runs, call.now)?;
        let mut store = self.kernel.database.writer().await?;
        let found = store.association(check, system).await?;
        let association = found
            .ok_or_else(|| Error::NotFound(format!("Health check {check} is not associated with system {system}")))?;
        let batch = self.kernel.ids.next();
        let imported = store.import(&association, late, batch, call.now).await?;
        let answer = pb::ImportRunsResponse {
            imported: i64::try_from(imported.stored.len()).unwrap_or(i64::MAX),
            duplicates: i64::try_from(imported.duplicates).unwrap_or(i64::MAX),
            too_old: i64::try_from(imported.too_old).unwrap_or(i64::MAX),
        };
        let changes = store.follow(&association, &imported.stored).await?;
        if changes {
            store.also(&Did { plugin: STATUSES, ..call.did("status.changed", system) }).await?;
        }
        crate::fault::reach("import.before_commit");
        self.kernel.commit(store, call.did("association.runs_imported", check)).await?;
        crate::fault::reach("import.after_commit");
        Ok(answer)
    }

    pub(super) async fn export(&self, request: pb::ExportRunsRequest) -> Result<Messages<pb::ExportRunsResponse>> {
        let check = request.configuration_id.as_deref().map(CheckId::parse).transpose()?;
        let system = request.system_id.as_deref().map(SystemId::parse).transpose()?;
        let place = request.cursor.as_deref().and_then(crate::database::Place::parse);
        let first = place.map_or(0, |place| place.sequence);
        let mut store = self.kernel.database.reader().await?;
        let associations = store.associations(first - 1, system, check, i64::MAX).await?;
        drop(store);
        let export = Export {
            database: self.kernel.database.clone(),
            left: associations.into_iter().collect(),
            behind: place.map(|place| (place.made_at, place.sequence)),
            from: request.start_date.as_ref().map_or(Timestamp(i64::MIN), Timestamp::of),
            to: request.end_date.as_ref().map_or(Timestamp(i64::MAX), Timestamp::of),
            at: None,
            due: VecDeque::new(),
            is_over: false,
        };
        let messages = stream::try_unfold(export, |mut export| async {
            let message = export.next().await.inspect_err(|why| why.log("an export failed"))?;
            Ok::<_, Status>(message.map(|message| (message, export)))
        });
        Ok(messages.boxed())
    }
}

/// What is imported, sorted by time, each time once.
fn runs_of(runs: &[pb::ImportedRun], now: Timestamp) -> Result<Vec<Late>> {
    let mut late = Vec::with_capacity(runs.len());
    for (index, run) in runs.iter().enumerate() {
        let at = run.timestamp.as_ref().map_or(Timestamp(0), Timestamp::of).whole_millis();
        if at.0 > now.0 + FUTURE_US {
            return Err(wrong(&format!("runs[{index}].timestamp"), "Must not be in the future"));
        }
        if at.0 < 0 {
            return Err(wrong(&format!("runs[{index}].timestamp"), "Must not be before 1970"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "validation has bounded it")]
        let latency_us = run.latency_ms.map(|millis| (millis * 1_000.0).round() as i64);
        let status = message::health_of(run.status()).unwrap_or(Health::Unknown);
        let sample = Sample { at, kind: RunKind::Reported, status, latency_us };
        let detail = run.result.as_ref().map(|result| message::plain(result).to_string());
        late.push(Late { run: sample, detail });
    }
    late.sort_by_key(|one| one.run.at);
    Ok(late)
}

/// What became of an import.
#[derive(Default)]
struct Imported {
    stored: Vec<Sample>,
    duplicates: usize,
    too_old: usize,
}

impl Writer {
    async fn import(
        &mut self,
        association: &Association,
        late: Vec<Late>,
        batch: uuid::Uuid,
        now: Timestamp,
    ) -> Result<Imported> {
        let gone = || Error::NotFound("The association was deleted meanwhile".into());
        let owner = self.lock_owners(&[association.number]).await?.pop().ok_or_else(gone)?;
        let mut owner = self.seal_all(owner, now).await?;
        let sealed_until = owner.archive.sealed_until();
        let (late, recent): (Vec<_>, Vec<_>) = late.into_iter().partition(|one| one.run.at < sealed_until);
        let amended = self.amend(&mut owner, late, now).await?;
        let row = |one: &Late| NewRun {
            association: association.number,
            scheduled_at: one.run.at,
            kind: one.run.kind.number(),
            status: one.run.status,
            latency_us: one.run.latency_us,
            detail: one.detail.clone(),
        };
        let rows: Vec<_> = recent.iter().map(row).collect();
        let inserted = self.insert_runs(&rows, batch).await?;
        let mut new: HashSet<_> = inserted.into_iter().map(|(_, at)| at).collect();
        let stored_of_recent: Vec<_> = recent.iter().map(|one| one.run).filter(|run| new.remove(&run.at)).collect();
        let mut stored = amended.stored;
        let duplicates = amended.duplicates + recent.len() - stored_of_recent.len();
        stored.extend(stored_of_recent);
        Ok(Imported { stored, duplicates, too_old: amended.too_old })
    }

    /// Moves the status on by runs newer than the last one; whether it changed.
    async fn follow(&mut self, association: &Association, stored: &[Sample]) -> Result<bool> {
        let number = association.number;
        let Some(judged) = self.lock_judging(&[number]).await?.remove(&number) else { return Ok(false) };
        let thresholds = Thresholds::of(&judged.strategy_id, judged.thresholds.as_deref());
        let grace = judged.patience.grace_us(&judged.strategy_id);
        let mut state = self.states(&[number]).await?.remove(&number);
        let mut changes = vec![];
        let last = state.as_ref().map(|state| state.last_run_at);
        for run in stored.iter().filter(|run| last.is_none_or(|last| run.at > last)) {
            let before = state.as_ref().map_or(Health::Unknown, |state| state.as_of(run.at, grace));
            if let Some(known) = state.as_ref().filter(|known| before != known.status) {
                let at = Timestamp(known.last_judged_at.0.saturating_add(grace));
                changes.push(StatusChange { association: number, at, status: Health::Unknown });
            }
            let after = State::after(state.take(), run.status, run.at, thresholds, grace);
            if after.status != before && run.status != Health::Unknown {
                changes.push(StatusChange { association: number, at: run.at, status: after.status });
            }
            state = Some(after);
        }
        let Some(state) = state else { return Ok(false) };
        if last.is_some_and(|last| state.last_run_at == last) {
            return Ok(false);
        }
        self.save_states(&HashMap::from([(number, state)])).await?;
        self.insert_status_changes(&changes).await?;
        Ok(!changes.is_empty())
    }
}

/// An export as it goes on.
struct Export {
    database: Database,
    left: VecDeque<Association>,
    /// What was told before.
    behind: Option<Place>,
    from: Timestamp,
    to: Timestamp,
    /// The next hour of the first association that is left.
    at: Option<i64>,
    due: VecDeque<pb::ExportRunsResponse>,
    is_over: bool,
}

impl Export {
    async fn next(&mut self) -> Result<Option<pb::ExportRunsResponse>> {
        loop {
            if let Some(message) = self.due.pop_front() {
                return Ok(Some(message));
            }
            if self.is_over {
                return Ok(None);
            }
            if !self.read().await? {
                self.is_over = true;
                let end = pb::ExportRunsResponse { r#type: EventType::Synced.into(), ..Default::default() };
                return Ok(Some(end));
            }
        }
    }

    /// Reads the next hours; whether there was an association left.
    async fn read(&mut self) -> Result<bool> {
        let Some(association) = self.left.front() else { return Ok(false) };
        let number = association.number;
        let mut store = self.database.snapshot().await?;
        let Some(owner) = store.owner(number).await? else {
            // It was deleted meanwhile.
            self.finish();
            return Ok(true);
        };
        let behind = self.behind.filter(|place| place.1 == number).map(|place| place.0);
        let start = behind.map_or(self.from, |at| self.from.max(Timestamp(at.0.saturating_add(1))));
        let upto = owner.archive.upto;
        let low = self.at.unwrap_or_else(|| hour_of(start));
        let first = store.chunk_from(number, low).await?.unwrap_or(upto).min(upto);
        let mut runs = vec![];
        if first < upto && first < hour_of(self.to).saturating_add(1) {
            let end = (first + WINDOW_HOURS).min(upto);
            for chunk in store.chunks(&[number], first, end).await? {
                let samples = decode(chunk.at, &chunk.data);
                runs.extend(samples.ok_or_else(|| Error::bug(format!("a chunk of association {number} is damaged")))?);
            }
            self.at = Some(end);
            let known = runs.iter().filter(|run| start <= run.at && run.at < self.to);
            self.due = known.map(|run| exported(association, run.at, run.status, run.latency_us)).collect();
            return Ok(true);
        }
        let range = Range {
            associations: Some(&[number]),
            after: (start.max(owner.archive.sealed_until()), i64::MIN),
            before: (self.to, i64::MIN),
            status: None,
        };
        let open: Vec<Run> = store.open_runs(&range, true, i64::MAX).await?;
        self.due = open.iter().map(|run| exported(association, run.scheduled_at, run.status, run.latency_us)).collect();
        self.finish();
        Ok(true)
    }

    fn finish(&mut self) {
        self.left.pop_front();
        self.at = None;
    }
}

fn exported(
    association: &Association,
    at: Timestamp,
    status: Health,
    latency_us: Option<i64>,
) -> pb::ExportRunsResponse {
    let number = association.number;
    let cursor = crate::database::Place { sequence: number, made_at: at };
    pb::ExportRunsResponse {
        cursor: Some(cursor.to_string()),
        r#type: EventType::Current.into(),
        id: Some(RunId { association: number, scheduled_at: at }.uuid().to_string()),
        configuration_id: Some(association.check_id.to_string()),
        system_id: Some(association.system_id.to_string()),
        status: Some(message::health(status)),
        timestamp: Some(at.message()),
        latency_ms: latency_us.map(message::millis_of),
    }
}
