//! The schedule of the checks: what is due is started, and what callers change applies at once.

use super::figures::Figures;
use super::heartbeat;
use super::job::{Job, Later, jobs};
use super::lease::{Ours, Share};
use super::queue::{Due, spread};
use super::roster::Roster;
use super::runner::{Runner, Start};
use super::silence;
use super::writer::{self, Recorder};
use crate::database::Timestamp;
use crate::database::place::{Behind, Happened, STRIDE};
use crate::error::Result;
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::healthcheck::domain::CheckId;
use crate::plugin::healthcheck::{Finished, PLUGIN};
use crate::world::Clock;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A clock that is set is noticed this soon.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is due within this is started together: a wake-up costs more than a start.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(4);

/// So many are started before it is looked what callers changed.
const STARTED_AT_ONCE: usize = 500;

/// Runs that wait to be stored; beyond that runs wait with their turn.
const WAITING_MAX: usize = 10_000;

/// A clock that goes back by more was set, and not by a hair.
const SET_BACK_US: i64 = 1_000_000;

/// The last runs are stored within this when the server ends, or not at all: the database may be away.
const LATE_AFTER: Duration = Duration::from_secs(2);

/// Nobody waits longer for leases to be given back: others take them over when they expire.
const LEAVING_MAX: Duration = Duration::from_secs(1);

/// What was due while nobody ran it is run within this: it is a part of all checks, and all at once.
const OVERDUE_WITHIN_US: u64 = 1_500_000;

/// What happens to a system concerns its checks.
const SYSTEM_DELETED: (&str, &str) = ("catalog", "system.deleted");

/// Runs checks until told to stop; what goes on then is dropped, and what is done is stored.
pub(super) async fn keep(kernel: Kernel, clock: Clock, figures: Figures, stop: CancellationToken) {
    let (share, late) = (Share::new(&kernel), CancellationToken::new());
    let (done, finished) = mpsc::channel(WAITING_MAX);
    let recorder = Recorder { kernel: kernel.clone(), clock: clock.clone(), share: share.clone() };
    let storing = tokio::spawn(writer::store(recorder, figures.clone(), late.clone(), finished));
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
        roster: Roster::default(),
        place: None,
        running: TaskTracker::new(),
        stop: stop.clone(),
    };
    let work = async {
        tokio::join!(schedule.keep(delays), share.keep(&kernel, stop.clone()));
        if let Err(why) = storing.await {
            tracing::error!(cause = %why, "the writer of runs failed");
        }
        if timeout(LEAVING_MAX, share.leave(&kernel)).await.is_err() {
            tracing::warn!("leases were not given back in time; others take them over when they expire");
        }
    };
    tokio::select! {
        () = work => {}
        () = grow_late(&stop, &late) => {}
    }
}

/// Says when it is too late to store anything more; it does not end by itself.
async fn grow_late(stop: &CancellationToken, late: &CancellationToken) {
    stop.cancelled().await;
    sleep(LATE_AFTER).await;
    late.cancel();
    std::future::pending::<()>().await;
}

struct Schedule {
    kernel: Kernel,
    clock: Clock,
    figures: Figures,
    share: Share,
    runner: Runner,
    done: mpsc::Sender<Finished>,
    /// What is due at another time than its rhythm says.
    later: mpsc::UnboundedSender<Later>,
    roster: Roster,
    /// Up to where the feed is known; `None`: everything is to be read.
    place: Option<i64>,
    running: TaskTracker,
    stop: CancellationToken,
}

