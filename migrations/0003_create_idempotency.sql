-- Answers of mutations that brought an idempotency key, to be given again for 24 hours. The answer is sealed with the
-- instance key: it may hold a secret that is shown once. place is the index of the call in its request; fingerprint is
-- the SHA-256 of what was asked.
create table access_answer (
    application_id uuid   not null,
    request_key    text   not null,
    place          bigint not null,
    fingerprint    text   not null,
    answer         text   not null,
    made_at        bigint not null,
    primary key (application_id, request_key, place)
);
create index access_answer_by_age on access_answer (made_at);
