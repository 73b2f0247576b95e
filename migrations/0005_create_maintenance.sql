-- How windows repeat: an RRULE of RFC 5545 and an IANA time zone, from start_at on, each duration_us microseconds long.
-- made_until is the last occurrence that was made, extend_at when to look for more; null: there are no more.
create table maintenance_series (
    id                     uuid    not null primary key,
    rrule                  text    not null,
    time_zone              text    not null,
    start_at               bigint  not null,
    duration_us            bigint  not null,
    title                  text    not null,
    description            text,
    suppress_notifications boolean not null,
    made_until             bigint  not null,
    extend_at              bigint,
    created_by_kind        text    not null,
    created_by_id          text    not null,
    created_by_name        text    not null,
    created_at             bigint  not null
);
create index maintenance_series_by_extension on maintenance_series (extend_at, id);

-- Which systems the windows of a series touch when they are made.
create table maintenance_series_system (
    series_id uuid not null references maintenance_series (id) on delete cascade,
    system_id uuid not null references catalog_system (id) on delete cascade,
    primary key (series_id, system_id)
);
create index maintenance_series_system_by_system on maintenance_series_system (system_id, series_id);

-- Planned work. search_text is title and description, folded; status is what was last written, which the clock may have
-- left behind; occurrence_start is when it starts by the rule of its series.
create table maintenance (
    id                     uuid    not null primary key,
    title                  text    not null,
    description            text,
    search_text            text    not null,
    status                 text    not null,
    suppress_notifications boolean not null,
    start_at               bigint  not null,
    end_at                 bigint  not null,
    series_id              uuid references maintenance_series (id),
    occurrence_start       bigint,
    created_by_kind        text    not null,
    created_by_id          text    not null,
    created_by_name        text    not null,
    created_at             bigint  not null,
    updated_at             bigint  not null
);
create index maintenance_by_start on maintenance (start_at, id);
create index maintenance_by_status on maintenance (status, start_at, id);
create index maintenance_by_end on maintenance (status, end_at, id);
create unique index maintenance_by_occurrence on maintenance (series_id, occurrence_start);

-- Which window touches which system. is_open: the window is written as scheduled or in_progress.
create table maintenance_system (
    maintenance_id uuid    not null references maintenance (id) on delete cascade,
    system_id      uuid    not null references catalog_system (id) on delete cascade,
    is_open        boolean not null,
    primary key (maintenance_id, system_id)
);
create index maintenance_system_by_system on maintenance_system (system_id, is_open, maintenance_id);

-- The timelines: place counts the entries of a window from 1.
create table maintenance_update (
    maintenance_id  uuid   not null references maintenance (id) on delete cascade,
    place           bigint not null,
    id              uuid   not null,
    message         text   not null,
    status_change   text,
    created_by_kind text   not null,
    created_by_id   text   not null,
    created_by_name text   not null,
    created_at      bigint not null,
    primary key (maintenance_id, place)
);
