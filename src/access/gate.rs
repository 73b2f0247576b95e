//! The Gate: nothing is called but through here.
//!
//! Both protocols bring their credential to [`Gate::authenticate`] and their method to [`Gate::admit`]. Running a
//! procedure needs the [`Admitted`] that only `admit` makes, so there is no second check that somebody could forget.

use super::budget::{Budget, CHEAP, Network, SLOW};
use super::instance::Tag;
use super::snapshot::Known;
use super::{Caller, Hashing, Identity, InstanceKey, Snapshot, Token};
use crate::contract::Method;
use crate::database::{Database, Deferred, Timestamp};
use crate::error::{Error, Result};
use crate::json::Value;
use crate::world::Clock;
use std::sync::Arc;
use tokio::time::Instant;

/// The role of callers without a key; no application has it.
pub const ANONYMOUS: &str = "anonymous";

/// Decides. Cheap to clone.
#[derive(Clone)]
pub struct Gate(Arc<Parts>);

struct Parts {
    snapshot: Snapshot,
    key: Arc<InstanceKey>,
    hashing: Hashing,
    database: Database,
    budget: Budget,
    clock: Clock,
}

/// What a request brings to say who it is. It does not print.
#[derive(Clone, Copy)]
pub enum Credential<'r> {
    /// Nothing.
    None,
    /// Something that cannot be a key.
    Unreadable,
    /// What stands behind `Bearer`.
    Bearer(&'r str),
}

/// Leave to call one method once. Only the Gate makes it.
#[derive(Clone, Debug)]
pub struct Admitted {
    method: &'static Method,
    caller: Arc<Caller>,
    now: Timestamp,
    deferred: Option<Arc<Deferred>>,
    until: Option<Instant>,
}

impl Admitted {
    /// The same leave for a call whose caller waits until then.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self { until: Some(deadline), ..self }
    }

    /// Until when its caller waits, if somebody does.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// The same leave for a call that does not commit: it leaves its transaction there.
    #[must_use]
    pub fn deferring(self, to: Arc<Deferred>) -> Self {
        Self { deferred: Some(to), ..self }
    }

    /// The leave for the method that an input in JSON means; the build has checked that whoever may call the one may call
    /// the other.
    #[must_use]
    pub fn meant_by(self, input: &Value<'_>) -> Self {
        Self { method: self.method.meant_by(input), ..self }
    }

    /// Where the call leaves its transaction, if it does not commit.
    #[must_use]
    pub fn deferred(&self) -> Option<Arc<Deferred>> {
        self.deferred.clone()
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &'static Method {
        self.method
    }

    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> Arc<Caller> {
        self.caller.clone()
    }

    /// Which of the method's permissions the caller holds, a bit for each in the order of the contract.
    #[must_use]
    pub fn held(&self) -> u32 {
        let permissions = self.method.permissions.iter().zip(0..);
        permissions.fold(0, |held, (permission, place)| held | (u32::from(self.caller.may(permission)) << place))
    }

    /// When it was let in.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A request that carries this.
    #[must_use]
    pub fn request<M>(self, message: M) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        request.extensions_mut().insert(self);
        request
    }
}