impl Schedule {
    async fn keep(mut self, mut delays: mpsc::UnboundedReceiver<Later>) {
        let (stop, mut moved) = (self.stop.clone(), self.kernel.database.versions().moved());
        let mut last = self.clock.now();
        let mut is_known = false;
        while !stop.is_cancelled() {
            if !is_known || moved.has_changed().unwrap_or(true) {
                // Before looking, so that what happens meanwhile is not missed.
                moved.borrow_and_update();
                let Some(followed) = stop.run_until_cancelled(self.follow()).await else { break };
                is_known = followed.unwrap_or_else(|why| {
                    tracing::warn!(cause = %why, "the schedule could not be brought up to date; trying again");
                    false
                });
            }
            let now = self.clock.now();
            if now.0 < last.0 - SET_BACK_US {
                self.roster.begin_anew(now);
            }
            last = now;
            self.take_over_shards(now);
            self.start(now);
            self.look_for_silence(now);
            let next = self.roster.next().map_or(LOOK_EVERY, |next| until(next, self.clock.now()));
            let next = next.clamp(LOOK_AT_MOST_EVERY, LOOK_EVERY);
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(next) => {}
                _ = moved.changed() => is_known = false,
                Some(later) = delays.recv() => self.roster.delay(later),
            }
            while let Ok(later) = delays.try_recv() {
                self.roster.delay(later);
            }
        }
        // Nobody is told what became of a run that the end cut off: there was none.
        for job in self.roster.jobs() {
            job.ended.cancel();
        }
        self.running.close();
        self.running.wait().await;
    }

    fn start(&mut self, now: Timestamp) {
        for Due { job, at, missed } in self.roster.take_due(now, STARTED_AT_ONCE) {
            let lease = match self.share.of(job.number) {
                Ours::No => {
                    self.roster.leave(job.number, at);
                    continue;
                }
                Ours::Alone => None,
                Ours::Under(lease) => Some(lease),
            };
            self.figures.missed.inc_by(missed);
            if job.beat.is_some() {
                let (kernel, done, later) = (self.kernel.clone(), self.done.clone(), self.later.clone());
                let ended = job.ended.clone();
                let look = heartbeat::look(kernel, job, now, lease, done, later);
                self.running.spawn(async move { ended.run_until_cancelled(look).await });
                continue;
            }
            let runner = self.runner.clone();
            self.running.spawn(async move { runner.run(Start { job, at, lease }).await });
        }
    }

    /// Runs once what was due in a shard between two replicas, when this is the second.
    fn take_over_shards(&mut self, now: Timestamp) {
        let gained = self.share.take_gained();
        if gained.is_empty() {
            return;
        }
        let overdue = self.roster.take_over(&gained, now);
        let (kernel, share, runner) = (self.kernel.clone(), self.share.clone(), self.runner.clone());
        let (running, stop, figures) = (self.running.clone(), self.stop.clone(), self.figures.clone());
        let later = self.later.clone();
        self.running.spawn(async move {
            let Some(overdue) = stop.run_until_cancelled(not_run(&kernel, overdue, &figures)).await else { return };
            for (job, at) in overdue {
                let (share, runner, later) = (share.clone(), runner.clone(), later.clone());
                running.spawn(async move {
                    let pause = sleep(Duration::from_micros(spread(job.number.unsigned_abs()) % OVERDUE_WITHIN_US));
                    let is_wanted = job.ended.run_until_cancelled(pause).await.is_some();
                    match share.of(job.number) {
                        _ if !is_wanted => {}
                        Ours::Under(lease) => runner.run(Start { job, at, lease: Some(lease) }).await,
                        // The lease is not sure at this moment: whoever gains the shard next runs it.
                        Ours::No | Ours::Alone => drop(later.send(Later::Left(job.number, at))),
                    }
                });
            }
        });
    }

    fn look_for_silence(&mut self, now: Timestamp) {
        let silent = self.roster.take_silent(now, STARTED_AT_ONCE);
        let ours: Vec<_> = silent.into_iter().filter(|job| self.share.of(job.number) != Ours::No).collect();
        if ours.is_empty() {
            return;
        }
        let (stop, look) = (self.stop.clone(), silence::look(self.kernel.clone(), ours, now, self.later.clone()));
        self.running.spawn(async move { stop.run_until_cancelled(look).await });
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
        let mut all = self.kernel.database.reader().await?.all_scheduled().await?;
        let known: HashSet<_> = all.iter().map(|one| one.number).collect();
        let gone: Vec<_> = self.roster.jobs().map(|job| job.number).filter(|one| !known.contains(one)).collect();
        for number in gone {
            self.roster.remove(number);
        }
        all.retain(|one| !self.roster.has(one.number, one.check.updated_at));
        let now = self.clock.now();
        for job in jobs(&self.kernel, all) {
            self.roster.set(&job, job.first_time_after_start(now), now);
        }
        self.count();
        Ok(())
    }

    async fn take_over(&mut self, happened: &[Happened]) -> Result<()> {
        let mut seen = HashSet::new();
        for entry in happened {
            if entry.plugin != PLUGIN {
                for number in self.roster.of_system(SystemId::parse(&entry.resource)?) {
                    self.roster.remove(number);
                }
            } else if entry.kind != "configuration.token_made" && seen.insert(&entry.resource) {
                self.read_again(CheckId::parse(&entry.resource)?).await?;
            }
        }
        self.count();
        Ok(())
    }

    /// Takes over what has changed about a check. What has not goes on as it is: a check that gets one more system does not
    /// run for all of them.
    async fn read_again(&mut self, check: CheckId) -> Result<()> {
        let mut store = self.kernel.database.reader().await?;
        let wanted: HashMap<_, _> = store.scheduled_of(check).await?.into_iter().collect();
        for number in self.roster.of_check(check) {
            if !wanted.contains_key(&number) {
                self.roster.remove(number);
            }
        }
        let changed = wanted.into_iter().filter(|(number, version)| !self.roster.has(*number, *version));
        let changed: Vec<_> = changed.map(|(number, _)| number).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let found = store.scheduled(&changed).await?;
        drop(store);
        let now = self.clock.now();
        for job in jobs(&self.kernel, found) {
            self.roster.set(&job, job.first_time(now), now);
        }
        Ok(())
    }

    fn count(&self) {
        self.figures.scheduled.set(i64::try_from(self.roster.len()).unwrap_or(i64::MAX));
    }
}

/// Those of what was due that nobody has run. If that cannot be found out they are run: a run is stored once at most.
async fn not_run(
    kernel: &Kernel,
    mut overdue: Vec<(Arc<Job>, Timestamp)>,
    figures: &Figures,
) -> Vec<(Arc<Job>, Timestamp)> {
    let numbers: Vec<_> = overdue.iter().map(|(job, _)| job.number).collect();
    let found = async { kernel.database.reader().await?.last_run_times(&numbers).await }.await;
    let last: HashMap<_, _> = found
        .inspect_err(|why| tracing::warn!(cause = %why, "it could not be looked what others have run"))
        .unwrap_or_default()
        .into_iter()
        .collect();
    overdue.retain(|(job, at)| last.get(&job.number).is_none_or(|last| last < at));
    for (job, at) in &overdue {
        let since = last.get(&job.number).map_or(0, |last| (at.0 - last.0) / job.rhythm.interval_us - 1);
        figures.missed.inc_by(u64::try_from(since).unwrap_or_default());
    }
    overdue
}

fn until(next: Timestamp, now: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(next.0.saturating_sub(now.0)).unwrap_or_default())
}
