//! The procedures of maintenance windows: `MaintenanceService`.

use super::clockwork::{entries_by_clock, kind_of};
use super::domain::{LINKS_MAX, Maintenance, MaintenanceId, Series, SeriesId, Status, UPDATES_MAX, Update};
use super::list_store::Filter;
use super::watch::Changes;
use super::{message, recurrence};
use crate::access::Call;
use crate::access::actor::Actor;
use crate::contract::stream::Messages;
use crate::contract::{Change, Page};
use crate::database::{Did, Reader, Timestamp, Writer};
use crate::error::{Error, Reply, Result, reply};
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::{SystemId, must_have_room, parse_systems};
use crate::plugin::overview::{self, Overview};
use crate::plugin::watch::Hub;
use crate::proto::checkmate::maintenance::v1::{self as pb, maintenance_service_server::MaintenanceService};
use tonic::Request;

/// The service.
pub(super) struct Maintenances {
    kernel: Kernel,
    watch: Hub<Changes>,
}

#[tonic::async_trait]
impl MaintenanceService for Maintenances {
    async fn get_windows(&self, request: Request<pb::GetWindowsRequest>) -> Reply<pb::GetWindowsResponse> {
        let (call, request) = Call::open(request)?;
        let page = Page::all();
        let filter = Filter {
            now: call.now,
            status: message::status(request.status()),
            system: request.system_id.as_deref().map(SystemId::parse).transpose()?,
            starts_before: None,
            ends_after: None,
            text: None,
            series: None,
        };
        let mut store = self.kernel.database.snapshot().await?;
        let found = page.whole(store.maintenances(&page, &filter).await?, "listMaintenances")?;
        reply(pb::GetWindowsResponse { maintenances: store.windows(found, call.now).await? })
    }

    async fn list_maintenances(
        &self,
        request: Request<pb::ListMaintenancesRequest>,
    ) -> Reply<pb::ListMaintenancesResponse> {
        let (call, request) = Call::open(request)?;
        let page = self.kernel.page(&request)?;
        let filter = Filter {
            now: call.now,
            status: message::status(request.status()),
            system: request.system_id.as_deref().map(SystemId::parse).transpose()?,
            starts_before: request.starts_before.as_ref().map(Timestamp::of),
            ends_after: request.ends_after.as_ref().map(Timestamp::of),
            text: request.text_contains.clone(),
            series: request.series_id.as_deref().map(SeriesId::parse).transpose()?,
        };
        let mut store = self.kernel.database.snapshot().await?;
        let mut found = store.maintenances(&page, &filter).await?;
        let next_page_token = self.kernel.pages.cut(&request, &page, &mut found);
        let maintenances = store.windows(found, call.now).await?;
        reply(pb::ListMaintenancesResponse { maintenances, next_page_token })
    }

    async fn get_maintenance(&self, request: Request<pb::GetMaintenanceRequest>) -> Reply<pb::GetMaintenanceResponse> {
        let (call, request) = Call::open(request)?;
        let id = MaintenanceId::parse(&request.id)?;
        let mut store = self.kernel.database.snapshot().await?;
        let found = store.maintenance(id).await?.ok_or_else(|| missing(id))?;
        let mut updates = store.maintenance_updates(id).await?;
        updates.extend(entries_by_clock(&found, call.now));
        let series = match found.series_id {
            Some(series) => store.series(series).await?,
            None => None,
        };
        let window = store.window(found, call.now).await?;
        reply(pb::GetMaintenanceResponse { maintenance: Some(message::detail(window, updates, series)) })
    }

