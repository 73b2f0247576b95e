//! The plugins: one folder for each, one line for each in [`mount`].

pub mod auth;
pub mod catalog;
pub mod healthcheck;
pub mod incident;
pub mod maintenance;
pub mod overview;
pub mod watch;

use crate::access::{Hashing, InstanceKey, Snapshot};
use crate::contract::{Mount, Page, PageKey, Paged};
use crate::database::{Database, Did, Ids, Writer};
use crate::error::{Error, Result};
use crate::probe::{Net, Turns};
use crate::world::{Clock, Entropy};
use std::sync::Arc;

/// What every plugin stands on. Cheap to clone.
#[derive(Clone)]
pub struct Kernel {
    /// Where everything is kept.
    pub database: Database,
    /// Applications and roles in memory.
    pub snapshot: Snapshot,
    /// Tags keys.
    pub key: Arc<InstanceKey>,
    /// Those before it: they still open what they sealed.
    pub old_keys: Arc<[InstanceKey]>,
    /// Hashes secrets.
    pub hashing: Hashing,
    /// Draws secrets.
    pub entropy: Entropy,
    /// Makes ids.
    pub ids: Arc<Ids>,
    /// Seals page tokens.
    pub pages: Arc<PageKey>,
    /// Tells the time.
    pub clock: Clock,
    /// The network of the probes.
    pub net: Net,
    /// Whose turn it is to use it.
    pub turns: Turns,
}

/// Every plugin, on both protocols.
pub fn mount(kernel: &Kernel, mount: &mut Mount) {
    auth::mount(kernel, mount);
    catalog::mount(kernel, mount);
    healthcheck::mount(kernel, mount);
    incident::mount(kernel, mount);
    maintenance::mount(kernel, mount);
}

impl Kernel {
    /// Makes a change durable: the last thing that a mutation does. With an idempotency key it is left to whoever keeps
    /// the answer, to be one transaction with it.
    pub async fn commit(&self, store: Writer, mut did: Did) -> Result<()> {
        match did.deferred.take() {
            Some(deferred) => deferred.hold(store, did),
            None => self.snapshot.commit(store, did).await,
        }
    }

    /// The page that a request asks for. Validation has refused a token that was not issued.
    pub fn page(&self, request: &impl Paged) -> Result<Page> {
        self.pages.open(request).ok_or_else(|| Error::bug("a page token was not validated"))
    }
}
