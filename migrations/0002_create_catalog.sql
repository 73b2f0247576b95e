-- What is watched; metadata is a JSON object.
create table catalog_system (
    id          uuid   not null primary key,
    name        text   not null,
    name_folded text   not null,
    description text,
    owner       text,
    metadata    text,
    created_at  bigint not null,
    updated_at  bigint not null
);
create index catalog_system_by_owner on catalog_system (owner, id);

-- Systems that belong together; metadata is a JSON object.
create table catalog_group (
    id          uuid   not null primary key,
    name        text   not null,
    name_folded text   not null,
    metadata    text,
    created_at  bigint not null,
    updated_at  bigint not null
);

-- Which system is a member of which group.
create table catalog_group_member (
    group_id  uuid not null references catalog_group (id) on delete cascade,
    system_id uuid not null references catalog_system (id) on delete cascade,
    primary key (group_id, system_id)
);
create index catalog_group_member_by_system on catalog_group_member (system_id, group_id);

-- Saved ways to look at the catalog; configuration is any JSON value.
create table catalog_view (
    id            uuid   not null primary key,
    name          text   not null,
    name_folded   text   not null,
    description   text,
    configuration text,
    created_at    bigint not null,
    updated_at    bigint not null
);

-- Whom to call about a system; kind is user (user_id is set) or mailbox (email is set).
create table catalog_contact (
    id         uuid   not null primary key,
    system_id  uuid   not null references catalog_system (id) on delete cascade,
    kind       text   not null,
    user_id    text,
    email      text,
    label      text,
    created_at bigint not null
);
create index catalog_contact_by_system on catalog_contact (system_id, id);
