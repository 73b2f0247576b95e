//! What stands behind a `Watch…` procedure: the state as it is now, and then every change in the order of the feed.
//!
//! A plugin says how to read its state and some of its resources, and how a message looks ([`Watched`]); the rest is
//! here. Every listener follows from a place of its own. What happened is made into events once, by whoever comes to it
//! first, and kept for the others in a ring; who lags behind the ring reads the feed by itself, and who lags behind the
//! feed is told to begin anew.

use super::Kernel;
use crate::contract::stream::Messages;
use crate::database::place::{Behind, Happened, STRIDE};
use crate::database::{Database, Place, Reader, Timestamp};
use crate::error::{Error, Result};
use crate::proto::checkmate::watch::v1::EventType;
use crate::world::Clock;
use futures_util::{StreamExt, stream};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::sleep;
use tonic::Status;

/// How a plugin is watched.
pub trait Watched: Send + Sync + 'static {
    /// Whose changes.
    const PLUGIN: &'static str;
    /// What changes.
    type Resource: prost::Message + Clone + 'static;
    /// What is sent.
    type Message: Send + 'static;

    /// Whether the state is the same as long as nothing is in the feed: then it is read once for all who begin meanwhile.
    const STATE_FOLLOWS_FROM_FEED: bool = true;

    /// Cursors older than this are out of reach: of what they were about, too little is left.
    const REACHES_BACK_US: i64 = i64::MAX;

    /// All that belongs to the state as it is now, with their ids.
    fn current(
        store: &mut Reader,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<(String, Self::Resource)>>> + Send;

    /// Those of these ids that are there.
    fn these(
        store: &mut Reader,
        ids: &[String],
        now: Timestamp,
    ) -> impl Future<Output = Result<HashMap<String, Self::Resource>>> + Send;

    /// An event as a message.
    fn message(cursor: Option<String>, event: Event<Self::Resource>) -> Self::Message;
}

/// What is told.
#[derive(Clone, Debug)]
pub struct Event<R> {
    /// What it is.
    pub kind: EventType,
    /// The id of the resource that it is about.
    pub id: Option<String>,
    /// The resource as of when the event was made, if it was there.
    pub resource: Option<R>,
    /// The system that is no more.
    pub system_id: Option<String>,
}

/// What is told when a system is deleted, whatever plugin is watched: resources that named it do so no more.
const SYSTEM_DELETED: (&str, &str) = ("catalog", "system.deleted");

/// Events that are kept for listeners who are a little late. At some 2 KiB each it is 2 MiB.
const RING_EVENTS_MAX: usize = 1_024;

/// The same in bytes, for large resources.
const RING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a listener takes out of the ring at once.
const TAKEN_MAX: usize = 64;

/// A state takes at most so many bytes: it is kept for all who begin. That is 100,000 incidents, or the windows of 90 daily
/// series that touch 200 systems each.
const STATE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// So many resources of a state are read at once, with the systems that they touch.
pub const STATE_PAGE: usize = 200;

/// So many of those who lag behind the ring read at once: a crowd that comes back must not take every connection.
const LAGGING_MAX: usize = 2;

/// When the database does not answer. If it goes on not to, the Gate ends the stream.
const AGAIN: Duration = Duration::from_millis(200);

/// A state that is being read, a page at a time.
pub struct Reading<R> {
    resources: Vec<(String, R)>,
    bytes: usize,
}

impl<R> Default for Reading<R> {
    /// Nothing is read yet.
    fn default() -> Self {
        Self { resources: vec![], bytes: 0 }
    }
}

impl<R: prost::Message> Reading<R> {
    /// Takes a page in; refuses when it becomes too much to be kept.
    pub fn take_in(&mut self, page: impl Iterator<Item = (String, R)>) -> Result<()> {
        for (id, resource) in page {
            self.bytes += resource.encoded_len();
            self.resources.push((id, resource));
        }
        if self.bytes > STATE_BYTES_MAX {
            let max = STATE_BYTES_MAX >> 20;
            return Err(Error::Refused(format!("The state takes more than {max} MiB; page through the list instead")));
        }
        Ok(())
    }

    /// All that was read.
    #[must_use]
    pub fn whole(self) -> Vec<(String, R)> {
        self.resources
    }
}

/// What the listeners of a plugin share. Cheap to clone.
pub struct Hub<W: Watched>(Arc<Inner<W>>);

struct Inner<W: Watched> {
    database: Database,
    clock: Clock,
    ring: Mutex<Ring<W::Resource>>,
    state: Mutex<Option<State<W::Resource>>>,
    lagging: Semaphore,
}

impl<W: Watched> Clone for Hub<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The resources as they were at a place, with their ids.
struct State<R> {
    at: Place,
    resources: Arc<[(String, R)]>,
}

/// An event of the feed.
struct Made<R> {
    at: Place,
    kind: EventType,
    id: String,
    resource: Option<Arc<R>>,
}

