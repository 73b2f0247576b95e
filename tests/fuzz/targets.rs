//! What each fuzz target claims of any bytes: one function for each, which panics when the claim does not hold.
//!
//! The fuzz package and the replay of the corpora in `cargo test` both include this file.

use checkmate::access::Token;
use checkmate::contract::check::Validate;
use checkmate::contract::dispatch::Checks;
use checkmate::contract::page::{Page, PageKey, Row};
use checkmate::error::Error;
use checkmate::json::{Decode, Decoder, Value, decode, encode};
use checkmate::proto::checkmate::{
    auth::v1 as auth, catalog::v1 as catalog, healthcheck::v1 as healthcheck, incident::v1 as incident,
    maintenance::v1 as maintenance,
};
use checkmate::transport::fuzzing;
use prost::Message;
use serde::Serialize;
use std::sync::Arc;

/// A claim of any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("token", token),
    ("batch", batch),
    ("envelope", envelope),
    ("page", page),
    ("protobuf", protobuf),
    ("input", input),
];

/// What is read as a key is written back as it was, and a well-formed key with one other character is none.
pub fn token(data: &[u8]) {
    if let Some(read) = std::str::from_utf8(data).ok().and_then(Token::parse) {
        let text = std::str::from_utf8(data).expect("checked");
        assert_eq!(read.reveal(), text);
        assert_eq!(text, well_formed(read.application.0, &read.secret().as_bytes()[..43]));
    }
    let Some((id, rest)) = data.split_first_chunk::<16>() else { return };
    let Some((secret, [at, with, ..])) = rest.split_at_checked(43) else { return };
    let good = well_formed(uuid::Uuid::from_bytes(*id), secret);
    assert_eq!(Token::parse(&good).expect("it is well formed").reveal(), good);
    let (at, with) = (usize::from(*at) % good.len(), char::from(*with));
    let mut other = good.clone();
    other.replace_range(at..=at, with.encode_utf8(&mut [0; 4]));
    assert_eq!(Token::parse(&other).is_some(), other == good, "{other:?} is not {good:?}");
    assert!(Token::parse(&good[..at]).is_none());
}

/// A key with its checksum, from any bytes.
fn well_formed(id: uuid::Uuid, secret: &[u8]) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digit = |byte: u8| char::from(if byte.is_ascii_alphanumeric() { byte } else { DIGITS[usize::from(byte) % 62] });
    let mut text = format!("ck_{}_", id.hyphenated());
    text.extend(secret.iter().map(|byte| digit(*byte)));
    let checksum = crc32fast::hash(text.as_bytes());
    let place = |power: u32| char::from(DIGITS[(checksum / 62_u32.pow(power) % 62) as usize]);
    text.extend((0..6).rev().map(place));
    text
}

/// A batch is read exactly if it is JSON in the eyes of serde, and keeps the documented rules.
pub fn batch(data: &[u8]) {
    let theirs = serde_json::from_slice::<serde_json::Value>(data);
    let calls = theirs.as_ref().ok().and_then(serde_json::Value::as_object).map(|calls| calls.keys().cloned());
    let mut calls = calls.map(Iterator::collect::<Vec<_>>);
    let is_batch = calls.as_ref().is_some_and(|calls| (1..=50).contains(&calls.len()) && Shape::of(data).fits(&theirs));
    match fuzzing::batch(data) {
        Ok(mut names) => {
            assert!(is_batch, "this is no batch");
            names.sort();
            let calls = calls.as_mut().expect("it is a batch");
            calls.sort();
            assert_eq!(names, *calls);
        }
        Err(why) => {
            assert!(!is_batch, "this is a batch: {why}");
            assert!(matches!(why, Error::Malformed(_) | Error::TooLarge(_)), "{why:?}");
        }
    }
}

