//! The black-box suite: the real server on port 0, both protocols, both databases.
//!
//! `SQLite` files by default; PostgreSQL, a schema for each test, when `TEST_DATABASE_URL` is set.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "one binary of tests: pub is what its other files use, and a panic is a test that fails"
)]

mod auth;
mod auth_escalation;
mod auth_roles;
mod batch;
mod catalog;
mod catalog_lists;
mod catalog_members;
mod checked;
mod child;
mod cli;
mod cluster;
mod codegen;
mod crowds;
mod description;
mod drain;
mod dynamic;
mod errors;
mod faults_file;
mod faults_postgres;
mod flood;
mod floods;
mod frames;
mod fuzz;
mod healthcheck;
mod healthcheck_crash;
mod healthcheck_replicas;
mod healthcheck_secrets;
mod healthcheck_status;
mod healthcheck_wanted;
mod healthcheck_watch;
mod history;
mod history_kill;
mod history_model;
mod history_regressions;
mod hostile;
mod house;
mod idempotency;
mod incident;
mod incident_model;
mod incident_races;
mod leaks;
mod line;
mod log;
mod maintenance;
mod maintenance_model;
mod maintenance_series;
mod maintenance_watch;
mod matrix;
mod model;
mod overview;
mod parity;
mod probe_assertion;
mod probe_dns;
mod probe_fakes;
mod probe_grpc;
mod probe_http;
mod probe_http_hostile;
mod probe_mysql;
mod probe_net;
mod probe_ping;
mod probe_postgres;
mod probe_redis;
mod probe_script;
mod probe_smtp;
mod probe_ssh;
mod probe_tcp;
mod probe_tls;
mod probe_websocket;
mod process;
mod protocols;
mod raw;
mod regressions;
mod remains;
mod reply_cache;
mod revocation;
mod revocation_spread;
mod samples;
mod secrets;
mod server;
mod stalls;
mod storage;
mod stream;
mod timing;
mod under_load;
mod upgrade;
mod verdicts;
mod watch;
mod watch_crowds;
mod wire;
mod wrong_keys;
