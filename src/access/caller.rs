//! Who is calling, and what a procedure knows about the call.

use super::gate::Admitted;
use super::instance::Tag;
use super::{ApplicationId, Grants};
use crate::contract::Method;
use crate::database::{Deferred, Did, Timestamp};
use crate::error::{Error, Result};
use std::fmt::Display;
use std::sync::Arc;
use tokio::time::Instant;

/// An identity with what it may do.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// With which roles.
    pub roles: Vec<Arc<Role>>,
    /// The tag of the key that it came with: another key of the same application is another credential.
    pub(super) tag: Option<Tag>,
}

/// Kinds of identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A program with a key.
    Application {
        /// Its id.
        id: ApplicationId,
        /// Its name.
        name: Arc<str>,
        /// Its key is refused from then on.
        expires_at: Option<Timestamp>,
    },
    /// Nobody said who.
    Anonymous,
    /// The server itself, or its operator at the command line, and why.
    Server(&'static str),
}

/// A role as the access check needs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Role {
    /// Its id.
    pub id: String,
    /// What it allows.
    pub grants: Grants,
}

impl Caller {
    /// Work of the server itself; the reason is for whoever reads the change feed.
    #[must_use]
    pub fn server(why: &'static str) -> Self {
        let everything = Role { id: "server".into(), grants: Grants::all() };
        Self { identity: Identity::Server(why), roles: vec![Arc::new(everything)], tag: None }
    }

    /// Whether any role allows a permission.
    #[must_use]
    pub fn may(&self, permission: &'static str) -> bool {
        self.roles.iter().any(|role| role.grants.allow(permission))
    }

    /// What all roles together allow.
    #[must_use]
    pub fn grants(&self) -> Grants {
        self.roles.iter().flat_map(|role| role.grants.iter()).collect()
    }

    /// What stands in `createdById`.
    #[must_use]
    pub fn id(&self) -> String {
        match &self.identity {
            Identity::Application { id, .. } => id.to_string(),
            Identity::Anonymous => "anonymous".into(),
            Identity::Server(_) => "system".into(),
        }
    }
}

/// What a procedure knows about its call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// When: one time for the whole call.
    pub now: Timestamp,
    /// Any one of these was needed to be let in.
    pub needed: &'static [&'static str],
    /// Until when its caller waits, if somebody does.
    pub until: Option<Instant>,
    plugin: &'static str,
    deferred: Option<Arc<Deferred>>,
}

impl Call {
    /// A call of the server itself, outside of any procedure: the reason is for whoever reads the change feed.
    #[must_use]
    pub fn by_server(plugin: &'static str, why: &'static str, now: Timestamp) -> Self {
        Self { caller: Arc::new(Caller::server(why)), now, needed: &[], until: None, plugin, deferred: None }
    }

    /// Takes a request apart. Only the Gate lets requests through, so one that did not pass it is a bug, and refused.
    pub fn open<M>(request: tonic::Request<M>) -> Result<(Self, M)> {
        let (_, extensions, message) = request.into_parts();
        let admitted = extensions.get::<Admitted>().ok_or_else(|| Error::bug("a request went around the gate"))?;
        let Method { plugin, permissions, .. } = admitted.method();
        let (caller, now, deferred) = (admitted.caller(), admitted.now(), admitted.deferred());
        let call = Self { caller, now, needed: permissions, until: admitted.deadline(), plugin, deferred };
        Ok((call, message))
    }

    /// What this call did, for the change feed.
    pub fn did(&self, kind: &'static str, resource: impl Display) -> Did {
        let by = match &self.caller.identity {
            Identity::Server(why) => format!("system: {why}"),
            Identity::Application { .. } | Identity::Anonymous => self.caller.id(),
        };
        let deferred = self.deferred.clone();
        Did { plugin: self.plugin, kind, resource: resource.to_string(), by, at: self.now, deferred }
    }
}
