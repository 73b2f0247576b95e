//! Health checks: what is looked at, what came of it, and how systems are.

mod archive;
mod checks;
pub mod domain;
mod history;
mod lease_store;
mod mask;
mod message;
mod page_store;
mod past;
mod plan;
mod push;
mod recorder;
mod release;
mod reseal;
mod retention;
mod rules;
mod run_store;
mod runs;
mod schedule_store;
mod series;
mod service;
mod settings;
mod silence;
mod state;
mod status;
mod store;
mod transfer;
mod vault;
mod wanted;
mod watch;

use super::Kernel;
use crate::contract::{Mount, generated};
pub(crate) use archive::seal::{seal_some, sealed_before};
pub(crate) use archive::sweep::{Swept, sweep_some};
pub use lease_store::{LEASE_US, Lease, SHARDS};
pub use plan::{Looked, Plan, millis};
pub use recorder::{Finished, record, shard_of};
pub(crate) use reseal::reseal;
pub use schedule_store::Scheduled;
pub use settings::{keeps_plan, plan_of};
pub use silence::fall_silent;

/// The plugin's id, and whose the changes of its configuration are in the change feed.
pub const PLUGIN: &str = "healthcheck";

/// The strategy whose results are reported.
pub const HEARTBEAT: &str = "heartbeat";

/// Whose the changes of status are in the feed: apart, for what is kept of configurations does not follow from them.
pub const STATUSES: &str = "healthcheck.status";

/// The same for runs, an entry for each batch.
pub const RUNS: &str = "healthcheck.run";

pub(super) fn mount(kernel: &Kernel, mount: &mut Mount) {
    generated::mount_healthcheck_service(service::Healthchecks::new(kernel.clone()), mount);
}