    async fn get_maintenances_for_system(
        &self,
        request: Request<pb::GetMaintenancesForSystemRequest>,
    ) -> Reply<pb::GetMaintenancesForSystemResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.snapshot().await?;
        let system = store.must_have_system(&request.system_id).await?.id;
        let page = Page::all();
        let found = page.whole(store.open_maintenances(system, call.now, &page).await?, "listMaintenances")?;
        reply(pb::GetMaintenancesForSystemResponse { maintenances: store.windows(found, call.now).await? })
    }

    async fn get_bulk_maintenances_for_systems(
        &self,
        request: Request<pb::GetBulkMaintenancesForSystemsRequest>,
    ) -> Reply<pb::GetBulkMaintenancesForSystemsResponse> {
        let (call, request) = Call::open(request)?;
        let mut systems = parse_systems(&request.system_ids)?;
        systems.sort_unstable();
        systems.dedup();
        let mut store = self.kernel.database.snapshot().await?;
        let rows = store.coming_maintenances(&systems, call.now, overview::EACH_MAX + 1).await?;
        let overview = Overview::share(systems, rows);
        let windows = store.maintenances_of(&overview.shown()).await?;
        reply(message::overview(overview, windows, call.now))
    }

    async fn schedule_window(&self, request: Request<pb::ScheduleWindowRequest>) -> Reply<pb::ScheduleWindowResponse> {
        let (call, request) = Call::open(request)?;
        let (window, systems) = if request.recurrence.is_some() {
            self.schedule_series(&call, request).await?
        } else {
            self.schedule_once(&call, request).await?
        };
        let window = message::maintenance(window.as_of(call.now).0, &systems);
        reply(pb::ScheduleWindowResponse { maintenance: Some(window) })
    }

    async fn update_maintenance(
        &self,
        request: Request<pb::UpdateMaintenanceRequest>,
    ) -> Reply<pb::UpdateMaintenanceResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let (found, by_clock) = store.hold(&call, &request.id, request.expected_updated_at.as_ref()).await?;
        let changed = found.edited((&request).into(), call.now)?;
        store.save_maintenance(&changed).await?;
        store.save_touches(&changed).await?;
        let systems = Change::of_list(request.update_mask.as_ref(), "system_ids", request.system_ids);
        if let Change::Set(systems) = systems {
            let systems = store.must_know_systems(&systems).await?;
            store.link_maintenance(&changed, &systems).await?;
        }
        let (id, window) = (changed.id, store.window(changed, call.now).await?);
        store.all_done(&self.kernel, by_clock, call.did("maintenance.updated", id)).await?;
        reply(pb::UpdateMaintenanceResponse { maintenance: Some(window) })
    }

    async fn add_update(
        &self,
        request: Request<pb::MaintenanceServiceAddUpdateRequest>,
    ) -> Reply<pb::MaintenanceServiceAddUpdateResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let expected = request.expected_updated_at.as_ref();
        let (found, by_clock) = store.hold(&call, &request.maintenance_id, expected).await?;
        let (id, status) = (found.id, message::status(request.status_change()));
        if let Some(to) = status {
            let changed = found.with_status(to, call.now)?;
            store.save_maintenance(&changed).await?;
            store.save_touches(&changed).await?;
        }
        let update = self.update(&call, id, request.message, status);
        store.append(&update).await?;
        let kind = status.map_or("maintenance.update_added", kind_of);
        store.all_done(&self.kernel, by_clock, call.did(kind, id)).await?;
        reply(pb::MaintenanceServiceAddUpdateResponse { update: Some(update.into()) })
    }

    async fn close_maintenance(
        &self,
        request: Request<pb::CloseMaintenanceRequest>,
    ) -> Reply<pb::CloseMaintenanceResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let (found, by_clock) = store.hold(&call, &request.id, request.expected_updated_at.as_ref()).await?;
        let text = or_default(request.message, "Finished early");
        let changed = self.end(&mut store, &call, found, Status::Completed, text).await?;
        let (id, window) = (changed.id, store.window(changed, call.now).await?);
        store.all_done(&self.kernel, by_clock, call.did("maintenance.completed", id)).await?;
        reply(pb::CloseMaintenanceResponse { maintenance: Some(window) })
    }

    async fn cancel_maintenance(
        &self,
        request: Request<pb::CancelMaintenanceRequest>,
    ) -> Reply<pb::CancelMaintenanceResponse> {
        let (call, request) = Call::open(request)?;
        let text = or_default(request.message.clone(), "Cancelled");
        let mut store = self.kernel.database.writer().await?;
        // Before the window: whoever makes windows holds the series.
        let series = if request.series() { Some(store.end_series_of(&request.id).await?) } else { None };
        let (found, mut done) = store.hold(&call, &request.id, request.expected_updated_at.as_ref()).await?;
        let id = found.id;
        let mut cancelled = vec![];
        if let Some((series, _)) = series {
            for coming in store.lock_coming(series, call.now).await?.into_iter().filter(|coming| coming.id != id) {
                cancelled.push(self.end(&mut store, &call, coming, Status::Cancelled, text.clone()).await?.id);
            }
        }
        // With its series even what is over can be named, as long as there is something to cancel.
        let is_more = !cancelled.is_empty() || series.is_some_and(|(_, had_more)| had_more);
        let window = if is_more && found.status.is_over() {
            found
        } else {
            cancelled.push(id);
            self.end(&mut store, &call, found, Status::Cancelled, text).await?
        };
        let window = store.window(window, call.now).await?;
        done.extend(cancelled.into_iter().map(|id| call.did("maintenance.cancelled", id)));
        let last = done.pop().unwrap_or_else(|| call.did("maintenance.updated", id));
        store.all_done(&self.kernel, done, last).await?;
        reply(pb::CancelMaintenanceResponse { maintenance: Some(window) })
    }

    async fn delete_maintenance(
        &self,
        request: Request<pb::DeleteMaintenanceRequest>,
    ) -> Reply<pb::DeleteMaintenanceResponse> {
        let (call, request) = Call::open(request)?;
        let id = MaintenanceId::parse(&request.id)?;
        let mut store = self.kernel.database.writer().await?;
        let (series, doomed) = if request.series() {
            let (series, doomed) = store.series_to_delete(id, call.now).await?;
            (Some(series), doomed)
        } else {
            (store.lock_series_of(id).await?, vec![id])
        };
        if store.delete_maintenances(&doomed).await? == 0 && !request.series() {
            return Err(missing(id).into());
        }
        if let Some(series) = series {
            store.forget_series(series).await?;
        }
        let mut done: Vec<Did> = doomed.iter().map(|id| call.did("maintenance.deleted", id)).collect();
        match done.pop() {
            Some(last) => store.all_done(&self.kernel, done, last).await?,
            None => self.kernel.commit(store, call.did("maintenance.deleted", id)).await?,
        }
        reply(pb::DeleteMaintenanceResponse { success: true })
    }

    type WatchMaintenancesStream = Messages<pb::WatchMaintenancesResponse>;

    async fn watch_maintenances(
        &self,
        request: Request<pb::WatchMaintenancesRequest>,
    ) -> Reply<Self::WatchMaintenancesStream> {
        let (_, request) = Call::open(request)?;
        reply(self.watch.follow(request.cursor.as_deref()).await?)
    }

    async fn has_active_maintenance_with_suppression(
        &self,
        request: Request<pb::HasActiveMaintenanceWithSuppressionRequest>,
    ) -> Reply<pb::HasActiveMaintenanceWithSuppressionResponse> {
        let (call, request) = Call::open(request)?;
        let system = SystemId::parse(&request.system_id)?;
        let suppressed = self.kernel.database.reader().await?.has_suppressing_maintenance(system, call.now).await?;
        reply(pb::HasActiveMaintenanceWithSuppressionResponse { suppressed })
    }
}

