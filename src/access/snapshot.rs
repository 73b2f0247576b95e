//! Applications and roles in memory: what the Gate decides from.
//!
//! It follows the change feed. A change made in this process is taken over before its call returns; one made elsewhere
//! within the poll. When the database has not been heard for [`LEASE`], nothing is decided any more: a key that was
//! revoked elsewhere must not live on because a connection was cut.

use super::caller::Role;
use super::instance::{InstanceKey, Tag};
use super::store::ApplicationRow;
use super::usage::Usage;
use super::{ApplicationId, Grants};
use crate::database::{Changes, Database, Did, Ear, Reader, Timestamp, Writer};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often the feed is looked at: changes from elsewhere are seen within this, also when nobody notifies. Half of the
/// promised 100 ms: a busy machine wants the other half.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// Knowledge older than this decides nothing (design.md section 6).
pub const LEASE: Duration = Duration::from_secs(2);

/// Half of the lease: a connection that hangs is given up in time for another to keep it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reading every application takes some 5 µs each.
const LOAD_PATIENCE: Duration = Duration::from_mins(1);

/// A pooler between us and PostgreSQL may not let anybody listen; asking it all the time would not change that.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

const SILENT: Error = Error::Unavailable("The database did not answer in time");

/// Whose changes matter here.
const PLUGIN: &str = "auth";

/// The follower's ear, if it has one.
#[derive(Default)]
struct Hearing {
    ear: Option<Ear>,
    tried_at: Option<Instant>,
}

/// What the Gate decides from. Cheap to clone.
#[derive(Clone)]
pub struct Snapshot(Arc<Inner>);

struct Inner {
    database: Database,
    tag_key: String,
    tables: RwLock<Tables>,
    /// One at a time reads the feed; the value is the place up to which it has been read.
    followed: tokio::sync::Mutex<i64>,
    started: Instant,
    /// Milliseconds after `started` when the database was last known to have nothing newer. 0: not fresh.
    fresh_ms: AtomicU64,
    follower: Follower,
}

/// Whoever follows the feed, and those who wait for its next look.
#[derive(Default)]
struct Follower {
    is_there: AtomicBool,
    /// How many looks were asked for.
    asked: AtomicU64,
    wakes: Notify,
    /// Up to which of those it has looked.
    looked: watch::Sender<u64>,
}

#[derive(Default)]
struct Tables {
    applications: HashMap<ApplicationId, Arc<Known>>,
    roles: HashMap<String, Arc<Role>>,
}

/// An application that can call.
pub struct Known {
    /// Its id.
    pub id: ApplicationId,
    /// Its name.
    pub name: Arc<str>,
    /// The ids of its roles.
    pub roles: Vec<String>,
    /// Its key is refused from then on.
    pub expires_at: Option<Timestamp>,
    /// The tag of its key, if one was made under the instance key in use.
    pub tag: Option<Tag>,
    /// When its key was used.
    pub usage: Arc<Usage>,
}

impl Snapshot {
    /// Reads everything.
    pub async fn load(database: Database, key: &InstanceKey) -> Result<Self> {
        let snapshot = Self(Arc::new(Inner {
            database,
            tag_key: key.name.clone(),
            tables: RwLock::default(),
            followed: tokio::sync::Mutex::new(-1),
            started: Instant::now(),
            fresh_ms: AtomicU64::new(0),
            follower: Follower::default(),
        }));
        snapshot.refresh().await?;
        Ok(snapshot)
    }

    /// Takes over what changed since the last time.
    pub async fn refresh(&self) -> Result<()> {
        let mut followed = self.0.followed.lock().await;
        // Before the database is asked: the answer may be as old as the question.
        let asked = self.0.started.elapsed();
        let mut store = timeout(PATIENCE, self.0.database.feed()).await.map_err(|_| SILENT)??;
        // All of it may take longer than a look at what changed, but not for ever.
        let patience = if *followed < 0 { LOAD_PATIENCE } else { PATIENCE };
        let Ok(done) = timeout(patience, self.take_over(&mut store, &mut followed)).await else {
            store.abandon();
            return Err(SILENT);
        };
        done?;
        let millis = u64::try_from(asked.as_millis()).unwrap_or(u64::MAX);
        self.0.fresh_ms.store(millis.max(1), Ordering::Release);
        Ok(())
    }

