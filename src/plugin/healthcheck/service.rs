//! The procedures of the contract, each a few lines: what is behind them stands in the modules beside this one.

use super::domain::{CheckId, RunId};
use super::history::Found;
use super::message;
use super::past::{Asked, Chart, detailed};
use super::plan::issues;
use super::store::number_after;
use super::watch::{Runs, Statuses, Wish};
use crate::access::Call;
use crate::contract::Page;
use crate::contract::stream::Messages;
use crate::error::{Error, Reply, reply};
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::watch::Hub;
use crate::probe::{Fault, KINDS};
use crate::proto::checkmate::healthcheck::v1::{self as pb, healthcheck_service_server::HealthcheckService};
use futures_util::StreamExt;
use tonic::Request;
use uuid::Uuid;

/// The service.
pub(super) struct Healthchecks {
    pub(super) kernel: Kernel,
    statuses: Hub<Statuses>,
    runs: Hub<Runs>,
}

impl Healthchecks {
    pub(super) fn new(kernel: Kernel) -> Self {
        let (statuses, runs) = (Hub::new(&kernel), Hub::new(&kernel));
        Self { kernel, statuses, runs }
    }
}

/// What both procedures for charts ask, whose requests are two types with the same fields.
macro_rules! asked {
    ($request:expr, with_numbers: $with_numbers:expr) => {
        Asked {
            system_id: &$request.system_id,
            configuration_id: &$request.configuration_id,
            start_date: $request.start_date.as_ref(),
            end_date: $request.end_date.as_ref(),
            target_points: $request.target_points,
            bucket_size: $request.bucket_size(),
            time_zone: $request.time_zone.as_deref(),
            with_numbers: $with_numbers,
        }
    };
}

#[tonic::async_trait]
impl HealthcheckService for Healthchecks {
    type WatchStatusStream = Messages<pb::WatchStatusResponse>;
    type WatchRunsStream = Messages<pb::WatchRunsResponse>;
    type ExportRunsStream = Messages<pb::ExportRunsResponse>;

    async fn watch_status(&self, request: Request<pb::WatchStatusRequest>) -> Reply<Self::WatchStatusStream> {
        let (_, request) = Call::open(request)?;
        reply(self.statuses.follow(request.cursor.as_deref()).await?)
    }

    async fn watch_runs(&self, request: Request<pb::WatchRunsRequest>) -> Reply<Self::WatchRunsStream> {
        let (_, request) = Call::open(request)?;
        let messages = self.runs.follow(request.cursor.as_deref()).await?;
        let wish = Wish { system: request.system_id, check: request.configuration_id };
        let wanted = messages.filter_map(move |message| {
            let narrowed = match message {
                Ok(message) => wish.narrowed(message).map(Ok),
                Err(status) => Some(Err(status)),
            };
            std::future::ready(narrowed)
        });
        reply(wanted.boxed())
    }

    async fn get_strategies(&self, request: Request<pb::GetStrategiesRequest>) -> Reply<pb::GetStrategiesResponse> {
        Call::open(request)?;
        reply(pb::GetStrategiesResponse { strategies: KINDS.iter().map(message::strategy).collect() })
    }

    async fn get_health_checks(
        &self,
        request: Request<pb::GetHealthChecksRequest>,
    ) -> Reply<pb::GetHealthChecksResponse> {
        Call::open(request)?;
        let page = Page::all();
        let found = self.kernel.database.reader().await?.checks(&page, None, None, None).await?;
        let found = page.whole(found, "listHealthChecks")?;
        reply(pb::GetHealthChecksResponse { configurations: self.shown(found) })
    }

    async fn list_health_checks(
        &self,
        request: Request<pb::ListHealthChecksRequest>,
    ) -> Reply<pb::ListHealthChecksResponse> {
        let (_, request) = Call::open(request)?;
        let page = self.kernel.page(&request)?;
        let (name, strategy) = (request.name_contains.as_deref(), request.strategy_id.as_deref());
        let mut found = self.kernel.database.reader().await?.checks(&page, name, strategy, request.paused).await?;
        let next_page_token = self.kernel.pages.cut(&request, &page, &mut found);
        reply(pb::ListHealthChecksResponse { configurations: self.shown(found), next_page_token })
    }

