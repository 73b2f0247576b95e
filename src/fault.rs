//! Places at which a debug build can be told to die, as if the power had gone: the tests of what survives it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where, and how often it is passed before.
struct Planned {
    place: String,
    left: AtomicU64,
}

// Of the process, as its death is.
static PLANNED: OnceLock<Planned> = OnceLock::new();

/// Plans to die at a place, `seal.before_commit`, or at the third time `seal.before_commit:3`. Release builds live on.
pub fn plan(place: &str) {
    let (place, times) = place.split_once(':').unwrap_or((place, "1"));
    let left = AtomicU64::new(times.parse().unwrap_or(1));
    // A second plan changes nothing: there is one process and one death.
    let _ = PLANNED.set(Planned { place: place.to_owned(), left });
}

/// This is such a place.
pub fn reach(place: &str) {
    if cfg!(debug_assertions)
        && let Some(planned) = PLANNED.get()
        && planned.place == place
        && planned.left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}
