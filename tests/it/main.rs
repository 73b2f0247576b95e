//! The black-box suite: the real server on port 0, both protocols, both databases.
//!
//! `SQLite` files by default; PostgreSQL, a schema for each test, when `TEST_DATABASE_URL` is set.

#![expect(unreachable_pub, reason = "one binary: pub is what other files of the suite use")]

mod dynamic;
mod matrix;
mod parity;
mod samples;
mod server;
