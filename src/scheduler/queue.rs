//! What is due when: pure, so that a test can hold the clock.
//!
//! A job is due at every whole number of intervals after its phase, which is drawn from its identity: the same on every
//! replica and after every restart, and spread over the interval, so that nothing happens all at once.

use crate::database::Timestamp;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// How often something is due, and when within that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// Microseconds from one time to the next, at least one.
    pub interval_us: i64,
    /// When within it.
    pub phase_us: i64,
}

impl Rhythm {
    /// A rhythm whose phase follows from who it is for.
    #[must_use]
    pub fn of(identity: u64, interval_us: i64) -> Self {
        let interval_us = interval_us.max(1);
        // Whole milliseconds, as the times of runs are.
        let phase = spread(identity) % interval_us.unsigned_abs() / 1_000 * 1_000;
        Self { interval_us, phase_us: i64::try_from(phase).unwrap_or_default() }
    }

    /// The first time after another.
    #[must_use]
    pub fn after(&self, time: Timestamp) -> Timestamp {
        let beyond = (time.0 - self.phase_us).div_euclid(self.interval_us) + 1;
        Timestamp(beyond.saturating_mul(self.interval_us).saturating_add(self.phase_us))
    }

    /// The last time that is not after another.
    #[must_use]
    pub fn upto(&self, time: Timestamp) -> Timestamp {
        Timestamp(self.after(time).0 - self.interval_us)
    }
}

/// Spreads identities that lie close together. The finaliser of splitmix64 (Steele, Lea, Flood 2014).
#[must_use]
pub fn spread(identity: u64) -> u64 {
    let mixed = identity.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Something that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due<J> {
    /// What.
    pub job: J,
    /// For which time.
    pub at: Timestamp,
    /// How many times passed since the last: they are not caught up.
    pub missed: u64,
}

/// Jobs by when they are due next. `J` is cheap to clone.
pub struct Queue<J> {
    jobs: HashMap<i64, Entry<J>>,
    heap: BinaryHeap<Reverse<(Timestamp, i64, u64)>>,
    generation: u64,
}

struct Entry<J> {
    job: J,
    rhythm: Rhythm,
    due: Timestamp,
    generation: u64,
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        Self { jobs: HashMap::new(), heap: BinaryHeap::new(), generation: 0 }
    }
}

impl<J: Clone> Queue<J> {
    /// Adds a job, or replaces the one with this number. `first` is when it is due first, by its rhythm if `None`.
    pub fn set(&mut self, number: i64, job: J, rhythm: Rhythm, first: Option<Timestamp>, now: Timestamp) -> Option<J> {
        let due = first.unwrap_or_else(|| rhythm.after(now));
        self.generation += 1;
        let entry = Entry { job, rhythm, due, generation: self.generation };
        self.heap.push(Reverse((due, number, self.generation)));
        self.jobs.insert(number, entry).map(|before| before.job)
    }

    /// Removes a job.
    pub fn remove(&mut self, number: i64) -> Option<J> {
        self.jobs.remove(&number).map(|entry| entry.job)
    }

    /// A job.
    #[must_use]
    pub fn get(&self, number: i64) -> Option<&J> {
        self.jobs.get(&number).map(|entry| &entry.job)
    }

