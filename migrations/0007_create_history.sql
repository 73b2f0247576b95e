-- How far the runs of an association are archived. Hours before `upto` (counted from 1970) are sealed; last_* is the last
-- run of them that says something. Runs of hours from raw_from on are complete, tallies of hours from hour_from on; stored
-- counts the runs in chunks, swept_on is the day of the last look for what is too old. It outlives its association, until
-- what belonged to that is deleted.
create table healthcheck_archive (
    association bigint not null primary key,
    upto        bigint not null,
    last_at     bigint,
    last_status text,
    raw_from    bigint not null,
    hour_from   bigint not null,
    stored      bigint not null,
    swept_on    bigint not null
);
create index healthcheck_archive_by_upto on healthcheck_archive (upto, association);
create index healthcheck_archive_by_sweep on healthcheck_archive (swept_on, association);
insert into healthcheck_archive (association, upto, raw_from, hour_from, stored, swept_on)
    select number, 0, 0, 0, 0, 0 from healthcheck_association;

-- Each change of the status of an association.
create table healthcheck_status_change (
    association bigint not null,
    at          bigint not null,
    status      text   not null,
    primary key (association, at)
);

-- How long what is kept of an association, JSON; null: the defaults.
alter table healthcheck_association add column retention text;

-- When the last report came: runs move into chunks.
alter table healthcheck_state add column last_reported_at bigint;
update healthcheck_state set last_reported_at =
    (select max(scheduled_at) from healthcheck_run as run where run.association = healthcheck_state.association and kind = 2);
