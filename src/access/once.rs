//! Idempotency keys: what is asked for twice happens once, and its first answer is given again for 24 hours.
//!
//! The answer is written in the transaction that makes the effect, so that neither is ever there without the other,
//! whenever the server is killed: the service hands its transaction over ([`Deferred`]), and it is committed here,
//! together with the answer that came of it. Answers are sealed with the instance key, for one of them shows a new
//! secret.

use super::{ApplicationId, Caller, Identity, InstanceKey, Snapshot};
use crate::database::{Database, Deferred, Timestamp, Writer};
use crate::error::{Error, Result};
use crate::world::{Clock, Entropy};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long an answer is given again (design.md section 4, rule 11), in microseconds.
const KEPT_FOR: i64 = 24 * 3_600 * 1_000_000;

/// A thousand at a time are 200 a second, which is more than one writer adds over a day.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// An answer without an effect is kept up to this: what mutations answer is a resource or a word.
const EFFECTLESS_BYTES_MAX: usize = 64 * 1024;

/// The nonce of XChaCha20-Poly1305: long enough to be drawn at random.
const NONCE_BYTES: usize = 24;

/// What is behind the answers that were given. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Parts>);

struct Parts {
    database: Database,
    snapshot: Snapshot,
    seal: XChaCha20Poly1305,
    entropy: Entropy,
    clock: Clock,
}

/// One call that happens once.
pub struct Once {
    ledger: Ledger,
    place: Place,
    fingerprint: String,
    deferred: Arc<Deferred>,
}

/// Which call, of all that were ever made with an idempotency key.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) application: ApplicationId,
    pub(super) key: String,
    /// Its index in its request.
    pub(super) index: i64,
}

/// An answer, and whether it was given before.
#[derive(Debug)]
pub struct Given {
    /// The answer.
    pub body: Bytes,
    /// Whether this is not the first time.
    pub is_replayed: bool,
}

impl Ledger {
    /// Joins what it stands on.
    #[must_use]
    pub fn new(database: Database, snapshot: Snapshot, key: &InstanceKey, entropy: Entropy, clock: Clock) -> Self {
        Self(Arc::new(Parts { database, snapshot, seal: key.answer_seal(), entropy, clock }))
    }

    /// Forgets what is older than a day, until told to stop.
    pub async fn keep(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(FORGET_EVERY)).await.is_some() {
            if let Err(why) = self.forget().await {
                tracing::warn!(cause = %why, "expired answers were not forgotten; trying again");
            }
        }
    }

    async fn forget(&self) -> Result<()> {
        let expired = Timestamp(self.0.clock.now().0.saturating_sub(KEPT_FOR));
        // The one writer of SQLite is left alone when there is nothing to do.
        if self.0.database.reader().await?.has_expired_answers(expired).await? {
            let mut store = self.0.database.writer().await?;
            store.forget_answers(expired).await?;
            store.commit_unseen("an expired answer is one that nobody gets").await?;
        }
        Ok(())
    }

    /// The call at an index of a request with this key. `fingerprint` says what is asked: another one under the same
    /// key is a CONFLICT.
    pub fn once(&self, caller: &Caller, key: &str, index: usize, fingerprint: String) -> Result<Once> {
        let Identity::Application { id, .. } = &caller.identity else {
            // They all have the same name, and would read each other's answers.
            return Err(Error::Malformed("Only the key of an application goes with an idempotency-key".into()));
        };
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        let place = Place { application: *id, key: key.to_owned(), index };
        Ok(Once { ledger: self.clone(), place, fingerprint, deferred: Arc::default() })
    }
}

impl Once {
    /// Where the call leaves its transaction.
    #[must_use]
    pub fn deferred(&self) -> Arc<Deferred> {
        self.deferred.clone()
    }

    /// The first answer, if it was given before; otherwise the one that `work` makes, together with its effect.
    ///
    /// A refusal that follows from the state of things is an answer, too; what only failed for the moment is not, and is
    /// tried again next time.
    pub async fn answer(self, work: impl Future<Output = Result<Bytes>>) -> Result<Given> {
        if let Some(given) = self.recall().await? {
            return Ok(given);
        }
        match work.await {
            Ok(body) => self.keep(body).await,
            Err(refusal) => {
                // Rolled back before anything else is written: on SQLite there is one writer.
                drop(self.deferred.take());
                match Refusal::of(&refusal) {
                    Some(kind) => self.keep_refusal(kind, refusal).await,
                    None => Err(refusal),
                }
            }
        }
    }

