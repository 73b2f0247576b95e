//! Who is calling, and what a procedure knows about the call.

use super::gate::Admitted;
use super::{ApplicationId, Grant, Grants};
use crate::database::{Did, Timestamp};
use crate::error::{Error, Result};
use std::fmt::Display;
use std::sync::Arc;

/// An identity with what it may do.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// With which roles.
    pub roles: Vec<Arc<Role>>,
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
        Self { identity: Identity::Server(why), roles: vec![Arc::new(everything)] }
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

    /// Refuses what would give away permissions that the caller does not hold.
    pub fn must_hold(&self, given: &Grants) -> Result<()> {
        let missing = given.beyond(&self.grants());
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(Grant::to_string).collect();
        Err(Error::Forbidden(format!("You cannot give what you do not hold: {}", names.join(", "))))
    }

    /// Until when it may call; `None`: for good.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        match &self.identity {
            Identity::Application { expires_at, .. } => *expires_at,
            Identity::Anonymous | Identity::Server(_) => None,
        }
    }

    /// What stands in `createdById` and in the change feed.
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
    plugin: &'static str,
}

impl Call {
    /// A call of the server itself, outside of any procedure: the reason is for whoever reads the change feed.
    #[must_use]
    pub fn by_server(why: &'static str, now: Timestamp) -> Self {
        Self { caller: Arc::new(Caller::server(why)), now, plugin: "auth" }
    }

    /// Takes a request apart. Only the Gate lets requests through, so one that did not pass it is a bug, and refused.
    pub fn open<M>(request: tonic::Request<M>) -> Result<(Self, M)> {
        let (_, extensions, message) = request.into_parts();
        let admitted = extensions.get::<Admitted>().ok_or_else(|| Error::bug("a request went around the gate"))?;
        Ok((Self { caller: admitted.caller(), now: admitted.now(), plugin: admitted.method().plugin }, message))
    }

    /// What this call did, for the change feed.
    pub fn did(&self, kind: &'static str, resource: impl Display) -> Did {
        Did { plugin: self.plugin, kind, resource: resource.to_string(), by: self.caller.id(), at: self.now }
    }
}
