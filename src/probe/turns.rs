//! Whose turn it is to look: how many looks go on at once, how many of them at one host, and that no check of a system
//! overlaps with itself. The schedule and those who want a look at once share the same turns.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Looks at once. Each holds a socket, and a few KiB while it waits.
const AT_ONCE: usize = 2_000;

/// Looks at once at one host: more would make it slow, and that would be our doing.
const AT_ONE_HOST: usize = 8;

/// Hosts that nobody asks any more are forgotten when there are more.
const HOSTS_KEPT: usize = 10_000;

/// The turns. Cheap to clone.
#[derive(Clone)]
pub struct Turns(Arc<Inner>);

struct Inner {
    all: Arc<Semaphore>,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// The numbers of the associations that are being looked at.
    going: Mutex<HashSet<i64>>,
    one_ended: Notify,
}

/// A turn, until it is dropped.
pub struct Turn {
    _all: Option<OwnedSemaphorePermit>,
    _host: Option<OwnedSemaphorePermit>,
}

/// A check of a system is being looked at until this is dropped.
pub struct Going {
    turns: Turns,
    number: i64,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Inner {
            all: Arc::new(Semaphore::new(AT_ONCE)),
            hosts: Mutex::default(),
            going: Mutex::default(),
            one_ended: Notify::new(),
        }))
    }
}

impl Turns {
    /// Waits for a turn, first at the host, so that a slow one takes no turns away from others.
    pub async fn take(&self, host: Option<String>) -> Turn {
        let host = match host {
            Some(host) => self.host(host).acquire_owned().await.ok(),
            None => None,
        };
        // It is closed by nobody.
        Turn { _all: self.0.all.clone().acquire_owned().await.ok(), _host: host }
    }

    /// Begins a look at this association, when the one before has ended.
    pub async fn begin(&self, number: i64) -> Going {
        loop {
            // Before looking, so that an end meanwhile is not missed.
            let ended = self.0.one_ended.notified();
            if self.0.going.lock().unwrap_or_else(PoisonError::into_inner).insert(number) {
                return Going { turns: self.clone(), number };
            }
            ended.await;
        }
    }

    fn host(&self, host: String) -> Arc<Semaphore> {
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS_KEPT {
            hosts.retain(|_, turns| Arc::strong_count(turns) > 1 || turns.available_permits() < AT_ONE_HOST);
        }
        hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(AT_ONE_HOST))).clone()
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.turns.0.going.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        self.turns.0.one_ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_host_has_eight_turns_and_others_have_their_own() {
        let turns = Turns::default();
        let take = |host: &str| turns.take(Some(host.to_owned())).now_or_never();
        let mut taken: Vec<_> = (0..AT_ONE_HOST).map(|_| take("a:1").unwrap()).collect();
        assert!(take("a:1").is_none() && take("a:2").is_some());
        taken.pop();
        assert!(take("a:1").is_some());
    }

    #[tokio::test]
    async fn what_goes_on_is_waited_for() {
        let turns = Turns::default();
        let going = turns.begin(1).await;
        assert!(turns.begin(1).now_or_never().is_none() && turns.begin(2).now_or_never().is_some());
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.begin(1).await) }
        });
        tokio::task::yield_now().await;
        drop(going);
        waiting.await.unwrap();
    }
}