    async fn keep(&self, body: Bytes) -> Result<Given> {
        let parts = &self.ledger.0;
        let (mut store, did) = match self.deferred.take() {
            Some((store, did)) => (store, Some(did)),
            // A long list beside a mutation is read anew instead: a few keys would fill the disk with it.
            None if body.len() > EFFECTLESS_BYTES_MAX => return Ok(Given { body, is_replayed: false }),
            // It had nothing to change.
            None => (parts.database.writer().await?, None),
        };
        if !self.write(&mut store, 0, &body).await? {
            drop(store);
            return self.recall_other().await;
        }
        match did {
            Some(did) => parts.snapshot.commit(store, did).await?,
            None => store.commit_unseen("an answer without an effect").await?,
        }
        Ok(Given { body, is_replayed: false })
    }

    async fn keep_refusal(&self, kind: Refusal, refusal: Error) -> Result<Given> {
        let mut store = self.ledger.0.database.writer().await?;
        if !self.write(&mut store, kind as u8, refusal.to_string().as_bytes()).await? {
            drop(store);
            return self.recall_other().await;
        }
        store.commit_unseen("a refusal has no effect").await?;
        Err(refusal)
    }

    /// Writes the answer, unless somebody was faster with the same key.
    async fn write(&self, store: &mut Writer, kind: u8, body: &[u8]) -> Result<bool> {
        let now = self.ledger.0.clock.now();
        let sealed = self.seal(&[&[kind], body].concat())?;
        let expired = Timestamp(now.0.saturating_sub(KEPT_FOR));
        Ok(store.keep_answer(&self.place, &self.fingerprint, &sealed, now, expired).await? > 0)
    }

    /// What was answered to the same question, if it was asked within the time.
    async fn recall(&self) -> Result<Option<Given>> {
        let parts = &self.ledger.0;
        let since = Timestamp(parts.clock.now().0.saturating_sub(KEPT_FOR));
        let kept = parts.database.reader().await?.kept_answer(&self.place, since).await?;
        let Some((fingerprint, sealed)) = kept else { return Ok(None) };
        if fingerprint != self.fingerprint {
            return Err(Error::Conflict("This idempotency-key was used for another request".into()));
        }
        let unreadable = "The answer to this idempotency-key cannot be read: the instance key is another one now";
        let opened = self.open(&sealed).ok_or_else(|| Error::Conflict(unreadable.into()))?;
        match opened.split_first() {
            Some((0, body)) => Ok(Some(Given { body: Bytes::copy_from_slice(body), is_replayed: true })),
            Some((kind, text)) => Err(Refusal::error(*kind, &String::from_utf8_lossy(text))),
            None => Err(Error::bug("a kept answer is empty")),
        }
    }

    /// Somebody asked the same at the same time and was faster.
    async fn recall_other(&self) -> Result<Given> {
        self.recall().await?.ok_or(Error::Unavailable("The same request is being answered"))
    }

    fn seal(&self, plain: &[u8]) -> Result<String> {
        let nonce = self.ledger.0.entropy.bits256()?;
        let nonce = nonce.first_chunk::<NONCE_BYTES>().ok_or_else(|| Error::bug("a nonce has 24 bytes"))?;
        let payload = Payload { msg: plain, aad: &self.bound_to() };
        let sealed = self.ledger.0.seal.encrypt(&XNonce::from(*nonce), payload);
        let sealed = sealed.map_err(|_| Error::bug("an answer could not be sealed"))?;
        Ok(STANDARD_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        let bytes = STANDARD_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: &self.bound_to() };
        self.ledger.0.seal.decrypt(&XNonce::from(*nonce), payload).ok()
    }

    /// An answer is readable in its own row only.
    fn bound_to(&self) -> Vec<u8> {
        let Place { application, key, index } = &self.place;
        [application.0.as_bytes(), &index.to_be_bytes()[..], self.fingerprint.as_bytes(), key.as_bytes()].concat()
    }
}

/// Refusals that follow from the state of things: asking again does not change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Forbidden = 1,
    NotFound = 2,
    Refused = 3,
    Conflict = 4,
}

impl Refusal {
    fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Forbidden(_) => Some(Self::Forbidden),
            Error::NotFound(_) => Some(Self::NotFound),
            Error::Refused(_) => Some(Self::Refused),
            Error::Conflict(_) => Some(Self::Conflict),
            Error::NoCredential
            | Error::BadCredential
            | Error::NoProcedure(_)
            | Error::Invalid(_)
            | Error::Malformed(_)
            | Error::TooLarge(_)
            | Error::TooMany { .. }
            | Error::Deadline
            | Error::SlowBody
            | Error::Unavailable(_)
            | Error::Cancelled
            | Error::Unimplemented(_)
            | Error::Method(_)
            | Error::MediaType(_)
            | Error::Internal(_) => None,
        }
    }

    fn error(kind: u8, text: &str) -> Error {
        let text = text.to_owned();
        match kind {
            1 => Error::Forbidden(text),
            2 => Error::NotFound(text),
            3 => Error::Refused(text),
            4 => Error::Conflict(text),
            _ => Error::bug("a kept refusal of no known kind"),
        }
    }
}
