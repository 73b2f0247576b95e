//! The schedule of the checks: what is due is started, and what callers change applies at once.

use super::figures::Figures;
use super::heartbeat;
use super::job::{Job, jobs};
use super::lease::{Ours, Share};
use super::queue::{Due, Queue, spread};
use super::runner::{Runner, Start};
use super::writer;
use crate::database::Timestamp;
use crate::database::place::{Behind, Happened, STRIDE};
use crate::error::Result;
use crate::plugin::Kernel;
use crate::plugin::healthcheck::domain::CheckId;
use crate::plugin::healthcheck::{Finished, PLUGIN};
use crate::world::Clock;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A clock that is set is noticed this soon.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is due within this is started together: a wake-up costs more than a start.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(4);

/// What is saved runs within this: not all of an import at the same moment.
const FIRST_WITHIN_US: u64 = 500_000;

/// So many are started before it is looked what callers changed.
const STARTED_AT_ONCE: usize = 500;

/// Runs that wait to be stored; beyond that runs wait with their turn.
const WAITING_MAX: usize = 10_000;

/// A clock that goes back by more was set, and not by a hair.
const SET_BACK_US: i64 = 1_000_000;

/// What happens to a system concerns its checks.
const SYSTEM_DELETED: (&str, &str) = ("catalog", "system.deleted");

/// Runs checks until told to stop; what goes on then is dropped, and what is done is stored.
pub(super) async fn keep(kernel: Kernel, clock: Clock, figures: Figures, stop: CancellationToken) {
    let share = Share::new(&kernel);
    let (done, finished) = mpsc::channel(WAITING_MAX);
    let storing = tokio::spawn(writer::store(kernel.clone(), clock.clone(), share.clone(), figures.clone(), finished));
    let runner = Runner::new(kernel.clone(), clock.clone(), figures.clone(), done.clone());
    // One at most for each job that was just looked at.
    let (later, delays) = mpsc::unbounded_channel();
    let schedule = Schedule {
        kernel: kernel.clone(),
        clock,
        figures,
        share: share.clone(),
        runner,
        done,
        later,
        queue: Queue::default(),
        place: None,
        running: TaskTracker::new(),
        stop: stop.clone(),
    };
    tokio::join!(schedule.keep(delays), share.keep(&kernel, stop));
    if let Err(why) = storing.await {
        tracing::error!(cause = %why, "the writer of runs failed");
    }
    share.leave(&kernel).await;
}

struct Schedule {
    kernel: Kernel,
    clock: Clock,
    figures: Figures,
    share: Share,
    runner: Runner,
    done: mpsc::Sender<Finished>,
    /// What is due at another time than its rhythm says.
    later: mpsc::UnboundedSender<(i64, Timestamp)>,
    queue: Queue<Arc<Job>>,
    /// Up to where the feed is known; `None`: everything is to be read.
    place: Option<i64>,
    running: TaskTracker,
    stop: CancellationToken,
}

