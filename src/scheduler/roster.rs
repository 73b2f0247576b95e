//! What is in the schedule: jobs by when they are due, by check and by system, and what of them is left to other replicas.

use super::job::{Job, Later};
use super::queue::{Due, Queue, Rhythm};
use crate::database::Timestamp;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::healthcheck::domain::CheckId;
use crate::plugin::healthcheck::shard_of;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

/// What is due again this soon is not run out of turn as well: many short intervals would be a stampede.
const SOON_US: i64 = 1_000_000;

/// The schedule.
#[derive(Default)]
pub(super) struct Roster {
    runs: Queue<Arc<Job>>,
    /// When each will have been silent for too long, unless it is heard of before.
    silences: Queue<Arc<Job>>,
    by_check: Index<CheckId>,
    by_system: Index<SystemId>,
    /// The last due times that were another replica's to run.
    left: HashMap<i64, Timestamp>,
}

impl Roster {
    /// Adds a job, or puts it in the place of the one before, whose run is not wanted any more.
    pub(super) fn set(&mut self, job: &Arc<Job>, first: Option<Timestamp>, now: Timestamp) {
        self.remove(job.number);
        self.by_check.add(job.check.id, job.number);
        self.by_system.add(job.system, job.number);
        if job.grace_us < i64::MAX {
            let rhythm = Rhythm::of(job.number.unsigned_abs(), job.grace_us);
            self.silences.set(job.number, job.clone(), rhythm, job.silent_at(), now);
        }
        self.runs.set(job.number, job.clone(), job.rhythm, first, now);
    }

    pub(super) fn remove(&mut self, number: i64) {
        let Some(job) = self.runs.remove(number) else { return };
        job.ended.cancel();
        self.silences.remove(number);
        self.by_check.remove(&job.check.id, number);
        self.by_system.remove(&job.system, number);
        self.left.remove(&number);
    }

    /// Whether there is a job that was made from this version of its check.
    pub(super) fn has(&self, number: i64, version: Timestamp) -> bool {
        self.runs.get(number).is_some_and(|job| job.check.updated_at == version)
    }

    pub(super) fn of_check(&self, check: CheckId) -> Vec<i64> {
        self.by_check.numbers(&check)
    }

    pub(super) fn of_system(&self, system: SystemId) -> Vec<i64> {
        self.by_system.numbers(&system)
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.runs.iter().map(|(_, job)| job)
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.runs.next().into_iter().chain(self.silences.next()).min()
    }

    pub(super) fn take_due(&mut self, now: Timestamp, most: usize) -> Vec<Due<Arc<Job>>> {
        self.runs.take_due(now, most)
    }

    /// Takes what has been silent for too long, as far as it is known here.
    pub(super) fn take_silent(&mut self, now: Timestamp, most: usize) -> Vec<Arc<Job>> {
        let mut silent = vec![];
        for Due { job, .. } in self.silences.take_due(now, most) {
            match job.silent_at() {
                Some(at) if at > now => self.silences.delay(job.number, at),
                _ => silent.push(job),
            }
        }
        silent
    }

    /// Has something due at another time than its rhythm says.
    pub(super) fn delay(&mut self, later: Later) {
        match later {
            Later::Run(number, until) => self.runs.delay(number, until),
            Later::Silence(number, until) => self.silences.delay(number, until),
            Later::Left(number, at) => {
                self.left.entry(number).and_modify(|last| *last = at.max(*last)).or_insert(at);
            }
        }
    }

    /// Notes that something was due that another replica runs.
    pub(super) fn leave(&mut self, number: i64, at: Timestamp) {
        self.left.insert(number, at);
    }

    /// What may have been due while nobody ran these shards, which this replica runs from now on. Late reports and silences
    /// of theirs are looked for at once.
    pub(super) fn take_over(&mut self, shards: &HashSet<i64>, now: Timestamp) -> Vec<(Arc<Job>, Timestamp)> {
        let is_theirs = |number: i64| shards.contains(&shard_of(number));
        let jobs: Vec<_> = self.jobs().filter(|job| is_theirs(job.number)).cloned().collect();
        let mut overdue = vec![];
        for job in jobs {
            let left = self.left.remove(&job.number);
            self.silences.delay(job.number, now);
            if job.beat.is_some() {
                self.runs.delay(job.number, now);
            } else if let Some(at) = left
                && job.rhythm.after(now).0 - now.0 > SOON_US
            {
                overdue.push((job, at));
            }
        }
        overdue
    }

    /// After the clock was set back.
    pub(super) fn begin_anew(&mut self, now: Timestamp) {
        self.runs.begin_anew(now);
        self.silences.begin_anew(now);
        self.left.clear();
    }
}

/// The numbers of jobs by what they belong to.
struct Index<K>(HashMap<K, BTreeSet<i64>>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Index<K> {
    fn add(&mut self, key: K, number: i64) {
        self.0.entry(key).or_default().insert(number);
    }

    fn remove(&mut self, key: &K, number: i64) {
        if let Some(numbers) = self.0.get_mut(key) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn numbers(&self, key: &K) -> Vec<i64> {
        self.0.get(key).into_iter().flatten().copied().collect()
    }
}