    async fn get_configuration(
        &self,
        request: Request<pb::GetConfigurationRequest>,
    ) -> Reply<pb::GetConfigurationResponse> {
        let (_, request) = Call::open(request)?;
        let id = CheckId::parse(&request.id)?;
        let found = self.kernel.database.reader().await?.check(id).await?.ok_or_else(|| missing(id))?;
        reply(pb::GetConfigurationResponse { configuration: Some(self.show(found)) })
    }

    async fn create_configuration(
        &self,
        request: Request<pb::CreateConfigurationRequest>,
    ) -> Reply<pb::CreateConfigurationResponse> {
        let (call, request) = Call::open(request)?;
        reply(pb::CreateConfigurationResponse { configuration: Some(self.create(&call, request).await?) })
    }

    async fn update_configuration(
        &self,
        request: Request<pb::UpdateConfigurationRequest>,
    ) -> Reply<pb::UpdateConfigurationResponse> {
        let (call, request) = Call::open(request)?;
        reply(pb::UpdateConfigurationResponse { configuration: Some(self.update(&call, request).await?) })
    }

    async fn delete_configuration(
        &self,
        request: Request<pb::DeleteConfigurationRequest>,
    ) -> Reply<pb::DeleteConfigurationResponse> {
        let (call, request) = Call::open(request)?;
        self.delete(&call, CheckId::parse(&request.id)?).await?;
        reply(pb::DeleteConfigurationResponse { success: true })
    }

    async fn pause_configuration(
        &self,
        request: Request<pb::PauseConfigurationRequest>,
    ) -> Reply<pb::PauseConfigurationResponse> {
        let (call, request) = Call::open(request)?;
        let configuration = self.pause(&call, CheckId::parse(&request.id)?, true).await?;
        reply(pb::PauseConfigurationResponse { configuration: Some(configuration) })
    }

    async fn resume_configuration(
        &self,
        request: Request<pb::ResumeConfigurationRequest>,
    ) -> Reply<pb::ResumeConfigurationResponse> {
        let (call, request) = Call::open(request)?;
        let configuration = self.pause(&call, CheckId::parse(&request.id)?, false).await?;
        reply(pb::ResumeConfigurationResponse { configuration: Some(configuration) })
    }

    async fn get_system_configurations(
        &self,
        request: Request<pb::GetSystemConfigurationsRequest>,
    ) -> Reply<pb::GetSystemConfigurationsResponse> {
        let (_, request) = Call::open(request)?;
        let mut store = self.kernel.database.reader().await?;
        let (page, system) = (Page::all(), store.must_have_system(&request.system_id).await?.id);
        let found = page.whole(store.checks_of(system, page.limit()).await?, "listAssociations")?;
        reply(pb::GetSystemConfigurationsResponse { configurations: self.shown(found) })
    }

    async fn get_system_associations(
        &self,
        request: Request<pb::GetSystemAssociationsRequest>,
    ) -> Reply<pb::GetSystemAssociationsResponse> {
        let (_, request) = Call::open(request)?;
        let mut store = self.kernel.database.reader().await?;
        let (page, system) = (Page::all(), store.must_have_system(&request.system_id).await?.id);
        let found = store.associations(0, Some(system), None, page.limit()).await?;
        let found = page.whole(found, "listAssociations")?;
        reply(pb::GetSystemAssociationsResponse { associations: found.into_iter().map(message::association).collect() })
    }

    async fn list_associations(
        &self,
        request: Request<pb::ListAssociationsRequest>,
    ) -> Reply<pb::ListAssociationsResponse> {
        let (_, request) = Call::open(request)?;
        let page = self.kernel.page(&request)?;
        let system = request.system_id.as_deref().map(SystemId::parse).transpose()?;
        let check = request.configuration_id.as_deref().map(CheckId::parse).transpose()?;
        let mut store = self.kernel.database.reader().await?;
        let mut found = store.associations(number_after(&page), system, check, page.limit()).await?;
        let next_page_token = self.kernel.pages.cut(&request, &page, &mut found);
        let associations = found.into_iter().map(message::association).collect();
        reply(pb::ListAssociationsResponse { associations, next_page_token })
    }

    async fn associate_system(
        &self,
        request: Request<pb::AssociateSystemRequest>,
    ) -> Reply<pb::AssociateSystemResponse> {
        let (call, request) = Call::open(request)?;
        let association = self.associate(&call, request).await?;
        reply(pb::AssociateSystemResponse { association: Some(message::association(association)) })
    }