/// Events, and up to where the feed is known by them.
struct Batch<R> {
    events: Vec<Arc<Made<R>>>,
    upto: i64,
}

/// The last events.
struct Ring<R> {
    /// Behind this place none is missing.
    from: i64,
    /// Up to this one.
    upto: i64,
    events: VecDeque<Arc<Made<R>>>,
    bytes: usize,
}

impl<W: Watched> Hub<W> {
    /// Nobody listens yet.
    #[must_use]
    pub fn new(kernel: &Kernel) -> Self {
        Self(Arc::new(Inner {
            database: kernel.database.clone(),
            clock: kernel.clock.clone(),
            ring: Mutex::new(Ring { from: 0, upto: 0, events: VecDeque::new(), bytes: 0 }),
            state: Mutex::default(),
            lagging: Semaphore::new(LAGGING_MAX),
        }))
    }

    /// What happens from a cursor on, which validation has read; without one, the state as it is now comes first.
    pub async fn follow(&self, cursor: Option<&str>) -> Result<Messages<W::Message>> {
        let moved = self.0.database.versions().moved();
        let mut listener = Listener { hub: self.clone(), place: 0, moved, due: VecDeque::new(), state: None };
        match cursor.and_then(Place::parse) {
            Some(place) if self.reaches(place) && self.0.database.reader().await?.has_place(place).await? => {
                listener.place = place.sequence;
            }
            Some(_) => listener.reset().await?,
            None => listener.begin().await?,
        }
        let messages = stream::try_unfold(listener, |mut listener| async {
            let message = listener.next().await.inspect_err(|why| why.log("a stream of changes failed"))?;
            Ok::<_, Status>(message.map(|message| (message, listener)))
        });
        Ok(messages.boxed())
    }

    fn reaches(&self, place: Place) -> bool {
        self.0.clock.now().0.saturating_sub(place.made_at.0) <= W::REACHES_BACK_US
    }

    /// The state as it is now, and its place. It is read once for all who begin between two changes.
    async fn state(&self) -> Result<(Arc<[(String, W::Resource)]>, Place)> {
        let mut kept = self.0.state.lock().await;
        let mut store = self.0.database.snapshot().await?;
        let last = store.last_place().await?;
        if W::STATE_FOLLOWS_FROM_FEED
            && let Some(known) = kept.as_mut()
            && store.behind(known.at.sequence, W::PLUGIN, SYSTEM_DELETED).await? == Behind::These(vec![], last.sequence)
        {
            known.at = last;
            return Ok((known.resources.clone(), last));
        }
        *kept = None;
        let resources: Arc<[_]> = W::current(&mut store, self.0.clock.now()).await?.into();
        *kept = Some(State { at: last, resources: resources.clone() });
        Ok((resources, last))
    }

    /// What comes behind a place; `None` if the feed does not reach it.
    async fn behind(&self, after: i64) -> Result<Option<Batch<W::Resource>>> {
        let mut ring = self.0.ring.lock().await;
        if ring.upto <= after {
            if after - ring.upto > STRIDE {
                ring.restart(after);
            }
            let Some(batch) = self.make(ring.upto).await? else {
                ring.restart(after);
                return Ok(None);
            };
            ring.take_in(batch);
        }
        if let Some(batch) = ring.behind(after) {
            return Ok(Some(batch));
        }
        drop(ring);
        let _turn = self.0.lagging.acquire().await;
        self.make(after).await
    }

    /// Makes what happened behind a place into events.
    async fn make(&self, after: i64) -> Result<Option<Batch<W::Resource>>> {
        let mut store = self.0.database.snapshot().await?;
        let (happened, upto) = match store.behind(after, W::PLUGIN, SYSTEM_DELETED).await? {
            Behind::These(happened, upto) => (happened, upto),
            Behind::OutOfReach => return Ok(None),
        };
        let changed = |entry: &&Happened| entry.plugin == W::PLUGIN && kind_of(entry) != EventType::Deleted;
        let mut ids: Vec<_> = happened.iter().filter(changed).map(|entry| entry.resource.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut found = HashMap::new();
        if !ids.is_empty() {
            let these = W::these(&mut store, &ids, self.0.clock.now()).await?;
            found.extend(these.into_iter().map(|(id, resource)| (id, Arc::new(resource))));
        }
        let made = happened.into_iter().map(|entry| {
            let kind = kind_of(&entry);
            let is_gone = matches!(kind, EventType::Deleted | EventType::SystemDeleted);
            let resource = found.get(&entry.resource).filter(|_| !is_gone).cloned();
            Arc::new(Made { at: entry.place, kind, id: entry.resource, resource })
        });
        Ok(Some(Batch { events: made.collect(), upto }))
    }
}

/// What an entry of the feed is to those who watch. Its kind is what it is about and what happened to it.
fn kind_of(entry: &Happened) -> EventType {
    if (entry.plugin.as_str(), entry.kind.as_str()) == SYSTEM_DELETED {
        return EventType::SystemDeleted;
    }
    match entry.kind.rsplit('.').next().unwrap_or_default() {
        "created" | "scheduled" => EventType::Created,
        "deleted" => EventType::Deleted,
        _ => EventType::Updated,
    }
}

impl<R: prost::Message> Ring<R> {
    fn restart(&mut self, at: i64) {
        *self = Self { from: at, upto: at, events: VecDeque::new(), bytes: 0 };
    }

