//! One good input for every procedure. A procedure without one fails the role matrix and the parity test.

use crate::server::Server;
use serde_json::{Value, json};

/// What stands in a setting of a sample that is written and never read.
pub const SAMPLE_SECRET: &str = "hunter2-hunter2";

/// Ids to put into samples.
pub struct Fixture {
    pub system: String,
    pub doomed_system: String,
    pub group: String,
    pub doomed_group: String,
    pub view: String,
    pub doomed_view: String,
    pub contact: String,
    pub application: String,
    pub doomed_application: String,
    pub role: String,
    pub doomed_role: String,
    pub incident: String,
    pub unresolved_incident: String,
    pub doomed_incident: String,
    pub window: String,
    pub running_window: String,
    pub planned_window: String,
    pub doomed_window: String,
    pub check: String,
    pub paused_check: String,
    pub doomed_check: String,
    pub left_check: String,
    pub heartbeat: String,
    pub run: String,
}

impl Fixture {
    /// Ids of nothing.
    pub fn of_nothing() -> Self {
        let id = || uuid::Uuid::now_v7().to_string();
        Self {
            system: id(),
            doomed_system: id(),
            group: id(),
            doomed_group: id(),
            view: id(),
            doomed_view: id(),
            contact: id(),
            application: id(),
            doomed_application: id(),
            role: id(),
            doomed_role: id(),
            incident: id(),
            unresolved_incident: id(),
            doomed_incident: id(),
            window: id(),
            running_window: id(),
            planned_window: id(),
            doomed_window: id(),
            check: id(),
            paused_check: id(),
            doomed_check: id(),
            left_check: id(),
            heartbeat: id(),
            run: id(),
        }
    }

    /// Ids of things that exist; each deletion has a victim of its own.
    pub async fn of_things(server: &Server) -> Self {
        let admin = server.admin();
        let make = async |procedure: &str, input: Value| -> String {
            let made = admin.call(procedure, input).await;
            let id = if made["id"].is_null() { &made["application"]["id"] } else { &made["id"] };
            id.as_str().unwrap().to_owned()
        };
        let (system, group) = (
            make("catalog.createSystem", json!({"name": "web", "owner": "ops", "metadata": {"tier": 1}})).await,
            make("catalog.createGroup", json!({"name": "all"})).await,
        );
        let incident = |title: &str| json!({"title": title, "severity": "major", "systemIds": [system]});
        let window = |title: &str, start: &str| json!({"title": title, "startAt": start, "endAt": "2099-01-01T00:00:00Z", "systemIds": [system]});
        // Not by the clock, which would write what no test has asked for.
        let running_window = make("maintenance.scheduleWindow", window("now", "2098-01-01T00:00:00Z")).await;
        let start = json!({"maintenanceId": running_window, "message": "now", "statusChange": "in_progress"});
        admin.call("maintenance.addUpdate", start).await;
        let contact = json!({"systemId": system, "type": "mailbox", "email": "ops@example.org", "label": "on call"});
        // It is refused at once, and runs only when it is told to.
        let refused = |name: &str| json!({"name": name, "strategyId": "tcp", "config": {"host": "127.0.0.1", "port": 1}, "intervalSeconds": 60});
        let heartbeat = json!({"name": "backup", "strategyId": "heartbeat", "config": {}, "intervalSeconds": 86400});
        let check = make("healthcheck.createConfiguration", refused("port")).await;
        let heartbeat = make("healthcheck.createConfiguration", heartbeat).await;
        let left_check = make("healthcheck.createConfiguration", refused("left")).await;
        for (check, enabled) in [(&check, false), (&left_check, false), (&heartbeat, true)] {
            let body = json!({"configurationId": check, "enabled": enabled});
            admin.call("healthcheck.associateSystem", json!({"systemId": system, "body": body})).await;
        }
        let runs = admin.call("healthcheck.runHealthCheckNow", json!({"configurationId": check})).await;
        let run = runs[0]["id"].as_str().unwrap().to_owned();
        let paused_check = make("healthcheck.createConfiguration", refused("paused")).await;
        admin.call("healthcheck.pauseConfiguration", json!(paused_check)).await;
        Self {
            doomed_check: make("healthcheck.createConfiguration", refused("old")).await,
            check,
            left_check,
            paused_check,
            heartbeat,
            run,
            contact: make("catalog.addSystemContact", contact).await,
            doomed_system: make("catalog.createSystem", json!({"name": "old"})).await,
            doomed_group: make("catalog.createGroup", json!({"name": "old"})).await,
            view: make("catalog.createView", json!({"name": "wall", "configuration": ["a", 1, null]})).await,
            doomed_view: make("catalog.createView", json!({"name": "old"})).await,
            application: make("auth.createApplication", json!({"name": "ci"})).await,
            doomed_application: make("auth.createApplication", json!({"name": "old"})).await,
            role: make("auth.createRole", json!({"name": "writer", "permissions": ["catalog.*"]})).await,
            doomed_role: make("auth.createRole", json!({"name": "old", "permissions": []})).await,
            incident: make("incident.createIncident", incident("slow")).await,
            unresolved_incident: make("incident.createIncident", incident("down")).await,
            doomed_incident: make("incident.createIncident", incident("old")).await,
            window: make("maintenance.scheduleWindow", window("disks", "2098-01-01T00:00:00Z")).await,
            running_window,
            planned_window: make("maintenance.scheduleWindow", window("soon", "2098-01-01T00:00:00Z")).await,
            doomed_window: make("maintenance.scheduleWindow", window("old", "2098-01-01T00:00:00Z")).await,
            system,
            group,
        }
    }

