//! Which checks this replica runs. With `SQLite` all of them; replicas on PostgreSQL share them out by leases, and one
//! that falls silent loses its share.

use crate::database::Writer;
use crate::error::Result;
use crate::plugin::Kernel;
use crate::plugin::healthcheck::{LEASE_US, Lease, SHARDS, shard_of};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Less than a third of the time that a lease is good for: two renewals may fail. Whoever is killed is followed within the
/// sum of both, six and a half seconds.
const RENEW_EVERY: Duration = Duration::from_millis(1_500);

/// After this without a renewal nothing is started: a second before others may take it over, by a clock that no one sets.
const SURE_FOR: Duration = Duration::from_micros(LEASE_US.unsigned_abs() - 1_000_000);

/// What this replica runs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Share(Option<Arc<Held>>);

struct Held {
    me: Uuid,
    leases: RwLock<Leases>,
    leaving: Mutex<Vec<i64>>,
}

#[derive(Default)]
struct Leases {
    epochs: HashMap<i64, i64>,
    renewed: Option<Instant>,
    /// What has come since it was last asked.
    gained: HashSet<i64>,
}

/// Whether a check is run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours {
    /// By another replica.
    No,
    /// Here, and nobody else is there.
    Alone,
    /// Here, under a lease.
    Under(Lease),
}

impl Share {
    /// Everything with `SQLite`, nothing yet with PostgreSQL.
    #[must_use]
    pub(super) fn new(kernel: &Kernel) -> Self {
        let held = || Arc::new(Held { me: kernel.ids.next(), leases: RwLock::default(), leaving: Mutex::default() });
        Self(kernel.database.is_shared().then(held))
    }

    /// Who this replica is to the others; `None` if there are none.
    #[must_use]
    pub(super) fn me(&self) -> Option<Uuid> {
        self.0.as_ref().map(|held| held.me)
    }

    /// Whether an association is run here.
    #[must_use]
    pub(super) fn of(&self, association: i64) -> Ours {
        let Some(held) = &self.0 else { return Ours::Alone };
        let leases = held.leases.read().unwrap_or_else(PoisonError::into_inner);
        let shard = shard_of(association);
        match leases.epochs.get(&shard) {
            Some(epoch) if leases.are_sure() => Ours::Under(Lease { shard, epoch: *epoch }),
            _ => Ours::No,
        }
    }

    /// The shards that have come since this was last asked: what was due while nobody ran them is now due here.
    #[must_use]
    pub(super) fn take_gained(&self) -> HashSet<i64> {
        let Some(held) = &self.0 else { return HashSet::new() };
        std::mem::take(&mut held.leases.write().unwrap_or_else(PoisonError::into_inner).gained)
    }

    /// Keeps the share until told to stop.
    pub(super) async fn keep(&self, kernel: &Kernel, stop: CancellationToken) {
        let Some(held) = &self.0 else { return stop.cancelled().await };
        let mut pause = Duration::ZERO;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            // Counted from before: the database counts from when it was told.
            let asked = Instant::now();
            pause = match held.renew(kernel).await {
                Ok(epochs) => {
                    held.leases.write().unwrap_or_else(PoisonError::into_inner).renew(epochs, asked);
                    RENEW_EVERY
                }
                Err(why) => {
                    tracing::warn!(cause = %why, "leases were not renewed; trying again");
                    RENEW_EVERY / 4
                }
            };
        }
    }

    /// Gives the share back, so that others need not wait for it to expire. What ran under it is stored by then, or is not
    /// any more.
    pub(super) async fn leave(&self, kernel: &Kernel) {
        let Some(held) = &self.0 else { return };
        let all = std::mem::take(&mut *held.leases.write().unwrap_or_else(PoisonError::into_inner)).epochs;
        let shards: Vec<_> = all.into_keys().collect();
        if let Err(why) = held.give_back(kernel, &shards).await {
            tracing::warn!(cause = %why, "leases were not given back; others take them over when they expire");
        }
    }
}

impl Leases {
    fn are_sure(&self) -> bool {
        self.renewed.is_some_and(|renewed| renewed.elapsed() < SURE_FOR)
    }

    /// Takes over what is held now. What was held but not sure counts as new: nothing of it was started meanwhile.
    fn renew(&mut self, epochs: HashMap<i64, i64>, asked: Instant) {
        let were_sure = self.are_sure();
        let is_new = |(shard, epoch): (&i64, &i64)| !were_sure || self.epochs.get(shard) != Some(epoch);
        let new: Vec<_> = epochs.iter().filter(|one| is_new(*one)).map(|(shard, _)| *shard).collect();
        self.gained.retain(|shard| epochs.contains_key(shard));
        self.gained.extend(new);
        (self.epochs, self.renewed) = (epochs, Some(asked));
    }
}

impl Held {
    async fn renew(&self, kernel: &Kernel) -> Result<HashMap<i64, i64>> {
        let mut store = kernel.database.writer().await?;
        store.make_shards().await?;
        let replicas = store.count_replicas(self.me).await?.max(1);
        let mut mine = store.renew_leases(self.me).await?;
        let fair = usize::try_from((SHARDS + replicas - 1) / replicas).unwrap_or(usize::MAX);
        // What is left to others is not started any more, and given back the next time: what runs is finished until then.
        let leaving = std::mem::take(&mut *self.leaving.lock().unwrap_or_else(PoisonError::into_inner));
        store.give_back_leases(self.me, &leaving).await?;
        mine.retain(|lease| !leaving.contains(&lease.shard));
        if mine.len() > fair {
            mine.sort_by_key(|lease| lease.shard);
            let surplus = mine.split_off(fair).into_iter().map(|lease| lease.shard).collect();
            *self.leaving.lock().unwrap_or_else(PoisonError::into_inner) = surplus;
        } else {
            let missing = i64::try_from(fair - mine.len()).unwrap_or_default();
            mine.extend(store.take_leases(self.me, missing).await?);
        }
        store.commit_unseen("leases change nothing that anybody reads").await?;
        Ok(mine.into_iter().map(|lease| (lease.shard, lease.epoch)).collect())
    }

    async fn give_back(&self, kernel: &Kernel, shards: &[i64]) -> Result<()> {
        let mut store: Writer = kernel.database.writer().await?;
        store.give_back_leases(self.me, shards).await?;
        store.forget_replica(self.me).await?;
        store.commit_unseen("leases change nothing that anybody reads").await
    }
}
