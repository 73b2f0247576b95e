//! What comes from outside: the time and chance. `app` hands them in, so that tests own the clock.

use crate::database::Timestamp;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Tells the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
        let now = || std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self::new(move || Timestamp(i64::try_from(now().as_micros()).unwrap_or(i64::MAX)))
    }

    /// A clock that tells what the function says.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
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
