-- What is looked at. config is the JSON of the settings without their secrets, which are sealed in secrets; push_tag is
-- the tag of the token with which results are reported.
create table healthcheck_check (
    id                uuid    not null primary key,
    name              text    not null,
    name_folded       text    not null,
    description       text,
    strategy_id       text    not null,
    config            text    not null,
    secrets           text,
    assertions        text    not null,
    interval_s        bigint  not null,
    timeout_ms        bigint  not null,
    retries           bigint  not null,
    retry_backoff_ms  bigint  not null,
    degraded_above_ms bigint,
    paused            boolean not null,
    push_tag          text,
    created_at        bigint  not null,
    updated_at        bigint  not null
);
create index healthcheck_check_by_strategy on healthcheck_check (strategy_id, id);
create unique index healthcheck_check_by_push_tag on healthcheck_check (push_tag);

-- The last number of an association: numbers are never used again, for runs are kept by them.
create table healthcheck_counter (
    last bigint not null
);
insert into healthcheck_counter (last) values (0);

-- Which check runs for which system. thresholds and incident_policy are JSON, null: the defaults, no incidents.
create table healthcheck_association (
    number          bigint  not null primary key,
    check_id        uuid    not null references healthcheck_check (id) on delete cascade,
    system_id       uuid    not null references catalog_system (id) on delete cascade,
    enabled         boolean not null,
    thresholds      text,
    incident_policy text,
    created_at      bigint  not null,
    updated_at      bigint  not null
);
create unique index healthcheck_association_by_check on healthcheck_association (check_id, system_id);
create index healthcheck_association_by_system on healthcheck_association (system_id, number);

-- How a check of a system is, kept with each run so that nothing is read again: the lengths of the streaks at the end,
-- the last 100 outcomes (h, d, u), and the incident that is open because of it.
create table healthcheck_state (
    association    bigint not null primary key references healthcheck_association (number) on delete cascade,
    status         text   not null,
    since          bigint not null,
    outcomes       text   not null,
    last_run_at    bigint not null,
    last_judged_at bigint not null,
    incident_id    uuid
);

-- Runs, by the time for which they were due: one for each. Without a reference to the association, whose end must not
-- wait for a million rows. batch: what was stored together. detail is JSON.
create table healthcheck_run (
    association  bigint not null,
    scheduled_at bigint not null,
    kind         bigint not null,
    status       text   not null,
    latency_us   bigint,
    detail       text,
    batch        uuid   not null,
    primary key (association, scheduled_at)
);
create index healthcheck_run_by_time on healthcheck_run (scheduled_at, association);
create index healthcheck_run_by_batch on healthcheck_run (batch);

-- Which replica runs the checks of a shard, until when by the clock of the database. epoch grows with each holder.
create table healthcheck_lease (
    shard      bigint not null primary key,
    holder     uuid,
    epoch      bigint not null,
    expires_at bigint not null
);

-- Which replicas there are, until when by the clock of the database.
create table healthcheck_replica (
    id         uuid   not null primary key,
    seen_until bigint not null
);