impl Maintenances {
    pub(super) fn new(kernel: Kernel) -> Self {
        let watch = Hub::new(&kernel);
        Self { kernel, watch }
    }

    async fn schedule_once(
        &self,
        call: &Call,
        request: pb::ScheduleWindowRequest,
    ) -> Result<(Maintenance, Vec<SystemId>)> {
        let window = Maintenance {
            id: self.kernel.ids.next(),
            suppress_notifications: request.suppress_notifications(),
            start_at: given(request.start_at.as_ref())?,
            end_at: given(request.end_at.as_ref())?,
            title: request.title,
            description: request.description,
            status: Status::Scheduled,
            series_id: None,
            occurrence_start: None,
            created_by: Actor::of(&call.caller),
            created_at: call.now,
            updated_at: call.now,
        };
        let mut store = self.kernel.database.writer().await?;
        let systems = sorted(store.must_know_systems(&request.system_ids).await?);
        store.insert_maintenance(&window).await?;
        store.link_maintenance(&window, &systems).await?;
        self.kernel.commit(store, call.did("maintenance.scheduled", window.id)).await?;
        Ok((window, systems))
    }

    /// The first window of a new series.
    async fn schedule_series(
        &self,
        call: &Call,
        request: pb::ScheduleWindowRequest,
    ) -> Result<(Maintenance, Vec<SystemId>)> {
        let (start_at, end_at) = (given(request.start_at.as_ref())?, given(request.end_at.as_ref())?);
        let suppress_notifications = request.suppress_notifications();
        let recurrence = request.recurrence.unwrap_or_default();
        let mut series = Series {
            id: self.kernel.ids.next(),
            rrule: recurrence.rrule,
            time_zone: recurrence.time_zone,
            start_at,
            duration_us: end_at.0.saturating_sub(start_at.0),
            title: request.title,
            description: request.description,
            suppress_notifications,
            made_until: start_at,
            extend_at: None,
            created_by: Actor::of(&call.caller),
            created_at: call.now,
        };
        let plan = recurrence::first_plan(series.clone(), call.now).await?;
        series.made_until = plan.starts.last().copied().unwrap_or(start_at);
        series.extend_at = plan.extend_at;
        let mut store = self.kernel.database.writer().await?;
        let systems = sorted(store.must_know_systems(&request.system_ids).await?);
        store.insert_series(&series, &systems).await?;
        let windows = store.make_windows(&self.kernel, &series, &plan, call.now).await?;
        let mut done: Vec<Did> = windows.iter().map(|one| call.did("maintenance.scheduled", one.id)).collect();
        let first = windows.into_iter().next().ok_or_else(|| Error::bug("a series has a first window"))?;
        let last = done.pop().ok_or_else(|| Error::bug("a series has a first window"))?;
        store.all_done(&self.kernel, done, last).await?;
        Ok((first, systems))
    }