/// A body is read exactly if it is JSON in the eyes of serde and keeps the documented rules, and its value is the one
/// that serde reads. What `meta` changes is not claimed.
pub fn envelope(data: &[u8]) {
    let theirs = serde_json::from_slice::<serde_json::Value>(data);
    let is_fit = data.is_empty() || Shape::of(data).fits(&theirs);
    let theirs = theirs.unwrap_or_else(|_| serde_json::json!({}));
    let wrapping =
        theirs.as_object().filter(|it| it.keys().all(|key| ["json", "meta", "maps"].contains(&key.as_str())));
    let is_bare = wrapping.is_none_or(|it| !it.contains_key("meta") && !it.contains_key("maps"));
    match fuzzing::envelope(data) {
        Ok((value, enveloped)) => {
            assert!(is_fit, "this cannot be read");
            assert_eq!(enveloped, wrapping.is_some());
            if is_bare {
                let inner = wrapping.map_or(&theirs, |it| it.get("json").unwrap_or(&serde_json::Value::Null));
                assert_eq!(plain(&value), *inner);
            }
        }
        Err(why) => {
            assert!(!is_fit || !is_bare, "this can be read: {why}");
            assert!(matches!(why, Error::Malformed(_)), "{why:?}");
        }
    }
}

/// The value as serde has it.
fn plain(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(is_true) => (*is_true).into(),
        Value::Number(number) => number.clone().into(),
        Value::Text(text) => text.as_ref().into(),
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Object(entries) => entries.iter().map(|(key, value)| (key.clone().into_owned(), plain(value))).collect(),
    }
}

/// What can be told from a JSON text without reading it.
struct Shape {
    depth: usize,
    entries: usize,
}

impl Shape {
    fn of(text: &[u8]) -> Self {
        let (mut here, mut depth, mut entries, mut is_text, mut is_escaped) = (0_usize, 0, 0, false, false);
        for byte in text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_text => is_escaped = true,
                b'"' => is_text = !is_text,
                _ if is_text => {}
                b'{' | b'[' => here += 1,
                b'}' | b']' => here = here.saturating_sub(1),
                b':' => entries += 1,
                _ => {}
            }
            depth = depth.max(here);
        }
        Self { depth, entries }
    }

    /// The rules that are stricter than JSON: 64 levels inside of the outer one, and no key twice (serde keeps one).
    fn fits(&self, read: &Result<serde_json::Value, serde_json::Error>) -> bool {
        fn entries(value: &serde_json::Value) -> usize {
            match value {
                serde_json::Value::Object(map) => map.values().map(|value| 1 + entries(value)).sum(),
                serde_json::Value::Array(items) => items.iter().map(entries).sum(),
                _ => 0,
            }
        }
        read.as_ref().is_ok_and(|read| self.depth <= 65 && entries(read) == self.entries)
    }
}

/// A page token is good for the list and the filters it was issued for, and nothing else is good for anything.
pub fn page(data: &[u8]) {
    // Another for each input, so that a fuzzer cannot learn from one what to forge in the next.
    let key = PageKey::new(std::array::from_fn(|at| crc32fast::hash(data).to_le_bytes()[at % 4]));
    let (text, rest) = data.split_at(data.len().min(data.first().map_or(0, |byte| usize::from(*byte))));
    let text = String::from_utf8_lossy(text).into_owned();
    let list = |filter: &str, token: &str| catalog::ListSystemsRequest {
        name_contains: Some(filter.to_owned()),
        page_token: Some(token.to_owned()),
        ..catalog::ListSystemsRequest::default()
    };
    assert!(key.open(&list("", &text)).is_none(), "{text:?} was not issued");

    let page = Page { after: None, size: 1 };
    let mut rows = vec![At(text.clone()), At(String::new())];
    let issued = key.cut(&list(&text, ""), &page, &mut rows).expect("there is a row more");
    assert_eq!(key.open(&list(&text, &issued)).and_then(|page| page.after), Some(text.clone()));
    assert!(key.open(&list(&format!("{text}x"), &issued)).is_none(), "the filter is another");
    let other = catalog::ListViewsRequest {
        name_contains: Some(text.clone()),
        page_token: Some(issued.clone()),
        ..catalog::ListViewsRequest::default()
    };
    assert!(key.open(&other).is_none(), "the list is another");
    assert!(PageKey::new([7; 32]).open(&list(&text, &issued)).is_none(), "the instance is another");
    if let [at, with, ..] = rest {
        let (at, mut forged) = (usize::from(*at) % issued.len(), issued.clone());
        forged.replace_range(at..=at, char::from(*with).encode_utf8(&mut [0; 4]));
        assert_eq!(key.open(&list(&text, &forged)).is_some(), forged == issued, "{forged:?} is not {issued:?}");
        assert!(key.open(&list(&text, &issued[..at])).is_none());
    }
}

