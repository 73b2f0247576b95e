//! After a change of the instance key: secrets that an old key sealed are sealed anew under the current one, so that the
//! old one can be forgotten.

use super::vault;
use crate::error::Result;
use crate::plugin::Kernel;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// So many in one transaction: others who write do not wait for all of them.
const AT_ONCE: i64 = 100;

/// Seals anew what the old keys open, until it is done or told to stop. What is left is tried at the next start.
pub(crate) async fn reseal(kernel: Kernel, stop: CancellationToken) {
    if kernel.old_keys.is_empty() {
        return;
    }
    let (mut after, mut count) = (Some(Uuid::nil()), 0);
    while let (Some(from), false) = (after, stop.is_cancelled()) {
        match step(&kernel, from, &mut count).await {
            Ok(next) => after = next,
            Err(why) => {
                tracing::warn!(cause = %why, "secrets were not sealed anew; the next start tries again");
                return;
            }
        }
    }
    tracing::info!(checks = count, "secrets of health checks are sealed under the current instance key");
}

/// Answers where to go on, if there is more.
async fn step(kernel: &Kernel, after: Uuid, count: &mut u64) -> Result<Option<Uuid>> {
    let found = kernel.database.reader().await?.sealed_otherwise(&kernel.key.name, after, AT_ONCE).await?;
    let Some((last, _)) = found.last() else { return Ok(None) };
    let last = last.0;
    let mut store = kernel.database.writer().await?;
    for (id, sealed) in found {
        let Ok(secrets) = vault::open(Some(&sealed), id, &kernel.key, &kernel.old_keys) else {
            tracing::warn!(check.id = %id, "its secrets were sealed under a key that is not known any more");
            continue;
        };
        if let Some(anew) = vault::seal(&secrets, id, &kernel.key, kernel.entropy)? {
            *count += store.replace_sealed(id, &sealed, &anew).await?;
        }
    }
    store.commit_unseen("the same secrets under another key").await?;
    Ok(Some(last))
}
