//! Applications, roles and permissions: who may do what.
//!
//! Nobody gives what they do not hold (rules E1 to E8 of reference/api-keys.md, in [`domain`]), and the last way in
//! cannot be locked out.

mod actor;
pub mod application;
pub mod domain;
mod role;
mod seed;
mod session;
mod store;

pub use seed::{bootstrap, decline_bootstrap, seed};

use super::Kernel;
use crate::contract::{Mount, generated};

pub(super) fn mount(kernel: &Kernel, mount: &mut Mount) {
    generated::mount_application_service(application::Applications::new(kernel.clone()), mount);
    generated::mount_role_service(role::Roles::new(kernel.clone()), mount);
    generated::mount_session_service(session::Session, mount);
}
