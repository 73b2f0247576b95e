//! How many bad credentials a client network may send: a bucket for each network, in a table of fixed size.
//!
//! What is limited is a network, never an application: else strangers could lock one out by guessing at its key. And a
//! good key is never asked for it: neighbours behind one address pass while somebody beside them guesses.
//!
//! Own code, because keyed limiters that can be had keep every key that they have ever seen, or forget the oldest, which
//! is whoever guesses for longest; and none gives back what was taken before a slow check that went well.

use crate::error::{Error, Result};
use crate::world::Clock;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// With [`PLACES`] it is 65,536 networks in 1.6 MiB, whatever happens: an attacker with more of them than that has other
/// means. A power of two, so that every set is as likely.
const SETS: usize = 8_192;

/// Networks of one set; looking through them is one cache line after another.
const PLACES: usize = 8;

/// A credential that costs microseconds to refuse.
pub const CHEAP: u32 = 1;

/// One that Argon2 has to look at: some 20 ms of a core. With the default limits that is 60 a minute for each network,
/// 2 % of a core.
pub const SLOW: u32 = 10;

/// Where a client is: one IPv4 address, or the /64 of an IPv6 one.
///
/// An IPv4 address is what a household or an office has; its neighbours in a /24 are strangers. A single IPv6 host
/// chooses freely within its /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(Ipv6Addr);

impl Network {
    /// The network of an address. An IPv4 address is the same one when it comes mapped into IPv6.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        }
    }
}

/// The buckets.
pub struct Budget {
    sets: Box<[Mutex<Set>]>,
    /// Keyed by chance: nobody can choose networks that share a set.
    hasher: RandomState,
    clock: Clock,
    burst: u64,
    /// The time in which one unit comes back.
    unit_us: u64,
}

type Set = [Debt; PLACES];

/// A bucket, as the time at which it is full again: time alone refills it.
#[derive(Clone, Copy)]
struct Debt {
    network: Network,
    full_at_us: u64,
}

impl Budget {
    /// Full buckets of `burst` units, into which `per_minute` come back.
    #[must_use]
    pub fn new(burst: u32, per_minute: u32, clock: Clock) -> Self {
        let nobody = Debt { network: Network(Ipv6Addr::UNSPECIFIED), full_at_us: 0 };
        Self {
            sets: (0..SETS).map(|_| Mutex::new([nobody; PLACES])).collect(),
            hasher: RandomState::new(),
            clock,
            burst: burst.max(1).into(),
            unit_us: 60_000_000 / u64::from(per_minute.max(1)),
        }
    }

    /// Takes a price from a network's bucket; if there is not so much in it, takes nothing and says when there will be.
    pub fn charge(&self, network: Network, price: u32) -> Result<()> {
        let mut set = self.set(network)?;
        let now = self.now_us();
        // Its own place, or else that of the network that has the most left: it loses the least by being forgotten.
        let place = set.iter_mut().min_by_key(|debt| (debt.network != network, debt.full_at_us));
        let debt = place.ok_or_else(|| Error::bug("a set without places"))?;
        if debt.network != network {
            *debt = Debt { network, full_at_us: 0 };
        }
        let full_at_us = debt.full_at_us.max(now).saturating_add(self.cost_us(price));
        let missing_us = full_at_us.saturating_sub(now.saturating_add(self.burst * self.unit_us));
        if missing_us > 0 {
            return Err(Error::TooMany { retry_after_s: missing_us.div_ceil(1_000_000) });
        }
        debt.full_at_us = full_at_us;
        Ok(())
    }

    /// Gives back what was taken for a credential that turned out good.
    pub fn give_back(&self, network: Network, price: u32) {
        let Ok(mut set) = self.set(network) else { return };
        for debt in set.iter_mut().filter(|debt| debt.network == network) {
            debt.full_at_us = debt.full_at_us.saturating_sub(self.cost_us(price));
        }
    }

    /// A whole bucket pays for anything: otherwise a small one would never let Argon2 look.
    fn cost_us(&self, price: u32) -> u64 {
        u64::from(price).min(self.burst) * self.unit_us
    }