impl Schedule {
    async fn keep(mut self, mut delays: mpsc::UnboundedReceiver<(i64, Timestamp)>) {
        let (stop, mut moved) = (self.stop.clone(), self.kernel.database.versions().moved());
        let mut last = self.clock.now();
        let mut is_known = false;
        while !stop.is_cancelled() {
            if !is_known || moved.has_changed().unwrap_or(true) {
                // Before looking, so that what happens meanwhile is not missed.
                moved.borrow_and_update();
                is_known = self.follow().await.unwrap_or_else(|why| {
                    tracing::warn!(cause = %why, "the schedule could not be brought up to date; trying again");
                    false
                });
            }
            let now = self.clock.now();
            if now.0 < last.0 - SET_BACK_US {
                self.queue.begin_anew(now);
            }
            last = now;
            self.start(now);
            let next = self.queue.next().map_or(LOOK_EVERY, |next| until(next, self.clock.now()));
            let next = next.clamp(LOOK_AT_MOST_EVERY, LOOK_EVERY);
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(next) => {}
                _ = moved.changed() => is_known = false,
                Some((number, until)) = delays.recv() => self.queue.delay(number, until),
            }
        }
        // Nobody is told what became of a run that the end cut off: there was none.
        for (_, job) in self.queue.iter() {
            job.ended.cancel();
        }
        self.running.close();
        self.running.wait().await;
    }

    fn start(&mut self, now: Timestamp) {
        for Due { job, at, missed } in self.queue.take_due(now, STARTED_AT_ONCE) {
            let lease = match self.share.of(job.number) {
                Ours::No => continue,
                Ours::Alone => None,
                Ours::Under(lease) => Some(lease),
            };
            self.figures.missed.inc_by(missed);
            if job.beat.is_some() {
                let (kernel, done, later) = (self.kernel.clone(), self.done.clone(), self.later.clone());
                self.running.spawn(heartbeat::look(kernel, job, now, lease, done, later));
                continue;
            }
            let runner = self.runner.clone();
            self.running.spawn(async move { runner.run(Start { job, at, lease }).await });
        }
    }

    /// Takes over what callers have changed; whether that is all.
    async fn follow(&mut self) -> Result<bool> {
        let mut store = self.kernel.database.feed().await?;
        let Some(place) = self.place else {
            let place = store.last_change().await?;
            drop(store);
            self.read_all().await?;
            self.place = Some(place);
            return Ok(true);
        };
        let behind = store.behind(place, PLUGIN, SYSTEM_DELETED).await?;
        drop(store);
        match behind {
            Behind::These(happened, upto) => {
                self.take_over(&happened).await?;
                self.place = Some(upto);
                // As far as it was looked at once; there may be more.
                Ok(upto - place < STRIDE)
            }
            Behind::OutOfReach => {
                self.place = None;
                Ok(false)
            }
        }
    }

    async fn read_all(&mut self) -> Result<()> {
        let all = self.kernel.database.reader().await?.all_scheduled(None).await?;
        let (now, jobs) = (self.clock.now(), jobs(&self.kernel, all));
        let known: HashSet<_> = jobs.iter().map(|job| job.number).collect();
        let gone: Vec<_> = self.queue.iter().map(|(number, _)| number).filter(|one| !known.contains(one)).collect();
        for number in gone {
            self.remove(number);
        }
        for job in jobs {
            self.set(job, None, now);
        }
        Ok(())
    }

    async fn take_over(&mut self, happened: &[Happened]) -> Result<()> {
        let mut seen = HashSet::new();
        for entry in happened {
            if entry.plugin != PLUGIN {
                let of_system =
                    |(number, job): (i64, &Arc<Job>)| (job.system.to_string() == entry.resource).then_some(number);
                let gone: Vec<_> = self.queue.iter().filter_map(of_system).collect();
                for number in gone {
                    self.remove(number);
                }
            } else if entry.kind != "configuration.token_made" && seen.insert(&entry.resource) {
                self.read_again(CheckId::parse(&entry.resource)?).await?;
            }
        }
        Ok(())
    }

    async fn read_again(&mut self, check: CheckId) -> Result<()> {
        let found = self.kernel.database.reader().await?.all_scheduled(Some(check)).await?;
        let (now, jobs) = (self.clock.now(), jobs(&self.kernel, found));
        let known: HashSet<_> = jobs.iter().map(|job| job.number).collect();
        let of_check =
            |(number, job): (i64, &Arc<Job>)| (job.check == check && !known.contains(&number)).then_some(number);
        let gone: Vec<_> = self.queue.iter().filter_map(of_check).collect();
        for number in gone {
            self.remove(number);
        }
        for job in jobs {
            let soon = spread(job.number.unsigned_abs()) % FIRST_WITHIN_US;
            let first = Timestamp(now.0 + i64::try_from(soon).unwrap_or_default());
            self.set(job, Some(first), now);
        }
        Ok(())
    }

    fn set(&mut self, job: Arc<Job>, first: Option<Timestamp>, now: Timestamp) {
        let (number, rhythm) = (job.number, job.rhythm);
        if let Some(before) = self.queue.set(number, job, rhythm, first, now) {
            before.ended.cancel();
        }
        self.count();
    }

    fn remove(&mut self, number: i64) {
        if let Some(job) = self.queue.remove(number) {
            job.ended.cancel();
        }
        self.count();
    }

    fn count(&self) {
        self.figures.scheduled.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
    }
}

fn until(next: Timestamp, now: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(next.0.saturating_sub(now.0)).unwrap_or_default())
}