    /// All jobs with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &J)> {
        self.jobs.iter().map(|(number, entry)| (*number, &entry.job))
    }

    /// How many jobs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// When something is due next.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((due, ..))| *due)
    }

    /// Has a job due at another time than its rhythm says, once.
    pub fn delay(&mut self, number: i64, until: Timestamp) {
        if let Some(entry) = self.jobs.get_mut(&number) {
            self.generation += 1;
            (entry.due, entry.generation) = (until, self.generation);
            self.heap.push(Reverse((until, number, self.generation)));
        }
    }

    /// Takes what is due by now, at most `most`, in the order of time.
    pub fn take_due(&mut self, now: Timestamp, most: usize) -> Vec<Due<J>> {
        let mut taken = vec![];
        while taken.len() < most {
            let Some(Reverse((due, number, generation))) = self.heap.peek().copied() else { break };
            if due > now {
                break;
            }
            self.heap.pop();
            let Some(entry) = self.jobs.get_mut(&number).filter(|entry| entry.generation == generation) else {
                continue;
            };
            // Due once, for the last time that has passed, if that is not before it was to begin.
            let at = entry.rhythm.upto(now).max(due);
            let missed = u64::try_from((at.0 - due.0) / entry.rhythm.interval_us).unwrap_or_default();
            let mut next = entry.rhythm.after(now);
            if next.0 - at.0 < entry.rhythm.interval_us / 2 {
                // It was due out of turn just before.
                next = Timestamp(next.0.saturating_add(entry.rhythm.interval_us));
            }
            self.generation += 1;
            (entry.due, entry.generation) = (next, self.generation);
            self.heap.push(Reverse((next, number, self.generation)));
            taken.push(Due { job: entry.job.clone(), at, missed });
        }
        taken
    }

    /// After the clock was set back: everything is due by its rhythm from now on.
    pub fn begin_anew(&mut self, now: Timestamp) {
        self.heap.clear();
        for (number, entry) in &mut self.jobs {
            self.generation += 1;
            (entry.due, entry.generation) = (entry.rhythm.after(now), self.generation);
            self.heap.push(Reverse((entry.due, *number, self.generation)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    fn times(queue: &mut Queue<&'static str>, from: i64, to: i64, step: i64) -> Vec<i64> {
        let looks = (from..=to).step_by(usize::try_from(step).unwrap());
        looks.flat_map(|now| queue.take_due(Timestamp(now), 100)).map(|due| due.at.0).collect()
    }

    #[test]
    fn a_job_is_due_at_its_phase_and_every_interval_after() {
        let mut queue = Queue::default();
        queue.set(1, "a", Rhythm { interval_us: 10, phase_us: 3 }, None, Timestamp(0));
        assert_eq!(times(&mut queue, 0, 34, 1), [3, 13, 23, 33]);
    }

    #[test]
    fn what_was_missed_is_counted_and_not_caught_up() {
        let mut queue = Queue::default();
        queue.set(1, "a", Rhythm { interval_us: 10, phase_us: 3 }, None, Timestamp(0));
        let late = queue.take_due(Timestamp(55), 100);
        assert_eq!(late, [Due { job: "a", at: Timestamp(53), missed: 5 }]);
        assert_eq!(times(&mut queue, 56, 80, 1), [63, 73]);
    }

    #[test]
    fn a_first_time_out_of_turn_is_not_followed_at_once() {
        let mut queue = Queue::default();
        queue.set(1, "a", Rhythm { interval_us: 10, phase_us: 3 }, Some(Timestamp(11)), Timestamp(11));
        assert_eq!(times(&mut queue, 11, 40, 1), [11, 23, 33]);
    }

    #[test]
    fn what_is_replaced_or_removed_is_not_due_any_more() {
        let mut queue = Queue::default();
        queue.set(1, "a", Rhythm { interval_us: 10, phase_us: 0 }, None, Timestamp(0));
        queue.set(2, "b", Rhythm { interval_us: 10, phase_us: 0 }, None, Timestamp(0));
        assert_eq!(queue.set(1, "c", Rhythm { interval_us: 100, phase_us: 0 }, None, Timestamp(0)), Some("a"));
        assert_eq!(queue.remove(2), Some("b"));
        assert_eq!(times(&mut queue, 0, 99, 1), Vec::<i64>::new());
        assert_eq!(queue.take_due(Timestamp(100), 9).first().map(|due| due.job), Some("c"));
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let mut queue = Queue::default();
        queue.set(1, "a", Rhythm { interval_us: 10, phase_us: 0 }, None, Timestamp(1_000));
        queue.begin_anew(Timestamp(500));
        assert_eq!(times(&mut queue, 501, 520, 1), [510, 520]);
    }

    #[test]
    fn ten_thousand_jobs_are_spread_over_their_interval() {
        let interval = 60 * SECOND;
        let mut by_second = [0_usize; 60];
        for number in 0..10_000 {
            let phase = Rhythm::of(number, interval).phase_us;
            by_second[usize::try_from(phase / SECOND).unwrap()] += 1;
        }
        let mean = 10_000 / 60;
        assert!(by_second.iter().all(|count| *count < mean * 3 && *count > mean / 3), "{by_second:?}");
    }

    proptest! {
        /// However late or seldom it is looked, no time is due twice, none is in the future, and all are in the rhythm.
        #[test]
        fn no_time_is_due_twice(interval in 1_i64..50, identity: u64, steps in prop::collection::vec(1_i64..120, 1..60)) {
            let rhythm = Rhythm::of(identity, interval);
            let mut queue = Queue::default();
            queue.set(7, (), rhythm, None, Timestamp(0));
            let (mut now, mut last) = (0, -1);
            for step in steps {
                now += step;
                for due in queue.take_due(Timestamp(now), 10) {
                    prop_assert!(due.at.0 > last && due.at.0 <= now);
                    prop_assert_eq!((due.at.0 - rhythm.phase_us).rem_euclid(interval), 0);
                    last = due.at.0;
                }
                prop_assert!(now - last <= interval * 2, "nothing was due for two intervals");
            }
        }
    }
}
