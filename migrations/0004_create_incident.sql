-- What went wrong. search_text is title and description, folded; is_active: not resolved. The kind of who opened it is
-- user, application, server or anonymous, and the name is the one of that time.
create table incident (
    id                     uuid    not null primary key,
    title                  text    not null,
    description            text,
    search_text            text    not null,
    severity               text    not null,
    status                 text    not null,
    is_active              boolean not null,
    suppress_notifications boolean not null,
    created_by_kind        text    not null,
    created_by_id          text    not null,
    created_by_name        text    not null,
    created_at             bigint  not null,
    updated_at             bigint  not null,
    resolved_at            bigint
);
create index incident_by_time on incident (created_at, id);
create index incident_by_status on incident (status, created_at, id);
create index incident_by_severity on incident (severity, created_at, id);
create index incident_by_activity on incident (is_active, created_at, id);

-- Which incident touches which system. is_active and created_at are those of the incident: what is wrong with a system is
-- found in order, however much was wrong with it before.
create table incident_system (
    incident_id uuid    not null references incident (id) on delete cascade,
    system_id   uuid    not null references catalog_system (id) on delete cascade,
    is_active   boolean not null,
    created_at  bigint  not null,
    primary key (incident_id, system_id)
);
create index incident_system_by_time on incident_system (system_id, created_at, incident_id);
create index incident_system_by_activity on incident_system (system_id, is_active, created_at, incident_id);

-- The timelines: place counts the entries of an incident from 1.
create table incident_update (
    incident_id     uuid   not null references incident (id) on delete cascade,
    place           bigint not null,
    id              uuid   not null,
    message         text   not null,
    status_change   text,
    created_by_kind text   not null,
    created_by_id   text   not null,
    created_by_name text   not null,
    created_at      bigint not null,
    primary key (incident_id, place)
);
