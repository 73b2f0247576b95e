-- Tables without rowid are kept in the order of their keys: the hours of an association lie side by side, and a year of them
-- is a few pages instead of one each. What was found is too long for that.

-- The runs of an hour, and how many they are.
create table healthcheck_chunk (
    association bigint not null,
    hour        bigint not null,
    runs        bigint not null,
    data        bytea  not null,
    primary key (association, hour)
) without rowid;
create index healthcheck_chunk_by_hour on healthcheck_chunk (hour, association);

-- What the runs of an hour come to, and what its verdicts stood for.
create table healthcheck_hour (
    association bigint not null,
    hour        bigint not null,
    data        bytea  not null,
    primary key (association, hour)
) without rowid;

-- The same of a day, UTC.
create table healthcheck_day (
    association bigint not null,
    day         bigint not null,
    data        bytea  not null,
    primary key (association, day)
) without rowid;

-- What was found by those runs of an hour that failed or came out differently than the one before, compressed.
create table healthcheck_detail (
    association bigint not null,
    hour        bigint not null,
    data        bytea  not null,
    primary key (association, hour)
);
