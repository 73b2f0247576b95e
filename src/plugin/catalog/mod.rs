//! Systems, groups, views and contacts: what everything else refers to.

pub mod domain;
mod message;
mod service;
mod store;

use super::Kernel;
use crate::contract::{Mount, generated};

pub(super) fn mount(kernel: &Kernel, mount: &mut Mount) {
    generated::mount_catalog_service(service::Catalog::new(kernel.clone()), mount);
}