    /// The sample of a procedure.
    pub fn sample(&self, procedure: &str) -> Value {
        match procedure {
            "auth.getApplications"
            | "auth.getRoles"
            | "auth.getPermissions"
            | "auth.permissions"
            | "auth.whoAmI"
            | "catalog.getEntities"
            | "catalog.getSystems"
            | "catalog.getGroups"
            | "catalog.getViews"
            | "incident.watchIncidents"
            | "maintenance.watchMaintenances" => json!({}),
            "auth.listApplications" => json!({"pageSize": 2, "nameContains": "c"}),
            "auth.getApplication" => json!({"applicationId": self.application}),
            "auth.getRole" => json!({"roleId": self.role}),
            "auth.createApplication" => {
                json!({"name": " deploy ", "description": null, "expiresAt": "2027-01-01T01:00:00+01:00"})
            }
            "auth.updateApplication" => json!({"id": self.application, "name": "ci 2", "description": "builds"}),
            "auth.deleteApplication" => json!(self.doomed_application),
            "auth.regenerateApplicationSecret" => json!(self.application),
            "auth.listRoles" => json!({"pageSize": 3}),
            "auth.createRole" => {
                json!({"name": "auditor", "permissions": ["catalog.system.read", "catalog.catalog.read"]})
            }
            "auth.updateRole" => json!({"id": self.role, "permissions": [], "description": null}),
            "auth.deleteRole" => json!(self.doomed_role),
            "auth.listPermissions" => json!({"pageSize": 1000}),
            "catalog.listSystems" => json!({"pageSize": 1, "owner": "ops", "nameContains": "W"}),
            "catalog.getSystem"
            | "catalog.listGroups"
            | "catalog.getSystemContacts"
            | "catalog.listSystemContacts"
            | "incident.getIncidentsForSystem"
            | "incident.hasActiveIncidentWithSuppression" => json!({"systemId": self.system}),
            "catalog.createSystem" => {
                json!({"name": "mail", "metadata": {"ratio": 0.5, "tags": ["a", null, true], "n": 1}})
            }
            "catalog.updateSystem" => {
                json!({"id": self.system, "data": {"description": "the front", "owner": null, "metadata": null}})
            }
            "catalog.deleteSystem" => json!(self.doomed_system),
            "catalog.getGroup" => json!({"groupId": self.group}),
            "catalog.createGroup" => json!({"name": "core", "metadata": {}}),
            "catalog.updateGroup" => json!({"id": self.group, "data": {"name": "everything"}}),
            "catalog.deleteGroup" => json!({"id": self.doomed_group}),
            "catalog.addSystemToGroup" | "catalog.removeSystemFromGroup" => {
                json!({"groupId": self.group, "systemId": self.system})
            }
            "catalog.listViews" => json!({"nameContains": "a%"}),
            "catalog.getView" => json!({"viewId": self.view}),
            "catalog.createView" => {
                json!({"name": "board", "description": "for the wall", "configuration": {"columns": [1, 2]}})
            }
            "catalog.updateView" => json!({"id": self.view, "data": {"configuration": null}}),
            "catalog.deleteView" => json!(self.doomed_view),
            "catalog.addSystemContact" => json!({"systemId": self.system, "type": "user", "userId": "u1"}),
            "catalog.getSystemContact" => json!({"contactId": self.contact}),
            "catalog.removeSystemContact" => json!(self.contact),
            "catalog.notifySystemSubscribers" => {
                json!({"systemId": self.system, "title": "t", "body": "b", "importance": "warning"})
            }
            "incident.getIncidents" => json!({"includeResolved": true}),
            "incident.listIncidents" => json!({"pageSize": 1, "severity": "major", "textContains": "O"}),
            "incident.getIncident" => json!({"id": self.incident}),
            "incident.getBulkIncidentsForSystems" | "maintenance.getBulkMaintenancesForSystems" => {
                json!({"systemIds": [self.system]})
            }
            "incident.createIncident" => json!({
                "title": " disk full ", "description": null, "severity": "critical",
                "systemIds": [self.system],
                "initialMessage": "looking"
            }),
            "incident.updateIncident" => json!({"id": self.incident, "description": "since noon", "severity": "minor"}),
            "incident.addUpdate" => {
                json!({"incidentId": self.incident, "message": "found it", "statusChange": "identified"})
            }
            "incident.resolveIncident" => json!({"id": self.unresolved_incident, "message": "back"}),
            "incident.deleteIncident" => json!(self.doomed_incident),
            "maintenance.getWindows" => json!({"status": "scheduled"}),
            "maintenance.listMaintenances" => json!({"pageSize": 1, "status": "in_progress", "textContains": "O"}),
            "maintenance.getMaintenance" => json!({"id": self.window}),
            "maintenance.getMaintenancesForSystem" | "maintenance.hasActiveMaintenanceWithSuppression" => {
                json!({"systemId": self.system})
            }
            "maintenance.scheduleWindow" => json!({
                "title": " patches ", "description": null, "startAt": "2099-01-04T03:00:00+01:00",
                "endAt": "2099-01-04T03:00:00Z", "systemIds": [self.system],
                "recurrence": {"rrule": "FREQ=WEEKLY;BYDAY=SU", "timeZone": "Europe/Berlin"}
            }),
            "maintenance.updateMaintenance" => {
                json!({"id": self.window, "description": "both", "endAt": "2098-02-01T00:00:00Z"})
            }
            "maintenance.addUpdate" => json!({"maintenanceId": self.window, "message": "ready"}),
            "maintenance.closeMaintenance" => json!({"id": self.running_window, "message": "done"}),
            "maintenance.cancelMaintenance" => json!({"id": self.planned_window}),
            "maintenance.deleteMaintenance" => json!(self.doomed_window),
            of_checks if of_checks.starts_with("healthcheck.") => self.sample_of_checks(of_checks),
            other => panic!("{other} has no sample: add one to tests/it/samples.rs"),
        }
    }