    /// Monotonic: a wall clock that is set back would keep buckets empty.
    fn now_us(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn set(&self, network: Network) -> Result<MutexGuard<'_, Set>> {
        let at = usize::try_from(self.hasher.hash_one(network) % SETS as u64).unwrap_or_default();
        let set = self.sets.get(at).ok_or_else(|| Error::bug("a set that is not there"))?;
        Ok(set.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Timestamp;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    fn budget(burst: u32, per_minute: u32) -> (Budget, Arc<AtomicI64>) {
        let time = Arc::new(AtomicI64::new(1));
        let told = time.clone();
        (Budget::new(burst, per_minute, Clock::new(move || Timestamp(told.load(Ordering::Relaxed)))), time)
    }

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    fn wait(budget: &Budget, network: Network, price: u32) -> Option<u64> {
        match budget.charge(network, price) {
            Ok(()) => None,
            Err(Error::TooMany { retry_after_s }) => Some(retry_after_s),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_ipv4_address_and_a_64_of_ipv6_are_networks() {
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("::ffff:0.0.0.1"), network("::1"));
    }

    #[test]
    fn an_empty_bucket_refuses_until_time_refills_it() {
        let (budget, time) = budget(3, 6);
        let (guest, other) = (network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!([(); 4].map(|()| wait(&budget, guest, CHEAP)), [None, None, None, Some(10)]);
        assert_eq!(wait(&budget, guest, CHEAP), Some(10), "a refusal takes nothing");
        assert_eq!(wait(&budget, other, CHEAP), None, "a neighbour has a bucket of its own");
        time.fetch_add(9_000_000, Ordering::Relaxed);
        assert_eq!(wait(&budget, guest, CHEAP), Some(1));
        time.fetch_add(1_000_000, Ordering::Relaxed);
        assert_eq!([(); 2].map(|()| wait(&budget, guest, CHEAP)), [None, Some(10)]);
        time.fetch_add(3_600_000_000, Ordering::Relaxed);
        assert_eq!([(); 4].map(|()| wait(&budget, guest, CHEAP)), [None, None, None, Some(10)], "never more than full");
    }

    #[test]
    fn a_slow_look_costs_more_and_comes_back_when_it_went_well() {
        let (budget, _) = budget(25, 60);
        let guest = network("192.0.2.1");
        assert_eq!([(); 3].map(|()| wait(&budget, guest, SLOW)), [None, None, Some(5)]);
        budget.give_back(guest, SLOW);
        assert_eq!([(); 2].map(|()| wait(&budget, guest, SLOW)), [None, Some(5)]);
        let (small, _) = self::budget(3, 60);
        assert_eq!([(); 2].map(|()| wait(&small, guest, SLOW)), [None, Some(3)], "a whole bucket is enough");
    }

    #[test]
    fn time_that_goes_back_empties_no_bucket() {
        let (budget, time) = budget(2, 60);
        time.fetch_sub(1_000_000, Ordering::Relaxed);
        assert_eq!([(); 3].map(|()| wait(&budget, network("192.0.2.1"), CHEAP)), [None, None, Some(1)]);
    }

    #[test]
    fn a_million_networks_take_no_more_memory_and_free_nobody_who_is_empty() {
        let (budget, _) = budget(100, 1);
        let bytes = size_of_val(&*budget.sets);
        assert!(bytes <= 1_700_000, "{bytes} bytes");
        let guilty: Vec<_> = (0..100).map(|n| network(&format!("192.0.2.{n}"))).collect();
        for network in &guilty {
            assert_eq!(wait(&budget, *network, 100), None);
        }
        for n in 0..1_000_000_u128 {
            let crowd = Network::of(IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | n << 64)));
            assert_eq!(wait(&budget, crowd, CHEAP), None, "who is new is never refused");
        }
        for network in &guilty {
            assert!(wait(&budget, *network, CHEAP).is_some(), "{network:?} was forgotten");
        }
        assert_eq!(size_of_val(&*budget.sets), bytes);
    }
}