    /// Ends a window that is held, with an entry in its timeline.
    async fn end(
        &self,
        store: &mut Writer,
        call: &Call,
        held: Maintenance,
        to: Status,
        text: String,
    ) -> Result<Maintenance> {
        let changed = held.ended(to, call.now)?;
        store.save_maintenance(&changed).await?;
        store.save_touches(&changed).await?;
        store.append(&self.update(call, changed.id, text, Some(to))).await?;
        Ok(changed)
    }

    fn update(&self, call: &Call, maintenance_id: MaintenanceId, message: String, to: Option<Status>) -> Update {
        Update {
            id: self.kernel.ids.next(),
            maintenance_id,
            message,
            status_change: to,
            created_by: Actor::of(&call.caller),
            created_at: call.now,
        }
    }
}

impl Reader {
    /// Windows as they are by now, with their systems.
    pub(super) async fn windows(&mut self, found: Vec<Maintenance>, now: Timestamp) -> Result<Vec<pb::Maintenance>> {
        let ids: Vec<_> = found.iter().map(|window| window.id).collect();
        let links = self.maintenance_links(&ids, LINKS_MAX + 1).await?;
        if links.len() > LINKS_MAX {
            return Err(Error::Refused(format!(
                "These windows touch more than {LINKS_MAX} systems; ask listMaintenances for less"
            )));
        }
        let found = found.into_iter().map(|window| window.as_of(now).0).collect();
        Ok(message::maintenances(found, links))
    }

