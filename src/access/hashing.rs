//! Argon2id, for secrets at rest.
//!
//! It takes 19 MiB and some 15 ms of a core, so it runs on the blocking pool behind few permits and with memory that is
//! reused; what does not fit waits in a short queue, and what does not fit there is told to come back.

use crate::error::{Error, Result};
use crate::world::Entropy;
use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// OWASP's minimum for Argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Who waits longer than this many others gets 503: at 15 ms each the last one waits about a second.
const QUEUE_MAX: usize = 64;

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Hashing(Arc<Pool>);

struct Pool {
    permits: Arc<Semaphore>,
    queued: AtomicUsize,
    memory: Mutex<Vec<Vec<Block>>>,
}

impl Default for Hashing {
    /// Half of the cores: verification must not starve those whose keys have tags.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Pool {
            permits: Arc::new(Semaphore::new((cores / 2).max(1))),
            queued: AtomicUsize::new(0),
            memory: Mutex::new(vec![]),
        }))
    }
}

impl Hashing {
    /// Hashes a secret into a PHC string.
    pub async fn hash(&self, secret: &str, entropy: Entropy) -> Result<String> {
        let salt = entropy.bits128()?;
        let secret = Zeroizing::new(secret.to_owned());
        self.run(move |memory| {
            let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
            let output = digest(&params, secret.as_bytes(), &salt, memory)?;
            let phc = PasswordHash {
                algorithm: Algorithm::Argon2id.ident(),
                version: Some(Version::V0x13.into()),
                params: (&params).try_into()?,
                salt: Some(Salt::new(&salt)?),
                hash: Some(Output::new(&output)?),
            };
            Ok(phc.to_string())
        })
        .await
    }

    /// Whether a secret is the one that a PHC string was made from.
    pub async fn verify(&self, secret: &str, phc: String) -> Result<bool> {
        let secret = Zeroizing::new(secret.to_owned());
        self.run(move |memory| {
            let phc = PasswordHash::new(&phc)?;
            let (Some(salt), Some(hash)) = (phc.salt, phc.hash) else { return Ok(false) };
            if phc.algorithm != Algorithm::Argon2id.ident() {
                return Ok(false);
            }
            let output = digest(&Params::try_from(&phc)?, secret.as_bytes(), salt.as_ref(), memory)?;
            Ok(output.ct_eq(hash.as_bytes()).into())
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> Result<T, Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    ) -> Result<T> {
        let pool = self.0.clone();
        let place = Queued::take(&pool)?;
        let permit = pool.permits.clone().acquire_owned().await.map_err(|_| Error::Unavailable("Shutting down"))?;
        drop(place);
        let done = tokio::task::spawn_blocking(move || {
            // The permit belongs to the work: a caller who goes away does not make room for one more.
            let _permit = permit;
            let mut memory = pool.memory.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let done = work(&mut memory);
            pool.memory.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
            done
        });
        let done = done.await.map_err(|why| Error::bug(format!("hashing: {why}")))?;
        done.map_err(|why| Error::bug(format!("hashing: {why}")))
    }
}

/// A place in the queue, given back also when the one who waits goes away.
struct Queued<'p>(&'p Pool);

impl<'p> Queued<'p> {
    fn take(pool: &'p Pool) -> Result<Self> {
        let place = Self(pool);
        if pool.queued.fetch_add(1, Ordering::Relaxed) >= QUEUE_MAX {
            return Err(Error::Unavailable("Too many keys are being verified"));
        }
        Ok(place)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

fn digest(params: &Params, secret: &[u8], salt: &[u8], memory: &mut Vec<Block>) -> argon2::Result<[u8; 32]> {
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    memory.resize(params.block_count().max(memory.len()), Block::default());
    let mut output = [0; 32];
    argon.hash_password_into_with_memory(secret, salt, &mut output, memory.as_mut_slice())?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_verifies_its_secret_and_no_other() {
        let hashing = Hashing::default();
        let phc = hashing.hash("right", Entropy).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(hashing.verify("right", phc.clone()).await.unwrap());
        assert!(!hashing.verify("wrong", phc.clone()).await.unwrap());
        assert_ne!(phc, hashing.hash("right", Entropy).await.unwrap(), "every hash has a salt of its own");
    }

    #[tokio::test]
    async fn a_full_queue_is_unavailable_and_empties_again() {
        let hashing = Hashing::default();
        let all =
            hashing.0.permits.clone().acquire_many_owned(u32::try_from(hashing.0.permits.available_permits()).unwrap());
        let all = all.await.unwrap();
        let waiting: Vec<_> = (0..QUEUE_MAX)
            .map(|_| {
                let hashing = hashing.clone();
                tokio::spawn(async move { hashing.hash("x", Entropy).await })
            })
            .collect();
        while hashing.0.queued.load(Ordering::Relaxed) < QUEUE_MAX {
            tokio::task::yield_now().await;
        }
        assert!(matches!(hashing.hash("x", Entropy).await, Err(Error::Unavailable(_))));
        for task in waiting {
            task.abort();
            task.await.unwrap_err();
        }
        drop(all);
        assert!(hashing.hash("x", Entropy).await.is_ok());
        assert_eq!(hashing.0.queued.load(Ordering::Relaxed), 0);
    }
}
