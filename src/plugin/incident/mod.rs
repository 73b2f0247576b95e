//! Incidents: what went wrong, which systems it touched, and what was done.

mod bulk_store;
mod by_check;
pub mod domain;
mod message;
mod service;
mod store;
mod text_store;
mod watch;

use super::Kernel;
use crate::contract::{Mount, generated};

pub(super) fn mount(kernel: &Kernel, mount: &mut Mount) {
    generated::mount_incident_service(service::Incidents::new(kernel.clone()), mount);
}
