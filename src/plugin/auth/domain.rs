//! The rules of applications and roles.

use crate::access::{ApplicationId, Grant, Grants};
use crate::contract::issue::Issues;
use crate::contract::{Checker, Row, Rules};
use crate::database::Timestamp;
use crate::error::{Error, Result};
use crate::proto::checkmate::auth::v1 as pb;

pub use crate::access::gate::ANONYMOUS;

/// The role that every new application gets.
pub const APPLICATIONS: &str = "applications";
/// The role that allows everything and is never changed.
pub const ADMIN: &str = "admin";

/// An application.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The ids of its roles.
    pub roles: Vec<String>,
    /// Who created it.
    pub created_by_id: String,
    /// When.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When its key was last written to have been used.
    pub last_used_at: Option<Timestamp>,
    /// Its key is refused from then on.
    pub expires_at: Option<Timestamp>,
}

/// A role.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it allows.
    pub grants: Grants,
    /// Whether the server needs it.
    pub is_system: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Row for Application {
    fn position(&self) -> String {
        self.id.to_string()
    }

    fn bytes(&self) -> usize {
        self.name.len()
            + self.description.as_ref().map_or(0, String::len)
            + self.roles.iter().map(String::len).sum::<usize>()
    }
}

impl Row for Role {
    fn position(&self) -> String {
        format!("{} {}", self.created_at.0, self.id)
    }

    fn bytes(&self) -> usize {
        self.name.len() + self.description.as_ref().map_or(0, String::len) + self.grants.json().len()
    }
}

impl Row for pb::Permission {
    fn position(&self) -> String {
        self.id.clone()
    }

    fn bytes(&self) -> usize {
        self.id.len() + self.description.len()
    }
}

/// What roles allow together.
#[must_use]
pub fn grants_of<'r>(roles: impl IntoIterator<Item = &'r Role>) -> Grants {
    roles.into_iter().flat_map(|role| role.grants.iter()).collect()
}

/// The roles of a new application: `applications`, and those that are asked for.
#[must_use]
pub fn with_default_role(mut roles: Vec<String>) -> Vec<String> {
    roles.push(APPLICATIONS.to_owned());
    distinct(roles)
}

/// Sorted, each once.
#[must_use]
pub fn distinct(mut roles: Vec<String>) -> Vec<String> {
    roles.sort();
    roles.dedup();
    roles
}

/// Refuses roles that no application can have.
pub fn must_be_assignable(roles: &[String]) -> Result<()> {
    if roles.iter().any(|role| role == ANONYMOUS) {
        return Err(Error::Invalid(Issues::one("roles", "anonymous is for callers without a key")));
    }
    Ok(())
}

/// An expiry lies in the future.
pub fn must_be_future(expires_at: Option<Timestamp>, now: Timestamp) -> Result<()> {
    match expires_at {
        Some(end) if end <= now => Err(Error::Invalid(Issues::one("expiresAt", "Must be in the future"))),
        _ => Ok(()),
    }
}

/// Who changes access, as the database has it while access is locked: the caller may have been demoted since the Gate.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Which application it is, if it is one.
    pub id: Option<ApplicationId>,
    /// What it may do.
    pub grants: Grants,
    /// Until when; `None`: for good.
    pub expires_at: Option<Timestamp>,
}

impl Actor {
    /// Rules E1 to E4: nobody gives what they do not hold.
    pub fn must_hold(&self, given: &Grants) -> Result<()> {
        self.must_cover(given, "You cannot give what you do not hold")
    }

    /// Rule E8: whoever administers identities is changed only by their like.
    pub fn must_administer(&self, target: &Grants) -> Result<()> {
        self.must_cover(&target.administrative(), "It administers what you do not")
    }

    /// Rule E5: what an actor makes usable does not outlive the actor.
    pub fn must_not_outlive(&self, expires_at: Option<Timestamp>) -> Result<()> {
        let Some(own) = self.expires_at else { return Ok(()) };
        match expires_at {
            Some(end) if end <= own => Ok(()),
            _ => Err(Error::Forbidden(format!("It would outlive you: expiresAt must be no later than {own}"))),
        }
    }

    fn must_cover(&self, grants: &Grants, refusal: &str) -> Result<()> {
        let missing = grants.beyond(&self.grants);
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(Grant::to_string).collect();
        Err(Error::Forbidden(format!("{refusal}: {}", names.join(", "))))
    }
}

/// Whether a change of expiry makes a key live longer.
#[must_use]
pub fn extends(before: Option<Timestamp>, after: Option<Timestamp>) -> bool {
    match (before, after) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(before), Some(after)) => after > before,
    }
}

/// How long somebody who holds `*` can still come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WayIn {
    /// Nobody can.
    Closed,
    /// Somebody, until their key expires.
    ForNow,
    /// Somebody whose key does not expire.
    ForGood,
}

impl WayIn {
    /// From the latest expiry among those who hold `*`: `i64::MAX` is never.
    #[must_use]
    pub fn of(latest: Option<Timestamp>) -> Self {
        match latest {
            None => Self::Closed,
            Some(Timestamp(i64::MAX)) => Self::ForGood,
            Some(_) => Self::ForNow,
        }
    }

    /// Refuses a change that would lock the last one out, or let the last key run out.
    pub fn must_remain(self, after: Self) -> Result<()> {
        if after < self {
            return Err(Error::Refused(
                "This is the last application that may do everything; give another one the role admin first".into(),
            ));
        }
        Ok(())
    }
}

impl Rules for pb::CreateRoleRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        check.known_permissions("permissions", &self.permissions);
    }
}

impl Rules for pb::UpdateRoleRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        check.known_permissions("permissions", &self.permissions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_in_never_narrows() {
        let all = [WayIn::Closed, WayIn::ForNow, WayIn::ForGood];
        for before in all {
            for after in all {
                assert_eq!(before.must_remain(after).is_ok(), after >= before, "{before:?} {after:?}");
            }
        }
        assert_eq!(WayIn::of(Some(Timestamp(i64::MAX))), WayIn::ForGood);
        assert_eq!(WayIn::of(Some(Timestamp(5))), WayIn::ForNow);
    }

    #[test]
    fn an_expiry_extends_only_what_ends_earlier() {
        let (early, late) = (Some(Timestamp(1)), Some(Timestamp(2)));
        assert!(extends(early, late) && extends(early, None));
        assert!(!extends(late, early) && !extends(None, late) && !extends(None, None) && !extends(early, early));
    }
}
