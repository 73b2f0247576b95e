-- Portable subset: uuid, bigint (microseconds since 1970), text, boolean; every value comes from the application.

-- One row: what this installation has been through.
create table instance (
    id              bigint not null primary key,
    created_at      bigint not null,
    bootstrapped_at bigint
);

-- What changed, in the order of the commits: sequence numbers have no gaps, and a later one is never visible first.
create table change (
    sequence bigint not null primary key,
    plugin   text   not null,
    kind     text   not null,
    resource text   not null,
    made_by  text   not null,
    made_at  bigint not null
);

-- Named sets of permissions; permissions is a JSON array of ids and wildcards.
create table auth_role (
    id          text    not null primary key,
    name        text    not null,
    name_folded text    not null,
    description text,
    permissions text    not null,
    is_system   boolean not null,
    created_at  bigint  not null,
    updated_at  bigint  not null
);
create index auth_role_in_order on auth_role (created_at, id);

-- Programs that call. secret_hash is an Argon2id PHC string; tag is the keyed digest of the whole key under the
-- instance key that tag_key names.
create table auth_application (
    id            uuid   not null primary key,
    name          text   not null,
    name_folded   text   not null,
    description   text,
    created_by_id text   not null,
    created_at    bigint not null,
    updated_at    bigint not null,
    last_used_at  bigint,
    expires_at    bigint,
    secret_hash   text   not null,
    tag           text,
    tag_key       text
);

-- Which application has which role.
create table auth_application_role (
    application_id uuid not null references auth_application (id) on delete cascade,
    role_id        text not null references auth_role (id) on delete cascade,
    primary key (application_id, role_id)
);
create index auth_application_role_by_role on auth_application_role (role_id, application_id);
