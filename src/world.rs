//! What comes from outside: the time and chance. `app` hands them in, so that tests own the clock.

use crate::database::Timestamp;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Tells the time.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    elapsed: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
        let now = || std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = move || Timestamp(i64::try_from(now().as_micros()).unwrap_or(i64::MAX));
        let started = Instant::now();
        Self { now: Arc::new(now), elapsed: Arc::new(move || started.elapsed()) }
    }

    /// The clock of the machine as it will be then.
    #[must_use]
    pub fn ahead(by: Duration) -> Self {
        let system = Self::system();
        let micros = i64::try_from(by.as_micros()).unwrap_or_default();
        Self { now: Arc::new(move || Timestamp(system.now().0.saturating_add(micros))), ..Self::system() }
    }

    /// A clock that tells what the function says.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let now: Arc<dyn Fn() -> Timestamp + Send + Sync> = Arc::new(now);
        let (started, told) = (now(), now.clone());
        let elapsed = move || Duration::from_micros(u64::try_from(told().0 - started.0).unwrap_or_default());
        Self { now, elapsed: Arc::new(elapsed) }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// How long this clock has been running. The machine's does not jump when its time is set.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        (self.elapsed)()
    }
}

/// Draws random numbers from the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entropy;

impl Entropy {
    /// 256 random bits.
    pub fn bits256(self) -> Result<[u8; 32]> {
        draw()
    }

    /// 128 random bits.
    pub fn bits128(self) -> Result<[u8; 16]> {
        draw()
    }
}

fn draw<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|why| Error::bug(format!("no randomness: {why}")))?;
    Ok(bytes)
}