    async fn disassociate_system(
        &self,
        request: Request<pb::DisassociateSystemRequest>,
    ) -> Reply<pb::DisassociateSystemResponse> {
        let (call, request) = Call::open(request)?;
        self.disassociate(&call, CheckId::parse(&request.config_id)?, SystemId::parse(&request.system_id)?).await?;
        reply(pb::DisassociateSystemResponse { success: true })
    }

    async fn get_history(&self, request: Request<pb::GetHistoryRequest>) -> Reply<pb::GetHistoryResponse> {
        let (_, request) = Call::open(request)?;
        let Found { runs, total, total_incomplete, next_page_token } = self.history(&request, false).await?;
        let runs = runs.iter().map(message::run).collect();
        reply(pb::GetHistoryResponse { runs, total, total_incomplete, next_page_token })
    }

    async fn get_detailed_history(
        &self,
        request: Request<pb::GetDetailedHistoryRequest>,
    ) -> Reply<pb::GetDetailedHistoryResponse> {
        let (_, request) = Call::open(request)?;
        let Found { runs, total, total_incomplete, next_page_token } = self.history(&request, true).await?;
        let runs = runs.iter().map(message::run_detail).collect();
        reply(pb::GetDetailedHistoryResponse { runs, total, total_incomplete, next_page_token })
    }

    async fn get_run_by_id(&self, request: Request<pb::GetRunByIdRequest>) -> Reply<pb::GetRunByIdResponse> {
        let (_, request) = Call::open(request)?;
        let missing = || Error::NotFound(format!("Run not found: {}", request.run_id));
        let id = Uuid::try_parse(&request.run_id).ok().and_then(RunId::parse).ok_or_else(missing)?;
        let found = self.kernel.database.snapshot().await?.any_run(id.association, id.scheduled_at).await?;
        reply(pb::GetRunByIdResponse { run: Some(message::run_detail(&found.ok_or_else(missing)?)) })
    }

    async fn get_aggregated_history(
        &self,
        request: Request<pb::GetAggregatedHistoryRequest>,
    ) -> Reply<pb::GetAggregatedHistoryResponse> {
        let (call, request) = Call::open(request)?;
        let chart = self.chart(&call, &asked!(request, with_numbers: false)).await?;
        reply(pb::GetAggregatedHistoryResponse {
            buckets: chart.buckets().map(|(bucket, _)| bucket).collect(),
            bucket_interval_seconds: chart.interval_seconds(),
            resolution: chart.resolution(),
            sources: chart.sources(),
            percentile_error: Chart::error(),
            approximate_before: chart.approximate_before(),
        })
    }

    async fn get_detailed_aggregated_history(
        &self,
        request: Request<pb::GetDetailedAggregatedHistoryRequest>,
    ) -> Reply<pb::GetDetailedAggregatedHistoryResponse> {
        let (call, request) = Call::open(request)?;
        let chart = self.chart(&call, &asked!(request, with_numbers: true)).await?;
        reply(pb::GetDetailedAggregatedHistoryResponse {
            buckets: chart.buckets().map(|(bucket, tally)| detailed(&bucket, tally)).collect(),
            bucket_interval_seconds: chart.interval_seconds(),
            resolution: chart.resolution(),
            sources: chart.sources(),
            percentile_error: Chart::error(),
            approximate_before: chart.approximate_before(),
        })
    }

    async fn get_availability_stats(
        &self,
        request: Request<pb::GetAvailabilityStatsRequest>,
    ) -> Reply<pb::GetAvailabilityStatsResponse> {
        let (call, request) = Call::open(request)?;
        reply(self.availability(&call, &request.configuration_id, &request.system_id).await?)
    }

    async fn get_uptime(&self, request: Request<pb::GetUptimeRequest>) -> Reply<pb::GetUptimeResponse> {
        let (call, request) = Call::open(request)?;
        reply(self.uptime(&call, &request).await?)
    }

    async fn get_status_changes(
        &self,
        request: Request<pb::GetStatusChangesRequest>,
    ) -> Reply<pb::GetStatusChangesResponse> {
        let (_, request) = Call::open(request)?;
        reply(self.status_changes(&request).await?)
    }

