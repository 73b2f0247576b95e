//! Maintenance windows: planned work on systems, which starts and ends by itself, once or again and again.

mod clockwork;
pub mod domain;
mod list_store;
mod message;
mod recurrence;
mod series_store;
mod service;
mod span_store;
mod store;
mod watch;

pub use clockwork::catch_up;

use super::Kernel;
use crate::contract::{Mount, generated};

/// The plugin's id, for what it does without a caller.
const PLUGIN: &str = "maintenance";

pub(super) fn mount(kernel: &Kernel, mount: &mut Mount) {
    generated::mount_maintenance_service(service::Maintenances::new(kernel.clone()), mount);
}
