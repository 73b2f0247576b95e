//! What a dashboard is told of many systems at once: a few things of each, and a bounded number of all together.

use super::catalog::domain::SystemId;
use std::collections::HashMap;

/// So many things of one system are shown: beyond it somebody asks about that system alone.
pub const EACH_MAX: usize = 10;

/// So many are shown of all systems together, some 300 KB; if there are more systems, one of each.
const ALL_MAX: usize = 400;

/// So many characters of a description are shown: in a table of systems there is no room for more.
const DESCRIPTION_MAX: usize = 200;

/// Who is shown what.
#[derive(Debug, PartialEq, Eq)]
pub struct Overview<I> {
    /// What is shown of each system, in the order asked.
    pub of: Vec<(SystemId, Vec<I>)>,
    /// The systems of which there is more.
    pub incomplete: Vec<SystemId>,
}

impl<I> Overview<I> {
    /// Shares the room out in turns: nobody's second thing takes the place of another's first. The rows of a system are in
    /// order, and one more than [`EACH_MAX`] says that there is more.
    #[must_use]
    pub fn share(systems: Vec<SystemId>, rows: Vec<(SystemId, I)>) -> Self {
        let mut found: HashMap<SystemId, Vec<I>> = HashMap::new();
        for (system, one) in rows {
            found.entry(system).or_default().push(one);
        }
        let mut of: Vec<_> =
            systems.into_iter().map(|system| (system, found.remove(&system).unwrap_or_default())).collect();
        let counts: Vec<_> = of.iter().map(|(_, has)| has.len().min(EACH_MAX)).collect();
        let shares = shares(&counts, ALL_MAX.max(counts.len()));
        let mut incomplete = vec![];
        for ((system, has), share) in of.iter_mut().zip(shares) {
            if has.len() > share {
                incomplete.push(*system);
            }
            has.truncate(share);
        }
        Self { of, incomplete }
    }
}

impl<I: Copy + Ord> Overview<I> {
    /// What is shown, each once.
    #[must_use]
    pub fn shown(&self) -> Vec<I> {
        let mut all: Vec<_> = self.of.iter().flat_map(|(_, shown)| shown.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// How much each gets of what there is room for.
fn shares(counts: &[usize], mut room: usize) -> Vec<usize> {
    let mut shares = vec![0; counts.len()];
    for turn in 0..EACH_MAX {
        for (share, _) in shares.iter_mut().zip(counts).filter(|(_, count)| **count > turn) {
            if room == 0 {
                return shares;
            }
            *share += 1;
            room -= 1;
        }
    }
    shares
}

/// A description as it is shown among many.
#[must_use]
pub fn shortened(description: String) -> String {
    match description.char_indices().nth(DESCRIPTION_MAX) {
        Some((end, _)) => format!("{}…", description.get(..end).unwrap_or_default()),
        None => description,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn systems(count: u128) -> Vec<SystemId> {
        (0..count).map(|number| SystemId(uuid::Uuid::from_u128(number))).collect()
    }

    fn rows(systems: &[SystemId], each: usize) -> Vec<(SystemId, usize)> {
        systems.iter().flat_map(|system| (0..each).map(|one| (*system, one))).collect()
    }

    #[test]
    fn what_has_room_is_shown_whole() {
        let systems = systems(40);
        let overview = Overview::share(systems.clone(), rows(&systems, EACH_MAX));
        assert!(overview.of.iter().all(|(_, shown)| *shown == (0..EACH_MAX).collect::<Vec<_>>()));
        assert_eq!(overview.incomplete, vec![]);
    }

    #[test]
    fn room_is_shared_out_in_turns_and_what_is_missing_is_named() {
        let systems = systems(200);
        let mut rows = rows(&systems[..199], 5);
        rows.push((systems[199], 0));
        let overview = Overview::share(systems.clone(), rows);
        assert!(overview.of.iter().all(|(_, shown)| !shown.is_empty()), "everybody's first thing is there");
        assert_eq!(overview.of.iter().map(|(_, shown)| shown.len()).sum::<usize>(), ALL_MAX);
        assert_eq!(overview.incomplete, systems[..199]);
        assert_eq!(overview.of.iter().map(|(_, shown)| shown.len()).max(), Some(3));
    }

    #[test]
    fn of_many_systems_each_shows_one_thing() {
        let systems = systems(1_000);
        let overview = Overview::share(systems.clone(), rows(&systems, 2));
        assert!(overview.of.iter().all(|(_, shown)| *shown == [0]));
        assert_eq!((overview.incomplete.len(), overview.shown()), (1_000, vec![0]));
    }

    #[test]
    fn long_descriptions_are_cut_between_characters() {
        assert_eq!(shortened("ß".repeat(200)), "ß".repeat(200));
        assert_eq!(shortened("ß".repeat(201)), format!("{}…", "ß".repeat(200)));
    }
}