    /// A window as it is by now, with its systems.
    async fn window(&mut self, found: Maintenance, now: Timestamp) -> Result<pb::Maintenance> {
        let links = self.maintenance_links(&[found.id], LINKS_MAX).await?;
        let systems: Vec<_> = links.into_iter().map(|(_, system)| system).collect();
        Ok(message::maintenance(found.as_of(now).0, &systems))
    }
}

impl Writer {
    /// The window as it is by now and as the caller knows it, and what the clock did to it: that is written first. Nobody
    /// else changes it until the end of the transaction.
    async fn hold(
        &mut self,
        call: &Call,
        id: &str,
        expected: Option<&prost_types::Timestamp>,
    ) -> Result<(Maintenance, Vec<Did>)> {
        let id = MaintenanceId::parse(id)?;
        let found = self.lock_maintenance(id).await?.ok_or_else(|| missing(id))?;
        let (found, by_clock) = self.bring_up(found, call.now).await?;
        found.must_be_as_of(expected.map(Timestamp::of))?;
        Ok((found, by_clock))
    }

    /// Ends the series of a window; whether it had more to come.
    async fn end_series_of(&mut self, id: &str) -> Result<(SeriesId, bool)> {
        let id = MaintenanceId::parse(id)?;
        let found = self.maintenance(id).await?.ok_or_else(|| missing(id))?;
        let no_series = || Error::Refused("The maintenance is not part of a series".into());
        let series = found.series_id.ok_or_else(no_series)?;
        // Also one that has ended: it orders those who end its windows.
        self.lock_series(series).await?;
        Ok((series, self.end_series(series).await? > 0))
    }

    /// Ends a series, by the id of one of its windows or its own: the series, and which windows go.
    async fn series_to_delete(&mut self, id: MaintenanceId, now: Timestamp) -> Result<(SeriesId, Vec<MaintenanceId>)> {
        let by_itself = self.lock_series(SeriesId(id.0)).await?.map(|series| series.id);
        let series = match by_itself {
            Some(series) => {
                self.end_series(series).await?;
                series
            }
            None => self.end_series_of(&id.to_string()).await?.0,
        };
        let mut doomed: Vec<_> = self.lock_coming(series, now).await?.iter().map(|coming| coming.id).collect();
        if by_itself.is_none() {
            doomed.retain(|coming| *coming != id);
            doomed.push(id);
        }
        Ok((series, doomed))
    }

    /// The series of a window, if it is part of one; before the window, as everybody who ends one.
    async fn lock_series_of(&mut self, id: MaintenanceId) -> Result<Option<SeriesId>> {
        let found = self.maintenance(id).await?.ok_or_else(|| missing(id))?;
        if let Some(series) = found.series_id {
            self.lock_series(series).await?;
        }
        Ok(found.series_id)
    }

    async fn append(&mut self, update: &Update) -> Result<()> {
        if update.status_change.is_none() {
            must_have_room("The timeline", self.count_maintenance_updates(update.maintenance_id).await?, UPDATES_MAX)?;
        }
        self.append_maintenance_update(update).await?;
        Ok(())
    }
}

fn given(time: Option<&prost_types::Timestamp>) -> Result<Timestamp> {
    time.map(Timestamp::of).ok_or_else(|| Error::bug("a time was not validated"))
}

fn or_default(text: Option<String>, default: &str) -> String {
    text.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| default.to_owned())
}

fn sorted(mut systems: Vec<SystemId>) -> Vec<SystemId> {
    systems.sort_unstable();
    systems
}

fn missing(id: MaintenanceId) -> Error {
    Error::NotFound(format!("Maintenance not found: {id}"))
}