    async fn get_retention_config(
        &self,
        request: Request<pb::GetRetentionConfigRequest>,
    ) -> Reply<pb::GetRetentionConfigResponse> {
        let (_, request) = Call::open(request)?;
        let retention_config = self.retention(&request.configuration_id, &request.system_id).await?;
        reply(pb::GetRetentionConfigResponse { retention_config })
    }

    async fn update_retention_config(
        &self,
        request: Request<pb::UpdateRetentionConfigRequest>,
    ) -> Reply<pb::UpdateRetentionConfigResponse> {
        let (call, request) = Call::open(request)?;
        reply(pb::UpdateRetentionConfigResponse { retention_config: self.keep_for(&call, request).await? })
    }

    async fn export_runs(&self, request: Request<pb::ExportRunsRequest>) -> Reply<Self::ExportRunsStream> {
        let (_, request) = Call::open(request)?;
        reply(self.export(request).await?)
    }

    async fn import_runs(&self, request: Request<pb::ImportRunsRequest>) -> Reply<pb::ImportRunsResponse> {
        let (call, request) = Call::open(request)?;
        reply(self.import(&call, request).await?)
    }

    async fn get_system_health_status(
        &self,
        request: Request<pb::GetSystemHealthStatusRequest>,
    ) -> Reply<pb::GetSystemHealthStatusResponse> {
        let (call, request) = Call::open(request)?;
        reply(pb::GetSystemHealthStatusResponse { status: Some(self.status(&request.system_id, call.now).await?) })
    }

    async fn get_bulk_system_health_status(
        &self,
        request: Request<pb::GetBulkSystemHealthStatusRequest>,
    ) -> Reply<pb::GetBulkSystemHealthStatusResponse> {
        let (call, request) = Call::open(request)?;
        reply(pb::GetBulkSystemHealthStatusResponse { statuses: self.statuses(&request.system_ids, call.now).await? })
    }

    async fn get_group_health_status(
        &self,
        request: Request<pb::GetGroupHealthStatusRequest>,
    ) -> Reply<pb::GetGroupHealthStatusResponse> {
        let (call, request) = Call::open(request)?;
        reply(pb::GetGroupHealthStatusResponse { status: Some(self.group_status(&request, call.now).await?) })
    }

    async fn get_system_health_overview(
        &self,
        request: Request<pb::GetSystemHealthOverviewRequest>,
    ) -> Reply<pb::GetSystemHealthOverviewResponse> {
        let (call, request) = Call::open(request)?;
        let overview = self.overview(&request.system_id, call.now).await?;
        reply(pb::GetSystemHealthOverviewResponse { overview: Some(overview) })
    }

    async fn test_health_check(
        &self,
        request: Request<pb::TestHealthCheckRequest>,
    ) -> Reply<pb::TestHealthCheckResponse> {
        let (call, request) = Call::open(request)?;
        let looked = self.test(&call, request).await?;
        reply(pb::TestHealthCheckResponse { result: Some(message::test_result(looked)) })
    }

    async fn run_health_check_now(
        &self,
        request: Request<pb::RunHealthCheckNowRequest>,
    ) -> Reply<pb::RunHealthCheckNowResponse> {
        let (call, request) = Call::open(request)?;
        let runs = self.run_now(&call, request).await?;
        reply(pb::RunHealthCheckNowResponse { runs: runs.into_iter().map(message::stored).collect() })
    }

    async fn report_result(&self, request: Request<pb::ReportResultRequest>) -> Reply<pb::ReportResultResponse> {
        let (call, request) = Call::open(request)?;
        let recorded = self.report(&call, request).await?;
        let report = pb::Report { recorded, received_at: Some(call.now.message()) };
        reply(pb::ReportResultResponse { report: Some(report) })
    }

    async fn regenerate_push_token(
        &self,
        request: Request<pb::RegeneratePushTokenRequest>,
    ) -> Reply<pb::RegeneratePushTokenResponse> {
        let (call, request) = Call::open(request)?;
        let token = self.new_push_token(&call, CheckId::parse(&request.configuration_id)?).await?;
        reply(pb::RegeneratePushTokenResponse { token: token.to_string() })
    }
}

/// There is no such check.
pub(super) fn missing(id: CheckId) -> Error {
    Error::NotFound(format!("Health check not found: {id}"))
}

/// Something is wrong with a field of an input.
pub(super) fn wrong(path: &str, message: &str) -> Error {
    Error::Invalid(issues(vec![Fault::new(path, message)], ""))
}
