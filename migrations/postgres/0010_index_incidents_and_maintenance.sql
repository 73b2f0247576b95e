-- Which window touches which system, anew. is_open: the window is written as scheduled or in_progress; start_at, end_at and
-- series_id are those of the window: what touches a system is found in order, however much touched it before.
create table maintenance_touch (
    maintenance_id uuid    not null references maintenance (id) on delete cascade,
    system_id      uuid    not null references catalog_system (id) on delete cascade,
    is_open        boolean not null,
    start_at       bigint  not null,
    end_at         bigint  not null,
    series_id      uuid,
    primary key (maintenance_id, system_id)
);
insert into maintenance_touch (maintenance_id, system_id, is_open, start_at, end_at, series_id)
select link.maintenance_id, link.system_id, link.is_open, maintenance.start_at, maintenance.end_at, maintenance.series_id
from maintenance_system as link join maintenance on maintenance.id = link.maintenance_id;
drop table maintenance_system;
alter table maintenance_touch rename to maintenance_system;
create index maintenance_system_by_start on maintenance_system (system_id, start_at, maintenance_id);
create index maintenance_system_by_openness on maintenance_system
    (system_id, is_open, start_at, maintenance_id, end_at, series_id);
create index maintenance_by_series on maintenance (series_id, start_at, id);

-- Open ones of a severity are found without those that are resolved.
create index incident_by_severity_and_activity on incident (severity, is_active, created_at, id);
