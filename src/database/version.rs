//! Whether what was made from a plugin's data still holds.
//!
//! A version says up to where the change feed is known here, for some plugins. Whoever keeps something takes the version
//! before reading what it is made from; while the same version stands, nothing has changed that this process knows of.
//! Its own commits it knows before their calls return, those of others with the next look at the feed.

use super::change::Changes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Up to where the feed is known. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Versions(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The last known change of each plugin.
    plugins: RwLock<HashMap<String, Arc<AtomicI64>>>,
    /// How often all of it was read anew instead of followed.
    resets: Arc<AtomicI64>,
    /// The last change that is known, of whatever plugin.
    moved: watch::Sender<i64>,
}

/// The data of some plugins, to ask for its version. Cheap to ask.
#[derive(Debug)]
pub struct Dependency {
    plugins: Vec<Arc<AtomicI64>>,
    resets: Arc<AtomicI64>,
}

/// A state of the data of some plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Between two resets each of the summands only grows, so equal sums are equal summands.
    sum: i64,
    resets: i64,
}

impl Dependency {
    /// Its version as of now.
    #[must_use]
    pub fn version(&self) -> Version {
        let sum = self.plugins.iter().map(|last| last.load(Ordering::SeqCst)).sum();
        Version { sum, resets: self.resets.load(Ordering::SeqCst) }
    }
}

impl Versions {
    /// The data of these plugins.
    #[must_use]
    pub fn of(&self, plugins: &[&str]) -> Dependency {
        let plugins = plugins.iter().map(|plugin| self.last(plugin)).collect();
        Dependency { plugins, resets: self.0.resets.clone() }
    }

    /// Takes over what a look at the feed has shown.
    pub fn saw(&self, changes: &Changes) {
        match changes {
            Changes::These(entries, _) => {
                for entry in entries {
                    self.last(&entry.plugin).fetch_max(entry.sequence, Ordering::SeqCst);
                }
                if let Some(entry) = entries.last() {
                    self.moved_to(entry.sequence);
                }
            }
            Changes::TooMany(last) => {
                // The feed may have gone back (a backup was restored): what comes next is newer all the same. A version
                // that is taken in between belongs to neither side.
                self.0.resets.fetch_add(1, Ordering::SeqCst);
                for known in self.0.plugins.read().unwrap_or_else(PoisonError::into_inner).values() {
                    known.store(*last, Ordering::SeqCst);
                }
                self.0.resets.fetch_add(1, Ordering::SeqCst);
                self.0.moved.send_replace(*last);
            }
        }
    }

    /// Takes over a commit of this process: only one that is known to have succeeded, for the next one would get the
    /// sequence number of one that has not.
    pub(super) fn committed(&self, plugin: &str, sequence: i64) {
        self.last(plugin).fetch_max(sequence, Ordering::SeqCst);
        self.moved_to(sequence);
    }

    /// Tells when there is more in the feed than before: what it has is known already, so it only says that looking is
    /// worth it.
    #[must_use]
    pub fn moved(&self) -> watch::Receiver<i64> {
        self.0.moved.subscribe()
    }

    fn moved_to(&self, sequence: i64) {
        self.0.moved.send_if_modified(|known| {
            let is_news = *known < sequence;
            *known = sequence.max(*known);
            is_news
        });
    }

    fn last(&self, plugin: &str) -> Arc<AtomicI64> {
        if let Some(known) = self.0.plugins.read().unwrap_or_else(PoisonError::into_inner).get(plugin) {
            return known.clone();
        }
        let mut plugins = self.0.plugins.write().unwrap_or_else(PoisonError::into_inner);
        plugins.entry(plugin.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::change::Entry;

    fn entry(plugin: &str, sequence: i64) -> Entry {
        Entry { sequence, plugin: plugin.into(), kind: "x.changed".into(), resource: String::new() }
    }

    #[test]
    fn a_version_changes_with_its_plugins_and_with_no_other() {
        let versions = Versions::default();
        let (catalog, both) = (versions.of(&["catalog"]), versions.of(&["catalog", "auth"]));
        let (first, of_both) = (catalog.version(), both.version());
        versions.saw(&Changes::These(vec![entry("auth", 1)], 1));
        assert_eq!(catalog.version(), first);
        assert_ne!(both.version(), of_both);
        versions.saw(&Changes::These(vec![entry("catalog", 2)], 2));
        assert_ne!(catalog.version(), first);
    }

    #[test]
    fn what_is_seen_twice_or_late_changes_nothing() {
        let versions = Versions::default();
        let catalog = versions.of(&["catalog"]);
        versions.saw(&Changes::These(vec![entry("catalog", 7)], 7));
        let known = catalog.version();
        versions.saw(&Changes::These(vec![entry("catalog", 6), entry("catalog", 7)], 7));
        assert_eq!(catalog.version(), known);
    }

    #[test]
    fn after_the_feed_went_back_changes_are_seen_again() {
        let versions = Versions::default();
        let catalog = versions.of(&["catalog"]);
        versions.saw(&Changes::These(vec![entry("catalog", 100)], 100));
        versions.saw(&Changes::TooMany(50));
        let known = catalog.version();
        versions.saw(&Changes::These(vec![entry("catalog", 51)], 51));
        assert_ne!(catalog.version(), known);
    }

    #[test]
    fn after_a_gap_nothing_holds() {
        let versions = Versions::default();
        let known = versions.of(&["catalog"]).version();
        versions.saw(&Changes::TooMany(9));
        assert_ne!(versions.of(&["catalog"]).version(), known);
    }
}