/// A row that is nothing but its place.
struct At(String);

impl Row for At {
    fn position(&self) -> String {
        self.0.clone()
    }

    fn bytes(&self) -> usize {
        1
    }
}

/// The first byte says which method's messages the others are. What Protobuf reads is written and read back as it was;
/// a request that is valid stays so and as it is; a response is JSON or is refused.
pub fn protobuf(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    METHODS[usize::from(*which) % METHODS.len()].protobuf(bytes);
}

/// The first byte says whose input the others are, as JSON. What is accepted is accepted as Protobuf too and means the
/// same; free JSON is read as it was written.
pub fn input(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let Ok(value) = Value::parse(bytes, 64) else { return };
    METHODS[usize::from(*which) % METHODS.len()].input(&value);
    let mut at = Decoder::default();
    if let (Some(free), true) = (decode::any(&value, &mut at), at.issues.is_empty()) {
        let text = encode::any_text(&free);
        let again = Value::parse(text.as_bytes(), 64).expect("what is written can be read");
        let again = decode::any(&again, &mut Decoder::default()).expect("what is written can be read");
        assert_eq!(encode::any_text(&again), text);
    }
}

/// What is claimed of the messages of a method.
pub trait Claims: Sync {
    /// The full name of the request.
    fn request(&self) -> &'static str;
    /// Of bytes.
    fn protobuf(&self, bytes: &[u8]);
    /// Of JSON.
    fn input(&self, value: &Value<'_>);
}

/// The messages of one method.
struct Method<I, O>(&'static str, std::marker::PhantomData<fn(I) -> O>);

impl<I: Message + Default + Decode + Validate + Clone, O: Message + Default + Serialize> Claims for Method<I, O> {
    fn request(&self) -> &'static str {
        self.0
    }

    fn protobuf(&self, bytes: &[u8]) {
        if let Some(request) = read::<I>(bytes) {
            accept(request);
        }
        let text = read::<O>(bytes).and_then(|response| serde_json::to_vec(&response).ok());
        if let Some(text) = text {
            // Not read by our own strict reader: a map has each key once in an answer, but not in any bytes.
            let read: Result<serde_json::Value, _> = serde_json::from_slice(&text);
            read.expect("what is written as JSON is JSON");
        }
    }

    fn input(&self, value: &Value<'_>) {
        let Ok(request) = checks().input::<I>(value, None) else { return };
        let written = request.encode_to_vec();
        let read = read::<I>(&written).expect("what is written can be read");
        assert_eq!(accept(read).expect("JSON and Protobuf agree").encode_to_vec(), written);
    }
}

/// A message, if these bytes are one; written, it is read again as the same.
fn read<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    let read = M::decode(bytes).ok()?;
    let written = read.encode_to_vec();
    let again = M::decode(&written[..]).expect("what is written can be read");
    assert_eq!(again.encode_to_vec(), written);
    Some(read)
}

/// A request in its final form, if it is valid; it is valid and final again then.
fn accept<M: Validate + Message + Clone>(request: M) -> Option<M> {
    let first = checks().request(tonic::Request::new(request)).ok()?.into_inner();
    let again = checks().request(tonic::Request::new(first.clone())).expect("what is valid stays so").into_inner();
    assert_eq!(again.encode_to_vec(), first.encode_to_vec());
    Some(first)
}

fn checks() -> Checks {
    Checks { pages: Arc::new(PageKey::new([7; 32])) }
}

macro_rules! methods {
    ($($plugin:ident: $request:ident => $response:ident,)*) => {
        /// Every method of the contract.
        pub static METHODS: &[&dyn Claims] = &[$(&Method::<$plugin::$request, $plugin::$response>(
            concat!("checkmate.", stringify!($plugin), ".v1.", stringify!($request)),
            std::marker::PhantomData,
        ),)*];
    };
}