    fn sample_of_checks(&self, procedure: &str) -> Value {
        match procedure {
            "healthcheck.getStrategies"
            | "healthcheck.getHealthChecks"
            | "healthcheck.watchStatus"
            | "healthcheck.watchRuns"
            | "healthcheck.exportRuns" => json!({}),
            "healthcheck.listHealthChecks" => json!({"pageSize": 1, "strategyId": "tcp", "nameContains": "P"}),
            "healthcheck.getConfiguration" => json!({"id": self.check}),
            "healthcheck.createConfiguration" => json!({
                "name": " shop ", "strategyId": "healthcheck-http.http", "intervalSeconds": 30, "degradedAboveMs": null,
                "config": {"url": "http://127.0.0.1:1/", "bearerToken": SAMPLE_SECRET},
                "assertions": [{"field": "statusCode", "operator": "equals", "value": 200}]
            }),
            "healthcheck.updateConfiguration" => {
                json!({"id": self.check, "body": {"description": "the port", "retries": 1, "retryBackoffMs": 10}})
            }
            "healthcheck.deleteConfiguration" => json!(self.doomed_check),
            "healthcheck.pauseConfiguration" => json!(self.check),
            "healthcheck.resumeConfiguration" => json!(self.paused_check),
            "healthcheck.getSystemConfigurations"
            | "healthcheck.getSystemAssociations"
            | "healthcheck.listAssociations"
            | "healthcheck.getSystemHealthStatus"
            | "healthcheck.getSystemHealthOverview"
            | "healthcheck.getHistory"
            | "healthcheck.getDetailedHistory" => json!({"systemId": self.system}),
            "healthcheck.getGroupHealthStatus" => json!({"groupId": self.group, "strategy": "percent", "percent": 50}),
            "healthcheck.getBulkSystemHealthStatus" => json!({"systemIds": [self.system]}),
            "healthcheck.associateSystem" => json!({
                "systemId": self.system,
                "body": {
                    "configurationId": self.paused_check,
                    "enabled": false,
                    "stateThresholds": {"mode": "window", "windowSize": 5, "degraded": {"minFailureCount": 1}, "unhealthy": {"minFailureCount": 5}},
                    "incidentPolicy": {"openOn": "unhealthy", "severity": "critical"}
                }
            }),
            "healthcheck.disassociateSystem" => json!({"systemId": self.system, "configId": self.left_check}),
            "healthcheck.getRunById" => json!({"runId": self.run}),
            "healthcheck.getAggregatedHistory" | "healthcheck.getDetailedAggregatedHistory" => json!({
                "systemId": self.system, "configurationId": self.check, "targetPoints": 10,
                "startDate": "2026-01-05T14:00:00Z", "endDate": "2026-01-05T15:00:00Z"
            }),
            "healthcheck.getAvailabilityStats" | "healthcheck.getRetentionConfig" => {
                json!({"systemId": self.system, "configurationId": self.check})
            }
            "healthcheck.getUptime" => json!({"systemId": self.system, "startDate": "2026-01-05T14:00:00+00:00"}),
            "healthcheck.getStatusChanges" => json!({"systemId": self.system, "pageSize": 2}),
            "healthcheck.updateRetentionConfig" => json!({
                "systemId": self.system, "configurationId": self.check,
                "retentionConfig": {"rawRetentionDays": 1, "hourlyRetentionDays": 8}
            }),
            "healthcheck.importRuns" => json!({
                "systemId": self.system, "configurationId": self.check,
                "runs": [
                    {"timestamp": "2026-01-04T10:00:00.500Z", "status": "unhealthy", "latencyMs": 12.5, "result": {"message": "no"}},
                    {"timestamp": "2026-01-04T10:01:00Z", "status": "healthy"}
                ]
            }),
            "healthcheck.testHealthCheck" => {
                json!({"strategyId": "tcp", "config": {"host": "127.0.0.1", "port": 1}, "timeoutMs": 1000})
            }
            "healthcheck.reportResult" => {
                json!({"configurationId": self.heartbeat, "status": "healthy", "latencyMs": 1.5})
            }
            "healthcheck.regeneratePushToken" => json!({"configurationId": self.heartbeat}),
            "healthcheck.runHealthCheckNow" => json!({"configurationId": self.check}),
            other => panic!("{other} has no sample: add one to tests/it/samples.rs"),
        }
    }
}