    fn take_in(&mut self, batch: Batch<R>) {
        self.upto = batch.upto;
        self.bytes += batch.events.iter().map(|event| event.bytes()).sum::<usize>();
        self.events.extend(batch.events);
        while self.events.len() > RING_EVENTS_MAX || self.bytes > RING_BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.bytes();
            self.from = oldest.at.sequence;
        }
    }

    fn behind(&self, after: i64) -> Option<Batch<R>> {
        if after < self.from {
            return None;
        }
        let start = self.events.partition_point(|event| event.at.sequence <= after);
        let events: Vec<_> = self.events.range(start..).take(TAKEN_MAX).cloned().collect();
        let is_all = start + events.len() == self.events.len();
        let upto = events.last().filter(|_| !is_all).map_or(self.upto, |last| last.at.sequence);
        Some(Batch { events, upto })
    }
}

impl<R: prost::Message> Made<R> {
    fn bytes(&self) -> usize {
        /// Its id and its place in the ring.
        const ITSELF: usize = 128;
        ITSELF + self.resource.as_ref().map_or(0, |resource| resource.encoded_len())
    }
}

/// Somebody who listens.
struct Listener<W: Watched> {
    hub: Hub<W>,
    /// Up to where it knows the feed, or will when it has been told what is due.
    place: i64,
    moved: watch::Receiver<i64>,
    /// What it is told next, after the state.
    due: VecDeque<Arc<Made<W::Resource>>>,
    state: Option<Telling<W::Resource>>,
}

/// A state that is being told.
struct Telling<R> {
    /// Whether it is told first to forget what it knows.
    resets: bool,
    resources: Arc<[(String, R)]>,
    told: usize,
    at: Place,
}

impl<W: Watched> Listener<W> {
    async fn begin(&mut self) -> Result<()> {
        let (resources, at) = self.hub.state().await?;
        self.place = at.sequence;
        self.state = Some(Telling { resets: false, resources, told: 0, at });
        Ok(())
    }

    async fn reset(&mut self) -> Result<()> {
        self.begin().await?;
        self.state.iter_mut().for_each(|state| state.resets = true);
        Ok(())
    }

    /// The next message; `None` when there will be no more.
    async fn next(&mut self) -> Result<Option<W::Message>> {
        loop {
            if let Some(message) = self.tell_state() {
                return Ok(Some(message));
            }
            if let Some(event) = self.due.pop_front() {
                return Ok(Some(message_of::<W>(&event)));
            }
            // Before looking, so that what happens meanwhile is not missed.
            self.moved.borrow_and_update();
            match self.look().await {
                Ok(true) => {}
                Ok(false) => {
                    if self.moved.changed().await.is_err() {
                        return Ok(None);
                    }
                }
                Err(Error::Unavailable(_)) => sleep(AGAIN).await,
                Err(why) => return Err(why),
            }
        }
    }

    /// Whether there was anything new.
    async fn look(&mut self) -> Result<bool> {
        let Some(Batch { events, upto }) = self.hub.behind(self.place).await? else {
            self.reset().await?;
            return Ok(true);
        };
        let is_news = upto > self.place;
        self.place = upto;
        self.due.extend(events);
        Ok(is_news)
    }

    fn tell_state(&mut self) -> Option<W::Message> {
        let state = self.state.as_mut()?;
        let mark = |kind| Event { kind, id: None, resource: None, system_id: None };
        if std::mem::take(&mut state.resets) {
            return Some(W::message(None, mark(EventType::Reset)));
        }
        if let Some((id, resource)) = state.resources.get(state.told) {
            state.told += 1;
            let (id, resource) = (Some(id.clone()), Some(resource.clone()));
            return Some(W::message(None, Event { id, resource, ..mark(EventType::Current) }));
        }
        // Only here: who has a part of the state can resume from nowhere.
        let cursor = state.at.to_string();
        self.state = None;
        Some(W::message(Some(cursor), mark(EventType::Synced)))
    }
}

fn message_of<W: Watched>(made: &Made<W::Resource>) -> W::Message {
    let about = Some(made.id.clone());
    let (id, system_id) = if made.kind == EventType::SystemDeleted { (None, about) } else { (about, None) };
    let event = Event { kind: made.kind, id, resource: made.resource.as_deref().cloned(), system_id };
    W::message(Some(made.at.to_string()), event)
}
