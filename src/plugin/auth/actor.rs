//! Who changes access, read under the lock that orders such changes.

use super::domain::{ANONYMOUS, Actor, grants_of};
use crate::access::{Call, Identity};
use crate::database::Writer;
use crate::error::{Error, Result};

impl Writer {
    /// Locks access until the end of the transaction, and reads who is changing it: refused if it may no longer.
    pub(super) async fn lock_access_for(&mut self, call: &Call) -> Result<Actor> {
        self.lock_access().await?;
        let Identity::Application { id, .. } = &call.caller.identity else {
            return Ok(Actor { id: None, grants: call.caller.grants(), expires_at: None });
        };
        let own = self.application(*id).await?.ok_or(Error::BadCredential)?;
        if own.expires_at.is_some_and(|end| end <= call.now) {
            return Err(Error::BadCredential);
        }
        let mut roles = own.roles;
        roles.push(ANONYMOUS.to_owned());
        let grants = grants_of(&self.roles_among(&roles).await?);
        if !call.needed.iter().any(|permission| grants.allow(permission)) {
            return Err(Error::missing_permission(call.needed));
        }
        Ok(Actor { id: Some(*id), grants, expires_at: own.expires_at })
    }
}