    async fn take_over(&self, store: &mut Reader, followed: &mut i64) -> Result<()> {
        let changes =
            if *followed < 0 { Changes::TooMany(store.last_change().await?) } else { store.changes(*followed).await? };
        match &changes {
            Changes::These(entries, last) => {
                let ours: Vec<_> = entries.iter().filter(|entry| entry.plugin == PLUGIN).collect();
                if !ours.is_empty() {
                    let of = |kind: &str| ours.iter().any(|entry| entry.kind.starts_with(kind));
                    let applications = ours.iter().filter(|entry| entry.kind.starts_with("application."));
                    let ids =
                        applications.filter_map(|entry| ApplicationId::parse(&entry.resource).ok()).collect::<Vec<_>>();
                    self.reload_some(store, &ids, of("role.")).await?;
                }
                *followed = *last;
            }
            Changes::TooMany(last) => {
                // Until all of it is read, nothing is known: should this be cut short, the next try may take its time.
                *followed = -1;
                self.reload_all(store).await?;
                *followed = *last;
            }
        }
        self.0.database.versions().saw(&changes);
        Ok(())
    }

    /// Makes a change durable, and takes a change of access over before the call returns.
    pub async fn commit(&self, store: Writer, did: Did) -> Result<()> {
        let changes_access = did.plugin == PLUGIN;
        store.commit(did).await?;
        if changes_access {
            self.settle().await;
        }
        Ok(())
    }

    /// Takes over a change that this process has just committed. If that fails, nothing is decided until it succeeds.
    async fn settle(&self) {
        if let Err(why) = self.look_now().await {
            self.0.fresh_ms.store(0, Ordering::Release);
            tracing::error!(cause = %why, "a change of access was committed but cannot be read back; refusing until it can");
        }
    }

    /// A look at the feed that begins from now on. The follower makes it if there is one: it does not wait in line with
    /// requests, and two would wait for each other.
    async fn look_now(&self) -> Result<()> {
        let Follower { is_there, asked, wakes, looked } = &self.0.follower;
        if !is_there.load(Ordering::Acquire) {
            return self.refresh().await;
        }
        let number = asked.fetch_add(1, Ordering::AcqRel) + 1;
        wakes.notify_one();
        let mut looked = looked.subscribe();
        let seen = looked.wait_for(|upto| *upto >= number);
        timeout(LEASE, seen).await.is_ok_and(|seen| seen.is_ok()).then_some(()).ok_or(SILENT)
    }

    /// Follows the feed until told to stop; tells `heard` whether the database answers.
    ///
    /// It wants a thread of its own: behind a few hundred requests that each read many rows, a task is polled too seldom
    /// to keep the lease.
    pub async fn follow(self, stop: CancellationToken, heard: impl Fn(bool) + Send) {
        let (mut well, mut hearing) = (true, Hearing::default());
        let follower = &self.0.follower;
        follower.is_there.store(true, Ordering::Release);
        while stop.run_until_cancelled(Box::pin(self.next_look(&mut hearing))).await.is_some() {
            let asked = follower.asked.load(Ordering::Acquire);
            let done = self.refresh().await;
            if let Err(why) = &done
                && well
            {
                tracing::error!(cause = %why, "the database does not answer");
            } else if done.is_ok() && !well {
                tracing::info!("the database answers again");
            }
            well = done.is_ok();
            if well {
                follower.looked.send_replace(asked);
            }
            heard(well);
        }
        follower.is_there.store(false, Ordering::Release);
    }

    /// Waits until looking at the feed is worth it: somebody notified or asked, or it has been a while.
    async fn next_look(&self, hearing: &mut Hearing) {
        if hearing.ear.is_none() && hearing.tried_at.is_none_or(|at| at.elapsed() > LISTEN_AGAIN) {
            hearing.tried_at = Some(Instant::now());
            // Without an ear there is still the poll, so why there is none does not matter.
            hearing.ear = timeout(PATIENCE, self.0.database.listen()).await.ok().and_then(Result::ok).flatten();
        }
        let listening = async {
            match &mut hearing.ear {
                Some(ear) => ear.hears().await,
                None => std::future::pending().await,
            }
        };
        let woken = async {
            tokio::select! {
                hears = listening => hears,
                () = self.0.follower.wakes.notified() => true,
            }
        };
        if timeout(POLL_EVERY, woken).await == Ok(false) {
            hearing.ear = None;
        }
    }

