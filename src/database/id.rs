//! Ids: `UUIDv7`, a type for each kind of thing.

use crate::world::Clock;
use std::sync::{Mutex, PoisonError};
use uuid::{ContextV7, Uuid};

/// Makes ids that sort by the time of creation, also within one millisecond.
pub struct Ids {
    clock: Clock,
    counter: Mutex<ContextV7>,
}

impl Ids {
    /// Ids by this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, counter: Mutex::new(ContextV7::new()) }
    }

    /// A new id.
    pub fn next<I: From<Uuid>>(&self) -> I {
        let millis = u64::try_from(self.clock.now().millis()).unwrap_or_default();
        let nanos = u32::try_from(millis % 1_000).unwrap_or_default() * 1_000_000;
        let counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        Uuid::new_v7(uuid::Timestamp::from_unix(&*counter, millis / 1_000, nanos)).into()
    }
}

/// Ids as one parameter of a statement: the JSON of a list of hex digits, which both databases take apart.
pub(crate) fn hex(ids: impl Iterator<Item = Uuid>) -> String {
    serde_json::Value::from(ids.map(|id| id.simple().to_string()).collect::<Vec<_>>()).to_string()
}

/// Declares the id of a kind of thing.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl $name {
            /// Reads the hyphenated form. Validation has refused everything else before.
            pub fn parse(text: &str) -> $crate::error::Result<Self> {
                let refusal = |_| $crate::error::Error::Malformed("Must be a UUID".to_owned());
                uuid::Uuid::try_parse(text).map(Self).map_err(refusal)
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(id: uuid::Uuid) -> Self {
                Self(id)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
pub(crate) use id;
