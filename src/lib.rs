//! Checkmate: a monitoring and status platform whose every capability is a procedure of a plugin, over gRPC and JSON.
//!
//! The tour, in the order of a request:
//!
//! - [`contract`] is what `proto/` says, as tables that the build writes; nothing repeats it.
//! - [`transport`] accepts connections and speaks both protocols. It names no procedure.
//! - [`access`] says who is calling and whether they may: one Gate, which both protocols pass.
//! - [`plugin`] holds what is offered, a folder for each plugin; [`database`] keeps it, in SQLite or PostgreSQL.
//! - [`probe`] holds the kinds of health check, a file for each.
//! - [`scheduler`] does what is done when its time comes, on every replica, and once.
//! - [`json`] reads and writes the JSON of the contract; [`error`] is the one table of errors.
//! - [`app`] is the one place that knows all parts and joins them; [`cli`] and [`config`] start it; [`world`] is time
//!   and chance.

pub mod access;
pub mod app;
pub mod cli;
pub mod config;
pub mod contract;
pub mod database;
pub mod error;
pub mod fault;
pub mod json;
pub mod plugin;
pub mod probe;
pub mod scheduler;
pub mod transport;
pub mod world;

/// The messages and servers of `proto/`. Generated.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}