impl Gate {
    /// Joins what decisions are made from.
    #[must_use]
    pub fn new(
        snapshot: Snapshot,
        key: Arc<InstanceKey>,
        hashing: Hashing,
        database: Database,
        budget: Budget,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Parts { snapshot, key, hashing, database, budget, clock }))
    }

    /// Who brings this credential. Whatever is wrong with it, the answer is the same: that it is bad, or, when its
    /// network has brought many of those, that there were too many. A good one whose tag is known always passes.
    pub async fn authenticate(&self, credential: Credential<'_>, from: Network) -> Result<Arc<Caller>> {
        let snapshot = &self.0.snapshot;
        snapshot.must_be_fresh()?;
        let text = match credential {
            Credential::None => {
                let roles = snapshot.roles([ANONYMOUS]);
                return Ok(Arc::new(Caller { identity: Identity::Anonymous, roles, tag: None }));
            }
            Credential::Unreadable => return Err(self.refusal(from, CHEAP)),
            Credential::Bearer(text) => text,
        };
        let token = Token::parse(text).ok_or_else(|| self.refusal(from, CHEAP))?;
        let known = snapshot.application(token.application);
        let tag = self.0.key.tag(&token);
        // Somebody who is not there is compared as well: it takes as long.
        let expected = known.as_ref().map_or(Some(Tag::nobody()), |known| known.tag.clone());
        let (good, price) = match (&expected, &known) {
            (Some(expected), _) => (expected.is(&tag), CHEAP),
            (None, Some(known)) => (self.verify_within_budget(known, &token, &tag, from).await?, 0),
            (None, None) => (false, CHEAP),
        };
        let now = self.0.clock.now();
        let Some(known) = known.filter(|known| good && known.expires_at.is_none_or(|end| now < end)) else {
            return Err(self.refusal(from, price));
        };
        known.usage.touch(now);
        Ok(self.caller(&known, tag))
    }

    /// What a bad credential is answered.
    fn refusal(&self, from: Network, price: u32) -> Error {
        self.0.budget.charge(from, price).err().unwrap_or(Error::BadCredential)
    }

    /// The same caller as of now: what was authenticated from the head of a request may have been revoked when its body
    /// has arrived.
    pub fn renew(&self, caller: &Arc<Caller>) -> Result<Arc<Caller>> {
        let snapshot = &self.0.snapshot;
        snapshot.must_be_fresh()?;
        match &caller.identity {
            Identity::Application { id, .. } => {
                let tag = caller.tag.clone().ok_or(Error::BadCredential)?;
                let known = snapshot.application(*id).ok_or(Error::BadCredential)?;
                // Without a tag it is the secret that was verified the slow way: a new one comes with its tag.
                let is_same = known.tag.as_ref().is_none_or(|known| known.is(&tag));
                let has_expired = known.expires_at.is_some_and(|end| end <= self.0.clock.now());
                if is_same && !has_expired { Ok(self.caller(&known, tag)) } else { Err(Error::BadCredential) }
            }
            Identity::Anonymous => {
                let roles = snapshot.roles([ANONYMOUS]);
                Ok(Arc::new(Caller { identity: Identity::Anonymous, roles, tag: None }))
            }
            Identity::Server(_) => Ok(caller.clone()),
        }
    }

    fn caller(&self, known: &Known, tag: Tag) -> Arc<Caller> {
        let identity = Identity::Application { id: known.id, name: known.name.clone(), expires_at: known.expires_at };
        // Everybody may do what callers without a key may, or a key would be worse than none.
        let roles = self.0.snapshot.roles(known.roles.iter().map(String::as_str).chain([ANONYMOUS]));
        Arc::new(Caller { identity, roles, tag: Some(tag) })
    }

    /// Lets a caller call a method, or says why not.
    pub fn admit(&self, method: &'static Method, caller: &Arc<Caller>) -> Result<Admitted> {
        let is_allowed = method.permissions.iter().any(|permission| caller.may(permission));
        match &caller.identity {
            // Without a permission to hold, it takes a name.
            Identity::Anonymous if (!is_allowed && !method.open) || method.service_only => {
                return Err(Error::NoCredential);
            }
            Identity::Application { .. } if method.service_only => {
                return Err(Error::Forbidden("This endpoint is for services only".into()));
            }
            Identity::Application { .. } if !is_allowed && !method.permissions.is_empty() => {
                return Err(Error::missing_permission(method.permissions));
            }
            Identity::Application { .. } | Identity::Anonymous | Identity::Server(_) => {}
        }
        Ok(Admitted { method, caller: caller.clone(), now: self.0.clock.now(), deferred: None, until: None })
    }

    /// Whether callers without a credential may call anything at all.
    #[must_use]
    pub fn admits_anonymous(&self) -> bool {
        self.0.snapshot.roles([ANONYMOUS]).iter().any(|role| !role.grants.is_empty())
    }

    /// Takes the price before Argon2 looks, so that many at once do not all find the bucket full; gives it back unless
    /// the secret was wrong. It stays taken when the caller goes away meanwhile.
    async fn verify_within_budget(&self, known: &Arc<Known>, token: &Token, tag: &Tag, from: Network) -> Result<bool> {
        self.0.budget.charge(from, SLOW)?;
        let verified = Box::pin(self.verify_slowly(known, token, tag)).await;
        if !matches!(verified, Ok(false)) {
            self.0.budget.give_back(from, SLOW);
        }
        verified
    }

    /// A secret without a usable tag (the instance key is another one now): Argon2 decides, and the tag is kept.
    async fn verify_slowly(&self, known: &Arc<Known>, token: &Token, tag: &Tag) -> Result<bool> {
        let Some((hash,)) = self.0.database.reader().await?.secret_hash(known.id).await? else { return Ok(false) };
        if !self.0.hashing.verify(token.secret(), hash.clone()).await? {
            return Ok(false);
        }
        match self.keep_tag(known, &hash, tag).await {
            // Replaced while it was being verified: then it is the old one.
            Ok(is_current) => Ok(is_current),
            Err(why) => {
                tracing::warn!(cause = %why, "the tag of a verified secret was not kept; it is verified again next time");
                Ok(true)
            }
        }
    }

    async fn keep_tag(&self, known: &Arc<Known>, hash: &str, tag: &Tag) -> Result<bool> {
        let mut store = self.0.database.writer().await?;
        let kept = store.set_tag(known.id, hash, &tag.hex(), &self.0.key.name).await?;
        store.commit_unseen("a tag follows from the secret").await?;
        if kept > 0 {
            self.0.snapshot.learn_tag(known, tag);
        }
        Ok(kept > 0)
    }
}