methods! {
    auth: GetApplicationsRequest => GetApplicationsResponse,
    auth: ListApplicationsRequest => ListApplicationsResponse,
    auth: GetApplicationRequest => GetApplicationResponse,
    auth: CreateApplicationRequest => CreateApplicationResponse,
    auth: UpdateApplicationRequest => UpdateApplicationResponse,
    auth: DeleteApplicationRequest => DeleteApplicationResponse,
    auth: RegenerateApplicationSecretRequest => RegenerateApplicationSecretResponse,
    auth: GetRolesRequest => GetRolesResponse,
    auth: ListRolesRequest => ListRolesResponse,
    auth: GetRoleRequest => GetRoleResponse,
    auth: CreateRoleRequest => CreateRoleResponse,
    auth: UpdateRoleRequest => UpdateRoleResponse,
    auth: DeleteRoleRequest => DeleteRoleResponse,
    auth: GetPermissionsRequest => GetPermissionsResponse,
    auth: ListPermissionsRequest => ListPermissionsResponse,
    auth: PermissionsRequest => PermissionsResponse,
    auth: WhoAmIRequest => WhoAmIResponse,
    catalog: GetEntitiesRequest => GetEntitiesResponse,
    catalog: GetSystemsRequest => GetSystemsResponse,
    catalog: ListSystemsRequest => ListSystemsResponse,
    catalog: GetSystemRequest => GetSystemResponse,
    catalog: CreateSystemRequest => CreateSystemResponse,
    catalog: UpdateSystemRequest => UpdateSystemResponse,
    catalog: DeleteSystemRequest => DeleteSystemResponse,
    catalog: GetGroupsRequest => GetGroupsResponse,
    catalog: ListGroupsRequest => ListGroupsResponse,
    catalog: GetGroupRequest => GetGroupResponse,
    catalog: CreateGroupRequest => CreateGroupResponse,
    catalog: UpdateGroupRequest => UpdateGroupResponse,
    catalog: DeleteGroupRequest => DeleteGroupResponse,
    catalog: AddSystemToGroupRequest => AddSystemToGroupResponse,
    catalog: RemoveSystemFromGroupRequest => RemoveSystemFromGroupResponse,
    catalog: GetViewsRequest => GetViewsResponse,
    catalog: ListViewsRequest => ListViewsResponse,
    catalog: GetViewRequest => GetViewResponse,
    catalog: CreateViewRequest => CreateViewResponse,
    catalog: UpdateViewRequest => UpdateViewResponse,
    catalog: DeleteViewRequest => DeleteViewResponse,
    catalog: GetSystemContactsRequest => GetSystemContactsResponse,
    catalog: ListSystemContactsRequest => ListSystemContactsResponse,
    catalog: GetSystemContactRequest => GetSystemContactResponse,
    catalog: AddSystemContactRequest => AddSystemContactResponse,
    catalog: RemoveSystemContactRequest => RemoveSystemContactResponse,
    catalog: NotifySystemSubscribersRequest => NotifySystemSubscribersResponse,
    healthcheck: GetStrategiesRequest => GetStrategiesResponse,
    healthcheck: GetHealthChecksRequest => GetHealthChecksResponse,
    healthcheck: ListHealthChecksRequest => ListHealthChecksResponse,
    healthcheck: GetConfigurationRequest => GetConfigurationResponse,
    healthcheck: CreateConfigurationRequest => CreateConfigurationResponse,
    healthcheck: UpdateConfigurationRequest => UpdateConfigurationResponse,
    healthcheck: DeleteConfigurationRequest => DeleteConfigurationResponse,
    healthcheck: PauseConfigurationRequest => PauseConfigurationResponse,
    healthcheck: ResumeConfigurationRequest => ResumeConfigurationResponse,
    healthcheck: GetSystemConfigurationsRequest => GetSystemConfigurationsResponse,
    healthcheck: GetSystemAssociationsRequest => GetSystemAssociationsResponse,
    healthcheck: ListAssociationsRequest => ListAssociationsResponse,
    healthcheck: AssociateSystemRequest => AssociateSystemResponse,
    healthcheck: DisassociateSystemRequest => DisassociateSystemResponse,
    healthcheck: GetHistoryRequest => GetHistoryResponse,
    healthcheck: GetDetailedHistoryRequest => GetDetailedHistoryResponse,
    healthcheck: GetRunByIdRequest => GetRunByIdResponse,
    healthcheck: GetAggregatedHistoryRequest => GetAggregatedHistoryResponse,
    healthcheck: GetDetailedAggregatedHistoryRequest => GetDetailedAggregatedHistoryResponse,
    healthcheck: GetAvailabilityStatsRequest => GetAvailabilityStatsResponse,
    healthcheck: GetUptimeRequest => GetUptimeResponse,
    healthcheck: GetStatusChangesRequest => GetStatusChangesResponse,
    healthcheck: GetRetentionConfigRequest => GetRetentionConfigResponse,
    healthcheck: UpdateRetentionConfigRequest => UpdateRetentionConfigResponse,
    healthcheck: ExportRunsRequest => ExportRunsResponse,
    healthcheck: ImportRunsRequest => ImportRunsResponse,
    healthcheck: GetSystemHealthStatusRequest => GetSystemHealthStatusResponse,
    healthcheck: GetBulkSystemHealthStatusRequest => GetBulkSystemHealthStatusResponse,
    healthcheck: GetGroupHealthStatusRequest => GetGroupHealthStatusResponse,
    healthcheck: GetSystemHealthOverviewRequest => GetSystemHealthOverviewResponse,
    healthcheck: TestHealthCheckRequest => TestHealthCheckResponse,
    healthcheck: RunHealthCheckNowRequest => RunHealthCheckNowResponse,
    healthcheck: ReportResultRequest => ReportResultResponse,
    healthcheck: RegeneratePushTokenRequest => RegeneratePushTokenResponse,
    healthcheck: WatchStatusRequest => WatchStatusResponse,
    healthcheck: WatchRunsRequest => WatchRunsResponse,
    incident: GetIncidentsRequest => GetIncidentsResponse,
    incident: ListIncidentsRequest => ListIncidentsResponse,
    incident: GetIncidentRequest => GetIncidentResponse,
    incident: GetIncidentsForSystemRequest => GetIncidentsForSystemResponse,
    incident: GetBulkIncidentsForSystemsRequest => GetBulkIncidentsForSystemsResponse,
    incident: CreateIncidentRequest => CreateIncidentResponse,
    incident: UpdateIncidentRequest => UpdateIncidentResponse,
    incident: IncidentServiceAddUpdateRequest => IncidentServiceAddUpdateResponse,
    incident: ResolveIncidentRequest => ResolveIncidentResponse,
    incident: DeleteIncidentRequest => DeleteIncidentResponse,
    incident: WatchIncidentsRequest => WatchIncidentsResponse,
    incident: HasActiveIncidentWithSuppressionRequest => HasActiveIncidentWithSuppressionResponse,
    maintenance: GetWindowsRequest => GetWindowsResponse,
    maintenance: ListMaintenancesRequest => ListMaintenancesResponse,
    maintenance: GetMaintenanceRequest => GetMaintenanceResponse,
    maintenance: GetMaintenancesForSystemRequest => GetMaintenancesForSystemResponse,
    maintenance: GetBulkMaintenancesForSystemsRequest => GetBulkMaintenancesForSystemsResponse,
    maintenance: ScheduleWindowRequest => ScheduleWindowResponse,
    maintenance: UpdateMaintenanceRequest => UpdateMaintenanceResponse,
    maintenance: MaintenanceServiceAddUpdateRequest => MaintenanceServiceAddUpdateResponse,
    maintenance: CloseMaintenanceRequest => CloseMaintenanceResponse,
    maintenance: CancelMaintenanceRequest => CancelMaintenanceResponse,
    maintenance: DeleteMaintenanceRequest => DeleteMaintenanceResponse,
    maintenance: WatchMaintenancesRequest => WatchMaintenancesResponse,
    maintenance: HasActiveMaintenanceWithSuppressionRequest => HasActiveMaintenanceWithSuppressionResponse,
}