    /// Refuses when knowledge is too old to decide from.
    pub fn must_be_fresh(&self) -> Result<()> {
        let fresh = Duration::from_millis(self.0.fresh_ms.load(Ordering::Acquire));
        if fresh.is_zero() || self.0.started.elapsed().saturating_sub(fresh) > LEASE {
            return Err(Error::Unavailable("The database has not answered; nobody's permissions are known"));
        }
        Ok(())
    }

    /// An application by its id.
    #[must_use]
    pub fn application(&self, id: ApplicationId) -> Option<Arc<Known>> {
        self.read(|tables| tables.applications.get(&id).cloned())
    }

    /// Roles by their ids.
    #[must_use]
    pub fn roles<'i>(&self, ids: impl IntoIterator<Item = &'i str>) -> Vec<Arc<Role>> {
        self.read(|tables| ids.into_iter().filter_map(|id| tables.roles.get(id).cloned()).collect())
    }

    /// How many applications there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.read(|tables| tables.applications.len())
    }

    /// The applications whose use is to be written, and the time.
    pub(super) fn usages(
        &self,
        due: impl Fn(&Usage) -> Option<Timestamp>,
    ) -> Vec<(ApplicationId, Arc<Usage>, Timestamp)> {
        let row = |known: &Arc<Known>| due(&known.usage).map(|at| (known.id, known.usage.clone(), at));
        let mut rows: Vec<_> = self.read(|tables| tables.applications.values().filter_map(row).collect());
        // Two replicas that write the same rows take them in the same order, or each would wait for the other.
        rows.sort_by_key(|(id, ..)| *id);
        rows
    }

    /// Takes the tag of a secret over that was verified the slow way, unless what it was verified for has been replaced
    /// meanwhile: that may have been a new secret, and the tag is the old one's.
    pub(super) fn learn_tag(&self, verified: &Arc<Known>, tag: &Tag) {
        let mut tables = self.0.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tables.applications.get_mut(&verified.id)
            && Arc::ptr_eq(known, verified)
        {
            *known = Arc::new(Known {
                id: known.id,
                name: known.name.clone(),
                roles: known.roles.clone(),
                expires_at: known.expires_at,
                tag: Some(tag.clone()),
                usage: known.usage.clone(),
            });
        }
    }

    async fn reload_all(&self, store: &mut Reader) -> Result<()> {
        let (rows, roles) = (store.known_applications().await?, self.read_roles(store).await?);
        let fresh = rows.into_iter().map(|row| (row.id, self.known(row))).collect();
        let mut tables = self.0.tables.write().unwrap_or_else(PoisonError::into_inner);
        *tables = Tables { applications: fresh, roles };
        Ok(())
    }

    async fn reload_some(&self, store: &mut Reader, ids: &[ApplicationId], roles_too: bool) -> Result<()> {
        let hex: Vec<_> = ids.iter().map(|id| id.0.simple().to_string()).collect();
        let mut rows = vec![];
        if !hex.is_empty() {
            rows = store.known_applications_of(&serde_json::Value::from(hex).to_string()).await?;
        }
        let roles = if roles_too { Some(self.read_roles(store).await?) } else { None };
        let fresh: Vec<_> = rows.into_iter().map(|row| self.known(row)).collect();
        let mut tables = self.0.tables.write().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            tables.applications.remove(id);
        }
        tables.applications.extend(fresh.into_iter().map(|known| (known.id, known)));
        if let Some(roles) = roles {
            tables.roles = roles;
        }
        Ok(())
    }

    async fn read_roles(&self, store: &mut Reader) -> Result<HashMap<String, Arc<Role>>> {
        let rows = store.known_roles().await?;
        let role = |row: super::store::RoleRow| Role { grants: Grants::stored(&row.permissions), id: row.id };
        Ok(rows.into_iter().map(|row| (row.id.clone(), Arc::new(role(row)))).collect())
    }

    fn known(&self, row: ApplicationRow) -> Arc<Known> {
        // What is noted in memory about a use is newer than what is written.
        let usage = self.application(row.id).map(|known| known.usage.clone());
        let ours = row.tag_key.as_deref() == Some(&self.0.tag_key);
        Arc::new(Known {
            id: row.id,
            name: row.name.into(),
            roles: row.roles.iter().flat_map(|roles| roles.split(',')).map(str::to_owned).collect(),
            expires_at: row.expires_at,
            tag: row.tag.filter(|_| ours).and_then(|tag| Tag::from_hex(&tag)),
            usage: usage.unwrap_or_else(|| Arc::new(Usage::known(row.last_used_at))),
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.0.tables.read().unwrap_or_else(PoisonError::into_inner))
    }
}
